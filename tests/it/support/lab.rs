//! The lab's servers as values: started on free ports in a folder of their own, gone when dropped.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Index;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A running server of the lab; indexed by the names of its facts (`LDAP_URI`, `BIND_DN`, `DATABASE_URL`, …).
pub struct Server {
    kind: &'static str,
    facts: BTreeMap<String, String>,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts `openldap`, `ds389`, `samba` or `postgres` with the script's own options (`--users 100`, `--cert expired`, …).
    pub fn start(kind: &'static str, options: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix(&format!("lab-{kind}-"))
            .tempdir()
            .expect("a temporary folder");
        let mut server = Self {
            kind,
            facts: BTreeMap::new(),
            folder,
        };
        // A port that was free when it was picked may be taken when it is used.
        let mut said = Ok(());
        for _ in 0..3 {
            said = server.script(
                "start",
                &[&["--fresh"], server.free_ports(), options].concat(),
            );
            if said.is_ok() {
                server.read_facts();
                return server;
            }
        }
        panic!("it did not start (tests/lab/install installs it): {said:?}");
    }

    /// The same for one that goes and comes: nobody else's Samba may take its address meanwhile.
    pub fn lasting(kind: &'static str, options: &[&str]) -> Self {
        let process = std::process::id();
        let address = format!("127.0.{}.{}", 100 + process / 250 % 100, 1 + process % 250);
        let own = ["--address", &address];
        let own = if kind == "samba" { &own[..] } else { &[] };
        Self::start(kind, &[options, own].concat())
    }

    /// Options that make the script pick free ports or a free address.
    fn free_ports(&self) -> &'static [&'static str] {
        match self.kind {
            "openldap" | "ds389" => &["--port", "0", "--ldaps-port", "0"],
            "samba" => &["--address", "auto"],
            _ => &["--port", "0"],
        }
    }

    /// The folder with everything of this server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// kill -9: nothing is said to clients, nothing written that was not.
    pub fn crash(&self) {
        self.expect("crash");
    }

    /// Stops it in order; [`Server::resume`] starts it again with the same data and ports.
    pub fn stop(&self) {
        self.expect("stop");
    }

    /// Starts it again as it was left.
    pub fn resume(&mut self) {
        self.expect("start");
        self.read_facts();
    }

    /// A replica hears nothing of the other one any more.
    pub fn cut(&self) {
        self.expect("cut");
    }

    /// It follows the other one again.
    pub fn join(&self) {
        self.expect("join");
    }

    /// Applies LDIF as the directory's administrator.
    pub fn modify(&self, ldif: &str) {
        self.ldapmodify("ADMIN", ldif);
    }

    /// Applies LDIF to slapd's own configuration: ACLs, limits, overlays.
    pub fn configure(&self, ldif: &str) {
        self.ldapmodify("CONFIG", ldif);
    }

    /// Makes changes as `churn` describes them (`--phone 3 --delete 2`); what was done comes back as JSON.
    pub fn churn(&self, what: &[&str]) -> serde_json::Value {
        let output = Command::new(lab("churn"))
            .arg("--dir")
            .arg(self.folder())
            .args(what)
            .output()
            .expect("churn runs");
        assert!(
            output.status.success(),
            "churn: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("churn prints JSON")
    }

    fn ldapmodify(&self, who: &str, ldif: &str) {
        // Samba takes passwords over TLS only.
        let uri = if self.kind == "samba" {
            "LDAPS_URI"
        } else {
            "LDAP_URI"
        };
        let (dn, password) = (
            &self[&format!("{who}_DN")],
            &self[&format!("{who}_PASSWORD")],
        );
        let mut child = Command::new("ldapmodify")
            .args(["-x", "-H", &self[uri], "-D", dn, "-w", password])
            .env("LDAPTLS_CACERT", &self["CA_FILE"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ldapmodify is installed");
        child
            .stdin
            .take()
            .expect("its input is piped")
            .write_all(ldif.as_bytes())
            .expect("it reads its input");
        let output = child.wait_with_output().expect("it ends");
        assert!(
            output.status.success(),
            "ldapmodify: {}\n{ldif}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Runs the server's script; what it says of a failure comes back.
    fn script(&self, action: &str, options: &[&str]) -> Result<(), String> {
        // The server inherits what is open: a pipe would not end before it does, so the script speaks into a file.
        let said = self.folder().with_extension("said");
        let status = Command::new(lab(self.kind))
            .arg(action)
            .arg("--dir")
            .arg(self.folder())
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&said).expect("a file beside the folder"))
            .status()
            .expect("the lab's script runs");
        let text = std::fs::read_to_string(&said).unwrap_or_default();
        let _gone = std::fs::remove_file(said);
        if status.success() {
            Ok(())
        } else {
            Err(format!("{} {action}: {text}", self.kind))
        }
    }

    fn expect(&self, action: &str) {
        self.script(action, &[])
            .unwrap_or_else(|said| panic!("{said}"));
    }

    fn read_facts(&mut self) {
        let text = std::fs::read_to_string(self.folder().join("facts"))
            .expect("a server that runs has facts");
        self.facts = text
            .lines()
            .filter_map(|l| l.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
    }
}

impl Index<&str> for Server {
    type Output = str;

    fn index(&self, name: &str) -> &str {
        self.facts
            .get(name)
            .unwrap_or_else(|| panic!("{} has no fact {name}", self.kind))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _tried = self.script("stop", &["--purge"]);
    }
}

fn lab(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/lab")
        .join(script)
}

/// The people that one account sees.
fn people(server: &Server, who: &str) -> usize {
    let (uri, class) = match server.kind {
        "samba" => ("LDAPS_URI", "user"),
        _ => ("LDAP_URI", "inetOrgPerson"),
    };
    let output = Command::new("ldapsearch")
        .args(["-x", "-LLL", "-H", &server[uri], "-b", &server["PEOPLE_DN"]])
        .args([
            "-D",
            &server[&format!("{who}_DN")],
            "-w",
            &server[&format!("{who}_PASSWORD")],
        ])
        .args([
            "-E",
            "pr=100/noprompt",
            &format!("(objectClass={class})"),
            "1.1",
        ])
        .env("LDAPTLS_CACERT", &server["CA_FILE"])
        .output()
        .expect("ldapsearch is installed");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|l| l.starts_with("dn:"))
        .count()
}

#[test]
fn slapd_is_seeded_changed_configured_and_survives_a_crash() {
    let mut server = Server::start("openldap", &["--users", "30"]);
    assert_eq!(people(&server, "BIND"), 30);
    assert_eq!(people(&server, "BLIND"), 0);

    let did = server.churn(&["--phone", "2", "--delete", "3"]);
    assert_eq!(
        did["counts"],
        serde_json::json!({ "phone": 2, "delete": 3 })
    );
    assert_eq!(people(&server, "BIND"), 27);

    server.configure(
        "dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\nadd: olcAccess\n\
         olcAccess: {0}to dn.subtree=\"ou=people,dc=example,dc=org\" by dn.exact=\"cn=sync,ou=services,dc=example,dc=org\" none by * break\n",
    );
    assert_eq!(people(&server, "BIND"), 0);

    server.crash();
    assert_eq!(people(&server, "ADMIN"), 0, "nobody answers");
    server.resume();
    assert_eq!(people(&server, "ADMIN"), 27, "the data is as it was left");
    assert_eq!(people(&server, "BIND"), 0, "and so is the configuration");
}

#[test]
fn two_servers_run_side_by_side() {
    let mut one = Server::start("openldap", &["--users", "5"]);
    let other = Server::start("openldap", &["--users", "6"]);
    assert_ne!(one["PORT"], other["PORT"]);
    assert_eq!((people(&one, "BIND"), people(&other, "BIND")), (5, 6));

    one.modify("dn: ou=more,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: organizationalUnit\nou: more\n");
    one.stop();
    assert_eq!(people(&one, "BIND"), 0, "nobody answers");
    assert_eq!(people(&other, "BIND"), 6);
    one.resume();
    one.modify("dn: ou=more,ou=people,dc=example,dc=org\nchangetype: delete\n");
}

#[test]
fn ds389_and_samba_have_their_people() {
    for kind in ["ds389", "samba"] {
        let server = Server::start(kind, &["--users", "12"]);
        assert_eq!(people(&server, "BIND"), 12, "{kind}");
        server.churn(&["--delete", "2", "--phone", "1"]);
        assert_eq!(people(&server, "BIND"), 10, "{kind}");
    }
}

#[test]
fn postgres_takes_connections() {
    let server = Server::start("postgres", &[]);
    let output = Command::new("psql")
        .args([&server["DATABASE_URL"], "-Atc", "SELECT 6 * 7"])
        .output()
        .expect("psql is installed");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n");
}
