//! Who was added or changed since, by a number or an instant in the entries themselves: any server can do that, and none can tell
//! of a deletion or of a move out of the base in this way.
//!
//! | server | asked for | begins at | idle |
//! |---|---|---|---|
//! | Active Directory | `uSNChanged` > USN, within one `invocationId` | `highestCommittedUSN` | the USN has not moved: no search |
//! | OpenLDAP | `modifyTimestamp` ≥ instant − overlap | the newest `contextCSN`, or a later change | no `contextCSN` has moved, and one was seen to move with a change: no search |
//! | 389-ds | the same | `currentTime` of `cn=monitor` | the same window as last time |
//! | others | the same, or `createTimestamp` | our clock − `SKEW` | the same window as last time |
//!
//! The realm's filter is not sent, since it would hide who leaves it. Everybody told is looked up.

#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod instant;
mod offer;
mod stamps;
mod usn;
mod window;

pub(super) use instant::parse as seconds;

/// What this way never tells.
pub(super) const BLIND: &str = "timestamps tell neither of deletions nor of moves out of the base: only a full pass finds who is gone";
