//! What a run needs of its realm before anything is read: a session, the mapping of the server's kind, the rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::following::Following;
use super::stale::not_behind;
use super::{Engine, EngineError};
use crate::clock::Timestamp;
use crate::config::{Attributes, DeliveryConfig, DirectoryKind, RealmConfig};
use crate::directory::{
    self, Blind, Cursor, Delta, DirectoryError, NoDelta, Scope, Session, Sighting, Way,
};
use crate::model::{DirectoryId, ErrorCode, Policy, RawEntry, RealmId, RealmRow, Synonyms};
use crate::normalise::{Normaliser, mapping_hash};
pub(super) use crate::runs::RunFailure as PassError;
use crate::store::{EnrolmentContext, EnrolmentKey, MessageContext};

impl From<DirectoryError> for PassError {
    fn from(error: DirectoryError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// A realm ready to be read.
pub(super) struct Prepared {
    /// `None` while a page is being read on its own task.
    pub session: Option<Session>,
    pub scope: Scope,
    pub normaliser: Normaliser,
    pub attributes: Attributes,
    /// What the server's schema calls those that the file names.
    pub synonyms: Synonyms,
    /// Named attributes of which no schema says that they exist, until somebody has a value in them.
    pub unproved: Vec<String>,
    /// With what is due; see [`RealmRow::mapping_hash`].
    pub mapping_hash: String,
    pub policy: Policy,
    /// No step may go on after this.
    pub deadline: Instant,
    /// A server that is behind is taken as it is.
    pub accepts_older: bool,
}

impl Prepared {
    pub(super) fn session(&mut self) -> Result<&mut Session, PassError> {
        self.session.as_mut().ok_or_else(|| {
            PassError::new(
                ErrorCode::Incomplete,
                "the connection ended; nothing was applied",
            )
        })
    }

    /// Gives a session that lives on the end of another run.
    pub(super) fn extend(&mut self, realm: &RealmConfig) -> Result<(), PassError> {
        self.deadline = run_end(realm);
        let deadline = self.deadline;
        self.session()?.extend(deadline);
        Ok(())
    }

    /// Asks anew how far the server is.
    pub(super) async fn look_where_it_is(&mut self) -> Result<(), PassError> {
        Ok(self.session()?.look_where_it_is().await?)
    }

    /// Where these ids are now; a missing one was found nowhere.
    pub(super) async fn look_up(
        &mut self,
        ids: &[DirectoryId],
    ) -> Result<HashMap<DirectoryId, Sighting>, PassError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let scope = self.scope.clone();
        Ok(Box::pin(self.session()?.look_up(&scope, ids)).await?)
    }

    /// The DNs in scope of each of these ids.
    pub(super) async fn places(
        &mut self,
        ids: &[DirectoryId],
    ) -> Result<BTreeMap<DirectoryId, BTreeSet<String>>, PassError> {
        let scope = self.scope.clone();
        Ok(self.session()?.places(&scope, ids).await?)
    }

    /// The ways of hearing of changes that the server offers.
    pub(super) async fn ways(&mut self) -> Result<Vec<Way>, PassError> {
        let scope = self.scope.clone();
        Ok(self.session()?.ways(&scope).await?)
    }

    /// Where the directory is now.
    pub(super) async fn cursor_now(&mut self, way: Way) -> Result<Cursor, NoDelta> {
        match &mut self.session {
            Some(session) => session.cursor_now(&self.scope, way).await,
            None => Err(NoDelta::StartOver("the connection ended".into())),
        }
    }

    /// What a way does not tell.
    pub(super) async fn blind_to(&mut self, way: Way) -> Result<Vec<Blind>, PassError> {
        let scope = self.scope.clone();
        Ok(self.session()?.blind_to(&scope, way).await?)
    }

    /// What changed since a cursor.
    pub(super) async fn changes_since(&mut self, cursor: &Cursor) -> Result<Delta, NoDelta> {
        match &mut self.session {
            Some(session) => {
                let alive = session.liveness();
                let asked = session.changes_since(&self.scope, cursor);
                alive.beside(Box::pin(asked)).await
            }
            None => Err(NoDelta::StartOver("the connection ended".into())),
        }
    }

    /// Entries in scope with this user name.
    pub(super) async fn find_by_name(&mut self, name: &str) -> Result<Vec<RawEntry>, PassError> {
        let (scope, attributes) = (self.scope.clone(), self.attributes.username.clone());
        Ok(self
            .session()?
            .find_by_name(&scope, &attributes, name)
            .await?)
    }

    /// Which directory it is; see [`RealmRow::directory`].
    pub(super) fn directory_key(&self) -> String {
        self.session
            .as_ref()
            .map(Session::directory_key)
            .unwrap_or_default()
    }

    /// What kind of server it is.
    pub(super) fn kind(&self) -> Option<DirectoryKind> {
        self.session.as_ref().map(Session::kind)
    }

    /// The server that answers.
    pub(super) fn server(&self) -> Option<String> {
        self.session.as_ref().map(|s| s.server().to_owned())
    }

    /// Where a server that is taken as it is stands. What others were seen at counts no more: one that was replaced never comes
    /// back, and every later run would fail as stale. `None`: it was not taken so.
    pub(super) fn accepted_state(&self) -> Option<String> {
        let session = self.session.as_ref().filter(|_| self.accepts_older)?;
        serde_json::to_string(session.state()).ok()
    }

    /// What the servers were seen at, this one included, as the store keeps it; `whole`: after everybody was read.
    pub(super) fn seen_state(&self, row: &RealmRow, whole: bool) -> Option<String> {
        if let Some(accepted) = self.accepted_state().filter(|_| whole) {
            return Some(accepted);
        }
        let seen = row
            .seen_state
            .as_deref()
            .and_then(|s| serde_json::from_str(s).ok());
        let state = self.session.as_ref()?.state();
        serde_json::to_string(&state.merged(seen.as_ref())).ok()
    }
}

/// When a run that begins now must have ended.
pub(super) fn run_end(realm: &RealmConfig) -> Instant {
    let run_timeout =
        Duration::from_millis(u64::try_from(realm.directory.run_timeout_ms).unwrap_or(3_600_000));
    Instant::now() + run_timeout
}

/// Connects, decides the kind, and derives the mapping from it.
pub(super) async fn prepare(
    engine: &Engine,
    realm: &RealmConfig,
    row: &RealmRow,
    accept_older: bool,
) -> Result<Prepared, PassError> {
    let deadline = run_end(realm);
    let servers = realm.directory.with_secrets(&engine.env).map_err(|e| {
        PassError::new(
            ErrorCode::Config,
            format!(
                "bind-password of realm `{}`: {}; {}",
                realm.id, e.message, e.help
            ),
        )
    })?;
    let mut session = directory::connect(&servers, &engine.clock, deadline).await?;
    if let (Some(seen), false) = (&row.seen_state, accept_older) {
        let seen = serde_json::from_str(seen).map_err(|e| {
            PassError::new(
                ErrorCode::Store,
                format!("the realm's remembered server state is unreadable: {e}"),
            )
        })?;
        session = Box::pin(not_behind(session, servers, &seen, &engine.clock, deadline)).await?;
    }
    same_kind(&session, realm, row)?;
    let attributes = Attributes::for_kind(session.kind(), &realm.attributes);
    let filter = realm
        .directory
        .filter
        .clone()
        .unwrap_or_else(|| crate::config::default_filter(session.kind()).to_owned());
    let mapping_hash = mapping_hash(&realm.directory.base, &filter, &attributes, &realm.phone);
    let due = what_is_due(realm);
    let key = fingerprint_key(&mapping_hash, &due);
    let mapping_hash = mapping_hash + &due;
    let normaliser = Normaliser::new(&attributes, &realm.phone, key);
    let (synonyms, unproved) = match Following::synonyms_of(row, &mapping_hash) {
        _ if attributes.explicit.is_empty() => (Synonyms::default(), Vec::new()),
        Some(synonyms) => (synonyms, Vec::new()),
        // Where there is no schema, the first full pass of a mapping shows whether the attributes exist.
        None if session.root_dse().subschema.is_none() => {
            (Synonyms::default(), attributes.explicit.clone())
        }
        None => (
            schema_knows(&mut session, realm, &attributes).await?,
            Vec::new(),
        ),
    };
    let normaliser = normaliser.knowing(&synonyms);
    let scope = Scope {
        bases: realm.directory.base.clone(),
        filter,
        attributes: normaliser.requested(),
        id_attribute: normaliser.id_attribute(),
        id_form: attributes.id_form,
        page_size: realm.directory.page_size,
    };
    if let Some(sentinel) = &realm.directory.sentinel {
        check_sentinel(&mut session, sentinel, &scope, &normaliser).await?;
    }
    let policy = Policy {
        phone_attributes: attributes.phone.clone(),
        ..realm.policy.clone()
    };
    Ok(Prepared {
        session: Some(session),
        scope,
        normaliser,
        attributes,
        synonyms,
        unproved,
        mapping_hash,
        policy,
        deadline,
        accepts_older: accept_older,
    })
}

/// What the schema calls the attributes that the file names; one that it does not have is a fault of the file.
async fn schema_knows(
    session: &mut Session,
    realm: &RealmConfig,
    attributes: &Attributes,
) -> Result<Synonyms, PassError> {
    let schema = session.schema().await?;
    let unknown: Vec<&str> = attributes
        .explicit
        .iter()
        .map(String::as_str)
        .filter(|a| !schema.has_attribute(a))
        .collect();
    if !unknown.is_empty() {
        let text = format!(
            "the schema of {} has no attribute {}: mend [realm.attributes] of realm `{}`",
            session.server(),
            unknown.join(", "),
            realm.id
        );
        return Err(PassError::new(ErrorCode::Config, text));
    }
    Ok(schema.synonyms(&attributes.explicit))
}

/// A server that says less of itself than before would be read by other rules, in which nobody is who they were.
fn same_kind(session: &Session, realm: &RealmConfig, row: &RealmRow) -> Result<(), PassError> {
    let now = session.kind();
    match Following::kind_of(row) {
        Some(before) if realm.directory.kind.is_none() && before != now => Err(PassError::new(
            ErrorCode::Incomplete,
            format!(
                "{} says that it is {}, and the last full pass read {}; nothing was applied. Look at what stands between, and whether the account may read the root DSE; if the directory was replaced, name its kind with `kind` under [realm.directory] of realm `{}`",
                session.server(),
                now.named(),
                before.named(),
                realm.id
            ),
        )),
        _ => Ok(()),
    }
}

/// What of the rules decides whose number counts, and which messages are due to whom nothing changes, as words beside the mapping's hash: a switch is looked
/// at whole, in one plan. The rules that most realms have are no words.
fn what_is_due(realm: &RealmConfig) -> String {
    [
        (realm.policy.send_to_new, "+send"),
        (realm.policy.only_provisioned, "+provisioned"),
        (realm.delivery.is_none(), "+undelivered"),
        (realm.policy.local_phones, "+local"),
    ]
    .iter()
    .filter(|(is, _)| *is)
    .map(|(_, word)| *word)
    .collect()
}

/// The key of the fingerprints: of the mapping and of what is due, so that a switch of either looks at everybody.
fn fingerprint_key(mapping: &str, due: &str) -> u64 {
    let key = u64::from_str_radix(mapping.get(..16).unwrap_or_default(), 16).unwrap_or(0);
    if due.is_empty() {
        key
    } else {
        xxhash_rust::xxh3::xxh3_64_with_seed(due.as_bytes(), key)
    }
}

/// The mapping alone, without what is due.
pub(super) fn mapping_of(hash: &str) -> &str {
    hash.split('+').next().unwrap_or(hash)
}

/// The sentinel must be visible and have a readable phone: whatever hides it may hide others.
pub(super) async fn check_sentinel(
    session: &mut Session,
    dn: &str,
    scope: &Scope,
    normaliser: &Normaliser,
) -> Result<(), PassError> {
    use crate::model::PhoneReading;
    let fail = |what: &str| {
        PassError::new(
            ErrorCode::Sentinel,
            format!(
                "the sentinel {dn} {what}; nothing was applied. Look at the access rules of the sync account, or mend `sentinel`"
            ),
        )
    };
    let Some(entry) = session.entry(dn, &scope.attributes).await? else {
        return Err(fail("is not visible"));
    };
    let person = normaliser
        .person(&entry)
        .map_err(|refusal| fail(&format!("cannot be read: {}", refusal.reason)))?;
    let readable = match &person.phone {
        PhoneReading::Unknown => false,
        PhoneReading::Read(attributes) => attributes.iter().any(|a| !a.usable.is_empty()),
    };
    if readable {
        Ok(())
    } else {
        Err(fail("has no readable phone"))
    }
}

impl Engine {
    /// The configuration of a directory realm.
    pub(super) fn realm_config(&self, id: &RealmId) -> Result<&RealmConfig, EngineError> {
        self.config
            .realms
            .iter()
            .find(|r| r.id == *id)
            .ok_or_else(|| {
                let known: Vec<&str> = self.config.realms.iter().map(|r| r.id.as_str()).collect();
                EngineError::NotFound(format!(
                    "there is no realm `{id}` in {}; it has {}",
                    self.config.path.display(),
                    known.join(", ")
                ))
            })
    }

    /// The key of the enrolments' tokens: the configured one (32 bytes in base64), or the store's own.
    pub async fn enrolment_key(&self) -> Result<EnrolmentKey, EngineError> {
        let wrong = |message| EngineError::Failed {
            code: ErrorCode::Config,
            message,
        };
        let configured = self.config.enrolment.key_bytes(&self.env).map_err(wrong)?;
        Ok(self.store.enrolment_key(configured).await?)
    }

    /// What the messages of a realm are made with, as far as it is not the run's matter.
    pub(super) async fn messages(
        &self,
        realm: &RealmConfig,
        now: Timestamp,
    ) -> Result<MessageContext, EngineError> {
        self.messages_by(realm.delivery.as_ref(), now).await
    }

    /// What messages are made with that go out by this delivery.
    pub(super) async fn messages_by(
        &self,
        delivery: Option<&DeliveryConfig>,
        now: Timestamp,
    ) -> Result<MessageContext, EngineError> {
        let enrolment = match &self.config.http {
            Some(http) => Some(EnrolmentContext {
                public_url: http.public_url.clone(),
                valid_ms: self.config.enrolment.valid_ms,
                key: self.enrolment_key().await?,
            }),
            None => None,
        };
        Ok(MessageContext {
            enrolment,
            ..unsent(delivery, now)
        })
    }
}

/// What the messages of a plan would be made with that is only looked at.
pub(super) fn unsent(delivery: Option<&DeliveryConfig>, now: Timestamp) -> MessageContext {
    MessageContext {
        run: None,
        now,
        retry_for_ms: delivery.map_or(0, |d| d.retry_for_ms),
        delivers: delivery.is_some(),
        enrolment: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_part_of_the_key_where_it_is_not_as_in_most_realms() {
        let mapping = "00000000000000ff11";
        assert_eq!(
            fingerprint_key(mapping, ""),
            255,
            "as a store of before has it"
        );
        assert_ne!(fingerprint_key(mapping, "+send"), 255);
        assert_ne!(
            fingerprint_key(mapping, "+send"),
            fingerprint_key(mapping, "+provisioned")
        );
    }
    #[test]
    fn the_mapping_is_known_without_what_is_due() {
        assert_eq!(mapping_of("00ff+send+provisioned"), "00ff");
        // As a store of before knows it.
        assert_eq!(mapping_of("00ff"), "00ff");
    }
}
