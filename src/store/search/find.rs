//! Who has a text, by the index. It only says whom to look at: each is read and compared, so that whoever is removed, renamed or has
//! another number is not found by what was.
//!
//! ```text
//!   search_log ─────────────────────────────▶ who changed since, all of them
//!   search_grams ─▶ a bit for each user ─┬──▶ by name: page after page, as the index has them
//!                                        └──▶ by age: their ids, sorted
//! ```
//!
//! The log is read before the index: who is taken from the one into the other is seen at least once. Segments that go meanwhile are
//! noticed by the `turn`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use sqlx::AssertSqlSafe;

use super::grams::{self, speaks_of};
use super::log::MANY;
use super::postings::members;
use super::view::{Doc, IndexView, failed, padded, read_docs, view};
use super::{SqlSelection, UserPage, bind_all};
use crate::model::{RealmId, State, User, UserFilter, UserId, UserPlace};
use crate::store::StoreError;
use crate::store::db::{ReadConnection, on};
use crate::store::rows::{UserRow, readable, user_columns, uuid};

/// Who is looked at before a search gives up its index: most of them fit, but for something else that is asked for.
const LOOKED_AT: usize = 8_000;

/// Of so many, and no more, the ids are read to sort them.
const SORTED: u64 = 4_000;

/// Where in a list somebody stands.
type ListKey = (String, String, UserId);

/// A page of the list of those who have a text; `None`: the index cannot say.
pub(super) async fn search(
    link: &mut ReadConnection,
    filter: &UserFilter,
    page: &UserPage<'_>,
    needle: &str,
) -> Result<Option<Vec<User>>, StoreError> {
    let Some(wanted) = grams::wanted(needle) else {
        return Ok(None);
    };
    if filter.state == Some(State::Removed) {
        return Ok(None);
    }
    let Some(logged) = logged(link).await? else {
        return Ok(None);
    };
    let Some(mut view) = view(link).await? else {
        return Ok(None);
    };
    if !view.mark(link, &wanted).await? {
        return Ok(None);
    }
    let mut looking = Looking {
        link,
        filter,
        page,
        needle,
        looked_at: 0,
        seen: BTreeSet::new(),
    };
    let found = if page.sort.is_by_name() {
        looking.by_name(&view, logged).await?
    } else {
        looking.by_age(&view, logged).await?
    };
    Ok(match found {
        Some(found) if view.stands(link).await? => Some(found),
        _ => None,
    })
}

/// Who changed since they were indexed; `None`: too many.
async fn logged(link: &mut ReadConnection) -> Result<Option<Vec<UserId>>, StoreError> {
    const SQL: &str = "SELECT user_id FROM search_log LIMIT $1";
    let rows = on!(link, c => sqlx::query_scalar::<_, Option<Vec<u8>>>(SQL).bind(MANY + 1).fetch_all(&mut *c).await).map_err(failed)?;
    if i64::try_from(rows.len()).is_ok_and(|n| n > MANY) {
        return Ok(None);
    }
    let ids: Option<Vec<Vec<u8>>> = rows.into_iter().collect();
    let Some(ids) = ids else { return Ok(None) };
    let ids: Result<BTreeSet<UserId>, StoreError> =
        ids.iter().map(|id| uuid(id).map(UserId)).collect();
    Ok(Some(ids?.into_iter().collect()))
}

/// A search under way.
struct Looking<'a> {
    link: &'a mut ReadConnection,
    filter: &'a UserFilter,
    page: &'a UserPage<'a>,
    needle: &'a str,
    looked_at: usize,
    /// Who was looked at, in whatever place.
    seen: BTreeSet<UserId>,
}

impl Looking<'_> {
    fn limit(&self) -> usize {
        usize::try_from(self.page.limit).unwrap_or_default()
    }

    /// Whether somebody stands behind the page before.
    fn is_behind(&self, user: &User) -> bool {
        let Some(after) = self.page.after else {
            return true;
        };
        let one_realm = self.filter.realm.is_some();
        let key = |realm: &RealmId, name: &str, id: UserId| -> ListKey {
            let by_name = self.page.sort.is_by_name();
            let realm = if one_realm || !by_name {
                ""
            } else {
                realm.as_str()
            };
            let name = if by_name { name } else { "" };
            (realm.to_owned(), name.to_owned(), id)
        };
        let place = key(&after.realm, &after.name, after.id);
        let own = key(&user.realm, &user.username_key, user.id);
        if self.page.sort.is_down() {
            own < place
        } else {
            own > place
        }
    }

    /// Those of some who fit, each once in a search.
    async fn look_at(&mut self, ids: Vec<UserId>) -> Result<Vec<User>, StoreError> {
        let ids: Vec<UserId> = ids.into_iter().filter(|id| self.seen.insert(*id)).collect();
        self.looked_at += ids.len();
        let mut found = vec![];
        for ids in ids.chunks(256) {
            let last = ids.last().copied();
            let all = ids.iter().copied().chain(last.into_iter().cycle());
            let mut selection = SqlSelection::whole(self.filter, self.page.now);
            let places: Vec<String> = all
                .take(padded(ids.len()))
                .map(|id| selection.bytes(id.0.as_bytes().to_vec()))
                .collect();
            let (condition, values) = selection.into_parts();
            // By their ids, whatever else is asked for: SQLite would go through a realm by its names.
            let sql = format!(
                "SELECT {} FROM (SELECT * FROM users WHERE id IN ({}) LIMIT {}) AS users WHERE {condition}",
                user_columns!(),
                places.join(", "),
                places.len()
            );
            let link = &mut *self.link;
            let rows = on!(link, c => bind_all!(sqlx::query_as::<_, UserRow>(AssertSqlSafe(sql)), values).fetch_all(&mut *c).await)
                .map_err(failed)?;
            let users: Vec<User> = readable(rows);
            found.extend(
                users
                    .into_iter()
                    .filter(|user| speaks_of(user, self.needle)),
            );
        }
        Ok(found
            .into_iter()
            .filter(|user| self.is_behind(user))
            .collect())
    }

    /// The oldest or the newest.
    async fn by_age(
        &mut self,
        view: &IndexView,
        logged: Vec<UserId>,
    ) -> Result<Option<Vec<User>>, StoreError> {
        let many: u64 = view
            .segments
            .iter()
            .map(|segment| segment.found.len())
            .sum();
        if many > SORTED {
            return Ok(None);
        }
        let mut ids = logged;
        let docs = read_docs(self.link, &view.docs(false)).await?;
        ids.extend(docs.into_iter().map(|(id, _)| id));
        ids.sort_unstable();
        ids.dedup();
        let down = self.page.sort.is_down();
        if down {
            ids.reverse();
        }
        if let Some(after) = self.page.after {
            ids.retain(|id| if down { *id < after.id } else { *id > after.id });
        }
        let (mut found, mut ids) = (vec![], ids.as_slice());
        while found.len() < self.limit() && !ids.is_empty() {
            let (now, later) = ids.split_at(ids.len().min(self.batch()));
            let mut users = self.look_at(now.to_vec()).await?;
            users.sort_unstable_by_key(|user| user.id);
            if down {
                users.reverse();
            }
            found.extend(users);
            ids = later;
        }
        found.truncate(self.limit());
        Ok(Some(found))
    }

    /// How many are looked at next: those who are missing and a few more, then four times as many.
    fn batch(&self) -> usize {
        let first = self.limit() + self.limit() / 4 + 14;
        first.max(3 * self.looked_at).min(LOOKED_AT)
    }

    /// By realm and name, either way.
    async fn by_name(
        &mut self,
        view: &IndexView,
        logged: Vec<UserId>,
    ) -> Result<Option<Vec<User>>, StoreError> {
        let down = self.page.sort.is_down();
        let mut near: Range<i64> = 0..view.end();
        if let Some(realm) = &self.filter.realm {
            near.start = view.page_before(self.link, realm, "").await?;
            near.end = view.page_behind(self.link, realm, None).await?;
        }
        if let Some(UserPlace { realm, name, .. }) = self.page.after {
            let realm = self.filter.realm.as_ref().unwrap_or(realm);
            if down {
                let end = view.page_behind(self.link, realm, Some(name)).await?;
                near.end = near.end.min(end);
            } else {
                let start = view.page_before(self.link, realm, name).await?;
                near.start = near.start.max(start);
            }
        }
        // Whoever stands before all pages is on the first.
        near.end = near.end.max(near.start + 1);
        // Those who changed since, by the pages on which they would stand.
        let mut changed: BTreeMap<i64, Vec<UserId>> = BTreeMap::new();
        for (id, page) in read_docs(self.link, &view.docs(true)).await? {
            changed.entry(page.unwrap_or(0)).or_default().push(id);
        }
        let mut waiting: BTreeMap<ListKey, User> = BTreeMap::new();
        self.wait(logged, &mut waiting).await?;
        self.looked_at = 0;
        let mut found = vec![];
        loop {
            if self.looked_at >= LOOKED_AT {
                return Ok(None);
            }
            let (now, mark) = self.next_pages(view, &near, &changed).await?;
            let docs: Vec<Doc> = now
                .clone()
                .map(|page| view.on_page(page))
                .flat_map(|(slot, word)| members(word).map(move |n| Doc { slot, n }))
                .collect();
            let mut ids: Vec<UserId> = changed
                .range(now.clone())
                .flat_map(|(_, ids)| ids.iter().copied())
                .collect();
            let docs = read_docs(self.link, &docs).await?;
            ids.extend(docs.into_iter().map(|(id, _)| id));
            self.wait(ids, &mut waiting).await?;
            if down {
                near.end = now.start;
            } else {
                near.start = now.end;
            }
            while found.len() < self.limit() {
                let next = if down {
                    waiting.last_entry()
                } else {
                    waiting.first_entry()
                };
                let Some(next) = next else { break };
                let (realm, name, _) = next.key();
                // Of the name that a page begins with there may be others on the page before.
                let too_far = mark.as_ref().is_some_and(|(at, mark)| {
                    let order = (realm, name).cmp(&(at, mark));
                    if down { order.is_le() } else { order.is_ge() }
                });
                if too_far {
                    break;
                }
                found.push(next.remove());
            }
            if mark.is_none() || found.len() >= self.limit() {
                return Ok(Some(found));
            }
        }
    }

    /// The pages to look at next, until there are enough people on them, and the mark where they end: whoever stands before it (or
    /// behind it, backwards) is on them, or was on those before. Without a mark they are the last.
    async fn next_pages(
        &mut self,
        view: &IndexView,
        near: &Range<i64>,
        changed: &BTreeMap<i64, Vec<UserId>>,
    ) -> Result<(Range<i64>, Option<(String, String)>), StoreError> {
        let down = self.page.sort.is_down();
        let (enough, mut people, mut pages) = (self.batch(), 0, 0);
        while people < enough && pages < near.end - near.start {
            let page = if down {
                near.end - 1 - pages
            } else {
                near.start + pages
            };
            let there = view.on_page(page).1.count_ones();
            people +=
                usize::try_from(there).unwrap_or_default() + changed.get(&page).map_or(0, Vec::len);
            pages += 1;
        }
        let mark = if down {
            view.mark_until(self.link, near.end - pages).await?
        } else {
            view.mark_from(self.link, near.start + pages).await?
        };
        Ok(match mark {
            Some((page, key)) if down && page > near.start && page < near.end => {
                (page..near.end, Some(key))
            }
            Some((page, key)) if !down && page > near.start && page < near.end => {
                (near.start..page, Some(key))
            }
            _ => (near.clone(), None),
        })
    }

    /// Looks at some, who wait for their place in the list then.
    async fn wait(
        &mut self,
        ids: Vec<UserId>,
        waiting: &mut BTreeMap<ListKey, User>,
    ) -> Result<(), StoreError> {
        for user in self.look_at(ids).await? {
            let key = (
                user.realm.as_str().to_owned(),
                user.username_key.clone(),
                user.id,
            );
            waiting.insert(key, user);
        }
        Ok(())
    }
}
