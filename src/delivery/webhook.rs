//! One webhook attempt over HTTP: no redirects, no proxy unless configured, the time-out over the whole answer, the answer capped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use secrecy::ExposeSecret;

use super::request::SigningKeys;
use super::verdict::{Attempt, TransportFailure, Verdict, judge_failure, judge_status};
use crate::clock::Timestamp;
use crate::config::{DeliveryConfig, Environment, Secret, SecretError};
use crate::model::JobId;
use crate::net;

/// What of an answer's body is read before the connection is dropped: nothing in it is used, and reading it keeps the connection alive.
const ANSWER_CAP: usize = 64 * 1024;

/// So many header lines of an answer are read at first: the client's own number, for which it needs no memory of its own.
const HEADERS: usize = 100;
/// So many are read of a receiver that was seen to send more. What then is still too long is beyond the client's cap of a head.
const MANY_HEADERS: usize = 16_384;

/// A target cannot be used: nothing is sent to it until the configuration is mended.
#[derive(thiserror::Error, Debug)]
pub enum DeliveryError {
    /// A secret cannot be read, or is none.
    #[error("delivery: {0}")]
    Secret(String),
    /// The private CA cannot be used.
    #[error("delivery: cannot use ca-file {path}: {why}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// What was met.
        why: String,
    },
    /// The system has no roots, and no ca-file is configured.
    #[error(
        "delivery: the system has no trusted certificates ({0}): install ca-certificates, or set delivery.ca-file"
    )]
    NoRoots(String),
    /// The HTTP client cannot be made.
    #[error("delivery: {0}")]
    Client(String),
}

/// A webhook's receiver. Keeps connections alive; cheap to clone.
#[derive(Clone, Debug)]
pub struct Webhook {
    client: reqwest::Client,
    /// For answers with many header lines.
    patient: reqwest::Client,
    /// The receiver sends such answers.
    long_heads: Arc<AtomicBool>,
    url: url::Url,
    keys: SigningKeys,
    timeout: Duration,
}

impl Webhook {
    /// Makes ready to send: resolves the secrets, reads the roots.
    ///
    /// # Errors
    /// When a secret or certificate cannot be used; the text says which, and what to do.
    pub fn new(config: &DeliveryConfig, environment: &Environment) -> Result<Self, DeliveryError> {
        let unread = |e: SecretError| DeliveryError::Secret(format!("{e}; {}", e.help));
        let resolve = |secret: &Secret| secret.resolve(environment).map_err(unread);
        let secret = resolve(&config.secret)?;
        let previous = config.previous_secret.as_ref().map(resolve).transpose()?;
        let keys = SigningKeys::new(
            secret.expose_secret(),
            previous.as_ref().map(ExposeSecret::expose_secret),
        )
        .map_err(DeliveryError::Secret)?;
        let timeout = Duration::from_millis(u64::try_from(config.timeout_ms).unwrap_or(0).max(1));
        Ok(Self {
            client: client(config, timeout, HEADERS, environment)?,
            patient: client(config, timeout, MANY_HEADERS, environment)?,
            long_heads: Arc::default(),
            url: config.url.clone(),
            keys,
            timeout,
        })
    }

    /// One attempt. `id` is the key that the receiver counts by, `body` is sent as it is, `now` is the signature's time; `uncertain`:
    /// an earlier attempt had an unknown end.
    pub async fn send(&self, id: JobId, body: &str, uncertain: bool, now: Timestamp) -> Attempt {
        let begun = Instant::now();
        let (status, verdict) = match self.exchange(id, body, now).await {
            Ok((status, retry_after)) => (
                Some(status),
                judge_status(status, uncertain, retry_after.as_deref(), now),
            ),
            Err(failure) => (None, judge_failure(&failure)),
        };
        Attempt {
            verdict,
            status,
            elapsed_ms: millis(begun.elapsed()),
        }
    }

    /// Status and `Retry-After` of the answer.
    async fn exchange(
        &self,
        id: JobId,
        body: &str,
        now: Timestamp,
    ) -> Result<(u16, Option<String>), TransportFailure> {
        let headers = self
            .headers(id, body, now)
            .map_err(TransportFailure::NotMade)?;
        let client = if self.long_heads.load(Ordering::Relaxed) {
            &self.patient
        } else {
            &self.client
        };
        let request = client
            .post(self.url.clone())
            .headers(headers)
            .body(body.to_owned());
        let exchange = async {
            let mut answer = request.send().await?;
            let mut read = 0;
            while read < ANSWER_CAP {
                match answer.chunk().await? {
                    Some(chunk) => read += chunk.len(),
                    None => break,
                }
            }
            let retry_after = answer
                .headers()
                .get(RETRY_AFTER)
                .and_then(|v| v.to_str().ok())
                .map(str::to_owned);
            Ok::<_, reqwest::Error>((answer.status().as_u16(), retry_after))
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failure(error)),
            Err(_) => Err(TransportFailure::TimedOut(millis(self.timeout))),
        }
    }

    fn headers(&self, id: JobId, body: &str, now: Timestamp) -> Result<HeaderMap, String> {
        let id = id.to_string();
        // Seconds, rounded down, as the standard says.
        let timestamp = now.0.div_euclid(1000);
        let value = |text: &str| HeaderValue::from_str(text).map_err(|e| e.to_string());
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            "webhook-signature",
            value(&self.keys.header(&id, timestamp, body))?,
        );
        headers.insert("webhook-timestamp", value(&timestamp.to_string())?);
        headers.insert("webhook-id", value(&id)?);
        Ok(headers)
    }

    /// Which failure an error of the client is. Its text never holds the URL, which may carry a password.
    fn failure(&self, error: reqwest::Error) -> TransportFailure {
        let error = error.without_url();
        if too_long_a_head(&error) {
            self.long_heads.store(true, Ordering::Relaxed);
        }
        let what = match net::unfit_in(&error) {
            Some(unfit) => format!("{}; {}", unfit.came, unfit.next),
            None => causes(&error),
        };
        if error.is_connect() {
            TransportFailure::NotConnected(what)
        } else if error.is_timeout() {
            TransportFailure::TimedOut(millis(self.timeout))
        } else if error.is_builder() {
            TransportFailure::NotMade(what)
        } else {
            TransportFailure::Broken(what)
        }
    }
}

impl Attempt {
    /// Whether the receiver works: it took the message, or refused just this one.
    pub fn receiver_works(&self) -> bool {
        !matches!(self.verdict, Verdict::Again { .. })
    }
}

/// Whether the answer was not read since it has more header lines than are read at first.
fn too_long_a_head(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_parse_too_large)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An error with its causes in one line; reqwest's own Display names only the outermost.
fn causes(error: &dyn std::error::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !texts.iter().any(|t| t.contains(&text)) {
            texts.push(text);
        }
        cause = error.source();
    }
    texts.join(": ")
}

fn client(
    config: &DeliveryConfig,
    timeout: Duration,
    headers: usize,
    environment: &Environment,
) -> Result<reqwest::Client, DeliveryError> {
    let bad = |e: reqwest::Error| DeliveryError::Client(causes(&e.without_url()));
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("realmsync/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls(config, environment)?)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // Whether to try again, and when, is the outbox's decision alone.
        .retry(reqwest::retry::never())
        .no_proxy()
        // Half of the time for connecting, so that a receiver that cannot be reached is told apart from one that hangs.
        .connect_timeout(timeout / 2)
        // Receivers close idle connections after a minute or so; writing into one just then would be an attempt with an unknown end.
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(config.concurrency.max(1))
        .tcp_nodelay(true);
    if headers != HEADERS {
        builder = builder.http1_max_headers(headers);
    }
    if let Some(proxy) = &config.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy.clone()).map_err(bad)?);
    }
    builder.build().map_err(bad)
}

/// TLS with ring, trusting the configured CA, or the system's roots. One unreadable file among the system's does not empty the store.
pub(super) fn tls(
    config: &DeliveryConfig,
    environment: &Environment,
) -> Result<rustls::ClientConfig, DeliveryError> {
    let mut roots = rustls::RootCertStore::empty();
    match &config.ca_file {
        Some(path) => {
            for certificate in certificates(&environment.locate(path))? {
                roots.add(certificate).map_err(|e| DeliveryError::Ca {
                    path: path.clone(),
                    why: e.to_string(),
                })?;
            }
        }
        // A receiver on plain HTTP needs no roots, and a small machine may have none.
        None if config.url.scheme() == "http" && config.proxy.is_none() => {}
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _unusable) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                let why = found
                    .errors
                    .first()
                    .map_or_else(|| "none found".to_owned(), ToString::to_string);
                return Err(DeliveryError::NoRoots(why));
            }
        }
    }
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|e| DeliveryError::Client(e.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, DeliveryError> {
    let bad = |why: String| DeliveryError::Ca {
        path: path.to_owned(),
        why,
    };
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| bad(e.to_string()))?;
    if found.is_empty() {
        Err(bad("no PEM certificate in it".into()))
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
