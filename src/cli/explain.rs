//! `explain`: the whole story of a user, or of why there is none.

use serde_json::json;

use super::json::Forms;
use super::operator::store_failure;
use super::{Context, render, text, users};
use crate::api::types::Failure;
use crate::model::{JobState, RealmId, State, StateReason, User, phone};
use crate::store::{JobSelection, Store};

/// Changes shown.
const HISTORY: i64 = 20;

pub(super) async fn explain(
    context: &Context,
    who: &str,
    realm: Option<String>,
    show_phones: bool,
) -> Result<u8, Failure> {
    let store = context.store().await?;
    let scope = realm.clone().map(RealmId::from);
    let found = store
        .find_users(who, scope.as_ref())
        .await
        .map_err(|e| store_failure(&e))?;
    if found.is_empty() {
        return missing(context, &store, who, scope.as_ref()).await;
    }
    let user = users::one(&store, who, realm).await?;
    let history = store
        .changes_of_user(user.id, HISTORY)
        .await
        .map_err(|e| store_failure(&e))?;
    let refused: Vec<_> = store
        .refused(Some(&user.realm))
        .await
        .map_err(|e| store_failure(&e))?
        .into_iter()
        .filter(|r| r.refusal.directory_id.is_some() && r.refusal.directory_id == user.directory_id)
        .collect();
    let selection = JobSelection {
        user: Some(user.id),
        states: vec![
            JobState::Waiting,
            JobState::Sending,
            JobState::Held,
            JobState::Dead,
        ],
        ..JobSelection::default()
    };
    let jobs = store
        .jobs(&selection, 50)
        .await
        .map_err(|e| store_failure(&e))?;
    let server = match history.first().and_then(|c| c.run) {
        Some(run) => store
            .run(&run.to_string())
            .await
            .ok()
            .and_then(|r| r.server),
        None => None,
    };
    if context.json {
        let object = super::json::users(context, &store, std::slice::from_ref(&user))
            .await
            .map_err(|e| store_failure(&e))?
            .remove(0);
        render::json(&json!({
            "user": object,
            "phone_attribute": user.phone_attribute,
            "phone_rule": user.phone_rule,
            "server": server,
            "refused": refused.iter().map(super::json::refused).collect::<Vec<_>>(),
            "messages": jobs.iter().map(super::json::job).collect::<Vec<_>>(),
            "history": history,
        }));
        return Ok(0);
    }
    story(
        &Forms::read(&store).await.map_err(|e| store_failure(&e))?,
        &user,
        server.as_deref(),
        show_phones,
    );
    for row in &refused {
        let r = &row.refusal;
        let raw = r
            .raw
            .as_deref()
            .map(|v| {
                if show_phones {
                    v.to_owned()
                } else {
                    phone::mask(v)
                }
            })
            .unwrap_or_default();
        render::line(&format!(
            "refused       {} {raw}: {} (since {})",
            r.attribute.as_deref().unwrap_or("entry"),
            r.reason,
            text::when(row.since)
        ));
    }
    for job in &jobs {
        render::line(&format!(
            "message       {} is {}, {} tries{}",
            job.r#type,
            job.state,
            job.attempts,
            job.last_error
                .as_deref()
                .map(|e| format!("; last: {e}"))
                .unwrap_or_default()
        ));
    }
    if !history.is_empty() {
        render::line("\nhistory, newest first:");
    }
    for change in &history {
        let by = change
            .by
            .as_deref()
            .map(|b| format!(" by {b}"))
            .unwrap_or_default();
        let run = change
            .run
            .map(|r| format!(" in run {r}"))
            .unwrap_or_default();
        render::line(&format!(
            "  {}{by}{run}\n    {}",
            text::when(change.at),
            text::change(change, show_phones)
        ));
    }
    Ok(0)
}

fn story(forms: &Forms, user: &User, server: Option<&str>, show_phones: bool) {
    let show = |p: &str| {
        if show_phones {
            p.to_owned()
        } else {
            phone::mask(p)
        }
    };
    render::line(&format!(
        "{} in realm {} ({})",
        render::paint("1", &user.username),
        user.realm,
        user.id
    ));
    let why = match (user.state, user.state_reason) {
        (State::Active, _) if user.blocked => "blocked by an administrator; no pass lifts that",
        (State::Active, _) => "active",
        (State::Suspended, Some(StateReason::Deleted)) => {
            "suspended: the directory id was found nowhere; removed after the grace period"
        }
        (State::Suspended, Some(StateReason::OutOfScope)) => {
            "suspended: the entry is outside of base or filter; removed after the grace period"
        }
        (State::Suspended, Some(StateReason::Disabled)) => {
            "suspended: the directory says disabled; never removed for that"
        }
        (State::Suspended, Some(StateReason::Undone)) => {
            "suspended: an administrator undid the creation"
        }
        (State::Suspended, None) => "suspended",
        (State::Removed, _) => "removed; personal data is erased",
    };
    render::line(&format!(
        "state         {why}{}",
        user.suspended_at
            .map(|t| format!(" (since {})", text::when(t)))
            .unwrap_or_default()
    ));
    if let Some(dn) = &user.dn {
        let form = forms.of(&user.realm);
        render::line(&format!(
            "entry         {dn}{}",
            user.directory_id
                .map(|id| format!(" (id {})", id.display(form)))
                .unwrap_or_default()
        ));
    }
    if let Some(server) = server {
        render::line(&format!("read from     {server}"));
    }
    match (&user.phone, &user.phone_source) {
        (Some(p), Some(source)) => {
            let from = match (&user.phone_attribute, &user.phone_raw) {
                (Some(attribute), Some(raw)) => format!(" from {attribute} `{}`", show(raw)),
                _ => String::new(),
            };
            let rule = user
                .phone_rule
                .as_deref()
                .map(|r| format!(", {r}"))
                .unwrap_or_default();
            render::line(&format!(
                "phone         {} ({source}{from}{rule})",
                show(p.as_str())
            ));
        }
        _ => render::line("phone         none: the directory gives no number that can be used"),
    }
    if let (Some(p), Some(until)) = (&user.phone_pending, user.phone_pending_until) {
        render::line(&format!(
            "waiting       {} takes effect at {} (phone-change.hold)",
            show(p.as_str()),
            text::when(until)
        ));
    }
    let known = match (&user.phone_provisioned, &user.phone) {
        (None, _) => "nothing was provisioned yet".to_owned(),
        (Some(p), Some(now)) if p == now => "knows this number".to_owned(),
        (Some(p), _) => format!("still knows {}", show(p.as_str())),
    };
    render::line(&format!("receiver      {known}"));
}

/// Why somebody is not there.
async fn missing(
    context: &Context,
    store: &Store,
    who: &str,
    realm: Option<&RealmId>,
) -> Result<u8, Failure> {
    let key = crate::model::person::fold_name(who);
    let rows = store.refused(realm).await.map_err(|e| store_failure(&e))?;
    let fits = |r: &crate::model::Refusal| {
        r.username
            .as_deref()
            .is_some_and(|n| crate::model::person::fold_name(n) == key)
            || r.dn.to_lowercase().contains(&key)
    };
    let hits: Vec<_> = rows.iter().filter(|r| fits(&r.refusal)).collect();
    if context.json {
        for r in &hits {
            render::json(&super::json::refused(r));
        }
    } else if hits.is_empty() {
        render::line(&format!(
            "there is no user `{who}`, and nothing refused is named so"
        ));
        render::hint(&format!(
            "the entry may be outside of base or filter: `realmsync sync --user {who}` asks the directory for it now"
        ));
    } else {
        for row in &hits {
            render::line(&format!(
                "{} is no user: {} (since {})",
                row.refusal.dn,
                row.refusal.reason,
                text::when(row.since)
            ));
        }
    }
    Ok(u8::from(hits.is_empty()))
}
