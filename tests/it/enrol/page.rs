//! The page from its first look to its end.

use serde_json::json;

use super::{Browser, Office, between, code, on_both};
use crate::support::house::Receiver;

/// A code that is surely wrong: none of those around now.
pub fn wrong_code(key: &str) -> String {
    let near: Vec<String> = (-15..=15).map(|n| code(key, n * 30)).collect();
    (0..100)
        .map(|n| format!("{n:06}"))
        .find(|code| !near.contains(code))
        .expect("a code")
}

#[test]
fn the_application_is_sent_and_set_up_without_a_script() {
    on_both(|office| {
        let _daemon = office.daemon();
        office.with_jan();
        let sent = office.done(&["send", "jan"]);
        assert_eq!(
            (&sent["state"], &sent["channel"], &sent["username"]),
            (&json!("sent"), &json!("hand"), &json!("jan"))
        );
        let path = office.path_of(&sent);
        let mut browser = Browser::desktop();

        let page = browser.get(office.port, &path);
        assert_eq!(page.status, 200, "{}", page.body);
        assert!(page.body.contains("Partner &#38; firms") && page.body.contains("jan"));
        assert!(!page.body.contains("otpauth"), "{}", page.body);

        let begun = browser.post(office.port, &path, &[("step", "begin")]);
        let key = begun.key();
        assert_eq!(key.len(), 32, "{}", begun.body);
        assert!(begun.body.contains("<svg class=\"qr\""));
        let link = format!(
            "otpauth://totp/Partner%20%26%20firms:jan?secret={key}&#38;issuer=Partner%20%26%20firms"
        );
        assert!(begun.body.contains(&link), "{}", begun.body);
        for header in [
            "cache-control",
            "referrer-policy",
            "content-security-policy",
        ] {
            assert!(begun.header(header).is_some(), "{header}: {}", begun.head);
        }

        let form = [("step", "use"), ("code", &wrong_code(&key))];
        let again = browser.post(office.port, &path, &form);
        assert_eq!(again.key(), key, "the same secret");
        assert!(again.body.contains("That code is wrong"), "{}", again.body);

        let used = browser.post(
            office.port,
            &path,
            &[("step", "use"), ("code", &code(&key, 0))],
        );
        assert_eq!(used.title(), "Keep your recovery codes", "{}", used.body);
        let codes = used.codes();
        assert_eq!(codes.len(), 10, "{codes:?}");
        assert!(codes.iter().all(|code| code.len() == 19), "{codes:?}");

        let seal = between(&used.body, "name=\"seal\" value=\"", "\"").to_owned();
        let form = [("step", "done"), ("kept", "on"), ("seal", seal.as_str())];
        let done = browser.post(office.port, &path, &form);
        assert_eq!(
            (done.status, done.title()),
            (200, "Your application is set up")
        );
        // Nobody else is told that, and the link opens nothing any more.
        let other = Browser::desktop().post(office.port, &path, &form);
        assert_eq!(other.status, 410);
        assert_eq!(browser.get(office.port, &path).status, 410);
        let user = office.done(&["users", "show", "jan"]);
        assert_eq!(user["enrolment"], json!("active"));
    });
}

#[test]
fn trap_73_scanners_of_links_use_nothing_up_and_see_no_secret() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    let path = office.sent(&[]);
    let agents = [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) SafeLinks",
        "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
        "facebookexternalhit/1.1",
        "WhatsApp/2.23",
        "Mozilla/5.0 AppleWebKit/605.1.15 (KHTML, like Gecko) iMessageLinkPreview",
    ];
    let first = Browser::desktop().get(office.port, &path).body;
    for agent in agents {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let mut scanner = Browser::with(&[("user-agent", agent)]);
            let seen = scanner.ask(office.port, method, &path, &[]);
            let expected = if method == "OPTIONS" { 405 } else { 200 };
            assert_eq!(seen.status, expected, "{method} {agent}");
            assert!(seen.header("set-cookie").is_none());
            if method == "GET" {
                assert_eq!(seen.body, first, "{agent}");
            }
        }
    }
    let page = Browser::desktop().get(office.port, &path);
    assert_eq!(page.body, first);
    for mark in ["otpauth", "<svg", "secret="] {
        assert!(!first.contains(mark), "{mark}");
    }
    let (_, codes) = office.enrol(&mut Browser::desktop(), &path, "");
    assert_eq!(codes.len(), 10);
}

/// Whoever has a link can neither fill the store with secrets, nor be led in a circle by a browser without cookies.
#[test]
fn a_browser_without_cookies_is_told_so_and_secrets_are_not_made_without_end() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    let path = office.sent(&[]);
    let mut browser = Browser::desktop();
    let key = browser.post(office.port, &path, &[("step", "begin")]).key();
    browser.cookie = None;
    let right = code(&key, 0);
    let told = browser.post(office.port, &path, &[("step", "use"), ("code", &right)]);
    assert!(told.body.contains("no cookie"), "{}", told.body);
    assert!(!told.body.contains("otpauth"), "{}", told.body);
    let mut begun = 0;
    for _ in 0..20 {
        let page = Browser::desktop().post(office.port, &path, &[("step", "begin")]);
        assert_eq!(page.status, 200);
        if page.body.contains("otpauth") {
            begun += 1;
        } else {
            assert!(page.body.contains("several browsers"), "{}", page.body);
        }
    }
    assert_eq!(begun, 2, "three at a time");
    let audit = office.lines(&["audit"]);
    let of = |act: &str| audit.iter().filter(|line| line["act"] == act).count();
    assert_eq!(of("enrolment-begin"), 3);
}

#[test]
fn trap_129_every_link_that_is_not_valid_gives_the_same_page() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    let used = office.sent(&[]);
    office.enrol(&mut Browser::desktop(), &used, "");
    let replaced = office.sent(&["--lost"]);
    let withdrawn = office.sent(&["--lost"]);
    let void = office.done(&["withdraw", "jan"]);
    assert_eq!(void["state"], json!("void"));
    assert_eq!(void.get("url"), None);
    assert_eq!(
        office.lines(&["withdraw", "jan"]),
        [] as [serde_json::Value; 0]
    );
    let unknown = format!("/enrol/{}", "A".repeat(43));
    let pages: Vec<_> = [
        used.as_str(),
        &replaced,
        &withdrawn,
        &unknown,
        "/enrol/nonsense",
        "/enrol/..%2F..%2Fetc%2Fpasswd",
        "/enrol/%ff%00",
    ]
    .into_iter()
    .flat_map(|path| {
        let mut browser = Browser::desktop();
        [
            browser.get(office.port, path),
            browser.post(office.port, path, &[("step", "begin")]),
            browser.post(office.port, path, &[("step", "use"), ("code", "123456")]),
        ]
    })
    .collect();
    for page in &pages {
        assert_eq!(page.status, 410, "{}", page.body);
        assert_eq!(page.body, pages[0].body);
        assert!(!page.body.contains("jan") && !page.body.contains("Partner"));
    }
}

#[test]
fn trap_74_the_secret_counts_only_once_it_is_proved_and_trap_61_its_code_is_used_then() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    let first = office.sent(&[]);
    let (old, _) = office.enrol(&mut Browser::desktop(), &first, "");
    let path = office.sent(&[]);
    let mut browser = Browser::desktop();
    let page = browser.get(office.port, &path);
    assert!(page.body.contains("name=\"proof\""), "{}", page.body);
    // Nothing, what is wrong, and the code that proved the application do not show the secret.
    for (proof, says) in [
        ("", "Prove with it"),
        ("000 00", "That code is wrong"),
        (code(&old, 0).as_str(), "used already"),
    ] {
        let asked = browser.post(office.port, &path, &[("step", "begin"), ("proof", proof)]);
        assert!(!asked.body.contains("otpauth"), "{proof}");
        assert!(asked.body.contains(says), "{proof}: {}", asked.body);
    }
    // The next one does, and the earlier application is active until the new one is proved.
    let asked = [("step", "begin"), ("proof", &code(&old, 30))];
    let begun = browser.post(office.port, &path, &asked);
    let new = begun.key();
    assert_ne!(new, old);
    let label = begun.body.contains("jan%20%2820");
    assert!(label, "a suffix keeps the entries apart: {}", begun.body);
    let begun = browser.post(office.port, &path, &[("step", "begin")]);
    assert_eq!(begun.key(), new, "proved in this browser already");
    let form = [("step", "use"), ("code", &code(&new, 0))];
    assert_eq!(browser.post(office.port, &path, &form).codes().len(), 10);
}

#[test]
fn trap_75_each_browser_has_one_secret_on_every_reload() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    let path = office.sent(&[]);
    let (mut one, mut two) = (Browser::desktop(), Browser::desktop());
    let begin = [("step", "begin")];
    let first = one.post(office.port, &path, &begin).key();
    let second = two.post(office.port, &path, &begin).key();
    assert_ne!(first, second);
    assert_eq!(one.post(office.port, &path, &begin).key(), first);
    // Two more make the first one's secret go, as soon as that is allowed: what was scanned then is of no use, and that is said.
    for _ in 0..2 {
        Browser::desktop().post(office.port, &path, &begin);
    }
    assert_eq!(one.post(office.port, &path, &begin).key(), first);
    office.sql("UPDATE authenticators SET created_at = created_at - 60000");
    Browser::desktop().post(office.port, &path, &begin);
    let form = [("step", "use"), ("code", &code(&first, 0))];
    let anew = one.post(office.port, &path, &form);
    assert!(anew.body.contains("too old"), "{}", anew.body);
    assert_ne!(anew.key(), first);
    let form = [("step", "use"), ("code", &code(&anew.key(), 0))];
    assert_eq!(one.post(office.port, &path, &form).codes().len(), 10);
    assert_eq!(two.post(office.port, &path, &begin).status, 410);
}

#[test]
fn trap_64_wrong_codes_on_the_page_are_counted_and_slowed_down() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    let path = office.sent(&[]);
    let mut browser = Browser::desktop();
    let key = browser.post(office.port, &path, &[("step", "begin")]).key();
    let wrong = wrong_code(&key);
    let form = [("step", "use"), ("code", wrong.as_str())];
    for n in 1..=5 {
        let said = browser.post(office.port, &path, &form);
        assert!(
            said.body.contains("That code is wrong"),
            "{n}: {}",
            said.body
        );
    }
    // Another link begins no new count.
    let path = office.sent(&[]);
    let mut browser = Browser::desktop();
    let key = browser.post(office.port, &path, &[("step", "begin")]).key();
    let wrong = wrong_code(&key);
    let form = [("step", "use"), ("code", wrong.as_str())];
    let held = browser.post(office.port, &path, &form);
    assert!(
        held.body.contains("too many wrong codes") || held.body.contains("That code is wrong"),
        "{}",
        held.body
    );
    let held = browser.post(office.port, &path, &form);
    assert!(held.body.contains("too many wrong codes"), "{}", held.body);
}

#[test]
fn the_message_carries_the_link_that_is_shown() {
    let receiver = Receiver::start();
    let office = Office::delivering(&receiver);
    let _daemon = office.daemon();
    office.with_jan();
    let sent = office.done(&["send", "jan"]);
    assert_eq!(sent["channel"], json!("webhook"));
    let message = &receiver.wait_for(1)[0];
    let body: serde_json::Value = serde_json::from_str(&message.body).expect("JSON");
    assert_eq!(body["data"]["enrolment_url"], sent["url"]);
    assert_eq!(body["data"]["reason"], json!("sent"));
    let path = office.path_of(&sent);
    assert_eq!(Browser::desktop().get(office.port, &path).status, 200);
}

#[test]
fn the_page_speaks_the_language_of_the_browser_or_the_chosen_one() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    let path = office.sent(&[]);
    for (accepted, chosen, language, title) in [
        (
            "de-CH, en;q=0.5",
            "",
            "de",
            "Richten Sie Ihre Authenticator-App ein",
        ),
        ("sk-SK", "", "sk", "Nastavte si overovaciu aplikáciu"),
        ("sk", "?lang=cs", "cs", "Nastavte si ověřovací aplikaci"),
        ("fr", "", "en", "Set up your authenticator application"),
    ] {
        let mut browser = Browser::with(&[("accept-language", accepted)]);
        let page = browser.get(office.port, &format!("{path}{chosen}"));
        assert_eq!(page.title(), title);
        assert!(page.body.contains(&format!("<html lang=\"{language}\">")));
        // The chosen language stays on the way through the forms.
        assert!(page.body.contains(&format!("action=\"{chosen}\"")));
    }
}
