//! What came of a pass.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::losses::Losses;
use super::refusals::Refusals;
use super::same_person::same_person;
use super::setting::Setting;
use crate::model::{
    DirectoryId, NumberMark, Origin, Person, Refusal, Run, StateReason, User, UserId,
};
use crate::plan::decide::{Decision, DecisionContext, NameGrant, Observation, decide};
use crate::plan::phone::is_to_be_asked;
use crate::plan::stranger::decide_stranger;
use crate::runs::weigh::Users;
use crate::runs::{Ascending, PlanBuilder, RunFailure};
use crate::store::RefusedDiff;

/// What came of a pass.
pub(in crate::sync) struct Found {
    pub plan: PlanBuilder,
    /// Entries that were read.
    pub(super) seen: i64,
    /// Containers of which everybody was found nowhere: (container, how many).
    pub(super) gone_containers: Vec<(String, i64)>,
    pub(super) refusals: Refusals,
    /// Users by hand who get the entry of their name since their realm is a directory's by now.
    pub(super) matched: HashSet<UserId>,
    /// Users of the realm that were not removed, before the pass; 0: not counted.
    pub(super) users_before: i64,
    /// Of a delta: who loses something. Nobody waits for that in another pass.
    losses: Option<Losses>,
    /// Users who are frozen, or have a number that is refused; `None`: not read yet.
    marks: Option<HashMap<UserId, NumberMark>>,
    /// People of whom the directory says that they are not protected (`phone-change.protect`).
    pub(super) unprotected: HashSet<DirectoryId>,
    /// Of users that are made.
    ids: Ascending,
}

impl Found {
    /// Nothing came of it yet. `plan` is empty, `refusals` too.
    pub(super) fn new(plan: PlanBuilder, refusals: Refusals, setting: &Setting<'_>) -> Self {
        Self {
            plan,
            seen: 0,
            gone_containers: vec![],
            refusals,
            matched: HashSet::new(),
            users_before: 0,
            losses: None,
            marks: None,
            unprotected: HashSet::new(),
            ids: Ascending::new(setting.now),
        }
    }

    /// It is a delta's, which keeps apart who loses something.
    pub(super) fn of_delta(&mut self) {
        self.losses = Some(Losses::default());
    }

    /// It is one person's: what is refused stays as it is in the realm.
    pub(super) fn keep_no_refusals(&mut self) {
        self.refusals.unkept = true;
    }

    /// The realm's users that are not removed; for a delta only as many as the brake must know of.
    pub(in crate::sync) fn users(&self) -> Users {
        match self.users_before {
            1.. => Users::Known(self.users_before),
            _ if self.losses.is_some() => Users::AsNeeded,
            _ => Users::Counted,
        }
    }

    /// Entries that could be used; not more than 0: nobody.
    pub(super) fn usable(&self) -> i64 {
        self.seen - self.refusals.entries
    }

    /// Counts in a run what was read and refused. (Changes are counted by the plan.)
    pub(in crate::sync) fn count_in(&self, run: &mut Run) {
        run.seen = self.seen;
        run.refused_entries = self.refusals.entries;
        run.refused_phones = self.refusals.phones;
    }

    /// Who must wait until losses are weighed; empty: nobody would lose anything, or it is no delta.
    pub(in crate::sync) fn losing(&self) -> BTreeSet<DirectoryId> {
        self.losses.as_ref().map(Losses::wait).unwrap_or_default()
    }

    /// What the next decision is made by, with an id for whom it makes.
    pub(super) fn context<'s>(&self, setting: &'s Setting<'_>) -> DecisionContext<'s> {
        DecisionContext {
            realm: setting.id(),
            policy: &setting.policy,
            now: setting.now,
            realm_clock: setting.clock_ms,
            id_form: setting.id_form,
            new_id: UserId(self.ids.next()),
            bare: self.plan.first(),
            adopts: false,
            number: NumberMark::default(),
            protected: false,
        }
    }

    /// The same for somebody who is there, held as this user.
    pub(super) async fn context_of<'s>(
        &mut self,
        setting: &'s Setting<'_>,
        user: &User,
        id: DirectoryId,
    ) -> Result<DecisionContext<'s>, RunFailure> {
        Ok(DecisionContext {
            number: self.mark(setting, user.id).await?,
            protected: setting.policy.protect.is_some() && !self.unprotected.contains(&id),
            ..self.context(setting)
        })
    }

    /// Adds a decision to the plan.
    pub(super) async fn add(&mut self, decision: Decision) -> Result<(), RunFailure> {
        if let Some(losses) = &mut self.losses {
            losses.note(&decision);
        }
        Ok(self.plan.add(decision).await?)
    }

    /// Decides about somebody who is there, held as this user or new, and notes what is refused of them.
    pub(super) async fn decide_person(
        &mut self,
        setting: &Setting<'_>,
        held: Option<&User>,
        person: Person,
        name: NameGrant,
    ) -> Result<(), RunFailure> {
        let refused = person.refused.clone();
        let decision = self
            .decision(setting, held, Cow::Owned(person), name)
            .await?;
        for refusal in refused {
            self.refuse(refusal);
        }
        if let Some(decision) = decision {
            self.add(decision).await?;
        }
        Ok(())
    }

    /// What is decided about somebody who is there, held as this user or new.
    pub(super) async fn decision(
        &mut self,
        setting: &Setting<'_>,
        held: Option<&User>,
        person: Cow<'_, Person>,
        name: NameGrant,
    ) -> Result<Option<Decision>, RunFailure> {
        let mut context = match held {
            Some(user) => self.context_of(setting, user, person.directory_id).await?,
            None => self.context(setting),
        };
        // Who was made by hand gets the entry of the name, which alone does not say that it is the same person: what the one was sent,
        // and has to prove themselves with, is not the other's.
        let given = held.filter(|user| !user.of_a_directory());
        context.adopts |= given.is_some();
        let stranger = given.is_some_and(|user| !same_person(user, &person));
        Ok(match given {
            Some(given) if stranger => decide_stranger(given, &person, name, &context),
            _ => decide(held, Observation::Here { person, name }, &context),
        })
    }

    /// Whether the directory is to be asked if somebody is protected before another number of theirs is decided about.
    pub(super) async fn is_to_be_asked(
        &mut self,
        setting: &Setting<'_>,
        user: &User,
        person: &Person,
    ) -> Result<bool, RunFailure> {
        if setting.policy.protect.is_none() || self.unprotected.contains(&person.directory_id) {
            return Ok(false);
        }
        let mark = self.mark(setting, user.id).await?;
        Ok(is_to_be_asked(user, &person.phone, &mark, &setting.policy))
    }

    /// What is known of a user's numbers. Read once in a pass: what is decided meanwhile is met when the plan is applied.
    async fn mark(
        &mut self,
        setting: &Setting<'_>,
        user: UserId,
    ) -> Result<NumberMark, RunFailure> {
        let marks = match &mut self.marks {
            Some(marks) => marks,
            none => none.insert(setting.store().number_marks().await?),
        };
        Ok(marks.get(&user).cloned().unwrap_or_default())
    }

    /// Decides about somebody who is not there; `None`: it is not known why.
    pub(super) async fn decide_gone(
        &mut self,
        setting: &Setting<'_>,
        user: &User,
        reason: Option<StateReason>,
    ) -> Result<(), RunFailure> {
        let seen = Observation::Gone(reason);
        match decide(Some(user), seen, &self.context(setting)) {
            Some(decision) => self.add(decision).await,
            None => Ok(()),
        }
    }

    /// Takes decisions and refusals of these people back: they are looked at once more.
    pub(super) async fn take_back(
        &mut self,
        setting: &Setting<'_>,
        ids: Vec<DirectoryId>,
    ) -> Result<(), RunFailure> {
        self.refusals.forget(setting, &self.plan, &ids).await?;
        let whom: Vec<Origin> = ids.into_iter().map(Origin::Directory).collect();
        Ok(self.plan.take_back(&whom).await?)
    }

    /// Whether it was rejected to suspend somebody who is absent.
    pub(super) fn leaves_out_as_gone(&self, setting: &Setting<'_>, user: &User) -> bool {
        if self.plan.rejected.changes.is_empty() {
            return false;
        }
        decide(Some(user), Observation::Gone(None), &self.context(setting))
            .is_some_and(|decision| self.plan.rejected.leaves_out(&decision))
    }

    /// These had a contested name.
    pub(super) fn had_contested(&mut self, people: BTreeSet<DirectoryId>) {
        if let Some(losses) = &mut self.losses {
            losses.contested.extend(people);
        }
    }

    /// Notes something that could not be used.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.refusals.refuse(refusal);
    }

    /// Stages refusals when there is a batch of them. `told`: of a delta, everybody who is looked at.
    pub(super) async fn stage_refusals(
        &mut self,
        setting: &Setting<'_>,
        told: Option<&BTreeSet<DirectoryId>>,
    ) -> Result<(), RunFailure> {
        self.refusals.stage(setting, &self.plan, told).await
    }

    /// What was refused in this pass and not before, and what was refused before and is not any more. `told` as above.
    pub(super) async fn refused_diff(
        &mut self,
        setting: &Setting<'_>,
        told: Option<&BTreeSet<DirectoryId>>,
    ) -> Result<RefusedDiff, RunFailure> {
        self.refusals.diff(setting, &self.plan, told).await
    }
}
