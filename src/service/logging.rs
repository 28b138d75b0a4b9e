//! Logs: text on a terminal, the journal with fields under systemd, JSON when asked.
//!
//! The level of the configuration is that of this program. Its libraries may only warn: below that some of them write
//! down what they send and receive, passwords and numbers included.

use std::io::{self, IsTerminal};

use tokio::task::JoinError;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, reload};

use super::metrics::StageTimer;
use crate::config::{LogConfig, LogFormat};

/// What of the environment decides how logs look; the environment itself is read in `cli`.
#[derive(Clone, Default, Debug)]
pub struct Surroundings {
    /// `JOURNAL_STREAM`: device and inode of the stream that systemd gave as stderr.
    pub journal_stream: Option<String>,
    /// `NO_COLOR` is set and not empty.
    pub no_color: bool,
}

/// The installed log, to change its level by a reload.
#[derive(Clone, Debug)]
pub struct Logging {
    levels: reload::Handle<Targets, Registry>,
}

impl Logging {
    /// Another level from now on. The format stays until a restart.
    pub fn set_level(&self, level: Level) {
        // Fails only when the subscriber is gone, and with it everybody who could read of it.
        let _gone = self.levels.reload(targets(level));
    }
}

/// Installs the log for the whole process; once.
pub fn install(
    config: &LogConfig,
    around: &Surroundings,
    stages: Option<StageTimer>,
) -> Result<Logging, TryInitError> {
    let (levels, handle) = reload::Layer::new(targets(config.level));
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = vec![
        lines(chosen(config.format, around), around)
            .with_filter(levels)
            .boxed(),
    ];
    if let Some(stages) = stages {
        layers.push(stages.boxed());
    }
    tracing_subscriber::registry().with(layers).try_init()?;
    Ok(Logging { levels: handle })
}

fn targets(level: Level) -> Targets {
    let others = LevelFilter::WARN.min(LevelFilter::from_level(level));
    Targets::new()
        .with_default(others)
        .with_target("realmsync", level)
        // It tells parameters of the store's URL with their values; `check` has told of them without.
        .with_target("sqlx_postgres::options", LevelFilter::OFF)
        // Its warnings are about its inside; what they are about is told in our own words.
        .with_target("ldap3", LevelFilter::OFF)
}

/// `auto` decided.
fn chosen(format: LogFormat, around: &Surroundings) -> LogFormat {
    match format {
        LogFormat::Auto if around.journal_stream.as_deref().is_some_and(is_stderr) => {
            LogFormat::Journald
        }
        LogFormat::Auto => LogFormat::Text,
        other => other,
    }
}

/// Whether `JOURNAL_STREAM` speaks of this process's stderr, as systemd.exec(5) says to check: a child whose output was
/// sent elsewhere inherits the variable too.
fn is_stderr(stream: &str) -> bool {
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    stream.split_once(':').is_some_and(|(device, inode)| {
        device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
    })
}

fn lines(format: LogFormat, around: &Surroundings) -> Box<dyn Layer<Registry> + Send + Sync> {
    match format {
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(journal) => {
                // Fields become REALMSYNC_REALM and so on, where they cannot pass for the journal's own.
                let priorities = PriorityMappings {
                    info: Priority::Informational,
                    debug: Priority::Debug,
                    ..PriorityMappings::new()
                };
                journal
                    .with_syslog_identifier("realmsync".into())
                    .with_field_prefix(Some("REALMSYNC".into()))
                    .with_priority_mappings(priorities)
                    .boxed()
            }
            Err(_) => lines(LogFormat::Text, around),
        },
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(io::stderr)
            .boxed(),
        LogFormat::Auto | LogFormat::Text => {
            let colour = io::stderr().is_terminal() && !around.no_color;
            tracing_subscriber::fmt::layer()
                .with_target(false)
                .with_ansi(colour)
                .with_writer(io::stderr)
                .boxed()
        }
    }
}

/// Says that something beside the daemon's loop panicked.
pub(super) fn broke_off(error: &JoinError) {
    tracing::error!(%error, "a request broke off: {error}. This is a fault of realmsync: please report it with the log");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_may_only_warn() {
        let at_trace = targets(Level::TRACE);
        assert!(at_trace.would_enable("realmsync::sync", &Level::TRACE));
        assert!(at_trace.would_enable("hyper", &Level::WARN));
        assert!(!at_trace.would_enable("hyper", &Level::INFO));
        assert!(!at_trace.would_enable("ldap3", &Level::WARN));
        assert!(!at_trace.would_enable("sqlx::query", &Level::DEBUG));
        let at_error = targets(Level::ERROR);
        assert!(!at_error.would_enable("hyper", &Level::WARN));
        assert!(!at_error.would_enable("realmsync", &Level::WARN));
    }

    #[test]
    fn the_journal_is_used_only_for_its_own_stream() {
        let of = |stream: &str| Surroundings {
            journal_stream: Some(stream.into()),
            no_color: false,
        };
        assert_eq!(chosen(LogFormat::Auto, &of("1:2")), LogFormat::Text);
        assert_eq!(chosen(LogFormat::Auto, &of("nonsense")), LogFormat::Text);
        let stat = rustix::fs::fstat(io::stderr()).expect("stderr");
        assert_eq!(
            chosen(
                LogFormat::Auto,
                &of(&format!("{}:{}", stat.st_dev, stat.st_ino))
            ),
            LogFormat::Journald
        );
        assert_eq!(
            chosen(
                LogFormat::Json,
                &of(&format!("{}:{}", stat.st_dev, stat.st_ino))
            ),
            LogFormat::Json
        );
    }
}
