//! "This was not me": a number changes in a real directory, its former owner is told, objects, and an administrator decides.

use serde_json::{Value, json};

use super::directory::{add, set_mobile};
use super::{done, lines, refused};
use crate::enrol::Browser;
use crate::support::house::{House, Received};

const A: &str = "+421905000001";
const B: &str = "+421905000002";
const C: &str = "+421905000003";

/// A house whose realm tells the number before, with its page on a port of its own.
fn house() -> (House, u16) {
    let house = House::new(40);
    house.configure("[realm.phone-change]\nnotify-previous = true\n");
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let path = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&path).expect("the configuration");
    let text = text.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    std::fs::write(&path, text).expect("the configuration");
    (house, port)
}

fn number(house: &House, name: &str) -> Value {
    done(house, &["users", "show", name])["phone"].clone()
}

/// The path of the link in the newest notice about a user.
fn link(house: &House, user: &Value) -> String {
    for _ in 0..500 {
        let told = house.receiver.accepted();
        let notice = told.iter().map(Received::json).rfind(|message| {
            message["type"] == "user.phone_notice"
                && message["data"]["user"]["id"] == user["id"]
                && message["data"]["previous_phone"] == A
        });
        if let Some(notice) = notice {
            let data = &notice["data"];
            assert!(data["expires_at"].is_string(), "{data}");
            let url = data["freeze_url"].as_str().expect("a link");
            let path = url
                .strip_prefix("https://mfa.example.org")
                .expect("our page");
            assert_eq!(path.len(), "/freeze/".len() + 43);
            return path.to_owned();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("no notice: {:?}", house.receiver.all());
}

#[test]
fn trap_76_who_had_the_number_before_freezes_and_an_administrator_decides() {
    let (house, port) = house();
    for name in ["zora", "mila"] {
        add(&house, name, &format!("mobile: {A}\n"));
    }
    house.sync(0);
    let _daemon = house.daemon();
    for (name, keeps, flag) in [("zora", A, "--previous"), ("mila", B, "--accept")] {
        let user = done(&house, &["users", "show", name]);
        set_mobile(&house, name, B);
        house.sync(0);
        assert_eq!(number(&house, name), B);
        let path = link(&house, &user);

        // To look changes nothing, and says nothing about anybody.
        let mut browser = Browser::desktop();
        for method in ["GET", "HEAD"] {
            let page = browser.ask(port, method, &path, &[]);
            assert_eq!(page.status, 200, "{}", page.head);
            assert!(!page.body.contains(name) && !page.body.contains("421905"));
            for (header, value) in [
                ("cache-control", "no-store"),
                ("referrer-policy", "no-referrer"),
            ] {
                assert_eq!(page.header(header), Some(value), "{}", page.head);
            }
            let policy = page.header("content-security-policy").expect("a policy");
            assert!(policy.starts_with("default-src 'none'"), "{policy}");
        }
        // In the language that is asked for.
        for (language, title) in [
            ("en", "Was this not you?"),
            ("de", "Waren Sie das nicht?"),
            ("sk", "Neboli ste to vy?"),
            ("cs", "Nebyli jste to vy?"),
        ] {
            let page = browser.get(port, &format!("{path}?lang={language}"));
            assert!(page.body.contains(&format!("<html lang=\"{language}\">")));
            assert!(
                page.body.contains(&format!("<h1>{title}</h1>")),
                "{}",
                page.body
            );
            assert!(page.body.contains(&format!("action=\"?lang={language}\"")));
        }
        assert_eq!(number(&house, name), B);
        let other = format!("{}A", &path[..path.len() - 1]);
        let unknown = [
            browser.get(port, "/freeze/x"),
            browser.post(port, "/freeze/x", &[]),
        ];
        for page in unknown.iter().chain([&browser.get(port, &other)]) {
            assert!(page.status == 410 || other == path, "{}", page.head);
        }

        for _ in 0..2 {
            let pressed = browser.post(port, &path, &[]);
            assert_eq!(pressed.status, 200, "{}", pressed.body);
        }
        assert_eq!(number(&house, name), A);
        let audit = lines(&house, &["audit", "--user", name]);
        let froze: Vec<&Value> = audit.iter().filter(|l| l["act"] == "user-freeze").collect();
        assert_eq!(froze.len(), 1, "once: {audit:?}");
        assert_eq!(
            (
                &froze[0]["by"],
                &froze[0]["from"],
                &froze[0]["after"]["phone"]
            ),
            (&json!("user"), &json!("page"), &json!(A))
        );
        // The directory still gives the other number, and passes leave it alone, whatever else they follow.
        house.sync(0);
        assert_eq!(number(&house, name), A);
        set_mobile(&house, name, C);
        house.sync(0);
        assert_eq!(number(&house, name), A, "no other number is taken");
        set_mobile(&house, name, B);
        house.sync(0);
        let said = refused(&house, &["send", name]);
        assert!(said.contains("frozen"), "{said}");

        let before = house.receiver.accepted().len();
        done(&house, &["users", "unfreeze", name, flag]);
        assert_eq!(number(&house, name), keeps);
        let run = house.sync(0);
        assert_eq!(run["phone_changed"], 0, "no pass counts it again: {run}");
        assert_eq!(number(&house, name), keeps);
        let user = done(&house, &["users", "show", name]);
        assert_eq!(user["phone_pending"], Value::Null);
        assert_eq!(house.sync(0)["outcome"], "unchanged");
        let told = house.receiver.accepted();
        let again = told[before..]
            .iter()
            .any(|r| r.json()["type"] == "user.phone_notice");
        assert!(!again, "nobody hears of it again");
        let said = refused(&house, &["users", "unfreeze", name, flag]);
        assert!(said.contains("is not frozen"), "{said}");
    }
    // Another number than the refused one is a change like any other, and the refused one is one again after that.
    for number_now in [C, B] {
        set_mobile(&house, "zora", number_now);
        assert_eq!(house.sync(0)["phone_changed"], 1);
        assert_eq!(number(&house, "zora"), number_now);
    }
    assert_eq!(done(&house, &["audit", "verify"])["faults"], json!([]));
}

/// Whoever is frozen gets another number from nobody: not from a file, not by hand, not by an undo; and may be removed.
#[test]
fn a_frozen_user_gets_another_number_from_nobody() {
    let (house, port) = house();
    house.sync(0);
    let _daemon = house.daemon();
    let import = |number: &str, code: i32| {
        let path = house.path("users.csv");
        let text = format!("username,phone,display name\nhana,{number},Hana\n");
        std::fs::write(&path, text).expect("a file");
        let path = path.to_str().expect("a path");
        let said = house.run(&["--json", "users", "import", "--realm=r", path, "--yes"]);
        assert_eq!(said.code, code, "{}{}", said.out, said.err);
        said.lines()
    };
    import("+421905000009", 0);
    let run = import(A, 0)[0]["run"].as_str().expect("a run").to_owned();
    import(B, 0);
    let user = done(&house, &["users", "show", "hana"]);
    let path = link(&house, &user);
    let mut browser = Browser::desktop();
    assert_eq!(browser.post(port, &path, &[]).status, 200);
    assert_eq!(number(&house, "hana"), A);

    let said = import(C, 1);
    assert_eq!(said[0]["counts"]["refused"], 1, "{said:?}");
    let why = said[1]["reason"].as_str().expect("a reason");
    assert!(why.contains("frozen") && why.contains("unfreeze"), "{why}");
    // The same number as is in use is no change, and the rest of the line is taken.
    let said = import(A, 0);
    assert_eq!(said[0]["counts"]["refused"], 0, "{said:?}");
    let said = refused(&house, &["users", "edit", "hana", "--phone", C]);
    assert!(
        said.contains("frozen") && said.contains("unfreeze"),
        "{said}"
    );
    // What gave the number before that gives none back either.
    let undone = done(&house, &["undo", &run]);
    let left = undone["error"].as_str().unwrap_or_default();
    assert!(left.contains("left as it is now"), "{undone}");
    assert_eq!(number(&house, "hana"), A);
    let said = refused(&house, &["send", "hana"]);
    assert!(said.contains("frozen"), "{said}");

    done(&house, &["users", "remove", "hana", "--now"]);
    assert_eq!(browser.get(port, &path).status, 410);
    assert_eq!(browser.post(port, &path, &[]).status, 410);
}
