//! Who is meant by a name.

use std::collections::BTreeSet;

use super::queue::VerifyAsk;
use super::setting::VerifySetting;
use crate::model::logon_name::readings;
use crate::model::{RealmId, UserId};
use crate::store::{Store, StoreError};

/// Who is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Whom {
    /// This user.
    User(UserId),
    /// Nobody; the realm, where one was named.
    Nobody(Option<RealmId>),
    /// Several, in different realms.
    Several,
    /// The token may ask in another realm only.
    OtherRealm,
}

/// A name that is looked for: of which request, by which reading of it.
struct Looked {
    ask: usize,
    reading: usize,
}

/// Who is meant by each of these.
pub(super) async fn whom(
    store: &Store,
    setting: &VerifySetting,
    asks: &[&VerifyAsk],
) -> Result<Vec<Whom>, StoreError> {
    let mut all: Vec<Whom> = Vec::with_capacity(asks.len());
    let (mut names, mut looked) = (vec![], vec![]);
    for (ask, asked) in asks.iter().enumerate() {
        let own = asked.token.realm.as_ref();
        let named = match &asked.realm {
            None => None,
            Some(called) => {
                let Some(realm) = setting.realm(called) else {
                    all.push(Whom::Nobody(None));
                    continue;
                };
                if !asked.token.may_in(realm) {
                    all.push(Whom::OtherRealm);
                    continue;
                }
                Some(realm)
            }
        };
        all.push(Whom::Nobody(named.cloned()));
        let within = |realm: &RealmId| {
            named.is_none_or(|named| named == realm) && own.is_none_or(|own| own == realm)
        };
        for (reading, read) in readings(&asked.username).into_iter().enumerate() {
            let key = read.key();
            let realms: Vec<&RealmId> = match &read.domain {
                None => setting.realms.iter().collect(),
                Some(domain) => setting.realm(domain).into_iter().collect(),
            };
            for realm in realms.into_iter().filter(|realm| within(realm)) {
                names.push((realm.clone(), key.clone()));
                looked.push(Looked { ask, reading });
            }
        }
    }
    choose(&mut all, &looked, store.present_named(&names).await?);
    // Of a name that nobody present has: who is suspended with it.
    let missing: Vec<usize> = (0..names.len())
        .filter(|n| matches!(all[looked[*n].ask], Whom::Nobody(_)))
        .collect();
    let away: Vec<_> = missing.iter().map(|n| names[*n].clone()).collect();
    let found = store.away_named(&away).await?;
    let found = found.into_iter().map(|(n, user)| (missing[n], user));
    choose(&mut all, &looked, found.collect());
    Ok(all)
}

/// The first reading that anybody was found by counts.
fn choose(all: &mut [Whom], looked: &[Looked], found: Vec<(usize, UserId)>) {
    let mut hits: Vec<Option<(usize, BTreeSet<UserId>)>> = vec![None; all.len()];
    for (n, user) in found {
        let Looked { ask, reading } = looked[n];
        match &mut hits[ask] {
            Some((best, users)) if *best == reading => {
                users.insert(user);
            }
            Some((best, _)) if *best < reading => {}
            hit => *hit = Some((reading, BTreeSet::from([user]))),
        }
    }
    for (whom, hit) in all.iter_mut().zip(hits) {
        if let Some((_, users)) = hit {
            *whom = match users.first() {
                Some(user) if users.len() == 1 => Whom::User(*user),
                _ => Whom::Several,
            };
        }
    }
}
