//! Whether the server still answers, asked on the connection on which something else goes on.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ldap3::Scope as Depth;
use ldap3::exop::WhoAmI;
use tokio::time::{Instant, sleep};

use super::backlog::LdapHandle;
use super::error::{DirectoryError, ServerFailure};
use super::link::{Broken, within};
use super::root_dse::WHO_AM_I;
use super::session::Session;
use crate::config::DirectoryKind;

/// How long silence is not questioned, and how long an answer may take: together less than the 60 s within which a dead peer
/// must be noticed.
pub(super) const SILENCE: Duration = Duration::from_secs(25);

/// A question under way.
pub(super) type Probe = Pin<Box<dyn Future<Output = Result<(), Broken>> + Send>>;

/// Asks something cheap.
pub(super) fn probe(mut ldap: LdapHandle, who_am_i: bool) -> Probe {
    let until = Instant::now() + SILENCE;
    if who_am_i {
        return Box::pin(async move { within(until, ldap.extended(WhoAmI)).await.map(|_| ()) });
    }
    let root = async move {
        let nothing: Arc<[String]> = ["1.1".to_owned()].into();
        let mut root = ldap
            .streaming_search("", Depth::Base, "(objectClass=*)", nothing)
            .await?;
        while root.next().await?.is_some() {}
        Ok(())
    };
    Box::pin(async move { within(until, root).await })
}

/// Asks a server that is expected to say something whether it still can. Independent of the session that it came from.
pub struct Liveness {
    /// `None`: it is not asked.
    ldap: Option<LdapHandle>,
    who_am_i: bool,
    server: String,
}

impl Session {
    pub(super) fn knows_who_am_i(&self) -> bool {
        self.root.extensions.iter().any(|e| e == WHO_AM_I)
    }

    /// For what is short where a server is well: a delta and its look-ups, whose own patience (`Session::page_end`) is that of a
    /// page of a full pass. A domain controller may answer one question after the other, and is not asked.
    pub fn liveness(&self) -> Liveness {
        Liveness {
            ldap: (self.kind != DirectoryKind::ActiveDirectory).then(|| self.ldap.clone()),
            who_am_i: self.knows_who_am_i(),
            server: self.server.clone(),
        }
    }
}

impl Liveness {
    /// Awaits something that goes on on the session's connection. When the server is silent for long, and answers no question
    /// either, that is the end of it: in less than a minute.
    pub async fn beside<T, E: From<DirectoryError>>(
        self,
        doing: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::select! {
            biased;
            done = doing => done,
            dead = self.dead() => Err(dead.into()),
        }
    }

    async fn dead(self) -> DirectoryError {
        let Some(ldap) = self.ldap else {
            return pending().await;
        };
        loop {
            sleep(SILENCE).await;
            match probe(ldap.clone(), self.who_am_i).await {
                Ok(()) => {}
                Err(Broken::Late(seconds)) => {
                    return DirectoryError::Unreachable(ServerFailure {
                        server: self.server,
                        what: "asking whether it is still there".into(),
                        came: format!("no answer within {seconds} s"),
                        next: "nothing is taken from what came so far; the next run makes a new connection".into(),
                    });
                }
                // Whoever uses the connection hears of its end too, and knows better why.
                Err(_) => return pending().await,
            }
        }
    }
}
