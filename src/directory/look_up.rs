//! Asking for single people: by id, since absence needs evidence (design § 3.2), and by name.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use ldap3::Scope as Depth;

use super::entry::directory_id;
use super::error::DirectoryError;
use super::read::Scope;
use super::search::{Ask, Sink};
use super::session::Session;
use crate::model::{DirectoryId, IdForm, RawEntry};

/// Ids in one filter. Few enough for every server's limit on filters and for an account that gets 500 entries unpaged,
/// many enough that a scan of an id that is not indexed is shared.
const BATCH: usize = 200;

/// Where an id was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sighting {
    /// Under a base, and matching the filter: not absent at all.
    InScope(RawEntry),
    /// Elsewhere in the directory, or not matching the filter any more.
    OutOfScope {
        /// Its DN, for people.
        dn: String,
        /// The entry.
        entry: RawEntry,
    },
}

impl Session {
    /// Looks ids up: in the scope, then in the naming contexts that hold the bases. An id without a key in the answer was
    /// found nowhere; whatever leaves that open is an error.
    pub async fn look_up(
        &mut self,
        scope: &Scope,
        ids: &[DirectoryId],
    ) -> Result<HashMap<DirectoryId, Sighting>, DirectoryError> {
        let wanted: HashSet<DirectoryId> = ids.iter().copied().collect();
        let each_once: Vec<DirectoryId> = wanted.iter().copied().collect();
        let mut found = HashMap::with_capacity(wanted.len());
        for batch in each_once.chunks(BATCH) {
            let any = any_of(&scope.id_attribute, scope.id_form, batch.iter());
            let filter = format!("(&{}{any})", scope.enclosed_filter());
            for base in &scope.bases {
                if batch.iter().all(|id| found.contains_key(id)) {
                    break;
                }
                for entry in self
                    .few(
                        scope,
                        &format!("looking {} ids up under `{base}`", batch.len()),
                        base,
                        &filter,
                        false,
                    )
                    .await?
                {
                    if let Some(id) = directory_id(&entry, &scope.id_attribute, scope.id_form) {
                        found.insert(id, Sighting::InScope(entry));
                    }
                }
            }
            for context in self.contexts.clone() {
                let missing: Vec<&DirectoryId> =
                    batch.iter().filter(|id| !found.contains_key(id)).collect();
                if missing.is_empty() {
                    break;
                }
                let any = any_of(&scope.id_attribute, scope.id_form, missing.iter().copied());
                // An entry keeps its id only on its own server: a reference elsewhere hides nobody who is looked for.
                for entry in self
                    .few(
                        scope,
                        &format!("looking {} ids up under `{context}`", missing.len()),
                        &context,
                        &any,
                        true,
                    )
                    .await?
                {
                    if let Some(id) = directory_id(&entry, &scope.id_attribute, scope.id_form) {
                        found.entry(id).or_insert_with(|| Sighting::OutOfScope {
                            dn: entry.dn_shown(),
                            entry,
                        });
                    }
                }
            }
        }
        self.still_sound("looking ids up")?;
        // A server may answer more than it was asked.
        found.retain(|id, _| wanted.contains(id));
        Ok(found)
    }

    /// The entries in scope whose user name, by one of these attributes, is `name`.
    pub async fn find_by_name(
        &mut self,
        scope: &Scope,
        username_attributes: &[String],
        name: &str,
    ) -> Result<Vec<RawEntry>, DirectoryError> {
        let value = escaped(name.as_bytes());
        let any: Vec<String> = username_attributes
            .iter()
            .map(|a| format!("({a}={value})"))
            .collect();
        let filter = format!("(&{}(|{}))", scope.enclosed_filter(), any.concat());
        let mut found = Vec::new();
        for base in &scope.bases {
            found.extend(
                self.few(
                    scope,
                    &format!("looking for a name under `{base}`"),
                    base,
                    &filter,
                    false,
                )
                .await?,
            );
        }
        self.still_sound("looking for a name")?;
        Ok(found)
    }

    async fn few(
        &mut self,
        scope: &Scope,
        what: &str,
        base: &str,
        filter: &str,
        elsewhere_is_fine: bool,
    ) -> Result<Vec<RawEntry>, DirectoryError> {
        let ask = Ask {
            base,
            depth: Depth::Subtree,
            filter,
            attributes: Arc::clone(&scope.asked()),
            page_size: scope.page_size,
            elsewhere_is_fine,
        };
        let mut found = Vec::new();
        self.search(what, &ask, Sink::List(&mut found)).await?;
        Ok(found)
    }
}

fn any_of<'a>(attribute: &str, form: IdForm, ids: impl Iterator<Item = &'a DirectoryId>) -> String {
    let mut filter = String::from("(|");
    for id in ids {
        let value = match form {
            // Binary in the directory: each byte escaped.
            IdForm::Guid => id.0.iter().fold(String::new(), |mut text, byte| {
                let _infallible = write!(text, "\\{byte:02x}");
                text
            }),
            IdForm::Uuid | IdForm::NsUniqueId => id.display(form),
        };
        let _infallible = write!(filter, "({attribute}={value})");
    }
    filter.push(')');
    filter
}

/// A value for a filter (RFC 4515 § 3): everything that could mean something is escaped.
fn escaped(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value {
        if byte.is_ascii_alphanumeric() || b" @._-".contains(byte) {
            text.push(char::from(*byte));
        } else {
            let _infallible = write!(text, "\\{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_by_their_form() {
        let id = DirectoryId(std::array::from_fn(|i| u8::try_from(i + 1).unwrap()));
        let filter = |form| any_of("x", form, [id].iter());
        assert_eq!(
            filter(IdForm::Uuid),
            "(|(x=01020304-0506-0708-090a-0b0c0d0e0f10))"
        );
        assert_eq!(
            filter(IdForm::NsUniqueId),
            "(|(x=01020304-05060708-090a0b0c-0d0e0f10))"
        );
        assert_eq!(
            filter(IdForm::Guid),
            r"(|(x=\01\02\03\04\05\06\07\08\09\0a\0b\0c\0d\0e\0f\10))"
        );
        for form in [IdForm::Uuid, IdForm::NsUniqueId, IdForm::Guid] {
            assert!(ldap3::parse_filter(filter(form)).is_ok());
        }
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_filter() {
        assert_eq!(escaped(b"jan"), "jan");
        assert_eq!(escaped(b"*)(uid=*"), r"\2a\29\28uid\3d\2a");
        assert_eq!(escaped("ž\\\0".as_bytes()), r"\c5\be\5c\00");
        assert!(ldap3::parse_filter(format!("(uid={})", escaped(b"a\\)(|*"))).is_ok());
    }
}
