//! Who acts. Run by root beside a service of another user, a command becomes the owner of the store's folder first, so that no
//! file of root's stands in the service's way (TRAPS 53).

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;

use super::args::Command;
use super::render;
use crate::config::{Config, Environment, StoreUrl};

/// Set in the second process, so that it does not start a third.
const BECAME: &str = "REALMSYNC_BECAME_OWNER";

/// Starts the same command again as the owner of the store's folder; comes back with an exit code only if that fails. `None`: go on
/// as who we are.
pub(super) fn become_owner(config: &Config, command: &Command, env: &Environment) -> Option<u8> {
    if matches!(command, Command::Run | Command::Check { .. }) || env.var(BECAME).is_some() || !rustix::process::geteuid().is_root() {
        return None;
    }
    let StoreUrl::Sqlite(path) = &config.store.url else { return None };
    let folder = std::fs::metadata(path.parent()?).ok()?;
    if folder.uid() == 0 {
        return None;
    }
    let me = match std::env::current_exe() {
        Ok(me) => me,
        Err(error) => return Some(render::failure(&format!("cannot find this program: {error}"), 1)),
    };
    // The file stays readable to root only, so its content is handed on.
    let mut again = std::process::Command::new(me);
    again.args(std::env::args_os().skip(1)).env(BECAME, "1").uid(folder.uid()).gid(folder.gid());
    let error = again.exec();
    Some(render::failure(&format!("cannot become the owner of {} (user {}): {error}", path.display(), folder.uid()), 1))
}

/// The name for the audit trail.
pub(super) fn who(env: &Environment) -> Option<String> {
    ["SUDO_USER", "LOGNAME", "USER"].iter().find_map(|name| env.var(name)).and_then(|name| name.to_str()).filter(|n| !n.is_empty()).map(str::to_owned)
}
