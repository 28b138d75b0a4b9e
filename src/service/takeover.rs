//! What daemons that share a store see of each other: runs whose daemon died or stands still are ended, and ticks are done once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::pulses::Pulse;
use crate::clock::Timestamp;
use crate::model::RealmId;
use crate::runs::RunError;
use crate::store::{Abandoned, StoreError};
use crate::sync::Engine;

/// With the 15 s of a lease, another daemon is at work within 20 s.
const LOOK: Duration = Duration::from_secs(3);

/// A realm that no running daemon's file has is orphaned after so many looks: a daemon that is started again has time to come back.
const ABSENT: u32 = 20;

/// The ticks of a realm moved in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum TickMove {
    /// Somebody made the pass of this one.
    Done(RealmId, Timestamp),
    /// Whoever made it died or was stopped: what comes after this instant is due.
    Back(RealmId, Timestamp),
    /// It was marked as due: another realm let go of people for whom it waits.
    Due(RealmId),
}

/// Runs until cancelled. Not with SQLite, where nobody else is.
pub(super) async fn run(
    engine: watch::Receiver<Engine>,
    moved: mpsc::Sender<TickMove>,
    pulse: Pulse,
    cancel: CancellationToken,
) {
    let (mut stood, mut due) = (BTreeMap::new(), BTreeSet::new());
    let mut absent = 0;
    loop {
        pulse.beat();
        let engine = engine.borrow().clone();
        tokio::select! {
            () = cancel.cancelled() => return,
            looked = async {
                look_whose(&engine, &mut absent).await?;
                Ok::<_, RunError>(look(&engine, &mut stood, &mut due, &moved).await?)
            } => if let Err(error) = looked {
                tracing::error!(%error, "other daemons' runs cannot be looked after: {error}");
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sleep(LOOK) => {}
        }
    }
}

/// Says that this daemon lives, and looks after realms that nobody's file has, or that are ours and were orphaned all the same.
async fn look_whose(engine: &Engine, absent: &mut u32) -> Result<(), RunError> {
    let ours: Vec<RealmId> = engine.config.realms.iter().map(|r| r.id.clone()).collect();
    engine.store.daemon_lives(&ours).await?;
    for row in engine.store.realms().await? {
        if row.orphaned && ours.contains(&row.id) {
            engine.declare_realm(&row.id).await?;
            tracing::warn!(realm = %row.id, "{}: was orphaned although it is in the configuration, and resumes", row.id);
        }
    }
    let nobodys = engine.store.nobodys_realms().await?;
    if absent_for_long(absent, !nobodys.is_empty()) {
        engine.declare_realms().await?;
    }
    Ok(())
}

/// Counts looks in a row at which there was a realm that nobody's file has; whether it is to be orphaned now.
fn absent_for_long(looks: &mut u32, absent: bool) -> bool {
    *looks = if absent { *looks + 1 } else { 0 };
    let long = *looks >= ABSENT;
    if long {
        *looks = 0;
    }
    long
}

async fn look(
    engine: &Engine,
    stood: &mut BTreeMap<RealmId, Timestamp>,
    due: &mut BTreeSet<RealmId>,
    moved: &mpsc::Sender<TickMove>,
) -> Result<(), StoreError> {
    for Abandoned {
        run, realm, former, ..
    } in engine.store.fail_abandoned(engine.clock.now()).await?
    {
        let who = former.as_deref().unwrap_or("its process");
        tracing::warn!(%realm, %run, "{realm}: {who} ended or stood still in the middle of run {run:#}, which is swept: nothing of it was applied");
    }
    for row in engine.store.realms().await? {
        let Some(at) = row.last_tick_at else { continue };
        let news = match stood.insert(row.id.clone(), at) {
            Some(was) if was < at => TickMove::Done(row.id, at),
            Some(was) if was > at => TickMove::Back(row.id, at),
            _ => continue,
        };
        let _stopping = moved.send(news).await;
    }
    // Once: one whose run fails is asked again by whoever keeps it up to date.
    let now: BTreeSet<RealmId> = match engine.due(engine.clock.now()).await {
        Ok(realms) => realms.into_iter().collect(),
        Err(RunError::Store(error)) => return Err(error),
        Err(_) => BTreeSet::new(),
    };
    for realm in now.difference(due) {
        let _stopping = moved.send(TickMove::Due(realm.clone())).await;
    }
    *due = now;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_of_nobodys_file_is_orphaned_after_a_minute_without_a_break() {
        assert_eq!(LOOK * ABSENT, Duration::from_mins(1));
        let mut looks = 0;
        let times = |looks: &mut u32, n| {
            (0..n)
                .map(|_| absent_for_long(looks, true))
                .collect::<Vec<_>>()
        };
        assert!(times(&mut looks, ABSENT - 1).iter().all(|long| !long));
        assert!(!absent_for_long(&mut looks, false), "its daemon is back");
        let again = times(&mut looks, ABSENT);
        assert_eq!(again.iter().position(|long| *long), Some(again.len() - 1));
        assert!(!absent_for_long(&mut looks, true), "it is counted anew");
    }
}
