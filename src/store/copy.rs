//! Rows as PostgreSQL's COPY reads them, in its binary form (PostgreSQL's manual, COPY, "Binary Format"): five times as fast as
//! statements with a value for each place, and a sixth faster than COPY's text.

use sqlx::PgConnection;

use super::StoreError;
use super::answer::answered;
use super::rows::{USER_COLUMNS, methods, origin_column, side_text};
use super::staged_user::{StagedUser, intents_text};
use crate::model::{Change, DirectoryId, Phone, PhoneSource, RunId, StateReason, TwoFactor};

/// The rows so far.
struct CopyRows {
    bytes: Vec<u8>,
    /// Columns of each row.
    columns: i16,
}

impl CopyRows {
    /// `size`: bytes to make room for.
    fn new(columns: usize, size: usize) -> Self {
        let mut bytes = Vec::with_capacity(size);
        bytes.extend(b"PGCOPY\n\xff\r\n\0");
        // No flags, nothing more in the header.
        bytes.extend([0; 8]);
        Self {
            bytes,
            columns: i16::try_from(columns).unwrap_or(i16::MAX),
        }
    }

    fn row(&mut self) {
        self.bytes.extend(self.columns.to_be_bytes());
    }

    /// A `bytea`; `None` is null.
    fn bytes(&mut self, value: Option<&[u8]>) {
        // A value has at most a gigabyte, and what is longer is refused by its length.
        let length = value.map_or(-1, |v| i32::try_from(v.len()).unwrap_or(i32::MAX));
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend(value.unwrap_or_default());
    }

    fn text(&mut self, value: Option<&str>) {
        match value {
            // No text of PostgreSQL can hold a zero.
            Some(text) if text.contains('\0') => {
                let text = text.replace('\0', "\u{fffd}");
                self.bytes(Some(text.as_bytes()));
            }
            value => self.bytes(value.map(str::as_bytes)),
        }
    }

    fn int(&mut self, value: Option<i64>) {
        self.bytes(
            value
                .map(i64::to_be_bytes)
                .as_ref()
                .map(<[u8; 8]>::as_slice),
        );
    }

    fn bool(&mut self, value: bool) {
        self.bytes(Some(&[u8::from(value)]));
    }

    /// Copies them: `into` names the table and its columns.
    async fn copy(mut self, connection: &mut PgConnection, into: &str) -> Result<(), StoreError> {
        let sql = format!("COPY {into} FROM STDIN (FORMAT binary)");
        self.bytes.extend((-1_i16).to_be_bytes());
        answered(async {
            let mut sink = connection.copy_in_raw(&sql).await?;
            sink.send(self.bytes).await?;
            sink.finish().await
        })
        .await
        .map(|_| ())
        .map_err(StoreError::from_sqlx("copy a plan"))
    }
}

/// What a user has in a column.
enum CopyValue<'u> {
    Bytes(Option<&'u [u8]>),
    Text(Option<&'u str>),
    Int(Option<i64>),
    /// Its default is false.
    Bool(bool),
    Methods(&'u [TwoFactor]),
}

impl CopyValue<'_> {
    /// Whether this is what a column has that is not named.
    fn is_default(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_none(),
            Self::Text(text) => text.is_none(),
            Self::Int(number) => number.is_none(),
            Self::Bool(is) => !is,
            Self::Methods(_) => false,
        }
    }

    fn put(self, rows: &mut CopyRows) {
        match self {
            Self::Bytes(bytes) => rows.bytes(bytes),
            Self::Text(text) => rows.text(text),
            Self::Int(number) => rows.int(number),
            Self::Bool(is) => rows.bool(is),
            Self::Methods([]) => rows.text(Some("")),
            Self::Methods([one]) => rows.text(Some(one.as_str())),
            Self::Methods(several) => rows.text(Some(&methods(several))),
        }
    }
}

/// A column of `users` and `staged_users`.
struct CopyColumn(&'static str, for<'u> fn(&'u StagedUser) -> CopyValue<'u>);

fn number(phone: Option<&Phone>) -> CopyValue<'_> {
    CopyValue::Text(phone.map(Phone::as_str))
}

fn id_of(id: Option<&DirectoryId>) -> CopyValue<'_> {
    CopyValue::Bytes(id.map(|id| id.0.as_slice()))
}

const COLUMNS: [CopyColumn; USER_COLUMNS] = [
    CopyColumn("id", |s| CopyValue::Bytes(Some(s.user.id.0.as_bytes()))),
    CopyColumn("realm", |s| CopyValue::Text(Some(s.user.realm.as_str()))),
    CopyColumn("directory_id", |s| id_of(s.user.directory_id.as_ref())),
    CopyColumn("entry_uuid", |s| id_of(s.user.entry_uuid.as_ref())),
    CopyColumn("username", |s| CopyValue::Text(Some(&s.user.username))),
    CopyColumn("username_key", |s| {
        CopyValue::Text(Some(s.user.username_key.as_str()).filter(|key| !key.is_empty()))
    }),
    CopyColumn("display_name", |s| {
        CopyValue::Text(s.user.display_name.as_deref())
    }),
    CopyColumn("email", |s| CopyValue::Text(s.user.email.as_deref())),
    CopyColumn("dn", |s| CopyValue::Text(s.user.dn.as_deref())),
    CopyColumn("container", |s| CopyValue::Text(s.container.as_deref())),
    CopyColumn("phone", |s| number(s.user.phone.as_ref())),
    CopyColumn("phone_raw", |s| {
        CopyValue::Text(s.user.phone_raw.as_deref())
    }),
    CopyColumn("phone_attribute", |s| {
        CopyValue::Text(s.user.phone_attribute.as_deref())
    }),
    CopyColumn("phone_rule", |s| {
        CopyValue::Text(s.user.phone_rule.as_deref())
    }),
    CopyColumn("phone_source", |s| {
        CopyValue::Text(s.user.phone_source.map(PhoneSource::as_str))
    }),
    CopyColumn("phone_pending", |s| number(s.user.phone_pending.as_ref())),
    CopyColumn("phone_pending_raw", |s| {
        CopyValue::Text(s.user.phone_pending_raw.as_deref())
    }),
    CopyColumn("phone_pending_until", |s| {
        CopyValue::Int(s.user.phone_pending_until.map(|at| at.0))
    }),
    CopyColumn("phone_provisioned", |s| {
        number(s.user.phone_provisioned.as_ref())
    }),
    CopyColumn("phone_told", |s| number(s.user.phone_told.as_ref())),
    CopyColumn("told", |s| CopyValue::Bool(s.user.told)),
    CopyColumn("provisioned", |s| CopyValue::Bool(s.user.provisioned)),
    CopyColumn("state", |s| CopyValue::Text(Some(s.user.state.as_str()))),
    CopyColumn("state_reason", |s| {
        CopyValue::Text(s.user.state_reason.map(StateReason::as_str))
    }),
    CopyColumn("suspended_at", |s| {
        CopyValue::Int(s.user.suspended_at.map(|at| at.0))
    }),
    CopyColumn("suspended_clock", |s| {
        CopyValue::Int(s.user.suspended_clock)
    }),
    CopyColumn("blocked", |s| CopyValue::Bool(s.user.blocked)),
    CopyColumn("version", |s| CopyValue::Int(Some(s.user.version))),
    CopyColumn("two_factor", |s| CopyValue::Methods(&s.user.two_factor)),
    CopyColumn("last_used_at", |s| {
        CopyValue::Int(s.user.last_used_at.map(|at| at.0))
    }),
    CopyColumn("fingerprint", |s| {
        CopyValue::Int(s.user.fingerprint.map(u64::cast_signed))
    }),
    CopyColumn("created_at", |s| CopyValue::Int(Some(s.user.created_at.0))),
    CopyColumn("updated_at", |s| CopyValue::Int(Some(s.user.updated_at.0))),
    CopyColumn("origin", |s| CopyValue::Text(origin_column(&s.user))),
    CopyColumn("note", |s| CopyValue::Text(s.user.note.as_deref())),
    CopyColumn("phone_pending_source", |s| {
        CopyValue::Text(s.user.phone_pending_source.map(PhoneSource::as_str))
    }),
];

/// The columns in which any of these users has anything, and their names: who is made has little in most of them.
fn columns(users: &[StagedUser]) -> (Vec<&'static CopyColumn>, String) {
    let mut used = vec![];
    let mut names = String::new();
    for column in &COLUMNS {
        if users.iter().any(|staged| !(column.1)(staged).is_default()) {
            names.push_str(", ");
            names.push_str(column.0);
            used.push(column);
        }
    }
    (used, names)
}

fn user(t: &mut CopyRows, staged: &StagedUser, columns: &[&CopyColumn]) {
    for column in columns {
        (column.1)(staged).put(t);
    }
}

/// Copies staged users.
pub(super) async fn users(
    connection: &mut PgConnection,
    run: RunId,
    users: &[StagedUser],
) -> Result<(), StoreError> {
    let (columns, names) = columns(users);
    let mut t = CopyRows::new(4 + columns.len(), users.len() * 384);
    for staged in users {
        t.row();
        t.bytes(Some(run.0.as_bytes()));
        t.int(Some(staged.seq));
        t.int(Some(staged.base_version));
        t.text(intents_text(&staged.intents)?.as_deref());
        user(&mut t, staged, &columns);
    }
    let into = format!("staged_users (run, seq, base_version, intents{names})");
    t.copy(connection, &into).await
}

/// Copies users of a first load into its table. Their place in the plan is their key.
pub(super) async fn aside(
    connection: &mut PgConnection,
    run: RunId,
    table: &str,
    users: &[StagedUser],
) -> Result<(), StoreError> {
    let (columns, names) = columns(users);
    let mut t = CopyRows::new(3 + columns.len(), users.len() * 384);
    for staged in users {
        t.row();
        t.int(Some(staged.seq));
        t.int(Some(staged.seq));
        t.bytes(Some(run.0.as_bytes()));
        user(&mut t, staged, &columns);
    }
    let into = format!("{table} (pk, made_seq, made_by{names})");
    t.copy(connection, &into).await
}

/// Copies the lines of a plan.
pub(super) async fn changes(
    connection: &mut PgConnection,
    run: RunId,
    changes: &[Change],
) -> Result<(), StoreError> {
    const INTO: &str =
        "changes (run, seq, realm, user_id, username, by_whom, kind, before, after, at)";
    if changes.is_empty() {
        return Ok(());
    }
    let mut t = CopyRows::new(10, changes.len() * 256);
    for change in changes {
        t.row();
        t.bytes(Some(run.0.as_bytes()));
        t.int(Some(change.seq));
        t.text(Some(change.realm.as_str()));
        t.bytes(Some(change.user.0.as_bytes()));
        t.text(change.username.as_deref());
        t.text(change.by.as_deref());
        t.text(Some(change.kind.as_str()));
        t.text(side_text(&change.before).as_deref());
        t.text(side_text(&change.after).as_deref());
        t.int(Some(change.at.0));
    }
    t.copy(connection, INTO).await
}
