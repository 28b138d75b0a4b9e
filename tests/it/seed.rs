//! What such a system is for, from one end to the other: a realm by hand and a directory's, a user by hand with a national number, the
//! application sent, the page opened, an authenticator proved, a code verified, a number changed in a real directory, and all of it again.

use reqwest::Method;
use serde_json::{Value, json};

use crate::enrol::{Answered, Browser, code};
use crate::hands::done;
use crate::programs::{Program, listening, token};
use crate::support::house::House;

/// The path of an enrolment's link.
fn path(url: &Value) -> String {
    let url = url.as_str().expect("a link");
    let path = url.strip_prefix("https://mfa.example.org");
    path.expect("our page").to_owned()
}

/// An application that was set up.
struct Set {
    key: String,
    /// The code that proved it.
    proved_by: String,
    recovery: Vec<String>,
}

/// Goes through the page. `proof`: a code of what the user had before, if the page asks for one.
fn enrol(port: u16, path: &str, proof: &str) -> Set {
    let mut browser = Browser::desktop();
    let seen = browser.get(port, path);
    assert_eq!(seen.status, 200, "{}", seen.body);
    assert_eq!(seen.body.contains("name=\"proof\""), !proof.is_empty());
    let begun = browser.post(port, path, &[("step", "begin"), ("proof", proof)]);
    let key = begun.key();
    let proved_by = code(&key, 0);
    let proved: Answered = browser.post(port, path, &[("step", "use"), ("code", &proved_by)]);
    let recovery = proved.codes();
    assert_eq!(recovery.len(), 10, "{}", proved.body);
    Set {
        key,
        proved_by,
        recovery,
    }
}

/// What a service is answered: the result and its reason.
async fn verified(program: &Program, realm: &str, name: &str, code: &str) -> (Value, Value) {
    let asked = json!({"username": name, "realm": realm, "code": code});
    let answer = program.call(Method::POST, "verify", Some(&asked)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    (answer.body["result"].clone(), answer.body["reason"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_first_number_to_the_second_application() {
    let house = House::new(20);
    let account = house.server["BIND_DN"].to_owned();
    house.configure_as(
        &account,
        "changes = \"auto\"",
        "realm: two-factor = [\"app-otp\"]",
    );
    let port = listening(&house.path("realmsync.toml"));
    house.sync_and_deliver(0);
    let _daemon = house.daemon();
    let service = Program::at(port).with(&token(&house, "vpn", &["--scope=verify"]));
    let accepted = (json!("accepted"), json!(null));

    // A user by hand, in a realm by hand.
    done(
        &house,
        &[
            "realms",
            "create",
            "partners",
            "--region=SK",
            "--two-factor=app-otp",
        ],
    );
    let jan = done(
        &house,
        &[
            "users",
            "add",
            "--realm=partners",
            "jan",
            "--phone=0905 123 456",
        ],
    );
    assert_eq!(
        (&jan["phone"], &jan["status"]),
        (&json!("+421905123456"), &json!("enabled"))
    );
    let nothing = verified(&service, "partners", "jan", "123456").await;
    assert_eq!(nothing, (json!("rejected"), json!("not_enrolled")));
    let sent = done(&house, &["send", "jan"]);
    let app = enrol(port, &path(&sent["url"]), "");
    // The code that proved the application is used up, whatever it was for.
    let again = verified(&service, "partners", "jan", &app.proved_by).await;
    assert_eq!(again, (json!("rejected"), json!("replayed")));
    assert_eq!(
        verified(&service, "partners", "jan", &code(&app.key, 30)).await,
        accepted
    );
    let jan = done(&house, &["users", "show", "jan"]);
    assert_eq!(
        (&jan["status"], &jan["enrolment"]),
        (&json!("used"), &json!("active"))
    );

    // Somebody of the directory.
    let users = house.users();
    let (name, user) = users
        .iter()
        .find(|(_, user)| user["state"] == "active" && user["phone"].is_string())
        .expect("somebody with a number");
    let sent = done(&house, &["send", name]);
    let first = enrol(port, &path(&sent["url"]), "");
    let used = code(&first.key, 30);
    assert_eq!(verified(&service, "r", name, &used).await, accepted);

    // Their number changes in the directory, and the daemon hears of it.
    let before = house.receiver.accepted().len();
    house.server.modify(&format!(
        "dn: {}\nchangetype: modify\nreplace: mobile\nmobile: +421 907 654 321\n",
        user["dn"].as_str().expect("a name")
    ));
    let end = std::time::Instant::now() + std::time::Duration::from_mins(1);
    let told = loop {
        let all = house.receiver.accepted();
        let mut messages = all
            .iter()
            .skip(before)
            .map(super::support::house::receiver::Received::json);
        if let Some(told) = messages.find(|message| message["type"] == "user.reprovision") {
            break told;
        }
        assert!(std::time::Instant::now() < end, "{}", house.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert_eq!(
        (
            &told["data"]["user"]["username"],
            &told["data"]["user"]["phone"]
        ),
        (&json!(name), &json!("+421907654321"))
    );
    let shown = done(&house, &["users", "show", name]);
    assert_eq!(shown["enrolment"], json!("sent"), "{shown}");

    // The former application, or a recovery code, is asked for; once the new one is there, the former one counts no more.
    let link = path(&told["data"]["enrolment_url"]);
    let second = enrol(port, &link, &first.recovery[0]);
    assert_ne!(first.key, second.key);
    let former = verified(&service, "r", name, &used).await;
    assert_eq!(former, (json!("rejected"), json!("wrong_code")));
    let now = code(&second.key, 30);
    assert_eq!(verified(&service, "r", name, &now).await, accepted);
}
