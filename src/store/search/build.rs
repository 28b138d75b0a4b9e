//! The index of searches is made and kept up beside whatever else is done, step by step, each a small transaction.
//!
//! ```text
//!   begin ─▶ (sweep) ─▶ write a segment … ─▶ switch over ─▶ sweep ─▶ let go
//!     │                                          │
//!     │ marks the rows of search_log             │ takes these rows away, and the segment becomes part of the index
//! ```
//!
//! Whoever changes after the mark has a row of their own again, and is read anew by the next build. One process builds at a time;
//! each step finds that it still does, or nothing of it happens. What a crash leaves is no part of the index, and is swept.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;

use super::decide::{IndexState, Todo, decide};
use super::grams::Gram;
use super::postings::{PAGE, PAGES, SEGMENT};
use super::segment::{
    COLUMNS, ReadRow, Row, begin_segment, row, run, sweep, switch, write_grams, write_pages,
};
use super::view::{failed, read_slots, slot};
use super::{SqlSelection, SqlValue, UserPage, bind_all};
use crate::clock::Timestamp;
use crate::failpoint;
use crate::model::{RealmId, UserFilter, UserId, UserPlace};
use crate::store::db::{Tx, on};
use crate::store::rows::{places, uuid};
use crate::store::{Store, StoreError};

/// Others leave a build to whoever began it until so long after its last step.
const LEFT_ALONE_MS: i64 = 5 * 60_000;

/// Users read in one statement.
const READ: i64 = if cfg!(test) { 100 } else { 1_000 };

/// Rows written in one transaction.
const WRITTEN: usize = if cfg!(test) { 300 } else { 2_000 };

/// Of whom a build takes in at most so many from the log.
const TAKEN: i64 = 8_000;

/// A build under way.
#[derive(Debug)]
pub struct SearchBuild {
    number: i64,
    /// What is to be done next.
    next: Next,
    swept: bool,
}

#[derive(Debug)]
enum Next {
    /// Everybody, behind this place.
    Everybody {
        after: Option<UserPlace>,
        first_page: i64,
    },
    /// These, in place of these segments.
    Changed {
        users: BTreeSet<UserId>,
        replaced: Vec<i64>,
    },
    /// Rows of a segment that wait to be written, and what comes then.
    Write {
        segment: i64,
        rows: Vec<(Gram, Vec<u8>)>,
        then: Box<Next>,
    },
    /// The segments become part of the index.
    Switch {
        whole: bool,
        replaced: Vec<i64>,
        removed: i64,
    },
    /// Nothing but to sweep.
    Nothing,
}

/// How far a build is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BuildStep {
    /// There is more to do.
    More,
    /// It is done.
    Done,
    /// Somebody else builds now.
    Lost,
}

impl Store {
    /// Begins what is to be done about the index of searches; `None`: nothing, or somebody else does it.
    pub async fn begin_search_build(
        &self,
        now: Timestamp,
    ) -> Result<Option<SearchBuild>, StoreError> {
        const CLAIM: &str = "
            UPDATE search_index SET build = build + 1, builder = $1, builder_until = $2
            WHERE builder IS NULL OR builder = $1 OR builder_until NOT BETWEEN $3 AND $2";
        const NUMBER: &str = "SELECT build FROM search_index";
        const MARK: &str = "UPDATE search_log SET build = $1";
        const MARK_SOME: &str = "UPDATE search_log SET build = $1 WHERE seq IN (SELECT seq FROM search_log WHERE user_id IS NOT NULL ORDER BY seq LIMIT $2)";
        const MARKED: &str = "SELECT user_id FROM search_log WHERE build = $1";
        const SMALL: &str = "
            SELECT s.segment FROM search_segments s JOIN search_index i ON i.epoch = s.epoch WHERE s.first_page IS NULL ORDER BY s.segment";
        let Some(todo) = decide(self.index_state(now).await?) else {
            return Ok(None);
        };
        let mut tx = self.db.begin().await?;
        let until = now.plus_ms(LEFT_ALONE_MS).0;
        let owner = self.leases.owner().id.clone();
        let claimed = on!(tx, c => sqlx::query(CLAIM).bind(owner).bind(until).bind(now.0).execute(&mut *c).await.map(|r| r.rows_affected())).map_err(failed)?;
        if claimed == 0 {
            return Ok(None);
        }
        let number = on!(tx, c => sqlx::query_scalar::<_, i64>(NUMBER).fetch_one(&mut *c).await)
            .map_err(failed)?;
        let next = match todo {
            Todo::Sweep => Next::Nothing,
            Todo::Whole => {
                run(&mut tx, MARK, &[number]).await?;
                Next::Everybody {
                    after: None,
                    first_page: 0,
                }
            }
            Todo::Few { merge } => {
                run(&mut tx, MARK_SOME, &[number, TAKEN]).await?;
                let ids = on!(tx, c => sqlx::query_scalar::<_, Vec<u8>>(MARKED).bind(number).fetch_all(&mut *c).await).map_err(failed)?;
                let users: Result<_, StoreError> =
                    ids.iter().map(|id| uuid(id).map(UserId)).collect();
                let replaced = if merge {
                    on!(tx, c => sqlx::query_scalar::<_, i64>(SMALL).fetch_all(&mut *c).await)
                        .map_err(failed)?
                } else {
                    vec![]
                };
                Next::Changed {
                    users: users?,
                    replaced,
                }
            }
        };
        failpoint::hit("search.claimed");
        tx.commit().await?;
        Ok(Some(SearchBuild {
            number,
            next,
            swept: false,
        }))
    }

    /// The next step of a build. After an error it may be left as it is: another one begins.
    pub async fn continue_search_build(
        &self,
        build: &mut SearchBuild,
        now: Timestamp,
    ) -> Result<BuildStep, StoreError> {
        if !build.swept {
            let mut tx = self.db.begin().await?;
            if !self.still_builds(&mut tx, build, now).await? {
                return Ok(BuildStep::Lost);
            }
            build.swept = !sweep(&mut tx, build.number).await?;
            tx.commit().await?;
            return Ok(BuildStep::More);
        }
        let next = std::mem::replace(&mut build.next, Next::Nothing);
        let next = match next {
            Next::Everybody { after, first_page } => {
                let (rows, after) = self.read_everybody(after, now).await?;
                let mut tx = self.db.begin().await?;
                if !self.still_builds(&mut tx, build, now).await? {
                    return Ok(BuildStep::Lost);
                }
                if rows.is_empty() {
                    Next::Switch {
                        whole: true,
                        replaced: vec![],
                        removed: 0,
                    }
                } else {
                    let pages = i64::try_from(rows.len().div_ceil(PAGE)).unwrap_or(i64::MAX);
                    let (segment, grams) =
                        begin_segment(&mut tx, build.number, &rows, Some(first_page), None).await?;
                    write_pages(&mut tx, build.number, &rows, first_page).await?;
                    tx.commit().await?;
                    let then = match after {
                        Some(after) => Next::Everybody {
                            after: Some(after),
                            first_page: first_page + pages,
                        },
                        None => Next::Switch {
                            whole: true,
                            replaced: vec![],
                            removed: 0,
                        },
                    };
                    Next::Write {
                        segment,
                        rows: grams,
                        then: Box::new(then),
                    }
                }
            }
            Next::Changed {
                mut users,
                replaced,
            } => {
                let merged = self.users_of(&replaced).await?;
                users.extend(merged);
                let rows = self.read_some(&users).await?;
                let removed = i64::try_from(users.len() - rows.len().min(users.len())).unwrap_or(0);
                let places = self.places_of(&rows).await?;
                let mut tx = self.db.begin().await?;
                if !self.still_builds(&mut tx, build, now).await? {
                    return Ok(BuildStep::Lost);
                }
                let then = Next::Switch {
                    whole: false,
                    replaced,
                    removed,
                };
                if rows.is_empty() {
                    then
                } else {
                    let (segment, grams) =
                        begin_segment(&mut tx, build.number, &rows, None, Some(&places)).await?;
                    tx.commit().await?;
                    Next::Write {
                        segment,
                        rows: grams,
                        then: Box::new(then),
                    }
                }
            }
            Next::Write {
                segment,
                mut rows,
                then,
            } => {
                let mut tx = self.db.begin().await?;
                if !self.still_builds(&mut tx, build, now).await? {
                    return Ok(BuildStep::Lost);
                }
                let later = rows.split_off(rows.len().min(WRITTEN));
                write_grams(&mut tx, segment, rows).await?;
                failpoint::hit("search.written");
                tx.commit().await?;
                if later.is_empty() {
                    *then
                } else {
                    Next::Write {
                        segment,
                        rows: later,
                        then,
                    }
                }
            }
            Next::Switch {
                whole,
                replaced,
                removed,
            } => {
                let mut tx = self.db.begin().await?;
                if !self.still_builds(&mut tx, build, now).await? {
                    return Ok(BuildStep::Lost);
                }
                switch(&mut tx, build.number, whole, &replaced, removed, now).await?;
                failpoint::hit("search.switched");
                tx.commit().await?;
                build.swept = false;
                Next::Nothing
            }
            Next::Nothing => {
                const LET_GO: &str =
                    "UPDATE search_index SET builder = NULL, builder_until = NULL WHERE build = $1";
                let mut tx = self.db.begin().await?;
                run(&mut tx, LET_GO, &[build.number]).await?;
                tx.commit().await?;
                return Ok(BuildStep::Done);
            }
        };
        build.next = next;
        Ok(BuildStep::More)
    }

    async fn index_state(&self, now: Timestamp) -> Result<IndexState, StoreError> {
        const SQL: &str = "
            SELECT i.epoch, i.removed + (SELECT COUNT(*) FROM search_log l WHERE l.user_id IS NOT NULL
                    AND NOT EXISTS (SELECT 1 FROM users u WHERE u.id = l.user_id AND u.state <> 'removed')), i.built_at,
                (SELECT COUNT(*) FROM search_log), (SELECT COUNT(*) FROM search_log WHERE user_id IS NULL),
                (SELECT COUNT(*) FROM search_segments s WHERE s.epoch = i.epoch AND s.first_page IS NULL),
                (SELECT CAST(COALESCE(SUM(s.users), 0) AS BIGINT) FROM search_segments s WHERE s.epoch = i.epoch AND s.first_page IS NULL),
                (SELECT COUNT(*) FROM search_segments s WHERE COALESCE(s.epoch, 0) <> i.epoch)
            FROM search_index i";
        type Row = (i64, i64, Option<i64>, i64, i64, i64, i64, i64);
        let mut link = self.db.read().await?;
        let row = on!(link, c => sqlx::query_as::<_, Row>(SQL).fetch_one(&mut *c).await);
        let (epoch, removed, built_at, logged, many, small, small_users, dead) =
            row.map_err(failed)?;
        Ok(IndexState {
            there: epoch > 0,
            logged,
            many: many > 0,
            small,
            small_users,
            dead,
            removed,
            age_ms: built_at.map_or(0, |built| now.since_ms(Timestamp(built))),
        })
    }

    /// Whether a build is this process's still; it is from here on for a while.
    async fn still_builds(
        &self,
        tx: &mut Tx,
        build: &SearchBuild,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        const SQL: &str =
            "UPDATE search_index SET builder_until = $3 WHERE builder = $1 AND build = $2";
        let until = now.plus_ms(LEFT_ALONE_MS).0;
        let owner = self.leases.owner().id.clone();
        let rows = on!(tx, c => sqlx::query(SQL).bind(owner).bind(build.number).bind(until).execute(&mut *c).await.map(|r| r.rows_affected())).map_err(failed)?;
        Ok(rows == 1)
    }

    /// The next users of the list, as many as a segment holds, and where they end; nothing behind them: no place.
    async fn read_everybody(
        &self,
        mut after: Option<UserPlace>,
        now: Timestamp,
    ) -> Result<(Vec<Row>, Option<UserPlace>), StoreError> {
        let everybody = UserFilter::default();
        let mut rows: Vec<Row> = vec![];
        loop {
            let left = i64::try_from(SEGMENT - rows.len()).unwrap_or(0).min(READ);
            if left == 0 {
                return Ok((rows, after));
            }
            let page = UserPage {
                after: after.as_ref(),
                ..UserPage::first(left, now)
            };
            let SqlSelection { text, values } =
                SqlSelection::of(&everybody, now).page(COLUMNS, &everybody, &page, left);
            let mut link = self.db.read().await?;
            let read = on!(link, c => bind_all!(sqlx::query_as::<_, ReadRow>(AssertSqlSafe(text)), values).fetch_all(&mut *c).await).map_err(failed)?;
            let read: Result<Vec<Row>, StoreError> = read.into_iter().map(row).collect();
            let read = read?;
            let Some(last) = read.last() else {
                return Ok((rows, None));
            };
            let (realm, name, id) = last.key.clone();
            after = Some(UserPlace {
                realm: RealmId::from(realm),
                name,
                id,
            });
            rows.extend(read);
            tokio::task::yield_now().await;
        }
    }

    /// Those of some who are there, in the order of the list.
    async fn read_some(&self, users: &BTreeSet<UserId>) -> Result<Vec<Row>, StoreError> {
        let users: Vec<UserId> = users.iter().copied().collect();
        let mut rows = vec![];
        let mut link = self.db.read().await?;
        for users in users.chunks(500) {
            let sql = format!(
                "SELECT {COLUMNS} FROM users WHERE id IN ({}) AND state <> 'removed'",
                places(1, users.len())
            );
            let values = users
                .iter()
                .map(|id| SqlValue::Bytes(id.0.as_bytes().to_vec()));
            let read = on!(link, c => bind_all!(sqlx::query_as::<_, ReadRow>(AssertSqlSafe(sql)), values).fetch_all(&mut *c).await).map_err(failed)?;
            for one in read {
                rows.push(row(one)?);
            }
        }
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(rows)
    }

    /// The users of some segments.
    async fn users_of(&self, segments: &[i64]) -> Result<BTreeSet<UserId>, StoreError> {
        let mut link = self.db.read().await?;
        let slots = segments
            .iter()
            .flat_map(|segment| (0..PAGES).map(|page| slot(*segment, page)));
        let mut users = BTreeSet::new();
        for (ids, _) in read_slots(&mut link, &slots.collect()).await?.values() {
            for id in ids.chunks_exact(16) {
                users.insert(UserId(uuid(id)?));
            }
        }
        Ok(users)
    }

    /// On which pages of the index these would stand: the last that begins with them or before them.
    async fn places_of(&self, rows: &[Row]) -> Result<Vec<u32>, StoreError> {
        const SQL: &str = "
            SELECT p.realm, p.name, p.page FROM search_pages p JOIN search_index i ON i.epoch = p.epoch ORDER BY p.realm, p.name, p.page";
        let mut link = self.db.read().await?;
        let marks = on!(link, c => sqlx::query_as::<_, (String, String, i64)>(SQL).fetch_all(&mut *c).await).map_err(failed)?;
        let place = |row: &Row| {
            let (realm, name, _) = &row.key;
            let behind = marks.partition_point(|(at, mark, _)| (at, mark) <= (realm, name));
            let page = behind.checked_sub(1).and_then(|n| marks.get(n));
            page.and_then(|(_, _, page)| u32::try_from(*page).ok())
                .unwrap_or(0)
        };
        Ok(rows.iter().map(place).collect())
    }
}
