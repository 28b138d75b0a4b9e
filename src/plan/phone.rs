//! Which number a person has, by what the directory gives and what is held (the design, § 3.7 and § 3.9).

use crate::model::{AttributeReading, Phone, PhoneReading, PhoneSource, PhoneValue, Policy, User};

/// What becomes of the number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Whatever is held stays as it is, the raw value included.
    Keep,
    /// The number in use is among the values; it may be written another way, or in another attribute, than before.
    Same(Choice),
    /// Another number, or a first one.
    Other(Choice),
    /// No number any more.
    Lost,
}

/// A value and the attribute that it came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The attribute, as configured.
    pub attribute: String,
    /// The number.
    pub value: PhoneValue,
}

/// Chooses the number of a person. `held`: the user as the store holds them, `None` for a new one.
///
/// * Attributes are tried in the configured order, and the first with a usable value decides.
/// * Within it the number in use stays, else the one that waits, else the smallest E.164: the order of values means nothing.
/// * While an attribute that is preferred to the one that the number in use came from, or that one itself, holds refused
///   values only, the number in use stays: an invalid new value never erases a valid old one.
/// * A number that was set by hand or in self-enrolment stays under `phone-authority = "local"`, and under `directory`
///   for as long as the directory gives none.
pub fn choose(held: Option<&User>, reading: &PhoneReading, policy: &Policy) -> Outcome {
    let PhoneReading::Read(attributes) = reading else {
        return Outcome::Keep;
    };
    let deciding = attributes.iter().position(|a| !a.usable.is_empty());
    let Some((held, in_use)) = held.and_then(|u| u.phone.as_ref().map(|p| (u, p))) else {
        return match deciding {
            Some(i) => Outcome::Other(pick(
                &attributes[i],
                held.and_then(|u| u.phone_pending.as_ref()),
            )),
            None => Outcome::Keep,
        };
    };
    let by_hand = held.phone_source != Some(PhoneSource::Directory);
    if by_hand && (policy.local_phones || deciding.is_none()) {
        return Outcome::Keep;
    }
    let first_usable = deciding.unwrap_or(attributes.len());
    let own_rank = own_rank(held, attributes);
    let only_refused_before = attributes
        .iter()
        .take(first_usable)
        .take(own_rank + 1)
        .any(|a| a.usable.is_empty() && a.refused > 0);
    if only_refused_before && !by_hand {
        return Outcome::Keep;
    }
    let Some(reading) = deciding.map(|i| &attributes[i]) else {
        return Outcome::Lost;
    };
    match reading.usable.iter().find(|v| v.phone == *in_use) {
        Some(value) => Outcome::Same(Choice {
            attribute: reading.attribute.clone(),
            value: value.clone(),
        }),
        None => Outcome::Other(pick(reading, held.phone_pending.as_ref())),
    }
}

/// The place of the attribute that the number in use came from; the last one when that is not known any more, so that a refused value in any of them keeps the number.
fn own_rank(held: &User, attributes: &[AttributeReading]) -> usize {
    let last = attributes.len().saturating_sub(1);
    let Some(own) = held.phone_attribute.as_deref() else {
        return last;
    };
    attributes
        .iter()
        .position(|a| a.attribute.eq_ignore_ascii_case(own))
        .unwrap_or(last)
}

/// The waiting number if it is among the values, else the smallest.
fn pick(reading: &AttributeReading, waiting: Option<&Phone>) -> Choice {
    let wanted = reading.usable.iter().find(|v| Some(&v.phone) == waiting);
    let smallest = reading.usable.iter().min_by(|a, b| a.phone.cmp(&b.phone));
    let value = wanted
        .or(smallest)
        .cloned()
        .unwrap_or_else(|| unreachable!("an attribute decides only with a usable value"));
    Choice {
        attribute: reading.attribute.clone(),
        value,
    }
}
