//! The directory stage against answers that no real server gives.

use std::time::Duration;

use realmsync::clock::Clock;
use realmsync::config::{DirectoryConfig, Secret};
use realmsync::directory::{self, DirectoryError, Scope};
use realmsync::model::{ErrorCode, IdForm, RawEntry};
use tokio::time::Instant;

use crate::directory::{bare, connect, read};
use crate::support::ber_server::{
    BerServer, Reply, Request, done, entry, message, result, tlv, who_am_i,
};

const BASE: &str = "ou=people,dc=example,dc=org";

pub fn config(server: &BerServer) -> DirectoryConfig {
    let mut config = bare(&server.uri(), BASE);
    config.bind_dn = Some("cn=sync".into());
    config.bind_password = Some(Secret::Inline("secret".to_owned().into()));
    config
}

pub fn scope() -> Scope {
    Scope {
        bases: vec![BASE.into()],
        filter: "(objectClass=person)".into(),
        attributes: vec!["uid".into(), "mobile".into()],
        id_attribute: "entryUUID".into(),
        id_form: IdForm::Uuid,
        page_size: 2,
    }
}

pub fn person(id: u8, name: &str) -> Reply {
    let dn = format!("uid={name},{BASE}");
    Reply::Send(entry(
        id,
        dn.as_bytes(),
        &[
            (b"uid", &[name.as_bytes()]),
            (b"mobile", &[b"+421905000001"]),
        ],
    ))
}

/// How far a server is that was written to in the first second of 2026.
pub fn context_csn(id: u8) -> Reply {
    let csn: &[u8] = b"20260101000000.000000Z#000000#001#000000";
    let values: &[&[u8]] = &[csn];
    Reply::Send(entry(id, b"dc=example,dc=org", &[(b"contextCSN", values)]))
}

/// A pass over a server whose searches for people the script answers, by their number; everything else is well.
async fn pass(
    vendor: &'static str,
    script: impl Fn(&Request) -> Vec<Reply> + Send + Sync + 'static,
) -> Result<Vec<RawEntry>, DirectoryError> {
    // The first search with a DN is the one for contextCSN, except on 389-ds.
    let server = BerServer::start(vendor, move |r| {
        (r.tag == 0x63 && !r.body.starts_with(&[4, 0])).then(|| script(r))
    })
    .await;
    let deadline = Instant::now() + Duration::from_secs(3);
    let mut session = directory::connect(&config(&server), &Clock::system(), deadline).await?;
    read(&mut session, &scope())
        .await
        .map(|(_, entries)| entries)
}

/// The same on a server that has no other searches.
async fn pages(
    script: impl Fn(&Request) -> Vec<Reply> + Send + Sync + 'static,
) -> Result<Vec<RawEntry>, DirectoryError> {
    pass("389 Project", script).await
}

fn incomplete(result: Result<Vec<RawEntry>, DirectoryError>, words: &str) {
    let e = result.expect_err(words);
    assert_eq!(e.code(), ErrorCode::Incomplete, "{e}");
    assert!(e.to_string().contains(words), "{words}: {e}");
    assert!(!e.to_string().contains('\n'), "{e}");
}

#[tokio::test]
async fn the_scripted_server_can_tell_the_truth() {
    let all = pages(|r| match r.nth {
        0 => vec![
            person(r.id, "a"),
            person(r.id, "b"),
            Reply::Send(done(r.id, 0, Some(b"next"))),
        ],
        1 => vec![Reply::Send(done(r.id, 0, Some(b"an empty page is no end")))],
        _ => vec![person(r.id, "c"), Reply::Send(done(r.id, 0, Some(b"")))],
    });
    assert_eq!(all.await.unwrap().len(), 3);
}

#[tokio::test]
async fn trap_05_an_error_on_a_middle_page_with_the_cookie_still_there() {
    for code in [1, 3, 4, 10, 11, 51, 53, 80] {
        let read = pages(move |r| match r.nth {
            0 => vec![
                person(r.id, "a"),
                person(r.id, "b"),
                Reply::Send(done(r.id, 0, Some(b"1"))),
            ],
            1 => vec![person(r.id, "c"), Reply::Send(done(r.id, code, Some(b"2")))],
            _ => vec![person(r.id, "d"), Reply::Send(done(r.id, 0, Some(b"")))],
        });
        incomplete(read.await, &format!("({code})"));
    }
}

#[tokio::test]
async fn trap_05_success_without_the_paging_control() {
    incomplete(
        pages(|r| vec![person(r.id, "a"), Reply::Send(done(r.id, 0, None))]).await,
        "no paging control",
    );
    // A control that says nothing that can be read is none.
    let odd = |value: &'static [u8]| {
        pages(move |r| {
            let control = tlv(
                0x30,
                &[tlv(0x04, b"1.2.840.113556.1.4.319"), tlv(0x04, value)].concat(),
            );
            vec![
                person(r.id, "a"),
                Reply::Send(result(r.id, 0x65, 0, b"", Some(&control))),
            ]
        })
    };
    for value in [
        &b""[..],
        b"\x30",
        b"\x30\x03\x02\x01\x00",
        b"\x30\x84\xff\xff\xff\xff",
        &[0x30; 60],
    ] {
        incomplete(odd(value).await, "no paging control");
    }
}

#[tokio::test]
async fn trap_05_a_server_that_ignores_the_page_size() {
    let everybody = |r: &Request| {
        (0..40)
            .map(|i| person(r.id, &i.to_string()))
            .chain([Reply::Send(done(r.id, 0, Some(b"")))])
            .collect()
    };
    incomplete(pages(everybody).await, "more than the 2 entries");
}

#[tokio::test]
async fn trap_06_the_connection_ends_at_any_point() {
    incomplete(
        pages(|r| vec![person(r.id, "a"), Reply::Close]).await,
        "closed the connection",
    );
    incomplete(pages(|_| vec![Reply::Close]).await, "closed the connection");
    incomplete(
        pages(|r| {
            vec![
                person(r.id, "a"),
                Reply::Send(done(r.id, 0, Some(b"1"))),
                Reply::Close,
            ]
        })
        .await,
        "page 2",
    );
    // Half a message, and then silence.
    incomplete(
        pages(|r| {
            vec![
                person(r.id, "a"),
                Reply::Send(done(r.id, 0, Some(b""))[..5].to_vec()),
            ]
        })
        .await,
        "run-timeout",
    );
    // After the end there is nothing left to lose.
    let good = pages(|r| {
        vec![
            person(r.id, "a"),
            Reply::Send(done(r.id, 0, Some(b""))),
            Reply::Close,
        ]
    })
    .await;
    assert_eq!(good.unwrap().len(), 1);
}

#[tokio::test]
async fn trap_06_one_entry_a_second_ends_at_the_deadline() {
    let begun = Instant::now();
    let dripping = |r: &Request| {
        (0..60)
            .flat_map(|i| {
                [
                    person(r.id, &i.to_string()),
                    Reply::Pause(Duration::from_secs(1)),
                ]
            })
            .take(8)
            .chain([Reply::Send(done(r.id, 0, Some(b"")))])
            .collect()
    };
    incomplete(pages(dripping).await, "run-timeout");
    assert!(
        begun.elapsed() < Duration::from_millis(3900),
        "the deadline is 3 s"
    );
}

#[tokio::test]
async fn trap_09_references_and_referrals() {
    let reference = |r: &Request| {
        Reply::Send(message(
            r.id,
            &tlv(
                0x73,
                &tlv(0x04, b"ldap://other/ou=x,ou=people,dc=example,dc=org"),
            ),
            None,
        ))
    };
    incomplete(
        pages(move |r| {
            vec![
                person(r.id, "a"),
                reference(r),
                Reply::Send(done(r.id, 0, Some(b""))),
            ]
        })
        .await,
        "another server",
    );
    let garbled = |r: &Request| {
        Reply::Send(message(
            r.id,
            &tlv(0x73, &tlv(0x24, &tlv(0x04, b"\xff"))),
            None,
        ))
    };
    incomplete(
        pages(move |r| {
            vec![
                person(r.id, "a"),
                garbled(r),
                Reply::Send(done(r.id, 0, Some(b""))),
            ]
        })
        .await,
        "another server",
    );
}

#[tokio::test]
async fn trap_16_bytes_that_are_no_text() {
    let all = pages(|r| {
        let odd = entry(
            r.id,
            b"uid=\xff\xfe,ou=people",
            &[
                (b"uid", &[b"odd"]),
                (b"mobile", &[b"\xc3\x28", b"+421905123456", b""]),
                (b"caf\xe9", &[b"1"]),
            ],
        );
        vec![
            Reply::Send(odd),
            person(r.id, "b"),
            Reply::Send(done(r.id, 0, Some(b""))),
        ]
    });
    let all = all.await.unwrap();
    assert_eq!(all[0].dn(), b"uid=\xff\xfe,ou=people");
    assert_eq!(
        all[0].values("mobile").collect::<Vec<_>>(),
        [&b"\xc3\x28"[..], b"+421905123456", b""]
    );
    assert_eq!(all.len(), 2);
}

#[tokio::test]
async fn trap_15_a_range_that_does_not_end_well() {
    let part = |r: &Request, name: &'static [u8], values: &[&[u8]]| {
        Reply::Send(entry(r.id, b"cn=g", &[(name, values)]))
    };
    let end = |r: &Request| Reply::Send(done(r.id, 0, Some(b"")));
    // The same part for ever, a part that is missing, a group that is gone.
    incomplete(
        pages(move |r| vec![part(r, b"member;range=0-0", &[b"a"]), end(r)]).await,
        "the same part again",
    );
    incomplete(
        pages(move |r| {
            if r.nth == 0 {
                vec![part(r, b"member;range=0-0", &[b"a"]), end(r)]
            } else {
                vec![part(r, b"cn", &[b"g"]), end(r)]
            }
        })
        .await,
        "not there any more",
    );
    incomplete(
        pages(move |r| {
            if r.nth == 0 {
                vec![part(r, b"member;range=0-0", &[b"a"]), end(r)]
            } else {
                vec![end(r)]
            }
        })
        .await,
        "is gone",
    );
    let good = pages(move |r| match r.nth {
        0 => vec![part(r, b"member;range=0-0", &[b"a"]), end(r)],
        1 => vec![part(r, b"member;range=1-1", &[b"b"]), end(r)],
        _ => vec![part(r, b"member;range=2-*", &[b"c"]), end(r)],
    });
    assert_eq!(good.await.unwrap()[0].values("member").count(), 3);
}

#[tokio::test]
async fn trap_34_a_bind_that_makes_nobody_of_us() {
    let server = BerServer::start("389 Project", |r| {
        (r.tag == 0x77).then(|| vec![Reply::Send(who_am_i(r.id, b""))])
    })
    .await;
    let e = connect(&config(&server)).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Auth);
    assert!(e.to_string().contains("anonymous"), "{e}");
}

#[tokio::test]
async fn trap_34_each_refusal_of_a_bind_is_told_apart() {
    let refusing = |code: u8, text: &'static [u8]| async move {
        let server = BerServer::start("x", move |r| {
            (r.tag == 0x60).then(|| vec![Reply::Send(result(r.id, 0x61, code, text, None))])
        })
        .await;
        connect(&config(&server)).await.unwrap_err()
    };
    let locked = refusing(49, b"80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data 775, v2580\0").await;
    assert_eq!(locked.code(), ErrorCode::Auth);
    assert!(locked.to_string().contains("locked"), "{locked}");
    assert!(refusing(8, b"").await.to_string().contains("ldaps://"));
    assert_eq!(refusing(51, b"").await.code(), ErrorCode::Unreachable);
    // ldap3 panics over text that is not UTF-8.
    let e = refusing(49, b"\xff\xfe").await;
    assert_eq!(e.code(), ErrorCode::Unreachable);
    assert!(e.to_string().contains("no LDAP that can be read"), "{e}");
}

#[tokio::test]
async fn trap_35_start_tls_refused_or_garbled() {
    for (reply, words) in [
        (
            result(1, 0x78, 53, b"not here", None),
            "unwillingToPerform (53)",
        ),
        (b"\x15\x03\x01\x00\x02\x02\x0a".to_vec(), "StartTLS"),
    ] {
        let server = BerServer::start("x", move |r| {
            (r.tag == 0x77).then(|| vec![Reply::Send(reply.clone()), Reply::Close])
        })
        .await;
        let mut config = config(&server);
        config.start_tls = true;
        let e = connect(&config).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::Tls, "{e}");
        assert!(e.to_string().contains(words), "{e}");
    }
}

#[tokio::test]
async fn trap_36_hostile_answers_are_errors() {
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("no sequence", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("an empty message", tlv(0x30, b"")),
        ("no message id", tlv(0x30, &tlv(0x64, b""))),
        (
            "an entry that is a string",
            message(0, &tlv(0x44, b"x"), None),
        ),
        (
            "an entry without attributes",
            message(0, &tlv(0x64, &tlv(0x04, b"cn=x")), None),
        ),
        ("an empty entry", message(0, &tlv(0x64, b""), None)),
        (
            "an attribute that is a string",
            message(
                0,
                &tlv(
                    0x64,
                    &[tlv(0x04, b"cn=x"), tlv(0x30, &tlv(0x04, b"uid"))].concat(),
                ),
                None,
            ),
        ),
        (
            "a value that is a list",
            message(
                0,
                &tlv(
                    0x64,
                    &[
                        tlv(0x04, b"cn=x"),
                        tlv(
                            0x30,
                            &tlv(
                                0x30,
                                &[tlv(0x04, b"uid"), tlv(0x31, &tlv(0x30, b""))].concat(),
                            ),
                        ),
                    ]
                    .concat(),
                ),
                None,
            ),
        ),
        ("an unknown operation", message(0, &tlv(0x7e, b""), None)),
        ("a result without a code", message(0, &tlv(0x65, b""), None)),
        (
            "a result whose text is no text",
            result(0, 0x65, 0, b"\xff", None),
        ),
        (
            "controls that are none",
            result(0, 0x65, 0, b"", Some(&tlv(0x04, b"x"))),
        ),
        (
            "a control whose criticality is empty",
            result(
                0,
                0x65,
                0,
                b"",
                Some(&tlv(0x30, &[tlv(0x04, b"1.2"), tlv(0x01, b"")].concat())),
            ),
        ),
        (
            "a length of four gigabytes",
            vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 2, 1],
        ),
        (
            "a length of 2^64",
            vec![0x30, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
        (
            "lists within lists",
            (0..200).fold(vec![], |inner, _| tlv(0x30, &inner)),
        ),
    ];
    for (what, bytes) in hostile {
        let begun = Instant::now();
        let read = pages(move |r| {
            // The message's id, where there is one, is that of the request.
            let mut bytes = bytes.clone();
            if let Some(at) = bytes.windows(3).position(|w| w == [2, 1, 0]) {
                bytes[at + 2] = r.id;
            }
            vec![person(r.id, "a"), Reply::Send(bytes)]
        })
        .await;
        let e = read.expect_err(what);
        assert_eq!(e.code(), ErrorCode::Incomplete, "{what}: {e}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}");
    }
}

#[tokio::test]
async fn trap_36_a_message_of_another_id_is_never_just_overlooked() {
    for other in [1, 99] {
        incomplete(
            pages(move |r| {
                vec![
                    person(r.id, "a"),
                    person(other, "b"),
                    Reply::Send(done(r.id, 0, Some(b""))),
                ]
            })
            .await,
            "no LDAP that can be read",
        );
    }
}

#[tokio::test]
async fn what_is_said_unasked_is_heard_or_ignored() {
    let extended = |name: &[u8]| {
        let fields = [
            tlv(0x0a, &[52]),
            tlv(0x04, b""),
            tlv(0x04, b"going down"),
            tlv(0x8a, name),
        ];
        Reply::Send(message(0, &tlv(0x78, &fields.concat()), None))
    };
    let notice = move |r: &Request| vec![person(r.id, "a"), extended(b"1.3.6.1.4.1.1466.20036")];
    incomplete(
        pages(notice).await,
        "closed the connection: unavailable (52): going down",
    );
    let others = pages(move |r| {
        vec![
            extended(b"1.2.3"),
            person(r.id, "a"),
            Reply::Send(message(r.id, &tlv(0x79, &tlv(0x80, b"1.2.3")), None)),
            Reply::Send(done(r.id, 0, Some(b""))),
        ]
    });
    assert_eq!(others.await.unwrap().len(), 1);
}

#[tokio::test]
async fn trap_36_a_message_that_is_too_long_is_not_waited_for() {
    let begun = Instant::now();
    incomplete(
        pages(|r| {
            vec![
                person(r.id, "a"),
                Reply::Send(vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 2, 1, r.id]),
            ]
        })
        .await,
        "more than 16 MiB",
    );
    assert!(begun.elapsed() < Duration::from_secs(2));
}

/// What is just beyond our bounds, as an answer to the request, and the words for it.
fn beyond(id: u8) -> [(Vec<u8>, &'static str); 2] {
    let deep = (0..16).fold(vec![], |inner, _| tlv(0x30, &inner));
    [
        (message(id, &tlv(0x61, &deep), None), "nested deeper than"),
        (
            vec![0x30, 0x84, 0x01, 0x00, 0x00, 0x01, 2, 1, id],
            "more than 16 MiB",
        ),
    ]
}

#[tokio::test]
async fn trap_36_each_message_is_checked_before_ldap3_sees_it() {
    for at in 0..2 {
        // The answer to the bind.
        let server = BerServer::start("x", move |r| {
            (r.tag == 0x60).then(|| vec![Reply::Send(beyond(r.id)[at].0.clone())])
        })
        .await;
        let words = beyond(1)[at].1;
        let e = connect(&config(&server)).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::Unreachable, "{e}");
        assert!(
            e.to_string().contains(words) && e.to_string().contains(&server.uri()),
            "{e}"
        );

        // A search over the only connection that there is.
        let server = BerServer::start("389 Project", move |r| {
            if r.connection > 1 {
                return Some(vec![Reply::Close]);
            }
            (r.tag == 0x63 && !r.body.starts_with(&[4, 0])).then(|| {
                let entry = person(r.id, "a");
                vec![entry, Reply::Send(beyond(r.id)[at].0.clone())]
            })
        })
        .await;
        let mut session = connect(&config(&server)).await.unwrap();
        let all = read(&mut session, &scope()).await;
        incomplete(all.map(|(_, entries)| entries), words);

        // The consent to StartTLS, which comes before TLS.
        let server = BerServer::start("x", move |r| {
            (r.tag == 0x77).then(|| vec![Reply::Send(beyond(r.id)[at].0.clone())])
        })
        .await;
        let mut config = config(&server);
        config.start_tls = true;
        let e = connect(&config).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::Tls, "{e}");
        let words = [words, "no LDAP that can be read"];
        assert!(words.iter().any(|w| e.to_string().contains(w)), "{e}");
    }
}

#[tokio::test]
async fn trap_36_a_result_to_a_search_of_another_kind_ends_the_connection() {
    let server = BerServer::start("x", |r| {
        (r.tag == 0x63).then(|| vec![Reply::Send(result(r.id, 0x61, 0, b"", None))])
    })
    .await;
    let e = connect(&config(&server)).await.unwrap_err();
    assert!(
        e.to_string()
            .contains("an answer to another kind of request"),
        "{e}"
    );
}

#[tokio::test]
async fn messages_come_in_pieces_and_in_heaps() {
    let all = pages(|r| {
        let people: Vec<u8> = (0..2)
            .flat_map(|i| match person(r.id, &i.to_string()) {
                Reply::Send(bytes) => bytes,
                _ => Vec::new(),
            })
            .chain(done(r.id, 0, Some(b"")))
            .collect();
        let (begin, end) = people.split_at(people.len() / 3);
        let mut replies: Vec<Reply> = begin.iter().map(|b| Reply::Send(vec![*b])).collect();
        replies.push(Reply::Pause(Duration::from_millis(50)));
        replies.push(Reply::Send(end.to_vec()));
        replies
    });
    assert_eq!(all.await.unwrap().len(), 2);
}

/// A pass over a server that is another one on the second connection, as two behind one address would be: who was read, and
/// over which connection.
async fn two_behind_one_address(
    script: impl Fn(&Request) -> Option<Vec<Reply>> + Send + Sync + 'static,
) -> Vec<String> {
    let server = BerServer::start("OpenLDAP", move |r| {
        let people = r.tag == 0x63 && r.body.windows(6).any(|w| w == b"person");
        script(r).or_else(|| {
            people.then(|| {
                let name = format!("seen-by-{}", r.connection);
                vec![person(r.id, &name), Reply::Send(done(r.id, 0, Some(b"")))]
            })
        })
    })
    .await;
    let mut session = connect(&config(&server)).await.unwrap();
    let (_complete, all) = read(&mut session, &scope()).await.unwrap();
    let name = |e: &RawEntry| String::from_utf8_lossy(e.values("uid").next().unwrap()).into_owned();
    all.iter().map(name).collect()
}

fn how_far(r: &Request, csn: &[u8]) -> Option<Vec<Reply>> {
    r.body.windows(10).any(|w| w == b"contextCSN").then(|| {
        let context = entry(r.id, b"dc=example,dc=org", &[(b"contextCSN", &[csn])]);
        vec![Reply::Send(context), Reply::Send(done(r.id, 0, None))]
    })
}

#[tokio::test]
async fn trap_08_a_pass_is_never_read_from_an_older_server_behind_the_same_address() {
    const BEFORE: &[u8] = b"20250101000000.000000Z#000000#001#000000";
    const AFTER: &[u8] = b"20260101000000.000000Z#000000#001#000000";
    let older = |r: &Request| how_far(r, if r.connection == 1 { AFTER } else { BEFORE });
    assert_eq!(two_behind_one_address(older).await, ["seen-by-1"]);
    let newer = |r: &Request| how_far(r, if r.connection == 1 { BEFORE } else { AFTER });
    assert_eq!(two_behind_one_address(newer).await, ["seen-by-2"]);
    // One that shows no state at all is known to be no further.
    let hidden = |r: &Request| how_far(r, AFTER).filter(|_| r.connection == 1);
    assert_eq!(two_behind_one_address(hidden).await, ["seen-by-1"]);
}

#[tokio::test]
async fn where_there_is_no_second_connection_the_first_one_reads() {
    for reply in [
        Reply::Close,
        Reply::Send(b"HTTP/1.1 503 Service Unavailable\r\n\r\n".to_vec()),
        Reply::Send(result(2, 0x61, 0, b"", None)),
    ] {
        let deaf =
            move |r: &Request| (r.tag == 0x60 && r.connection > 1).then(|| vec![reply.clone()]);
        assert_eq!(two_behind_one_address(deaf).await, ["seen-by-1"]);
    }
    let refusing = |r: &Request| {
        let refused = result(r.id, 0x61, 51, b"too many", None);
        (r.tag == 0x60 && r.connection > 1).then(|| vec![Reply::Send(refused)])
    };
    assert_eq!(two_behind_one_address(refusing).await, ["seen-by-1"]);
}

#[tokio::test]
async fn trap_36_an_endless_stream_ends_at_the_deadline() {
    // Pages without end, each with a cookie.
    incomplete(
        pages(|r| {
            vec![
                person(r.id, "a"),
                Reply::Send(done(r.id, 0, Some(b"again"))),
            ]
        })
        .await,
        "",
    );
}

#[tokio::test]
async fn a_server_that_does_not_page_is_read_in_one_search() {
    let server = BerServer::start("", |r| match (r.tag, r.body.starts_with(&[4, 0])) {
        (0x63, true) => Some(vec![
            Reply::Send(entry(
                r.id,
                b"",
                &[
                    (b"supportedControl", &[b"1.2.3"]),
                    (b"namingContexts", &[b"dc=example,dc=org"]),
                ],
            )),
            Reply::Send(done(r.id, 0, None)),
        ]),
        // contextCSN: not to be had.
        (0x63, false) if r.nth == 0 => Some(vec![Reply::Send(done(r.id, 50, None))]),
        (0x63, false) => Some(
            (0..41)
                .map(|i| person(r.id, &i.to_string()))
                .chain([Reply::Send(done(
                    r.id,
                    if r.nth == 1 { 0 } else { 4 },
                    None,
                ))])
                .collect(),
        ),
        _ => None,
    })
    .await;
    let mut session = connect(&config(&server)).await.unwrap();
    let (complete, entries) = read(&mut session, &scope()).await.unwrap();
    assert_eq!((complete.entries(), entries.len()), (&[41][..], 41));
    let e = read(&mut session, &scope()).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Incomplete, "{e}");
}
