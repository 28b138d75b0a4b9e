//! Deltas and push through a line that is cut at any byte, freezes, drips or is doubled: nothing is missing afterwards, and
//! nothing is told twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::cutting::Proxy;
use crate::support::house::House;
use crate::support::lab::Server;
use crate::support::outcome::{
    each_once, eventually, following, full_passes, nothing_is_missing, people, pushed_by, set,
    status, told,
};

/// A house whose directory is behind a proxy, without TLS so that every byte is one of LDAP.
fn house(users: u32, changes: &str) -> (House, Proxy) {
    let server = Server::start("openldap", &["--users", &users.to_string()]);
    let proxy = Proxy::to(server["PORT"].parse().expect("a port"));
    let house = House::with(server, "");
    let directory = format!("changes = \"{changes}\"\npoll = \"\"\ninsecure-plaintext = true");
    let brake = "[realm.brake]\nfloor = 1000\n";
    house.configure_as(&house.server["BIND_DN"], &directory, brake);
    let path = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let url = format!("ldap://127.0.0.1:{}", proxy.port);
    std::fs::write(&path, text.replace(&house.server["LDAPS_URI"], &url)).expect("written");
    (house, proxy)
}

#[test]
fn a_delta_that_is_cut_at_any_byte_is_none_and_comes_whole_afterwards() {
    const CUTS: usize = 16;
    let (house, proxy) = house(100, "syncrepl");
    house.sync(0);
    let people = people(&house, 4);
    let before = proxy.passed();
    set(&house.server, &people[..2], 0);
    house.sync_and_deliver(0);
    let whole = proxy.passed() - before;
    let mut failed = 0;
    for cut in 0..CUTS {
        let known = house.users();
        let first = 2 + 2 * cut;
        set(
            &house.server,
            &people[usize::from(cut % 2 == 0) * 2..][..2],
            first,
        );
        proxy.cut_after(whole * cut / CUTS);
        let run = house.run(&["--json", "sync", "r", "--deliver"]);
        assert!(proxy.fired(), "{cut}: less came than last time");
        if run.code != 0 {
            failed += 1;
            // Before the server was reached, or after.
            assert!(
                matches!(run.code, 69 | 1),
                "{cut}: {}\n{}",
                run.out,
                run.err
            );
            assert_eq!(house.users(), known, "{cut}: {}", run.out);
            let after = house.sync_and_deliver(0);
            assert_eq!(
                (&after["mode"], &after["phone_changed"]),
                (&"delta".into(), &2.into()),
                "{cut}: {after}"
            );
        }
        assert_eq!(told(&house), each_once(0..first + 2), "{cut}: {}", run.out);
    }
    assert!(failed >= CUTS - 2, "{failed} of {CUTS}");
    assert_eq!(full_passes(&house), 1);
    nothing_is_missing(&house);
}

/// A present phase: everybody is told who is there, and a part of them is not the rest being gone.
#[test]
fn a_refresh_that_is_cut_while_it_says_who_is_there_suspends_nobody() {
    const CUTS: usize = 8;
    let (mut house, proxy) = house(600, "syncrepl");
    house.sync(0);
    let people = people(&house, 1);
    // After a restart the session log is empty: an older cookie gets a present phase.
    set(&house.server, &people, 0);
    house.server.stop();
    house.server.resume();
    let before = proxy.passed();
    let run = house.sync_and_deliver(0);
    assert_eq!((&run["mode"], &run["seen"]), (&"delta".into(), &1.into()));
    let whole = proxy.passed() - before;
    assert!(whole > 600 * 16, "{whole} bytes are no present phase");
    for cut in 1..CUTS {
        let known = house.users();
        set(&house.server, &people, cut);
        house.server.stop();
        house.server.resume();
        proxy.cut_after(whole * cut / CUTS);
        let run = house.run(&["--json", "sync", "r", "--deliver"]);
        // Before the server was reached, or after.
        assert!(
            matches!(run.code, 69 | 1),
            "{cut}: {}\n{}",
            run.out,
            run.err
        );
        assert_eq!(house.users(), known, "{cut}: {}", run.out);
        let after = house.sync_and_deliver(0);
        assert_eq!(
            (&after["phone_changed"], &after["suspended"]),
            (&1.into(), &0.into()),
            "{cut}: {after}"
        );
    }
    assert_eq!(told(&house), each_once(0..CUTS));
    nothing_is_missing(&house);
}

#[test]
fn a_push_that_is_cut_in_the_middle_of_a_burst_goes_on_where_it_was() {
    let (house, proxy) = house(300, "push");
    let _daemon = following(&house);
    let people = people(&house, 20);
    let mut first = 0;
    // A message of the stream has some 200 bytes; what a run looks up comes between.
    for cut in [1, 90, 250, 700, 1500, 2500, 4000] {
        proxy.cut_after(cut);
        set(&house.server, &people, first);
        first += people.len();
        eventually(&house, "everybody is told", || {
            told(&house) == each_once(0..first)
        });
        assert!(proxy.fired(), "{cut}");
        eventually(&house, "it is connected again", || {
            !pushed_by(&house).is_empty()
        });
    }
    assert_eq!(full_passes(&house), 1, "{}", house.log());
    nothing_is_missing(&house);
    assert_eq!(told(&house), each_once(0..first));
}

#[test]
fn one_byte_at_a_time_and_every_connection_twice() {
    for changes in ["syncrepl", "push"] {
        let (house, proxy) = house(60, changes);
        proxy.drip(true);
        house.sync(0);
        let people = people(&house, 6);
        proxy.twice(true);
        if changes == "syncrepl" {
            set(&house.server, &people, 0);
            house.sync_and_deliver(0);
            let idle = house.sync_and_deliver(0);
            assert_eq!(idle["outcome"], "unchanged", "{idle}");
        } else {
            let _daemon = following(&house);
            set(&house.server, &people, 0);
            eventually(&house, changes, || told(&house).len() == 6);
            assert!(!pushed_by(&house).is_empty());
        }
        assert_eq!(told(&house), each_once(0..6), "{changes}");
        assert_eq!(full_passes(&house), 1, "{changes}");
        nothing_is_missing(&house);
        assert_eq!(told(&house), each_once(0..6), "{changes}");
    }
}

/// Within a minute: while nothing is told, and while what was told is being looked up.
#[test]
fn trap_06_a_line_that_freezes_is_noticed_within_a_minute_and_nothing_is_lost() {
    let both = [house(60, "push"), house(60, "push")];
    let _daemons = both.each_ref().map(|(house, _)| following(house));
    let people = both.each_ref().map(|(house, _)| people(house, 5));
    both[0].1.freeze();
    // The change itself passes, and the answers about it do not.
    both[1].1.freeze_after(400);
    let frozen = Instant::now();
    for ((house, _), people) in both.iter().zip(&people) {
        set(&house.server, people, 0);
    }
    let mut noticed = BTreeMap::new();
    while noticed.len() < 2 {
        for (at, (house, _)) in both.iter().enumerate() {
            if !noticed.contains_key(&at) && told(house) == each_once(0..5) {
                noticed.insert(at, frozen.elapsed());
            }
        }
        assert!(
            frozen.elapsed() < Duration::from_secs(62),
            "{noticed:?}\n{}\n{}\n{}",
            status(&both[0].0),
            both[0].0.log(),
            both[1].0.log()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    for (house, proxy) in &both {
        assert!(proxy.fired());
        assert_eq!(full_passes(house), 1, "{}", house.log());
        nothing_is_missing(house);
        assert_eq!(told(house), each_once(0..5));
    }
}
