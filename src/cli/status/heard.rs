//! How a realm hears of changes, and from whom, in words.

use super::{render, text};
use crate::clock::Timestamp;
use crate::model::RealmKind;
use crate::story::status::{FollowingStatus, PushStatus, RealmStatus};

/// Rows of `status`: what, and what is said of it.
pub(super) fn about(r: &RealmStatus, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut rows = vec![];
    if r.kind == RealmKind::Directory && !r.orphaned {
        rows.push(("changes", changes(r, now)));
        if let Some(following) = &r.following {
            rows.extend(what_of_deltas(following));
        }
    }
    if !r.servers.is_empty() {
        rows.push(("servers", servers(r)));
    }
    rows.extend(r.away.iter().map(|away| {
        let says = format!(
            "{} since {}: {}",
            away.server,
            text::when(away.since),
            away.error
        );
        ("away", render::paint("33", &says))
    }));
    rows
}

fn changes(r: &RealmStatus, now: Timestamp) -> String {
    let Some(f) = &r.following else {
        return format!(
            "{}, until the first full pass has looked what is offered",
            r.changes
        );
    };
    let heard = f
        .heard_at
        .map(|at| format!(", last heard {} ago", text::span(now.since_ms(at).max(0))))
        .unwrap_or_default();
    if f.fell_back {
        return render::paint(
            "33",
            "everything is read each time: two full passes in a row found drift (`sync --full` tries again)",
        );
    }
    match (&f.push, f.poll_ms) {
        (Some(push), _) => format!("{}{heard}", pushed(push, now)),
        (None, Some(ms)) => format!("{}, asked every {}{heard}", r.changes, text::span(ms)),
        (None, None) if r.changes == "full" => {
            "everything is read each time (`check --connect` says what is offered)".to_owned()
        }
        (None, None) => format!("{}, on schedule{heard}", r.changes),
    }
}

fn pushed(push: &PushStatus, now: Timestamp) -> String {
    let since = format!(
        "since {} ({})",
        text::when(push.since),
        text::span(now.since_ms(push.since).max(0))
    );
    match (&push.server, &push.error) {
        (Some(server), _) if push.connected => format!("pushed by {server} {since}"),
        (_, Some(error)) => render::paint("33", &format!("not pushed {since}: {error}")),
        _ => "push is being connected".to_owned(),
    }
}

/// What is not as good as it could be, and what the last full pass found.
fn what_of_deltas(f: &FollowingStatus) -> Vec<(&'static str, String)> {
    let mut rows = vec![];
    if let Some(at) = f.last_delta_at {
        rows.push(("last delta", text::when(at)));
    }
    if let Some(why) = &f.not_pushed {
        rows.push(("no push", render::paint("33", why)));
    }
    if let Some(blind) = &f.blind {
        rows.push(("not told", render::paint("33", blind)));
    }
    if let (Some(drift), Some(at)) = (f.drift, f.drift_at) {
        let says = match drift {
            0 => format!("none in the full pass of {}", text::when(at)),
            n => render::paint(
                "33",
                &format!(
                    "{} changed of whom no delta had told, found by the full pass of {}",
                    text::count(n, "user"),
                    text::when(at)
                ),
            ),
        };
        rows.push(("drift", says));
        if let Some(n) = f.computed.filter(|n| *n > 0) {
            let says = format!(
                "{} changed in the same pass by roles, overlays or access rules, of which no delta can tell",
                text::count(n, "user")
            );
            rows.push(("computed", says));
        }
    }
    rows
}

/// The servers in order, with the one in use.
fn servers(r: &RealmStatus) -> String {
    let one = |server: &String| {
        let used = r
            .server
            .as_deref()
            .is_some_and(|used| used == server.trim_end_matches('/'));
        if used && r.servers.len() > 1 {
            format!("{server} (in use)")
        } else {
            server.clone()
        }
    };
    r.servers.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::realm;
    use super::*;
    use crate::story::status::AwayStatus;

    const NOW: Timestamp = Timestamp(1_795_507_200_000);

    fn said(following: FollowingStatus, changes: &str) -> String {
        let r = RealmStatus {
            following: Some(following),
            changes: changes.into(),
            server: Some("ldaps://b:636".into()),
            away: vec![AwayStatus {
                server: "ldaps://a:636".into(),
                since: NOW.plus_ms(-600_000),
                error: "connecting: refused; start the server".into(),
            }],
            ..realm()
        };
        let rows: Vec<String> = about(&r, NOW)
            .into_iter()
            .map(|(what, says)| format!("{what}: {says}"))
            .collect();
        rows.join("\n") + "\n"
    }

    #[test]
    fn how_a_realm_hears_in_words() {
        let push = |connected: bool| {
            Some(PushStatus {
                connected,
                since: NOW.plus_ms(-90_000),
                server: connected.then(|| "ldaps://b:636".into()),
                error: (!connected).then(|| "ldaps://b:636: the connection ended".into()),
            })
        };
        let polled = FollowingStatus {
            ways: vec!["dirsync".into()],
            poll_ms: Some(10_000),
            blind: Some("deletions are not shown to this account".into()),
            not_pushed: Some("the server does not notify".into()),
            heard_at: Some(NOW.plus_ms(-4_000)),
            ..FollowingStatus::default()
        };
        let connected = FollowingStatus {
            push: push(true),
            last_delta_at: Some(NOW.plus_ms(-3_600_000)),
            drift: Some(0),
            drift_at: Some(NOW.plus_ms(-7_200_000)),
            computed: Some(2),
            ..FollowingStatus::default()
        };
        let away = FollowingStatus {
            push: push(false),
            drift: Some(3),
            drift_at: Some(NOW.plus_ms(-7_200_000)),
            ..FollowingStatus::default()
        };
        let fell_back = FollowingStatus {
            fell_back: true,
            ..FollowingStatus::default()
        };
        insta::assert_snapshot!(
            [
                said(connected, "push"),
                said(away, "push"),
                said(polled, "dirsync"),
                said(fell_back, "full"),
                said(FollowingStatus::default(), "full"),
            ]
            .join("\n")
        );
    }
}
