//! What of this module the fuzzers call (see [`crate::fuzzing`]).

use lber::common::TagClass;
use lber::structure::{PL, StructureTag};
use ldap3::{ResultEntry, Scope as Depth};

use super::ber::{CONSTRUCTED, Extent, element, frame};
use super::entry::{Names, directory_id, entry};
use super::message::{LdapMessage, ProtocolOp, controls, message};
use super::root_dse::RootDse;
use super::state::ServerState;
use super::unpack::Unpacker;
use super::{paging, request, timestamp};
use crate::model::{IdForm, RawEntry};

pub use super::dirsync::fuzzing::dirsync;
pub use super::syncrepl::fuzzing::{sync_controls, sync_cookie, sync_told};

/// Elements within elements, in what lber is given here: it is not bounded.
const DEEPEST: usize = 60;

/// The bytes of one message after another, as the connection of a pass reads them. An entry must be the one that ldap3's way gives.
pub fn bulk(data: &[u8]) {
    let mut unpacker = Unpacker::default();
    for bytes in messages(data) {
        let Some(LdapMessage { said, .. }) = message(bytes) else {
            continue;
        };
        match said {
            ProtocolOp::Entry { dn, attributes } => {
                let Ok(unpacked) = unpacker.entry(dn, attributes) else {
                    continue;
                };
                if let Some(parts) = tree(bytes)
                    && let Some(operation) = parts.into_iter().nth(1)
                {
                    let other = entry(operation, &mut Names::default());
                    assert_eq!(other.as_ref(), Ok(&unpacked));
                }
                of_an_entry(&unpacked.0);
            }
            ProtocolOp::Reference(all) => assert!(!all.is_empty()),
            ProtocolOp::Result(_, result) | ProtocolOp::Goodbye(result) => {
                for control in result.ctrls {
                    let value = control.1.val.unwrap_or_default();
                    assert!(paging::cookie(&value).is_none_or(|c| c.len() < value.len()));
                }
            }
            ProtocolOp::Aside => {}
        }
    }
}

/// What else is read from entries: the root DSE, ids, how far a server is, time stamps.
fn of_an_entry(entry: &RawEntry) {
    let _unused = RootDse::read(entry);
    for form in [IdForm::Uuid, IdForm::Guid, IdForm::NsUniqueId] {
        let _unused = directory_id(entry, "entryuuid", form);
    }
    let values: Vec<&[u8]> = entry.attributes().flat_map(|a| a.values()).collect();
    let state = ServerState::from_context_csn(values.iter().map(|v| ("", *v)));
    assert_eq!(state.behind(&state), None);
    for value in &values {
        let state = ServerState::from_active_directory(&[7; 16], 7, Some(value));
        assert_eq!(state.behind(&state), None);
        timestamp::fuzzing::stamp(value);
    }
}

/// A filter that passes here must be one that can be sent.
pub fn search(filter: &str) {
    let attributes: [&str; 0] = [];
    assert!(request::search("dc=x", Depth::Subtree, filter, &attributes).is_some());
    assert!(ldap3::parse_filter(filter).is_ok());
}

/// The bytes of one message after another, as the guard before ldap3 reads them.
pub fn guard(data: &[u8]) {
    super::guard::fuzz(data);
}

/// The entries among the messages.
pub fn entries(data: &[u8]) -> Vec<RawEntry> {
    let mut unpacker = Unpacker::default();
    let mut found = Vec::new();
    for bytes in messages(data) {
        if let Some(LdapMessage {
            said: ProtocolOp::Entry { dn, attributes },
            ..
        }) = message(bytes)
            && let Ok((entry, _)) = unpacker.entry(dn, attributes)
        {
            found.push(entry);
        }
    }
    found
}

/// What a search over ldap3 gives of these messages: entries, references and intermediate responses, with their controls.
pub(super) fn items(data: &[u8]) -> Vec<ResultEntry> {
    let mut found = Vec::new();
    for bytes in messages(data) {
        let Some(parts) = tree(bytes) else { continue };
        let Some(operation) = parts.into_iter().nth(1) else {
            continue;
        };
        let is_item = matches!(operation.id, 4 | 19 | 25);
        if operation.class == TagClass::Application && is_item {
            let mut item = ResultEntry::new(operation);
            item.1 = controls_of(bytes);
            found.push(item);
        }
    }
    found
}

fn controls_of(bytes: &[u8]) -> Vec<ldap3::controls::Control> {
    let list = || {
        let (_, content, _) = element(bytes)?;
        let (_, _, rest) = element(content)?;
        let (_, _, rest) = element(rest)?;
        let (_, list, _) = element(rest)?;
        controls(list)
    };
    list().unwrap_or_default()
}

/// The whole messages that the bytes begin with.
fn messages(mut data: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Extent::Whole(length) = frame(data) {
        let (message, rest) = data.split_at(length);
        all.push(message);
        data = rest;
    }
    all
}

/// A message as lber reads it; `None`: it cannot, or it would have to go deep.
fn tree(bytes: &[u8]) -> Option<Vec<StructureTag>> {
    let read = (depth(bytes, 0) < DEEPEST)
        .then(|| lber::parse::parse_tag(bytes).ok())
        .flatten();
    match read?.1.payload {
        PL::C(parts) => Some(parts),
        PL::P(_) => None,
    }
}

fn depth(mut bytes: &[u8], at: usize) -> usize {
    let mut deepest = at;
    if at < DEEPEST {
        while let Some((tag, content, rest)) = element(bytes) {
            if tag & CONSTRUCTED != 0 {
                deepest = deepest.max(depth(content, at + 1));
            }
            bytes = rest;
        }
    }
    deepest
}
