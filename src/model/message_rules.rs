//! The rules of messages (the design, § 3.8 and § 3.10): what is due after a decision, what that means for messages which are
//! there already, and what becomes of an attempt. Pure: whoever plans and whoever keeps messages go by the same functions.
//!
//! | a message that is | a newer number | numbers equal again | no longer usable | undone | removed |
//! |---|---|---|---|---|---|
//! | waiting or held, no attempt | dropped | dropped | dropped | dropped | dropped |
//! | waiting or held, the end of an attempt unknown | dropped | stays | stays | stays | dropped |
//! | being sent | stays, and is looked at when it [comes back](come_back) | stays | stays | stays | stays |
//! | dead or refused | cannot be tried again | cannot be tried again | cannot be tried again | stays | cannot be tried again |
//! | delivered or dropped | stays | stays | stays | stays | stays |
//!
//! The first two columns are about provisions and reprovisions, the third also about what a person is to read, the others about
//! every message. A reminder is also dropped for a newer number, and once its link is over.

mod due;
mod jobs;
pub mod reminders;
mod returned;
#[cfg(test)]
mod tests;

pub use due::{count_said, dues, plain};
pub use jobs::{
    Becomes, IntentEffect, Links, Standing, TellingMark, UserEvent, becomes, effect_of,
    is_application, is_for_the_person, may_drop, may_retry,
};
pub use returned::{AttemptEnd, Becoming, Meanwhile, Returned, come_back, counts, may_begin};
