//! Realms as programs see them, whoever made them.

use serde::Serialize;

use crate::config::Config;
use crate::model::{RealmId, RealmKind, RealmRow, TwoFactor};
use crate::store::{Store, StoreError};

/// A realm.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RealmStory {
    /// Its id.
    pub id: RealmId,
    /// What people call it.
    pub name: String,
    /// Where its users come from.
    pub kind: RealmKind,
    /// Free text of an administrator.
    pub category: Option<String>,
    /// ISO 3166-1: the country of national numbers.
    pub region: Option<String>,
    /// IANA name.
    pub time_zone: Option<String>,
    /// Methods that new users get.
    pub two_factor: Vec<TwoFactor>,
    /// Other names by which services call it.
    pub aliases: Vec<String>,
    /// Users that are not removed.
    pub users: i64,
}

/// All realms: those of the file in its order, then the others by id.
pub async fn realm_stories(store: &Store, config: &Config) -> Result<Vec<RealmStory>, StoreError> {
    let mut rows = store.realms().await?;
    for realm in &config.realms {
        if rows.iter().all(|row| row.id != realm.id) {
            rows.push(RealmRow::new(realm.id.clone(), &realm.name));
        }
    }
    let place = |id: &RealmId| config.realms.iter().position(|r| r.id == *id);
    rows.sort_by_key(|row| (place(&row.id).unwrap_or(usize::MAX), row.id.clone()));
    let mut stories = vec![];
    for row in rows {
        let users = store.not_removed(&row.id).await?;
        let configured = config.realms.iter().find(|r| r.id == row.id);
        let settings = row.settings;
        stories.push(match configured {
            Some(realm) => RealmStory {
                id: row.id,
                name: realm.name.clone(),
                kind: row.kind,
                category: settings.category,
                region: realm.phone.region.clone(),
                time_zone: realm.time_zone.iana_name().map(str::to_owned),
                two_factor: realm.policy.two_factor.clone(),
                aliases: realm.aliases.clone(),
                users,
            },
            None => RealmStory {
                id: row.id,
                name: row.name,
                kind: row.kind,
                category: settings.category,
                region: settings.region,
                time_zone: settings.time_zone,
                two_factor: settings.two_factor,
                aliases: vec![],
                users,
            },
        });
    }
    Ok(stories)
}
