//! A realm whose directory pushes: a session with a search that stays open, on which each delta becomes a run at once.
//!
//! ```text
//!            told ───────▶ gathered ─▶ lock ─▶ delta run ─▶ next
//! follow ─▶ next ┤                          │ plan held, or paused
//!            an error: over, reconnect      ▼
//!                                      due; from the stored cursor once that is over
//! ```

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::doing::Doing;
use super::following::{Beginning, usable};
use super::prepare::{PassError, Prepared, check_sentinel, prepare};
use super::run::Ending;
use super::{Ask, Engine, EngineError};
use crate::clock::Timestamp;
use crate::config::RealmConfig;
use crate::directory::{Cursor, Delta, NoDelta, Watch, Way};
use crate::model::{ErrorCode, Mode, Outcome, RealmId, RealmRow, Run, Trigger};
use crate::store::{RealmLock, StoreError};

/// What comes within this of what was told before it is one burst: one transaction instead of many.
const QUIET: Duration = Duration::from_millis(2);

/// No burst is gathered for longer: who waits for a number must not wait for a whole import.
const BURST: Duration = Duration::from_millis(50);

/// How often it is looked whether a held plan was decided, or a pause is over. Only while changes wait for that.
const LOOK: Duration = Duration::from_secs(2);

/// How often a realm is tried that another run has.
const BUSY: Duration = Duration::from_millis(20);

/// Why a realm is not followed any more, and with it what its caller does next.
#[derive(thiserror::Error, Debug)]
pub enum Unfollowed {
    /// The directory does not push, as the text says: poll it.
    #[error("{0}")]
    NotOffered(String),
    /// Only a run can go on: [`Engine::sync`] with [`Trigger::Push`], which reads everything where it must, and then follow again.
    #[error("{0}")]
    PassFirst(String),
    /// Anything else: follow again after a while. What was told meanwhile is told again, from the stored cursor.
    #[error(transparent)]
    Failed(#[from] EngineError),
}

impl From<StoreError> for Unfollowed {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<PassError> for Unfollowed {
    fn from(error: PassError) -> Self {
        Self::Failed(super::decided::failed(error))
    }
}

impl From<NoDelta> for Unfollowed {
    fn from(why: NoDelta) -> Self {
        match why {
            NoDelta::StartOver(why) => Self::PassFirst(why),
            NoDelta::NotOffered(why) => Self::NotOffered(why),
            NoDelta::Directory(error) => PassError::from(error).into(),
        }
    }
}

/// A realm that is followed. Dropping it ends that; what was told and not yet applied is told again to the next one.
pub struct Follower {
    engine: Engine,
    realm: RealmId,
    cancel: CancellationToken,
    /// `None` after an error.
    prepared: Option<Prepared>,
    watch: Watch,
    /// The stored cursor as this follower left it.
    cursor: Option<String>,
    /// Something was told that could not be followed: before anything else the directory is asked from the stored cursor.
    behind: bool,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("realm", &self.realm)
            .field("behind", &self.behind)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Connects, and follows a realm's directory from the stored cursor. Works on a realm that lives by push
    /// ([`Following::way`](super::Following::way)) and had a full pass; takes no lock. `cancel` ends [`Follower::next`].
    pub async fn follow(
        &self,
        realm: &RealmId,
        cancel: CancellationToken,
    ) -> Result<Follower, Unfollowed> {
        let config = self.realm_config(realm)?;
        let row = self.row(realm).await?;
        let follow = async {
            let mut prepared = prepare(self, config, &row, false).await?;
            let cursor = cursor_of(config, &row, &prepared)?;
            let scope = prepared.scope.clone();
            let session = prepared.session()?;
            let alive = session.liveness();
            let watch = alive
                .beside(Box::pin(session.watch(&scope, &cursor)))
                .await?;
            Ok::<_, Unfollowed>((prepared, watch))
        };
        let (prepared, watch) = tokio::select! {
            () = cancel.cancelled() => return Err(PassError::cancelled().into()),
            followed = follow => followed?,
        };
        Ok(Follower {
            engine: self.clone(),
            realm: realm.clone(),
            cancel,
            prepared: Some(prepared),
            watch,
            cursor: row.cursor,
            behind: false,
        })
    }
}

/// The stored cursor, if a realm can go on from it by push.
fn cursor_of(
    config: &RealmConfig,
    row: &RealmRow,
    prepared: &Prepared,
) -> Result<Cursor, Unfollowed> {
    let cursor = usable(config, row, prepared).map_err(Unfollowed::PassFirst)?;
    let Some((cursor, following)) = cursor else {
        return Err(Unfollowed::PassFirst(format!(
            "realm `{}` has no cursor: a full pass takes one",
            row.id
        )));
    };
    if following.way != Some(Way::Push) {
        return Err(Unfollowed::NotOffered(format!(
            "realm `{}` does not live by push: in its last full pass the directory offered {:?}",
            row.id, following.ways
        )));
    }
    Ok(cursor)
}

/// What [`Follower::hear`] heard.
enum Heard {
    Told(Delta),
    /// It is time to look whether what was in the way is gone.
    Look,
    Cancelled,
}

impl Follower {
    /// The URL of the server that pushes.
    pub fn server(&self) -> Option<String> {
        self.prepared.as_ref().and_then(Prepared::server)
    }

    /// Waits until the directory tells something, and gives the run that came of it (applied, unchanged or held): one for each
    /// burst. A run of the realm that is under way is waited for. While a plan is held, or the realm paused, what is told only
    /// marks the realm as due, and this goes on waiting; afterwards it catches up by itself.
    ///
    /// `None`: cancelled. Not cancel-safe otherwise. After an error the follower is over.
    pub async fn next(&mut self) -> Result<Option<Run>, Unfollowed> {
        loop {
            let mut delta = match self.hear().await? {
                Heard::Told(delta) => Some(delta),
                Heard::Look => None,
                Heard::Cancelled => return Ok(None),
            };
            let Some(lock) = self.lock().await? else {
                return Ok(None);
            };
            let engine = self.engine.fenced(&lock);
            if let Some(former) = lock.taken_over_from() {
                let now = engine.clock.now();
                let store = &engine.store;
                store.end_abandoned(&self.realm, Some(former), now).await?;
            }
            let config = engine.realm_config(&self.realm)?;
            let row = engine.row(&self.realm).await?;
            if in_the_way(&row, engine.clock.now()) {
                if delta.is_some_and(|d| !d.is_empty()) && !row.due {
                    engine.store.set_due(&self.realm, true).await?;
                }
                self.behind = true;
                continue;
            }
            // Another daemon, or a pass, may have followed what was told here: then the directory is asked from where that ended.
            self.behind |= row.cursor != self.cursor;
            self.cursor.clone_from(&row.cursor);
            let prepared = self.prepared.as_mut().ok_or_else(over)?;
            let since = cursor_of(config, &row, prepared)?;
            prepared.extend(config)?;
            if self.behind {
                delta = Some(prepared.changes_since(&since).await?);
            }
            self.behind = false;
            let Some(mut delta) = delta else { continue };
            if let Some(why) = engine
                .taken_along(&self.realm, prepared, &since, &mut delta)
                .await?
            {
                return Err(Unfollowed::PassFirst(why));
            }
            if delta.is_empty() {
                if let Some(cursor) = &delta.cursor {
                    engine.move_cursor(&self.realm, &since, cursor).await?;
                    self.cursor = engine.row(&self.realm).await?.cursor;
                }
                continue;
            }
            let beginning = Beginning::Delta { since, delta };
            let run = self.run(&engine, config, &row, &lock, beginning).await?;
            self.cursor = engine.row(&self.realm).await?.cursor;
            return Ok(run);
        }
    }

    /// Waits for what is told, and gathers a burst.
    async fn hear(&mut self) -> Result<Heard, Unfollowed> {
        let first = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Ok(Heard::Cancelled),
            told = self.watch.next() => told?,
            () = tokio::time::sleep(LOOK), if self.behind => return Ok(Heard::Look),
        };
        let mut all = first;
        let end = Instant::now() + BURST;
        while !all.is_empty() && Instant::now() < end {
            match tokio::time::timeout(QUIET, self.watch.next()).await {
                Ok(more) => join(&mut all, more?),
                Err(_) => break,
            }
        }
        Ok(Heard::Told(all))
    }

    /// Takes the realm, after the run that has it. `None`: cancelled.
    async fn lock(&mut self) -> Result<Option<RealmLock>, Unfollowed> {
        loop {
            match self.engine.store.lock_realm(&self.realm).await {
                Err(StoreError::Busy { .. }) => {}
                lock => return Ok(Some(lock?)),
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Ok(None),
                () = tokio::time::sleep(BUSY) => {}
            }
        }
    }

    async fn run(
        &mut self,
        engine: &Engine,
        config: &RealmConfig,
        row: &RealmRow,
        lock: &RealmLock,
        beginning: Beginning,
    ) -> Result<Option<Run>, Unfollowed> {
        let mut prepared = self.prepared.take().ok_or_else(over)?;
        let ask = Ask {
            cancel: self.cancel.clone(),
            ..Ask::new(Trigger::Push, None)
        };
        let mut run = Engine::new_run(&self.realm, &ask, engine.clock.now());
        run.mode = Mode::Delta;
        run.server = prepared.server();
        let mut doing = Doing {
            config,
            row,
            ask: &ask,
            ending: Ending::ByTheBrake,
            started: Instant::now(),
            begun: false,
        };
        let span = tracing::info_span!("run", run = %run.run, realm = %self.realm);
        let done = async {
            let alive = prepared.session()?.liveness();
            alive
                .beside(Box::pin(look_first(config, &mut prepared)))
                .await?;
            doing.begin(engine, &run).await?;
            Box::pin(engine.carry_out(&mut run, &doing, prepared, beginning)).await
        };
        let done = tokio::select! {
            biased;
            done = done.instrument(span) => done,
            () = lock.lost() => Err(StoreError::TakenOver.into()),
        };
        match done {
            Ok((_, prepared)) => {
                self.prepared = Some(prepared);
                // The cursor of a held plan stays where it was.
                self.behind = run.outcome == Outcome::Held;
                Ok(Some(run))
            }
            Err(error) => {
                let cancelled = error.code.is_none();
                doing.failed(engine, &mut run, &error).await?;
                if cancelled {
                    return Ok(None);
                }
                Err(error.into())
            }
        }
    }
}

/// How far the server is by now, and whether the account still sees what it must.
async fn look_first(config: &RealmConfig, prepared: &mut Prepared) -> Result<(), PassError> {
    prepared.look_where_it_is().await?;
    if let Some(sentinel) = &config.directory.sentinel {
        let (scope, normaliser) = (prepared.scope.clone(), prepared.normaliser.clone());
        check_sentinel(prepared.session()?, sentinel, &scope, &normaliser).await?;
    }
    Ok(())
}

/// Whether a delta must wait: until a plan is decided, or a pause is over.
pub(super) fn in_the_way(row: &RealmRow, now: Timestamp) -> bool {
    row.held.is_some() || row.is_paused(now) || row.orphaned
}

fn over() -> PassError {
    PassError::new(
        ErrorCode::Incomplete,
        "the follower is over after an error: follow the realm anew",
    )
}

/// What is told later counts: its cursor, and what it says of an entry.
fn join(all: &mut Delta, more: Delta) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{Cursor, Way};
    use crate::model::DirectoryId;

    fn told(touched: &[u8], gone: &[u8], cookie: Option<&str>) -> Delta {
        let ids = |list: &[u8]| list.iter().map(|n| DirectoryId([*n; 16])).collect();
        Delta {
            touched: ids(touched),
            gone: ids(gone),
            present: None,
            cursor: cookie.map(|cookie| Cursor {
                way: Way::Syncrepl,
                server: "s".into(),
                cookie: cookie.into(),
                scope: 1,
            }),
            blind: None,
        }
    }

    #[test]
    fn a_burst_has_all_that_was_told_and_goes_on_from_the_last() {
        let mut all = told(&[2, 1], &[5], Some("a"));
        join(&mut all, told(&[3, 1], &[4, 5], Some("b")));
        join(&mut all, told(&[], &[6], None));
        assert_eq!(all, told(&[1, 2, 3], &[4, 5, 6], Some("b")));
        // Who is there by a refresh is who was there last.
        let present = |n| Some(vec![DirectoryId([n; 16])]);
        for (there, later, is) in [
            (None, present(7), present(7)),
            (present(7), None, present(7)),
            (present(7), present(8), present(8)),
        ] {
            all.present = there;
            join(
                &mut all,
                Delta {
                    present: later,
                    ..told(&[], &[], None)
                },
            );
            assert_eq!(all.present, is);
        }
        // Of what cannot be told, the first is said.
        for blind in ["deletions", "moves"] {
            join(
                &mut all,
                Delta {
                    blind: Some(blind.into()),
                    ..told(&[], &[], None)
                },
            );
        }
        assert_eq!(all.blind.as_deref(), Some("deletions"));
    }
}
