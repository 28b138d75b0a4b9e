//! The whole story of a user: each value with its origin, what is refused, what a held plan would change, what waits, and what was.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::model::{Change, Job, JobState, RealmRow, Run, RunId, User};
use crate::store::{JobSelection, RefusedRow, Store, StoreError};

/// Changes looked through for where a value came from.
const HISTORY: i64 = 500;

/// Changes of the history whose runs people are told.
pub const TOLD: usize = 20;

/// Changes read at once of a held plan.
const BATCH: i64 = 1000;

/// Messages of the user that are told.
const MESSAGES: i64 = 50;

/// Everything that the store knows of a user.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The user.
    pub user: User,
    /// The user's realm.
    pub row: Option<RealmRow>,
    /// When a run of the realm last succeeded.
    pub last_success: Option<Timestamp>,
    /// `None`: the realm is not in the configuration.
    pub grace_ms: Option<i64>,
    /// Newest first.
    pub history: Vec<Change>,
    /// The runs of those changes that are still there.
    pub runs: HashMap<RunId, Run>,
    /// What of the user's entry is refused.
    pub refused: Vec<RefusedRow>,
    /// What a held plan would change.
    pub planned: Vec<Change>,
    /// Messages that are not done.
    pub jobs: Vec<Job>,
    /// How many digits tell the user's id from all others.
    pub user_digits: usize,
    /// How many digits tell the ids of the newest runs, and of the held one, from all others.
    pub run_digits: usize,
}

/// Gathers what is known of a user.
pub async fn gather(store: &Store, config: &Config, user: User) -> Result<Explanation, StoreError> {
    let history = store.changes_of_user(user.id, HISTORY).await?;
    let mut runs = HashMap::new();
    for id in history.iter().filter_map(|c| c.run) {
        if !runs.contains_key(&id)
            && let Ok(run) = store.run(&id.to_string()).await
        {
            runs.insert(id, run);
        }
    }
    let refused = match user.directory_id {
        Some(id) => store.refused_of_entry(&user.realm, id).await?,
        None => vec![],
    };
    let open = JobSelection {
        user: Some(user.id),
        states: vec![
            JobState::Waiting,
            JobState::Sending,
            JobState::Held,
            JobState::Dead,
            JobState::Final,
        ],
        ..JobSelection::default()
    };
    let jobs = store.jobs(&open, MESSAGES).await?;
    let row = store.realm(&user.realm).await?;
    let mut planned = vec![];
    if let Some(held) = row.as_ref().and_then(|row| row.held) {
        let mut after = 0;
        loop {
            let changes = store.changes(held, after, BATCH).await?;
            let Some(last) = changes.last() else { break };
            after = last.seq;
            planned.extend(changes.into_iter().filter(|c| c.user == user.id));
        }
    }
    let user_digits = store.digits_of_user(user.id).await?;
    let mut named: Vec<RunId> = history.iter().filter_map(|c| c.run).take(TOLD).collect();
    named.extend(row.as_ref().and_then(|row| row.held));
    named.dedup();
    let run_digits = store.digits_of_runs(&named).await?;
    let last_success = store.last_success(&user.realm).await?;
    let realm = config.realms.iter().find(|r| r.id == user.realm);
    Ok(Explanation {
        grace_ms: realm.map(|r| r.policy.grace_ms),
        user,
        row,
        last_success,
        history,
        runs,
        refused,
        planned,
        jobs,
        user_digits,
        run_digits,
    })
}
