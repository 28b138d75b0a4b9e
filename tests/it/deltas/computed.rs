//! What a full pass finds although no entry changed: no delta can tell of it, and it is no reason to trust deltas less. What a delta
//! missed is one all the same.

use std::process::Command;

use serde_json::Value;

use super::full;
use crate::support::house::House;
use crate::support::lab::Server;

const BRAKE: &str =
    "[realm.brake]\nfloor = 1000\nsuspended = \"100%\"\ncreated = \"100%\"\nrestored = \"100%\"\n";

fn house(kind: &'static str, users: &str, directory: &str, attributes: &str) -> House {
    let house = House::with(Server::start(kind, &["--users", users]), "");
    let extra = format!("{BRAKE}{attributes}");
    house.configure_as(&house.server["BIND_DN"], directory, &extra);
    house.beside("other", &[]);
    house
}

/// DNs of some active people with a number.
fn people(house: &House, n: usize) -> Vec<String> {
    let users = house.users();
    let found: Vec<String> = users
        .values()
        .filter(|u| u["state"] == "active" && u["phone"].is_string())
        .map(|u| u["dn"].as_str().unwrap().to_owned())
        .take(n)
        .collect();
    assert_eq!(found.len(), n);
    found
}

fn sql(house: &House, text: &str) {
    let script = "import sqlite3, sys\n\
        db = sqlite3.connect(sys.argv[1])\n\
        db.execute('ATTACH ? AS other', (sys.argv[2],))\n\
        assert db.execute(sys.argv[3]).rowcount == 1\n\
        db.commit()";
    let status = Command::new("python3")
        .args(["-c", script])
        .args([house.path("realmsync.db"), house.path("other.db")])
        .arg(text)
        .status()
        .expect("python3 runs");
    assert!(status.success(), "{text}");
}

/// People get numbers, and the realm goes on behind that, as if a delta had missed it. Needs a configuration `other`.
pub(super) fn missed(house: &House, numbers: &[(&String, &str)]) {
    for (dn, number) in numbers {
        house.server.modify(&format!(
            "dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: {number}\n"
        ));
    }
    let said = house.run_of("other", &["sync", "r", "--full"]);
    assert_eq!(said.code, 0, "{}", said.err);
    sql(
        house,
        "UPDATE realms SET cursor = (SELECT cursor FROM other.realms WHERE id = 'r') WHERE id = 'r'",
    );
}

fn finds(run: &Value, computed: i64, drift: i64) {
    assert_eq!(
        (&run["outcome"], &run["computed"], &run["drift"]),
        (&"applied".into(), &computed.into(), &drift.into()),
        "{run}"
    );
}

fn is_trusted(house: &House) {
    assert_eq!(house.sync(0)["mode"], "delta", "deltas are still trusted");
}

/// Two nights in which a delta missed something, with something computed beside it: then everything is read each time.
fn two_missed_nights(house: &House, people: &[String], computed: impl Fn(usize) -> i64) {
    for (night, dn) in people.iter().enumerate().take(2) {
        let number = format!("+4219059990{night}1");
        missed(house, &[(dn, &number)]);
        let expected = computed(night);
        finds(&full(house), expected, 1);
    }
    assert_eq!(house.sync(0)["mode"], "full", "deltas are not trusted");
}

/// A collective attribute comes from an entry above the base.
#[test]
fn two_nights_with_a_collective_attribute_do_not_end_the_trust_in_deltas() {
    let attributes = "[realm.attributes]\ndisplay-name = [\"o\"]\n";
    let house = house("openldap", "40", "changes = \"auto\"", attributes);
    let suffix = &house.server["SUFFIX"];
    house.server.configure(&format!(
        "dn: cn=module{{0}},cn=config\nchangetype: modify\nadd: olcModuleLoad\nolcModuleLoad: collect\n\n\
         dn: olcOverlay=collect,olcDatabase={{1}}mdb,cn=config\nchangetype: add\nobjectClass: olcOverlayConfig\nobjectClass: olcCollectConfig\n\
         olcOverlay: collect\nolcCollectInfo: \"{suffix}\" o\n"
    ));
    let name = |name: &str| {
        house.server.modify(&format!(
            "dn: {suffix}\nchangetype: modify\nreplace: o\no: {name}\n"
        ));
    };
    name("Example");
    house.sync(0);
    let everybody = i64::try_from(house.users().len()).unwrap();
    for night in ["One", "Two", "Three"] {
        name(night);
        let run = full(&house);
        finds(&run, everybody, 0);
        let shown = house.run(&["runs", "show", run["run"].as_str().unwrap()]);
        assert!(shown.out.contains("computed: "), "{}", shown.out);
        assert!(!shown.out.contains("drift: "), "{}", shown.out);
    }
    is_trusted(&house);
    {
        let _daemon = house.daemon();
        let status = house.run(&["--json", "status"]).json();
        let following = &status["following"];
        assert_eq!(
            (&following["computed"], &following["drift"]),
            (&everybody.into(), &0.into()),
            "{status}"
        );
    }
    let some = people(&house, 2);
    two_missed_nights(&house, &some, |night| {
        if night == 0 {
            return 0;
        }
        name("Four");
        everybody - 1
    });
}

/// 389-ds's own inactivation: a filtered role, from which a class of service makes `nsAccountLock`.
#[test]
fn two_nights_with_a_lock_by_a_role_do_not_end_the_trust_in_deltas() {
    let house = house("ds389", "40", "changes = \"auto\"", "");
    let suffix = &house.server["SUFFIX"];
    house.server.modify(&format!(
        "dn: cn=locked,{suffix}\nchangetype: add\nobjectClass: LdapSubEntry\nobjectClass: nsRoleDefinition\nobjectClass: nsComplexRoleDefinition\n\
         objectClass: nsFilteredRoleDefinition\ncn: locked\nnsRoleFilter: (uid=nobody-at-all)\n\n\
         dn: cn=templates,{suffix}\nchangetype: add\nobjectClass: nsContainer\ncn: templates\n\n\
         dn: cn=\"cn=locked,{suffix}\",cn=templates,{suffix}\nchangetype: add\nobjectClass: extensibleObject\nobjectClass: costemplate\n\
         objectClass: ldapsubentry\ncosPriority: 1\nnsAccountLock: true\n\n\
         dn: cn=lock,{suffix}\nchangetype: add\nobjectClass: LdapSubEntry\nobjectClass: cosSuperDefinition\nobjectClass: cosClassicDefinition\n\
         cosTemplateDn: cn=templates,{suffix}\ncosSpecifier: nsRole\ncosAttribute: nsAccountLock operational\ncn: lock\n"
    ));
    let lock = |filter: &str| {
        house.server.modify(&format!(
            "dn: cn=locked,{suffix}\nchangetype: modify\nreplace: nsRoleFilter\nnsRoleFilter: {filter}\n"
        ));
    };
    house.sync(0);
    let some = people(&house, 5);
    let rdn = |n: usize| format!("({})", some[n].split(',').next().unwrap());
    // One is locked, then another one instead.
    for (night, computed) in [(0, 1), (1, 2), (2, 2)] {
        lock(&rdn(night));
        let run = full(&house);
        finds(&run, computed, 0);
        assert_eq!(run["suspended"], 1, "{run}");
    }
    is_trusted(&house);
    two_missed_nights(&house, &some[3..], |night| {
        if night == 0 {
            return 0;
        }
        lock("(uid=nobody-at-all)");
        1
    });
}

/// Who comes into the filter by a role, or leaves it, changes as little as who is locked by one.
#[test]
fn who_comes_and_goes_by_a_role_in_the_filter_is_no_drift() {
    let house = house("ds389", "40", "changes = \"auto\"", "");
    let said = house.run_of("other", &["sync", "r"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let said = house.run_of("other", &["--json", "users", "list", "--realm", "r"]);
    let names: Vec<String> = said.lines()[..3]
        .iter()
        .map(|u| u["username"].as_str().unwrap().to_owned())
        .collect();
    let suffix = &house.server["SUFFIX"];
    let all_but = |n: usize| format!("(&(objectClass=inetOrgPerson)(!(uid={})))", names[n]);
    house.server.modify(&format!(
        "dn: cn=mfa,{suffix}\nchangetype: add\nobjectClass: LdapSubEntry\nobjectClass: nsRoleDefinition\nobjectClass: nsComplexRoleDefinition\n\
         objectClass: nsFilteredRoleDefinition\ncn: mfa\nnsRoleFilter: {}\n",
        all_but(0)
    ));
    let directory = format!("changes = \"auto\"\nfilter = \"(nsRole=cn=mfa,{suffix})\"\n");
    house.configure_as(&house.server["BIND_DN"], &directory, BRAKE);
    house.sync(0);
    for (without, comes) in [(1, "created"), (2, "restored")] {
        house.server.modify(&format!(
            "dn: cn=mfa,{suffix}\nchangetype: modify\nreplace: nsRoleFilter\nnsRoleFilter: {}\n",
            all_but(without)
        ));
        let run = full(&house);
        assert_eq!(
            (&run[comes], &run["suspended"]),
            (&1.into(), &1.into()),
            "{run}"
        );
        finds(&run, 2, 0);
    }
    is_trusted(&house);
}

/// Samba shows what is computed nowhere that a realm looks, so the store is made to differ.
#[test]
fn on_active_directory_the_usn_of_an_entry_says_whether_it_changed() {
    let house = house("samba", "20", "changes = \"auto\"", "");
    house.sync(0);
    let some = people(&house, 3);
    for _ in 0..2 {
        let forget = format!(
            "UPDATE users SET display_name = 'x', fingerprint = NULL WHERE dn = '{}'",
            some[2]
        );
        sql(&house, &forget);
        finds(&full(&house), 1, 0);
    }
    is_trusted(&house);
    two_missed_nights(&house, &some, |_| 0);
}
