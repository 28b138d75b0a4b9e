//! DirSync page by page, which Samba never does: whatever a page says, a delta is whole or none, and the cursor is that of the last
//! page.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use realmsync::directory::{Cursor, Delta, NoDelta, Scope, Session, Way};
use realmsync::model::{DirectoryId, ErrorCode, IdForm};

use crate::deltas::told::start_over;
use crate::directory::{bare, connect};
use crate::support::ber_server::{BerServer, Reply, Request, done, entry, result, tlv};

const BASE: &str = "OU=People,DC=example,DC=test";
const DIRSYNC: &[u8] = b"1.2.840.113556.1.4.841";

fn scope() -> Scope {
    Scope {
        bases: vec![BASE.into()],
        filter: "(objectClass=user)".into(),
        attributes: vec!["mobile".into()],
        id_attribute: "objectGUID".into(),
        id_form: IdForm::Guid,
        page_size: 2,
    }
}

/// The end of a search with this as the value of its DirSync control.
fn ended_with(id: u8, code: u8, value: &[u8]) -> Reply {
    let control = tlv(0x30, &[tlv(0x04, DIRSYNC), tlv(0x04, value)].concat());
    Reply::Send(result(id, 0x65, code, b"", Some(&control)))
}

fn page(id: u8, more: u8, cookie: &[u8]) -> Reply {
    let value = [tlv(0x02, &[more]), tlv(0x02, &[0]), tlv(0x04, cookie)].concat();
    ended_with(id, 0, &tlv(0x30, &value))
}

fn person(id: u8, n: u8, more: &[(&[u8], &[&[u8]])]) -> Reply {
    let guid = [n; 16];
    let guid: &[&[u8]] = &[&guid];
    let attributes = [&[(&b"objectGUID"[..], guid)], more].concat();
    Reply::Send(entry(id, format!("CN=p{n},{BASE}").as_bytes(), &attributes))
}

fn has(request: &Request, what: &[u8]) -> bool {
    request.body.windows(what.len()).any(|w| w == what)
}

fn dse(id: u8, usn: usize) -> Vec<Reply> {
    let usn = usn.to_string();
    let attributes: &[(&[u8], &[&[u8]])] = &[
        (b"forestFunctionality", &[b"7"]),
        (b"supportedControl", &[DIRSYNC]),
        (b"namingContexts", &[b"DC=example,DC=test"]),
        (b"defaultNamingContext", &[b"DC=example,DC=test"]),
        (b"dsServiceName", &[b"CN=NTDS Settings,CN=DC1"]),
        (b"highestCommittedUSN", &[usn.as_bytes()]),
    ];
    vec![
        Reply::Send(entry(id, b"", attributes)),
        Reply::Send(done(id, 0, None)),
    ]
}

/// A session and a cursor of a domain controller whose pages of DirSync the script answers; it is told which page it is, from 0.
async fn started(
    script: impl Fn(&Request, usize) -> Vec<Reply> + Send + Sync + 'static,
) -> (BerServer, Session, Cursor, Arc<AtomicUsize>) {
    let pages = Arc::new(AtomicUsize::new(0));
    let (counted, usn) = (Arc::clone(&pages), AtomicUsize::new(100));
    let server = BerServer::start("Somebody", move |r| {
        if r.tag != 0x63 {
            return None;
        }
        if r.body.starts_with(&[4, 0]) {
            // Something changes all the time.
            return Some(dse(r.id, usn.fetch_add(1, Ordering::SeqCst)));
        }
        let end = Reply::Send(done(r.id, 0, None));
        Some(if has(r, b"NTDS Settings") {
            let id: &[&[u8]] = &[&[7; 16]];
            vec![
                Reply::Send(entry(
                    r.id,
                    b"CN=NTDS Settings,CN=DC1",
                    &[(b"invocationId", id)],
                )),
                end,
            ]
        } else if has(r, b"CN=Deleted Objects") {
            vec![
                Reply::Send(entry(
                    r.id,
                    b"CN=Deleted Objects",
                    &[(b"isDeleted", &[b"TRUE"])],
                )),
                end,
            ]
        } else if !has(r, b"parentguid") {
            // A look for containers that moved: there is none.
            vec![Reply::Send(done(r.id, 0, Some(b"")))]
        } else if has(r, &[0; 16]) {
            vec![page(r.id, 0, b"begin")]
        } else {
            script(r, counted.fetch_add(1, Ordering::SeqCst))
        })
    })
    .await;
    let mut session = connect(&bare(&server.uri(), BASE)).await.unwrap();
    let cursor = session.cursor_now(&scope(), Way::DirSync).await.unwrap();
    assert_eq!(cookie(&cursor), b"begin");
    (server, session, cursor, pages)
}

fn cookie(cursor: &Cursor) -> Vec<u8> {
    let place: serde_json::Value = serde_json::from_str(&cursor.cookie).unwrap();
    let text = place["cookies"][0].as_str().unwrap();
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

async fn polled(
    script: impl Fn(&Request, usize) -> Vec<Reply> + Send + Sync + 'static,
) -> Result<Delta, NoDelta> {
    let (_server, mut session, cursor, _) = started(script).await;
    let scope = scope();
    let wait = session.changes_since(&scope, &cursor);
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("an end")
}

fn failed(answer: Result<Delta, NoDelta>, words: &str) -> ErrorCode {
    let Err(NoDelta::Directory(e)) = answer else {
        panic!("{words}: {answer:?}")
    };
    assert!(e.to_string().contains(words), "{words}: {e}");
    e.code()
}

fn ids(of: &[u8]) -> Vec<DirectoryId> {
    of.iter().map(|n| DirectoryId([*n; 16])).collect()
}

const MOBILE: &[(&[u8], &[&[u8]])] = &[(b"mobile", &[b"1"])];
const GONE: &[(&[u8], &[&[u8]])] = &[(b"isDeleted", &[b"TRUE"]), (b"name", &[b"x"])];

#[tokio::test]
async fn pages_are_one_delta_and_the_cursor_is_that_of_the_last() {
    let (_server, mut session, cursor, pages) = started(|r, n| match n {
        0 => {
            assert!(has(r, b"begin"), "the cursor's cookie");
            vec![
                person(r.id, 1, MOBILE),
                person(r.id, 2, MOBILE),
                page(r.id, 1, b"second"),
            ]
        }
        // An empty page, a size of its own in the flag: only 0 is the end.
        1 => {
            assert!(has(r, b"second"), "the last page's cookie");
            vec![page(r.id, 0x80, b"third")]
        }
        _ => vec![
            // Told on two pages: the later word counts. An attribute in part is read by the look-up.
            person(r.id, 2, GONE),
            person(r.id, 3, &[(b"member;range=0-1", &[b"a", b"b"])]),
            page(r.id, 0, b"last"),
        ],
    })
    .await;
    let delta = session.changes_since(&scope(), &cursor).await.unwrap();
    assert_eq!((delta.touched, delta.gone), (ids(&[1, 3]), ids(&[2])));
    assert_eq!(cookie(&delta.cursor.unwrap()), b"last");
    assert_eq!(pages.load(Ordering::SeqCst), 3);
}

/// A server that begins a page, and fails: nothing of the first page is told, and the session says what to do.
#[tokio::test]
async fn a_later_page_that_fails_leaves_no_half_delta() {
    let second = |last: fn(u8) -> Vec<Reply>| {
        polled(move |r, n| match n {
            0 => vec![person(r.id, 1, MOBILE), page(r.id, 1, b"second")],
            _ => last(r.id),
        })
    };
    let busy = second(|id| vec![person(id, 2, MOBILE), ended_with(id, 51, b"")]).await;
    failed(busy, "busy");
    let code = failed(second(|_| vec![Reply::Close]).await, "page 2");
    assert_eq!(code, ErrorCode::Incomplete);
    let within = second(|id| vec![person(id, 2, MOBILE), Reply::Close]).await;
    assert_eq!(failed(within, "page 2"), ErrorCode::Incomplete);
    // The cookie is taken no more, or the right is gone: everything is read.
    let why = start_over(second(|id| vec![ended_with(id, 53, b"")]).await);
    assert!(why.contains("does not take the cookie"), "{why}");
    let why = start_over(second(|id| vec![ended_with(id, 50, b"")]).await);
    assert!(why.contains("Replicating Directory Changes"), "{why}");
    // Somebody who does not say who they are.
    let nobody = second(|id| {
        vec![
            Reply::Send(entry(id, b"CN=x", MOBILE)),
            page(id, 0, b"last"),
        ]
    });
    let why = start_over(nobody.await);
    assert!(why.contains("who it is"), "{why}");
}

#[tokio::test]
async fn trap_36_an_end_without_a_place_to_go_on_from_is_an_error() {
    for value in [
        None,
        Some(&b""[..]),
        Some(b"x"),
        Some(&[0x30, 0x7f, 2, 1, 0]),
        // No cookie, at the end and in between.
        Some(&[0x30, 8, 2, 1, 0, 2, 1, 0, 4, 0]),
        Some(&[0x30, 8, 2, 1, 1, 2, 1, 0, 4, 0]),
        Some(&[0x30, 6, 2, 1, 0, 2, 1, 0]),
        // Something after the cookie; a flag without a byte; another order.
        Some(&[0x30, 12, 2, 1, 0, 2, 1, 0, 4, 1, b'x', 4, 1, b'y']),
        Some(&[0x30, 8, 2, 0, 2, 1, 0, 4, 1, b'x']),
        Some(&[0x30, 9, 4, 1, b'x', 2, 1, 0, 2, 1, 0]),
    ] {
        for late in [0, 1] {
            let answer = polled(move |r, n| match value {
                _ if n < late => vec![person(r.id, 1, MOBILE), page(r.id, 1, b"second")],
                Some(value) => vec![person(r.id, 2, MOBILE), ended_with(r.id, 0, value)],
                None => vec![person(r.id, 2, MOBILE), Reply::Send(done(r.id, 0, None))],
            })
            .await;
            let code = failed(answer, "no DirSync control with a cookie");
            assert_eq!(code, ErrorCode::Incomplete, "{value:02x?}");
        }
    }
}

/// A server that says that there is more, and has nothing. The same place again is an error at once. A place that moves may be
/// that of a large directory in which nobody matches, so it is followed until the time of the run is over.
#[tokio::test]
async fn more_for_ever_with_nothing_new_is_an_error() {
    let same = polled(|r, _| vec![page(r.id, 1, b"begin")]).await;
    failed(same, "there is more");
    let people = polled(|r, _| vec![person(r.id, 1, MOBILE), page(r.id, 1, b"same")]).await;
    failed(people, "there is more");
    let turns = |n: usize| [&b"one"[..], b"two"][n % 2].to_vec();
    let fresh = |n: usize| format!("cookie {n}").into_bytes();
    for cookies in [turns, fresh as fn(usize) -> Vec<u8>] {
        let (server, session, cursor, pages) = started(move |r, n| {
            let pause = Reply::Pause(Duration::from_millis(40));
            vec![pause, page(r.id, 1, &cookies(n))]
        })
        .await;
        drop(session);
        pages.store(0, Ordering::SeqCst);
        let mut settings = bare(&server.uri(), BASE);
        settings.run_timeout_ms = 1500;
        let mut session = connect(&settings).await.unwrap();
        let scope = scope();
        let wait = session.changes_since(&scope, &cursor);
        let answer = tokio::time::timeout(Duration::from_secs(20), wait).await;
        let code = failed(answer.expect("an end"), "(DirSync), page");
        assert_eq!(code, ErrorCode::Incomplete);
        assert!(pages.load(Ordering::SeqCst) > 5);
    }
}
