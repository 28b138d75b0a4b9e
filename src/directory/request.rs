//! The few requests of the connection that reads everybody, written as bytes (RFC 4511).

use lber::structure::{PL, StructureTag};
use lber::structures::ASNTag;
use ldap3::Scope as Depth;
use ldap3::controls::RawControl;

use super::ber::{BOOLEAN, ENUMERATED, INTEGER, OCTETS, SEQUENCE, push, push_number};

/// The protocol's version.
const VERSION: i32 = 3;
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

const BIND: u8 = 0x60;
const UNBIND: u8 = 0x42;
const SEARCH: u8 = 0x63;
const EXTENDED: u8 = 0x77;
const SIMPLE: u8 = 0x80;
const SASL: u8 = 0xa3;
const EXTENDED_NAME: u8 = 0x80;
const CONTROLS: u8 = 0xa0;

/// A whole message of a request with an id.
pub(super) fn message(id: i32, operation: &[u8], controls: &[RawControl]) -> Vec<u8> {
    let mut content = Vec::with_capacity(operation.len() + 64);
    push_number(&mut content, INTEGER, id);
    content.extend(operation);
    if !controls.is_empty() {
        let mut list = Vec::new();
        for control in controls {
            let mut one = Vec::new();
            push(&mut one, OCTETS, control.ctype.as_bytes());
            if control.crit {
                push(&mut one, BOOLEAN, &[0xff]);
            }
            if let Some(value) = &control.val {
                push(&mut one, OCTETS, value);
            }
            push(&mut list, SEQUENCE, &one);
        }
        push(&mut content, CONTROLS, &list);
    }
    let mut message = Vec::with_capacity(content.len() + 8);
    push(&mut message, SEQUENCE, &content);
    message
}

/// A simple bind (RFC 4513 § 5.1.3).
pub(super) fn simple_bind(dn: &str, password: &str) -> Vec<u8> {
    bind(dn, SIMPLE, password.as_bytes())
}

/// A bind by what TLS knows of us (RFC 4513 § 5.2.3).
pub(super) fn external_bind() -> Vec<u8> {
    let mut credentials = Vec::new();
    push(&mut credentials, OCTETS, b"EXTERNAL");
    push(&mut credentials, OCTETS, b"");
    bind("", SASL, &credentials)
}

fn bind(dn: &str, way: u8, credentials: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    push_number(&mut body, INTEGER, VERSION);
    push(&mut body, OCTETS, dn.as_bytes());
    push(&mut body, way, credentials);
    operation(BIND, &body)
}

pub(super) fn start_tls() -> Vec<u8> {
    let mut body = Vec::new();
    push(&mut body, EXTENDED_NAME, START_TLS);
    operation(EXTENDED, &body)
}

pub(super) fn unbind() -> Vec<u8> {
    operation(UNBIND, &[])
}

/// A search without limits of its own, that follows no alias. `None`: the filter is none.
pub(super) fn search<A: AsRef<str>>(
    base: &str,
    depth: Depth,
    filter: &str,
    attributes: &[A],
) -> Option<Vec<u8>> {
    let depth: u8 = match depth {
        Depth::Base => 0,
        Depth::OneLevel => 1,
        Depth::Subtree => 2,
    };
    let mut body = Vec::new();
    push(&mut body, OCTETS, base.as_bytes());
    push(&mut body, ENUMERATED, &[depth]);
    push(&mut body, ENUMERATED, &[0]);
    push_number(&mut body, INTEGER, 0);
    push_number(&mut body, INTEGER, 0);
    push(&mut body, BOOLEAN, &[0]);
    push_tag(
        &mut body,
        ldap3::parse_filter(filter).ok()?.into_structure(),
    );
    let mut list = Vec::new();
    for attribute in attributes {
        push(&mut list, OCTETS, attribute.as_ref().as_bytes());
    }
    push(&mut body, SEQUENCE, &list);
    Some(operation(SEARCH, &body))
}

fn operation(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut operation = Vec::with_capacity(body.len() + 8);
    push(&mut operation, tag, body);
    operation
}

/// A filter as ldap3 read it, as deep as the administrator wrote it. Its tags have one byte.
fn push_tag(out: &mut Vec<u8>, tag: StructureTag) {
    let class = (tag.class as u8) << 6;
    let number = u8::try_from(tag.id & 0x1f).unwrap_or_default();
    match tag.payload {
        PL::P(content) => push(out, class | number, &content),
        PL::C(parts) => {
            let mut content = Vec::new();
            for part in parts {
                push_tag(&mut content, part);
            }
            push(out, class | 0x20 | number, &content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ber::{element, expect};
    use super::*;

    #[test]
    fn a_search_is_written_as_the_standard_says() {
        let bytes = search("dc=x", Depth::Subtree, "(&(a=b)(!(c=*)))", &["uid"]).unwrap();
        let (SEARCH, body, []) = element(&bytes).unwrap() else {
            panic!("no search");
        };
        let filter = [
            &[0xa0, 13][..],
            &[0xa3, 6, 4, 1, b'a', 4, 1, b'b'],
            &[0xa2, 3, 0x87, 1, b'c'],
        ]
        .concat();
        let expected = [
            &[4, 4][..],
            b"dc=x",
            &[10, 1, 2, 10, 1, 0, 2, 1, 0, 2, 1, 0, 1, 1, 0],
            &filter,
            &[0x30, 5, 4, 3],
            b"uid",
        ]
        .concat();
        assert_eq!(body, expected);
        assert!(search("dc=x", Depth::Base, "(a=b", &["uid"]).is_none());
    }

    #[test]
    fn controls_follow_the_operation() {
        let control = |crit, val| RawControl {
            ctype: "1.2".into(),
            crit,
            val,
        };
        let controls = [control(true, None), control(false, Some(vec![7]))];
        let bytes = message(300, &unbind(), &controls);
        let expected = [
            &[2, 2, 1, 44, 0x42, 0, 0xa0, 20][..],
            &[0x30, 8, 4, 3, b'1', b'.', b'2', 1, 1, 0xff],
            &[0x30, 8, 4, 3, b'1', b'.', b'2', 4, 1, 7],
        ]
        .concat();
        assert_eq!(expect(SEQUENCE, &bytes), Some((&expected[..], &[][..])));
    }

    #[test]
    fn binds_are_written_as_the_standard_says() {
        let simple = [&[0x60, 11, 2, 1, 3, 4, 1, b'a', 0x80, 3][..], b"pwd"].concat();
        assert_eq!(simple_bind("a", "pwd"), simple);
        let external = [
            &[0x60, 19, 2, 1, 3, 4, 0, 0xa3, 12, 4, 8][..],
            b"EXTERNAL",
            &[4, 0],
        ]
        .concat();
        assert_eq!(external_bind(), external);
    }
}
