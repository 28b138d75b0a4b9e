//! python-pskc reads the files of its own source, and so do we.

use std::process::Command;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Theirs {
    file: String,
    path: String,
    hostile: bool,
    key: Option<String>,
    passphrase: Option<String>,
    error: Option<String>,
    keys: Vec<Key>,
}

#[derive(Deserialize, Debug)]
struct Key {
    serial: Option<String>,
    id: Option<String>,
    algorithm: Option<String>,
    suite: Option<String>,
    digits: Option<i64>,
    secret: Option<String>,
    counter: Option<i64>,
    period: Option<i64>,
    drift: Option<i64>,
    error: Option<String>,
}

fn files() -> Vec<Theirs> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Command::new(root.join("tests/lab/pskc"))
        .arg("keys")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let lines = String::from_utf8(out.stdout).unwrap();
    let read = |line: &str| serde_json::from_str(line).unwrap();
    lines.lines().map(read).collect()
}

impl Theirs {
    fn options(&self) -> SeedFileOptions {
        match (&self.key, &self.passphrase) {
            (_, Some(passphrase)) => with_passphrase(passphrase),
            (Some(key), None) => SeedFileOptions {
                keys: SeedKeys {
                    key: Some(SeedKeys::read_key(key.as_bytes()).unwrap()),
                    passphrase: None,
                },
                ..SeedFileOptions::default()
            },
            (None, None) => plain(),
        }
    }
}

#[test]
fn trap_104_every_key_of_every_dialect_is_what_another_reader_makes_of_it() {
    let mut compared = 0;
    for file in files().iter().filter(|f| !f.hostile) {
        let name = &file.file;
        assert_eq!(file.error, None, "{name}");
        let bytes = std::fs::read(&file.path).unwrap();
        let text = xml::text(&bytes).unwrap();
        let ours = match pskc::read(&text, &file.options().keys) {
            Ok(container) => container.keys,
            Err(faults) => panic!("{name}: {}", words(&SeedFileFaults::of(faults))),
        };
        assert_eq!(ours.len(), file.keys.len(), "{name}");
        for (ours, theirs) in ours.iter().zip(&file.keys) {
            assert_eq!(ours.serial, theirs.serial, "{name}");
            assert_eq!(ours.id, theirs.id, "{name}");
            assert_eq!(ours.algorithm, theirs.algorithm, "{name}");
            assert_eq!(ours.suite, theirs.suite, "{name}");
            let digits = ours.digits.as_ref().map(|d| d.parse().unwrap());
            assert_eq!(digits, theirs.digits, "{name}");
            // Camellia is refused, by name.
            if name.contains("camellia") {
                let why = ours.secret.as_ref().unwrap_err();
                assert!(why.contains("camellia"), "{why}");
                continue;
            }
            if let Some(error) = &theirs.error {
                assert!(ours.secret.is_err(), "{name}: {error}");
                continue;
            }
            let secret = ours
                .secret
                .as_ref()
                .unwrap_or_else(|why| panic!("{name}: {why}"));
            let secret = secret.as_ref().map(|s| data_encoding::HEXLOWER.encode(s));
            assert_eq!(secret, theirs.secret, "{name}");
            assert_eq!(ours.counter, Ok(theirs.counter), "{name}");
            assert_eq!(ours.period, Ok(theirs.period), "{name}");
            assert_eq!(ours.drift, Ok(theirs.drift), "{name}");
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn every_hostile_file_is_refused_and_no_other_panics() {
    let mut taken = vec![];
    for file in files() {
        let bytes = std::fs::read(&file.path).unwrap();
        match read(&bytes, &file.options()) {
            Ok(_) => {
                assert!(!file.hostile, "{}", file.file);
                taken.push(file.file);
            }
            Err(faults) => assert!(!faults.listed.is_empty() && faults.all > 0),
        }
    }
    // The others hold no HOTP and TOTP tokens, doubles, or what cannot be verified here.
    let whole = [
        "actividentity/test.pskcxml",
        "draft-hoyer-keyprov-portable-symmetric-key-container-00/non-encrypted.pskcxml",
        "draft-hoyer-keyprov-portable-symmetric-key-container-00/password-encrypted.pskcxml",
        "draft-hoyer-keyprov-portable-symmetric-key-container-01/non-encrypted.pskcxml",
        "draft-hoyer-keyprov-portable-symmetric-key-container-01/password-encrypted.pskcxml",
        "draft-hoyer-keyprov-pskc-algorithm-profiles-01/totp.pskcxml",
        "draft-ietf-keyprov-pskc-02/figure2.pskcxml",
        "draft-ietf-keyprov-pskc-02/figure3.pskcxml",
        "draft-ietf-keyprov-pskc-02/figure4.pskcxml",
        "draft-ietf-keyprov-pskc-02/figure5.pskcxml",
        "draft-ietf-keyprov-pskc-02/figure8.pskcxml",
        "feitian/20120919-test001-4282.xml",
        "feitian/file1.pskcxml",
        "multiotp/pskc-hotp-aes.txt",
        "multiotp/pskc-hotp-pbe.txt",
        "multiotp/pskc-totp-aes.txt",
        "multiotp/pskc-totp-pbe.txt",
        "multiotp/tokens_hotp_aes.pskc",
        "multiotp/tokens_hotp_pbe.pskc",
        "multiotp/tokens_totp_aes.pskc",
        "multiotp/tokens_totp_pbe.pskc",
        "rfc6030/figure3.pskcxml",
        "rfc6030/figure5.pskcxml",
        "rfc6030/figure6.pskcxml",
        "rfc6030/figure7.pskcxml",
        "rfc6030/figure9.pskcxml",
    ];
    assert_eq!(taken, whole);
}
