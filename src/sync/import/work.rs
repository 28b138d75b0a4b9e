//! Lines of a file become decisions, some at a time.

use std::collections::{BTreeMap, HashMap};

use super::doubles::{Doubles, hash};
use super::place::Place;
use super::produce::{ReadLine, ReadLines, Said};
use super::spool::{RefusedSpool, spool_failed};
use crate::clock::Timestamp;
use crate::import::noun;
use crate::model::{
    ErrorCode, Field, IdForm, ImportColumn, ImportCounts, ImportedUser, LineFault, NumberMark,
    RefusedLine, StateReason, User, UserId, words,
};
use crate::normalise::same_person_key;
use crate::plan::by_hand::HandRefusal;
use crate::plan::decide::{DecisionContext, Observation, decide};
use crate::plan::imported::{imported, says_nothing_new};
use crate::runs::{Ascending, PlanBuilder, RunFailure};

/// Fewer refused lines than this never stop a file.
const FEW: i64 = 3;

/// Users read at once.
const PAGE: i64 = 1000;

/// What goes on while lines come.
pub(super) struct Work<'p> {
    pub(super) place: &'p Place<'p>,
    pub(super) plan: PlanBuilder,
    pub(super) ids: Ascending,
    pub(super) now: Timestamp,
    /// Who was suspended and may come back, by the hash of the folded name.
    pub(super) away: HashMap<u64, UserId>,
    /// Users who are frozen, or have a number that is refused.
    pub(super) marks: HashMap<UserId, NumberMark>,
    pub(super) refused: &'p mut RefusedSpool,
    pub(super) counts: &'p mut ImportCounts,
    pub(super) by_column: BTreeMap<ImportColumn, i64>,
}

impl Work<'_> {
    /// Decides about some lines.
    pub(super) async fn take(&mut self, batch: ReadLines) -> Result<(), RunFailure> {
        let ReadLines { mut lines, records } = batch;
        self.leave_settled(&mut lines).await?;
        let mut held = self.held(&lines).await?;
        for ReadLine { line, record, says } in lines {
            self.counts.lines += 1;
            let fault = match says {
                Said::Again => {
                    self.counts.unchanged += 1;
                    continue;
                }
                Said::There { marked } => {
                    self.counts.unchanged += 1;
                    self.counts.marked += i64::from(marked);
                    continue;
                }
                Said::Refused(fault) => Some(fault),
                Said::User(user) => {
                    let held = if held.is_empty() {
                        None
                    } else {
                        held.remove(&user.name.key)
                    };
                    let fault = self.decide(held.as_ref(), user);
                    self.plan.hand_over_full().await?;
                    fault
                }
            };
            if let Some(fault) = fault {
                let record = records.get(record).unwrap_or_default().to_owned();
                self.refuse(line, fault, record)?;
            }
        }
        Ok(())
    }

    /// Finds the lines that say of somebody what is there already, where nothing else is open about them: of most files that come
    /// again these are almost all.
    async fn leave_settled(&self, lines: &mut [ReadLine]) -> Result<(), RunFailure> {
        if self.place.users == 0 {
            return Ok(());
        }
        let (store, realm) = (&self.place.engine.store, &self.place.row.id);
        let sends = self.place.rules.policy.send_to_new;
        let settled = store.settled_users(realm, &keys(lines), sends).await?;
        for ReadLine { says, .. } in lines {
            if let Said::User(user) = says
                && let Some(there) = settled.get(&user.name.key)
                && says_nothing_new(there, user)
            {
                *says = Said::There {
                    marked: user.marked,
                };
            }
        }
        Ok(())
    }

    /// The users whom these lines are about, by their folded names.
    async fn held(&self, batch: &[ReadLine]) -> Result<HashMap<String, User>, RunFailure> {
        if self.place.users == 0 {
            return Ok(HashMap::new());
        }
        let keys = keys(batch);
        let store = &self.place.engine.store;
        let present = store.users_by_name(&self.place.row.id, &keys).await?;
        let mut held: HashMap<String, User> = present
            .into_iter()
            .map(|user| (user.username_key.clone(), user))
            .collect();
        let back: Vec<UserId> = keys
            .iter()
            .filter(|key| !held.contains_key(**key))
            .filter_map(|key| self.away.get(&hash(key)).copied())
            .collect();
        if !back.is_empty() {
            for user in store.users_by_id(&back).await? {
                held.insert(user.username_key.clone(), user);
            }
        }
        Ok(held)
    }

    fn context(&self, held: Option<&User>) -> DecisionContext<'_> {
        let place = self.place;
        DecisionContext {
            realm: &place.row.id,
            policy: &place.rules.policy,
            now: self.now,
            realm_clock: place.row.clock_ms,
            id_form: place.row.id_form.unwrap_or(IdForm::Uuid),
            new_id: UserId(self.ids.next()),
            bare: self.plan.first(),
            adopts: false,
            number: held
                .and_then(|user| self.marks.get(&user.id))
                .cloned()
                .unwrap_or_default(),
            protected: false,
        }
    }

    /// Decides about a line; gives why it cannot be used after all.
    fn decide(&mut self, held: Option<&User>, user: ImportedUser) -> Option<LineFault> {
        let marked = user.marked;
        // Only for whoever is there can a line say what it must not.
        let name = held.map(|_| user.name.shown.clone());
        let decision = match imported(held, user, &self.context(held)) {
            Ok(decision) => decision,
            Err(refusal) => {
                return Some(self.owned(held, name.as_deref().unwrap_or_default(), refusal));
            }
        };
        self.counts.marked += i64::from(marked);
        match &decision {
            Some(decision) if decision.base_version == 0 => self.counts.created += 1,
            Some(decision) if !decision.changes.is_empty() => self.counts.updated += 1,
            _ => self.counts.unchanged += 1,
        }
        if let Some(decision) = decision {
            self.plan.gather(decision);
        }
        None
    }

    /// A line that would change what a directory says.
    fn owned(&self, held: Option<&User>, name: &str, refusal: HandRefusal) -> LineFault {
        let objected = match refusal {
            HandRefusal::Frozen => Some(
                "is frozen, since somebody who was told of a change says that it was not theirs: say first which number counts (`realmsync users unfreeze`)",
            ),
            HandRefusal::NumberRefused => Some(
                "does not get this number, which was refused for them: mend the file, or set it by hand if it counts after all (`realmsync users edit --phone`)",
            ),
            _ => None,
        };
        if let Some(why) = objected {
            return LineFault {
                column: Some(ImportColumn::Phone),
                value: None,
                reason: format!("{name} {why}"),
            };
        }
        let field = match refusal {
            HandRefusal::Owned(field) => field,
            HandRefusal::Removed
            | HandRefusal::OfDirectory
            | HandRefusal::Away
            | HandRefusal::Unusable
            | HandRefusal::Frozen
            | HandRefusal::NumberRefused => Field::Username,
        };
        let column = match field {
            Field::Phone => ImportColumn::Phone,
            Field::DisplayName => ImportColumn::DisplayName,
            Field::Email => ImportColumn::Email,
            _ => ImportColumn::Name,
        };
        let owner = held.map_or_else(String::new, |held| self.place.engine.owner(held, field));
        let advice = if field == Field::Phone {
            ", or set `phone-authority = \"local\"` in the realm"
        } else {
            ""
        };
        LineFault {
            column: Some(column),
            value: None,
            reason: format!(
                "the {} of {name} comes from the directory{owner}: change it there{advice}, or leave the cell empty",
                noun(column)
            ),
        }
    }

    fn refuse(&mut self, line: u64, fault: LineFault, record: String) -> Result<(), RunFailure> {
        self.counts.refused += 1;
        if let Some(column) = fault.column {
            *self.by_column.entry(column).or_default() += 1;
        }
        let refused = RefusedLine {
            line,
            column: fault.column,
            value: fault.value,
            reason: fault.reason,
            record,
        };
        self.refused.add(&refused).map_err(|e| spool_failed(&e))
    }

    /// Why nothing of the file is taken although its lines were read.
    pub(super) fn stops(&self) -> Option<RunFailure> {
        let counts = &self.counts;
        let most = self.by_column.iter().max_by_key(|(_, n)| **n);
        if let Some((column, n)) = most
            && *n >= FEW
            && *n * 10 > counts.lines * 3
        {
            return Some(RunFailure::new(
                ErrorCode::Incomplete,
                format!(
                    "{} of {} cannot be used for what stands in the column of the {}: nothing was applied. Look whether the columns are the right ones, or mend the refused lines",
                    n,
                    words::count(counts.lines, "line"),
                    noun(*column)
                ),
            ));
        }
        (counts.refused == counts.lines).then(|| {
            RunFailure::new(
                ErrorCode::Empty,
                match counts.lines {
                    1 => "its only line cannot be used; nothing was applied. Mend it".to_owned(),
                    lines => format!(
                        "none of the {} can be used; nothing was applied. Mend the refused lines",
                        words::count(lines, "line")
                    ),
                },
            )
        })
    }

    /// Suspends who came by an earlier file and is not in this one.
    pub(super) async fn suspend_missing(&mut self, doubles: &Doubles) -> Result<(), RunFailure> {
        let mut after = None;
        loop {
            if self.place.ask.cancel.is_cancelled() {
                return Err(RunFailure::cancelled());
            }
            let store = &self.place.engine.store;
            let users = store
                .present_imported(&self.place.row.id, after, PAGE)
                .await?;
            let Some(last) = users.last() else {
                return Ok(());
            };
            after = Some(last.id);
            for user in &users {
                if doubles.has(&same_person_key(&user.username)) {
                    continue;
                }
                let seen = Observation::Gone(Some(StateReason::OutOfScope));
                if let Some(decision) = decide(Some(user), seen, &self.context(None)) {
                    self.counts.suspended += 1;
                    self.plan.add(decision).await?;
                }
            }
        }
    }
}

/// The folded names of whom lines are about.
fn keys(lines: &[ReadLine]) -> Vec<&str> {
    let users = lines.iter().filter_map(|line| match &line.says {
        Said::User(user) => Some(user.name.key.as_str()),
        Said::There { .. } | Said::Again | Said::Refused(_) => None,
    });
    users.collect()
}
