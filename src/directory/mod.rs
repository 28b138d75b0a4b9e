//! All that knows LDAP: connect, bind, read everybody, prove that it was everybody, look single people up.
//!
//! ```text
//! connect ─▶ Session ─┬─ read ─────▶ pages of RawEntry … Complete (the proof)
//!   (tls)    (root    ├─ look_up ──▶ in scope │ out of scope │ nowhere
//!             DSE,    ├─ entry, find_by_name, schema, who_am_i
//!             state)  ├─ not_behind: is this server older than what was seen?
//!                     └─ ways, cursor_now, changes_since, watch ──▶ Delta: whom to look up
//! ```
//!
//! A pass reads over a second connection to the same server (`wire`), in messages that are read where they lie: ldap3 was a third
//! of a pass. All else goes through ldap3, and so does a pass where that connection cannot be made or reached an older server.
//!
//! ```text
//! read ─▶ pages ─▶ request ─▶ wire ─▶ ber ─▶ message ─▶ unpack ─▶ RawEntry
//!           └ no second connection ─▶ search (ldap3) ─▶ entry ─▶ RawEntry
//! ```
//!
//! What lies in ldap3 and lber and cannot be mended from here: a message nested some ten thousand levels deep ends the process
//! (lber's recursion), a message without end is buffered without bound. `MemoryMax` bounds the latter; both are harmless after
//! the restart, since a pass that did not end applies nothing. Everything else that a server may send is an error.

mod ber;
mod blind;
mod connect;
mod containers;
mod credentials;
mod delta;
mod dirsync;
mod entry;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod introduce;
mod link;
mod liveness;
mod look_up;
mod message;
mod pages;
mod paging;
mod password;
mod ranges;
mod reach;
mod read;
mod request;
mod root_dse;
mod schema;
mod search;
mod session;
mod spelling;
mod state;
mod syncrepl;
mod timestamp;
mod tls;
mod unpack;
mod wire;

pub use blind::Blind;
pub use connect::{connect, connect_one, shown};
pub use containers::Containers;
pub use delta::{Cursor, Delta, NoDelta, Watch, Way};
pub use error::{DirectoryError, Failure};
pub use liveness::Liveness;
pub use look_up::Sighting;
pub use read::{Complete, Scope};
pub use root_dse::RootDse;
pub use schema::Schema;
pub use session::{Lag, Session};
pub use state::ServerState;
