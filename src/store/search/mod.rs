//! Users listed and searched, page after page, each page one statement.
//!
//! ```text
//!   present, by name    users_name               the unique index of names is the order of the list
//!   suspended, by name  users_suspended_names
//!   removed             users_removed            they have no name any more
//!   by age              the index of ids: they begin with the time at which they were made
//! ```
//!
//! A condition is in the text only where it is asked for: a planner that sees `$1 IS NULL OR …` uses no index.
//!
//! A part of a text is looked for in an index of our own, [`find`], which [`build`] makes beside the passes. Where it cannot say,
//! the list is gone through from its beginning, with the same result.

mod build;
mod decide;
mod find;
mod grams;
pub(super) mod log;
mod postings;
mod segment;
mod selection;
mod view;

pub use build::{BuildStep, SearchBuild};
pub use selection::UserPage;
pub(super) use selection::{SqlSelection, SqlValue, bind_all};
use sqlx::AssertSqlSafe;

use self::grams::{needle, speaks_of};
use super::db::on;
use super::rows::{UserRow, readable, user_columns};
use super::{Store, StoreError};
use crate::model::{User, UserFilter, UserPlace};

/// Rows of a page where most are looked at in vain.
const LOOKED_AT: i64 = 500;

impl Store {
    /// A page of a list; fewer than its limit come at the end only.
    pub async fn list_users(
        &self,
        filter: &UserFilter,
        page: &UserPage<'_>,
    ) -> Result<Vec<User>, StoreError> {
        let needle = filter.search.as_deref().map(needle);
        let mut link = self.db.read().await?;
        if let Some(needle) = &needle
            && let Some(found) = find::search(&mut link, filter, page, needle).await?
        {
            return Ok(found);
        }
        let rows_asked = if needle.as_ref().is_some_and(|n| !n.is_ascii()) {
            page.limit.max(LOOKED_AT)
        } else {
            page.limit
        };
        let mut after = page.after.cloned();
        let mut found = vec![];
        loop {
            let from = UserPage {
                after: after.as_ref(),
                ..page.clone()
            };
            let SqlSelection { text, values } =
                SqlSelection::of(filter, page.now).page(user_columns!(), filter, &from, rows_asked);
            let rows = on!(link, c => bind_all!(sqlx::query_as::<_, UserRow>(AssertSqlSafe(text)), values).fetch_all(&mut *c).await)
                .map_err(StoreError::from_sqlx("list users"))?;
            let full = i64::try_from(rows.len()).is_ok_and(|n| n == rows_asked);
            let users: Vec<User> = readable(rows);
            let end = users.last().map(UserPlace::of);
            found.extend(
                users
                    .into_iter()
                    .filter(|u| needle.as_ref().is_none_or(|n| speaks_of(u, n))),
            );
            match end {
                Some(end) if full && i64::try_from(found.len()).is_ok_and(|n| n < page.limit) => {
                    after = Some(end);
                }
                _ => break,
            }
        }
        found.truncate(usize::try_from(page.limit).unwrap_or_default());
        Ok(found)
    }
}
