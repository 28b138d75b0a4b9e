//! The command line as programs and people meet it: exit codes, the fields of JSON, help and manual page.

mod canary;
mod dry;
mod errors;
mod faulty;
mod many_refused;
mod story;
mod words;

use serde_json::Value;

use crate::support::house::House;

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

const RUN: &str = "run realm mode trigger by outcome complete seen created updated renamed phone_changed phone_lost suspended restored removed \
                   moved refused_entries refused_phones jobs held_by server started_at decided_at elapsed_ms error_code error note drift";
const USER: &str = "id realm username display_name email phone phone_raw phone_source phone_pending phone_pending_until phone_provisioned \
                    directory_id dn state state_reason suspended_at blocked version two_factor enrolment last_used_at created_at updated_at origin note status notices authenticators";
const CHANGE: &str = "run seq realm user username by kind before after at";
// The last ones are of a realm that has been read: how it hears of changes, and from whom, what of it stands refused, and the rules of
// its time zone.
const STATUS: &str = "realm kind paused paused_until orphaned due last_success_at last_outcome last_error next_run_at users held servers changes outbox following server refused time_zones";
const REFUSED: &str = "realm dn username attribute raw reason since";
const JOB: &str = "job type realm user username state attempts next_attempt_at last_error run";

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[test]
fn json_has_the_fields_and_the_order_of_the_design() {
    let house = House::new(200);
    let run = house.sync(0);
    assert_eq!(keys(&run), words(RUN));
    let user = house.run(&["--json", "users", "list"]).json();
    assert_eq!(keys(&user), words(USER));
    assert_eq!(user["two_factor"], serde_json::json!(["app-otp"]));
    assert_eq!(
        keys(&house.run(&["--json", "status"]).json()),
        words(STATUS)
    );
    assert_eq!(
        keys(&house.run(&["--json", "refused"]).json()),
        words(REFUSED)
    );
    house.receiver.answer(500);
    house.churn(&[("phone", 4)]);
    let plan = house.run(&["--json", "plan"]);
    assert_eq!(plan.code, 2, "{}", plan.err);
    let lines = plan.lines();
    assert_eq!(
        (keys(&lines[0]), keys(&lines[1])),
        (words(RUN), words(CHANGE))
    );
    house.sync_and_deliver(0);
    let job = house.run(&["--json", "outbox", "list"]).json();
    assert_eq!(keys(&job), words(JOB));
    assert!(
        job["last_error"]
            .as_str()
            .is_some_and(|e| e.contains("500")),
        "{job}"
    );
    let shown = house.run(&["--json", "runs"]).json();
    assert_eq!(keys(&shown), words(RUN));
}

#[test]
fn exit_codes_say_what_happened() {
    let mut house = House::new(40);
    let code = |house: &House, arguments: &[&str]| {
        let said = house.run(arguments);
        assert!(
            arguments[0] == "check"
                || said.code == 0
                || said.code == 2
                || said.code == 3
                || said.err.contains("error"),
            "{arguments:?}: {}{}",
            said.out,
            said.err
        );
        said.code
    };
    assert_eq!(code(&house, &["nonsense"]), 64);
    assert_eq!(code(&house, &["sync", "--nonsense"]), 64);
    assert_eq!(code(&house, &["check"]), 0);
    assert_eq!(code(&house, &["check", "--connect"]), 0);
    assert_eq!(code(&house, &["plan"]), 2);
    assert!(
        !house.path("realmsync.db").exists(),
        "a dry run makes nothing"
    );
    assert_eq!(code(&house, &["sync", "no-such-realm"]), 1);
    assert_eq!(code(&house, &["sync"]), 0);
    assert_eq!(code(&house, &["plan"]), 0);
    assert_eq!(code(&house, &["runs", "show", "ffffffff"]), 1);
    assert_eq!(code(&house, &["approve", "ffffffff"]), 1);
    assert_eq!(code(&house, &["users", "show", "nobody-at-all"]), 1);
    assert_eq!(code(&house, &["outbox", "drop"]), 64);
    house.churn(&[("delete", 25)]);
    assert_eq!(code(&house, &["plan"]), 3);
    assert_eq!(code(&house, &["sync"]), 3);
    let held = house.run(&["--json", "status"]).json()["held"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(code(&house, &["reject", &held]), 0);
    assert_eq!(code(&house, &["reject", &held]), 1);
    assert_eq!(code(&house, &["pause", "r"]), 0);
    assert_eq!(code(&house, &["sync"]), 1);
    assert_eq!(code(&house, &["resume", "r"]), 0);
    house.server.stop();
    assert_eq!(code(&house, &["sync"]), 69);
    assert_eq!(code(&house, &["check", "--connect"]), 69);
    house.server.resume();
    std::fs::write(house.path("bind"), "wrong").unwrap();
    let wrong = house.run(&["--json", "sync"]);
    assert_eq!(
        (wrong.code, wrong.json()["error_code"].as_str()),
        (1, Some("auth")),
        "{}",
        wrong.out
    );
    let text = std::fs::read_to_string(house.path("realmsync.toml")).unwrap();
    std::fs::write(
        house.path("realmsync.toml"),
        text.replace("schedule", "shedule"),
    )
    .unwrap();
    let fault = house.run(&["status"]);
    assert_eq!(fault.code, 78, "{}", fault.err);
    assert!(
        fault.err.contains("did you mean `schedule`"),
        "{}",
        fault.err
    );
}

#[test]
fn explain_tells_where_a_value_came_from_and_why_someone_is_missing() {
    let house = House::new(60);
    house.sync(0);
    let (name, user) = house
        .users()
        .into_iter()
        .find(|(_, u)| u["phone"].is_string() && u["state"] == "active")
        .unwrap();
    let said = house.run(&["explain", &name]);
    assert_eq!(said.code, 0, "{}", said.err);
    for part in [
        "mobile",
        "active",
        user["dn"].as_str().unwrap(),
        "created",
        &house.server["LDAPS_URI"],
    ] {
        assert!(
            said.out.contains(part),
            "`{part}` is missing:\n{}",
            said.out
        );
    }
    assert!(
        !said.out.contains(user["phone"].as_str().unwrap()),
        "numbers are masked unless asked for:\n{}",
        said.out
    );
    let open = house.run(&["explain", &name, "--show-phones"]);
    assert!(open.out.contains(user["phone"].as_str().unwrap()));
    let base = house.server["PEOPLE_DN"].to_owned();
    house.server.modify(&format!(
        "dn: cn=nameless,{base}\nchangetype: add\nobjectClass: inetOrgPerson\ncn: nameless\nsn: x\n"
    ));
    house.sync(0);
    let missing = house.run(&["explain", "nameless"]);
    assert_eq!(missing.code, 0, "{}", missing.err);
    assert!(missing.out.contains("is no user"), "{}", missing.out);
    assert_eq!(house.run(&["explain", "nobody-at-all"]).code, 1);
}

#[test]
fn check_connect_says_what_to_mend() {
    let house = House::new(30);
    let connect = |house: &House| house.run(&["check", "--connect"]);
    let fine = connect(&house);
    assert!(
        fine.out.contains("30 entries") && fine.out.contains("would be"),
        "{}",
        fine.out
    );
    house.configure_as(
        &house.server["BIND_DN"],
        "filter = \"(objectClas=inetOrgPerson)\"",
        "",
    );
    let typo = connect(&house);
    assert_eq!(typo.code, 1);
    assert!(
        typo.out.contains("the filter names `objectClas`"),
        "{}",
        typo.out
    );
    std::fs::write(house.path("bind"), &house.server["NOPHONE_PASSWORD"]).unwrap();
    house.configure_as(&house.server["NOPHONE_DN"], "", "");
    let blind = connect(&house);
    assert_eq!(blind.code, 1);
    assert!(
        blind.out.contains("allow the account to read it"),
        "{}",
        blind.out
    );
}
