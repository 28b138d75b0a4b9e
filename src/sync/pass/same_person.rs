//! Whether two who have one name are one person.

use crate::model::{Known, Person, PhoneReading, User};

/// Whether number or e-mail address say that a user is whom an entry describes.
pub(super) fn same_person(user: &User, person: &Person) -> bool {
    let phone = match &person.phone {
        PhoneReading::Read(attributes) => attributes
            .iter()
            .flat_map(|a| &a.usable)
            .any(|v| Some(&v.phone) == user.phone.as_ref()),
        PhoneReading::Unknown => false,
    };
    let email = match &person.email {
        Known::Known(Some(email)) => user
            .email
            .as_ref()
            .is_some_and(|held| held.to_lowercase() == email.to_lowercase()),
        _ => false,
    };
    phone || email
}
