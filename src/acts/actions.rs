//! What is done to many users by a filter, or to those who are named: `POST /api/v1/actions`, and the operations that come of it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::act::{Act, AfterAct};
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use super::send::EnrolmentObject;
use super::user_by_hand::{
    TRIES, UserActed, acted, again, held, methods as in_order, refused, write,
};
use crate::model::words::count;
use crate::model::{
    ActionVerb, AuditAct, AuditEntry, Edit, EnrolmentId, Operation, OperationId, OperationRefusal,
    OperationWork, TwoFactor, User, UserFilter, UserId,
};
use crate::plan::action::act;
use crate::plan::notices::can_be_sent;
use crate::store::{NewOperation, OperationUsers, StoreError};

/// Refusals that are shown with an operation.
const REFUSALS: i64 = 1000;

/// Links in one answer.
const LINKS: i64 = 500;

/// For so long after the end of an operation its links are shown to whoever began it.
const LINKS_SHOWN_MS: i64 = 3_600_000;

/// `POST /api/v1/actions`: what, and to whom. Either users or a filter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionRequest {
    /// What is done.
    pub r#do: ActionVerb,
    /// Of `enable` and `disable`: which methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<TwoFactor>,
    /// Of `remove`: at once, without the grace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub now: bool,
    /// Of `send`: the former application is lost, and is not asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// These.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<UserId>>,
    /// Whoever fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<UserFilter>,
    /// How many users that is: a filter needs it, and another number does nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<i64>,
}

/// Freezes a selection, and has it worked off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartAction {
    /// What.
    pub request: ActionRequest,
}

/// How an operation stands: `GET /api/v1/operations/{id}`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShowOperation {
    /// Which.
    pub operation: OperationId,
}

/// An operation, and to whom it was not done.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OperationShown {
    /// How far it is.
    #[serde(flatten)]
    pub operation: Operation,
    /// The first thousand.
    pub refusals: Vec<OperationRefusal>,
}

/// The links that an operation made, for whoever began it: `GET /api/v1/operations/{id}/enrolments`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShowLinks {
    /// Which operation.
    pub operation: OperationId,
    /// Behind this one.
    pub after: Option<EnrolmentId>,
}

/// Some of the links that an operation made and that are open still.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LinksShown {
    /// The enrolments, with their links.
    pub items: Vec<EnrolmentObject>,
    /// Where the next ones begin.
    pub next: Option<EnrolmentId>,
}

/// Ends an operation after the batch under way; what it did stays: `DELETE /api/v1/operations/{id}`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CancelOperation {
    /// Which.
    pub operation: OperationId,
}

/// Turns methods of one user on or off: `POST /api/v1/users/{user}/two-factor`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SwitchMethods {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub request: SwitchRequest,
}

/// Which methods are turned on or off.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SwitchRequest {
    /// The version that whoever asks has seen; `None`: whatever there is.
    pub version: Option<i64>,
    /// Turned on.
    pub enable: Vec<TwoFactor>,
    /// Turned off.
    pub disable: Vec<TwoFactor>,
}

impl Act for StartAction {
    type Output = Operation;

    async fn act(self, at: &ActContext) -> Result<Operation, ActFailure> {
        let request = self.request;
        let usage = |why: &str| Err(ActFailure::new(FailureKind::Usage, why));
        let wants_methods = matches!(request.r#do, ActionVerb::Enable | ActionVerb::Disable);
        if wants_methods == request.methods.is_empty() {
            return usage("`methods` belong to `enable` and `disable`, which need at least one");
        }
        if request.now && request.r#do != ActionVerb::Remove {
            return usage("`now` belongs to `remove`");
        }
        if request.lost && request.r#do != ActionVerb::Send {
            return usage("`lost` belongs to `send`");
        }
        let users = match (&request.users, &request.filter) {
            (Some(users), None) => OperationUsers::Named(users),
            (None, Some(filter)) if request.expect.is_some() => OperationUsers::Filter(filter),
            (None, Some(_)) => {
                return usage("`expect` is missing: say how many users the filter selects");
            }
            _ => return usage("say whom: either `users` or a `filter`"),
        };
        if let Some(realm) = request.filter.as_ref().and_then(|f| f.realm.as_ref()) {
            at.known(realm).await?;
        }
        let work = OperationWork::Act {
            verb: request.r#do,
            methods: in_order(request.methods.clone()),
            now: request.now,
            lost: request.lost,
        };
        let entry = entry(at, AuditAct::Action, said(&request));
        let key = at.engine.audit_key().await?;
        let operation = at
            .store()
            .begin_operation(NewOperation {
                id: at.engine.new_operation_id(),
                work: &work,
                users,
                expect: request.expect,
                audit: (&entry, &key),
            })
            .await?;
        tracing::info!(
            operation = %operation.id, by = at.by(), from = at.caller.door.as_str(), total = operation.total,
            "{} {}: operation {}", request.r#do, count(operation.total, "user"), operation.id
        );
        Ok(operation)
    }

    fn then(&self) -> AfterAct {
        AfterAct::WorkOff
    }
}

impl Act for ShowOperation {
    type Output = OperationShown;

    async fn act(self, at: &ActContext) -> Result<OperationShown, ActFailure> {
        Ok(OperationShown {
            operation: at.store().operation(self.operation).await?,
            refusals: at
                .store()
                .operation_refusals(self.operation, REFUSALS)
                .await?,
        })
    }
}

impl Act for ShowLinks {
    type Output = LinksShown;

    async fn act(self, at: &ActContext) -> Result<LinksShown, ActFailure> {
        let operation = at.store().operation(self.operation).await?;
        // A link is a secret: it is for whoever had it made, as in the answer to a single call, and not for ever.
        let ended = operation.ended_at.map_or(at.now(), |at| at);
        if operation.by.as_deref() != at.by() || at.now().0 - ended.0 > LINKS_SHOWN_MS {
            return Err(ActFailure::new(
                FailureKind::Refused,
                format!(
                    "the links of operation {:#} are shown to whoever began it, for an hour after its end: `realmsync send` makes new ones",
                    self.operation
                ),
            ));
        }
        let links = at
            .store()
            .operation_links(self.operation, self.after, LINKS)
            .await?;
        let next = links
            .last()
            .filter(|_| i64::try_from(links.len()).is_ok_and(|n| n == LINKS))
            .map(|last| last.id);
        let ids: Vec<UserId> = links.iter().map(|link| link.user).collect();
        let users = at.store().users_by_id(&ids).await?;
        let users: HashMap<UserId, User> = users.into_iter().map(|u| (u.id, u)).collect();
        let enrolments: Vec<_> = links.iter().map(|link| link.id).collect();
        let urls = at.engine.links_of(&enrolments).await?;
        let mut items = vec![];
        for (link, url) in links.iter().zip(urls) {
            let Some(user) = users.get(&link.user) else {
                continue;
            };
            items.push(EnrolmentObject {
                url,
                ..EnrolmentObject::new(link, user, at.now())
            });
        }
        Ok(LinksShown { items, next })
    }
}

impl Act for CancelOperation {
    type Output = Operation;

    async fn act(self, at: &ActContext) -> Result<Operation, ActFailure> {
        let mut after = Map::new();
        after.insert("operation".to_owned(), json!(self.operation));
        let entry = entry(at, AuditAct::ActionCancel, after);
        let key = at.engine.audit_key().await?;
        // There must be one, or nobody learns of a wrong id.
        at.store().operation(self.operation).await?;
        let by = at.by();
        at.store()
            .cancel_operation(self.operation, by, (&entry, &key))
            .await?;
        Ok(at.store().operation(self.operation).await?)
    }

    fn then(&self) -> AfterAct {
        AfterAct::WorkOff
    }
}

impl Act for SwitchMethods {
    type Output = UserActed;

    async fn act(self, at: &ActContext) -> Result<UserActed, ActFailure> {
        let SwitchRequest {
            version,
            enable,
            disable,
        } = self.request;
        let (verb, methods) = match (enable.is_empty(), disable.is_empty()) {
            (false, true) => (ActionVerb::Enable, enable),
            (true, false) => (ActionVerb::Disable, disable),
            _ => {
                return Err(ActFailure::new(
                    FailureKind::Usage,
                    "say which methods: either `enable` or `disable`",
                ));
            }
        };
        for _ in 0..TRIES {
            let held = held(at, self.user, version).await?;
            at.known(&held.realm).await?;
            let rules = at.engine.hand_rules(&held.realm).await?;
            let context = rules.context(rules.messages.now, held.id);
            let decided = act(&held, verb, &methods, false, &context)
                .map_err(|refusal| refused(at, &held, refusal))?;
            let Some(decision) = decided else {
                return switched(at, &held, false, (verb, &methods)).await;
            };
            match write(at, &rules, AuditAct::UserEdit, decision, Edit::Keep).await {
                Ok(user) => return switched(at, &user, true, (verb, &methods)).await,
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(again())
    }

    fn then(&self) -> AfterAct {
        AfterAct::Send
    }
}

/// What came of it, and whether the user can be sent the application now.
async fn switched(
    at: &ActContext,
    user: &User,
    changed: bool,
    (verb, methods): (ActionVerb, &[TwoFactor]),
) -> Result<UserActed, ActFailure> {
    let applications = [TwoFactor::AppOtp, TwoFactor::AppPush];
    let asked = verb == ActionVerb::Enable && methods.iter().any(|m| applications.contains(m));
    let mut sendable = false;
    if asked {
        let known = at
            .store()
            .factor_facts(std::slice::from_ref(user), at.now())
            .await?;
        sendable = known.get(&user.id).is_some_and(|f| can_be_sent(user, f));
    }
    Ok(UserActed {
        sendable,
        ..acted(user, changed, vec![])
    })
}

/// What the audit says of an action: never a list of people.
fn said(request: &ActionRequest) -> Map<String, Value> {
    let mut after = Map::new();
    after.insert("do".to_owned(), json!(request.r#do));
    if !request.methods.is_empty() {
        after.insert("methods".to_owned(), json!(request.methods));
    }
    if request.now {
        after.insert("now".to_owned(), json!(true));
    }
    if request.lost {
        after.insert("lost".to_owned(), json!(true));
    }
    if let Some(filter) = &request.filter {
        // What somebody looked for may be a name, and lines of the audit stay when a person goes.
        let filter = UserFilter {
            search: filter.search.as_ref().map(|_| "…".to_owned()),
            ..filter.clone()
        };
        after.insert("filter".to_owned(), json!(filter));
    }
    after
}

fn entry(at: &ActContext, act: AuditAct, after: Map<String, Value>) -> AuditEntry {
    AuditEntry {
        after,
        ..at.entry(act)
    }
}
