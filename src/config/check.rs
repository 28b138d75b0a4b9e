//! From the file's tree to checked values. Every fault is told, none stops the others.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret as _, SecretString};
use toml::Spanned;
use url::Url;

use super::file::{Findings, Section, quote};
use super::mask::{self, Masked};
use super::secret::{Environment, Secret};
use super::values::{DAY, MINUTE, SECOND, is_loopback};
use super::{
    Config, DeliveryConfig, EnrolmentConfig, HttpConfig, LogConfig, LogFormat, StoreConfig,
    StoreUrl,
};

/// What all checks need.
pub(super) struct Check<'a> {
    /// The file's text, in which spans are places.
    pub(super) source: &'a str,
    pub(super) findings: &'a Findings,
    /// Where the files and secrets that are named are looked for; `None`: nothing that the file names is opened.
    pub(super) environment: Option<&'a Environment>,
    /// The file's name.
    pub(super) path: &'a Path,
    /// Nobody but its owner can read the file: it may hold secrets itself.
    pub(super) private: bool,
}

/// The four keys of a secret.
pub(super) struct Keys {
    pub(super) inline: &'static str,
    pub(super) file: &'static str,
    pub(super) credential: &'static str,
    pub(super) env: &'static str,
}

/// The keys `X`, `X-file`, `X-credential` and `X-env`.
macro_rules! secret_keys {
    ($name:literal) => {
        $crate::config::check::Keys {
            inline: $name,
            file: concat!($name, "-file"),
            credential: concat!($name, "-credential"),
            env: concat!($name, "-env"),
        }
    };
}
pub(super) use secret_keys;

impl Keys {
    pub(super) fn given(&self, section: &Section<'_>) -> Vec<&'static str> {
        [self.file, self.credential, self.env, self.inline]
            .into_iter()
            .filter(|k| section.has(k))
            .collect()
    }
}

impl Check<'_> {
    /// The whole file. `None` only where a fault was told.
    pub(super) fn config(&self, document: &Section<'_>) -> Option<Config> {
        self.version(document);
        let store = self.store(&document.section("store"));
        let http = self.http(&document.section("http"));
        let control_socket = self.control_socket(&document.section("control"));
        let enrolment = self.enrolment(&document.section("enrolment"), http.is_some());
        let delivery = self.delivery(&document.section("delivery"));
        let log = self.log(&document.section("log"));
        let realms = self.realms(&document.sections("realm"), delivery.as_ref());
        if !document.has("realm") {
            let help = "without a `[[realm]]` nobody is read from a directory".to_owned();
            self.findings
                .add(true, None, "the file has no realm".into(), Some(help));
        }
        Some(Config {
            path: self.path.to_path_buf(),
            store: store?,
            http,
            control_socket,
            enrolment,
            delivery,
            log,
            realms,
        })
    }

    fn version(&self, document: &Section<'_>) {
        if !document.has("version") {
            self.findings.add(
                false,
                None,
                "`version` is missing".into(),
                Some("begin the file with `version = 1`".into()),
            );
        }
        if let Some(version) = document.integer("version").filter(|v| *v.get_ref() != 1) {
            let help = "this realmsync reads version 1".to_owned();
            self.findings.fault(
                version.span(),
                format!(
                    "version {} of the configuration is not known",
                    version.get_ref()
                ),
                help,
            );
        }
    }

    fn store(&self, section: &Section<'_>) -> Option<StoreConfig> {
        let keys = secret_keys!("password");
        let keep_runs_ms = self.duration(section, "keep-runs", 400 * DAY, 2 * DAY..=36_500 * DAY);
        let given = keys.given(section);
        let password = self.secret(section, &keys);
        let default = || StoreUrl::Sqlite("/var/lib/realmsync/realmsync.db".into());
        let url = if section.has("url") {
            self.text(section, "url")
                .and_then(|text| self.store_url(&text, &given))
        } else {
            Some(default())
        };
        if let (Some(StoreUrl::Sqlite(_)), Some(key)) = (&url, given.first()) {
            let at = section.key_span(key).unwrap_or(section.span());
            self.findings.fault(
                at,
                format!("an SQLite file has no `{key}`"),
                Some(format!(
                    "leave `{key}` out, or name a PostgreSQL server in `url`"
                )),
            );
        }
        Some(StoreConfig {
            url: url?,
            password,
            keep_runs_ms,
        })
    }

    fn store_url(&self, text: &Spanned<&str>, passwords: &[&str]) -> Option<StoreUrl> {
        let example =
            "write `sqlite:/var/lib/realmsync/realmsync.db` or `postgres://user@host/realmsync`";
        let refuse = |message: &str, help: &str| {
            self.findings
                .fault(text.span(), message, Some(help.to_owned()));
            None
        };
        if let Some(rest) = text.get_ref().strip_prefix("sqlite:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.contains(['?', '#', '\0']) {
                return refuse("an SQLite store is named by its path alone", example);
            }
            if !path.starts_with('/') || path.ends_with('/') {
                return refuse("the store's file must be an absolute path", example);
            }
            return Some(StoreUrl::Sqlite(path.into()));
        }
        let url = match Url::parse(text.get_ref()) {
            Ok(url) if matches!(url.scheme(), "postgres" | "postgresql") => url,
            Ok(_) => return refuse("the store is either SQLite or PostgreSQL", example),
            Err(e) => return refuse(&format!("this is no URL: {e}"), example),
        };
        let inline =
            url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password");
        if url.password() == Some("") {
            return refuse(
                "the password in the URL is empty",
                "leave out the `:` after the user, or use `password-file`",
            );
        }
        if inline {
            if let Some(key) = passwords.first() {
                return refuse(
                    &format!("more than one source for `password`: this URL and `{key}`"),
                    "keep one of them",
                );
            }
            self.inline(text.span(), "password-file");
        }
        let display = Masked::new(text.get_ref(), mask::in_urls(text.get_ref())).text;
        Some(StoreUrl::Postgres {
            url: SecretString::from(*text.get_ref()),
            display,
        })
    }

    fn http(&self, section: &Section<'_>) -> Option<HttpConfig> {
        if !section.is_there() {
            return None;
        }
        let behind_proxy = section.boolean("behind-proxy");
        let listen = self
            .required(section, "listen", "\"127.0.0.1:8420\"")
            .and_then(|text| {
                let address = text.get_ref().parse::<SocketAddr>().ok();
                if address.is_none() {
                    let help =
                        "write an IP address and a port, as \"127.0.0.1:8420\" or \"[::1]:8420\""
                            .to_owned();
                    self.findings.fault(
                        text.span(),
                        format!("`{}` is no address to listen on", quote(text.get_ref())),
                        help,
                    );
                }
                address.map(|a| Spanned::new(text.span(), a))
            });
        let public_url = self
            .required(section, "public-url", "\"https://mfa.example.org\"")
            .and_then(|text| {
                let url = self.url(&text, &["https", "http"], "https://mfa.example.org")?;
                if url.query().is_some() || url.fragment().is_some() {
                    self.findings.fault(
                        text.span(),
                        "links are made by adding to this URL: it cannot have a `?` or `#`",
                        None,
                    );
                    return None;
                }
                if url.scheme() == "http" && !is_loopback(&url) {
                    let help = "use https, by `tls-cert` and `tls-key` or by a proxy".to_owned();
                    self.findings.warning(
                        text.span(),
                        "enrolment links would go over plain http, readable on the way",
                        help,
                    );
                }
                Some(url.as_str().trim_end_matches('/').to_owned())
            });
        let tls = self.pair(section, "tls-cert", "tls-key");
        if let Some(listen) = listen.as_ref().filter(|a| !a.get_ref().ip().is_loopback())
            && !behind_proxy
            && !section.has("tls-cert")
            && !section.has("tls-key")
        {
            let help = "set `tls-cert` and `tls-key`, or `behind-proxy = true` if a proxy in front speaks TLS".to_owned();
            self.findings.fault(
                listen.span(),
                format!(
                    "{} can be reached from elsewhere, without TLS",
                    listen.get_ref()
                ),
                help,
            );
        }
        Some(HttpConfig {
            listen: listen?.into_inner(),
            public_url: public_url?,
            tls,
            behind_proxy,
        })
    }

    fn control_socket(&self, section: &Section<'_>) -> PathBuf {
        let default = || PathBuf::from("/run/realmsync/control.sock");
        let Some(path) = self.path(section, "socket") else {
            return default();
        };
        // sun_path of unix(7) holds 108 bytes with its NUL.
        if path.get_ref().as_os_str().len() > 107 {
            self.findings.fault(
                path.span(),
                "the path of a socket has at most 107 bytes",
                None,
            );
        }
        path.into_inner()
    }

    fn enrolment(&self, section: &Section<'_>, http: bool) -> EnrolmentConfig {
        let self_enrolment = section.boolean("self-enrolment");
        if self_enrolment && !http {
            self.findings.warning(
                section.value_span("self-enrolment"),
                "without `[http]` nobody can enrol",
                None,
            );
        }
        EnrolmentConfig {
            valid_ms: self.duration(section, "valid", 7 * DAY, MINUTE..=365 * DAY),
            self_enrolment,
            key: self.secret(section, &secret_keys!("key")),
        }
    }

    /// `[delivery]` or `[realm.delivery]`.
    pub(super) fn delivery(&self, section: &Section<'_>) -> Option<DeliveryConfig> {
        if !section.is_there() {
            return None;
        }
        let kind = self.required(section, "kind", "\"webhook\"");
        if let Some(kind) = &kind {
            match *kind.get_ref() {
                "webhook" => {}
                word @ ("sms" | "email") => {
                    let help = "use `kind = \"webhook\"`, or leave the section out: then no messages are made".to_owned();
                    self.findings.fault(
                        kind.span(),
                        format!("delivery by `{word}` is not there yet"),
                        help,
                    );
                    return None;
                }
                _ => self.unknown_word(kind, "kind", ["webhook", "sms", "email"].into_iter()),
            }
        }
        let insecure = section.boolean("insecure-plaintext");
        let example = "https://provisioning.example.org/hooks/realmsync";
        let url = self.required(section, "url", &format!("\"{example}\"")).and_then(|text| {
            let url = self.url(&text, &["https", "http"], example)?;
            if url.scheme() == "http" && !is_loopback(&url) {
                if insecure {
                    self.findings.warning(text.span(), "phone numbers and enrolment links go to this URL without TLS, as `insecure-plaintext` says", None);
                } else {
                    let help = "use https://, or set `insecure-plaintext = true` if the network is as good as one machine".to_owned();
                    self.findings.fault(text.span(), "http:// is only allowed to this machine itself", help);
                }
            }
            Some(url)
        });
        let keys = secret_keys!("secret");
        if keys.given(section).is_empty() {
            let help =
                "add `secret-credential = \"webhook-secret\"`, `secret-file` or `secret-env`"
                    .to_owned();
            self.findings.fault(
                section.span(),
                format!(
                    "`secret` is missing in {}: messages are signed with it",
                    section.label()
                ),
                help,
            );
        }
        let secret = self.signing_secret(section, &keys);
        let previous_secret = self.signing_secret(section, &secret_keys!("previous-secret"));
        let proxy = self
            .text(section, "proxy")
            .and_then(|text| self.url(&text, &["http", "https"], "http://proxy.example.org:3128"));
        let delivery = DeliveryConfig {
            ca_file: self.certificates(section, "ca-file"),
            timeout_ms: self.duration(section, "timeout", 15 * SECOND, SECOND..=10 * MINUTE),
            concurrency: usize::try_from(self.integer(section, "concurrency", 16, 1..=1024))
                .unwrap_or(16),
            retry_for_ms: self.duration(section, "retry-for", 3 * DAY, SECOND..=90 * DAY),
            url: url?,
            secret: secret?,
            previous_secret,
            proxy,
        };
        Some(delivery)
    }

    fn log(&self, section: &Section<'_>) -> LogConfig {
        let formats = [
            ("auto", LogFormat::Auto),
            ("text", LogFormat::Text),
            ("json", LogFormat::Json),
            ("journald", LogFormat::Journald),
        ];
        let levels = [
            ("info", tracing::Level::INFO),
            ("error", tracing::Level::ERROR),
            ("warn", tracing::Level::WARN),
            ("debug", tracing::Level::DEBUG),
            ("trace", tracing::Level::TRACE),
        ];
        LogConfig {
            format: self.word(section, "format", &formats),
            level: self.word(section, "level", &levels),
        }
    }

    /// A secret by its one source; `None` also where there is none, which the caller judges.
    pub(super) fn secret(&self, section: &Section<'_>, keys: &Keys) -> Option<Secret> {
        self.seen_secret(section, keys).map(|(secret, _)| secret)
    }

    /// The secret, and its text where it can be seen now.
    fn seen_secret(
        &self,
        section: &Section<'_>,
        keys: &Keys,
    ) -> Option<(Secret, Option<SecretString>)> {
        let given = keys.given(section);
        for extra in given.iter().skip(1) {
            let at = section.key_span(extra).unwrap_or(section.span());
            self.findings.fault(
                at,
                format!(
                    "more than one source for `{}`: `{}` and `{extra}`",
                    keys.inline, given[0]
                ),
                Some("keep one of them".to_owned()),
            );
        }
        let key = *given.first()?;
        let span = section.value_span(key);
        let secret = if key == keys.file {
            Secret::File(self.path(section, key)?.into_inner())
        } else if key == keys.credential {
            let name = self.text(section, key)?;
            if name.get_ref().contains('/')
                || name.get_ref().starts_with('.')
                || name.get_ref().chars().any(char::is_control)
            {
                let help =
                    "it is the name before the `:` in the unit's `LoadCredential=`".to_owned();
                self.findings.fault(
                    name.span(),
                    format!("`{}` is no name of a credential", quote(name.get_ref())),
                    help,
                );
                return None;
            }
            Secret::Credential((*name.get_ref()).to_owned())
        } else if key == keys.env {
            let name = self.text(section, key)?;
            if !name
                .get_ref()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
            {
                self.findings.fault(
                    name.span(),
                    "this is no name of an environment variable",
                    Some("it holds letters, digits and `_`".to_owned()),
                );
                return None;
            }
            Secret::Env((*name.get_ref()).to_owned())
        } else {
            let text = section.text(key)?;
            if text.get_ref().trim().is_empty() {
                let help = format!("use `{}` or `{}`", keys.file, keys.credential);
                self.findings
                    .fault(text.span(), format!("`{key}` is empty"), help);
                return None;
            }
            self.inline(section.key_span(key).unwrap_or(span.clone()), keys.file);
            Secret::Inline(SecretString::from(*text.get_ref()))
        };
        let seen = match self.environment.map(|e| secret.resolve(e)) {
            Some(Ok(text)) => Some(text),
            Some(Err(e)) => {
                self.findings
                    .add(e.invisible, Some(span), e.message, Some(e.help));
                None
            }
            None => None,
        };
        Some((secret, seen))
    }

    /// A secret that signs webhooks: base64, with or without the prefix of Standard Webhooks.
    fn signing_secret(&self, section: &Section<'_>, keys: &Keys) -> Option<Secret> {
        let (secret, seen) = self.seen_secret(section, keys)?;
        if let Some(text) = seen {
            let text = text.expose_secret();
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(text.strip_prefix("whsec_").unwrap_or(text));
            let at = keys
                .given(section)
                .first()
                .map_or(section.span(), |k| section.value_span(k));
            let help = "make one with `echo whsec_$(head -c 32 /dev/urandom | base64)`".to_owned();
            match decoded {
                Ok(bytes) if bytes.len() >= 24 => {}
                Ok(_) => self.findings.warning(
                    at,
                    format!(
                        "`{}` is shorter than the 24 bytes that Standard Webhooks ask for",
                        keys.inline
                    ),
                    help,
                ),
                Err(_) => self.findings.fault(
                    at,
                    format!(
                        "`{}` is not `whsec_` and base64, as Standard Webhooks want it",
                        keys.inline
                    ),
                    help,
                ),
            }
        }
        Some(secret)
    }

    /// A secret stands in the file itself.
    fn inline(&self, at: std::ops::Range<usize>, instead: &str) {
        if !self.private {
            let help = format!("chmod 600 {}, or use `{instead}`", self.path.display());
            self.findings
                .fault(at, "a secret stands in a file that others can read", help);
        }
    }

    /// A certificate and its key: both or none, and nobody else may read the key.
    pub(super) fn pair(
        &self,
        section: &Section<'_>,
        cert: &'static str,
        key: &'static str,
    ) -> Option<(PathBuf, PathBuf)> {
        for (here, missing) in [(cert, key), (key, cert)] {
            if section.has(here) && !section.has(missing) {
                let at = section.key_span(here).unwrap_or(section.span());
                self.findings.fault(
                    at,
                    format!("`{here}` without `{missing}`"),
                    Some(format!("add `{missing}`, or leave out `{here}`")),
                );
            }
        }
        let certificate = self.certificates(section, cert);
        let path = self.path(section, key);
        if let Some(path) = &path {
            self.private_key(path);
        }
        Some((certificate?, path?.into_inner()))
    }

    fn private_key(&self, path: &Spanned<PathBuf>) {
        use std::os::unix::fs::PermissionsExt as _;
        let Some((bytes, mode)) = self.bytes(path, |m| m.permissions().mode()) else {
            return;
        };
        let shown = path.get_ref().display();
        if mode & 0o077 != 0 {
            self.findings.fault(
                path.span(),
                format!("{shown} can be read by others (mode {:04o})", mode & 0o7777),
                Some(format!("chmod 600 {shown}")),
            );
        }
        if PrivateKeyDer::from_pem_slice(&bytes).is_err() {
            self.findings.fault(
                path.span(),
                format!("{shown} holds no private key in PEM"),
                Some("it must hold `-----BEGIN PRIVATE KEY-----`, not encrypted".to_owned()),
            );
        }
    }

    /// A file of certificates in PEM.
    pub(super) fn certificates(&self, section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
        let path = self.path(section, key)?;
        if let Some((bytes, ())) = self.bytes(&path, |_| ()) {
            let good = CertificateDer::pem_slice_iter(&bytes)
                .collect::<Result<Vec<_>, _>>()
                .is_ok_and(|list| !list.is_empty());
            if !good {
                let help = "it must hold `-----BEGIN CERTIFICATE-----` and base64".to_owned();
                self.findings.fault(
                    path.span(),
                    format!("{} holds no certificate in PEM", path.get_ref().display()),
                    help,
                );
            }
        }
        Some(path.into_inner())
    }

    /// A file that the configuration names; `None`: it is not looked at, or was told as a fault.
    fn bytes<T>(
        &self,
        path: &Spanned<PathBuf>,
        about: impl Fn(&std::fs::Metadata) -> T,
    ) -> Option<(Vec<u8>, T)> {
        use std::io::Read as _;
        let fault = |message: String, help: String| {
            self.findings.fault(path.span(), message, help);
            None
        };
        let file = match self.environment?.open(path.get_ref()) {
            Ok(file) => file,
            Err(e) => return fault(e.message, e.help),
        };
        let mut bytes = Vec::new();
        // The system's whole bundle of roots has 0.2 MB.
        match (file.metadata(), file.take(4 << 20).read_to_end(&mut bytes)) {
            (Ok(metadata), Ok(_)) => Some((bytes, about(&metadata))),
            (Err(e), _) | (_, Err(e)) => fault(
                format!("cannot read {}: {e}", path.get_ref().display()),
                "check the path".into(),
            ),
        }
    }
}
