//! Active Directory's DirSync (MS-ADTS 3.1.1.3.4.1.3): who changed since a cookie, tombstones included.
//!
//! ```text
//! cursor_now ─▶ a search that matches nobody ─▶ cookie ┐
//!                                                      ▼
//! changes_since ─ no USN since? nothing ─┬─ DirSync ─▶ touched, gone, containers moved ─▶ who is beneath ─▶ touched
//! notify ─ a stroke of change notification ─┘
//! ```
//!
//! What the servers do, found on Samba 4.17 and in the specification:
//!
//! - It works at a naming context only; what is outside of the bases is sorted out by the look-up.
//! - An entry is told only if an attribute that was asked for changed, and with nothing but what changed. So everything that decides
//!   who is who is asked for, `name` (a rename or a move), `isDeleted`, and what the realm's filter mentions.
//! - The realm's own filter would hide who leaves it; the one that is sent matches everything.
//! - A container that moves takes people along of whom nothing is told.
//! - Without the right *Replicating Directory Changes* the server says 50, unless asked for what the account may see (`OBJECT_SECURITY`).
//! - Without the right to list `CN=Deleted Objects` deletions are silently missing.
//! - Samba does not page, and takes a cookie of the future for one of now: the USN beside the cookie is what tells.

mod changes;
mod codec;
mod containers;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod notify;
mod offer;
mod place;
mod read;

pub(super) use changes::{MAX_TOLD, Unfollowable};
pub(super) use notify::Notification;
pub(super) use place::by_groups;
pub(super) use read::passing;

/// The control.
pub(super) const DIRSYNC: &str = "1.2.840.113556.1.4.841";
/// Change notification (MS-ADTS 3.1.1.3.4.1.9).
const NOTIFICATION: &str = "1.2.840.113556.1.4.528";
/// Tombstones are shown too (MS-ADTS 3.1.1.3.4.1.14).
const SHOW_DELETED: &str = "1.2.840.113556.1.4.417";

/// Everything, since a narrower filter would hide who leaves it. (One on `objectCategory` would even hide all tombstones.)
const EVERYTHING: &str = "(objectClass=*)";
/// Nobody: no object has this id, and the id is indexed.
const NOBODY: &str = r"(objectGUID=\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00)";
