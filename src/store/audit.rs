//! The audit: who changed what, from where. Rows are only added, and a chain of keyed digests shows what was changed, cut out or cut off.
//!
//! ```text
//!   digest = HMAC(key, seq, username, before, after)        of the values, which go when the person is removed
//!   link   = HMAC(key, link of the row before, bare row, digest)
//!   meta.audit = seq and link of the last row, HMAC(key, both)
//! ```
//!
//! The chain covers the bare row and the digest of its values, so that erasing a person leaves it whole. Whoever can write to the
//! database, but does not have the enrolment key, can make none of the three.

use std::fmt;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::Sha256;
use sqlx::FromRow;
use zeroize::Zeroizing;

use super::answer::answered;
use super::db::{EngineConnection, Tx, on};
use super::rows::{run_id, side_text, uuid};
use super::{EnrolmentKey, Store, StoreError};
use crate::clock::Timestamp;
use crate::factors::keys::{KeyId, KeyRing, Purpose, RootKey};
use crate::model::{AuditEntry, AuditLine, RealmId, RunId, UserId};

/// The key of the digests. `Debug` shows its name only.
#[derive(Clone)]
pub struct AuditKey {
    id: String,
    key: Zeroizing<[u8; 32]>,
    /// Others that the last line may have been written with.
    former: Vec<AuditKey>,
}

impl AuditKey {
    /// The key that follows from an enrolment key.
    pub fn of(root: &EnrolmentKey) -> Self {
        Self::of_root(&root.root())
    }

    /// The same of its root.
    pub fn of_root(root: &RootKey) -> Self {
        Self {
            id: root.id().to_string(),
            key: root.key(Purpose::Audit),
            former: vec![],
        }
    }

    /// The same, with all of a ring beside it, one of which the last line may have been written with.
    #[must_use]
    pub fn knowing(mut self, ring: &KeyRing) -> Self {
        self.former = Self::of_ring(ring);
        self
    }

    fn named(&self, id: &str) -> Option<&Self> {
        std::iter::once(self)
            .chain(&self.former)
            .find(|key| key.id == id)
    }

    /// Those under which lines may have been written, the one in use first.
    pub fn of_ring(ring: &KeyRing) -> Vec<Self> {
        let key = |id: KeyId| {
            Some(Self {
                id: id.to_string(),
                key: ring.digest_key(id, Purpose::Audit)?,
                former: vec![],
            })
        };
        ring.digest_ids().into_iter().filter_map(key).collect()
    }

    /// The name of the enrolment key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Of the value of a setting: tells whether it is another one, and nothing else. 16 hex digits.
    pub(super) fn setting(&self, name: &str, value: &[u8]) -> String {
        let mut mac = self.mac("realmsync setting 1");
        mac.part(Some(name.as_bytes()));
        mac.part(Some(value));
        HEXLOWER.encode(&mac.end()[..8])
    }

    fn mac(&self, purpose: &str) -> Parts {
        let mut block = [0_u8; 64];
        block[..32].copy_from_slice(&*self.key);
        // Padded with zeros to the hash's block, this is the same key (RFC 2104 § 2), and cannot fail.
        let mut parts = Parts(Hmac::<Sha256>::new(&block.into()));
        parts.part(Some(purpose.as_bytes()));
        parts
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditKey({})", self.id)
    }
}

/// A line that is written with what it tells of, and the key that it is written under. `Debug` shows what was done only.
#[derive(Clone)]
pub struct AuditNote {
    /// The line.
    pub entry: AuditEntry,
    /// The key.
    pub key: AuditKey,
}

impl fmt::Debug for AuditNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditNote({})", self.entry.act)
    }
}

impl AuditNote {
    /// The same about a run.
    #[must_use]
    pub fn about(mut self, run: RunId, realm: &RealmId) -> Self {
        self.entry = self.entry.about(run, realm);
        self
    }

    /// Tells how something was.
    #[must_use]
    pub fn was(mut self, what: &str, value: impl Into<Value>) -> Self {
        self.entry = self.entry.was(what, value);
        self
    }

    /// Tells how something is.
    #[must_use]
    pub fn is(mut self, what: &str, value: impl Into<Value>) -> Self {
        self.entry = self.entry.is(what, value);
        self
    }
}

/// Parts of what is digested, each with its length, so that no two lists of parts are one text.
struct Parts(Hmac<Sha256>);

impl Parts {
    fn part(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.0.update(&[0]),
            Some(bytes) => {
                self.0.update(&[1]);
                self.0.update(&(bytes.len() as u64).to_be_bytes());
                self.0.update(bytes);
            }
        }
    }

    fn end(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }
}

/// A row as it lies in the store.
#[derive(FromRow)]
struct AuditRow {
    seq: i64,
    at: i64,
    by_whom: Option<String>,
    door: String,
    act: String,
    realm: Option<String>,
    user_id: Option<Vec<u8>>,
    run: Option<Vec<u8>>,
    username: Option<String>,
    before: Option<String>,
    after: Option<String>,
    key_id: String,
    digest: Vec<u8>,
    link: Vec<u8>,
}

impl AuditRow {
    fn digest(&self, key: &AuditKey) -> [u8; 32] {
        let mut mac = key.mac("realmsync audit values 1");
        mac.part(Some(&self.seq.to_be_bytes()));
        for text in [&self.username, &self.before, &self.after] {
            mac.part(text.as_deref().map(str::as_bytes));
        }
        mac.end()
    }

    /// Over the row, and the link of the row `before`; where that was made with another key, over the name of that key too, so that
    /// it is not another one afterwards.
    fn link(&self, key: &AuditKey, before: &LinkBefore) -> [u8; 32] {
        let mut mac = key.mac("realmsync audit link 1");
        mac.part(Some(&before.link));
        if let Some(former) = before.key.as_ref().filter(|former| **former != self.key_id) {
            mac.part(Some(former.as_bytes()));
        }
        mac.part(Some(&self.seq.to_be_bytes()));
        mac.part(Some(&self.at.to_be_bytes()));
        let by = self.by_whom.as_deref().map(str::as_bytes);
        let realm = self.realm.as_deref().map(str::as_bytes);
        for part in [
            by,
            Some(self.door.as_bytes()),
            Some(self.act.as_bytes()),
            realm,
        ] {
            mac.part(part);
        }
        mac.part(self.user_id.as_deref());
        mac.part(self.run.as_deref());
        mac.part(Some(self.key_id.as_bytes()));
        mac.part(Some(&self.digest));
        mac.end()
    }

    fn has_values(&self) -> bool {
        self.username.is_some() || self.before.is_some() || self.after.is_some()
    }
}

fn map(text: Option<&str>) -> Result<Option<Map<String, Value>>, StoreError> {
    text.map(serde_json::from_str)
        .transpose()
        .map_err(|e| StoreError::Nonsense(format!("a line of the audit: {e}")))
}

impl TryFrom<AuditRow> for AuditLine {
    type Error = StoreError;

    fn try_from(row: AuditRow) -> Result<Self, StoreError> {
        Ok(Self {
            at: Timestamp(row.at),
            by: row.by_whom,
            from: row.door,
            act: row.act,
            realm: row.realm.map(RealmId::from),
            user: row.user_id.as_deref().map(uuid).transpose()?.map(UserId),
            username: row.username,
            run: row.run.as_deref().map(run_id).transpose()?,
            before: map(row.before.as_deref())?,
            after: map(row.after.as_deref())?,
        })
    }
}

/// Where the chain ends, with what only the key makes.
fn head(key: &AuditKey, seq: i64, link: &[u8]) -> String {
    let mut mac = key.mac("realmsync audit head 1");
    mac.part(Some(&seq.to_be_bytes()));
    mac.part(Some(link));
    format!(
        "{seq} {} {}",
        HEXLOWER.encode(link),
        HEXLOWER.encode(&mac.end())
    )
}

/// Where the chain ended when it was last written, as far as that can be read.
fn place(head: &str) -> i64 {
    let seq = head.split(' ').next().and_then(|seq| seq.parse().ok());
    seq.unwrap_or(0)
}

/// The row that another one follows: the first follows none.
#[derive(Default)]
struct LinkBefore {
    link: Vec<u8>,
    key: Option<String>,
}

/// Whether the chain's end is what it was written as, with a key that is at hand. `last`: of the last row.
fn ends_as_written(
    key: &AuditKey,
    head_then: Option<&str>,
    last: Option<&(i64, Vec<u8>, String)>,
) -> bool {
    match (head_then, last) {
        (None, None) => true,
        (Some(head_then), Some((seq, link, key_id))) => {
            let with = key.named(key_id);
            with.is_some_and(|with| head_then == head(with, *seq, link))
        }
        _ => false,
    }
}

/// Adds a row, as the last thing of its transaction: the lock that keeps the chain one is held until the commit. Where the chain does
/// not end as it was written, or was written with a key that is not at hand, a number is left out, so that this shows ever after.
pub(super) async fn append(
    tx: &mut Tx,
    key: &AuditKey,
    entry: &AuditEntry,
) -> Result<(), StoreError> {
    const ALONE: &str = "SELECT pg_advisory_xact_lock(hashtextextended('realmsync audit', 0))";
    const LAST: &str = "SELECT seq, link, key_id FROM audit ORDER BY seq DESC LIMIT 1";
    const ADD: &str = "
        INSERT INTO audit (seq, at, by_whom, door, act, realm, user_id, run, username, before, after, key_id, digest, link)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    const ENDED: &str = "SELECT value FROM meta WHERE key = 'audit'";
    const HEAD: &str = "
        INSERT INTO meta (key, value) VALUES ('audit', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    let failed = StoreError::from_sqlx("write the audit");
    if let EngineConnection::Postgres(c) = tx.side() {
        answered(sqlx::query(ALONE).execute(c))
            .await
            .map_err(&failed)?;
    }
    let last =
        on!(tx, c => sqlx::query_as::<_, (i64, Vec<u8>, String)>(LAST).fetch_optional(&mut *c).await)
            .map_err(&failed)?;
    let ended = on!(tx, c => sqlx::query_scalar::<_, String>(ENDED).fetch_optional(&mut *c).await)
        .map_err(&failed)?;
    let left_out = i64::from(!ends_as_written(key, ended.as_deref(), last.as_ref()));
    let (seq, before) = last.map_or_else(Default::default, |(seq, link, key)| {
        (
            seq,
            LinkBefore {
                link,
                key: Some(key),
            },
        )
    });
    let seq = seq.max(ended.as_deref().map_or(0, place)) + left_out;
    let mut row = AuditRow {
        seq: seq + 1,
        at: entry.at.0,
        by_whom: entry.by.clone(),
        door: entry.from.clone(),
        act: entry.act.as_str().to_owned(),
        realm: entry.realm.as_ref().map(|r| r.as_str().to_owned()),
        user_id: entry.user.map(|u| u.0.as_bytes().to_vec()),
        run: entry.run.map(|r| r.0.as_bytes().to_vec()),
        username: entry.username.clone(),
        before: side_text(&entry.before),
        after: side_text(&entry.after),
        key_id: key.id.clone(),
        digest: vec![],
        link: vec![],
    };
    row.digest = row.digest(key).to_vec();
    row.link = row.link(key, &before).to_vec();
    let end = head(key, row.seq, &row.link);
    on!(tx, c => sqlx::query(ADD)
        .bind(row.seq).bind(row.at).bind(row.by_whom.clone()).bind(&row.door).bind(&row.act).bind(row.realm.clone())
        .bind(row.user_id.clone()).bind(row.run.clone()).bind(row.username.clone()).bind(row.before.clone()).bind(row.after.clone())
        .bind(&row.key_id).bind(&row.digest).bind(&row.link).execute(&mut *c).await.map(|_| ()))
    .map_err(&failed)?;
    on!(tx, c => sqlx::query(HEAD).bind(&end).execute(&mut *c).await.map(|_| ())).map_err(&failed)
}

/// Which lines of the audit are shown.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct AuditFilter {
    /// About this user.
    pub user: Option<UserId>,
    /// Of this administrator, program or service.
    pub by: Option<String>,
    /// From then on.
    pub since: Option<Timestamp>,
}

/// What a look at the chain found.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditCheck {
    /// Rows.
    pub lines: i64,
    /// Rows whose values went with the person.
    pub erased: i64,
    /// What is wrong, with the row's place; the first hundred.
    pub faults: Vec<String>,
    /// What the chain ends with: the first 16 digits of its last link. Whoever keeps it elsewhere sees by it that the audit was not put
    /// back to an earlier state. Empty: there is no line.
    pub end: String,
}

impl AuditCheck {
    fn fault(&mut self, what: String) {
        if self.faults.len() < 100 {
            self.faults.push(what);
        }
    }
}

const COLUMNS: &str = "seq, at, by_whom, door, act, realm, user_id, run, username, before, after, key_id, digest, link";

impl Store {
    /// The same store for one act that somebody asked for: its line is written in the act's transaction. Those that write one say
    /// so; `None`: nobody asked, and there is no line.
    #[must_use]
    pub fn noting(&self, note: Option<AuditNote>) -> Self {
        Self {
            note: note.map(Arc::new),
            ..self.clone()
        }
    }

    /// Writes the line of whoever asked, if anybody did. The last thing before the commit: from here to there all others that write
    /// a line wait.
    pub(super) async fn note(&self, tx: &mut Tx) -> Result<(), StoreError> {
        match &self.note {
            Some(note) => append(tx, &note.key, &note.entry).await,
            None => Ok(()),
        }
    }

    /// The same, with how many the act came to.
    pub(super) async fn note_count(
        &self,
        tx: &mut Tx,
        what: &str,
        count: usize,
    ) -> Result<(), StoreError> {
        match &self.note {
            Some(note) => {
                let note = AuditNote::clone(note).is(what, count);
                append(tx, &note.key, &note.entry).await
            }
            None => Ok(()),
        }
    }

    /// Writes the line of something that is done outside of the store.
    pub async fn write_note(&self, note: &AuditNote) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        append(&mut tx, &note.key, &note.entry).await?;
        tx.commit().await
    }

    /// Lines of the audit after a place, in their order, and the place of the last one.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        after: i64,
        limit: i64,
    ) -> Result<Option<(Vec<AuditLine>, i64)>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM audit WHERE seq > $1 AND ($2 IS NULL OR user_id = $2) AND ($3 IS NULL OR by_whom = $3)
             AND ($4 IS NULL OR at >= $4) ORDER BY seq LIMIT $5"
        );
        let user = filter.user.map(|u| u.0.as_bytes().to_vec());
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, AuditRow>(sqlx::AssertSqlSafe(sql)).bind(after).bind(user).bind(filter.by.clone())
            .bind(filter.since.map(|t| t.0)).bind(limit).fetch_all(&mut *c).await)
        .map_err(StoreError::from_sqlx("read the audit"))?;
        let Some(last) = rows.last().map(|row| row.seq) else {
            return Ok(None);
        };
        let lines: Result<Vec<AuditLine>, StoreError> =
            rows.into_iter().map(AuditLine::try_from).collect();
        Ok(Some((lines?, last)))
    }

    /// Looks at the whole chain. `keys`: those that rows may have been made with.
    pub async fn verify_audit(&self, keys: &[AuditKey]) -> Result<AuditCheck, StoreError> {
        const PAGE: i64 = 1000;
        const HEAD: &str = "SELECT value FROM meta WHERE key = 'audit'";
        const REMOVED: &str = "SELECT COUNT(*) FROM users WHERE id = $1 AND state = 'removed'";
        let sql = format!("SELECT {COLUMNS} FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2");
        let failed = StoreError::from_sqlx("read the audit");
        let mut check = AuditCheck::default();
        let (mut seq, mut before, mut last_key) = (0, LinkBefore::default(), None);
        let mut looked = false;
        let mut link = self.db.read().await?;
        let stands = loop {
            let rows = on!(link, c => sqlx::query_as::<_, AuditRow>(sqlx::AssertSqlSafe(sql.clone())).bind(seq).bind(PAGE).fetch_all(&mut *c).await)
                .map_err(&failed)?;
            if rows.is_empty() {
                // It is written with each row, so what it names is behind the last row only when a row came meanwhile, or is missing.
                let stands = on!(link, c => sqlx::query_scalar::<_, String>(HEAD).fetch_optional(&mut *c).await)
                    .map_err(&failed)?;
                let behind = stands.as_deref().map_or(0, place) > seq;
                if behind && !looked {
                    looked = true;
                    continue;
                }
                break stands;
            }
            looked = false;
            for row in rows {
                check.lines += 1;
                if row.seq != seq + 1 {
                    check.fault(format!("lines {} to {} are missing", seq + 1, row.seq - 1));
                }
                seq = row.seq;
                let Some(key) = keys.iter().find(|key| key.id == row.key_id) else {
                    check.fault(format!(
                        "line {seq} was made with another enrolment key ({}), and cannot be looked at",
                        row.key_id
                    ));
                    before = LinkBefore {
                        link: row.link,
                        key: Some(row.key_id),
                    };
                    last_key = None;
                    continue;
                };
                if row.link != row.link(key, &before) {
                    check.fault(format!(
                        "line {seq}, or the one before it, is not as it was written"
                    ));
                }
                if row.digest != row.digest(key) {
                    let removed = match (&row.user_id, row.has_values()) {
                        (Some(user), false) => on!(link, c => sqlx::query_scalar::<_, i64>(REMOVED).bind(user.clone()).fetch_one(&mut *c).await)
                            .map_err(&failed)?,
                        _ => 0,
                    };
                    if removed > 0 {
                        check.erased += 1;
                    } else {
                        check.fault(format!(
                            "the values of line {seq} are not as they were written"
                        ));
                    }
                }
                before = LinkBefore {
                    link: row.link,
                    key: Some(row.key_id),
                };
                last_key = Some(key);
            }
        };
        let ends = last_key.map(|key| head(key, seq, &before.link));
        check.end = HEXLOWER.encode(before.link.get(..8).unwrap_or_default());
        let end = stands.as_deref().map_or(0, place);
        if seq != end || ends.is_some() && ends != stands {
            check.fault(format!(
                "the audit ends with line {seq}, and not where it ended when it was last written"
            ));
        }
        Ok(check)
    }
}
