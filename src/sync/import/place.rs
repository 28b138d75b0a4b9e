//! What is asked of an import, and what it depends on.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::file::ImportFile;
use crate::import::{Charset, ColumnMap, Reading};
use crate::model::RealmRow;
use crate::sync::engine::Engine;
use crate::sync::realm::by_hand::RealmRules;
use crate::sync::run_request::Progress;

/// What is asked of an import.
#[derive(Clone, Debug)]
pub struct ImportAsk {
    /// The file.
    pub file: ImportFile,
    /// Which of its columns are read; `None`: by its header.
    pub map: Option<ColumnMap>,
    /// In which characters it is; `None`: as it looks.
    pub charset: Option<Charset>,
    /// How it is read, where that is known; `None`: it is looked at.
    pub reading: Option<Arc<Reading>>,
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

/// What an import depends on beside the file.
pub(super) struct Place<'a> {
    pub(super) engine: &'a Engine,
    pub(super) row: &'a RealmRow,
    pub(super) rules: &'a RealmRules<'a>,
    pub(super) ask: &'a ImportAsk,
    pub(super) reading: Arc<Reading>,
    /// Users of the realm that are not removed.
    pub(super) users: i64,
}
