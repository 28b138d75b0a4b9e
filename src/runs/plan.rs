//! The plan under construction: counts and hash as it grows, rows staged in small batches.

use std::collections::HashSet;

use serde_json::{Map, Value};
use tokio::task::JoinSet;

use super::Lines;
use crate::clock::Timestamp;
use crate::model::message_rules::count_said;
use crate::model::{
    Change, ChangeKind, IdForm, Origin, RealmId, RealmRow, Run, RunId, StateReason,
};
use crate::plan::brake::{Counts, PlanHash};
use crate::plan::decide::{Decision, Draft};
use crate::plan::rejected::Rejected;
use crate::store::{Staged, StagedUser, Store, StoreError};

/// Users staged in one small transaction. Large enough that the commit's cost is spread, small enough that what is under way takes
/// little memory.
const BATCH: usize = 500;

/// Fewer where their texts are longer than this, in bytes.
const BATCH_TEXT: usize = 2 * 1024 * 1024;

/// Batches on their way into the store at once: while PostgreSQL waits for the network to end one, it reads the next. (Without
/// TCP_NODELAY, which the driver does not set, the end of a COPY waits up to 40 ms for an acknowledgement.)
const STAGING: usize = 4;

/// A plan that grows.
#[derive(Debug)]
pub(crate) struct PlanBuilder {
    run: RunId,
    realm: RealmId,
    by: Option<String>,
    now: Timestamp,
    first_pass: bool,
    /// Where rows go, under the run's id: the store, or one of a dry run's own.
    store: Store,
    /// New users of whom nothing is said go into a table of the run's own.
    aside: bool,
    /// Batches on their way into the store.
    staging: JoinSet<Result<(), StoreError>>,
    /// Users staged in one transaction.
    batch: usize,
    users: Vec<StagedUser>,
    /// Bytes of what may be long in them.
    text: usize,
    changes: Vec<Change>,
    /// The last place given, 1 for the first.
    seq: i64,
    /// Rows for new users, and for others.
    rows: (i64, i64),
    last_container: Option<(String, Option<String>)>,
    /// Changes of each kind.
    pub counts: Counts,
    /// Over all changes.
    pub hash: PlanHash,
    /// Messages that the plan will cause.
    pub messages: i64,
    /// Those of them about people of whom the brake counts no change: no other limit stops them.
    pub uncounted: i64,
    /// Users of whom only the reason changes, to or from `disabled`: their name is free now or taken again, and they age or do not.
    pub reasons: i64,
    /// Users that differ only in what is not told (a raw value, a fingerprint).
    pub silent: i64,
    /// What is rejected for now.
    pub rejected: Rejected,
    /// Users who are left out for that.
    pub left_out: HashSet<Origin>,
}

impl PlanBuilder {
    /// An empty plan, staged in this store.
    pub fn new(
        run: RunId,
        realm: RealmId,
        by: Option<String>,
        now: Timestamp,
        first_pass: bool,
        store: Store,
    ) -> Self {
        Self {
            run,
            realm,
            by,
            now,
            first_pass,
            store,
            aside: false,
            staging: JoinSet::new(),
            batch: BATCH,
            users: vec![],
            text: 0,
            changes: vec![],
            seq: 0,
            rows: (0, 0),
            last_container: None,
            counts: Counts::default(),
            hash: PlanHash::default(),
            messages: 0,
            uncounted: 0,
            reasons: 0,
            silent: 0,
            rejected: Rejected::default(),
            left_out: HashSet::new(),
        }
    }

    /// Lets a first load of an empty store be written once; see [`Store::lay_aside`].
    pub async fn lay_aside(&mut self) -> Result<(), StoreError> {
        if self.first_pass {
            self.aside = self.store.lay_aside(self.run).await?;
        }
        Ok(())
    }

    /// Stages so many users in one transaction, where there is the memory for it: what begins and ends one costs PostgreSQL as much as
    /// 500 users.
    pub fn in_batches_of(&mut self, batch: usize) {
        self.batch = batch;
    }

    /// The plan will be held, and so lies among the others.
    pub async fn put_in_line(&mut self) -> Result<(), StoreError> {
        self.flush().await?;
        if std::mem::take(&mut self.aside) {
            self.store.put_in_line(self.run).await?;
        }
        Ok(())
    }

    /// Whether nothing was applied to the realm yet. Then the making of users needs no line of its own: a first plan stages the
    /// users, and their lines are made of them.
    pub fn first(&self) -> bool {
        self.first_pass
    }

    /// Learns what plans of the realm leave out for now. `store` has the realm, which the store of a dry plan has not.
    pub async fn learn_rejected(
        &mut self,
        store: &Store,
        row: &RealmRow,
    ) -> Result<(), StoreError> {
        if row.left_out_until.is_none() {
            return Ok(());
        }
        let (changes, until) = store.rejected_changes(&row.id, self.now).await?;
        self.rejected = Rejected {
            changes: changes.into_iter().collect(),
            until,
        };
        Ok(())
    }

    /// How it lies in the store.
    pub fn lies(&self) -> Staged {
        let (made, changed) = self.rows;
        Staged {
            aside: self.aside,
            changed: Some(changed),
            made,
        }
    }

    /// Where it is staged.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whose plan it is.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Adds a decision; stages what has gathered when it is a batch.
    pub async fn add(&mut self, decision: Decision) -> Result<(), StoreError> {
        self.gather(decision);
        self.hand_over_full().await
    }

    /// Stages what has gathered when it is a batch.
    pub async fn hand_over_full(&mut self) -> Result<(), StoreError> {
        if self.users.len() >= self.batch || self.text >= BATCH_TEXT {
            self.hand_over().await?;
        }
        Ok(())
    }

    /// Adds a decision, of which [`Self::hand_over_full`] is told next. By itself, since a decision that waits is copied several times.
    pub fn gather(&mut self, decision: Decision) {
        if self.rejected.leaves_out(&decision) {
            // Nothing is remembered of them, so that each pass looks at them anew.
            let who = decision.after.origin();
            self.left_out.insert(who);
            return;
        }
        if !self.left_out.is_empty() {
            let who = decision.after.origin();
            self.left_out.remove(&who);
        }
        let Decision {
            base_version,
            after,
            changes,
            intents,
        } = decision;
        if changes.is_empty() {
            self.silent += 1;
        }
        let messages = count_said(&intents);
        self.messages += messages;
        if uncounted(changes.iter().map(|c| (c.kind, &c.after))) {
            self.uncounted += messages;
        }
        if changes.is_empty() && messages > 0 {
            self.hash.add_said(after.origin(), messages);
        }
        // The first line of a user has the user's own place.
        self.seq += 1;
        let seq = self.seq;
        let mut place = seq;
        for Draft {
            kind,
            before,
            after: is,
        } in changes
        {
            self.counts.add(kind);
            self.reasons += i64::from(other_standing(kind, &before, &is));
            if kind == ChangeKind::Created {
                self.hash.add_created(&after);
                if self.first() {
                    continue;
                }
            } else {
                self.hash.add(after.origin(), kind, &before, &is);
            }
            let username = (!after.username.is_empty()).then(|| after.username.clone());
            self.changes.push(Change {
                run: Some(self.run),
                seq: place,
                realm: self.realm.clone(),
                user: after.id,
                username,
                by: self.by.clone(),
                kind,
                before,
                after: is,
                at: self.now,
            });
            self.seq = place;
            place += 1;
        }
        if base_version == 0 {
            self.rows.0 += 1;
        } else {
            self.rows.1 += 1;
        }
        let container = after.dn.as_deref().and_then(|dn| self.container(dn));
        self.text += [&after.display_name, &after.note, &after.dn]
            .into_iter()
            .flatten()
            .map(String::len)
            .sum::<usize>();
        self.users.push(StagedUser {
            seq,
            base_version,
            user: after,
            container,
            intents,
        });
    }

    /// The folded parent of a DN. Neighbours mostly have the same one, so the last is kept.
    fn container(&mut self, dn: &str) -> Option<String> {
        let parent = dn.split_once(',').map(|(_, parent)| parent);
        // An escape or a quotation may hide where the first name ends; then it is read properly.
        let plain = parent.filter(|_| !dn.contains(['\\', '"']));
        if let (Some(parent), Some((last, folded))) = (plain, &self.last_container)
            && parent == last
        {
            return folded.clone();
        }
        let folded = crate::model::dn::container(dn);
        self.last_container = plain.map(|parent| (parent.to_owned(), folded.clone()));
        folded
    }

    /// Hands over what has gathered: it is staged on a task of its own while the next gathers. Each row has its place, so it does not matter which batch is in first.
    async fn hand_over(&mut self) -> Result<(), StoreError> {
        if self.users.is_empty() {
            return Ok(());
        }
        // After a whole batch comes another one.
        let whole = self.users.len() >= self.batch;
        let room = if whole { self.batch } else { 0 };
        self.text = 0;
        let users = std::mem::replace(&mut self.users, Vec::with_capacity(room));
        let changes = std::mem::take(&mut self.changes);
        let (store, run) = (self.store.clone(), self.run);
        let made_silently = |s: &StagedUser| s.base_version == 0 && s.intents.is_empty();
        let (made, others): (Vec<_>, Vec<_>) = if !self.aside {
            (vec![], users)
        } else if users.iter().all(made_silently) {
            (users, vec![])
        } else {
            users.into_iter().partition(made_silently)
        };
        while self.staging.len() >= STAGING {
            self.one_staged().await?;
        }
        self.staging.spawn(async move {
            crate::failpoint::hit("stage.before");
            if !made.is_empty() {
                store.stage_aside(run, made).await?;
            }
            if !others.is_empty() {
                store.stage(run, others, &changes).await?;
            }
            crate::failpoint::hit("stage.after");
            Ok(())
        });
        Ok(())
    }

    /// Waits for one of the batches that are being staged.
    async fn one_staged(&mut self) -> Result<(), StoreError> {
        match self.staging.join_next().await {
            None => Ok(()),
            Some(Ok(staged)) => staged,
            Some(Err(error)) => Err(StoreError::Nonsense(format!(
                "staging ended unasked: {error}"
            ))),
        }
    }

    /// Stages what has gathered, and waits for it.
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        self.hand_over().await?;
        while !self.staging.is_empty() {
            self.one_staged().await?;
        }
        Ok(())
    }

    /// What is staged about these people.
    pub async fn staged(&mut self, whom: &[Origin]) -> Result<Vec<StagedUser>, StoreError> {
        self.flush().await?;
        let mut users = self.store.staged_of(self.run, whom).await?;
        if self.aside {
            users.extend(self.store.aside_of(self.run, whom).await?);
        }
        Ok(users)
    }

    /// Takes back what was decided about these people.
    pub async fn take_back(&mut self, whom: &[Origin]) -> Result<(), StoreError> {
        self.flush().await?;
        let (mut users, changes) = self.store.unstage(self.run, whom).await?;
        if self.aside {
            users.extend(self.store.unstage_aside(self.run, whom).await?);
        }
        self.uncount(&users, &changes);
        Ok(())
    }

    /// Counts and hash are as if these had never been added.
    fn uncount(&mut self, users: &[StagedUser], changes: &[Change]) {
        for staged in users {
            let messages = count_said(&staged.intents);
            let of_user = || changes.iter().filter(|c| c.user == staged.user.id);
            self.messages -= messages;
            // The making of a user may have no line of its own.
            let made = staged.base_version == 0;
            if made {
                self.rows.0 -= 1;
            } else {
                self.rows.1 -= 1;
            }
            if !made && uncounted(of_user().map(|c| (c.kind, &c.after))) {
                self.uncounted -= messages;
            }
            if !made && messages > 0 && of_user().next().is_none() {
                let who = staged.user.origin();
                self.hash.take_back_said(who, messages);
            }
            if staged.base_version == 0 {
                self.counts.take_back(ChangeKind::Created);
                self.hash.take_back_created(&staged.user);
            } else if !changes.iter().any(|c| c.user == staged.user.id) {
                self.silent -= 1;
            }
        }
        for change in changes.iter().filter(|c| c.kind != ChangeKind::Created) {
            let who = users
                .iter()
                .find(|u| u.user.id == change.user)
                .map(|u| u.user.origin());
            if let Some(who) = who {
                self.counts.take_back(change.kind);
                self.reasons -=
                    i64::from(other_standing(change.kind, &change.before, &change.after));
                self.hash
                    .take_back(who, change.kind, &change.before, &change.after);
            }
        }
    }

    /// The lines of a plan that is only looked at; `form` is how the directory prints its ids.
    pub fn into_lines(self, run: &Run, form: IdForm) -> Lines {
        Lines::of_dry(self.store, run.clone(), self.first_pass.then_some(form))
    }

    /// Whether it changes nobody and says nothing.
    pub fn is_empty(&self, delivers: bool) -> bool {
        self.counts.is_empty() && (self.messages == 0 || !delivers)
    }

    /// How much an administrator decides about: changes, or where there are none messages.
    pub fn decisions(&self) -> i64 {
        let changes: i64 = ChangeKind::ALL.iter().map(|k| self.counts.of(*k)).sum();
        if changes > 0 { changes } else { self.messages }
    }

    /// The counters of a run are those of its plan; without a delivery nothing is ever said.
    pub fn count_in(&self, run: &mut Run, delivers: bool) {
        let n = |kind| self.counts.of(kind);
        run.created = n(ChangeKind::Created);
        run.updated = n(ChangeKind::Updated);
        run.renamed = n(ChangeKind::Renamed);
        run.phone_changed = n(ChangeKind::PhoneChanged);
        run.phone_lost = n(ChangeKind::PhoneLost);
        run.suspended = n(ChangeKind::Suspended);
        run.restored = n(ChangeKind::Restored);
        run.removed = n(ChangeKind::Removed);
        run.moved = n(ChangeKind::Moved);
        run.left_out = i64::try_from(self.left_out.len()).unwrap_or(i64::MAX);
        run.left_out_until = self.rejected.until.filter(|_| run.left_out > 0);
        run.jobs = if delivers { self.messages } else { 0 };
    }

    /// How often the plan changes somebody's name, state or phone, or makes somebody: what a changed mapping must not do unseen.
    pub fn touched(&self) -> i64 {
        let told = ChangeKind::ALL
            .iter()
            .filter(|k| **k != ChangeKind::Updated)
            .map(|k| self.counts.of(*k));
        told.sum::<i64>() + self.reasons
    }
}

/// Whether the brake counts none of a user's changes. A number that waited was counted when it began to.
fn uncounted<'a>(mut changes: impl Iterator<Item = (ChangeKind, &'a Map<String, Value>)>) -> bool {
    changes.all(|(kind, after)| kind == ChangeKind::Updated && !after.contains_key("phone"))
}

/// Whether a line `updated` makes somebody `disabled` of somebody who is gone, or the other way round.
fn other_standing(
    kind: ChangeKind,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) -> bool {
    let disabled = |side: &Map<String, Value>| {
        side.get("state_reason").and_then(Value::as_str) == Some(StateReason::Disabled.as_str())
    };
    kind == ChangeKind::Updated && disabled(before) != disabled(after)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{DirectoryId, Intent, JobReason, JobType};
    use crate::store::outbox_tests::{START, user};

    /// A decision about a held user who is sent the application, with one line of a kind, or none.
    fn decision(n: u8, line: Option<(ChangeKind, &str)>) -> Decision {
        let mut after = user(&format!("u{n}"), "+421905123456");
        after.directory_id = Some(DirectoryId([n; 16]));
        let draft = |(kind, field): (ChangeKind, &str)| Draft {
            kind,
            before: Map::new(),
            after: Map::from_iter([(field.to_owned(), json!("x"))]),
        };
        Decision {
            base_version: 1,
            after,
            changes: line.map(draft).into_iter().collect(),
            intents: vec![Intent::Say {
                r#type: JobType::Provision,
                reason: JobReason::Created,
                previous_phone: None,
                previous_username: None,
            }],
        }
    }

    #[tokio::test]
    async fn messages_that_no_change_explains_are_counted_and_taken_back() {
        let run = RunId(uuid::Uuid::from_u128(1));
        let store = Store::scratch().await.unwrap();
        let mut plan = PlanBuilder::new(run, RealmId::from("r"), None, START, false, store);
        let empty = plan.hash.hex();
        plan.add(decision(1, None)).await.unwrap();
        assert!(plan.counts.is_empty() && !plan.is_empty(true) && plan.is_empty(false));
        let one = plan.hash.hex();
        assert_ne!(one, empty, "another plan than none");
        for (n, line) in [
            (2, (ChangeKind::Updated, "email")),
            // A number that waited was counted when it began to, and the others are counted now.
            (3, (ChangeKind::Updated, "phone")),
            (4, (ChangeKind::PhoneChanged, "phone")),
            (5, (ChangeKind::Restored, "state")),
        ] {
            plan.add(decision(n, Some(line))).await.unwrap();
        }
        assert_eq!((plan.messages, plan.uncounted), (5, 2));
        let of = |n| Origin::Directory(DirectoryId([n; 16]));
        let whom: Vec<Origin> = (2..=5).map(of).collect();
        plan.take_back(&whom).await.unwrap();
        assert_eq!((plan.messages, plan.uncounted, plan.silent), (1, 1, 1));
        assert_eq!(plan.hash.hex(), one);
        plan.take_back(&[of(1)]).await.unwrap();
        assert_eq!((plan.messages, plan.uncounted, plan.silent), (0, 0, 0));
        assert!(plan.is_empty(true) && plan.hash.hex() == empty);
    }
}
