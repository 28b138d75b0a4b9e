use lber::structure::StructureTag;
use ldap3::controls::{Control, RawControl};
use proptest::prelude::*;

use super::super::codec::tests::any_info;
use super::*;

fn id(n: u8) -> DirectoryId {
    DirectoryId([n; 16])
}

fn entry(state: EntryState, n: u8) -> SyncMessage {
    SyncMessage::Entry(SyncState {
        state,
        id: id(n),
        cookie: Some(b"entry".to_vec()),
    })
}

fn ids(deletes: bool, ns: &[u8]) -> SyncMessage {
    SyncMessage::Info(SyncInfo::Ids {
        cookie: Some(b"ids".to_vec()),
        deletes,
        ids: ns.iter().map(|n| id(*n)).collect(),
    })
}

fn refresh(messages: Vec<SyncMessage>) -> (RefreshChanges, Option<RefreshEnd>) {
    let mut told = RefreshChanges::default();
    let mut end = None;
    for message in messages {
        assert_eq!(end, None, "nothing after the end");
        end = told.refresh(message).unwrap();
    }
    (told, end)
}

fn done(deletes: bool) -> RefreshEnd {
    RefreshEnd {
        cookie: None,
        deletes,
    }
}

#[test]
fn trap_17_an_idle_poll_of_389_says_refresh_deletes_false_and_nobody_is_absent() {
    let (told, _) = refresh(vec![]);
    assert_eq!(
        told.clone().judge(Dialect::Ds389, &done(false)),
        Ok(Refreshed::default())
    );
    // The same words of OpenLDAP would mean that nobody is left.
    assert!(
        told.clone()
            .judge(Dialect::OpenLdap, &done(false))
            .unwrap_err()
            .contains("told of nobody")
    );
    assert_eq!(
        told.judge(Dialect::OpenLdap, &done(true)),
        Ok(Refreshed::default())
    );

    let (told, _) = refresh(vec![ids(true, &[1]), entry(EntryState::Add, 2)]);
    let told = told.judge(Dialect::Ds389, &done(false)).unwrap();
    assert_eq!(told.gone, HashMap::from([(id(1), true), (id(2), false)]));
    assert_eq!(told.present, None);
}

#[test]
fn trap_20_a_present_phase_is_told_as_such() {
    let (told, end) = refresh(vec![
        ids(false, &[1, 2]),
        entry(EntryState::Present, 3),
        entry(EntryState::Modify, 4),
    ]);
    assert_eq!(end, None);
    for dialect in [Dialect::OpenLdap, Dialect::Ds389] {
        let told = told.clone().judge(dialect, &done(false)).unwrap();
        assert_eq!(told.present, Some(vec![id(1), id(2), id(3)]));
        assert_eq!(told.gone, HashMap::from([(id(4), false)]));
    }
    // Everybody told as changed is a present phase too.
    let (told, _) = refresh(vec![entry(EntryState::Add, 4)]);
    assert_eq!(
        told.judge(Dialect::OpenLdap, &done(false)).unwrap().present,
        Some(vec![])
    );
    // A present phase that a delete phase follows.
    let (told, end) = refresh(vec![
        ids(false, &[1]),
        SyncMessage::Info(SyncInfo::Present {
            cookie: None,
            done: false,
        }),
        ids(true, &[2]),
        SyncMessage::Info(SyncInfo::Deleted {
            cookie: Some(b"c".to_vec()),
            done: true,
        }),
    ]);
    let end = end.unwrap();
    assert_eq!(end.cookie.as_deref(), Some(&b"c"[..]));
    let told = told.judge(Dialect::OpenLdap, &end).unwrap();
    assert_eq!(
        (told.present, told.gone),
        (Some(vec![id(1)]), HashMap::from([(id(2), true)]))
    );
}

#[test]
fn the_last_word_counts_and_live_cookies_come_along() {
    let mut told = RefreshChanges::default();
    assert_eq!(
        told.live(entry(EntryState::Delete, 1)).as_deref(),
        Some(&b"entry"[..])
    );
    assert_eq!(
        told.live(entry(EntryState::Add, 1)).as_deref(),
        Some(&b"entry"[..])
    );
    assert_eq!(told.live(ids(true, &[2, 3])).as_deref(), Some(&b"ids"[..]));
    // Nothing is unchanged in a live message: whoever is named is looked up.
    told.live(ids(false, &[4]));
    let live = told.told_live();
    assert_eq!(
        live.gone,
        HashMap::from([(id(1), false), (id(2), true), (id(3), true), (id(4), false)])
    );
    assert_eq!(live.present, None);
    assert!(told.is_empty());
}

fn item(tag: u64, payload: PL, controls: Vec<(&str, Vec<u8>)>) -> ResultEntry {
    let mut item = ResultEntry::new(StructureTag {
        class: TagClass::Application,
        id: tag,
        payload,
    });
    item.1 = controls
        .into_iter()
        .map(|(ctype, val)| {
            Control(
                None,
                RawControl {
                    ctype: ctype.into(),
                    crit: false,
                    val: Some(val),
                },
            )
        })
        .collect();
    item
}

fn part(id: u64, bytes: &[u8]) -> StructureTag {
    StructureTag {
        class: TagClass::Context,
        id,
        payload: PL::P(bytes.to_vec()),
    }
}

#[test]
fn messages_are_told_apart_and_an_entry_without_its_state_is_refused() {
    let state = [vec![0x30, 21, 0x0a, 1, 3, 4, 16], vec![9; 16]].concat();
    assert_eq!(
        message(item(4, PL::C(vec![]), vec![(codec::STATE, state)])),
        Ok(SyncMessage::Entry(SyncState {
            state: EntryState::Delete,
            id: id(9),
            cookie: None
        }))
    );
    assert!(message(item(4, PL::C(vec![]), vec![])).is_err());
    assert_eq!(
        message(item(19, PL::C(vec![]), vec![])),
        Ok(SyncMessage::Other)
    );
    let info = |name: &str| {
        PL::C(vec![
            part(0, name.as_bytes()),
            part(1, &[0x80, 2, b'a', b'b']),
        ])
    };
    assert_eq!(
        message(item(25, info(codec::INFO), vec![])),
        Ok(SyncMessage::Info(SyncInfo::Cookie(b"ab".to_vec())))
    );
    assert_eq!(
        message(item(25, info("1.2.3"), vec![])),
        Ok(SyncMessage::Other)
    );
    let nameless = PL::C(vec![part(0, codec::INFO.as_bytes())]);
    assert!(message(item(25, nameless, vec![])).is_err());
    assert!(message(item(25, PL::P(vec![]), vec![])).is_err());
}

fn any_message() -> impl Strategy<Value = SyncMessage> {
    let entry = (0..4_u8, 0..9_u8).prop_map(|(state, n)| {
        let states = [
            EntryState::Present,
            EntryState::Add,
            EntryState::Modify,
            EntryState::Delete,
        ];
        entry(states[usize::from(state)], n)
    });
    prop_oneof![
        entry,
        any_info().prop_map(SyncMessage::Info),
        Just(SyncMessage::Other)
    ]
}

proptest! {
    #[test]
    fn nobody_is_told_as_present_by_389_unless_somebody_really_was(messages in prop::collection::vec(any_message(), 0..20), deletes in any::<bool>()) {
        let mut told = RefreshChanges::default();
        let mut named = 0;
        for m in messages {
            named += match &m {
                SyncMessage::Entry(e) => usize::from(e.state == EntryState::Present),
                SyncMessage::Info(SyncInfo::Ids { deletes: false, ids, .. }) => ids.len(),
                _ => 0,
            };
            if told.refresh(m).unwrap().is_some() {
                break;
            }
        }
        let open = told.clone().judge(Dialect::OpenLdap, &done(deletes));
        let own = told.judge(Dialect::Ds389, &done(deletes)).unwrap();
        prop_assert!(own.present.is_none() || named > 0);
        if let Ok(open) = open {
            prop_assert!(open.present.is_none_or(|p| p.len() == named));
        }
    }
}
