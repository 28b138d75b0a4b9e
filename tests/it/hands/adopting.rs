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

/// Somebody as `users show` tells of them, but for what they prove themselves with.
fn plain(mut user: Value) -> Value {
    for member in ["enrolments", "authenticators", "wrong_codes"] {
        user.as_object_mut().expect("a user").remove(member);
    }
    user
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
            "--email=ZOE@example.org",
            "--note=by hand",
        ],
    );
    assert_eq!(zoe["origin"], "manual");
    let zoe = done(&house, &["users", "show", "zoe"]);
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
        plain(done(&house, &["users", "show", "zoe"])),
        plain(zoe.clone()),
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
    let [zoe, eva, left] =
        ["zoe", "eva", "nobody"].map(|name| done(&house, &["users", "show", name]));
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
    let strangers: Vec<&Value> = shown
        .iter()
        .filter(|l| l["after"]["another_person"] == true)
        .map(|l| &l["username"])
        .collect();
    assert_eq!(strangers, ["eva"]);
    let text = house.run(&["runs", "show", run]).out;
    assert_eq!(text.matches("another person?").count(), 1, "{text}");
    assert_eq!(
        plain(done(&house, &["users", "show", "zoe"])),
        plain(zoe.clone()),
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
    let of = |name: &str| done(&house, &["users", "show", name]);
    let (is, was) = (of("eva"), of("zoe"));
    assert_eq!(
        (&is["phone"], &is["phone_provisioned"]),
        (&json!("+421905999999"), &json!("+421905999999")),
        "nothing of the number before stays: {is}"
    );
    assert_eq!(was["phone"], "+421905000001");
    let is = done(&house, &["users", "show", "nobody"]);
    assert_eq!(plain(is), plain(left), "who has no entry stays as they are");
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

/// The same house, which lives by what its directory tells.
fn by_deltas() -> House {
    let house = House::new(30);
    let local = "realm: phone-authority = \"local\"\n";
    house.configure_as(&house.server["BIND_DN"], "changes = \"syncrepl\"", local);
    house.sync(0);
    house
}

/// What is done by hand is told by no directory: the next delta looks all the same.
#[test]
fn a_delta_gives_the_entry_and_takes_the_number_of_the_directory() {
    let house = by_deltas();
    let zoe = done(
        &house,
        &["users", "add", "--realm=r", "zoe", "--phone=0905 000 001"],
    );
    add(&house, "z", "zoe", "mobile: +421905000001\n");
    add(&house, "e", "eva", "mobile: +421905000002\n");
    let run = house.sync(0);
    assert_eq!(
        (&run["mode"], &run["refused_entries"]),
        (&json!("delta"), &json!(1)),
        "{run}"
    );
    done(&house, &["users", "adopt", "zoe"]);
    let run = house.sync(0);
    assert_eq!(run["mode"], "delta", "{run}");
    let is = done(&house, &["users", "show", "zoe"]);
    assert_eq!(
        (&is["id"], &is["origin"]),
        (&zoe["id"], &json!("directory")),
        "{is}"
    );

    done(&house, &["users", "edit", "eva", "--phone=0905 000 009"]);
    house.sync(0);
    let eva = done(&house, &["users", "edit", "eva", "--phone="]);
    assert_eq!(eva["phone"], json!(null), "{eva}");
    let run = house.sync(0);
    assert_eq!(run["mode"], "delta", "{run}");
    let eva = done(&house, &["users", "show", "eva"]);
    assert_eq!(
        (&eva["phone"], &eva["phone_source"]),
        (&json!("+421905000002"), &json!("directory"))
    );
    assert_eq!(house.sync(0)["outcome"], "unchanged");
}

/// Who was removed by hand is given nothing, and comes back as long as nobody else has the name.
#[test]
fn who_is_in_the_grace_is_restored_before_an_entry_is_given() {
    let house = House::new(30);
    house.sync(0);
    let zoe = done(
        &house,
        &["users", "add", "--realm=r", "zoe", "--phone=0905 000 001"],
    );
    done(&house, &["users", "remove", "zoe"]);
    let said = refused(&house, &["users", "adopt", "zoe"]);
    assert!(said.contains("users restore"), "{said}");
    let back = done(&house, &["users", "restore", "zoe"]);
    assert_eq!(
        (&back["id"], &back["state"], &back["state_reason"]),
        (&zoe["id"], &json!("active"), &json!(null)),
        "{back}"
    );
    assert_eq!(
        done(&house, &["users", "restore", "zoe"])["version"],
        back["version"]
    );
    let id = zoe["id"].as_str().unwrap();
    done(&house, &["users", "remove", id]);
    let other = done(&house, &["users", "add", "--realm=r", "Zoe"]);
    let said = refused(&house, &["users", "restore", id]);
    let holder = other["id"].as_str().unwrap();
    assert!(
        said.contains("is taken in realm `r`") && said.contains(&holder[holder.len() - 8..]),
        "{said}"
    );
    let of_directory = lines(&house, &["users", "list", "--origin=directory"]);
    let first = of_directory[0]["id"].as_str().unwrap();
    let said = refused(&house, &["users", "restore", first]);
    assert!(said.contains("next pass"), "{said}");
    let acts: Vec<String> = lines(&house, &["audit", "--user", id])
        .iter()
        .map(|line| line["act"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        acts,
        ["user-add", "user-remove", "user-restore", "user-remove"]
    );
}

/// An entry that was given to the wrong person goes back by `undo`, and no pass gives it again.
#[test]
fn a_wrong_match_is_undone() {
    let house = House::new(30);
    house.sync(0);
    let zoe = done(
        &house,
        &["users", "add", "--realm=r", "zoe", "--phone=0905 000 001"],
    );
    add(&house, "z", "zoe", "mail: zoe@example.org\n");
    done(&house, &["users", "adopt", "zoe"]);
    let run = house.sync(0);
    assert_eq!(
        done(&house, &["users", "show", "zoe"])["origin"],
        "directory"
    );
    let undo = done(&house, &["undo", run["run"].as_str().unwrap()]);
    let undo = undo["run"].as_str().unwrap().to_owned();
    let lines_of = lines(&house, &["runs", "show", &undo]);
    assert!(
        lines_of
            .iter()
            .any(|l| l["after"]["origin"] == "manual" && l["after"]["directory_id"].is_null()),
        "{lines_of:?}"
    );
    let is = done(&house, &["users", "show", "zoe"]);
    for field in [
        "id",
        "origin",
        "directory_id",
        "dn",
        "email",
        "phone",
        "phone_source",
    ] {
        assert_eq!(is[field], zoe[field], "{field}: {is}");
    }
    assert_eq!(house.run(&["resume", "r"]).code, 0);
    assert_eq!(house.sync(0)["refused_entries"], 1);
    assert_eq!(done(&house, &["users", "show", "zoe"])["origin"], "manual");
}

/// Somebody puts a realm by hand into the file by mistake: it goes back as long as no pass was applied.
#[test]
fn a_realm_by_hand_that_leaves_the_file_is_by_hand_again() {
    let house = House::new(30);
    let configured = std::fs::read_to_string(house.path("realmsync.toml")).unwrap();
    let right = configured.replace("id = \"r\"", "id = \"other\"");
    std::fs::write(house.path("realmsync.toml"), &right).unwrap();
    let made = done(
        &house,
        &["realms", "create", "r", "--name=Firms", "--region=SK"],
    );
    let zoe = done(
        &house,
        &["users", "add", "--realm=r", "zoe", "--phone=0905 000 001"],
    );
    std::fs::write(house.path("realmsync.toml"), configured).unwrap();
    add(&house, "z", "zoe", "mobile: +421905000001\n");
    let held = house.sync(3);
    done(&house, &["reject", held["run"].as_str().unwrap()]);
    std::fs::write(house.path("realmsync.toml"), right).unwrap();
    drop(house.daemon());
    let is = lines(&house, &["realms", "list"]);
    let is = is.iter().find(|r| r["id"] == "r").expect("the realm");
    for field in ["name", "kind", "region"] {
        assert_eq!(is[field], made[field], "{field}: {is}");
    }
    assert_eq!(plain(done(&house, &["users", "show", "zoe"])), plain(zoe));
    done(&house, &["users", "edit", "zoe", "--note=here"]);
    done(&house, &["realms", "edit", "r", "--category=c"]);
}
