//! `audit`: who changed what, and whether the record is whole.

use serde_json::{Map, Value};

use super::args::{AuditCommand, duration};
use super::listing::Listing;
use super::operator::store_failure;
use super::refused::{cell, record};
use super::users::one;
use super::{CommandContext, render, text};
use crate::acts::{Act, ActFailure, FailureKind, VerifyAudit};
use crate::clock::Timestamp;
use crate::model::words::count;
use crate::model::{AuditLine, Field};
use crate::store::{AuditFilter, Store};

/// Lines that are read at once.
const PAGE: i64 = 1000;

/// Which lines are asked for, and how they are shown.
pub(super) struct AuditAsked {
    pub(super) user: Option<String>,
    pub(super) by: Option<String>,
    pub(super) since: Option<String>,
    pub(super) csv: bool,
    pub(super) show_phones: bool,
}

pub(super) async fn audit(
    context: &CommandContext,
    what: Option<AuditCommand>,
    asked: AuditAsked,
) -> Result<u8, ActFailure> {
    let store = context.store().await?;
    if let Some(AuditCommand::Verify) = what {
        return verify(context, store).await;
    }
    let user = match &asked.user {
        Some(name) => Some(one(&store, name, None).await?.id),
        None => None,
    };
    let since = asked
        .since
        .as_deref()
        .map(|text| since(text, context.clock.now()));
    let filter = AuditFilter {
        user,
        by: asked.by,
        since: since.transpose()?,
    };
    let columns = ["when", "by", "from", "what", "realm", "user", "how"];
    let csv = asked.csv.then(|| {
        record([
            "at", "by", "from", "act", "realm", "user", "username", "run", "before", "after",
        ])
    });
    let mut listing = Listing::begin(context, &columns, csv.transpose()?);
    let mut place = 0;
    while let Some((lines, last)) = store
        .audit(&filter, place, PAGE)
        .await
        .map_err(|e| store_failure(&e))?
    {
        place = last;
        for line in lines {
            listing.line(line, csv_of, |line| cells(line, asked.show_phones))?;
        }
        if render::gone() {
            break;
        }
    }
    listing.end("nothing was changed by hand");
    Ok(0)
}

async fn verify(context: &CommandContext, store: Store) -> Result<u8, ActFailure> {
    let check = match context.daemon().await {
        // The key may be one of its credentials.
        Some(client) => client.ask(&VerifyAudit, |_| ()).await?,
        None => VerifyAudit.act(&context.acting_on(store)).await?,
    };
    if context.json {
        render::json(&serde_json::json!({
            "lines": check.lines, "erased": check.erased, "whole": check.faults.is_empty(), "faults": check.faults,
            "end": check.end,
        }));
    } else if check.faults.is_empty() {
        let erased = match check.erased {
            0 => String::new(),
            n => format!("; the values of {n} went with the people who were removed"),
        };
        let end = match check.lines {
            0 => " yet".to_owned(),
            _ => format!(", the last one is {}", check.end),
        };
        render::line(&format!(
            "the audit is whole: {}{end}{erased}",
            count(check.lines, "line")
        ));
    } else {
        for fault in &check.faults {
            render::line(fault);
        }
        render::talk(
            "the audit is not as it was written: keep the store as it is, and find out who can write to it",
        );
    }
    Ok(u8::from(!check.faults.is_empty()))
}

/// A time, or how long ago it was.
pub(super) fn since(text: &str, now: Timestamp) -> Result<Timestamp, ActFailure> {
    if let Ok(ms) = duration(text) {
        return Ok(now.plus_ms(-ms));
    }
    if let Some(midnight) = text::midnight(text) {
        return Ok(midnight);
    }
    time(text).map_err(|failure| ActFailure {
        message: format!("{}, or a day as 2026-11-24", failure.message),
        ..failure
    })
}

/// A time as it is typed.
pub(super) fn time(text: &str) -> Result<Timestamp, ActFailure> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|_| {
        ActFailure::new(
            FailureKind::Usage,
            format!("`{text}` is no time: write it as 2026-11-24T03:00:00Z, or as 2h or 7d"),
        )
    })
}

fn cells(line: AuditLine, show_phones: bool) -> Vec<String> {
    let mut how = how(line.before.as_ref(), line.after.as_ref(), show_phones);
    if let Some(run) = line.run {
        let comma = if how.is_empty() { "" } else { ", " };
        how = format!("run: {run:#}{comma}{how}");
    }
    vec![
        text::when(line.at),
        line.by.unwrap_or_default(),
        line.from,
        line.act,
        line.realm.map(|r| r.to_string()).unwrap_or_default(),
        line.username
            .or_else(|| line.user.map(|u| format!("{u:#}")))
            .unwrap_or_default(),
        how,
    ]
}

/// Each field that differs.
fn how(
    before: Option<&Map<String, Value>>,
    after: Option<&Map<String, Value>>,
    show_phones: bool,
) -> String {
    let is = |side: Option<&Map<String, Value>>, key: &str| {
        let field: Field = key.parse().unwrap_or(Field::DisplayName);
        let value = side.and_then(|side| side.get(key)).unwrap_or(&Value::Null);
        text::one_line(&match value {
            Value::Array(list) if list.is_empty() => "none".to_owned(),
            Value::Array(list) => {
                let words = list.iter().map(|word| field.show(word, show_phones));
                words.collect::<Vec<_>>().join(", ")
            }
            value => field.show(value, show_phones),
        })
    };
    // Where something ended nothing is left: then it is told how it was.
    let ended = after.is_none_or(Map::is_empty);
    let keys = if ended { before } else { after };
    let keys = keys.into_iter().flatten().map(|(key, _)| key);
    let parts = keys.filter(|key| {
        let none = |side: Option<&Map<String, Value>>| {
            side.and_then(|side| side.get(*key))
                .is_none_or(Value::is_null)
        };
        !(none(before) && none(after))
    });
    let parts = parts.map(|key| {
        let name = key.replace('_', " ");
        match before.filter(|before| before.contains_key(key)) {
            Some(_) if ended => format!("{name}: {}", is(before, key)),
            // Named on both sides, so that it is known of what.
            Some(_) if is(before, key) == is(after, key) => format!("{name}: {}", is(after, key)),
            Some(_) => format!("{name}: {} → {}", is(before, key), is(after, key)),
            None => format!("{name}: {}", is(after, key)),
        }
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn csv_of(line: &AuditLine) -> Result<Vec<u8>, ActFailure> {
    let side = |side: Option<&Map<String, Value>>| {
        side.map(|side| Value::Object(side.clone()).to_string())
            .unwrap_or_default()
    };
    let cells = [
        line.at.rfc3339(),
        line.by.clone().unwrap_or_default(),
        line.from.clone(),
        line.act.clone(),
        line.realm
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        line.user.map(|u| u.to_string()).unwrap_or_default(),
        line.username.clone().unwrap_or_default(),
        line.run.map(|r| r.to_string()).unwrap_or_default(),
        side(line.before.as_ref()),
        side(line.after.as_ref()),
    ];
    let cells = cells.map(|text| cell(&text));
    record(cells.each_ref().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_ended_is_told_as_it_was_and_what_stayed_once() {
        let said = |before: Value, after: Value| {
            let side = |side: &Value| side.as_object().cloned();
            how(side(&before).as_ref(), side(&after).as_ref(), false)
        };
        let gone = json!({"serial": "FT-1", "state": "pending"});
        for after in [json!({}), json!(null)] {
            assert_eq!(said(gone.clone(), after), "serial: FT-1, state: pending");
        }
        assert_eq!(
            said(
                json!({"serial": "FT-1", "state": "pending", "two_factor": []}),
                json!({"serial": "FT-1", "state": "active", "two_factor": ["app-otp"]}),
            ),
            "serial: FT-1, state: pending → active, two factor: none → app-otp"
        );
        // Erased with the person.
        assert_eq!(said(json!(null), json!(null)), "");
    }

    #[test]
    fn a_day_begins_at_its_midnight() {
        let now = Timestamp(1_795_489_200_000);
        let at = |text: &str| since(text, now).map(Timestamp::rfc3339);
        assert_eq!(at("2026-11-24").unwrap(), "2026-11-24T00:00:00.000Z");
        assert_eq!(
            at("2026-11-24T03:00:00Z").unwrap(),
            "2026-11-24T03:00:00.000Z"
        );
        for unclear in ["2026-11-24T03:00:00", "24.11.2026", "yesterday"] {
            let failure = at(unclear).unwrap_err();
            assert!(failure.message.contains("2026-11-24"), "{failure}");
            assert_eq!(failure.exit, 64);
        }
    }
}
