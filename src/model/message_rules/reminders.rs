//! When a link that nobody used is sent again.

use crate::clock::Timestamp;

/// How a link stands that may be sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SentLink {
    /// When it was sent.
    pub sent_at: Timestamp,
    /// When its time is over.
    pub expires_at: Timestamp,
    /// When the last reminder was made, or passed over.
    pub reminded_at: Option<Timestamp>,
    /// When the receiver took the last message with it; `None`: it never did.
    pub told_at: Option<Timestamp>,
}

/// What is done about a link now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reminder {
    /// Nothing yet.
    Wait,
    /// This time is passed over: the user has just been told.
    Pass,
    /// It is sent again.
    Send,
}

/// Whether a link is sent again now; `after`: so many milliseconds after it was sent, in any order. Of several times that have come,
/// one counts. Whoever was told only after the time had come, since the receiver was down, is not told twice in a row.
pub fn reminder(link: &SentLink, after: &[i64], now: Timestamp) -> Reminder {
    let come = |ms: &i64| Some(link.sent_at.plus_ms(*ms)).filter(|at| *at <= now);
    let Some(due) = after.iter().filter_map(come).max() else {
        return Reminder::Wait;
    };
    let Some(told) = link.told_at else {
        return Reminder::Wait;
    };
    if link.expires_at <= now || link.reminded_at.is_some_and(|at| at >= due) {
        Reminder::Wait
    } else if told >= due {
        Reminder::Pass
    } else {
        Reminder::Send
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600_000;
    const START: Timestamp = Timestamp(1_800_000_000_000);
    const AFTER: [i64; 2] = [2 * DAY, 5 * DAY];

    fn link() -> SentLink {
        SentLink {
            sent_at: START,
            expires_at: START.plus_ms(7 * DAY),
            reminded_at: None,
            told_at: Some(START.plus_ms(1000)),
        }
    }

    fn at(link: &SentLink, ms: i64) -> Reminder {
        reminder(link, &AFTER, START.plus_ms(ms))
    }

    #[test]
    fn each_time_is_one_reminder_and_nothing_goes_after_the_end() {
        let mut link = link();
        assert_eq!(at(&link, 0), Reminder::Wait);
        assert_eq!(at(&link, 2 * DAY - 1), Reminder::Wait);
        assert_eq!(at(&link, 2 * DAY), Reminder::Send);
        link.reminded_at = Some(START.plus_ms(2 * DAY + 10));
        assert_eq!(at(&link, 3 * DAY), Reminder::Wait);
        assert_eq!(at(&link, 5 * DAY), Reminder::Send);
        link.reminded_at = Some(START.plus_ms(5 * DAY));
        assert_eq!(at(&link, 6 * DAY), Reminder::Wait);
        link.reminded_at = None;
        assert_eq!(at(&link, 7 * DAY), Reminder::Wait, "it is over");
        assert_eq!(reminder(&link, &[], START.plus_ms(6 * DAY)), Reminder::Wait);
    }

    #[test]
    fn several_times_that_have_come_are_one_and_who_was_just_told_is_not_told_again() {
        let link = link();
        assert_eq!(at(&link, 6 * DAY), Reminder::Send);
        let once = SentLink {
            reminded_at: Some(START.plus_ms(6 * DAY)),
            ..link
        };
        assert_eq!(at(&once, 6 * DAY + 1), Reminder::Wait);
        let late = SentLink {
            told_at: Some(START.plus_ms(2 * DAY)),
            ..link
        };
        assert_eq!(at(&late, 2 * DAY), Reminder::Pass);
        assert_eq!(at(&late, 5 * DAY), Reminder::Send);
        let never = SentLink {
            told_at: None,
            ..link
        };
        assert_eq!(at(&never, 6 * DAY), Reminder::Wait);
    }
}
