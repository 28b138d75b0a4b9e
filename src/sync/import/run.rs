//! From a file to a plan, and from there what the frame of a run makes of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::audit::ImportFacts;
use super::doubles::Doubles;
use super::file::ImportFile;
use super::produce::{ReadLine, Said, produce};
use super::spool::{RefusedLines, RefusedSpool};
use crate::clock::Timestamp;
use crate::config::PhoneConfig;
use crate::import::{Charset, ColumnMap, ImportFault, LookAsked, Reading, look, noun};
use crate::model::{
    ErrorCode, Field, IdForm, ImportColumn, ImportCounts, ImportedUser, LineFault, Mode,
    NumberMark, RealmId, RealmRow, RefusedLine, Run, StateReason, Trigger, User, UserId, words,
};
use crate::normalise::{same_person_key, warm_up};
use crate::plan::by_hand::HandRefusal;
use crate::plan::decide::{DecisionContext, Observation, decide};
use crate::plan::imported::imported;
use crate::runs::weigh::{Reason, Users};
use crate::runs::{
    Ascending, Finished, Frame, Lines, PlanBuilder, PlanDisposition, RealmTurn, RunError,
    RunFailure, new_run, window,
};
use crate::store::{RealmUpdate, RunFacts, Store};
use crate::sync::engine::Engine;
use crate::sync::realm::by_hand::RealmRules;
use crate::sync::run_request::Progress;

/// Fewer refused lines than this never stop a file.
const FEW: i64 = 3;

/// Users read at once.
const PAGE: i64 = 1000;

/// What is asked of an import.
#[derive(Clone, Debug)]
pub struct ImportAsk {
    /// The file.
    pub file: ImportFile,
    /// Which of its columns are read; `None`: by its header.
    pub map: Option<ColumnMap>,
    /// In which characters it is; `None`: as it looks.
    pub charset: Option<Charset>,
    /// Users of earlier imports who are not in the file are suspended.
    pub replace: bool,
    /// Only look what would come of it.
    pub dry: bool,
    /// Who asks.
    pub by: Option<String>,
    /// From where, for the audit.
    pub from: &'static str,
    /// Stops it: it commits or rolls back.
    pub cancel: CancellationToken,
    /// Where progress is told.
    pub progress: watch::Sender<Progress>,
}

/// What came of an import.
#[derive(Debug)]
pub struct Imported {
    /// The run.
    pub run: Run,
    /// Lines of the file, as far as it could be read.
    pub total: i64,
    /// What its lines came to.
    pub counts: ImportCounts,
    /// How the file was read, in words.
    pub read_as: Vec<String>,
    /// What could not be used.
    pub refused: RefusedLines,
    /// Of a dry run, what it would change.
    pub lines: Lines,
}

/// What an import depends on beside the file.
struct Place<'a> {
    engine: &'a Engine,
    row: &'a RealmRow,
    rules: &'a RealmRules<'a>,
    ask: &'a ImportAsk,
    reading: Arc<Reading>,
    /// Users of the realm that are not removed.
    users: i64,
}

impl Engine {
    /// Takes a file of users into a realm: read, planned, weighed, and applied in one transaction, or held. The first one into an empty
    /// realm is its baseline.
    ///
    /// # Errors
    /// `invalid` where the file cannot be understood at all: then there is no run. A run that failed is `Ok`.
    pub async fn import(&self, realm: &RealmId, ask: &ImportAsk) -> Result<Imported, RunError> {
        let row = self.row(realm).await?;
        may_import(&row)?;
        if ask.dry {
            self.nothing_waits(realm, false).await?;
        }
        let rules = self.realm_rules(&row)?;
        let reading = Arc::new(read_as(ask, &rules.phone).await?);
        if ask.dry {
            return self.import_into(&row, &rules, ask, reading, None).await;
        }
        let turn = RealmTurn::take(&self.store, realm, self.clock.now()).await?;
        let me = self.within(&turn);
        let row = me.runs().realm_by_now(realm).await?;
        may_import(&row)?;
        me.nothing_waits(realm, true).await?;
        let rules = me.realm_rules(&row)?;
        me.import_into(&row, &rules, ask, reading, Some(&turn))
            .await
    }

    async fn import_into(
        &self,
        row: &RealmRow,
        rules: &RealmRules<'_>,
        ask: &ImportAsk,
        reading: Arc<Reading>,
        turn: Option<&RealmTurn>,
    ) -> Result<Imported, RunError> {
        let now = self.clock.now();
        let users = self.store.not_removed(&row.id).await?;
        // What a pass knows of the realm is no matter of a file: into an empty realm it is the first, into any other it is not.
        let row = RealmRow {
            first_applied_at: (users > 0).then_some(row.first_applied_at.unwrap_or(now)),
            ..row.clone()
        };
        let run = new_run(&row.id, Mode::Import, Trigger::Command, ask.by.clone(), now);
        let ending = if ask.dry {
            PlanDisposition::Dry
        } else {
            PlanDisposition::ByTheBrake
        };
        let mut frame = Frame::new(self.store.clone(), self.clock.clone(), &row, run, ending);
        frame.begin().await?;
        let place = Place {
            engine: self,
            row: &row,
            rules,
            ask,
            reading,
            users,
        };
        let mut refused = RefusedSpool::new(ImportFile::places());
        let mut counts = ImportCounts::default();
        let mut total = 0;
        let work = (&mut total, &mut refused, &mut counts);
        let work = Box::pin(place.read_and_decide(&mut frame, work));
        let done = match turn {
            Some(turn) => turn.work(work).await,
            None => work.await,
        };
        let lines = match done {
            Ok(lines) => lines,
            Err(error) => {
                frame.fail(&error, true).await?;
                Lines::none()
            }
        };
        let refused = refused.lines().map_err(|e| spool_failed(&e))?;
        Ok(Imported {
            run: frame.run,
            total,
            counts,
            read_as: place.reading.said.clone(),
            refused,
            lines,
        })
    }
}

impl Engine {
    /// Refuses a file while the plan of another one, or of what puts one back, waits: nobody would know whose users that one holds.
    /// `expires`: a plan whose time is over is ended first.
    async fn nothing_waits(&self, realm: &RealmId, expires: bool) -> Result<(), RunError> {
        let runs = self.runs();
        let Some(held) = runs.waiting_beside(realm, expires).await? else {
            return Ok(());
        };
        let what = self.store.run(&held.to_string()).await?;
        let what = what.note.map(|note| format!(" ({note})"));
        Err(RunError::Refused(format!(
            "plan {held:#} of realm `{realm}`{} waits for a decision: nothing was read of this file. `realmsync approve {held:#}` or `realmsync reject {held:#}` first, then import it",
            what.unwrap_or_default()
        )))
    }
}

fn may_import(row: &RealmRow) -> Result<(), RunError> {
    let realm = &row.id;
    if row.orphaned {
        return Err(RunError::Refused(format!(
            "realm `{realm}` was taken out of the configuration: put it back, or end it with `realms remove`"
        )));
    }
    if let Some(held) = row.held {
        return Err(RunError::Refused(format!(
            "plan {held:#} of realm `{realm}` waits for a decision: `approve` or `reject` it first"
        )));
    }
    Ok(())
}

fn spool_failed(error: &std::io::Error) -> RunFailure {
    RunFailure::new(
        ErrorCode::Store,
        format!("cannot keep the refused lines in a temporary file: {error}"),
    )
}

fn unfit(file: &ImportFile, fault: &ImportFault) -> RunError {
    RunError::Unfit(format!("{}: {fault}", file.name()))
}

fn broke_off(error: &tokio::task::JoinError) -> RunFailure {
    RunFailure::new(
        ErrorCode::Incomplete,
        format!("reading the file ended unasked: {error}"),
    )
}

/// How the file is read.
async fn read_as(ask: &ImportAsk, phone: &PhoneConfig) -> Result<Reading, RunError> {
    let (file, map, charset) = (ask.file.clone(), ask.map.clone(), ask.charset);
    let region = phone.region.clone();
    let looking = tokio::task::spawn_blocking(move || {
        // Every number is read.
        warm_up(region.as_deref());
        let asked = LookAsked {
            charset,
            map: map.as_ref(),
            region: region.as_deref(),
        };
        look(|| Ok(file.open()), &asked).map_err(|fault| unfit(&file, &fault))
    });
    looking.await.map_err(|e| RunError::from(broke_off(&e)))?
}

/// What goes on while lines come.
struct Work<'p> {
    place: &'p Place<'p>,
    plan: PlanBuilder,
    ids: Ascending,
    now: Timestamp,
    /// Who was suspended and may come back, by the hash of the folded name.
    away: HashMap<u64, UserId>,
    /// Users who are frozen, or have a number that is refused.
    marks: HashMap<UserId, NumberMark>,
    refused: &'p mut RefusedSpool,
    counts: &'p mut ImportCounts,
    by_column: BTreeMap<ImportColumn, i64>,
}

impl Place<'_> {
    async fn read_and_decide(
        &self,
        frame: &mut Frame<'_>,
        (total, refused, counts): (&mut i64, &mut RefusedSpool, &mut ImportCounts),
    ) -> Result<Lines, RunFailure> {
        let doubles = Arc::new(self.doubles().await?);
        *total = i64::try_from(doubles.lines).unwrap_or(i64::MAX);
        let run = &frame.run;
        let store = if self.ask.dry {
            Box::pin(Store::scratch()).await?
        } else {
            self.engine.store.clone()
        };
        let mut plan = PlanBuilder::new(
            run.run,
            self.row.id.clone(),
            self.ask.by.clone(),
            run.started_at,
            self.row.first_applied_at.is_none(),
            store,
        );
        if !self.ask.dry {
            plan.lay_aside().await?;
        }
        let mut work = Work {
            place: self,
            plan,
            ids: Ascending::new(run.started_at),
            now: run.started_at,
            away: self.away().await?,
            marks: self.engine.store.number_marks().await?,
            refused,
            counts,
            by_column: BTreeMap::new(),
        };
        let (to, mut lines) = mpsc::channel(4);
        let reading = self.produce(&doubles, to);
        while let Some(batch) = lines.recv().await {
            if self.ask.cancel.is_cancelled() {
                return Err(RunFailure::cancelled());
            }
            work.take(batch).await?;
            self.ask.progress.send_replace(Progress {
                seen: work.counts.lines.unsigned_abs(),
                expected: doubles.lines,
            });
        }
        let read = reading.await.map_err(|e| broke_off(&e))?;
        let incomplete =
            |fault: ImportFault| RunFailure::new(ErrorCode::Incomplete, fault.to_string());
        read.map_err(incomplete)?;
        if self.ask.cancel.is_cancelled() {
            return Err(RunFailure::cancelled());
        }
        let column_stops = work.stops();
        if column_stops.is_none() && self.ask.replace {
            work.suspend_missing(&doubles).await?;
        }
        work.plan.flush().await?;
        crate::failpoint::hit("import.planned");
        let Work {
            mut plan,
            counts,
            by_column,
            ..
        } = work;
        let run = &mut frame.run;
        run.seen = counts.lines;
        run.refused_entries = counts.refused;
        run.refused_phones = by_column.get(&ImportColumn::Phone).copied().unwrap_or(0);
        let facts = ImportFacts {
            file: self.ask.file.name().to_owned(),
            counts: *counts,
        };
        run.note = Some(facts.note());
        if let Some(why) = column_stops {
            return Err(why);
        }
        let counts = *counts;
        self.finish(frame, &mut plan, &doubles, &counts, &facts)
            .await?;
        Ok(if self.ask.dry {
            let form = self.row.id_form.unwrap_or(IdForm::Uuid);
            plan.into_lines(&frame.run, form)
        } else {
            Lines::none()
        })
    }

    async fn finish(
        &self,
        frame: &mut Frame<'_>,
        plan: &mut PlanBuilder,
        doubles: &Doubles,
        counts: &ImportCounts,
        facts: &ImportFacts,
    ) -> Result<(), RunFailure> {
        let (row, rules, ask) = (self.row, self.rules, self.ask);
        let delivers = rules.delivery.is_some();
        let mut reasons: Vec<Reason> = Reason::messages(plan, &rules.brake, delivers)
            .into_iter()
            .collect();
        // A fifth of the numbers without their beginning: the whole column went through a spreadsheet.
        if counts.marked > 0 && counts.marked * 5 >= counts.lines {
            reasons.push(Reason {
                word: "marked",
                count: counts.marked,
                allowed: (counts.lines - 1) / 5,
            });
        }
        // Who stands in a line without a name is not known to be missing.
        if ask.replace && counts.suspended > 0 && doubles.nameless > 0 {
            reasons.push(Reason {
                word: "nameless",
                count: doubles.nameless,
                allowed: 0,
            });
        }
        if rules.approve {
            reasons.push(Reason::approve(plan));
        }
        let engine = self.engine;
        let now = frame.run.started_at;
        let audit = if ask.dry {
            None
        } else {
            let key = engine.audit_key().await;
            let key = key.map_err(|error| RunFailure::from(&error))?;
            let by = ask.by.as_deref();
            Some((facts.entry(&frame.run, by, ask.from, now), key))
        };
        let first = plan.first();
        let finished = Finished {
            plan,
            brake: &rules.brake,
            users: Users::Known(self.users),
            reasons,
            facts: RunFacts {
                mapping_hash: row.mapping_hash.clone(),
                facts: facts.text(),
                ..RunFacts::default()
            },
            id_form: None,
            remembers: Box::new(move |run| RealmUpdate {
                window_from: first.then(|| window::anew(row, run.decided_at.unwrap_or(now), false)),
                ..RealmUpdate::default()
            }),
            refused: None,
            replaces: None,
            delivers,
            messages: Box::pin(engine.messages_by(rules.delivery, rules.revoke_at_once, now)),
            audit,
        };
        let finished = frame.finish(finished).await;
        finished.map_err(|error| match error {
            RunError::Store(crate::store::StoreError::Conflict(_)) => RunFailure::new(
                ErrorCode::Busy,
                "somebody changed users of the file while it was read: nothing was applied; import it again",
            ),
            error => RunFailure::from(&error),
        })
    }

    /// Who is in the file more than once.
    async fn doubles(&self) -> Result<Doubles, RunFailure> {
        let (file, reading) = (self.ask.file.clone(), Arc::clone(&self.reading));
        let rules = self.rules.phone.clone().into_owned();
        let looking = tokio::task::spawn_blocking(move || {
            let lines = || {
                let mut lines = reading.lines(file.open())?;
                Ok(move || lines.next())
            };
            Doubles::of(lines, &rules)
        });
        let found = looking.await.map_err(|e| broke_off(&e))?;
        found.map_err(|fault| RunFailure::new(ErrorCode::Incomplete, fault.to_string()))
    }

    fn produce(
        &self,
        doubles: &Arc<Doubles>,
        to: mpsc::Sender<Vec<ReadLine>>,
    ) -> JoinHandle<Result<(), ImportFault>> {
        let (file, reading) = (self.ask.file.clone(), Arc::clone(&self.reading));
        let (doubles, rules) = (Arc::clone(doubles), self.rules.phone.clone().into_owned());
        let cancel = self.ask.cancel.clone();
        tokio::task::spawn_blocking(move || {
            produce(&file, &reading, &doubles, &rules, &to, &cancel)
        })
    }

    /// Who was suspended as gone, or by an undo, and is of no directory.
    async fn away(&self) -> Result<HashMap<u64, UserId>, RunFailure> {
        if self.users == 0 {
            return Ok(HashMap::new());
        }
        let away = self.engine.store.suspended_by_hand(&self.row.id).await?;
        Ok(away.into_iter().map(|(key, id)| (hash(&key), id)).collect())
    }
}

fn hash(key: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key.as_bytes())
}

impl Work<'_> {
    /// Decides about some lines.
    async fn take(&mut self, batch: Vec<ReadLine>) -> Result<(), RunFailure> {
        let mut held = self.held(&batch).await?;
        for ReadLine { line, record, says } in batch {
            self.counts.lines += 1;
            let fault = match says {
                Said::Again => {
                    self.counts.unchanged += 1;
                    continue;
                }
                Said::Refused(fault) => Some(fault),
                Said::User(user) => {
                    let held = held.remove(&user.name.key);
                    self.decide(held.as_ref(), user).await?
                }
            };
            if let Some(fault) = fault {
                self.refuse(line, fault, record)?;
            }
        }
        Ok(())
    }

    /// The users whom these lines are about, by their folded names.
    async fn held(&self, batch: &[ReadLine]) -> Result<HashMap<String, User>, RunFailure> {
        if self.place.users == 0 {
            return Ok(HashMap::new());
        }
        let keys: Vec<String> = batch
            .iter()
            .filter_map(|line| match &line.says {
                Said::User(user) => Some(user.name.key.clone()),
                Said::Again | Said::Refused(_) => None,
            })
            .collect();
        let store = &self.place.engine.store;
        let present = store.users_by_name(&self.place.row.id, &keys).await?;
        let mut held: HashMap<String, User> = present
            .into_iter()
            .map(|user| (user.username_key.clone(), user))
            .collect();
        let back: Vec<UserId> = keys
            .iter()
            .filter(|key| !held.contains_key(*key))
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
    async fn decide(
        &mut self,
        held: Option<&User>,
        user: ImportedUser,
    ) -> Result<Option<LineFault>, RunFailure> {
        let marked = user.marked;
        let name = user.name.shown.clone();
        let decision = match imported(held, user, &self.context(held)) {
            Ok(decision) => decision,
            Err(refusal) => return Ok(Some(self.owned(held, &name, refusal))),
        };
        self.counts.marked += i64::from(marked);
        match &decision {
            Some(decision) if decision.base_version == 0 => self.counts.created += 1,
            Some(decision) if !decision.changes.is_empty() => self.counts.updated += 1,
            _ => self.counts.unchanged += 1,
        }
        if let Some(decision) = decision {
            self.plan.add(decision).await?;
        }
        Ok(None)
    }

    /// A line that would change what a directory says.
    fn owned(&self, held: Option<&User>, name: &str, refusal: HandRefusal) -> LineFault {
        let objected = match refusal {
            HandRefusal::Frozen => Some(
                "is frozen, since the former owner of a number says that its change was not theirs: say first which number counts (`realmsync users unfreeze`)",
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
    fn stops(&self) -> Option<RunFailure> {
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
    async fn suspend_missing(&mut self, doubles: &Doubles) -> Result<(), RunFailure> {
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
