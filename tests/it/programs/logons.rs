//! Logons that services report: whoever is unknown is made where that is wanted, and no service makes a flood.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Program, answer, listening, token};
use crate::hands::{done, lines};
use crate::support::house::House;

/// A house whose realm has other names, with lines in `[logons]`.
fn house(logons: &str) -> (House, u16) {
    let house = House::new(3);
    house.configure("realm: aliases = [\"EXAMPLE\", \"corp.example.org\"]");
    let file = house.path("realmsync.toml");
    let port = listening(&file);
    let text = std::fs::read_to_string(&file).unwrap();
    let section = format!("[logons]\n{logons}\n[log]");
    std::fs::write(&file, text.replace("[log]", &section)).unwrap();
    (house, port)
}

async fn logon(program: &Program, username: &str, realm: Option<&str>) -> (u16, Value) {
    let body = json!({"username": username, "realm": realm, "service_kind": "domain", "at": null, "second_factor": false});
    let got = program.post("logons", &body).await;
    (got.status.as_u16(), got.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_137_logons_make_users_where_it_is_wanted_and_no_flood() {
    let (house, port) = house("automatic = true\nmax-new-per-hour = 20");
    let _daemon = house.daemon();
    house.sync(0);
    let gate = Program::at(port).with(&token(&house, "gate", &["--scope=logons"]));
    let somebody = house.users().keys().next().unwrap().clone();

    // Who is there is seen, by each name of the realm.
    for called in [
        format!("EXAMPLE\\{somebody}"),
        format!("{somebody}@corp.example.org"),
        somebody.clone(),
    ] {
        let (status, body) = logon(&gate, &called, None).await;
        assert_eq!(
            (status, &body["created"], &body["realm"]),
            (200, &json!(false), &json!("r")),
            "{called}: {body}"
        );
        assert_eq!(body["status"], "enabled");
    }
    let shown = done(&house, &["users", "show", &somebody]);
    assert!(shown["last_used_at"].is_string(), "{shown}");
    assert_eq!(shown["status"], "enabled");
    let body = json!({"username": somebody, "realm": "example", "second_factor": true, "at": "2026-01-01T00:00:00Z"});
    let got = gate.post("logons", &body).await;
    assert_eq!(
        (got.status.as_u16(), &got.body["status"]),
        (200, &json!("used"))
    );
    assert_eq!(
        done(&house, &["users", "show", &somebody])["status"],
        "used"
    );

    // Who is not is made, with the realm, once.
    let (status, body) = logon(&gate, r"LAB\ota", None).await;
    assert_eq!(
        (status, &body["created"], &body["realm"]),
        (200, &json!(true), &json!("lab")),
        "{body}"
    );
    assert_eq!(
        (&body["two_factor"], &body["status"]),
        (&json!([]), &json!("off"))
    );
    let (status, body) = logon(&gate, "OTA", Some("Lab")).await;
    assert_eq!((status, &body["created"]), (200, &json!(false)));
    let ota = done(&house, &["users", "show", "ota"]);
    assert_eq!(
        (&ota["origin"], &ota["realm"]),
        (&json!("logon"), &json!("lab"))
    );
    let lab = lines(&house, &["realms", "list"])
        .into_iter()
        .find(|realm| realm["id"] == "lab")
        .unwrap();
    assert_eq!(lab["kind"], "automatic");
    let all = futures_util::future::join_all((0..10).map(|_| logon(&gate, r"lab\eva", None))).await;
    let made = all
        .iter()
        .filter(|(_, body)| body["created"] == true)
        .count();
    assert_eq!(
        (made, all.iter().all(|(status, _)| *status == 200)),
        (1, true),
        "{all:?}"
    );

    // The same request again makes nobody and says the same.
    let keyed = |name: &str| {
        gate.request(Method::POST, "logons")
            .header("idempotency-key", "k")
            .json(&json!({"username": name}))
    };
    let first = answer(keyed(r"lab\ida")).await;
    let again = answer(keyed(r"lab\ida")).await;
    assert_eq!(
        (&first.body["created"], &first.body),
        (&json!(true), &again.body)
    );
    assert_eq!(answer(keyed(r"lab\jan")).await.status, 422);

    // Nobody is made in a directory's realm, without a realm, or elsewhere than a token may.
    for (name, realm, wanted) in [
        ("nobody", Some("r"), 404),
        (r"EXAMPLE\nobody", None, 404),
        ("nobody", None, 404),
        ("nobody", Some("a b"), 422),
        ("a\u{7}b", Some("lab"), 422),
    ] {
        assert_eq!(
            logon(&gate, name, realm).await.0,
            wanted,
            "{name} in {realm:?}"
        );
    }
    let own = Program::at(port).with(&token(&house, "own", &["--scope=logons", "--realm=lab"]));
    assert_eq!(logon(&own, r"other\x", None).await.0, 403);
    assert_eq!(logon(&own, "mia", Some("r")).await.0, 403);

    // A token that has made as many as it may makes no more, and is told when to ask again.
    let mut refused = None;
    for n in 0..30 {
        let body = json!({"username": format!("lab\\new{n}")});
        let got = gate.post("logons", &body).await;
        if got.status == 429 {
            refused = Some(got);
            break;
        }
    }
    let refused = refused.expect("a limit");
    assert_eq!(refused.header("retry-after"), "600");
    let status = house.run(&["status"]);
    assert!(
        status
            .out
            .contains("the token `gate` has made as many users"),
        "{}",
        status.out
    );
    assert_eq!(lines(&house, &["users", "list", "--realm=lab"]).len(), 20);
    assert_eq!(
        logon(&own, r"lab\mia", None).await.0,
        200,
        "another token has its own"
    );
    assert_eq!(
        logon(&gate, r"lab\ota", None).await.0,
        200,
        "who is there is seen all the same"
    );
    assert_eq!(done(&house, &["audit", "verify"])["whole"], json!(true));
    let by: Vec<_> = lines(&house, &["audit"])
        .into_iter()
        .map(|line| line["by"].clone())
        .collect();
    assert!(by.contains(&json!("service:gate")), "{by:?}");
}

/// A domain whose realm cannot be made logs on every few seconds: the others are made all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_logon_that_makes_nobody_uses_nothing_of_the_limit_up() {
    let (house, port) = house("automatic = true\nmax-new-per-hour = 2");
    let _daemon = house.daemon();
    done(&house, &["realms", "create", "Foo"]);
    done(&house, &["realms", "remove", "Foo"]);
    let gate = Program::at(port).with(&token(&house, "gate", &["--scope=logons"]));
    for _ in 0..4 {
        let (status, body) = logon(&gate, r"FOO\jan", None).await;
        assert!((400..500).contains(&status) && status != 429, "{body}");
        assert!(body["detail"].to_string().contains("removed"), "{body}");
    }
    let (status, body) = logon(&gate, r"LAB\ota", None).await;
    assert_eq!((status, &body["created"]), (200, &json!(true)), "{body}");
    // A name is looked for as it is kept: without invisible marks.
    let (status, body) = logon(&gate, "LAB\\o\u{200e}ta", None).await;
    assert_eq!((status, &body["created"]), (200, &json!(false)), "{body}");
    assert_eq!(logon(&gate, r"LAB\eva", None).await.0, 200);
    assert_eq!(logon(&gate, r"LAB\ida", None).await.0, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_automatic_logons_make_nobody() {
    let (house, port) = house("automatic = false");
    let _daemon = house.daemon();
    house.sync(0);
    let gate = Program::at(port).with(&token(&house, "gate", &["--scope=logons"]));
    let (status, body) = logon(&gate, r"LAB\ota", None).await;
    assert_eq!((status, &body["type"]), (404, &json!("not-found")));
    assert!(
        body["detail"].as_str().unwrap().contains("automatic"),
        "{body}"
    );
    assert!(
        lines(&house, &["realms", "list"])
            .iter()
            .all(|realm| realm["id"] != "lab")
    );
}

/// Adds somebody to the directory.
fn hire(house: &House, uid: &str) {
    hire_as(house, uid, uid);
}

fn hire_as(house: &House, cn: &str, uid: &str) {
    let people = &house.server["PEOPLE_DN"];
    house.server.modify(&format!(
        "dn: cn={cn},{people}\nchangetype: add\nobjectClass: inetOrgPerson\ncn: {cn}\nsn: x\nuid: {uid}\nmobile: +421905000001\n"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_only_the_directory_knows_is_looked_up_at_the_logon_within_bounds() {
    let (mut house, port) = house("automatic = false");
    let daemon = house.daemon();
    house.sync(0);
    let gate = Program::at(port).with(&token(&house, "gate", &["--scope=logons"]));
    hire(&house, "newcomer");
    let (status, body) = logon(&gate, r"EXAMPLE\newcomer", None).await;
    assert_eq!(
        (status, &body["created"], &body["realm"]),
        (200, &json!(false), &json!("r")),
        "{body}"
    );
    let shown = done(&house, &["users", "show", "newcomer"]);
    assert_eq!(
        (&shown["origin"], &shown["phone"]),
        (&json!("directory"), &json!("+421905000001"))
    );

    // Many at once are one look, and one user.
    hire(&house, "second");
    let asked = (0..10).map(|_| logon(&gate, "second", Some("corp.example.org")));
    let all = futures_util::future::join_all(asked).await;
    assert!(all.iter().all(|(status, _)| *status == 200), "{all:?}");
    let looks = lines(&house, &["runs"]);
    let looks = looks.iter().filter(|run| run["mode"] == "user").count();
    assert_eq!(looks, 2, "one for each name");

    // Nobody is made, and what was not found is not looked for again at once.
    let secret = "nobody-s3cret";
    for _ in 0..3 {
        assert_eq!(logon(&gate, secret, Some("r")).await.0, 404);
    }
    // Nor is somebody whom the directory has, and whose entry is refused.
    for cn in ["one", "another"] {
        hire_as(&house, cn, "twin");
    }
    let looks = || {
        let runs = lines(&house, &["runs"]);
        runs.iter().filter(|run| run["mode"] == "user").count()
    };
    let before = looks();
    for _ in 0..3 {
        assert_eq!(logon(&gate, "twin", Some("r")).await.0, 404);
    }
    assert_eq!(looks(), before + 1, "one look");
    done(&house, &["realms", "create", "lab"]);
    hire(&house, "late");
    assert_eq!(logon(&gate, "unheard-of@example", None).await.0, 404);
    assert_eq!(logon(&gate, r"example\late", None).await.0, 200);
    let own = Program::at(port).with(&token(&house, "own", &["--scope=logons", "--realm=lab"]));
    assert_eq!(logon(&own, "late2", Some("r")).await.0, 403);

    // While the directory is away, who is known is known, and nobody is said not to exist.
    hire(&house, "third");
    house.server.stop();
    assert_eq!(logon(&gate, "newcomer", Some("r")).await.0, 200);
    let body = json!({"username": "third", "realm": "r"});
    for _ in 0..2 {
        let asked = std::time::Instant::now();
        let got = gate.post("logons", &body).await;
        assert_eq!(got.status, 503, "{}", got.body);
        assert!(
            got.header("retry-after")
                .parse::<u32>()
                .is_ok_and(|s| s <= 5)
        );
        assert!(asked.elapsed() < std::time::Duration::from_secs(15));
    }
    house.server.resume();
    let mut status = 503;
    for _ in 0..60 {
        status = gate.post("logons", &body).await.status.as_u16();
        if status != 503 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    assert_eq!(status, 200);

    // Whoever tries names at the service's door does not try them at the directory's.
    let mut limited = None;
    for n in 0..40 {
        let body = json!({"username": format!("guess{n}"), "realm": "r"});
        let got = gate.post("logons", &body).await;
        if got.status == 429 {
            limited = Some(got);
            break;
        }
        assert_eq!(got.status, 404, "{}", got.body);
    }
    let limited = limited.expect("a limit");
    assert!(
        limited
            .header("retry-after")
            .parse::<u32>()
            .is_ok_and(|s| (1..=60).contains(&s))
    );
    assert_eq!(logon(&gate, "newcomer", Some("r")).await.0, 200);
    let origins: Vec<_> = lines(&house, &["users", "list", "--realm=r"]);
    assert!(origins.iter().all(|user| user["origin"] == "directory"));
    drop(daemon);
    super::nowhere(house.folder.path(), &[secret, "guess1"]);
}
