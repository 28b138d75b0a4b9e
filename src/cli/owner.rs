//! Who acts. Run by root beside a service of another user, a command becomes the owner of the store's folder first, so that no
//! file of root's stands in the service's way (TRAPS 53).

use std::io;
use std::os::unix::fs::MetadataExt as _;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::args::Command;
use super::render;
use crate::config::{Config, Environment, StoreUrl};

/// Becomes the owner of the store's folder; comes back with an exit code only if that fails. `None`: go on.
///
/// Called while the process has one thread, so that all later ones inherit who it is. Of root's powers one is kept: to read
/// everything. Without it neither the folder below `/var/lib/private`, where systemd keeps a dynamic user's, could be reached, nor a
/// secret of root's be read; and what is written belongs to the owner all the same.
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
    let error = become_user(folder.uid(), folder.gid()).err()?;
    Some(render::failure(
        &format!(
            "cannot become the owner of {} (user {}): {error}",
            path.display(),
            folder.uid()
        ),
        1,
    ))
}

fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_keep_capabilities(true)?;
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    let read = CapabilitySet::DAC_READ_SEARCH;
    set_capabilities(
        None,
        CapabilitySets {
            effective: read,
            permitted: read,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}

/// The name for the audit trail.
pub(super) fn who(env: &Environment) -> Option<String> {
    ["SUDO_USER", "LOGNAME", "USER"]
        .iter()
        .find_map(|name| env.var(name))
        .and_then(|name| name.to_str())
        .filter(|n| !n.is_empty())
        .map(str::to_owned)
}
