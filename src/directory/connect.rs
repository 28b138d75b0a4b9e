//! From the list of servers to a session: the first one that answers, is who it says, and lets the account in.

use std::time::Duration;

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, StdStream};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::entry::Names;
use super::error::{DirectoryError, Failure, came, one_line};
use super::link::{Broken, Link, explain, within};
use super::root_dse::RootDse;
use super::session::{Refused, Session};
use super::state::ServerState;
use super::tls;
use crate::clock::Clock;
use crate::config::{DirectoryConfig, DirectoryKind};

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
                    tracing::debug!(server = %session.server, "an earlier server could not be used: {failure}");
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
        account: config.bind_dn.clone().unwrap_or_default(),
        state: ServerState::Unknown,
        names: Names::default(),
        clock: clock.clone(),
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
pub fn shown(url: &Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!(
        "{}://{}{port}",
        url.scheme(),
        url.host_str().unwrap_or_default()
    )
}

/// What to do about a server to which no connection comes about.
fn connect_advice(kind: std::io::ErrorKind) -> &'static str {
    use std::io::ErrorKind;
    match kind {
        ErrorKind::ConnectionRefused => {
            "see that the server runs there and that `servers` names the right host and port; \
             nothing listens on it, or a firewall turns this machine away"
        }
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "see that the server is up and that a firewall lets this machine in"
        }
        _ => "see that `servers` names the right host and that this machine can find it",
    }
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
                connect_advice(e.kind()),
            )));
        }
        Err(_) => {
            let came = format!("no answer within {} ms", config.connect_timeout_ms);
            return Err(DirectoryError::Unreachable(failure(
                "connecting",
                came,
                connect_advice(std::io::ErrorKind::TimedOut),
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
        assert!(text.contains("; see that the server runs there"), "{text}");
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
