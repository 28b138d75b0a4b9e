//! Whole files: each fault as it is shown, and what is said of the files that they name.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::load;
use super::*;
use crate::clock::zones::Zones;

mod accidents;
mod leaks;
mod shipped;

/// A file without faults; `SECRET` and `CA` stand for files that are there.
const GOOD: &str = r#"version = 1

[store]
url = "sqlite:/var/lib/realmsync/realmsync.db"

[http]
listen = "127.0.0.1:8420"
public-url = "https://mfa.example.org"

[delivery]
kind = "webhook"
url = "https://hooks.example.org/realmsync"
secret = "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"

[[realm]]
id = "example.org"
schedule = "*/15 * * * *"
time-zone = "Europe/Bratislava"
two-factor = ["app-otp"]

[realm.directory]
kind = "openldap"
servers = ["ldaps://ldap.example.org"]
bind-dn = "cn=sync,dc=example,dc=org"
bind-password = "hunter2"
base = ["ou=people,dc=example,dc=org"]
filter = "(objectClass=inetOrgPerson)"

[realm.attributes]
phone = ["mobile"]

[realm.phone]
region = "SK"

[realm.removal]
grace = "30d"

[realm.brake]
suspended = "5%"
"#;

/// A check with the time zones that are built in.
fn check(
    text: &str,
    path: &Path,
    private: bool,
    environment: Option<&Environment>,
) -> Result<Loaded, Faults> {
    load::check(text, path, private, environment, Zones::built_in())
}

fn read(text: &str) -> Result<Loaded, Faults> {
    check(
        text,
        Path::new("realmsync.toml"),
        true,
        Some(&Environment::default()),
    )
}

/// The good file with one part replaced.
fn with(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "{from}");
    GOOD.replace(from, to)
}

/// The good file with a line added below a header.
fn add(header: &str, line: &str) -> String {
    with(&format!("{header}\n"), &format!("{header}\n{line}\n"))
}

/// What is said of a file: its faults, or the warnings of one that is taken.
fn said(text: &str) -> String {
    match read(text) {
        Ok(loaded) => {
            let warnings: Vec<String> = loaded.warnings.iter().map(|w| w.render(false)).collect();
            format!("{}\n\ntaken", warnings.join("\n\n"))
        }
        Err(faults) => faults.render(false),
    }
}

#[test]
fn the_good_file_is_good() {
    let loaded = read(GOOD).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let config = loaded.config;
    let realm = &config.realms[0];
    assert_eq!(config.realms.len(), 1);
    assert_eq!(
        (
            realm.name.as_str(),
            realm.directory.page_size,
            realm.brake.percent[3],
            realm.policy.grace_ms
        ),
        ("example.org", 1000, 2.0, 30 * 86_400_000)
    );
    assert_eq!(realm.delivery.as_ref().map(|d| d.concurrency), Some(16));
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("c2VjcmV0"),
        "{shown}"
    );
}

/// One snapshot a fault: `insta` names them after the case.
macro_rules! faults {
    ($($name:ident: $text:expr;)+) => {
        $(#[test] fn $name() {
            let text = said($text.as_ref());
            assert!(!text.contains("hunter2") && !text.contains("c2VjcmV0"), "{text}");
            insta::assert_snapshot!(stringify!($name), text);
        })+
    };
}

faults! {
    unknown_key_near: add("[realm.phone]", "regoin = \"SK\"");
    unknown_key_of_another_section: add("[realm.phone]", "grace = \"30d\"");
    unknown_key_far: add("[realm.phone]", "colour = \"red\"");
    unknown_key_with_underscore: with("bind-dn =", "bind_dn =");
    unknown_section: with("[realm.removal]", "[realm.removals]");
    unknown_key_that_sounds_secret: add("[realm.directory]", "bind-pasword = \"hunter2\"");
    several_unknown_keys: GOOD.replace("kind =", "kinds =").replace("[realm.brake]", "[realm.brakes]").replace("version", "versoin");
    type_integer_for_duration: with("grace = \"30d\"", "grace = 30");
    type_integer_for_percent: with("suspended = \"5%\"", "suspended = 5");
    type_string_for_boolean: add("[realm.directory]", "start-tls = \"yes\"");
    type_string_for_integer: add("[realm.directory]", "page-size = \"500\"");
    type_list_for_text: with("id = \"example.org\"", "id = [\"example.org\"]");
    type_in_a_list: with("[\"app-otp\"]", "[\"app-otp\", 7]");
    type_text_for_table: with("[store]", "log = \"info\"\n\n[store]");
    type_single_brackets: with("[[realm]]", "[realm]");
    type_of_a_secret: with("bind-password = \"hunter2\"", "bind-password = [\"hunter2\"]");
    type_huge_integer: add("[realm.directory]", "page-size = 99999999999999999999");
    missing_version: with("version = 1\n", "");
    other_version: with("version = 1", "version = 2");
    missing_id: with("id = \"example.org\"\n", "");
    missing_directory: GOOD[..GOOD.find("[realm.directory]").unwrap()];
    missing_in_directory: with("servers = [\"ldaps://ldap.example.org\"]\n", "").replace("base = [\"ou=people,dc=example,dc=org\"]\n", "");
    missing_in_http: with("listen = \"127.0.0.1:8420\"\npublic-url = \"https://mfa.example.org\"\n", "");
    missing_in_delivery: with("url = \"https://hooks.example.org/realmsync\"\nsecret = \"whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0\"\n", "");
    no_realm: "version = 1\n";
    empty_text: with("id = \"example.org\"", "id = \" \"");
    empty_lists: with("[\"ldaps://ldap.example.org\"]", "[]").replace("[\"ou=people,dc=example,dc=org\"]", "[]").replace("[\"mobile\"]", "[]");
    id_with_a_slash: with("id = \"example.org\"", "id = \"example/org\"");
    cron_six_fields: with("*/15 * * * *", "0 */15 * * * *");
    cron_range: with("*/15 * * * *", "*/15 9-25 * * *");
    cron_word: with("*/15 * * * *", "@reboot");
    time_zone_near: with("Europe/Bratislava", "Europe/Bratislave");
    time_zone_city: with("Europe/Bratislava", "bratislava");
    time_zone_far: with("Europe/Bratislava", "Moon/Tranquillity");
    filter_unbalanced: with("(objectClass=inetOrgPerson)", "(&(objectClass=inetOrgPerson)(uid=*)");
    filter_closes_too_much: with("(objectClass=inetOrgPerson)", "(objectClass=inetOrgPerson))");
    dn_bad: with("[\"ou=people,dc=example,dc=org\"]", "[\"ou=people;dc=example\"]");
    dn_empty: with("[\"ou=people,dc=example,dc=org\"]", "\"\"");
    sentinel_bad: add("[realm.directory]", "sentinel = \"canary\"");
    url_bad: with("https://hooks.example.org/realmsync", "https//hooks.example.org");
    url_scheme: with("ldaps://ldap.example.org", "ldap.example.org:636");
    url_scheme_near: with("ldaps://ldap.example.org", "ldasp://ldap.example.org");
    url_without_host: with("ldaps://ldap.example.org", "ldaps:///");
    url_of_a_search: with("ldaps://ldap.example.org", "ldaps://ldap.example.org/dc=example,dc=org?uid");
    url_with_password: with("https://hooks.example.org/realmsync", "https://me:hunter2@hooks.example.org/x?token=hunter2");
    ldap_in_the_clear: with("ldaps://ldap.example.org", "ldap://ldap.example.org");
    ldap_in_the_clear_allowed: with("ldaps://ldap.example.org", "ldap://ldap.example.org").replace("[realm.directory]", "[realm.directory]\ninsecure-plaintext = true");
    start_tls_with_ldaps: add("[realm.directory]", "start-tls = true");
    webhook_in_the_clear: with("https://hooks.example.org/realmsync", "http://hooks.example.org/realmsync");
    webhook_in_the_clear_allowed: with("https://hooks.example.org/realmsync", "http://hooks.example.org/realmsync").replace("[delivery]", "[delivery]\ninsecure-plaintext = true");
    listen_beyond_loopback: with("127.0.0.1:8420", "0.0.0.0:8420");
    listen_bad: with("127.0.0.1:8420", "localhost:8420");
    tls_half: add("[http]", "tls-cert = \"/nowhere/cert.pem\"");
    percent_impossible: with("suspended = \"5%\"", "suspended = \"105%\"\nremoved = \"5\"");
    region_unknown: with("region = \"SK\"", "region = \"UK\"");
    region_of_three_letters: with("region = \"SK\"", "region = \"SVK\"");
    two_factor_unknown: with("[\"app-otp\"]", "[\"app-opt\", \"app-push\", \"app-push\"]");
    word_unknown: add("[[realm]]", "new-users = \"sent\"");
    kind_unknown: with("kind = \"openldap\"", "kind = \"ad\"");
    kind_not_there_yet: with("kind = \"webhook\"", "kind = \"sms\"");
    changes_of_another_kind: add("[realm.directory]", "changes = \"dirsync\"");
    realms_with_one_id: format!("{GOOD}{}", GOOD[GOOD.find("[[realm]]").unwrap()..].replace("ldap.example.org", "ldap2.example.org"));
    realms_over_one_directory: format!("{GOOD}{}", GOOD[GOOD.find("[[realm]]").unwrap()..].replace("id = \"example.org\"", "id = \"other\"").replace("ou=people,", "ou=a,OU=People, "));
    bases_overlap: with("[\"ou=people,dc=example,dc=org\"]", "[\"ou=people,dc=example,dc=org\", \"ou=staff,OU=People,DC=example,DC=org\"]");
    secret_twice: add("[realm.directory]", "bind-password-file = \"/nowhere/secret\"");
    secret_of_nothing: with("bind-password = \"hunter2\"\n", "");
    secret_without_an_account: with("bind-dn = \"cn=sync,dc=example,dc=org\"\n", "");
    secret_nowhere: with("bind-password = \"hunter2\"", "bind-password-file = \"/nowhere/secret\"");
    secret_empty: with("bind-password = \"hunter2\"", "bind-password = \"\"");
    secret_variable: with("bind-password = \"hunter2\"", "bind-password-env = \"BIND_PASSWORD\"");
    secret_credential_outside: with("bind-password = \"hunter2\"", "bind-password-credential = \"example-bind\"");
    secret_credential_name: with("bind-password = \"hunter2\"", "bind-password-credential = \"../etc/shadow\"");
    secret_not_for_signing: with("whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0", "hunter2");
    secret_relative_path: with("bind-password = \"hunter2\"", "bind-password-file = \"secret\"");
    anonymous: with("bind-dn = \"cn=sync,dc=example,dc=org\"\nbind-password = \"hunter2\"\n", "");
    store_password_twice: with("sqlite:/var/lib/realmsync/realmsync.db\"", "postgres://me:hunter2@db.example.org/realmsync?sslmode=require\"\npassword-env = \"X\"");
    store_unknown: with("sqlite:/var/lib/realmsync/realmsync.db", "mysql://me:hunter2@db.example.org/realmsync");
    store_relative: with("sqlite:/var/lib/realmsync/realmsync.db", "sqlite:realmsync.db");
    store_password_for_a_file: add("[store]", "password-env = \"X\"");
    store_of_another_tool: with("sqlite:/var/lib/realmsync/realmsync.db", "host=db.example.org user=me password=hunter2");
    store_without_its_scheme: with("sqlite:/var/lib/realmsync/realmsync.db", "postgres//me:hunter2@db.example.org/realmsync");
    store_with_several_hosts: with("sqlite:/var/lib/realmsync/realmsync.db", "postgres://me@a.example.org:5432,b.example.org:5432/realmsync");
    store_with_misspelt_parameters: with("sqlite:/var/lib/realmsync/realmsync.db", "postgres://me@localhost/realmsync?sslmod=require&target_session_attrs=read-write&colour=red");
    store_with_an_unknown_sslmode: with("sqlite:/var/lib/realmsync/realmsync.db", "postgres://me@db.example.org/realmsync?sslmode=verify-fully");
    store_in_the_clear: with("sqlite:/var/lib/realmsync/realmsync.db", "postgres://me@db.example.org/realmsync");
    store_in_the_clear_allowed: with("sqlite:/var/lib/realmsync/realmsync.db\"", "postgres://me@db.example.org/realmsync?sslmode=prefer\"\ninsecure-plaintext = true");
    secret_where_a_path_belongs: with("bind-password = \"hunter2\"", "bind-password-file = \"whsec_hunter2\"");
    secret_where_a_name_belongs: with("bind-password = \"hunter2\"", "bind-password-credential = \"hunter2\"");
    page_size: add("[realm.directory]", "page-size = 0");
    duration_bad: with("grace = \"30d\"", "grace = \"a month\"");
    duration_zero: with("grace = \"30d\"", "grace = \"0d\"");
    duration_short_grace: with("grace = \"30d\"", "grace = \"10m\"");
    duration_endless: with("grace = \"30d\"", "grace = \"99999999999d\"");
    attribute_bad: with("[\"mobile\"]", "[\"mobile;lang-fi\", \"tele phone\", \"uid\", \"UID\"]");
    disabled_half: add("[realm.attributes]", "disabled = { attribute = \"employeeType\" }");
    socket_too_long: with("[store]", &format!("[control]\nsocket = \"/run/{}\"\n\n[store]", "x".repeat(120)));
    syntax: with("grace = \"30d\"", "grace = 30d");
    syntax_in_a_secret: with("bind-password = \"hunter2\"", "bind-password = \"hunter2");
    syntax_twice: add("[realm.phone]", "region = \"CZ\"");
    many_at_once: GOOD.replace("*/15 * * * *", "* *").replace("ldaps:", "ldap:").replace("SK", "XX").replace("5%", "5").replace("30d", "-1d").replace("url = \"https:", "urls = \"http:");
}

#[test]
fn a_database_on_this_machine_or_with_tls_needs_no_leave_to_be_spoken_to_in_the_clear() {
    for url in [
        "postgres://me@localhost/x",
        "postgres://me@127.0.0.1:5433/x",
        "postgres://me@[::1]/x",
        "postgres:///x?host=/run/postgresql",
        "postgres://me@%2Frun%2Fpostgresql/x",
        "postgres:///x",
        "postgres://me@db.example.org/x?sslmode=require",
        "postgres://me@db.example.org/x?sslmode=verify-full&sslrootcert=/etc/ca.pem",
    ] {
        let loaded = read(&with("sqlite:/var/lib/realmsync/realmsync.db", url));
        assert!(loaded.is_ok_and(|l| l.warnings.is_empty()), "{url}");
    }
    for url in [
        "postgres://me@db.example.org/x?sslmode=prefer",
        "postgres://me@10.0.0.7/x",
        "postgres:///x?host=db.example.org",
        "postgres://me@localhost/x?hostaddr=10.0.0.7",
        "postgres://me@localhost.example.org/x",
    ] {
        let faults = read(&with("sqlite:/var/lib/realmsync/realmsync.db", url)).unwrap_err();
        assert!(
            faults.to_string().contains("insecure-plaintext"),
            "{url}: {faults}"
        );
    }
}

fn write(path: &Path, text: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A machine on which everything that the samples name is in order.
fn machine() -> (tempfile::TempDir, Environment) {
    let root = tempfile::tempdir().unwrap();
    let etc = root.path().join("etc/realmsync");
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["mfa.example.org".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    write(&etc.join("ca.pem"), certificate.pem().as_bytes(), 0o644);
    write(&etc.join("tls.pem"), certificate.pem().as_bytes(), 0o644);
    write(
        &etc.join("tls-key.pem"),
        key.serialize_pem().as_bytes(),
        0o600,
    );
    let signing = b"whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0\n";
    for name in ["webhook-secret", "partners-secret"] {
        write(&etc.join(name), signing, 0o600);
    }
    for name in ["corp-bind", "partners-bind"] {
        write(&etc.join(name), b"hunter2\n", 0o600);
    }
    let credentials = root.path().join("run/credentials/realmsync.service");
    for name in ["webhook-secret", "webhook-secret-before"] {
        write(&credentials.join(name), signing, 0o400);
    }
    for name in ["example-bind", "staff-bind", "store-password"] {
        write(&credentials.join(name), b"hunter2\n", 0o400);
    }
    let environment = Environment::of([(
        "CREDENTIALS_DIRECTORY",
        "/run/credentials/realmsync.service",
    )])
    .rooted(root.path());
    (root, environment)
}

fn samples() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut samples: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    samples.sort();
    samples
}

#[test]
fn a_secret_in_a_file_for_all_is_a_fault() {
    let (root, environment) = machine();
    let place = root.path().join("etc/realmsync/realmsync.toml");
    for (mode, wanted) in [(0o600, 0), (0o400, 0), (0o640, 2), (0o604, 2)] {
        write(&place, GOOD.as_bytes(), mode);
        let faults = load(Path::new("/etc/realmsync/realmsync.toml"), &environment)
            .map_or_else(|e| e.faults, |_| Vec::new());
        assert_eq!(faults.len(), wanted, "{mode:o}: {faults:?}");
        assert!(
            faults
                .iter()
                .all(|f| f.message == "a secret stands in a file that others can read")
        );
    }
    write(
        &place,
        with(
            "sqlite:/var/lib/realmsync/realmsync.db",
            "postgres://me:hunter2@localhost/x",
        )
        .as_bytes(),
        0o644,
    );
    let faults = load(Path::new("/etc/realmsync/realmsync.toml"), &environment).unwrap_err();
    assert_eq!(faults.faults.len(), 3);
    assert!(
        !faults.to_string().contains("hunter2")
            && faults.to_string().contains("postgres://me:•••@localhost/x"),
        "{faults}"
    );
}

#[test]
fn files_that_are_named_are_looked_at() {
    let (root, environment) = machine();
    let etc = root.path().join("etc/realmsync");
    let (_, text) = samples()
        .into_iter()
        .find(|(p, _)| p.ends_with("active-directory.toml"))
        .unwrap();
    write(&etc.join("realmsync.toml"), text.as_bytes(), 0o644);
    write(&etc.join("corp-bind"), b"hunter2\n", 0o644);
    write(&etc.join("partners-bind"), b"\n", 0o600);
    write(&etc.join("partners-secret"), b"hunter2 hunter2", 0o600);
    write(&etc.join("ca.pem"), b"hunter2", 0o600);
    write(&etc.join("tls-key.pem"), b"hunter2", 0o640);
    fs::remove_file(etc.join("webhook-secret")).unwrap();
    let faults = load(Path::new("/etc/realmsync/realmsync.toml"), &environment).unwrap_err();
    assert!(!faults.to_string().contains("hunter2"));
    insta::assert_snapshot!("files_that_are_named", faults.to_string());
    assert!(load_without_files(Path::new("/etc/realmsync/realmsync.toml"), &environment).is_ok());
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("realmsync.toml");
    let said = |path: &Path| {
        load(path, &Environment::default())
            .unwrap_err()
            .to_string()
            .replace(folder.path().to_str().unwrap(), "/x")
    };
    let mut all = vec![said(&path), said(folder.path())];
    write(&path, b"version = 1\nname = \"\xff\"\n", 0o600);
    all.push(said(&path));
    write(&path, &vec![b'#'; 5 << 20], 0o600);
    all.push(said(&path));
    insta::assert_snapshot!("unreadable", all.join("\n\n"));
}

#[test]
fn faults_are_objects_in_json() {
    let faults = read(&with("suspended = \"5%\"", "suspended = \"500%\"")).unwrap_err();
    insta::assert_json_snapshot!("json", faults);
    assert_eq!(
        faults.faults[0].to_string(),
        "realmsync.toml:39:13: `500%` is an impossible percentage (a number from 0 to 100 and `%`, as \"5%\" or \"0.5%\")"
    );
    assert!(faults.render(true).contains('\u{1b}') && !faults.render(false).contains('\u{1b}'));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let text = said(&with(
        "region = \"SK\"",
        "region = \"\\u001b[31mSK\"\n\"\\u001b[31m\" = 1",
    ));
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn the_default_path_can_be_named() {
    assert_eq!(
        default_path(&Environment::default()),
        Path::new("/etc/realmsync/realmsync.toml")
    );
    assert_eq!(
        default_path(&Environment::of([("REALMSYNC_CONFIG", "/x.toml")])),
        Path::new("/x.toml")
    );
}
