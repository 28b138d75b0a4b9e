//! Days of an administrator, with two daemons over one database. A class of new colleagues comes by file, while the receiver is down and
//! a daemon dies. One loses the telephone, one gets another number, one says "this was not me". A delivery of hard tokens is given out.
//! What nobody may see is looked for everywhere afterwards.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use realmsync::factors::otp::Generator;
use realmsync::model::OtpHash;
use serde_json::{Value, json};

use crate::daemon::two::pair::{Member, Pair};
use crate::enrol::{Browser, code};
use crate::programs::{Program, listening};
use crate::support::house::Received;

/// New colleagues of the class.
const CLASS: usize = 200;

/// Hard tokens of the delivery.
const TOKENS: usize = 500;

/// Two places to work at.
struct Firm {
    pair: Pair,
    ports: [u16; 2],
    /// What commands said to people.
    talk: RefCell<String>,
}

/// An application that was set up.
struct Set {
    key: String,
    recovery: Vec<String>,
}

impl Firm {
    fn new() -> Self {
        let pair = Pair::with(
            20,
            "",
            "realm: two-factor = [\"app-otp\"]\n[realm.phone-change]\nnotify-previous = true\n",
        );
        let key = pair.house.path("enrolment.key");
        std::fs::write(&key, data_encoding::BASE64.encode(&[9; 32])).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        pair.rewrite(
            "[log]\n",
            &format!(
                "[enrolment]\nkey-file = \"{}\"\n[log]\nlevel = \"debug\"\n",
                key.display()
            ),
        );
        let ports =
            [0, 1].map(|place| listening(&pair.house.path(&format!("realmsync{place}.toml"))));
        Self {
            pair,
            ports,
            talk: RefCell::default(),
        }
    }

    /// The lines of a command that succeeds.
    fn lines(&self, place: usize, arguments: &[&str]) -> Vec<Value> {
        let said = self.pair.run(place, &[&["--json"], arguments].concat());
        assert_eq!(said.code, 0, "{arguments:?}: {}{}", said.out, said.err);
        self.talk.borrow_mut().push_str(&said.err);
        said.lines()
    }

    fn done(&self, place: usize, arguments: &[&str]) -> Value {
        let lines = self.lines(place, arguments);
        lines.into_iter().next().expect("a line")
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.pair.house.path(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The newest message of a type about a user.
    fn told(&self, r#type: &str, user: &Value) -> Option<Value> {
        let all = self.pair.house.receiver.accepted();
        let mut messages = all.iter().map(Received::json);
        messages.rfind(|m| m["type"] == r#type && m["data"]["user"]["username"] == *user)
    }

    fn hears(&self, r#type: &str, user: &str) -> Value {
        let end = Instant::now() + Duration::from_mins(1);
        loop {
            if let Some(message) = self.told(r#type, &json!(user)) {
                return message;
            }
            assert!(
                Instant::now() < end,
                "no {type} of {user}: {}{}",
                self.pair.log(0),
                self.pair.log(1)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn daemon(&self, place: usize) -> Member {
        self.pair.daemon(place, None)
    }
}

fn path(url: &Value) -> String {
    let url = url.as_str().expect("a link");
    let path = url.strip_prefix("https://mfa.example.org");
    path.expect("our page").to_owned()
}

/// Goes through the page as a browser does.
fn enrol(port: u16, path: &str, proof: &str) -> Set {
    let mut browser = Browser::desktop();
    let seen = browser.get(port, path);
    assert_eq!(seen.status, 200, "{}", seen.body);
    assert_eq!(seen.body.contains("name=\"proof\""), !proof.is_empty());
    let begun = browser.post(port, path, &[("step", "begin"), ("proof", proof)]);
    assert_eq!(begun.status, 200, "{}", begun.body);
    let key = begun.key();
    let proved = browser.post(port, path, &[("step", "use"), ("code", &code(&key, 0))]);
    let recovery = proved.codes();
    assert_eq!(recovery.len(), 10, "{}", proved.body);
    Set { key, recovery }
}

/// What a service is answered: the result, and its reason.
async fn verified(service: &Program, realm: &str, name: &str, code: &str) -> (String, Value) {
    let asked = json!({"username": name, "realm": realm, "code": code});
    let answer = service.post("verify", &asked).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let result = answer.body["result"].as_str().expect("a result");
    (result.to_owned(), answer.body["reason"].clone())
}

fn accepted() -> (String, Value) {
    ("accepted".to_owned(), Value::Null)
}

fn rejected(why: &str) -> (String, Value) {
    ("rejected".to_owned(), json!(why))
}

fn number(n: usize) -> String {
    format!("+421905{:06}", 700_000 + n)
}

fn name(n: usize) -> String {
    format!("novak{n:03}")
}

/// What a spreadsheet of a school makes: Windows-1250, semicolons, Slovak headers, national numbers.
fn class() -> Vec<u8> {
    let mut text = b"Prihlasovacie meno;Meno;Mobil;E-mail\r\n".to_vec();
    for n in 0..CLASS {
        // `Ján Kováč` in Windows-1250.
        text.extend(format!("{};J", name(n)).bytes());
        text.extend([0xe1]);
        text.extend(b"n Kov\xe1\xe8");
        let national = number(n).replace("+421", "0");
        text.extend(
            format!(
                ";{} {};{}@example.org\r\n",
                &national[..4],
                &national[4..],
                name(n)
            )
            .bytes(),
        );
    }
    text
}

fn seed(n: usize) -> Vec<u8> {
    let mut seed = [0x5e; 20];
    seed[12..].copy_from_slice(&(n as u64).to_be_bytes());
    seed.to_vec()
}

fn delivery() -> String {
    let mut text = "serial,secret,type,digits,counter,algorithm,manufacturer\n".to_owned();
    for n in 0..TOKENS {
        let secret = HEXLOWER.encode(&seed(n));
        text += &format!("TK{n:05},{secret},hotp,8,0,sha1,Maker\n");
    }
    text
}

/// What the button of a token shows.
fn button(n: usize, counter: u64) -> String {
    let seed = zeroize::Zeroizing::new(seed(n));
    format!(
        "{:08}",
        Generator::new(seed, OtpHash::Sha1, 8).code(counter)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_a_lost_telephone_another_number_a_thief_and_a_delivery_of_tokens() {
    let firm = Firm::new();
    let one = firm.daemon(0);
    let _other = firm.daemon(1);
    firm.pair.sync_within(0, Duration::from_secs(30));
    let token = firm
        .pair
        .run(0, &["api-tokens", "create", "vpn", "--scope=verify"]);
    assert_eq!(token.code, 0, "{}", token.err);
    let token = token.out.trim().to_owned();
    let services = firm.ports.map(|port| Program::at(port).with(&token));

    // The receiver is down while the class comes, and the daemon that has its messages is killed.
    firm.pair.house.receiver.answer(503);
    let made = [
        "realms",
        "create",
        "class",
        "--region=SK",
        "--two-factor=app-otp",
    ];
    firm.done(0, &made);
    let file = firm.write("class.csv", &class());
    let operation = firm.lines(0, &["users", "import", "--realm=class", &file, "--yes"]);
    let operation = operation.first().expect("an operation");
    assert_eq!(operation["changed"], CLASS, "{operation}");
    let names: Vec<String> = (0..CLASS).map(name).collect();
    let mut send = vec!["send"];
    send.extend(names.iter().map(String::as_str));
    let sent: BTreeMap<String, String> = firm
        .lines(1, &send)
        .iter()
        .map(|e| (e["username"].as_str().unwrap().to_owned(), path(&e["url"])))
        .collect();
    assert_eq!(sent.len(), CLASS);
    one.daemon.signal("KILL");
    drop(one);
    firm.pair.house.receiver.answer(204);
    let one = firm.daemon(0);
    let mut told = BTreeMap::new();
    let end = Instant::now() + Duration::from_mins(2);
    while told.len() < CLASS {
        assert!(
            Instant::now() < end,
            "{} were told: {}",
            told.len(),
            firm.pair.log(1)
        );
        std::thread::sleep(Duration::from_millis(200));
        for message in firm
            .pair
            .house
            .receiver
            .accepted()
            .iter()
            .map(Received::json)
        {
            let user = &message["data"]["user"]["username"];
            if message["type"] == "user.provision"
                && let Some(user) = user.as_str().filter(|user| sent.contains_key(*user))
            {
                told.insert(user.to_owned(), path(&message["data"]["enrolment_url"]));
            }
        }
    }
    assert_eq!(told, sent, "each has the newest link, and no other");

    // Each sets the application up, at either daemon.
    let mut apps: Vec<(String, Set)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let (names, sent, ports) = (&names, &sent, firm.ports);
                scope.spawn(move || {
                    let mine = names.iter().enumerate().skip(worker).step_by(4);
                    mine.map(|(n, name)| (name.clone(), enrol(ports[n % 2], &sent[name], "")))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().expect("enrolled"))
            .collect()
    });
    apps.sort_by(|a, b| a.0.cmp(&b.0));
    for (n, (name, app)) in apps.iter().enumerate() {
        let next = code(&app.key, 30);
        assert_eq!(
            verified(&services[n % 2], "class", name, &next).await,
            accepted(),
            "{name}"
        );
        if n % 20 == 0 {
            let again = verified(&services[(n + 1) % 2], "class", name, &next).await;
            assert_eq!(again, rejected("replayed"), "{name}");
        }
    }
    let used = firm.lines(0, &["users", "list", "--realm=class", "--status=used"]);
    assert_eq!(used.len(), CLASS);

    // One loses the telephone: a recovery code lets them in meanwhile, and the new application ends the lost one.
    let (lost, app) = &apps[0];
    assert_eq!(
        verified(&services[0], "class", lost, &app.recovery[0]).await,
        accepted()
    );
    assert_eq!(
        verified(&services[1], "class", lost, &app.recovery[0])
            .await
            .0,
        "rejected"
    );
    let link = path(&firm.done(1, &["send", lost, "--lost"])["url"]);
    let found = enrol(firm.ports[0], &link, "");
    assert_eq!(
        verified(&services[0], "class", lost, &code(&app.key, 60)).await,
        rejected("wrong_code")
    );
    assert_eq!(
        verified(&services[1], "class", lost, &code(&found.key, 30)).await,
        accepted()
    );

    // One gets another number: the link goes out by itself, and asks for what they had.
    let (moved, app) = &apps[1];
    firm.done(0, &["users", "edit", moved, "--phone=0911 222 333"]);
    let message = firm.hears("user.reprovision", moved);
    assert_eq!(message["data"]["user"]["phone"], "+421911222333");
    let link = path(&message["data"]["enrolment_url"]);
    let again = enrol(firm.ports[1], &link, &app.recovery[1]);
    assert_eq!(
        verified(&services[0], "class", moved, &code(&again.key, 30)).await,
        accepted()
    );

    // One says "this was not me".
    let people = firm.lines(0, &["users", "list", "--realm=r", "--state=active"]);
    let victim = people
        .iter()
        .find(|user| user["phone"].is_string() && user["phone_pending"].is_null())
        .expect("somebody with a number");
    let (who, before) = (victim["username"].as_str().unwrap(), &victim["phone"]);
    let link = path(&firm.done(0, &["send", who])["url"]);
    let app = enrol(firm.ports[0], &link, "");
    firm.pair.house.server.modify(&format!(
        "dn: {}\nchangetype: modify\nreplace: mobile\nmobile: +421 907 111 222\n",
        victim["dn"].as_str().expect("a name")
    ));
    firm.pair.sync_within(1, Duration::from_secs(30));
    let notice = firm.hears("user.phone_notice", who);
    assert_eq!(&notice["data"]["previous_phone"], before);
    let freeze = path(&notice["data"]["freeze_url"]);
    let mut browser = Browser::desktop();
    assert_eq!(browser.get(firm.ports[1], &freeze).status, 200);
    let next = code(&app.key, 30);
    assert_eq!(browser.post(firm.ports[1], &freeze, &[]).status, 200);
    for service in &services {
        assert_eq!(verified(service, "r", who, &next).await, rejected("frozen"));
    }
    let unfrozen = firm.done(0, &["users", "unfreeze", who, "--previous"]);
    assert_eq!(&unfrozen["phone"], before);
    assert_eq!(verified(&services[0], "r", who, &next).await, accepted());
    let pass = firm.pair.sync_within(0, Duration::from_secs(30));
    assert_eq!(pass["phone_changed"], 0, "{pass}");

    // A delivery of tokens, given to some, one daemon dying meanwhile.
    let file = firm.write("tokens.csv", delivery().as_bytes());
    firm.lines(0, &["hard-tokens", "import", &file]);
    let all = firm.lines(1, &["hard-tokens", "list"]);
    assert_eq!(all.len(), TOKENS);
    firm.lines(1, &["hard-tokens", "import", &file]);
    firm.lines(
        0,
        &[
            "two-factor",
            "enable",
            "hard-token",
            "--realm=class",
            "--yes",
        ],
    );
    for n in 0..20 {
        firm.done(
            n % 2,
            &["hard-tokens", "assign", &format!("TK{n:05}"), &name(n)],
        );
    }
    one.daemon.signal("KILL");
    drop(one);
    for n in 0..20 {
        let shown = button(n, 3);
        assert_eq!(
            verified(&services[1], "class", &name(n), &shown).await,
            accepted(),
            "{n}"
        );
    }
    let _one = firm.daemon(0);
    for n in 0..20 {
        let shown = verified(&services[0], "class", &name(n), &button(n, 3)).await;
        assert_eq!(shown, rejected("replayed"), "{n}");
    }

    // What happened is in the audit, which is whole; and what nobody may see is nowhere.
    let checked = firm.done(0, &["audit", "verify"]);
    assert_eq!(
        (&checked["whole"], &checked["faults"]),
        (&json!(true), &json!([]))
    );
    let acts: BTreeSet<String> = firm
        .lines(0, &["audit"])
        .iter()
        .map(|line| line["act"].as_str().unwrap().to_owned())
        .collect();
    for act in [
        "realm-create",
        "import",
        "enrolment-send",
        "enrolment-use",
        "user-edit",
        "user-freeze",
        "user-unfreeze",
        "hard-tokens-import",
        "hard-token-assign",
        "api-token-create",
    ] {
        assert!(acts.contains(act), "{act}: {acts:?}");
    }
    let links = sent.values().cloned().chain([link, freeze]);
    nothing_is_seen(&firm, &apps, &token, links);
}

/// Looks for keys of applications, recovery codes, seeds and codes of tokens, links and API tokens in the database, the logs, the audit
/// and what commands said; and for whole numbers in the logs.
fn nothing_is_seen(
    firm: &Firm,
    apps: &[(String, Set)],
    token: &str,
    links: impl Iterator<Item = String>,
) {
    let mut secrets: Vec<(&str, String)> = vec![("an API token", token.to_owned())];
    for (_, app) in apps {
        let raw = BASE32_NOPAD.decode(app.key.as_bytes()).expect("base32");
        secrets.push(("a key", app.key.clone()));
        secrets.push(("a key in bytes", HEXLOWER.encode(&raw)));
        for code in &app.recovery {
            secrets.push(("a recovery code", code.clone()));
            secrets.push(("a recovery code", code.replace('-', "")));
        }
    }
    for n in 0..TOKENS {
        secrets.push(("a seed", HEXLOWER.encode(&seed(n))));
    }
    for n in 0..20 {
        secrets.push(("a code of a token", button(n, 3)));
    }
    for link in links {
        let token = link.rsplit('/').next().unwrap().to_owned();
        let raw = data_encoding::BASE64URL_NOPAD
            .decode(token.as_bytes())
            .expect("a token");
        secrets.push(("a link in bytes", HEXLOWER.encode(&raw)));
        secrets.push(("a link", token));
    }
    let database = std::process::Command::new("pg_dump")
        .args(["--inserts", &firm.pair.postgres["DATABASE_URL"]])
        .output()
        .expect("pg_dump is installed");
    assert!(
        database.status.success(),
        "{}",
        String::from_utf8_lossy(&database.stderr)
    );
    let database = String::from_utf8_lossy(&database.stdout).into_owned();
    assert!(database.contains("novak000"), "it is the store");
    let audit = firm.pair.run(0, &["audit", "--csv"]);
    assert_eq!(audit.code, 0, "{}", audit.err);
    let talk = firm.talk.borrow();
    let logs = [firm.pair.log(0), firm.pair.log(1)];
    let places = [
        ("the store", &database),
        ("the audit", &audit.out),
        ("what commands said", &*talk),
        ("a log", &logs[0]),
        ("a log", &logs[1]),
    ];
    for (place, text) in places {
        for (what, secret) in &secrets {
            assert!(!text.contains(secret.as_str()), "{what} is in {place}");
        }
    }
    for log in &logs {
        assert!(
            log.contains("debug") || log.contains("DEBUG"),
            "the log says all that it can"
        );
        for n in 0..CLASS {
            assert!(!log.contains(&number(n)[1..]), "a whole number is in a log");
        }
    }
}
