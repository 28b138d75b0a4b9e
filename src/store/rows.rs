//! Rows and values: the one place where a user's columns are named, and where bytes and words become the model's types.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};
use sqlx::FromRow;
use uuid::Uuid;

use super::StoreError;
use crate::clock::Timestamp;
use crate::model::{DirectoryId, Phone, RealmId, RunId, TwoFactor, User, UserId, UserOrigin};

/// A user's columns, in the order in which [`bind_user!`] binds them. `users` and `staged_users` share them.
macro_rules! user_columns {
    () => {
        "id, realm, directory_id, entry_uuid, username, username_key, display_name, email, dn, container, phone, phone_raw, \
         phone_attribute, phone_rule, phone_source, phone_pending, phone_pending_raw, phone_pending_until, phone_provisioned, \
         phone_told, told, provisioned, state, state_reason, suspended_at, suspended_clock, blocked, version, two_factor, \
         last_used_at, fingerprint, created_at, updated_at, origin, note, phone_pending_source"
    };
}
pub(super) use user_columns;

/// How many columns [`user_columns!`] names.
pub(super) const USER_COLUMNS: usize = 36;

/// The column `origin`: most users come from a directory, which takes no room.
pub(super) fn origin_column(user: &User) -> Option<&'static str> {
    origin_word(user.origin)
}

/// The same of an origin.
pub(super) fn origin_word(origin: UserOrigin) -> Option<&'static str> {
    (origin != UserOrigin::Directory).then(|| origin.as_str())
}

/// Binds a user and their container in the order of [`user_columns!`].
macro_rules! bind_user {
    ($query:expr, $user:expr, $container:expr) => {{
        let user = $user;
        $query
            .bind(user.id.0.as_bytes().to_vec())
            .bind(user.realm.as_str().to_owned())
            .bind(user.directory_id.map(|id| id.0.to_vec()))
            .bind(user.entry_uuid.map(|id| id.0.to_vec()))
            .bind(user.username.clone())
            .bind((!user.username_key.is_empty()).then(|| user.username_key.clone()))
            .bind(user.display_name.clone())
            .bind(user.email.clone())
            .bind(user.dn.clone())
            .bind($container)
            .bind(user.phone.as_ref().map(|p| p.as_str().to_owned()))
            .bind(user.phone_raw.clone())
            .bind(user.phone_attribute.clone())
            .bind(user.phone_rule.clone())
            .bind(user.phone_source.map(|s| s.as_str()))
            .bind(user.phone_pending.as_ref().map(|p| p.as_str().to_owned()))
            .bind(user.phone_pending_raw.clone())
            .bind(user.phone_pending_until.map(|t| t.0))
            .bind(
                user.phone_provisioned
                    .as_ref()
                    .map(|p| p.as_str().to_owned()),
            )
            .bind(user.phone_told.as_ref().map(|p| p.as_str().to_owned()))
            .bind(user.told)
            .bind(user.provisioned)
            .bind(user.state.as_str())
            .bind(user.state_reason.map(|r| r.as_str()))
            .bind(user.suspended_at.map(|t| t.0))
            .bind(user.suspended_clock)
            .bind(user.blocked)
            .bind(user.version)
            .bind($crate::store::rows::methods(&user.two_factor))
            .bind(user.last_used_at.map(|t| t.0))
            .bind(user.fingerprint.map(u64::cast_signed))
            .bind(user.created_at.0)
            .bind(user.updated_at.0)
            .bind($crate::store::rows::origin_column(user))
            .bind(user.note.clone())
            .bind(user.phone_pending_source.map(|s| s.as_str()))
    }};
}
pub(super) use bind_user;

/// A user as either engine gives it.
#[derive(FromRow)]
pub(super) struct UserRow {
    pub(super) id: Vec<u8>,
    realm: String,
    directory_id: Option<Vec<u8>>,
    entry_uuid: Option<Vec<u8>>,
    username: String,
    username_key: Option<String>,
    display_name: Option<String>,
    email: Option<String>,
    dn: Option<String>,
    phone: Option<String>,
    phone_raw: Option<String>,
    phone_attribute: Option<String>,
    phone_rule: Option<String>,
    phone_source: Option<String>,
    phone_pending: Option<String>,
    phone_pending_raw: Option<String>,
    phone_pending_until: Option<i64>,
    phone_provisioned: Option<String>,
    phone_told: Option<String>,
    told: bool,
    provisioned: bool,
    state: String,
    state_reason: Option<String>,
    suspended_at: Option<i64>,
    suspended_clock: Option<i64>,
    blocked: bool,
    version: i64,
    two_factor: String,
    last_used_at: Option<i64>,
    fingerprint: Option<i64>,
    created_at: i64,
    updated_at: i64,
    origin: Option<String>,
    note: Option<String>,
    phone_pending_source: Option<String>,
}

impl TryFrom<UserRow> for User {
    type Error = StoreError;

    fn try_from(row: UserRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: UserId(uuid(&row.id)?),
            realm: RealmId::from(row.realm),
            directory_id: row.directory_id.as_deref().map(directory_id).transpose()?,
            entry_uuid: row.entry_uuid.as_deref().map(directory_id).transpose()?,
            username: row.username,
            username_key: row.username_key.unwrap_or_default(),
            display_name: row.display_name,
            email: row.email,
            dn: row.dn,
            phone: phone(row.phone)?,
            phone_raw: row.phone_raw,
            phone_attribute: row.phone_attribute,
            phone_rule: row.phone_rule,
            phone_source: row.phone_source.as_deref().map(word).transpose()?,
            phone_pending: phone(row.phone_pending)?,
            phone_pending_raw: row.phone_pending_raw,
            phone_pending_until: row.phone_pending_until.map(Timestamp),
            phone_provisioned: phone(row.phone_provisioned)?,
            phone_told: phone(row.phone_told)?,
            told: row.told,
            provisioned: row.provisioned,
            state: word(&row.state)?,
            state_reason: row.state_reason.as_deref().map(word).transpose()?,
            suspended_at: row.suspended_at.map(Timestamp),
            suspended_clock: row.suspended_clock,
            blocked: row.blocked,
            version: row.version,
            two_factor: two_factor(&row.two_factor)?,
            last_used_at: row.last_used_at.map(Timestamp),
            fingerprint: row.fingerprint.map(i64::cast_unsigned),
            created_at: Timestamp(row.created_at),
            updated_at: Timestamp(row.updated_at),
            origin: row
                .origin
                .as_deref()
                .map_or(Ok(UserOrigin::Directory), word)?,
            note: row.note,
            phone_pending_source: row.phone_pending_source.as_deref().map(word).transpose()?,
        })
    }
}

pub(super) fn users(rows: Vec<UserRow>) -> Result<Vec<User>, StoreError> {
    rows.into_iter().map(User::try_from).collect()
}

pub(super) fn methods(two_factor: &[TwoFactor]) -> String {
    let mut words = String::new();
    for method in two_factor {
        if !words.is_empty() {
            words.push(',');
        }
        words.push_str(method.as_str());
    }
    words
}

pub(super) fn two_factor(text: &str) -> Result<Vec<TwoFactor>, StoreError> {
    text.split(',')
        .filter(|w| !w.is_empty())
        .map(word)
        .collect()
}

fn phone(text: Option<String>) -> Result<Option<Phone>, StoreError> {
    text.map(Phone::try_from)
        .transpose()
        .map_err(|why| StoreError::Nonsense(format!("a user's phone: {why}")))
}

/// Sixteen bytes of a row.
pub(super) fn uuid(bytes: &[u8]) -> Result<Uuid, StoreError> {
    Uuid::from_slice(bytes).map_err(|e| StoreError::Nonsense(format!("an id: {e}")))
}

pub(super) fn directory_id(bytes: &[u8]) -> Result<DirectoryId, StoreError> {
    bytes
        .try_into()
        .map(DirectoryId)
        .map_err(|_| StoreError::Nonsense(format!("a directory id of {} bytes", bytes.len())))
}

pub(super) fn run_id(bytes: &[u8]) -> Result<RunId, StoreError> {
    uuid(bytes).map(RunId)
}

/// A run's id as a row has it.
pub(super) fn bytes(run: RunId) -> Vec<u8> {
    run.0.as_bytes().to_vec()
}

/// A word of a row.
pub(super) fn word<T: std::str::FromStr<Err = String>>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(StoreError::Nonsense)
}

/// The rows of a list that can be read. One that a newer program wrote, with a word that this one does not know, must not hide the
/// others: it is left out, and the log says so once.
pub(super) fn readable<R, T: TryFrom<R, Error = StoreError>>(rows: Vec<R>) -> Vec<T> {
    rows.into_iter()
        .filter_map(|row| T::try_from(row).inspect_err(note_unreadable).ok())
        .collect()
}

/// Nothing was done, where a row cannot be read.
pub(super) fn or_left_alone(done: Result<bool, StoreError>) -> Result<bool, StoreError> {
    match done {
        Err(error @ StoreError::Nonsense(_)) => {
            note_unreadable(&error);
            Ok(false)
        }
        done => done,
    }
}

/// Says once that a row is left out.
pub(super) fn note_unreadable(error: &StoreError) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let why = error.to_string();
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    // What is damaged may differ from row to row; a newer program has few words of its own.
    if said.len() < 100 && said.insert(why.clone()) {
        tracing::warn!(
            error = why,
            "rows that this version cannot read are left out of what it shows; a newer version reads them: {why}"
        );
    }
}

/// `$first, $first+1, …`, `n` of them.
pub(super) fn places(first: usize, n: usize) -> String {
    (first..first + n)
        .map(|i| format!("${i}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The JSON of one side of a change; nothing for an empty one.
pub(super) fn side_text(map: &Map<String, Value>) -> Option<String> {
    (!map.is_empty()).then(|| Value::Object(map.clone()).to_string())
}
