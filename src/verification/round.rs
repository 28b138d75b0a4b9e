//! One transaction of verifications, from who is asked for to what is answered.

use std::collections::{BTreeMap, HashMap};

use super::names::Named;
use super::queue::{Answered, NotVerified, VerifyAsk};
use super::setting::VerifySetting;
use crate::clock::Timestamp;
use crate::factors::otp::Generator;
use crate::factors::recovery::digest;
use crate::factors::sealed::open;
use crate::factors::throttle::after_failure;
use crate::factors::typed::Typed;
use crate::factors::verdict::{Candidate, Judged, SECOND_WITHIN, SpareCode, Subject, judge};
use crate::model::{State, UserId, Verdict, VerifyReason, VerifyResult};
use crate::store::{
    ActiveAuthenticator, KeptAnswer, StoreError, UserFactors, VerificationRow, VerifiedUser,
    Verifying,
};

/// What one request comes to, before it is committed.
type RoundOutcome = Result<Answered, NotVerified>;

/// What was read about the users of a round.
struct KnownOnes {
    users: HashMap<UserId, VerifiedUser>,
    factors: HashMap<UserId, UserFactors>,
    authenticators: HashMap<UserId, Vec<ActiveAuthenticator>>,
    spare: HashMap<UserId, Vec<SpareCode>>,
    frozen: std::collections::HashSet<UserId>,
}

/// Decides about these requests, of which no two are of one user or of one key, and writes what follows.
///
/// # Errors
/// [`StoreError::Conflict`]: somebody else answered one of them a moment ago; the same again finds their answer. With any error nothing
/// is done.
pub(super) async fn round(
    mut tx: Verifying,
    setting: &VerifySetting,
    asks: &[(&VerifyAsk, Named)],
    now: Timestamp,
) -> Result<Vec<RoundOutcome>, StoreError> {
    let known = read(&mut tx, asks).await?;
    let keys: Vec<_> = asks
        .iter()
        .filter_map(|(ask, _)| Some((ask.token.id, ask.key.as_ref()?.key.clone())))
        .collect();
    let kept: HashMap<_, KeptAnswer> = tx
        .answers(&keys, now)
        .await?
        .into_iter()
        .map(|kept| ((kept.token, kept.key.clone()), kept))
        .collect();

    // What is still to be decided, by its place among the requests.
    let mut outcomes: Vec<Option<RoundOutcome>> = vec![None; asks.len()];
    let mut judged: BTreeMap<usize, Judged> = BTreeMap::new();
    for (n, (ask, whom)) in asks.iter().enumerate() {
        let before = ask
            .key
            .as_ref()
            .and_then(|own| Some((own, kept.get(&(ask.token.id, own.key.clone()))?)));
        if let Some((own, kept)) = before {
            outcomes[n] = Some(if kept.body == own.body {
                Ok(Answered {
                    status: kept.status,
                    body: kept.answer.clone(),
                })
            } else {
                Err(NotVerified::OtherBody)
            });
            continue;
        }
        match decide(setting, &known, ask, whom, now) {
            Ok(decided) => {
                judged.insert(n, decided);
            }
            Err(why) => outcomes[n] = Some(Err(why)),
        }
    }
    take(&mut tx, asks, &mut judged, now).await?;
    count(&mut tx, &known, asks, &judged, now).await?;

    let mut rows = vec![];
    let mut answers = vec![];
    for (n, decided) in judged {
        let (ask, whom) = &asks[n];
        let user = match whom {
            Named::User(user) => known.users.get(user),
            _ => None,
        };
        let named = match whom {
            Named::Nobody(realm) => realm.clone(),
            _ => None,
        };
        let body = serde_json::to_string(&decided.verdict)
            .map_err(|e| StoreError::Nonsense(format!("an answer cannot be written: {e}")))?;
        rows.push(VerificationRow {
            at: now,
            service: ask.token.name.clone(),
            realm: user.map(|user| user.realm.clone()).or(named),
            user: user.map(|user| user.id),
            verdict: decided.verdict,
        });
        if let Some(own) = &ask.key {
            answers.push(KeptAnswer {
                token: ask.token.id,
                key: own.key.clone(),
                body: own.body,
                status: 200,
                answer: body.clone(),
                at: now,
            });
        }
        outcomes[n] = Some(Ok(Answered { status: 200, body }));
    }
    tx.record(&rows).await?;
    if !tx.keep_answers(&answers).await? {
        return Err(StoreError::Conflict(1));
    }
    tx.commit().await?;
    let undecided = || Err(NotVerified::Unavailable("it was not decided".into()));
    Ok(outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or_else(undecided))
        .collect())
}

/// Reads what there is about the users who are asked for, and locks what is known of those who may pass.
async fn read(tx: &mut Verifying, asks: &[(&VerifyAsk, Named)]) -> Result<KnownOnes, StoreError> {
    let mut ids = vec![];
    let mut letters = vec![];
    for (ask, whom) in asks {
        if let Named::User(user) = whom {
            ids.push(*user);
            if matches!(ask.code, Typed::Letters(_)) {
                letters.push(*user);
            }
        }
    }
    ids.sort_unstable();
    let users: HashMap<UserId, VerifiedUser> = tx
        .users(&ids)
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
    let factors = tx.lock_factors(&ids).await?;
    let mut authenticators: HashMap<UserId, Vec<ActiveAuthenticator>> = HashMap::new();
    for one in tx.authenticators(&ids).await? {
        authenticators.entry(one.user).or_default().push(one);
    }
    let mut spare: HashMap<UserId, Vec<SpareCode>> = HashMap::new();
    for (user, code) in tx.spare_codes(&letters).await? {
        spare.entry(user).or_default().push(code);
    }
    let frozen = tx.frozen(&ids).await?;
    Ok(KnownOnes {
        users,
        factors,
        authenticators,
        spare,
        frozen,
    })
}

/// What comes of one request, as far as nobody else interferes.
fn decide(
    setting: &VerifySetting,
    known: &KnownOnes,
    ask: &VerifyAsk,
    whom: &Named,
    now: Timestamp,
) -> Result<Judged, NotVerified> {
    let said = |reason| {
        Ok(Judged {
            verdict: Verdict::rejected(reason),
            step: None,
            spare: None,
            first: vec![],
        })
    };
    let id = match whom {
        Named::User(id) => *id,
        Named::Nobody(_) => return said(VerifyReason::UnknownUser),
        Named::Several => return said(VerifyReason::Ambiguous),
        Named::OtherRealm => return Err(NotVerified::OtherRealm),
    };
    // Removed since the name was looked up.
    let Some(user) = known.users.get(&id) else {
        return said(VerifyReason::UnknownUser);
    };
    let mut candidates = vec![];
    for kept in known.authenticators.get(&id).into_iter().flatten() {
        candidates.push(candidate(setting, kept)?);
    }
    let subject = Subject {
        state: user.state,
        blocked: user.blocked,
        frozen: known.frozen.contains(&id),
        methods: user.two_factor.clone(),
        failures: known
            .factors
            .get(&id)
            .copied()
            .unwrap_or_default()
            .failures(),
        candidates,
        spare: known.spare.get(&id).cloned().unwrap_or_default(),
    };
    let digests: Vec<[u8; 32]> = match &ask.code {
        Typed::Letters(letters) => std::iter::once(&setting.keys.current)
            .chain(&setting.keys.previous)
            .map(|key| digest(key, id, letters))
            .collect(),
        _ => vec![],
    };
    let matches = |code: &SpareCode| digests.iter().any(|own| own[..] == code.digest[..]);
    Ok(judge(&subject, &ask.code, matches, now))
}

/// An authenticator with its secret in clear.
fn candidate(
    setting: &VerifySetting,
    kept: &ActiveAuthenticator,
) -> Result<Candidate, NotVerified> {
    let cannot = |why: String| {
        tracing::error!(authenticator = %kept.id, user = %kept.user, "the secret of authenticator {} cannot be decrypted, and its user cannot be verified: {why}", kept.id);
        NotVerified::Unavailable(
            "a secret of this user cannot be decrypted: an administrator looks at the log, and at the enrolment key".into(),
        )
    };
    let sealed = kept
        .secret
        .as_ref()
        .ok_or_else(|| cannot("it is not there".into()))?;
    let secret = open(&setting.keys, &kept.owner, sealed).map_err(|e| cannot(e.to_string()))?;
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

/// Uses up what is accepted. What somebody else has used up meanwhile is a replay.
async fn take(
    tx: &mut Verifying,
    asks: &[(&VerifyAsk, Named)],
    judged: &mut BTreeMap<usize, Judged>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut steps: Vec<_> = judged.values().filter_map(|decided| decided.step).collect();
    steps.sort_unstable_by_key(|step| step.authenticator);
    let taken = tx.use_steps(&steps, now).await?;
    for (n, decided) in judged.iter_mut() {
        if let Some(step) = decided.step
            && !taken.contains(&step.authenticator)
        {
            *decided = decided.clone().lost();
        }
        if let (Some(digest), Named::User(user)) = (&decided.spare, &asks[*n].1)
            && !tx.use_spare(*user, digest, now).await?
        {
            *decided = decided.clone().lost();
        }
        for (authenticator, at) in &decided.first {
            tx.remember_first(*authenticator, *at, now.plus_ms(SECOND_WITHIN))
                .await?;
        }
    }
    Ok(())
}

/// Counts guesses, and ends their count where somebody has proved who they are.
async fn count(
    tx: &mut Verifying,
    known: &KnownOnes,
    asks: &[(&VerifyAsk, Named)],
    judged: &BTreeMap<usize, Judged>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let of = |n: &usize| match &asks[*n].1 {
        Named::User(user) => known.factors.get(user).map(|factors| (*user, *factors)),
        _ => None,
    };
    let counts = |decided: &Judged| decided.verdict.reason.is_some_and(VerifyReason::counts);
    let mut failed: Vec<UserId> = judged
        .iter()
        .filter(|(_, decided)| counts(decided))
        .filter_map(|(n, _)| Some(of(n)?.0))
        .collect();
    failed.sort_unstable();
    let in_long = tx.failed_in_long(&failed, now).await?;
    let mut written = vec![];
    for (n, decided) in judged {
        let Some((user, before)) = of(n) else {
            continue;
        };
        if decided.verdict.result == VerifyResult::Accepted {
            let lifted = before.locked_at.is_some();
            written.push((
                user,
                UserFactors {
                    in_a_row: 0,
                    failed_at: None,
                    locked_at: None,
                    last_used_at: Some(now),
                    proved_at: Some(now),
                    counted_from: if lifted {
                        Some(now)
                    } else {
                        before.counted_from
                    },
                },
            ));
        } else if counts(decided) {
            let long = in_long.get(&user).copied().unwrap_or(0).saturating_add(1);
            let after = after_failure(before.failures(), long, now);
            if after.locked {
                let realm = known.users.get(&user).map(|user| user.realm.clone());
                let realm = realm.as_ref().map(tracing::field::display);
                tracing::warn!(user = %user, realm, "user {user} is locked after {} wrong codes in a row, {long} in 30 days: `realmsync users unlock {user:#}` lets them in again", after.in_a_row);
            }
            written.push((
                user,
                UserFactors {
                    in_a_row: after.in_a_row,
                    failed_at: after.last_at,
                    locked_at: after.locked.then_some(now),
                    ..before
                },
            ));
        }
    }
    tx.write_factors(&written).await
}
