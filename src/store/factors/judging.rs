//! Codes that are judged: what there is to know is read and locked, [`judge`] decides, and what counts is used up. The one place for
//! every purpose, so that no step counts twice, and no guess less than once.

use std::collections::{HashMap, HashSet};

use super::authenticators::KeptAuthenticator;
use super::verifying::{
    ActiveAuthenticator, UnreadableUsers, UserFactors, VerifiedUser, Verifying,
};
use crate::clock::Timestamp;
use crate::factors::keys::{KeyId, KeyRing};
use crate::factors::otp::Generator;
use crate::factors::recovery::digest_by;
use crate::factors::sealed::open;
use crate::factors::throttle::after_failure;
use crate::factors::typed::Typed;
use crate::factors::verdict::{Candidate, Judged, SECOND_WITHIN, SpareCode, Subject, judge};
use crate::model::{State, TwoFactor, UserId, Verdict, VerifyMethod, VerifyReason, VerifyResult};
use crate::store::StoreError;
use crate::store::notices::note_recovery_code;

/// What a code is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodeUse {
    /// A protected service asks: the user's methods say which authenticators count, and a success is a logon.
    Logon,
    /// The user proves who they are on our own page: with whatever they have.
    Page,
}

/// What was read about users whose codes are judged together. Their guesses are locked to the end of the transaction.
#[derive(Debug)]
pub struct Examined {
    users: HashMap<UserId, VerifiedUser>,
    factors: HashMap<UserId, UserFactors>,
    authenticators: HashMap<UserId, Vec<ActiveAuthenticator>>,
    spare: HashMap<UserId, Vec<SpareCode>>,
    frozen: HashSet<UserId>,
    unreadable: UnreadableUsers,
}

/// An authenticator of a user as if it were active.
fn as_active(user: UserId, kept: &KeptAuthenticator) -> ActiveAuthenticator {
    let a = &kept.authenticator;
    ActiveAuthenticator {
        user,
        id: a.id,
        kind: a.kind,
        owner: kept.owner(),
        secret: kept.secret.clone(),
        hash: a.hash,
        digits: a.digits,
        period: a.period,
        next: a.next,
        drift: a.drift,
        two_codes: a.two_codes,
        first: None,
        valid_from: a.valid_from,
        valid_until: a.valid_until,
    }
}

impl Verifying {
    /// Reads what there is about the users whose codes are judged, each once, and locks what is known of those who may pass.
    pub async fn examine(&mut self, asked: &[(UserId, &Typed)]) -> Result<Examined, StoreError> {
        let mut ids: Vec<UserId> = asked.iter().map(|(user, _)| *user).collect();
        let mut letters: Vec<UserId> = asked
            .iter()
            .filter(|(_, code)| matches!(code, Typed::Letters(_)))
            .map(|(user, _)| *user)
            .collect();
        ids.sort_unstable();
        let mut unreadable = UnreadableUsers::default();
        let users: HashMap<UserId, VerifiedUser> = self
            .users(&ids, &mut unreadable)
            .await?
            .into_iter()
            .map(|user| (user.id, user))
            .collect();
        // What is removed with its user is removed of who is suspended; nothing of theirs is held here.
        let usable = |id: &UserId| {
            users
                .get(id)
                .is_some_and(|user| user.state == State::Active && !user.blocked)
        };
        ids.retain(usable);
        letters.retain(usable);
        let factors = self.lock_factors(&ids).await?;
        let mut authenticators: HashMap<UserId, Vec<ActiveAuthenticator>> = HashMap::new();
        for one in self.authenticators(&ids, &mut unreadable).await? {
            authenticators.entry(one.user).or_default().push(one);
        }
        let mut spare: HashMap<UserId, Vec<SpareCode>> = HashMap::new();
        for (user, code) in self.spare_codes(&letters, &mut unreadable).await? {
            spare.entry(user).or_default().push(code);
        }
        let frozen = self.frozen(&ids).await?;
        Ok(Examined {
            users,
            factors,
            authenticators,
            spare,
            frozen,
            unreadable,
        })
    }

    /// Uses up what is accepted, counts guesses, and ends their count where somebody has proved who they are. What somebody else has
    /// used up meanwhile is a replay. The transaction must be committed, whatever came of the codes.
    pub async fn settle(
        &mut self,
        known: &Examined,
        judged: &mut [(UserId, &mut Judged)],
        purpose: CodeUse,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.take(judged, now).await?;
        self.count(known, judged, purpose, now).await
    }

    async fn take(
        &mut self,
        judged: &mut [(UserId, &mut Judged)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut steps: Vec<_> = judged
            .iter()
            .filter_map(|(_, decided)| decided.step)
            .collect();
        steps.sort_unstable_by_key(|step| step.authenticator);
        let taken = self.use_steps(&steps, now).await?;
        for (user, decided) in judged {
            if let Some(step) = decided.step
                && !taken.contains(&step.authenticator)
            {
                **decided = decided.clone().lost();
            }
            if let Some(digest) = &decided.spare {
                if !self.use_spare(*user, digest, now).await? {
                    **decided = decided.clone().lost();
                } else if decided.verdict.method == Some(VerifyMethod::Recovery) {
                    note_recovery_code(&mut self.tx, *user, now).await?;
                }
            }
            for (authenticator, at) in &decided.first {
                self.remember_first(*authenticator, *at, now.plus_ms(SECOND_WITHIN))
                    .await?;
            }
        }
        Ok(())
    }

    /// Counts guesses, each user's once.
    pub(in crate::store) async fn count(
        &mut self,
        known: &Examined,
        judged: &[(UserId, &mut Judged)],
        purpose: CodeUse,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let counts = |decided: &Judged| decided.verdict.reason.is_some_and(VerifyReason::counts);
        let mut failed: Vec<UserId> = judged
            .iter()
            .filter(|(user, decided)| counts(decided) && known.factors.contains_key(user))
            .map(|(user, _)| *user)
            .collect();
        failed.sort_unstable();
        let in_long = self.failed_in_long(&failed, now).await?;
        let mut written = vec![];
        for (user, decided) in judged {
            let Some(before) = known.factors.get(user).copied() else {
                continue;
            };
            if decided.verdict.result == VerifyResult::Accepted {
                written.push((*user, proved(before, purpose, now)));
            } else if counts(decided) {
                let long = in_long.get(user).copied().unwrap_or(0).saturating_add(1);
                let after = after_failure(before.failures(), long, now);
                if after.locked {
                    let realm = known.users.get(user).map(|user| user.realm.clone());
                    let realm = realm.as_ref().map(tracing::field::display);
                    tracing::warn!(user = %user, realm, "user {user} is locked after {} wrong codes in a row, {long} in 30 days: `realmsync users unlock {user:#}` lets them in again", after.in_a_row);
                }
                written.push((
                    *user,
                    UserFactors {
                        in_a_row: after.in_a_row,
                        failed_at: after.last_at,
                        locked_at: after.locked.then_some(now),
                        ..before
                    },
                ));
            }
        }
        self.write_factors(&written).await
    }
}

/// What is known of somebody who has proved who they are.
fn proved(before: UserFactors, purpose: CodeUse, now: Timestamp) -> UserFactors {
    let (used, proved) = match purpose {
        CodeUse::Logon => (Some(now), Some(now)),
        CodeUse::Page => (before.last_used_at, before.proved_at),
    };
    UserFactors {
        in_a_row: 0,
        failed_at: None,
        locked_at: None,
        last_used_at: used,
        proved_at: proved,
        counted_from: match before.locked_at {
            Some(_) => Some(now),
            None => before.counted_from,
        },
    }
}

impl Examined {
    /// A user as they were read; `None`: there is no such user any more.
    pub fn user(&self, id: UserId) -> Option<&VerifiedUser> {
        self.users.get(&id)
    }

    /// What comes of a code of a user, as far as nobody else interferes.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when a secret cannot be decrypted, [`StoreError::Nonsense`] when something of the user cannot be read: then
    /// nothing can be said of any code.
    pub fn judge(
        &self,
        keys: &KeyRing,
        user: UserId,
        code: &Typed,
        purpose: CodeUse,
        now: Timestamp,
    ) -> Result<Judged, StoreError> {
        self.unreadable.check(user)?;
        let kept = self.authenticators.get(&user).into_iter().flatten();
        let candidates: Vec<Candidate> = match code {
            // A recovery code needs none of them.
            Typed::Letters(_) => vec![],
            _ => kept
                .map(|kept| candidate(keys, kept))
                .collect::<Result<_, _>>()?,
        };
        let Some(subject) = self.subject(user, purpose, candidates) else {
            // Removed since the name was looked up.
            return Ok(Judged::only(Verdict::rejected(VerifyReason::UnknownUser)));
        };
        let digests: HashMap<KeyId, [u8; 32]> = match code {
            Typed::Letters(letters) => {
                let ids = keys.digest_ids().into_iter();
                ids.filter_map(|key| Some((key, digest_by(keys, key, user, letters)?)))
                    .collect()
            }
            _ => HashMap::new(),
        };
        let own = |code: &SpareCode| code.key.and_then(|key| digests.get(&key));
        let matches = |code: &SpareCode| own(code).is_some_and(|own| own[..] == code.digest[..]);
        let judged = judge(&subject, code, matches, now);
        let left = |spare: &&SpareCode| spare.uses_left > 0 && own(spare).is_none();
        // It may be one of those that cannot be compared.
        match subject.spare.iter().find(left) {
            Some(lost)
                if matches!(code, Typed::Letters(_))
                    && judged.verdict.reason == Some(VerifyReason::WrongCode) =>
            {
                Err(StoreError::Sealed(format!(
                    "recovery codes {} of user {user}: they were digested under an enrolment key that nobody has any more",
                    lost.set
                )))
            }
            _ => Ok(judged),
        }
    }

    /// What comes of a code for this authenticator alone, which is not active yet.
    ///
    /// # Errors
    /// As of [`Self::judge`].
    pub(in crate::store) fn judge_pending(
        &self,
        keys: &KeyRing,
        user: UserId,
        kept: &KeptAuthenticator,
        code: &Typed,
        now: Timestamp,
    ) -> Result<Judged, StoreError> {
        self.unreadable.check(user)?;
        let one = candidate(keys, &as_active(user, kept))?;
        Ok(match self.subject(user, CodeUse::Page, vec![one]) {
            Some(mut subject) => {
                subject.spare.clear();
                judge(&subject, code, |_| false, now)
            }
            None => Judged::only(Verdict::rejected(VerifyReason::UnknownUser)),
        })
    }

    fn subject(&self, id: UserId, purpose: CodeUse, candidates: Vec<Candidate>) -> Option<Subject> {
        let user = self.users.get(&id)?;
        let failures = self.factors.get(&id).copied().unwrap_or_default();
        let mut spare = self.spare.get(&id).cloned().unwrap_or_default();
        if purpose == CodeUse::Page {
            // The link is the other proof: those that were open when the store went on from a copy are void.
            for code in &mut spare {
                code.before_copy = false;
            }
        }
        Some(Subject {
            state: user.state,
            blocked: user.blocked,
            frozen: self.frozen.contains(&id),
            methods: match purpose {
                CodeUse::Logon => user.two_factor.clone(),
                CodeUse::Page => vec![TwoFactor::AppOtp, TwoFactor::HardToken],
            },
            failures: failures.failures(),
            has_authenticator: self.authenticators.contains_key(&id),
            candidates,
            spare,
        })
    }
}

/// An authenticator with its secret in clear.
fn candidate(keys: &KeyRing, kept: &ActiveAuthenticator) -> Result<Candidate, StoreError> {
    let cannot = |why: String| {
        StoreError::Sealed(format!(
            "authenticator {} of user {}: {why}",
            kept.id, kept.user
        ))
    };
    let sealed = kept
        .secret
        .as_ref()
        .ok_or_else(|| cannot("it is not there".into()))?;
    let secret = open(keys, &kept.owner, sealed).map_err(|e| cannot(e.to_string()))?;
    Ok(Candidate {
        id: kept.id,
        kind: kept.kind,
        generator: Generator::new(secret, kept.hash, kept.digits),
        period: kept.period,
        next: kept.next,
        drift: kept.drift,
        two_codes: kept.two_codes,
        first: kept.first,
        valid_from: kept.valid_from,
        valid_until: kept.valid_until,
    })
}
