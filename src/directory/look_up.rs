//! Asking for single people: by id, since absence needs evidence (design § 3.2), and by name.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use ldap3::Scope as Depth;

use super::entry::{self, directory_id, values_of};
use super::error::DirectoryError;
use super::link::within;
use super::read::{Scope, enclosed};
use super::search::{SearchRequest, Sink, Trouble};
use super::session::Session;
use crate::model::{DirectoryId, RawEntry};

/// Ids in one filter. Few enough for every server's limit on filters and for an account that gets 500 entries unpaged,
/// many enough that a scan of an id that is not indexed is shared.
pub(super) const BATCH: usize = 200;

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
    /// found nowhere, in no spelling; whatever leaves that open is an error, and so is a server that finds nobody by id.
    pub async fn look_up(
        &mut self,
        scope: &Scope,
        ids: &[DirectoryId],
    ) -> Result<HashMap<DirectoryId, Sighting>, DirectoryError> {
        let wanted: HashSet<DirectoryId> = ids.iter().copied().collect();
        let each_once: Vec<DirectoryId> = wanted.iter().copied().collect();
        let mut found = HashMap::with_capacity(wanted.len());
        for batch in each_once.chunks(BATCH) {
            self.look_in_all_spellings(scope, batch, &mut found).await?;
        }
        self.still_sound("looking ids up")?;
        // A server may answer more than it was asked.
        found.retain(|id, _| wanted.contains(id));
        if !found.is_empty() {
            self.finds_by_id = true;
        }
        if found.len() < wanted.len() && !self.finds_by_id {
            Box::pin(self.prove_that_ids_are_found(scope)).await?;
        }
        Ok(found)
    }

    async fn look_in_all_spellings(
        &mut self,
        scope: &Scope,
        batch: &[DirectoryId],
        found: &mut HashMap<DirectoryId, Sighting>,
    ) -> Result<(), DirectoryError> {
        let written = |ids: &[DirectoryId], me: &Self| Some(me.any_of(scope, ids));
        self.look_as(scope, batch, written, found).await?;
        let missing: Vec<DirectoryId> = batch
            .iter()
            .filter(|id| !found.contains_key(id))
            .copied()
            .collect();
        for few in missing.chunks(BATCH / 5) {
            let others = |ids: &[DirectoryId], me: &Self| {
                me.spellings
                    .any_other_of(&scope.id_attribute, scope.id_form, ids.iter())
            };
            self.look_as(scope, few, others, found).await?;
        }
        Ok(())
    }

    /// In the scope, then in the naming contexts; `written` makes the filter of ids.
    async fn look_as(
        &mut self,
        scope: &Scope,
        batch: &[DirectoryId],
        written: impl Fn(&[DirectoryId], &Self) -> Option<String>,
        found: &mut HashMap<DirectoryId, Sighting>,
    ) -> Result<(), DirectoryError> {
        let Some(any) = written(batch, self) else {
            return Ok(());
        };
        let filter = format!("(&{}{any})", scope.enclosed_filter());
        for base in &scope.bases {
            if batch.iter().all(|id| found.contains_key(id)) {
                break;
            }
            let what = format!("looking {} ids up under `{base}`", batch.len());
            for entry in self.few(scope, &what, base, &filter, false).await? {
                if let Some(id) = self.id_of(&entry, scope) {
                    found.insert(id, Sighting::InScope(entry));
                }
            }
        }
        for context in self.contexts.clone() {
            let missing: Vec<DirectoryId> = batch
                .iter()
                .filter(|id| !found.contains_key(id))
                .copied()
                .collect();
            let (false, Some(any)) = (missing.is_empty(), written(&missing, self)) else {
                break;
            };
            let what = format!("looking {} ids up under `{context}`", missing.len());
            // An entry keeps its id only on its own server: a reference elsewhere hides nobody who is looked for.
            for entry in self.few(scope, &what, &context, &any, true).await? {
                if let Some(id) = self.id_of(&entry, scope) {
                    found.entry(id).or_insert_with(|| Sighting::OutOfScope {
                        dn: entry.dn_shown(),
                        entry,
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether the server finds by id somebody whom it has just shown; `None`: it shows nobody with an id.
    pub async fn finds_by_id(&mut self, scope: &Scope) -> Result<Option<bool>, DirectoryError> {
        // Whoever is tried may go at this very moment.
        const TRIES: usize = 3;
        for _ in 0..TRIES {
            let Some(id) = self.somebody(scope).await? else {
                return Ok(None);
            };
            let mut found = HashMap::new();
            self.look_in_all_spellings(scope, &[id], &mut found).await?;
            if found.contains_key(&id) {
                self.finds_by_id = true;
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    }

    /// Absence is what an id shows that is not found; where no id is ever found it shows nothing.
    async fn prove_that_ids_are_found(&mut self, scope: &Scope) -> Result<(), DirectoryError> {
        if self.finds_by_id(scope).await? != Some(false) {
            return Ok(());
        }
        let name = &scope.id_attribute;
        Err(DirectoryError::Incomplete(self.failure(
            &format!("looking up by `{name}` somebody who was just read"),
            "success, and nobody",
            "nobody is taken for gone because of this: give the account the right to search by that attribute, or name one by `directory-id` whose values the server finds",
        )))
    }

    /// The first of those whom the server shows in the scope.
    async fn somebody(&mut self, scope: &Scope) -> Result<Option<DirectoryId>, DirectoryError> {
        const SOME: i32 = 20;
        let filter = scope.enclosed_filter();
        for base in &scope.bases {
            let what = format!("reading somebody under `{base}`");
            let ask = SearchRequest {
                base,
                depth: Depth::Subtree,
                filter: &filter,
                attributes: vec![scope.id_attribute.clone()].into(),
                page_size: SOME,
                elsewhere_is_fine: true,
            };
            let first = self.first_of(&what, &ask, scope).await;
            match first.map_err(|trouble| self.error_of(trouble))? {
                None => {}
                found => return Ok(found),
            }
        }
        Ok(None)
    }

    /// The first entry with an id of a search's first page. A server that does not page is not heard to the end.
    async fn first_of(
        &mut self,
        what: &str,
        ask: &SearchRequest<'_>,
        scope: &Scope,
    ) -> Result<Option<DirectoryId>, Trouble> {
        let until = self.page_end();
        let paged = self.pages(ask);
        let mut stream = self.start(what, ask, paged.then(Vec::new), until).await?;
        let mut first = None;
        loop {
            let item = match within(until, stream.next()).await {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(broken) => return Err(self.broken(what, broken).await),
            };
            if first.is_some() || item.is_intermediate() || item.is_ref() {
                continue;
            }
            if let Ok((entry, _)) = entry::entry(item.0, &mut self.names) {
                first = self.id_of(&entry, scope);
            }
            if first.is_some() && !paged {
                self.leave(&mut stream).await;
                return Ok(first);
            }
        }
        let result = stream.finish().await;
        if result.rc == 0 || first.is_some() {
            Ok(first)
        } else {
            Err(Trouble::result(result, what.to_owned()))
        }
    }

    /// The id of an entry that came; how it is spelled is remembered.
    pub(super) fn id_of(&mut self, entry: &RawEntry, scope: &Scope) -> Option<DirectoryId> {
        let (attribute, form) = (&scope.id_attribute, scope.id_form);
        let id = directory_id(entry, attribute, form)?;
        if let Some(value) = values_of(entry, attribute).next() {
            self.spellings.learn(id, value, form);
        }
        Some(id)
    }

    /// A filter for any of these ids, as ids are spelled here.
    pub(super) fn any_of(&self, scope: &Scope, ids: &[DirectoryId]) -> String {
        self.spellings
            .any_of(&scope.id_attribute, scope.id_form, ids.iter())
    }

    /// Those of these ids of which the server says that they are in scope and do not match `filter`. Of the others it says that they
    /// match, or nothing: where an attribute is hidden or unknown, neither a filter nor its opposite is true.
    pub async fn not_matching(
        &mut self,
        scope: &Scope,
        filter: &str,
        ids: &[DirectoryId],
    ) -> Result<HashSet<DirectoryId>, DirectoryError> {
        let filter = enclosed(filter);
        let mut found = HashSet::new();
        for batch in ids.chunks(BATCH) {
            let among = format!("{}{}", scope.enclosed_filter(), self.any_of(scope, batch));
            let not = self
                .ids_where(scope, &format!("(&{among}(!{filter}))"))
                .await?;
            let matching = self
                .ids_where(scope, &format!("(&{among}{filter})"))
                .await?;
            found.extend(not.difference(&matching));
        }
        self.still_sound("asking who is protected")?;
        Ok(found)
    }

    /// How many are in scope and match `filter`.
    pub async fn matching(&mut self, scope: &Scope, filter: &str) -> Result<usize, DirectoryError> {
        let filter = format!("(&{}{})", scope.enclosed_filter(), enclosed(filter));
        Ok(self.ids_where(scope, &filter).await?.len())
    }

    /// The ids that a filter finds under the bases.
    async fn ids_where(
        &mut self,
        scope: &Scope,
        filter: &str,
    ) -> Result<HashSet<DirectoryId>, DirectoryError> {
        let mut ids = HashSet::new();
        for base in &scope.bases {
            let what = format!("asking who is protected under `{base}`");
            let ask = SearchRequest {
                base,
                depth: Depth::Subtree,
                filter,
                attributes: vec![scope.id_attribute.clone()].into(),
                page_size: scope.page_size,
                elsewhere_is_fine: false,
            };
            let mut found = Vec::new();
            self.search(&what, &ask, Sink::List(&mut found)).await?;
            ids.extend(found.iter().filter_map(|entry| self.id_of(entry, scope)));
        }
        Ok(ids)
    }

    /// The DNs in scope of each of these ids: more than one where a directory gave an id twice.
    pub async fn places(
        &mut self,
        scope: &Scope,
        ids: &[DirectoryId],
    ) -> Result<BTreeMap<DirectoryId, BTreeSet<String>>, DirectoryError> {
        let mut places: BTreeMap<DirectoryId, BTreeSet<String>> = BTreeMap::new();
        for batch in ids.chunks(BATCH) {
            let any = self.any_of(scope, batch);
            let filter = format!("(&{}{any})", scope.enclosed_filter());
            for base in &scope.bases {
                let what = format!(
                    "looking for {} ids that came twice under `{base}`",
                    batch.len()
                );
                for entry in self.few(scope, &what, base, &filter, false).await? {
                    if let Some(id) = self.id_of(&entry, scope) {
                        places.entry(id).or_default().insert(entry.dn_shown());
                    }
                }
            }
        }
        self.still_sound("looking for ids that came twice")?;
        Ok(places)
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
        let ask = SearchRequest {
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
    fn a_name_cannot_leave_its_place_in_the_filter() {
        assert_eq!(escaped(b"jan"), "jan");
        assert_eq!(escaped(b"*)(uid=*"), r"\2a\29\28uid\3d\2a");
        assert_eq!(escaped("ž\\\0".as_bytes()), r"\c5\be\5c\00");
        assert!(ldap3::parse_filter(format!("(uid={})", escaped(b"a\\)(|*"))).is_ok());
    }
}
