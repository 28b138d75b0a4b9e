//! The windows over which the brake counts what was applied, and what is remembered beside them.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::model::{Limit, RealmRow};
use crate::store::{CLOCKS_DIFFER_MS, Store, StoreError};

/// What was applied to a realm within its windows, by limit.
pub(crate) async fn applied(
    store: &Store,
    row: &RealmRow,
    now: Timestamp,
) -> Result<Vec<(Limit, i64)>, StoreError> {
    let until = now.plus_ms(CLOCKS_DIFFER_MS);
    store
        .window(&row.id, &windows(&row.window_from, now), until)
        .await
}

/// Where each limit's window begins: 24 hours back, or when it last began anew. What a clock that was ahead made begin in the future
/// never began: until then nothing would be counted.
fn windows(window_from: &str, now: Timestamp) -> Vec<(Limit, Timestamp)> {
    const DAY_MS: i64 = 86_400_000;
    let from: BTreeMap<String, i64> = serde_json::from_str(window_from).unwrap_or_default();
    let latest = now.plus_ms(CLOCKS_DIFFER_MS).0;
    let began = |limit: Limit| {
        let began = from.get(limit.as_str()).copied();
        began.filter(|at| *at <= latest).unwrap_or(0)
    };
    Limit::ALL
        .iter()
        .map(|limit| (*limit, now.plus_ms(-DAY_MS).max(Timestamp(began(*limit)))))
        .collect()
}

/// All windows begin anew, `moved` (the first takeover was approved) included when `moved` is set or was before.
pub(crate) fn anew(row: &RealmRow, now: Timestamp, moved: bool) -> String {
    let mut from: BTreeMap<String, i64> =
        serde_json::from_str(&row.window_from).unwrap_or_default();
    for limit in Limit::ALL {
        from.insert(limit.as_str().to_owned(), now.0);
    }
    if moved {
        from.insert("moved".to_owned(), now.0);
    }
    serde_json::to_string(&from).unwrap_or_else(|_| "{}".to_owned())
}

/// Whether a takeover was approved before.
pub(crate) fn took_over_before(row: &RealmRow) -> bool {
    serde_json::from_str::<BTreeMap<String, i64>>(&row.window_from)
        .is_ok_and(|from| from.contains_key("moved"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_a_wrong_clock_began_in_the_future_did_not_begin() {
        const DAY: i64 = 86_400_000;
        let now = Timestamp(400 * DAY);
        let begins = |at: i64| {
            let windows = windows(&format!("{{\"suspended\":{at}}}"), now);
            windows
                .iter()
                .find(|(l, _)| *l == Limit::Suspended)
                .unwrap()
                .1
        };
        assert_eq!(begins(765 * DAY), Timestamp(399 * DAY));
        assert_eq!(begins(now.0 - 5), Timestamp(now.0 - 5));
        // Another daemon's clock may be a little ahead.
        assert_eq!(begins(now.0 + 5), Timestamp(now.0 + 5));
        assert_eq!(begins(1), Timestamp(399 * DAY));
    }
}
