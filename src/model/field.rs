//! The fields of a user that a change may name: one table of what each is called, how it is read, set and shown, and whose it is.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::person::fold_name;
use super::user::words;
use super::{DirectoryId, IdForm, Phone, User, phone};

words! {
    /// A field of a user, by its name in the user's JSON.
    Field {
        /// The realm; another one only by `moved`.
        Realm = "realm",
        /// The user name as it is shown; what it is compared by goes along.
        Username = "username",
        /// The name for people.
        DisplayName = "display_name",
        /// The address.
        Email = "email",
        /// The number in use.
        Phone = "phone",
        /// What the number was read from.
        PhoneRaw = "phone_raw",
        /// Who gave the number.
        PhoneSource = "phone_source",
        /// A new number that waits.
        PhonePending = "phone_pending",
        /// When the waiting number takes effect.
        PhonePendingUntil = "phone_pending_until",
        /// Who gave the number that waits; none: the directory.
        PhonePendingSource = "phone_pending_source",
        /// The number that the outside world last knows of.
        PhoneProvisioned = "phone_provisioned",
        /// The directory's id, as its own tools print it.
        DirectoryId = "directory_id",
        /// The entry's name.
        Dn = "dn",
        /// Where the user stands.
        State = "state",
        /// Why suspended.
        StateReason = "state_reason",
        /// When suspended.
        SuspendedAt = "suspended_at",
        /// An administrator's mark.
        Blocked = "blocked",
        /// The methods that the user may use.
        TwoFactor = "two_factor",
        /// Where the user came from.
        Origin = "origin",
        /// An administrator's words.
        Note = "note",
    }
}

/// Who may change a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldOwner {
    /// The realm's directory; a number also whoever `phone-authority` says.
    Directory,
    /// An administrator; no pass touches it.
    Administrator,
    /// Nobody by hand: it follows from the others, or from what was sent.
    Service,
}

/// A value that a field cannot have.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
#[error("`{0}` cannot have this value")]
pub struct UnfitValue(pub Field);

impl Field {
    /// The value of a user, as changes and JSON have it.
    pub fn get(self, user: &User, form: IdForm) -> Value {
        match self {
            Self::Realm => json!(user.realm),
            Self::Username => json!(user.username),
            Self::DisplayName => json!(user.display_name),
            Self::Email => json!(user.email),
            Self::Phone => json!(user.phone),
            Self::PhoneRaw => json!(user.phone_raw),
            Self::PhoneSource => json!(user.phone_source),
            Self::PhonePending => json!(user.phone_pending),
            Self::PhonePendingUntil => json!(user.phone_waits_until()),
            Self::PhonePendingSource => json!(user.phone_pending_source),
            Self::PhoneProvisioned => json!(user.phone_provisioned),
            Self::DirectoryId => json!(user.directory_id.map(|id| id.display(form))),
            Self::Dn => json!(user.dn),
            Self::State => json!(user.state),
            Self::StateReason => json!(user.state_reason),
            Self::SuspendedAt => json!(user.suspended_at),
            Self::Blocked => json!(user.blocked),
            Self::TwoFactor => json!(user.two_factor),
            Self::Origin => json!(user.origin),
            Self::Note => json!(user.note),
        }
    }

    /// Gives a user a value that [`Field::get`] gave. Nothing else follows: what hangs on it is the caller's.
    pub fn set(self, user: &mut User, value: &Value, form: IdForm) -> Result<(), UnfitValue> {
        match self {
            Self::Realm => user.realm = self.read(value)?,
            Self::Username => {
                let name: String = self.read(value)?;
                user.username_key = fold_name(&name);
                user.username = name;
            }
            Self::DisplayName => user.display_name = self.read(value)?,
            Self::Email => user.email = self.read(value)?,
            Self::Phone => user.phone = self.number(value)?,
            Self::PhoneRaw => user.phone_raw = self.read(value)?,
            Self::PhoneSource => user.phone_source = self.read(value)?,
            Self::PhonePending => user.phone_pending = self.number(value)?,
            Self::PhonePendingUntil => user.phone_pending_until = self.read(value)?,
            Self::PhonePendingSource => user.phone_pending_source = self.read(value)?,
            Self::PhoneProvisioned => user.phone_provisioned = self.number(value)?,
            Self::DirectoryId => {
                let text: Option<String> = self.read(value)?;
                let id = text.map(|text| DirectoryId::parse(&text, form).ok_or(UnfitValue(self)));
                user.directory_id = id.transpose()?;
            }
            Self::Dn => user.dn = self.read(value)?,
            Self::State => user.state = self.read(value)?,
            Self::StateReason => user.state_reason = self.read(value)?,
            Self::SuspendedAt => user.suspended_at = self.read(value)?,
            Self::Blocked => user.blocked = self.read(value)?,
            Self::TwoFactor => user.two_factor = self.read(value)?,
            Self::Origin => user.origin = self.read(value)?,
            Self::Note => user.note = self.read(value)?,
        }
        Ok(())
    }

    fn read<T: DeserializeOwned>(self, value: &Value) -> Result<T, UnfitValue> {
        T::deserialize(value).map_err(|_| UnfitValue(self))
    }

    fn number(self, value: &Value) -> Result<Option<Phone>, UnfitValue> {
        let text: Option<String> = self.read(value)?;
        let number = text.map(|text| Phone::from_e164(&text).ok_or(UnfitValue(self)));
        number.transpose()
    }

    /// Who may change it.
    pub fn owner(self) -> FieldOwner {
        match self {
            Self::Username
            | Self::DisplayName
            | Self::Email
            | Self::Phone
            | Self::DirectoryId
            | Self::Dn
            | Self::State => FieldOwner::Directory,
            Self::Blocked | Self::TwoFactor | Self::Note => FieldOwner::Administrator,
            Self::Realm
            | Self::Origin
            | Self::PhoneRaw
            | Self::PhoneSource
            | Self::PhonePending
            | Self::PhonePendingUntil
            | Self::PhonePendingSource
            | Self::PhoneProvisioned
            | Self::StateReason
            | Self::SuspendedAt => FieldOwner::Service,
        }
    }

    /// Whether it only goes along with another field: it differing alone is no change of anybody's mind.
    pub fn goes_along(self) -> bool {
        matches!(
            self,
            Self::PhoneRaw
                | Self::PhoneSource
                | Self::PhonePendingUntil
                | Self::PhonePendingSource
                | Self::SuspendedAt
        )
    }

    /// Whether it holds a telephone number.
    pub fn is_number(self) -> bool {
        matches!(
            self,
            Self::Phone | Self::PhoneRaw | Self::PhonePending | Self::PhoneProvisioned
        )
    }

    /// A value for people; numbers are masked unless they are to be shown.
    pub fn show(self, value: &Value, numbers: bool) -> String {
        match value {
            Value::Null => "none".to_owned(),
            Value::String(text) if self.is_number() && !numbers => phone::mask(text),
            Value::String(text) => text.clone(),
            Value::Array(values) if values.is_empty() => "none".to_owned(),
            Value::Array(values) => {
                let each: Vec<String> = values.iter().map(|v| self.show(v, numbers)).collect();
                each.join(", ")
            }
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;
    use crate::model::{PhoneSource, RealmId, State, StateReason, TwoFactor, UserId, UserOrigin};

    fn number() -> impl Strategy<Value = Phone> {
        (10_000_000..99_999_999_u32)
            .prop_map(|n| Phone::from_e164(&format!("+4219{n}")).expect("a number"))
    }

    fn time() -> impl Strategy<Value = Timestamp> {
        (0..4_000_000_000_000_i64).prop_map(Timestamp)
    }

    fn some<T: Clone + std::fmt::Debug + 'static>(of: &'static [T]) -> impl Strategy<Value = T> {
        proptest::sample::select(of)
    }

    prop_compose! {
        fn text()(text in "[a-zA-Zéß ]{1,12}") -> String { text }
    }

    prop_compose! {
        fn somebody()(
            names in (text(), proptest::option::of(text()), proptest::option::of(text()), proptest::option::of(text()), text()),
            numbers in proptest::array::uniform3(proptest::option::of(number())),
            raw in proptest::option::of(text()),
            source in proptest::option::of(some(PhoneSource::ALL)),
            times in proptest::array::uniform2(proptest::option::of(time())),
            id in proptest::option::of(any::<[u8; 16]>()),
            state in some(State::ALL),
            reason in proptest::option::of(some(StateReason::ALL)),
            blocked in any::<bool>(),
            two_factor in proptest::sample::subsequence(TwoFactor::ALL, 0..=TwoFactor::ALL.len()),
            origin in some(UserOrigin::ALL),
            note in proptest::option::of(text()),
        ) -> User {
            let (username, display_name, email, dn, realm) = names;
            let [phone, phone_pending, phone_provisioned] = numbers;
            let [phone_pending_until, suspended_at] = times;
            User {
                id: UserId(uuid::Uuid::from_u128(7)),
                realm: RealmId::from(realm),
                directory_id: id.map(DirectoryId),
                entry_uuid: None,
                username_key: fold_name(&username),
                username,
                display_name,
                email,
                dn,
                phone,
                phone_raw: raw,
                phone_attribute: None,
                phone_rule: None,
                phone_source: source,
                phone_pending,
                phone_pending_raw: None,
                phone_pending_until,
                phone_pending_source: source,
                phone_provisioned,
                phone_told: None,
                told: false,
                provisioned: false,
                state,
                state_reason: reason,
                suspended_at,
                suspended_clock: None,
                blocked,
                version: 1,
                two_factor,
                last_used_at: None,
                fingerprint: None,
                created_at: Timestamp(0),
                updated_at: Timestamp(0),
                origin,
                note,
            }
        }
    }

    const FORMS: &[IdForm] = &[IdForm::Uuid, IdForm::Guid, IdForm::NsUniqueId];

    proptest! {
        #[test]
        fn what_was_read_of_a_user_is_set_as_it_was(one in somebody(), other in somebody(), form in some(FORMS)) {
            let mut same = one.clone();
            let mut becomes = other;
            for field in Field::ALL.iter().copied() {
                let value = field.get(&one, form);
                field.set(&mut same, &value, form).expect("its own value");
                prop_assert!(same == one, "{field}");
                field.set(&mut becomes, &value, form).expect("a value of somebody else");
                prop_assert_eq!(field.get(&becomes, form), value, "{}", field);
            }
            prop_assert!(becomes == one);
        }

        #[test]
        fn a_number_is_never_shown_unless_it_is_asked_for(one in somebody(), number in number()) {
            let mut user = one;
            for field in Field::ALL.iter().copied().filter(|f| f.is_number()) {
                field.set(&mut user, &json!(number.as_str()), IdForm::Uuid).expect("a number");
                let value = field.get(&user, IdForm::Uuid);
                prop_assert_eq!(field.show(&value, true), number.as_str());
                let masked = field.show(&value, false);
                prop_assert!(!masked.contains(&number.as_str()[5..]), "{}: {}", field, masked);
            }
        }
    }

    #[test]
    fn a_value_that_does_not_fit_changes_nobody() {
        let unfit = |field: Field, value: Value| {
            let mut runner = proptest::test_runner::TestRunner::deterministic();
            let tree = somebody().new_tree(&mut runner).expect("somebody");
            let one = proptest::strategy::ValueTree::current(&tree);
            let mut user = one.clone();
            assert_eq!(
                field.set(&mut user, &value, IdForm::Uuid),
                Err(UnfitValue(field))
            );
            assert!(user == one, "{field}");
        };
        unfit(Field::Username, Value::Null);
        unfit(Field::Phone, json!("0905 123 456"));
        unfit(Field::State, json!("away"));
        unfit(Field::Blocked, json!("yes"));
        unfit(Field::DirectoryId, json!("12"));
        unfit(Field::TwoFactor, json!(["pigeon"]));
        unfit(Field::SuspendedAt, json!(5));
    }
}
