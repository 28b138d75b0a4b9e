//! What an answer means (design § 6). Pure: a table, so that every row can be tried.

use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;

use crate::clock::Timestamp;

/// `Retry-After` is honoured up to an hour: a receiver that says more would keep a message from being told for a day.
const LONGEST_WAIT_MS: i64 = 3_600_000;

/// What to do with the message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The receiver has it.
    Accepted,
    /// The receiver will never take it; what it said, for people.
    Final(String),
    /// To be tried again with the same key and body.
    Again {
        /// What was met, for people.
        why: String,
        /// The receiver may have it all the same: a time-out, a connection that broke after the request began.
        unknown_end: bool,
        /// `Retry-After` in milliseconds from now, at most an hour; `None`: not said.
        retry_after_ms: Option<i64>,
    },
}

/// One attempt, for the outbox and its numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// What to do.
    pub verdict: Verdict,
    /// The answer's status; `None`: there was no answer.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// Why there was no complete answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransportFailure {
    /// No connection: refused, no such name, TLS failed. Nothing was sent; the text says what was met.
    NotConnected(String),
    /// The whole answer was not there in time; milliseconds.
    TimedOut(u64),
    /// The connection broke after the request began.
    Broken(String),
    /// The request could not be made at all.
    NotMade(String),
}

/// The verdict over an answer that came completely, or was cut at the cap. `uncertain`: an earlier attempt had an unknown end, so that
/// a conflict says that the message is there already.
pub fn judge_status(
    status: u16,
    uncertain: bool,
    retry_after_header: Option<&str>,
    now: Timestamp,
) -> Verdict {
    let retry_after_ms = retry_after_header.and_then(|value| retry_after(value, now));
    let again = |why: String| Verdict::Again {
        why,
        unknown_end: false,
        retry_after_ms,
    };
    match status {
        200..=299 => Verdict::Accepted,
        409 if uncertain => Verdict::Accepted,
        409 => Verdict::Final(
            "the receiver answered 409: it has another message under this id, and will never take this one"
                .to_owned(),
        ),
        400 | 410 | 413 | 415 | 422 => Verdict::Final(format!(
            "the receiver answered {status}: it will never take this message"
        )),
        300..=399 => again(format!(
            "the receiver answered {status}: redirects are not followed, set delivery.url to where it is"
        )),
        401 | 403 => again(format!(
            "the receiver answered {status}: check the webhook's secret on both sides"
        )),
        404 => again("the receiver answered 404: check delivery.url".to_owned()),
        _ => again(format!("the receiver answered {status}")),
    }
}

/// The verdict over an attempt without a complete answer.
#[expect(
    clippy::cast_precision_loss,
    reason = "a time-out in milliseconds, for people"
)]
pub fn judge_failure(failure: &TransportFailure) -> Verdict {
    let (why, unknown_end) = match failure {
        TransportFailure::NotConnected(what) => {
            (format!("no connection to the receiver: {what}"), false)
        }
        TransportFailure::TimedOut(ms) => (
            format!(
                "no complete answer within {} s; whether it arrived is unknown",
                *ms as f64 / 1000.0
            ),
            true,
        ),
        TransportFailure::Broken(what) => (
            format!("the connection broke, whether it arrived is unknown: {what}"),
            true,
        ),
        TransportFailure::NotMade(what) => {
            (format!("the request could not be made: {what}"), false)
        }
    };
    Verdict::Again {
        why,
        unknown_end,
        retry_after_ms: None,
    }
}

/// Reads `Retry-After` (RFC 9110 § 10.2.3): seconds or an HTTP date. Milliseconds from `now`, from 0 to an hour; `None`: unreadable.
pub fn retry_after(value: &str, now: Timestamp) -> Option<i64> {
    let value = value.trim();
    let ms = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a number holds is still a long time.
        value
            .parse::<i64>()
            .unwrap_or(i64::MAX)
            .saturating_mul(1000)
    } else {
        http_date(value)?.since_ms(now)
    };
    Some(ms.clamp(0, LONGEST_WAIT_MS))
}

/// The three forms of an HTTP date (RFC 9110 § 5.6.7), of which senders only use the first.
fn http_date(value: &str) -> Option<Timestamp> {
    let written = |form| {
        let date = DateTime::strptime(form, value).ok()?;
        TimeZone::UTC.to_timestamp(date).ok()
    };
    let date = rfc2822::parse(value).ok().map(|t| t.timestamp());
    date.or_else(|| written("%A, %d-%b-%y %H:%M:%S GMT"))
        .or_else(|| written("%a %b %e %H:%M:%S %Y"))
        .map(Timestamp::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    #[test]
    fn every_status_has_its_verdict() {
        for status in 100..=999 {
            let verdict = judge_status(status, false, None, NOW);
            match status {
                200..=299 => assert_eq!(verdict, Verdict::Accepted),
                400 | 409 | 410 | 413 | 415 | 422 => {
                    assert!(matches!(verdict, Verdict::Final(_)), "{status}");
                }
                _ => assert!(
                    matches!(
                        verdict,
                        Verdict::Again {
                            unknown_end: false,
                            retry_after_ms: None,
                            ..
                        }
                    ),
                    "{status}"
                ),
            }
        }
    }

    #[test]
    fn a_conflict_is_delivered_only_after_an_attempt_whose_end_is_unknown() {
        assert_eq!(judge_status(409, true, None, NOW), Verdict::Accepted);
        assert!(matches!(
            judge_status(409, false, None, NOW),
            Verdict::Final(_)
        ));
        assert!(matches!(
            judge_status(410, true, None, NOW),
            Verdict::Final(_)
        ));
    }

    #[test]
    fn only_an_answer_that_never_came_has_an_unknown_end() {
        let unknown = |failure| {
            matches!(
                judge_failure(&failure),
                Verdict::Again {
                    unknown_end: true,
                    ..
                }
            )
        };
        assert!(unknown(TransportFailure::TimedOut(15_000)));
        assert!(unknown(TransportFailure::Broken("reset".into())));
        assert!(!unknown(TransportFailure::NotConnected("refused".into())));
        assert!(!unknown(TransportFailure::NotMade("bad header".into())));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_up_to_an_hour() {
        let in_a_minute = NOW.plus_ms(60_000).instant().unwrap();
        for (value, expected) in [
            ("120", Some(120_000)),
            (" 0 ", Some(0)),
            ("86400", Some(3_600_000)),
            ("99999999999999999999999", Some(3_600_000)),
            (
                in_a_minute
                    .strftime("%a, %d %b %Y %H:%M:%S GMT")
                    .to_string()
                    .as_str(),
                Some(60_000),
            ),
            (
                in_a_minute
                    .strftime("%A, %d-%b-%y %H:%M:%S GMT")
                    .to_string()
                    .as_str(),
                Some(60_000),
            ),
            (
                in_a_minute
                    .strftime("%a %b %e %H:%M:%S %Y")
                    .to_string()
                    .as_str(),
                Some(60_000),
            ),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(0)),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(value, NOW), expected, "{value}");
        }
        assert!(matches!(
            judge_status(429, false, Some("7"), NOW),
            Verdict::Again {
                retry_after_ms: Some(7000),
                ..
            }
        ));
        assert!(matches!(
            judge_status(503, false, Some("x"), NOW),
            Verdict::Again {
                retry_after_ms: None,
                ..
            }
        ));
    }
}
