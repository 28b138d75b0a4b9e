//! The value of the paged results control, written and read by hand: ldap3's reader panics, and lber is
//! not bounded.

use super::ber::{INTEGER, OCTETS, SEQUENCE, expect, push, push_number};

/// `realSearchControlValue ::= SEQUENCE { size INTEGER, cookie OCTET STRING }` (RFC 2696).
pub(super) fn request(size: i32, cookie: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(cookie.len() + 16);
    push_number(&mut body, INTEGER, size);
    push(&mut body, OCTETS, cookie);
    let mut value = Vec::with_capacity(body.len() + 8);
    push(&mut value, SEQUENCE, &body);
    value
}

/// The cookie of an answer's control; `None`: it is no such value.
pub(super) fn cookie(value: &[u8]) -> Option<&[u8]> {
    let (sequence, []) = expect(SEQUENCE, value)? else {
        return None;
    };
    let (_, rest) = expect(INTEGER, sequence)?;
    match expect(OCTETS, rest)? {
        (cookie, []) => Some(cookie),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{cookie as cookie_of, request as request_of};

    proptest! {
        #[test]
        fn a_cookie_of_any_length_comes_back(size in 1..i32::MAX, cookie in prop::collection::vec(any::<u8>(), 0..70_000)) {
            let request = request_of(size, &cookie);
            prop_assert_eq!(cookie_of(&request), Some(&cookie[..]));
        }

        #[test]
        fn trap_36_no_control_value_panics(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let _unused = cookie_of(&value);
        }
    }

    #[test]
    fn trap_36_a_control_value_cut_short_or_with_a_huge_length_is_none() {
        let good = request_of(5, b"cookie");
        for cut in 0..good.len() {
            assert_eq!(cookie_of(&good[..cut]), None);
        }
        assert_eq!(
            cookie_of(&[0x30, 0x88, 255, 255, 255, 255, 255, 255, 255, 255, 0]),
            None
        );
        assert_eq!(cookie_of(&[0x30, 0xff]), None);
        assert_eq!(cookie_of(&[0x30, 0x80]), None);
        // Lengths need not be in the shortest form (RFC 4511 § 5.1 leaves that to DER).
        assert_eq!(
            cookie_of(&[0x30, 0x84, 0, 0, 0, 6, 2, 1, 0, 4, 1, b'x']),
            Some(&b"x"[..])
        );
    }
}
