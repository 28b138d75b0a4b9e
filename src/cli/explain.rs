//! `explain`: the whole story of a user, or of why there is none.

mod origin;
mod story;

use serde_json::json;

use super::operator::store_failure;
use super::{Context, render, text, users};
use crate::acts::Failure;
use crate::model::{Job, JobState, RealmId, RealmRow, Refusal, User, person};
use crate::store::{JobSelection, RefusedRow, Store};
use story::Story;

/// Changes looked through for where a value came from.
const HISTORY: i64 = 500;

/// Changes read at once of a held plan.
const BATCH: i64 = 1000;

pub(super) async fn explain(
    context: &Context,
    who: &str,
    realm: Option<String>,
    show_phones: bool,
) -> Result<u8, Failure> {
    context.compare_file().await;
    let store = context.store().await?;
    let scope = context.known(&store, realm.clone()).await?;
    let found = store
        .find_users(who, scope.as_ref())
        .await
        .map_err(|e| store_failure(&e))?;
    if found.is_empty() {
        return missing(context, &store, who, scope.as_ref()).await;
    }
    let user = users::one(&store, who, realm).await?;
    let story = gather(context, &store, user)
        .await
        .map_err(|e| store_failure(&e))?;
    if context.json {
        let object = super::json::users(context, &store, std::slice::from_ref(&story.user))
            .await
            .map_err(|e| store_failure(&e))?
            .remove(0);
        render::json(&json!({
            "user": object,
            "values": story.values(context).iter().map(origin::Origin::json).collect::<Vec<_>>(),
            "refused": story.refused.iter().map(super::json::refused).collect::<Vec<_>>(),
            "planned": story.planned,
            "messages": story.jobs.iter().map(super::json::job).collect::<Vec<_>>(),
            "history": story.history,
        }));
    } else {
        story.tell(context, show_phones);
    }
    Ok(0)
}

async fn gather(
    context: &Context,
    store: &Store,
    user: User,
) -> Result<Story, crate::store::StoreError> {
    let history = store.changes_of_user(user.id, HISTORY).await?;
    let mut runs = std::collections::HashMap::new();
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
    let open = vec![
        JobState::Waiting,
        JobState::Sending,
        JobState::Held,
        JobState::Dead,
    ];
    let jobs: Vec<Job> = store
        .jobs(
            &JobSelection {
                user: Some(user.id),
                states: open,
                ..JobSelection::default()
            },
            50,
        )
        .await?;
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
    let last = store.last_success(&user.realm).await?;
    let grace_ms = context
        .config
        .realms
        .iter()
        .find(|r| r.id == user.realm)
        .map(|r| r.policy.grace_ms);
    Ok(Story {
        user,
        row,
        last_success: last,
        grace_ms,
        history,
        runs,
        refused,
        planned,
        jobs,
    })
}

/// Why somebody is not there.
async fn missing(
    context: &Context,
    store: &Store,
    who: &str,
    realm: Option<&RealmId>,
) -> Result<u8, Failure> {
    let mut hits: Vec<RefusedRow> = vec![];
    let each = |row: RefusedRow| {
        if names(&row.refusal, who) {
            hits.push(row);
        }
    };
    store
        .refused_each(realm, each)
        .await
        .map_err(|e| store_failure(&e))?;
    if context.json {
        for row in &hits {
            render::json(&super::json::refused(row));
        }
    } else {
        for row in &hits {
            let what = row
                .refusal
                .attribute
                .as_deref()
                .map(|a| format!(" ({a})"))
                .unwrap_or_default();
            render::line(&format!(
                "{} in realm {} is no user{what}: {} (since {})",
                text::one_line(&row.refusal.dn),
                row.realm,
                row.refusal.reason,
                text::when(row.since)
            ));
        }
    }
    let renamed = renamed(context, store, who, realm).await?;
    if renamed || !hits.is_empty() {
        return Ok(0);
    }
    let realms = store.realms().await.map_err(|e| store_failure(&e))?;
    let asked: Vec<&RealmRow> = realms
        .iter()
        .filter(|r| realm.is_none_or(|id| r.id == *id))
        .collect();
    let mut message = format!("there is no user `{who}`, and nothing refused is named so");
    for row in &asked {
        message.push_str(&format!("\n  {}", absent_from(row)));
    }
    let to = match (realm, asked.as_slice()) {
        (Some(id), _) => format!(" {id}"),
        (None, [_] | []) => String::new(),
        (None, [first, ..]) => format!(" {}", first.id),
    };
    let code = render::failure(&message, 1);
    render::hint(&format!(
        "the entry may be outside of base or filter, or hidden from the account: `realmsync sync{to} --user {who}` asks the directory now; `realmsync users list --state removed` shows who was removed"
    ));
    Ok(code)
}

/// Whether somebody had this name once, and who that is now.
async fn renamed(
    context: &Context,
    store: &Store,
    who: &str,
    realm: Option<&RealmId>,
) -> Result<bool, Failure> {
    let changes = store
        .renamed_from(who, realm)
        .await
        .map_err(|e| store_failure(&e))?;
    for change in &changes {
        if context.json {
            render::json(change);
            continue;
        }
        let now = change.username.as_deref().unwrap_or("(no name)");
        render::line(&format!(
            "{} in realm {} is called {} since {} (run {})",
            text::one_line(who),
            change.realm,
            text::one_line(now),
            text::when(change.at),
            change
                .run
                .map_or_else(|| "none".to_owned(), |run| format!("{run:#}")),
        ));
    }
    if let (Some(newest), false) = (changes.first(), context.json) {
        render::hint(&format!(
            "`realmsync explain {:#}` tells the rest",
            newest.user
        ));
    }
    Ok(!changes.is_empty())
}

/// What is known of a realm in which somebody is not.
fn absent_from(row: &RealmRow) -> String {
    let id = &row.id;
    if row.orphaned {
        return format!("{id} is not in the configuration any more, and not read");
    }
    let seen = match row.last_complete_at {
        Some(at) => format!(
            "{id} was read completely at {} without such an entry",
            text::when(at)
        ),
        None => format!("{id} was never read completely"),
    };
    let paused = if row.paused { "; it is paused" } else { "" };
    let held = row
        .held
        .map(|run| format!("; plan {run:#} is held, and may create this user"))
        .unwrap_or_default();
    format!("{seen}{paused}{held}")
}

/// Whether a refusal is of somebody of this name, or of an entry whose DN begins so.
fn names(refusal: &Refusal, who: &str) -> bool {
    let key = person::fold_name(who.trim());
    let dn = person::fold_name(&refusal.dn);
    let value = dn
        .split(',')
        .next()
        .and_then(|rdn| rdn.split_once('='))
        .map(|(_, value)| value.trim());
    refusal
        .username
        .as_deref()
        .is_some_and(|n| person::fold_name(n) == key)
        || dn == key
        || value == Some(key.as_str())
}
