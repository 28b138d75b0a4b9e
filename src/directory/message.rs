//! The messages of a server, read where they lie (RFC 4511 § 4.1.1): nothing is copied but what a result says.

use ldap3::LdapResult;
use ldap3::controls::{Control, RawControl};

use super::ber::{BOOLEAN, ENUMERATED, INTEGER, OCTETS, SEQUENCE, element, expect, unsigned};

pub(super) const BIND_RESPONSE: u8 = 0x61;
const SEARCH_ENTRY: u8 = 0x64;
pub(super) const SEARCH_DONE: u8 = 0x65;
const SEARCH_REFERENCE: u8 = 0x73;
pub(super) const EXTENDED_RESPONSE: u8 = 0x78;
const INTERMEDIATE: u8 = 0x79;
const CONTROLS: u8 = 0xa0;
const REFERRAL: u8 = 0xa3;
const RESPONSE_NAME: u8 = 0x8a;

/// Notice of disconnection (RFC 4511 § 4.4.1).
const DISCONNECTION: &[u8] = b"1.3.6.1.4.1.1466.20036";

/// A reference that says nothing: it still hides a part of the tree.
const UNREADABLE: &str = "no reference that can be read";

/// A message of a server.
pub(super) struct Message<'a> {
    /// The id of the request that it answers; 0: of none.
    pub id: u32,
    pub said: Said<'a>,
}

/// What a server said.
pub(super) enum Said<'a> {
    /// A search result entry: its DN, and the list of its attributes.
    Entry { dn: &'a [u8], attributes: &'a [u8] },
    /// A search result reference: where another part of the tree is.
    Reference(Vec<String>),
    /// A result, with the tag of its kind.
    Result(u8, LdapResult),
    /// The server is about to close the connection.
    Goodbye(LdapResult),
    /// An intermediate response (RFC 4511 § 4.13), which no request of ours asks for.
    Aside,
}

/// A whole message; `None`: it is no LDAP that can be read, or none that a client gets.
pub(super) fn message(bytes: &[u8]) -> Option<Message<'_>> {
    let (content, []) = expect(SEQUENCE, bytes)? else {
        return None;
    };
    let (id, rest) = expect(INTEGER, content)?;
    let id = unsigned(id)?;
    let (tag, operation, after) = element(rest)?;
    let said = match tag {
        SEARCH_ENTRY => {
            let (dn, rest) = expect(OCTETS, operation)?;
            let (attributes, []) = expect(SEQUENCE, rest)? else {
                return None;
            };
            Said::Entry { dn, attributes }
        }
        SEARCH_REFERENCE => Said::Reference(references(operation)),
        BIND_RESPONSE | SEARCH_DONE | EXTENDED_RESPONSE => {
            let (result, name) = result(operation, after)?;
            if tag == EXTENDED_RESPONSE && id == 0 && name == Some(DISCONNECTION) {
                Said::Goodbye(result)
            } else {
                Said::Result(tag, result)
            }
        }
        INTERMEDIATE => Said::Aside,
        _ => return None,
    };
    Some(Message { id, said })
}

fn references(mut list: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while !list.is_empty() {
        let Some((url, rest)) = expect(OCTETS, list) else {
            all.push(UNREADABLE.into());
            return all;
        };
        all.push(String::from_utf8_lossy(url).into_owned());
        list = rest;
    }
    if all.is_empty() {
        all.push(UNREADABLE.into());
    }
    all
}

/// `LDAPResult` (RFC 4511 § 4.1.9), and the name of an extended response.
fn result<'a>(operation: &'a [u8], after: &[u8]) -> Option<(LdapResult, Option<&'a [u8]>)> {
    let (code, rest) = expect(ENUMERATED, operation)?;
    let (matched, rest) = expect(OCTETS, rest)?;
    let (said, mut rest) = expect(OCTETS, rest)?;
    let mut result = LdapResult {
        rc: unsigned(code)?,
        // A DN need not be text, and nobody looks at it.
        matched: String::from_utf8_lossy(matched).into_owned(),
        text: text(said)?,
        refs: Vec::new(),
        ctrls: Vec::new(),
    };
    let mut name = None;
    while !rest.is_empty() {
        let (tag, content, next) = element(rest)?;
        match tag {
            REFERRAL => result.refs = references(content),
            RESPONSE_NAME => name = Some(content),
            // Credentials, a value, or what a later standard adds.
            _ => {}
        }
        rest = next;
    }
    let mut after = after;
    while !after.is_empty() {
        let (tag, content, next) = element(after)?;
        if tag == CONTROLS {
            result.ctrls = controls(content)?;
        }
        after = next;
    }
    Some((result, name))
}

fn controls(mut list: &[u8]) -> Option<Vec<Control>> {
    let mut all = Vec::new();
    while !list.is_empty() {
        let (control, next) = expect(SEQUENCE, list)?;
        let (oid, mut rest) = expect(OCTETS, control)?;
        let (mut crit, mut val) = (false, None);
        while !rest.is_empty() {
            let (tag, content, next) = element(rest)?;
            match (tag, content) {
                (BOOLEAN, [value]) => crit = *value != 0,
                (OCTETS, value) => val = Some(value.to_vec()),
                _ => return None,
            }
            rest = next;
        }
        let ctype = text(oid)?;
        all.push(Control(None, RawControl { ctype, crit, val }));
        list = next;
    }
    Some(all)
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}
