//! Whom a full pass finds changed although their entries did not change: by a role, a class of service, a collective attribute, an
//! overlay, an access rule. No delta can tell of them, so they are no drift.

use std::collections::{HashMap, HashSet};

use crate::directory::Mark;
use crate::model::{DirectoryId, RealmRow, User, UserId, dn};
use crate::runs::RunFailure;
use crate::sync::pass::setting::Setting;
use crate::sync::realm::following::Following;
use crate::sync::realm::session::{LOOK_UP, PreparedSession};

/// People who are asked about. More are drift: something larger is wrong, and asking for everybody again takes as long as a pass.
const MOST: usize = 20_000;

/// Containers that are asked about. Those who came in more of them are drift.
const MOST_CONTAINERS: usize = 1000;

/// Somebody whom the plan changes and no delta told.
pub(in crate::sync) struct MissedChange {
    pub user: UserId,
    pub id: Option<DirectoryId>,
}

/// Of those whom no delta told, the places in the plan of those whom none can have told: their entries are as they were when
/// the last full pass began, and stand where they stood. `before` is what that pass left; without a mark nobody is.
pub(in crate::sync) async fn computed(
    setting: &Setting<'_>,
    prepared: &mut PreparedSession,
    untold: &HashMap<i64, MissedChange>,
    before: &Following,
) -> Result<HashSet<i64>, RunFailure> {
    let mut computed = HashSet::new();
    let Some(mark) = before.mark.clone().filter(|_| untold.len() <= MOST) else {
        return Ok(computed);
    };
    let people: Vec<(i64, DirectoryId)> = untold
        .iter()
        .filter_map(|(seq, untold)| Some((*seq, untold.id?)))
        .collect();
    let mut containers = HashMap::new();
    for people in people.chunks(LOOK_UP) {
        let ids: Vec<DirectoryId> = people.iter().map(|(_, id)| *id).collect();
        let held = setting.held(&ids).await?;
        let scope = prepared.scope.clone();
        let session = prepared.session()?;
        let unmoved = session.unmoved(&scope, &mark, &ids).await?;
        for (seq, id) in people {
            let Some(now) = unmoved.get(id) else { continue };
            let stands = match held.get(id) {
                Some(user) => stood_there(setting.row, user, now),
                None => came_by_itself(prepared, now, &mark, &mut containers).await?,
            };
            if stands {
                computed.insert(*seq);
            }
        }
    }
    Ok(computed)
}

/// Whether a user's entry stands where the last full pass saw it. Who changed after that pass was told then, by an entry that
/// had changed: it went back since, as from a backup.
fn stood_there(row: &RealmRow, user: &User, now: &str) -> bool {
    let told = row
        .last_complete_at
        .is_some_and(|pass| user.updated_at > pass);
    let folded = |name: &str| dn::parse(name).ok().map(|name| name.folded());
    let then = user.dn.as_deref().and_then(folded);
    !told && then.is_some() && then == folded(now)
}

/// Whether somebody new was there before, and only the filter did not match: nothing that holds the entry changed either. A
/// container that is moved brings people along whose own entries do not change.
async fn came_by_itself(
    prepared: &mut PreparedSession,
    name: &str,
    mark: &Mark,
    containers: &mut HashMap<String, bool>,
) -> Result<bool, RunFailure> {
    let Ok(mut name) = dn::parse(name) else {
        return Ok(false);
    };
    let bases: Vec<dn::Dn> = prepared
        .scope
        .bases
        .iter()
        .filter_map(|base| dn::parse(base).ok())
        .collect();
    while let Some(above) = name.parent() {
        if !bases.iter().any(|base| above.within(base)) {
            break;
        }
        let key = above.folded();
        let unmoved = match containers.get(&key) {
            Some(known) => *known,
            None if containers.len() >= MOST_CONTAINERS => false,
            None => {
                let session = prepared.session()?;
                let unmoved = session.is_unmoved_at(mark, &key).await?;
                containers.insert(key, unmoved);
                unmoved
            }
        };
        if !unmoved {
            return Ok(false);
        }
        name = above;
    }
    Ok(true)
}
