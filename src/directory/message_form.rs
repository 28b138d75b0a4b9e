//! What a message of a server must look like before ldap3 and lber see it. lber is not bounded: it believes what it reads. So
//! length, depth, number and form of the elements are checked here, in one pass over the bytes, without a call that goes deeper.

use super::ber::{
    BOOLEAN, CONSTRUCTED, ENUMERATED, INTEGER, MAX_MESSAGE, OCTETS, SEQUENCE, element, expect,
    unsigned,
};
use super::message::{
    BIND_RESPONSE, CONTROLS, EXTENDED_RESPONSE, INTERMEDIATE, REFERRAL, RESPONSE_NAME, SEARCH_DONE,
    SEARCH_ENTRY, SEARCH_REFERENCE,
};

/// Elements within elements. A value of an entry lies six deep.
pub(super) const MAX_DEPTH: usize = 16;

/// Elements of one message: what lber makes of each takes far more memory than the bytes of a small one.
pub(super) const MAX_ELEMENTS: usize = 1 << 18;

/// What lber needs for an element beside its bytes.
const ELEMENT: usize = 64;

/// Why a message is not handed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Misshapen {
    /// It is longer than [`MAX_MESSAGE`].
    Long,
    /// It is nested deeper than [`MAX_DEPTH`].
    Deep,
    /// It has more elements than [`MAX_ELEMENTS`].
    Many,
    /// It is no LDAP, or not in this place.
    Form(&'static str),
}

impl Misshapen {
    /// What came, in words.
    pub(super) fn came(self) -> String {
        match self {
            Self::Long => format!("a message of more than {} MiB", MAX_MESSAGE >> 20),
            Self::Deep => format!("a message that is nested deeper than {MAX_DEPTH} levels"),
            Self::Many => format!("a message of more than {MAX_ELEMENTS} elements"),
            Self::Form(what) => format!("{}: {what}", super::link::UNREADABLE),
        }
    }
}

/// What a message is, as far as it must be known to hand it on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// The id of the request that it answers; 0: of none.
    pub id: u32,
    /// The tag of its operation.
    pub operation: u8,
    /// Bytes that ldap3 keeps of it, about.
    pub weight: usize,
}

/// Checks a whole message of a server.
pub(super) fn check(bytes: &[u8]) -> Result<Head, Misshapen> {
    if bytes.len() > MAX_MESSAGE + 16 {
        return Err(Misshapen::Long);
    }
    let elements = nested(bytes)?;
    Ok(Head {
        weight: bytes.len() + elements * ELEMENT,
        ..head(bytes)?
    })
}

/// Checks that the bytes are elements within elements to the last one, and not too many or too deep. How many there are.
fn nested(bytes: &[u8]) -> Result<usize, Misshapen> {
    // What is still to be read at each level, the deepest last.
    let mut rest: [&[u8]; MAX_DEPTH] = [&[]; MAX_DEPTH];
    let (mut depth, mut count) = (0, 0_usize);
    rest[0] = bytes;
    loop {
        if rest[depth].is_empty() {
            if depth == 0 {
                return Ok(count);
            }
            depth -= 1;
            continue;
        }
        let (tag, content, after) =
            element(rest[depth]).ok_or(Misshapen::Form("an element that cannot be read"))?;
        rest[depth] = after;
        count += 1;
        if count > MAX_ELEMENTS {
            return Err(Misshapen::Many);
        }
        if tag & CONSTRUCTED != 0 {
            depth += 1;
            if depth == MAX_DEPTH {
                return Err(Misshapen::Deep);
            }
            rest[depth] = content;
        }
    }
}

/// `LDAPMessage` (RFC 4511 § 4.1.1), as far as ldap3 takes it for granted.
fn head(bytes: &[u8]) -> Result<Head, Misshapen> {
    let no_message = Misshapen::Form("no message");
    let (content, rest) = expect(SEQUENCE, bytes).ok_or(no_message)?;
    let (id, after_id) = expect(INTEGER, content).ok_or(Misshapen::Form("no message id"))?;
    let id = unsigned(id)
        .filter(|id| i32::try_from(*id).is_ok())
        .ok_or(Misshapen::Form("a message id that cannot be"))?;
    let (operation, inside, after) =
        element(after_id).ok_or(Misshapen::Form("a message without an operation"))?;
    if !rest.is_empty() {
        return Err(no_message);
    }
    match operation {
        SEARCH_ENTRY | SEARCH_REFERENCE | INTERMEDIATE => {}
        BIND_RESPONSE | SEARCH_DONE | EXTENDED_RESPONSE => {
            result(inside).ok_or(Misshapen::Form("a result that cannot be read"))?;
        }
        _ => return Err(Misshapen::Form("an operation that is no answer")),
    }
    if !after.is_empty() {
        // Active Directory puts the name of its notice of disconnection here.
        let (tag, list, end) = element(after).ok_or(no_message)?;
        if !end.is_empty() {
            return Err(Misshapen::Form("more than a message may hold"));
        }
        match tag {
            CONTROLS => controls(list).ok_or(Misshapen::Form("controls that cannot be read"))?,
            RESPONSE_NAME => {}
            _ => return Err(Misshapen::Form("more than a message may hold")),
        }
    }
    Ok(Head {
        id,
        operation,
        weight: 0,
    })
}

/// `LDAPResult` (RFC 4511 § 4.1.9). ldap3 makes text of the matched DN, of the diagnostic message and of names.
fn result(content: &[u8]) -> Option<()> {
    let (code, rest) = expect(ENUMERATED, content)?;
    unsigned(code)?;
    let (matched, rest) = expect(OCTETS, rest)?;
    let (said, mut rest) = expect(OCTETS, rest)?;
    std::str::from_utf8(matched).ok()?;
    std::str::from_utf8(said).ok()?;
    while !rest.is_empty() {
        let (tag, content, next) = element(rest)?;
        match (tag & 0x1f, tag & CONSTRUCTED != 0) {
            (3, _) => {
                if tag != REFERRAL {
                    return None;
                }
                referral(content)?;
            }
            (10, false) => {
                std::str::from_utf8(content).ok()?;
            }
            (7 | 10 | 11, true) => return None,
            _ => {}
        }
        rest = next;
    }
    Some(())
}

fn referral(mut list: &[u8]) -> Option<()> {
    while !list.is_empty() {
        let (url, next) = expect(OCTETS, list)?;
        std::str::from_utf8(url).ok()?;
        list = next;
    }
    Some(())
}

fn controls(mut list: &[u8]) -> Option<()> {
    while !list.is_empty() {
        let (control, next) = expect(SEQUENCE, list)?;
        let (name, mut rest) = expect(OCTETS, control)?;
        std::str::from_utf8(name).ok()?;
        if let Some(([_], after)) = expect(BOOLEAN, rest) {
            rest = after;
        }
        if let Some((_, after)) = expect(OCTETS, rest) {
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
        list = next;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ber::{SET, push};
    use super::super::request;
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push(&mut out, tag, content);
        out
    }

    fn message(operation: &[u8], after: &[u8]) -> Vec<u8> {
        tlv(SEQUENCE, &[&[INTEGER, 1, 7][..], operation, after].concat())
    }

    /// An entry whose only value is nested so that the message is `depth` levels deep.
    fn nested_to(depth: usize) -> Vec<u8> {
        // Message, operation, and so many lists; the innermost holds a primitive.
        let inner = (0..depth - 3).fold(tlv(OCTETS, b"x"), |inner, _| tlv(SEQUENCE, &inner));
        message(&tlv(SEARCH_ENTRY, &inner), &[])
    }

    fn result_with(extra: &[u8]) -> Vec<u8> {
        let fields = [
            &[ENUMERATED, 1, 0][..],
            &tlv(OCTETS, b""),
            &tlv(OCTETS, b""),
            extra,
        ];
        message(&tlv(SEARCH_DONE, &fields.concat()), &[])
    }

    #[test]
    fn what_is_just_at_a_cap_passes_and_what_is_just_above_does_not() {
        assert!(check(&nested_to(MAX_DEPTH)).is_ok());
        assert_eq!(check(&nested_to(MAX_DEPTH + 1)), Err(Misshapen::Deep));

        // Message, id, operation, DN, list; the rest are values.
        let of = |values: usize| {
            let list = tlv(SEQUENCE, &tlv(OCTETS, b"").repeat(values));
            message(&tlv(SEARCH_ENTRY, &[tlv(OCTETS, b""), list].concat()), &[])
        };
        assert!(check(&of(MAX_ELEMENTS - 5)).is_ok());
        assert_eq!(check(&of(MAX_ELEMENTS - 4)), Err(Misshapen::Many));

        let long = message(&tlv(SEARCH_ENTRY, &tlv(OCTETS, &vec![0; MAX_MESSAGE])), &[]);
        assert_eq!(check(&long), Err(Misshapen::Long));
    }

    #[test]
    fn an_entry_with_values_and_a_control_passes() {
        let values = tlv(SET, &[tlv(OCTETS, b"a"), tlv(OCTETS, b"b")].concat());
        let attribute = tlv(SEQUENCE, &[tlv(OCTETS, b"uid"), values].concat());
        let entry = [tlv(OCTETS, b"uid=a"), tlv(SEQUENCE, &attribute)].concat();
        let control = tlv(
            SEQUENCE,
            &[
                tlv(OCTETS, b"1.2.3"),
                tlv(BOOLEAN, &[0xff]),
                tlv(OCTETS, b"v"),
            ]
            .concat(),
        );
        let bytes = message(&tlv(SEARCH_ENTRY, &entry), &tlv(CONTROLS, &control));
        let head = Head {
            id: 7,
            operation: SEARCH_ENTRY,
            // Fifteen elements: the message, its id, an entry of a name and an attribute of two values, a control of three parts.
            weight: bytes.len() + 15 * ELEMENT,
        };
        assert_eq!(check(&bytes), Ok(head));
        // As Active Directory says goodbye.
        let name = tlv(RESPONSE_NAME, b"1.2.3");
        let goodbye = result_with(&[]);
        let (content, _) = expect(SEQUENCE, &goodbye).unwrap();
        assert!(check(&tlv(SEQUENCE, &[content, &name].concat())).is_ok());
    }

    #[test]
    fn what_ldap3_takes_for_granted_is_there_or_it_never_sees_the_message() {
        for (what, bytes) in [
            ("nothing inside", tlv(SEQUENCE, b"")),
            ("no id", tlv(SEQUENCE, &tlv(SEARCH_ENTRY, b""))),
            (
                "a negative id",
                tlv(
                    SEQUENCE,
                    &[
                        &[INTEGER, 4, 0xff, 0xff, 0xff, 0xff][..],
                        &tlv(SEARCH_ENTRY, b""),
                    ]
                    .concat(),
                ),
            ),
            ("no operation", message(&[], &[])),
            ("a request", request::message(1, &request::unbind(), &[])),
            (
                "a result without fields",
                message(&tlv(SEARCH_DONE, b""), &[]),
            ),
            ("a name that is a list", result_with(&tlv(0xaa, b""))),
            ("a name that is no text", result_with(&tlv(0x8a, b"\xff"))),
            (
                "a referral that is no text",
                result_with(&tlv(REFERRAL, &tlv(OCTETS, b"\xff"))),
            ),
            ("a referral that is no list", result_with(&tlv(0x83, b"x"))),
            (
                "two trailers",
                message(&tlv(SEARCH_ENTRY, b""), &tlv(CONTROLS, b"").repeat(2)),
            ),
            (
                "a control that is a string",
                message(&tlv(SEARCH_ENTRY, b""), &tlv(CONTROLS, &tlv(OCTETS, b"x"))),
            ),
            (
                "a tail behind the message",
                [message(&tlv(SEARCH_ENTRY, b""), &[]), vec![OCTETS, 0]].concat(),
            ),
        ] {
            assert!(
                matches!(check(&bytes), Err(Misshapen::Form(_))),
                "{what}: {:?}",
                check(&bytes)
            );
        }
    }

    proptest! {
        #[test]
        fn trap_36_what_passes_lber_reads_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut good = result_with(&tlv(REFERRAL, &tlv(OCTETS, b"ldap://x")));
            for (at, byte) in flips {
                let at = at.index(good.len());
                good[at] = byte;
            }
            for bytes in [&bytes, &good] {
                if check(bytes).is_ok() {
                    let (rest, _) = lber::parse::parse_tag(bytes).unwrap();
                    prop_assert!(rest.is_empty());
                }
            }
        }
    }
}
