//! Files of users, as people have them: with a daemon and without, on either store.

use std::os::unix::process::ExitStatusExt as _;

use serde_json::{Value, json};

use super::{both_ways, done, lines, refused};
use crate::support::house::House;

const MADE: [&str; 4] = ["realms", "create", "partners", "--region=SK"];

fn file(house: &House, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = house.path(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Imports a file; gives the exit code, the operation, and the lines after it.
fn import(house: &House, path: &str, options: &[&str]) -> (i32, Value, Vec<Value>) {
    let mut all = vec!["--json", "users", "import", "--realm=partners", path];
    all.extend(options);
    if !options.contains(&"--plan") {
        all.push("--yes");
    }
    let said = house.run(&all);
    let mut lines = said.lines();
    assert!(!lines.is_empty(), "{options:?}: {}{}", said.out, said.err);
    let operation = lines.remove(0);
    (said.code, operation, lines)
}

fn counts(operation: &Value) -> [i64; 5] {
    let counts = &operation["counts"];
    let of = |name: &str| counts[name].as_i64().unwrap();
    let all = ["lines", "created", "updated", "unchanged", "refused"].map(of);
    assert_eq!(all[0], all[1..].iter().sum::<i64>(), "{operation}");
    all
}

fn users(house: &House) -> std::collections::BTreeMap<String, Value> {
    lines(house, &["users", "list", "--realm=partners"])
        .into_iter()
        .map(|user| (user["username"].as_str().unwrap().to_owned(), user))
        .collect()
}

/// So many colleagues, and what follows them.
fn colleagues(n: u32, more: &str) -> String {
    use std::fmt::Write as _;
    let mut text = "Meno;Telefón;Meno a priezvisko;E-mail;Poznámka\n".to_owned();
    for n in 0..n {
        writeln!(text, "u{n:04};0905 12 {n:04};Osoba {n};u{n}@example.org;").unwrap();
    }
    text + more
}

#[test]
fn trap_100_a_file_comes_in_whole_but_for_its_bad_lines_and_is_undone_whole() {
    both_ways(|house, door| {
        done(house, &MADE);
        // Bad lines at the beginning, in the middle and at the end.
        let text = "Meno;Telefón;Meno a priezvisko;E-mail;Poznámka\r\nzly1;4,21905E+11;A;;\r\njan;0905 123 456;Ján;jan@example.org;\"dva\r\nriadky\"\r\neva;+421905654321;Eva;eva@example.org;\r\nzly2;0905 12;B;;\r\nivo;0907 111 222;Ivo;ivo@example.org;x\r\nzora;0907 111 223;Zora;;\r\nolga;0907 111 224;Oľga;;\r\nzly3;0908 1;C;;\r\nada;0907 111 225;Ada;;\r\npeter;0907 111 226;Peter;;\r\nmiro;0907 111 227;Miro;;";
        let path = file(house, "class.csv", text);
        let (code, planned, rest) = import(house, &path, &["--plan"]);
        assert_eq!((code, counts(&planned)), (2, [11, 8, 0, 0, 3]), "{planned}");
        assert_eq!(rest.iter().filter(|l| l["kind"] == "created").count(), 8);
        assert!(users(house).is_empty(), "a plan writes nothing");

        let mend = house.path("mend.csv");
        let (code, first, bad) = import(house, &path, &["--refused", mend.to_str().unwrap()]);
        assert_eq!((code, counts(&first)), (0, [11, 8, 0, 0, 3]), "{first}");
        assert_eq!(
            (&first["state"], &first["kind"]),
            (&json!("done"), &json!("import"))
        );
        let said: Vec<(i64, &str, &str)> = bad
            .iter()
            .map(|l| {
                (
                    l["line"].as_i64().unwrap(),
                    l["column"].as_str().unwrap(),
                    l["value"].as_str().unwrap(),
                )
            })
            .collect();
        // Physical lines: a cell of the third has an end of line in it.
        assert_eq!(
            said,
            [
                (2, "phone", "4,21905E+11"),
                (6, "phone", "0905 12"),
                (10, "phone", "0908 1")
            ]
        );
        let there = users(house);
        assert_eq!(there.len(), 8);
        let jan = &there["jan"];
        assert_eq!(
            (&jan["origin"], &jan["phone"]),
            (&json!("import"), &json!("+421905123456"))
        );
        assert_eq!(jan["note"], "dva\nriadky");

        // The same file twice changes nothing the second time.
        let (code, again, _) = import(house, &path, &[]);
        assert_eq!((code, counts(&again)), (0, [11, 0, 0, 8, 3]), "{again}");
        assert_eq!(users(house), there);

        // The refused lines are a file to mend and import again.
        let text = std::fs::read_to_string(&mend).unwrap();
        assert!(
            text.ends_with("zly1;4,21905E+11;A;;\r\nzly2;0905 12;B;;\r\nzly3;0908 1;C;;\r\n"),
            "{text}"
        );
        let mended = text
            .replace("4,21905E+11", "0908 000 001")
            .replace("0905 12", "0908 000 002")
            .replace("0908 1;", "0908 000 003;");
        let mended = file(house, "mended.csv", mended);
        let (code, operation, _) = import(house, &mended, &[]);
        assert_eq!(
            (code, counts(&operation)),
            (0, [3, 3, 0, 0, 0]),
            "{operation}"
        );

        // An empty cell leaves, a dash clears, and an undo puts back; no realm is paused for it.
        let edit = file(
            house,
            "edit.tsv",
            "login\tdisplay name\te-mail\tnote\nJAN\tJános\t\t-\n",
        );
        let before = users(house);
        let (_, operation, _) = import(house, &edit, &[]);
        assert_eq!(counts(&operation), [1, 0, 1, 0, 0], "{operation}");
        let jan = users(house)["jan"].clone();
        assert_eq!(
            (&jan["display_name"], &jan["email"], &jan["note"]),
            (&json!("János"), &json!("jan@example.org"), &json!(null))
        );
        let run = operation["run"].as_str().unwrap();
        let undone = done(house, &["undo", run]);
        assert_eq!(undone["outcome"], "applied", "{undone}");
        let after = users(house)["jan"].clone();
        for field in [
            "display_name",
            "note",
            "phone",
            "phone_source",
            "state",
            "origin",
        ] {
            assert_eq!(after[field], before["jan"][field], "{field}");
        }
        // A first import is undone too, and who comes by the file again is who they were.
        let undone = house.run(&["--json", "undo", first["run"].as_str().unwrap()]);
        assert_eq!(undone.code, 3, "the brake counts it: {}", undone.out);
        let held = undone.json();
        done(house, &["approve", held["run"].as_str().unwrap()]);
        assert_eq!(users(house)["eva"]["state_reason"], "undone");
        let (code, operation, _) = import(house, &path, &[]);
        assert_eq!(code, 3, "so does bringing them all back: {operation}");
        done(house, &["approve", operation["run"].as_str().unwrap()]);
        let back = users(house);
        assert_eq!(
            (&back["eva"]["state"], &back["eva"]["id"]),
            (&json!("active"), &there["eva"]["id"])
        );

        let audit = lines(house, &["audit"]);
        let imports: Vec<&Value> = audit.iter().filter(|l| l["act"] == "import").collect();
        assert_eq!(imports.len(), 4, "{audit:?}");
        let line = imports[0];
        assert_eq!(
            (&line["from"], &line["after"]["file"]),
            (&json!(door), &json!("class.csv"))
        );
        assert_eq!(
            (
                &line["after"]["lines"],
                &line["after"]["created"],
                &line["run"]
            ),
            (&json!(11), &json!(8), &first["run"])
        );
        assert_eq!(done(house, &["audit", "verify"])["whole"], true);
    });
}

#[test]
fn an_import_passes_the_brake_and_is_held_approved_or_rejected() {
    both_ways(|house, _| {
        done(house, &MADE);
        let path = file(house, "all.csv", colleagues(100, ""));
        let (code, operation, _) = import(house, &path, &[]);
        assert_eq!(
            (code, counts(&operation)),
            (0, [100, 100, 0, 0, 0]),
            "a baseline: {operation}"
        );
        // Everybody gets another number.
        let other = file(
            house,
            "other.csv",
            colleagues(100, "").replace(";0905 12 ", ";0907 12 "),
        );
        let (code, held, _) = import(house, &other, &[]);
        assert_eq!((code, &held["state"]), (3, &json!("held")), "{held}");
        let numbers = ["total", "done", "changed"].map(|name| held[name].as_i64().unwrap());
        assert_eq!(numbers, [100, 100, 0], "nothing was changed: {held}");
        assert_eq!(users(house)["u0001"]["phone"], "+421905120001");
        // While it waits nobody else's file takes its place, nor the same one, nor is one planned beside it.
        let run = held["run"].as_str().unwrap();
        let mended = file(house, "mended.csv", colleagues(0, "x1;0905 333 001;X;;\n"));
        for (path, how) in [(&mended, "--yes"), (&other, "--yes"), (&mended, "--plan")] {
            let said = refused(house, &["users", "import", "--realm=partners", path, how]);
            assert!(
                said.contains("waits for a decision: nothing was read of this file")
                    && said.contains("(file `other.csv`: 100 lines"),
                "{said}"
            );
        }
        assert_eq!(done(house, &["runs", "show", run])["outcome"], "held");
        let said = refused(house, &["realms", "remove", "partners", "--with-users"]);
        assert!(said.contains("waits for a decision"), "{said}");
        assert_eq!(users(house).len(), 100);
        done(house, &["reject", run]);
        let (_, again, _) = import(house, &other, &[]);
        assert_ne!(held["run"], again["run"]);
        let held = again;
        // Somebody changed one of them meanwhile: what was shown would not be what is done.
        done(
            house,
            &["users", "edit", "u0007", "--realm=partners", "--note=x"],
        );
        let run = held["run"].as_str().unwrap();
        let said = refused(house, &["approve", run]);
        assert!(said.contains("users changed since plan"), "{said}");
        done(house, &["reject", run]);
        let (_, newer, _) = import(house, &other, &[]);
        assert_ne!(newer["run"], held["run"]);
        let approved = done(house, &["approve", newer["run"].as_str().unwrap()]);
        assert_eq!(
            (&approved["outcome"], &approved["phone_changed"]),
            (&json!("applied"), &json!(100))
        );
        assert_eq!(users(house)["u0001"]["phone"], "+421907120001");
        // Who is missing stays, unless the file replaces: then they go through the brake.
        let few = file(
            house,
            "few.csv",
            colleagues(97, "").replace(";0905 12 ", ";0907 12 "),
        );
        let (code, operation, _) = import(house, &few, &[]);
        assert_eq!((code, counts(&operation)), (0, [97, 0, 0, 97, 0]));
        done(house, &["users", "add", "--realm=partners", "byhand"]);
        let (code, operation, _) = import(house, &few, &["--replace"]);
        assert_eq!(
            (code, &operation["counts"]["suspended"]),
            (0, &json!(3)),
            "{operation}"
        );
        let there = users(house);
        let gone = &there["u0099"];
        assert_eq!(
            (&gone["state"], &gone["state_reason"]),
            (&json!("suspended"), &json!("out_of_scope"))
        );
        assert_eq!(there["byhand"]["state"], "active");
        let one = file(
            house,
            "one.csv",
            colleagues(1, "").replace(";0905 12 ", ";0907 12 "),
        );
        let (code, operation, _) = import(house, &one, &["--replace"]);
        assert_eq!(
            (code, &operation["counts"]["suspended"]),
            (3, &json!(96)),
            "{operation}"
        );
        done(house, &["reject", operation["run"].as_str().unwrap()]);
        // A refused line is no absence, and one without a name is nobody's.
        let odd = colleagues(96, "u0096;0907 12;X;;\n;0907 129 999;Y;;\n")
            .replace(";0905 12 ", ";0907 12 ");
        let odd = file(house, "odd.csv", odd);
        let (code, operation, _) = import(house, &odd, &["--replace"]);
        assert_eq!(
            (
                code,
                &operation["counts"]["suspended"],
                counts(&operation)[4]
            ),
            (0, &json!(0), 2),
            "{operation}"
        );
    });
}

#[test]
fn trap_98_a_column_that_went_through_a_spreadsheet_is_held_and_swapped_columns_stop() {
    let house = House::new(3);
    done(&house, &MADE);
    let lost = colleagues(8, "x1;905111222;;;\nx2;421905111223;;;\n");
    let path = file(&house, "lost.csv", lost);
    let (code, operation, _) = import(&house, &path, &[]);
    assert_eq!(
        (code, &operation["counts"]["marked"]),
        (3, &json!(2)),
        "{operation}"
    );
    done(&house, &["approve", operation["run"].as_str().unwrap()]);
    assert_eq!(users(&house)["x1"]["phone"], "+421905111222");
    // Fewer are only counted.
    let path = file(&house, "few.csv", colleagues(8, "x3;905111224;;;\n"));
    let (code, operation, _) = import(&house, &path, &[]);
    assert_eq!(
        (code, &operation["counts"]["marked"]),
        (0, &json!(1)),
        "{operation}"
    );

    let before = users(&house);
    let swapped = "meno;telefón\n0905111001;a1\n0905111002;a2\n0905111003;a3\n0905111004;a4\n";
    let path = file(&house, "swapped.csv", swapped);
    let (code, operation, bad) = import(&house, &path, &[]);
    assert_eq!(
        (code, &operation["state"], bad.len(), &operation["changed"]),
        (1, &json!("failed"), 4, &json!(0)),
        "{operation}"
    );
    let why = operation["error"].as_str().unwrap();
    assert!(
        why.contains("column of the phone: nothing was applied"),
        "{why}"
    );
    assert_eq!(users(&house), before);
}

#[test]
fn what_a_directory_owns_no_file_changes() {
    both_ways(|house, _| {
        house.sync(0);
        let of_realm = lines(house, &["users", "list", "--realm=r"]);
        let (name, phone, mail) = (
            &of_realm[0]["username"],
            &of_realm[0]["phone"],
            &of_realm[0]["email"],
        );
        let [name, phone, mail] = [name, phone, mail].map(|v| v.as_str().unwrap_or_default());
        let text = format!(
            "login,phone,email,note\n{name},{phone},{mail},from the file\nnewcomer,+421905777888,,\n{name}x,+421905777889,,\n"
        );
        let path = file(house, "r.csv", text);
        let run = |path: &str| {
            let said = house.run(&["--json", "users", "import", "--realm=r", path, "--yes"]);
            (said.code, said.lines())
        };
        let (code, said) = run(&path);
        assert_eq!((code, counts(&said[0])), (0, [3, 2, 1, 0, 0]), "{said:?}");
        let shown = done(house, &["users", "show", "--realm=r", name]);
        assert_eq!(
            (&shown["note"], &shown["origin"]),
            (&json!("from the file"), &json!("directory"))
        );
        let text = format!(
            "login,phone,email\n{name},+421905777000,\n{name}x,,x@example.org\nnewcomer,,n@example.org\n"
        );
        let path = file(house, "r2.csv", text);
        let (code, said) = run(&path);
        assert_eq!((code, counts(&said[0])), (0, [3, 0, 2, 0, 1]), "{said:?}");
        let why = said[1]["reason"].as_str().unwrap();
        assert!(
            why.contains("comes from the directory (attribute `mobile` on ldap"),
            "{why}"
        );
        // The next pass changes nobody of the file.
        let pass = house.run(&["--json", "sync", "--full"]).json();
        assert_eq!(pass["outcome"], "unchanged", "{pass}");
    });
}

#[test]
fn trap_100_a_kill_in_the_middle_leaves_nothing_half() {
    let house = House::new(3);
    done(&house, &MADE);
    let path = file(&house, "all.csv", colleagues(1200, ""));
    let killed = |path: &str, point: &str| {
        let mut command = house.command(&["users", "import", "--realm=partners", path, "--yes"]);
        let output = command.env("REALMSYNC_FAILPOINT", point).output().unwrap();
        assert_eq!(
            output.status.signal(),
            Some(9),
            "{point}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    for point in [
        "stage.after",
        "import.planned",
        "apply.after-users",
        "apply.before-commit",
    ] {
        killed(&path, point);
        assert!(users(&house).is_empty(), "{point}");
    }
    killed(&path, "apply.after-commit");
    assert_eq!(users(&house).len(), 1200);
    let (_, operation, _) = import(&house, &path, &[]);
    assert_eq!(counts(&operation), [1200, 0, 0, 1200, 0]);
    // The same where most are there already.
    let more = file(
        &house,
        "more.csv",
        colleagues(1300, "").replace("Osoba 7;", "Osoba sedem;"),
    );
    for point in ["stage.after:2", "apply.after-jobs", "apply.before-commit"] {
        if point != "stage.after:2" {
            killed(&more, point);
        }
        let there = users(&house);
        assert_eq!(
            (there.len(), &there["u0007"]["display_name"]),
            (1200, &json!("Osoba 7")),
            "{point}"
        );
    }
    let (code, operation, _) = import(&house, &more, &[]);
    assert_eq!(
        (code, counts(&operation)),
        (0, [1300, 100, 1, 1199, 0]),
        "{operation}"
    );
}

#[test]
fn a_file_that_cannot_be_understood_makes_no_run_and_says_what_to_do() {
    let house = House::new(3);
    done(&house, &["realms", "create", "partners"]);
    let ask = |path: &str, options: &[&str]| {
        let mut all = vec!["users", "import", "--realm=partners", path];
        all.extend(options);
        let said = house.run(&all);
        (
            said.code,
            said.err.split_whitespace().collect::<Vec<_>>().join(" "),
        )
    };
    let windows = file(
        &house,
        "w.csv",
        b"meno;meno a priezvisko\njan;J\xe1n Kov\xe1\xe8\n",
    );
    let (code, said) = ask(&windows, &["--yes"]);
    assert!(
        code == 1 && said.contains("w.csv: line 2:") && said.contains("--encoding windows-1250"),
        "{said}"
    );
    let (code, _) = ask(&windows, &["--yes", "--encoding=cp1250"]);
    assert_eq!(
        (code, &users(&house)["jan"]["display_name"]),
        (0, &json!("Ján Kováč"))
    );
    let plain = file(&house, "p.csv", "a,b\n1,2\n");
    let (code, said) = ask(&plain, &["--yes"]);
    assert!(code == 1 && said.contains("--map name=1,phone=2"), "{said}");
    let (code, said) = ask(&plain, &["--yes", "--map=colour=1"]);
    assert!(
        code == 64 && said.contains("`colour` is nothing that is read"),
        "{said}"
    );
    let book = file(&house, "book.csv", b"PK\x03\x04\x14\x00\x06\x00");
    let (code, said) = ask(&book, &["--yes", "--encoding=utf-8"]);
    assert!(
        code == 1 && said.contains("(.xlsx)") && said.contains("save it as CSV UTF-8"),
        "{said}"
    );
    // Nobody to ask: nothing is done without --yes.
    let (code, said) = ask(&plain, &["--map=name=1"]);
    assert!(
        code == 64 && said.contains("--yes imports the file"),
        "{said}"
    );
    let (code, said) = ask("/nowhere/x.csv", &["--yes"]);
    assert!(
        code == 1 && said.contains("cannot read /nowhere/x.csv"),
        "{said}"
    );
    let runs = lines(&house, &["runs", "partners"]);
    assert_eq!(runs.len(), 1, "{runs:?}");
}

/// What a command says on a terminal to somebody who answers, and its exit code.
fn on_a_terminal(house: &House, answer: &str, arguments: &[&str]) -> (i64, String) {
    const SCRIPT: &str = "import os, pty, sys\n\
        pid, terminal = pty.fork()\n\
        if pid == 0:\n    os.execv(sys.argv[2], sys.argv[2:])\n\
        said = b''\n\
        while True:\n\
        \u{20}   try: piece = os.read(terminal, 65536)\n\
        \u{20}   except OSError: break\n\
        \u{20}   if not piece: break\n\
        \u{20}   said += piece\n\
        \u{20}   if b'to go on' in piece: os.write(terminal, sys.argv[1].encode() + b'\\n')\n\
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n\
        sys.stdout.buffer.write(str(code).encode() + b'\\n' + said)\n";
    let command = house.command(arguments);
    let out = std::process::Command::new("python3")
        .args(["-c", SCRIPT, answer])
        .arg(command.get_program())
        .args(command.get_args())
        .env("NO_COLOR", "1")
        .env("COLUMNS", "1000")
        .output()
        .expect("python3 runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let (code, said) = text.split_once('\n').unwrap();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    (code.parse().unwrap(), said)
}

#[test]
fn whoever_is_asked_knows_what_is_refused_and_what_is_held() {
    both_ways(|house, _| {
        done(house, &MADE);
        let path = file(
            house,
            "class.csv",
            "osobne cislo;meno;telefon;mail\n17;jan;0905 111 222;-\n18;eva;0905;e@example.org\n19;;0905 111 223;\n",
        );
        let mend = house.path("mend.csv");
        let mend_option = format!("--refused={}", mend.display());
        let all = [
            "users",
            "import",
            "--realm=partners",
            &path,
            "--map=phone=telefon",
            &mend_option,
        ];
        let (code, said) = on_a_terminal(house, "no", &all);
        let place = |what: &str| said.find(what).unwrap_or_else(|| panic!("{what}: {said}"));
        let question = place("Type yes to go on");
        for before in [
            "e-mail address: column 4 `mail`",
            "not read: 1 `osobne cislo`",
            "phone 0905 ••• 222 · e-mail address - (cleared)",
            "line 3: phone",
            "line 4: user name",
            "3 lines = 1 created + 0 updated + 0 unchanged + 2 refused",
        ] {
            assert!(place(before) < question, "{before}: {said}");
        }
        assert_ne!(code, 0);
        assert!(
            said.ends_with("nothing was done: the answer was not yes"),
            "{said}"
        );
        assert!(users(house).is_empty() && !mend.exists());

        let (code, said) = on_a_terminal(house, "yes", &all);
        assert_eq!(code, 0, "{said}");
        assert_eq!(said.matches("line 3: phone").count(), 1, "{said}");
        assert!(said.contains("2 refused lines in"), "{said}");
        assert_eq!(users(house).len(), 1);
        let text = std::fs::read_to_string(&mend).unwrap();
        assert_eq!(
            text,
            "osobne cislo;meno;telefon;mail\n18;eva;0905;e@example.org\n19;;0905 111 223;\n"
        );
        std::fs::remove_file(&mend).unwrap();
        // Nothing to do is nothing to ask.
        let (code, said) = on_a_terminal(house, "no", &all);
        assert!(code == 0 && !said.contains("Type yes"), "{said}");
    });
}
