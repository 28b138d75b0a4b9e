//! What must hold whatever is clicked: nothing secret in a file, the former factor, recovery codes, clocks, labels.

use std::process::Command;

use serde_json::json;

use super::page::wrong_code;
use super::{Browser, Office, between, code, in_files};

const BEGIN: [(&str, &str); 1] = [("step", "begin")];

#[test]
fn trap_80_no_secret_code_or_link_is_in_a_log_the_store_or_the_audit() {
    let office = Office::new();
    let daemon = office.daemon();
    office.with_jan();
    let path = office.sent(&[]);
    let token = path.rsplit('/').next().expect("a token").to_owned();
    let mut browser = Browser::desktop();
    let page = browser.get(office.port, &path);
    assert!(!page.body.contains(&token), "a referrer, or a saved page");
    let begun = browser.post(office.port, &path, &BEGIN);
    let key = begun.key();
    let wrong = wrong_code(&key);
    browser.post(office.port, &path, &[("step", "use"), ("code", &wrong)]);
    let right = code(&key, 0);
    let used = browser.post(office.port, &path, &[("step", "use"), ("code", &right)]);
    let codes = used.codes();
    assert_eq!(codes.len(), 10);
    let policy = used.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for (header, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(used.header(header), Some(value));
    }
    for begins in ["http:", "https:", "//"] {
        for attribute in ["src=\"", "href=\"", "action=\""] {
            let elsewhere = format!("{attribute}{begins}");
            assert!(!used.body.contains(&elsewhere) && !begun.body.contains(&elsewhere));
        }
    }
    let audit = office.run(&["--json", "audit"]).out;
    assert!(
        audit.contains("enrolment-begin") && audit.contains("127.0.0.1"),
        "{audit}"
    );
    drop(daemon);
    let mark = browser.cookie.expect("a cookie");
    let mark = mark.split_once('=').expect("a value").1.to_owned();
    let letters = codes[0].replace('-', "");
    let mut canaries = vec![token, key.clone(), mark, letters];
    canaries.extend(codes);
    let raw = data_encoding::BASE32_NOPAD
        .decode(key.as_bytes())
        .expect("base32");
    canaries.push(data_encoding::HEXLOWER.encode(&raw));
    for canary in &canaries {
        assert_eq!(in_files(office.folder.path(), canary), None, "{canary}");
        assert!(!audit.contains(canary.as_str()), "{canary}");
    }
    let files = std::fs::read_dir(office.folder.path()).expect("the folder");
    let sealed = files.flatten().all(|file| {
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        !bytes.windows(raw.len()).any(|window| window == raw)
    });
    assert!(sealed, "the secret itself is in a file");
    let checked = office.run(&["audit", "verify"]);
    assert_eq!(checked.code, 0, "{}{}", checked.out, checked.err);
}

/// How long a link works.
fn hours(enrolment: &serde_json::Value) -> i64 {
    let at = |field: &str| -> jiff::Timestamp {
        let text = enrolment[field].as_str().expect("a time");
        text.parse().expect("a time")
    };
    (at("expires_at").as_second() - at("sent_at").as_second()) / 3600
}

#[test]
fn trap_76_who_has_a_factor_proves_it_and_a_recovery_code_does_too() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    let first = office.done(&["send", "jan"]);
    assert_eq!(hours(&first), 7 * 24);
    let first = office.path_of(&first);
    let (_, codes) = office.enrol(&mut Browser::desktop(), &first, "");
    let second = office.done(&["send", "jan"]);
    assert_eq!(hours(&second), 24, "a shorter life");
    let path = office.path_of(&second);
    // Whoever found the link, and has nothing of the user.
    let mut thief = Browser::desktop();
    assert_eq!(
        thief
            .get(office.port, &path)
            .body
            .matches("otpauth")
            .count(),
        0
    );
    let asked = thief.post(office.port, &path, &BEGIN);
    assert!(asked.body.contains("name=\"proof\"") && !asked.body.contains("otpauth"));
    // Its owner lost the telephone.
    let mut owner = Browser::desktop();
    let spelled = codes[0].to_lowercase().replace('-', " ");
    let (_, anew) = office.enrol(&mut owner, &path, &spelled);
    assert_eq!(anew.len(), 10);
    // That code is used, and those beside it are void; an administrator's word is as good.
    for spent in [&codes[0], &codes[1]] {
        let path = office.sent(&[]);
        let form = [("step", "begin"), ("proof", spent.as_str())];
        let asked = Browser::desktop().post(office.port, &path, &form);
        assert!(!asked.body.contains("otpauth"), "{}", asked.body);
    }
    let path = office.sent(&["--lost"]);
    let begun = Browser::desktop().post(office.port, &path, &BEGIN);
    assert!(begun.body.contains("otpauth"), "{}", begun.body);
}

#[test]
fn trap_78_recovery_codes_are_shown_once_and_new_ones_void_the_old() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    let first = office.sent(&[]);
    let (_, codes) = office.enrol(&mut Browser::desktop(), &first, "");
    let left = |n: i64| {
        let all = office.lines(&["authenticators", "list", "jan"]);
        let kinds: Vec<_> = all
            .iter()
            .map(|a| a["kind"].as_str().unwrap_or(""))
            .collect();
        assert_eq!(kinds, ["app", "recovery"]);
        assert_eq!(all[1]["left"], json!(n));
        assert_eq!(all[0]["state"], json!("active"));
    };
    left(10);
    // A wish for new ones needs a proof, and uses the link up.
    let path = office.sent(&[]);
    let mut browser = Browser::desktop();
    let none = browser.post(office.port, &path, &[("step", "codes")]);
    assert!(!none.body.contains("class=\"codes\""), "{}", none.body);
    let form = [("step", "codes"), ("proof", codes[9].as_str())];
    let page = browser.post(office.port, &path, &form);
    let renewed = page.codes();
    assert_eq!(renewed.len(), 10);
    assert!(renewed.iter().all(|code| !codes.contains(code)));
    left(10);
    let seal = between(&page.body, "name=\"seal\" value=\"", "\"").to_owned();
    let form = [("step", "done"), ("kept", "on"), ("seal", seal.as_str())];
    assert_eq!(browser.post(office.port, &path, &form).status, 200);
    assert_eq!(
        Browser::desktop().post(office.port, &path, &form).status,
        410
    );
    for again in [
        browser.get(office.port, &path),
        browser.post(office.port, &path, &BEGIN),
    ] {
        assert_eq!(again.status, 410);
        assert!(!again.body.contains(&renewed[0]));
    }
    let path = office.sent(&[]);
    let form = [("step", "codes"), ("proof", codes[0].as_str())];
    let old = Browser::desktop().post(office.port, &path, &form);
    assert!(!old.body.contains("class=\"codes\""), "void: {}", old.body);
    // Revoked by hand, or because of another number: a recovery code is asked for while any is left, unless it is lost too.
    let ended = office.lines(&["authenticators", "revoke", "jan"]);
    assert_eq!((ended.len(), &ended[0]["state"]), (1, &json!("revoked")));
    assert_eq!(office.lines(&["authenticators", "revoke", "jan"]).len(), 0);
    let path = office.sent(&[]);
    let asked = Browser::desktop().post(office.port, &path, &BEGIN);
    assert!(asked.body.contains("name=\"proof\"") && !asked.body.contains("otpauth"));
    assert!(!asked.body.contains("value=\"codes\""), "{}", asked.body);
    let form = [("step", "begin"), ("proof", renewed[1].as_str())];
    let begun = Browser::desktop().post(office.port, &path, &form);
    assert!(begun.body.contains("count no more"), "{}", begun.body);
    let path = office.sent(&["--lost"]);
    let begun = Browser::desktop().post(office.port, &path, &BEGIN);
    assert!(begun.body.contains("count no more"), "{}", begun.body);
}

#[test]
fn recovery_codes_outlive_the_application_that_they_were_made_with() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    office.enrol(&mut Browser::desktop(), &office.sent(&[]), "");
    let listed = || office.lines(&["authenticators", "list", "jan"]);
    let id = |a: &serde_json::Value| a["id"].as_str().expect("an id").to_owned();
    let all = listed();
    let (app, codes) = (id(&all[0]), id(&all[1]));
    assert_ne!(app, codes);
    // The telephone was stolen: the paper with the codes was not.
    let said = office.run(&["authenticators", "revoke", "jan"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("app") && !said.out.contains("recovery"));
    assert!(
        said.err.contains("10 recovery codes of jan stay"),
        "{}",
        said.err
    );
    let left = listed();
    assert_eq!(
        (left.len(), &left[0]["kind"], &left[0]["left"]),
        (1, &json!("recovery"), &json!(10))
    );
    // By their own id, and by name beside the next application.
    let ended = office.done(&["authenticators", "revoke", "jan", &codes]);
    assert_eq!(
        (&ended["kind"], &ended["state"], &ended["left"]),
        (&json!("recovery"), &json!("revoked"), &json!(0))
    );
    assert_eq!(listed().len(), 0);
    office.enrol(&mut Browser::desktop(), &office.sent(&[]), "");
    let app = id(&listed()[0]);
    let ended = office.lines(&["authenticators", "revoke", "jan", &app]);
    assert_eq!((ended.len(), &ended[0]["kind"]), (1, &json!("app")));
    let ended = office.lines(&["authenticators", "revoke", "jan", "--recovery-codes"]);
    assert_eq!((ended.len(), &ended[0]["kind"]), (1, &json!("recovery")));
    assert_eq!(listed().len(), 0);
}

#[test]
fn a_link_lives_shorter_only_for_who_had_the_application() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    let send = || office.done(&["send", "jan"]);
    assert_eq!(hours(&send()), 7 * 24);
    // The mail got lost.
    let again = send();
    assert_eq!(hours(&again), 7 * 24);
    office.done(&["withdraw", "jan"]);
    let again = send();
    assert_eq!(hours(&again), 7 * 24);
    office.enrol(&mut Browser::desktop(), &office.path_of(&again), "");
    assert_eq!(hours(&send()), 24);
}

#[test]
fn trap_128_a_wrong_clock_is_told_from_a_wrong_code() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    let path = office.sent(&[]);
    let mut browser = Browser::desktop();
    let key = browser.post(office.port, &path, &BEGIN).key();
    for (seconds, says) in [(150, "3 min fast"), (-240, "4 min slow")] {
        let said = code(&key, seconds);
        let page = browser.post(office.port, &path, &[("step", "use"), ("code", &said)]);
        let near = says.replace('3', "2").replace('4', "5");
        assert!(
            page.body.contains(says) || page.body.contains(&near),
            "{}",
            page.body
        );
    }
    let page = browser.post(
        office.port,
        &path,
        &[("step", "use"), ("code", &code(&key, 0))],
    );
    assert_eq!(page.codes().len(), 10);
}

#[test]
fn the_qr_code_is_read_back_and_the_first_of_a_telephone_is_the_link() {
    let office = Office::over(None, "[enrolment]\napplications = [\"House OTP\"]\n");
    let _daemon = office.daemon();
    office.with_jan();
    let path = office.sent(&[]);
    let mut desktop = Browser::desktop();
    let page = desktop.get(office.port, &path);
    assert!(page.body.contains("House OTP") && !page.body.contains("Aegis"));
    let begun = desktop.post(office.port, &path, &BEGIN);
    let read = read_qr(&office, &begun.body);
    let link = between(&begun.body, "href=\"otpauth", "\"").replace("&#38;", "&");
    assert_eq!(read, format!("otpauth{link}"));
    assert!(begun.body.find("<svg") < begun.body.find("href=\"otpauth"));
    let agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Mobile/15E148";
    let mut phone = Browser::with(&[("user-agent", agent)]);
    let begun = phone.post(office.port, &path, &BEGIN);
    assert!(begun.body.find("<svg") > begun.body.find("href=\"otpauth"));
}

/// What `zbarimg` reads in the page's QR code, drawn anew by its own path.
fn read_qr(office: &Office, body: &str) -> String {
    const SCALE: usize = 6;
    let svg = between(body, "<svg class=\"qr\"", "</svg>");
    let size: usize = between(svg, "viewBox=\"0 0 ", " ").parse().expect("a size");
    let dark = between(svg, "fill=\"#000\" d=\"", "\"");
    let mut image = vec![255_u8; size * size * SCALE * SCALE];
    for run in dark.split('M').skip(1) {
        let (at, run) = run.split_once('h').expect("a run");
        let (x, y) = at.split_once(' ').expect("a place");
        let length = run.split('v').next().expect("a length");
        let [x, y, length] = [x, y, length].map(|n| n.parse::<usize>().expect("a number"));
        for row in y * SCALE..(y + 1) * SCALE {
            let begin = row * size * SCALE + x * SCALE;
            image[begin..begin + length * SCALE].fill(0);
        }
    }
    let mut file = format!("P5 {} {} 255\n", size * SCALE, size * SCALE).into_bytes();
    file.extend(image);
    let picture = office.path("qr.pgm");
    std::fs::write(&picture, file).expect("a picture");
    let output = Command::new("zbarimg")
        .args(["--quiet", "--raw"])
        .arg(&picture)
        .output()
        .expect("zbarimg");
    std::fs::remove_file(&picture).expect("removed");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn what_becomes_of_links_is_shown_with_their_times() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    let first = office.sent(&[]);
    Browser::desktop().get(office.port, &first);
    let states = || {
        let user = office.done(&["users", "show", "jan"]);
        let all = user["enrolments"].as_array().expect("a list").clone();
        assert!(all.iter().all(|e| e.get("url").is_none()), "{all:?}");
        let states: Vec<_> = all
            .iter()
            .map(|e| e["state"].as_str().unwrap_or(""))
            .collect();
        states.join(" ")
    };
    assert_eq!(states(), "opened");
    let second = office.sent(&[]);
    assert_eq!(states(), "sent void");
    office.enrol(&mut Browser::desktop(), &second, "");
    assert_eq!(states(), "used void");
    office.done(&["users", "block", "jan"]);
    let said = office.run(&["send", "jan"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("blocked"), "{}", said.err);
}

#[test]
fn a_link_dies_with_the_number_that_it_was_sent_for() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    let path = office.sent(&[]);
    let mut browser = Browser::desktop();
    let key = browser.post(office.port, &path, &BEGIN).key();
    office.done(&["users", "edit", "jan", "--phone=0905 654 321"]);
    let form = [("step", "use"), ("code", &code(&key, 0))];
    assert_eq!(browser.post(office.port, &path, &form).status, 410);
    let all = office.lines(&["authenticators", "list", "jan"]);
    assert_eq!(
        all,
        [] as [serde_json::Value; 0],
        "the pending secret is gone"
    );
}
