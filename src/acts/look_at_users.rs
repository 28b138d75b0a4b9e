//! `GET /api/v1/users` and `/users/{id}`: users as programs see them, a page at a time.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::act::Act;
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use crate::model::{UserFilter, UserId, UserPlace, UserSort};
use crate::store::UserPage;
use crate::story::users::objects;

/// Users of a page, unless it says how many.
const PAGE: i64 = 100;

/// The most users of a page.
const LARGEST: i64 = 1000;

/// A page of a list, and where the next one begins.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PageOf<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// What `after` is to be for the next page; `None`: there is none.
    pub next: Option<String>,
}

/// `GET /api/v1/users`: the filters of the list, and which page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListUsers {
    /// Which users.
    pub filter: UserFilter,
    /// In which order.
    pub sort: UserSort,
    /// The `next` of the page before.
    pub after: Option<String>,
    /// At most so many: 1 to 1,000.
    pub limit: Option<i64>,
}

/// `GET /api/v1/users/{id}`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShowUser {
    /// Whom.
    pub user: UserId,
}

impl Act for ListUsers {
    type Output = PageOf<Value>;

    async fn act(self, at: &ActContext) -> Result<PageOf<Value>, ActFailure> {
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=LARGEST).contains(&limit) {
            return Err(ActFailure::new(
                FailureKind::Usage,
                format!("`limit` is {limit}: a page has 1 to {LARGEST} users"),
            ));
        }
        let after = self.after.as_deref().map(place).transpose()?;
        let page = UserPage {
            sort: self.sort,
            after: after.as_ref(),
            limit,
            now: at.now(),
        };
        let users = at.store().list_users(&self.filter, &page).await?;
        let full = i64::try_from(users.len()).is_ok_and(|n| n == limit);
        let next = users.last().filter(|_| full).map(UserPlace::of);
        Ok(PageOf {
            items: objects(at.store(), &users, at.now()).await?,
            next: next.map(|place| cursor(&place)),
        })
    }
}

impl Act for ShowUser {
    type Output = Value;

    async fn act(self, at: &ActContext) -> Result<Value, ActFailure> {
        let users = at.store().users_by_id(&[self.user]).await?;
        objects(at.store(), &users, at.now())
            .await?
            .pop()
            .ok_or_else(|| {
                ActFailure::new(
                    FailureKind::NotFound,
                    format!("there is no user {}", self.user),
                )
            })
    }
}

/// A place as it goes over the wire.
fn cursor(place: &UserPlace) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).unwrap_or_default())
}

fn place(cursor: &str) -> Result<UserPlace, ActFailure> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok();
    let place = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    place.ok_or_else(|| {
        ActFailure::new(
            FailureKind::Usage,
            "`after` is not the `next` of a page of this list",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RealmId;

    #[test]
    fn a_cursor_leads_back_to_its_place_and_anything_else_is_refused() {
        let here = UserPlace {
            realm: RealmId::from("example.org"),
            name: "ľubomír ž".into(),
            id: UserId(uuid::Uuid::from_u128(7)),
        };
        assert_eq!(place(&cursor(&here)), Ok(here));
        for wrong in ["", "x", "e30", "%%%", "bnVsbA"] {
            let failure = place(wrong).expect_err(wrong);
            assert_eq!(failure.code, "invalid");
        }
    }
}
