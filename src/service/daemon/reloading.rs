//! A reload: begun by SIGHUP, put in force between runs, declared to the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{Daemon, TaskResult, warn};
use crate::clock::Timestamp;
use crate::model::AuditAct;
use crate::runs::RunError;
use crate::service::jitter::chance;
use crate::service::reload::{self, PreparedReload};
use crate::service::web::Web;
use crate::service::{logging, notify};
use crate::sync::Engine;

/// A store that fails a reload is asked again after this.
const DECLARE_AGAIN: Duration = Duration::from_secs(5);

/// A daemon's start waits no longer for a store in which another process has what it needs, as a first load has for minutes:
/// systemd, and whoever asks for the status, get their answer.
const DECLARE_AT_START: Duration = Duration::from_secs(3);

/// Declares the configuration to the store, sweeps what a crash left, and notes from when on ticks can be missed.
async fn declare(engine: Engine, now: Timestamp, act: AuditAct) -> Result<(), RunError> {
    engine.take_key().await?;
    engine.declare_realms().await?;
    engine.note_configuration(act).await?;
    for row in engine.store.realms().await? {
        let known = engine.config.realms.iter().any(|r| r.id == row.id);
        if known && row.last_tick_at.is_none() && !row.orphaned {
            engine.store.first_tick(&row.id, now).await?;
        }
    }
    Ok(())
}

impl Daemon {
    /// [`declare`] at a daemon's start. `false`: it goes on beside the daemon, among `side`, since another process has what it needs.
    pub(super) async fn declare_at_start(
        engine: &Engine,
        now: Timestamp,
        side: &mut JoinSet<TaskResult>,
    ) -> Result<bool, RunError> {
        let engine = engine.clone();
        side.spawn(async move {
            TaskResult::Declared(declare(engine, now, AuditAct::ConfigStart).await)
        });
        match timeout(DECLARE_AT_START, side.join_next()).await {
            Ok(Some(Ok(TaskResult::Declared(declared)))) => declared.map(|()| true),
            // One that broke off is begun anew by the daemon's loop.
            Ok(broken) => {
                if let Some(Err(error)) = broken {
                    logging::broke_off(&error);
                }
                Ok(false)
            }
            Err(_) => {
                tracing::warn!(
                    "the store does not take this configuration in yet: another process has what that needs, as a first load does, or what a crash left is being removed. Runs begin once it is done"
                );
                Ok(false)
            }
        }
    }

    pub(super) fn begin_reload(&mut self) {
        if self.reloading || self.undeclared {
            self.reload_again = true;
            return;
        }
        self.reloading = true;
        notify::reloading();
        tracing::info!("reading the configuration again");
        let (read, engine, bound) = (
            Arc::clone(&self.start.reload),
            self.engine.borrow().clone(),
            self.web.as_ref().map(Web::address),
        );
        self.side.spawn(async move {
            TaskResult::Reload(Box::new(reload::prepare(read, engine, bound).await))
        });
    }

    /// Puts a new configuration in force, or says why not.
    pub(super) fn put_in_force(&mut self, prepared: Result<PreparedReload, String>) {
        self.reloading = false;
        let PreparedReload {
            config,
            warnings,
            timetables,
            web,
        } = match prepared {
            Ok(prepared) => prepared,
            Err(why) => {
                tracing::error!(
                    "the new configuration is refused, the old one stays in force: {why}"
                );
                self.metrics.reloaded(false);
                self.reload_error = Some(why);
                self.reload_refused_at = Some(self.start.clock.now());
                self.reload_over();
                return;
            }
        };
        warn(&config, &warnings);
        let now = self.start.clock.now();
        if let Some(logging) = &self.logging {
            logging.set_level(config.log.level);
        }
        self.serve_web(web);
        for running in self.running.values() {
            if !config.realms.iter().any(|realm| realm.id == running.realm) {
                tracing::warn!(realm = %running.realm, "{}: left the configuration, its run is stopped", running.realm);
                running.cancel.cancel();
            }
        }
        // They work by the old one, and what they have open is opened again in an instant.
        self.keepers.stop();
        // Realms that come back and new ones alike begin now; ticks of a former life are past.
        self.agenda
            .set_realms(timetables, |_| None, now, &mut chance);
        self.engine.send_modify(|engine| {
            *engine = Engine::new(
                Arc::clone(&config),
                engine.store.clone(),
                engine.clock.clone(),
                Arc::clone(&engine.env),
            );
        });
        self.config.send_replace(config);
        self.config_read_at = now;
        self.reload_error = None;
        self.reload_refused_at = None;
        self.undeclared = true;
    }

    /// Declares a new configuration to the store once no run of a realm that left is under way, and nobody follows the old one.
    pub(super) fn declare_realms(&mut self) {
        if !self.undeclared || self.declaring || Instant::now() < self.declare_at {
            return;
        }
        let config = self.config.borrow().clone();
        let leaving = self
            .running
            .values()
            .any(|running| !config.realms.iter().any(|realm| realm.id == running.realm));
        if leaving || !self.keepers.are_gone() {
            return;
        }
        self.declaring = true;
        self.declare_at = Instant::now() + DECLARE_AGAIN;
        let (engine, now) = (self.engine.borrow().clone(), self.start.clock.now());
        let act = if self.config_read_at == self.started_at {
            AuditAct::ConfigStart
        } else {
            AuditAct::ConfigReload
        };
        self.side
            .spawn(async move { TaskResult::Declared(declare(engine, now, act).await) });
    }

    pub(super) fn declared(&mut self, declared: Result<(), RunError>) {
        self.declaring = false;
        match declared {
            Ok(()) => {
                self.undeclared = false;
                self.metrics.reloaded(true);
                tracing::info!("the configuration is in force: {}", self.describe());
                self.reload_over();
            }
            // Tried again soon; until then nothing starts.
            Err(error) => {
                tracing::error!(%error, "the configuration cannot be declared to the store: {error}");
            }
        }
    }

    pub(super) fn reload_over(&mut self) {
        notify::ready(&self.describe());
        if std::mem::take(&mut self.reload_again) {
            self.begin_reload();
        }
    }
}
