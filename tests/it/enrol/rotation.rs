//! The enrolment key changes: under load, away from the one that the store made, and with another one on another daemon.

use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use realmsync::factors::keys::RootKey;
use realmsync::factors::otp::Generator;
use realmsync::factors::sealed::{NONCE, seal};
use realmsync::model::{Authenticator, AuthenticatorId, OtpHash};
use reqwest::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::keys::{Service, asked, keyed, next_step, on_both, refused, status, until, write_key};
use super::{Browser, Office};
use crate::programs::Program;
use crate::programs::verify::{Holder, KEY, postgres_blob, sqlite_blob};
use crate::support::house::{Daemon, said};
use crate::support::lab::Server;

/// More than are moved in one transaction.
const USERS: usize = 450;
/// More than are moved in one round.
const FREE: u128 = 5_100;
/// Users whose codes are asked for at the same time.
const AT_ONCE: usize = 6;

/// Users with a token that counts, each kept with [`KEY`].
fn holders(office: &Office) -> Vec<Holder> {
    office.done(&[
        "realms",
        "create",
        "r",
        "--name=R",
        "--region=sk",
        "--two-factor=hard-token",
    ]);
    let mut file = "username,phone\n".to_owned();
    for n in 0..USERS {
        writeln!(file, "user{n},+42190500{n:04}").expect("a line");
    }
    office.write("users.csv", &file);
    let path = office.path("users.csv");
    let path = path.to_str().expect("a path");
    let said = office.run(&["users", "import", "--realm=r", path, "--yes"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let users = office.lines(&["users", "list", "--realm=r"]);
    let holders: Vec<Holder> = users.iter().map(Holder::of).collect();
    assert_eq!(holders.len(), USERS);
    let blob: &dyn Fn(&[u8]) -> String = if office.store.starts_with("sqlite:") {
        &sqlite_blob
    } else {
        &postgres_blob
    };
    let mut rows = "BEGIN;\n".to_owned();
    for holder in &holders {
        rows += &holder.authenticator("hotp", 6, blob);
    }
    // And tokens of nobody, more than are moved in one round.
    let key = RootKey::new(&KEY);
    // None of them has the id of zeros, which is nobody's.
    for n in 1..=FREE {
        let id = AuthenticatorId(uuid::Uuid::from_u128(n));
        let owner = Authenticator::owner(None, id);
        let sealed = seal(&key, &owner, b"a seed of twenty byte", [6; NONCE]).expect("sealed");
        writeln!(
            rows,
            "INSERT INTO authenticators (id, kind, state, secret, key_id, hash, digits, period, created_at)
             VALUES ({}, 'hotp', 'pending', {}, '{}', 'sha1', 6, 30, 0);",
            blob(id.0.as_bytes()),
            blob(&sealed.bytes),
            key.id()
        )
        .expect("a line");
    }
    office.write("rows.sql", &(rows + "COMMIT;\n"));
    let mut command = if let Some(file) = office.store.strip_prefix("sqlite:") {
        let mut command = Command::new("sqlite3");
        command.args(["-bail", "-cmd", ".timeout 10000", file]);
        command
    } else {
        let mut command = Command::new("psql");
        command.args([&office.store, "-q", "-v", "ON_ERROR_STOP=1"]);
        command
    };
    let rows = std::fs::File::open(office.path("rows.sql")).expect("the rows");
    let done = command
        .stdin(rows)
        .status()
        .expect("sqlite3 and psql are installed");
    assert!(done.success());
    holders
}

fn pressed(holder: &Holder, counter: u64) -> String {
    let seed = Zeroizing::new(holder.seed.clone());
    format!(
        "{:06}",
        Generator::new(seed, OtpHash::Sha1, 6).code(counter)
    )
}

/// What the load has come to.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    pairs: AtomicU64,
}

/// Sends each code twice at once, user by user and counter by counter, until it is told to stop.
async fn verify_on(program: Program, mine: Vec<Holder>, load: Arc<Load>) {
    for counter in 0.. {
        for holder in &mine {
            if load.stop.load(Ordering::Relaxed) {
                return;
            }
            let body =
                json!({"username": holder.name, "realm": "r", "code": pressed(holder, counter)});
            let [one, other] = [0, 1].map(|_| program.call(Method::POST, "verify", Some(&body)));
            let (one, other) = tokio::join!(one, other);
            for answer in [&one, &other] {
                assert_eq!(answer.status, 200, "{}", answer.body);
            }
            let mut both = [&one.body, &other.body].map(|body| {
                let word = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
                (word("result"), word("reason"))
            });
            both.sort();
            let right = [
                ("accepted".to_owned(), String::new()),
                ("rejected".to_owned(), "replayed".to_owned()),
            ];
            assert_eq!(both, right, "{} {counter}", holder.name);
            load.pairs.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[test]
fn trap_79_a_key_that_changes_while_codes_are_verified_refuses_none_and_accepts_none_twice() {
    on_both(|mut office| {
        write_key(&office, "a", KEY[0]);
        write_key(&office, "b", 2);
        keyed(&mut office, "a", None);
        let daemon = office.daemon();
        let holders = holders(&office);
        let service = Service::new(&office);
        let load = Arc::new(Load::default());
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let shares = holders.chunks(USERS.div_ceil(AT_ONCE));
        let tasks: Vec<_> = shares
            .map(|mine| {
                let (program, load) = (service.program(), Arc::clone(&load));
                runtime.spawn(verify_on(program, mine.to_vec(), load))
            })
            .collect();
        let pairs = |n: u64| {
            let from = load.pairs.load(Ordering::Relaxed);
            for _ in 0..600 {
                let broken = tasks.iter().any(tokio::task::JoinHandle::is_finished);
                if broken || load.pairs.load(Ordering::Relaxed) >= from + n {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        pairs(50);
        keyed(&mut office, "b", Some("a"));
        daemon.signal("HUP");
        let new = RootKey::new(&[2; 32]).id().to_string();
        until(&office, "moved over", |key| {
            key["id"] == new.as_str() && key["to_move"] == 0 && key["previous_may_go"] == true
        });
        pairs(50);
        keyed(&mut office, "b", None);
        daemon.signal("HUP");
        until(&office, "the former is out", |key| {
            key["id"] == new.as_str() && key["previous_may_go"] == false
        });
        pairs(50);
        load.stop.store(true, Ordering::Relaxed);
        for task in tasks {
            runtime.block_on(task).expect("each code counts once");
        }
        assert!(load.pairs.load(Ordering::Relaxed) >= 150);
        let left = office.sql(&format!(
            "SELECT COUNT(*) FROM authenticators WHERE key_id <> '{new}'"
        ));
        assert_eq!(left, "0");
        let log = office.log();
        let rounds = log.matches("secrets are kept with the enrolment key in use now");
        assert!(rounds.count() > 1, "{log}");
    });
}

/// Whether the store has a key that it made for itself.
fn own_key(office: &Office) -> String {
    office.sql("SELECT COUNT(*) FROM meta WHERE key = 'enrolment_key'")
}

#[test]
fn trap_79_the_key_that_a_store_made_goes_once_nothing_needs_it_and_its_links_stay_good() {
    on_both(|mut office| {
        let daemon = office.daemon();
        office.with_jan();
        office.done(&[
            "users",
            "add",
            "--realm=partners",
            "eva",
            "--phone=0905 123 457",
        ]);
        let path = office.sent(&[]);
        let (key, codes) = office.enrol(&mut Browser::desktop(), &path, "");
        let service = Service::new(&office);
        // Sent to many: whoever began it may read the links for an hour.
        let sent = office.run(&["send", "--realm=partners", "--yes"]);
        assert_eq!(sent.code, 0, "{}{}", sent.out, sent.err);
        let operation = if office.store.starts_with("sqlite:") {
            office.sql("SELECT lower(hex(id)) FROM operations")
        } else {
            office.sql("SELECT encode(id, 'hex') FROM operations")
        };
        drop(daemon);

        write_key(&office, "a", 1);
        keyed(&mut office, "a", None);
        let daemon = office.daemon();
        until(&office, "moved over", |key| key["to_move"] == 0);
        let operation = uuid::Uuid::parse_str(&operation).expect("an id");
        let shown = asked(&office, &format!("operations/{operation}/enrolments"));
        let urls: Vec<String> = shown["items"]
            .as_array()
            .expect("links")
            .iter()
            .map(|link| office.path_of(link))
            .collect();
        assert_eq!(urls.len(), 2, "{shown}");
        for url in &urls {
            let page = Browser::desktop().get(office.port, url);
            assert_eq!(page.status, 200, "a link of the former key: {}", page.body);
        }
        drop(daemon);

        // What began under it may not be over yet.
        let looks = |office: &Office, goes: bool| {
            let daemon = office.daemon();
            for _ in 0..if goes { 400 } else { 40 } {
                std::thread::sleep(Duration::from_millis(50));
                if own_key(office) == "0" {
                    break;
                }
            }
            drop(daemon);
            own_key(office)
        };
        assert_eq!(looks(&office, false), "1", "the change is young");
        office.sql("UPDATE meta SET value = '0' WHERE key = 'key-changed-at'");
        assert_eq!(looks(&office, false), "1", "links are open");
        for name in ["jan", "eva"] {
            office.run(&["withdraw", name]);
        }
        // Something that it encrypted has come back, by whatever way.
        let new = RootKey::new(&[1; 32]).id();
        let own = office.sql("SELECT substr(key, 13) FROM meta WHERE key LIKE 'retired-key %'");
        office.sql(&format!(
            "UPDATE authenticators SET key_id = '{own}' WHERE key_id = '{new}'"
        ));
        assert_eq!(looks(&office, false), "1", "a secret that it alone opens");
        office.sql(&format!(
            "UPDATE authenticators SET key_id = '{new}' WHERE key_id = '{own}'"
        ));
        assert_eq!(looks(&office, true), "0");

        let daemon = office.daemon();
        next_step();
        service.right(&key, 30);
        let answer = service.verify(&codes[0]);
        assert_eq!(answer.body["method"], "recovery", "{}", answer.body);
        let said = office.run(&["audit", "verify"]);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        let audit = office.run(&["--json", "audit"]).out;
        assert_eq!(audit.matches("key-forget").count(), 1, "{audit}");
        drop(daemon);

        // Without the configured one there is none, and none is made.
        office.extra = String::new();
        office.configure();
        let said = refused(&office);
        assert_eq!(said.code, 78, "{}{}", said.out, said.err);
        assert!(
            said.err.contains("none is configured") || said.out.contains("none is configured"),
            "{}{}",
            said.out,
            said.err
        );
        assert_eq!(own_key(&office), "0");
    });
}

#[test]
fn trap_79_of_two_daemons_with_two_keys_on_one_database_one_is_refused() {
    let postgres = Server::start("postgres", &[]);
    let offices = ["a", "b"].map(|name| {
        let mut office = Office::over(Some(&postgres), "");
        write_key(&office, name, name.as_bytes()[0]);
        keyed(&mut office, name, None);
        office
    });
    // Both at once, over a database in which there is nothing yet.
    let mut running: Vec<_> = offices
        .iter()
        .map(|office| {
            let log = std::fs::File::create(office.path("daemon.log")).expect("a log");
            let mut command = office.command(&["run"]);
            command
                .stdout(log.try_clone().expect("the log"))
                .stderr(log);
            Daemon(command.spawn().expect("the daemon"))
        })
        .collect();
    let mut over = None;
    for _ in 0..600 {
        over = (0..2).find_map(|n| Some((n, running[n].0.try_wait().expect("a child")?)));
        if over.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let (loser, ended) = over.expect("one of them ends");
    let winner = 1 - loser;
    assert_eq!(ended.code(), Some(78), "{}", offices[loser].log());
    for part in [
        "this store is kept with an enrolment key",
        "previous-key-file",
    ] {
        assert!(
            offices[loser].log().contains(part),
            "{}",
            offices[loser].log()
        );
    }
    for _ in 0..600 {
        if offices[winner].run(&["--json", "status"]).code == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }

    // The other one goes on, and what it keeps is kept with one key.
    let office = &offices[winner];
    office.with_jan();
    let path = office.sent(&[]);
    let (key, _) = office.enrol(&mut Browser::desktop(), &path, "");
    let lost = &offices[loser];
    let said = refused(lost);
    assert_eq!(said.code, 78, "{}{}", said.out, said.err);
    let told = format!("{}{}", said.out, said.err);
    for part in ["1 secret of authenticators", "10 recovery codes"] {
        assert!(told.contains(part), "{told}");
    }
    for command in [
        &["users", "block", "jan"][..],
        &["send", "jan", "--lost"],
        &["api-tokens", "create", "x", "--scope=verify"],
    ] {
        let refusal = said_by(lost, command);
        assert_eq!(refusal, 78, "{command:?}");
    }
    let service = Service::new(office);
    service.right(&key, 30);
    for table in ["authenticators", "recovery_codes", "audit"] {
        let keys = office.sql(&format!("SELECT COUNT(DISTINCT key_id) FROM {table}"));
        assert_eq!(keys, "1", "{table}");
    }
    let shown: Value = status(office);
    assert_eq!(shown["daemon"]["enrolment_key"]["locked_out"], 0, "{shown}");
    let said = office.run(&["audit", "verify"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
}

fn said_by(office: &Office, command: &[&str]) -> i32 {
    let said = said(&office.command(command).output().expect("the binary"));
    said.code
}
