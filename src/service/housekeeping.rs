//! What time alone brings about: holds of numbers that are over, held plans that expire, old rows that go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::pulses::Pulse;
use super::takeover::TickMove;
use crate::factors::keys::KeyId;
use crate::model::RealmId;
use crate::model::words::count;
use crate::runs;
use crate::sync::{Engine, MovePlace, MovedSecrets};
use crate::verification::Health;

/// People notice a number that takes effect later than this.
const HOLDS: Duration = Duration::from_secs(5);
/// A plan waits for days; a minute more is nothing.
const EXPIRY: Duration = Duration::from_mins(1);
/// Old rows go once a day, the first time when the start's own work is done.
const PRUNE: Duration = Duration::from_hours(24);
/// See [`PRUNE`].
const FIRST_PRUNE: Duration = Duration::from_mins(10);

/// Runs until cancelled. `wake` tells the outbox that there may be new messages.
pub(super) async fn run(
    engine: watch::Receiver<Engine>,
    wake: Arc<Notify>,
    moved: mpsc::Sender<TickMove>,
    health: Arc<Health>,
    pulse: Pulse,
    cancel: CancellationToken,
) {
    let start = Instant::now();
    let (mut expiry, mut prune) = (start, start + FIRST_PRUNE);
    let (mut alarmed, mut moving) = (BTreeSet::new(), Moving::default());
    loop {
        pulse.beat();
        let now = Instant::now();
        let engine = engine.borrow().clone();
        let round = async {
            match engine.end_holds().await {
                Ok(0) => {}
                Ok(ended) => {
                    tracing::info!(ended, "{ended} waiting numbers took effect");
                    wake.notify_one();
                }
                Err(error) => {
                    tracing::error!(%error, "waiting numbers cannot take effect: {error}");
                }
            }
            match engine.tell_notices().await {
                Ok(0) => {}
                Ok(_) => wake.notify_one(),
                Err(error) => {
                    tracing::error!(%error, "users cannot be told of their factors: {error}");
                }
            }
            if now >= expiry {
                match engine.send_reminders().await {
                    Ok(0) => {}
                    Ok(sent) => {
                        tracing::info!(sent, "{sent} links that nobody used are sent again");
                        wake.notify_one();
                    }
                    Err(error) => {
                        tracing::error!(%error, "links cannot be sent again: {error}");
                    }
                }
            }
            if now >= expiry {
                match runs::expire_held(&engine.store, engine.clock.now()).await {
                    Ok(expired) => {
                        for run in expired {
                            tracing::warn!(realm = %run.realm, run = %run.run, "{}: nobody decided plan {:#} in time, it expired; the next pass decides anew", run.realm, run.run);
                        }
                    }
                    Err(error) => tracing::error!(%error, "held plans cannot expire: {error}"),
                }
            }
            match engine.end_overrides().await {
                Ok(0) => {}
                Ok(ended) => {
                    tracing::info!(ended, "{ended} numbers by hand stand no longer");
                    wake.notify_one();
                }
                Err(error) => {
                    tracing::error!(%error, "numbers by hand cannot end: {error}");
                }
            }
            if now >= expiry {
                match engine.end_graces().await {
                    Ok(0) => {}
                    Ok(removed) => {
                        tracing::info!(
                            removed,
                            "{removed} users of no directory were removed: their grace is over"
                        );
                        wake.notify_one();
                    }
                    Err(error) => {
                        tracing::error!(%error, "users of no directory cannot be removed: {error}");
                    }
                }
            }
            moving.round(&engine, now >= expiry).await;
            match engine.end_rejected().await {
                Ok(realms) => {
                    for realm in realms {
                        let _stopping = moved.send(TickMove::Due(realm)).await;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "what was rejected for a time cannot come again: {error}");
                }
            }
            if now >= expiry {
                match engine.judging_time().await {
                    Ok(time) => health.note(time),
                    Err(error) => {
                        tracing::error!(%error, "the database's clock cannot be read: {error}");
                    }
                }
                watch_guesses(&engine, &mut alarmed).await;
                if let Err(error) = engine.store.forget_answers(engine.clock.now()).await {
                    tracing::error!(%error, "old answers cannot be forgotten: {error}");
                }
            }
            if now >= prune {
                if let Err(error) = engine.store.forget_verifications(engine.clock.now()).await {
                    tracing::error!(%error, "old verifications cannot be forgotten: {error}");
                }
                if let Err(error) = engine.store.forget_removed().await {
                    tracing::error!(%error, "what is left of removed users cannot be forgotten: {error}");
                }
                match engine
                    .store
                    .prune(engine.clock.now(), engine.config.store.keep_runs_ms)
                    .await
                {
                    Ok(pruned) => tracing::debug!(pruned, "{pruned} old runs went"),
                    Err(error) => tracing::error!(%error, "old runs cannot be pruned: {error}"),
                }
            }
        };
        // A step that is given up rolls back; what time brings about it brings about again.
        tokio::select! {
            () = cancel.cancelled() => return,
            () = round => {}
        }
        if now >= expiry {
            expiry = now + EXPIRY;
        }
        if now >= prune {
            prune = now + PRUNE;
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sleep(HOLDS) => {}
        }
    }
}

/// Says once that somebody is guessing in a realm, and again when it was over in between.
async fn watch_guesses(engine: &Engine, alarmed: &mut BTreeSet<RealmId>) {
    let guesses = match engine.store.guesses(engine.clock.now()).await {
        Ok(guesses) => guesses,
        Err(error) => {
            tracing::error!(%error, "who guesses cannot be counted: {error}");
            return;
        }
    };
    let now: BTreeSet<RealmId> = guesses
        .iter()
        .filter(|one| one.alarm)
        .map(|one| one.realm.clone())
        .collect();
    for one in guesses
        .iter()
        .filter(|one| one.alarm && !alarmed.contains(&one.realm))
    {
        tracing::error!(realm = %one.realm, locked = one.locked, delayed = one.delayed, "{}: somebody seems to guess codes: within an hour {} locked, {} held back by a delay: `realmsync users list --held-back` names them", one.realm, count(one.locked, "user"), count(one.delayed, "user"));
    }
    *alarmed = now;
}

/// What is kept with a former key is moved to the one in use.
#[derive(Default)]
struct Moving {
    /// Which that was when it was last looked.
    key: Option<KeyId>,
    /// How far the look has come.
    place: Option<MovePlace>,
}

impl Moving {
    /// A round, where one is due, the one before came to no end, or the key is another one by now.
    async fn round(&mut self, engine: &Engine, due: bool) {
        match engine.store.key_keeping().await {
            Ok(keeping) => {
                let key = keeping.canary.map(|canary| canary.key);
                let changed = key != self.key;
                self.key = key;
                if !(due || changed || self.place.is_some()) {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "the enrolment key cannot be looked at: {error}");
                return;
            }
        }
        match engine.move_secrets(self.place.take()).await {
            Ok(MovedSecrets {
                moved,
                broken,
                next,
            }) => {
                self.place = next;
                if moved > 0 {
                    tracing::info!(
                        moved,
                        "{moved} secrets are kept with the enrolment key in use now"
                    );
                }
                if broken > 0 {
                    tracing::error!(
                        broken,
                        "{broken} secrets cannot be decrypted: they were changed by somebody else, or belong to other users; put back a copy of the store, or let these users enrol anew"
                    );
                }
                if due && moved == 0 && broken == 0 && next.is_none() {
                    forget_own_key(engine).await;
                }
            }
            Err(error) => {
                tracing::error!(%error, "secrets cannot be moved to the enrolment key in use: {error}");
            }
        }
    }
}

/// The key that the store made for itself goes once nothing needs it.
async fn forget_own_key(engine: &Engine) {
    if let Err(error) = engine.forget_own_key().await {
        tracing::error!(%error, "the store's own enrolment key cannot be removed: {error}");
    }
}
