//! `users import`: a file of users.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use super::in_realm::{AgendaTurn, InRealm};
use crate::clock::Timestamp;
use crate::import::{Charset, ColumnMap, Reading};
use crate::model::{ImportCounts, OperationState, Outcome, RealmId, RunId};
use crate::sync::{ImportAsk, ImportFile, Imported};

/// `POST /api/v1/realms/{realm}/imports`, in the query; the file is the body.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportRequest {
    /// What the file is called, for the audit.
    pub name: String,
    /// Only look what would come of it.
    pub plan: bool,
    /// Users of earlier imports who are not in the file are suspended.
    pub replace: bool,
    /// Which columns are read: `name=1,phone=3`; absent: by the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// In which characters the file is; absent: as it looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
}

/// Takes a file of users into a realm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Import {
    /// In this realm, of any kind.
    pub realm: RealmId,
    /// The file.
    pub file: ImportFile,
    /// How.
    pub request: ImportRequest,
    /// How the file is read, where whoever asks has looked at it already.
    pub reading: Option<Arc<Reading>>,
}

/// What came of an import: an operation (the design, § 18), with the counts of its lines.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields of the design's operation")]
pub struct ImportReport {
    /// That of the run.
    pub id: RunId,
    /// `import`.
    pub kind: String,
    pub state: OperationState,
    /// Lines of the file.
    pub total: i64,
    /// Lines that were decided about.
    pub done: i64,
    /// Users who were made or changed; 0 unless the file was applied.
    pub changed: i64,
    /// Lines that say nothing new.
    pub skipped: i64,
    /// Lines that cannot be used.
    pub refused: i64,
    pub run: RunId,
    pub by: Option<String>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// Nothing was written: it was only looked what would come of it.
    pub plan: bool,
    /// `lines` is the sum of `created`, `updated`, `unchanged` and `refused`.
    pub counts: ImportCounts,
    /// How the file was read, in words.
    pub read_as: Vec<String>,
    /// Why it failed.
    pub error: Option<String>,
}

impl ImportReport {
    /// Of an import that is over. `plan`: it was only looked what would come of it.
    pub fn of(imported: &Imported, plan: bool) -> Self {
        let (run, counts) = (&imported.run, imported.counts);
        let applied = run.outcome == Outcome::Applied && !plan;
        Self {
            id: run.run,
            kind: "import".to_owned(),
            state: match run.outcome {
                Outcome::Running => OperationState::Running,
                Outcome::Held => OperationState::Held,
                Outcome::Failed => OperationState::Failed,
                Outcome::Cancelled => OperationState::Cancelled,
                _ => OperationState::Done,
            },
            total: imported.total,
            done: counts.lines,
            changed: if applied {
                counts.created + counts.updated + counts.suspended
            } else {
                0
            },
            skipped: counts.unchanged,
            refused: counts.refused,
            run: run.run,
            by: run.by.clone(),
            started_at: run.started_at,
            ended_at: run.decided_at,
            plan,
            counts,
            read_as: imported.read_as.clone(),
            error: run.error.clone(),
        }
    }
}

impl InRealm for Import {
    /// With its refused lines, and the changes of a dry run, which are read page by page after the turn.
    type Output = Imported;

    async fn place(self, at: &ActContext) -> Result<(RealmId, Self), ActFailure> {
        at.known(&self.realm).await?;
        Ok((self.realm.clone(), self))
    }

    async fn act(&self, at: &ActContext, turn: &AgendaTurn) -> Result<Imported, ActFailure> {
        let usage = |why: String| ActFailure::new(FailureKind::Usage, why);
        let request = &self.request;
        let ask = ImportAsk {
            file: self.file.clone(),
            map: request
                .map
                .as_deref()
                .map(str::parse::<ColumnMap>)
                .transpose()
                .map_err(|why| usage(format!("--map: {why}")))?,
            charset: request
                .encoding
                .as_deref()
                .map(Charset::named)
                .transpose()
                .map_err(|why| usage(format!("--encoding: {why}")))?,
            reading: self.reading.clone(),
            replace: request.replace,
            dry: request.plan,
            by: at.caller.name.clone(),
            from: at.caller.door.as_str(),
            cancel: turn.cancel.clone(),
            progress: turn.progress.clone(),
        };
        Ok(Box::pin(at.engine.import(&self.realm, &ask)).await?)
    }
}
