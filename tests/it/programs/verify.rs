//! Codes that services have verified: real daemons, `oathtool` as the application.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::{BASE32, BASE64, HEXLOWER};
use realmsync::factors::keys::RootKey;
use realmsync::factors::otp::Generator;
use realmsync::factors::recovery::digest;
use realmsync::factors::sealed::{NONCE, seal};
use realmsync::model::{Authenticator, AuthenticatorId, OtpHash, UserId};
use reqwest::{Method, header};
use serde_json::{Value, json};
use tokio::sync::{Barrier, Semaphore};

use super::{Program, answer, listening, nowhere, token};
use crate::daemon::two::pair::Pair;
use crate::support::house::House;

/// The enrolment key of these houses.
pub const KEY: [u8; 32] = [9; 32];

/// Methods of everybody, and the key of their secrets, in a configuration.
fn prepare(house: &House) {
    house.configure("realm: two-factor = [\"app-otp\", \"hard-token\"]");
    let key = house.path("enrolment.key");
    std::fs::write(&key, BASE64.encode(&KEY)).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let file = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let section = format!("[enrolment]\nkey-file = \"{}\"\n[log]", key.display());
    std::fs::write(&file, text.replace("[log]", &section)).unwrap();
}

/// Somebody with an authenticator.
#[derive(Clone)]
pub struct Holder {
    pub name: String,
    id: UserId,
    pub seed: Vec<u8>,
}

impl Holder {
    pub fn of(user: &Value) -> Self {
        let id: UserId = user["id"].as_str().unwrap().parse().unwrap();
        Self {
            name: user["username"].as_str().unwrap().to_owned(),
            id,
            seed: [&id.0.as_bytes()[..], b"seed"].concat(),
        }
    }

    /// What the application shows; `options` as `--hotp`, `-c 7`.
    fn code(&self, options: &[&str]) -> String {
        let output = Command::new("oathtool")
            .args(options)
            .args(["-b", &BASE32.encode(&self.seed)])
            .output()
            .expect("oathtool is installed");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What the application shows now. A hundred processes take longer than a code counts.
    fn now(&self) -> String {
        let step = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 30;
        let seed = zeroize::Zeroizing::new(self.seed.clone());
        format!("{:06}", Generator::new(seed, OtpHash::Sha1, 6).code(step))
    }

    /// The statement that gives them an active authenticator; `blob` writes bytes as the store's engine does.
    pub fn authenticator(&self, kind: &str, digits: u8, blob: &dyn Fn(&[u8]) -> String) -> String {
        let id = AuthenticatorId(self.id.0);
        let key = RootKey::new(&KEY);
        let owner = Authenticator::owner(Some(self.id), id);
        let sealed = seal(&key, &owner, &self.seed, [5; NONCE]).unwrap();
        let own = blob(self.id.0.as_bytes());
        format!(
            "INSERT INTO authenticators (id, user_id, bound_to, kind, state, secret, key_id, hash, digits, period, created_at)
             VALUES ({own}, {own}, {own}, '{kind}', 'active', {}, '{}', 'sha1', {digits}, 30, 0);",
            blob(&sealed.bytes),
            key.id()
        )
    }

    fn recovery_code(&self, letters: &str, blob: &dyn Fn(&[u8]) -> String) -> String {
        let key = RootKey::new(&KEY);
        let own = blob(self.id.0.as_bytes());
        format!(
            "INSERT INTO recovery_codes (user_id, digest, kind, set_id, key_id, uses_left, created_at)
             VALUES ({own}, {}, 'recovery', {own}, '{}', 1, 0);",
            blob(&digest(&key, self.id, letters)),
            key.id()
        )
    }
}

/// Those who may log on: some of the lab's people are disabled.
fn active<'a>(users: impl Iterator<Item = &'a Value>) -> Vec<Holder> {
    users
        .filter(|user| user["state"] == "active")
        .map(Holder::of)
        .collect()
}

pub fn sqlite_blob(bytes: &[u8]) -> String {
    format!("X'{}'", HEXLOWER.encode(bytes))
}

pub fn postgres_blob(bytes: &[u8]) -> String {
    format!("'\\x{}'::bytea", HEXLOWER.encode(bytes))
}

fn sqlite(house: &House, sql: &str) -> String {
    let mut child = Command::new("sqlite3")
        .args(["-bail", "-cmd", ".timeout 10000"])
        .arg(house.path("realmsync.db"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sqlite3 is installed");
    std::io::Write::write_all(
        &mut child.stdin.take().unwrap(),
        format!("BEGIN IMMEDIATE;{sql}COMMIT;").as_bytes(),
    )
    .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn asked(name: &str, code: &str) -> Value {
    json!({"username": name, "realm": "r", "code": code})
}

async fn reason(program: &Program, name: &str, code: &str) -> (String, Value) {
    let got = program.post("verify", &asked(name, code)).await;
    assert_eq!(got.status, 200, "{}", got.body);
    (
        got.body["result"].as_str().unwrap().to_owned(),
        got.body["reason"].clone(),
    )
}

/// Each code is sent twice at the same moment, to the two programs. Gives how many were accepted, and why others were not.
async fn in_pairs(programs: [&Program; 2], codes: Vec<(String, String)>) -> (usize, Vec<Value>) {
    let barrier = Arc::new(Barrier::new(codes.len() * 2));
    let places = [Arc::new(Semaphore::new(100)), Arc::new(Semaphore::new(100))];
    let mut tasks = tokio::task::JoinSet::new();
    for (name, code) in codes {
        for (program, places) in programs.iter().zip(&places) {
            let (program, places, barrier) =
                ((*program).clone(), Arc::clone(places), Arc::clone(&barrier));
            let asked = asked(&name, &code);
            tasks.spawn(async move {
                barrier.wait().await;
                let _place = places.acquire().await.unwrap();
                let got = program.post("verify", &asked).await;
                assert_eq!(got.status, 200, "{}", got.body);
                got.body
            });
        }
    }
    let (mut accepted, mut reasons) = (0, vec![]);
    while let Some(body) = tasks.join_next().await {
        let body = body.unwrap();
        if body["result"] == "accepted" {
            accepted += 1;
        } else {
            reasons.push(body["reason"].clone());
        }
    }
    (accepted, reasons)
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_60_a_code_that_is_sent_twice_at_once_passes_once_over_two_daemons() {
    let pair = Pair::new(500);
    prepare_pair(&pair);
    let ports = [0, 1].map(|place| listening(&pair.house.path(&format!("realmsync{place}.toml"))));
    let _one = pair.daemon(0, None);
    let other = pair.daemon(1, None);
    pair.sync_within(0, Duration::from_secs(30));
    let said = pair.run(0, &["api-tokens", "create", "vpn", "--scope=verify"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let programs = ports.map(|port| Program::at(port).with(said.out.trim()));
    let listed = pair.run(0, &["--json", "users", "list"]).lines();
    let holders = active(listed.iter());
    let all = holders.len();
    assert!(all > 450, "{all}");
    for some in holders.chunks(50) {
        let sql: Vec<_> = some
            .iter()
            .map(|h| h.authenticator("app", 6, &postgres_blob))
            .collect();
        pair.sql(&sql.concat());
    }
    let codes = holders.iter().map(|h| (h.name.clone(), h.now())).collect();
    let (accepted, reasons) = in_pairs([&programs[0], &programs[1]], codes).await;
    assert_eq!(accepted, all);
    assert!(
        reasons.iter().all(|reason| reason == "replayed"),
        "{reasons:?}"
    );
    assert_eq!(
        pair.sql("SELECT COUNT(*) FROM verifications WHERE result = 'accepted'"),
        all.to_string()
    );

    // 200 wrong codes of one user over both, with another token and a restart in between.
    let jan = &holders[0];
    let said = pair.run(0, &["api-tokens", "create", "mail", "--scope=verify"]);
    let more = ports.map(|port| Program::at(port).with(said.out.trim()));
    let mut other = Some(other);
    let mut read = 0;
    for n in 0..200 {
        if n == 100 {
            drop(other.take());
            other = Some(pair.daemon(1, None));
        }
        let all = [&programs[0], &programs[1], &more[0], &more[1]];
        let (_, why) = reason(all[n % 4], &jan.name, &format!("{n:07}")).await;
        if why == "wrong_code" {
            read += 1;
        } else {
            assert_eq!(why, "locked");
        }
    }
    assert!((4..=12).contains(&read), "{read} of 200 were looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_131_without_a_database_there_is_no_verdict_and_nothing_counts() {
    let mut pair = Pair::new(20);
    prepare_pair(&pair);
    let port = listening(&pair.house.path("realmsync0.toml"));
    let _one = pair.daemon(0, None);
    pair.sync_within(0, Duration::from_secs(30));
    let said = pair.run(0, &["api-tokens", "create", "vpn", "--scope=verify"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let program = Program::at(port).with(said.out.trim());
    let listed = pair.run(0, &["--json", "users", "list"]).lines();
    let holders = active(listed.iter());
    let eva = holders.first().expect("somebody active");
    pair.sql(&eva.authenticator("app", 6, &postgres_blob));
    let (_, why) = reason(&program, &eva.name, "0000000").await;
    assert_eq!(why, "wrong_code");
    let count = format!(
        "SELECT in_a_row FROM user_factors WHERE user_id = {}",
        postgres_blob(eva.id.0.as_bytes())
    );
    let before = pair.sql(&count);
    pair.postgres.crash();
    for _ in 0..2 {
        let got = program.post("verify", &asked(&eva.name, "0000000")).await;
        assert_eq!(got.status, 503, "{}", got.body);
        assert_eq!(got.body["type"], "unavailable");
    }
    pair.postgres.resume();
    let found = loop {
        let got = program.post("verify", &asked(&eva.name, "0000000")).await;
        if got.status == 200 {
            break got.body["reason"].clone();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(found, "wrong_code");
    let after: i64 = pair.sql(&count).parse().unwrap();
    assert_eq!(after, before.parse::<i64>().unwrap() + 1);
}

fn prepare_pair(pair: &Pair) {
    prepare(&pair.house);
    let text = std::fs::read_to_string(pair.house.path("realmsync.toml")).unwrap();
    for place in [0, 1] {
        let own = text.replace("control.sock", &format!("control{place}.sock"));
        std::fs::write(pair.house.path(&format!("realmsync{place}.toml")), own).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_60_a_code_that_is_sent_twice_at_once_passes_once_on_sqlite() {
    let house = House::new(500);
    prepare(&house);
    let port = listening(&house.path("realmsync.toml"));
    let daemon = house.daemon();
    house.sync(0);
    let vpn = Program::at(port).with(&token(&house, "vpn", &["--scope=verify"]));
    let listed = house.users();
    let holders = active(listed.values());
    assert!(holders.len() > 450, "{}", holders.len());
    let (tokens, applications) = holders.split_at(2);
    let mut sql: String = applications
        .iter()
        .map(|h| h.authenticator("app", 6, &sqlite_blob))
        .collect();
    sql.extend(
        tokens
            .iter()
            .map(|h| h.authenticator("hotp", 8, &sqlite_blob)),
    );
    let letters = "ABCDEFGHJKMNPQRS";
    sql.push_str(&tokens[1].recovery_code(letters, &sqlite_blob));
    sqlite(&house, &sql);
    let codes: Vec<_> = applications
        .iter()
        .map(|h| (h.name.clone(), h.now()))
        .collect();
    let (accepted, reasons) = in_pairs([&vpn, &vpn], codes).await;
    assert_eq!(accepted, applications.len());
    // The application of another program makes the same codes: this one is used by now, or is the next.
    let shown = applications[0].code(&["--totp"]);
    let (result, why) = reason(&vpn, &applications[0].name, &shown).await;
    assert!(result == "accepted" || why == "replayed", "{why}");
    assert!(
        reasons.iter().all(|reason| reason == "replayed"),
        "{reasons:?}"
    );

    // A token that counts, with its eight digits; the answer is whole.
    let jan = &tokens[0];
    let hotp = |counter: &str| jan.code(&["--hotp", "-d", "8", "-c", counter]);
    let got = vpn.post("verify", &asked(&jan.name, &hotp("3"))).await;
    let id = jan.id.to_string();
    assert_eq!(
        got.body,
        json!({"result": "accepted", "reason": null, "method": "hard-token", "authenticator": id, "retry_after": null})
    );
    assert_eq!(got.header("cache-control"), "no-store");
    let (_, why) = reason(&vpn, &jan.name, &hotp("2")).await;
    assert_eq!(why, "replayed");
    // Far ahead only the second of two.
    let (_, why) = reason(&vpn, &jan.name, &hotp("300")).await;
    assert_eq!(why, "wrong_code");
    assert_eq!(reason(&vpn, &jan.name, &hotp("301")).await.0, "accepted");

    // The same request again has the same answer, also from many at once, and another one is refused.
    let keyed = |code: &str, key: &str| {
        vpn.request(Method::POST, "verify")
            .header("idempotency-key", key)
            .json(&asked(&jan.name, code))
    };
    let right = hotp("302");
    let all = futures_util::future::join_all((0..20).map(|_| answer(keyed(&right, "one")))).await;
    for got in &all {
        assert_eq!(
            (got.status.as_u16(), &got.body["result"]),
            (200, &json!("accepted"))
        );
    }
    let got = answer(keyed(&hotp("303"), "one")).await;
    assert_eq!(
        (got.status.as_u16(), &got.body["type"]),
        (422, &json!("invalid"))
    );
    let got = answer(keyed(&right, "two")).await;
    assert_eq!(got.body["reason"], "replayed");
    assert_eq!(answer(keyed(&right, &"x".repeat(300))).await.status, 422);

    // Guesses are held back, a recovery code is not.
    let eva = &tokens[1];
    let held = loop {
        let got = vpn.post("verify", &asked(&eva.name, "0000000")).await;
        if got.body["reason"] == "locked" {
            break got.body;
        }
    };
    assert!(held["retry_after"].is_i64(), "{held}");
    let got = vpn
        .post("verify", &asked(&eva.name, "abcd efgh jkmn pqrs"))
        .await;
    assert_eq!(
        (&got.body["result"], &got.body["method"]),
        (&json!("accepted"), &json!("recovery"))
    );
    let code = eva.code(&["--hotp", "-d", "8", "-c", "0"]);
    assert_eq!(reason(&vpn, &eva.name, &code).await.0, "accepted");

    // What is no request.
    let got = vpn
        .post(
            "verify",
            &json!({"username": "a\u{0}", "code": 7, "pin": 1}),
        )
        .await;
    let pointers: Vec<_> = got.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["pointer"].clone())
        .collect();
    assert_eq!(
        (got.status.as_u16(), pointers),
        (422, vec![json!("/username"), json!("/code"), json!("/pin")])
    );
    let got = vpn.call(Method::GET, "verify", None).await;
    assert_eq!((got.status.as_u16(), got.header("allow")), (405, "POST"));
    let text = vpn
        .request(Method::POST, "verify")
        .header(header::CONTENT_TYPE, "text/plain")
        .body("{}");
    assert_eq!(answer(text).await.status, 415);
    let other = Program::at(port).with(&token(&house, "reader", &["--scope=read"]));
    assert_eq!(other.post("verify", &asked("x", "1")).await.status, 403);
    assert_eq!(
        reason(&vpn, "nobody-here", "123456").await.1,
        "unknown_user"
    );

    // No code, no name that nobody has, no secret is anywhere.
    drop(daemon);
    let first = HEXLOWER.encode(&jan.seed);
    nowhere(
        house.folder.path(),
        &[
            &right,
            &hotp("3"),
            &hotp("301"),
            &code,
            letters,
            "ABCD-EFGH",
            "nobody-here",
            &first,
            &BASE32.encode(&jan.seed),
        ],
    );
    assert!(!house.log().contains("panicked"));
}
