//! From the list of servers to a session: the first one that answers, is who it says, and lets the account in.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, StdStream};
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::entry::Names;
use super::error::{DirectoryError, Failure, bind_advice, came, one_line};
use super::root_dse::{RootDse, fold_dn};
use super::state::ServerState;
use super::{password, tls};
use crate::clock::Clock;
use crate::config::{DirectoryConfig, DirectoryKind};

/// A bound connection to one server. Dropping it closes the connection; after an error it is of no further use.
pub struct Session {
    pub(super) server: String,
    pub(super) ldap: Ldap,
    pub(super) link: Link,
    pub(super) root: RootDse,
    pub(super) kind: DirectoryKind,
    pub(super) state: ServerState,
    pub(super) names: Names,
    /// The whole run's end.
    pub(super) deadline: Instant,
    /// The naming contexts that hold the bases, in the order of the bases, each once.
    pub(super) contexts: Vec<String>,
    /// What failed on the servers before this one.
    failed: Vec<DirectoryError>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("server", &self.server)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// The task that carries the connection. It is ldap3's `drive`, in a set of its own so that it ends with the session.
pub(super) struct Link(JoinSet<Result<(), LdapError>>);

/// How the connection's task ended.
pub(super) enum Ended {
    /// The server closed the connection.
    Closed,
    /// Reading or writing failed; what came and what to do, if TLS says so.
    Broke(LdapError),
    /// ldap3 met a message that it cannot read, and panicked.
    Unreadable,
}

impl Link {
    fn new(connection: LdapConnAsync) -> Self {
        let mut set = JoinSet::new();
        set.spawn(connection.drive());
        Self(set)
    }

    /// Whether and how it has ended, without waiting.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        self.0.try_join_next().map(Self::how)
    }

    /// How it ended, given a moment to do so.
    async fn end(&mut self) -> Option<Ended> {
        let moment = Duration::from_millis(200);
        tokio::time::timeout(moment, self.0.join_next())
            .await
            .ok()
            .flatten()
            .map(Self::how)
    }

    fn how(joined: Result<Result<(), LdapError>, tokio::task::JoinError>) -> Ended {
        match joined {
            Ok(Ok(())) => Ended::Closed,
            Ok(Err(e)) => Ended::Broke(e),
            Err(_) => Ended::Unreadable,
        }
    }
}

/// Why an operation has no result.
pub(super) enum Broken {
    /// Not within its time, in whole seconds.
    Late(u64),
    /// The connection, or ldap3's reading of the answer.
    Link(LdapError),
    /// ldap3 panicked over the answer.
    Unreadable,
}

/// Runs an operation of ldap3 within a time. ldap3 panics over results that are no UTF-8; here that is an error.
pub(super) async fn within<T>(
    until: Instant,
    operation: impl Future<Output = Result<T, LdapError>>,
) -> Result<T, Broken> {
    let started = Instant::now();
    match timeout_at(until, AssertUnwindSafe(operation).catch_unwind()).await {
        Err(_) => Err(Broken::Late(started.elapsed().as_secs())),
        Ok(Err(_)) => Err(Broken::Unreadable),
        Ok(Ok(Err(e))) => Err(Broken::Link(e)),
        Ok(Ok(Ok(value))) => Ok(value),
    }
}

/// What came, what to do, and whether TLS is at fault.
pub(super) async fn explain(
    broken: Broken,
    link: Option<&mut Link>,
) -> (String, &'static str, bool) {
    const LATER: &str =
        "nothing is taken from what came so far; the next pass makes a new connection";
    let error = match broken {
        Broken::Late(seconds) => return (format!("no answer within {seconds} s"), LATER, false),
        Broken::Unreadable => {
            return (
                "the answer is no LDAP that can be read".into(),
                "look at the server, or at what stands between",
                false,
            );
        }
        Broken::Link(error) => error,
    };
    if let LdapError::FilterParsing = error {
        return ("the filter cannot be read".into(), "mend `filter`", false);
    }
    let error = match link {
        Some(link) => match link.end().await {
            Some(Ended::Broke(e)) => e,
            Some(Ended::Closed) => {
                return ("the server closed the connection".into(), LATER, false);
            }
            Some(Ended::Unreadable) => {
                return (
                    "the answer is no LDAP that can be read".into(),
                    "look at the server, or at what stands between",
                    false,
                );
            }
            None => error,
        },
        None => error,
    };
    if let LdapError::Io { source } = &error
        && let Some((came, next)) = tls::explain(source)
    {
        return (came, next, true);
    }
    (one_line(&error.to_string()), LATER, false)
}

/// Binds to the first server that can be used, in the order of the configuration; otherwise the error says what failed on each.
///
/// `clock` judges the certificates; `deadline` is the whole run's. A server that says *invalid credentials* ends the search:
/// asking the others would only bring the account closer to being locked.
pub async fn connect(
    config: &DirectoryConfig,
    clock: &Clock,
    deadline: Instant,
) -> Result<Session, DirectoryError> {
    let mut failed = Vec::new();
    for url in &config.servers {
        match connect_to(config, url, clock, deadline).await {
            Ok(mut session) => {
                for failure in &failed {
                    tracing::warn!(server = %session.server, "an earlier server could not be used: {failure}");
                }
                session.failed = failed;
                return Ok(session);
            }
            Err((error, last)) => {
                failed.push(error);
                if last {
                    break;
                }
            }
        }
    }
    match failed.len() {
        1 => Err(failed.remove(0)),
        0 => Err(DirectoryError::Config(Failure {
            server: "servers".into(),
            what: "connecting".into(),
            came: "the list is empty".into(),
            next: "name at least one server".into(),
        })),
        _ => Err(DirectoryError::Servers(failed)),
    }
}

/// Binds to one server of the list, whatever the others say (`check --connect`).
pub async fn connect_one(
    config: &DirectoryConfig,
    server: &Url,
    clock: &Clock,
    deadline: Instant,
) -> Result<Session, DirectoryError> {
    connect_to(config, server, clock, deadline)
        .await
        .map_err(|(error, _)| error)
}

/// An error, and whether it is in vain to ask further servers.
type Refused = (DirectoryError, bool);

async fn connect_to(
    config: &DirectoryConfig,
    url: &Url,
    clock: &Clock,
    deadline: Instant,
) -> Result<Session, Refused> {
    let server = shown(url);
    let step = Duration::from_millis(u64::try_from(config.connect_timeout_ms).unwrap_or(0).max(1));
    let until = || deadline.min(Instant::now() + step);
    let (connection, ldap) = open(config, url, &server, clock, until())
        .await
        .map_err(|e| (e, false))?;
    let mut session = Session {
        server,
        ldap,
        link: Link::new(connection),
        root: RootDse::default(),
        kind: config.kind.unwrap_or(DirectoryKind::Generic),
        state: ServerState::Unknown,
        names: Names::default(),
        deadline,
        contexts: Vec::new(),
        failed: Vec::new(),
    };
    session.bind(config, until()).await?;
    session
        .introduce(config, until())
        .await
        .map_err(|e| (e, false))?;
    Ok(session)
}

/// The URL as it is shown: without what may be secret.
fn shown(url: &Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!(
        "{}://{}{port}",
        url.scheme(),
        url.host_str().unwrap_or_default()
    )
}

/// TCP, and TLS where it is due.
async fn open(
    config: &DirectoryConfig,
    url: &Url,
    server: &str,
    clock: &Clock,
    until: Instant,
) -> Result<(LdapConnAsync, Ldap), DirectoryError> {
    let failure = |what: &str, came: String, next: &str| Failure {
        server: server.into(),
        what: what.into(),
        came,
        next: next.into(),
    };
    let bracketed = url.host_str().unwrap_or_default();
    let host = bracketed
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(bracketed);
    if host.is_empty() {
        return Err(DirectoryError::Config(failure(
            "connecting",
            "no host is named".into(),
            "write ldaps://host",
        )));
    }
    let ldaps = url.scheme() == "ldaps";
    let encrypted = ldaps || config.start_tls;
    if !encrypted {
        if !config.insecure_plaintext {
            let next = "use ldaps:// or `start-tls = true`; `insecure-plaintext = true` would send the password readable to all on the way";
            return Err(DirectoryError::Config(failure(
                "connecting",
                "this would be without TLS".into(),
                next,
            )));
        }
        tracing::warn!(
            server,
            "the connection is not encrypted: the bind password and all personal data travel readable (insecure-plaintext)"
        );
    }
    let port = url.port().unwrap_or(if ldaps { 636 } else { 389 });
    let tcp = match timeout_at(until, TcpStream::connect((host, port))).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(e)) => {
            return Err(DirectoryError::Unreachable(failure(
                "connecting",
                one_line(&e.to_string()),
                "is the server up, and does a firewall let this machine in?",
            )));
        }
        Err(_) => {
            let came = format!("no answer within {} ms", config.connect_timeout_ms);
            return Err(DirectoryError::Unreachable(failure(
                "connecting",
                came,
                "is the server up, and does a firewall let this machine in?",
            )));
        }
    };
    let std = tcp.set_nodelay(true).and_then(|()| tcp.into_std());
    let std = std.map_err(|e| {
        DirectoryError::Unreachable(failure("connecting", one_line(&e.to_string()), ""))
    })?;
    let mut settings = LdapConnSettings::new().set_std_stream(StdStream::Tcp(std));
    if encrypted {
        let tls = tls::client_config(config, host, clock);
        let tls = tls.map_err(|why| DirectoryError::Config(failure("setting up TLS", why, "")))?;
        settings = settings
            .set_config(tls.into())
            .set_starttls(config.start_tls && !ldaps);
    }
    let name = if host.contains(':') {
        tls::STAND_IN
    } else {
        host
    };
    let address = Url::parse(&format!(
        "{}://{name}:{port}",
        if ldaps { "ldaps" } else { "ldap" }
    ));
    let address = address.map_err(|e| {
        DirectoryError::Config(failure("connecting", e.to_string(), "write ldaps://host"))
    })?;
    let what = if ldaps {
        "opening TLS"
    } else if encrypted {
        "asking for StartTLS"
    } else {
        "connecting"
    };
    match within(
        until,
        LdapConnAsync::from_url_with_settings(settings, &address),
    )
    .await
    {
        Ok(pair) => Ok(pair),
        Err(Broken::Link(LdapError::LdapResult { result })) => {
            let next = "the server refuses StartTLS, and nothing is sent without it: use ldaps://";
            Err(DirectoryError::Tls(failure(
                what,
                came(result.rc, &result.text),
                next,
            )))
        }
        Err(broken) => {
            let late = matches!(broken, Broken::Late(_));
            let (came, next, tls) = explain(broken, None).await;
            let failure = failure(what, came, next);
            // A server that answers TCP but breaks off TLS is a matter of TLS; one that says nothing is just not there.
            Err(if encrypted && !late || tls {
                DirectoryError::Tls(failure)
            } else {
                DirectoryError::Unreachable(failure)
            })
        }
    }
}

impl Session {
    /// The server's URL: `ldaps://ldap1.example.org`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The kind as configured, or by the root DSE.
    pub fn kind(&self) -> DirectoryKind {
        self.kind
    }

    /// What the server says about itself.
    pub fn root_dse(&self) -> &RootDse {
        &self.root
    }

    /// How far the server was when the session began.
    pub fn state(&self) -> &ServerState {
        &self.state
    }

    /// What failed on the servers that were tried before this one.
    pub fn failed(&self) -> &[DirectoryError] {
        &self.failed
    }

    /// The identity of the directory: the naming context of the first base, folded. Two realms with the same one share a directory.
    pub fn directory_key(&self) -> String {
        self.contexts
            .first()
            .map(|c| fold_dn(c))
            .unwrap_or_default()
    }

    /// Fails as *stale* when the server is known to be behind what was seen.
    pub fn not_behind(&self, seen: Option<&ServerState>) -> Result<(), DirectoryError> {
        match seen.and_then(|seen| self.state.behind(seen)) {
            Some(why) => Err(DirectoryError::stale(&self.server, &why)),
            None => Ok(()),
        }
    }

    pub(super) fn failure(&self, what: &str, came: impl Into<String>, next: &str) -> Failure {
        Failure {
            server: self.server.clone(),
            what: what.into(),
            came: came.into(),
            next: next.into(),
        }
    }

    async fn bind(&mut self, config: &DirectoryConfig, until: Instant) -> Result<(), Refused> {
        let mut ldap = self.ldap.clone();
        let (what, result) = match (&config.bind_dn, &config.bind_password) {
            (Some(dn), Some(secret)) => {
                let what = format!("binding as `{dn}`");
                let fault = |came: String| {
                    DirectoryError::Config(self.failure(&what, came, "mend `bind-password`"))
                };
                let password = password::read(secret).await.map_err(|e| (fault(e), true))?;
                // A simple bind without a password is an anonymous one that succeeds (RFC 4513 § 5.1.2).
                if password.expose_secret().is_empty() || dn.trim().is_empty() {
                    return Err((
                        fault(
                            "the name or the password is empty, which would be an anonymous bind"
                                .into(),
                        ),
                        true,
                    ));
                }
                let result = within(until, ldap.simple_bind(dn, password.expose_secret())).await;
                (what, result)
            }
            (Some(dn), None) => {
                let failure = self.failure(
                    &format!("binding as `{dn}`"),
                    "no password is configured",
                    "give `bind-password-file` or `bind-password-credential`",
                );
                return Err((DirectoryError::Config(failure), true));
            }
            (None, _) if config.client_cert.is_some() => (
                "binding by the client certificate (SASL EXTERNAL)".to_owned(),
                within(until, ldap.sasl_external_bind()).await,
            ),
            (None, _) => return Ok(()),
        };
        match result {
            Ok(LdapResult { rc: 0, .. }) => Ok(()),
            Ok(result) => {
                let failure = self.failure(
                    &what,
                    came(result.rc, &result.text),
                    bind_advice(result.rc, &result.text),
                );
                match result.rc {
                    51 | 52 => Err((DirectoryError::Unreachable(failure), false)),
                    code => Err((DirectoryError::Auth(failure), code == 49)),
                }
            }
            Err(broken) => {
                let (came, next, tls) = explain(broken, Some(&mut self.link)).await;
                let failure = self.failure(&what, came, next);
                Err((
                    if tls {
                        DirectoryError::Tls(failure)
                    } else {
                        DirectoryError::Unreachable(failure)
                    },
                    false,
                ))
            }
        }
    }

    /// Asks the server who it is, who the account is to it, and how far it is.
    async fn introduce(
        &mut self,
        config: &DirectoryConfig,
        until: Instant,
    ) -> Result<(), DirectoryError> {
        self.read_root_dse(until).await?;
        self.kind = config
            .kind
            .or(self.root.kind)
            .unwrap_or(DirectoryKind::Generic);
        for base in &config.base {
            // A server that names no context is asked under the base itself.
            let context = self.root.naming_context(base).unwrap_or(base).to_owned();
            if !self
                .contexts
                .iter()
                .any(|c| fold_dn(c) == fold_dn(&context))
            {
                self.contexts.push(context);
            }
        }
        let bound = config.bind_dn.is_some() || config.client_cert.is_some();
        if bound && self.who(until).await?.is_some_and(|who| who.is_empty()) {
            let failure = self.failure(
                "asking who the account is",
                "nobody: the bind succeeded, but is anonymous",
                "check `bind-dn` and its password",
            );
            return Err(DirectoryError::Auth(failure));
        }
        self.read_state(until).await
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{ChangesWay, Secret};
    use crate::model::ErrorCode;

    pub(in crate::directory) fn config(server: &str) -> DirectoryConfig {
        DirectoryConfig {
            kind: None,
            servers: vec![Url::parse(server).unwrap()],
            start_tls: false,
            ca_file: None,
            client_cert: None,
            insecure_plaintext: true,
            bind_dn: Some("cn=sync,dc=example,dc=org".into()),
            bind_password: Some(Secret::Inline("secret".into())),
            base: vec!["dc=example,dc=org".into()],
            filter: None,
            page_size: 1000,
            changes: ChangesWay::Auto,
            poll_ms: None,
            connect_timeout_ms: 2000,
            run_timeout_ms: 60_000,
            sentinel: None,
        }
    }

    async fn refused(config: &DirectoryConfig) -> DirectoryError {
        connect(
            config,
            &Clock::system(),
            Instant::now() + Duration::from_secs(5),
        )
        .await
        .unwrap_err()
    }

    #[tokio::test]
    async fn each_server_that_is_down_is_named() {
        let mut c = config("ldap://127.0.0.1:1");
        c.servers.push(Url::parse("ldap://[::1]:1").unwrap());
        let e = refused(&c).await;
        assert_eq!(e.code(), ErrorCode::Unreachable);
        let text = e.to_string();
        assert!(
            text.contains("ldap://127.0.0.1:1: connecting")
                && text.contains("ldap://[::1]:1: connecting"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn plain_ldap_is_refused_unless_configured() {
        let mut c = config("ldap://127.0.0.1:1");
        c.insecure_plaintext = false;
        let e = refused(&c).await;
        assert_eq!(e.code(), ErrorCode::Config);
        assert!(e.to_string().contains("start-tls"), "{e}");
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        assert_eq!(
            shown(&Url::parse("ldaps://user:pw@host:1636/dc=x?y").unwrap()),
            "ldaps://host:1636"
        );
        assert_eq!(
            shown(&Url::parse("ldaps://[::1]").unwrap()),
            "ldaps://[::1]"
        );
    }
}
