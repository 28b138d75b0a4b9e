//! Reads a realm's entries, and finds those that differ.

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::index::IndexMatch;
use super::under_way::Pass;
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

impl Pass<'_> {
    /// Reads every page on a task of its own, so that the connection is served while entries are looked at, and on another one the
    /// index. Both have about the same order, and the index is the faster one: whoever comes is mostly in it by then.
    pub(super) async fn read(&mut self, ask: &RunRequest) -> Result<(), RunFailure> {
        let (pages, mut arriving) = mpsc::channel::<Vec<RawEntry>>(PORTIONS_WAITING);
        let scope = self.reading.prepared.scope.clone();
        let mut session = self
            .reading
            .prepared
            .session
            .take()
            .ok_or_else(no_session)?;
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            let outcome = session.read(&scope, pages).await;
            (session, outcome)
        });
        let (chunks, mut index) = mpsc::channel::<Vec<Indexed>>(1);
        let (store, realm) = (
            self.setting.engine.store.clone(),
            self.setting.row.id.clone(),
        );
        let mut indexing = JoinSet::new();
        indexing.spawn(async move {
            let mut after = 0;
            while let Some((users, last)) = store.index_chunk(&realm, after).await? {
                after = last;
                if chunks.send(users).await.is_err() {
                    break;
                }
            }
            store.not_indexed(&realm).await
        });
        self.reading.indexing = true;
        // Whom the index does not know yet.
        let (mut early, mut size) = (vec![], 0);
        loop {
            tokio::select! {
                biased;
                () = ask.cancel.cancelled() => return Err(RunFailure::cancelled()),
                chunk = index.recv(), if self.reading.indexing => {
                    if let Some(chunk) = chunk {
                        self.reading.hold(chunk);
                        continue;
                    }
                    let Some(Ok(others)) = indexing.join_next().await else {
                        return Err(unasked("index"));
                    };
                    self.found.users_before = i64::try_from(self.reading.index.held).unwrap_or(i64::MAX) + others?;
                    self.reading.indexing = false;
                    let mut left = std::mem::take(&mut early).into_iter();
                    size = 0;
                    while left.len() > 0 {
                        self.page(left.by_ref().take(WAITING).collect()).await?;
                    }
                }
                page = arriving.recv(), if size < EARLY => match page {
                    Some(page) if self.reading.indexing => {
                        let (known, others) = self.reading.known(page);
                        size += others.iter().map(RawEntry::size).sum::<usize>();
                        early.extend(others);
                        self.page(known).await?;
                    }
                    Some(page) => self.page(page).await?,
                    None if self.reading.indexing => {
                        // Nobody more comes.
                        while let Some(chunk) = index.recv().await {
                            self.reading.hold(chunk);
                        }
                    }
                    None => break,
                },
            }
            ask.progress.send_replace(Progress {
                seen: u64::try_from(self.found.seen).unwrap_or(0),
                expected: if self.reading.indexing {
                    0
                } else {
                    self.reading.index.held
                },
            });
        }
        drop(arriving);
        self.look_at_waiting().await?;
        let joined = reading.join_next().await;
        let Some(Ok((session, outcome))) = joined else {
            return Err(unasked("reading"));
        };
        self.reading.prepared.session = Some(session);
        // Only this makes anyone absent: the type has no other maker than the directory stage.
        let _complete: crate::directory::Complete = outcome?;
        Ok(())
    }

    /// Looks at a page of entries.
    pub(in crate::sync) async fn page(&mut self, entries: Vec<RawEntry>) -> Result<(), RunFailure> {
        for entry in entries {
            self.found.seen += 1;
            if !self.reading.prepared.unproved.is_empty() {
                let normaliser = &self.reading.prepared.normaliser;
                self.reading
                    .prepared
                    .unproved
                    .retain(|name| !normaliser.has(&entry, name));
            }
            let id = match self.reading.prepared.normaliser.directory_id(&entry) {
                Ok(id) => id,
                Err(refusal) => {
                    self.reading.unknown.insert(refusal.dn.clone());
                    self.found.refuse(refusal);
                    continue;
                }
            };
            let place = xxhash_rust::xxh3::xxh3_64(entry.dn());
            let met = self.reading.index.meet(
                id,
                self.reading.prepared.normaliser.fingerprint(&entry),
                place,
            );
            if met == IndexMatch::Again {
                self.found.seen -= 1;
                continue;
            }
            if met == IndexMatch::Twice {
                self.reading.twice.insert(id);
                continue;
            }
            if met != IndexMatch::Unchanged {
                match self.reading.prepared.normaliser.person(&entry) {
                    Ok(person) => {
                        if person.username.is_err() && met == IndexMatch::New {
                            person
                                .refused
                                .into_iter()
                                .for_each(|r| self.found.refuse(r));
                            continue;
                        }
                        self.reading.waiting.push((person, met == IndexMatch::Held));
                    }
                    Err(refusal) => {
                        self.found.refuse(refusal);
                        continue;
                    }
                }
            }
            self.reading.usable(&entry);
        }
        // Who differs is mostly few, so they gather over pages: the store is asked by batches.
        if self.reading.waiting.len() >= WAITING {
            self.look_at_waiting().await?;
        }
        self.found
            .stage_refusals(&self.setting, self.reading.told_ids())
            .await
    }

    pub(in crate::sync) async fn look_at_waiting(&mut self) -> Result<(), RunFailure> {
        let persons = std::mem::take(&mut self.reading.waiting);
        self.look(persons).await
    }
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
