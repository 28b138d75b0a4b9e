//! Active Directory's `uSNChanged`: each domain controller numbers every change to an entry by itself, and shows the number only
//! when the change is committed. So no overlap is needed, and no clock; but the number is of one `invocationId`.

use super::super::delta::{Cursor, Delta, NoDelta, Way};
use super::super::read::Scope;
use super::super::session::Session;
use super::BLIND;
use super::offer::key;

impl Session {
    pub(super) async fn usn_place(&mut self, scope: &Scope) -> Result<Cursor, NoDelta> {
        match self.usn_now().await? {
            Some(usn) => Ok(self.at_usn(scope, usn)),
            None => Err(NoDelta::NotOffered(format!(
                "{} shows no highestCommittedUSN",
                self.server
            ))),
        }
    }

    fn at_usn(&self, scope: &Scope, usn: u64) -> Cursor {
        Cursor {
            way: Way::Timestamp,
            server: self.invocation(),
            cookie: usn.to_string(),
            scope: key(scope, &self.account),
        }
    }

    pub(super) async fn usn_changes(
        &mut self,
        scope: &Scope,
        cursor: &Cursor,
    ) -> Result<Delta, NoDelta> {
        let Ok(then) = cursor.cookie.parse::<u64>() else {
            return Err(NoDelta::StartOver("the cursor is no USN".into()));
        };
        let blind = Some(BLIND.to_owned());
        let now = match self.usn_now().await? {
            Some(now) if now == then => {
                return Ok(Delta {
                    blind,
                    ..Delta::default()
                });
            }
            Some(now) if now > then => now,
            other => {
                let now = other.map_or("at none".into(), |n| n.to_string());
                return Err(NoDelta::StartOver(format!(
                    "the server is at USN {now}, and the cursor at {then}: it was restored from a backup"
                )));
            }
        };
        let filter = format!("(uSNChanged>={})", then.saturating_add(1));
        let mut touched = Vec::new();
        self.stamped(scope, &filter, &[], |id, _| touched.push(id))
            .await
            .map_err(|e| self.no_stamps(e))?;
        touched.sort_unstable();
        touched.dedup();
        // The range to search stays short though nobody of the realm changes.
        Ok(Delta {
            touched,
            blind,
            cursor: Some(self.at_usn(scope, now)),
            ..Delta::default()
        })
    }
}
