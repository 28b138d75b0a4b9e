//! What a directory tells in several answers, put together.

use std::time::Duration;

use tokio::time::Instant;

use crate::directory::{Cursor, Delta, NoDelta};
use crate::sync::realm::session::PreparedSession;

/// Without another loss for so long, all have come.
pub(in crate::sync) const CALM: Duration = Duration::from_millis(300);

/// No longer, however many still come: those who left must not keep their access for the length of an import.
pub(in crate::sync) const LONGEST: Duration = Duration::from_secs(2);

/// So many people in one poll may be the beginning of a mass edit. Two never trip the brake by themselves.
const SEVERAL: usize = 3;

/// What is told later counts: its cursor, and what it says of an entry.
pub(in crate::sync) fn join(all: &mut Delta, more: Delta) {
    all.touched.extend(more.touched);
    all.gone.extend(more.gone);
    for ids in [&mut all.touched, &mut all.gone] {
        ids.sort_unstable();
        ids.dedup();
    }
    if more.present.is_some() {
        all.present = more.present;
    }
    if more.cursor.is_some() {
        all.cursor = more.cursor;
    }
    all.blind = all.blind.take().or(more.blind);
}

/// What a poll tells, and, where that is several people, what comes after it: a poll in the middle of a mass deletion sees a part.
pub(in crate::sync) async fn told_whole(
    prepared: &mut PreparedSession,
    since: &Cursor,
) -> Result<Delta, NoDelta> {
    let mut all = prepared.changes_since(since).await?;
    let end = Instant::now() + LONGEST;
    // A refresh that names everybody says of those who are gone by not naming them.
    let mut more = people(&all) >= SEVERAL || all.present.is_some();
    while more && Instant::now() + CALM < end {
        tokio::time::sleep(CALM).await;
        let before = people(&all);
        let from = all.cursor.as_ref().unwrap_or(since).clone();
        let later = prepared.changes_since(&from).await?;
        more = later.present.is_some();
        join(&mut all, later);
        more |= people(&all) > before;
    }
    Ok(all)
}

/// How many people a delta names.
fn people(delta: &Delta) -> usize {
    delta.touched.len() + delta.gone.len()
}
