//! Who is protected: another number of theirs waits for an administrator, as a real directory says who that is.

use serde_json::{Value, json};

use super::directory::{add, set_mobile};
use super::{done, lines, refused};
use crate::support::house::House;
use crate::support::lab::Server;

const A: &str = "+421905000001";
const B: &str = "+421905000002";
const C: &str = "+421905000003";

fn shown(house: &House, name: &str) -> (Value, Value, Value) {
    let user = done(house, &["users", "show", name]);
    let field = |name: &str| user[name].clone();
    (
        field("phone"),
        field("phone_pending"),
        field("phone_pending_until"),
    )
}

fn protecting(house: &House, filter: &str, more: &str) {
    house.configure(&format!(
        "[realm.phone-change]\nprotect = \"{filter}\"\nnotify-previous = true\n{more}"
    ));
}

/// Three people with number A, of whom two are protected.
fn people(house: &House) {
    for (name, kind) in [("zora", "admin"), ("mila", "admin"), ("jana", "staff")] {
        add(house, name, &format!("mobile: {A}\nemployeeType: {kind}\n"));
    }
    house.sync(0);
}

fn notice(house: &House, name: &str) -> Value {
    let user = done(house, &["users", "show", name]);
    let notices = user["notices"].as_array().expect("notices").clone();
    let waiting = notices.into_iter().find(|n| n["code"] == "phone_waiting");
    waiting.map_or(Value::Null, |n| n["detail"].clone())
}

#[test]
fn trap_77_a_protected_number_waits_for_an_administrator() {
    an_administrator_decides(&House::new(40));
    let postgres = Server::start("postgres", &[]);
    let mut house = House::new(40);
    postgres["DATABASE_URL"].clone_into(&mut house.database);
    an_administrator_decides(&house);
}

fn an_administrator_decides(house: &House) {
    protecting(house, "(employeeType=admin)", "");
    people(house);
    let check = house.run(&["check", "--connect"]);
    assert!(
        check.out.contains("`protect` matches 2 in scope"),
        "{}",
        check.out
    );
    for name in ["zora", "mila", "jana"] {
        set_mobile(house, name, B);
    }
    let run = house.sync(0);
    assert_eq!(run["phone_changed"], 3, "{run}");
    assert_eq!(shown(house, "jana"), (json!(B), Value::Null, Value::Null));
    for name in ["zora", "mila"] {
        let waits = (json!(A), json!(B), Value::Null);
        assert_eq!(shown(house, name), waits);
        let said = notice(house, name);
        assert!(
            said.as_str().is_some_and(|s| s.contains("approval")),
            "{said}"
        );
    }
    // No later pass lets it through, nor one that looks at one person, nor who is protected no longer.
    house.sync(0);
    protecting(house, "(employeeType=nobody)", "");
    house.sync(0);
    assert_eq!(house.run(&["sync", "--user", "zora"]).code, 0);
    assert_eq!(shown(house, "zora").0, A);
    protecting(house, "(employeeType=admin)", "");

    done(house, &["users", "phone", "accept", "zora"]);
    assert_eq!(shown(house, "zora"), (json!(B), Value::Null, Value::Null));
    done(house, &["users", "phone", "refuse", "mila"]);
    assert_eq!(shown(house, "mila"), (json!(A), Value::Null, Value::Null));
    for _ in 0..2 {
        let run = house.sync(0);
        assert_eq!(run["phone_changed"], 0, "{run}");
        assert_eq!(shown(house, "mila"), (json!(A), Value::Null, Value::Null));
    }
    let said = refused(house, &["users", "phone", "accept", "mila"]);
    assert!(said.contains("no number of mila waits"), "{said}");
    // Another number is a change like any other, and the refused one is one again after that.
    for number in [C, B] {
        set_mobile(house, "mila", number);
        assert_eq!(house.sync(0)["phone_changed"], 1);
        assert_eq!(shown(house, "mila"), (json!(A), json!(number), Value::Null));
    }
    let audit = lines(house, &["audit", "--user", "mila"]);
    assert!(
        audit.iter().any(|l| l["act"] == "phone-refuse"),
        "{audit:?}"
    );
    let audit = lines(house, &["audit", "--user", "zora"]);
    let accepted = audit.iter().find(|l| l["act"] == "phone-accept");
    assert_eq!(accepted.expect("a line")["after"]["phone"], B);
}

#[test]
fn with_a_hold_the_later_of_both_counts() {
    let house = House::new(40);
    protecting(&house, "(employeeType=admin)", "hold = \"1h\"\n");
    people(&house);
    for name in ["zora", "jana"] {
        set_mobile(&house, name, B);
    }
    house.sync(0);
    let (phone, pending, until) = shown(&house, "jana");
    assert_eq!((phone, pending), (json!(A), json!(B)));
    let said = refused(&house, &["users", "phone", "accept", "jana"]);
    assert!(said.contains("does not need your decision"), "{said}");
    assert_eq!(shown(&house, "zora"), (json!(A), json!(B), Value::Null));
    done(&house, &["users", "phone", "accept", "zora"]);
    assert_eq!(shown(&house, "zora"), (json!(A), json!(B), until));
    // Whoever decides may also refuse what waits for its hold alone.
    done(&house, &["users", "phone", "refuse", "zora"]);
    house.sync(0);
    assert_eq!(shown(&house, "zora"), (json!(A), Value::Null, Value::Null));
}

/// A filter that the server cannot judge protects everybody: neither it nor its opposite is true of anybody.
#[test]
fn what_cannot_be_told_waits() {
    let house = House::new(40);
    protecting(&house, "(nosuchattribute=admin)", "");
    people(&house);
    let check = house.run(&["check", "--connect"]);
    assert!(check.out.contains("mend `protect`"), "{}", check.out);
    set_mobile(&house, "jana", B);
    house.sync(0);
    assert_eq!(shown(&house, "jana"), (json!(A), json!(B), Value::Null));
}
