//! The first questions of a session: the root DSE, who the account is, how far the server is.

use std::sync::Arc;

use ldap3::Scope as Depth;
use ldap3::exop::WhoAmI;
use tokio::time::Instant;

use super::error::{DirectoryError, came, search_advice};
use super::link::{explain, within};
use super::root_dse::{ATTRIBUTES, RootDse, WHO_AM_I};
use super::search::{SearchRequest, Sink, Trouble};
use super::session::Session;
use super::state::ServerState;
use crate::config::DirectoryKind;
use crate::model::RawEntry;

const NO_SUCH_ATTRIBUTE: u32 = 16;
const UNDEFINED_ATTRIBUTE_TYPE: u32 = 17;
const NO_SUCH_OBJECT: u32 = 32;
const BUSY: u32 = 51;
const UNAVAILABLE: u32 = 52;

/// A whole answer for one entry.
const ANY: &str = "(objectClass=*)";

impl Session {
    /// One entry by its DN, or what the server said instead of success.
    async fn one(
        &mut self,
        what: &str,
        dn: &str,
        attributes: &[&str],
    ) -> Result<Option<RawEntry>, Trouble> {
        let attributes: Arc<[String]> = attributes.iter().map(|a| (*a).to_owned()).collect();
        let ask = SearchRequest {
            base: dn,
            depth: Depth::Base,
            filter: ANY,
            attributes,
            page_size: 1,
            elsewhere_is_fine: true,
        };
        let mut found = Vec::new();
        self.try_search(what, &ask, Sink::List(&mut found)).await?;
        Ok(found.into_iter().next())
    }

    /// The same within a time. Only a clear absence is one: a server that is busy or refuses has not said that there is nothing.
    pub(super) async fn glance(
        &mut self,
        until: Instant,
        what: &str,
        dn: &str,
        attributes: &[&str],
    ) -> Result<Option<RawEntry>, DirectoryError> {
        let run = std::mem::replace(&mut self.deadline, until);
        let found = self.one(what, dn, attributes).await;
        self.deadline = run;
        match found {
            Ok(found) => Ok(found),
            Err(Trouble::Result {
                code: NO_SUCH_ATTRIBUTE | UNDEFINED_ATTRIBUTE_TYPE | NO_SUCH_OBJECT,
                ..
            }) => Ok(None),
            Err(Trouble::Result {
                code: code @ (BUSY | UNAVAILABLE),
                text,
                what,
            }) => Err(DirectoryError::Unreachable(self.failure(
                &what,
                came(code, &text),
                search_advice(code),
            ))),
            Err(Trouble::Result { code, text, what }) => Err(self.refused(&what, code, &text)),
            Err(Trouble::Error(DirectoryError::Incomplete(failure))) => {
                Err(DirectoryError::Unreachable(failure))
            }
            Err(Trouble::Error(e)) => Err(e),
        }
    }

    pub(super) async fn read_root_dse(&mut self, until: Instant) -> Result<(), DirectoryError> {
        let found = self
            .glance(until, "reading the root DSE", "", &ATTRIBUTES)
            .await?;
        self.root = found.as_ref().map(RootDse::read).unwrap_or_default();
        Ok(())
    }

    /// Who the account is to the server (RFC 4532): empty for nobody, `None` where the server cannot say.
    pub async fn who_am_i(&mut self) -> Result<Option<String>, DirectoryError> {
        self.who(self.deadline).await
    }

    pub(super) async fn who(&mut self, until: Instant) -> Result<Option<String>, DirectoryError> {
        if !self.root.extensions.iter().any(|e| e == WHO_AM_I) {
            return Ok(None);
        }
        let mut ldap = self.ldap.clone();
        match within(until, ldap.extended(WhoAmI)).await {
            Ok(answer) if answer.1.rc == 0 => Ok(Some(
                String::from_utf8_lossy(&answer.0.val.unwrap_or_default()).into_owned(),
            )),
            Ok(answer) if [BUSY, UNAVAILABLE].contains(&answer.1.rc) => {
                let (rc, text) = (answer.1.rc, &answer.1.text);
                let what = "asking who the account is";
                Err(DirectoryError::Unreachable(self.failure(
                    what,
                    came(rc, text),
                    search_advice(rc),
                )))
            }
            Ok(answer) if self.password_is_over(answer.1.rc, &answer.1.text) => {
                Err(self.refused("asking who the account is", answer.1.rc, &answer.1.text))
            }
            Ok(_) => Ok(None),
            Err(broken) => {
                let (came, next, _) = explain(broken, Some(&mut self.link)).await;
                Err(DirectoryError::Unreachable(self.failure(
                    "asking who the account is",
                    came,
                    next,
                )))
            }
        }
    }

    /// Reads how far the server is. It is read before the pass, so that it never claims more than was seen.
    pub(super) async fn read_state(&mut self, until: Instant) -> Result<(), DirectoryError> {
        let mut answers = Vec::new();
        self.state_refused = None;
        for (dn, attribute) in self.state_questions(&self.root) {
            let what = format!("reading `{attribute}` of `{dn}`, how far the server is");
            let answer = match self.glance(until, &what, &dn, &[attribute]).await {
                // A right that was never given is missed only by who has seen more before: see `lags`.
                Err(DirectoryError::Incomplete(failure)) => {
                    self.state_refused = Some(failure);
                    None
                }
                answer => answer?,
            };
            answers.push(answer);
        }
        self.state = self.state_by(&self.root, &answers);
        Ok(())
    }

    /// Where it is written how far a server with this root DSE is: entries, and an attribute of each.
    pub(super) fn state_questions(&self, root: &RootDse) -> Vec<(String, &'static str)> {
        match self.kind {
            DirectoryKind::Ds389 => Vec::new(),
            DirectoryKind::OpenLdap | DirectoryKind::Generic => {
                let contexts = self.contexts.iter();
                contexts.map(|c| (c.clone(), "contextCSN")).collect()
            }
            DirectoryKind::ActiveDirectory => match (root.highest_usn, &root.service) {
                (Some(_), Some(service)) => {
                    let first = self.contexts.first();
                    std::iter::once((service.clone(), "invocationId"))
                        .chain(first.map(|c| (c.clone(), "replUpToDateVector")))
                        .collect()
                }
                _ => Vec::new(),
            },
        }
    }

    /// The answers to [`Session::state_questions`], in their order.
    pub(super) fn state_by(&self, root: &RootDse, answers: &[Option<RawEntry>]) -> ServerState {
        let first_of = |at: usize, name: &'static str| {
            let entry = answers.get(at)?.as_ref()?;
            entry.values(name).next()
        };
        match self.kind {
            DirectoryKind::Ds389 => ServerState::Unknown,
            DirectoryKind::OpenLdap | DirectoryKind::Generic => {
                let mut values = Vec::new();
                for (at, (context, entry)) in self.contexts.iter().zip(answers).enumerate() {
                    let of = ServerState::database(at, context);
                    let found = entry.iter().flat_map(|e| e.values("contextcsn"));
                    values.extend(found.map(|v| (of.clone(), v)));
                }
                ServerState::from_context_csn(values.iter().map(|(of, v)| (of.as_str(), *v)))
            }
            DirectoryKind::ActiveDirectory => {
                match (root.highest_usn, first_of(0, "invocationid")) {
                    (Some(highest), Some(invocation)) => ServerState::from_active_directory(
                        invocation,
                        highest,
                        first_of(1, "repluptodatevector"),
                    ),
                    _ => ServerState::Unknown,
                }
            }
        }
    }

    /// One entry by its DN (the sentinel); `None`: it does not exist, or the account may not see it.
    pub async fn entry(
        &mut self,
        dn: &str,
        attributes: &[String],
    ) -> Result<Option<RawEntry>, DirectoryError> {
        let what = format!("reading `{dn}`");
        let names: Vec<&str> = attributes.iter().map(String::as_str).collect();
        match self.one(&what, dn, &names).await {
            Ok(found) => Ok(found),
            Err(Trouble::Result {
                code: NO_SUCH_OBJECT,
                ..
            }) => Ok(None),
            Err(Trouble::Result { code, text, what }) => Err(self.refused(&what, code, &text)),
            Err(Trouble::Error(e)) => Err(e),
        }
    }
}
