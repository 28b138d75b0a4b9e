//! Change notification as a wake-up for DirSync (MS-ADTS 3.1.1.3.4.1.9): a stroke says that something changed, DirSync says what.
//!
//! ```text
//!              ┌────────── a stroke, or ROUND is over ──────────┐
//!              ▼                                                │
//!   due ── ask DirSync ─┬─ told: hand on                        │
//!    ▲                  └─ nothing: calm for CALM ── wait ──────┘
//!    └─ at the beginning: what changed before the search was open
//! ```
//!
//! The servers take no filter but one that matches everything, at the naming context: so strokes come for computers and logons too.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select_all;
use ldap3::controls::RawControl;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::super::backlog::SearchStream;
use super::super::delta::{Cursor, Delta, NoDelta};
use super::super::error::came;
use super::super::link::{Broken, within};
use super::super::read::Scope;
use super::super::search::Trouble;
use super::super::session::Session;
use super::read::passing;
use super::{EVERYTHING, NOTIFICATION, SHOW_DELETED};

/// How long nothing may come before the server is asked all the same. It notices a dead peer: ROUND and ANSWER are less than 60 s.
const ROUND: Duration = Duration::from_secs(20);
/// How long the answer to that may take.
const ANSWER: Duration = Duration::from_secs(20);
/// How long the first answer may take, which tells of all that changed since the cursor.
const CATCH_UP: Duration = Duration::from_mins(10);
/// After strokes that were for nobody of the realm: a domain in which everybody logs on must not be asked a hundred times a second.
const CALM: Duration = Duration::from_millis(500);
/// How long a refusal of the search may take after the server has answered the next question.
const REFUSAL: Duration = Duration::from_millis(150);

/// An open search that is woken by changes.
pub(in crate::directory) struct Notification {
    session: Session,
    scope: Scope,
    cursor: Cursor,
    streams: Vec<SearchStream>,
    /// Whether something may have changed since DirSync was asked.
    due: bool,
    /// Whether the cursor is that of the beginning: there may be much to catch up on.
    behind: bool,
    /// When DirSync may be asked again.
    calm: Instant,
}

impl std::fmt::Debug for Notification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notification")
            .field("session", &self.session)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Opens the searches, one for each naming context. A refusal comes at once, if it comes.
    pub(super) async fn notifies(&mut self) -> Result<Vec<SearchStream>, NoDelta> {
        if !self.announces_notification() {
            let server = &self.server;
            return Err(NoDelta::NotOffered(format!(
                "{server} does not announce change notification"
            )));
        }
        // Without the second one a deletion makes no stroke.
        let oids = [NOTIFICATION, SHOW_DELETED].into_iter();
        let controls: Vec<RawControl> = oids
            .filter(|oid| self.root.has_control(oid))
            .map(|oid| RawControl {
                ctype: oid.into(),
                crit: true,
                val: None,
            })
            .collect();
        // What changed is DirSync's to say.
        let attributes: Arc<[String]> = vec!["1.1".to_owned()].into();
        let mut streams = Vec::new();
        for context in self.contexts.clone() {
            let what = format!("asking `{context}` for change notification");
            let until = self.page_end();
            let opened = self
                .open(
                    &what,
                    &context,
                    EVERYTHING,
                    &attributes,
                    controls.clone(),
                    until,
                )
                .await;
            streams.push(opened.map_err(|t| self.no_notification(t))?);
        }
        self.usn_now().await?;
        let soon = Instant::now() + REFUSAL;
        for stream in &mut streams {
            match within(soon, stream.next()).await {
                Ok(Some(_)) | Err(Broken::Late(_)) => {}
                ended => return Err(self.over(stream, ended.map(|_| ())).await),
            }
        }
        Ok(streams)
    }

    /// The error of a search that ended, which it never does by itself.
    async fn over(&mut self, stream: &mut SearchStream, end: Result<(), Broken>) -> NoDelta {
        let what = "waiting for change notification";
        let trouble = match end {
            Ok(()) => Trouble::result(stream.finish().await, what.into()),
            Err(broken) => self.broken(what, broken).await,
        };
        self.no_notification(trouble)
    }

    fn no_notification(&self, trouble: Trouble) -> NoDelta {
        match trouble {
            Trouble::Error(e) => e.into(),
            Trouble::Result { code, text, what } if code == 0 || passing(code) => {
                self.refused(&what, code, &text).into()
            }
            Trouble::Result { code, text, .. } => NoDelta::NotOffered(format!(
                "{} gives no change notification: {}",
                self.server,
                came(code, &text)
            )),
        }
    }

    /// Holds change notification open; `cursor` is one of DirSync, and the first delta is what changed since.
    pub(in crate::directory) async fn dirsync_watch(
        &mut self,
        scope: &Scope,
        cursor: &Cursor,
    ) -> Result<Notification, NoDelta> {
        let streams = self.notifies().await?;
        Ok(Notification {
            session: self.beside(),
            scope: scope.clone(),
            cursor: cursor.clone(),
            streams,
            due: true,
            behind: true,
            calm: Instant::now(),
        })
    }
}

impl Notification {
    /// Waits for a change that DirSync can tell of. Cancel-safe: the cursor moves only with what is handed on.
    pub(in crate::directory) async fn next(&mut self) -> Result<Delta, NoDelta> {
        loop {
            if self.due {
                sleep_until(self.calm).await;
                let (delta, again) = self.ask().await?;
                self.due = again;
                if let Some(cursor) = &delta.cursor {
                    self.cursor = cursor.clone();
                }
                if delta.cursor.is_some() || !delta.is_empty() {
                    return Ok(delta);
                }
                self.calm = Instant::now() + CALM;
                if again {
                    continue;
                }
            }
            let round = Instant::now() + ROUND;
            match timeout_at(round, stroke(&mut self.streams)).await {
                Err(_) | Ok((_, Ok(true))) => self.due = true,
                Ok((at, end)) => {
                    let stream = &mut self.streams[at];
                    return Err(self.session.over(stream, end.map(|_| ())).await);
                }
            }
        }
    }

    /// What DirSync tells, and whether something may have changed since.
    async fn ask(&mut self) -> Result<(Delta, bool), NoDelta> {
        // What has come so far is answered by this very question.
        while let Some((at, end)) = stroke(&mut self.streams).now_or_never() {
            if !matches!(end, Ok(true)) {
                let stream = &mut self.streams[at];
                return Err(self.session.over(stream, end.map(|_| ())).await);
            }
        }
        let time = if self.behind { CATCH_UP } else { ANSWER };
        self.session.deadline = Instant::now() + time;
        let mut again = false;
        let answer = {
            let mut changes = pin!(self.session.dirsync_changes(&self.scope, &self.cursor));
            // Strokes come over the same connection meanwhile, and must not stand in the way of the answer.
            loop {
                tokio::select! {
                    biased;
                    delta = &mut changes => break Ok(delta?),
                    (at, came) = stroke(&mut self.streams) => match came {
                        Ok(true) => again = true,
                        end => break Err((at, end)),
                    },
                }
            }
        };
        let delta = match answer {
            Ok(delta) => delta,
            Err((at, end)) => {
                let stream = &mut self.streams[at];
                return Err(self.session.over(stream, end.map(|_| ())).await);
            }
        };
        self.behind = false;
        Ok((delta, again))
    }
}

/// The next stroke of any search: which one, and whether it was one (`false`: the search ended).
async fn stroke(streams: &mut [SearchStream]) -> (usize, Result<bool, Broken>) {
    let far = Instant::now() + Duration::from_hours(24);
    let each = streams
        .iter_mut()
        .map(|s| Box::pin(within(far, async { Ok(s.next().await?.is_some()) })));
    let (came, at, _) = select_all(each).await;
    (at, came)
}
