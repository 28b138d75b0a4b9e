//! What can be told of realms, runs, users and messages, as values: read from the store, the same for command line, API and console.
//!
//! Nothing here decides or changes anything, takes a lock or chooses words: whoever shows a story does that. What is serialised is the
//! interface that programs see (design, § 5).

pub mod coverage;
pub mod explain;
pub mod explained;
pub mod hard_tokens;
pub mod health;
pub mod keys;
pub mod messages;
pub mod missing;
pub mod origin;
pub mod realm_list;
pub mod realms;
pub mod refused;
pub mod runs;
pub mod status;
pub mod users;
