//! Ids that a directory compares in another way than we read them: who is looked up must be found, or nobody is absent.

use std::process::Command;

use serde_json::Value;

use crate::support::house::House;
use crate::support::lab::Server;

const SCHEMA: &str = "dn: cn=own,cn=schema,cn=config\nchangetype: add\nobjectClass: olcSchemaConfig\ncn: own\n\
    olcAttributeTypes: ( 1.3.6.1.4.1.4203.666.1.901 NAME 'orclGUID' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )\n\
    olcAttributeTypes: ( 1.3.6.1.4.1.4203.666.1.902 NAME 'exactID' EQUALITY caseExactMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )\n\
    olcObjectClasses: ( 1.3.6.1.4.1.4203.666.3.903 NAME 'numbered' SUP top AUXILIARY MAY ( orclGUID $ exactID ) )\n";

/// The DNs of the people.
fn people(server: &Server) -> Vec<String> {
    let found = Command::new("ldapsearch")
        .args([
            "-x",
            "-LLL",
            "-o",
            "ldif-wrap=no",
            "-H",
            &server["LDAP_URI"],
        ])
        .args(["-b", &server["PEOPLE_DN"], "(mobile=*)", "1.1"])
        .output()
        .expect("ldapsearch");
    String::from_utf8_lossy(&found.stdout)
        .lines()
        .filter_map(|line| line.strip_prefix("dn: ").map(str::to_owned))
        .collect()
}

/// A house whose people have an id of their own, each written by `spelled` from a number.
fn house(attribute: &str, changes: &str, spelled: impl Fn(usize) -> String) -> House {
    let house = House::with(Server::start("openldap", &["--users", "30"]), "");
    house.server.configure(SCHEMA);
    for (n, dn) in people(&house.server).iter().enumerate() {
        house.server.modify(&format!(
            "dn: {dn}\nchangetype: modify\nadd: objectClass\nobjectClass: numbered\n-\nadd: {attribute}\n{attribute}: {}\n",
            spelled(n)
        ));
    }
    house.configure_as(
        &house.server["BIND_DN"],
        &format!("changes = \"{changes}\"\nfilter = \"(mobile=*)\""),
        &format!(
            "[realm.attributes]\ndirectory-id = \"{attribute}\"\n[realm.brake]\nfloor = 1000\n"
        ),
    );
    house
}

fn changes_are_seen_and_nobody_goes(house: &House) {
    let check = house.run(&["check", "--connect"]);
    assert_eq!(check.code, 0, "{}\n{}", check.out, check.err);
    assert!(check.out.contains("is found again by"), "{}", check.out);
    let first = house.sync(0);
    let everybody = first["created"].as_i64().expect("a number");
    assert!(everybody > 10, "{first}");
    let somebody = &people(&house.server)[2];
    house.server.modify(&format!(
        "dn: {somebody}\nchangetype: modify\nreplace: mobile\nmobile: +421905333444\n"
    ));
    let delta = house.sync(0);
    assert_eq!(
        (&delta["mode"], &delta["phone_changed"], &delta["suspended"]),
        (&"delta".into(), &1.into(), &0.into()),
        "{delta}"
    );
    // Who is really gone is found to be so all the same.
    house
        .server
        .modify(&format!("dn: {somebody}\nchangetype: delete\n"));
    let full = house.run(&["--json", "sync", "r", "--full"]).json();
    assert_eq!(
        (&full["suspended"], &full["outcome"]),
        (&1.into(), &"applied".into()),
        "{full}"
    );
}

#[test]
fn an_id_of_32_digits_is_looked_up_as_it_is_written() {
    let house = house("orclGUID", "timestamp", |n| {
        format!("{:032X}", 0xabcd_u64 << 32 | n as u64)
    });
    changes_are_seen_and_nobody_goes(&house);
}

#[test]
fn an_id_in_upper_case_that_is_compared_letter_by_letter_is_looked_up_as_it_is_written() {
    let house = house("exactID", "timestamp", |n| {
        format!("ABCDEF00-0000-4000-8000-{n:012X}")
    });
    changes_are_seen_and_nobody_goes(&house);
}

#[test]
fn ids_of_several_spellings_are_all_found() {
    let house = house("exactID", "timestamp", |n| match n % 4 {
        0 => format!("ABCDEF00-0000-4000-8000-{n:012X}"),
        1 => format!("abcdef00-0000-4000-8000-{n:012x}"),
        2 => format!("{{abcdef00-0000-4000-8000-{n:012x}}}"),
        // In a spelling of its own.
        _ => format!("ABCDef0000004000aaaa{n:012X}"),
    });
    changes_are_seen_and_nobody_goes(&house);
}

#[test]
fn where_ids_are_shown_but_not_found_nobody_is_absent() {
    let house = House::with(Server::start("openldap", &["--users", "30"]), "");
    house.configure_as(&house.server["BIND_DN"], "changes = \"auto\"", "");
    house.sync(0);
    // The account goes on reading ids, and may not search by them.
    house.server.configure(&format!(
        "dn: olcDatabase={{1}}mdb,cn=config\nchangetype: modify\nadd: olcAccess\nolcAccess: {{0}}to attrs=entryUUID by dn.exact=\"{}\" =rcdx by * read\n",
        &house.server["BIND_DN"]
    ));
    house.churn(&[("phone", 1), ("delete", 1)]);
    for arguments in [
        &["--json", "sync", "r"][..],
        &["--json", "sync", "r", "--full"],
    ] {
        let run: Value = house.run(arguments).json();
        assert_eq!(run["error_code"], "incomplete", "{run}");
        let error = run["error"].as_str().expect("words");
        assert!(error.contains("entryUUID"), "{error}");
    }
    assert!(
        house
            .users()
            .values()
            .all(|u| u["state"] == "active" || u["state_reason"] == "disabled")
    );
    let check = house.run(&["check", "--connect"]);
    assert!(
        check.out.contains("is not found again by `entryUUID`"),
        "{}",
        check.out
    );
}
