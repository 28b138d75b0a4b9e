//! From the list of servers to a session: the first one that answers, is who it says, and lets the account in.

use std::sync::Arc;

use tokio::time::Instant;
use url::Url;

use super::backlog::LdapHandle;
use super::credentials::Credentials;
use super::entry::Names;
use super::error::{DirectoryError, ServerFailure};
use super::guard::{Carrier, guarded};
use super::link::{ConnectionTask, timely};
use super::reach::Reach;
use super::root_dse::RootDse;
use super::session::{ConnectFailure, Session};
use super::spelling::Spellings;
use super::state::ServerState;
use super::wire::Wire;
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
        0 => Err(DirectoryError::Config(ServerFailure {
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
) -> Result<Session, ConnectFailure> {
    let here = |e| (e, false);
    let mut reach = Reach::of(config, url).map_err(here)?;
    let step = reach.step;
    let until = || deadline.min(Instant::now() + step);
    let (carrier, ldap) = open(config, &mut reach, clock, until())
        .await
        .map_err(here)?;
    let credentials = Credentials::of(config, &reach).map_err(|e| (e, true))?;
    let mut session = Session {
        server: reach.server.clone(),
        reach: Arc::new(reach),
        credentials: Arc::new(credentials),
        ldap,
        link: ConnectionTask::new(carrier),
        root: RootDse::default(),
        kind: config.kind.unwrap_or(DirectoryKind::Generic),
        account: config.bind_dn.clone().unwrap_or_default(),
        state: ServerState::Unknown,
        state_refused: None,
        password_over: false,
        names: Names::default(),
        spellings: Spellings::default(),
        finds_by_id: false,
        clock: clock.clone(),
        deadline,
        contexts: Vec::new(),
        failed: Vec::new(),
    };
    session.bind(until()).await?;
    session.introduce(config, until()).await.map_err(here)?;
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

/// TCP, TLS where it is due, and ldap3 behind the guard.
async fn open(
    config: &DirectoryConfig,
    reach: &mut Reach,
    clock: &Clock,
    until: Instant,
) -> Result<(Carrier, LdapHandle), DirectoryError> {
    let tcp = reach.first(config, clock, until).await?;
    let opened = timely(until, async {
        let wire = Wire::open(reach, tcp).await?;
        guarded(wire).await
    });
    match opened.await {
        Ok(pair) => Ok(pair),
        Err(broken) => Err(reach.unopened(broken).await),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

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
}
