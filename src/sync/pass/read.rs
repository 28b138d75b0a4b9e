//! Reads a realm's entries, and finds those that differ.

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::found::Found;
use super::index::IndexMatch;
use super::people::look;
use super::reading::Reading;
use super::setting::Setting;
use crate::model::{ErrorCode, RawEntry};
use crate::runs::RunFailure;
use crate::store::Indexed;
use crate::sync::run_request::{Progress, RunRequest};

/// People who differ that gather before the store is asked about them. What is left of them at the end is waited for alone.
const WAITING: usize = 250;

/// Portions of a page that wait between reading and looking: enough that the server need not wait while the store is asked about a
/// batch of people, few enough to stay small.
const PORTIONS_WAITING: usize = 24;

/// Bytes of entries that wait for the rest of the index, some forty people; then reading waits too. Few do where the directory has
/// the store's order, which it mostly has. (Tests have few people, and meet all of this with them.)
const EARLY: usize = if cfg!(feature = "failpoints") {
    40
} else {
    16_384
};

/// Reads every page on a task of its own, so that the connection is served while entries are looked at, and on another one the
/// index. Both have about the same order, and the index is the faster one: whoever comes is mostly in it by then. The reading has
/// no session meanwhile, and has it again at the end.
pub(super) async fn read(
    setting: &Setting<'_>,
    reading: &mut Reading,
    found: &mut Found,
    ask: &RunRequest,
) -> Result<(), RunFailure> {
    let (pages, mut arriving) = mpsc::channel::<Vec<RawEntry>>(PORTIONS_WAITING);
    let scope = reading.prepared.scope.clone();
    let mut session = reading.prepared.session.take().ok_or_else(no_session)?;
    let mut reader = JoinSet::new();
    reader.spawn(async move {
        let outcome = session.read(&scope, pages).await;
        (session, outcome)
    });
    let (chunks, mut index) = mpsc::channel::<Vec<Indexed>>(1);
    let (store, realm) = (setting.store().clone(), setting.id().clone());
    let mut indexer = JoinSet::new();
    indexer.spawn(async move {
        let mut after = 0;
        while let Some((users, last)) = store.index_chunk(&realm, after).await? {
            after = last;
            if chunks.send(users).await.is_err() {
                break;
            }
        }
        store.not_indexed(&realm).await
    });
    reading.indexing = true;
    // Whom the index does not know yet.
    let (mut early, mut size) = (vec![], 0);
    loop {
        tokio::select! {
            biased;
            () = ask.cancel.cancelled() => return Err(RunFailure::cancelled()),
            chunk = index.recv(), if reading.indexing => {
                if let Some(chunk) = chunk {
                    reading.hold(chunk);
                    continue;
                }
                let Some(Ok(others)) = indexer.join_next().await else {
                    return Err(unasked("index"));
                };
                found.users_before = i64::try_from(reading.index.held).unwrap_or(i64::MAX) + others?;
                reading.indexing = false;
                let mut left = std::mem::take(&mut early).into_iter();
                size = 0;
                while left.len() > 0 {
                    let some = left.by_ref().take(WAITING).collect();
                    look_at_page(setting, reading, found, some).await?;
                }
            }
            page = arriving.recv(), if size < EARLY => match page {
                Some(page) if reading.indexing => {
                    let (known, others) = reading.known(page);
                    size += others.iter().map(RawEntry::size).sum::<usize>();
                    early.extend(others);
                    look_at_page(setting, reading, found, known).await?;
                }
                Some(page) => look_at_page(setting, reading, found, page).await?,
                None if reading.indexing => {
                    // Nobody more comes.
                    while let Some(chunk) = index.recv().await {
                        reading.hold(chunk);
                    }
                }
                None => break,
            },
        }
        ask.progress.send_replace(Progress {
            seen: u64::try_from(found.seen).unwrap_or(0),
            expected: if reading.indexing {
                0
            } else {
                reading.index.held
            },
        });
    }
    drop(arriving);
    look_at_waiting(setting, reading, found).await?;
    let joined = reader.join_next().await;
    let Some(Ok((session, outcome))) = joined else {
        return Err(unasked("reading"));
    };
    reading.prepared.session = Some(session);
    // Only this makes anyone absent: the type has no other maker than the directory stage.
    let _complete: crate::directory::Complete = outcome?;
    Ok(())
}

/// Looks at a page of entries: each is met, and those who differ are decided about once there are enough of them.
pub(super) async fn look_at_page(
    setting: &Setting<'_>,
    reading: &mut Reading,
    found: &mut Found,
    entries: Vec<RawEntry>,
) -> Result<(), RunFailure> {
    for entry in entries {
        meet(reading, found, &entry);
    }
    // Who differs is mostly few, so they gather over pages: the store is asked by batches.
    if reading.waiting.len() >= WAITING {
        look_at_waiting(setting, reading, found).await?;
    }
    found.stage_refusals(setting, reading.told_ids()).await
}

/// Meets an entry: who is unchanged is only counted, who differs waits, and what cannot be used is refused.
fn meet(reading: &mut Reading, found: &mut Found, entry: &RawEntry) {
    found.seen += 1;
    let normaliser = &reading.prepared.normaliser;
    let unproved = &mut reading.prepared.unproved;
    if !unproved.is_empty() {
        unproved.retain(|name| !normaliser.has(entry, name));
    }
    let id = match normaliser.directory_id(entry) {
        Ok(id) => id,
        Err(refusal) => {
            reading.unknown.insert(refusal.dn.clone());
            found.refuse(refusal);
            return;
        }
    };
    let place = xxhash_rust::xxh3::xxh3_64(entry.dn());
    let met = reading.index.meet(id, normaliser.fingerprint(entry), place);
    if met == IndexMatch::Again {
        found.seen -= 1;
        return;
    }
    if met == IndexMatch::Twice {
        reading.twice.insert(id);
        return;
    }
    if met != IndexMatch::Unchanged {
        match normaliser.person(entry) {
            Ok(person) => {
                if person.username.is_err() && met == IndexMatch::New {
                    person.refused.into_iter().for_each(|r| found.refuse(r));
                    return;
                }
                reading.waiting.push((person, met == IndexMatch::Held));
            }
            Err(refusal) => {
                found.refuse(refusal);
                return;
            }
        }
    }
    reading.usable(entry);
}

/// Looks at those who differ and gathered: whom the store holds is asked, and decided about, see [`look`].
pub(super) async fn look_at_waiting(
    setting: &Setting<'_>,
    reading: &mut Reading,
    found: &mut Found,
) -> Result<(), RunFailure> {
    let persons = std::mem::take(&mut reading.waiting);
    look(setting, reading, found, persons).await
}

/// A task of the pass that ended without an answer.
fn unasked(which: &str) -> RunFailure {
    let text = format!("the {which} task ended unasked; nothing was applied");
    RunFailure::new(ErrorCode::Incomplete, text)
}

fn no_session() -> RunFailure {
    RunFailure::new(
        ErrorCode::Incomplete,
        "the connection ended; nothing was applied",
    )
}
