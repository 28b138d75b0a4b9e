//! A store that was restored from a copy.

use std::process::Command;

use super::keys::{Service, next_step, on_both, status};
use super::{Browser, Office, button, code};

fn done(command: &mut Command) {
    let output = command
        .output()
        .expect("PostgreSQL's programs are installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Makes a copy by the store's own means.
fn copy(office: &Office) {
    let to = office.path("copy");
    if office.store.starts_with("sqlite:") {
        let said = office.run(&["backup", to.to_str().expect("a path")]);
        assert_eq!(said.code, 0, "{}", said.err);
    } else {
        done(
            Command::new("pg_dump")
                .args(["-Fc", "-d", &office.store, "-f"])
                .arg(to),
        );
    }
}

/// Puts the copy in the store's place, as the manual says.
fn restore(office: &Office) {
    let from = office.path("copy");
    if office.store.starts_with("sqlite:") {
        for ending in ["-wal", "-shm"] {
            let _gone = std::fs::remove_file(office.path(&format!("realmsync.db{ending}")));
        }
        std::fs::copy(from, office.path("realmsync.db")).expect("a copy");
        return;
    }
    done(
        Command::new("pg_restore")
            .args(["--clean", "--if-exists", "-d", &office.store])
            .arg(from),
    );
    // It would not notice.
    let said = office.run(&["restored"]);
    assert_eq!(said.code, 64, "{}{}", said.out, said.err);
    let answer = office.done(&["restored", "--yes"]);
    assert_eq!(answer["held"], 0, "{answer}");
    let tokens: Vec<_> = answer["api_tokens"].as_array().expect("tokens").clone();
    assert_eq!(tokens, ["former", "vpn"], "{answer}");
}

#[test]
fn trap_69_what_was_used_since_a_copy_proves_nobody_once_the_copy_is_restored() {
    on_both(|office| {
        let daemon = office.daemon();
        office.with_jan();
        let said = office.run(&["restored", "--reviewed"]);
        assert_eq!(said.code, 1, "{}{}", said.out, said.err);
        let said = office.run(&["api-tokens", "create", "former", "--scope=verify"]);
        assert_eq!(said.code, 0, "{}", said.err);
        let path = office.sent(&[]);
        let (key, codes) = office.enrol(&mut Browser::desktop(), &path, "");
        office.with_button();
        let service = Service::new(&office);
        let answer = service.verify(&button(0));
        assert_eq!(answer.body["result"], "accepted", "{}", answer.body);
        let open = office.sent(&["--lost"]);
        copy(&office);

        // All of it is used after the copy.
        let used = code(&key, 30);
        for proof in [&used, &button(1), &codes[0]] {
            let answer = service.verify(proof);
            assert_eq!(answer.body["result"], "accepted", "{}", answer.body);
        }
        let said = office.run(&["api-tokens", "revoke", "former"]);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        drop(daemon);
        restore(&office);
        let _daemon = office.daemon();

        // Used since, and nothing tells: refused all the same.
        let answer = service.verify(&used);
        assert_eq!(answer.body["reason"], "replayed", "{}", answer.body);
        for proof in [&button(1), &codes[0], &codes[1]] {
            let answer = service.verify(proof);
            assert_eq!(answer.body["result"], "rejected", "{}", answer.body);
        }
        assert_eq!(Browser::desktop().get(office.port, &open).status, 410);
        // The token gives two codes in a row.
        let [first, second] = [button(5), button(6)];
        let answer = service.verify(&first);
        assert_eq!(answer.body["result"], "rejected", "{}", answer.body);
        // So many wrong ones hold back.
        std::thread::sleep(std::time::Duration::from_secs(3));
        let answer = service.verify(&second);
        assert_eq!(answer.body["result"], "accepted", "{}", answer.body);
        // And the application goes on with the second step from then.
        next_step();
        service.right(&key, 30);

        let shown = status(&office);
        let told = &shown["daemon"]["restored"]["api_tokens"];
        assert_eq!(*told, serde_json::json!(["former", "vpn"]), "{shown}");
        for _ in 0..2 {
            let said = office.run(&["restored", "--reviewed"]);
            assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        }
        let shown = status(&office);
        assert!(shown["daemon"]["restored"].is_null(), "{shown}");
        let audit = office.lines(&["audit"]);
        let acts: Vec<_> = audit
            .iter()
            .filter_map(|line| line["act"].as_str())
            .collect();
        for act in ["restored", "restored-reviewed"] {
            let lines = acts.iter().filter(|a| **a == act).count();
            assert_eq!(lines, 1, "{acts:?}");
        }
        let said = office.run(&["audit", "verify"]);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    });
}
