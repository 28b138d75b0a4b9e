//! What the daemon says of itself: to `status`, to probes, to systemd.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Daemon;
use crate::model::RealmId;
use crate::service::desk::Desk;
use crate::service::notify;
use crate::story::realms::Live;
use crate::story::status::{DaemonStatus, RunningStatus};

impl Daemon {
    pub(super) fn desk(&self) -> Desk {
        let engine = self.engine.borrow().clone();
        let mut live: BTreeMap<RealmId, Live> = BTreeMap::new();
        for realm in &engine.config.realms {
            let live = live.entry(realm.id.clone()).or_default();
            live.next_run_at = self.agenda.next_start(&realm.id);
            live.seen = self.keepers.seen(&realm.id);
        }
        for running in self.running.values() {
            let progress = *running.track.progress.borrow();
            let status = RunningStatus {
                since: running.since,
                seen: progress.seen,
                expected: progress.expected,
            };
            live.entry(running.realm.clone()).or_default().running = Some(status);
        }
        let daemon = DaemonStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            name: engine.store.process_name().to_owned(),
            started_at: self.started_at,
            config: self.start.config.path.clone(),
            config_read_at: self.config_read_at,
            reload_error: self.reload_error.clone(),
            reload_refused_at: self.reload_refused_at,
            other_file: false,
            undeclared: self.undeclared,
            tokens_at_limit: vec![],
            operations: vec![],
            clock_off_ms: self.verifying.clock_off_ms(),
            enrolment_key: None,
            restored: None,
            receivers: serde_json::to_value(self.stats.snapshot().targets).unwrap_or_default(),
        };
        let unscheduled = engine
            .config
            .realms
            .iter()
            .filter(|realm| self.agenda.next_start(&realm.id).is_none());
        let mut not_ready: Vec<String> = unscheduled
            .map(|realm| {
                format!(
                    "{}: the schedule `{}` never comes",
                    realm.id, realm.schedule
                )
            })
            .collect();
        if self.undeclared {
            not_ready.push("the configuration is being put in force".into());
        }
        Desk {
            metrics: self.metrics.clone(),
            stats: Arc::clone(&self.stats),
            wake: Arc::clone(&self.wake),
            work: Arc::clone(&self.work),
            engine,
            live,
            daemon,
            not_ready,
            ahead: false,
        }
    }

    /// One line for `systemctl status`.
    pub(super) fn describe(&self) -> String {
        let realms = self.config.borrow().realms.len();
        let mut said = format!("{realms} {}", if realms == 1 { "realm" } else { "realms" });
        if let Some(why) = self
            .reload_error
            .as_deref()
            .and_then(|why| why.lines().next())
        {
            said = format!("the last reload was refused ({why}); {said}");
        }
        let mut running: Vec<&str> = self
            .running
            .values()
            .map(|running| running.realm.as_str())
            .collect();
        running.sort_unstable();
        if !running.is_empty() {
            said = format!("{said}; running: {}", running.join(", "));
        }
        if !self.held.is_empty() {
            let held: Vec<&str> = self.held.iter().map(RealmId::as_str).collect();
            said = format!("{said}; a plan waits for a decision in {}", held.join(", "));
        }
        let away: Vec<&str> = self
            .keepers
            .away()
            .into_iter()
            .map(RealmId::as_str)
            .collect();
        if !away.is_empty() {
            said = format!("{said}; no changes are pushed now in {}", away.join(", "));
        }
        if let Some((realm, at)) = self.agenda.first() {
            said = format!("{said}; next: {realm} at {at}");
        }
        said
    }

    pub(super) fn show_status(&mut self) {
        let now = self.describe();
        if now != self.status && !self.reloading && !self.undeclared {
            notify::status(&now);
            self.status = now;
        }
    }
}
