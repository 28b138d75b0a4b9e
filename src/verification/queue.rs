//! Whoever asks while a transaction is committed shares the next one.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::names::{NameTyped, Named, named};
use super::round::round;
use super::setting::Cached;
use crate::clock::JudgingTime;
use crate::factors::typed::Typed;
use crate::model::ApiToken;
use crate::runs::RunError;
use crate::store::StoreError;
use crate::sync::Engine;

/// Requests of one transaction.
const TOGETHER: usize = 64;

/// Requests that wait: beyond them nobody is kept waiting for nothing.
const WAITING: usize = 4096;

/// How long a request waits for its turn, and a transaction for its end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A code that is to be verified.
#[derive(Clone)]
pub struct VerifyAsk {
    /// Which service asks.
    pub token: Arc<ApiToken>,
    /// The name as it was typed.
    pub username: String,
    /// The realm, by its id or another name; `None`: whoever has the name.
    pub realm: Option<String>,
    /// The code as it was meant.
    pub code: Typed,
    /// By which the same request is known again.
    pub key: Option<AskKey>,
}

impl VerifyAsk {
    /// The name as it was sent.
    pub(super) fn typed(&self) -> NameTyped<'_> {
        NameTyped {
            token: &self.token,
            username: &self.username,
            realm: self.realm.as_deref(),
        }
    }
}

impl fmt::Debug for VerifyAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyAsk")
            .field("token", &self.token.name)
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

/// A service's own key of a request.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AskKey {
    /// The key.
    pub key: String,
    /// SHA-256 of what is asked.
    pub body: [u8; 32],
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Its JSON.
    pub body: String,
}

/// Why there is no answer. Nothing was done, and nothing counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotVerified {
    /// The key was used for another request.
    OtherBody,
    /// The token may ask in another realm only.
    OtherRealm,
    /// Not now, and why.
    Unavailable(String),
}

/// How verifications stand, for whoever tells it.
#[derive(Debug, Default)]
pub struct Health {
    off_ms: AtomicI64,
}

impl Health {
    /// How far this machine's clock was from the database's at the last look, in milliseconds.
    pub fn clock_off_ms(&self) -> i64 {
        self.off_ms.load(Ordering::Relaxed)
    }

    /// Notes what a look at the database's clock said.
    pub fn note(&self, time: JudgingTime) {
        self.off_ms.store(time.off_ms, Ordering::Relaxed);
    }
}

/// A request on its way.
struct WaitingAsk {
    ask: VerifyAsk,
    until: Instant,
    answer: oneshot::Sender<Result<Answered, NotVerified>>,
}

/// The receiving end of the queue, for [`run`].
pub struct VerifyQueue(mpsc::Receiver<WaitingAsk>);

impl fmt::Debug for VerifyQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifyQueue")
    }
}

/// Has codes verified. Cheap to clone.
#[derive(Clone)]
pub struct Verifier(mpsc::Sender<WaitingAsk>);

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    /// One, and its queue.
    pub fn new() -> (Self, VerifyQueue) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), VerifyQueue(receiver))
    }

    /// Waits for the answer to a code.
    pub async fn verify(&self, ask: VerifyAsk) -> Result<Answered, NotVerified> {
        let (answer, told) = oneshot::channel();
        let waiting = WaitingAsk {
            ask,
            until: Instant::now() + PATIENCE,
            answer,
        };
        self.0.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => unavailable("too many requests wait"),
            mpsc::error::TrySendError::Closed(_) => unavailable("the daemon stops"),
        })?;
        told.await
            .unwrap_or_else(|_| Err(unavailable("the daemon stops")))
    }
}

fn unavailable(why: &str) -> NotVerified {
    NotVerified::Unavailable(why.to_owned())
}

/// Answers until cancelled.
pub async fn run(
    engine: watch::Receiver<Engine>,
    queue: VerifyQueue,
    health: Arc<Health>,
    cancel: CancellationToken,
) {
    let VerifyQueue(mut arriving) = queue;
    let mut waiting: VecDeque<WaitingAsk> = VecDeque::new();
    let mut setting = Cached::default();
    loop {
        if waiting.is_empty() {
            let first = cancel.run_until_cancelled(arriving.recv()).await;
            let Some(Some(first)) = first else { return };
            waiting.push_back(first);
        }
        if cancel.is_cancelled() {
            return;
        }
        while waiting.len() < WAITING
            && let Ok(more) = arriving.try_recv()
        {
            waiting.push_back(more);
        }
        let together = next(&mut waiting);
        if together.is_empty() {
            continue;
        }
        let engine = engine.borrow().clone();
        let asks: Vec<&VerifyAsk> = together.iter().map(|one| &one.ask).collect();
        let done = timeout(PATIENCE, answer(&engine, &mut setting, &asks, &health)).await;
        let outcomes = done.unwrap_or_else(|_| {
            tracing::error!(
                "verifications were given up: the store did not answer within {} seconds",
                PATIENCE.as_secs()
            );
            let late = || Some(Err(unavailable("the store does not answer in time")));
            asks.iter().map(|_| late()).collect()
        });
        let mut again = vec![];
        for (one, outcome) in together.into_iter().zip(outcomes) {
            match outcome {
                Some(outcome) => {
                    let _gone = one.answer.send(outcome);
                }
                None => again.push(one),
            }
        }
        for one in again.into_iter().rev() {
            waiting.push_front(one);
        }
    }
}

/// The next requests to be answered together: of each key one. Whoever waited too long is told so, and who went away is forgotten.
fn next(waiting: &mut VecDeque<WaitingAsk>) -> Vec<WaitingAsk> {
    let now = Instant::now();
    let (mut together, mut later): (Vec<WaitingAsk>, Vec<WaitingAsk>) = (vec![], vec![]);
    let mut keys = HashSet::new();
    while together.len() < TOGETHER
        && let Some(one) = waiting.pop_front()
    {
        if one.answer.is_closed() {
            continue;
        }
        if one.until <= now {
            let _gone = one
                .answer
                .send(Err(unavailable("the store is busy: nothing was looked at")));
            continue;
        }
        let key = one
            .ask
            .key
            .as_ref()
            .map(|own| (one.ask.token.id, own.key.clone()));
        if key.is_none_or(|key| keys.insert(key)) {
            together.push(one);
        } else {
            later.push(one);
        }
    }
    for one in later.into_iter().rev() {
        waiting.push_front(one);
    }
    together
}

/// Answers some; `None`: another request of the same user goes first, so that this one has to wait.
async fn answer(
    engine: &Engine,
    setting: &mut Cached,
    asks: &[&VerifyAsk],
    health: &Health,
) -> Vec<Option<Result<Answered, NotVerified>>> {
    let mut tries = 0;
    loop {
        tries += 1;
        match attempt(engine, setting, asks, health).await {
            Ok(outcomes) => return outcomes,
            // Somebody else answered one of them a moment ago.
            Err(Failed::Store(StoreError::Conflict(_))) if tries < 3 => {}
            Err(failed) => {
                let why = failed.told();
                return asks
                    .iter()
                    .map(|_| Some(Err(NotVerified::Unavailable(why.clone()))))
                    .collect();
            }
        }
    }
}

/// Why nothing of a transaction was done.
enum Failed {
    Setting(RunError),
    Store(StoreError),
    ClockOff(i64),
}

impl Failed {
    /// The log has the reason; a service gets what helps it.
    fn told(&self) -> String {
        match self {
            Self::Setting(error) => {
                tracing::error!(%error, "nobody can be verified: {error}");
                "the keys of secrets cannot be read: an administrator looks at the log".into()
            }
            Self::Store(error) => {
                tracing::error!(%error, "verifications failed, and nothing counts: {error}");
                "the store does not answer: nothing was done, and nothing counts".into()
            }
            Self::ClockOff(ms) => {
                let seconds = ms / 1000;
                tracing::error!(
                    seconds,
                    "nobody is verified here: this machine's clock is {seconds} s from the database's; set it (NTP)"
                );
                "this daemon's clock is wrong: nothing was done, and nothing counts".into()
            }
        }
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

async fn attempt(
    engine: &Engine,
    setting: &mut Cached,
    asks: &[&VerifyAsk],
    health: &Health,
) -> Result<Vec<Option<Result<Answered, NotVerified>>>, Failed> {
    let setting = setting.get(engine).await.map_err(Failed::Setting)?;
    let typed: Vec<NameTyped<'_>> = asks.iter().map(|ask| ask.typed()).collect();
    let whom = named(&engine.store, &setting.names, &typed).await?;
    let mut users = HashSet::new();
    let mut places = vec![];
    let mut together: Vec<(&VerifyAsk, Named)> = vec![];
    for (n, (ask, whom)) in asks.iter().zip(whom).enumerate() {
        let first = match &whom {
            Named::User(user) => users.insert(*user),
            _ => true,
        };
        if first {
            places.push(n);
            together.push((ask, whom));
        }
    }
    let mut tx = engine.store.verifying().await?;
    let before = engine.clock.now();
    let database = tx.database_time().await?;
    let after = engine.clock.now();
    let time = JudgingTime::new(database, before, after);
    health.note(time);
    if time.is_off() {
        return Err(Failed::ClockOff(time.off_ms));
    }
    let outcomes = round(tx, &setting, &together, time.at).await?;
    let mut all: Vec<Option<Result<Answered, NotVerified>>> = vec![None; asks.len()];
    for (place, outcome) in places.into_iter().zip(outcomes) {
        all[place] = Some(outcome);
    }
    Ok(all)
}
