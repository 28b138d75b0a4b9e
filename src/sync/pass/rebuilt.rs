//! A held plan read as a rebuilt directory.

use std::borrow::Cow;
use std::collections::HashMap;

use super::index::hash_name;
use super::under_way::Pass;
use crate::directory::Sighting;
use crate::model::{DirectoryId, Person, User, UserId};
use crate::plan::decide::{DecisionContext, NameGrant, Observation, decide};
use crate::runs::RunFailure;

/// New entries that are paired at once.
const BATCH: usize = 1000;

impl Pass<'_> {
    /// Pairs new entries with users whose entry is gone: the same name, and the same phone or e-mail, is the same person in a
    /// rebuilt directory. They keep everything and take the new id.
    pub(in crate::sync) async fn adopt(&mut self) -> Result<(), RunFailure> {
        for ids in self.reading.contested_ids().chunks(BATCH) {
            let people: Vec<(DirectoryId, Person)> = self
                .reading
                .prepared
                .look_up(ids)
                .await?
                .into_iter()
                .filter_map(|(id, sighting)| match sighting {
                    Sighting::InScope(entry) => {
                        Some((id, self.reading.prepared.normaliser.person(&entry).ok()?))
                    }
                    Sighting::OutOfScope { .. } => None,
                })
                // Of two who might be the same person, neither is.
                .filter(|(_, p)| {
                    p.username
                        .as_ref()
                        .is_ok_and(|n| !self.reading.rivals.contains(&hash_name(&n.key)))
                })
                .collect();
            let keys: Vec<String> = people
                .iter()
                .filter_map(|(_, p)| Some(p.username.as_ref().ok()?.key.clone()))
                .collect();
            let mut holders = self
                .setting
                .engine
                .store
                .name_holders(&self.setting.row.id, &keys)
                .await?;
            holders.retain(|h| {
                h.directory_id
                    .is_some_and(|old| !self.reading.index.seen(old))
            });
            let users: Vec<UserId> = holders.iter().map(|h| h.user).collect();
            let mut gone: HashMap<String, User> = self
                .setting
                .engine
                .store
                .users_by_id(&users)
                .await?
                .into_iter()
                .map(|u| (u.username_key.clone(), u))
                .collect();
            for (id, person) in people {
                let Ok(name) = person.username.clone() else {
                    continue;
                };
                let Some(user) = gone.remove(&name.key) else {
                    continue;
                };
                if !same_person(&user, &person) {
                    continue;
                }
                let context = DecisionContext {
                    adopts: true,
                    ..self.found.context(&self.setting)
                };
                let decision = decide(
                    Some(&user),
                    Observation::Here {
                        person: Cow::Borrowed(&person),
                        name: NameGrant::Granted(name),
                    },
                    &context,
                );
                if let Some(decision) = decision {
                    self.found.plan.add(decision).await?;
                }
                for refusal in person.refused {
                    self.found.refuse(refusal);
                }
                if let Some(old) = user.directory_id {
                    self.reading.index.meet(old, 0, 0);
                }
                self.reading.uncontest(id);
            }
        }
        Ok(())
    }
}

fn same_person(user: &User, person: &Person) -> bool {
    use crate::model::{Known, PhoneReading};
    let phone = match &person.phone {
        PhoneReading::Read(attributes) => attributes
            .iter()
            .flat_map(|a| &a.usable)
            .any(|v| Some(&v.phone) == user.phone.as_ref()),
        PhoneReading::Unknown => false,
    };
    let email = match &person.email {
        Known::Known(Some(email)) => user
            .email
            .as_ref()
            .is_some_and(|held| held.to_lowercase() == email.to_lowercase()),
        _ => false,
    };
    phone || email
}
