//! The circuit of one receiver: after twenty failures in a row only probes go out, one at a time, until one succeeds. Pure.
//!
//! ```text
//!            20 failures in a row                probe fails: wait, doubled up to a minute
//!   closed ──────────────────────▶ open ──────┐◀────┐
//!      ▲                            └─ probe ─┴─────┘
//!      └─────────── any success ────────┘
//! ```
//!
//! It goes by a clock that nobody can set: neither a jump forward nor one back moves a probe.

use crate::clock::{Steady, Timestamp};

use super::backoff::delay_ms;

/// So many failures in a row, over all messages, mean that it is the receiver and not a message.
const FAILURES: u32 = 20;
/// The longest wait between probes: a receiver that comes back is noticed within a minute, and one that is down gets 1,440 requests a day.
const LONGEST_PROBE_MS: i64 = 60_000;

/// What is known of a receiver.
#[derive(Clone, Debug, Default)]
pub struct Circuit {
    failures: u32,
    probes: i64,
    opened_at: Option<Steady>,
    next_probe_at: Steady,
    last_error: Option<String>,
}

/// The circuit as others see it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CircuitState {
    /// Messages flow.
    Closed,
    /// Only probes go out.
    Open {
        /// Since when.
        since: Timestamp,
        /// Failures in a row.
        failures: u32,
        /// The next probe, if a message is due by then.
        next_probe_at: Timestamp,
        /// What the last attempt met.
        last_error: Option<String>,
    },
}

impl Circuit {
    /// How many more messages may be taken, with `under_way` of at most `concurrency` out already.
    pub fn room(&self, under_way: usize, concurrency: usize, now: Steady) -> usize {
        match self.opened_at {
            None => concurrency.saturating_sub(under_way),
            Some(_) => usize::from(under_way == 0 && now >= self.next_probe_at),
        }
    }

    /// An attempt succeeded: the receiver took the message, or refused just this one. Says after how many failures in a row.
    pub fn succeeded(&mut self) -> u32 {
        std::mem::take(self).failures
    }

    /// An attempt failed. `chance` is from 0 to 1. Says how many in a row failed by now; from the twentieth on the circuit is
    /// open.
    pub fn failed(
        &mut self,
        why: &str,
        retry_after_ms: Option<i64>,
        chance: f64,
        now: Steady,
    ) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(why.to_owned());
        if self.failures < FAILURES {
            return self.failures;
        }
        let opens = self.opened_at.is_none();
        // What was under way when the circuit opened is no probe, and says nothing new.
        if opens || now >= self.next_probe_at {
            self.probes += 1;
            let wait = retry_after_ms
                .unwrap_or_else(|| delay_ms(self.probes, chance, None).min(LONGEST_PROBE_MS));
            self.next_probe_at = now.plus_ms(wait);
        }
        self.opened_at.get_or_insert(now);
        self.failures
    }

    /// Since when the circuit is open.
    pub fn opened_at(&self) -> Option<Steady> {
        self.opened_at
    }

    /// The circuit as others see it, whose clock shows `wall` at `now`.
    pub fn state(&self, now: Steady, wall: Timestamp) -> CircuitState {
        let on_the_wall = |at: Steady| wall.plus_ms(at.since_ms(now));
        match self.opened_at {
            None => CircuitState::Closed,
            Some(since) => CircuitState::Open {
                since: on_the_wall(since),
                failures: self.failures,
                next_probe_at: on_the_wall(self.next_probe_at),
                last_error: self.last_error.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Timestamp = Timestamp(1_000_000);

    fn now() -> Steady {
        Steady::default().plus_ms(5_000_000)
    }

    #[test]
    fn twenty_in_a_row_open_it_and_one_success_closes_it() {
        let mut circuit = Circuit::default();
        for _ in 0..19 {
            circuit.failed("503", None, 0.5, now());
        }
        assert_eq!(circuit.succeeded(), 19);
        for _ in 0..19 {
            circuit.failed("503", None, 0.5, now());
            assert_eq!(circuit.room(3, 16, now()), 13);
        }
        assert_eq!(circuit.failed("503", None, 0.5, now()), 20);
        assert_eq!(circuit.room(0, 16, now()), 0, "not before the probe is due");
        assert_eq!(circuit.room(0, 16, now().plus_ms(1000)), 1);
        assert_eq!(
            circuit.room(1, 16, now().plus_ms(1000)),
            0,
            "one probe at a time"
        );
        assert_eq!(circuit.failed("503", None, 0.5, now().plus_ms(1000)), 21);
        assert_eq!(
            circuit.opened_at.map(|_| circuit.next_probe_at),
            Some(now().plus_ms(3000))
        );
        assert_eq!(circuit.succeeded(), 21);
        assert_eq!(
            (circuit.room(0, 16, now()), circuit.state(now(), WALL)),
            (16, CircuitState::Closed)
        );
    }

    #[test]
    fn probes_are_a_minute_apart_at_most_unless_the_receiver_asks_for_more() {
        let mut circuit = Circuit::default();
        for _ in 0..40 {
            circuit.failed("down", None, 1.0, now());
        }
        assert_eq!(
            circuit.opened_at.map(|_| circuit.next_probe_at),
            Some(now().plus_ms(1_200)),
            "what was under way is no probe"
        );
        let mut at = now();
        for _ in 0..20 {
            at = circuit.next_probe_at;
            circuit.failed("down", None, 1.0, at);
        }
        assert_eq!(
            circuit.opened_at.map(|_| circuit.next_probe_at),
            Some(at.plus_ms(60_000))
        );
        let at = at.plus_ms(60_000);
        circuit.failed("429", Some(3_600_000), 1.0, at);
        assert_eq!(
            circuit.opened_at.map(|_| circuit.next_probe_at),
            Some(at.plus_ms(3_600_000))
        );
    }
}
