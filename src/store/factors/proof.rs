//! A code that proves who somebody is, tried on all that the user has.

use super::authenticators::{KeptAuthenticator, of_user, remember_first, use_up};
use super::failures::{self, Tried};
use super::recovery;
use crate::clock::Timestamp;
use crate::factors::keys::KeyRing;
use crate::factors::otp::Generator;
use crate::factors::sealed::{self, SealError};
use crate::factors::throttle::{Gate, gate};
use crate::factors::typed::Typed;
use crate::factors::verdict::SECOND_WITHIN;
use crate::factors::window::{Found, Moving, Progress, expected, find};
use crate::model::{AuthenticatorId, AuthenticatorKind, AuthenticatorState, RealmId, UserId};
use crate::store::StoreError;
use crate::store::db::Tx;

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
    /// It would be right so many steps later, or earlier if negative: a clock is wrong.
    Clock(i64),
}

impl WrongCode {
    /// The word in what is kept of verifications.
    pub(in crate::store) fn word(self) -> &'static str {
        match self {
            Self::Unknown => "wrong_code",
            Self::Replayed => "replayed",
            Self::Clock(_) => "clock",
        }
    }

    /// The one that says more.
    fn or(self, other: Self) -> Self {
        if self == Self::Unknown { other } else { self }
    }
}

/// What makes the codes of an authenticator.
pub(in crate::store) fn generator(
    kept: &KeptAuthenticator,
    keys: &KeyRing,
) -> Result<Option<Generator>, StoreError> {
    let Some(secret) = &kept.secret else {
        return Ok(None);
    };
    let a = &kept.authenticator;
    let seed = sealed::open(keys, &kept.owner(), secret).map_err(|why: SealError| {
        StoreError::Nonsense(format!("the secret of authenticator {}: {why}", a.id))
    })?;
    Ok(Some(Generator::new(seed, a.hash, a.digits)))
}

/// How an authenticator counts.
pub(in crate::store) fn moving(kept: &KeptAuthenticator) -> Moving {
    let a = &kept.authenticator;
    match a.kind {
        AuthenticatorKind::Hotp => Moving::Counter,
        AuthenticatorKind::Totp => Moving::Clock {
            period: a.period,
            drift: a.drift,
        },
        AuthenticatorKind::App | AuthenticatorKind::Recovery => {
            Moving::Application { period: a.period }
        }
    }
}

/// Tries a code on the user's active authenticators, or uses up a recovery code, which passes delays and locks, and lifts them.
/// Counts and notes what comes of it: the transaction must be committed, whatever that is.
pub(in crate::store) async fn prove(
    tx: &mut Tx,
    asked: Asked<'_>,
    code: &Typed,
) -> Result<ProofOutcome, StoreError> {
    let Asked { user, now, .. } = asked;
    let before = failures::locked(tx, user).await?;
    let tried = |refused, authenticator| Tried {
        at: now,
        service: asked.service,
        realm: asked.realm,
        user,
        refused,
        method: None,
        authenticator,
    };
    if let Typed::Letters(letters) = code
        && recovery::take(tx, asked.keys, user, letters, now).await?
    {
        failures::lift(tx, user, now).await?;
        failures::note(tx, tried(None, None)).await?;
        return Ok(ProofOutcome::Right);
    }
    match gate(before, now) {
        Gate::Open => {}
        held => return Ok(ProofOutcome::Held(held)),
    }
    let mut wrong = WrongCode::Unknown;
    for kept in of_user(tx, user).await? {
        let a = &kept.authenticator;
        let dated = a.valid_from.is_some_and(|from| now < from)
            || a.valid_until.is_some_and(|until| until <= now);
        if a.state != AuthenticatorState::Active || a.two_codes || dated {
            continue;
        }
        let Some(generator) = generator(&kept, asked.keys)? else {
            continue;
        };
        let progress = Progress { next: a.next };
        let seconds = now.0.div_euclid(1000);
        match find(&generator, moving(&kept), progress, code, seconds) {
            Found::Accepted { at, drift } => {
                if use_up(tx, a.id, at, drift, now).await? {
                    failures::end(tx, user).await?;
                    failures::note(tx, tried(None, Some(a.id))).await?;
                    return Ok(ProofOutcome::Right);
                }
                wrong = WrongCode::Replayed;
            }
            Found::Replayed => wrong = WrongCode::Replayed,
            Found::WrongClock(steps) => {
                if steps > 0 {
                    // Whoever guessed it is told that it will be right: it must not count then.
                    let at = expected(moving(&kept), seconds) + steps;
                    remember_first(tx, a.id, at, now.plus_ms(SECOND_WITHIN)).await?;
                }
                wrong = wrong.or(WrongCode::Clock(steps));
            }
            Found::Wrong => {}
        }
    }
    refuse(tx, asked, wrong, None).await?;
    Ok(ProofOutcome::Wrong(wrong))
}

/// Counts and notes a wrong code.
pub(in crate::store) async fn refuse(
    tx: &mut Tx,
    asked: Asked<'_>,
    wrong: WrongCode,
    authenticator: Option<AuthenticatorId>,
) -> Result<(), StoreError> {
    let before = failures::locked(tx, asked.user).await?;
    failures::count(tx, asked.user, before, asked.now).await?;
    failures::note(
        tx,
        Tried {
            at: asked.now,
            service: asked.service,
            realm: asked.realm,
            user: asked.user,
            refused: Some(wrong.word()),
            method: None,
            authenticator,
        },
    )
    .await
}
