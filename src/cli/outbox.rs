//! `outbox` and `backup`.

use std::path::Path;

use super::args::{OutboxCommand, Which};
use super::operator::store_failure;
use super::{Context, json, render, text};
use crate::api::types::{Failure, OutboxAct, OutboxRequest};
use crate::model::{JobState, RealmId};
use crate::store::JobSelection;

pub(super) async fn outbox(context: &Context, what: OutboxCommand) -> Result<u8, Failure> {
    let (act, which) = match what {
        OutboxCommand::List { realm, all } => return list(context, realm, all).await,
        OutboxCommand::Retry(which) => (OutboxAct::Retry, which),
        OutboxCommand::Drop(which) => (OutboxAct::Drop, which),
        OutboxCommand::Hold(which) => (OutboxAct::Hold, which),
        OutboxCommand::Release(which) => (OutboxAct::Release, which),
    };
    let Which {
        jobs,
        realm,
        types,
        all,
    } = which;
    if jobs.is_empty() && realm.is_none() && types.is_empty() && !all {
        return Err(Failure::new(
            "invalid",
            64,
            "which messages? name ids, --realm, --type, or --all",
        ));
    }
    let request = OutboxRequest {
        jobs,
        realm: realm.map(RealmId::from),
        types,
        all,
    };
    let operator = context.operator().await?;
    let touched = operator.outbox(context, act, &request).await?;
    operator.close().await;
    render::talk(&format!(
        "{touched} message{}",
        if touched == 1 { "" } else { "s" }
    ));
    Ok(0)
}

async fn list(context: &Context, realm: Option<String>, all: bool) -> Result<u8, Failure> {
    let store = context.store().await?;
    let states = if all {
        JobState::ALL.to_vec()
    } else {
        vec![
            JobState::Waiting,
            JobState::Sending,
            JobState::Held,
            JobState::Dead,
        ]
    };
    let selection = JobSelection {
        realm: realm.map(RealmId::from),
        states,
        ..JobSelection::default()
    };
    let jobs = store
        .jobs(&selection, i64::MAX)
        .await
        .map_err(|e| store_failure(&e))?;
    if context.json {
        for j in &jobs {
            render::json(&json::job(j));
        }
        return Ok(0);
    }
    if jobs.is_empty() {
        render::talk("nothing waits");
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = jobs
        .iter()
        .map(|j| {
            let next = if j.state == JobState::Waiting {
                text::when(j.next_attempt_at)
            } else {
                String::new()
            };
            vec![
                j.id.to_string(),
                j.r#type.to_string(),
                j.realm.to_string(),
                j.username.clone(),
                j.state.to_string(),
                j.attempts.to_string(),
                next,
                j.last_error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    render::table(
        &[
            "message",
            "type",
            "realm",
            "user",
            "state",
            "tries",
            "next",
            "last error",
        ],
        &rows,
    );
    Ok(0)
}

pub(super) async fn backup(context: &Context, file: &Path) -> Result<u8, Failure> {
    let path = std::path::absolute(file)
        .map_err(|e| Failure::new("invalid", 1, format!("{}: {e}", file.display())))?;
    // Reading needs no lock, so a copy is made beside the daemon; it is written with the daemon's rights only where this process may not.
    let store = context.store().await?;
    store
        .backup(&path, context.clock.now())
        .await
        .map_err(|e| store_failure(&e))?;
    render::talk(&format!(
        "{} is a consistent copy; a daemon that is started on it keeps its messages on hold until `outbox release`",
        path.display()
    ));
    Ok(0)
}
