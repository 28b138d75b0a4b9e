//! `users list` and `users show`.

use super::args::UsersCommand;
use super::operator::store_failure;
use super::refused::{cell, record};
use super::render::Table;
use serde_json::{Value, json};

use super::{CommandContext, render, text, users_by_hand};
use crate::acts::{ActFailure, EnrolmentObject, FailureKind};
use crate::model::ids::telling;
use crate::model::logon_name::readings;
use crate::model::{
    AuthenticatorState, FactorFacts, Phone, RealmId, User, UserFilter, UserPlace, UserSort,
    UserStatus, phone,
};
use crate::plan::notices;
use crate::store::{Store, UserPage};
use crate::story::users::objects;

/// Users read at once. Each batch is sorted out of all of them, so few large ones are quicker than many small ones; ten thousand are
/// some 12 MiB.
const BATCH: i64 = 10_000;

pub(super) async fn users(context: &CommandContext, what: UsersCommand) -> Result<u8, ActFailure> {
    match what {
        UsersCommand::List {
            realm,
            filter,
            limit,
            sort,
            csv,
            show_phones,
        } => {
            let store = context.store().await?;
            let realm = context.known(&store, realm).await?;
            let how = Listing {
                sort,
                limit,
                csv,
                show_phones,
            };
            list(context, &store, &filter.filter(realm), &how).await
        }
        UsersCommand::Show {
            user,
            realm,
            show_phones,
        } => {
            let store = context.store().await?;
            let user = one(&store, &user, realm).await?;
            let mut object = objects(&store, std::slice::from_ref(&user), context.clock.now())
                .await
                .map_err(|e| store_failure(&e))?
                .remove(0);
            let sent = store
                .enrolments(&[user.id])
                .await
                .map_err(|e| store_failure(&e))?;
            let now = context.clock.now();
            let sent: Vec<EnrolmentObject> = sent
                .iter()
                .map(|enrolment| EnrolmentObject::new(enrolment, &user, now))
                .collect();
            let wrong = store
                .factor_facts(std::slice::from_ref(&user), now)
                .await
                .map_err(|e| store_failure(&e))?
                .remove(&user.id)
                .map(|facts| facts.wrong_codes)
                .filter(|wrong| wrong.in_a_row > 0 || wrong.locked_at.is_some());
            if context.json {
                object["wrong_codes"] = json!(wrong);
                object["enrolments"] = json!(sent);
                render::json(&object);
                return Ok(0);
            }
            shown(&object, show_phones);
            if let Some(wrong) = wrong {
                let last = wrong
                    .last_at
                    .map(|at| format!(", the last one {}", text::when(at)));
                render::line(&format!(
                    "{:<20} {} in a row{}",
                    "wrong codes",
                    wrong.in_a_row,
                    last.unwrap_or_default()
                ));
            }
            for enrolment in sent {
                render::line(&format!(
                    "{:<20} {}",
                    "enrolment sent",
                    text::enrolment(&enrolment)
                ));
            }
            render::hint(&format!(
                "`realmsync explain {:#}` tells where each value came from",
                user.id
            ));
            Ok(0)
        }
        UsersCommand::Import(args) => super::import::import(context, args).await,
        by_hand => users_by_hand::by_hand(context, by_hand).await,
    }
}

/// A user for people: a line for each field, and below them what is to be known.
fn shown(object: &Value, show_phones: bool) {
    let fields = object.as_object().into_iter().flatten();
    for (key, value) in
        fields.filter(|(_, v)| !v.is_null() && v.as_array().is_none_or(|a| !a.is_empty()))
    {
        let lines: Vec<String> = match (key.as_str(), value) {
            ("notices", Value::Array(all)) => all.iter().map(notice_line).collect(),
            ("authenticators", Value::Array(all)) => all.iter().map(authenticator_line).collect(),
            _ => vec![in_words(key, value, show_phones)],
        };
        for line in lines {
            render::line(&format!("{:<20} {line}", key.replace('_', " ")));
        }
    }
}

fn notice_line(notice: &Value) -> String {
    let text = |key: &str| text::one_line(notice[key].as_str().unwrap_or_default());
    format!("{}: {}", text("code").replace('_', " "), text("detail"))
}

fn authenticator_line(authenticator: &Value) -> String {
    let mut parts: Vec<String> = ["kind", "state", "serial", "issuer"]
        .iter()
        .filter_map(|key| authenticator[key].as_str().map(text::one_line))
        .collect();
    if let Some(left) = authenticator["left"].as_i64() {
        // Nobody revoked them.
        if left == 0 && authenticator["last_used_at"].is_string() {
            parts.retain(|part| part != AuthenticatorState::Revoked.as_str());
        }
        parts.push(format!("{left} left"));
    }
    if let Some(at) = authenticator["last_used_at"].as_str() {
        parts.push(format!("last used {at}"));
    }
    parts.join(", ")
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

/// How a list is shown.
struct Listing {
    sort: UserSort,
    limit: Option<i64>,
    csv: bool,
    show_phones: bool,
}

async fn list(
    context: &CommandContext,
    store: &Store,
    filter: &UserFilter,
    how: &Listing,
) -> Result<u8, ActFailure> {
    let mut last: Option<UserPlace> = None;
    let mut left = how.limit.unwrap_or(i64::MAX);
    let mut table = Table::new(
        &[
            "user",
            "realm",
            "name",
            "phone",
            "state",
            "two factors",
            "e-mail",
        ],
        context.unsaid(filter.realm.as_ref()),
    );
    if how.csv {
        render::raw(&record(CSV)?);
    }
    while left > 0 {
        let now = context.clock.now();
        let page = UserPage {
            sort: how.sort,
            after: last.as_ref(),
            limit: left.min(BATCH),
            now,
        };
        let users = store
            .list_users(filter, &page)
            .await
            .map_err(|e| store_failure(&e))?;
        if users.is_empty() || render::gone() {
            break;
        }
        left -= i64::try_from(users.len()).unwrap_or(i64::MAX);
        if context.json || how.csv {
            let all = objects(store, &users, now)
                .await
                .map_err(|e| store_failure(&e))?;
            for object in &all {
                if how.csv {
                    render::raw(&csv_of(object)?);
                } else {
                    render::json(object);
                }
            }
        } else {
            let known = store
                .factor_facts(&users, now)
                .await
                .map_err(|e| store_failure(&e))?;
            for user in &users {
                let facts = known.get(&user.id);
                table.row(row(user, facts, how.show_phones));
            }
        }
        last = users.last().map(UserPlace::of);
    }
    if !table.end() && !context.json && !how.csv && last.is_none() {
        let hint = if filter.state.is_none() {
            "; removed ones are shown by `--state removed`"
        } else {
            ""
        };
        render::talk(&format!("no users fit{hint}"));
    }
    Ok(0)
}

/// The columns of a list as CSV: fields of the user's JSON.
const CSV: [&str; 15] = [
    "id",
    "realm",
    "username",
    "display_name",
    "email",
    "phone",
    "state",
    "state_reason",
    "blocked",
    "two_factor",
    "status",
    "enrolment",
    "origin",
    "last_used_at",
    "notices",
];

/// A user as CSV. Lists are words separated by spaces.
fn csv_of(object: &Value) -> Result<Vec<u8>, ActFailure> {
    let text = |key: &str| match &object[key] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => words_of(items, " "),
        other => other.to_string(),
    };
    let cells = CSV.map(|key| cell(&text(key)));
    record(cells.each_ref().map(String::as_str))
}

/// Words, or the codes of notices.
fn words_of(items: &[Value], between: &str) -> String {
    items
        .iter()
        .filter_map(|item| item.as_str().or_else(|| item["code"].as_str()))
        .collect::<Vec<_>>()
        .join(between)
}

fn row(u: &User, facts: Option<&FactorFacts>, show_phones: bool) -> Vec<String> {
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
        facts.map_or_else(String::new, |facts| two_factors(u, facts)),
        u.email.clone().unwrap_or_default(),
    ]
}

/// How far a user is with two factors, and what is missing.
fn two_factors(user: &User, facts: &FactorFacts) -> String {
    let status = notices::status(user, facts);
    let missing: Vec<&str> = notices::notices(user, facts)
        .iter()
        .map(|notice| notice.code.as_str())
        .collect();
    if missing.is_empty() {
        let ready = facts.has_application() || facts.has_hard_token();
        return match status {
            UserStatus::Enabled if ready => format!("{status} (set up)"),
            status => status.to_string(),
        };
    }
    format!("{status} ({})", missing.join(", ").replace('_', " "))
}

/// The users that some texts name, each one of them. A text that names nobody, or several, is told of, and keeps none of the others from
/// it; the command ends with its code.
///
/// # Errors
/// Where the store fails, or no text names anybody.
pub(super) async fn each_one(
    store: &Store,
    texts: &[String],
    realm: Option<&String>,
) -> Result<Vec<User>, ActFailure> {
    let (mut named, mut missed) = (vec![], vec![]);
    for text in texts {
        match one(store, text, realm.cloned()).await {
            Ok(user) => named.push(user),
            Err(failure) if failure.code == FailureKind::NotFound.word() => missed.push(failure),
            Err(failure) => return Err(failure),
        }
    }
    let last = missed.pop_if(|_| named.is_empty());
    for failure in missed {
        render::missed(&failure.message, failure.exit);
    }
    match last {
        Some(failure) => Err(failure),
        None => Ok(named),
    }
}

/// The one user that a text names.
pub(super) async fn one(
    store: &Store,
    text: &str,
    realm: Option<String>,
) -> Result<User, ActFailure> {
    let realm = realm.map(RealmId::from);
    let find = async |text: &str, realm: Option<&RealmId>| {
        let found = store.find_users(text, realm).await;
        found.map_err(|e| store_failure(&e))
    };
    let mut found = find(text, realm.as_ref()).await?;
    if found.is_empty() {
        if realm.is_some() {
            let elsewhere = find(text, None).await?;
            if let (Some(asked), Some(other)) = (&realm, elsewhere.first()) {
                return Err(ActFailure::new(
                    FailureKind::NotFound,
                    format!(
                        "there is no user `{text}` in realm `{asked}`: there is one in `{}`",
                        other.realm
                    ),
                ));
            }
        } else {
            // As services name them: `jan@example.org`, `example.org\jan`.
            for read in readings(text) {
                if let Some(domain) = read.domain
                    && found.is_empty()
                {
                    found = find(&read.name, Some(&RealmId::from(domain))).await?;
                }
            }
        }
    }
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
