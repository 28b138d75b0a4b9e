//! The enrolment key is lost for good: `give-up-key`.

use serde_json::json;

use super::keys::{Service, keyed, next_step, on_both, refused, write_key};
use super::{Browser, Office, button};

/// How many authenticators and recovery codes there are that count.
fn left(office: &Office) -> (String, String) {
    let of = |sql| office.sql(sql);
    (
        of("SELECT COUNT(*) FROM authenticators WHERE secret IS NOT NULL"),
        of("SELECT COUNT(*) FROM recovery_codes WHERE uses_left > 0"),
    )
}

#[test]
fn trap_79_a_lost_key_is_given_up_by_its_number_and_nothing_that_was_used_counts_again() {
    on_both(|mut office| {
        for (name, fill) in [("a", 1), ("b", 2)] {
            write_key(&office, name, fill);
        }
        keyed(&mut office, "a", None);
        let daemon = office.daemon();
        office.with_jan();
        let said = office.run(&["give-up-key"]);
        assert_eq!(said.code, 1, "{}{}", said.out, said.err);
        assert!(said.err.contains("nothing is lost"), "{}", said.err);
        let path = office.sent(&[]);
        let (key, codes) = office.enrol(&mut Browser::desktop(), &path, "");
        office.with_button();
        let service = Service::new(&office);
        service.right(&key, 30);
        let pressed = service.verify(&button(0));
        assert_eq!(pressed.body["result"], "accepted", "{}", pressed.body);
        // Whoever has this link is asked for a code of the application.
        let open = office.sent(&[]);
        drop(daemon);

        // The key is gone, and another one is in its place.
        keyed(&mut office, "b", None);
        let said = refused(&office);
        assert_eq!(said.code, 78, "{}{}", said.out, said.err);
        assert!(
            said.err.contains("give-up-key") || said.out.contains("give-up-key"),
            "{}{}",
            said.out,
            said.err
        );
        let before = left(&office);
        assert_eq!(before, ("2".into(), "10".into()));
        for asked in [&["give-up-key"][..], &["give-up-key", "--expect=11"]] {
            let said = office.run(asked);
            assert_eq!(said.code, 1, "{}{}", said.out, said.err);
            let told = said.err.split_whitespace().collect::<Vec<_>>().join(" ");
            for part in [
                "2 secrets of authenticators and 10 recovery codes",
                "--expect 12",
            ] {
                assert!(told.contains(part), "{told}");
            }
            assert_eq!(left(&office), before);
        }
        assert_eq!(refused(&office).code, 78);

        let out = office.done(&["give-up-key", "--expect=12"]);
        assert_eq!(out, json!({"secrets": 2, "codes": 10}));
        assert_eq!(left(&office), ("0".into(), "0".into()));
        let _daemon = office.daemon();
        let answer = service.verify(&super::code(&key, 0));
        assert_eq!(answer.body["reason"], "not_enrolled", "{}", answer.body);
        let answer = service.verify(&codes[0]);
        assert_eq!(answer.body["result"], "rejected", "{}", answer.body);
        // The link that asked for a code would do alone now: it is void.
        assert_eq!(Browser::desktop().get(office.port, &open).status, 410);
        let said = office.run(&["give-up-key", "--expect=0"]);
        assert!(said.err.contains("nothing is lost"), "{}", said.err);

        // The file of the token gives its seed back: it is jan's still, and what was used stays used.
        let file = office.path("tokens.csv");
        let import = ["hard-tokens", "import", file.to_str().expect("a path")];
        let again = office.done(&import);
        assert_eq!(
            (&again["imported"], &again["unchanged"]),
            (&json!(1), &json!(0))
        );
        let warnings = again["warnings"].as_array().expect("warnings");
        assert!(
            warnings.iter().any(|w| w["code"] == "seed_again"),
            "{again}"
        );
        let answer = service.verify(&button(0));
        assert_eq!(answer.body["result"], "rejected", "{}", answer.body);
        let answer = service.verify(&button(1));
        assert_eq!(answer.body["result"], "accepted", "{}", answer.body);
        let again = office.done(&import);
        assert_eq!(again["unchanged"], 1, "{again}");

        // A new application, with the new key.
        let path = office.sent(&["--lost"]);
        let (key, _) = office.enrol(&mut Browser::desktop(), &path, "");
        next_step();
        service.right(&key, 30);
        let audit = office.lines(&["audit"]);
        let line = audit.iter().find(|line| line["act"] == "key-give-up");
        let line = line.expect("a line of the audit");
        assert_eq!(line["after"]["secrets"], 2, "{line}");
        assert_eq!(line["after"]["recovery_codes"], 10, "{line}");
        assert_eq!(line["after"]["withdrawn"], 1, "{line}");
        assert_ne!(line["before"]["key"], line["after"]["key"], "{line}");
        // What was written with the lost key cannot be looked at any more, and nothing hides it.
        let said = office.run(&["audit", "verify"]);
        assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    });
}

/// A token that is stolen after its seed was given up stays revoked, also when the file of its delivery comes again.
#[test]
fn a_token_that_is_revoked_after_its_seed_was_given_up_comes_back_with_no_file() {
    let mut office = Office::new();
    for (name, fill) in [("a", 1), ("b", 2)] {
        write_key(&office, name, fill);
    }
    keyed(&mut office, "a", None);
    let daemon = office.daemon();
    office.with_jan();
    office.with_button();
    let service = Service::new(&office);
    drop(daemon);
    keyed(&mut office, "b", None);
    let out = office.done(&["give-up-key", "--expect=1"]);
    assert_eq!(out, json!({"secrets": 1, "codes": 0}));
    let _daemon = office.daemon();
    let revoked = office.done(&["hard-tokens", "revoke", "B1"]);
    assert_eq!(revoked["state"], json!("revoked"), "{revoked}");
    let file = office.path("tokens.csv");
    let again = office.done(&["hard-tokens", "import", file.to_str().expect("a path")]);
    assert_eq!(
        (&again["imported"], &again["unchanged"]),
        (&json!(0), &json!(1)),
        "{again}"
    );
    let answer = service.verify(&button(0));
    assert_eq!(answer.body["result"], "rejected", "{}", answer.body);
    let audit = office.lines(&["audit"]);
    assert!(audit.iter().any(|line| line["act"] == "hard-token-revoke"));
}
