//! Evidence for who is absent, and the end of the grace period.

use std::collections::{BTreeMap, HashMap};

use super::under_way::Pass;
use crate::directory::Sighting;
use crate::model::{ChangeKind, DirectoryId, JobReason, State, StateReason, UserId, dn};
use crate::plan::decide::{Observation, decide, remove};
use crate::runs::RunFailure;
use crate::runs::weigh::limits;
use crate::sync::realm::session::LOOK_UP;
use crate::sync::run_request::RunRequest;

impl Pass<'_> {
    /// Everybody whom the store holds and the pass did not meet.
    pub(in crate::sync) async fn absent(&mut self, ask: &RunRequest) -> Result<(), RunFailure> {
        let (present, away) = self.reading.index.unseen();
        self.undone_and_gone(&away, ask).await?;
        if present.is_empty() {
            return Ok(());
        }
        // Counts are judged first: a plan that they hold looks nobody up.
        let mut counts = self.found.plan.counts.clone();
        for ids in present.chunks(LOOK_UP) {
            for user in self.setting.held(ids).await?.values() {
                let counts_here = user.state == State::Active && !self.reading.refused_there(user);
                if counts_here && !self.found.leaves_out_as_gone(&self.setting, user) {
                    counts.add(ChangeKind::Suspended);
                }
            }
        }
        let (held, _) = limits(
            &self.setting.engine.store,
            self.setting.row,
            &self.setting.realm.brake,
            self.found.users(),
            &counts,
            self.setting.now,
        )
        .await?;
        // The plan is held by its counts: nobody is looked up.
        let by_counts = held.iter().any(|h| h.limit == "suspended");
        let mut nowhere: BTreeMap<String, i64> = BTreeMap::new();
        for ids in present.chunks(LOOK_UP) {
            if ask.cancel.is_cancelled() {
                return Err(RunFailure::cancelled());
            }
            let mut held = self.setting.held(ids).await?;
            let mut sightings = if by_counts {
                HashMap::new()
            } else {
                self.reading.look_up(ids).await?
            };
            let mut back = vec![];
            for id in ids {
                let Some(user) = held.remove(id).filter(|u| !self.reading.refused_there(u)) else {
                    continue;
                };
                let reason = match sightings.remove(id) {
                    _ if by_counts => None,
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
                        if let Some(container) = container
                            .filter(|_| !self.found.leaves_out_as_gone(&self.setting, &user))
                        {
                            *nowhere.entry(container).or_default() += 1;
                        }
                        Some(StateReason::Deleted)
                    }
                };
                if let Some(decision) = decide(
                    Some(&user),
                    Observation::Gone(reason),
                    &self.found.context(&self.setting),
                ) {
                    self.found.add(decision).await?;
                }
            }
            self.page(back).await?;
            self.look_at_waiting().await?;
        }
        self.sees_others(&nowhere, ask).await
    }

    /// Who was undone stays so while the entry is there; once it is gone, they age like anybody deleted.
    pub(in crate::sync) async fn undone_and_gone(
        &mut self,
        away: &[DirectoryId],
        ask: &RunRequest,
    ) -> Result<(), RunFailure> {
        for ids in away.chunks(LOOK_UP) {
            if ask.cancel.is_cancelled() {
                return Err(RunFailure::cancelled());
            }
            let held = self.setting.held(ids).await?;
            let undone: Vec<DirectoryId> = held
                .values()
                .filter(|u| u.state_reason == Some(StateReason::Undone))
                .filter_map(|u| u.directory_id)
                .collect();
            if undone.is_empty() {
                continue;
            }
            let sightings = self.reading.look_up(&undone).await?;
            for id in undone.iter().filter(|id| !sightings.contains_key(*id)) {
                if let Some(decision) = held.get(id).and_then(|user| {
                    decide(
                        Some(user),
                        Observation::Gone(Some(StateReason::Deleted)),
                        &self.found.context(&self.setting),
                    )
                }) {
                    self.found.add(decision).await?;
                }
            }
        }
        Ok(())
    }

    /// Who has been away for the whole grace period, by the realm's own clock, and is still away.
    pub(in crate::sync) async fn grace_over(&mut self, ask: &RunRequest) -> Result<(), RunFailure> {
        let mut after: Option<UserId> = None;
        loop {
            if ask.cancel.is_cancelled() {
                return Err(RunFailure::cancelled());
            }
            let limit = i64::try_from(LOOK_UP).unwrap_or(1000);
            let users = self
                .setting
                .engine
                .store
                .grace_over(
                    &self.setting.row.id,
                    self.setting.clock_ms,
                    self.setting.realm.policy.grace_ms,
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
                .filter(|id| !self.reading.index.seen(*id))
                .collect();
            let sightings = self.reading.look_up(&ids).await?;
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
                    remove(
                        user,
                        JobReason::GraceOver,
                        &self.found.context(&self.setting),
                    )
                } else {
                    decide(
                        Some(user),
                        Observation::Gone(Some(reason)),
                        &self.found.context(&self.setting),
                    )
                };
                if let Some(decision) = decision {
                    self.found.add(decision).await?;
                }
            }
        }
    }
}
