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
//! A pass reads over a second connection to the same address (`wire`), in messages that are read where they lie: ldap3 was a third
//! of a pass. All else goes through ldap3, and so does a pass where that connection cannot be made or reached an older server.
//!
//! ```text
//! read ─▶ pages ─▶ request ─▶ wire ─▶ ber ─▶ message ─▶ unpack ─▶ RawEntry
//!           └ no second connection ─▶ search (ldap3) ─▶ entry ─▶ RawEntry
//! ```
//!
//! ldap3 and lber are not bounded: they believe what they read. So every byte of a server goes through our own reader first,
//! also under StartTLS, and they see only whole messages of bounded length, depth and form. Everything else is an error that ends
//! the connection. What ldap3 queues of searches is counted, and where much of it waits to be taken, the server has to wait too.
//!
//! ```text
//! server ─▶ wire ─▶ form ─▶ guard ─▶ local socket ─▶ ldap3 ─▶ backlog ─▶ who asked
//! ```

mod backlog;
mod ber;
mod blind_spots;
mod connect;
mod containers;
mod credentials;
mod delta;
mod dirsync;
mod entry;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod guard;
mod introduce;
mod link;
mod liveness;
mod look_up;
mod marker;
mod message;
mod message_form;
mod pages;
mod paging;
mod password;
mod port_protocol;
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

pub use blind_spots::Blind;
pub use connect::{connect, connect_one, shown};
pub use containers::Containers;
pub use delta::{Cursor, Delta, NoDelta, Watch, Way};
pub use error::{DirectoryError, ServerFailure};
pub use liveness::Liveness;
pub use look_up::Sighting;
pub use marker::Mark;
pub use read::{Complete, Scope};
pub use root_dse::RootDse;
pub use schema::Schema;
pub use session::{Lag, Session};
pub use state::ServerState;
