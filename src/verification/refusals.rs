//! Refusals that are written once although they are asked for a thousand times: of a name that nobody has, and of codes that are not
//! looked at.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use super::queue::VerifyAsk;
use crate::clock::Timestamp;
use crate::model::{UserId, Verdict, VerifyReason};

/// A name that nobody has is written once in so long, for each service, in milliseconds.
const NOBODY: i64 = 60_000;

/// The same of whoever is locked until somebody unlocks them.
const LOCKED: i64 = 3_600_000;

/// So many are remembered.
const MOST: usize = 20_000;

/// What was written, and until when it stands for the same again.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<u64, Timestamp>);

/// A refusal that stands for others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    key: u64,
    until: Timestamp,
}

impl Refusal {
    /// Of an answer; `None`: it is written whenever it is given. `name`: of the name that was asked for.
    pub(super) fn of(
        ask: &VerifyAsk,
        name: u64,
        user: Option<UserId>,
        verdict: &Verdict,
        now: Timestamp,
    ) -> Option<Self> {
        let (whom, long) = match (verdict.reason?, user) {
            (VerifyReason::Locked, Some(user)) => (
                user.0.as_bytes().to_vec(),
                verdict
                    .retry_after
                    .map_or(LOCKED, |s| s.saturating_mul(1000)),
            ),
            (VerifyReason::UnknownUser | VerifyReason::Ambiguous, _) => {
                (name.to_be_bytes().to_vec(), NOBODY)
            }
            _ => return None,
        };
        let key = xxh3_64(&[ask.token.id.0.as_bytes().as_slice(), &whom].concat());
        Some(Self {
            key,
            until: now.plus_ms(long),
        })
    }
}

impl Refusals {
    /// Whether the same was written, and stands for this one too.
    pub(super) fn stands_for(&self, refusal: Refusal, now: Timestamp) -> bool {
        let until = self.0.get(&refusal.key);
        until.is_some_and(|until| now < *until)
    }

    /// These were written.
    pub(super) fn note(&mut self, written: &[Refusal], now: Timestamp) {
        if self.0.len() + written.len() > MOST {
            self.0.retain(|_, until| *until > now);
        }
        if self.0.len() + written.len() > MOST {
            self.0.clear();
        }
        self.0
            .extend(written.iter().map(|refusal| (refusal.key, refusal.until)));
    }
}
