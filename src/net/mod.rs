//! What every connection of this program has in common, whoever it goes to: one address of several, and words about TLS.

mod dial;
mod unfit;

pub use dial::{Unreached, dial, dial_one_of};
pub use unfit::{TlsFault, unfit, unfit_in};
