//! Hard tokens: a delivery imported, tokens given, found again and taken back, with `oathtool` as the token.

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use super::{MADE, both_ways, done, lines, refused};
use crate::support::house::House;

/// Seeds that nobody else may see: of a button, of a clock with SHA-256 and 60 s, and of figure 6.
const BUTTON: &str = "5ec2e7000000000000000000000000000000be11";
const CLOCK: &str = "5ec2e7111111111111111111111111111111111111111111111111111111c0de";

const ENCRYPTED: &str = r#"<KeyContainer Version="1.0" xmlns="urn:ietf:params:xml:ns:keyprov:pskc" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" xmlns:xenc="http://www.w3.org/2001/04/xmlenc#">
  <EncryptionKey><ds:KeyName>Pre-shared-key</ds:KeyName></EncryptionKey>
  <MACMethod Algorithm="http://www.w3.org/2000/09/xmldsig#hmac-sha1"><MACKey>
    <xenc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>
    <xenc:CipherData><xenc:CipherValue>ESIzRFVmd4iZABEiM0RVZgKn6WjLaTC1sbeBMSvIhRejN9vJa2BOlSaMrR7I5wSX</xenc:CipherValue></xenc:CipherData>
  </MACKey></MACMethod>
  <KeyPackage><DeviceInfo><Manufacturer>Maker</Manufacturer><SerialNo>987654321</SerialNo></DeviceInfo>
    <Key Id="12345678" Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:hotp">
      <AlgorithmParameters><ResponseFormat Length="8" Encoding="DECIMAL"/></AlgorithmParameters>
      <Data><Secret><EncryptedValue>
        <xenc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>
        <xenc:CipherData><xenc:CipherValue>AAECAwQFBgcICQoLDA0OD+cIHItlB3Wra1DUpxVvOx2lef1VmNPCMl8jwZqIUqGv</xenc:CipherValue></xenc:CipherData>
      </EncryptedValue><ValueMAC>Su+NvtQfmvfJzF6bmQiJqoLRExc=</ValueMAC></Secret></Data>
      <Policy><ExpiryDate>2020-01-01T00:00:00Z</ExpiryDate></Policy>
    </Key></KeyPackage>
</KeyContainer>"#;

/// What the token shows.
fn oathtool(arguments: &[&str]) -> String {
    let out = Command::new("oathtool").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}: tests/lab/install pskc");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn button(counter: u32) -> String {
    oathtool(&["--hotp", "-c", &counter.to_string(), BUTTON])
}

/// A code of the clock, so many steps from now.
fn clock(steps: i64) -> String {
    let at = format!("now {} seconds", steps * 60);
    oathtool(&["--totp=sha256", "-s", "60", "-d", "8", "-N", &at, CLOCK])
}

fn write(house: &House, name: &str, text: &str) -> String {
    let path = house.path(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn token(house: &House, serial: &str) -> Value {
    let all = lines(house, &["hard-tokens", "list"]);
    let found = all.into_iter().find(|token| token["serial"] == serial);
    found.unwrap_or_else(|| panic!("no token {serial}"))
}

fn delivery() -> String {
    format!(
        "serial,secret,type,digits,period,algorithm,manufacturer\nH1,{BUTTON},hotp,6,0,sha1,Maker\nT1,{CLOCK},totp,8,60,sha256,\"Maker, Ltd\"\n"
    )
}

#[test]
fn trap_70_a_delivery_is_imported_once_and_tokens_go_from_hand_to_hand() {
    both_ways(|house, from| {
        done(house, &MADE);
        for name in ["jan", "eva"] {
            done(house, &["users", "add", "--realm=partners", name]);
        }
        let file = write(house, "delivery.csv", &delivery());
        let import = ["hard-tokens", "import", file.as_str()];
        let first = done(house, &import);
        assert_eq!(
            (
                &first["form"],
                &first["tokens"],
                &first["imported"],
                &first["unchanged"]
            ),
            (&json!("csv"), &json!(2), &json!(2), &json!(0))
        );
        assert_eq!(first["warnings"][0]["code"], "not_encrypted");

        // Given, and to nobody else.
        let given = done(house, &["hard-tokens", "assign", "H1", "jan"]);
        assert_eq!(
            (
                &given["state"],
                &given["username"],
                &given["realm"],
                &given["kind"],
                &given["issuer"]
            ),
            (
                &json!("active"),
                &json!("jan"),
                &json!("partners"),
                &json!("hotp"),
                &json!("Maker")
            )
        );
        let said = refused(house, &["hard-tokens", "assign", "H1", "eva"]);
        assert!(said.contains("it is assigned to jan in partners"), "{said}");
        let said = house.run(&["hard-tokens", "assign", "H1", "jan"]);
        assert!(said.out.contains("is so already"), "{}", said.out);

        // Pressed in a pocket 500 times; the codes are used up.
        let pressed = [button(500), button(501)];
        let resync = ["hard-tokens", "resync", "H1", &pressed[0], &pressed[1]];
        done(house, &resync);
        let said = refused(house, &resync);
        assert!(said.contains("not two unused codes in a row"), "{said}");
        assert!(!said.contains(&pressed[0]), "{said}");
        let back = [button(300), button(301)];
        refused(house, &["hard-tokens", "resync", "H1", &back[0], &back[1]]);

        // The same file again takes nothing back.
        let again = done(house, &import);
        assert_eq!(
            (&again["imported"], &again["unchanged"]),
            (&json!(0), &json!(2))
        );
        assert_eq!(token(house, "H1")["username"], "jan");
        refused(house, &resync);

        // Another seed under the serial, or the seed under another one: nothing of the file is taken.
        let other = delivery().replace(BUTTON, &BUTTON.replace("be11", "be12"));
        let other = write(
            house,
            "other.csv",
            &format!("N1,{}ff,hotp\n{other}", &BUTTON[..38]).replace(
                "serial,secret,type,digits,period,algorithm,manufacturer\n",
                "",
            ),
        );
        let said = refused(house, &["hard-tokens", "import", &other]);
        assert!(said.contains("1 fault, nothing is imported: line 2: token H1: there is a token of this serial with another seed"), "{said}");
        let twin = write(house, "twin.csv", &format!("N2,{BUTTON},hotp\n"));
        let said = refused(house, &["hard-tokens", "import", &twin]);
        assert!(
            said.contains("there is a token H1 with the same seed"),
            "{said}"
        );
        assert_eq!(lines(house, &["hard-tokens", "list"]).len(), 2);

        // From hand to hand; a lost one never again.
        let taken = done(house, &["hard-tokens", "unassign", "H1"]);
        assert_eq!(
            (&taken["state"], &taken["username"]),
            (&json!("pending"), &Value::Null)
        );
        let said = house.run(&["hard-tokens", "list"]);
        assert!(said.out.contains("free, returned"), "{}", said.out);
        done(house, &["hard-tokens", "assign", "H1", "eva"]);
        done(house, &["hard-tokens", "assign", "T1", "eva"]);
        let said = refused(house, &["hard-tokens", "remove", "H1"]);
        assert!(said.contains("assigned to eva"), "{said}");
        done(house, &["hard-tokens", "revoke", "--lost", "H1"]);
        for act in [
            ["hard-tokens", "assign", "H1", "jan"].as_slice(),
            &["hard-tokens", "unassign", "H1"],
            &["hard-tokens", "remove", "H1"],
        ] {
            assert!(
                refused(house, act).contains("it is lost, for good"),
                "{act:?}"
            );
        }
        assert_eq!(done(house, &import)["unchanged"], 2);
        assert_eq!(token(house, "H1")["state"], "lost");

        // Who is removed leaves the token behind, free, and it can be forgotten.
        done(house, &["users", "remove", "eva", "--now"]);
        let left = token(house, "T1");
        assert_eq!(
            (&left["state"], &left["user"]),
            (&json!("pending"), &Value::Null)
        );
        done(house, &["hard-tokens", "remove", "T1"]);
        assert_eq!(lines(house, &["hard-tokens", "list"]).len(), 1);

        let said = refused(house, &["hard-tokens", "assign", "X", "jan"]);
        assert!(said.contains("there is no hard token `X`"), "{said}");

        // Every act is in the record, by its serial and without a seed.
        let record = lines(house, &["audit"]);
        let acts: Vec<&str> = record
            .iter()
            .filter_map(|line| line["act"].as_str())
            .filter(|act| act.starts_with("hard-token"))
            .collect();
        assert_eq!(
            acts,
            [
                "hard-tokens-import",
                "hard-token-assign",
                "hard-token-resync",
                "hard-token-unassign",
                "hard-token-assign",
                "hard-token-assign",
                "hard-token-revoke",
                "hard-token-remove",
            ]
        );
        let one = record
            .iter()
            .find(|line| line["act"] == "hard-token-assign")
            .unwrap();
        assert_eq!(
            (&one["username"], &one["from"], &one["after"]["serial"]),
            (&json!("jan"), &json!(from), &json!("H1"))
        );
        assert_eq!(house.run(&["audit", "verify"]).code, 0);
        let all = house.run(&["audit", "--csv"]).out + &house.log();
        for seed in [BUTTON, CLOCK, "5ec2e7", "NXBOOAAAAA"] {
            assert!(!all.contains(seed), "{seed}");
        }
    });
}

#[test]
fn trap_110_an_encrypted_file_needs_its_key_and_a_token_that_is_over_is_told_as_such() {
    let house = House::new(3);
    done(&house, &MADE);
    done(&house, &["users", "add", "--realm=partners", "jan"]);
    let file = write(&house, "tokens.xml", ENCRYPTED);
    let key = write(&house, "key", "12345678901234567890123456789012\n");
    let wrong = write(&house, "wrong", "MTIzNDU2Nzg5MDEyMzQ1Ng==\n");
    let said = refused(&house, &["hard-tokens", "import", &file]);
    assert!(said.contains("1 fault, nothing is imported: it is encrypted with a pre-shared key, named `Pre-shared-key`: give it with --key-file"), "{said}");
    let said = refused(
        &house,
        &["hard-tokens", "import", &file, "--key-file", &wrong],
    );
    assert!(
        said.contains("the key or passphrase is another one, or the file was changed"),
        "{said}"
    );
    let said = refused(
        &house,
        &["hard-tokens", "import", &file, "--key-file", &file],
    );
    assert!(said.contains("16, 24 or 32 bytes are expected"), "{said}");
    let imported = done(
        &house,
        &["hard-tokens", "import", &file, "--key-file", &key],
    );
    assert_eq!(imported["imported"], 1);
    assert_eq!(imported["warnings"][0]["code"], "expired");
    let shown = token(&house, "987654321");
    assert_eq!(
        (&shown["valid_until"], &shown["digits"]),
        (&json!("2020-01-01T00:00:00.000Z"), &json!(8))
    );
    let said = refused(&house, &["hard-tokens", "assign", "987654321", "jan"]);
    assert!(
        said.contains("token expired: its codes count until 2020-01-01"),
        "{said}"
    );
    assert_eq!(
        lines(&house, &["hard-tokens", "list", "--expiring"]).len(),
        1
    );
    // The store has the seed of RFC 4226 in no form.
    let stored = std::fs::read(house.path("realmsync.db")).unwrap();
    assert!(!stored.windows(20).any(|w| w == b"12345678901234567890"));
    // The serial on the shelf, and the file by the store of another realm's daemon: the first code of RFC 4226 is right.
    done(
        &house,
        &["hard-tokens", "resync", "987654321", "84755224", "94287082"],
    );
}

#[test]
fn trap_111_ten_thousand_tokens_are_one_transaction() {
    let house = House::new(3);
    let line = |i: u32| format!("S{i:05},hex:{:040x},totp,6,60\n", u64::from(i) * 7 + 1);
    let text: String = (0..10_000).map(line).collect();
    let file = write(&house, "delivery.csv", &text);
    let _daemon = house.daemon();
    let begun = Instant::now();
    let first = done(&house, &["hard-tokens", "import", &file]);
    assert_eq!(
        (&first["tokens"], &first["imported"]),
        (&json!(10_000), &json!(10_000))
    );
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    let again = done(&house, &["hard-tokens", "import", &file]);
    assert_eq!(
        (&again["imported"], &again["unchanged"]),
        (&json!(0), &json!(10_000))
    );
    assert_eq!(lines(&house, &["hard-tokens", "list"]).len(), 10_000);
}

fn found(house: &House, serial: &str, codes: &[String; 2]) -> bool {
    let said = house.run(&["hard-tokens", "resync", serial, &codes[0], &codes[1]]);
    assert!(
        said.code == 0 || said.err.contains("not two unused codes"),
        "{}",
        said.err
    );
    said.code == 0
}

#[test]
fn trap_107_a_clock_that_is_eight_steps_off_is_found_and_learned() {
    let house = House::new(3);
    let file = write(&house, "delivery.csv", &delivery());
    done(&house, &["hard-tokens", "import", &file]);
    for (steps, drift) in [(-8, -8..=-6), (-5, -6..=-3), (20, 19..=21)] {
        assert!(
            found(&house, "T1", &[clock(steps), clock(steps + 1)]),
            "{steps}"
        );
        let learned = token(&house, "T1")["drift"].as_i64().unwrap();
        assert!(drift.contains(&learned), "{steps}: {learned}");
    }
    // Used up, and all before them; beyond half an hour nothing is looked for.
    assert!(!found(&house, "T1", &[clock(20), clock(21)]));
    assert!(!found(&house, "T1", &[clock(40), clock(41)]));
    assert!(!found(&house, "T1", &[clock(25), clock(27)]));
}

#[test]
fn trap_108_a_button_that_was_pressed_in_a_pocket_is_found_by_two_codes() {
    let house = House::new(3);
    let file = write(&house, "delivery.csv", &delivery());
    done(&house, &["hard-tokens", "import", &file]);
    let two = |at: u32| [button(at), button(at + 1)];
    assert!(found(&house, "H1", &two(30)));
    assert!(found(&house, "H1", &two(230)));
    assert!(!found(&house, "H1", &two(232 + 1200)));
    assert!(!found(&house, "H1", &[button(300), button(302)]));
    assert!(found(&house, "H1", &two(232 + 999)));
    assert!(!found(&house, "H1", &two(900)));
}
