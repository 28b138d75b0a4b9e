//! Entries that are given to users by hand who have their names: since an administrator said so, or since the realm was made by hand
//! and is in the file now, which counts for its first pass.

use std::collections::{BTreeMap, HashMap};

use super::found::Found;
use super::setting::Setting;
use crate::model::{DirectoryId, Person, User, UserId};
use crate::runs::RunFailure;

/// Gives new entries to the users by hand who have their names. Of two entries of one name neither is given.
pub(super) async fn give_entries(
    setting: &Setting<'_>,
    found: &mut Found,
    people: &mut BTreeMap<DirectoryId, (Person, Option<User>)>,
) -> Result<(), RunFailure> {
    let new = |(person, user): &(Person, Option<User>)| {
        let name = person.username.as_ref().ok().filter(|_| user.is_none());
        name.map(|name| name.key.clone())
    };
    let keys: Vec<String> = people.values().filter_map(new).collect();
    let holders = setting.store().name_holders(setting.id(), &keys).await?;
    let by_hand: Vec<UserId> = holders
        .into_iter()
        .filter(|h| h.directory_id.is_none())
        .map(|h| h.user)
        .collect();
    let first = setting.row.first_applied_at.is_none();
    let given = setting.store().adopting(&by_hand, first).await?;
    let mut given: HashMap<String, (User, bool)> = given
        .into_iter()
        .map(|(user, said)| (user.username_key.clone(), (user, said)))
        .collect();
    if given.is_empty() {
        return Ok(());
    }
    let mut wanted: HashMap<&String, usize> = HashMap::new();
    for key in &keys {
        *wanted.entry(key).or_default() += 1;
    }
    for one in people.values_mut() {
        let key = new(one).filter(|key| wanted.get(key) == Some(&1));
        if let Some((user, said)) = key.and_then(|key| given.remove(&key)) {
            if !said {
                found.matched.insert(user.id);
            }
            one.1 = Some(user);
        }
    }
    Ok(())
}
