//! One person by name.

use super::under_way::Pass;
use crate::directory::Sighting;
use crate::model::{DirectoryId, RealmId};
use crate::runs::RunFailure;
use crate::sync::run_request::RunRequest;

impl Pass<'_> {
    /// Looks at one person's entries only; never makes anyone absent.
    pub async fn one(&mut self, name: &str, ask: &RunRequest) -> Result<(), RunFailure> {
        self.found.refusals.unkept = true;
        let held = self
            .setting
            .engine
            .store
            .find_users(name, Some(&self.setting.row.id))
            .await?;
        let ids: Vec<DirectoryId> = held.iter().filter_map(|u| u.directory_id).collect();
        for user in &held {
            if let Some(id) = user.directory_id {
                self.reading.index.hold(id, None, user.present());
            }
        }
        let mut entries = self.reading.prepared.find_by_name(name).await?;
        for (_, sighting) in self.reading.look_up(&ids).await? {
            if let Sighting::InScope(entry) = sighting {
                entries.push(entry);
            }
        }
        // Who is not held under this name may be held under another one.
        let found: Vec<DirectoryId> = entries
            .iter()
            .filter_map(|e| self.reading.prepared.normaliser.directory_id(e).ok())
            .collect();
        for user in self
            .setting
            .engine
            .store
            .users_by_directory_id(&self.setting.row.id, &found)
            .await?
        {
            if let Some(id) = user.directory_id.filter(|id| !ids.contains(id)) {
                self.reading.index.hold(id, None, user.present());
            }
        }
        if entries.is_empty() {
            return Err(nobody(name, &self.setting.row.id, !held.is_empty()));
        }
        self.page(entries).await?;
        self.look_at_waiting().await?;
        self.refuse_doubles().await?;
        self.resolve_names(ask).await?;
        self.found.plan.flush().await?;
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
