//! Which ways of hearing of changes the account really has on a server, and what would give it a better one.

use super::Report;
use crate::config::{ChangesWay, DirectoryKind, RealmConfig};
use crate::directory::{Blind, DirectoryError, NoDelta, Scope, Session, Way};

pub(super) async fn look(
    session: &mut Session,
    scope: &Scope,
    realm: &RealmConfig,
    report: &mut Report,
) -> Result<(), DirectoryError> {
    let ways = session.ways(scope).await?;
    let kind = session.kind();
    let named = named(realm.directory.changes);
    let used = match realm.directory.changes {
        ChangesWay::Full => None,
        ChangesWay::Auto => ways.first().copied(),
        _ => named.filter(|way| ways.contains(way)),
    };
    let words: Vec<&str> = ways.iter().map(|way| way.as_str()).collect();
    let offered = if words.is_empty() {
        "the account can hear of changes by no way here: every run reads everything".to_owned()
    } else {
        format!(
            "the account can hear of changes by {} (best first)",
            words.join(", ")
        )
    };
    let uses = match (used, realm.directory.changes) {
        (Some(way), _) => format!("; {} is used", way.as_str()),
        (None, ChangesWay::Full) if !words.is_empty() => {
            "; `changes = \"full\"` reads everything all the same".to_owned()
        }
        (None, _) => String::new(),
    };
    if words.is_empty() && realm.directory.changes != ChangesWay::Full {
        report.mend(offered);
    } else {
        report.found(format!("{offered}{uses}"));
    }
    if let Some(way) = named.filter(|way| !ways.contains(way)) {
        let why = why_not(session, scope, way).await?;
        report.mend(format!(
            "`changes = \"{}\"` is not offered to the account: {why}; {}, or write `changes = \"auto\"`",
            way.as_str(),
            advice(kind, way)
        ));
    } else if realm.directory.changes == ChangesWay::Auto
        && let Some(better) = better(kind, &ways)
    {
        let why = why_not(session, scope, better).await?;
        report.found(format!(
            "{} would be better: {why}; {}",
            better.as_str(),
            advice(kind, better)
        ));
    }
    if let Some(way) = used {
        not_told(session, scope, way, report).await?;
    }
    Ok(())
}

/// The way that the file names.
fn named(changes: ChangesWay) -> Option<Way> {
    match changes {
        ChangesWay::Auto | ChangesWay::Full => None,
        ChangesWay::Syncrepl => Some(Way::Syncrepl),
        ChangesWay::Push => Some(Way::Push),
        ChangesWay::DirSync => Some(Way::DirSync),
        ChangesWay::Timestamp => Some(Way::Timestamp),
    }
}

/// The way that should be there on a server of this kind, and is not.
fn better(kind: DirectoryKind, ways: &[Way]) -> Option<Way> {
    let asked = if kind == DirectoryKind::ActiveDirectory {
        Way::DirSync
    } else {
        Way::Syncrepl
    };
    [asked, Way::Push]
        .into_iter()
        .find(|way| !ways.contains(way))
}

/// Why a way is not offered, in the server's words where it has any.
async fn why_not(session: &mut Session, scope: &Scope, way: Way) -> Result<String, DirectoryError> {
    match session.cursor_now(scope, way).await {
        Err(NoDelta::NotOffered(why) | NoDelta::StartOver(why)) => Ok(why),
        Err(NoDelta::Directory(error)) => Err(error),
        // Its protocol is there: it is the open search that the server does not give.
        Ok(_) => Ok("the server does not keep a search open for the account".into()),
    }
}

/// What an administrator of such a directory does about it.
fn advice(kind: DirectoryKind, way: Way) -> &'static str {
    match (kind, way) {
        (DirectoryKind::ActiveDirectory, Way::Syncrepl) => "Active Directory does not know it",
        (DirectoryKind::ActiveDirectory, Way::Push | Way::DirSync) => {
            "give the account the right (`dsacls \"DC=example,DC=org\" /G \"EXAMPLE\\svc-sync:CA;Replicating Directory Changes\"`)"
        }
        (_, Way::DirSync) => "only Active Directory knows it",
        (DirectoryKind::Ds389, Way::Push | Way::Syncrepl) => {
            "turn the plug-ins on (`dsconf INSTANCE plugin retro-changelog enable`, `dsconf INSTANCE plugin contentsync enable`), allow the account to read `cn=changelog`, leave `directory-id` at nsUniqueId, and restart the server"
        }
        (_, Way::Push | Way::Syncrepl) => {
            "load the overlay `syncprov` on this database with a session log (`olcSpSessionlog: 100000`), and let the account read `entryUUID`, `entryCSN` and `contextCSN`"
        }
        (_, Way::Timestamp) => {
            "the account must be able to read and search `modifyTimestamp` (an index on it helps), on Active Directory `uSNChanged`"
        }
    }
}

/// What this way leaves to the full pass.
async fn not_told(
    session: &mut Session,
    scope: &Scope,
    way: Way,
    report: &mut Report,
) -> Result<(), DirectoryError> {
    let cursor = match session.cursor_now(scope, way).await {
        Ok(cursor) => cursor,
        Err(NoDelta::Directory(error)) => return Err(error),
        Err(NoDelta::NotOffered(_) | NoDelta::StartOver(_)) => return Ok(()),
    };
    if let Some(blind) = Blind::text(&session.blind_to(scope, cursor.way).await?) {
        report.found(format!(
            "deltas do not tell everything: {blind}; `full-schedule` finds the rest"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_better_depends_on_the_kind() {
        use DirectoryKind::{ActiveDirectory, Ds389, OpenLdap};
        assert_eq!(better(OpenLdap, &[Way::Timestamp]), Some(Way::Syncrepl));
        assert_eq!(
            better(Ds389, &[Way::Syncrepl, Way::Timestamp]),
            Some(Way::Push)
        );
        assert_eq!(
            better(ActiveDirectory, &[Way::Timestamp]),
            Some(Way::DirSync)
        );
        assert_eq!(
            better(ActiveDirectory, &[Way::Push, Way::DirSync, Way::Timestamp]),
            None
        );
        assert_eq!(better(OpenLdap, &[Way::Push, Way::Syncrepl]), None);
    }
}
