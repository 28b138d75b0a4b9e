//! Which configuration a daemon had the last time, so that the audit says when it has another one, and in which settings it differs.
//! Of a setting only a keyed digest is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::audit::{AuditKey, append};
use super::db::{Tx, on};
use super::{Store, StoreError};
use crate::model::AuditEntry;

/// Settings that a line names; of more, only how many there are.
const NAMED: usize = 50;

/// Daemons whose configuration is remembered: those that started last.
const KEPT: i64 = 50;

/// As it is kept: the name of the key, and a digest of each setting.
#[derive(Serialize, Deserialize)]
struct KeptConfiguration {
    key: String,
    settings: BTreeMap<String, String>,
}

impl KeptConfiguration {
    fn of(settings: &BTreeMap<String, [u8; 32]>, key: &AuditKey) -> Self {
        let digests = settings
            .iter()
            .map(|(name, value)| (name.clone(), key.setting(name, value)));
        Self {
            key: key.id().to_owned(),
            settings: digests.collect(),
        }
    }

    /// The settings that one of the two lacks, or has otherwise.
    fn differing<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let theirs = other.settings.iter();
        let theirs = theirs.filter(|(name, digest)| self.settings.get(*name) != Some(digest));
        let ours = self.settings.keys();
        let ours = ours.filter(|name| !other.settings.contains_key(*name));
        let mut names: Vec<&str> = theirs
            .map(|(name, _)| name)
            .chain(ours)
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        names
    }
}

impl Store {
    /// Notes with which configuration a daemon works now. Writes a line of the audit if it had another one, or if it is new here and
    /// the daemon before it had another one. `place` is what it is known by; `keys`: the current one, then those before.
    pub async fn note_configuration(
        &self,
        place: &str,
        settings: &BTreeMap<String, [u8; 32]>,
        keys: &[AuditKey],
        entry: &AuditEntry,
    ) -> Result<(), StoreError> {
        const KEEP: &str = "
            INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        const FORGET: &str = "
            DELETE FROM meta WHERE key LIKE 'configuration %' AND key NOT IN (
                SELECT key FROM meta WHERE key LIKE 'configuration %' ORDER BY value DESC LIMIT $1)";
        let Some(current) = keys.first() else {
            return Ok(());
        };
        let failed = StoreError::from_sqlx("note the configuration");
        let key = format!("configuration {place}");
        let is = KeptConfiguration::of(settings, current);
        let mut tx = self.db.begin().await?;
        let was = before(&mut tx, &key).await?;
        let text = serde_json::to_string(&is).map_err(|e| StoreError::Nonsense(e.to_string()))?;
        // The time first: they are sorted by it.
        let text = format!("{} {text}", entry.at);
        on!(tx, c => sqlx::query(KEEP).bind(key).bind(text).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
        on!(tx, c => sqlx::query(FORGET).bind(KEPT).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
        if let Some(was) = was {
            let entry = entry.clone();
            let line = match keys.iter().find(|key| key.id() == was.key) {
                Some(key) => {
                    let is = KeptConfiguration::of(settings, key);
                    told(entry, &was.differing(&is))
                }
                // Nothing of it can be compared.
                None => Some(entry.is("key", "another enrolment key")),
            };
            if let Some(line) = line {
                append(&mut tx, current, &line).await?;
            }
        }
        tx.commit().await
    }
}

/// What was noted of this daemon the last time, else of the one that started last.
async fn before(tx: &mut Tx, key: &str) -> Result<Option<KeptConfiguration>, StoreError> {
    const SQL: &str = "
        SELECT value FROM meta WHERE key LIKE 'configuration %' ORDER BY CASE WHEN key = $1 THEN 0 ELSE 1 END, value DESC LIMIT 1";
    let text =
        on!(tx, c => sqlx::query_scalar::<_, String>(SQL).bind(key).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("read the configuration before"))?;
    // What cannot be read is forgotten: it is written anew.
    Ok(text.and_then(|text| serde_json::from_str(text.split_once(' ')?.1).ok()))
}

/// The line about these settings; `None`: there are none.
fn told(entry: AuditEntry, settings: &[&str]) -> Option<AuditEntry> {
    let more = settings.len().saturating_sub(NAMED);
    let named = settings.iter().take(NAMED).copied();
    let entry = entry.is("settings", named.collect::<Vec<_>>());
    match settings.len() {
        0 => None,
        _ if more > 0 => Some(entry.is("more_settings", more)),
        _ => Some(entry),
    }
}
