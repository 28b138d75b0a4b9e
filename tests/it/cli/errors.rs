//! What goes wrong at the command line: every error says what to do next, and nothing else is printed.

use base64::Engine as _;

use crate::support::house::{House, said};

#[test]
fn another_process_that_holds_the_store_is_named() {
    let house = House::new(10);
    house.sync(0);
    let path = house.path("realmsync.db.lock");
    let lock = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    lock.lock().unwrap();
    std::fs::write(&path, "process 1 (import)").unwrap();
    let busy = house.run(&["sync"]);
    assert_eq!(busy.code, 75, "{}", busy.err);
    assert!(
        busy.err.contains("process 1 (import)") && busy.err.contains("\n\nhint: "),
        "{}",
        busy.err
    );
    // Who only reads does not mind.
    for reads in [
        &["status"][..],
        &["runs"],
        &["plan"],
        &["users", "list"],
        &["refused"],
        &["outbox", "list"],
    ] {
        assert_eq!(house.run(reads).code, 0, "{reads:?}");
    }
    let copy = house.path("copy.db");
    assert_eq!(house.run(&["backup", copy.to_str().unwrap()]).code, 0);
}

#[test]
fn every_error_says_what_to_do_next_and_keeps_stdout_clean() {
    let house = House::new(10);
    let missing = house.run(&["--json", "runs"]);
    assert_eq!((missing.code, missing.out.as_str()), (69, ""));
    assert_eq!(house.run(&["--json", "status"]).json()["realm"], "r");
    house.sync(0);
    house.run(&["pause", "r"]);
    for (arguments, code) in [
        (&["sync"][..], 1),
        (&["sync", "nope"], 1),
        (&["runs", "nope"], 1),
        (&["refused", "nope"], 1),
        (&["users", "list", "--realm", "nope"], 1),
        (&["users", "show", "nope"], 1),
        (&["explain", "nope"], 1),
        (&["explain", "nope", "--realm", "nope"], 1),
        (&["outbox", "drop", "--realm", "nope"], 1),
        (&["outbox", "drop", "ffff"], 1),
        (&["outbox", "drop"], 64),
        (&["runs", "show", "zz"], 1),
        (&["approve", "ffffffff"], 1),
        (&["backup", "/no/such/folder/x"], 1),
    ] {
        let said = house.run(arguments);
        assert_eq!(said.code, code, "{arguments:?}: {}", said.err);
        assert_eq!(said.out, "", "{arguments:?}");
        assert!(
            said.err.starts_with("error: ") && said.err.contains("\n\nhint: "),
            "{arguments:?}: {}",
            said.err
        );
        let json: Vec<&str> = std::iter::once("--json")
            .chain(arguments.iter().copied())
            .collect();
        assert_eq!(house.run(&json).out, "", "{arguments:?}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_a_list_and_a_full_disk_is_told() {
    let house = House::new(1000);
    house.sync(0);
    let through = |what: &str| {
        let shell = format!(
            "set -o pipefail; {} -c {} --json users list {what}",
            env!("CARGO_BIN_EXE_realmsync"),
            house.path("realmsync.toml").display()
        );
        let output = std::process::Command::new("bash")
            .args(["-c", &shell])
            .output()
            .unwrap();
        said(&output)
    };
    let head = through("| head -1");
    assert_eq!(
        (head.code, head.out.lines().count(), head.err.as_str()),
        (0, 1, "")
    );
    let full = through("> /dev/full");
    assert_eq!(full.code, 1);
    assert!(full.err.contains("cannot write the output"), "{}", full.err);
}

#[test]
fn nothing_that_a_directory_holds_can_steer_the_terminal() {
    let house = House::new(5);
    let evil = base64::engine::general_purpose::STANDARD.encode("Evil\u{1b}]0;owned\u{7}\u{1b}[2J");
    house.server.modify(&format!(
        "dn: uid=evil,{}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: evil\ncn: e\nsn: e\nmobile: 12\ndisplayName:: {evil}\ntitle:: {evil}\n",
        &house.server["PEOPLE_DN"],
    ));
    house.configure("[realm.attributes]\nphone = [\"mobile\", \"title\"]\n");
    for arguments in [
        &["plan"][..],
        &["check", "--connect"],
        &["sync"],
        &["users", "list"],
        &["users", "show", "evil"],
        &["explain", "evil", "--show-phones"],
        &["refused"],
    ] {
        let said = house.run(arguments);
        // Titles are no phones, which a check marks as bad.
        let fits = matches!(said.code, 0 | 2) || arguments[0] == "check" && said.code == 1;
        assert!(fits, "{arguments:?}: {}", said.err);
        let all = said.out + &said.err;
        assert!(!all.contains(['\u{1b}', '\u{7}']), "{arguments:?}: {all:?}");
    }
}

#[test]
fn a_command_of_roots_leaves_nothing_of_roots() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let house = House::new(10);
    // Neither the configuration nor the secrets are the service's to read.
    let closed = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(house.path("realmsync.toml"), closed).unwrap();
    chown(house.folder.path(), Some(4242), Some(4242)).unwrap();
    for arguments in [
        &["plan"][..],
        &["sync"],
        &["status"],
        &["users", "list"],
        &["pause", "r"],
        &["resume", "r"],
    ] {
        let said = house.run(arguments);
        assert!(
            matches!(said.code, 0 | 2),
            "{arguments:?}: {}{}",
            said.out,
            said.err
        );
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("copy.db");
    for to in [&house.path("copy.db"), &copy] {
        let said = house.run(&["backup", to.to_str().unwrap()]);
        assert_eq!(said.code, 0, "{}", said.err);
    }
    assert_eq!(std::fs::metadata(&copy).unwrap().uid(), 0);
    for entry in std::fs::read_dir(house.folder.path()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.contains(".db") {
            assert_eq!(entry.metadata().unwrap().uid(), 4242, "{name}");
        }
    }
    // The audit trail has a name, whatever the environment lacks.
    let by = house.run(&["--json", "runs"]).json()["by"].clone();
    assert!(by.is_string(), "{by}");
}

#[test]
fn manual_and_completions_are_printed() {
    let printed = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_realmsync"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}");
        said(&output).out
    };
    assert!(printed(&["man"]).contains(".SH COMMANDS"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            printed(&["completions", shell]).contains("realmsync"),
            "{shell}"
        );
    }
}
