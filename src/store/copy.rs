//! Rows as PostgreSQL's COPY reads them, in its binary form (PostgreSQL's manual, COPY, "Binary Format"): five times as fast as
//! statements with a value for each place, and a sixth faster than COPY's text.

use sqlx::PgConnection;

use super::StoreError;
use super::answer::answered;
use super::rows::{
    MADE_USER_COLUMNS, USER_COLUMNS, is_plain, made_user_columns, methods, origin_column,
    side_text, user_columns,
};
use super::staged_user::{StagedUser, intents_text};
use crate::model::{Change, RunId};

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

/// A user's columns, in the order of [`user_columns!`]; where all are plain, only those of [`made_user_columns!`].
fn user(t: &mut CopyRows, staged: &StagedUser, plain: bool) {
    let u = &staged.user;
    t.bytes(Some(u.id.0.as_bytes()));
    t.text(Some(u.realm.as_str()));
    t.bytes(u.directory_id.as_ref().map(|id| id.0.as_slice()));
    t.bytes(u.entry_uuid.as_ref().map(|id| id.0.as_slice()));
    t.text(Some(&u.username));
    t.text((!u.username_key.is_empty()).then_some(u.username_key.as_str()));
    t.text(u.display_name.as_deref());
    t.text(u.email.as_deref());
    t.text(u.dn.as_deref());
    t.text(staged.container.as_deref());
    t.text(u.phone.as_ref().map(crate::model::Phone::as_str));
    t.text(u.phone_raw.as_deref());
    t.text(u.phone_attribute.as_deref());
    t.text(u.phone_rule.as_deref());
    t.text(u.phone_source.map(crate::model::PhoneSource::as_str));
    t.text(u.phone_pending.as_ref().map(crate::model::Phone::as_str));
    t.text(u.phone_pending_raw.as_deref());
    t.int(u.phone_pending_until.map(|at| at.0));
    t.text(
        u.phone_provisioned
            .as_ref()
            .map(crate::model::Phone::as_str),
    );
    t.text(u.phone_told.as_ref().map(crate::model::Phone::as_str));
    t.bool(u.told);
    t.bool(u.provisioned);
    t.text(Some(u.state.as_str()));
    t.text(u.state_reason.map(crate::model::StateReason::as_str));
    t.int(u.suspended_at.map(|at| at.0));
    t.int(u.suspended_clock);
    t.bool(u.blocked);
    t.int(Some(u.version));
    t.text(Some(&methods(&u.two_factor)));
    t.int(u.last_used_at.map(|at| at.0));
    t.int(u.fingerprint.map(u64::cast_signed));
    t.int(Some(u.created_at.0));
    t.int(Some(u.updated_at.0));
    if !plain {
        t.text(origin_column(u));
        t.text(u.note.as_deref());
        t.text(
            u.phone_pending_source
                .map(crate::model::PhoneSource::as_str),
        );
    }
}

/// Whether the columns that a pass writes say all there is of these users, what they are called, and how many they are.
fn columns(users: &[StagedUser]) -> (bool, &'static str, usize) {
    if users.iter().all(|staged| is_plain(&staged.user)) {
        (true, made_user_columns!(), MADE_USER_COLUMNS)
    } else {
        (false, user_columns!(), USER_COLUMNS)
    }
}

/// Copies staged users.
pub(super) async fn users(
    connection: &mut PgConnection,
    run: RunId,
    users: &[StagedUser],
) -> Result<(), StoreError> {
    let (plain, names, count) = columns(users);
    let mut t = CopyRows::new(4 + count, users.len() * 512);
    for staged in users {
        t.row();
        t.bytes(Some(run.0.as_bytes()));
        t.int(Some(staged.seq));
        t.int(Some(staged.base_version));
        t.text(intents_text(&staged.intents)?.as_deref());
        user(&mut t, staged, plain);
    }
    let into = format!("staged_users (run, seq, base_version, intents, {names})");
    t.copy(connection, &into).await
}

/// Copies users of a first load into its table. Their place in the plan is their key.
pub(super) async fn aside(
    connection: &mut PgConnection,
    run: RunId,
    table: &str,
    users: &[StagedUser],
) -> Result<(), StoreError> {
    let (plain, names, count) = columns(users);
    let mut t = CopyRows::new(3 + count, users.len() * 512);
    for staged in users {
        t.row();
        t.int(Some(staged.seq));
        t.int(Some(staged.seq));
        t.bytes(Some(run.0.as_bytes()));
        user(&mut t, staged, plain);
    }
    let into = format!("{table} (pk, made_seq, made_by, {names})");
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
