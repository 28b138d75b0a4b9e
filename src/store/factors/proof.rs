//! A code that proves who somebody is on the page, tried on all that the user has.

use super::judging::CodeUse;
use super::verifying::{VerificationRow, Verifying};
use crate::clock::Timestamp;
use crate::factors::keys::KeyRing;
use crate::factors::throttle::Gate;
use crate::factors::typed::Typed;
use crate::factors::verdict::Judged;
use crate::model::{RealmId, UserId, Verdict, VerifyReason, VerifyResult};
use crate::store::StoreError;

/// Who asks, of whom, and when.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Asked<'a> {
    /// The name of the service.
    pub(in crate::store) service: &'a str,
    /// The user's realm.
    pub(in crate::store) realm: &'a RealmId,
    /// Whose code.
    pub(in crate::store) user: UserId,
    /// The keys that secrets may have been kept with.
    pub(in crate::store) keys: &'a KeyRing,
    /// The time.
    pub(in crate::store) now: Timestamp,
}

/// What a code comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProofOutcome {
    /// It is right, and used up.
    Right,
    /// It is not, and was counted.
    Wrong(WrongCode),
    /// It was not looked at.
    Held(Gate),
}

/// Why a code does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WrongCode {
    /// It is none of the user's.
    Unknown,
    /// It was used.
    Replayed,
    /// It would be right so many seconds later, or earlier if negative: a clock is wrong.
    Clock(i64),
    /// It is the first of two that are asked for: the next one is needed.
    First,
}

impl From<&Judged> for ProofOutcome {
    fn from(judged: &Judged) -> Self {
        let Verdict {
            result,
            reason,
            retry_after,
            ..
        } = &judged.verdict;
        if *result == VerifyResult::Accepted {
            return Self::Right;
        }
        match reason {
            Some(VerifyReason::Replayed) => Self::Wrong(WrongCode::Replayed),
            Some(VerifyReason::Clock) => Self::Wrong(match judged.clock_off {
                Some(seconds) => WrongCode::Clock(seconds),
                None => WrongCode::First,
            }),
            Some(VerifyReason::Locked) => Self::Held(match retry_after {
                Some(seconds) => Gate::Delayed(seconds.saturating_mul(1000)),
                None => Gate::Locked,
            }),
            // Only an administrator ends these.
            Some(VerifyReason::Frozen | VerifyReason::Blocked | VerifyReason::Suspended) => {
                Self::Held(Gate::Locked)
            }
            _ => Self::Wrong(WrongCode::Unknown),
        }
    }
}

/// Tries a code on the user's active authenticators, or uses up a recovery code, which passes delays and locks, and lifts them.
/// Counts and notes what comes of it: the transaction must be committed, whatever that is.
pub(in crate::store) async fn prove(
    tx: &mut Verifying,
    asked: Asked<'_>,
    code: &Typed,
) -> Result<ProofOutcome, StoreError> {
    let Asked { user, now, .. } = asked;
    let known = tx.examine(&[(user, code)]).await?;
    let mut judged = known.judge(asked.keys, user, code, CodeUse::Page, now)?;
    tx.settle(&known, &mut [(user, &mut judged)], CodeUse::Page, now)
        .await?;
    note(tx, asked, &judged).await?;
    Ok(ProofOutcome::from(&judged))
}

/// Notes what came of a code. What was not looked at is not: whoever has a link could fill the store with it.
pub(in crate::store) async fn note(
    tx: &mut Verifying,
    asked: Asked<'_>,
    judged: &Judged,
) -> Result<(), StoreError> {
    if judged.verdict.reason == Some(VerifyReason::Locked) {
        return Ok(());
    }
    tx.record(&[VerificationRow {
        at: asked.now,
        service: asked.service.to_owned(),
        realm: Some(asked.realm.clone()),
        user: Some(asked.user),
        verdict: judged.verdict.clone(),
    }])
    .await
}
