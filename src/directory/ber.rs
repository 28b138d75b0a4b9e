//! BER as LDAP uses it (RFC 4511 § 5.1): definite lengths, tags of one byte. Each step looks at one element, so that no message
//! can make the reader go deep, and no length is believed before the bytes are there.

/// Universal tags, and the sequence and set, which hold others.
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The bit of a tag whose element holds others.
pub(super) const CONSTRUCTED: u8 = 0x20;

/// The longest message that is read. An entry with a photograph has a few megabytes, the values of a huge group come in parts;
/// and of what goes through ldap3 there are some copies at once.
pub(super) const MAX_MESSAGE: usize = 16 << 20;

/// What the beginning of the bytes is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Extent {
    /// A whole message of so many bytes.
    Whole(usize),
    /// The beginning of one.
    Part,
    /// One that is longer than [`MAX_MESSAGE`].
    TooLong,
    /// No message.
    Nothing,
}

/// Tag, content and what follows; `None`: that is not all there, or no element.
pub(super) fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    // A tag of several bytes: LDAP has none.
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (length(bytes)?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// The content of an element of this tag, and what follows.
pub(super) fn expect(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    match element(input)? {
        (found, content, rest) if found == tag => Some((content, rest)),
        _ => None,
    }
}

/// A length in long form. It need not be the shortest one (that is DER). `None`: no such length can be.
fn length(bytes: &[u8]) -> Option<usize> {
    if bytes.is_empty() {
        return None;
    }
    let significant = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
    if significant.len() > size_of::<usize>() {
        return None;
    }
    Some(significant.iter().fold(0, |n, b| n << 8 | usize::from(*b)))
}

/// Whether a whole message has come.
pub(super) fn frame(input: &[u8]) -> Extent {
    let (first, rest) = match input {
        [] | [SEQUENCE] => return Extent::Part,
        [SEQUENCE, first, rest @ ..] => (*first, rest),
        _ => return Extent::Nothing,
    };
    let (content, head) = if first < 0x80 {
        (usize::from(first), 2)
    } else {
        let size = usize::from(first & 0x7f);
        match rest.get(..size) {
            // Indefinite, or reserved.
            _ if size == 0 || first == 0xff => return Extent::Nothing,
            None => return Extent::Part,
            Some(bytes) => match length(bytes) {
                Some(length) => (length, 2 + size),
                None => return Extent::TooLong,
            },
        }
    };
    if content > MAX_MESSAGE {
        Extent::TooLong
    } else if input.len() - head >= content {
        Extent::Whole(head + content)
    } else {
        Extent::Part
    }
}

/// A number that is not negative (result codes, message ids); `None`: it is longer than any of them.
pub(super) fn unsigned(content: &[u8]) -> Option<u32> {
    if content.is_empty() {
        return None;
    }
    let significant = &content[content.iter().take_while(|b| **b == 0).count()..];
    if significant.len() > size_of::<u32>() {
        return None;
    }
    Some(significant.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
}

/// Writes an element.
pub(super) fn push(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    push_length(out, content.len());
    out.extend(content);
}

/// Writes a number that is not negative, as short as it must be (X.690 § 8.3.2).
pub(super) fn push_number(out: &mut Vec<u8>, tag: u8, number: i32) {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take(3).take_while(|b| **b == 0).count();
    // A first bit that is set would make it negative.
    let skip = zeros.saturating_sub(usize::from(bytes[zeros] & 0x80 != 0));
    push(out, tag, &bytes[skip..]);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_element_comes_back_and_is_framed(content in prop::collection::vec(any::<u8>(), 0..70_000), after in prop::collection::vec(any::<u8>(), 0..4)) {
            let mut bytes = Vec::new();
            push(&mut bytes, SEQUENCE, &content);
            let whole = bytes.len();
            for cut in [0, 1, 2, 3, whole / 2, whole - 1] {
                if cut < whole {
                    prop_assert_eq!(frame(&bytes[..cut]), Extent::Part);
                    prop_assert_eq!(element(&bytes[..cut]), None);
                }
            }
            bytes.extend(&after);
            prop_assert_eq!(frame(&bytes), Extent::Whole(whole));
            prop_assert_eq!(element(&bytes), Some((SEQUENCE, &content[..], &after[..])));
        }

        #[test]
        fn trap_36_no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Extent::Whole(length) = frame(&bytes) {
                prop_assert!(length <= bytes.len());
            }
            let mut rest = &bytes[..];
            while let Some((_, _, after)) = element(rest) {
                prop_assert!(after.len() < rest.len());
                rest = after;
            }
            let _unused = unsigned(&bytes);
        }
    }

    #[test]
    fn numbers_are_as_short_as_they_must_be() {
        for (number, bytes) in [
            (0, &[0][..]),
            (127, &[127]),
            (128, &[0, 128]),
            (1000, &[3, 232]),
            (40_000, &[0, 156, 64]),
            (i32::MAX, &[127, 255, 255, 255]),
        ] {
            let mut out = Vec::new();
            push_number(&mut out, INTEGER, number);
            assert_eq!(expect(INTEGER, &out), Some((bytes, &[][..])));
            assert_eq!(unsigned(bytes), u32::try_from(number).ok());
        }
    }

    #[test]
    fn lengths_that_lie() {
        assert_eq!(
            frame(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
            Extent::TooLong
        );
        assert_eq!(
            frame(&[0x30, 0x8a, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Extent::TooLong
        );
        assert_eq!(frame(&[0x30, 0x80, 0, 0]), Extent::Nothing);
        assert_eq!(frame(&[0x30, 0xff]), Extent::Nothing);
        assert_eq!(frame(b"HTTP/1.1"), Extent::Nothing);
        assert_eq!(frame(&[0x30, 0x84, 0, 0, 0]), Extent::Part);
        assert_eq!(frame(&[0x30, 0x84, 0, 0, 0, 1, 5]), Extent::Whole(7));
        assert_eq!(element(&[0x1f, 0x01, 0x00]), None);
        assert_eq!(unsigned(&[0, 0, 0, 0, 0, 49]), Some(49));
        assert_eq!(unsigned(&[1, 0, 0, 0, 0]), None);
        assert_eq!(unsigned(&[]), None);
    }
}
