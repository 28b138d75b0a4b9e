//! The directory's entry of a name is given to a user by hand who may be somebody else: neither number nor e-mail address agrees.
//!
//! Nothing by which the user proved themselves is the other person's: the number in use and one that waits, what the outside world
//! knows, applications, hard tokens and recovery codes. Id, note, methods and a block stay.

use serde_json::Value;

use super::decide::{Decision, DecisionContext, NameGrant, drop_pending, finish, follow, rows_of};
use crate::model::change::ANOTHER_PERSON;
use crate::model::{ChangeKind, Field, Intent, JobReason, JobType, Person, User};

/// Decides about an entry that is given to a user who may be somebody else. `None` as [`decide`](super::decide::decide).
pub fn decide_stranger(
    held: &User,
    person: &Person,
    name: NameGrant,
    context: &DecisionContext<'_>,
) -> Option<Decision> {
    let reason = JobReason::Adopted;
    let Decision {
        mut after, intents, ..
    } = follow(&without_factors(held), person, name, context)?;
    let mut said = vec![Intent::Forget { reason }];
    if held.told || held.provisioned {
        // The receiver has, or is about to get, the application of the one before.
        said.push(Intent::Say {
            r#type: JobType::Deprovision,
            reason,
            previous_phone: None,
            previous_username: Some(held.username.clone()),
        });
    }
    // Nothing is taken back of what the one before was told: all of it is forgotten.
    said.extend(intents.into_iter().filter(|i| *i != Intent::Unsay));
    let phone_row = match (&held.phone, &after.phone) {
        (was, is) if was == is => None,
        (_, None) => Some(ChangeKind::PhoneLost),
        (_, Some(_)) => Some(ChangeKind::PhoneChanged),
    };
    let mut rows = rows_of(held, &after, phone_row, context);
    for row in &mut rows {
        if row.after.contains_key(Field::Origin.as_str()) {
            row.after
                .insert(ANOTHER_PERSON.to_owned(), Value::Bool(true));
        }
    }
    after.version = held.version;
    finish(held, after, rows, said, context.now)
}

/// The user as somebody of whom nobody knows a number, and whom nobody was told of.
fn without_factors(held: &User) -> User {
    let mut bare = held.clone();
    drop_pending(&mut bare);
    bare.phone = None;
    bare.phone_raw = None;
    bare.phone_attribute = None;
    bare.phone_rule = None;
    bare.phone_source = None;
    bare.phone_provisioned = None;
    bare.phone_told = None;
    bare.told = false;
    bare.provisioned = false;
    bare
}
