//! `users list` and `users show`.

use super::args::UsersCommand;
use super::operator::store_failure;
use super::render::Table;
use serde_json::Value;

use super::{CommandContext, render, text, users_by_hand};
use crate::acts::{ActFailure, FailureKind};
use crate::model::ids::telling;
use crate::model::{Phone, RealmId, User, phone};
use crate::store::{Store, UserFilter};
use crate::story::users::objects;

/// Users read at once. Each batch is sorted out of all of them, so few large ones are quicker than many small ones; ten thousand are
/// some 12 MiB.
const BATCH: i64 = 10_000;

pub(super) async fn users(context: &CommandContext, what: UsersCommand) -> Result<u8, ActFailure> {
    match what {
        UsersCommand::List {
            realm,
            state,
            two_factor,
            origin,
            search,
            show_phones,
        } => {
            let store = context.store().await?;
            let realm = context.known(&store, realm).await?;
            let filter = UserFilter {
                realm,
                state,
                two_factor,
                origin,
                search,
            };
            list(context, &store, &filter, show_phones).await
        }
        UsersCommand::Show {
            user,
            realm,
            show_phones,
        } => {
            let store = context.store().await?;
            let user = one(&store, &user, realm).await?;
            let object = objects(&store, std::slice::from_ref(&user), context.clock.now())
                .await
                .map_err(|e| store_failure(&e))?
                .remove(0);
            if context.json {
                render::json(&object);
                return Ok(0);
            }
            for (key, value) in object
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, v)| !v.is_null())
            {
                render::line(&format!(
                    "{:<20} {}",
                    key.replace('_', " "),
                    in_words(key, value, show_phones)
                ));
            }
            render::hint(&format!(
                "`realmsync explain {:#}` tells where each value came from",
                user.id
            ));
            Ok(0)
        }
        by_hand => users_by_hand::by_hand(context, by_hand).await,
    }
}

/// A field of a user for people.
fn in_words(key: &str, value: &Value, show_phones: bool) -> String {
    match value {
        Value::String(number) if text::is_number(key) && !show_phones => phone::mask(number),
        Value::String(words) => text::one_line(words),
        Value::Array(words) => words
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(", "),
        Value::Object(number) if key == "phone_override" => {
            let word = |field: &str| number.get(field).and_then(Value::as_str);
            let by = word("by").map(|by| format!(", by {}", text::one_line(by)));
            let until = word("until").map(|until| format!(", until {until}"));
            let at = word("at").unwrap_or_default();
            format!(
                "since {at}{}{}",
                by.unwrap_or_default(),
                until.unwrap_or_default()
            )
        }
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        other => other.to_string(),
    }
}

async fn list(
    context: &CommandContext,
    store: &Store,
    filter: &UserFilter,
    show_phones: bool,
) -> Result<u8, ActFailure> {
    let mut last: Option<User> = None;
    let mut table = Table::new(
        &["user", "realm", "name", "phone", "state", "e-mail"],
        context.unsaid(filter.realm.as_ref()),
    );
    loop {
        let after = last
            .as_ref()
            .map(|u| (&u.realm, u.username_key.as_str(), u.id));
        let users = store
            .list_users(filter, after, BATCH)
            .await
            .map_err(|e| store_failure(&e))?;
        if users.is_empty() || render::gone() {
            break;
        }
        if context.json {
            objects(store, &users, context.clock.now())
                .await
                .map_err(|e| store_failure(&e))?
                .iter()
                .for_each(render::json);
        } else {
            for user in &users {
                table.row(row(user, show_phones));
            }
        }
        last = users.into_iter().next_back();
    }
    if !table.end() && !context.json {
        let hint = if filter.state.is_none() {
            "; removed ones are shown by `--state removed`"
        } else {
            ""
        };
        render::talk(&format!("no users fit{hint}"));
    }
    Ok(0)
}

fn row(u: &User, show_phones: bool) -> Vec<String> {
    let phone = |p: &Phone| {
        if show_phones {
            p.as_str().to_owned()
        } else {
            p.masked()
        }
    };
    let reason = u
        .state_reason
        .map(|r| format!(" ({r})"))
        .unwrap_or_default();
    vec![
        u.username.clone(),
        u.realm.to_string(),
        u.display_name.clone().unwrap_or_default(),
        u.phone.as_ref().map(phone).unwrap_or_default(),
        format!(
            "{}{reason}{}",
            u.state,
            if u.blocked { ", blocked" } else { "" }
        ),
        u.email.clone().unwrap_or_default(),
    ]
}

/// The one user that a text names.
pub(super) async fn one(
    store: &Store,
    text: &str,
    realm: Option<String>,
) -> Result<User, ActFailure> {
    let realm = realm.map(RealmId::from);
    let found = store
        .find_users(text, realm.as_ref())
        .await
        .map_err(|e| store_failure(&e))?;
    let present: Vec<&User> = found.iter().filter(|u| u.present()).collect();
    match (present.as_slice(), found.as_slice()) {
        ([user], _) => Ok((*user).clone()),
        (_, [user]) => Ok(user.clone()),
        (_, []) => Err(ActFailure::new(
            FailureKind::NotFound,
            format!(
                "there is no user `{text}`: `realmsync explain {text}` looks for why, `realmsync users list --search {text}` for others"
            ),
        )),
        (_, several) => {
            let digits = telling(several.iter().map(|u| u.id.0));
            let list: Vec<String> = several
                .iter()
                .take(5)
                .map(|u| {
                    format!(
                        "{} in {} ({}, {:#.digits$})",
                        u.username, u.realm, u.state, u.id
                    )
                })
                .collect();
            Err(ActFailure::new(
                FailureKind::NotFound,
                format!(
                    "`{text}` is ambiguous: {}; give the id, or --realm",
                    list.join("; ")
                ),
            ))
        }
    }
}
