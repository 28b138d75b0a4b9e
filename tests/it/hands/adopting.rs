//! A directory's entry of a name that a user by hand has.

use serde_json::{Value, json};

use super::{done, lines, refused};
use crate::support::house::House;

fn add(house: &House, cn: &str, uid: &str, more: &str) {
    let base = house.server["PEOPLE_DN"].to_owned();
    house.server.modify(&format!(
        "dn: cn={cn},{base}\nchangetype: add\nobjectClass: inetOrgPerson\ncn: {cn}\nsn: x\nuid: {uid}\n{more}"
    ));
}

#[test]
fn an_entry_is_refused_until_it_is_given_to_the_user_by_hand() {
    let house = House::new(30);
    house.sync(0);
    let zoe = done(
        &house,
        &[
            "users",
            "add",
            "--realm=r",
            "Zoe",
            "--phone=0905 000 001",
            "--note=by hand",
        ],
    );
    assert_eq!(zoe["origin"], "manual");
    add(&house, "z", "zoe", "mail: zoe@example.org\n");
    house.sync(0);
    let why = lines(&house, &["refused"]);
    let why = why
        .iter()
        .find(|r| r["username"] == "zoe")
        .expect("refused");
    assert!(
        why["reason"].as_str().unwrap().contains("users adopt"),
        "{why}"
    );
    assert_eq!(
        done(&house, &["users", "show", "zoe"]),
        zoe,
        "the user by hand stays"
    );

    assert_eq!(done(&house, &["users", "adopt", "zoe"])["id"], zoe["id"]);
    let run = house.sync(0);
    assert_eq!(
        (&run["created"], &run["refused_entries"]),
        (&json!(0), &json!(0)),
        "{run}"
    );
    let is = done(&house, &["users", "show", "zoe"]);
    for (field, value) in [
        ("id", zoe["id"].clone()),
        ("origin", json!("directory")),
        ("email", json!("zoe@example.org")),
        ("phone", json!("+421905000001")),
        ("phone_source", json!("manual")),
        ("note", json!("by hand")),
    ] {
        assert_eq!(is[field], value, "{field}: {is}");
    }
    assert!(
        is["directory_id"].is_string() && is["dn"].is_string(),
        "{is}"
    );
    assert_eq!(house.sync(0)["outcome"], "unchanged");
    let said = refused(&house, &["users", "adopt", "zoe"]);
    assert!(said.contains("already"), "{said}");
    let said = refused(&house, &["users", "edit", "zoe", "--email=x@example.org"]);
    assert!(said.contains("change it there"), "{said}");
}

/// § 11: a realm by hand whose id enters the file becomes a directory's. Its users are matched by name in the first pass, which is
/// held; who has no entry stays.
#[test]
fn a_realm_by_hand_that_enters_the_file_is_matched_and_held() {
    let house = House::new(30);
    let configured = std::fs::read_to_string(house.path("realmsync.toml")).unwrap();
    let renamed = configured.replace("id = \"r\"", "id = \"other\"");
    std::fs::write(house.path("realmsync.toml"), renamed).unwrap();
    done(&house, &["realms", "create", "r", "--region=SK"]);
    let zoe = done(
        &house,
        &["users", "add", "--realm=r", "zoe", "--phone=0905 000 001"],
    );
    let eva = done(
        &house,
        &["users", "add", "--realm=r", "eva", "--phone=0905 000 002"],
    );
    let left = done(
        &house,
        &[
            "users",
            "add",
            "--realm=r",
            "nobody",
            "--phone=0905 000 003",
        ],
    );
    std::fs::write(house.path("realmsync.toml"), configured).unwrap();
    for user in [&zoe, &eva, &left] {
        give_code(&house, user);
    }
    add(&house, "z", "zoe", "mobile: +421905000001\n");
    add(&house, "e", "eva", "mobile: +421905999999\n");
    let held = house.sync(3);
    let why = &held["held_by"][0];
    assert_eq!(
        (&why["limit"], &why["count"]),
        (&json!("matched"), &json!(2)),
        "{held}"
    );
    let run = held["run"].as_str().unwrap();
    let shown = lines(&house, &["runs", "show", run]);
    let matches = shown
        .iter()
        .filter(|l| l["after"]["origin"] == "directory")
        .count();
    assert_eq!(matches, 2, "{shown:?}");
    assert_eq!(
        done(&house, &["users", "show", "zoe"]),
        zoe,
        "nothing was applied"
    );
    assert_eq!(done(&house, &["approve", run])["outcome"], "applied");
    for (user, name) in [(&zoe, "zoe"), (&eva, "eva")] {
        let is = done(&house, &["users", "show", name]);
        assert_eq!(
            (&is["id"], &is["origin"]),
            (&user["id"], &json!("directory")),
            "{is}"
        );
    }
    // The name alone does not say that it is the same person: eva's number is another one.
    assert_eq!([&zoe, &eva, &left].map(|u| codes(&house, u)), [1, 0, 1]);
    let is = done(&house, &["users", "show", "nobody"]);
    assert_eq!(is, left, "who has no entry stays as they are");
    assert_eq!(house.sync(0)["outcome"], "unchanged");
    // From now on a name is taken, as in every directory realm.
    add(&house, "n", "nobody", "");
    assert_eq!(house.sync(0)["refused_entries"], 1);
}

/// Runs a statement on the store, over a user's id; gives its first number.
fn on_store(house: &House, sql: &str, user: &Value) -> i64 {
    let script = "import sqlite3, sys, uuid\n\
        db = sqlite3.connect(sys.argv[1])\n\
        rows = db.execute(sys.argv[2], (uuid.UUID(sys.argv[3]).bytes,)).fetchall()\n\
        db.commit()\n\
        print(rows[0][0] if rows else 0)\n";
    let out = std::process::Command::new("/usr/bin/python3")
        .args(["-c", script])
        .arg(house.path("realmsync.db"))
        .arg(sql)
        .arg(user["id"].as_str().unwrap())
        .output()
        .expect("python3");
    let text = String::from_utf8(out.stdout).unwrap();
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)))
}

fn give_code(house: &House, user: &Value) {
    on_store(
        house,
        "INSERT INTO recovery_codes (user_id, digest, kind, set_id, key_id, uses_left, created_at) \
         VALUES (?1, zeroblob(32), 'recovery', ?1, '', 1, 1)",
        user,
    );
}

fn codes(house: &House, user: &Value) -> i64 {
    let sql = "SELECT COUNT(*) FROM recovery_codes WHERE user_id = ?1";
    on_store(house, sql, user)
}

/// Of two entries that want the name neither gets it.
#[test]
fn two_entries_of_the_name_are_refused_all_the_same() {
    let house = House::new(30);
    house.sync(0);
    let zoe = done(&house, &["users", "add", "--realm=r", "zoe"]);
    done(&house, &["users", "adopt", "zoe"]);
    add(&house, "z1", "zoe", "");
    add(&house, "z2", "Zoe", "");
    assert_eq!(house.sync(0)["refused_entries"], 2);
    let is = done(&house, &["users", "show", zoe["id"].as_str().unwrap()]);
    assert_eq!(
        (&is["origin"], &is["directory_id"]),
        (&json!("manual"), &json!(null))
    );
}
