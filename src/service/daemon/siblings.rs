//! A realm that let people go wakes those of the same directory that wait for them.

use super::{Daemon, TaskResult};
use crate::acts::Sync;
use crate::model::{Outcome, RealmId, Run, Trigger};
use crate::service::work::Work;

impl Daemon {
    /// A run ended: whoever waited for those whom it let go may go on.
    pub(super) fn let_go(&mut self, run: &Run) {
        let several = self.config.borrow().realms.len() > 1;
        let ended = matches!(run.outcome, Outcome::Applied | Outcome::Unchanged);
        // A push is one run after the other, and most of them concern no other realm.
        let concerns = run.trigger != Trigger::Push || run.suspended > 0 || run.refused_entries > 0;
        if several && ended && concerns {
            self.look_who_is_due();
        }
    }

    /// Asks the store which realms are marked as due.
    pub(super) fn look_who_is_due(&mut self) {
        let engine = self.engine.borrow().clone();
        self.side.spawn(async move {
            let now = engine.clock.now();
            match engine.due(now).await {
                Ok(realms) => TaskResult::Due(realms),
                Err(error) => {
                    tracing::error!(%error, "the realms that are due cannot be read: {error}");
                    TaskResult::Nothing
                }
            }
        });
    }

    /// A realm is due now: asked as if it were polled.
    pub(super) fn is_due(&mut self, realm: &RealmId) {
        self.wants(realm, Trigger::Poll);
    }

    /// A run of a realm comes next, after what waits for it already.
    pub(super) fn run_next(&mut self, realm: &RealmId) {
        let work = Work::unasked(Sync::of(realm.clone(), Trigger::Poll));
        let same = |waiting: &mut Work| waiting.joins(&work.act, &work.caller);
        if !self.agenda.newest_waiting(realm).is_some_and(same) {
            self.agenda.push(realm, self.start.clock.now(), work);
        }
    }

    /// A run of a realm is wanted, unless there is one: the end of what is under way is told to the keeper, which looks again.
    pub(super) fn wants(&mut self, realm: &RealmId, trigger: Trigger) {
        let known = self.config.borrow().realms.iter().any(|r| r.id == *realm);
        if known && !self.agenda.has_work(realm) {
            let work = Work::unasked(Sync::of(realm.clone(), trigger));
            self.agenda.push(realm, self.start.clock.now(), work);
        }
    }
}
