//! Users listed and searched, page after page.

use super::db::on;
use super::rows::{UserRow, readable, user_columns};
use super::{Store, StoreError};
use crate::model::{Phone, RealmId, State, TwoFactor, User, UserId, UserOrigin};

/// Which users a list shows.
#[derive(Clone, Default, Debug)]
pub struct UserFilter {
    /// Of this realm.
    pub realm: Option<RealmId>,
    /// In this state; `None`: all but removed.
    pub state: Option<State>,
    /// With this method.
    pub two_factor: Option<TwoFactor>,
    /// Who came from there.
    pub origin: Option<UserOrigin>,
    /// A part of the name, display name, e-mail or phone, without case.
    pub search: Option<String>,
}

impl Store {
    /// Users by realm and name, after the place `after`; a stable order to page through. Fewer than `limit` come at the end only.
    pub async fn list_users(
        &self,
        filter: &UserFilter,
        after: Option<(&RealmId, &str, UserId)>,
        limit: i64,
    ) -> Result<Vec<User>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            user_columns!(),
            " FROM users
              WHERE ($1 IS NULL OR realm = $1) AND (state = $2 OR $2 IS NULL AND state <> 'removed')
                AND ($3 IS NULL OR ',' || two_factor || ',' LIKE '%,' || $3 || ',%')
                AND ($4 IS NULL OR LOWER(username || ' ' || COALESCE(display_name, '') || ' ' || COALESCE(email, '') || ' ' || COALESCE(phone, '')) LIKE $4 ESCAPE '!')
                AND ($9 IS NULL OR COALESCE(origin, 'directory') = $9)
                AND (realm > $5 OR realm = $5 AND (COALESCE(username_key, '') > $6 OR COALESCE(username_key, '') = $6 AND id > $7))
              ORDER BY realm, COALESCE(username_key, ''), id LIMIT $8"
        );
        /// Rows of a page where most are looked at in vain.
        const LOOKED_AT: i64 = 500;
        let needle = filter.search.as_ref().map(|s| s.to_lowercase());
        let rows_asked = if needle.as_ref().is_some_and(|n| !n.is_ascii()) {
            limit.max(LOOKED_AT)
        } else {
            limit
        };
        let mut place = after.map_or((String::new(), String::new(), vec![]), place_of);
        let mut found = vec![];
        let mut link = self.db.read().await?;
        loop {
            let (realm, name, id) = place;
            let rows = on!(link, c => sqlx::query_as::<_, UserRow>(SQL)
                .bind(filter.realm.as_ref().map(|r| r.as_str().to_owned()))
                .bind(filter.state.map(State::as_str))
                .bind(filter.two_factor.map(TwoFactor::as_str))
                .bind(needle.as_deref().map(pattern))
                .bind(realm).bind(name).bind(id).bind(rows_asked)
                .bind(filter.origin.map(UserOrigin::as_str))
                .fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("list users"))?;
            let full = i64::try_from(rows.len()).is_ok_and(|n| n == rows_asked);
            let page: Vec<User> = readable(rows);
            let end = page
                .last()
                .map(|u| place_of((&u.realm, &u.username_key, u.id)));
            found.extend(
                page.into_iter()
                    .filter(|u| needle.as_ref().is_none_or(|n| speaks_of(u, n))),
            );
            match end {
                Some(end) if full && i64::try_from(found.len()).is_ok_and(|n| n < limit) => {
                    place = end;
                }
                _ => break,
            }
        }
        found.truncate(usize::try_from(limit).unwrap_or_default());
        Ok(found)
    }
}

/// Where a user stands in a list.
fn place_of((realm, name, id): (&RealmId, &str, UserId)) -> (String, String, Vec<u8>) {
    (
        realm.as_str().to_owned(),
        name.to_owned(),
        id.0.as_bytes().to_vec(),
    )
}

/// What the engine can look for. Beyond ASCII its lower case is not Unicode's (SQLite knows no other than ASCII's, PostgreSQL what
/// the database was made with), so there it takes any text, and [`speaks_of`] decides.
fn pattern(needle: &str) -> String {
    let mut pattern = String::from("%");
    for c in needle.chars() {
        match c {
            '%' | '_' | '!' => pattern.extend(['!', c]),
            c if c.is_ascii() => pattern.push(c),
            _ => pattern.push('%'),
        }
    }
    pattern.push('%');
    pattern
}

fn speaks_of(user: &User, needle: &str) -> bool {
    let phone = user.phone.as_ref().map_or("", Phone::as_str);
    let (shown, email) = (user.display_name.as_deref(), user.email.as_deref());
    let words = [
        &user.username,
        shown.unwrap_or_default(),
        email.unwrap_or_default(),
        phone,
    ];
    words.join(" ").to_lowercase().contains(needle)
}
