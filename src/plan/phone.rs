//! Which number a person has, by what the directory gives and what is held (the design, § 3.7 and § 3.9).

use crate::clock::Timestamp;
use crate::model::user::awaiting_approval;
use crate::model::{
    AttributeReading, NumberMark, Phone, PhoneReading, PhoneSource, PhoneValue, Policy, Synonyms,
    User,
};

/// What becomes of the number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome<'a> {
    /// Whatever is held stays as it is, the raw value included.
    Keep,
    /// The number in use is among the values; it may be written another way, or in another attribute, than before.
    Same(Choice<'a>),
    /// Another number, or a first one.
    Other(Choice<'a>),
    /// No number any more.
    Lost,
    /// The number that waited is given no more; the one in use, if there is one, stays.
    Withdrawn,
}

/// A value and the attribute that it came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice<'a> {
    /// The attribute, as configured.
    pub attribute: &'a str,
    /// The number.
    pub value: &'a PhoneValue,
}

/// Chooses the number of a person. `held`: the user as the store holds them, `None` for a new one.
///
/// * Attributes are tried in the configured order, and the first with a usable value decides.
/// * Within it the number in use stays, else the one that waits, else the smallest E.164: the order of values means nothing.
/// * While an attribute that is preferred to the one that the number in use came from, or that one itself, holds refused
///   values only, the number in use stays: an invalid new value never erases a valid old one.
/// * A number that was set by hand or in self-enrolment stays under `phone-authority = "local"`, and under `directory`
///   for as long as the directory gives none.
/// * One that was set so and waits, waits on in the same cases.
/// * A number that waits while nothing else of the directory is in use goes with its value: only a refused one keeps it waiting.
/// * A number that an administrator refused is no value; where it is the only one left, the number in use stays.
pub fn choose<'a>(
    held: Option<&User>,
    reading: &'a PhoneReading,
    mark: &NumberMark,
    policy: &Policy,
) -> Outcome<'a> {
    let PhoneReading::Read(attributes) = reading else {
        return Outcome::Keep;
    };
    let in_use = held.and_then(|u| u.phone.as_ref());
    let refused = mark.refused.as_ref().filter(|p| Some(*p) != in_use);
    let deciding = attributes
        .iter()
        .position(|a| usable(a, refused).next().is_some());
    let waits_by_hand = held.is_some_and(|u| u.phone_pending_source.is_some());
    if waits_by_hand && (policy.local_phones || deciding.is_none()) {
        return Outcome::Keep;
    }
    let Some((held, in_use)) = held.and_then(|u| u.phone.as_ref().map(|p| (u, p))) else {
        return match deciding {
            Some(i) => Outcome::Other(pick(
                &attributes[i],
                refused,
                held.and_then(|u| u.phone_pending.as_ref()),
            )),
            None => no_more(held, attributes),
        };
    };
    let by_hand = held.phone_source != Some(PhoneSource::Directory);
    if by_hand && policy.local_phones {
        return held
            .phone_pending
            .as_ref()
            .map_or(Outcome::Keep, |_| Outcome::Withdrawn);
    }
    if by_hand && deciding.is_none() {
        return no_more(Some(held), attributes);
    }
    let first_usable = deciding.unwrap_or(attributes.len());
    let own_rank = own_rank(held, attributes);
    let only_refused_before = attributes
        .iter()
        .take(first_usable)
        .take(own_rank + 1)
        .any(|a| a.refused > 0 || !a.usable.is_empty());
    if only_refused_before && !by_hand {
        return no_more(Some(held), attributes);
    }
    let Some(reading) = deciding.map(|i| &attributes[i]) else {
        let one_is_refused = attributes.iter().any(|a| !a.usable.is_empty());
        return if one_is_refused {
            no_more(Some(held), attributes)
        } else {
            Outcome::Lost
        };
    };
    match usable(reading, refused).find(|v| v.phone == *in_use) {
        Some(value) => Outcome::Same(Choice {
            attribute: &reading.attribute,
            value,
        }),
        None => Outcome::Other(pick(reading, refused, held.phone_pending.as_ref())),
    }
}

/// The values of an attribute that may be taken: all but the number that an administrator refused.
fn usable<'a>(
    attribute: &'a AttributeReading,
    refused: Option<&Phone>,
) -> impl Iterator<Item = &'a PhoneValue> {
    attribute
        .usable
        .iter()
        .filter(move |v| Some(&v.phone) != refused)
}

/// Whether another number must wait before it is used (§ 3.9). Who was never provisioned with any waits for none, whether or not one
/// is in use now: a number that was deleted and then given is no first one. Back to the one that the outside world knows is no
/// wait either.
pub fn waits(held: &User, phone: &Phone, policy: &Policy) -> bool {
    policy.hold_ms > 0 && is_no_first(held, phone)
}

/// Whether a number takes the place of another one, or of one that the outside world still knows.
fn is_no_first(held: &User, phone: &Phone) -> bool {
    let lost = || held.phone_provisioned.as_ref().is_some_and(|p| p != phone);
    held.phone.is_some() || lost()
}

/// Whether an entry gives a number of which the directory is to be asked whether the user is protected (`phone-change.protect`): not a
/// first one, and not one that waits already.
pub fn is_to_be_asked(
    held: &User,
    reading: &PhoneReading,
    mark: &NumberMark,
    policy: &Policy,
) -> bool {
    if policy.protect.is_none() || mark.frozen {
        return false;
    }
    let Outcome::Other(Choice { value, .. }) = choose(Some(held), reading, mark, policy) else {
        return false;
    };
    held.phone_pending.as_ref() != Some(&value.phone) && is_no_first(held, &value.phone)
}

/// Until when another number waits, as a user's row keeps it; `None`: it does not. `protected`: the user matches
/// `phone-change.protect`, or that could not be found out.
pub fn waits_from_now(
    held: &User,
    phone: &Phone,
    policy: &Policy,
    now: Timestamp,
    protected: bool,
) -> Option<Timestamp> {
    let until = now.plus_ms(policy.hold_ms);
    match (
        protected && is_no_first(held, phone),
        waits(held, phone, policy),
    ) {
        (true, _) => Some(awaiting_approval(until)),
        (false, true) => Some(until),
        (false, false) => None,
    }
}

/// The number that hears of another one: the one in use, or after a loss the one that the outside world last knows of.
pub fn previous(held: &User) -> Option<&Phone> {
    held.phone.as_ref().or(held.phone_provisioned.as_ref())
}

/// The number in use stays, if there is one. One that waits goes, unless it is given still, or a refused value may be meant for it.
fn no_more<'a>(held: Option<&User>, attributes: &[AttributeReading]) -> Outcome<'a> {
    let kept = |waiting: &Phone| {
        attributes
            .iter()
            .any(|a| a.refused > 0 || a.usable.iter().any(|v| v.phone == *waiting))
    };
    match held.and_then(|u| u.phone_pending.as_ref()) {
        Some(waiting) if !kept(waiting) => Outcome::Withdrawn,
        _ => Outcome::Keep,
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
        .or_else(|| {
            // The file may name it by another name since.
            let names = Synonyms::default();
            let own = names.usual(own);
            attributes
                .iter()
                .position(|a| names.usual(&a.attribute) == own)
        })
        .unwrap_or(last)
}

/// The waiting number if it is among the values, else the smallest.
fn pick<'a>(
    reading: &'a AttributeReading,
    refused: Option<&Phone>,
    waiting: Option<&Phone>,
) -> Choice<'a> {
    let wanted = usable(reading, refused).find(|v| Some(&v.phone) == waiting);
    let smallest = usable(reading, refused).min_by(|a, b| a.phone.cmp(&b.phone));
    let value = wanted
        .or(smallest)
        .unwrap_or_else(|| unreachable!("an attribute decides only with a usable value"));
    Choice {
        attribute: &reading.attribute,
        value,
    }
}
