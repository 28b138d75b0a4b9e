//! realmsync keeps the users of a multi-factor authentication system in step with LDAP and Active Directory.
//!
//! # The data path
//!
//! ```text
//!  schedule tick │ change pushed by the directory │ "now" from console, CLI, API
//!                                │
//!  LDAP ─▶ directory ─▶ normalise ─▶ plan ─▶ brake ─▶ apply ══▶ store: users + changes + jobs + cursor
//!           (I/O in)      (pure)     (pure)  (pure)   (I/O out)     │  one transaction
//!                                      ▲                            ▼
//!               store: what we hold ───┘              outbox ─▶ delivery ─▶ HTTP
//!                                                       ▲ claim        │
//!                                                       └── settle ◀───┘
//! ```
//!
//! Left to right only. The stages exchange values, a pure function decides everything, and the plan leaves nothing to decide
//! for whoever applies it. [`sync`] says the order of the stages.
//!
//! # Who may name whom
//!
//! | module | does | may name |
//! |---|---|---|
//! | [`model`], [`clock`] | nouns without I/O, time as a parameter | nothing of ours |
//! | [`net`] | a host's addresses, words about TLS; for whoever connects | clock |
//! | [`config`] | the administrator's file | model, clock, net |
//! | [`factors`] | one-time codes, recovery codes, throttling, encryption of secrets; pure | model, clock |
//! | [`directory`] | all that knows LDAP | config and left of it |
//! | [`import`] | a file of users → its lines | config and left of it |
//! | [`normalise`] | entry → person, pure | config and left of it |
//! | [`plan`] | one person's decision, names, the brake; pure | config and left of it |
//! | [`store`] | all that knows SQL | config and left of it |
//! | [`delivery`] | all that knows HTTP as a client | config and left of it |
//! | [`runs`] | the frame of a run: begun, planned, weighed, applied or held, undone | everything above |
//! | [`outbox`], [`sync`] | messages on their way; a directory's passes | everything above |
//! | [`verification`] | codes that services have verified | everything above |
//! | [`acts`] | what people and programs do: one function a verb, for daemon, command and API alike | everything above |
//! | [`story`] | what can be told of realms, runs, users and messages, as values | everything above |
//! | [`api`] | the router on the control socket and on TCP | everything above |
//! | [`console`] | pages for people, so far the enrolment page | everything above, but not `api` |
//! | [`service`] | lifecycle, schedule, wiring | everything above |
//! | [`cli`] | one file a command | everything |
//!
//! `tests/layers/` holds this table against the source.

pub mod acts;
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod delivery;
pub mod directory;
pub mod factors;
pub mod failpoint;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod import;
pub mod model;
pub mod net;
pub mod normalise;
pub mod outbox;
pub mod plan;
pub mod runs;
pub mod service;
pub mod store;
pub mod story;
pub mod sync;
pub mod verification;
