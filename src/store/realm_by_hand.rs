//! Realms that are in no file: made, changed and removed, and what becomes of one whose id enters the file.
//!
//! ```text
//!              enters the file                first pass applied
//!   by hand ──────────────────▶ a directory's ──────────────────▶ a directory's for good
//!      ▲                             │
//!      └──── leaves it before that ──┘   kind and name as before, the entries of its users are theirs no more
//! ```

use super::audit::{AuditKey, append};
use super::db::{Tx, on};
use super::outbox::{locks, reckon_standing};
use super::rows::{methods, two_factor};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{AuditEntry, RealmId, RealmRow, RealmSettings};

impl Store {
    /// Makes a realm that is in no file, or one of the same id anew that was removed.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when there is one of the id already, whatever its case.
    pub async fn make_realm(
        &self,
        realm: &RealmRow,
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<(), StoreError> {
        const IDS: &str = "SELECT id, removed_at IS NOT NULL FROM realms";
        const MAKE: &str = "
            INSERT INTO realms (id, kind, name, category, region, time_zone, two_factor) VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, name = excluded.name, category = excluded.category,
                region = excluded.region, time_zone = excluded.time_zone, two_factor = excluded.two_factor, removed_at = NULL";
        let failed = StoreError::from_sqlx("make a realm");
        let mut tx = self.db.begin().await?;
        one_at_a_time(&mut tx).await?;
        let ids = on!(tx, c => sqlx::query_as::<_, (String, bool)>(IDS).fetch_all(&mut *c).await)
            .map_err(&failed)?;
        let folded = realm.id.as_str().to_lowercase();
        let taken = |(id, removed): &&(String, bool)| {
            id.to_lowercase() == folded && !(*removed && id == realm.id.as_str())
        };
        if let Some((id, removed)) = ids.iter().find(taken) {
            let was = if *removed { ", which was removed" } else { "" };
            return Err(StoreError::Refused(format!(
                "there is a realm `{id}` already{was}: ids are unique, also without their case"
            )));
        }
        let settings = &realm.settings;
        on!(tx, c => sqlx::query(MAKE).bind(realm.id.as_str()).bind(realm.kind.as_str()).bind(&realm.name).bind(settings.category.clone())
            .bind(settings.region.clone()).bind(settings.time_zone.clone()).bind(methods(&settings.two_factor)).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)?;
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await
    }

    /// Writes what an administrator says of a realm that is in no file: `held` as it was decided upon, `realm` as it is to be.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the realm is another by now, [`StoreError::Refused`] when it is gone. Then nothing is done.
    pub async fn edit_realm(
        &self,
        held: &RealmRow,
        realm: &RealmRow,
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<(), StoreError> {
        const IS: &str = "
            SELECT name, category, region, time_zone, two_factor FROM realms
            WHERE id = $1 AND removed_at IS NULL AND kind <> 'directory'";
        const EDIT: &str = "
            UPDATE realms SET name = $2, category = $3, region = $4, time_zone = $5, two_factor = $6 WHERE id = $1";
        let failed = StoreError::from_sqlx("change a realm");
        let mut tx = self.db.begin().await?;
        locks::realm(&mut tx, &realm.id).await?;
        let is = on!(tx, c => sqlx::query_as::<_, SettingColumns>(IS).bind(realm.id.as_str()).fetch_optional(&mut *c).await)
            .map_err(&failed)?;
        let (name, settings) = settings(is.ok_or_else(|| gone(&realm.id))?)?;
        if name != held.name || settings != held.settings {
            return Err(StoreError::Conflict(1));
        }
        let settings = &realm.settings;
        on!(tx, c => sqlx::query(EDIT).bind(realm.id.as_str()).bind(&realm.name).bind(settings.category.clone())
            .bind(settings.region.clone()).bind(settings.time_zone.clone()).bind(methods(&settings.two_factor)).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)?;
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await
    }

    /// How many users were removed with a realm that is being removed, by all who have asked for that since it was removed last.
    pub async fn removed_with(&self, realm: &RealmId) -> Result<i64, StoreError> {
        const SQL: &str = "
            SELECT COUNT(*) FROM audit WHERE realm = $1 AND act = 'realm-remove' AND user_id IS NOT NULL AND seq > COALESCE(
                (SELECT MAX(seq) FROM audit WHERE realm = $1 AND act = 'realm-remove' AND user_id IS NULL), 0)";
        let mut link = self.db.read().await?;
        on!(link, c => sqlx::query_scalar::<_, i64>(SQL).bind(realm.as_str()).fetch_one(&mut *c).await)
            .map_err(StoreError::from_sqlx("count who was removed with a realm"))
    }

    /// Removes a realm of no file, or an orphaned one, in which nobody is left, and revokes the API tokens that count in it alone; what is
    /// still to be said of those who were in it goes out from now on. `false`: somebody is left.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when it has a held plan, or is in a file again. Then nothing is done.
    pub async fn remove_realm(
        &self,
        realm: &RealmId,
        now: Timestamp,
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<bool, StoreError> {
        const LEFT: &str = "SELECT COUNT(*) FROM users WHERE realm = $1 AND state <> 'removed'";
        const REMOVE: &str = "
            UPDATE realms SET removed_at = $2, name = id, category = NULL, region = NULL, time_zone = NULL, two_factor = NULL,
                kind = CASE WHEN kind = 'directory' THEN 'custom' ELSE kind END, hand_kind = NULL, hand_name = NULL, orphaned = $3,
                paused = $3, paused_until = NULL, paused_by = NULL, paused_by_undo = NULL, due = $3, cursor = NULL, following = NULL,
                mapping_hash = NULL, directory = NULL, first_applied_at = NULL
            WHERE id = $1 AND removed_at IS NULL AND held IS NULL AND (orphaned OR kind <> 'directory')
                AND NOT EXISTS (SELECT 1 FROM runs WHERE realm = $1 AND outcome = 'held')";
        const REFUSED: &str = "DELETE FROM refused WHERE realm = $1";
        // They are not those of another realm that gets the id.
        const TOKENS: &str =
            "UPDATE api_tokens SET revoked_at = $2 WHERE realm = $1 AND revoked_at IS NULL";
        let failed = StoreError::from_sqlx("remove a realm");
        let mut tx = self.db.begin().await?;
        locks::realm(&mut tx, realm).await?;
        let left = on!(tx, c => sqlx::query_scalar::<_, i64>(LEFT).bind(realm.as_str()).fetch_one(&mut *c).await)
            .map_err(&failed)?;
        if left > 0 {
            return Ok(false);
        }
        let rows = on!(tx, c => sqlx::query(REMOVE).bind(realm.as_str()).bind(now.0).bind(false).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(&failed)?;
        if rows != 1 {
            return Err(not_removable(realm));
        }
        on!(tx, c => sqlx::query(REFUSED).bind(realm.as_str()).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
        on!(tx, c => sqlx::query(TOKENS).bind(realm.as_str()).bind(now.0).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
        reckon_standing(&mut tx, Some(realm), now).await?;
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Two who make realms at once see each other.
async fn one_at_a_time(tx: &mut Tx) -> Result<(), StoreError> {
    const ALONE: &str = "SELECT pg_advisory_xact_lock(hashtextextended('realmsync realms', 0))";
    if let super::db::EngineConnection::Postgres(c) = tx.side() {
        super::answer::answered(sqlx::query(ALONE).execute(c))
            .await
            .map_err(StoreError::from_sqlx("make a realm"))?;
    }
    Ok(())
}

/// What an administrator says of a realm, in the order of the columns.
type SettingColumns = (
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

fn settings(columns: SettingColumns) -> Result<(String, RealmSettings), StoreError> {
    let (name, category, region, time_zone, methods) = columns;
    let settings = RealmSettings {
        category,
        region,
        time_zone,
        two_factor: two_factor(methods.as_deref().unwrap_or_default())?,
    };
    Ok((name, settings))
}

pub(super) fn gone(realm: &RealmId) -> StoreError {
    StoreError::Refused(format!(
        "realm `{realm}` was removed, or taken out of the configuration, a moment ago: nothing was done"
    ))
}

fn not_removable(realm: &RealmId) -> StoreError {
    StoreError::Refused(format!(
        "realm `{realm}` has a held plan, was removed a moment ago, or is back in the configuration: look at it (`realmsync status`), and reject the plan first"
    ))
}

/// A realm of no file is a directory's from now on: the first pass gives its users the entries of their names. What it was is kept
/// until then, see [`be_by_hand_again`].
pub(super) async fn become_directory(tx: &mut Tx, realm: &RealmId) -> Result<(), StoreError> {
    const BECOME: &str = "
        UPDATE realms SET kind = 'directory', hand_kind = kind, hand_name = name
        WHERE id = $1 AND kind <> 'directory' AND removed_at IS NULL";
    const GIVE: &str = "
        INSERT INTO adoptions (user_id, by_file, at) SELECT id, $2, updated_at FROM users
        WHERE realm = $1 AND directory_id IS NULL AND state <> 'removed' ON CONFLICT (user_id) DO NOTHING";
    let failed = StoreError::from_sqlx("declare a realm");
    let rows = on!(tx, c => sqlx::query(BECOME).bind(realm.as_str()).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(&failed)?;
    if rows == 1 {
        on!(tx, c => sqlx::query(GIVE).bind(realm.as_str()).bind(true).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
    }
    Ok(())
}

/// Realms that were made by hand, entered a file and left it before a first pass was applied are what they were before. One whose
/// plan is held is so once that is decided. `only`: which realm is looked at. Gives them.
pub(super) async fn be_by_hand_again(
    tx: &mut Tx,
    only: Option<&RealmId>,
) -> Result<Vec<RealmId>, StoreError> {
    const AGAIN: &str = "
        UPDATE realms SET kind = hand_kind, name = hand_name, hand_kind = NULL, hand_name = NULL, orphaned = $1, due = $1, cursor = NULL,
            following = NULL, mapping_hash = NULL, directory = NULL, seen_state = NULL, id_form = NULL
        WHERE orphaned AND held IS NULL AND first_applied_at IS NULL AND kind = 'directory' AND hand_kind IS NOT NULL
          AND ($2 IS NULL OR id = $2)
        RETURNING id";
    const MARKS: &str = "
        DELETE FROM adoptions WHERE user_id IN (SELECT id FROM users WHERE realm = $1 AND state <> 'removed')";
    const REFUSED: &str = "DELETE FROM refused WHERE realm = $1";
    let failed = StoreError::from_sqlx("give a realm its kind back");
    let ids = on!(tx, c => sqlx::query_scalar::<_, String>(AGAIN).bind(false).bind(only.map(RealmId::as_str)).fetch_all(&mut *c).await)
        .map_err(&failed)?;
    for id in &ids {
        for sql in [MARKS, REFUSED] {
            on!(tx, c => sqlx::query(sql).bind(id).execute(&mut *c).await.map(|_| ()))
                .map_err(&failed)?;
        }
    }
    Ok(ids.into_iter().map(RealmId::from).collect())
}
