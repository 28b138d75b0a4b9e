//! `status`: how every realm stands. Takes no lock, so it may be asked as often as one likes.

use std::collections::BTreeMap;

use super::operator::store_failure;
use super::{Context, render, text};
use crate::api::types::{Failure, RealmStatus};
use crate::service::status::gather;

pub(super) async fn status(context: &Context) -> Result<u8, Failure> {
    let (realms, daemon) = if let Some(client) = context.daemon().await {
        let answer = client.status().await?;
        (answer.realms, Some(answer.daemon))
    } else {
        let store = context.store().await?;
        (
            gather(
                &store,
                &context.config,
                &BTreeMap::new(),
                context.clock.now(),
            )
            .await
            .map_err(|e| store_failure(&e))?,
            None,
        )
    };
    if context.json {
        for one in &realms {
            render::json(one);
        }
        return Ok(0);
    }
    match &daemon {
        Some(d) => {
            render::line(&format!(
                "daemon {} (process {}) since {}, by {}",
                d.version,
                d.pid,
                text::when(d.started_at),
                d.config.display()
            ));
            if let Some(error) = &d.reload_error {
                render::line(&format!(
                    "  the last reload was refused, the old configuration is in force: {error}"
                ));
            }
        }
        None => render::line("no daemon answers; this is what the store says"),
    }
    for realm in &realms {
        show(context, realm);
    }
    Ok(0)
}

fn show(context: &Context, r: &RealmStatus) {
    let now = context.clock.now();
    let mut marks = vec![];
    if r.paused {
        marks.push(r.paused_until.map_or_else(
            || "paused".to_owned(),
            |t| format!("paused until {}", text::when(t)),
        ));
    }
    if r.orphaned {
        marks.push("orphaned: not in the configuration any more".to_owned());
    }
    if r.due {
        marks.push("due".to_owned());
    }
    render::line("");
    render::line(&format!(
        "{}{}",
        render::paint("1", r.realm.as_str()),
        if marks.is_empty() {
            String::new()
        } else {
            format!(" ({})", marks.join(", "))
        }
    ));
    let counts = |map: &BTreeMap<String, i64>| {
        map.iter()
            .filter(|(_, n)| **n > 0)
            .map(|(k, n)| format!("{n} {k}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let success = r.last_success_at.map_or_else(
        || "never".to_owned(),
        |t| format!("{} ago", text::span(now.since_ms(t))),
    );
    render::line(&format!(
        "  last success  {success}{}",
        r.last_outcome
            .map(|o| format!("; last outcome {o}"))
            .unwrap_or_default()
    ));
    if let Some(error) = &r.last_error {
        render::line(&format!("  last error    {error}"));
    }
    if let Some(next) = r.next_run_at {
        render::line(&format!("  next run      {}", text::when(next)));
    }
    if let Some(run) = &r.running {
        render::line(&format!(
            "  running       {} read in {}",
            run.seen,
            text::span(now.since_ms(run.since))
        ));
    }
    render::line(&format!("  users         {}", counts(&r.users)));
    if let Some(held) = r.held {
        render::line(&format!(
            "  {}          {held}: `realmsync runs show {held}`",
            render::paint("33", "held")
        ));
    }
    render::line(&format!("  servers       {}", r.servers.join(", ")));
    let outbox = counts(&r.outbox);
    render::line(&format!(
        "  outbox        {}",
        if outbox.is_empty() { "empty" } else { &outbox }
    ));
}
