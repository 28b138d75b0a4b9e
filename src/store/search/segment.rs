//! What a build writes: segments with whom they are of, how they become part of the index, and how they go.

use sqlx::AssertSqlSafe;

use super::grams::{Gram, text_of};
use super::postings::{Gathered, PAGE, PAGES};
use super::view::{failed, slot};
use super::{SqlValue, bind_all};
use crate::clock::Timestamp;
use crate::model::UserId;
use crate::store::StoreError;
use crate::store::db::{Tx, on};
use crate::store::rows::uuid;

/// Rows written in one statement.
const ROWS: usize = 50;

/// What is read of a user.
pub(super) const COLUMNS: &str = "realm, username_key, id, username, display_name, email, phone";

/// What a user is found by, and where they stand.
pub(super) struct Row {
    pub(super) key: (String, String, UserId),
    pub(super) text: String,
}

pub(super) type ReadRow = (
    String,
    Option<String>,
    Vec<u8>,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
);

pub(super) fn row(
    (realm, name, id, username, shown, email, phone): ReadRow,
) -> Result<Row, StoreError> {
    let text = text_of(
        &username,
        shown.as_deref(),
        email.as_deref(),
        phone.as_deref(),
    );
    Ok(Row {
        key: (realm, name.unwrap_or_default(), UserId(uuid(&id)?)),
        text,
    })
}

/// Runs a statement with two numbers or fewer.
pub(super) async fn run(
    tx: &mut Tx,
    sql: &'static str,
    numbers: &[i64],
) -> Result<u64, StoreError> {
    on!(tx, c => {
        let mut query = sqlx::query(sql);
        for n in numbers { query = query.bind(*n); }
        query.execute(&mut *c).await.map(|r| r.rows_affected())
    })
    .map_err(failed)
}

/// Writes whose a segment is, which is no part of the index yet; gives its number and the rows that it is to have.
pub(super) async fn begin_segment(
    tx: &mut Tx,
    build: i64,
    rows: &[Row],
    first_page: Option<i64>,
    pages: Option<&[u32]>,
) -> Result<(i64, Vec<(Gram, Vec<u8>)>), StoreError> {
    const SEGMENT_ROW: &str = "INSERT INTO search_segments (build, first_page, users) VALUES ($1, $2, $3) RETURNING segment";
    const DOCS: &str = "INSERT INTO search_docs (slot, ids, pages) VALUES ($1, $2, $3)";
    let users = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let segment = on!(tx, c => sqlx::query_scalar::<_, i64>(SEGMENT_ROW).bind(build).bind(first_page).bind(users).fetch_one(&mut *c).await).map_err(failed)?;
    let mut gathered = Gathered::default();
    for row in rows {
        gathered.add(&row.text);
    }
    for (page, rows) in rows.chunks(PAGE).enumerate() {
        let ids: Vec<u8> = rows
            .iter()
            .flat_map(|row| *row.key.2.0.as_bytes())
            .collect();
        let own = pages.and_then(|pages| pages.chunks(PAGE).nth(page));
        let own: Option<Vec<u8>> =
            own.map(|pages| pages.iter().flat_map(|page| page.to_be_bytes()).collect());
        let slot = slot(segment, page);
        on!(tx, c => sqlx::query(DOCS).bind(slot).bind(ids).bind(own).execute(&mut *c).await.map(|_| ())).map_err(failed)?;
    }
    Ok((segment, gathered.rows()))
}

/// Writes with whom the pages of a segment begin.
pub(super) async fn write_pages(
    tx: &mut Tx,
    build: i64,
    rows: &[Row],
    first_page: i64,
) -> Result<(), StoreError> {
    const SQL: &str =
        "INSERT INTO search_pages (epoch, page, realm, name, user_id) VALUES ($1, $2, $3, $4, $5)";
    for (rows, page) in rows.chunks(PAGE).zip(first_page..) {
        let Some((realm, name, id)) = rows.first().map(|row| row.key.clone()) else {
            continue;
        };
        let id = id.0.as_bytes().to_vec();
        on!(tx, c => sqlx::query(SQL).bind(build).bind(page).bind(realm).bind(name).bind(id).execute(&mut *c).await.map(|_| ())).map_err(failed)?;
    }
    Ok(())
}

pub(super) async fn write_grams(
    tx: &mut Tx,
    segment: i64,
    rows: Vec<(Gram, Vec<u8>)>,
) -> Result<(), StoreError> {
    let mut rows = rows.into_iter();
    loop {
        let mut values = vec![SqlValue::Int(segment)];
        let places: Vec<String> = (0..)
            .zip(rows.by_ref().take(ROWS))
            .map(|(n, (gram, users))| {
                values.extend([SqlValue::Int(gram), SqlValue::Bytes(users)]);
                format!("($1, ${}, ${})", 2 * n + 2, 2 * n + 3)
            })
            .collect();
        if places.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO search_grams (segment, gram, users) VALUES {}",
            places.join(", ")
        );
        on!(tx, c => bind_all!(sqlx::query(AssertSqlSafe(sql)), values).execute(&mut *c).await.map(|_| ())).map_err(failed)?;
    }
}

/// Makes the segments of a build part of the index, and takes those away from the log whom it read.
pub(super) async fn switch(
    tx: &mut Tx,
    build: i64,
    whole: bool,
    replaced: &[i64],
    removed: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    const EPOCH: &str = "
        UPDATE search_index SET epoch = build, turn = turn + 1, built_at = $2, removed = 0 WHERE build = $1";
    const REMOVED: &str = "UPDATE search_index SET removed = removed + $2 WHERE build = $1";
    const SEGMENTS: &str =
        "UPDATE search_segments SET epoch = (SELECT epoch FROM search_index) WHERE build = $1";
    const TURN: &str = "UPDATE search_index SET turn = turn + 1 WHERE build = $1";
    const REPLACED: &str = "UPDATE search_segments SET epoch = NULL WHERE segment = $1";
    const TAKEN_IN: &str = "DELETE FROM search_log WHERE build = $1";
    // Somebody may have been removed or renamed since their page was written.
    const GONE: &str = "
        DELETE FROM search_pages WHERE epoch = $1 AND NOT EXISTS (
            SELECT 1 FROM users u WHERE u.id = search_pages.user_id AND u.realm = search_pages.realm AND u.username_key = search_pages.name)";
    if whole {
        run(tx, EPOCH, &[build, now.0]).await?;
        run(tx, GONE, &[build]).await?;
    } else {
        run(tx, REMOVED, &[build, removed]).await?;
        if !replaced.is_empty() {
            run(tx, TURN, &[build]).await?;
        }
    }
    run(tx, SEGMENTS, &[build]).await?;
    for segment in replaced {
        run(tx, REPLACED, &[*segment]).await?;
    }
    run(tx, TAKEN_IN, &[build]).await?;
    Ok(())
}

/// Takes one segment away that is no part of the index and of no build under way; `false`: there is none.
pub(super) async fn sweep(tx: &mut Tx, build: i64) -> Result<bool, StoreError> {
    const DEAD: &str = "
        SELECT MIN(s.segment) FROM search_segments s JOIN search_index i ON COALESCE(s.epoch, 0) <> i.epoch WHERE s.build <> $1";
    const PAGES_GONE: &str =
        "DELETE FROM search_pages WHERE epoch <> $1 AND epoch <> (SELECT epoch FROM search_index)";
    const GRAMS_GONE: &str = "DELETE FROM search_grams WHERE segment = $1";
    const DOCS_GONE: &str = "DELETE FROM search_docs WHERE slot BETWEEN $1 AND $2";
    const SEGMENT_GONE: &str = "DELETE FROM search_segments WHERE segment = $1";
    run(tx, PAGES_GONE, &[build]).await?;
    let dead = on!(tx, c => sqlx::query_scalar::<_, Option<i64>>(DEAD).bind(build).fetch_one(&mut *c).await).map_err(failed)?;
    let Some(segment) = dead else {
        return Ok(false);
    };
    run(tx, GRAMS_GONE, &[segment]).await?;
    run(tx, DOCS_GONE, &[slot(segment, 0), slot(segment, PAGES)]).await?;
    run(tx, SEGMENT_GONE, &[segment]).await?;
    Ok(true)
}
