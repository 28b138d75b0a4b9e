//! An invitation to set up the mobile application: a link that works once, and what became of it.

use super::user::words;
use super::{EnrolmentId, UserId};
use crate::clock::Timestamp;

words! {
    /// Where an enrolment stands. `sent → opened → used`, or `void` or `expired` before.
    EnrolmentState {
        /// The link works, and nobody has opened it.
        Sent = "sent",
        /// The link works, and was opened: by the user, or by a scanner of mails and chats.
        Opened = "opened",
        /// Its time is over.
        Expired = "expired",
        /// A first code proved an application.
        Used = "used",
        /// Withdrawn, or in place of it another one was sent.
        Void = "void",
    }
}

/// An enrolment as the store holds it, without its token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enrolment {
    /// Own id; the token is an HMAC of it.
    pub id: EnrolmentId,
    /// Whom it is for.
    pub user: UserId,
    /// Whether it is used or void; else its times say where it stands.
    pub ended: Option<EnrolmentState>,
    /// By which way it went: `webhook`, or `hand` where an administrator passes the link on.
    pub channel: Option<String>,
    /// Who sent it; `None`: nobody did, a run or a timer did.
    pub by: Option<String>,
    /// The former application is lost, and is not asked for.
    pub lost: bool,
    /// When sent.
    pub sent_at: Timestamp,
    /// When first opened.
    pub opened_at: Option<Timestamp>,
    /// When used.
    pub used_at: Option<Timestamp>,
    /// When its time is over.
    pub expires_at: Timestamp,
}

impl Enrolment {
    /// Where it stands at a time.
    pub fn state(&self, now: Timestamp) -> EnrolmentState {
        match self.ended {
            Some(ended) => ended,
            None if self.expires_at <= now => EnrolmentState::Expired,
            None if self.opened_at.is_some() => EnrolmentState::Opened,
            None => EnrolmentState::Sent,
        }
    }

    /// Whether its link works at a time.
    pub fn works(&self, now: Timestamp) -> bool {
        matches!(
            self.state(now),
            EnrolmentState::Sent | EnrolmentState::Opened
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_129_each_state_is_told_by_what_happened_to_the_link() {
        use EnrolmentState::{Expired, Opened, Sent, Used, Void};
        let at = |ms: i64| Timestamp(1_800_000_000_000 + ms);
        let sent = Enrolment {
            id: EnrolmentId(uuid::Uuid::from_u128(1)),
            user: UserId(uuid::Uuid::from_u128(2)),
            ended: None,
            channel: None,
            by: None,
            lost: false,
            sent_at: at(0),
            opened_at: None,
            used_at: None,
            expires_at: at(10),
        };
        let opened = Enrolment {
            opened_at: Some(at(1)),
            ..sent.clone()
        };
        for (enrolment, now, state) in [
            (&sent, 0, Sent),
            (&opened, 9, Opened),
            (&sent, 10, Expired),
            (&opened, 11, Expired),
        ] {
            assert_eq!(enrolment.state(at(now)), state);
            assert_eq!(enrolment.works(at(now)), now < 10);
        }
        for ended in [Used, Void] {
            let over = Enrolment {
                ended: Some(ended),
                ..opened.clone()
            };
            assert_eq!(over.state(at(20)), ended);
            assert!(!over.works(at(2)));
        }
    }
}
