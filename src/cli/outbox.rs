//! `outbox`: messages on their way out.

use super::args::{OutboxCommand, Which};
use super::operator::store_failure;
use super::render::Table;
use super::{CommandContext, render, text};
use crate::acts::{ActFailure, FailureKind, Outbox, OutboxAct, OutboxRequest};
use crate::clock::Timestamp;
use crate::model::ids::telling;
use crate::model::{Job, JobState};
use crate::store::JobSelection;
use crate::story::messages::MessageStory;

pub(super) async fn outbox(
    context: &CommandContext,
    what: OutboxCommand,
) -> Result<u8, ActFailure> {
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
        return Err(ActFailure::new(
            FailureKind::Usage,
            "no messages are named: give ids, --realm, --type, or --all",
        ));
    }
    let operator = context.operator().await?;
    let realm = match operator.alone() {
        Some(at) => context.known(at.store(), realm).await?,
        // A realm that only the store knows (orphaned) counts as well: the daemon's `status` lists them all.
        None => context.known_to_the_daemon(realm).await?,
    };
    let which = OutboxRequest {
        jobs,
        realm,
        types,
        all,
    };
    let touched = operator.act(Outbox { act, which }).await?.jobs;
    operator.close().await;
    let did = match act {
        OutboxAct::Retry => "will be tried again now",
        OutboxAct::Drop => "dropped",
        OutboxAct::Hold => "put on hold",
        OutboxAct::Release => "released",
    };
    render::talk(&format!(
        "{} {did}",
        text::count(i64::try_from(touched).unwrap_or(i64::MAX), "message")
    ));
    Ok(0)
}

async fn list(
    context: &CommandContext,
    realm: Option<String>,
    all: bool,
) -> Result<u8, ActFailure> {
    let store = context.store().await?;
    let realm = context.known(&store, realm).await?;
    let states = if all {
        JobState::ALL.to_vec()
    } else {
        vec![
            JobState::Waiting,
            JobState::Sending,
            JobState::Held,
            JobState::Final,
            JobState::Dead,
        ]
    };
    let selection = JobSelection {
        realm,
        states,
        ..JobSelection::default()
    };
    if context.json {
        let each = |job: Job| render::json(&MessageStory::from(&job));
        let read = store.jobs_each(&selection, each).await;
        return read.map(|()| 0).map_err(|e| store_failure(&e));
    }
    // How long ids are shown only all of them can say.
    let mut ids = Vec::new();
    let read = store.jobs_each(&selection, |job| ids.push(job.id.0)).await;
    read.map_err(|e| store_failure(&e))?;
    let digits = telling(ids);
    let now = context.clock.now();
    let mut table = Table::new(
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
        context.unsaid(selection.realm.as_ref()),
    );
    let each = |job| table.row(row(&job, digits, now));
    let read = store.jobs_each(&selection, each).await;
    read.map_err(|e| store_failure(&e))?;
    if !table.end() {
        render::talk(if all {
            "there are no messages"
        } else {
            "nothing waits"
        });
    }
    Ok(0)
}

/// A row; ids are as long as it takes to tell those of the list apart.
fn row(job: &Job, digits: usize, now: Timestamp) -> Vec<String> {
    let next = match job.next_attempt_at.since_ms(now) {
        _ if job.state != JobState::Waiting => String::new(),
        ..1 => "due".to_owned(),
        ms => format!("in {}", text::span(ms)),
    };
    vec![
        format!("{:#.digits$}", job.id),
        job.r#type.to_string(),
        job.realm.to_string(),
        job.username.clone(),
        job.state.to_string(),
        job.attempts.to_string(),
        next,
        job.last_error.clone().unwrap_or_default(),
    ]
}
