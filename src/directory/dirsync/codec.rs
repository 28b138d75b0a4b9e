//! The value of the control, in both directions: `SEQUENCE { flags INTEGER, size INTEGER, cookie OCTET STRING }`
//! (MS-ADTS 3.1.1.3.4.1.3). By hand, as the paging control is, and for the same reasons.

use super::super::ber::{element, push_length};

/// `LDAP_DIRSYNC_OBJECT_SECURITY`: what the account may see, without the right to replicate.
pub(super) const OBJECT_SECURITY: i32 = 1;

/// Bytes of attributes that one answer may hold. Active Directory itself gives at most a mebibyte or so.
const SIZE: i32 = 1 << 20;

/// What to ask with; an empty cookie begins.
pub(super) fn request(flags: i32, cookie: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(cookie.len() + 20);
    for number in [flags, SIZE] {
        body.extend([0x02, 4]);
        body.extend(number.to_be_bytes());
    }
    body.push(0x04);
    push_length(&mut body, cookie.len());
    body.extend(cookie);
    let mut value = vec![0x30];
    push_length(&mut value, body.len());
    value.extend(body);
    value
}

/// What an answer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct DirSyncResponse<'a> {
    /// Whether the server has more to tell at once.
    pub more: bool,
    /// Where to go on.
    pub cookie: &'a [u8],
}

/// The value of an answer's control; `None`: it is no such value, or has no cookie to go on from.
pub(super) fn answer(value: &[u8]) -> Option<DirSyncResponse<'_>> {
    let (0x30, sequence, []) = element(value)? else {
        return None;
    };
    let (0x02, more @ [_, ..], rest) = element(sequence)? else {
        return None;
    };
    let (0x02, [_, ..], rest) = element(rest)? else {
        return None;
    };
    let (0x04, cookie @ [_, ..], []) = element(rest)? else {
        return None;
    };
    Some(DirSyncResponse {
        more: more.iter().any(|b| *b != 0),
        cookie,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cookie_of_any_length_comes_back(flags in any::<i32>(), cookie in prop::collection::vec(any::<u8>(), 1..70_000)) {
            let request = request(flags, &cookie);
            prop_assert_eq!(answer(&request), Some(DirSyncResponse { more: flags != 0, cookie: &cookie }));
        }

        #[test]
        fn trap_36_no_control_value_panics(value in prop::collection::vec(any::<u8>(), 0..60)) {
            let _unused = answer(&value);
        }

        #[test]
        fn trap_36_no_damage_to_a_control_value_panics(
            at in 0..40usize,
            with in any::<u8>(),
            cookie in prop::collection::vec(any::<u8>(), 1..30),
        ) {
            let mut value = request(0, &cookie);
            let at = at % value.len();
            value[at] = with;
            if let Some(read) = answer(&value) {
                prop_assert!(read.cookie.len() <= value.len());
            }
        }
    }

    /// What Samba 4.17 sent.
    #[test]
    fn a_real_answer() {
        use base64::Engine as _;
        let raw = base64::engine::general_purpose::STANDARD
            .decode("MHQCAQACAQAEbE1TRFMDAAAAgNhSsCB83QEAAAAAAAAAACgAAACuEAAAAAAAAAAAAAAAAAAArhAAAAAAAADVU5cbL9ejTa0g7pkOInX4AQAAAAAAAAABAAAAAAAAANVTlxsv16NNrSDumQ4idfiuEAAAAAAAAA==")
            .unwrap();
        let read = answer(&raw).unwrap();
        assert!(!read.more && read.cookie.len() == 108 && read.cookie.starts_with(b"MSDS"));
        for cut in 0..raw.len() {
            assert_eq!(answer(&raw[..cut]), None);
        }
    }

    #[test]
    fn what_has_no_cookie_or_more_than_one_is_no_answer() {
        assert_eq!(answer(&request(0, b"")), None);
        assert_eq!(answer(&[0x30, 7, 2, 0, 2, 1, 0, 4, 0]), None);
        assert_eq!(
            answer(&[0x30, 12, 2, 1, 0, 2, 1, 0, 4, 1, b'x', 4, 1, b'y']),
            None
        );
        assert_eq!(
            answer(&[0x30, 10, 2, 2, 0, 1, 2, 1, 0, 4, 1, b'x']),
            Some(DirSyncResponse {
                more: true,
                cookie: b"x"
            })
        );
    }
}
