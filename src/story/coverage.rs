//! Whom methods reach, by realm and country.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::model::{Coverage, RealmId};
use crate::normalise::country_of;
use crate::store::{Store, StoreError};

/// Reads it: by realm, then country; those without a number last.
pub async fn read(
    store: &Store,
    realm: Option<&RealmId>,
    now: Timestamp,
) -> Result<Vec<Coverage>, StoreError> {
    let mut all: BTreeMap<(RealmId, bool, Option<String>), Coverage> = BTreeMap::new();
    for group in store.coverage(realm, now).await? {
        let country = group.sample.as_ref().and_then(country_of);
        let counts = Coverage {
            country: country.clone(),
            ..group.counts
        };
        let place = (counts.realm.clone(), country.is_none(), country);
        all.entry(place)
            .and_modify(|sum| sum.add(&counts))
            .or_insert(counts);
    }
    Ok(all.into_values().collect())
}
