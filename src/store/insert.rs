//! Rows as SQLite takes them: statements of many rows each, and for whom a plan makes, what they have in common said once.

use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection, query::Query};

use super::StoreError;
use super::rows::{USER_COLUMNS, bind_user, methods, origin_word, side_text, user_columns};
use super::staged_user::{StagedUser, intents_text};
use crate::clock::Timestamp;
use crate::model::{Change, PhoneSource, RealmId, RunId, State, TwoFactor, UserOrigin};

/// Rows of one INSERT: the cost of each falls until some 50, and SQLite takes 32,766 values at most.
const ROWS: usize = 50;

/// `(?, …), (?, …)`: `rows` of `columns` each. SQLite keeps the names of placeholders in a list that it searches from its
/// beginning for each, which for 1,850 of them took 60 % of a first load; nameless ones it only counts.
fn values(rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    vec![row; rows].join(", ")
}

/// What people who are made mostly have in common. To hand a value over costs more than to write it, so these go once for each
/// statement instead of once for each person.
struct SharedColumns {
    realm: RealmId,
    phone_attribute: Option<String>,
    phone_source: Option<PhoneSource>,
    /// The number counts as known outside (nobody is told of it).
    provisioned: bool,
    two_factor: Vec<TwoFactor>,
    origin: UserOrigin,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// They have an entry in a directory, or anything that comes from one.
    of_directory: bool,
}

/// Where rows go: a table, and its columns of a run and of a place in its plan.
#[derive(Clone, Copy)]
struct InsertTarget<'a> {
    table: &'a str,
    run: &'static str,
    seq: &'static str,
}

/// What each person has of their own, in the order of [`SharedColumns::insert`]: with an entry in a directory, and without.
const OWN: usize = 14;
const OWN_BY_HAND: usize = 8;

/// Whether somebody has nothing that comes from a directory, and a key and a raw number where the name and the number are there.
fn by_hand(staged: &StagedUser) -> bool {
    let user = &staged.user;
    user.directory_id.is_none()
        && user.entry_uuid.is_none()
        && user.dn.is_none()
        && staged.container.is_none()
        && user.phone_rule.is_none()
        && user.fingerprint.is_none()
        && !user.username_key.is_empty()
        && (user.phone.is_none() || user.phone_raw.is_some())
}

impl SharedColumns {
    fn of(staged: &StagedUser) -> Self {
        let user = &staged.user;
        Self {
            of_directory: !by_hand(staged),
            realm: user.realm.clone(),
            phone_attribute: user.phone_attribute.clone(),
            phone_source: user.phone_source,
            provisioned: user.phone_provisioned.is_some(),
            two_factor: user.two_factor.clone(),
            origin: user.origin,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }

    /// Whether this and [`OWN`] values say all there is of somebody who is made.
    fn describes(&self, staged: &StagedUser) -> bool {
        let user = &staged.user;
        let number = if user.phone.is_some() {
            user.phone_attribute == self.phone_attribute
                && user.phone_source == self.phone_source
                && user.phone_provisioned.as_ref()
                    == user.phone.as_ref().filter(|_| self.provisioned)
        } else {
            user.phone_attribute.is_none()
                && user.phone_source.is_none()
                && user.phone_provisioned.is_none()
        };
        number
            && by_hand(staged) != self.of_directory
            && user.realm == self.realm
            && user.two_factor == self.two_factor
            && user.created_at == self.created_at
            && user.updated_at == self.updated_at
            && user.state == State::Active
            && user.version == 1
            && user.state_reason.is_none()
            && user.suspended_at.is_none()
            && user.suspended_clock.is_none()
            && user.phone_pending.is_none()
            && user.phone_pending_raw.is_none()
            && user.phone_pending_until.is_none()
            && user.phone_told.is_none()
            && user.last_used_at.is_none()
            && !(user.told || user.provisioned || user.blocked)
            && user.origin == self.origin
            && user.note.is_none()
            && user.phone_pending_source.is_none()
    }

    /// Takes the texts away from the users. `into` names a table and its columns of run and place.
    async fn insert(
        &self,
        connection: &mut SqliteConnection,
        run: RunId,
        into: InsertTarget<'_>,
        users: &mut [&mut StagedUser],
    ) -> Result<(), StoreError> {
        // What is not named has its default in either table. Values that mostly are another's are handed over where they are not.
        let (phone, own_columns, own_values, n) = if self.of_directory {
            (
                "column11",
                "id, directory_id, entry_uuid, username, username_key, display_name, email, dn, container, phone, phone_raw, phone_rule, fingerprint",
                "*",
                OWN,
            )
        } else {
            (
                "column7",
                "id, username, username_key, display_name, email, phone, phone_raw",
                "column1, column2, column3, COALESCE(column4, column3), column5, column6, column7, COALESCE(column8, column7)",
                OWN_BY_HAND,
            )
        };
        let sql = format!(
            "INSERT OR FAIL INTO {} ({}, realm, two_factor, created_at, updated_at, phone_attribute, phone_source, phone_provisioned, origin, state, version,
                 {}, {own_columns})
             SELECT ?, ?, ?, ?, ?, CASE WHEN {phone} IS NOT NULL THEN ? END, CASE WHEN {phone} IS NOT NULL THEN ? END, CASE WHEN ? THEN {phone} END, ?,
                 'active', 1, {own_values} FROM (VALUES {})",
            into.table,
            into.run,
            into.seq,
            values(users.len(), n)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        query = query
            .bind(run.0.as_bytes().to_vec())
            .bind(self.realm.as_str().to_owned())
            .bind(methods(&self.two_factor))
            .bind(self.created_at.0)
            .bind(self.updated_at.0)
            .bind(self.phone_attribute.clone())
            .bind(self.phone_source.map(PhoneSource::as_str))
            .bind(self.provisioned)
            .bind(origin_word(self.origin));
        for staged in users {
            query = if self.of_directory {
                own(query, staged)
            } else {
                own_by_hand(query, staged)
            };
        }
        query
            .execute(connection)
            .await
            .map(|_| ())
            .map_err(StoreError::from_sqlx("stage users"))
    }
}

type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

fn own<'q>(query: Statement<'q>, staged: &mut StagedUser) -> Statement<'q> {
    let user = &mut staged.user;
    query
        .bind(staged.seq)
        .bind(user.id.0.as_bytes().to_vec())
        .bind(user.directory_id.map(|id| id.0.to_vec()))
        .bind(user.entry_uuid.map(|id| id.0.to_vec()))
        .bind(std::mem::take(&mut user.username))
        .bind(Some(std::mem::take(&mut user.username_key)).filter(|key| !key.is_empty()))
        .bind(user.display_name.take())
        .bind(user.email.take())
        .bind(user.dn.take())
        .bind(staged.container.take())
        .bind(user.phone.take().map(String::from))
        .bind(user.phone_raw.take())
        .bind(user.phone_rule.take())
        .bind(user.fingerprint.map(u64::cast_signed))
}

fn own_by_hand<'q>(query: Statement<'q>, staged: &mut StagedUser) -> Statement<'q> {
    let user = &mut staged.user;
    let phone = user.phone.take().map(String::from);
    let key = Some(std::mem::take(&mut user.username_key)).filter(|key| *key != user.username);
    let raw = user
        .phone_raw
        .take()
        .filter(|raw| Some(raw) != phone.as_ref());
    query
        .bind(staged.seq)
        .bind(user.id.0.as_bytes().to_vec())
        .bind(std::mem::take(&mut user.username))
        .bind(key)
        .bind(user.display_name.take())
        .bind(user.email.take())
        .bind(phone)
        .bind(raw)
}

/// Puts the users that are made together with those like them; gives the others too.
fn groups<'a>(
    users: impl Iterator<Item = &'a mut StagedUser>,
) -> (
    Vec<(SharedColumns, Vec<&'a mut StagedUser>)>,
    Vec<&'a mut StagedUser>,
) {
    let mut groups: Vec<(SharedColumns, Vec<&mut StagedUser>)> = vec![];
    let mut others = vec![];
    for staged in users {
        let group = groups.iter_mut().find(|g| g.0.describes(staged));
        if let Some((_, group)) = group {
            group.push(staged);
            continue;
        }
        let alike = SharedColumns::of(staged);
        if alike.describes(staged) {
            groups.push((alike, vec![staged]));
        } else {
            others.push(staged);
        }
    }
    (groups, others)
}

/// Stages the users that are made, and then the others.
///
/// `OR FAIL`: the transaction is given up with the first statement that fails, so no statement needs to be taken back by itself.
pub(super) async fn users(
    connection: &mut SqliteConnection,
    run: RunId,
    users: &mut [StagedUser],
) -> Result<(), StoreError> {
    const STAGED: InsertTarget<'_> = InsertTarget {
        table: "staged_users",
        run: "run",
        seq: "seq",
    };
    let (made, mut others): (Vec<_>, Vec<_>) = users
        .iter_mut()
        .partition(|s| s.base_version == 0 && s.intents.is_empty());
    let (mut groups, unlike) = groups(made.into_iter());
    others.extend(unlike);
    for (alike, group) in &mut groups {
        for users in group.chunks_mut(ROWS) {
            alike.insert(connection, run, STAGED, users).await?;
        }
    }
    for others in others.chunks(ROWS) {
        let sql = format!(
            "INSERT OR FAIL INTO staged_users (run, seq, base_version, intents, {}) VALUES {}",
            user_columns!(),
            values(others.len(), USER_COLUMNS + 4)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for staged in others {
            let text = intents_text(&staged.intents)?;
            query = query
                .bind(run.0.as_bytes().to_vec())
                .bind(staged.seq)
                .bind(staged.base_version)
                .bind(text);
            query = bind_user!(query, &staged.user, staged.container.clone());
        }
        query
            .execute(&mut *connection)
            .await
            .map_err(StoreError::from_sqlx("stage users"))?;
    }
    Ok(())
}

/// Adds users to the table of a first load.
pub(super) async fn aside(
    connection: &mut SqliteConnection,
    run: RunId,
    table: &str,
    users: &mut [StagedUser],
) -> Result<(), StoreError> {
    let into = InsertTarget {
        table,
        run: "made_by",
        seq: "made_seq",
    };
    let (mut groups, others) = groups(users.iter_mut());
    for (alike, group) in &mut groups {
        for users in group.chunks_mut(ROWS) {
            alike.insert(connection, run, into, users).await?;
        }
    }
    for others in others.chunks(ROWS) {
        let sql = format!(
            "INSERT OR FAIL INTO {table} (made_by, made_seq, {}) VALUES {}",
            user_columns!(),
            values(others.len(), USER_COLUMNS + 2)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for staged in others {
            query = query.bind(run.0.as_bytes().to_vec()).bind(staged.seq);
            query = bind_user!(query, &staged.user, staged.container.clone());
        }
        query
            .execute(&mut *connection)
            .await
            .map_err(StoreError::from_sqlx("stage users"))?;
    }
    Ok(())
}

/// Stages the lines of a plan.
pub(super) async fn changes(
    connection: &mut SqliteConnection,
    run: RunId,
    changes: &[Change],
) -> Result<(), StoreError> {
    for changes in changes.chunks(ROWS) {
        let sql = format!(
            "INSERT OR FAIL INTO changes (run, seq, realm, user_id, username, by_whom, kind, before, after, at) VALUES {}",
            values(changes.len(), 10)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for change in changes {
            query = query
                .bind(run.0.as_bytes().to_vec())
                .bind(change.seq)
                .bind(change.realm.as_str().to_owned())
                .bind(change.user.0.as_bytes().to_vec())
                .bind(change.username.clone())
                .bind(change.by.clone())
                .bind(change.kind.as_str())
                .bind(side_text(&change.before))
                .bind(side_text(&change.after))
                .bind(change.at.0);
        }
        query
            .execute(&mut *connection)
            .await
            .map_err(StoreError::from_sqlx("stage changes"))?;
    }
    Ok(())
}
