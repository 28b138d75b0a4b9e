//! Who acts. Run by root beside a service of another user, a command becomes the owner of the store's folder first, so that no
//! file of root's stands in the service's way (TRAPS 53).
//!
//! It does so whether the daemon answers or not, since it may end at any moment, and what the daemon did not do this process
//! does. Three stay root: `run`, whose user the unit decides; `check`, which writes nothing; and `backup` to a folder that is not
//! the owner's, where only root may write: of the store it only reads, and SQLite gives what it makes beside it to the owner.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::args::Command;
use super::render;
use crate::api::peer::Peer;
use crate::config::{Config, Environment, StoreUrl};

/// Becomes the owner of the store's folder; comes back with an exit code only if that fails. `None`: go on.
///
/// Called while the process has one thread, so that all later ones inherit who it is, and after the configuration was read, which
/// may be readable by root alone. Of root's powers one is kept: to read everything. Without it neither the folder below
/// `/var/lib/private`, where systemd keeps a dynamic user's, could be reached, nor a secret of root's be read; and what is written
/// belongs to the owner all the same.
pub(super) fn become_owner(config: &Config, command: &Command) -> Option<u8> {
    if matches!(command, Command::Run | Command::Check { .. })
        || !rustix::process::geteuid().is_root()
    {
        return None;
    }
    let StoreUrl::Sqlite(path) = &config.store.url else {
        return None;
    };
    let folder = std::fs::metadata(path.parent()?).ok()?;
    if folder.uid() == 0 {
        return None;
    }
    if let Command::Backup { file } = command
        && owner_of_folder(file) != Some(folder.uid())
    {
        return None;
    }
    let error = become_user(folder.uid(), folder.gid()).err()?;
    let text = format!(
        "cannot become the owner of {} (user {}): {error}; run the command as that user",
        path.display(),
        folder.uid()
    );
    Some(render::failure(&text, 1))
}

/// Who owns the folder that a file is to be made in.
fn owner_of_folder(file: &Path) -> Option<u32> {
    let file = std::path::absolute(file).ok()?;
    Some(std::fs::metadata(file.parent()?).ok()?.uid())
}

fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_keep_capabilities(true)?;
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    // Where root itself lacks the power to read everything (a container), the owner's own rights must do.
    let read = |set| CapabilitySets {
        effective: set,
        permitted: set,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, read(CapabilitySet::DAC_READ_SEARCH))
        .or_else(|_| set_capabilities(None, read(CapabilitySet::empty())))?;
    Ok(())
}

/// The name for the audit trail: the person behind `sudo`, else the user. Asked before the process becomes another.
pub(super) fn who(env: &Environment) -> String {
    let named = ["SUDO_USER", "LOGNAME", "USER"]
        .iter()
        .find_map(|name| env.var(name))
        .and_then(|name| name.to_str());
    named
        .filter(|n| !n.is_empty())
        .map_or_else(|| Peer::own().name, str::to_owned)
}
