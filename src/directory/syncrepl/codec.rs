//! The controls and messages of content synchronisation (RFC 4533 § 2), written and read by hand: ldap3's readers panic.

use super::super::ber::{element, push_length};
use crate::model::DirectoryId;

/// Sync Request: what to send with a search.
pub(in super::super) const REQUEST: &str = "1.3.6.1.4.1.4203.1.9.1.1";
/// Sync State: beside every entry.
pub(super) const STATE: &str = "1.3.6.1.4.1.4203.1.9.1.2";
/// Sync Done: beside the result.
pub(super) const DONE: &str = "1.3.6.1.4.1.4203.1.9.1.3";
/// Sync Info: the intermediate message.
pub(super) const INFO: &str = "1.3.6.1.4.1.4203.1.9.1.4";

const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// It is no such control or message; the text says which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct MalformedControl(pub &'static str);

/// How long to listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ListenMode {
    /// refreshOnly (1): what changed, and an end.
    Refresh,
    /// refreshAndPersist (3): what changed, and then whatever changes.
    Persist,
}

/// What a Sync State control says of its entry (RFC 4533 § 2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EntryState {
    Present,
    Add,
    Modify,
    Delete,
}

/// A Sync State control.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SyncState {
    pub state: EntryState,
    pub id: DirectoryId,
    pub cookie: Option<Vec<u8>>,
}

/// A Sync Done control (RFC 4533 § 2.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SyncDone {
    pub cookie: Option<Vec<u8>>,
    /// Whether the refresh named those who are gone; `false` by default, and what 389-ds says whatever it did.
    pub deletes: bool,
}

/// A Sync Info message (RFC 4533 § 2.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SyncInfo {
    /// Where to go on, and nothing else.
    Cookie(Vec<u8>),
    /// The end of a phase that named those who are gone.
    Deleted { cookie: Option<Vec<u8>>, done: bool },
    /// The end of a phase that named those who are there.
    Present { cookie: Option<Vec<u8>>, done: bool },
    /// Those who are gone (`deletes`), or who are there and unchanged.
    Ids {
        cookie: Option<Vec<u8>>,
        deletes: bool,
        ids: Vec<DirectoryId>,
    },
}

/// `syncRequestValue ::= SEQUENCE { mode ENUMERATED, cookie OPTIONAL, reloadHint BOOLEAN DEFAULT FALSE }`.
pub(super) fn request(mode: ListenMode, cookie: Option<&[u8]>) -> Vec<u8> {
    let mode = match mode {
        ListenMode::Refresh => 1,
        ListenMode::Persist => 3,
    };
    let mut body = vec![ENUMERATED, 1, mode];
    if let Some(cookie) = cookie {
        body.push(OCTETS);
        push_length(&mut body, cookie.len());
        body.extend(cookie);
    }
    let mut value = vec![SEQUENCE];
    push_length(&mut value, body.len());
    value.extend(body);
    value
}

/// `syncStateValue ::= SEQUENCE { state ENUMERATED, entryUUID, cookie OPTIONAL }`.
pub(super) fn state(value: &[u8]) -> Result<SyncState, MalformedControl> {
    const WHAT: MalformedControl = MalformedControl("a Sync State control cannot be read");
    let mut parts = Elements(whole(value, SEQUENCE).ok_or(WHAT)?);
    let state = match parts.take(ENUMERATED).ok_or(WHAT)?.ok_or(WHAT)? {
        [0] => EntryState::Present,
        [1] => EntryState::Add,
        [2] => EntryState::Modify,
        [3] => EntryState::Delete,
        _ => return Err(WHAT),
    };
    let id = parts.take(OCTETS).ok_or(WHAT)?.and_then(id).ok_or(WHAT)?;
    let cookie = parts.take(OCTETS).ok_or(WHAT)?.map(<[u8]>::to_vec);
    parts.end().ok_or(WHAT)?;
    Ok(SyncState { state, id, cookie })
}

/// `syncDoneValue ::= SEQUENCE { cookie OPTIONAL, refreshDeletes BOOLEAN DEFAULT FALSE }`.
pub(super) fn done(value: &[u8]) -> Result<SyncDone, MalformedControl> {
    const WHAT: MalformedControl = MalformedControl("a Sync Done control cannot be read");
    let read = || {
        let mut parts = Elements(whole(value, SEQUENCE)?);
        let cookie = parts.take(OCTETS)?.map(<[u8]>::to_vec);
        let deletes = parts.flag(false)?;
        parts.end()?;
        Some(SyncDone { cookie, deletes })
    };
    read().ok_or(WHAT)
}

/// `syncInfoValue`: a choice of four, by its tag.
pub(super) fn info(value: &[u8]) -> Result<SyncInfo, MalformedControl> {
    const WHAT: MalformedControl = MalformedControl("a Sync Info message cannot be read");
    let read = || {
        let (tag, content, []) = element(value)? else {
            return None;
        };
        let mut parts = Elements(content);
        let info = match tag {
            0x80 => return Some(SyncInfo::Cookie(content.to_vec())),
            0xa1 | 0xa2 => {
                let cookie = parts.take(OCTETS)?.map(<[u8]>::to_vec);
                let done = parts.flag(true)?;
                if tag == 0xa1 {
                    SyncInfo::Deleted { cookie, done }
                } else {
                    SyncInfo::Present { cookie, done }
                }
            }
            0xa3 => {
                let cookie = parts.take(OCTETS)?.map(<[u8]>::to_vec);
                let deletes = parts.flag(false)?;
                let mut set = Elements(parts.take(SET)??);
                let mut ids = Vec::with_capacity(set.0.len() / 18);
                while !set.0.is_empty() {
                    ids.push(id(set.take(OCTETS)??)?);
                }
                SyncInfo::Ids {
                    cookie,
                    deletes,
                    ids,
                }
            }
            _ => return None,
        };
        parts.end()?;
        Some(info)
    };
    read().ok_or(WHAT)
}

fn id(bytes: &[u8]) -> Option<DirectoryId> {
    bytes.try_into().ok().map(DirectoryId)
}

/// The content of a value that is one element of this tag.
fn whole(value: &[u8], wanted: u8) -> Option<&[u8]> {
    match element(value)? {
        (tag, content, []) if tag == wanted => Some(content),
        _ => None,
    }
}

/// The elements of a sequence that are still to be read.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// The next element if it has this tag, `Some(None)` if it has another or there is none; `None`: it cannot be read.
    #[expect(
        clippy::option_option,
        reason = "an element that is left out is not one that cannot be read"
    )]
    fn take(&mut self, wanted: u8) -> Option<Option<&'a [u8]>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let (tag, content, rest) = element(self.0)?;
        if tag != wanted {
            return Some(None);
        }
        self.0 = rest;
        Some(Some(content))
    }

    fn flag(&mut self, default: bool) -> Option<bool> {
        match self.take(BOOLEAN)? {
            None => Some(default),
            Some([byte]) => Some(*byte != 0),
            Some(_) => None,
        }
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrap(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
        let body = parts.concat();
        let mut out = vec![tag];
        push_length(&mut out, body.len());
        out.extend(body);
        out
    }

    fn octets(bytes: &[u8]) -> Vec<u8> {
        wrap(OCTETS, &[bytes.to_vec()])
    }

    fn optional(cookie: Option<&[u8]>) -> Vec<u8> {
        cookie.map(octets).unwrap_or_default()
    }

    fn flag(value: bool, default: bool) -> Vec<u8> {
        if value == default {
            vec![]
        } else {
            vec![BOOLEAN, 1, if value { 0xff } else { 0 }]
        }
    }

    fn write_info(info: &SyncInfo) -> Vec<u8> {
        match info {
            SyncInfo::Cookie(cookie) => wrap(0x80, std::slice::from_ref(cookie)),
            SyncInfo::Deleted { cookie, done } => {
                wrap(0xa1, &[optional(cookie.as_deref()), flag(*done, true)])
            }
            SyncInfo::Present { cookie, done } => {
                wrap(0xa2, &[optional(cookie.as_deref()), flag(*done, true)])
            }
            SyncInfo::Ids {
                cookie,
                deletes,
                ids,
            } => {
                let ids: Vec<Vec<u8>> = ids.iter().map(|id| octets(&id.0)).collect();
                wrap(
                    0xa3,
                    &[
                        optional(cookie.as_deref()),
                        flag(*deletes, false),
                        wrap(SET, &ids),
                    ],
                )
            }
        }
    }

    fn cookie() -> impl Strategy<Value = Option<Vec<u8>>> {
        prop::option::of(prop::collection::vec(any::<u8>(), 0..300))
    }

    fn ids() -> impl Strategy<Value = Vec<DirectoryId>> {
        prop::collection::vec(any::<[u8; 16]>().prop_map(DirectoryId), 0..300)
    }

    pub(in super::super) fn any_info() -> impl Strategy<Value = SyncInfo> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300).prop_map(SyncInfo::Cookie),
            (cookie(), any::<bool>()).prop_map(|(cookie, done)| SyncInfo::Deleted { cookie, done }),
            (cookie(), any::<bool>()).prop_map(|(cookie, done)| SyncInfo::Present { cookie, done }),
            (cookie(), any::<bool>(), ids()).prop_map(|(cookie, deletes, ids)| SyncInfo::Ids {
                cookie,
                deletes,
                ids
            }),
        ]
    }

    proptest! {
        #[test]
        fn whatever_was_written_is_read(
            message in any_info(), cookie in cookie(), id in any::<[u8; 16]>(), number in 0..4_u8, deletes in any::<bool>()
        ) {
            prop_assert_eq!(info(&write_info(&message)), Ok(message));
            let written = wrap(SEQUENCE, &[vec![ENUMERATED, 1, number], octets(&id), optional(cookie.as_deref())]);
            let read = state(&written).unwrap();
            prop_assert_eq!((read.state as u8, read.id, &read.cookie), (number, DirectoryId(id), &cookie));
            let written = wrap(SEQUENCE, &[optional(cookie.as_deref()), flag(deletes, false)]);
            prop_assert_eq!(done(&written), Ok(SyncDone { cookie: cookie.clone(), deletes }));
            let asked = request(ListenMode::Persist, cookie.as_deref());
            prop_assert_eq!(asked, wrap(SEQUENCE, &[vec![ENUMERATED, 1, 3], optional(cookie.as_deref())]));
        }

        #[test]
        fn trap_36_no_bytes_panic(value in prop::collection::vec(any::<u8>(), 0..60)) {
            let _unused = (state(&value), done(&value), info(&value));
        }

        #[test]
        fn trap_36_no_spoilt_message_panics(message in any_info(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let good = write_info(&message);
            prop_assert!(info(&good[..cut.index(good.len())]).is_err());
            let mut bad = good;
            let at = at.index(bad.len());
            bad[at] = byte;
            let _unused = (state(&bad), done(&bad), info(&bad));
        }
    }

    #[test]
    fn trap_36_what_is_too_much_or_of_another_kind_is_refused() {
        let id = octets(&[7; 16]);
        let good = wrap(SEQUENCE, &[vec![ENUMERATED, 1, 1], id.clone()]);
        assert!(state(&good).is_ok());
        for bad in [
            wrap(SEQUENCE, &[vec![ENUMERATED, 1, 4], id.clone()]),
            wrap(SEQUENCE, &[vec![ENUMERATED, 2, 0, 1], id.clone()]),
            wrap(SEQUENCE, &[vec![ENUMERATED, 1, 1], octets(&[7; 15])]),
            wrap(SEQUENCE, &[vec![ENUMERATED, 1, 1]]),
            wrap(
                SEQUENCE,
                &[vec![ENUMERATED, 1, 1], id.clone(), vec![BOOLEAN, 1, 0]],
            ),
            [good, vec![0]].concat(),
        ] {
            assert!(state(&bad).is_err(), "{bad:02x?}");
        }
        assert!(done(&wrap(SEQUENCE, &[vec![BOOLEAN, 0]])).is_err());
        assert!(info(&wrap(0xa4, &[])).is_err());
        assert!(info(&wrap(0xa3, &[])).is_err(), "no set of ids");
        assert!(info(&wrap(0xa3, &[wrap(SET, &[octets(b"short")])])).is_err());
        // The two flags have different defaults (RFC 4533 § 2.4, § 2.5).
        assert_eq!(
            done(&wrap(SEQUENCE, &[])),
            Ok(SyncDone {
                cookie: None,
                deletes: false
            })
        );
        assert_eq!(
            info(&wrap(0xa2, &[])),
            Ok(SyncInfo::Present {
                cookie: None,
                done: true
            })
        );
    }
}
