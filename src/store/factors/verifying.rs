//! The transaction of verifications: many users at once, each row of theirs in the order of their ids, so that two daemons wait for each
//! other and never in a circle. `users` is read, and never locked or written.

use std::collections::{HashMap, HashSet};

use sqlx::{AssertSqlSafe, FromRow};

use super::rows_of_many::{MOST, filled, length, values};
use crate::clock::Timestamp;
use crate::factors::keys::KeyId;
use crate::factors::sealed::Sealed;
use crate::factors::throttle::{Failures, LONG};
use crate::factors::verdict::{SpareCode, UsedStep};
use crate::model::{
    Authenticator, AuthenticatorId, AuthenticatorKind, OtpHash, RealmId, State, TwoFactor, UserId,
    Verdict, VerifyMethod, VerifyReason,
};
use crate::store::answer::answered;
use crate::store::db::{EngineConnection, Tx, on};
use crate::store::lease_rows::now;
use crate::store::rows::{places, two_factor, uuid, word};
use crate::store::{Store, StoreError};

/// A transaction of verifications. Dropped without [`Verifying::commit`], nothing of it was done.
pub struct Verifying {
    pub(super) tx: Tx,
}

/// A user as `users` has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedUser {
    /// Who.
    pub id: UserId,
    /// Where.
    pub realm: RealmId,
    /// Where they stand.
    pub state: State,
    /// An administrator's own mark.
    pub blocked: bool,
    /// Their methods.
    pub two_factor: Vec<TwoFactor>,
}

/// What `user_factors` knows of a user.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct UserFactors {
    /// Guesses since the last success.
    pub in_a_row: u32,
    /// The last of them.
    pub failed_at: Option<Timestamp>,
    /// Until an administrator unlocks them.
    pub locked_at: Option<Timestamp>,
    /// The last logon.
    pub last_used_at: Option<Timestamp>,
    /// The last one with a second factor.
    pub proved_at: Option<Timestamp>,
    /// Guesses before that count no more.
    pub counted_from: Option<Timestamp>,
}

impl UserFactors {
    /// What holds guesses back.
    pub fn failures(&self) -> Failures {
        Failures {
            in_a_row: self.in_a_row,
            last_at: self.failed_at,
            locked: self.locked_at.is_some(),
        }
    }
}

/// An active authenticator, with its secret as it is kept.
#[derive(Clone, Debug)]
pub struct ActiveAuthenticator {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub id: AuthenticatorId,
    /// What it is.
    pub kind: AuthenticatorKind,
    /// What its secret is bound to.
    pub owner: [u8; 32],
    /// Its secret; `None`: it has none, which is wrong of an active one.
    pub secret: Option<Sealed>,
    /// The hash of its codes.
    pub hash: OtpHash,
    /// The digits of its codes.
    pub digits: u8,
    /// Seconds of a step.
    pub period: u32,
    /// The lowest step or counter that was not used yet.
    pub next: i64,
    /// Whole steps.
    pub drift: i64,
    /// One code is not enough this time.
    pub two_codes: bool,
    /// The first of two, and until when the second is waited for.
    pub first: Option<(i64, Timestamp)>,
    /// From when its codes count.
    pub valid_from: Option<Timestamp>,
    /// Until when.
    pub valid_until: Option<Timestamp>,
}

/// Users of whom something cannot be read, since a newer version wrote it: nothing is said of their codes, and of all others' it is.
#[derive(Default, Debug)]
pub struct UnreadableUsers(HashMap<UserId, String>);

impl UnreadableUsers {
    /// What was read of a user; nothing where that cannot be done, which is noted.
    fn or_note<T>(&mut self, user: UserId, read: Result<T, StoreError>) -> Option<T> {
        read.inspect_err(|error| {
            self.0.entry(user).or_insert_with(|| error.to_string());
        })
        .ok()
    }

    /// Nothing, if everything of the user was read.
    ///
    /// # Errors
    /// [`StoreError::Nonsense`].
    pub fn check(&self, user: UserId) -> Result<(), StoreError> {
        match self.0.get(&user) {
            Some(why) => Err(StoreError::Nonsense(format!("user {user}: {why}"))),
            None => Ok(()),
        }
    }
}

/// A row of `verifications`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerificationRow {
    /// When.
    pub at: Timestamp,
    /// Which service asked: the name of its token.
    pub service: String,
    /// In which realm; `None`: nobody was found.
    pub realm: Option<RealmId>,
    /// Whom.
    pub user: Option<UserId>,
    /// What was answered.
    pub verdict: Verdict,
}

#[derive(FromRow)]
struct ActiveRow {
    user_id: Vec<u8>,
    id: Vec<u8>,
    kind: String,
    bound_to: Option<Vec<u8>>,
    secret: Option<Vec<u8>>,
    key_id: String,
    hash: String,
    digits: i64,
    period: i64,
    next: i64,
    drift: i64,
    two_codes: bool,
    first_code: Option<i64>,
    first_until: Option<i64>,
    valid_from: Option<i64>,
    valid_until: Option<i64>,
}

impl TryFrom<ActiveRow> for ActiveAuthenticator {
    type Error = StoreError;

    fn try_from(row: ActiveRow) -> Result<Self, StoreError> {
        let id = AuthenticatorId(uuid(&row.id)?);
        let bound_to = row.bound_to.as_deref().map(uuid).transpose()?.map(UserId);
        let odd = |what: &str| StoreError::Nonsense(format!("authenticator {id}: {what}"));
        // A name that cannot be read is that of no key there is.
        let key = KeyId::parse(&row.key_id);
        Ok(Self {
            user: UserId(uuid(&row.user_id)?),
            id,
            kind: word(&row.kind)?,
            owner: Authenticator::owner(bound_to, id),
            secret: key
                .zip(row.secret)
                .map(|(key, bytes)| Sealed { key, bytes }),
            hash: word(&row.hash)?,
            digits: u8::try_from(row.digits).map_err(|_| odd("its digits are no number"))?,
            period: u32::try_from(row.period).map_err(|_| odd("its period is no number"))?,
            next: row.next,
            drift: row.drift,
            two_codes: row.two_codes,
            first: row.first_code.zip(row.first_until.map(Timestamp)),
            valid_from: row.valid_from.map(Timestamp),
            valid_until: row.valid_until.map(Timestamp),
        })
    }
}

fn bytes(id: UserId) -> Vec<u8> {
    id.0.as_bytes().to_vec()
}

/// A statement with a list of ids, whatever their number is.
fn listed(head: &str, ids: usize, tail: &str) -> String {
    format!("{head} ({}) {tail}", places(1, length(ids)))
}

/// A name that somebody is looked for by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameSought {
    /// Where; `None`: in every realm.
    pub realm: Option<RealmId>,
    /// As names are compared.
    pub key: String,
}

impl Store {
    /// The database's clock; `None`: the store is a file of this machine.
    pub async fn database_time(&self) -> Result<Option<Timestamp>, StoreError> {
        time(self.db.read().await?.side()).await
    }

    /// Begins a transaction of verifications.
    pub async fn verifying(&self) -> Result<Verifying, StoreError> {
        Ok(Verifying {
            tx: self.db.begin().await?,
        })
    }

    /// Who of the present users has these folded names: the place of the name in the list, and who it is.
    pub async fn present_named(
        &self,
        names: &[NameSought],
    ) -> Result<Vec<(usize, UserId)>, StoreError> {
        self.named(names, "(u.state = 'active' OR u.state_reason = 'disabled')")
            .await
    }

    /// The same of those who are suspended: for names that no present user has.
    pub async fn away_named(
        &self,
        names: &[NameSought],
    ) -> Result<Vec<(usize, UserId)>, StoreError> {
        self.named(names, "u.state = 'suspended'").await
    }

    async fn named(
        &self,
        names: &[NameSought],
        condition: &'static str,
    ) -> Result<Vec<(usize, UserId)>, StoreError> {
        let (inside, anywhere): (Vec<usize>, Vec<usize>) =
            (0..names.len()).partition(|n| names[*n].realm.is_some());
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for (places, from) in [
            // From each name to its row, by the index of names, which one engine has with the realm in front.
            (&inside, "v CROSS JOIN users u WHERE u.realm = v.realm"),
            (
                &anywhere,
                "v CROSS JOIN realms r CROSS JOIN users u WHERE r.removed_at IS NULL AND u.realm = r.id",
            ),
        ] {
            for some in places.chunks(MOST) {
                let sql = format!(
                    "WITH v(n, realm, name) AS (VALUES {}) SELECT DISTINCT v.n, u.id FROM {from} AND u.username_key = v.name AND {condition}",
                    values(length(some.len()), 3)
                );
                let rows = on!(link, c => {
                    let mut query = sqlx::query_as::<_, (i64, Vec<u8>)>(AssertSqlSafe(sql));
                    for n in filled(some) {
                        let NameSought { realm, key } = &names[*n];
                        let realm = realm.as_ref().map_or("", RealmId::as_str);
                        query = query.bind(i64::try_from(*n).unwrap_or(-1)).bind(realm.to_owned()).bind(key.clone());
                    }
                    query.fetch_all(&mut *c).await
                })
                .map_err(StoreError::from_sqlx("find a user"))?;
                for (n, id) in rows {
                    let place = usize::try_from(n)
                        .map_err(|_| StoreError::Nonsense("a name without a place".into()))?;
                    found.push((place, UserId(uuid(&id)?)));
                }
            }
        }
        Ok(found)
    }
}

/// The database's clock; `None`: the store is a file of this machine.
async fn time(side: EngineConnection<'_>) -> Result<Option<Timestamp>, StoreError> {
    const NOW: &str = concat!("SELECT ", now!());
    match side {
        EngineConnection::Sqlite(_) => Ok(None),
        EngineConnection::Postgres(c) => {
            let asked = sqlx::query_scalar::<_, i64>(NOW).fetch_one(c);
            let now = answered(asked)
                .await
                .map_err(StoreError::from_sqlx("ask what time it is"))?;
            Ok(Some(Timestamp(now)))
        }
    }
}

impl Verifying {
    /// A transaction that was begun for more than codes.
    pub(in crate::store) fn over(tx: Tx) -> Self {
        Self { tx }
    }

    /// The transaction, once nothing more is judged.
    pub(in crate::store) fn into_tx(self) -> Tx {
        self.tx
    }

    /// The transaction, to read more in it.
    pub(in crate::store) fn more(&mut self) -> &mut Tx {
        &mut self.tx
    }

    /// The database's clock; `None`: the store is a file of this machine.
    pub async fn database_time(&mut self) -> Result<Option<Timestamp>, StoreError> {
        time(self.tx.side()).await
    }

    /// These users, in no order; who is not there any more is left out, and so is who cannot be read.
    pub async fn users(
        &mut self,
        ids: &[UserId],
        unreadable: &mut UnreadableUsers,
    ) -> Result<Vec<VerifiedUser>, StoreError> {
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let sql = listed(
            "SELECT id, realm, state, blocked, two_factor FROM users WHERE id IN",
            ids.len(),
            "",
        );
        let rows = on!(self.tx, c => {
            let mut query = sqlx::query_as::<_, (Vec<u8>, String, String, bool, String)>(AssertSqlSafe(sql));
            for id in filled(ids) { query = query.bind(bytes(*id)); }
            query.fetch_all(&mut *c).await
        })
        .map_err(StoreError::from_sqlx("read users"))?;
        let read =
            |(id, realm, state, blocked, methods): (UserId, String, String, bool, String)| {
                Ok(VerifiedUser {
                    id,
                    realm: RealmId::from(realm),
                    state: word(&state)?,
                    blocked,
                    two_factor: two_factor(&methods)?,
                })
            };
        let mut users = vec![];
        for (id, realm, state, blocked, methods) in rows {
            let id = UserId(uuid(&id)?);
            let user = read((id, realm, state, blocked, methods));
            users.extend(unreadable.or_note(id, user));
        }
        Ok(users)
    }

    /// Which of these users are frozen.
    pub async fn frozen(&mut self, ids: &[UserId]) -> Result<HashSet<UserId>, StoreError> {
        super::frozen::frozen(&mut self.tx, ids).await
    }

    /// What is known of these users, whose ids ascend; from here to the end of the transaction nobody else decides about them.
    pub async fn lock_factors(
        &mut self,
        ids: &[UserId],
    ) -> Result<HashMap<UserId, UserFactors>, StoreError> {
        debug_assert!(ids.is_sorted());
        let mut known = self.factors(ids).await?;
        let new: Vec<UserId> = ids
            .iter()
            .copied()
            .filter(|id| !known.contains_key(id))
            .collect();
        if !new.is_empty() {
            let sql = format!(
                "WITH v(n, u) AS (VALUES {}) INSERT INTO user_factors (user_id) SELECT u FROM v JOIN users ON users.id = u WHERE n >= 0 AND users.state <> 'removed' ORDER BY n ON CONFLICT (user_id) DO NOTHING",
                values(length(new.len()), 2)
            );
            on!(self.tx, c => {
                let mut query = sqlx::query(AssertSqlSafe(sql));
                for (n, id) in numbered(&new) { query = query.bind(n).bind(bytes(*id)); }
                query.execute(&mut *c).await.map(|_| ())
            })
            .map_err(StoreError::from_sqlx("note what is known of users"))?;
            known = self.factors(ids).await?;
        }
        Ok(known)
    }

    async fn factors(
        &mut self,
        ids: &[UserId],
    ) -> Result<HashMap<UserId, UserFactors>, StoreError> {
        type Row = (
            Vec<u8>,
            i64,
            Option<i64>,
            Option<i64>,
            Option<i64>,
            Option<i64>,
            Option<i64>,
        );
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let lock = match &self.tx {
            Tx::Sqlite(..) => "ORDER BY user_id",
            Tx::Postgres(_) => "ORDER BY user_id FOR UPDATE",
        };
        let sql = listed(
            "SELECT user_id, in_a_row, failed_at, locked_at, last_used_at, proved_at, counted_from FROM user_factors WHERE user_id IN",
            ids.len(),
            lock,
        );
        let rows = on!(self.tx, c => {
            let mut query = sqlx::query_as::<_, Row>(AssertSqlSafe(sql));
            for id in filled(ids) { query = query.bind(bytes(*id)); }
            query.fetch_all(&mut *c).await
        })
        .map_err(StoreError::from_sqlx("read what is known of users"))?;
        rows.into_iter()
            .map(|(id, in_a_row, failed, locked, used, proved, from)| {
                let factors = UserFactors {
                    in_a_row: u32::try_from(in_a_row).unwrap_or(u32::MAX),
                    failed_at: failed.map(Timestamp),
                    locked_at: locked.map(Timestamp),
                    last_used_at: used.map(Timestamp),
                    proved_at: proved.map(Timestamp),
                    counted_from: from.map(Timestamp),
                };
                Ok((UserId(uuid(&id)?), factors))
            })
            .collect()
    }

    /// The active authenticators of these users, the oldest of each first; without those that cannot be read.
    pub async fn authenticators(
        &mut self,
        ids: &[UserId],
        unreadable: &mut UnreadableUsers,
    ) -> Result<Vec<ActiveAuthenticator>, StoreError> {
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let sql = listed(
            "SELECT user_id, id, kind, bound_to, secret, key_id, hash, digits, period, next, drift, two_codes, first_code, first_until,
                valid_from, valid_until FROM authenticators WHERE user_id IN",
            ids.len(),
            "AND state = 'active' ORDER BY created_at, id",
        );
        let rows = on!(self.tx, c => {
            let mut query = sqlx::query_as::<_, ActiveRow>(AssertSqlSafe(sql));
            for id in filled(ids) { query = query.bind(bytes(*id)); }
            query.fetch_all(&mut *c).await
        })
        .map_err(StoreError::from_sqlx("read authenticators"))?;
        let mut active = vec![];
        for row in rows {
            let user = UserId(uuid(&row.user_id)?);
            active.extend(unreadable.or_note(user, ActiveAuthenticator::try_from(row)));
        }
        Ok(active)
    }

    /// The recovery and bypass codes of these users, also those that are used up; without those that cannot be read.
    pub async fn spare_codes(
        &mut self,
        ids: &[UserId],
        unreadable: &mut UnreadableUsers,
    ) -> Result<Vec<(UserId, SpareCode)>, StoreError> {
        type Row = (
            Vec<u8>,
            Vec<u8>,
            String,
            Vec<u8>,
            i64,
            Option<i64>,
            String,
            bool,
        );
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let sql = listed(
            "SELECT user_id, digest, kind, set_id, uses_left, expires_at, key_id,
                created_at <= COALESCE((SELECT CAST(value AS BIGINT) FROM meta WHERE key = 'restored-at'), -1)
             FROM recovery_codes WHERE user_id IN",
            ids.len(),
            "",
        );
        let rows = on!(self.tx, c => {
            let mut query = sqlx::query_as::<_, Row>(AssertSqlSafe(sql));
            for id in filled(ids) { query = query.bind(bytes(*id)); }
            query.fetch_all(&mut *c).await
        })
        .map_err(StoreError::from_sqlx("read recovery codes"))?;
        let mut codes = vec![];
        for (user, digest, kind, set, uses_left, expires, key, before_copy) in rows {
            let (user, set) = (UserId(uuid(&user)?), AuthenticatorId(uuid(&set)?));
            let method = unreadable.or_note(user, word::<VerifyMethod>(&kind));
            codes.extend(method.map(|method| {
                let code = SpareCode {
                    digest,
                    key: KeyId::parse(&key),
                    before_copy,
                    method,
                    set,
                    uses_left,
                    expires_at: expires.map(Timestamp),
                };
                (user, code)
            }));
        }
        Ok(codes)
    }

    /// How many guesses of these users failed within the time that is looked back at, and since they were unlocked.
    pub async fn failed_in_long(
        &mut self,
        ids: &[UserId],
        now: Timestamp,
    ) -> Result<HashMap<UserId, u32>, StoreError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let from = length(ids.len()) + 1;
        let tail = format!(
            "AND v.at > ${from} AND v.at > COALESCE(f.counted_from, 0) AND v.reason IN ('wrong_code', 'replayed', 'clock') GROUP BY v.user_id"
        );
        let sql = listed(
            "SELECT v.user_id, COUNT(*) FROM verifications v JOIN user_factors f ON f.user_id = v.user_id WHERE v.user_id IN",
            ids.len(),
            &tail,
        );
        let rows = on!(self.tx, c => {
            let mut query = sqlx::query_as::<_, (Vec<u8>, i64)>(AssertSqlSafe(sql));
            for id in filled(ids) { query = query.bind(bytes(*id)); }
            query.bind(now.0.saturating_sub(LONG)).fetch_all(&mut *c).await
        })
        .map_err(StoreError::from_sqlx("count failures"))?;
        rows.into_iter()
            .map(|(id, n)| Ok((UserId(uuid(&id)?), u32::try_from(n).unwrap_or(u32::MAX))))
            .collect()
    }

    /// Uses codes up. Gives those that nobody else had used: only these are accepted.
    pub async fn use_steps(
        &mut self,
        steps: &[UsedStep],
        now: Timestamp,
    ) -> Result<HashSet<AuthenticatorId>, StoreError> {
        if steps.is_empty() {
            return Ok(HashSet::new());
        }
        let sql = format!(
            "WITH v(token, at, learned, used) AS (VALUES {}) UPDATE authenticators SET next = v.at + 1, drift = v.learned, last_used_at = v.used,
                two_codes = FALSE, first_code = NULL, first_until = NULL
             FROM v WHERE id = v.token AND state = 'active' AND next <= v.at AND COALESCE(first_code, -1) <> v.at RETURNING id",
            values(length(steps.len()), 4)
        );
        let rows = on!(self.tx, c => {
            let mut query = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql));
            for step in filled(steps) {
                query = query.bind(step.authenticator.0.as_bytes().to_vec()).bind(step.at).bind(step.drift).bind(now.0);
            }
            query.fetch_all(&mut *c).await
        })
        .map_err(StoreError::from_sqlx("use a code"))?;
        rows.iter()
            .map(|id| Ok(AuthenticatorId(uuid(id)?)))
            .collect()
    }

    /// Remembers a code that does not count by itself: the first of two, or one that was told to be ahead.
    pub async fn remember_first(
        &mut self,
        authenticator: AuthenticatorId,
        at: i64,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        super::authenticators::remember_first(&mut self.tx, authenticator, at, until).await
    }

    /// Uses a recovery or bypass code once. `false`: somebody else did, or it has ended.
    pub async fn use_spare(
        &mut self,
        user: UserId,
        digest: &[u8],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        super::recovery::take_digest(&mut self.tx, user, digest, now).await
    }

    /// Writes what is known of users from now on; their rows are locked.
    pub async fn write_factors(
        &mut self,
        factors: &[(UserId, UserFactors)],
    ) -> Result<(), StoreError> {
        if factors.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "WITH v(u, a, b, c, d, e, f) AS (VALUES {}) UPDATE user_factors SET in_a_row = v.a, failed_at = v.b, locked_at = v.c,
                last_used_at = v.d, proved_at = v.e, counted_from = v.f FROM v WHERE user_id = v.u",
            values(length(factors.len()), 7)
        );
        on!(self.tx, c => {
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for (user, known) in filled(factors) {
                query = query.bind(bytes(*user)).bind(i64::from(known.in_a_row)).bind(known.failed_at.map(|t| t.0))
                    .bind(known.locked_at.map(|t| t.0)).bind(known.last_used_at.map(|t| t.0))
                    .bind(known.proved_at.map(|t| t.0)).bind(known.counted_from.map(|t| t.0));
            }
            query.execute(&mut *c).await.map(|_| ())
        })
        .map_err(StoreError::from_sqlx("note what is known of users"))
    }

    /// Writes who asked for whom, and what was answered.
    pub async fn record(&mut self, rows: &[VerificationRow]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "WITH v(n, at, service, realm, u, result, reason, method, token) AS (VALUES {})
             INSERT INTO verifications (at, service, realm, user_id, result, reason, method, authenticator)
             SELECT at, service, realm, u, result, reason, method, token FROM v WHERE n >= 0 ORDER BY n",
            values(length(rows.len()), 9)
        );
        on!(self.tx, c => {
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for (n, row) in numbered(rows) {
                let verdict = &row.verdict;
                query = query.bind(n).bind(row.at.0).bind(row.service.clone())
                    .bind(row.realm.as_ref().map(|r| r.as_str().to_owned())).bind(row.user.map(bytes))
                    .bind(verdict.result.as_str()).bind(verdict.reason.map(VerifyReason::as_str))
                    .bind(verdict.method.map(VerifyMethod::as_str))
                    .bind(verdict.authenticator.map(|a| a.0.as_bytes().to_vec()));
            }
            query.execute(&mut *c).await.map(|_| ())
        })
        .map_err(StoreError::from_sqlx("record verifications"))
    }

    /// Makes it last.
    pub async fn commit(self) -> Result<(), StoreError> {
        crate::failpoint::hit("verify.commit");
        self.tx.commit().await
    }
}

/// The items with their places, and the last one again, with a place below zero, until the statement is full.
pub(super) fn numbered<T>(items: &[T]) -> impl Iterator<Item = (i64, &T)> {
    let real = items.len();
    filled(items).enumerate().map(move |(n, item)| {
        let place = if n < real {
            i64::try_from(n).unwrap_or(-1)
        } else {
            -1
        };
        (place, item)
    })
}
