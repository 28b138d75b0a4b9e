//! New ids, of runs and of the users that they make.

use crate::clock::Timestamp;

/// A UUIDv7 of the given time with the machine's randomness.
pub(crate) fn uuid_v7(now: Timestamp) -> uuid::Uuid {
    let ms = u64::try_from(now.0).unwrap_or(0);
    let nanos = u32::try_from(ms % 1000).unwrap_or(0) * 1_000_000;
    uuid::Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        ms / 1000,
        nanos,
    ))
}

/// UUIDv7s of one instant that ascend (RFC 9562 § 6.2, method 1): a counter of 42 bits that begins anywhere in the lower half,
/// then 32 random bits. Users of one run stand side by side in every index of the store.
#[derive(Debug)]
pub(crate) struct Ascending {
    ms: u64,
    counter: std::sync::atomic::AtomicU64,
    key: u64,
}

impl Ascending {
    /// From this instant on.
    pub(crate) fn new(now: Timestamp) -> Self {
        let random =
            |bits: u32| u64::try_from(uuid_v7(now).as_u128() & ((1 << bits) - 1)).unwrap_or(0);
        Self {
            ms: u64::try_from(now.0).unwrap_or(0),
            counter: std::sync::atomic::AtomicU64::new(random(41)),
            key: random(62),
        }
    }

    /// The next one.
    pub(crate) fn next(&self) -> uuid::Uuid {
        let n = self
            .counter
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let byte = |shift: u32, mask: u64| u8::try_from(n >> shift & mask).unwrap_or(0);
        let mut bytes = [0; 10];
        // The upper bits of the first and third byte are the version's and the variant's.
        bytes[..6].copy_from_slice(&[
            byte(38, 0x0f),
            byte(30, 0xff),
            byte(24, 0x3f),
            byte(16, 0xff),
            byte(8, 0xff),
            byte(0, 0xff),
        ]);
        // Hashed under a key of the machine's randomness: a call of the system for each of a million would be felt.
        let tail = xxhash_rust::xxh3::xxh3_64_with_seed(&n.to_le_bytes(), self.key);
        bytes[6..].copy_from_slice(&tail.to_le_bytes()[..4]);
        uuid::Builder::from_unix_timestamp_millis(self.ms, &bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_run_ascend_and_differ() {
        let ids = Ascending::new(Timestamp(1_790_000_000_000));
        let made: Vec<uuid::Uuid> = (0..10_000).map(|_| ids.next()).collect();
        assert!(made.windows(2).all(|w| w[0] < w[1]));
        assert!(made.iter().all(|id| id.get_version_num() == 7));
    }
}
