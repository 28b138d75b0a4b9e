//! What users prove themselves with: authenticators with their encrypted secrets, recovery codes, and what verifications know of a user.

mod answers;
pub(super) mod authenticators;
mod bypass;
pub(in crate::store) mod endings;
mod facts;
mod frozen;
mod hard_tokens;
mod judging;
mod logons;
pub(super) mod proof;
mod recorded;
pub(super) mod recovery;
mod rows_of_many;
mod upkeep;
mod verifying;

pub use answers::{ANSWERED_FOR, KeptAnswer};
pub(in crate::store) use authenticators::GIVEN_UP;
pub use authenticators::KeptAuthenticator;
#[cfg(test)]
pub(in crate::store) use authenticators::{
    all as all_authenticators, insert as insert_authenticator,
};
pub use bypass::NewBypass;
pub use judging::{CodeUse, Examined};
pub use logons::LogonRow;
pub use proof::{ProofOutcome, WrongCode};
pub use recorded::VerificationFilter;
pub use upkeep::Guesses;
pub use verifying::{
    ActiveAuthenticator, NameSought, UserFactors, VerificationRow, VerifiedUser, Verifying,
};
#[cfg(test)]
mod given;
pub use hard_tokens::{HardTokenFilter, HardTokenRow, NewHardToken, TokenOfSerial};
