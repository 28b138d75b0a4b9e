//! How the daemon follows its realms by deltas: it starts their keepers, hears what they say, and counts and tells their runs.

use std::sync::Arc;

use super::Daemon;
use super::keepers::FromKeeper;
use crate::config::ChangesWay;
use crate::directory::Way;
use crate::model::{Mode, Outcome, Run, Trigger};
use crate::service::follow::{KeeperNews, SILENCE};
use crate::service::summary::tell;

impl Daemon {
    /// Starts keepers for realms that have none.
    pub(super) fn keep(&mut self) {
        if self.undeclared || !self.keepers.may_start() {
            return;
        }
        let config = self.config.borrow().clone();
        for realm in &config.realms {
            if realm.directory.changes == ChangesWay::Full || self.keepers.has(&realm.id) {
                continue;
            }
            let engine = self.engine.borrow().clone();
            let pulse = self
                .life
                .part(format!("what keeps {} up to date", realm.id), SILENCE);
            let (wake, cancel) = (Arc::clone(&self.wake), self.stop.child_token());
            self.keepers.start(engine, realm, wake, pulse, cancel);
        }
    }

    /// What a keeper says.
    pub(super) fn heard(&mut self, heard: FromKeeper) {
        match heard {
            FromKeeper::Ended => {}
            FromKeeper::News(KeeperNews::Ran(run)) => {
                tell(Some(&run));
                self.count(&run);
                self.keepers.turn(&run.realm, Some(&run));
                self.let_go(&run);
            }
            FromKeeper::News(KeeperNews::Wants(realm, trigger)) => self.wants(&realm, trigger),
        }
    }

    /// Counts a run, and remembers whether a plan waits.
    pub(super) fn count(&mut self, run: &Run) {
        match run.outcome {
            Outcome::Held => self.held.insert(run.realm.clone()),
            Outcome::Failed | Outcome::Cancelled | Outcome::Running => false,
            _ => self.held.remove(&run.realm),
        };
        self.metrics.run_ended(run);
        if run.mode == Mode::Delta {
            let way = match (run.trigger, self.keepers.seen(&run.realm).way) {
                (Trigger::Push, _) => "push",
                (_, way) => way.map_or("unknown", asked_by),
            };
            self.metrics.delta_ended(run, way);
        }
    }

    /// What a poll found, said where it is news: a directory that is down for a night is no line every ten seconds.
    pub(super) fn polled(&mut self, run: &Run) {
        let realm = &run.realm;
        match run.outcome {
            Outcome::Failed => {
                if self.keepers.failed(realm, run.error_code) {
                    tell(Some(run));
                }
                return;
            }
            Outcome::Held if self.held.contains(realm) => {}
            Outcome::Unchanged => tracing::debug!(%realm, "{realm}: polled, nothing changed"),
            _ => tell(Some(run)),
        }
        if self.keepers.answers_again(realm) {
            tracing::info!(%realm, "{realm}: the directory can be polled again");
        }
    }
}

/// The word for how a run that was not pushed asked for its delta.
fn asked_by(way: Way) -> &'static str {
    match way {
        // A delta of a realm that lives by push, on schedule or by command, asks as if it polled.
        Way::Push => "poll",
        Way::Syncrepl => "syncrepl",
        Way::DirSync => "dirsync",
        Way::Timestamp => "timestamp",
    }
}
