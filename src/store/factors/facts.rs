//! What is known of users' second factors, read for many users at once.

use std::collections::{BTreeMap, HashMap};

use sqlx::{AssertSqlSafe, FromRow};

use crate::clock::Timestamp;
use crate::factors::throttle::{Failures, Gate, gate};
use crate::model::{
    AuthenticatorId, AuthenticatorKind, AuthenticatorShown, AuthenticatorState, EnrolmentFilter,
    FactorFacts, RealmId, User, UserId, WrongCodes,
};
use crate::store::db::{ReadConnection, on};
use crate::store::rows::{note_unreadable, places, uuid, word};
use crate::store::{Store, StoreError};

/// Ids in one statement: both engines take more, but the text stays short.
const LIST: usize = 500;

/// An authenticator as it is shown.
#[derive(FromRow)]
struct ShownRow {
    id: Vec<u8>,
    user_id: Vec<u8>,
    kind: String,
    state: String,
    serial: Option<String>,
    issuer: Option<String>,
    created_at: i64,
    last_used_at: Option<i64>,
    drift: i64,
    expires_at: Option<i64>,
}

impl ShownRow {
    fn read(self) -> Result<(UserId, AuthenticatorShown), StoreError> {
        let shown = AuthenticatorShown {
            id: AuthenticatorId(uuid(&self.id)?),
            kind: word(&self.kind)?,
            state: word(&self.state)?,
            serial: self.serial,
            issuer: self.issuer,
            created_at: Timestamp(self.created_at),
            last_used_at: self.last_used_at.map(Timestamp),
            drift: self.drift,
            left: None,
        };
        Ok((UserId(uuid(&self.user_id)?), shown))
    }
}

type CodesRow = (Vec<u8>, Vec<u8>, i64, i64, Option<i64>);
type EnrolmentRow = (Vec<u8>, String, i64);
type AskedRow = (Vec<u8>, i64);
type UsedRow = (
    Vec<u8>,
    Option<i64>,
    Option<i64>,
    i64,
    Option<i64>,
    Option<i64>,
);

/// The rows of a statement over `$1…` user ids, and what follows them.
macro_rules! rows_of {
    ($link:expr, $type:ty, $ids:expr, $what:literal, $sql:expr) => {{
        let sql = format!($sql, places(1, $ids.len()));
        on!($link, c => {
            let mut query = sqlx::query_as::<_, $type>(AssertSqlSafe(sql));
            for id in $ids { query = query.bind(id.0.as_bytes().to_vec()); }
            query.fetch_all(&mut *c).await
        })
        .map_err(StoreError::from_sqlx($what))?
    }};
}

impl Store {
    /// What is known of these users' factors; in the map is everybody. Authenticators that count no more are left out.
    pub async fn factor_facts(
        &self,
        users: &[User],
        now: Timestamp,
    ) -> Result<HashMap<UserId, FactorFacts>, StoreError> {
        let mut all: HashMap<UserId, FactorFacts> = users
            .iter()
            .map(|user| (user.id, FactorFacts::default()))
            .collect();
        let ids: Vec<UserId> = users.iter().map(|user| user.id).collect();
        let mut link = self.db.read().await?;
        for ids in ids.chunks(LIST) {
            authenticators(&mut link, ids, now, &mut all).await?;
            enrolments(&mut link, ids, now, &mut all).await?;
            let rows = rows_of!(
                link,
                UsedRow,
                ids,
                "read what verifications know",
                "SELECT user_id, last_used_at, proved_at, in_a_row, failed_at, locked_at FROM user_factors WHERE user_id IN ({})"
            );
            for (user, last, proved, in_a_row, failed, locked) in rows {
                if let Some(facts) = all.get_mut(&UserId(uuid(&user)?)) {
                    facts.last_used_at = last.max(proved).map(Timestamp);
                    facts.proved = proved.is_some();
                    facts.wrong_codes = wrong_codes(in_a_row, failed, locked, now);
                }
            }
        }
        for ids in ids.chunks(LIST) {
            let rows = rows_of!(
                link,
                (Vec<u8>, i64),
                ids,
                "read who is frozen",
                "SELECT user_id, at FROM freezes WHERE user_id IN ({})"
            );
            for (user, _) in rows {
                if let Some(facts) = all.get_mut(&UserId(uuid(&user)?)) {
                    facts.frozen = true;
                }
            }
        }
        for users in users.chunks(LIST) {
            refused_numbers(&mut link, users, &mut all).await?;
        }
        Ok(all)
    }
}

/// Wrong codes as they hold a user back at a time.
fn wrong_codes(
    in_a_row: i64,
    failed_at: Option<i64>,
    locked_at: Option<i64>,
    now: Timestamp,
) -> WrongCodes {
    let failures = Failures {
        in_a_row: u32::try_from(in_a_row).unwrap_or(u32::MAX),
        last_at: failed_at.map(Timestamp),
        locked: locked_at.is_some(),
    };
    WrongCodes {
        in_a_row: failures.in_a_row,
        last_at: failures.last_at,
        delayed_until: match gate(failures, now) {
            Gate::Delayed(ms) => Some(now.plus_ms(ms)),
            Gate::Open | Gate::Locked => None,
        },
        locked_at: locked_at.map(Timestamp),
    }
}

async fn authenticators(
    link: &mut ReadConnection,
    ids: &[UserId],
    now: Timestamp,
    all: &mut HashMap<UserId, FactorFacts>,
) -> Result<(), StoreError> {
    let rows = rows_of!(link, ShownRow, ids, "read authenticators",
        "SELECT id, user_id, kind, state, serial, issuer, created_at, last_used_at, drift, expires_at FROM authenticators
         WHERE user_id IN ({}) AND state <> 'revoked' ORDER BY created_at, id");
    for row in rows {
        // A pending application whose time is over is none any more.
        if row.state == AuthenticatorState::Pending.as_str()
            && row.expires_at.is_some_and(|at| at <= now.0)
        {
            continue;
        }
        // What a newer program wrote must not hide the others.
        let Ok((user, shown)) = row.read().inspect_err(note_unreadable) else {
            continue;
        };
        if let Some(facts) = all.get_mut(&user) {
            facts.authenticators.push(shown);
        }
    }
    let rows = rows_of!(link, CodesRow, ids, "read recovery codes",
        "SELECT user_id, set_id, CAST(SUM(uses_left) AS BIGINT), MIN(created_at), MAX(used_at) FROM recovery_codes
         WHERE user_id IN ({}) AND kind = 'recovery' GROUP BY user_id, set_id ORDER BY MIN(created_at)");
    for (user, set, left, created, used) in rows {
        let shown = AuthenticatorShown {
            id: AuthenticatorId(uuid(&set)?),
            kind: AuthenticatorKind::Recovery,
            state: if left > 0 {
                AuthenticatorState::Active
            } else {
                AuthenticatorState::Revoked
            },
            serial: None,
            issuer: None,
            created_at: Timestamp(created),
            last_used_at: used.map(Timestamp),
            drift: 0,
            left: Some(left),
        };
        if let Some(facts) = all.get_mut(&UserId(uuid(&user)?)) {
            facts.authenticators.push(shown);
        }
    }
    Ok(())
}

async fn enrolments(
    link: &mut ReadConnection,
    ids: &[UserId],
    now: Timestamp,
    all: &mut HashMap<UserId, FactorFacts>,
) -> Result<(), StoreError> {
    let rows = rows_of!(
        link,
        EnrolmentRow,
        ids,
        "read enrolments",
        "SELECT user_id, state, expires_at FROM enrolments WHERE user_id IN ({}) ORDER BY created_at, id"
    );
    for (user, state, expires_at) in rows {
        if state == "void" {
            if let Some(facts) = all.get_mut(&UserId(uuid(&user)?)) {
                facts.enrolment_void = true;
            }
            continue;
        }
        let standing = match state.as_str() {
            "used" => EnrolmentFilter::Active,
            "open" if expires_at > now.0 => EnrolmentFilter::Open,
            "open" => EnrolmentFilter::Expired,
            _ => continue,
        };
        if let Some(facts) = all.get_mut(&UserId(uuid(&user)?)) {
            facts.enrolment = standing;
            facts.enrolment_ends = Some(Timestamp(expires_at));
        }
    }
    // What was sent since is an answer.
    let rows = rows_of!(
        link,
        AskedRow,
        ids,
        "read who asked for a link",
        "SELECT user_id, MAX(asked_at) FROM enrolments WHERE user_id IN ({}) GROUP BY user_id HAVING MAX(asked_at) > MAX(created_at)"
    );
    for (user, asked) in rows {
        if let Some(facts) = all.get_mut(&UserId(uuid(&user)?)) {
            facts.asked_at = Some(Timestamp(asked));
        }
    }
    Ok(())
}

/// Why the numbers that the directory gives of these users are refused.
async fn refused_numbers(
    link: &mut ReadConnection,
    users: &[User],
    all: &mut HashMap<UserId, FactorFacts>,
) -> Result<(), StoreError> {
    // The index begins with the realm.
    let mut by_realm: BTreeMap<&RealmId, HashMap<Vec<u8>, UserId>> = BTreeMap::new();
    for user in users {
        if let Some(id) = user.directory_id {
            let of_realm = by_realm.entry(&user.realm).or_default();
            of_realm.insert(id.0.to_vec(), user.id);
        }
    }
    for (realm, users) in by_realm {
        let sql = format!(
            "SELECT directory_id, reason FROM refused WHERE realm = $1 AND directory_id IN ({}) AND NOT entry ORDER BY since DESC",
            places(2, users.len())
        );
        let rows = on!(link, c => {
            let mut query = sqlx::query_as::<_, (Vec<u8>, String)>(AssertSqlSafe(sql)).bind(realm.as_str().to_owned());
            for id in users.keys() { query = query.bind(id.clone()); }
            query.fetch_all(&mut *c).await
        })
        .map_err(StoreError::from_sqlx("read refused numbers"))?;
        for (id, reason) in rows {
            if let Some(facts) = users.get(&id).and_then(|user| all.get_mut(user)) {
                facts.phone_refused = Some(reason);
            }
        }
    }
    Ok(())
}
