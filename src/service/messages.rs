//! What an administrator does to messages: one function, for the daemon and for a command without one.

use crate::api::types::{Failure, OutboxAct, OutboxRequest};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::model::{JobId, JobState, RealmId};
use crate::store::{Act, JobSelection, Store, StoreError};

/// Retries, drops, holds or releases messages; gives how many. `failed` puts the store's errors into words.
///
/// # Errors
/// A failure with `not-found` or `refused` where an id fits no message for which that can be done, or several.
pub async fn act(
    store: &Store,
    config: &Config,
    act: OutboxAct,
    which: &OutboxRequest,
    now: Timestamp,
    failed: fn(&StoreError) -> Failure,
) -> Result<u64, Failure> {
    let states = match act {
        OutboxAct::Retry => vec![JobState::Waiting, JobState::Dead, JobState::Final],
        OutboxAct::Drop => vec![
            JobState::Waiting,
            JobState::Held,
            JobState::Dead,
            JobState::Final,
        ],
        OutboxAct::Hold => vec![JobState::Waiting],
        OutboxAct::Release => vec![JobState::Held],
    };
    let open = JobSelection {
        realm: which.realm.clone(),
        types: which.types.clone(),
        states,
        ..JobSelection::default()
    };
    let mut ids: Vec<JobId> = Vec::with_capacity(which.jobs.len());
    for prefix in &which.jobs {
        let fitting = store.job_ids(prefix, &open).await;
        let id = the_one(prefix, &fitting.map_err(|e| failed(&e))?)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let act = match act {
        OutboxAct::Retry => Act::Retry {
            retry_for_ms: retry_for_ms(config, which.realm.as_ref())?,
        },
        OutboxAct::Drop => Act::Drop,
        OutboxAct::Hold => Act::Hold,
        OutboxAct::Release => Act::Release,
    };
    let selection = JobSelection { ids, ..open };
    let touched = store
        .outbox_act(act, &selection, now)
        .await
        .map_err(|e| failed(&e))?;
    Ok(touched.len() as u64)
}

/// `retry-for` of what is tried again.
fn retry_for_ms(config: &Config, realm: Option<&RealmId>) -> Result<i64, Failure> {
    let realms = &config.realms;
    let own = realms
        .iter()
        .find(|r| realm == Some(&r.id))
        .and_then(|r| r.delivery.as_ref());
    own.or(config.delivery.as_ref())
        .or_else(|| realms.iter().find_map(|r| r.delivery.as_ref()))
        .map(|delivery| delivery.retry_for_ms)
        .ok_or_else(|| {
            let why = "no [delivery] is configured: there is nowhere to send to";
            Failure::new("refused", 1, why)
        })
}

/// The one message that is meant, of those whose ids begin so.
fn the_one(prefix: &str, fitting: &[JobId]) -> Result<JobId, Failure> {
    match fitting {
        [id] => Ok(*id),
        [] => Err(Failure::new(
            "not-found",
            1,
            format!(
                "no message for which that can be done begins with `{prefix}` (at least four characters); `realmsync outbox list` shows them"
            ),
        )),
        _ => Err(Failure::new(
            "refused",
            1,
            format!("several messages begin with `{prefix}`: give more of the id"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_named_by_what_only_its_id_begins_with() {
        let ids = [1, 2].map(|n| JobId(uuid::Uuid::from_u128(n)));
        assert_eq!(the_one("0000", &ids[..1]).expect("one"), ids[0]);
        assert_eq!(the_one("0000", &ids).expect_err("two").code, "refused");
        assert_eq!(the_one("ff", &[]).expect_err("none").code, "not-found");
    }
}
