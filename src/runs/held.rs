//! Held plans: which can still be decided, and what an administrator's decision does to them.

use super::{RunError, Runs};
use crate::clock::Timestamp;
use crate::model::{AuditEntry, Mode, Outcome, RealmId, RealmRow, Run, RunId};
use crate::store::{
    Application, AuditKey, AuditNote, MessageContext, RealmUpdate, RunFacts, Staged, Store,
    StoreError,
};

/// What came of a decision on a held plan.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Decided {
    /// The plan's run, applied or rejected; or the new plan that is held instead.
    pub run: Run,
    /// The plan that was named was replaced: directory or store no longer agree with it.
    pub replaced: Option<RunId>,
}

impl Decided {
    /// A decision that replaced nothing.
    pub(crate) fn just(run: Run) -> Self {
        Self {
            run,
            replaced: None,
        }
    }

    /// A run that was made of a held plan. It took its place, unless it confirms that plan or came to nothing.
    pub(crate) fn of_held(held: RunId, run: Run) -> Self {
        let came_to_nothing = matches!(run.outcome, Outcome::Failed | Outcome::Cancelled);
        let replaced = (run.run != held && !came_to_nothing).then_some(held);
        Self { run, replaced }
    }
}

impl Runs {
    /// The realm as the store has it.
    pub(crate) async fn realm(&self, realm: &RealmId) -> Result<RealmRow, RunError> {
        let missing = || {
            RunError::NotFound(format!(
                "the store has no realm `{realm}` yet: run `sync` once without naming a realm, or start the daemon"
            ))
        };
        self.store.realm(realm).await?.ok_or_else(missing)
    }

    /// The same, once what is over has ended: a held plan that nobody decided, and what was rejected for a time. Expects the
    /// realm's turn.
    pub(crate) async fn realm_by_now(&self, realm: &RealmId) -> Result<RealmRow, RunError> {
        let mut row = self.realm(realm).await?;
        if row
            .left_out_until
            .is_some_and(|end| end <= self.clock.now())
        {
            self.end_rejected(std::slice::from_ref(realm)).await?;
            row = self.realm(realm).await?;
        }
        if let Some(held) = row.held
            && self.expire(held).await?
        {
            row = self.realm(realm).await?;
        }
        Ok(row)
    }

    /// A plan that can still be decided, by its id or a part of it that no other has.
    pub(crate) async fn held(&self, typed: &str) -> Result<(Run, RunFacts), RunError> {
        let run = self.store.run(typed).await?;
        let facts = self.store.run_facts(run.run).await?;
        if run.outcome == Outcome::Held {
            if self.expire(run.run).await? {
                return Err(RunError::Refused(format!(
                    "plan {:#} of realm `{}` expired: `sync {}` decides anew",
                    run.run, run.realm, run.realm
                )));
            }
            return Ok((run, facts));
        }
        let instead = match facts.replaced_by {
            Some(successor) => {
                format!("it was replaced by {successor:#}: look at `runs show {successor:#}`")
            }
            None => format!("it is {}", run.outcome),
        };
        Err(RunError::Refused(format!(
            "plan {:#} of realm `{}` is not held: {instead}",
            run.run, run.realm
        )))
    }

    /// The plan of a file, or of what puts one back, that waits beside the passes of a realm; `None` for other modes.
    pub(crate) async fn held_beside(
        &self,
        realm: &RealmId,
        mode: Mode,
    ) -> Result<Option<RunId>, StoreError> {
        if mode != Mode::Import {
            return Ok(None);
        }
        let mut held = self.store.held_beside().await?.into_iter();
        Ok(held.find(|(of, _)| of == realm).map(|(_, run)| run))
    }

    /// The same of a file, while it can still be decided. `expires`: one whose time is over is ended.
    pub(crate) async fn waiting_beside(
        &self,
        realm: &RealmId,
        expires: bool,
    ) -> Result<Option<RunId>, StoreError> {
        let held = self.held_beside(realm, Mode::Import).await?;
        match held {
            Some(held) if expires && self.expire(held).await? => Ok(None),
            held => Ok(held),
        }
    }

    /// Ends a held plan whose seven days are over, also where no daemon does.
    async fn expire(&self, held: RunId) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let over = self.store.expired_held(now).await?;
        let over = over.iter().any(|run| run.run == held);
        if over {
            self.store
                .decide_held(held, Outcome::Expired, None, None, now)
                .await?;
        }
        Ok(over)
    }
}

/// Held plans that nobody decided within their seven days become `expired`.
pub(crate) async fn expire_held(store: &Store, now: Timestamp) -> Result<Vec<Run>, StoreError> {
    let mut expired = Vec::new();
    for held in store.expired_held(now).await? {
        match store
            .decide_held(held.run, Outcome::Expired, None, None, now)
            .await
        {
            Ok(run) => expired.push(run),
            // Decided by somebody in between.
            Err(StoreError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(expired)
}

/// What the audit says of a held plan that is applied.
pub(crate) fn approved(note: Option<AuditNote>, held: &Run) -> Option<AuditNote> {
    note.map(|note| {
        note.about(held.run, &held.realm)
            .was("outcome", Outcome::Held.as_str())
            .is("outcome", Outcome::Applied.as_str())
    })
}

/// Applies a held plan exactly as it was shown; `None`: users changed since it was made. Expects the realm's turn, and that
/// whatever else the plan was made from still says the same.
pub(crate) async fn apply(
    store: &Store,
    (held, facts): (&Run, RunFacts),
    by: Option<&str>,
    now: Timestamp,
    realm: RealmUpdate,
    messages: MessageContext,
    audit: Option<(&AuditEntry, &AuditKey)>,
) -> Result<Option<Run>, StoreError> {
    let approved = Run {
        outcome: Outcome::Applied,
        by: by.map(str::to_owned),
        decided_at: Some(now),
        ..held.clone()
    };
    let messages = MessageContext {
        run: Some(held.run),
        ..messages
    };
    let application = Application {
        run: &approved,
        facts,
        realm,
        refused: None,
        messages: &messages,
        replaces: None,
        staged: Staged::default(),
        audit,
    };
    match Box::pin(store.apply(application)).await {
        Ok(applied) => Ok(Some(applied)),
        Err(StoreError::Conflict(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
