//! People whom a realm of the same directory holds.

use std::collections::HashMap;

use super::setting::Setting;
use crate::model::{DirectoryId, Person, RealmId, User};
use crate::runs::RunFailure;
use crate::sync::realm::siblings::let_go;

impl Setting<'_> {
    /// Users of neighbouring realms that have these ids: taken over, or a reason to refuse the entry.
    pub(super) async fn elsewhere(
        &self,
        persons: &[(Person, bool)],
    ) -> Result<HashMap<DirectoryId, Elsewhere>, RunFailure> {
        let new: Vec<DirectoryId> = persons
            .iter()
            .filter(|(_, held)| !held)
            .map(|(p, _)| p.directory_id)
            .collect();
        if self.neighbours.is_empty() || new.is_empty() {
            return Ok(HashMap::new());
        }
        let mut found = HashMap::new();
        for user in self.store().same_id_elsewhere(self.id(), &new).await? {
            let Some(id) = user.directory_id else {
                continue;
            };
            let Some(from) = self.neighbours.iter().find(|r| r.id == user.realm) else {
                continue;
            };
            let takeover = if let_go(&user, from) {
                Elsewhere::Take(Box::new(user))
            } else {
                Elsewhere::StillThere(from.id.clone())
            };
            found.insert(id, takeover);
        }
        Ok(found)
    }
}

/// What a neighbouring realm's user with the same id means.
pub(super) enum Elsewhere {
    Take(Box<User>),
    StillThere(RealmId),
}
