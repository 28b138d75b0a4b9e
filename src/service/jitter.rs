//! Chance for what is spread in time, so that neither daemons nor realms ask their directories at the same moment.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A number in [0, 1) that differs between processes and calls; the spread needs no better.
pub(super) fn chance() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let chance = bits as f64 / (1_u64 << 53) as f64;
    chance
}
