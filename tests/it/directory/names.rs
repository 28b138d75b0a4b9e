//! An attribute has one identity, however it is spelled; and the value in use stays, whatever stands beside it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::house::House;
use crate::support::lab::Server;

/// What is read of each person.
fn people(house: &House) -> BTreeMap<String, [Value; 4]> {
    let of = |u: &Value| ["display_name", "email", "phone", "state"].map(|key| u[key].clone());
    let users = house.users();
    users
        .iter()
        .map(|(name, u)| (name.clone(), of(u)))
        .collect()
}

/// Goes on with an empty store of this name.
fn anew(house: &mut House, name: &str) {
    house.database = format!("sqlite:{}", house.path(name).display());
}

/// People whose number is read right only with the country read, and one who left.
fn abroad(house: &House) {
    let base = &house.server["PEOPLE_DN"];
    let class = "objectClass: inetOrgPerson\nobjectClass: extensibleObject\n";
    house.server.modify(&format!(
        "dn: cn=Countess,{base}\nchangetype: add\n{class}uid: countess\nsn: c\nc: CZ\nmobile: 601 123 456\nmail: c@example.org\n\n\
         dn: cn=Linguist,{base}\nchangetype: add\n{class}uid: linguist\nsn: l\npreferredLanguage: cs-CZ\nmobile: 602 123 456\n\n\
         dn: cn=Leaver,{base}\nchangetype: add\n{class}uid: leaver\nsn: l\nemployeeType: former\nmobile: +421905123999\n"
    ));
}

const USUAL: &str =
    "[realm.attributes]\ndisabled = { attribute = \"employeeType\", equals = \"former\" }\n";

const ALIASES: &str = "[realm.attributes]\nusername = \"userid\"\ndisplay-name = [\"displayName\", \"commonName\"]\nemail = \"rfc822Mailbox\"\n\
     phone = [\"mobileTelephoneNumber\"]\ncountry = [\"countryName\", \"2.16.840.1.113730.3.1.39\"]\n\
     disabled = { attribute = \"2.16.840.1.113730.3.1.4\", equals = \"former\" }\n";

const NUMBERS: &str = "[realm.attributes]\nusername = \"0.9.2342.19200300.100.1.1\"\ndisplay-name = [\"2.16.840.1.113730.3.1.241\", \"2.5.4.3\"]\n\
     email = \"0.9.2342.19200300.100.1.3\"\nphone = [\"0.9.2342.19200300.100.1.41\"]\ncountry = [\"2.5.4.6\", \"2.16.840.1.113730.3.1.39\"]\n\
     disabled = { attribute = \"2.16.840.1.113730.3.1.4\", equals = \"former\" }\n";

fn each_name_reads_the_same(mut house: House, id: &str) {
    abroad(&house);
    house.configure(USUAL);
    house.sync(0);
    let right = people(&house);
    assert_eq!(right["countess"][2], "+420601123456");
    assert_eq!(right["linguist"][2], "+420602123456");
    assert_eq!(right["leaver"][3], "suspended");
    for (name, names) in [
        ("aliases.db", ALIASES.to_owned()),
        ("numbers.db", format!("{NUMBERS}directory-id = \"{id}\"\n")),
    ] {
        anew(&mut house, name);
        house.configure_as(&house.server["BIND_DN"], "changes = \"auto\"", &names);
        house.sync(0);
        assert_eq!(people(&house), right, "{names}");
        let check = house.run(&["check", "--connect"]);
        assert!(
            !check.out.contains("nobody shows any value"),
            "{}",
            check.out
        );
        // Deltas and look-ups by id too.
        let who = house.users()["countess"]["dn"].as_str().unwrap().to_owned();
        let set = |number: &str| {
            house.server.modify(&format!(
                "dn: {who}\nchangetype: modify\nreplace: mobile\nmobile: {number}\n"
            ));
        };
        set("601 123 457");
        let run = house.sync(0);
        assert_eq!(
            (&run["mode"], &run["phone_changed"], &run["suspended"]),
            (&"delta".into(), &1.into(), &0.into()),
            "{run}"
        );
        assert_eq!(people(&house)["countess"][2], "+420601123457");
        set("601 123 456");
        house.sync(0);
        let run = house.run(&["--json", "sync", "r", "--full"]);
        assert_eq!(run.json()["outcome"], "unchanged", "{}", run.out);
    }
}

#[test]
fn an_attribute_is_the_same_by_each_of_its_names_on_openldap() {
    each_name_reads_the_same(House::new(30), "1.3.6.1.1.16.4");
}

#[test]
fn an_attribute_is_the_same_by_each_of_its_names_on_389_ds() {
    let server = Server::start("ds389", &["--users", "30"]);
    each_name_reads_the_same(House::with(server, ""), "2.16.840.1.113730.3.1.542");
}

#[test]
fn an_attribute_is_the_same_by_its_number_on_samba() {
    let mut house = House::with(Server::start("samba", &["--users", "30"]), "");
    house.sync(0);
    let right = people(&house);
    assert!(right.values().any(|p| p[2].is_string()));
    anew(&mut house, "numbers.db");
    house.configure(
        "[realm.attributes]\nusername = \"1.2.840.113556.1.4.221\"\nphone = [\"0.9.2342.19200300.100.1.41\", \"1.2.840.113556.1.4.647\"]\n\
         disabled = { attribute = \"1.2.840.113556.1.4.8\", equals = \"546\" }\ndirectory-id = \"1.2.840.113556.1.4.2\"\n",
    );
    house.sync(0);
    assert_eq!(people(&house), right);
}

/// Also by names that only this server's schema knows.
#[test]
fn a_name_of_the_servers_own_schema_is_known() {
    let house = House::new(20);
    house.server.configure(
        "dn: cn=badge,cn=schema,cn=config\nchangetype: add\nobjectClass: olcSchemaConfig\ncn: badge\n\
         olcAttributeTypes: ( 1.3.6.1.4.1.4203.666.99.1 NAME ( 'badge' 'badgeName' ) EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )\n",
    );
    let base = &house.server["PEOPLE_DN"];
    house.server.modify(&format!(
        "dn: cn=Bea,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: extensibleObject\nuid: bea\nsn: b\nbadge: Bea of the Badge\n"
    ));
    house.configure_as(
        &house.server["BIND_DN"],
        "changes = \"syncrepl\"",
        "[realm.attributes]\ndisplay-name = [\"badgeName\", \"cn\"]\n",
    );
    house.sync(0);
    assert_eq!(people(&house)["bea"][0], "Bea of the Badge");
    // The delta knows what the full pass learned.
    house.server.modify(&format!(
        "dn: cn=Bea,{base}\nchangetype: modify\nreplace: badge\nbadge: Bea\n"
    ));
    let run = house.sync(0);
    assert_eq!(
        (&run["mode"], &run["updated"]),
        (&"delta".into(), &1.into()),
        "{run}"
    );
    assert_eq!(people(&house)["bea"][0], "Bea");
}

#[test]
fn without_a_schema_a_named_attribute_that_never_came_is_a_fault() {
    let house = House::new(20);
    house.server.configure(
        "dn: olcDatabase={-1}frontend,cn=config\nchangetype: modify\nadd: olcAccess\nolcAccess: {0}to dn.base=\"\" attrs=subschemaSubentry by * none\n",
    );
    house.configure("[realm.attributes]\nphone = [\"mobile\", \"mobil\"]\n");
    let run = house.sync(78);
    assert_eq!(run["error_code"], "config", "{run}");
    let error = run["error"].as_str().unwrap();
    assert!(error.contains("value in mobil,"), "{error}");
    assert_eq!(house.users().len(), 0);
    let check = house.run(&["check", "--connect"]);
    assert_eq!(check.code, 1, "{}", check.out);
    assert!(check.out.contains("mobil,"), "{}", check.out);
    // What somebody has needs no schema.
    house.configure("[realm.attributes]\nphone = [\"mobileTelephoneNumber\"]\n");
    house.sync(0);
    assert!(house.users().values().any(|u| u["phone"].is_string()));
    assert_eq!(house.sync(0)["outcome"], "unchanged");
}

/// The server is another kind only to who may not read what it is.
#[test]
fn a_realm_remembers_the_kind_of_its_directory_and_a_change_of_it_fails() {
    let house = House::new(20);
    house.sync(0);
    let before = house.users();
    house.server.configure(
        "dn: olcDatabase={-1}frontend,cn=config\nchangetype: modify\nadd: olcAccess\nolcAccess: {0}to dn.base=\"\" attrs=objectClass,structuralObjectClass by * search\n",
    );
    let said = house.run(&["--json", "sync", "r"]);
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    let run = said.json();
    assert_eq!(run["error_code"], "incomplete", "{run}");
    let error = run["error"].as_str().unwrap();
    assert!(
        error.contains("OpenLDAP") && error.contains("`kind`"),
        "{error}"
    );
    assert_eq!(house.users(), before);
    // Named in the file, it is what the file says.
    house.configure_as(&house.server["BIND_DN"], "kind = \"openldap\"", "");
    assert_eq!(house.sync(0)["outcome"], "unchanged");
}

/// Whom the directory knows by two names is who they were, and so with the rest.
#[test]
fn the_value_in_use_stays_while_it_is_there() {
    let house = House::new(60);
    let base = &house.server["PEOPLE_DN"];
    let class = "objectClass: inetOrgPerson\n";
    house.server.modify(&format!(
        "dn: cn=Moni,{base}\nchangetype: add\n{class}uid: moni\nsn: m\nmail: moni@example.org\nmobile: +421905123001\n\n\
         dn: uid=max,{base}\nchangetype: add\n{class}cn: Max\nsn: m\n"
    ));
    house.sync(0);
    let before = house.users();
    assert_eq!(before["max"]["display_name"], "Max");
    // Smaller ones come, first in the entry.
    house.server.modify(&format!(
        "dn: cn=Moni,{base}\nchangetype: modify\nreplace: uid\nuid: anna\nuid: moni\n-\nreplace: mail\nmail: anna@example.org\nmail: moni@example.org\n\n\
         dn: uid=max,{base}\nchangetype: modify\nreplace: cn\ncn: Aaron\ncn: Max\n"
    ));
    let run = house.sync(0);
    assert_eq!(
        (&run["renamed"], &run["updated"]),
        (&0.into(), &0.into()),
        "{run}"
    );
    let is = house.users();
    for (name, key) in [("moni", "email"), ("max", "display_name")] {
        assert_eq!(is[name][key], before[name][key]);
    }
    // A plan that waits is approved with the same name.
    house.server.modify(&format!(
        "dn: cn=Moni,{base}\nchangetype: modify\nreplace: mobile\nmobile: +421905123002\n"
    ));
    house.churn(&[("phone", 40)]);
    let run = house.sync(3);
    let approved = house.run(&["--json", "approve", run["run"].as_str().unwrap()]);
    assert_eq!(approved.code, 0, "{}{}", approved.out, approved.err);
    assert_eq!(house.users()["moni"]["phone"], "+421905123002");
    // Taken away, it is used no more.
    house.server.modify(&format!(
        "dn: cn=Moni,{base}\nchangetype: modify\ndelete: uid\nuid: moni\n-\ndelete: mail\nmail: moni@example.org\n\n\
         dn: uid=max,{base}\nchangetype: modify\ndelete: cn\ncn: Max\n"
    ));
    let run = house.sync(0);
    assert_eq!(run["renamed"], 1, "{run}");
    let is = house.users();
    assert_eq!(is["anna"]["id"], before["moni"]["id"]);
    assert_eq!(is["anna"]["email"], "anna@example.org");
    assert_eq!(is["max"]["display_name"], "Aaron");
}
