//! Where each value of a user came from: server, attribute, raw value, rule and run.

use serde::Serialize;

use super::explain::Explanation;
use crate::clock::Timestamp;
use crate::config::{Attributes, Config, DirectoryKind, DisabledRule, RealmConfig};
use crate::model::{
    Change, ChangeKind, Field, FieldOwner, IdForm, PhoneSource, RunId, StateReason,
};

/// One value, and where it came from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct OriginStory {
    /// Which.
    #[serde(serialize_with = "word")]
    pub field: Field,
    /// The value; `None`: there is none.
    pub value: Option<String>,
    /// The attribute, or those of which the first with a usable value counts.
    pub attribute: Option<String>,
    /// The value as it stands in the directory.
    pub raw: Option<String>,
    /// How it was read, or by what it was set.
    pub rule: Option<String>,
    /// The server that gave it.
    pub server: Option<String>,
    /// The run that brought it.
    pub run: Option<RunId>,
    /// When it came.
    pub since: Option<Timestamp>,
    /// Who set it, where no run did.
    pub by: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn word<S: serde::Serializer>(field: &Field, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(field.as_str())
}

impl Explanation {
    /// Each value with its origin.
    pub fn values(&self, config: &Config) -> Vec<OriginStory> {
        let u = &self.user;
        let realm = config.realms.iter().find(|r| r.id == u.realm);
        let mapped = realm.map(|r| Attributes::for_kind(self.kind(r), &r.attributes));
        let list =
            |names: fn(&Attributes) -> &Vec<String>| mapped.as_ref().map(|m| either(names(m)));
        let own = u.directory_id.is_some();
        let value = |field: Field, value: Option<String>, attribute: Option<String>| {
            let change = self.last(field);
            let run = change.and_then(|c| c.run).and_then(|id| self.runs.get(&id));
            OriginStory {
                field,
                attribute: attribute
                    .filter(|_| own && field.owner() == FieldOwner::Directory && value.is_some()),
                value,
                raw: None,
                rule: None,
                server: run.and_then(|r| r.server.clone()).filter(|_| own),
                run: change.and_then(|c| c.run),
                since: change.map(|c| c.at),
                by: change
                    .and_then(|c| c.by.clone())
                    .filter(|_| change.is_some_and(|c| c.run.is_none())),
            }
        };
        let form = self
            .row
            .as_ref()
            .and_then(|row| row.id_form)
            .unwrap_or(IdForm::Uuid);
        let id = mapped.as_ref().map(|m| m.directory_id.clone());
        let mut number = value(
            Field::Phone,
            u.phone.as_ref().map(|p| p.as_str().to_owned()),
            u.phone_attribute.clone(),
        );
        number.raw.clone_from(&u.phone_raw);
        number.rule = match u.phone_source {
            Some(PhoneSource::Directory) => {
                u.phone_rule.as_ref().map(|rule| format!("read as {rule}"))
            }
            Some(source) => Some(format!("set as {source}")),
            None => None,
        };
        let mut state = value(
            Field::State,
            Some(u.state.to_string()),
            mapped.as_ref().map(disabled_by),
        );
        if u.state_reason != Some(StateReason::Disabled) {
            state.attribute = None;
        }
        vec![
            value(
                Field::Username,
                Some(u.username.clone()).filter(|n| !n.is_empty()),
                list(|m| &m.username),
            ),
            value(
                Field::DisplayName,
                u.display_name.clone(),
                list(|m| &m.display_name),
            ),
            value(Field::Email, u.email.clone(), list(|m| &m.email)),
            number,
            state,
            value(Field::Dn, u.dn.clone(), None),
            value(
                Field::DirectoryId,
                u.directory_id.map(|id| id.display(form)),
                id,
            ),
        ]
    }

    /// The kind as configured; else as the directory's ids were seen to be.
    pub fn kind(&self, realm: &RealmConfig) -> DirectoryKind {
        realm.directory.kind.unwrap_or_else(|| {
            match self.row.as_ref().and_then(|row| row.id_form) {
                Some(IdForm::Guid) => DirectoryKind::ActiveDirectory,
                Some(IdForm::NsUniqueId) => DirectoryKind::Ds389,
                _ => DirectoryKind::Generic,
            }
        })
    }

    /// The change that gave a field its value.
    fn last(&self, field: Field) -> Option<&Change> {
        self.history
            .iter()
            .find(|c| c.kind == ChangeKind::Created || c.after.contains_key(field.as_str()))
    }
}

/// `mobile`, or `the first of mobile, telephoneNumber`.
pub fn either(names: &[String]) -> String {
    match names {
        [one] => one.clone(),
        several => format!("the first of {}", several.join(", ")),
    }
}

fn disabled_by(mapped: &Attributes) -> String {
    match &mapped.disabled {
        DisabledRule::Equals { attribute, equals } => format!("{attribute} = {equals}"),
        DisabledRule::Bits { attribute, bits } => format!("{attribute}, bit {bits}"),
    }
}
