//! What an administrator meets in a working day: a former name, a number as it was typed, a narrow terminal.

use crate::support::house::House;

#[test]
fn explain_knows_whom_a_former_name_belongs_to() {
    let house = House::new(40);
    house.sync(0);
    let did = house.churn(&[("rename", 1)]);
    let did = &did["did"]["rename"][0];
    house.sync(0);
    let users = house.users();
    let now = users
        .iter()
        .find(|(_, u)| u["version"].as_i64() > Some(1))
        .map_or_else(
            || panic!("nobody was renamed: {did}"),
            |(name, user)| (name.clone(), user["id"].as_str().unwrap().to_owned()),
        );
    let renamed = house.run(&["--json", "explain", &now.0]).json()["history"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["kind"] == "renamed")
        .cloned()
        .unwrap();
    let former = renamed["before"]["username"].as_str().unwrap().to_owned();
    // In any case, as names are compared.
    let said = house.run(&["explain", &former.to_uppercase()]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.out.contains(&format!("is called {}", now.0)) && said.err.contains(&now.1[28..]),
        "{}{}",
        said.out,
        said.err
    );
    assert_eq!(
        house.run(&["--json", "explain", &former]).json(),
        renamed,
        "the change itself"
    );
    assert_eq!(house.run(&["explain", &former, "--realm", "nope"]).code, 1);
    // Whoever gets the name is meant by it from then on.
    let base = house.server["PEOPLE_DN"].to_owned();
    house.server.modify(&format!(
        "dn: uid={former},{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {former}\ncn: Another Person\nsn: x\n"
    ));
    house.sync(0);
    let another = house.run(&["explain", &former]);
    assert!(
        another.out.contains("Another Person"),
        "{}{}",
        another.out,
        another.err
    );
}

#[test]
fn a_number_as_it_was_typed_shows_no_more_than_its_e164() {
    let house = House::new(5);
    let base = house.server["PEOPLE_DN"].to_owned();
    house.server.modify(&format!(
        "dn: uid=typed,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: typed\ncn: t\nsn: t\nmobile: +421 905 123 456\n"
    ));
    house.sync(0);
    let user = &house.users()["typed"];
    assert_eq!(user["phone"], "+421905123456", "{user}");
    for arguments in [&["explain", "typed"][..], &["users", "show", "typed"]] {
        let said = house.run(arguments);
        assert!(
            said.out.contains("+421 90• ••• 456") && said.out.contains("+421905•••456"),
            "{arguments:?}: {}",
            said.out
        );
        let open = house.run(&[arguments, &["--show-phones"]].concat());
        assert!(open.out.contains("+421 905 123 456"), "{}", open.out);
    }
}

#[test]
fn a_list_of_messages_fits_a_terminal_and_its_ids_can_be_used() {
    let house = House::new(60);
    house.sync(0);
    house.churn(&[("phone", 4)]);
    house.sync(0);
    let narrow = house
        .command(&["outbox", "list"])
        .env("COLUMNS", "80")
        .output()
        .unwrap();
    let narrow = String::from_utf8(narrow.stdout).unwrap();
    let lines: Vec<&str> = narrow.lines().collect();
    // A first number sends nothing, so that not all four need a message.
    assert!(lines.len() > 2, "{narrow}");
    assert!(
        lines.iter().all(|l| l.chars().count() <= 80),
        "80 columns:\n{narrow}"
    );
    // An empty variable of a script names nothing, however few messages there are.
    for nothing in ["", "01a"] {
        assert_eq!(house.run(&["outbox", "drop", nothing]).code, 64);
    }
    for line in &lines[1..] {
        let id = line.split_whitespace().next().unwrap();
        assert!(line.contains("due"), "{narrow}");
        let held = house.run(&["outbox", "hold", id]);
        assert_eq!(held.code, 0, "{id}: {}", held.err);
        assert!(held.err.contains("1 message "), "{}", held.err);
    }
    let held = house.run(&["--json", "outbox", "list"]);
    assert!(
        held.lines().iter().all(|job| job["state"] == "held"),
        "{}",
        held.out
    );
}

/// § 5: `approve` is 0 where the plan was applied; where everything is as before by now, nothing was, and it says so.
#[test]
fn approving_what_was_put_right_meanwhile_is_no_success() {
    let house = House::new(20);
    let base = house.server["PEOPLE_DN"].to_owned();
    house.server.modify(&format!(
        "dn: uid=xaver,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: xaver\ncn: x\nsn: x\nmobile: +421905000001\n"
    ));
    house.configure("[realm.brake]\nphone-changed = \"0%\"\nfloor = 0\n");
    house.sync(0);
    let set = |number: &str| {
        house.server.modify(&format!(
            "dn: uid=xaver,{base}\nchangetype: modify\nreplace: mobile\nmobile: {number}\n"
        ));
    };
    set("+421905000002");
    let held = house.sync(3);
    set("+421905000001");
    let said = house.run(&["approve", held["run"].as_str().unwrap()]);
    assert_eq!(said.code, 1, "{}\n{}", said.out, said.err);
    assert!(
        said.err.contains("nothing left to approve"),
        "{}\n{}",
        said.out,
        said.err
    );
    house.sync(0);
}
