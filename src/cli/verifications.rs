//! `verifications`: for whom a service asked, and what it was answered.

use super::audit::since;
use super::listing::Listing;
use super::operator::store_failure;
use super::refused::{cell, record};
use super::users::one;
use super::{CommandContext, render, text};
use crate::acts::ActFailure;
use crate::clock::Timestamp;
use crate::model::VerificationLine;
use crate::store::VerificationFilter;

/// Lines that are read at once.
const PAGE: i64 = 1000;

/// Which of them are asked for.
pub(super) struct VerificationsAsked {
    pub(super) user: Option<String>,
    pub(super) realm: Option<String>,
    pub(super) since: Option<String>,
    pub(super) csv: bool,
}

pub(super) async fn verifications(
    context: &CommandContext,
    asked: VerificationsAsked,
) -> Result<u8, ActFailure> {
    let store = context.store().await?;
    let user = match &asked.user {
        Some(name) => Some(one(&store, name, asked.realm).await?.id),
        None => None,
    };
    let since = asked
        .since
        .as_deref()
        .map(|text| since(text, context.clock.now()));
    let filter = VerificationFilter {
        user,
        since: since.transpose()?,
    };
    let columns = ["when", "service", "realm", "user", "answer", "by"];
    let csv = asked.csv.then(|| {
        record([
            "at",
            "service",
            "realm",
            "user",
            "username",
            "result",
            "reason",
            "method",
            "authenticator",
        ])
    });
    let mut listing = Listing::begin(context, &columns, csv.transpose()?);
    let mut place = (Timestamp(i64::MIN), 0);
    while let Some((lines, last)) = store
        .verifications(&filter, place, PAGE)
        .await
        .map_err(|e| store_failure(&e))?
    {
        place = last;
        for line in lines {
            listing.line(line, csv_of, cells)?;
        }
        if render::gone() {
            break;
        }
    }
    listing.end("no service asked");
    Ok(0)
}

fn cells(line: VerificationLine) -> Vec<String> {
    let by = [line.method, line.authenticator.map(|id| format!("{id:#}"))];
    let by: Vec<String> = by.into_iter().flatten().collect();
    vec![
        text::when(line.at),
        line.service,
        line.realm.map(|r| r.to_string()).unwrap_or_default(),
        line.username
            .or_else(|| line.user.map(|u| format!("{u:#}")))
            .unwrap_or_default(),
        // The reason alone tells that it was rejected.
        line.reason.unwrap_or(line.result),
        by.join(" "),
    ]
}

fn csv_of(line: &VerificationLine) -> Result<Vec<u8>, ActFailure> {
    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
    let cells = [
        line.at.rfc3339(),
        line.service.clone(),
        line.realm
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        line.user.map(|u| u.to_string()).unwrap_or_default(),
        or_empty(&line.username),
        line.result.clone(),
        or_empty(&line.reason),
        or_empty(&line.method),
        line.authenticator
            .map(|a| a.to_string())
            .unwrap_or_default(),
    ];
    let cells = cells.map(|text| cell(&text));
    record(cells.each_ref().map(String::as_str))
}
