//! What people and programs do to realms, runs and messages: one function a verb, and one way to it.
//!
//! ```text
//!   control socket ─▶ api ─▶ daemon's loop ─┬─ Act ──────────────▶ beside the loop, at once ─┐
//!                                           └─ InRealm ─▶ agenda ─▶ when it is its turn ─────┼─▶ the verb's `act`
//!   a command without a daemon ────────────────────────────────────▶ in its own process ────┘
//! ```
//!
//! A verb is a type: its fields are what is asked, its `act` does it, its `Output` is what comes of it. Whether it needs a realm for
//! itself is its trait: an [`Act`] is done at once, one that is [`InRealm`] gets an [`AgendaTurn`], which only the daemon's agenda and a
//! command that holds the store's lock give. [`ActContext`] says who asks, and by which door. A [`ActFailure`] is the same for all.
//!
//! A new verb is a file here; its place in the control API is in `api::routes` and `api::control`.

mod act;
mod actions;
mod api_token;
mod audit;
mod authenticators;
mod backup;
mod bypass;
mod context;
mod decide;
mod enrol;
mod failure;
mod freeze;
mod give_up_key;
mod hard_token;
mod hard_tokens;
mod import;
mod in_realm;
mod logon;
mod look_at_users;
mod outbox;
mod pause;
mod phone_decision;
mod plan;
mod realm_act;
mod realm_by_hand;
mod restored;
mod send;
mod sync;
mod user_by_hand;
mod user_unlock;

pub use act::{Act, AfterAct, AnyAct};
pub use actions::{
    ActionRequest, CancelOperation, LinksShown, OperationShown, ShowLinks, ShowOperation,
    StartAction, SwitchMethods, SwitchRequest,
};
pub use api_token::{ApiTokenMade, MakeApiToken, MakeApiTokenRequest, RevokeApiToken};
pub use audit::VerifyAudit;
pub use authenticators::{RevokeAuthenticators, RevokeRequest, authenticators_of};
pub use backup::{Backup, BackupRequest, NoteBackup};
pub use bypass::{BypassMade, BypassRequest, MakeBypass};
pub use context::{ActContext, Caller, Door};
pub use decide::{Decide, DecideRequest, RunDecision};
pub use enrol::{
    PageAnswer, PageTrouble, ShownCodes, ShownSecret, ValidLink, Visitor, alarmed, ask_at_link,
    begin_at_link, done_at_link, enrol_at_link, is_mark, new_mark, no_mark_at_link, open_link,
    renew_codes_at_link,
};
pub use failure::{ActFailure, FailureKind};
pub use freeze::{UnfreezeRequest, UnfreezeUser, freeze_by_link, open_freeze_link};
pub use give_up_key::{GiveUpKey, GiveUpKeyRequest, given_up};
pub use hard_token::{
    AssignToken, AssignTokenRequest, ChangeToken, ResyncToken, ResyncTokenRequest, TokenActed,
    TokenVerb, TokenVerbRequest,
};
pub use hard_tokens::{Hidden, ImportTokens, ImportTokensRequest, TokensImported};
pub use import::{Import, ImportReport, ImportRequest};
pub use in_realm::{AgendaTurn, InRealm};
pub use logon::{LogonAnswer, LookUp, NOBODY, ReportLogon, ServiceKind, TOO_MANY};
pub use look_at_users::{ListUsers, PageOf, ShowUser};
pub use outbox::{Outbox, OutboxAct, OutboxAnswer, OutboxRequest};
pub use pause::{Pause, PauseRequest, Resume};
pub use phone_decision::{DecidePhone, DecidePhoneRequest};
pub use plan::{Plan, PlanRequest};
pub use realm_act::RealmAct;
pub use realm_by_hand::{
    EditRealm, MakeRealm, MakeRealmRequest, RealmRemoved, RealmRequest, RemoveRealm,
    RemoveRealmRequest,
};
pub use restored::{Restore, RestoredAnswer, RestoredRequest};
pub use send::{EnrolmentObject, SendApplication, SendRequest, WithdrawLinks};
pub use sync::{Sync, SyncRequest};
pub use user_by_hand::{
    AddUser, AddUserRequest, ChangeUser, EditUser, EditUserRequest, UserActed, UserVerb,
    UserVerbRequest, UserWarning,
};
pub use user_unlock::UnlockUser;
