use serde_json::json;

use super::*;
use crate::model::{HeldBy, Mode, Trigger};

fn a_run(outcome: Outcome) -> Run {
    Run {
        run: "01a20dac-e9d1-7620-bd85-0713e96ec38d"
            .parse()
            .expect("an id"),
        realm: "example.org".into(),
        mode: Mode::Full,
        trigger: Trigger::Command,
        by: Some("root".into()),
        outcome,
        complete: true,
        seen: 300,
        created: 1,
        updated: 2,
        renamed: 0,
        phone_changed: 20,
        phone_lost: 1,
        suspended: 3,
        restored: 0,
        removed: 0,
        moved: 0,
        refused_entries: 1,
        refused_phones: 8,
        jobs: 21,
        held_by: vec![],
        server: Some("ldaps://ldap1.example.org".into()),
        started_at: Timestamp(1_795_500_000_000),
        decided_at: Some(Timestamp(1_795_500_001_000)),
        elapsed_ms: 1234,
        error_code: None,
        error: None,
        note: None,
        drift: None,
        computed: None,
        left_out: 0,
        left_out_until: None,
    }
}

fn a_change(kind: ChangeKind, before: Value, after: Value) -> Change {
    let map = |value: Value| value.as_object().cloned().unwrap_or_default();
    Change {
        run: None,
        seq: 1,
        realm: "example.org".into(),
        user: "01a20dac-30df-7f8b-aa9d-20cb8ebb8044"
            .parse()
            .expect("an id"),
        username: (kind != ChangeKind::Removed).then(|| "jnovak".into()),
        by: None,
        kind,
        before: map(before),
        after: map(after),
        at: Timestamp(1_795_500_000_000),
    }
}

fn changes() -> Vec<Change> {
    vec![
        a_change(
            ChangeKind::Created,
            json!({}),
            json!({"username": "jnovak", "display_name": "Ján Novák", "phone": "+421905123456", "state": "active"}),
        ),
        a_change(
            ChangeKind::Created,
            json!({}),
            json!({"display_name": "Ján", "phone": null, "state": "suspended", "state_reason": "disabled"}),
        ),
        a_change(ChangeKind::Created, json!({}), json!({})),
        a_change(
            ChangeKind::PhoneChanged,
            json!({"phone": "+421905123456", "phone_raw": "0905 123 456"}),
            json!({"phone": "+421905654321", "phone_raw": "0905 654 321"}),
        ),
        a_change(
            ChangeKind::PhoneChanged,
            json!({"phone": null}),
            json!({"phone": "+421905654321", "phone_source": "directory"}),
        ),
        a_change(
            ChangeKind::PhoneChanged,
            json!({"phone_pending": null, "phone_pending_until": null}),
            json!({"phone_pending": "+421905654321", "phone_pending_until": "2026-11-24T03:00:00Z"}),
        ),
        a_change(
            ChangeKind::PhoneLost,
            json!({"phone": "+421905123456"}),
            json!({"phone": null}),
        ),
        a_change(
            ChangeKind::Renamed,
            json!({"username": "jnovak"}),
            json!({"username": "jnovak2"}),
        ),
        a_change(
            ChangeKind::Suspended,
            json!({"state": "active"}),
            json!({"state": "suspended", "state_reason": "deleted"}),
        ),
        a_change(
            ChangeKind::Suspended,
            json!({"state": "active"}),
            json!({"state": "suspended", "state_reason": null}),
        ),
        a_change(
            ChangeKind::Restored,
            json!({"state": "suspended", "state_reason": "out_of_scope"}),
            json!({"state": "active", "state_reason": null}),
        ),
        a_change(
            ChangeKind::Updated,
            json!({"email": "a@example.org"}),
            json!({"email": "b@example.org"}),
        ),
        a_change(
            ChangeKind::Updated,
            json!({"display_name": "Jan"}),
            json!({"display_name": "\u{1b}[31mJan\u{202e}\nroot"}),
        ),
        a_change(ChangeKind::Removed, json!({}), json!({})),
        a_change(
            ChangeKind::Blocked,
            json!({"blocked": false}),
            json!({"blocked": true}),
        ),
    ]
}

#[test]
fn changes_read_like_a_diff_with_phones_masked() {
    let lines: Vec<String> = changes().iter().map(|c| change(c, false)).collect();
    insta::assert_snapshot!(lines.join("\n"));
    assert!(!lines.join("").contains("905123456") && !lines.join("").contains("905654321"));
    assert!(change(&changes()[3], true).contains("+421905123456 → +421905654321"));
}

#[test]
fn runs_say_what_they_came_to_and_why() {
    let held = |limit: &str, count, of, allowed| HeldBy {
        limit: limit.into(),
        count,
        of,
        allowed,
    };
    let mut runs = vec![];
    for outcome in [
        Outcome::Applied,
        Outcome::Unchanged,
        Outcome::Held,
        Outcome::Failed,
        Outcome::Rejected,
    ] {
        let mut run = a_run(outcome);
        if outcome == Outcome::Unchanged {
            (
                run.created,
                run.updated,
                run.phone_changed,
                run.phone_lost,
                run.suspended,
                run.jobs,
            ) = (0, 0, 0, 0, 0, 0);
            (run.refused_entries, run.refused_phones) = (0, 0);
        }
        if outcome == Outcome::Held {
            run.held_by = [
                ("phone-changed", 20),
                ("container", 5),
                ("mapping", 1),
                ("moved", 2),
                ("messages", 21),
                ("approve", 3),
                ("asked", 3),
                ("undo", 4),
            ]
            .map(|(limit, n)| held(limit, n, 300, 15))
            .to_vec();
        }
        if outcome == Outcome::Failed {
            run.error = Some("ldaps://a:636: connecting: refused; start the server".into());
        }
        runs.push(super::run(&run, false));
        runs.push(super::run(&run, true));
    }
    insta::assert_snapshot!(runs.join("\n\n"));
}

#[test]
fn a_value_cannot_steer_the_terminal() {
    let evil = "a\x1b]0;title\x07b\x1b[2Jc\u{9b}31md\u{202e}e\r";
    for colour in [false, true] {
        let shown = visible(evil, colour);
        assert!(
            !shown.contains(|c: char| c.is_control()) && !shown.contains('\u{202e}'),
            "{shown:?}"
        );
    }
    assert_eq!(
        visible("\x1b[1;31mred\x1b[0m\n", true),
        "\x1b[1;31mred\x1b[0m\n"
    );
    assert_eq!(one_line("a\nb\tc"), "a\\nb\\tc");
}

#[test]
fn spans_and_counts_in_words() {
    let spans: Vec<String> = [
        -5,
        0,
        999,
        1000,
        119_999,
        120_000,
        7_199_999,
        7_200_000,
        172_800_000,
        i64::MAX,
    ]
    .iter()
    .map(|ms| span(*ms))
    .collect();
    assert_eq!(
        spans,
        [
            "0 ms",
            "0 ms",
            "999 ms",
            "1 s",
            "119 s",
            "2 min",
            "119 min",
            "2 h",
            "2 d",
            "106751991167 d"
        ]
    );
    assert_eq!(
        [
            count(1, "entry"),
            count(2, "entry"),
            count(0, "message"),
            count(3, "later pass")
        ],
        ["1 entry", "2 entries", "0 messages", "3 later passes"]
    );
}

#[test]
fn the_objects_have_the_fields_of_the_design_in_its_order() {
    let keys = |value: &Value| {
        value
            .as_object()
            .map(|map| map.keys().cloned().collect::<Vec<_>>().join(" "))
            .unwrap_or_default()
    };
    let run = serde_json::to_value(a_run(Outcome::Applied)).expect("json");
    assert_eq!(
        keys(&run),
        "run realm mode trigger by outcome complete seen created updated renamed phone_changed phone_lost suspended restored removed moved \
         refused_entries refused_phones jobs held_by server started_at decided_at elapsed_ms error_code error note drift"
    );
    let change = serde_json::to_value(&changes()[0]).expect("json");
    assert_eq!(
        keys(&change),
        "run seq realm user username by kind before after at"
    );
}

#[test]
fn json_holds_no_character_that_steers_a_terminal() {
    let text = "a\u{1b}[2J\u{9b}31m\u{202e}ž";
    let json = escaped(serde_json::to_string(text).unwrap());
    assert!(
        json.chars().all(|c| !c.is_control() && c != '\u{202e}'),
        "{json}"
    );
    assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
}

#[test]
fn an_instant_is_shown_as_the_readers_clock_shows_it() {
    let zone = |name: &str| Zones::built_in().get(name).expect("a zone");
    for (name, says) in [
        ("Europe/Bratislava", "2026-11-24 01:00:00 +01:00"),
        ("America/St_Johns", "2026-11-23 20:30:00 -03:30"),
        ("UTC", "2026-11-24 00:00:00 +00:00"),
    ] {
        assert_eq!(when_in(Timestamp(1_795_478_400_000), &zone(name)), says);
    }
    let by = |tz: &str| zone_of(&Environment::of([("TZ", tz)]));
    assert_eq!(by("America/St_Johns"), zone("America/St_Johns"));
    assert_eq!(by(":Europe/Bratislava"), zone("Europe/Bratislava"));
    assert_eq!(by(""), TimeZone::UTC);
}

#[test]
fn a_long_line_goes_on_below_its_beginning() {
    let says = |line: &str, width| wrap(line, width);
    assert_eq!(says("short", 40), "short");
    assert_eq!(
        says(
            "  last run      failed: the server does not answer at all",
            40
        ),
        "  last run      failed: the server does\n                not answer at all"
    );
    assert_eq!(
        says("a line that has no columns, and is too long for it", 30),
        "a line that has no columns,\n  and is too long for it"
    );
    // A command stays whole, so that it can be copied.
    assert_eq!(
        says(
            "hint: look at it with `realmsync runs show 37dd52ab`, then decide",
            40
        ),
        "hint: look at it with\n  `realmsync runs show 37dd52ab`, then\n  decide"
    );
    // Paint takes no room, and a word is never cut.
    assert_eq!(
        says("  x  \x1b[33mabc def\x1b[0m", 12),
        "  x  \x1b[33mabc def\x1b[0m"
    );
    let word = "w".repeat(60);
    assert_eq!(says(&format!("see {word}"), 20), format!("see\n  {word}"));
}

#[test]
fn instants_in_the_words_of_others_are_shown_in_the_readers_time() {
    let zone = TimeZone::get("Europe/Bratislava").expect("a zone");
    let said = |text: &str| local_times_in(text, &zone).into_owned();
    assert_eq!(
        said("the daemon works by what x.toml said at 2026-11-24T03:00:00.000Z, which is not what"),
        "the daemon works by what x.toml said at 2026-11-24 04:00:00 +01:00, which is not what"
    );
    assert_eq!(
        said("from 2026-07-01T10:00:00Z to (2026-07-01T11:00:00.5Z)"),
        "from 2026-07-01 12:00:00 +02:00 to (2026-07-01 13:00:00 +02:00)"
    );
    for as_it_is in [
        "",
        "T",
        "uid=T2026",
        "a2026-11-24T03:00:00Z",
        "2026-11-24T03:00:00Zulu",
        "2026-11-24T03:00:00+01:00",
        "2026-13-45T99:00:00Z",
        "č2026-11-24TčZ",
        "20261124030000Z",
    ] {
        assert_eq!(said(as_it_is), as_it_is);
    }
}
