//! Rows as SQLite takes them: statements of many rows each, and for whom a plan makes, what they have in common said once.

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::StoreError;
use super::rows::{USER_COLUMNS, bind_user, methods, origin_word, side_text, user_columns};
use super::staged_user::{StagedUser, intents_text};
use crate::clock::Timestamp;
use crate::model::{Change, Phone, PhoneSource, RealmId, RunId, State, TwoFactor, UserOrigin};

/// Rows of one INSERT: the cost of each falls until some 50, and SQLite takes 32,766 values at most.
const ROWS: usize = 50;

/// The same of people who are made, whose values are numbers.
const MADE_ROWS: usize = 250;

/// `(?, …), (?, …)`: `rows` of `columns` each. SQLite keeps the names of placeholders in a list that it searches from its
/// beginning for each, which for 1,850 of them took 60 % of a first load; nameless ones it only counts.
fn values(rows: usize, columns: usize) -> String {
    let row = format!("({}), ", vec!["?"; columns].join(", "));
    let mut rows = row.repeat(rows);
    rows.truncate(rows.len().saturating_sub(2));
    rows
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

/// What a person has of their own in a column.
enum OwnValue<'u> {
    Number(Option<i64>),
    Bytes(Option<&'u [u8]>),
    Text(Option<&'u str>),
}

/// A column in which each person has a value of their own.
struct OwnColumn {
    name: &'static str,
    /// Only a directory gives it.
    of_directory: bool,
    value: for<'u> fn(&'u StagedUser) -> OwnValue<'u>,
}

const fn own(name: &'static str, value: for<'u> fn(&'u StagedUser) -> OwnValue<'u>) -> OwnColumn {
    OwnColumn {
        name,
        of_directory: false,
        value,
    }
}

const fn own_of_directory(
    name: &'static str,
    value: for<'u> fn(&'u StagedUser) -> OwnValue<'u>,
) -> OwnColumn {
    OwnColumn {
        name,
        of_directory: true,
        value,
    }
}

/// What each person has of their own beside the place in the plan. A value that mostly is another's stands behind that one.
const OWN: [OwnColumn; 13] = [
    own("id", |s| OwnValue::Bytes(Some(s.user.id.0.as_bytes()))),
    own_of_directory("directory_id", |s| {
        OwnValue::Bytes(s.user.directory_id.as_ref().map(|id| id.0.as_slice()))
    }),
    own_of_directory("entry_uuid", |s| {
        OwnValue::Bytes(s.user.entry_uuid.as_ref().map(|id| id.0.as_slice()))
    }),
    own("username", |s| OwnValue::Text(Some(&s.user.username))),
    own("username_key", |s| {
        OwnValue::Text(Some(s.user.username_key.as_str()).filter(|key| !key.is_empty()))
    }),
    own("display_name", |s| {
        OwnValue::Text(s.user.display_name.as_deref())
    }),
    own("email", |s| OwnValue::Text(s.user.email.as_deref())),
    own_of_directory("dn", |s| OwnValue::Text(s.user.dn.as_deref())),
    own_of_directory("container", |s| OwnValue::Text(s.container.as_deref())),
    own("phone", |s| {
        OwnValue::Text(s.user.phone.as_ref().map(Phone::as_str))
    }),
    own("phone_raw", |s| OwnValue::Text(s.user.phone_raw.as_deref())),
    own_of_directory("phone_rule", |s| {
        OwnValue::Text(s.user.phone_rule.as_deref())
    }),
    own_of_directory("fingerprint", |s| {
        OwnValue::Number(s.user.fingerprint.map(u64::cast_signed))
    }),
];

/// The values of many people, one behind the other, handed over as one. A text by itself costs several allocations here and in SQLite;
/// a number that says where it stands costs none.
#[derive(Default)]
struct Packed {
    bytes: Vec<u8>,
    /// Where the last value begins.
    last: usize,
}

impl Packed {
    /// Adds a value; gives where it begins, from 1, above its length in 32 bits.
    fn add(&mut self, value: &[u8]) -> i64 {
        if self.bytes.get(self.last..) != Some(value) {
            self.last = self.bytes.len();
            self.bytes.extend_from_slice(value);
        }
        // SQLite takes no value of a gigabyte: what is longer is refused by its length.
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        number(self.last).saturating_add(1) << 32 | number(value.len())
    }
}

/// Whether somebody has nothing that comes from a directory.
fn by_hand(staged: &StagedUser) -> bool {
    let user = &staged.user;
    user.directory_id.is_none()
        && user.entry_uuid.is_none()
        && user.dn.is_none()
        && staged.container.is_none()
        && user.phone_rule.is_none()
        && user.fingerprint.is_none()
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

    /// Inserts people whom this describes. `into` names a table and its columns of run and place.
    async fn insert(
        &self,
        connection: &mut SqliteConnection,
        run: RunId,
        into: InsertTarget<'_>,
        users: &[&StagedUser],
    ) -> Result<(), StoreError> {
        /// Placeholders before those of [`OWN`] values.
        const SHARED: usize = 9;
        let own: Vec<&OwnColumn> = OWN
            .iter()
            .filter(|column| self.of_directory || !column.of_directory)
            .collect();
        let columns = own.len() + 1;
        // All values together come last. The driver goes by the number of this one placeholder, and SQLite by where it stands.
        let packed = SHARED + users.len() * columns + 1;
        let mut names = String::new();
        let mut expressions = String::new();
        let (mut phone, mut has_phone) = (String::new(), String::new());
        for (n, column) in own.iter().enumerate() {
            let place = format!("column{}", n + 2);
            let bytes = format!("substr(${packed}, {place} >> 32, {place} & 4294967295)");
            let expression = match (column.value)(users[0]) {
                OwnValue::Number(_) => place.clone(),
                OwnValue::Bytes(_) => bytes,
                OwnValue::Text(_) => format!("CAST({bytes} AS TEXT)"),
            };
            names.push_str(", ");
            names.push_str(column.name);
            expressions.push_str(", ");
            expressions.push_str(&expression);
            if column.name == "phone" {
                (phone, has_phone) = (expression, format!("{place} IS NOT NULL"));
            }
        }
        // What is not named has its default in either table.
        let sql = format!(
            "INSERT OR FAIL INTO {} ({}, realm, two_factor, created_at, updated_at, phone_attribute, phone_source, phone_provisioned, origin, state, version,
                 {}{names})
             SELECT ?, ?, ?, ?, ?, CASE WHEN {has_phone} THEN ? END, CASE WHEN {has_phone} THEN ? END, CASE WHEN ? THEN {phone} END, ?,
                 'active', 1, column1{expressions} FROM (VALUES {})",
            into.table,
            into.run,
            into.seq,
            values(users.len(), columns)
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
        let mut all = Packed::default();
        for staged in users {
            query = query.bind(staged.seq);
            for column in &own {
                query = query.bind(match (column.value)(staged) {
                    OwnValue::Number(number) => number,
                    OwnValue::Bytes(bytes) => bytes.map(|bytes| all.add(bytes)),
                    OwnValue::Text(text) => text.map(|text| all.add(text.as_bytes())),
                });
            }
        }
        query
            .bind(all.bytes)
            .execute(connection)
            .await
            .map(|_| ())
            .map_err(StoreError::from_sqlx("stage users"))
    }
}

/// Puts the users that are made together with those like them; gives the others too.
fn groups<'a>(
    users: impl Iterator<Item = &'a StagedUser>,
) -> (
    Vec<(SharedColumns, Vec<&'a StagedUser>)>,
    Vec<&'a StagedUser>,
) {
    let mut groups: Vec<(SharedColumns, Vec<&StagedUser>)> = vec![];
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
    users: &[StagedUser],
) -> Result<(), StoreError> {
    const STAGED: InsertTarget<'_> = InsertTarget {
        table: "staged_users",
        run: "run",
        seq: "seq",
    };
    let (made, mut others): (Vec<_>, Vec<_>) = users
        .iter()
        .partition(|s| s.base_version == 0 && s.intents.is_empty());
    let (groups, unlike) = groups(made.into_iter());
    others.extend(unlike);
    for (alike, group) in &groups {
        for users in group.chunks(MADE_ROWS) {
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
    users: &[StagedUser],
) -> Result<(), StoreError> {
    let into = InsertTarget {
        table,
        run: "made_by",
        seq: "made_seq",
    };
    let (groups, others) = groups(users.iter());
    for (alike, group) in &groups {
        for users in group.chunks(MADE_ROWS) {
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
