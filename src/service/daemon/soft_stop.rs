//! The soft stop.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::{Daemon, TaskResult};
use crate::acts::{ActFailure, FailureKind};
use crate::api::types::AnswerLine;
use crate::config::StoreUrl;
use crate::service::desk::FollowUp;
use crate::service::notify;

/// Of the five seconds that a stop may take: for runs and deliveries to commit or roll back,
const RUNS_FAREWELL: Duration = Duration::from_millis(3_700);
/// for the store to close,
const STORE_FAREWELL: Duration = Duration::from_millis(300);
/// and for the last answers to be written.
const ANSWERS_FAREWELL: Duration = Duration::from_millis(600);

impl Daemon {
    /// Nothing new starts; what runs commits or rolls back; who waits is told; all within five seconds.
    pub(super) async fn farewell(&mut self) {
        let deadline = Instant::now() + RUNS_FAREWELL;
        let runs = match self.running.len() {
            0 => "no run is under way".to_owned(),
            1 => "the run under way commits or rolls back".to_owned(),
            n => format!("{n} runs under way commit or roll back"),
        };
        notify::stopping(&format!("stopping; {runs}"));
        tracing::info!(running = self.running.len(), "stopping: {runs}");
        self.orders.close();
        self.stop.cancel();
        let failure = ActFailure::new(
            FailureKind::Stopping,
            "the daemon is stopping; try again when it is back",
        );
        for work in self.agenda.drain_waiting() {
            work.refuse(&failure);
        }
        while let Ok(Some(ended)) = timeout_at(deadline, self.runs.join_next_with_id()).await {
            self.run_ended(ended);
        }
        self.keepers.farewell(deadline).await;
        let store = self.engine.borrow().store.clone();
        if let Ok(Err(error)) = timeout_at(deadline, store.daemon_stops()).await {
            tracing::warn!(%error, "other daemons count this one for some seconds more: {error}");
        }
        for running in self.running.values() {
            tracing::warn!(realm = %running.realm, "{}: the run did not end in time; its transaction is rolled back", running.realm);
        }
        self.runs.shutdown().await;
        self.running.clear();
        // Answers are passed on by tasks beside the loop; those that ask the store have had their time.
        let answers = async {
            while let Some(side) = self.side.join_next().await {
                // An order that needs a realm for itself comes too late.
                if let Ok(TaskResult::After(FollowUp::Enqueue(_, _, lines))) = side {
                    let _gone = lines.try_send(AnswerLine::Error(failure.clone()));
                }
            }
        };
        let _told = timeout(Duration::from_millis(300), answers).await;
        self.stop_answers.cancel();
        if let Some(web) = &self.web {
            web.cancel.cancel();
        }
        let rest = deadline.max(Instant::now()) + ANSWERS_FAREWELL;
        // The watchdog never ends; all others do.
        while self.parts.len() > 1 && timeout_at(rest, self.parts.join_next()).await.is_ok() {}
        self.parts.shutdown().await;
        // The log of the store is folded into its file, so that a copy of the file alone is whole.
        let store = self.engine.borrow().store.clone();
        let _closed = timeout(STORE_FAREWELL, store.close()).await;
        let store = match &self.start.config.store.url {
            StoreUrl::Sqlite(path) => path.display().to_string(),
            StoreUrl::Postgres { display, .. } => display.clone(),
        };
        tracing::info!(store, "stopped");
    }
}
