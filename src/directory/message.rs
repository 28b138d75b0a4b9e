//! The messages of a server, read where they lie (RFC 4511 § 4.1.1): nothing is copied but what a result says.

use ldap3::LdapResult;
use ldap3::controls::{Control, RawControl};

use super::ber::{BOOLEAN, ENUMERATED, INTEGER, OCTETS, SEQUENCE, element, expect, unsigned};

pub(super) const BIND_RESPONSE: u8 = 0x61;
pub(super) const SEARCH_ENTRY: u8 = 0x64;
pub(super) const SEARCH_DONE: u8 = 0x65;
pub(super) const SEARCH_REFERENCE: u8 = 0x73;
pub(super) const EXTENDED_RESPONSE: u8 = 0x78;
pub(super) const INTERMEDIATE: u8 = 0x79;
pub(super) const CONTROLS: u8 = 0xa0;
pub(super) const REFERRAL: u8 = 0xa3;
pub(super) const RESPONSE_NAME: u8 = 0x8a;

/// Notice of disconnection (RFC 4511 § 4.4.1).
const DISCONNECTION: &[u8] = b"1.3.6.1.4.1.1466.20036";

/// A reference that says nothing: it still hides a part of the tree.
const UNREADABLE: &str = "no reference that can be read";

/// A message of a server.
pub(super) struct LdapMessage<'a> {
    /// The id of the request that it answers; 0: of none.
    pub id: u32,
    pub said: ProtocolOp<'a>,
}

/// What a server said.
pub(super) enum ProtocolOp<'a> {
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
pub(super) fn message(bytes: &[u8]) -> Option<LdapMessage<'_>> {
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
            ProtocolOp::Entry { dn, attributes }
        }
        SEARCH_REFERENCE => ProtocolOp::Reference(references(operation)),
        BIND_RESPONSE | SEARCH_DONE | EXTENDED_RESPONSE => {
            let (result, name) = result(operation, after)?;
            if tag == EXTENDED_RESPONSE && id == 0 && name == Some(DISCONNECTION) {
                ProtocolOp::Goodbye(result)
            } else {
                ProtocolOp::Result(tag, result)
            }
        }
        INTERMEDIATE => ProtocolOp::Aside,
        _ => return None,
    };
    Some(LdapMessage { id, said })
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
fn result<'a>(operation: &'a [u8], after: &'a [u8]) -> Option<(LdapResult, Option<&'a [u8]>)> {
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
        match tag {
            CONTROLS => result.ctrls = controls(content)?,
            // Active Directory puts the name of its notice of disconnection behind the operation.
            RESPONSE_NAME => name = Some(content),
            _ => {}
        }
        after = next;
    }
    Some((result, name))
}

pub(super) fn controls(mut list: &[u8]) -> Option<Vec<Control>> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ber::push;
    use super::super::{paging, request};
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push(&mut out, tag, content);
        out
    }

    fn result_of(tag: u8, id: u8, extra: &[u8], after: &[u8]) -> Vec<u8> {
        let fields = [
            &[0x0a, 1, 4][..],
            &tlv(OCTETS, b"dc=x"),
            &tlv(OCTETS, b"why"),
            extra,
        ]
        .concat();
        tlv(
            SEQUENCE,
            &[&[INTEGER, 1, id][..], &tlv(tag, &fields), after].concat(),
        )
    }

    fn a_control() -> Vec<u8> {
        let value = tlv(OCTETS, &paging::request(0, b"cookie"));
        tlv(
            SEQUENCE,
            &[tlv(OCTETS, b"1.2.3"), tlv(BOOLEAN, &[0xff]), value].concat(),
        )
    }

    #[test]
    fn a_result_with_everything_that_may_be_in_it() {
        let referral = tlv(REFERRAL, &tlv(OCTETS, b"ldap://other"));
        let bytes = result_of(SEARCH_DONE, 7, &referral, &tlv(CONTROLS, &a_control()));
        let Some(LdapMessage {
            id: 7,
            said: ProtocolOp::Result(SEARCH_DONE, result),
        }) = message(&bytes)
        else {
            panic!("no result");
        };
        assert_eq!(
            (result.rc, result.matched.as_str(), result.text.as_str()),
            (4, "dc=x", "why")
        );
        assert_eq!(result.refs, ["ldap://other"]);
        let control = &result.ctrls[0].1;
        assert!(control.crit && control.ctype == "1.2.3");
        assert_eq!(
            control.val.as_deref().and_then(paging::cookie),
            Some(&b"cookie"[..])
        );
    }

    #[test]
    fn trap_06_a_notice_of_disconnection_is_one_only_unasked() {
        let name = tlv(RESPONSE_NAME, DISCONNECTION);
        let said = |id| {
            let bytes = result_of(EXTENDED_RESPONSE, id, &name, &[]);
            matches!(message(&bytes).unwrap().said, ProtocolOp::Goodbye(_))
        };
        assert!(said(0) && !said(1));
        // As Active Directory writes it.
        let bytes = result_of(EXTENDED_RESPONSE, 0, &[], &name);
        assert!(matches!(
            message(&bytes).unwrap().said,
            ProtocolOp::Goodbye(_)
        ));
    }

    #[test]
    fn requests_are_no_answers() {
        for operation in [
            request::unbind(),
            request::start_tls(),
            request::simple_bind("a", "b"),
        ] {
            assert!(message(&request::message(1, &operation, &[])).is_none());
        }
    }

    proptest! {
        #[test]
        fn trap_36_no_bytes_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let _any = message(&bytes);
            let mut good = result_of(SEARCH_DONE, 7, &[], &tlv(CONTROLS, &a_control()));
            for (at, byte) in flips {
                let at = at.index(good.len());
                good[at] = byte;
            }
            let _flipped = message(&good);
            good.truncate(cut.index(good.len()));
            let _cut = message(&good);
        }
    }
}
