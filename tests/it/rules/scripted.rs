//! Whole runs over a scripted server: what no real one can be made to do at the right moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use realmsync::clock::Clock;
use realmsync::config::{Environment, load};
use realmsync::model::UserFilter;
use realmsync::model::{Outcome, Run, Trigger, User};
use realmsync::store::{Access, RefusedRow, Store, UserPage};
use realmsync::sync::{Engine, RunRequest};

use crate::support::ber_server::{BerServer, Reply, Request, done, entry};
use crate::support::lab::Server;

const BASE: &str = "ou=people,dc=example,dc=org";

/// The engine over a script.
pub struct House {
    pub engine: Engine,
    clock: Clock,
    _server: BerServer,
    _folder: tempfile::TempDir,
}

impl House {
    pub async fn new(
        database: Option<&str>,
        script: impl Fn(&Request) -> Option<Vec<Reply>> + Send + Sync + 'static,
    ) -> Self {
        let server = BerServer::start("389 Project", script).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("realmsync.toml");
        let sqlite = format!("sqlite:{}", folder.path().join("realmsync.db").display());
        let text = format!(
            "version = 1\n[store]\nurl = \"{}\"\n[[realm]]\nid = \"r\"\n[realm.directory]\nkind = \"generic\"\nservers = [\"{}\"]\n\
             insecure-plaintext = true\nchanges = \"full\"\nbind-dn = \"cn=sync\"\nbind-password = \"secret\"\nbase = [\"{BASE}\"]\n",
            database.unwrap_or(&sqlite),
            server.uri()
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let env = Environment::from_process();
        let config = load(&path, &env).expect("a configuration").config;
        let clock = Clock::fixed(Clock::system().now());
        let store = Store::open(&config.store, &env, Access::Write, clock.now())
            .await
            .expect("a store");
        let engine = Engine::new(Arc::new(config), store, clock.clone(), Arc::new(env));
        engine.declare_realms().await.expect("declared");
        Self {
            engine,
            clock,
            _server: server,
            _folder: folder,
        }
    }

    pub async fn pass(&self) -> Run {
        let ask = RunRequest::new(Trigger::Schedule, None);
        let run = self.engine.sync(&"r".into(), ask).await.expect("a run");
        assert_ne!(run.outcome, Outcome::Failed, "{run:?}");
        self.clock.advance_ms(1000);
        run
    }

    async fn users(&self) -> Vec<User> {
        let everybody = UserFilter::default();
        self.engine
            .store
            .list_users(
                &everybody,
                &UserPage::first(100, realmsync::clock::Timestamp(0)),
            )
            .await
            .unwrap()
    }

    async fn refused(&self) -> Vec<(String, String)> {
        let mut all = vec![];
        let each = |r: RefusedRow| all.push((r.refusal.dn, r.refusal.reason));
        self.engine.store.refused_each(None, each).await.unwrap();
        all
    }
}

pub fn uuid(n: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{n:02}")
}

fn person(id: u8, n: u8, dn: &[u8], uid: &str) -> Reply {
    Reply::Send(entry(
        id,
        dn,
        &[
            (b"entryUUID", &[uuid(n).as_bytes()]),
            (b"uid", &[uid.as_bytes()]),
        ],
    ))
}

pub fn at(name: &str) -> Vec<u8> {
    format!("cn={name},{BASE}").into_bytes()
}

pub fn end(id: u8, cookie: &'static [u8]) -> Reply {
    Reply::Send(done(id, 0, Some(cookie)))
}

/// What a search is for.
pub enum For {
    /// A page of everybody.
    Page,
    /// Entries by these numbers.
    Ids(Vec<u8>),
}

pub fn asked(request: &Request) -> Option<For> {
    if request.tag != 0x63 || request.body.starts_with(&[4, 0]) {
        return None;
    }
    let text = String::from_utf8_lossy(&request.body);
    let ids: Vec<u8> = (1..20).filter(|n| text.contains(&uuid(*n))).collect();
    if !ids.is_empty() {
        return Some(For::Ids(ids));
    }
    text.contains("inetOrgPerson").then_some(For::Page)
}

/// One id under two DNs: nobody knows whose it is. The same entry twice over pages is one entry.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_under_two_dns_is_refused_with_both() {
    let pages = AtomicUsize::new(0);
    let house = House::new(None, move |r| {
        Some(match asked(r)? {
            For::Page if pages.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) => vec![
                person(r.id, 1, &at("a"), "ann"),
                person(r.id, 3, &at("c"), "cyd"),
                end(r.id, b"1"),
            ],
            For::Page => vec![
                person(r.id, 1, &at("b"), "bob"),
                person(r.id, 3, &at("c"), "cyd"),
                end(r.id, b""),
            ],
            For::Ids(_) => vec![
                person(r.id, 1, &at("a"), "ann"),
                person(r.id, 1, &at("b"), "bob"),
                end(r.id, b""),
            ],
        })
    })
    .await;
    for _ in 0..2 {
        let run = house.pass().await;
        assert_eq!((run.seen, run.refused_entries), (3, 2), "{run:?}");
        let names: Vec<_> = house
            .users()
            .await
            .into_iter()
            .map(|u| u.username)
            .collect();
        assert_eq!(names, ["cyd"]);
        let refused = house.refused().await;
        assert_eq!(refused.len(), 2, "{refused:?}");
        for ((dn, reason), (own, other)) in refused.iter().zip([("a", "b"), ("b", "a")]) {
            assert_eq!(dn.as_bytes(), at(own));
            assert!(reason.contains(&format!("cn={other},{BASE}")), "{reason}");
        }
    }
}

/// An entry that is renamed between two pages comes under two DNs, and is one all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_renamed_between_two_pages_is_no_double() {
    let pages = AtomicUsize::new(0);
    let house = House::new(None, move |r| {
        Some(match asked(r)? {
            For::Page if pages.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) => {
                vec![person(r.id, 1, &at("a"), "ann"), end(r.id, b"1")]
            }
            For::Page | For::Ids(_) => {
                vec![person(r.id, 1, &at("b"), "ann"), end(r.id, b"")]
            }
        })
    })
    .await;
    let run = house.pass().await;
    assert_eq!((run.created, run.refused_entries), (1, 0), "{run:?}");
}

/// Whoever is contested and has another's new name by the time they are looked up draws that one into the contest.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_between_page_and_look_up_is_settled() {
    let passes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&passes);
    let house = House::new(None, move |r| {
        let later = counted.load(Ordering::SeqCst) > 0;
        let mut replies = vec![];
        match asked(r)? {
            For::Page => {
                replies.push(person(r.id, 1, &at("a"), "ann"));
                if later {
                    replies.push(person(r.id, 4, &at("n"), "ann"));
                    replies.push(person(r.id, 5, &at("e"), "eve"));
                }
            }
            For::Ids(ids) => {
                for n in ids {
                    let (dn, uid) = match n {
                        1 => ("a", "ann"),
                        4 => ("n", "eve"),
                        _ => ("e", "eve"),
                    };
                    replies.push(person(r.id, n, &at(dn), uid));
                }
            }
        }
        replies.push(end(r.id, b""));
        Some(replies)
    })
    .await;
    assert_eq!(house.pass().await.created, 1);
    passes.store(1, Ordering::SeqCst);
    let run = house.pass().await;
    assert_eq!((run.created, run.refused_entries), (0, 2), "{run:?}");
    let refused = house.refused().await;
    assert!(
        refused
            .iter()
            .all(|(_, why)| why.contains("the user name is also that of")),
        "{refused:?}"
    );
    assert_eq!(house.users().await.len(), 1);
}

/// PostgreSQL cannot hold a NUL, and a DN may: what is kept instead is what the next pass sees, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_dn_with_a_nul_differs_once() {
    let postgres = Server::start("postgres", &[]);
    for database in [None, Some(&postgres["DATABASE_URL"])] {
        let house = House::new(database, |r| {
            asked(r)?;
            let dn = format!("cn=a\0b,{BASE}").into_bytes();
            // With a number that is none, she is looked at in each pass.
            let ann = entry(
                r.id,
                &dn,
                &[
                    (b"entryUUID", &[uuid(1).as_bytes()]),
                    (b"uid", &[b"ann"]),
                    (b"mobile", &[b"none"]),
                ],
            );
            Some(vec![Reply::Send(ann), end(r.id, b"")])
        })
        .await;
        assert_eq!(house.pass().await.created, 1);
        let dn = house.users().await.remove(0).dn.unwrap();
        assert_eq!(dn, format!("cn=a\u{fffd}b,{BASE}"));
        let run = house.pass().await;
        assert_eq!(
            (run.outcome, run.updated),
            (Outcome::Unchanged, 0),
            "{run:?}"
        );
    }
}
