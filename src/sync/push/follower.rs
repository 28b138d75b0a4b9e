//! A realm whose directory pushes: a session with a search that stays open, on which each delta becomes a run at once.
//!
//! ```text
//!            told ─▶ gathered ─▶ lock ─▶ delta run ─▶ next
//! follow ─▶ next ┤                     │        │ somebody would be suspended, or lose their number
//!            an error: over,           │        ▼
//!            reconnect                 │    gathered for longer, then one run
//!                                      ▼ plan held, or paused
//!                                  due; from the stored cursor once that is over
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::losses::Losses;
use crate::config::RealmConfig;
use crate::directory::{Cursor, Delta, NoDelta, Watch, Way};
use crate::model::{DirectoryId, ErrorCode, Mode, Outcome, RealmId, RealmRow, Run, Trigger};
use crate::runs::{RealmTurn, RunError, RunFailure};
use crate::store::StoreError;
use crate::sync::changes::begin::{Beginning, usable};
use crate::sync::changes::gather::join;
use crate::sync::engine::Engine;
use crate::sync::realm::due::in_the_way;
use crate::sync::realm::prepare::{check_sentinel, prepare};
use crate::sync::realm::session::PreparedSession;
use crate::sync::run_request::{RunContext, RunPurpose, RunRequest};

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
    Failed(#[from] RunError),
}

impl From<StoreError> for Unfollowed {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<RunFailure> for Unfollowed {
    fn from(error: RunFailure) -> Self {
        Self::Failed(error.into())
    }
}

impl From<NoDelta> for Unfollowed {
    fn from(why: NoDelta) -> Self {
        match why {
            NoDelta::StartOver(why) => Self::PassFirst(why),
            NoDelta::NotOffered(why) => Self::NotOffered(why),
            NoDelta::Directory(error) => RunFailure::from(error).into(),
        }
    }
}

/// A realm that is followed. Dropping it ends that; what was told and not yet applied is told again to the next one.
pub struct Follower {
    engine: Engine,
    realm: RealmId,
    cancel: CancellationToken,
    /// `None` after an error.
    prepared: Option<PreparedSession>,
    watch: Watch,
    /// The stored cursor as this follower left it.
    cursor: Option<String>,
    /// Who was told and is not weighed yet.
    losses: Losses,
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
    /// ([`Following::way`](crate::sync::Following::way)) and had a full pass; takes no lock. `cancel` ends [`Follower::next`].
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
            () = cancel.cancelled() => return Err(RunFailure::cancelled().into()),
            followed = follow => followed?,
        };
        Ok(Follower {
            engine: self.clone(),
            realm: realm.clone(),
            cancel,
            prepared: Some(prepared),
            watch,
            cursor: row.cursor,
            losses: Losses::default(),
            behind: false,
        })
    }
}

/// The stored cursor, if a realm can go on from it by push.
fn cursor_of(
    config: &RealmConfig,
    row: &RealmRow,
    prepared: &PreparedSession,
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
            "realm `{}` does not live by push: in its last full pass the directory offered {}",
            row.id,
            Way::list(&following.ways)
        )));
    }
    Ok(cursor)
}

/// What [`Follower::hear`] heard.
enum FollowedEvent {
    Told(Delta),
    /// It is time to look whether what was in the way is gone, or to weigh the losses that were gathered.
    Time,
    Cancelled,
}

/// What a run of a follower came to.
enum FollowOutcome {
    Run(Box<Run>),
    /// To nothing: those lose something, and are to be gathered.
    LossesWait(BTreeSet<DirectoryId>),
    Cancelled,
}

impl Follower {
    /// The URL of the server that pushes.
    pub fn server(&self) -> Option<String> {
        self.prepared.as_ref().and_then(PreparedSession::server)
    }

    /// Waits until the directory tells something, and gives the run that came of it (applied, unchanged or held): one for each
    /// burst, but whoever would be suspended or lose their number comes later, all of them in one (`Losses`). A run of the realm
    /// that is under way is waited for. While a plan is held, or the realm paused, what is told only
    /// marks the realm as due, and this goes on waiting; afterwards it catches up by itself.
    ///
    /// `None`: cancelled. Not cancel-safe otherwise. After an error the follower is over.
    pub async fn next(&mut self) -> Result<Option<Run>, Unfollowed> {
        loop {
            let told = match self.hear().await? {
                FollowedEvent::Told(delta) => Some(delta),
                FollowedEvent::Time => None,
                FollowedEvent::Cancelled => return Ok(None),
            };
            let Some(turn) = self.turn().await? else {
                return Ok(None);
            };
            let engine = self.engine.within(&turn);
            let config = engine.realm_config(&self.realm)?;
            let row = engine.row(&self.realm).await?;
            if in_the_way(&row, engine.clock.now()) {
                let waited = !std::mem::take(&mut self.losses).is_empty();
                if (waited || told.is_some_and(|d| !d.is_empty())) && !row.due {
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
            let told = if self.behind {
                // Whoever waits is told again.
                self.losses = Losses::default();
                Some(prepared.changes_since(&since).await?)
            } else {
                told
            };
            self.behind = false;
            let losses_wait = told.is_some();
            let mut delta = if let Some(mut delta) = told {
                self.losses.take_out(&mut delta);
                delta
            } else {
                self.losses.take()
            };
            let along = engine.taken_along(&self.realm, prepared, &since, &mut delta);
            if let Some(why) = along.await? {
                return Err(Unfollowed::PassFirst(why));
            }
            while !delta.is_empty() {
                let beginning = Beginning::Delta {
                    since: since.clone(),
                    delta: delta.clone(),
                };
                let ended = self.run(&engine, config, &row, &turn, beginning, losses_wait);
                match Box::pin(ended).await? {
                    FollowOutcome::Run(run) => {
                        self.cursor = engine.row(&self.realm).await?.cursor;
                        return Ok(Some(*run));
                    }
                    FollowOutcome::LossesWait(losing) => delta = self.losses.keep(delta, losing),
                    FollowOutcome::Cancelled => return Ok(None),
                }
            }
            if let Some(cursor) = &delta.cursor {
                engine.move_cursor(&self.realm, &since, cursor).await?;
                self.cursor = engine.row(&self.realm).await?.cursor;
            }
        }
    }

    /// Waits for what is told, and gathers a burst.
    async fn hear(&mut self) -> Result<FollowedEvent, Unfollowed> {
        let due = self.losses.due();
        // More may come for ever.
        if due.is_some_and(|due| due <= Instant::now()) {
            return Ok(FollowedEvent::Time);
        }
        let look = due.unwrap_or_else(|| Instant::now() + LOOK);
        let first = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Ok(FollowedEvent::Cancelled),
            told = self.watch.next() => told?,
            () = sleep_until(look), if self.behind || due.is_some() => return Ok(FollowedEvent::Time),
        };
        let mut all = first;
        let end = Instant::now() + BURST;
        while !all.is_empty() && Instant::now() < end {
            match tokio::time::timeout(QUIET, self.watch.next()).await {
                Ok(more) => join(&mut all, more?),
                Err(_) => break,
            }
        }
        Ok(FollowedEvent::Told(all))
    }

    /// Takes the realm, after the run that has it. `None`: cancelled.
    async fn turn(&mut self) -> Result<Option<RealmTurn>, Unfollowed> {
        loop {
            let now = self.engine.clock.now();
            match RealmTurn::take(&self.engine.store, &self.realm, now).await {
                Err(StoreError::Busy { .. }) => {}
                turn => return Ok(Some(turn?)),
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
        turn: &RealmTurn,
        beginning: Beginning,
        losses_wait: bool,
    ) -> Result<FollowOutcome, Unfollowed> {
        let mut prepared = self.prepared.take().ok_or_else(over)?;
        let ask = RunRequest {
            cancel: self.cancel.clone(),
            ..RunRequest::new(Trigger::Push, None)
        };
        let asked = RunContext {
            config,
            row,
            ask: &ask,
            ending: RunPurpose::ByTheBrake,
        };
        let mut frame = asked.frame(engine.store.clone(), engine.clock.clone(), None);
        frame.run.mode = Mode::Delta;
        frame.run.server = prepared.server();
        let span = tracing::info_span!("run", run = %frame.run.run, realm = %self.realm);
        let done = async {
            let alive = prepared.session()?.liveness();
            alive
                .beside(Box::pin(look_first(config, &mut prepared)))
                .await?;
            frame.begin().await?;
            let end = engine.read_and_decide(&mut frame, &asked, prepared, beginning, losses_wait);
            Box::pin(end).await
        };
        match turn.work(done.instrument(span)).await {
            Ok(end) => {
                self.prepared = Some(end.prepared);
                if !end.losing.is_empty() {
                    frame.forget().await?;
                    return Ok(FollowOutcome::LossesWait(end.losing));
                }
                // The cursor of a held plan stays where it was.
                self.behind = frame.run.outcome == Outcome::Held;
                Ok(FollowOutcome::Run(Box::new(frame.run)))
            }
            Err(error) => {
                let cancelled = error.code.is_none();
                asked.failed(&mut frame, &error).await?;
                if cancelled {
                    return Ok(FollowOutcome::Cancelled);
                }
                Err(error.into())
            }
        }
    }
}

/// How far the server is by now, and whether the account still sees what it must.
async fn look_first(
    config: &RealmConfig,
    prepared: &mut PreparedSession,
) -> Result<(), RunFailure> {
    prepared.look_where_it_is().await?;
    if let Some(sentinel) = &config.directory.sentinel {
        let (scope, normaliser) = (prepared.scope.clone(), prepared.normaliser.clone());
        check_sentinel(prepared.session()?, sentinel, &scope, &normaliser).await?;
    }
    Ok(())
}

fn over() -> RunFailure {
    RunFailure::new(
        ErrorCode::Incomplete,
        "the follower is over after an error: follow the realm anew",
    )
}
