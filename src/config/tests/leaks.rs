//! A secret is never shown, wherever it was written, and however broken the rest is.

use proptest::prelude::*;

use super::*;

const CANARY: &str = "Tr0ub4dor-canary";

/// Ways in which a secret is written, right and wrong.
const SHAPES: [&str; 22] = [
    "CANARY",
    "whsec_CANARY",
    "/CANARY",
    "host=127.0.0.1 dbname=lab user=lab password=CANARY",
    "Server=127.0.0.1;Database=lab;User Id=lab;Password=CANARY;",
    "jdbc:postgresql://db.example.org/lab?user=lab&password=CANARY",
    "postgres//lab:CANARY@127.0.0.1/lab",
    "postgres:/lab:CANARY@127.0.0.1/lab",
    "postgres:lab:CANARY@127.0.0.1/lab",
    "lab:CANARY@127.0.0.1:5432/lab",
    "postgres://lab:CANARY",
    "postgres://lab:CANARY@127.0.0.1:1/lab",
    "postgres://lab:CANARY@a:1,b:2/lab",
    "postgres://lab:CANARY@127.0.0.1/lab?sslmod=require",
    "postgres://lab@127.0.0.1/lab?pasword=CANARY",
    "postgres://lab@127.0.0.1/lab#CANARY",
    "mysql://lab:CANARY@127.0.0.1/lab",
    "sqlite:/var/lib/x.db?key=CANARY",
    "https://user:CANARY@hooks.example.org/hook",
    "https//hooks.example.org/hook?token=CANARY",
    "https://hooks.example.org/hook?token=CANARY",
    "ldap.example.org:636 CANARY",
];

/// Every key that holds a secret, the place of one, or a URL, with its section and whether it is a list.
const KEYS: [(&str, &str); 28] = [
    ("[store]", "url"),
    ("[store]", "password"),
    ("[store]", "password-file"),
    ("[store]", "password-credential"),
    ("[store]", "password-env"),
    ("[store]", "pasword-file"),
    ("[store]", "connection-string"),
    ("[http]", "public-url"),
    ("[http]", "tls-key"),
    ("[http]", "tls-cert"),
    ("[delivery]", "url"),
    ("[delivery]", "proxy"),
    ("[delivery]", "ca-file"),
    ("[delivery]", "secret"),
    ("[delivery]", "secret-file"),
    ("[delivery]", "secret-credential"),
    ("[delivery]", "secret-env"),
    ("[delivery]", "previous-secret"),
    ("[delivery]", "previous-secret-file"),
    ("[realm.directory]", "servers"),
    ("[realm.directory]", "client-key"),
    ("[realm.directory]", "bind-password"),
    ("[realm.directory]", "bind-password-file"),
    ("[realm.directory]", "bind-password-credential"),
    ("[realm.directory]", "bind-password-env"),
    ("[realm.directory]", "bind-pass"),
    ("[realm.directory]", "token"),
    ("[realm.brake]", "password"),
];

/// How a value is written down: as TOML wants it, in a list or a table, and in ways that it does not take.
const QUOTES: [&str; 12] = [
    "\"VALUE\"",
    "'VALUE'",
    "[\"VALUE\"]",
    "{ a = \"VALUE\" }",
    "\"\"\"\nVALUE\"\"\"",
    "\"VALUE\" # was VALUE",
    "\"x\" # password = VALUE",
    "VALUE",
    "\"VALUE",
    "'VALUE\"",
    "\"VALUE\" VALUE",
    "\"\"\"\nVALUE\nid = \"VALUE\"",
];

fn told(text: &str) -> String {
    let mut told = String::new();
    for (environment, private) in [(None, true), (Some(&Environment::default()), false)] {
        {
            match check(text, Path::new("realmsync.toml"), private, environment) {
                Ok(loaded) => {
                    told.push_str(&format!("{:?}", loaded.config));
                    for warning in &loaded.warnings {
                        told.push_str(&warning.render(false));
                    }
                }
                Err(faults) => {
                    told.push_str(&faults.render(false));
                    told.push_str(&serde_json::to_string(&faults).unwrap());
                    for fault in faults.all() {
                        told.push_str(&fault.to_string());
                    }
                }
            }
        }
    }
    told
}

/// The good file with the key set so; a key of the same name goes.
fn file(section: &str, key: &str, value: &str) -> String {
    let mut within = false;
    let mut text = String::new();
    for line in GOOD.lines() {
        if line.starts_with('[') {
            within = line == section;
        }
        if !(within && line.starts_with(&format!("{key} ="))) {
            text.push_str(line);
            text.push('\n');
        }
        if line == section {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    text
}

#[test]
fn a_secret_in_any_place_and_any_shape_is_never_shown() {
    // Each key meets each shape, and each shape each way to write it down, without trying all three together.
    for (k, (section, key)) in KEYS.into_iter().enumerate() {
        for (s, shape) in SHAPES.into_iter().enumerate() {
            for quotes in [QUOTES[(k + s) % QUOTES.len()], QUOTES[0]] {
                let value = quotes.replace("VALUE", &shape.replace("CANARY", CANARY));
                let text = file(section, key, &value);
                let told = told(&text);
                let shown = told.lines().find(|l| l.contains(CANARY));
                assert!(shown.is_none(), "{section} {key} = {value}: {shown:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_secret_in_a_file_that_is_broken_elsewhere_is_never_shown(
        key in prop::sample::select(&KEYS[..]),
        shape in prop::sample::select(&SHAPES[..]),
        quotes in prop::sample::select(&QUOTES[..]),
        before in "[a-z\"'\\[\\]{}=# \n]{0,6}",
        at in any::<prop::sample::Index>(),
    ) {
        let value = quotes.replace("VALUE", &shape.replace("CANARY", CANARY));
        let text = file(key.0, key.1, &value);
        let lines: Vec<&str> = text.lines().collect();
        let line = at.index(lines.len());
        let mut broken: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        broken[line].push_str(&before);
        let told = told(&broken.join("\n"));
        let shown = told.lines().find(|l| l.contains(CANARY));
        prop_assert!(shown.is_none(), "{:?} = {}: {:?}", key, value, shown);
    }
}
