//! What is asked before it is believed that somebody is nowhere. A full pass has seen everybody else, though not where they are by
//! now; a delta has seen nobody else.

use std::collections::{BTreeMap, BTreeSet};

use super::found::Found;
use super::reading::Reading;
use super::setting::Setting;
use crate::directory::Sighting;
use crate::model::{DirectoryId, ErrorCode, User, dn};
use crate::runs::RunFailure;
use crate::sync::realm::session::LOOK_UP;
use crate::sync::run_request::RunRequest;

/// Others of a container who are looked up too. Some may have gone this very moment, all of them hardly.
const OTHERS: usize = 5;

/// So many of a container found nowhere at once hold the plan where nobody else is left in it (the design, § 3.2).
const MANY: i64 = 3;

/// Refused is not absent: an entry whose id cannot be read is not found by it, and stands where this user's stood. Only a delta
/// asks; a full pass has met the entry.
pub(super) async fn stands_there(
    reading: &mut Reading,
    found: &mut Found,
    user: &User,
) -> Result<bool, RunFailure> {
    let (Some(_), Some(dn)) = (&reading.told, &user.dn) else {
        return Ok(false);
    };
    let attributes = reading.prepared.scope.attributes.clone();
    let Some(entry) = reading.prepared.session()?.entry(dn, &attributes).await? else {
        return Ok(false);
    };
    match reading.prepared.normaliser.directory_id(&entry) {
        Ok(id) if user.directory_id == Some(id) => Err(RunFailure::new(
            ErrorCode::Incomplete,
            format!(
                "`{}` is not found by its `{}`, and yet it is there with it; nothing was applied. If the next run says the same, the server does not find people by that attribute: name another one as `directory-id`",
                dn, reading.prepared.scope.id_attribute
            ),
        )),
        Ok(_) => Ok(false),
        Err(refusal) => {
            reading.unknown.insert(refusal.dn.clone());
            found.refuse(refusal);
            Ok(true)
        }
    }
}

/// Whether the account sees anybody at all where people are gone: who is blind there finds nobody by id either, whether they
/// were told or not. The directory is asked who else of the container is there still: who was moved away, in this very plan or
/// behind it, shows nothing of those who are not found. Such a plan is held, and after a delta the next pass reads everything.
/// `nowhere`: container → how many of it were found nowhere. Gives the containers in which nobody is seen, with how many.
pub(super) async fn nobody_seen(
    setting: &Setting<'_>,
    reading: &mut Reading,
    nowhere: &BTreeMap<String, i64>,
    ask: &RunRequest,
) -> Result<Vec<(String, i64)>, RunFailure> {
    let mut unseen = vec![];
    for (container, gone) in nowhere {
        // Who was met by a full pass is known to be seen, but not where they are now.
        if reading.told.is_none() && *gone < MANY {
            continue;
        }
        let some = others(setting, reading, container).await?;
        let found = reading.look_up(&some).await?;
        if reading.told.is_some() && !some.is_empty() && found.is_empty() {
            let others = i64::try_from(some.len()).unwrap_or(i64::MAX);
            let blind = gone.saturating_add(others);
            unseen.push((container.clone(), blind));
            continue;
        }
        if *gone < MANY || found.values().any(|it| is_in(it, container)) {
            continue;
        }
        if !is_any_there(setting, reading, container, ask).await? {
            unseen.push((container.clone(), *gone));
        }
    }
    Ok(unseen)
}

/// A few of the others of a container. None of them says little: only the newest of the realm are looked through.
async fn others(
    setting: &Setting<'_>,
    reading: &Reading,
    container: &str,
) -> Result<Vec<DirectoryId>, RunFailure> {
    let told = reading.told_ids();
    let gone = |id: &DirectoryId| match told {
        Some(told) => told.contains(id),
        None => !reading.index.seen(*id),
    };
    let many = told.map_or(LOOK_UP, BTreeSet::len);
    let store = setting.store();
    let mut others = store
        .some_in_container(setting.id(), container, many.saturating_add(OTHERS))
        .await?;
    others.retain(|id| !gone(id));
    others.truncate(OTHERS);
    Ok(others)
}

/// Whether the directory shows anybody in a container of all whom the store has there. Asked until one is found.
async fn is_any_there(
    setting: &Setting<'_>,
    reading: &mut Reading,
    container: &str,
    ask: &RunRequest,
) -> Result<bool, RunFailure> {
    let store = setting.store();
    let all = store
        .present_in(setting.id(), &[container], usize::MAX)
        .await?;
    for ids in all.chunks(LOOK_UP) {
        if ask.cancel.is_cancelled() {
            return Err(RunFailure::cancelled());
        }
        let found = reading.look_up(ids).await?;
        if found.values().any(|it| is_in(it, container)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an entry is directly in this (folded) container.
fn is_in(sighting: &Sighting, container: &str) -> bool {
    let dn = match sighting {
        Sighting::InScope(entry) => entry.dn_shown(),
        Sighting::OutOfScope { dn, .. } => dn.as_str().into(),
    };
    dn::container(&dn).as_deref() == Some(container)
}
