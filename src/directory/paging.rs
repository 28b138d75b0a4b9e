//! The value of the paged results control, written and read by hand: ldap3's reader panics, and lber's recurses as deep as
//! the server likes.

/// `realSearchControlValue ::= SEQUENCE { size INTEGER, cookie OCTET STRING }` (RFC 2696).
pub(super) fn request(size: i32, cookie: &[u8]) -> Vec<u8> {
    let mut body = vec![0x02, 4];
    body.extend(size.to_be_bytes());
    body.push(0x04);
    push_length(&mut body, cookie.len());
    body.extend(cookie);
    let mut value = vec![0x30];
    push_length(&mut value, body.len());
    value.extend(body);
    value
}

pub(super) fn push_length(out: &mut Vec<u8>, length: usize) {
    if let Ok(short @ 0..0x80) = u8::try_from(length) {
        out.push(short);
        return;
    }
    let bytes = length.to_be_bytes();
    let bytes = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
    // At most eight bytes.
    out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(8));
    out.extend(bytes);
}

/// The cookie of an answer's control; `None`: it is no such value.
pub(super) fn cookie(value: &[u8]) -> Option<&[u8]> {
    let (0x30, sequence, []) = element(value)? else {
        return None;
    };
    let (0x02, _, rest) = element(sequence)? else {
        return None;
    };
    match element(rest)? {
        (0x04, cookie, []) => Some(cookie),
        _ => None,
    }
}

/// Tag, content and what follows.
pub(super) fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = input.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short @ 0..0x80 => (usize::from(*short), rest),
        long => {
            let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let significant = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
            if significant.is_empty() && bytes.is_empty() || significant.len() > size_of::<usize>()
            {
                return None;
            }
            (
                significant.iter().fold(0, |n, b| n << 8 | usize::from(*b)),
                rest,
            )
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
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
