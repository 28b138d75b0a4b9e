//! Realms and what is remembered of them between runs.

use sqlx::FromRow;

use super::db::on;
use super::rows::{readable, run_id, two_factor, word};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{IdForm, OwnPause, RealmId, RealmRow, RealmSettings};

#[expect(clippy::struct_excessive_bools, reason = "a column of the table each")]
#[derive(FromRow)]
struct RealmColumns {
    id: String,
    kind: String,
    name: String,
    paused: bool,
    paused_until: Option<i64>,
    paused_by: Option<String>,
    paused_by_undo: Option<Vec<u8>>,
    paused_beside: bool,
    paused_beside_until: Option<i64>,
    orphaned: bool,
    due: bool,
    mapping_hash: Option<String>,
    directory: Option<String>,
    first_applied_at: Option<i64>,
    clock_ms: i64,
    last_complete_at: Option<i64>,
    window_from: String,
    seen_state: Option<String>,
    id_form: Option<String>,
    cursor: Option<String>,
    following: Option<String>,
    held: Option<Vec<u8>>,
    last_tick_at: Option<i64>,
    left_out_until: Option<i64>,
    category: Option<String>,
    region: Option<String>,
    time_zone: Option<String>,
    two_factor: Option<String>,
}

macro_rules! realm_columns {
    () => {
        "id, kind, name, paused, paused_until, paused_by, paused_by_undo, paused_beside, paused_beside_until, orphaned, due, mapping_hash, directory, first_applied_at, clock_ms, last_complete_at, window_from, seen_state, id_form, cursor, following, held, last_tick_at, left_out_until, category, region, time_zone, two_factor"
    };
}

impl TryFrom<RealmColumns> for RealmRow {
    type Error = StoreError;

    fn try_from(row: RealmColumns) -> Result<Self, StoreError> {
        // A program that knows only the step before ends a pause without a word of whose it was.
        let undo = row.paused_by_undo.as_deref().filter(|_| row.paused);
        let (own, own_until) = match undo {
            Some(_) => (row.paused_beside, row.paused_beside_until),
            None => (row.paused, row.paused_until),
        };
        Ok(Self {
            paused_by_undo: undo.map(run_id).transpose()?,
            own_pause: own.then(|| OwnPause {
                by: row.paused_by,
                until: own_until.map(Timestamp),
            }),
            id: RealmId::from(row.id),
            kind: word(&row.kind)?,
            name: row.name,
            paused: row.paused,
            paused_until: row.paused_until.map(Timestamp),
            orphaned: row.orphaned,
            due: row.due,
            mapping_hash: row.mapping_hash,
            directory: row.directory,
            first_applied_at: row.first_applied_at.map(Timestamp),
            clock_ms: row.clock_ms,
            last_complete_at: row.last_complete_at.map(Timestamp),
            window_from: row.window_from,
            seen_state: row.seen_state,
            id_form: row.id_form.as_deref().map(word).transpose()?,
            cursor: row.cursor,
            following: row.following,
            held: row.held.as_deref().map(run_id).transpose()?,
            last_tick_at: row.last_tick_at.map(Timestamp),
            left_out_until: row.left_out_until.map(Timestamp),
            settings: RealmSettings {
                category: row.category,
                region: row.region,
                time_zone: row.time_zone,
                two_factor: two_factor(row.two_factor.as_deref().unwrap_or_default())?,
            },
        })
    }
}

impl Store {
    /// One realm.
    pub async fn realm(&self, id: &RealmId) -> Result<Option<RealmRow>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            realm_columns!(),
            " FROM realms WHERE id = $1 AND removed_at IS NULL"
        );
        let mut link = self.db.read().await?;
        let row = on!(link, c => sqlx::query_as::<_, RealmColumns>(SQL).bind(id.as_str()).fetch_optional(&mut *c).await).map_err(StoreError::from_sqlx("read a realm"))?;
        row.map(RealmRow::try_from).transpose()
    }

    /// All realms, by id.
    pub async fn realms(&self) -> Result<Vec<RealmRow>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            realm_columns!(),
            " FROM realms WHERE removed_at IS NULL ORDER BY id"
        );
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, RealmColumns>(SQL).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read realms"))?;
        Ok(readable(rows))
    }

    /// How the realm's directory prints its ids, before anything of it was applied.
    pub async fn remember_id_form(&self, realm: &RealmId, form: IdForm) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE realms SET id_form = $2 WHERE id = $1";
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).bind(realm.as_str()).bind(form.as_str()).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("write a realm"))?;
        tx.commit().await
    }

    /// Marks that something changed while a held plan kept the realm from following.
    pub async fn set_due(&self, realm: &RealmId, due: bool) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE realms SET due = $2 WHERE id = $1";
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).bind(realm.as_str()).bind(due).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("mark a realm"))?;
        tx.commit().await
    }

    /// Moves the cursor of a realm in which nothing else changed. Where another run has moved it meanwhile, it stays.
    pub async fn move_cursor(
        &self,
        realm: &RealmId,
        from: &str,
        to: &str,
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE realms SET cursor = $3 WHERE id = $1 AND cursor = $2";
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).bind(realm.as_str()).bind(from.to_owned()).bind(to.to_owned()).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("move a cursor"))?;
        tx.commit().await
    }

    /// From here on a tick can be missed, in a realm that had none.
    pub async fn first_tick(&self, realm: &RealmId, at: Timestamp) -> Result<(), StoreError> {
        const SQL: &str =
            "UPDATE realms SET last_tick_at = $2 WHERE id = $1 AND last_tick_at IS NULL";
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).bind(realm.as_str()).bind(at.0).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("remember a tick"))?;
        tx.commit().await
    }

    /// The pass of a tick was stopped: it counts as missed, unless another was done since.
    pub async fn give_tick_back(
        &self,
        realm: &RealmId,
        tick: Timestamp,
        before: Timestamp,
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE realms SET last_tick_at = $3 WHERE id = $1 AND last_tick_at = $2";
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).bind(realm.as_str()).bind(tick.0).bind(before.0).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("give a tick back"))?;
        tx.commit().await
    }
}
