//! The index as a search reads it: segments, the pages of the list that they are, and who of them was found.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::AssertSqlSafe;

use super::grams::Wanted;
use super::postings::{PAGES, UserSet, members};
use super::{SqlValue, bind_all};
use crate::model::{RealmId, UserId};
use crate::store::StoreError;
use crate::store::db::{ReadConnection, on};
use crate::store::rows::{places, uuid};

/// Groups that begin with the one or two characters that are looked for, at most.
const RANGE: i64 = 8_000;

/// Rows of a segment's users in `search_docs`: see the schema.
pub(super) const SLOTS: i64 = 1_000;

/// More pages than there will ever be: what is damaged takes no memory.
const PAGES_AT_MOST: usize = 10_000_000;

/// The row of a segment's page.
pub(super) fn slot(segment: i64, page: usize) -> i64 {
    segment
        .saturating_mul(SLOTS)
        .saturating_add(i64::try_from(page).unwrap_or(0))
}

/// The index as it was when the search began.
pub(super) struct IndexView {
    epoch: i64,
    turn: i64,
    pub(super) segments: Vec<SegmentView>,
    /// By page: its row in `search_docs`, and a bit for each of those who were found on it.
    pages: Vec<(i64, u64)>,
}

pub(super) struct SegmentView {
    number: i64,
    /// In the order of names; `None`: who changed since.
    first_page: Option<i64>,
    pub(super) found: UserSet,
}

/// Somebody of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Doc {
    pub(super) slot: i64,
    pub(super) n: usize,
}

pub(super) fn failed(error: sqlx::Error) -> StoreError {
    StoreError::from_sqlx("search users")(error)
}

pub(super) async fn view(link: &mut ReadConnection) -> Result<Option<IndexView>, StoreError> {
    const SQL: &str = "
        SELECT i.epoch, i.turn, s.segment, s.first_page FROM search_index i LEFT JOIN search_segments s ON s.epoch = i.epoch
        ORDER BY s.segment";
    type Row = (i64, i64, Option<i64>, Option<i64>);
    let rows =
        on!(link, c => sqlx::query_as::<_, Row>(SQL).fetch_all(&mut *c).await).map_err(failed)?;
    let Some((epoch, turn)) = rows.first().map(|(epoch, turn, ..)| (*epoch, *turn)) else {
        return Ok(None);
    };
    let segments = rows
        .into_iter()
        .filter_map(|(_, _, segment, first_page)| {
            Some(SegmentView {
                number: segment?,
                first_page,
                found: UserSet::empty(),
            })
        })
        .collect();
    Ok((epoch > 0).then_some(IndexView {
        epoch,
        turn,
        segments,
        pages: vec![],
    }))
}

impl IndexView {
    /// Marks who has what is wanted; `false`: it would be most of the index.
    pub(super) async fn mark(
        &mut self,
        link: &mut ReadConnection,
        wanted: &Wanted,
    ) -> Result<bool, StoreError> {
        if self.segments.is_empty() {
            return Ok(true);
        }
        let all: Vec<i64> = self.segments.iter().map(|s| s.number).collect();
        let mut values = vec![];
        let condition = match wanted {
            Wanted::All(grams) => {
                let grams = list(&mut values, grams.iter().copied().map(SqlValue::Int));
                format!("gram IN ({grams})")
            }
            Wanted::Any(from, to) => {
                values.extend([SqlValue::Int(*from), SqlValue::Int(*to)]);
                "gram BETWEEN $1 AND $2".to_owned()
            }
        };
        let numbers = list(&mut values, all.iter().copied().map(SqlValue::Int));
        values.push(SqlValue::Int(RANGE));
        let sql = format!(
            "SELECT segment, gram, users FROM search_grams WHERE segment IN ({numbers}) AND {condition} LIMIT ${}",
            values.len()
        );
        let rows = on!(link, c => bind_all!(sqlx::query_as::<_, (i64, i64, Vec<u8>)>(AssertSqlSafe(sql)), values).fetch_all(&mut *c).await)
            .map_err(failed)?;
        if i64::try_from(rows.len()).is_ok_and(|n| n >= RANGE) {
            return Ok(false);
        }
        let damaged = || StoreError::Nonsense("the index of searches is damaged".into());
        let mut of_segment: BTreeMap<i64, Vec<(i64, Vec<u8>)>> = BTreeMap::new();
        for (segment, gram, users) in rows {
            of_segment.entry(segment).or_default().push((gram, users));
        }
        for segment in &mut self.segments {
            let rows = of_segment.remove(&segment.number).unwrap_or_default();
            match wanted {
                Wanted::Any(..) => {
                    for (_, row) in rows {
                        segment.found.add(&row).ok_or_else(damaged)?;
                    }
                }
                Wanted::All(grams) if rows.len() == grams.len() => {
                    for (i, (_, row)) in rows.iter().enumerate() {
                        let mut set = UserSet::empty();
                        set.add(row).ok_or_else(damaged)?;
                        if i == 0 {
                            segment.found = set;
                        } else {
                            segment.found.keep(&set);
                        }
                    }
                }
                // Nobody in it has them all.
                Wanted::All(_) => {}
            }
        }
        for segment in &self.segments {
            let Some(first) = segment.first_page.and_then(|p| usize::try_from(p).ok()) else {
                continue;
            };
            let end = first.saturating_add(PAGES).min(PAGES_AT_MOST);
            if self.pages.len() < end {
                self.pages.resize(end, (0, 0));
            }
            for (own, page) in self.pages.iter_mut().skip(first).take(PAGES).enumerate() {
                *page = (slot(segment.number, own), segment.found.page(own));
            }
        }
        Ok(true)
    }

    /// Whether no segment has gone since.
    pub(super) async fn stands(&self, link: &mut ReadConnection) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT turn FROM search_index";
        let turn = on!(link, c => sqlx::query_scalar::<_, i64>(SQL).fetch_optional(&mut *c).await);
        Ok(turn.map_err(failed)? == Some(self.turn))
    }

    /// Behind the last page; there is one, on which whoever comes into an empty store stands.
    pub(super) fn end(&self) -> i64 {
        i64::try_from(self.pages.len()).unwrap_or(0).max(1)
    }

    /// A page's row, and who of it was found.
    pub(super) fn on_page(&self, page: i64) -> (i64, u64) {
        let page = usize::try_from(page).ok().and_then(|p| self.pages.get(p));
        page.copied().unwrap_or_default()
    }

    /// All of the segments that are of one kind.
    pub(super) fn docs(&self, changed: bool) -> Vec<Doc> {
        let kind = self
            .segments
            .iter()
            .filter(|segment| !changed || segment.first_page.is_none());
        kind.flat_map(|segment| {
            (0..PAGES).flat_map(move |page| {
                let slot = slot(segment.number, page);
                members(segment.found.page(page)).map(move |n| Doc { slot, n })
            })
        })
        .collect()
    }

    /// The last page that begins before a place in the list.
    pub(super) async fn page_before(
        &self,
        link: &mut ReadConnection,
        realm: &RealmId,
        name: &str,
    ) -> Result<i64, StoreError> {
        const SQL: &str = "
            SELECT page FROM search_pages WHERE epoch = $1 AND (realm, name) < ($2, $3) ORDER BY realm DESC, name DESC, page DESC LIMIT 1";
        let page = on!(link, c => sqlx::query_scalar::<_, i64>(SQL).bind(self.epoch).bind(realm.as_str().to_owned()).bind(name.to_owned()).fetch_optional(&mut *c).await);
        Ok(page.map_err(failed)?.unwrap_or(0))
    }

    /// The first page that begins behind a place in the list; without a name: behind a realm.
    pub(super) async fn page_behind(
        &self,
        link: &mut ReadConnection,
        realm: &RealmId,
        name: Option<&str>,
    ) -> Result<i64, StoreError> {
        const NAME: &str = "SELECT page FROM search_pages WHERE epoch = $1 AND (realm, name) > ($2, $3) ORDER BY realm, name, page LIMIT 1";
        const REALM: &str = "SELECT page FROM search_pages WHERE epoch = $1 AND realm > $2 AND $3 = '' ORDER BY realm, name, page LIMIT 1";
        let sql = if name.is_some() { NAME } else { REALM };
        let page = on!(link, c => sqlx::query_scalar::<_, i64>(sql).bind(self.epoch).bind(realm.as_str().to_owned()).bind(name.unwrap_or_default().to_owned()).fetch_optional(&mut *c).await);
        Ok(page.map_err(failed)?.unwrap_or_else(|| self.end()))
    }

    /// The first page from here on of which it is known with whom it begins (the mark goes with a removal), and with whom.
    pub(super) async fn mark_from(
        &self,
        link: &mut ReadConnection,
        page: i64,
    ) -> Result<Option<(i64, (String, String))>, StoreError> {
        const SQL: &str = "SELECT page, realm, name FROM search_pages WHERE epoch = $1 AND page >= $2 ORDER BY page LIMIT 1";
        let row = on!(link, c => sqlx::query_as::<_, (i64, String, String)>(SQL).bind(self.epoch).bind(page).fetch_optional(&mut *c).await);
        Ok(row
            .map_err(failed)?
            .map(|(page, realm, name)| (page, (realm, name))))
    }

    /// The last page up to here of which that is known, and with whom it begins.
    pub(super) async fn mark_until(
        &self,
        link: &mut ReadConnection,
        page: i64,
    ) -> Result<Option<(i64, (String, String))>, StoreError> {
        const SQL: &str = "SELECT page, realm, name FROM search_pages WHERE epoch = $1 AND page <= $2 ORDER BY page DESC LIMIT 1";
        let row = on!(link, c => sqlx::query_as::<_, (i64, String, String)>(SQL).bind(self.epoch).bind(page).fetch_optional(&mut *c).await);
        Ok(row
            .map_err(failed)?
            .map(|(page, realm, name)| (page, (realm, name))))
    }
}

/// Places of some values, behind those that are there.
fn list(values: &mut Vec<SqlValue>, more: impl Iterator<Item = SqlValue>) -> String {
    let before = values.len();
    values.extend(more);
    places(before + 1, values.len() - before)
}

/// How many of so many are asked for in one statement: few different texts, so that they are prepared once.
pub(super) fn padded(n: usize) -> usize {
    [16, 64].into_iter().find(|size| *size >= n).unwrap_or(256)
}

/// Ids and pages of those who are asked for, in order of the slots.
pub(super) async fn read_slots(
    link: &mut ReadConnection,
    slots: &BTreeSet<i64>,
) -> Result<BTreeMap<i64, (Vec<u8>, Option<Vec<u8>>)>, StoreError> {
    type Row = (i64, Vec<u8>, Option<Vec<u8>>);
    let slots: Vec<i64> = slots.iter().copied().collect();
    let mut read = BTreeMap::new();
    for slots in slots.chunks(256) {
        let last = slots.last().copied().unwrap_or_default();
        let all = slots.iter().copied().chain(std::iter::repeat(last));
        let mut values = vec![];
        let places = list(
            &mut values,
            all.take(padded(slots.len())).map(SqlValue::Int),
        );
        let sql = format!("SELECT slot, ids, pages FROM search_docs WHERE slot IN ({places})");
        let rows = on!(link, c => bind_all!(sqlx::query_as::<_, Row>(AssertSqlSafe(sql)), values).fetch_all(&mut *c).await)
            .map_err(failed)?;
        read.extend(
            rows.into_iter()
                .map(|(slot, ids, pages)| (slot, (ids, pages))),
        );
    }
    Ok(read)
}

/// The ids of some, and their pages where these stand beside them. Whose segment has gone meanwhile is left out.
pub(super) async fn read_docs(
    link: &mut ReadConnection,
    docs: &[Doc],
) -> Result<Vec<(UserId, Option<i64>)>, StoreError> {
    let slots = docs.iter().map(|doc| doc.slot).collect();
    let slots = read_slots(link, &slots).await?;
    let mut found = vec![];
    for doc in docs {
        let Some((ids, pages)) = slots.get(&doc.slot) else {
            continue;
        };
        let Some(id) = ids.get(16 * doc.n..16 * doc.n + 16) else {
            continue;
        };
        let page = pages
            .as_ref()
            .and_then(|pages| pages.get(4 * doc.n..4 * doc.n + 4))
            .and_then(|bytes| Some(i64::from(u32::from_be_bytes(bytes.try_into().ok()?))));
        found.push((UserId(uuid(id)?), page));
    }
    Ok(found)
}
