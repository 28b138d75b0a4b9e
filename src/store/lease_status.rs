//! Who holds what, for `status`.

use super::answer::answered;
use super::db::{Db, on};
use super::lease_rows::now;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::RealmId;

/// Who runs a realm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseHolder {
    /// The realm.
    pub realm: RealmId,
    /// host:pid.
    pub name: String,
    /// When it was taken.
    pub since: Timestamp,
    /// Until then, unless renewed.
    pub until: Timestamp,
}

impl Store {
    /// The leases that are held now; none with SQLite.
    pub async fn lease_holders(&self) -> Result<Vec<LeaseHolder>, StoreError> {
        const SQL: &str = concat!(
            "SELECT realm, COALESCE(holder, owner), since, until FROM leases WHERE owner IS NOT NULL AND until > ",
            now!(),
            " ORDER BY realm"
        );
        let Db::Postgres { pool, .. } = &self.db else {
            return Ok(vec![]);
        };
        let reading = sqlx::query_as::<_, (String, String, i64, i64)>(SQL).fetch_all(pool);
        let rows = answered(reading)
            .await
            .map_err(StoreError::from_sqlx("read leases"))?;
        let holder = |(realm, name, since, until): (String, String, i64, i64)| LeaseHolder {
            realm: realm.into(),
            name,
            since: Timestamp(since),
            until: Timestamp(until),
        };
        Ok(rows.into_iter().map(holder).collect())
    }

    /// Which daemon is sending how many messages of which realm; none with SQLite, where there is one.
    pub async fn senders(&self) -> Result<Vec<(RealmId, String, i64)>, StoreError> {
        const SQL: &str = "SELECT realm, COALESCE(leased_by, ''), COUNT(*) FROM jobs WHERE state = 'sending' GROUP BY realm, leased_by";
        if self.single_daemon() {
            return Ok(vec![]);
        }
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, (String, String, i64)>(SQL).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read who sends"))?;
        // A worker's name is the process's, a blank, and what tells it from others.
        let process = |name: String| name.split(' ').next().unwrap_or_default().to_owned();
        Ok(rows
            .into_iter()
            .map(|(realm, name, jobs)| (realm.into(), process(name), jobs))
            .collect())
    }

    /// What this process is called in leases: host:pid.
    pub fn process_name(&self) -> &str {
        &self.leases.owner().name
    }
}
