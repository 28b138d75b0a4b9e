//! What is to be done about the index, as a function of how it stands.

use super::log::MANY;

/// Fewer who changed are looked at one by one, in each search.
const FEW: i64 = if cfg!(test) { 2 } else { 256 };

/// So many small segments become one.
const SEGMENTS: i64 = if cfg!(test) { 2 } else { 8 };

/// More users in small segments are worth a new index.
const USERS: i64 = 24_000;

/// What is left of removed users goes within a day.
const DAY_MS: i64 = 24 * 3600 * 1000;

/// How the index stands.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct IndexState {
    /// Somebody was indexed once.
    pub(super) there: bool,
    /// Rows of the log.
    pub(super) logged: i64,
    /// One of them says that they are many.
    pub(super) many: bool,
    /// Segments of who changed.
    pub(super) small: i64,
    /// Users in them.
    pub(super) small_users: i64,
    /// Segments that are no use any more.
    pub(super) dead: i64,
    /// Removed users of whom something is left, those of the log too.
    pub(super) removed: i64,
    /// How old it is, milliseconds.
    pub(super) age_ms: i64,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Todo {
    /// Everybody is indexed anew.
    Whole,
    /// Who changed gets a segment, which may take others in.
    Few {
        /// All small segments go into it.
        merge: bool,
    },
    /// What is no use any more goes.
    Sweep,
}

/// What is to be done; `None`: nothing.
pub(super) fn decide(state: IndexState) -> Option<Todo> {
    if !state.there
        || state.many
        || state.logged > MANY
        || state.small_users + state.logged > USERS
        || state.removed > 0 && !(0..DAY_MS).contains(&state.age_ms)
    {
        Some(Todo::Whole)
    } else if state.logged > FEW {
        Some(Todo::Few {
            merge: state.small >= SEGMENTS,
        })
    } else {
        (state.dead > 0).then_some(Todo::Sweep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_made_mended_and_swept() {
        let good = IndexState {
            there: true,
            ..IndexState::default()
        };
        assert_eq!(decide(IndexState::default()), Some(Todo::Whole));
        assert_eq!(decide(good), None);
        assert_eq!(
            decide(IndexState {
                logged: FEW,
                ..good
            }),
            None
        );
        let few = IndexState {
            logged: FEW + 1,
            ..good
        };
        assert_eq!(decide(few), Some(Todo::Few { merge: false }));
        let several = IndexState {
            small: SEGMENTS,
            small_users: 9_000,
            ..few
        };
        assert_eq!(decide(several), Some(Todo::Few { merge: true }));
        assert_eq!(decide(IndexState { dead: 1, ..good }), Some(Todo::Sweep));
        for whole in [
            IndexState { many: true, ..few },
            IndexState {
                logged: MANY + 1,
                ..good
            },
            IndexState {
                small_users: USERS,
                ..few
            },
            IndexState {
                removed: 1,
                age_ms: DAY_MS,
                ..good
            },
            IndexState {
                removed: 1,
                age_ms: -1,
                ..good
            },
        ] {
            assert_eq!(decide(whole), Some(Todo::Whole), "{whole:?}");
        }
        assert_eq!(
            decide(IndexState {
                removed: 1,
                age_ms: 5,
                ..good
            }),
            None
        );
    }
}
