//! What time alone brings about for users: links that are sent again, and what they are told of their factors.

use std::collections::BTreeMap;

use crate::model::{RealmId, RealmKind, RealmRow};
use crate::runs::RunError;
use crate::store::MessageContext;
use crate::sync::engine::Engine;

impl Engine {
    /// Sends links again that nobody used (`enrolment.reminders`), by the database's clock; says how many. Called by a timer of the
    /// daemon.
    ///
    /// # Errors
    /// When the store fails, or a key cannot be read.
    pub async fn send_reminders(&self) -> Result<u64, RunError> {
        let after = &self.config.enrolment.reminders;
        let time = self.judging_time().await?;
        if after.is_empty() || time.is_off() {
            return Ok(0);
        }
        let mut sent = 0;
        let mut realms = MessagesOfRealms::default();
        for ms in after {
            let mut last = None;
            loop {
                let links = self.store.links_to_remind(*ms, last, time.at).await?;
                let Some(end) = links.last() else { break };
                last = Some(end.enrolment);
                for link in &links {
                    let Some(messages) = realms.of(self, &link.realm).await? else {
                        continue;
                    };
                    let messages = MessageContext {
                        now: time.at,
                        ..messages
                    };
                    sent += u64::from(self.store.remind(link, after, &messages).await?);
                }
            }
        }
        Ok(sent)
    }

    /// Makes messages of what users are to be told; says how many. Called by a timer of the daemon.
    ///
    /// # Errors
    /// When the store fails, or a key cannot be read.
    pub async fn tell_notices(&self) -> Result<u64, RunError> {
        let mut told = 0;
        let mut realms = MessagesOfRealms::default();
        let mut last = 0;
        loop {
            let notices = self.store.notices_to_tell(last).await?;
            let Some(end) = notices.last() else {
                return Ok(told);
            };
            last = end.seq;
            for notice in &notices {
                if let Some(messages) = realms.of(self, &notice.realm).await? {
                    told += u64::from(self.store.tell_notice(notice, &messages).await?);
                }
            }
        }
    }
}

/// What the messages of realms are made with, each read once.
#[derive(Default)]
struct MessagesOfRealms(BTreeMap<RealmId, Option<MessageContext>>);

impl MessagesOfRealms {
    /// `None`: another daemon has the realm's file, nobody has, or it is removed; what is due there waits.
    async fn of(
        &mut self,
        engine: &Engine,
        realm: &RealmId,
    ) -> Result<Option<MessageContext>, RunError> {
        if let Some(known) = self.0.get(realm) {
            return Ok(known.clone());
        }
        let elsewhere = |row: &RealmRow| {
            row.orphaned || row.kind == RealmKind::Directory && engine.configured(realm).is_none()
        };
        // One that is removed keeps nobody else from being told.
        let messages = match engine.store.realm(realm).await? {
            Some(row) if !elsewhere(&row) => Some(engine.hand_rules(realm).await?.messages),
            _ => None,
        };
        self.0.insert(realm.clone(), messages.clone());
        Ok(messages)
    }
}
