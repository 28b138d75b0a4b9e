//! Passes over directories: directory ─▶ normalise ─▶ plan, and from there in the frame of a run ([`crate::runs`]). One engine for
//! daemon and command line.
//!
//! ```text
//! verbs ─▶ run ─┬─▶ realm    a session, the mapping, the rules
//!               ├─▶ changes  what the directory tells; or everything is to be read
//!               ├─▶ pass     who differs, who is absent, whose name it is ─▶ plan
//!               └─▶ runs     weighed, and applied or held
//! import ─▶ a file of users ─▶ plan ─▶ runs
//! push ────────────▲
//! ```

mod approve;
mod changes;
mod engine;
mod import;
mod look_again;
mod pass;
mod push;
mod realm;
mod run;
mod run_request;
mod verbs;

pub use changes::drift_by_kind::ByKind;
pub use engine::Engine;
pub use import::{ImportAsk, ImportFile, Imported, RefusedLines};
pub use push::follower::{Follower, Unfollowed};
pub use realm::by_hand::{HandAuthor, HandRules, as_it_is};
pub use realm::following::Following;
pub use realm::keys::{MovePlace, MovedSecrets};
pub use realm::lost_key::LostKey;
pub use realm::sending::factors_entry;
pub use run_request::{DecisionOptions, Progress, RunRequest};
