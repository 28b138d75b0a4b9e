//! What becomes of a line of a file of users: a user is made, or the one of the name gets what the line says.

use super::by_hand::{HandRefusal, NewUser, TypedPhone, UserEdit, add, edit};
use super::decide::{Decision, DecisionContext};
use crate::model::{
    Edit, ImportedPhone, ImportedUser, Intent, PhoneSource, SettledUser, User, UserOrigin,
};

/// Decides about a line. `held` is the user of the name: who is there under it, else who was suspended and had it. `None`: the user
/// has all this already.
///
/// # Errors
/// Where the directory owns what the line would change, or somebody objects to the number: then nothing of the line is taken.
pub fn imported(
    held: Option<&User>,
    line: ImportedUser,
    context: &DecisionContext<'_>,
) -> Result<Option<Decision>, HandRefusal> {
    let Some(held) = held else {
        let new = NewUser {
            name: line.name,
            display_name: line.display_name.over(None),
            email: line.email.over(None),
            phone: line.phone.over(None).map(typed),
            note: line.note.over(None),
            two_factor: line.two_factor,
            origin: UserOrigin::Import,
        };
        return Ok(Some(add(new, context)));
    };
    let phone = phone(held, line.phone, line.other_phones);
    let mut allows = false;
    if let (Some(refused), Edit::Set(number)) = (&context.number.refused, &phone)
        && !context.number.frozen
    {
        if number.phone == *refused {
            return Err(HandRefusal::NumberRefused);
        }
        allows = true;
    }
    let decision = edit(
        held,
        UserEdit {
            // Matched by it, without its case: how it is written stays.
            name: None,
            display_name: line.display_name,
            email: line.email,
            phone,
            note: line.note,
            two_factor: line.two_factor,
            returns: true,
        },
        context,
    )?;
    // Another number than the refused one is given: that one is like any other again.
    Ok(decision.map(|mut decision| {
        decision.intents.extend(allows.then_some(Intent::Allow));
        decision
    }))
}

/// Whether a line says nothing that a settled user has not: then [`imported`] decides nothing.
pub fn says_nothing_new(there: &SettledUser, line: &ImportedUser) -> bool {
    let same = |edit: &Edit<String>, there: &Option<String>| match edit {
        Edit::Keep => true,
        Edit::Clear => there.is_none(),
        Edit::Set(text) => there.as_ref() == Some(text),
    };
    let is = |number: &ImportedPhone| there.phone.as_deref() == Some(number.phone.as_str());
    let same_phone = match &line.phone {
        Edit::Keep => true,
        Edit::Clear => there.phone.is_none(),
        Edit::Set(first) => is(first) || line.other_phones.iter().any(is),
    };
    same_phone
        && same(&line.display_name, &there.display_name)
        && same(&line.email, &there.email)
        && same(&line.note, &there.note)
        && line
            .two_factor
            .as_ref()
            .is_none_or(|methods| *methods == there.two_factor)
}

/// The number of the line. One of several that is in use stays; and what a directory gives is no change of it.
fn phone(held: &User, line: Edit<ImportedPhone>, others: Vec<ImportedPhone>) -> Edit<TypedPhone> {
    let Edit::Set(first) = line else {
        return match line {
            Edit::Clear if held.phone.is_some() || held.phone_pending.is_some() => Edit::Clear,
            _ => Edit::Keep,
        };
    };
    let mut all = std::iter::once(first).chain(others).collect::<Vec<_>>();
    let is = |number: &ImportedPhone| Some(&number.phone) == held.phone.as_ref();
    let chosen = all.iter().position(is);
    if chosen.is_some() && held.of_a_directory() && held.phone_pending.is_none() {
        return Edit::Keep;
    }
    Edit::Set(typed(all.swap_remove(chosen.unwrap_or(0))))
}

fn typed(number: ImportedPhone) -> TypedPhone {
    TypedPhone {
        phone: number.phone,
        raw: number.raw,
        source: PhoneSource::Manual,
    }
}
