//! Lines of files of users, and what settled users have already.

use super::{at, name, number, policy};
use crate::model::{
    Edit, ImportedPhone, ImportedUser, PhoneSource, RealmId, SettledUser, TwoFactor, User,
    UserOrigin,
};
use crate::plan::by_hand::{NewUser, TypedPhone, add};
use crate::plan::imported::{imported, says_nothing_new};

fn settled(user: &User) -> SettledUser {
    SettledUser {
        display_name: user.display_name.clone(),
        email: user.email.clone(),
        phone: user.phone.as_ref().map(|p| p.as_str().to_owned()),
        two_factor: user.two_factor.clone(),
        note: user.note.clone(),
    }
}

fn of_a_file(n: u8) -> ImportedPhone {
    ImportedPhone {
        phone: number(n),
        raw: format!("0905 1234{n:02}"),
    }
}

#[test]
fn a_line_that_says_nothing_new_of_a_settled_user_decides_nothing() {
    let (realm, policy) = (RealmId::from("r"), policy());
    let context = at(&realm, &policy, 1);
    let texts = [
        Edit::Keep,
        Edit::Clear,
        Edit::Set("a".to_owned()),
        Edit::Set("b".to_owned()),
    ];
    let phones = [
        (Edit::Keep, vec![]),
        (Edit::Clear, vec![]),
        (Edit::Set(of_a_file(1)), vec![]),
        (Edit::Set(of_a_file(2)), vec![]),
        (Edit::Set(of_a_file(2)), vec![of_a_file(1)]),
    ];
    let methods = [None, Some(vec![]), Some(vec![TwoFactor::SmsOtp])];
    let mut people = vec![];
    for text in [None, Some("a".to_owned())] {
        for phone in [None, Some(1)] {
            for two_factor in [vec![], vec![TwoFactor::SmsOtp]] {
                let new = NewUser {
                    name: name("jan"),
                    display_name: text.clone(),
                    email: None,
                    phone: phone.map(|n| TypedPhone {
                        phone: number(n),
                        raw: "0905 123401".to_owned(),
                        source: PhoneSource::Manual,
                    }),
                    note: text.clone(),
                    two_factor: Some(two_factor),
                    origin: UserOrigin::Import,
                };
                people.push(add(new, &context).after);
            }
        }
    }
    let mut nothing = 0;
    for held in &people {
        assert_eq!(held.phone, held.phone_provisioned);
        for (n, (phone, other_phones)) in phones.iter().enumerate() {
            for text in &texts {
                for two_factor in &methods {
                    let line = ImportedUser {
                        name: name("jan"),
                        display_name: text.clone(),
                        email: Edit::Keep,
                        phone: phone.clone(),
                        other_phones: other_phones.clone(),
                        two_factor: two_factor.clone(),
                        note: text.clone(),
                        marked: false,
                    };
                    let says = says_nothing_new(&settled(held), &line);
                    let decided = imported(Some(held), line, &context).unwrap();
                    assert_eq!(
                        says,
                        decided.is_none(),
                        "{held:?} {n} {text:?} {two_factor:?}"
                    );
                    nothing += u32::from(says);
                }
            }
        }
    }
    assert!(nothing > 50, "{nothing}");
}
