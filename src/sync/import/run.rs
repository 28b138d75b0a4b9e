//! From a file to a plan, and from there what the frame of a run makes of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::audit::ImportFacts;
use super::doubles::{Doubles, hash};
use super::file::ImportFile;
use super::place::{ImportAsk, Place};
use super::produce::{ReadLines, produce};
use super::spool::{RefusedLines, RefusedSpool, spool_failed};
use super::work::Work;
use crate::config::PhoneConfig;
use crate::import::{FileLine, ImportFault, LookAsked, Reading, look};
use crate::model::{
    ErrorCode, IdForm, ImportColumn, ImportCounts, Mode, RealmId, RealmRow, Run, Trigger, UserId,
};
use crate::normalise::warm_up;
use crate::runs::weigh::{Reason, Users};
use crate::runs::{
    Ascending, Finished, Frame, Lines, PlanBuilder, PlanDisposition, RealmTurn, RunError,
    RunFailure, new_run, window,
};
use crate::store::{RealmUpdate, RunFacts, Store};
use crate::sync::engine::Engine;
use crate::sync::realm::by_hand::RealmRules;
use crate::sync::run_request::Progress;

/// Users staged at once. Whoever reads a file keeps little else in memory.
const STAGED: usize = 4000;

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
        let reading = read_as(ask, &rules.phone).await?;
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
async fn read_as(ask: &ImportAsk, phone: &PhoneConfig) -> Result<Arc<Reading>, RunError> {
    let (file, map, charset) = (ask.file.clone(), ask.map.clone(), ask.charset);
    let region = phone.region.clone();
    let known = ask.reading.clone();
    let looking = tokio::task::spawn_blocking(move || {
        // Every number is read.
        warm_up(region.as_deref());
        if let Some(reading) = known {
            return Ok(reading);
        }
        let asked = LookAsked {
            charset,
            map: map.as_ref(),
            region: region.as_deref(),
        };
        let reading = look(|| Ok(file.open()), &asked);
        reading.map(Arc::new).map_err(|fault| unfit(&file, &fault))
    });
    looking.await.map_err(|e| RunError::from(broke_off(&e)))?
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
        plan.in_batches_of(STAGED);
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
                Ok(move |line: &mut FileLine| lines.read(line))
            };
            Doubles::of(lines, &rules)
        });
        let found = looking.await.map_err(|e| broke_off(&e))?;
        found.map_err(|fault| RunFailure::new(ErrorCode::Incomplete, fault.to_string()))
    }

    fn produce(
        &self,
        doubles: &Arc<Doubles>,
        to: mpsc::Sender<ReadLines>,
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
