//! `explain`: the whole story of a user, or of why there is none.

mod origin;
mod words;

use super::operator::store_failure;
use super::{CommandContext, render, text, users};
use crate::acts::ActFailure;
use crate::model::{RealmId, RealmKind, RealmRow};
use crate::store::Store;
use crate::story::explain::gather;
use crate::story::missing::{Missing, look};
use crate::story::refused::RefusedStory;
use words::ExplainText;

pub(super) async fn explain(
    context: &CommandContext,
    who: &str,
    realm: Option<String>,
    show_phones: bool,
) -> Result<u8, ActFailure> {
    context.compare_file("").await;
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
    let story = gather(&store, &context.config, user)
        .await
        .map_err(|e| store_failure(&e))?;
    if context.json {
        let now = context.clock.now();
        let object = story.object(&store, &context.config, now).await;
        render::json(&object.map_err(|e| store_failure(&e))?);
    } else {
        let words = ExplainText {
            story: &story,
            config: &context.config,
            show_phones,
        };
        words.tell();
        render::hint(&format!(
            "`realmsync audit --user {0:#}` tells what was done by hand and on the page, `realmsync verifications --user {0:#}` what services were answered",
            story.user.id
        ));
    }
    Ok(0)
}

/// Why somebody is not there.
async fn missing(
    context: &CommandContext,
    store: &Store,
    who: &str,
    realm: Option<&RealmId>,
) -> Result<u8, ActFailure> {
    let missing = look(store, who, realm)
        .await
        .map_err(|e| store_failure(&e))?;
    if missing.is_unknown() {
        return Ok(unknown(&missing, who, realm));
    }
    if context.json {
        for row in missing.refused {
            render::json(&RefusedStory::from(row));
        }
        missing.renamed.iter().for_each(render::json);
        return Ok(0);
    }
    for row in &missing.refused {
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
    for change in &missing.renamed {
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
    if let Some(newest) = missing.renamed.first() {
        render::hint(&format!(
            "`realmsync explain {:#}` tells the rest",
            newest.user
        ));
    }
    Ok(0)
}

/// Nothing is known of somebody but where it was looked.
fn unknown(missing: &Missing, who: &str, realm: Option<&RealmId>) -> u8 {
    let mut message = format!("there is no user `{who}`, and nothing refused is named so");
    for row in &missing.realms {
        message.push_str(&format!("\n  {}", absent_from(row)));
    }
    let to = match (realm, missing.realms.as_slice()) {
        (Some(id), _) => format!(" {id}"),
        (None, [_] | []) => String::new(),
        (None, [first, ..]) => format!(" {}", first.id),
    };
    let code = render::failure(&message, 1);
    render::hint(&format!(
        "the entry may be outside of base or filter, or hidden from the account: `realmsync sync{to} --user {who}` asks the directory now; `realmsync users list --state removed` shows who was removed"
    ));
    code
}

/// What is known of a realm in which somebody is not.
fn absent_from(row: &RealmRow) -> String {
    let id = &row.id;
    if row.orphaned {
        return format!("{id} is not in the configuration any more, and not read");
    }
    let seen = match row.last_complete_at {
        None if row.kind != RealmKind::Directory => {
            format!("{id} has no directory, and nobody of that name")
        }
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
