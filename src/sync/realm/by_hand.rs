//! What administrators do to single users goes by the rules of the realm, and users of no directory age by a timer.

use std::borrow::Cow;

use crate::clock::Timestamp;
use crate::config::{
    Attributes, BrakeConfig, DeliveryConfig, DirectoryKind, PhoneConfig, RealmConfig,
};
use crate::model::{
    AuditAct, AuditEntry, Change, Edit, Field, IdForm, JobReason, NumberMark, Policy, RealmId,
    RealmKind, RealmRow, State, User, UserId,
};
use crate::plan::by_hand::end_override;
use crate::plan::decide::{Decision, DecisionContext, remove};
use crate::runs::{RunError, uuid_v7};
use crate::store::{AuditKey, AuditNote, HandAct, MessageContext, NumberRuling, StoreError};
use crate::sync::engine::Engine;

/// Users whose grace is ended in one go, in each realm.
const BATCH: i64 = 500;

/// The clock of a realm without passes goes on by at most this at once.
const AT_ONCE: i64 = 86_400_000;

/// By which rules single users of a realm are changed.
#[derive(Debug)]
pub struct HandRules {
    /// The realm as the store has it.
    pub row: RealmRow,
    /// Its rules: those of the file, or the defaults.
    pub policy: Policy,
    /// ISO 3166-1: the country of national numbers.
    pub region: Option<String>,
    /// How messages are made.
    pub messages: MessageContext,
    /// What lines of the audit are written under.
    pub key: AuditKey,
}

/// What the configuration says of a realm, or what holds where it says nothing.
pub(in crate::sync) struct RealmRules<'a> {
    pub policy: Cow<'a, Policy>,
    pub phone: Cow<'a, PhoneConfig>,
    pub brake: Cow<'a, BrakeConfig>,
    /// An administrator decides about every plan.
    pub approve: bool,
    pub delivery: Option<&'a DeliveryConfig>,
    /// Earlier applications go at once when the number changes.
    pub revoke_at_once: bool,
}

/// Who does something to a user, and what it is called.
#[derive(Clone, Copy, Debug)]
pub struct HandAuthor<'a> {
    /// Who; `None`: a timer.
    pub by: Option<&'a str>,
    /// From where.
    pub from: &'a str,
    /// What.
    pub act: AuditAct,
}

impl HandRules {
    /// What a decision about a user depends on.
    pub fn context(&self, now: Timestamp, new_id: UserId) -> DecisionContext<'_> {
        DecisionContext {
            realm: &self.row.id,
            policy: &self.policy,
            now,
            realm_clock: self.row.clock_ms,
            id_form: self.row.id_form.unwrap_or(IdForm::Uuid),
            new_id,
            bare: false,
            adopts: false,
            number: NumberMark::default(),
            protected: false,
        }
    }
}

impl Engine {
    /// A line of the audit with the key that it is written under; `None`: nobody asked.
    pub async fn note(&self, entry: Option<AuditEntry>) -> Result<Option<AuditNote>, RunError> {
        Ok(match entry {
            Some(entry) => Some(AuditNote {
                entry,
                key: self.audit_key().await?,
            }),
            None => None,
        })
    }

    /// Notes with which configuration this daemon works, and says in the audit if that is another one than before.
    pub async fn note_configuration(&self, act: AuditAct) -> Result<(), RunError> {
        let from = if act == AuditAct::ConfigReload {
            "signal"
        } else {
            "start"
        };
        let path = self.config.path.display().to_string();
        let daemon = self.store.process_name();
        let host = daemon.rsplit_once(':').map_or(daemon, |(host, _)| host);
        let entry = AuditEntry::new(act, None, from, self.clock.now())
            .is("config", path.as_str())
            .is("daemon", daemon);
        let place = format!("{host} {path}");
        let mut keys = self.audit_keys().await?;
        // The last line may have been written with another one.
        if let Some(current) = keys.first_mut() {
            *current = self.audit_key().await?;
        }
        let settings = self.config.digest.settings();
        Ok(self
            .store
            .note_configuration(&place, settings, &keys, &entry)
            .await?)
    }

    /// The id of a user who is made now.
    pub fn new_user_id(&self) -> UserId {
        UserId(uuid_v7(self.clock.now()))
    }

    /// The configuration of a realm, if it is in the file.
    pub fn configured(&self, realm: &RealmId) -> Option<&RealmConfig> {
        self.config.realms.iter().find(|r| r.id == *realm)
    }

    /// The rules of a realm.
    ///
    /// # Errors
    /// `not-found`; `refused` where the realm's file is another daemon's, or nobody's any more.
    pub async fn hand_rules(&self, realm: &RealmId) -> Result<HandRules, RunError> {
        let row = self.row(realm).await?;
        if self.configured(realm).is_none() && row.kind == RealmKind::Directory {
            return Err(RunError::Refused(format!(
                "realm `{realm}` is filled from a directory, and is not in {}: put it back into the file, or use the file that it is in",
                self.config.path.display()
            )));
        }
        self.rules_of(row).await
    }

    /// The rules by which the users of a realm are removed with it, also where it is orphaned.
    ///
    /// # Errors
    /// `not-found`.
    pub async fn rules_of_removal(&self, realm: &RealmId) -> Result<HandRules, RunError> {
        self.rules_of(self.row(realm).await?).await
    }

    async fn rules_of(&self, row: RealmRow) -> Result<HandRules, RunError> {
        let now = self.clock.now();
        let rules = self.rules_in_force(&row);
        Ok(HandRules {
            messages: self
                .messages_by(rules.delivery, rules.revoke_at_once, now)
                .await?,
            key: self.audit_key().await?,
            policy: rules.policy.into_owned(),
            region: rules.phone.into_owned().region,
            row,
        })
    }

    /// What the configuration says of a realm; a realm that was made by hand has the defaults, and `[delivery]`.
    ///
    /// # Errors
    /// `not-found` of a directory's realm that is not in the file.
    pub(in crate::sync) fn realm_rules(&self, row: &RealmRow) -> Result<RealmRules<'_>, RunError> {
        if row.kind == RealmKind::Directory {
            self.realm_config(&row.id)?;
        }
        Ok(self.rules_in_force(row))
    }

    /// The same, also of a realm whose directory is nobody's any more.
    fn rules_in_force(&self, row: &RealmRow) -> RealmRules<'_> {
        if let Some(realm) = self.configured(&row.id) {
            return RealmRules {
                policy: Cow::Borrowed(&realm.policy),
                phone: Cow::Borrowed(&realm.phone),
                brake: Cow::Borrowed(&realm.brake),
                approve: realm.approve,
                delivery: realm.delivery.as_ref(),
                revoke_at_once: realm.revoke_at_once,
            };
        }
        RealmRules {
            policy: Cow::Owned(Policy {
                two_factor: row.settings.two_factor.clone(),
                ..Policy::default()
            }),
            phone: Cow::Owned(PhoneConfig {
                region: row.settings.region.clone(),
                mobile_only: true,
                allow_premium: false,
            }),
            brake: Cow::Owned(BrakeConfig::default()),
            approve: false,
            delivery: self.config.delivery.as_ref(),
            revoke_at_once: false,
        }
    }

    /// By which attribute of which server the directory says what a field of a user is, in brackets.
    pub fn owner(&self, held: &User, field: Field) -> String {
        let Some(realm) = self.configured(&held.realm) else {
            return format!(" of realm `{}`", held.realm);
        };
        let servers: Vec<String> = realm
            .directory
            .servers
            .iter()
            .map(ToString::to_string)
            .collect();
        let servers = servers.join(" or ");
        let kind = realm.directory.kind.unwrap_or(DirectoryKind::Generic);
        let mapped = Attributes::for_kind(kind, &realm.attributes);
        let names = match field {
            Field::Username => mapped.username,
            Field::DisplayName => mapped.display_name,
            Field::Email => mapped.email,
            Field::Phone => held
                .phone_attribute
                .clone()
                .map_or(mapped.phone, |own| vec![own]),
            _ => vec![],
        };
        match names.as_slice() {
            [] => format!(" ({servers})"),
            [name] => format!(" (attribute `{name}` on {servers})"),
            several => format!(
                " (the first of the attributes {} on {servers})",
                several
                    .iter()
                    .map(|name| format!("`{name}`"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }
    }

    /// Writes a decision about one user, with its line of the audit.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the user is another by now.
    pub async fn write_by_hand(
        &self,
        rules: &HandRules,
        author: HandAuthor<'_>,
        decision: Decision,
        until: Edit<Option<Timestamp>>,
    ) -> Result<User, StoreError> {
        self.write_with(rules, author, decision, until, None).await
    }

    /// Writes a decision about a number that somebody objects to, with its line of the audit. The errors are the same.
    pub async fn write_ruling(
        &self,
        rules: &HandRules,
        author: HandAuthor<'_>,
        decision: Decision,
        ruling: &NumberRuling,
    ) -> Result<User, StoreError> {
        self.write_with(rules, author, decision, Edit::Keep, Some(ruling))
            .await
    }

    async fn write_with(
        &self,
        rules: &HandRules,
        author: HandAuthor<'_>,
        decision: Decision,
        until: Edit<Option<Timestamp>>,
        ruling: Option<&NumberRuling>,
    ) -> Result<User, StoreError> {
        let now = rules.messages.now;
        let user = decision.after;
        let username = (user.state != State::Removed).then(|| user.username.clone());
        let (mut before, mut after) = (serde_json::Map::new(), serde_json::Map::new());
        for draft in &decision.changes {
            before.extend(draft.before.clone());
            after.extend(draft.after.clone());
        }
        if !until.keeps() {
            // Whose lines are erased has none any more.
            let there = self.store.overrides(&[user.id]).await?;
            let was = there.get(&user.id).and_then(|number| number.until);
            let is = match until {
                Edit::Set(until) => until,
                Edit::Keep | Edit::Clear => None,
            };
            if was != is && user.state != State::Removed {
                before.insert("phone_until".to_owned(), serde_json::json!(was));
                after.insert("phone_until".to_owned(), serde_json::json!(is));
            }
        }
        let frozen = match ruling {
            Some(NumberRuling::Begins(_)) => Some(true),
            Some(NumberRuling::EndsRefused | NumberRuling::EndsAccepted) => Some(false),
            Some(NumberRuling::Refuses(_)) | None => None,
        };
        if let Some(frozen) = frozen {
            before.insert("frozen".to_owned(), serde_json::json!(!frozen));
            after.insert("frozen".to_owned(), serde_json::json!(frozen));
        }
        let changes: Vec<Change> = decision
            .changes
            .into_iter()
            .map(|draft| Change {
                run: None,
                seq: 0,
                realm: user.realm.clone(),
                user: user.id,
                username: username.clone(),
                by: author.by.map(str::to_owned),
                kind: draft.kind,
                before: draft.before,
                after: draft.after,
                at: now,
            })
            .collect();
        let entry = AuditEntry {
            at: now,
            by: author.by.map(str::to_owned),
            from: author.from.to_owned(),
            act: author.act,
            realm: Some(user.realm.clone()),
            user: Some(user.id),
            username,
            run: None,
            before,
            after,
        };
        let act = HandAct {
            changes: &changes,
            user: &user,
            base_version: decision.base_version,
            intents: &decision.intents,
            messages: &rules.messages,
            until,
            audit: (&entry, &rules.key),
        };
        match ruling {
            Some(ruling) => self.store.write_ruling(act, ruling).await?,
            None => self.store.act_by_hand(act).await?,
        }
        Ok(user)
    }

    /// Ends numbers by hand that stand no longer; says how many. Called by a timer of the daemon.
    pub async fn end_overrides(&self) -> Result<u64, RunError> {
        let now = self.clock.now();
        let mut ended = 0;
        for user in self.store.overrides_over(now, BATCH).await? {
            let rules = match self.hand_rules(&user.realm).await {
                Ok(rules) => rules,
                // The realm's file is another daemon's, which knows its rules.
                Err(RunError::Refused(_) | RunError::NotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            let author = HandAuthor {
                by: None,
                from: "timer",
                act: AuditAct::UserEdit,
            };
            let decision = end_override(&user, &rules.context(now, user.id));
            let decision = decision.unwrap_or_else(|| as_it_is(&user, now));
            match self
                .write_by_hand(&rules, author, decision, Edit::Clear)
                .await
            {
                Ok(_) => ended += 1,
                Err(StoreError::Conflict(_) | StoreError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(ended)
    }

    /// Removes users of no directory whose grace is over; says how many. Called by a timer of the daemon.
    pub async fn end_graces(&self) -> Result<u64, RunError> {
        let now = self.clock.now();
        self.store.advance_clocks(now, AT_ONCE).await?;
        let mut removed = 0;
        for row in self.store.realms().await? {
            let configured = self.configured(&row.id);
            let not_ours = row.kind == RealmKind::Directory && configured.is_none();
            if not_ours || row.orphaned || row.is_paused(now) {
                continue;
            }
            let grace = configured.map_or(Policy::default().grace_ms, |r| r.policy.grace_ms);
            let over = self
                .store
                .grace_over_by_hand(&row.id, row.clock_ms, grace, BATCH)
                .await?;
            if over.is_empty() {
                continue;
            }
            let rules = match self.hand_rules(&row.id).await {
                Ok(rules) => rules,
                // Removed or orphaned since it was read.
                Err(RunError::Refused(_) | RunError::NotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            let author = HandAuthor {
                by: None,
                from: "timer",
                act: AuditAct::UserRemove,
            };
            for user in over {
                let context = rules.context(now, user.id);
                let Some(decision) = remove(&user, JobReason::GraceOver, &context) else {
                    continue;
                };
                match self
                    .write_by_hand(&rules, author, decision, Edit::Keep)
                    .await
                {
                    Ok(_) => removed += 1,
                    // Changed or gone meanwhile: the next tick looks again.
                    Err(StoreError::Conflict(_) | StoreError::Refused(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(removed)
    }
}

/// A decision that leaves a user's row as it is: only until when the number stands is another, which is a new version all the same.
pub fn as_it_is(user: &User, now: Timestamp) -> Decision {
    Decision {
        base_version: user.version,
        after: User {
            version: user.version + 1,
            updated_at: now,
            ..user.clone()
        },
        changes: vec![],
        intents: vec![],
    }
}
