//! `outbox`: messages on their way out.

use super::args::{OutboxCommand, Which};
use super::operator::store_failure;
use super::{Context, json, render, text};
use crate::acts::{Failure, FailureKind, Outbox, OutboxAct, OutboxRequest};
use crate::clock::Timestamp;
use crate::model::{Job, JobState};
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

async fn list(context: &Context, realm: Option<String>, all: bool) -> Result<u8, Failure> {
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
    let jobs = store
        .jobs(&selection, i64::MAX)
        .await
        .map_err(|e| store_failure(&e))?;
    if context.json {
        for job in &jobs {
            render::json(&json::job(job));
        }
        return Ok(0);
    }
    if jobs.is_empty() {
        render::talk(if all {
            "there are no messages"
        } else {
            "nothing waits"
        });
        return Ok(0);
    }
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
        table_of(&jobs, context.clock.now()),
        context.unsaid(selection.realm.as_ref()),
    );
    Ok(0)
}

/// Rows in which ids are as long as it takes to tell them apart: what the other commands of `outbox` take.
fn table_of(jobs: &[Job], now: Timestamp) -> Vec<Vec<String>> {
    let ids: Vec<String> = jobs.iter().map(|job| job.id.to_string()).collect();
    let length = telling(&ids);
    jobs.iter()
        .zip(&ids)
        .map(|(job, id)| row(job, &id[..length.min(id.len())], now))
        .collect()
}

/// How many characters of these ids differ for all of them; at least the thirteen that tell the millisecond.
fn telling(ids: &[String]) -> usize {
    let mut sorted: Vec<&str> = ids.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let same = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let longest = sorted.windows(2).map(|pair| same(pair[0], pair[1])).max();
    // One more for those that are made meanwhile, and never a bare hyphen at the end.
    let length = longest.map_or(13, |n| n + 2).max(13);
    if ids
        .iter()
        .any(|id| id.as_bytes().get(length - 1) == Some(&b'-'))
    {
        length + 1
    } else {
        length
    }
}

fn row(job: &Job, id: &str, now: Timestamp) -> Vec<String> {
    let next = match job.next_attempt_at.since_ms(now) {
        _ if job.state != JobState::Waiting => String::new(),
        ..1 => "due".to_owned(),
        ms => format!("in {}", text::span(ms)),
    };
    vec![
        id.to_owned(),
        job.r#type.to_string(),
        job.realm.to_string(),
        job.username.clone(),
        job.state.to_string(),
        job.attempts.to_string(),
        next,
        job.last_error.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::telling;

    #[test]
    fn ids_are_as_long_as_it_takes_to_tell_them_apart() {
        let ids = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (a, b, c) = (
            "01a20dd1-f889-7f29-8663-201e37dd52ab",
            "01a20dd1-f889-77b3-888a-3b60221c6aef",
            "01a20dd1-f889-77b3-9ac3-a8bf542f7ced",
        );
        assert_eq!(telling(&ids(&[])), 13);
        assert_eq!(telling(&ids(&[a])), 13);
        // They differ at the 16th character.
        assert_eq!(telling(&ids(&[a, b])), 17);
        assert_eq!(telling(&ids(&[c, a, b])), 21);
        let n = telling(&ids(&["01a20dd1-f889-7f28-1", "01a20dd1-f889-7f29-1"]));
        assert_eq!(n, 20, "no hyphen at the end");
        // The same id twice cannot be told apart, and nothing breaks.
        assert!(telling(&ids(&[a, a])) > 36);
    }
}
