//! Containers, of which servers tell their own ids at most: whether an id is or was one, and who is beneath one now.

use std::collections::HashSet;
use std::sync::Arc;

use ldap3::Scope as Depth;

use super::entry::directory_id;
use super::error::DirectoryError;
use super::look_up::BATCH;
use super::read::Scope;
use super::search::{SearchRequest, Sink, Trouble};
use super::session::Session;
use crate::model::dn::is_within;
use crate::model::{DirectoryId, RawEntry};

/// What an entry is that surely holds nobody, unless it says that it does.
const LEAVES: [&[u8]; 6] = [
    b"person",
    b"account",
    b"groupofnames",
    b"groupofuniquenames",
    b"posixgroup",
    b"group",
];

/// What ids that are no users' may be.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Containers {
    /// The DNs of those beneath the bases that hold others, or may have done so.
    pub here: Vec<String>,
    /// Whether there are some elsewhere, or some that were found nowhere: they may have taken people along.
    pub away: bool,
}

impl Session {
    /// Looks for containers among ids that are no users'.
    pub async fn containers(
        &mut self,
        scope: &Scope,
        ids: &[DirectoryId],
    ) -> Result<Containers, DirectoryError> {
        let attributes: Arc<[String]> = [
            &scope.id_attribute[..],
            "objectClass",
            "hasSubordinates",
            "numSubordinates",
        ]
        .map(str::to_owned)
        .into();
        let mut found = Containers::default();
        for batch in ids.chunks(BATCH) {
            let filter = self.any_of(scope, batch);
            let mut nowhere: HashSet<DirectoryId> = batch.iter().copied().collect();
            let what = "looking for containers";
            for entry in self.everywhere(what, scope, &filter, &attributes).await? {
                if let Some(id) = self.id_of(&entry, scope) {
                    nowhere.remove(&id);
                }
                if !may_hold_others(&entry) {
                    continue;
                }
                match String::from_utf8(entry.dn().to_vec()) {
                    Ok(dn) if scope.bases.iter().any(|base| is_within(&dn, base)) => {
                        found.here.push(dn);
                    }
                    _ => found.away = true,
                }
            }
            found.away |= !nowhere.is_empty();
        }
        self.still_sound("looking for containers")?;
        Ok(found)
    }

    /// What a filter finds in all naming contexts.
    pub(super) async fn everywhere(
        &mut self,
        what: &str,
        scope: &Scope,
        filter: &str,
        attributes: &Arc<[String]>,
    ) -> Result<Vec<RawEntry>, DirectoryError> {
        let mut entries = Vec::new();
        for context in self.contexts.clone() {
            let ask = SearchRequest {
                base: &context,
                depth: Depth::Subtree,
                filter,
                attributes: Arc::clone(attributes),
                page_size: scope.page_size,
                elsewhere_is_fine: true,
            };
            let what = format!("{what} under `{context}`");
            self.search(&what, &ask, Sink::List(&mut entries)).await?;
        }
        Ok(entries)
    }

    /// Who of the scope is beneath this entry now; `None`: more than `most`.
    pub async fn beneath(
        &mut self,
        scope: &Scope,
        base: &str,
        most: usize,
    ) -> Result<Option<Vec<DirectoryId>>, DirectoryError> {
        let filter = scope.enclosed_filter();
        let ask = SearchRequest {
            base,
            depth: Depth::Subtree,
            filter: &filter,
            attributes: vec![scope.id_attribute.clone()].into(),
            page_size: scope.page_size,
            elsewhere_is_fine: true,
        };
        let what = format!("looking for who is under `{base}`");
        let mut entries: Vec<RawEntry> = Vec::new();
        let searched = self.try_search(&what, &ask, Sink::List(&mut entries)).await;
        if entries.len() > most {
            return Ok(None);
        }
        match searched {
            // 32: moved again, or gone, meanwhile; the next delta tells. Empty: some servers say so of where nobody is.
            Ok(_)
            | Err(Trouble::Result { code: 32, .. } | Trouble::Error(DirectoryError::Empty(_))) => {}
            Err(Trouble::Result { code, text, what }) => {
                return Err(self.refused(&what, code, &text));
            }
            Err(Trouble::Error(e)) => return Err(e),
        }
        self.still_sound(&what)?;
        let id = |e| directory_id(e, &scope.id_attribute, scope.id_form);
        Ok(Some(entries.iter().filter_map(id).collect()))
    }
}

/// Whether others may be or may have been beneath an entry.
fn may_hold_others(entry: &RawEntry) -> bool {
    let says = |name: &str, holds: fn(&[u8]) -> bool| entry.values(name).any(holds);
    says("hassubordinates", |v| v.eq_ignore_ascii_case(b"TRUE"))
        || says("numsubordinates", |v| v != b"0")
        || !entry
            .values("objectclass")
            .any(|class| LEAVES.iter().any(|leaf| class.eq_ignore_ascii_case(leaf)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RawAttribute;

    fn entry(attributes: &[(&str, &str)]) -> RawEntry {
        let attributes: Vec<RawAttribute> = attributes
            .iter()
            .map(|(name, value)| RawAttribute {
                name: (*name).into(),
                options: "".into(),
                values: vec![value.as_bytes().to_vec()],
            })
            .collect();
        RawEntry::new(b"", &attributes)
    }

    #[test]
    fn people_and_groups_hold_nobody_unless_they_say_so() {
        let person = ("objectclass", "Person");
        for (expected, attributes) in [
            (false, vec![person]),
            (false, vec![person, ("hassubordinates", "FALSE")]),
            (
                false,
                vec![("objectclass", "groupOfNames"), ("numsubordinates", "0")],
            ),
            (true, vec![person, ("hassubordinates", "TRUE")]),
            (true, vec![person, ("numsubordinates", "2")]),
            // It may have been emptied since.
            (
                true,
                vec![
                    ("objectclass", "organizationalUnit"),
                    ("hassubordinates", "FALSE"),
                ],
            ),
            (true, vec![]),
        ] {
            assert_eq!(
                may_hold_others(&entry(&attributes)),
                expected,
                "{attributes:?}"
            );
        }
    }
}
