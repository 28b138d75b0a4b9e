//! The daemon works by the file as it was; the file that the command was given is faulty, or says something else by now.

use std::os::unix::net::UnixStream;
use std::path::Path;

use super::args::{Command, OutboxCommand};
use super::{CommandContext, render};
use crate::config::{self, Config, Environment, Faults};
use crate::store::is_taken;
use crate::story::status::DaemonStatus;

/// What a command needs of the file.
enum Needs {
    /// All of it.
    File,
    /// The daemon.
    Daemon,
    /// The store, to be read beside the daemon.
    Store,
}

fn needs(command: &Command) -> Needs {
    match command {
        Command::Status
        | Command::Pause { .. }
        | Command::Resume { .. }
        | Command::Approve(_)
        | Command::Reject { .. }
        | Command::Adopt(_)
        | Command::Undo(_)
        | Command::Backup { .. }
        | Command::Restored { .. } => Needs::Daemon,
        Command::Outbox { what } if !matches!(what, OutboxCommand::List { .. }) => Needs::Daemon,
        Command::Outbox { .. }
        | Command::Runs { .. }
        | Command::Refused { .. }
        | Command::Users { .. }
        | Command::Send { .. }
        | Command::Withdraw(_)
        | Command::Authenticators { .. }
        | Command::HardTokens { .. }
        | Command::TwoFactor { .. }
        | Command::Bypass { .. }
        | Command::Coverage { .. }
        | Command::Realms { .. }
        | Command::Audit { .. } => Needs::Store,
        _ => Needs::File,
    }
}

/// What a command can go on with although its file is faulty: the daemon runs on, and needs to be talked to now of all times.
/// `None`: it needs the file, or no daemon answers.
pub(super) fn by_the_daemon(
    path: &Path,
    environment: &Environment,
    command: &Command,
    faults: &Faults,
) -> Option<Config> {
    let needs = needs(command);
    if matches!(needs, Needs::File) {
        return None;
    }
    let salvaged = config::salvage(path, environment);
    // A store of which the file says nothing is the default one, if a process writes to that.
    let by_default = || !salvaged.names_store && is_taken(&salvaged.config.store);
    if matches!(needs, Needs::Store) && !salvaged.store && !by_default() {
        return None;
    }
    UnixStream::connect(&salvaged.config.control_socket).ok()?;
    let text = faults.render(false);
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    render::talk(&format!(
        "{} {} is faulty ({first}), and the daemon goes on by what it said before; `realmsync check` shows every fault",
        render::paint("1;33", "warning:"),
        path.display()
    ));
    Some(salvaged.config)
}

impl CommandContext {
    /// Says that the daemon works by another file.
    pub(super) fn other_file(&self, daemon: &DaemonStatus) {
        self.other_file_than(daemon, "");
    }

    /// The same for a command that works by the file itself, if a daemon answers. `what` is said of the command.
    pub(super) async fn compare_file(&self, what: &str) {
        if let Some(client) = self.daemon().await
            && let Ok(answer) = client.status().await
            && answer.daemon.other_file
        {
            self.other_file_than(&answer.daemon, what);
        }
    }

    fn other_file_than(&self, daemon: &DaemonStatus, what: &str) {
        let (ours, its) = (self.config.path.display(), daemon.config.display());
        let says = if self.config.path == daemon.config {
            let since = super::text::when(daemon.config_read_at);
            format!(
                "{ours} says something else than what the daemon has worked by since {since}{what}; `systemctl reload realmsync` puts it in force"
            )
        } else {
            format!("the daemon works by {its}, and {ours} says something else")
        };
        render::talk(&format!("{} {says}", render::paint("1;33", "warning:")));
    }
}
