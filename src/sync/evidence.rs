//! What a delta asks beyond a full pass before it believes that somebody is nowhere: a full pass has seen everybody else, a delta
//! has seen nobody else.

use std::collections::BTreeMap;

use super::pass::Pass;
use super::prepare::PassError;
use crate::model::{DirectoryId, User};

/// Others of a container who are looked up too. Some may have gone this very moment, all of them hardly.
const OTHERS: usize = 5;

impl Pass<'_> {
    /// Refused is not absent: an entry whose id cannot be read is not found by it, and stands where this user's stood.
    pub(super) async fn stands_there(&mut self, user: &User) -> Result<bool, PassError> {
        let (Some(_), Some(dn)) = (&self.told, &user.dn) else {
            return Ok(false);
        };
        let attributes = self.prepared.scope.attributes.clone();
        let Some(entry) = self.prepared.session()?.entry(dn, &attributes).await? else {
            return Ok(false);
        };
        match self.prepared.normaliser.directory_id(&entry) {
            Ok(_) => Ok(false),
            Err(refusal) => {
                self.unknown.insert(refusal.dn.clone());
                self.refuse(refusal);
                Ok(true)
            }
        }
    }

    /// Whether the account sees anybody at all where somebody is gone: who is blind there finds nobody by id either, whether
    /// they were told or not. Such a plan is held, and the next pass reads everything.
    pub(super) async fn sees_others(
        &mut self,
        nowhere: &BTreeMap<String, i64>,
    ) -> Result<(), PassError> {
        let Some(told) = &self.told else {
            return Ok(());
        };
        let told = told.ids.clone();
        for (container, gone) in nowhere {
            let many = told.len().saturating_add(OTHERS);
            let mut others: Vec<DirectoryId> = self
                .engine
                .store
                .some_in_container(&self.row.id, container, many)
                .await?;
            others.retain(|id| !told.contains(id));
            others.truncate(OTHERS);
            if others.is_empty() {
                continue;
            }
            let found = self.look_up(&others).await?;
            if found.is_empty() {
                let others = i64::try_from(others.len()).unwrap_or(i64::MAX);
                self.gone_containers
                    .push((container.clone(), gone.saturating_add(others)));
            }
        }
        Ok(())
    }
}
