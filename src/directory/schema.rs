//! Which attributes and object classes the server knows (RFC 4512 § 4.2): a filter with a typing error finds nobody, in silence.

use std::collections::HashSet;
use std::sync::Arc;

use ldap3::Scope as Depth;

use super::error::DirectoryError;
use super::search::{SearchRequest, Sink};
use super::session::Session;
use crate::model::Synonyms;

/// Names and OIDs, in lower case.
#[derive(Clone, Default, Debug)]
pub struct Schema {
    /// Attribute types by any of their names.
    pub attribute_types: HashSet<String>,
    /// Object classes by any of their names.
    pub object_classes: HashSet<String>,
    /// Attribute types of several names, each with all of them: in lower case, the one that servers answer under first.
    synonyms: Vec<Vec<String>>,
}

impl Schema {
    /// Whether there is an attribute of this name; options (`mobile;lang-sk`) do not count.
    pub fn has_attribute(&self, name: &str) -> bool {
        let name = name
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_lowercase();
        self.attribute_types.contains(&name)
    }

    /// What this schema calls these attributes.
    pub fn synonyms(&self, attributes: &[String]) -> Synonyms {
        let wanted = |name: &String| {
            let name = name.split(';').next().unwrap_or_default();
            let name = name.trim().to_lowercase();
            self.synonyms.iter().find(|names| names.contains(&name))
        };
        Synonyms(attributes.iter().filter_map(wanted).cloned().collect())
    }

    /// Whether there is an object class of this name.
    pub fn has_object_class(&self, name: &str) -> bool {
        self.object_classes.contains(&name.trim().to_lowercase())
    }
}

impl Session {
    /// Reads the schema from the subentry that the root DSE names.
    pub async fn schema(&mut self) -> Result<Schema, DirectoryError> {
        const WHAT: &str = "reading the schema";
        let Some(dn) = self.root.subschema.clone() else {
            let failure = self.failure(
                WHAT,
                "the root DSE names none",
                "the account may not read the root DSE, or the server has no schema to show",
            );
            return Err(DirectoryError::Incomplete(failure));
        };
        let attributes: Arc<[String]> =
            ["attributeTypes".to_owned(), "objectClasses".to_owned()].into();
        // OpenLDAP answers to this class only, Active Directory to any.
        let ask = SearchRequest {
            base: &dn,
            depth: Depth::Base,
            filter: "(objectClass=subschema)",
            attributes,
            page_size: 1,
            elsewhere_is_fine: true,
        };
        let mut found = Vec::new();
        self.search(WHAT, &ask, Sink::List(&mut found)).await?;
        let mut schema = Schema::default();
        for entry in &found {
            entry
                .values("attributetypes")
                .for_each(|v| schema.take_type(v));
            entry
                .values("objectclasses")
                .for_each(|v| schema.object_classes.extend(names_of(v)));
        }
        if schema.attribute_types.is_empty() {
            let failure = self.failure(
                WHAT,
                format!("`{dn}` shows no attribute types"),
                "give the account the right to read it",
            );
            return Err(DirectoryError::Incomplete(failure));
        }
        Ok(schema)
    }
}

impl Schema {
    fn take_type(&mut self, description: &[u8]) {
        let mut names = names_of(description);
        self.attribute_types.extend(names.iter().cloned());
        if names.len() > 1 {
            // The number comes first in a description, and last in an answer.
            names.rotate_left(1);
            self.synonyms.push(names);
        }
    }
}

/// The OID and the names of one description: `( 2.5.4.3 NAME ( 'cn' 'commonName' ) … )`.
fn names_of(description: &[u8]) -> Vec<String> {
    let mut into = Vec::new();
    let text = String::from_utf8_lossy(description);
    let text = text.trim_start_matches(['(', ' ']);
    let (oid, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if !oid.is_empty() {
        into.push(oid.to_lowercase());
    }
    // NAME comes right after the OID or not at all, so that no text of a description is taken for it.
    let Some(rest) = rest.trim_start().strip_prefix("NAME").map(str::trim_start) else {
        return into;
    };
    let quoted = |s: &str| s.split('\'').nth(1).map(str::to_lowercase);
    match rest.strip_prefix('(') {
        None => into.extend(quoted(rest)),
        Some(list) => {
            let list = list.split(')').next().unwrap_or_default();
            into.extend(list.split('\'').skip(1).step_by(2).map(str::to_lowercase));
        }
    }
    into
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let mut list = names_of(text.as_bytes());
        list.sort();
        list
    }

    #[test]
    fn one_name_several_and_none() {
        assert_eq!(
            names("( 2.5.4.3 NAME ( 'cn' 'commonName' ) DESC 'RFC4519: (x)' SUP name )"),
            ["2.5.4.3", "cn", "commonname"]
        );
        assert_eq!(
            names("( 0.9.2342.19200300.100.1.41 NAME 'mobile' DESC 'a ''NAME''' )"),
            ["0.9.2342.19200300.100.1.41", "mobile"]
        );
        assert_eq!(names("(1.2.3 NAME('a' 'b') X)"), ["1.2.3", "a", "b"]);
        assert_eq!(names("( mobile-oid DESC 'no NAME x' )"), ["mobile-oid"]);
        assert_eq!(names(""), [] as [&str; 0]);
    }

    #[test]
    fn an_attribute_is_known_by_all_its_names() {
        let mut s = Schema::default();
        s.take_type(b"( 1.2.3 NAME ( 'badge' 'badgeNumber' ) )");
        s.take_type(b"( 1.2.4 NAME 'other' )");
        let synonyms = s.synonyms(&["BadgeNumber;x-a".into(), "uid".into()]);
        assert_eq!(synonyms.of("1.2.3"), ["badge", "badgenumber", "1.2.3"]);
        assert_eq!(synonyms.of("other"), ["other"], "it was not asked for");
    }

    #[test]
    fn options_and_case_do_not_matter() {
        let mut s = Schema::default();
        s.take_type(b"( 1.1 NAME 'mobile' )");
        assert!(s.has_attribute("Mobile;lang-sk") && !s.has_attribute("mobil"));
    }
}
