//! One person by name.

use super::contested_names::resolve_names;
use super::read::{look_at_page, look_at_waiting};
use super::shared_ids::refuse_doubles;
use super::under_way::Pass;
use crate::directory::Sighting;
use crate::model::{DirectoryId, RealmId};
use crate::runs::RunFailure;
use crate::sync::run_request::RunRequest;

impl Pass<'_> {
    /// Looks at one person's entries only; never makes anyone absent.
    pub async fn one(&mut self, name: &str, ask: &RunRequest) -> Result<(), RunFailure> {
        let Self {
            setting,
            reading,
            found,
        } = self;
        found.keep_no_refusals();
        let store = setting.store();
        let held = store.find_users(name, Some(setting.id())).await?;
        let ids: Vec<DirectoryId> = held.iter().filter_map(|u| u.directory_id).collect();
        for user in &held {
            if let Some(id) = user.directory_id {
                reading.index.hold(id, None, user.present());
            }
        }
        let mut entries = reading.prepared.find_by_name(name).await?;
        for (_, sighting) in reading.look_up(&ids).await? {
            if let Sighting::InScope(entry) = sighting {
                entries.push(entry);
            }
        }
        // Who is not held under this name may be held under another one.
        let there: Vec<DirectoryId> = entries
            .iter()
            .filter_map(|e| reading.prepared.normaliser.directory_id(e).ok())
            .collect();
        for user in store.users_by_directory_id(setting.id(), &there).await? {
            if let Some(id) = user.directory_id.filter(|id| !ids.contains(id)) {
                reading.index.hold(id, None, user.present());
            }
        }
        if entries.is_empty() {
            return Err(nobody(name, setting.id(), !held.is_empty()));
        }
        look_at_page(setting, reading, found, entries).await?;
        look_at_waiting(setting, reading, found).await?;
        refuse_doubles(setting, reading, found).await?;
        resolve_names(setting, reading, found, ask).await?;
        found.plan.flush().await?;
        Ok(())
    }
}

/// A name that is not there to be read. Who is held may be gone, which only a full pass can find out.
fn nobody(name: &str, realm: &RealmId, held: bool) -> RunFailure {
    RunFailure::nobody(if held {
        format!(
            "the directory has no `{name}` in the scope of realm `{realm}` any more; only a full pass can find somebody absent: run `sync {realm}`"
        )
    } else {
        format!(
            "neither the directory, in the scope of realm `{realm}`, nor the store knows `{name}`: check the name, or look for it with `users list --realm {realm} --search {name}`"
        )
    })
}
