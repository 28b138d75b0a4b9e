//! Evidence for who is absent, and the end of the grace period.

use std::collections::{BTreeMap, HashMap};

use super::evidence::{nobody_seen, stands_there};
use super::found::Found;
use super::read::{look_at_page, look_at_waiting};
use super::reading::Reading;
use super::setting::Setting;
use crate::directory::Sighting;
use crate::model::{ChangeKind, DirectoryId, JobReason, State, StateReason, UserId, dn};
use crate::plan::decide::{Observation, decide, remove};
use crate::runs::RunFailure;
use crate::runs::weigh::limits;
use crate::sync::realm::session::LOOK_UP;
use crate::sync::run_request::RunRequest;

/// Everybody whom the store holds and the pass did not meet is looked up by id, and decided about. Needs the whole index.
pub(super) async fn absent(
    setting: &Setting<'_>,
    reading: &mut Reading,
    found: &mut Found,
    ask: &RunRequest,
) -> Result<(), RunFailure> {
    let (present, away) = reading.index.unseen();
    undone_and_gone(setting, reading, found, &away, ask).await?;
    if present.is_empty() {
        return Ok(());
    }
    // Counts are judged first: a plan that they hold looks nobody up.
    let mut counts = found.plan.counts.clone();
    for ids in present.chunks(LOOK_UP) {
        for user in setting.held(ids).await?.values() {
            let counts_here = user.state == State::Active && !reading.refused_there(user);
            if counts_here && !found.leaves_out_as_gone(setting, user) {
                counts.add(ChangeKind::Suspended);
            }
        }
    }
    let (held, _) = limits(
        setting.store(),
        setting.row,
        &setting.realm.brake,
        found.users(),
        &counts,
        setting.now,
    )
    .await?;
    // The plan is held by its counts: nobody is looked up.
    let by_counts = held.iter().any(|h| h.limit == "suspended");
    let mut nowhere: BTreeMap<String, i64> = BTreeMap::new();
    for ids in present.chunks(LOOK_UP) {
        if ask.cancel.is_cancelled() {
            return Err(RunFailure::cancelled());
        }
        let mut held = setting.held(ids).await?;
        let mut sightings = if by_counts {
            HashMap::new()
        } else {
            reading.look_up(ids).await?
        };
        let mut back = vec![];
        for id in ids {
            let Some(user) = held.remove(id).filter(|u| !reading.refused_there(u)) else {
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
                    if stands_there(reading, found, &user).await? {
                        continue;
                    }
                    let container = user.dn.as_deref().and_then(dn::container);
                    if let Some(container) =
                        container.filter(|_| !found.leaves_out_as_gone(setting, &user))
                    {
                        *nowhere.entry(container).or_default() += 1;
                    }
                    Some(StateReason::Deleted)
                }
            };
            found.decide_gone(setting, &user, reason).await?;
        }
        look_at_page(setting, reading, found, back).await?;
        look_at_waiting(setting, reading, found).await?;
    }
    let unseen = nobody_seen(setting, reading, &nowhere, ask).await?;
    found.gone_containers.extend(unseen);
    Ok(())
}

/// Who was undone stays so while the entry is there; once it is gone, they age like anybody deleted.
async fn undone_and_gone(
    setting: &Setting<'_>,
    reading: &mut Reading,
    found: &mut Found,
    away: &[DirectoryId],
    ask: &RunRequest,
) -> Result<(), RunFailure> {
    for ids in away.chunks(LOOK_UP) {
        if ask.cancel.is_cancelled() {
            return Err(RunFailure::cancelled());
        }
        let held = setting.held(ids).await?;
        let undone: Vec<DirectoryId> = held
            .values()
            .filter(|u| u.state_reason == Some(StateReason::Undone))
            .filter_map(|u| u.directory_id)
            .collect();
        if undone.is_empty() {
            continue;
        }
        let sightings = reading.look_up(&undone).await?;
        for id in undone.iter().filter(|id| !sightings.contains_key(*id)) {
            if let Some(user) = held.get(id) {
                found
                    .decide_gone(setting, user, Some(StateReason::Deleted))
                    .await?;
            }
        }
    }
    Ok(())
}

/// Who has been away for the whole grace period, by the realm's own clock, and is still away.
pub(super) async fn grace_over(
    setting: &Setting<'_>,
    reading: &mut Reading,
    found: &mut Found,
    ask: &RunRequest,
) -> Result<(), RunFailure> {
    let mut after: Option<UserId> = None;
    loop {
        if ask.cancel.is_cancelled() {
            return Err(RunFailure::cancelled());
        }
        let limit = i64::try_from(LOOK_UP).unwrap_or(1000);
        let users = setting
            .store()
            .grace_over(
                setting.id(),
                setting.clock_ms,
                setting.realm.policy.grace_ms,
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
            .filter(|id| !reading.index.seen(*id))
            .collect();
        let sightings = reading.look_up(&ids).await?;
        for user in users
            .iter()
            .filter(|u| u.directory_id.is_some_and(|id| ids.contains(&id)))
        {
            let sighting = user.directory_id.and_then(|id| sightings.get(&id));
            let reason = match sighting {
                // It came back behind the page: the next pass restores it.
                Some(Sighting::InScope(_)) => continue,
                Some(Sighting::OutOfScope { .. }) => StateReason::OutOfScope,
                None => StateReason::Deleted,
            };
            let decision = if user.state_reason == Some(reason) {
                remove(user, JobReason::GraceOver, &found.context(setting))
            } else {
                let seen = Observation::Gone(Some(reason));
                decide(Some(user), seen, &found.context(setting))
            };
            if let Some(decision) = decision {
                found.add(decision).await?;
            }
        }
    }
}
