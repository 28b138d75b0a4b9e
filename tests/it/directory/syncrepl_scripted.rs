//! Content synchronisation against answers that no real server gives: an error, never a panic, and nobody is absent for it.

use std::time::Duration;

use realmsync::directory::{Cursor, Delta, NoDelta, Scope, Session, Way};
use realmsync::model::{DirectoryId, ErrorCode, IdForm};

use crate::directory::syncrepl::{cookie_of, not_offered, over};
use crate::directory::{bare, connect};
use crate::support::ber_server::{BerServer, Reply, Request, entry, message, result, tlv};

const BASE: &str = "ou=people,dc=example,dc=org";
const NOW: &[u8] = b"rid=000,csn=20261124142644.190338Z#000000#000#000000";
const LATER: &[u8] = b"rid=000,csn=20261124150000.000000Z#000000#000#000000";

fn control(oid: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(0x04, oid), tlv(0x04, value)].concat())
}

fn done_control(cookie: Option<&[u8]>, deletes: u8) -> Vec<u8> {
    let cookie = cookie.map(|c| tlv(0x04, c)).unwrap_or_default();
    let value = tlv(0x30, &[cookie, vec![1, 1, deletes]].concat());
    control(b"1.3.6.1.4.1.4203.1.9.1.3", &value)
}

fn ended(id: u8, code: u8, cookie: Option<&[u8]>, deletes: u8) -> Reply {
    Reply::Send(result(
        id,
        0x65,
        code,
        b"",
        Some(&done_control(cookie, deletes)),
    ))
}

fn info(id: u8, value: &[u8]) -> Reply {
    let parts = [tlv(0x80, b"1.3.6.1.4.1.4203.1.9.1.4"), tlv(0x81, value)].concat();
    Reply::Send(message(id, &tlv(0x79, &parts), None))
}

fn person(id: u8, state: u8, n: u8) -> Reply {
    let value = tlv(0x30, &[vec![0x0a, 1, state], tlv(0x04, &[n; 16])].concat());
    let body = [tlv(0x04, b"uid=x"), tlv(0x30, b"")].concat();
    let state = control(b"1.3.6.1.4.1.4203.1.9.1.2", &value);
    Reply::Send(message(id, &tlv(0x64, &body), Some(&state)))
}

fn scope() -> Scope {
    Scope {
        bases: vec![BASE.into()],
        filter: "(objectClass=person)".into(),
        attributes: vec![],
        id_attribute: "entryUUID".into(),
        id_form: IdForm::Uuid,
        page_size: 2,
    }
}

/// A session and a cursor of a server whose searches of the whole tree the script answers.
async fn started(
    script: impl Fn(&Request) -> Vec<Reply> + Send + Sync + 'static,
) -> (BerServer, Session, Cursor) {
    let server = BerServer::start("OpenLDAP", move |r| {
        if r.tag != 0x63 {
            return None;
        }
        if r.body.starts_with(&[4, 0]) {
            let dse = entry(
                r.id,
                b"",
                &[
                    (b"vendorName", &[b"OpenLDAP"]),
                    (b"supportedControl", &[b"1.3.6.1.4.1.4203.1.9.1.1"]),
                    (b"namingContexts", &[b"dc=example,dc=org"]),
                ],
            );
            return Some(vec![Reply::Send(dse), ended(r.id, 0, None, 0xff)]);
        }
        let whole_tree = r.body.windows(3).any(|w| w == [0x0a, 1, 2]);
        Some(if whole_tree {
            script(r)
        } else {
            vec![ended(r.id, 0, Some(NOW), 0xff)]
        })
    })
    .await;
    let mut session = connect(&bare(&server.uri(), BASE)).await.unwrap();
    let cursor = session.cursor_now(&scope(), Way::Push).await.unwrap();
    assert_eq!(cookie_of(&cursor).as_bytes(), NOW);
    (server, session, cursor)
}

async fn polled(
    script: impl Fn(&Request) -> Vec<Reply> + Send + Sync + 'static,
) -> Result<Delta, NoDelta> {
    let (_server, mut session, cursor) = started(script).await;
    let scope = scope();
    let wait = session.changes_since(&scope, &cursor);
    tokio::time::timeout(Duration::from_secs(5), wait)
        .await
        .expect("an end")
}

fn incomplete(answer: Result<Delta, NoDelta>, words: &str) {
    let Err(NoDelta::Directory(e)) = answer else {
        panic!("{words}: {answer:?}")
    };
    assert_eq!(e.code(), ErrorCode::Incomplete, "{e}");
    assert!(e.to_string().contains(words), "{words}: {e}");
}

#[tokio::test]
async fn a_cookie_is_taken_from_the_end_only_and_without_one_the_old_one_stays() {
    let ids = tlv(
        0xa3,
        &[
            tlv(0x04, LATER),
            vec![1, 1, 0xff],
            tlv(0x31, &tlv(0x04, &[3; 16])),
        ]
        .concat(),
    );
    let told = ids.clone();
    let delta = polled(move |r| {
        vec![
            person(r.id, 1, 1),
            info(r.id, &told),
            info(r.id, &tlv(0x80, LATER)),
            ended(r.id, 0, None, 0xff),
        ]
    })
    .await
    .unwrap();
    assert_eq!(delta.cursor, None);
    assert_eq!(
        (&delta.touched[..], &delta.gone[..]),
        (&[DirectoryId([1; 16])][..], &[DirectoryId([3; 16])][..])
    );
    let delta = polled(move |r| vec![info(r.id, &ids), ended(r.id, 0, Some(LATER), 0xff)])
        .await
        .unwrap();
    assert_eq!(cookie_of(&delta.cursor.unwrap()).as_bytes(), LATER);

    // Everybody again, and an empty cookie: slapd took ours for none.
    let why = over(polled(|r| vec![person(r.id, 1, 1), ended(r.id, 0, Some(b""), 0xff)]).await);
    assert!(why.contains("a cookie that is none"), "{why}");
}

#[tokio::test]
async fn trap_36_what_cannot_be_read_is_an_error() {
    let bare_end = |r: &Request| vec![Reply::Send(result(r.id, 0x65, 0, b"", None))];
    incomplete(polled(bare_end).await, "no Sync Done control");
    let bad_end = |r: &Request| {
        let bad = control(b"1.3.6.1.4.1.4203.1.9.1.3", &[0x30, 5]);
        vec![Reply::Send(result(r.id, 0x65, 0, b"", Some(&bad)))]
    };
    incomplete(polled(bad_end).await, "Sync Done control cannot be read");
    let stateless = |r: &Request| vec![Reply::Send(entry(r.id, b"uid=x", &[]))];
    incomplete(polled(stateless).await, "without its Sync State control");
    incomplete(
        polled(|r| vec![person(r.id, 9, 1)]).await,
        "Sync State control cannot be read",
    );
    for bad in [&[0xa3, 0x7f][..], &[], &[0xa5, 0], &[0xa3, 2, 0x31, 0]] {
        let value = bad.to_vec();
        let answer = polled(move |r| vec![info(r.id, &value), Reply::Close]).await;
        let Err(NoDelta::Directory(_)) = answer else {
            panic!("{bad:02x?}: {answer:?}")
        };
    }
    incomplete(
        polled(|r| vec![person(r.id, 1, 1), Reply::Close]).await,
        "closed the connection",
    );
    // Cut off by a limit: nothing is told.
    let cut = |r: &Request| vec![person(r.id, 1, 1), ended(r.id, 4, Some(LATER), 0xff)];
    incomplete(polled(cut).await, "sizeLimitExceeded");
    assert!(not_offered(polled(|r| vec![ended(r.id, 12, None, 0)]).await).contains("syncprov"));
    assert!(over(polled(|r| vec![ended(r.id, 53, None, 0)]).await).contains("unwillingToPerform"));
}

#[tokio::test]
async fn a_watch_whose_search_ends_is_over() {
    let (_server, mut session, cursor) = started(|r| vec![ended(r.id, 0, None, 0xff)]).await;
    let why = not_offered(session.watch(&scope(), &cursor).await);
    assert!(why.contains("ended at once"), "{why}");

    let live = |r: &Request| {
        vec![
            info(r.id, &tlv(0xa1, b"")),
            Reply::Pause(Duration::from_millis(50)),
            person(r.id, 3, 7),
            Reply::Pause(Duration::from_millis(50)),
            ended(r.id, 51, None, 0),
        ]
    };
    let (_server, mut session, cursor) = started(live).await;
    let mut watch = session.watch(&scope(), &cursor).await.unwrap();
    let delta = watch.next().await.unwrap();
    assert_eq!(
        (delta.gone, delta.cursor),
        (vec![DirectoryId([7; 16])], None)
    );
    for _ in 0..2 {
        let Err(NoDelta::Directory(e)) = watch.next().await else {
            panic!("over")
        };
        assert!(e.to_string().contains("last cursor"), "{e}");
    }
}
