//! Words that could mislead: what `check --connect` asks, what was never sent, what stands refused, and ids as people see them.

use crate::support::house::House;

/// A port at which nobody listens.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

#[test]
fn check_connect_opens_the_store_and_asks_the_receiver_without_a_message() {
    let house = House::new(20);
    let connect = |house: &House| house.run(&["check", "--connect"]);
    let first = connect(&house);
    assert_eq!(first.code, 0, "{}{}", first.out, first.err);
    for part in ["there is none yet", "takes connections"] {
        assert!(first.out.contains(part), "{part}: {}", first.out);
    }
    house.sync(0);
    let second = connect(&house);
    assert!(second.out.contains("its schema fits"), "{}", second.out);
    assert!(house.receiver.all().is_empty(), "no message is sent");

    // Nobody there; one that speaks no TLS; a store that is none.
    let closed = format!("http://127.0.0.1:{}/hook", closed_port());
    let own = &house.receiver.url;
    let plain = own.replace("http://", "https://");
    house.beside("closed", &[(own, &closed)]);
    house.beside("plain", &[(own, &plain)]);
    for (name, says) in [
        ("closed", "takes no connection"),
        ("plain", "but TLS fails"),
    ] {
        let said = house.run_of(name, &["check", "--connect"]);
        assert_eq!(said.code, 1, "{name}: {}{}", said.out, said.err);
        assert!(said.out.contains(says), "{name}: {}", said.out);
        assert!(
            !said.out.contains("/hook"),
            "the path may be a secret: {}",
            said.out
        );
    }
    std::fs::write(house.path("realmsync.db"), "this is no database").expect("a file");
    let broken = connect(&house);
    assert!(broken.code != 0, "{}", broken.out);
    assert!(!broken.out.contains("its schema fits"), "{}", broken.out);
}

#[test]
fn nobody_is_said_to_be_known_by_the_receiver_before_anything_was_sent() {
    let house = House::new(20);
    house.sync(0);
    let (name, _) = house
        .users()
        .into_iter()
        .find(|(_, u)| u["phone"].is_string() && u["state"] == "active")
        .expect("somebody with a number");
    let said = house.run(&["explain", &name]);
    assert!(said.out.contains("was never sent anything"), "{}", said.out);
    assert!(
        !said.out.contains("knows the number in use"),
        "{}",
        said.out
    );
}

#[test]
fn what_stands_refused_is_counted_after_a_delta_too() {
    let house = House::new(20);
    house.configure_as(&house.server["BIND_DN"], "changes = \"auto\"", "");
    house.sync(0);
    let standing = || {
        let status = house.run(&["--json", "status"]).json();
        status["refused"]["phones"].as_i64().unwrap_or_default()
    };
    let before = standing();
    let base = house.server["PEOPLE_DN"].to_owned();
    house.server.modify(&format!(
        "dn: uid=wrong,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: wrong\ncn: w\nsn: w\nmobile: 12\n"
    ));
    assert_eq!(house.sync(0)["mode"], "delta");
    assert_eq!(standing(), before + 1);
    house.server.modify(&format!(
        "dn: uid=right,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: right\ncn: r\nsn: r\nmobile: +421905000111\n"
    ));
    let second = house.sync(0);
    assert_eq!(
        (&second["mode"], second["refused_phones"].as_i64()),
        (&serde_json::json!("delta"), Some(0))
    );
    assert_eq!(
        standing(),
        before + 1,
        "a delta without it does not clear it"
    );
    let _daemon = house.daemon();
    let metric = format!(
        "realmsync_refused{{realm=\"r\",kind=\"phones\"}} {}",
        before + 1
    );
    let metrics = house.metrics();
    assert!(metrics.contains(&metric), "{metric}:\n{metrics}");
    let status = house.run(&["status"]);
    assert!(status.out.contains("realmsync refused r"), "{}", status.out);
}

#[test]
fn a_run_is_shown_and_named_by_the_end_of_its_id_and_lists_of_one_realm_do_not_repeat_it() {
    let house = House::new(20);
    let run = house.sync(0);
    let id = run["run"].as_str().expect("an id");
    let runs = house.run(&["runs"]);
    let lines: Vec<&str> = runs.out.lines().collect();
    assert!(!lines[0].contains("realm"), "{}", runs.out);
    let short = lines[1].split_whitespace().next().expect("an id");
    assert!(id.ends_with(short) && short.len() < 12, "{}", runs.out);
    for typed in [short, id, &id[..13]] {
        let shown = house.run(&["--json", "runs", "show", typed]);
        assert_eq!(shown.json()["run"], run["run"], "{typed}");
    }
    // In local time, with its distance from UTC.
    let there = house
        .command(&["runs"])
        .env("TZ", "Asia/Kolkata")
        .output()
        .expect("the binary");
    let there = String::from_utf8_lossy(&there.stdout).into_owned();
    assert!(there.contains(" +05:30"), "{there}");
    // What is said beside the data is no wider than the terminal, and a command is not torn.
    let narrow = house
        .command(&["runs", "show", "ffffffff"])
        .env("COLUMNS", "60")
        .output()
        .expect("the binary");
    let narrow = String::from_utf8_lossy(&narrow.stderr).into_owned();
    assert!(narrow.lines().all(|l| l.chars().count() <= 60), "{narrow}");
}
