//! Deltas through the binary: a full pass keeps a cursor, and what follows is told by the directory.

mod computed;
mod containers;
mod cut;
mod fleet;
mod ids;
mod losses;
mod push;
mod rejected;
mod restored;
mod table;
pub mod told;
mod trust;

use serde_json::Value;

use computed::missed;

use crate::support::house::House;
use crate::support::lab::Server;

fn house(kind: &'static str, users: u32) -> House {
    let house = House::with(Server::start(kind, &["--users", &users.to_string()]), "");
    house.configure_as(&house.server["BIND_DN"], "changes = \"auto\"", "");
    house
}

fn counts(run: &Value) -> Vec<i64> {
    [
        "created",
        "updated",
        "renamed",
        "phone_changed",
        "phone_lost",
        "suspended",
        "restored",
    ]
    .iter()
    .map(|kind| run[*kind].as_i64().expect("a number"))
    .collect()
}

#[test]
fn a_full_pass_keeps_a_cursor_and_deltas_follow_it() {
    let house = house("openldap", 60);
    let first = house.sync(0);
    assert_eq!(
        (&first["mode"], &first["complete"]),
        (&"full".into(), &true.into())
    );
    let idle = house.sync(0);
    assert_eq!(
        (&idle["mode"], &idle["outcome"], &idle["seen"]),
        (&"delta".into(), &"unchanged".into(), &0.into()),
        "{idle}"
    );
    house.churn(&[("add", 1), ("phone", 2), ("delete", 1)]);
    let run = house.sync(0);
    assert_eq!(run["mode"], "delta", "{run}");
    assert_eq!(counts(&run)[0], 1, "{run}");
    assert_eq!(counts(&run)[5], 1, "{run}");
    assert_eq!(
        (&run["complete"], &run["seen"]),
        (&false.into(), &3.into()),
        "{run}"
    );
    let again = house.sync(0);
    assert_eq!(
        (&again["mode"], &again["outcome"]),
        (&"delta".into(), &"unchanged".into())
    );
    let full = house.run(&["--json", "sync", "r", "--full"]).json();
    assert_eq!(
        (&full["mode"], &full["outcome"]),
        (&"full".into(), &"unchanged".into()),
        "{full}"
    );
}

fn full(house: &House) -> Value {
    house.run(&["--json", "sync", "r", "--full"]).json()
}

/// What no change of the entry tells of, as an access rule, is counted apart.
#[test]
fn drift_is_counted_and_two_in_a_row_end_the_trust_in_deltas() {
    let house = house("openldap", 60);
    let brake = "[realm.brake]\nphone-lost = \"100%\"\nphone-changed = \"100%\"\nfloor = 1000\n";
    house.configure_as(&house.server["BIND_DN"], "changes = \"auto\"", brake);
    house.beside("other", &[]);
    house.sync(0);
    assert_eq!(full(&house)["drift"], 0);
    let hide = |names: &[&String]| {
        for name in names {
            house.server.configure(&format!(
                "dn: olcDatabase={{1}}mdb,cn=config\nchangetype: modify\nadd: olcAccess\n\
                 olcAccess: {{0}}to dn.exact=\"{name}\" attrs=mobile by dn.exact=\"{}\" none by * break\n",
                &house.server["BIND_DN"]
            ));
        }
    };
    let users = house.users();
    let with_phone: Vec<String> = users
        .values()
        .filter(|u| u["phone"].is_string() && u["state"] == "active")
        .map(|u| u["dn"].as_str().unwrap().to_owned())
        .collect();
    // No delta tells of a rule.
    hide(&[&with_phone[0], &with_phone[1]]);
    let delta = house.sync(0);
    assert_eq!(
        (&delta["mode"], &delta["outcome"]),
        (&"delta".into(), &"unchanged".into())
    );
    // What deltas tell is no drift, though nobody had asked yet.
    house.churn(&[("add", 1), ("rename", 1)]);
    let hidden = full(&house);
    assert_eq!(
        (&hidden["drift"], &hidden["computed"], &hidden["phone_lost"]),
        (&0.into(), &2.into(), &2.into()),
        "{hidden}"
    );
    missed(
        &house,
        &[
            (&with_phone[2], "+421905111222"),
            (&with_phone[3], "+421905111333"),
        ],
    );
    let first = full(&house);
    assert_eq!(
        (&first["drift"], &first["computed"], &first["phone_changed"]),
        (&2.into(), &0.into(), &2.into()),
        "{first}"
    );
    let said = house.run(&["runs", "show", first["run"].as_str().unwrap()]);
    assert!(said.out.contains("drift: 2 users changed"), "{}", said.out);
    let daemon = house.daemon();
    let metrics = house.metrics();
    for (kind, people) in [("phone_changed", 2), ("created", 0), ("renamed", 0)] {
        let expected = format!("realmsync_drift{{realm=\"r\",kind=\"{kind}\"}} {people}.0\n");
        assert!(metrics.contains(&expected), "{expected}{metrics}");
    }
    drop(daemon);
    assert_eq!(house.sync(0)["mode"], "delta", "once may be an accident");
    missed(&house, &[(&with_phone[2], "+421905111444")]);
    let second = full(&house);
    assert_eq!(second["drift"], 1, "{second}");
    // Every run reads everything now.
    hide(&[&with_phone[3]]);
    let run = house.sync(0);
    assert_eq!(
        (&run["mode"], &run["phone_lost"]),
        (&"full".into(), &1.into()),
        "{run}"
    );
    // Until an administrator's full pass finds none.
    let clean = full(&house);
    assert_eq!(clean["drift"], 0, "{clean}");
    assert_eq!(house.sync(0)["mode"], "delta");
}

#[test]
fn a_cursor_that_is_of_no_use_is_said_and_everything_is_read() {
    let house = house("openldap", 30);
    house.sync(0);
    // Another account sees others.
    let limited = house.server["LIMITED_DN"].to_owned();
    std::fs::write(house.path("bind"), &house.server["LIMITED_PASSWORD"]).unwrap();
    house.configure_as(&limited, "changes = \"auto\"", "");
    let run = house.sync(0);
    assert_eq!(run["mode"], "full", "{run}");
    let note = run["note"].as_str().unwrap();
    assert!(note.contains("everything is read"), "{note}");
    let said = house.run(&["runs", "show", run["run"].as_str().unwrap()]);
    assert!(said.out.contains(note), "{}", said.out);
    assert_eq!(
        house.sync(0)["mode"],
        "delta",
        "its cursor is the new account's"
    );
    // A changed mapping reads everything too.
    let more = "[realm.attributes]\nphone = [\"mobile\", \"telephoneNumber\"]\n";
    house.configure_as(&limited, "changes = \"auto\"", more);
    let run = house.run(&["--json", "sync", "r"]).json();
    assert_eq!(run["mode"], "full", "{run}");
}

#[test]
fn a_way_that_is_named_must_be_there() {
    let server = Server::start("openldap", &["--users", "20", "--no-syncprov"]);
    let house = House::with(server, "");
    let bind = house.server["BIND_DN"].to_owned();
    house.configure_as(&bind, "changes = \"push\"", "");
    let said = house.run(&["--json", "sync", "r"]);
    let run = said.json();
    assert_eq!(
        (said.code, &run["error_code"]),
        (78, &"config".into()),
        "{run}"
    );
    let error = run["error"].as_str().unwrap();
    assert!(
        error.contains("`changes`") && error.contains("syncprov"),
        "{error}"
    );
    // The best that is there are the time stamps, which every server has.
    house.configure_as(&bind, "changes = \"auto\"", "");
    assert_eq!(house.sync(0)["mode"], "full");
    assert_eq!(house.sync(0)["mode"], "delta");
    let house = self::house("openldap", 20);
    house.sync(0);
    house.configure_as(&house.server["BIND_DN"], "changes = \"full\"", "");
    assert_eq!(house.sync(0)["mode"], "full", "deltas were switched off");
}

#[test]
fn trap_01_a_delta_never_takes_nobody_for_everybody() {
    // Invariants 1, 8 and 17: what fails moves no cursor, changes nobody and says nothing; afterwards all is told, once.
    let mut house = house("openldap", 40);
    house.sync(0);
    house.churn(&[("phone", 3), ("delete", 2)]);
    let before = house.users();
    house.server.stop();
    let run = house.run(&["--json", "sync", "r", "--deliver"]);
    assert_eq!(run.code, 69, "{}", run.out);
    assert_eq!((house.users(), house.receiver.all().len()), (before, 0));
    house.server.resume();
    let run = house.sync_and_deliver(0);
    assert_eq!(run["mode"], "delta", "{run}");
    let messages = house.receiver.accepted().len();
    assert!(messages > 0);
    for _ in 0..2 {
        let run = house.sync_and_deliver(0);
        assert_eq!(
            (&run["mode"], &run["outcome"]),
            (&"delta".into(), &"unchanged".into())
        );
    }
    assert_eq!(full(&house)["outcome"], "unchanged");
    house.sync_and_deliver(0);
    assert_eq!(house.receiver.all().len(), messages, "told once");
}

#[test]
fn a_held_delta_waits_and_a_tick_reads_everything() {
    let house = house("openldap", 40);
    house.sync(0);
    house.churn(&[("delete", 25)]);
    let held = house.sync(3);
    assert_eq!(
        (&held["mode"], &held["outcome"]),
        (&"delta".into(), &"held".into()),
        "{held}"
    );
    let plan = held["run"].as_str().unwrap().to_owned();
    let same = house.sync(3);
    assert_eq!(same["run"], *plan, "the full pass came to the same");
    house.churn(&[("delete", 1)]);
    let other = house.sync(3);
    assert_eq!(other["mode"], "full", "{other}");
    let rejected = house.run(&["reject", other["run"].as_str().unwrap()]);
    assert_eq!(rejected.code, 0, "{}", rejected.err);
    // Decided anew: no delta would tell of it again.
    let anew = house.sync(3);
    assert_eq!(anew["mode"], "full", "{anew}");
    let approved = house.run(&["approve", anew["run"].as_str().unwrap()]);
    assert_eq!(approved.code, 0, "{}", approved.err);
    assert_eq!(house.sync(0)["outcome"], "unchanged");
    assert_eq!(house.sync(0)["mode"], "delta");
}

/// Trap 47: who is blind finds nobody by id either, and a delta has seen nobody else.
#[test]
fn trap_47_a_deletion_told_to_a_blind_account_is_held() {
    let house = house("openldap", 40);
    house.sync(0);
    let before = house.users();
    house.churn(&[("delete", 1)]);
    house.server.configure(&format!(
        "dn: olcDatabase={{1}}mdb,cn=config\nchangetype: modify\nadd: olcAccess\n\
         olcAccess: {{0}}to dn.children=\"{}\" by dn.exact=\"{}\" none by * break\n",
        &house.server["PEOPLE_DN"], &house.server["BIND_DN"]
    ));
    let run = house.sync(3);
    assert_eq!(
        (&run["mode"], &run["held_by"][0]["limit"]),
        (&"delta".into(), &"container".into()),
        "{run}"
    );
    assert_eq!(house.users(), before);
    // The next pass reads everything, and finds nobody at all.
    let run = house.run(&["--json", "sync", "r"]).json();
    assert_eq!(run["error_code"], "empty", "{run}");
    assert_eq!(house.users(), before);
    house.server.configure(
        "dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\ndelete: olcAccess\nolcAccess: {0}\n",
    );
    let run = house.sync(0);
    assert_eq!(
        (&run["mode"], &run["suspended"]),
        (&"full".into(), &1.into()),
        "{run}"
    );
}

/// Refused is not absent: an entry whose id cannot be read is not found by its id.
#[test]
fn an_entry_whose_id_cannot_be_read_any_more_is_no_absent_one() {
    let house = house("openldap", 40);
    house.sync(0);
    let users = house.users();
    let (name, user) = users
        .iter()
        .find(|(_, u)| u["state"] == "active")
        .expect("somebody");
    let dn = user["dn"].as_str().unwrap();
    house.server.configure(&format!(
        "dn: olcDatabase={{1}}mdb,cn=config\nchangetype: modify\nadd: olcAccess\n\
         olcAccess: {{0}}to dn.exact=\"{dn}\" attrs=entryUUID by dn.exact=\"{}\" none by * break\n",
        &house.server["BIND_DN"]
    ));
    house.server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: description\ndescription: x\n"
    ));
    let run = house.sync(0);
    assert_eq!(
        (&run["mode"], &run["suspended"], &run["refused_entries"]),
        (&"delta".into(), &0.into(), &1.into()),
        "{run}"
    );
    assert_eq!(house.users()[name]["state"], "active");
    // A full pass says the same.
    let run = full(&house);
    assert_eq!(
        (&run["suspended"], &run["drift"]),
        (&0.into(), &0.into()),
        "{run}"
    );
}

/// Every statement runs on both engines.
#[test]
fn deltas_on_postgresql() {
    let postgres = Server::start("postgres", &[]);
    let mut house = house("openldap", 60);
    postgres["DATABASE_URL"].clone_into(&mut house.database);
    house.configure_as(&house.server["BIND_DN"], "changes = \"auto\"", "");
    house.sync(0);
    assert_eq!(house.sync(0)["outcome"], "unchanged");
    house.churn(&[
        ("add", 1),
        ("phone", 2),
        ("rename", 1),
        ("move", 1),
        ("delete", 2),
    ]);
    let twins: String = ["one", "two"]
        .map(|cn| {
            format!(
                "dn: cn={cn},{}\nchangetype: add\nobjectClass: inetOrgPerson\ncn: {cn}\nsn: x\nuid: twin\n\n",
                &house.server["PEOPLE_DN"]
            )
        })
        .concat();
    house.server.modify(&twins);
    let run = house.sync(0);
    assert_eq!(
        (&run["mode"], &run["refused_entries"]),
        (&"delta".into(), &2.into()),
        "{run}"
    );
    house.server.modify(&format!(
        "dn: cn=one,{}\nchangetype: delete\n",
        &house.server["PEOPLE_DN"]
    ));
    let run = house.sync(0);
    assert_eq!(
        (&run["mode"], &run["created"]),
        (&"delta".into(), &1.into()),
        "{run}"
    );
    let run = full(&house);
    assert_eq!(
        (&run["outcome"], &run["drift"]),
        (&"unchanged".into(), &0.into()),
        "{run}"
    );
    house.churn(&[("delete", 40)]);
    let held = house.sync(3);
    assert_eq!(held["mode"], "delta", "{held}");
    assert_eq!(
        house.run(&["reject", held["run"].as_str().unwrap()]).code,
        0
    );
    assert_eq!(house.sync(3)["mode"], "delta", "a delta tells it again");
}

/// § 3.13: who is out of the one realm is told to that one only; the next run of the other takes them over.
#[test]
fn who_moves_between_realms_is_taken_over_without_a_full_pass() {
    let house = house("openldap", 30);
    let file = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (head, realm) = text.split_once("[[realm]]").unwrap();
    let other = realm.replace("id = \"r\"", "id = \"former\"").replace(
        &format!("base = [\"{}\"]", &house.server["PEOPLE_DN"]),
        &format!("base = [\"{}\"]", &house.server["FORMER_DN"]),
    );
    std::fs::write(&file, format!("{head}[[realm]]{realm}[[realm]]{other}")).unwrap();
    house.churn(&[("move", 3)]);
    let sync = |realm: &str, code: i32| {
        let said = house.run(&["--json", "sync", realm]);
        assert_eq!(said.code, code, "{}{}", said.out, said.err);
        said.json()
    };
    sync("r", 0);
    sync("former", 0);
    let dn = house
        .users()
        .values()
        .find(|u| u["state"] == "active")
        .unwrap()["dn"]
        .as_str()
        .unwrap()
        .to_owned();
    let rdn = dn.split(',').next().unwrap();
    house.server.modify(&format!(
        "dn: {dn}\nchangetype: modrdn\nnewrdn: {rdn}\ndeleteoldrdn: 0\nnewsuperior: {}\n",
        &house.server["FORMER_DN"]
    ));
    let early = sync("former", 0);
    assert_eq!(
        (&early["mode"], &early["refused_entries"]),
        (&"delta".into(), &1.into()),
        "{early}"
    );
    assert_eq!(sync("r", 0)["suspended"], 1);
    // The first takeover is held, whatever tells of it.
    let moved = sync("former", 3);
    assert_eq!(
        (&moved["mode"], &moved["moved"]),
        (&"delta".into(), &1.into()),
        "{moved}"
    );
    let approved = house.run(&["--json", "approve", moved["run"].as_str().unwrap()]);
    assert_eq!(approved.code, 0, "{}", approved.err);
    let idle = sync("former", 0);
    assert_eq!(
        (&idle["mode"], &idle["outcome"]),
        (&"delta".into(), &"unchanged".into()),
        "{idle}"
    );
}
