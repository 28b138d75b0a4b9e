//! Whoever asks while a transaction is committed shares the next one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::names::{NameTyped, Named, named};
use super::refusals::Refusals;
use super::round::round;
use super::setting::Cached;
use crate::clock::JudgingTime;
use crate::factors::typed::Typed;
use crate::model::ApiToken;
use crate::model::person::fold_name;
use crate::runs::RunError;
use crate::store::StoreError;
use crate::sync::Engine;

/// Requests of one transaction.
const TOGETHER: usize = 64;

/// Requests that wait: beyond them nobody is kept waiting for nothing.
const WAITING: usize = 4096;

/// Requests about one name that wait. Whoever sends more of them takes no turn from others.
const OF_ONE_NAME: usize = 32;

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
    /// One number for each name in a realm, however it is written.
    pub(super) fn name(&self) -> u64 {
        let realm = self.realm.as_deref().map(str::trim).map(fold_name);
        let name = fold_name(self.username.trim());
        let text = format!("{}\0{name}", realm.unwrap_or_default());
        xxhash_rust::xxh3::xxh3_64(text.as_bytes())
    }

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
    /// A secret of the user cannot be decrypted: which, and why. It is there, so that this is no verdict.
    Sealed(String),
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
    /// Of the name that it is about.
    name: u64,
    until: Instant,
    answer: oneshot::Sender<Result<Answered, NotVerified>>,
}

impl WaitingAsk {
    fn tell(self, outcome: Result<Answered, NotVerified>) {
        let _gone = self.answer.send(outcome);
    }
}

/// Requests that wait, in their order.
#[derive(Default)]
struct Line {
    asks: VecDeque<WaitingAsk>,
    of_name: HashMap<u64, usize>,
}

impl Line {
    /// At its end; told at once where too many about the same name wait already.
    fn join(&mut self, one: WaitingAsk) {
        let waiting = self.of_name.entry(one.name).or_default();
        if *waiting >= OF_ONE_NAME {
            one.tell(Err(unavailable(
                "too many requests about this name wait: nothing was looked at, and nothing counts",
            )));
            return;
        }
        *waiting += 1;
        self.asks.push_back(one);
    }

    /// Where it was before.
    fn go_back(&mut self, ones: Vec<WaitingAsk>) {
        for one in ones.into_iter().rev() {
            *self.of_name.entry(one.name).or_default() += 1;
            self.asks.push_front(one);
        }
    }

    fn take(&mut self) -> Option<WaitingAsk> {
        let one = self.asks.pop_front()?;
        if let Some(waiting) = self.of_name.get_mut(&one.name) {
            *waiting -= 1;
            if *waiting == 0 {
                self.of_name.remove(&one.name);
            }
        }
        Some(one)
    }

    /// The next to be answered together: of each name and of each key one. Whoever waited too long is told so, and who went away is
    /// forgotten.
    fn next(&mut self) -> Vec<WaitingAsk> {
        let now = Instant::now();
        let (mut together, mut later): (Vec<WaitingAsk>, Vec<WaitingAsk>) = (vec![], vec![]);
        let (mut keys, mut names) = (HashSet::new(), HashSet::new());
        while together.len() < TOGETHER
            && let Some(one) = self.take()
        {
            if one.answer.is_closed() {
                continue;
            }
            if one.until <= now {
                one.tell(Err(unavailable("the store is busy: nothing was looked at")));
                continue;
            }
            let key = one.ask.key.as_ref();
            let key = key.map(|own| (one.ask.token.id, own.key.clone()));
            let alone =
                !names.contains(&one.name) && key.as_ref().is_none_or(|key| !keys.contains(key));
            if alone {
                names.insert(one.name);
                keys.extend(key);
                together.push(one);
            } else {
                later.push(one);
            }
        }
        self.go_back(later);
        together
    }
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
            name: ask.name(),
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
    let mut line = Line::default();
    let mut setting = Cached::default();
    let mut refusals = Refusals::default();
    loop {
        if line.asks.is_empty() {
            let first = cancel.run_until_cancelled(arriving.recv()).await;
            let Some(Some(first)) = first else { return };
            line.join(first);
        }
        if cancel.is_cancelled() {
            return;
        }
        while line.asks.len() < WAITING
            && let Ok(more) = arriving.try_recv()
        {
            line.join(more);
        }
        let together = line.next();
        if together.is_empty() {
            continue;
        }
        let engine = engine.borrow().clone();
        let asks: Vec<&VerifyAsk> = together.iter().map(|one| &one.ask).collect();
        let done = timeout(
            PATIENCE,
            answer(&engine, (&mut setting, &mut refusals), &asks, &health),
        )
        .await;
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
                Some(outcome) => one.tell(outcome),
                None => again.push(one),
            }
        }
        line.go_back(again);
    }
}

/// Answers some; `None`: another request of the same user goes first, so that this one has to wait.
async fn answer(
    engine: &Engine,
    (setting, refusals): (&mut Cached, &mut Refusals),
    asks: &[&VerifyAsk],
    health: &Health,
) -> Vec<Option<Result<Answered, NotVerified>>> {
    let mut tries = 0;
    loop {
        tries += 1;
        match attempt(engine, (setting, refusals), asks, health).await {
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
    (setting, refusals): (&mut Cached, &mut Refusals),
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
    let outcomes = round(tx, &setting, &together, time.at, refusals).await?;
    for outcome in &outcomes {
        if let Err(NotVerified::Sealed(what)) = outcome {
            engine.alarm_sealed(what).await;
        }
    }
    let mut all: Vec<Option<Result<Answered, NotVerified>>> = vec![None; asks.len()];
    for (place, outcome) in places.into_iter().zip(outcomes) {
        all[place] = Some(outcome);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn ask(username: &str) -> (WaitingAsk, oneshot::Receiver<Result<Answered, NotVerified>>) {
        let (answer, told) = oneshot::channel();
        let token = ApiToken {
            id: crate::model::ApiTokenId(uuid::Uuid::from_u128(1)),
            name: "vpn".into(),
            scopes: vec![crate::model::Scope::Verify],
            realm: None,
            created_at: Timestamp(0),
            by: None,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        };
        let ask = VerifyAsk {
            token: Arc::new(token),
            username: username.into(),
            realm: None,
            code: crate::factors::typed::read("123456"),
            key: None,
        };
        let waiting = WaitingAsk {
            name: ask.name(),
            ask,
            until: Instant::now() + PATIENCE,
            answer,
        };
        (waiting, told)
    }

    #[tokio::test]
    async fn guesses_at_one_name_take_no_turn_from_others() {
        let mut line = Line::default();
        let mut told = vec![];
        for _ in 0..1000 {
            let (one, answer) = ask(" Jan ");
            line.join(one);
            told.push(answer);
        }
        let (eva, _answer) = ask("eva");
        line.join(eva);
        // The others of the name were told at once.
        for answer in &mut told[OF_ONE_NAME..] {
            assert!(matches!(
                answer.try_recv(),
                Ok(Err(NotVerified::Unavailable(_)))
            ));
        }
        let names = |ones: &[WaitingAsk]| -> Vec<String> {
            ones.iter().map(|one| one.ask.username.clone()).collect()
        };
        let together = line.next();
        assert_eq!(names(&together), [" Jan ", "eva"]);
        // What comes back keeps its place, and counts.
        line.go_back(together);
        assert_eq!(line.asks.len(), OF_ONE_NAME + 1);
        assert_eq!(names(&line.next()), [" Jan ", "eva"]);
        assert_eq!(names(&line.next()), [" Jan "]);
        told.clear();
        assert!(line.next().is_empty(), "nobody waits for them");
        assert!(line.asks.is_empty() && line.of_name.is_empty());
    }
}
