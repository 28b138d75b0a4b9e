//! `status`: how every realm stands. Takes no lock, so it may be asked as often as one likes.

mod heard;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::operator::store_failure;
use super::{CommandContext, render, text};
use crate::acts::ActFailure;
use crate::clock::Timestamp;
use crate::config::StoreUrl;
use crate::model::RealmKind;
use crate::model::ids::SHORT;
use crate::model::{JobState, Outcome};
use crate::story::realms::{untouched, without_daemon};
use crate::story::status::{DaemonStatus, RealmStatus};

pub(super) async fn status(context: &CommandContext) -> Result<u8, ActFailure> {
    let (realms, daemon) = match context.daemon().await {
        Some(client) => {
            let answer = client.status().await?;
            if answer.daemon.other_file {
                context.other_file(&answer.daemon);
            }
            (answer.realms, Some(answer.daemon))
        }
        None if no_store_yet(context) => (untouched(&context.config), None),
        None => {
            let store = context.store().await?;
            let realms = without_daemon(&store, &context.config, context.clock.now())
                .await
                .map_err(|e| store_failure(&e))?;
            store.close().await;
            (realms, None)
        }
    };
    if context.json {
        realms.iter().for_each(render::json);
        return Ok(0);
    }
    match &daemon {
        Some(daemon) => render::line(&about_daemon(daemon)),
        None if no_store_yet(context) => render::talk(
            "no daemon answers, and there is no store yet; the service or `realmsync sync` makes it",
        ),
        None => render::talk("no daemon answers; this is what the store says"),
    }
    let now = context.clock.now();
    for realm in &realms {
        render::line(&about_realm(realm, now));
    }
    if let Some(zones) = realms.iter().find_map(|realm| realm.time_zones.as_ref()) {
        render::line(&format!("\ntime zones by the rules of {zones}"));
    }
    Ok(0)
}

pub(super) fn no_store_yet(context: &CommandContext) -> bool {
    matches!(&context.config.store.url, StoreUrl::Sqlite(path) if path.try_exists().is_ok_and(|there| !there))
}

fn about_daemon(daemon: &DaemonStatus) -> String {
    let mut text = format!(
        "daemon {} (process {}) since {}, by {}",
        daemon.version,
        daemon.pid,
        text::when(daemon.started_at),
        daemon.config.display()
    );
    if daemon.undeclared {
        let _infallible = write!(
            text,
            "\n  {} no run begins: the store is still taking the configuration in",
            render::paint("33", "!")
        );
    }
    for token in &daemon.tokens_at_limit {
        let _infallible = write!(
            text,
            "\n  {} the token `{token}` has made as many users by logons within an hour as it may (`logons.max-new-per-hour`): is the service sound?",
            render::paint("31", "!")
        );
    }
    for operation in &daemon.operations {
        let _infallible = write!(
            text,
            "\n  operation {:#}: {} of {}, {} changed, {} refused",
            operation.id,
            operation.done,
            text::count(operation.total, "user"),
            operation.changed,
            operation.refused
        );
    }
    if daemon.clock_off_ms.abs() >= 2000 {
        let seconds = daemon.clock_off_ms / 1000;
        let then = if daemon.clock_off_ms.abs() >= 30_000 {
            ", and nobody is verified here"
        } else {
            ""
        };
        let _infallible = write!(
            text,
            "\n  {} this machine's clock is {seconds} s from the database's{then}: set it (NTP)",
            render::paint("31", "!")
        );
    }
    if let Some(error) = &daemon.reload_error {
        let what = error.lines().next().unwrap_or_default();
        let at = daemon
            .reload_refused_at
            .map(|at| format!(" at {}", text::when(at)))
            .unwrap_or_default();
        let _infallible = write!(
            text,
            "\n  {} the last reload was refused{at}, and the configuration from before is in force: {what} (`realmsync check` shows it)",
            render::paint("31", "!")
        );
    }
    for (colour, line) in about_keys(daemon) {
        let _infallible = write!(text, "\n  {} {line}", render::paint(colour, "!"));
    }
    for receiver in daemon.receivers.as_array().into_iter().flatten() {
        let name = receiver["receiver"].as_str().unwrap_or_default();
        let mark = render::paint("31", "!");
        if let Some(why) = receiver["broken"].as_str() {
            let _infallible = write!(text, "\n  {mark} nothing can be sent to {name}: {why}");
        } else if receiver["circuit"]["state"]
            .as_str()
            .is_some_and(|state| state != "closed")
        {
            let _infallible = write!(
                text,
                "\n  {mark} {name} has failed again and again: messages wait, and one at a time is tried (`realmsync outbox list`)"
            );
        }
    }
    text
}

/// What an administrator should see to about the enrolment key, and after a copy was put in the store's place.
fn about_keys(daemon: &DaemonStatus) -> Vec<(&'static str, String)> {
    const ALARM: &str = "31";
    const NOTE: &str = "33";
    let mut lines = vec![];
    if let Some(key) = &daemon.enrolment_key {
        if let Some(error) = &key.error {
            lines.push((ALARM, error.clone()));
        }
        if key.locked_out > 0 {
            let secrets = text::count(key.locked_out, "secret");
            lines.push((ALARM, format!("{secrets} kept with an enrolment key that nobody knows: these users cannot be verified; name it as `previous-key-file`, or see `realmsync give-up-key`")));
        }
        if let Some(alarm) = &key.alarm {
            lines.push((
                ALARM,
                format!(
                    "a secret could not be decrypted: {}",
                    text::local_times(alarm)
                ),
            ));
        }
        if key.to_move > 0 {
            let secrets = text::count(key.to_move, "secret");
            lines.push((NOTE, format!("{secrets} still kept with the former enrolment key; they are being moved over: leave `previous-key` where it is")));
        }
        if key.previous_may_go {
            lines.push((NOTE, "nothing is kept with the former enrolment key any more: `previous-key` may be taken out".to_owned()));
        }
    }
    if let Some(restored) = &daemon.restored {
        let tokens = match restored.api_tokens.len() {
            0 => "no API token".to_owned(),
            _ => format!("API tokens {}", restored.api_tokens.join(", ")),
        };
        lines.push((NOTE, format!("since {} the store goes on from a copy: what was revoked after the copy was made may be good again ({tokens}); look at `realmsync api-tokens list`, revoke again what was revoked, then `realmsync restored --reviewed`", text::when(restored.at))));
    }
    lines
}

/// Whose pause it is, and what ends it.
fn about_pause(r: &RealmStatus) -> String {
    let own = r.paused_by_administrator.as_ref();
    let until = own.map_or(r.paused_until, |own| own.until);
    let until = until.map_or(String::new(), |t| format!(" until {}", text::when(t)));
    let by = own.and_then(|own| own.by.as_ref());
    let by = by.map_or(String::new(), |by| format!(" by {by}"));
    match (r.paused_by_undo, own) {
        (None, _) => format!("paused{by}{until}"),
        (Some(undo), own) => {
            let also = own.map_or(String::new(), |_| {
                format!(
                    ", and{} {until}",
                    if by.is_empty() {
                        " by an administrator"
                    } else {
                        &by
                    }
                )
                .trim_end()
                .replace("  ", " ")
            });
            format!(
                "paused by undo {undo:#}{also}: mend the directory or the configuration, then `realmsync resume {}`",
                r.realm
            )
        }
    }
}

fn about_realm(r: &RealmStatus, now: Timestamp) -> String {
    let mut marks = vec![];
    if r.paused {
        marks.push(about_pause(r));
    }
    if r.orphaned {
        marks.push(
            "orphaned: in no running daemon's configuration; nothing runs, ages or is sent"
                .to_owned(),
        );
    }
    if r.due {
        marks.push("due".to_owned());
    }
    let marks = if marks.is_empty() {
        String::new()
    } else {
        render::paint("33", &format!(" ({})", marks.join("; ")))
    };
    let mut text = format!("\n{}{marks}", render::paint("1", r.realm.as_str()));
    let mut row = |what: &str, says: &str| {
        let _infallible = write!(text, "\n  {what:<14}{says}");
    };
    // What has no directory has no pass.
    if r.kind == RealmKind::Directory || r.last_success_at.is_some() {
        row(
            "last success",
            &r.last_success_at.map_or_else(
                || "never".to_owned(),
                |t| format!("{} ({} ago)", text::when(t), text::span(now.since_ms(t))),
            ),
        );
    }
    match (r.last_outcome, &r.last_error) {
        (Some(outcome), Some(error)) => row("last run", &format!("{}: {error}", paint(outcome))),
        (Some(outcome), None) => row("last run", &paint(outcome)),
        (None, _) => {}
    }
    if let Some(run) = &r.running {
        let of = if run.expected > 0 {
            format!(" of about {}", run.expected)
        } else {
            String::new()
        };
        row(
            "running",
            &format!(
                "{} read{of} in {}",
                run.seen,
                text::span(now.since_ms(run.since))
            ),
        );
    }
    if let Some(holder) = &r.holder {
        row(
            "held by",
            &format!(
                "{} since {}, renewed until {}",
                holder.name,
                text::when(holder.since),
                text::when(holder.until)
            ),
        );
    }
    if let Some(next) = r.next_run_at {
        row("next run", &text::when(next));
    }
    let counts = |map: &BTreeMap<String, i64>, none: &str| {
        let parts: Vec<String> = map
            .iter()
            .filter(|(_, n)| **n > 0)
            .map(|(k, n)| format!("{n} {k}"))
            .collect();
        if parts.is_empty() {
            none.to_owned()
        } else {
            parts.join(", ")
        }
    };
    row("users", &counts(&r.users, "none"));
    if let Some(held) = r.held {
        row(
            "held",
            &render::paint(
                "33",
                &format!("plan {held:#} waits for a decision (`realmsync runs show {held:#}`)"),
            ),
        );
    }
    if let Some(before) = &r.rejected_before {
        row("", &text::rejected_before(before, SHORT));
    }
    for why in &r.held_by {
        row("", &format!("because {}", why.why()));
    }
    if let Some(until) = r.left_out_until {
        row(
            "left out",
            &format!(
                "changes that were rejected for a time, the first of them until {}",
                text::when(until)
            ),
        );
    }
    if let Some(guesses) = &r.guesses {
        let says = format!(
            "within an hour {} locked, {} held back by a delay: somebody seems to guess codes",
            text::count(guesses.locked, "user"),
            text::count(guesses.delayed, "user")
        );
        row("guesses", &render::paint("31", &says));
        if !guesses.users.is_empty() {
            let named: Vec<String> = guesses.users.iter().map(|u| text::one_line(u)).collect();
            let hint = "`realmsync users list --held-back` shows all, `realmsync verifications --user NAME` what they were answered";
            row("", &format!("{}: {hint}", named.join(", ")));
        }
    }
    let refused: Vec<String> = [("entries", "entry"), ("phones", "value")]
        .iter()
        .filter_map(|(kind, noun)| Some(text::count(*r.refused.get(*kind)?, noun)))
        .collect();
    if !refused.is_empty() {
        row(
            "refused",
            &format!("{} (`realmsync refused {}`)", refused.join(", "), r.realm),
        );
    }
    for (what, says) in heard::about(r, now) {
        row(what, &says);
    }
    row("outbox", &counts(&r.outbox, "empty"));
    if let Some(warning) = undelivered(r) {
        row("", &render::paint("31", &warning));
    }
    for (name, jobs) in &r.sending_by {
        row("", &format!("{jobs} being sent by {name}"));
    }
    text
}

/// That messages ended without being accepted, and what to do.
fn undelivered(r: &RealmStatus) -> Option<String> {
    let of = |state: JobState| r.outbox.get(state.as_str()).copied().unwrap_or(0);
    let (refused, dead) = (of(JobState::Final), of(JobState::Dead));
    let ways: Vec<String> = [
        (refused, "refused for good by the receiver"),
        (dead, "given up"),
    ]
    .iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, how)| format!("{} {how}", text::count(*n, "message")))
    .collect();
    if ways.is_empty() {
        return None;
    }
    Some(format!(
        "! {}: `realmsync outbox list --realm {2}` shows why, `realmsync outbox retry --realm {2}` sends {1} again where that still holds",
        ways.join(", "),
        if refused + dead == 1 { "it" } else { "them" },
        r.realm
    ))
}

fn paint(outcome: Outcome) -> String {
    let colour = match outcome {
        Outcome::Applied | Outcome::Unchanged | Outcome::Running => "32",
        Outcome::Held | Outcome::Rejected | Outcome::Expired | Outcome::Replaced => "33",
        Outcome::Failed | Outcome::Cancelled => "31",
    };
    render::paint(colour, outcome.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HeldBy;
    use crate::story::status::HolderStatus;

    pub(super) fn realm() -> RealmStatus {
        RealmStatus {
            realm: "example.org".into(),
            kind: RealmKind::Directory,
            paused: true,
            paused_until: Some(Timestamp(1_795_525_200_000)),
            orphaned: false,
            due: true,
            last_success_at: Some(Timestamp(1_795_500_000_000)),
            last_outcome: Some(Outcome::Failed),
            last_error: Some("ldaps://a:636: connecting: refused; start the server".into()),
            next_run_at: None,
            users: [
                ("active".to_owned(), 292),
                ("removed".to_owned(), 0),
                ("suspended".to_owned(), 8),
            ]
            .into(),
            held: "01a20dac-e9d1-7620-bd85-0713e96ec38d".parse().ok(),
            servers: vec!["ldaps://a:636".into(), "ldaps://b:636".into()],
            changes: "full".into(),
            outbox: [("dead".to_owned(), 1), ("waiting".to_owned(), 3)].into(),
            paused_by_undo: None,
            paused_by_administrator: None,
            rejected_before: None,
            left_out_until: None,
            guesses: None,
            running: None,
            holder: None,
            sending_by: BTreeMap::new(),
            following: None,
            server: None,
            away: vec![],
            reload_refused: None,
            held_by: vec![HeldBy {
                limit: "suspended".into(),
                count: 30,
                of: 300,
                allowed: 15,
            }],
            refused: [("entries".to_owned(), 1), ("phones".to_owned(), 12)].into(),
            time_zones: None,
        }
    }

    #[test]
    fn a_realm_in_words() {
        let now = Timestamp(1_795_507_200_000);
        let fresh = RealmStatus {
            paused: false,
            paused_until: None,
            due: false,
            last_success_at: None,
            last_outcome: None,
            last_error: None,
            held: None,
            held_by: vec![],
            refused: BTreeMap::new(),
            users: BTreeMap::new(),
            outbox: BTreeMap::new(),
            ..realm()
        };
        let shared = RealmStatus {
            outbox: [("sending".to_owned(), 2)].into(),
            holder: Some(HolderStatus {
                name: "second:4711".into(),
                since: Timestamp(1_795_507_190_000),
                until: Timestamp(1_795_507_205_000),
            }),
            sending_by: [("second:4711".to_owned(), 2)].into(),
            ..fresh.clone()
        };
        insta::assert_snapshot!(format!(
            "{}\n{}\n{}",
            about_realm(&realm(), now),
            about_realm(&fresh, now),
            about_realm(&shared, now)
        ));
    }

    #[test]
    fn messages_that_ended_undelivered_are_a_warning_with_what_to_do() {
        let with = |outbox: &[(&str, i64)]| {
            let outbox = outbox.iter().map(|(s, n)| ((*s).to_owned(), *n)).collect();
            undelivered(&RealmStatus { outbox, ..realm() })
        };
        assert_eq!(with(&[("waiting", 3), ("delivered", 7), ("held", 1)]), None);
        let one = with(&[("final", 1)]).expect("a warning");
        assert_eq!(
            one,
            "! 1 message refused for good by the receiver: `realmsync outbox list --realm example.org` shows why, `realmsync outbox retry --realm example.org` sends it again where that still holds"
        );
        let both = with(&[("dead", 2), ("final", 1)]).expect("a warning");
        assert!(
            both.contains("by the receiver, 2 messages given up: ")
                && both.ends_with("sends them again where that still holds"),
            "{both}"
        );
    }

    #[test]
    fn an_undos_pause_says_how_to_go_on() {
        let undo = "01a20dac-e9d1-7620-bd85-0713e96ec38d";
        let paused = RealmStatus {
            paused_until: None,
            paused_by_undo: undo.parse().ok(),
            ..realm()
        };
        let says = about_realm(&paused, Timestamp(1_795_507_200_000));
        for words in [
            "paused by undo e96ec38d: mend".to_owned(),
            "`realmsync resume example.org`".to_owned(),
        ] {
            assert!(says.contains(&words), "{says}");
        }
    }

    #[test]
    fn the_object_has_the_fields_of_the_design_in_its_order() {
        let plain = RealmStatus {
            held_by: vec![],
            refused: BTreeMap::new(),
            ..realm()
        };
        let json = serde_json::to_value(plain).expect("json");
        let keys: Vec<&str> = json
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            keys.join(" "),
            "realm kind paused paused_until orphaned due last_success_at last_outcome last_error next_run_at users held servers changes outbox"
        );
    }
}
