//! `POST /logons`: a protected service reports a logon, and whoever is not known yet is made, where that is wanted.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::act::{Act, AfterAct};
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use super::realm_by_hand::typed_id;
use crate::clock::Timestamp;
use crate::model::logon_name::readings;
use crate::model::person::UserName;
use crate::model::user::words;
use crate::model::{
    ApiToken, AuditAct, AuditEntry, Edit, FactorFacts, RealmId, RealmKind, RealmRow, User,
    UserOrigin,
};
use crate::normalise::{tidied, typed_name};
use crate::plan::by_hand::{NewUser, add};
use crate::plan::notices;
use crate::store::{KeptAnswer, LogonRow, StoreError};
use crate::sync::HandAuthor;
use crate::verification::{AskKey, Named, who_is};

/// How often somebody is looked for anew where another request makes the same user.
const TRIES: usize = 5;

words! {
    /// What kind of thing somebody logs on to.
    ServiceKind {
        /// A computer, by its own accounts.
        Computer = "computer",
        /// A domain.
        Domain = "domain",
        /// A service.
        Service = "service",
    }
}

/// A logon that is reported.
#[derive(Clone, Debug)]
pub struct ReportLogon {
    /// By which service.
    pub token: Arc<ApiToken>,
    /// The name as it was typed.
    pub username: String,
    /// The realm, by its id or another name.
    pub realm: Option<String>,
    /// To what.
    pub service_kind: Option<ServiceKind>,
    /// When; `None`: now.
    pub at: Option<Timestamp>,
    /// With a second factor that the service has seen itself.
    pub second_factor: bool,
    /// By which the same request is known again.
    pub key: Option<AskKey>,
}

/// What a service is told of a logon.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogonAnswer {
    /// Its status: 200, 422 where the key was used for another request, or [`NOBODY`].
    pub status: u16,
    /// Its JSON.
    pub body: String,
    /// Of [`NOBODY`]: whom a directory may know.
    pub look_up: Option<LookUp>,
}

/// The status of an answer where nobody has the name here, and a directory may know them.
pub const NOBODY: u16 = 404;

/// Names that the directory of a realm is to be asked for. `Debug` shows none: they may be passwords.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookUp {
    /// The realm.
    pub realm: RealmId,
    /// The names, as they may be meant.
    pub names: Vec<String>,
}

impl std::fmt::Debug for LookUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LookUp")
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

/// What became of a user who is not there.
enum LogonMade {
    /// The user was made.
    User(Box<User>),
    /// Another request made them.
    ByAnother,
    /// Only a directory makes users of this realm.
    Directory(LookUp),
}

impl Act for ReportLogon {
    type Output = LogonAnswer;

    async fn act(self, at: &ActContext) -> Result<LogonAnswer, ActFailure> {
        let now = at.now();
        for _ in 0..TRIES {
            if let Some(own) = &self.key
                && let Some(kept) = at.store().answer_of(self.token.id, &own.key, now).await?
            {
                return Ok(if kept.body == own.body {
                    LogonAnswer {
                        status: kept.status,
                        body: kept.answer,
                        look_up: None,
                    }
                } else {
                    LogonAnswer {
                        status: 422,
                        body: String::new(),
                        look_up: None,
                    }
                });
            }
            let (user, created) = match self.find(at).await? {
                Some(user) => (user, false),
                None => match self.make(at).await? {
                    LogonMade::User(user) => (*user, true),
                    LogonMade::ByAnother => continue,
                    LogonMade::Directory(asked) => {
                        return Ok(LogonAnswer {
                            status: NOBODY,
                            body: String::new(),
                            look_up: Some(asked),
                        });
                    }
                },
            };
            match self.note(at, &user, created, now).await {
                Err(StoreError::Conflict(_)) => {}
                done => return Ok(done?),
            }
        }
        Err(ActFailure::new(
            FailureKind::Outdated,
            "other requests change the same user again and again: try again",
        ))
    }

    fn then(&self) -> AfterAct {
        AfterAct::Send
    }
}

impl ReportLogon {
    async fn find(&self, at: &ActContext) -> Result<Option<User>, ActFailure> {
        let refused = |kind, why: &str| Err(ActFailure::new(kind, why));
        let named = who_is(
            &at.engine,
            &self.token,
            &self.username,
            self.realm.as_deref(),
        )
        .await?;
        match named {
            Named::User(id) => Ok(at.store().users_by_id(&[id]).await?.into_iter().next()),
            Named::Nobody(_) => Ok(None),
            Named::Several => refused(
                FailureKind::Refused,
                "several people have the name: send the realm",
            ),
            Named::OtherRealm => refused(
                FailureKind::Forbidden,
                "the token may report in another realm only",
            ),
        }
    }

    /// Makes the user, and the realm if it is not there. In a directory's realm nobody is made: the directory is asked.
    async fn make(&self, at: &ActContext) -> Result<LogonMade, ActFailure> {
        let none = |why: String| Err(ActFailure::new(FailureKind::NotFound, why));
        let rows = at.store().realms().await?;
        let called = |name: &str| {
            let folded = name.to_lowercase();
            let own = at.config().realms.iter().find(|realm| {
                realm
                    .aliases
                    .iter()
                    .any(|alias| alias.to_lowercase() == folded)
            });
            let id = own.map_or(folded.clone(), |realm| realm.id.as_str().to_lowercase());
            rows.iter().find(|row| row.id.as_str().to_lowercase() == id)
        };
        // The name and its domain: as sent, or as the name says.
        let split = readings(&tidied(&self.username)).into_iter().skip(1);
        let (domain, name) = match &self.realm {
            Some(realm) => {
                // `EXAMPLE\jan` of the realm EXAMPLE is jan.
                let own = split.into_iter().find(|read| {
                    read.domain.as_deref().is_some_and(|domain| {
                        domain.eq_ignore_ascii_case(realm)
                            || called(domain)
                                .zip(called(realm))
                                .is_some_and(|(a, b)| a.id == b.id)
                    })
                });
                (
                    realm.trim().to_owned(),
                    own.map_or(self.username.clone(), |read| read.name),
                )
            }
            None => match split.last() {
                Some(read) => (read.domain.unwrap_or_default(), read.name),
                None => {
                    return none(
                        "nobody has this name: send the realm to say where they are looked for"
                            .into(),
                    );
                }
            },
        };
        let (realm, kind) = match called(&domain) {
            Some(row) => (row.id.clone(), Some(row.kind)),
            None => (RealmId::from(domain.to_lowercase()), None),
        };
        if kind == Some(RealmKind::Directory) {
            return self.directory(at, realm, &name);
        }
        let logons = &at.config().logons;
        if !logons.automatic {
            return none(
                "nobody has this name, and `[logons] automatic` does not say that logons make users"
                    .into(),
            );
        }
        if !self.token.may_in(&realm) {
            return Err(ActFailure::new(
                FailureKind::Forbidden,
                "the token may make users in another realm only",
            ));
        }
        let name = self::name(&name)?;
        if kind.is_none() {
            typed_id(realm.as_str())
                .map_err(|why| ActFailure::new(FailureKind::Usage, format!("realm: {why}")))?;
        }
        let most = logons.max_new_per_hour;
        let noted = at.now();
        if !at.store().may_make(self.token.id, noted, most).await? {
            // Perhaps another request has made them meanwhile.
            if self.find(at).await?.is_some() {
                return Ok(LogonMade::ByAnother);
            }
            tracing::warn!(
                token = self.token.name,
                most,
                "the token `{}` has made {most} users within an hour by logons, and makes no more: is the service sound?",
                self.token.name
            );
            return Err(ActFailure {
                code: TOO_MANY.to_owned(),
                ..ActFailure::new(
                    FailureKind::Refused,
                    format!(
                        "this token has made {most} users within an hour, which is `max-new-per-hour`"
                    ),
                )
            });
        }
        let made = self.make_in(at, &realm, kind, name).await;
        if !matches!(made, Ok(LogonMade::User(_))) {
            at.store().not_made(self.token.id, noted).await?;
        }
        made
    }

    /// Makes the user in a realm, which is made too if it has no `kind` yet.
    async fn make_in(
        &self,
        at: &ActContext,
        realm: &RealmId,
        kind: Option<RealmKind>,
        name: UserName,
    ) -> Result<LogonMade, ActFailure> {
        if kind.is_none() {
            self.make_realm(at, realm).await?;
        }
        let rules = at.engine.hand_rules(realm).await?;
        let new = NewUser {
            name,
            display_name: None,
            email: None,
            phone: None,
            note: None,
            two_factor: None,
            origin: UserOrigin::Logon,
        };
        let id = at.engine.new_user_id();
        let decision = add(new, &rules.context(rules.messages.now, id));
        let author = HandAuthor {
            by: at.by(),
            from: at.caller.door.as_str(),
            act: AuditAct::UserAdd,
        };
        match at
            .engine
            .write_by_hand(&rules, author, decision, Edit::Keep)
            .await
        {
            Ok(user) => {
                tracing::info!(%realm, user = %user.id, by = at.by(), "{realm}: user {:#} was made by a logon", user.id);
                Ok(LogonMade::User(Box::new(user)))
            }
            Err(StoreError::Conflict(_)) => Ok(LogonMade::ByAnother),
            Err(error) => Err(error.into()),
        }
    }

    /// Whom the directory of a realm is to be asked for.
    fn directory(
        &self,
        at: &ActContext,
        realm: RealmId,
        name: &str,
    ) -> Result<LogonMade, ActFailure> {
        if !self.token.may_in(&realm) {
            return Err(ActFailure::new(
                FailureKind::Forbidden,
                "the token may report in another realm only",
            ));
        }
        if at.engine.configured(&realm).is_none() {
            return Err(ActFailure::new(
                FailureKind::NotFound,
                format!(
                    "realm `{realm}` is filled from a directory, and this daemon's configuration does not have it: nobody new is looked up; ask another daemon, or put the realm back"
                ),
            ));
        }
        let mut names = vec![self::name(name)?.shown];
        // A directory may call people by what looks like a name with its realm.
        if self.username.contains('@') && self.username != name {
            names.push(self::name(&self.username)?.shown);
        }
        Ok(LogonMade::Directory(LookUp { realm, names }))
    }

    async fn make_realm(&self, at: &ActContext, realm: &RealmId) -> Result<(), ActFailure> {
        let row = RealmRow {
            kind: RealmKind::Automatic,
            ..RealmRow::new(realm.clone(), realm.as_str())
        };
        let mut after = Map::new();
        after.insert("name".to_owned(), json!(row.name));
        if let Some(kind) = self.service_kind {
            after.insert("service_kind".to_owned(), json!(kind));
        }
        let entry = AuditEntry {
            at: at.now(),
            by: at.caller.name.clone(),
            from: at.caller.door.as_str().to_owned(),
            act: AuditAct::RealmCreate,
            realm: Some(realm.clone()),
            user: None,
            username: None,
            run: None,
            before: Map::new(),
            after,
        };
        let key = at.engine.audit_key().await?;
        match at.store().make_realm(&row, (&entry, &key)).await {
            // Another request made it a moment ago.
            Err(StoreError::Refused(_)) if at.store().realm(realm).await?.is_some() => Ok(()),
            Ok(()) => {
                tracing::info!(%realm, by = at.by(), "{realm}: made by a logon");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn note(
        &self,
        at: &ActContext,
        user: &User,
        created: bool,
        now: Timestamp,
    ) -> Result<LogonAnswer, StoreError> {
        let store = at.store();
        let known = store.factor_facts(std::slice::from_ref(user), now).await?;
        let mut facts = known.get(&user.id).cloned().unwrap_or_default();
        facts.proved |= self.second_factor;
        let answer = told(user, created, &facts);
        let body = answer.to_string();
        let kept = self.key.as_ref().map(|own| KeptAnswer {
            token: self.token.id,
            key: own.key.clone(),
            body: own.body,
            status: 200,
            answer: body.clone(),
            at: now,
        });
        let logon = LogonRow {
            // A clock of a service that is ahead makes no logon of tomorrow.
            at: self.at.map_or(now, |at| at.min(now)),
            now,
            service: self.token.name.clone(),
            realm: user.realm.clone(),
            user: user.id,
            second_factor: self.second_factor,
        };
        store.note_logon(&logon, kept.as_ref()).await?;
        Ok(LogonAnswer {
            status: 200,
            body,
            look_up: None,
        })
    }
}

/// A name that somebody can have.
fn name(text: &str) -> Result<UserName, ActFailure> {
    typed_name(text).map_err(|why| ActFailure::new(FailureKind::Usage, format!("username: {why}")))
}

/// The code of a failure where a token has made too many users.
pub const TOO_MANY: &str = "too-many";

fn told(user: &User, created: bool, facts: &FactorFacts) -> Value {
    json!({
        "user": user.id,
        "realm": user.realm,
        "created": created,
        "two_factor": user.two_factor,
        "status": notices::status(user, facts),
        "notices": notices::notices(user, facts),
    })
}
