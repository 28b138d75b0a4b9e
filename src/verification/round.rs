//! One transaction of verifications, from who is asked for to what is answered.

use std::collections::{BTreeMap, HashMap};

use super::names::Named;
use super::queue::{Answered, NotVerified, VerifyAsk};
use super::refusals::{Refusal, Refusals};
use super::setting::VerifySetting;
use crate::clock::Timestamp;
use crate::factors::typed::Typed;
use crate::factors::verdict::Judged;
use crate::model::{UserId, Verdict, VerifyReason};
use crate::store::{CodeUse, Examined, KeptAnswer, StoreError, VerificationRow, Verifying};

/// What one request comes to, before it is committed.
type RoundOutcome = Result<Answered, NotVerified>;

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
    refusals: &mut Refusals,
) -> Result<Vec<RoundOutcome>, StoreError> {
    let codes: Vec<(UserId, &Typed)> = asks
        .iter()
        .filter_map(|(ask, whom)| Some((whom.user()?, &ask.code)))
        .collect();
    let known = tx.examine(&codes).await?;
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
    let mut of_users: Vec<(UserId, &mut Judged)> = judged
        .iter_mut()
        .filter_map(|(n, decided)| Some((asks[*n].1.user()?, decided)))
        .collect();
    tx.settle(&known, &mut of_users, CodeUse::Logon, now)
        .await?;

    let mut rows = vec![];
    let mut answers = vec![];
    let mut written = vec![];
    for (n, decided) in judged {
        let (ask, whom) = &asks[n];
        let user = whom.user().and_then(|user| known.user(user));
        let named = match whom {
            Named::Nobody(realm) => realm.clone(),
            _ => None,
        };
        let body = serde_json::to_string(&decided.verdict)
            .map_err(|e| StoreError::Nonsense(format!("an answer cannot be written: {e}")))?;
        let refusal = Refusal::of(
            ask,
            ask.name(),
            user.map(|user| user.id),
            &decided.verdict,
            now,
        );
        if refusal.is_none_or(|refusal| !refusals.stands_for(refusal, now)) {
            written.extend(refusal);
            rows.push(VerificationRow {
                at: now,
                service: ask.token.name.clone(),
                realm: user.map(|user| user.realm.clone()).or(named),
                user: user.map(|user| user.id),
                verdict: decided.verdict,
            });
        }
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
    refusals.note(&written, now);
    let undecided = || Err(NotVerified::Unavailable("it was not decided".into()));
    Ok(outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or_else(undecided))
        .collect())
}

/// What comes of one request, as far as nobody else interferes.
fn decide(
    setting: &VerifySetting,
    known: &Examined,
    ask: &VerifyAsk,
    whom: &Named,
    now: Timestamp,
) -> Result<Judged, NotVerified> {
    let said = |reason| Ok(Judged::only(Verdict::rejected(reason)));
    let user = match whom {
        Named::User(user) => *user,
        Named::Nobody(_) => return said(VerifyReason::UnknownUser),
        Named::Several => return said(VerifyReason::Ambiguous),
        Named::OtherRealm => return Err(NotVerified::OtherRealm),
    };
    known
        .judge(&setting.keys, user, &ask.code, CodeUse::Logon, now)
        .map_err(|error| {
            tracing::error!(%user, "{error}");
            match error {
                StoreError::Sealed(what) => NotVerified::Sealed(what),
                other => NotVerified::Unavailable(other.to_string()),
            }
        })
}
