//! GeneralizedTime (RFC 4517 § 3.3.13), as servers write their operational timestamps: in UTC, seconds or finer.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const FORM: &str = "%Y%m%d%H%M%S";

/// Seconds since 1970; a fraction is dropped. `None`: no instant in UTC.
pub(in crate::directory) fn parse(raw: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(raw).ok()?.trim();
    let digits = text.get(..14)?;
    let rest = text.get(14..)?.strip_suffix(['Z', 'z'])?;
    let fraction = rest.strip_prefix(['.', ',']).unwrap_or(rest);
    if !digits
        .bytes()
        .chain(fraction.bytes())
        .all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let date = DateTime::strptime(FORM, digits).ok()?;
    let at = TimeZone::UTC.to_timestamp(date).ok()?;
    Some(at.as_second())
}

/// As a value of a filter; `None`: not a year of four digits.
pub(super) fn show(seconds: i64) -> Option<String> {
    let text = Timestamp::from_second(seconds)
        .ok()?
        .strftime(FORM)
        .to_string();
    (text.len() == 14 && text.bytes().all(|b| b.is_ascii_digit())).then(|| format!("{text}Z"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_instant_comes_back(seconds in -62_000_000_000_i64..253_000_000_000) {
            let shown = show(seconds).unwrap();
            prop_assert_eq!(parse(shown.as_bytes()), Some(seconds));
            prop_assert_eq!(parse(shown.replace('Z', ".987Z").as_bytes()), Some(seconds));
        }

        #[test]
        fn trap_36_no_value_panics(raw in prop::collection::vec(any::<u8>(), 0..24), seconds in any::<i64>()) {
            let _unused = parse(&raw);
            let _unused = show(seconds);
        }
    }

    #[test]
    fn what_is_no_instant_in_utc_is_none() {
        assert_eq!(parse(b"19700101000001Z"), Some(1));
        for odd in [
            "",
            "19700101000001",
            "197001010000Z",
            "19700101000001+0100",
            "+9700101000001Z",
            "19701301000001Z",
            "19700101000001.xZ",
        ] {
            assert_eq!(parse(odd.as_bytes()), None, "{odd}");
        }
    }
}
