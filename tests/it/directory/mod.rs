//! The directory stage against real servers: what the tests of all of them share.

mod dirsync;
mod dirsync_scripted;
mod ds389;
mod names;
mod opening;
pub mod openldap;
mod samba;
pub mod scripted;
mod second_connection;
pub mod syncrepl;
mod syncrepl_389;
mod syncrepl_live;
mod syncrepl_scripted;
mod timestamp;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use realmsync::clock::Clock;
use realmsync::config::{ChangesWay, DirectoryConfig, Secret};
use realmsync::directory::{self, Complete, DirectoryError, Scope, Session};
use realmsync::model::{IdForm, RawEntry};
use tokio::time::Instant;

use crate::support::lab::Server;

/// The configuration for one account of a lab server (`BIND`, `LIMITED`, `BLIND`, …) at one of its addresses.
pub fn config(server: &Server, who: &str, uri: &str) -> DirectoryConfig {
    let mut config = bare(uri, &server["PEOPLE_DN"]);
    config.ca_file = Some(PathBuf::from(&server["CA_FILE"]));
    config.bind_dn = Some(server[&format!("{who}_DN")].to_owned());
    let password = server[&format!("{who}_PASSWORD")].to_owned();
    config.bind_password = Some(Secret::Inline(password.into()));
    config
}

/// A configuration without an account.
pub fn bare(uri: &str, base: &str) -> DirectoryConfig {
    DirectoryConfig {
        kind: None,
        servers: vec![uri.parse().unwrap()],
        start_tls: false,
        ca_file: None,
        client_cert: None,
        insecure_plaintext: true,
        bind_dn: None,
        bind_password: None,
        base: vec![base.to_owned()],
        filter: None,
        page_size: 1000,
        changes: ChangesWay::Full,
        poll_ms: None,
        connect_timeout_ms: 5000,
        run_timeout_ms: 60_000,
        sentinel: None,
    }
}

/// Everybody of a lab server's people, seven a page so that there are pages.
pub fn scope(server: &Server) -> Scope {
    let (filter, id_attribute, id_form) = match &server["SERVER"] {
        "samba" => (
            "(&(objectClass=user)(!(objectClass=computer)))",
            "objectGUID",
            IdForm::Guid,
        ),
        "ds389" => (
            "(objectClass=inetOrgPerson)",
            "nsUniqueId",
            IdForm::NsUniqueId,
        ),
        _ => ("(objectClass=inetOrgPerson)", "entryUUID", IdForm::Uuid),
    };
    Scope {
        bases: vec![server["PEOPLE_DN"].to_owned()],
        filter: filter.to_owned(),
        attributes: [
            "uid",
            "sAMAccountName",
            "cn",
            "mobile",
            "mail",
            "employeeNumber",
        ]
        .map(str::to_owned)
        .to_vec(),
        id_attribute: id_attribute.to_owned(),
        id_form,
        page_size: 7,
    }
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

/// A session as the synchronising account, over TLS.
pub async fn session(server: &Server) -> Session {
    session_as(server, "BIND").await.unwrap()
}

pub async fn session_as(server: &Server, who: &str) -> Result<Session, DirectoryError> {
    connect(&config(server, who, &server["LDAPS_URI"])).await
}

pub async fn connect(config: &DirectoryConfig) -> Result<Session, DirectoryError> {
    directory::connect(config, &Clock::system(), soon()).await
}

/// A whole pass.
pub async fn read(
    session: &mut Session,
    scope: &Scope,
) -> Result<(Complete, Vec<RawEntry>), DirectoryError> {
    let (sender, mut pages) = tokio::sync::mpsc::channel::<Vec<RawEntry>>(4);
    let gather = async {
        let mut all = Vec::new();
        while let Some(page) = pages.recv().await {
            assert!(!page.is_empty(), "an empty page is no page");
            all.extend(page);
        }
        all
    };
    let (complete, entries) = tokio::join!(session.read(scope, sender), gather);
    complete.map(|complete| (complete, entries))
}

/// The first value of an attribute, as text.
pub fn value(entry: &RawEntry, attribute: &str) -> Option<String> {
    entry
        .values(attribute)
        .next()
        .map(|v| String::from_utf8_lossy(v).into_owned())
}

/// The directory id of an entry, by the raw values.
pub fn id_of(entry: &RawEntry, scope: &Scope) -> realmsync::model::DirectoryId {
    let name = scope.id_attribute.to_lowercase();
    let raw = entry.values(&name).next().expect("an id");
    match scope.id_form {
        IdForm::Guid => realmsync::model::DirectoryId(raw.try_into().expect("16 bytes")),
        form => realmsync::model::DirectoryId::parse(std::str::from_utf8(raw).unwrap(), form)
            .expect("an id"),
    }
}

/// The entry of a user name.
pub async fn named(session: &mut Session, scope: &Scope, attribute: &str, name: &str) -> RawEntry {
    let mut found = session
        .find_by_name(scope, &[attribute.to_owned()], name)
        .await
        .unwrap();
    assert_eq!(found.len(), 1, "{name}");
    found.remove(0)
}
