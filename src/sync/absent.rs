//! Evidence for who is absent, and the end of the grace period.

use std::collections::{BTreeMap, HashMap};

use super::Ask;
use super::pass::{LOOK_UP, Pass};
use super::prepare::PassError;
use crate::directory::Sighting;
use crate::model::dn;
use crate::model::{ChangeKind, DirectoryId, JobReason, State, StateReason, User, UserId};
use crate::plan::decide::{Seen, decide, remove};
use crate::runs::weigh::limits;

impl Pass<'_> {
    /// Everybody whom the store holds and the pass did not meet.
    pub(super) async fn absent(&mut self, ask: &Ask) -> Result<(), PassError> {
        let (present, away) = self.index.unseen();
        self.undone_and_gone(&away, ask).await?;
        if present.is_empty() {
            return Ok(());
        }
        // Counts are judged first: a plan that they hold looks nobody up.
        let mut counts = self.plan.counts.clone();
        for ids in present.chunks(LOOK_UP) {
            for user in self.held(ids).await?.values() {
                let counts_here = user.state == State::Active && !self.refused_there(user);
                if counts_here && !self.leaves_out_as_gone(user) {
                    counts.add(ChangeKind::Suspended);
                }
            }
        }
        let (held, _) = limits(
            &self.engine.store,
            self.row,
            &self.realm.brake,
            self.users(),
            &counts,
            self.now,
        )
        .await?;
        self.not_looked_up = held.iter().any(|h| h.limit == "suspended");
        let mut nowhere: BTreeMap<String, i64> = BTreeMap::new();
        for ids in present.chunks(LOOK_UP) {
            if ask.cancel.is_cancelled() {
                return Err(PassError::cancelled());
            }
            let mut held = self.held(ids).await?;
            let mut sightings = if self.not_looked_up {
                HashMap::new()
            } else {
                self.look_up(ids).await?
            };
            let mut back = vec![];
            for id in ids {
                let Some(user) = held.remove(id).filter(|u| !self.refused_there(u)) else {
                    continue;
                };
                let reason = match sightings.remove(id) {
                    _ if self.not_looked_up => None,
                    Some(Sighting::InScope(entry)) => {
                        back.push(entry);
                        continue;
                    }
                    Some(Sighting::OutOfScope { .. }) => Some(StateReason::OutOfScope),
                    None => {
                        if self.stands_there(&user).await? {
                            continue;
                        }
                        let container = user.dn.as_deref().and_then(dn::container);
                        if let Some(container) =
                            container.filter(|_| !self.leaves_out_as_gone(&user))
                        {
                            *nowhere.entry(container).or_default() += 1;
                        }
                        Some(StateReason::Deleted)
                    }
                };
                if let Some(decision) = decide(Some(&user), Seen::Gone(reason), &self.context()) {
                    self.add(decision).await?;
                }
            }
            self.page(back).await?;
            self.look_at_waiting().await?;
        }
        self.sees_others(&nowhere, ask).await
    }

    /// Whether it was rejected to suspend somebody who is absent.
    fn leaves_out_as_gone(&self, user: &User) -> bool {
        if self.plan.rejected.changes.is_empty() {
            return false;
        }
        decide(Some(user), Seen::Gone(None), &self.context())
            .is_some_and(|decision| self.plan.rejected.leaves_out(&decision))
    }

    /// Refused is not absent: an entry without a readable id stands where this user's stood.
    fn refused_there(&self, user: &User) -> bool {
        user.dn.as_ref().is_some_and(|dn| self.unknown.contains(dn))
    }

    /// Who was undone stays so while the entry is there; once it is gone, they age like anybody deleted.
    pub(super) async fn undone_and_gone(
        &mut self,
        away: &[DirectoryId],
        ask: &Ask,
    ) -> Result<(), PassError> {
        for ids in away.chunks(LOOK_UP) {
            if ask.cancel.is_cancelled() {
                return Err(PassError::cancelled());
            }
            let held = self.held(ids).await?;
            let undone: Vec<DirectoryId> = held
                .values()
                .filter(|u| u.state_reason == Some(StateReason::Undone))
                .filter_map(|u| u.directory_id)
                .collect();
            if undone.is_empty() {
                continue;
            }
            let sightings = self.look_up(&undone).await?;
            for id in undone.iter().filter(|id| !sightings.contains_key(*id)) {
                if let Some(decision) = held.get(id).and_then(|user| {
                    decide(
                        Some(user),
                        Seen::Gone(Some(StateReason::Deleted)),
                        &self.context(),
                    )
                }) {
                    self.add(decision).await?;
                }
            }
        }
        Ok(())
    }

    /// Who has been away for the whole grace period, by the realm's own clock, and is still away.
    pub(super) async fn grace_over(&mut self, ask: &Ask) -> Result<(), PassError> {
        let mut after: Option<UserId> = None;
        loop {
            if ask.cancel.is_cancelled() {
                return Err(PassError::cancelled());
            }
            let limit = i64::try_from(LOOK_UP).unwrap_or(1000);
            let users = self
                .engine
                .store
                .grace_over(
                    &self.row.id,
                    self.clock_ms,
                    self.realm.policy.grace_ms,
                    after,
                    limit,
                )
                .await?;
            let Some(last) = users.last() else {
                return Ok(());
            };
            after = Some(last.id);
            let ids: Vec<DirectoryId> = users
                .iter()
                .filter_map(|u| u.directory_id)
                .filter(|id| !self.index.seen(*id))
                .collect();
            let sightings = self.look_up(&ids).await?;
            for user in users
                .iter()
                .filter(|u| u.directory_id.is_some_and(|id| ids.contains(&id)))
            {
                let found = user.directory_id.and_then(|id| sightings.get(&id));
                let reason = match found {
                    // It came back behind the page: the next pass restores it.
                    Some(Sighting::InScope(_)) => continue,
                    Some(Sighting::OutOfScope { .. }) => StateReason::OutOfScope,
                    None => StateReason::Deleted,
                };
                let decision = if user.state_reason == Some(reason) {
                    remove(user, JobReason::GraceOver, &self.context())
                } else {
                    decide(Some(user), Seen::Gone(Some(reason)), &self.context())
                };
                if let Some(decision) = decision {
                    self.add(decision).await?;
                }
            }
        }
    }
}
