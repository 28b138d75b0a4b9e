//! The nouns, without I/O. `Debug` of anything here hides personal data.

pub mod api_token;
pub mod audit;
pub mod authenticator;
pub mod change;
pub mod coverage;
pub mod dn;
pub mod edit;
pub mod enrolment;
pub mod entry;
pub mod field;
pub mod filter;
pub mod freeze;
pub mod ids;
pub mod import;
pub mod job;
pub mod logon_name;
pub mod message_rules;
pub mod operation;
pub mod origin;
pub mod person;
pub mod phone;
pub mod policy;
pub mod realm;
pub mod run;
pub mod selection;
pub mod standing;
pub mod synonyms;
pub mod user;
pub mod verification;
pub mod words;

pub use api_token::{ApiToken, Scope};
pub use audit::{AuditAct, AuditEntry, AuditLine};
pub use authenticator::{Authenticator, AuthenticatorKind, AuthenticatorState, OtpHash};
pub use change::{Change, ChangeKind, Limit};
pub use coverage::Coverage;
pub use edit::Edit;
pub use enrolment::{Enrolment, EnrolmentState};
pub use entry::{Attribute, AttributeName, Packing, RawAttribute, RawEntry, Values};
pub use field::{Field, FieldOwner};
pub use freeze::{DisputedNumber, Freeze, FreezeLink, NumberMark};
pub use ids::{
    ApiTokenId, AuthenticatorId, DirectoryId, EnrolmentId, IdForm, JobId, OperationId, RealmId,
    RunId, UserId,
};
pub use import::{
    ImportCells, ImportColumn, ImportCounts, ImportedPhone, ImportedUser, LineFault, RefusedLine,
    SettledUser,
};
pub use job::{Intent, Job, JobReason, JobState, JobType};
pub use operation::{
    ActionVerb, Operation, OperationBatch, OperationKind, OperationRefusal, OperationState,
    OperationWork,
};
pub use origin::Origin;
pub use person::{
    AttributeReading, Known, Others, Person, PhoneReading, PhoneValue, Refusal, UserName,
};
pub use phone::Phone;
pub use policy::Policy;
pub use realm::{OwnPause, RealmKind, RealmRow, RealmSettings};
pub use run::{ErrorCode, HeldBy, Mode, Outcome, Run, Trigger};
pub use selection::{EnrolmentFilter, PhoneFilter, UserFilter, UserPlace, UserSort, UserStatus};
pub use standing::{AuthenticatorShown, FactorFacts, Notice, NoticeCode, WrongCodes};
pub use synonyms::Synonyms;
pub use user::{PhoneSource, State, StateReason, TwoFactor, User, UserOrigin};
pub use verification::{Verdict, VerificationLine, VerifyMethod, VerifyReason, VerifyResult};
