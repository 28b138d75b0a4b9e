//! Something of everybody is refused: it is staged like a plan, and told apart from what was refused before.

use std::collections::BTreeMap;

use crate::support::house::House;

/// What is refused, and since when.
fn refused(house: &House) -> BTreeMap<String, String> {
    let said = house.run(&["--json", "refused"]);
    assert_eq!(said.code, 0, "{}", said.err);
    said.lines()
        .into_iter()
        .map(|mut row| {
            let since = row.as_object_mut().and_then(|row| row.remove("since"));
            (row.to_string(), since.expect("since").to_string())
        })
        .collect()
}

#[test]
fn what_a_realm_refuses_of_everybody_is_kept_by_difference() {
    let house = House::new(150);
    let with_region = std::fs::read_to_string(house.path("realmsync.toml")).unwrap();
    // Neither the realm nor anybody's entry says a country.
    let without = with_region.replace(
        "[realm.phone]\nregion = \"SK\"\n",
        "[realm.attributes]\ncountry = \"description\"\n",
    );
    assert_ne!(without, with_region);
    std::fs::write(house.path("realmsync.toml"), &without).unwrap();
    let dry = house.run(&["--json", "plan"]).json();
    let first = house.sync(0);
    let all = refused(&house);
    let count = |run: &serde_json::Value| {
        run["refused_entries"].as_u64().unwrap_or(0) + run["refused_phones"].as_u64().unwrap_or(0)
    };
    assert_eq!(count(&dry), count(&first), "{dry} {first}");
    assert_eq!(all.len() as u64, count(&first), "{first}");
    assert!(all.len() > 20, "{}", all.len());
    // The lists for people and for spreadsheets have the same rows, each below one heading.
    for arguments in [&["refused"][..], &["refused", "--csv"]] {
        let said = house.run(arguments);
        assert_eq!(said.code, 0, "{}", said.err);
        let lines: Vec<&str> = said.out.lines().collect();
        assert_eq!(lines.len(), all.len() + 1, "{arguments:?}");
        assert!(lines[0].contains("attribute"), "{}", lines[0]);
    }
    // Nothing changed: nothing is written, and `since` stays.
    let second = house.sync(0);
    assert_eq!(count(&second), count(&first));
    assert_eq!(refused(&house), all);
    // One person's look leaves what is refused elsewhere.
    let someone = house.users().into_keys().next().expect("a user");
    assert_eq!(house.run(&["sync", "r", "--user", &someone]).code, 0);
    assert_eq!(refused(&house), all);
    // Some are mended, and the others stay as they were; the plan is held, since the mapping changed.
    std::fs::write(house.path("realmsync.toml"), &with_region).unwrap();
    let held = house.sync(3);
    let left = refused(&house);
    assert_eq!(left.len() as u64, count(&held), "{held}");
    assert!(left.len() < all.len(), "{} of {}", left.len(), all.len());
    assert!(
        left.iter()
            .any(|(what, since)| all.get(what) == Some(since))
    );
}

fn rows(house: &House, table: &str) -> String {
    let script = "import sqlite3, sys\n\
        print(sqlite3.connect(sys.argv[1]).execute('SELECT COUNT(*) FROM ' + sys.argv[2]).fetchone()[0])";
    let output = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(house.path("realmsync.db"))
        .arg(table)
        .output()
        .expect("python3 runs");
    assert!(output.status.success(), "{table}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A pass in which nobody is usable says who it met, takes nothing back of what stood refused, and leaves nothing staged.
#[test]
fn a_pass_that_finds_nobody_usable_leaves_nothing_staged() {
    let house = House::new(40);
    let all = std::fs::read_to_string(house.path("realmsync.toml")).unwrap();
    let of = |filter: &str, more: &str| {
        let text = all
            .replace("(objectClass=inetOrgPerson)", filter)
            .replace("[realm.phone]", &format!("{more}[realm.phone]"));
        assert_ne!(text, all);
        text
    };
    let own = of("(&(objectClass=inetOrgPerson)(uid=*a*))", "");
    std::fs::write(house.path("realmsync.toml"), &own).unwrap();
    house.sync(0);
    let dn = house.users().values().next().unwrap()["dn"].clone();
    house.server.modify(&format!(
        "dn: {}\nchangetype: modify\nreplace: mobile\nmobile: 12\n",
        dn.as_str().unwrap()
    ));
    house.sync(0);
    let before = refused(&house);
    assert!(!before.is_empty());
    // Whoever is met is new, and has no user name.
    let nameless = of(
        "(&(objectClass=inetOrgPerson)(!(uid=*a*)))",
        "[realm.attributes]\nusername = \"carLicense\"\n",
    );
    std::fs::write(house.path("realmsync.toml"), &nameless).unwrap();
    for _ in 0..2 {
        let run = house.run(&["--json", "sync", "r"]).json();
        assert_eq!(run["error_code"], "empty", "{run}");
        assert_eq!(rows(&house, "staged_refused"), "0");
        assert_eq!(rows(&house, "staged_users"), "0");
        let now = refused(&house);
        assert!(before.keys().all(|row| now.contains_key(row)));
        assert!(now.len() > before.len(), "it says whom it met");
    }
    // What was only met by them goes with the next pass that is one.
    std::fs::write(house.path("realmsync.toml"), &own).unwrap();
    house.sync(0);
    assert_eq!(refused(&house).len(), before.len());
}
