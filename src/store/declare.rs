//! Which realms there are, by the configuration. Where several daemons share a database, each says which realms its file has, for as
//! long as it lives: a realm is orphaned only when no running daemon's file has it, and only by a daemon.

use std::collections::HashMap;

use super::answer::answered;
use super::db::{Db, EngineConnection, Tx, on};
use super::lease_owner::LEASE_MS;
use super::lease_rows::now;
use super::outbox::reckon_standing;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::RealmId;

/// A directory realm of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RealmDecl {
    /// `id`.
    pub id: RealmId,
    /// `name`.
    pub name: String,
}

/// What declaring a daemon's realms changed.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Declared {
    /// No running daemon's file has them any more.
    pub orphaned: Vec<RealmId>,
    /// They were orphaned, and are no more.
    pub resumed: Vec<RealmId>,
    /// They were made by hand, and have left the file before a first pass was applied: they are by hand again.
    pub by_hand_again: Vec<RealmId>,
}

impl Store {
    /// Makes the directory realms of a daemon's file known; listed ones that were orphaned resume. Those that neither this file
    /// nor that of another running daemon lists are orphaned.
    pub async fn declare_realms(
        &self,
        realms: &[RealmDecl],
        now: Timestamp,
    ) -> Result<Declared, StoreError> {
        const THERE: &str = "SELECT id, orphaned FROM realms WHERE kind = 'directory' ORDER BY id";
        const SET: &str = "UPDATE realms SET orphaned = $2 WHERE id = $1";
        let mut tx = self.db.begin().await?;
        let others = self.say_which(&mut tx, realms).await?;
        let there =
            on!(tx, c => sqlx::query_as::<_, (String, bool)>(THERE).fetch_all(&mut *c).await)
                .map_err(StoreError::from_sqlx("read realms"))?;
        let by_hand = by_hand(&mut tx).await?;
        // By their ids, as whoever else locks several of them.
        let mut sorted: Vec<&RealmDecl> = realms.iter().collect();
        sorted.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        for realm in sorted {
            declare_in(&mut tx, realm, &by_hand).await?;
        }
        let mut declared = Declared::default();
        for (id, was) in there {
            let is = !others.contains(&id) && realms.iter().all(|r| r.id.as_str() != id);
            if was == is {
                continue;
            }
            on!(tx, c => sqlx::query(SET).bind(&id).bind(is).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::from_sqlx("declare realms"))?;
            let changed = if is {
                &mut declared.orphaned
            } else {
                &mut declared.resumed
            };
            changed.push(RealmId::from(id));
        }
        declared.by_hand_again = super::realm_by_hand::be_by_hand_again(&mut tx, None).await?;
        declared
            .orphaned
            .retain(|realm| !declared.by_hand_again.contains(realm));
        reckon_standing(&mut tx, None, now).await?;
        tx.commit().await?;
        Ok(declared)
    }

    /// Makes one realm known, and lets it resume if it was orphaned. Says nothing of others: a command knows only what it works on.
    pub async fn declare_realm(&self, realm: &RealmDecl, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let by_hand = by_hand(&mut tx).await?;
        declare_in(&mut tx, realm, &by_hand).await?;
        reckon_standing(&mut tx, None, now).await?;
        tx.commit().await
    }

    /// Writes down which realms this daemon's file has; gives those of the other running daemons. One daemon at a time, so that
    /// none overlooks what another is about to say.
    async fn say_which(
        &self,
        tx: &mut Tx,
        realms: &[RealmDecl],
    ) -> Result<Vec<String>, StoreError> {
        const ONE: &str = "SELECT pg_advisory_xact_lock(hashtextextended('realmsync daemons', 0))";
        const FORGET: &str = concat!(
            "DELETE FROM daemons WHERE owner = $1 OR until < ",
            now!(),
            " - 86400000"
        );
        const OTHERS: &str = concat!("SELECT DISTINCT realm FROM daemons WHERE until > ", now!());
        let EngineConnection::Postgres(c) = tx.side() else {
            return Ok(vec![]);
        };
        let failed = StoreError::from_sqlx("declare realms");
        let owner = self.leases.owner();
        let one = sqlx::query(ONE).execute(&mut *c);
        answered(one).await.map_err(&failed)?;
        let forget = sqlx::query(FORGET).bind(&owner.id).execute(&mut *c);
        answered(forget).await.map_err(&failed)?;
        let others = sqlx::query_scalar::<_, String>(OTHERS).fetch_all(&mut *c);
        let others = answered(others).await.map_err(&failed)?;
        for realm in realms {
            let alive = sqlx::query(ALIVE)
                .bind(&owner.id)
                .bind(realm.id.as_str())
                .bind(&owner.name)
                .bind(LEASE_MS)
                .execute(&mut *c);
            answered(alive).await.map_err(&failed)?;
        }
        Ok(others)
    }

    /// This daemon lives, and its file has these realms. To be said every few seconds where several share the database.
    pub async fn daemon_lives(&self, realms: &[RealmId]) -> Result<(), StoreError> {
        let Db::Postgres { .. } = &self.db else {
            return Ok(());
        };
        let owner = self.leases.owner();
        let mut tx = self.db.begin().await?;
        if let EngineConnection::Postgres(c) = tx.side() {
            for realm in realms {
                let alive = sqlx::query(ALIVE)
                    .bind(&owner.id)
                    .bind(realm.as_str())
                    .bind(&owner.name)
                    .bind(LEASE_MS)
                    .execute(&mut *c);
                answered(alive)
                    .await
                    .map_err(StoreError::from_sqlx("say which realms are ours"))?;
            }
        }
        tx.commit().await
    }

    /// This daemon stops: its file counts no more.
    pub async fn daemon_stops(&self) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM daemons WHERE owner = $1";
        let Db::Postgres { .. } = &self.db else {
            return Ok(());
        };
        let owner = self.leases.owner().id.clone();
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).bind(owner).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("say which realms are ours"))?;
        tx.commit().await
    }

    /// Directory realms that are not orphaned, and that no running daemon's file has; none with SQLite, which has one daemon.
    pub async fn nobodys_realms(&self) -> Result<Vec<RealmId>, StoreError> {
        const SQL: &str = concat!(
            "SELECT id FROM realms WHERE kind = 'directory' AND NOT orphaned AND id NOT IN (SELECT realm FROM daemons WHERE until > ",
            now!(),
            ") ORDER BY id"
        );
        let Db::Postgres { pool, .. } = &self.db else {
            return Ok(vec![]);
        };
        let reading = sqlx::query_scalar::<_, String>(SQL).fetch_all(pool);
        let realms = answered(reading)
            .await
            .map_err(StoreError::from_sqlx("read which realms are whose"))?;
        Ok(realms.into_iter().map(RealmId::from).collect())
    }
}

const ALIVE: &str = concat!(
    "INSERT INTO daemons (owner, realm, name, until) VALUES ($1, $2, $3, ",
    now!(),
    " + $4) ON CONFLICT (owner, realm) DO UPDATE SET until = excluded.until"
);

/// Realms that are in no file: their ids by what they are compared by.
async fn by_hand(tx: &mut Tx) -> Result<HashMap<String, String>, StoreError> {
    const SQL: &str = "SELECT id FROM realms WHERE kind <> 'directory' AND removed_at IS NULL";
    let ids = on!(tx, c => sqlx::query_scalar::<_, String>(SQL).fetch_all(&mut *c).await)
        .map_err(StoreError::from_sqlx("read realms"))?;
    Ok(ids.into_iter().map(|id| (id.to_lowercase(), id)).collect())
}

async fn declare_in(
    tx: &mut Tx,
    realm: &RealmDecl,
    by_hand: &HashMap<String, String>,
) -> Result<(), StoreError> {
    const DECLARE: &str = "
        INSERT INTO realms (id, kind, name, orphaned) VALUES ($1, 'directory', $2, $3)
        ON CONFLICT (id) DO UPDATE SET kind = 'directory', name = excluded.name, orphaned = excluded.orphaned, removed_at = NULL";
    match by_hand.get(&realm.id.as_str().to_lowercase()) {
        Some(other) if other == realm.id.as_str() => {
            super::realm_by_hand::become_directory(tx, &realm.id).await?;
        }
        Some(other) => {
            return Err(StoreError::Refused(format!(
                "realm `{}` of the configuration has the id of realm `{other}`, which was made by hand, in another case: write it as `{other}`, or remove that one",
                realm.id
            )));
        }
        None => {}
    }
    on!(tx, c => sqlx::query(DECLARE).bind(realm.id.as_str()).bind(&realm.name).bind(false).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("declare a realm"))
}
