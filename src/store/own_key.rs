//! The key that a store made for itself, once another one is in its place: whether links still need it, and its end.

use super::audit::{AuditNote, append};
use super::db::on;
use super::outbox::{EnrolmentKey, MessageLink};
use super::rows::uuid;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::factors::keys::KeyId;
use crate::model::{EnrolmentId, JobId};

/// Links that are looked at at once.
const PAGE: i64 = 1000;

/// Where a page begins behind, the link, and the hash of its token.
type LinkRow = (i64, Vec<u8>, Vec<u8>);

impl Store {
    /// Whether a link was made with this key that somebody may still open, be sent once more or be sent at all: also messages that ended
    /// can be tried again, as long as they have their text. Looks at all of them where there is none.
    pub async fn links_need(&self, key: &EnrolmentKey, now: Timestamp) -> Result<bool, StoreError> {
        const OPEN: &str = "
            SELECT id, token_sha256 FROM enrolments WHERE id > $1 AND state = 'open' AND expires_at > $2 ORDER BY id LIMIT $3";
        const SENT: &str = "
            SELECT j.seq, e.id, e.token_sha256 FROM jobs j JOIN enrolments e ON e.id = j.enrolment
            WHERE j.seq > $1 AND j.body IS NOT NULL ORDER BY j.seq LIMIT $2";
        const FREEZE: &str = "
            SELECT j.seq, l.id, l.token_sha256 FROM jobs j JOIN freeze_links l ON l.id = j.id
            WHERE j.seq > $1 AND j.body IS NOT NULL ORDER BY j.seq LIMIT $2";
        let failed = StoreError::from_sqlx("look for links of a key");
        let mut link = self.db.read().await?;
        let mut last = vec![0; 16];
        loop {
            let rows = on!(link, c => sqlx::query_as::<_, (Vec<u8>, Vec<u8>)>(OPEN).bind(last.clone()).bind(now.0).bind(PAGE).fetch_all(&mut *c).await)
                .map_err(&failed)?;
            let Some((end, _)) = rows.last() else { break };
            last.clone_from(end);
            for (id, hash) in &rows {
                if key.token_sha256(EnrolmentId(uuid(id)?))[..] == hash[..] {
                    return Ok(true);
                }
            }
        }
        for (sql, freeze) in [(SENT, false), (FREEZE, true)] {
            let mut last = 0;
            loop {
                let rows = on!(link, c => sqlx::query_as::<_, LinkRow>(sql).bind(last).bind(PAGE).fetch_all(&mut *c).await)
                    .map_err(&failed)?;
                let Some((end, ..)) = rows.last() else { break };
                last = *end;
                for (_, id, hash) in &rows {
                    let id = uuid(id)?;
                    let of = if freeze {
                        MessageLink::Freeze(JobId(id))
                    } else {
                        MessageLink::Enrolment(EnrolmentId(id))
                    };
                    if key.link_sha256(of)[..] == hash[..] {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Removes the store's own key, with its line of the audit. `false`: it is not there, something is kept with it, or the store is kept
    /// with another one than `current`.
    pub async fn forget_own_key(
        &self,
        own: &EnrolmentKey,
        current: KeyId,
        note: &AuditNote,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "
            DELETE FROM meta WHERE key = 'enrolment_key' AND value = $1
              AND NOT EXISTS (SELECT 1 FROM authenticators WHERE secret IS NOT NULL AND key_id = $2)
              AND EXISTS (SELECT 1 FROM meta canary WHERE canary.key = 'canary' AND canary.value LIKE $3)";
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(SQL).bind(own.kept()).bind(own.root().id().to_string()).bind(format!("{current} %"))
            .execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("remove a key"))?;
        if rows == 1 {
            append(&mut tx, &note.key, &note.entry).await?;
            tx.commit().await?;
        }
        Ok(rows == 1)
    }

    /// The hashes of the tokens of these enrolments, as far as they are there.
    pub async fn link_hashes(
        &self,
        ids: &[EnrolmentId],
    ) -> Result<Vec<(EnrolmentId, Vec<u8>)>, StoreError> {
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for ids in ids.chunks(200) {
            let sql = format!(
                "SELECT id, token_sha256 FROM enrolments WHERE id IN ({})",
                super::rows::places(1, ids.len())
            );
            let rows = on!(link, c => {
                let mut query = sqlx::query_as::<_, (Vec<u8>, Vec<u8>)>(sqlx::AssertSqlSafe(sql));
                for id in ids { query = query.bind(id.0.as_bytes().to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(StoreError::from_sqlx("read enrolments"))?;
            for (id, hash) in rows {
                found.push((EnrolmentId(uuid(&id)?), hash));
            }
        }
        Ok(found)
    }
}
