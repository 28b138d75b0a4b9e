//! Who is meant by a name.

use std::collections::BTreeSet;

use super::setting::RealmNames;
use crate::model::logon_name::readings;
use crate::model::{ApiToken, RealmId, UserId};
use crate::normalise::tidied;
use crate::runs::RunError;
use crate::store::{NameSought, Store, StoreError};
use crate::sync::Engine;

/// Who is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Named {
    /// This user.
    User(UserId),
    /// Nobody; the realm, where one was named.
    Nobody(Option<RealmId>),
    /// Several, in different realms.
    Several,
    /// The token may ask in another realm only.
    OtherRealm,
}

impl Named {
    /// The user, if it is one.
    pub(super) fn user(&self) -> Option<UserId> {
        match self {
            Self::User(user) => Some(*user),
            _ => None,
        }
    }
}

/// A name as a service sent it.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameTyped<'a> {
    /// By whom.
    pub(super) token: &'a ApiToken,
    /// The name.
    pub(super) username: &'a str,
    /// The realm, by its id or another name.
    pub(super) realm: Option<&'a str>,
}

/// A name that is looked for: of which request, by which reading of it.
struct Looked {
    ask: usize,
    reading: usize,
}

/// Who is meant by a name that a service sent.
pub async fn who_is(
    engine: &Engine,
    token: &ApiToken,
    username: &str,
    realm: Option<&str>,
) -> Result<Named, RunError> {
    let names = RealmNames::read(engine).await?;
    let typed = NameTyped {
        token,
        username,
        realm,
    };
    let found = named(&engine.store, &names, &[typed]).await?;
    Ok(found.into_iter().next().unwrap_or(Named::Nobody(None)))
}

/// Who is meant by each of these.
pub(super) async fn named(
    store: &Store,
    realms: &RealmNames,
    asks: &[NameTyped<'_>],
) -> Result<Vec<Named>, StoreError> {
    let mut all: Vec<Named> = Vec::with_capacity(asks.len());
    let (mut names, mut looked) = (vec![], vec![]);
    for (ask, asked) in asks.iter().enumerate() {
        let own = asked.token.realm.as_ref();
        let in_realm = match asked.realm {
            None => None,
            Some(called) => {
                let Some(realm) = realms.realm(called) else {
                    all.push(Named::Nobody(None));
                    continue;
                };
                if !asked.token.may_in(realm) {
                    all.push(Named::OtherRealm);
                    continue;
                }
                Some(realm)
            }
        };
        all.push(Named::Nobody(in_realm.cloned()));
        let within = |realm: &RealmId| {
            in_realm.is_none_or(|named| named == realm) && own.is_none_or(|own| own == realm)
        };
        for (reading, read) in readings(&tidied(asked.username)).into_iter().enumerate() {
            let key = read.key();
            let realm = match &read.domain {
                None => in_realm.or(own),
                Some(domain) => match realms.realm(domain).filter(|realm| within(realm)) {
                    Some(realm) => Some(realm),
                    None => continue,
                },
            };
            names.push(NameSought {
                realm: realm.cloned(),
                key,
            });
            looked.push(Looked { ask, reading });
        }
    }
    choose(&mut all, &looked, store.present_named(&names).await?);
    // Of a name that nobody present has: who is suspended with it.
    let missing: Vec<usize> = (0..names.len())
        .filter(|n| matches!(all[looked[*n].ask], Named::Nobody(_)))
        .collect();
    let away: Vec<_> = missing.iter().map(|n| names[*n].clone()).collect();
    let found = store.away_named(&away).await?;
    let found = found.into_iter().map(|(n, user)| (missing[n], user));
    choose(&mut all, &looked, found.collect());
    Ok(all)
}

/// The first reading that anybody was found by counts.
fn choose(all: &mut [Named], looked: &[Looked], found: Vec<(usize, UserId)>) {
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
    for (named, hit) in all.iter_mut().zip(hits) {
        if let Some((_, users)) = hit {
            *named = match users.first() {
                Some(user) if users.len() == 1 => Named::User(*user),
                _ => Named::Several,
            };
        }
    }
}
