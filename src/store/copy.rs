//! Rows as PostgreSQL's COPY reads them, in its text form: five times as fast as statements with a value for each place.

use std::fmt::Write as _;

use sqlx::PgConnection;

use super::StoreError;
use super::answer::answered;
use super::changes::side;
use super::rows::{methods, user_columns};
use super::stage::{StagedUser, intents_text};
use crate::model::{Change, RunId};

/// The text so far; a row is a line, its columns are parted by tabs.
struct Text {
    text: String,
    begun: bool,
}

impl Text {
    fn part(&mut self) {
        if self.begun {
            self.text.push('\t');
        }
        self.begun = true;
    }

    fn end(&mut self) {
        self.text.push('\n');
        self.begun = false;
    }

    /// A text; `None` is null. What has a meaning in the form is escaped.
    fn text(&mut self, value: Option<&str>) {
        self.part();
        let Some(value) = value else {
            self.text.push_str("\\N");
            return;
        };
        let odd = |c: char| matches!(c, '\\' | '\n' | '\r' | '\t' | '\0');
        if !value.contains(odd) {
            return self.text.push_str(value);
        }
        for c in value.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                // No text of PostgreSQL can hold it.
                '\0' => self.text.push(char::REPLACEMENT_CHARACTER),
                c => self.text.push(c),
            }
        }
    }

    fn bytes(&mut self, value: Option<&[u8]>) {
        let Some(value) = value else {
            return self.text(None);
        };
        self.part();
        self.text.push_str("\\\\x");
        for byte in value {
            for digit in [byte >> 4, byte & 15] {
                self.text
                    .push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
        }
    }

    fn int(&mut self, value: Option<i64>) {
        match value {
            None => self.text(None),
            Some(n) => {
                self.part();
                let _infallible = write!(self.text, "{n}");
            }
        }
    }

    fn bool(&mut self, value: bool) {
        self.part();
        self.text.push(if value { 't' } else { 'f' });
    }
}

/// Copies staged users.
pub(super) async fn users(
    connection: &mut PgConnection,
    run: RunId,
    users: &[StagedUser],
) -> Result<(), StoreError> {
    const SQL: &str = concat!(
        "COPY staged_users (run, seq, base_version, intents, ",
        user_columns!(),
        ") FROM STDIN"
    );
    let mut t = Text {
        text: String::with_capacity(users.len() * 512),
        begun: false,
    };
    for staged in users {
        let u = &staged.user;
        t.bytes(Some(run.0.as_bytes()));
        t.int(Some(staged.seq));
        t.int(Some(staged.base_version));
        t.text(intents_text(&staged.intents)?.as_deref());
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
        t.end();
    }
    copy(connection, SQL, t.text).await
}

/// Copies the lines of a plan.
pub(super) async fn changes(
    connection: &mut PgConnection,
    run: RunId,
    changes: &[Change],
) -> Result<(), StoreError> {
    const SQL: &str = "COPY changes (run, seq, realm, user_id, username, by_whom, kind, before, after, at) FROM STDIN";
    let mut t = Text {
        text: String::with_capacity(changes.len() * 256),
        begun: false,
    };
    for change in changes {
        t.bytes(Some(run.0.as_bytes()));
        t.int(Some(change.seq));
        t.text(Some(change.realm.as_str()));
        t.bytes(Some(change.user.0.as_bytes()));
        t.text(change.username.as_deref());
        t.text(change.by.as_deref());
        t.text(Some(change.kind.as_str()));
        t.text(side(&change.before).as_deref());
        t.text(side(&change.after).as_deref());
        t.int(Some(change.at.0));
        t.end();
    }
    copy(connection, SQL, t.text).await
}

async fn copy(
    connection: &mut PgConnection,
    sql: &'static str,
    text: String,
) -> Result<(), StoreError> {
    answered(async {
        let mut sink = connection.copy_in_raw(sql).await?;
        sink.send(text.into_bytes()).await?;
        sink.finish().await
    })
    .await
    .map(|_| ())
    .map_err(StoreError::from_sqlx("copy a plan"))
}
