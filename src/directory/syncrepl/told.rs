//! What the messages of a refresh and of a live search add up to (RFC 4533 § 3.3, § 3.4). Pure.

use std::collections::HashMap;

use lber::common::TagClass;
use lber::structure::PL;
use ldap3::ResultEntry;

use super::codec::{self, Malformed, State, SyncInfo, SyncState};
use super::cookie::Dialect;
use crate::model::DirectoryId;

/// The most ids that are kept of one refresh: no realm has so many, and a hostile server could go on for ever.
const MAX_TOLD: usize = 10_000_000;

/// One message of a search with the Sync Request control.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Message {
    /// An entry, or its id alone. What attributes it carries is nobody's business here.
    Entry(SyncState),
    Info(SyncInfo),
    /// A reference to another server, or an intermediate message of another kind.
    Other,
}

/// Reads a message of a search.
pub(super) fn message(item: ResultEntry) -> Result<Message, Malformed> {
    const BAD: Malformed = Malformed("an intermediate message cannot be read");
    if item.is_ref() {
        return Ok(Message::Other);
    }
    if !item.is_intermediate() {
        let control = item.1.iter().find(|c| c.1.ctype == codec::STATE);
        let value = control.and_then(|c| c.1.val.as_deref());
        let value = value.ok_or(Malformed("an entry comes without its Sync State control"))?;
        return codec::state(value).map(Message::Entry);
    }
    // IntermediateResponse ::= SEQUENCE { responseName [0] OPTIONAL, responseValue [1] OPTIONAL } (RFC 4511 § 4.13).
    let PL::C(parts) = item.0.payload else {
        return Err(BAD);
    };
    let (mut name, mut value) = (None, None);
    for part in parts {
        match (part.class, part.id, part.payload) {
            (TagClass::Context, 0, PL::P(bytes)) => name = Some(bytes),
            (TagClass::Context, 1, PL::P(bytes)) => value = Some(bytes),
            _ => return Err(BAD),
        }
    }
    match (name, value) {
        (Some(name), Some(value)) if name == codec::INFO.as_bytes() => {
            codec::info(&value).map(Message::Info)
        }
        (Some(name), None) if name == codec::INFO.as_bytes() => Err(BAD),
        _ => Ok(Message::Other),
    }
}

/// How a refresh ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct End {
    /// Where to go on; `None`: the old cookie stays.
    pub cookie: Option<Vec<u8>>,
    /// Whether the server says that its last phase named those who are gone.
    pub deletes: bool,
}

/// More was told than anybody can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooMuch;

/// What was told so far.
#[derive(Clone, Default, Debug)]
pub(super) struct Told {
    /// Whoever was touched (`false`) or is gone (`true`): the last word counts.
    gone: HashMap<DirectoryId, bool>,
    /// Told to be there, unchanged.
    present: Vec<DirectoryId>,
    /// Whether a present phase came to its end in so many words.
    present_ended: bool,
}

impl Told {
    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.present.is_empty()
    }

    fn hear(&mut self, id: DirectoryId, gone: bool) {
        self.gone.insert(id, gone);
    }

    /// Takes a message of the refresh. The end comes where live messages follow; a cookie before that would claim what is not yet told.
    pub(super) fn refresh(&mut self, message: Message) -> Result<Option<End>, TooMuch> {
        let mut end = None;
        match message {
            Message::Entry(entry) => match entry.state {
                State::Present => self.present.push(entry.id),
                State::Add | State::Modify => self.hear(entry.id, false),
                State::Delete => self.hear(entry.id, true),
            },
            Message::Info(SyncInfo::Ids { deletes, ids, .. }) => {
                if deletes {
                    ids.into_iter().for_each(|id| self.hear(id, true));
                } else {
                    self.present.extend(ids);
                }
            }
            Message::Info(SyncInfo::Deleted { cookie, done }) => {
                end = done.then_some(End {
                    cookie,
                    deletes: true,
                });
            }
            Message::Info(SyncInfo::Present { cookie, done }) => {
                self.present_ended = true;
                end = done.then_some(End {
                    cookie,
                    deletes: false,
                });
            }
            Message::Info(SyncInfo::Cookie(_)) | Message::Other => {}
        }
        if self.gone.len() + self.present.len() > MAX_TOLD {
            return Err(TooMuch);
        }
        Ok(end)
    }

    /// Takes a live message; returns its cookie.
    pub(super) fn live(&mut self, message: Message) -> Option<Vec<u8>> {
        match message {
            Message::Entry(SyncState { state, id, cookie }) => {
                self.hear(id, state == State::Delete);
                cookie
            }
            Message::Info(SyncInfo::Ids {
                cookie,
                deletes,
                ids,
            }) => {
                ids.into_iter().for_each(|id| self.hear(id, deletes));
                cookie
            }
            Message::Info(SyncInfo::Cookie(cookie)) => Some(cookie),
            Message::Info(SyncInfo::Deleted { cookie, .. } | SyncInfo::Present { cookie, .. }) => {
                cookie
            }
            Message::Other => None,
        }
    }

    /// What a refresh that ended so has told, by evidence: 389-ds says `refreshDeletes FALSE` whatever it did, so there only ids
    /// that are told to be present make a present phase. Elsewhere the word counts, but a present phase that shows nobody at
    /// all is how a lost right looks, and is an error.
    pub(super) fn judge(self, dialect: Dialect, end: &End) -> Result<Refreshed, &'static str> {
        let said_present = self.present_ended || !end.deletes;
        let is_present = said_present && (!dialect.is_389() || !self.present.is_empty());
        let touched = self.gone.values().filter(|gone| !**gone).count();
        if is_present && self.present.is_empty() && touched == 0 {
            return Err(
                "the server says that it told of everybody who is there, and told of nobody",
            );
        }
        let present = is_present.then_some(self.present);
        Ok(Refreshed {
            gone: self.gone,
            present,
        })
    }

    /// What live messages have told.
    pub(super) fn told_live(&mut self) -> Refreshed {
        Refreshed {
            gone: std::mem::take(&mut self.gone),
            present: None,
        }
    }
}

/// What one base's refresh, or a moment of live messages, told.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Refreshed {
    /// Whoever was touched (`false`) or is gone (`true`).
    pub gone: HashMap<DirectoryId, bool>,
    /// Those who are there besides; `None`: only what changed was told.
    pub present: Option<Vec<DirectoryId>>,
}

#[cfg(test)]
mod tests {
    use lber::structure::StructureTag;
    use ldap3::controls::{Control, RawControl};
    use proptest::prelude::*;

    use super::super::codec::tests::any_info;
    use super::*;

    fn id(n: u8) -> DirectoryId {
        DirectoryId([n; 16])
    }

    fn entry(state: State, n: u8) -> Message {
        Message::Entry(SyncState {
            state,
            id: id(n),
            cookie: Some(b"entry".to_vec()),
        })
    }

    fn ids(deletes: bool, ns: &[u8]) -> Message {
        Message::Info(SyncInfo::Ids {
            cookie: Some(b"ids".to_vec()),
            deletes,
            ids: ns.iter().map(|n| id(*n)).collect(),
        })
    }

    fn refresh(messages: Vec<Message>) -> (Told, Option<End>) {
        let mut told = Told::default();
        let mut end = None;
        for message in messages {
            assert_eq!(end, None, "nothing after the end");
            end = told.refresh(message).unwrap();
        }
        (told, end)
    }

    fn done(deletes: bool) -> End {
        End {
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

        let (told, _) = refresh(vec![ids(true, &[1]), entry(State::Add, 2)]);
        let told = told.judge(Dialect::Ds389, &done(false)).unwrap();
        assert_eq!(told.gone, HashMap::from([(id(1), true), (id(2), false)]));
        assert_eq!(told.present, None);
    }

    #[test]
    fn trap_20_a_present_phase_is_told_as_such() {
        let (told, end) = refresh(vec![
            ids(false, &[1, 2]),
            entry(State::Present, 3),
            entry(State::Modify, 4),
        ]);
        assert_eq!(end, None);
        for dialect in [Dialect::OpenLdap, Dialect::Ds389] {
            let told = told.clone().judge(dialect, &done(false)).unwrap();
            assert_eq!(told.present, Some(vec![id(1), id(2), id(3)]));
            assert_eq!(told.gone, HashMap::from([(id(4), false)]));
        }
        // Everybody told as changed is a present phase too.
        let (told, _) = refresh(vec![entry(State::Add, 4)]);
        assert_eq!(
            told.judge(Dialect::OpenLdap, &done(false)).unwrap().present,
            Some(vec![])
        );
        // A present phase that a delete phase follows.
        let (told, end) = refresh(vec![
            ids(false, &[1]),
            Message::Info(SyncInfo::Present {
                cookie: None,
                done: false,
            }),
            ids(true, &[2]),
            Message::Info(SyncInfo::Deleted {
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
        let mut told = Told::default();
        assert_eq!(
            told.live(entry(State::Delete, 1)).as_deref(),
            Some(&b"entry"[..])
        );
        assert_eq!(
            told.live(entry(State::Add, 1)).as_deref(),
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
            Ok(Message::Entry(SyncState {
                state: State::Delete,
                id: id(9),
                cookie: None
            }))
        );
        assert!(message(item(4, PL::C(vec![]), vec![])).is_err());
        assert_eq!(message(item(19, PL::C(vec![]), vec![])), Ok(Message::Other));
        let info = |name: &str| {
            PL::C(vec![
                part(0, name.as_bytes()),
                part(1, &[0x80, 2, b'a', b'b']),
            ])
        };
        assert_eq!(
            message(item(25, info(codec::INFO), vec![])),
            Ok(Message::Info(SyncInfo::Cookie(b"ab".to_vec())))
        );
        assert_eq!(message(item(25, info("1.2.3"), vec![])), Ok(Message::Other));
        let nameless = PL::C(vec![part(0, codec::INFO.as_bytes())]);
        assert!(message(item(25, nameless, vec![])).is_err());
        assert!(message(item(25, PL::P(vec![]), vec![])).is_err());
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let entry = (0..4_u8, 0..9_u8).prop_map(|(state, n)| {
            let states = [State::Present, State::Add, State::Modify, State::Delete];
            entry(states[usize::from(state)], n)
        });
        prop_oneof![
            entry,
            any_info().prop_map(Message::Info),
            Just(Message::Other)
        ]
    }

    proptest! {
        #[test]
        fn nobody_is_told_as_present_by_389_unless_somebody_really_was(messages in prop::collection::vec(any_message(), 0..20), deletes in any::<bool>()) {
            let mut told = Told::default();
            let mut named = 0;
            for m in messages {
                named += match &m {
                    Message::Entry(e) => usize::from(e.state == State::Present),
                    Message::Info(SyncInfo::Ids { deletes: false, ids, .. }) => ids.len(),
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
}
