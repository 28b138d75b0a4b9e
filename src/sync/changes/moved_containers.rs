//! Who was taken along by a container that was moved, renamed or deleted: of them no server but Active Directory's says anything.
//!
//! ```text
//! told, and no user's id ─▶ looked for ─┬─ a container beneath a base ─▶ who is beneath it: the directory's, and the store's
//!                                       └─ elsewhere or nowhere ───────▶ whose container does not exist any more
//! ```
//!
//! Whoever that finds is told too. What a container is called now does not matter to those who are where the store has them.

use std::collections::{BTreeSet, HashSet};

use crate::directory::{Cursor, Delta, Way};
use crate::model::{DirectoryId, RealmId, dn};
use crate::runs::RunFailure;
use crate::sync::engine::Engine;
use crate::sync::realm::session::{LOOK_UP, PreparedSession};

/// More than this taken along at once is no delta: reading everybody is as quick.
const MANY: usize = 20_000;

/// More containers than this are not asked for one by one.
const MANY_CONTAINERS: usize = 2000;

impl Engine {
    /// Adds to what is told whoever was taken along. Gives the reason why only a full pass will do; `None`: the delta will.
    pub(in crate::sync) async fn taken_along(
        &self,
        realm: &RealmId,
        prepared: &mut PreparedSession,
        since: &Cursor,
        delta: &mut Delta,
    ) -> Result<Option<String>, RunFailure> {
        // DirSync looks by itself, among those who were renamed only: it tells of everything in the naming context.
        if since.way == Way::DirSync {
            return Ok(None);
        }
        if let Some(base) = self.unseen_base(realm, prepared, delta).await? {
            return Ok(Some(format!(
                "the server told of everybody who is there, and of nobody under `{base}`; did the account lose its rights? Everything is read"
            )));
        }
        let strangers = self.strangers(realm, delta).await?;
        if strangers.is_empty() {
            return Ok(None);
        }
        let scope = prepared.scope.clone();
        let containers = prepared.session()?.containers(&scope, &strangers).await?;
        if containers.here.is_empty() && !containers.away {
            return Ok(None);
        }
        let known = self.store.containers(realm).await?;
        let mut along: BTreeSet<DirectoryId> = BTreeSet::new();
        let is_base = |dn: &str| scope.bases.iter().any(|base| dn::is_within(base, dn));
        for container in &containers.here {
            // By time stamps it is told for as long as its own is new, and everybody may be beneath it.
            if since.way == Way::Timestamp && is_base(container) {
                continue;
            }
            let beneath = prepared.session()?.beneath(&scope, container, MANY).await?;
            let Some(beneath) = beneath else {
                return Ok(Some(too_many(container)));
            };
            let beneath: HashSet<DirectoryId> = beneath.into_iter().collect();
            let theirs: Vec<&str> = known
                .iter()
                .map(String::as_str)
                .filter(|known| dn::is_within(known, container))
                .collect();
            let held = self.store.present_in(realm, &theirs, MANY).await?;
            if held.len() > MANY {
                return Ok(Some(too_many(container)));
            }
            let held: HashSet<DirectoryId> = held.into_iter().collect();
            along.extend(beneath.symmetric_difference(&held));
        }
        if containers.away {
            if known.len() > MANY_CONTAINERS {
                return Ok(Some(format!(
                    "a container may have been moved away, and people are in more than {MANY_CONTAINERS} of them: everything is read"
                )));
            }
            let nothing = ["1.1".to_owned()];
            let mut gone = vec![];
            for container in &known {
                let entry = prepared.session()?.entry(container, &nothing).await?;
                if entry.is_none() {
                    gone.push(container.as_str());
                }
            }
            let held = self.store.present_in(realm, &gone, MANY).await?;
            if held.len() > MANY {
                return Ok(Some(too_many("containers that were moved away")));
            }
            along.extend(held);
        }
        let told: HashSet<DirectoryId> = delta.touched.iter().chain(&delta.gone).copied().collect();
        along.retain(|id| !told.contains(id));
        delta.touched.extend(along);
        Ok(None)
    }

    /// Ids that were told and are no user's.
    async fn strangers(
        &self,
        realm: &RealmId,
        delta: &Delta,
    ) -> Result<Vec<DirectoryId>, RunFailure> {
        let told: Vec<DirectoryId> = delta.touched.iter().chain(&delta.gone).copied().collect();
        let mut strangers = vec![];
        for ids in told.chunks(LOOK_UP) {
            let users = self.store.users_by_directory_id(realm, ids).await?;
            let held: HashSet<DirectoryId> =
                users.into_iter().filter_map(|u| u.directory_id).collect();
            strangers.extend(ids.iter().filter(|id| !held.contains(id)));
        }
        Ok(strangers)
    }

    /// A base of which the store holds people, and none of whom a present phase told. Its containers alone are no evidence that
    /// the account still sees whoever is in them.
    async fn unseen_base(
        &self,
        realm: &RealmId,
        prepared: &PreparedSession,
        delta: &Delta,
    ) -> Result<Option<String>, RunFailure> {
        let Some(present) = &delta.present else {
            return Ok(None);
        };
        let mut unseen: Vec<&String> = prepared.scope.bases.iter().collect();
        let told: Vec<DirectoryId> = present.iter().chain(&delta.touched).copied().collect();
        for ids in told.chunks(LOOK_UP) {
            for user in self.store.users_by_directory_id(realm, ids).await? {
                let within =
                    |base: &str| user.dn.as_deref().is_some_and(|d| dn::is_within(d, base));
                unseen.retain(|base| !within(base));
            }
            if unseen.is_empty() {
                return Ok(None);
            }
        }
        let known = self.store.containers(realm).await?;
        Ok(unseen
            .into_iter()
            .find(|base| known.iter().any(|known| dn::is_within(known, base)))
            .cloned())
    }
}

fn too_many(whose: &str) -> String {
    format!(
        "more than {MANY} people were taken along by `{whose}`, or may have been: everything is read"
    )
}
