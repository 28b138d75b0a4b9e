//! A held plan read as a rebuilt directory.

use std::borrow::Cow;
use std::collections::HashMap;

use super::found::Found;
use super::index::hash_name;
use super::reading::Reading;
use super::same_person::same_person;
use super::setting::Setting;
use crate::directory::Sighting;
use crate::model::{DirectoryId, Person, User, UserId};
use crate::plan::decide::{DecisionContext, NameGrant, Observation, decide};
use crate::runs::RunFailure;

/// New entries that are paired at once.
const BATCH: usize = 1000;

/// Pairs new entries with users whose entry is gone: the same name, and the same phone or e-mail, is the same person in a
/// rebuilt directory. They keep everything and take the new id; neither their old id is absent nor their name contested any more.
pub(super) async fn adopt(
    setting: &Setting<'_>,
    reading: &mut Reading,
    found: &mut Found,
) -> Result<(), RunFailure> {
    for ids in reading.contested_ids().chunks(BATCH) {
        let people: Vec<(DirectoryId, Person)> = reading
            .look_up(ids)
            .await?
            .into_iter()
            .filter_map(|(id, sighting)| match sighting {
                Sighting::InScope(entry) => {
                    Some((id, reading.prepared.normaliser.person(&entry).ok()?))
                }
                Sighting::OutOfScope { .. } => None,
            })
            // Of two who might be the same person, neither is.
            .filter(|(_, p)| {
                p.username
                    .as_ref()
                    .is_ok_and(|n| !reading.rivals.contains(&hash_name(&n.key)))
            })
            .collect();
        let keys: Vec<String> = people
            .iter()
            .filter_map(|(_, p)| Some(p.username.as_ref().ok()?.key.clone()))
            .collect();
        let mut holders = setting.store().name_holders(setting.id(), &keys).await?;
        holders.retain(|h| h.directory_id.is_some_and(|old| !reading.index.seen(old)));
        let users: Vec<UserId> = holders.iter().map(|h| h.user).collect();
        let mut gone: HashMap<String, User> = setting
            .store()
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
            if found.is_to_be_asked(setting, &user, &person).await? {
                let unprotected = reading.prepared.unprotected(&[id]).await;
                found.unprotected.extend(unprotected);
            }
            let context = DecisionContext {
                adopts: true,
                ..found.context_of(setting, &user, id).await?
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
                found.plan.add(decision).await?;
            }
            for refusal in person.refused {
                found.refuse(refusal);
            }
            if let Some(old) = user.directory_id {
                reading.index.meet(old, 0, 0);
            }
            reading.uncontest(id);
        }
    }
    Ok(())
}
