//! Where a realm is in its naming contexts, as text for [`Cursor::cookie`](super::super::delta::Cursor::cookie).

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::super::read::Scope;
use super::super::root_dse::fold_dn;
use crate::model::{Synonyms, filter};

/// A place. One cookie for each naming context that holds a base.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct DirSyncPlace {
    /// The server's `highestCommittedUSN` before the cookies were got: lower later means restored, equal means nothing new.
    pub usn: Option<u64>,
    /// Whether the server gives only what the account may see.
    pub object_security: bool,
    /// The cookies (Base64), in the order of the session's naming contexts.
    pub cookies: Vec<String>,
}

impl DirSyncPlace {
    pub(super) fn new(usn: Option<u64>, object_security: bool, cookies: &[Vec<u8>]) -> Self {
        Self {
            usn,
            object_security,
            cookies: cookies.iter().map(|c| STANDARD.encode(c)).collect(),
        }
    }

    pub(super) fn text(&self) -> String {
        // A value of numbers and texts can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The place and its cookies; `None`: the text is none, or not for this many naming contexts.
    pub(super) fn parse(text: &str, contexts: usize) -> Option<(Self, Vec<Vec<u8>>)> {
        let place: Self = serde_json::from_str(text).ok()?;
        let cookies: Vec<Vec<u8>> = place
            .cookies
            .iter()
            .map(|c| STANDARD.decode(c).ok().filter(|c| !c.is_empty()))
            .collect::<Option<_>>()?;
        (cookies.len() == contexts).then_some((place, cookies))
    }
}

/// What to ask for: what people are made of, what the filter looks at, and what says that somebody was renamed, moved or deleted.
pub(super) fn asked(scope: &Scope) -> Vec<String> {
    const ALWAYS: [&str; 5] = [
        "objectguid",
        "name",
        "isdeleted",
        "parentguid",
        "objectclass",
    ];
    let mut asked: BTreeSet<String> = ALWAYS.map(str::to_owned).into();
    asked.extend(mentioned(scope));
    asked.into_iter().collect()
}

/// The attributes of the scope and of its filter, by their usual names, folded, without options.
fn mentioned(scope: &Scope) -> impl Iterator<Item = String> {
    let of_filter = filter::parse(&scope.enclosed_filter())
        .map(|f| f.attributes())
        .unwrap_or_default();
    let names = Synonyms::default();
    scope
        .attributes
        .clone()
        .into_iter()
        .chain(of_filter)
        .filter_map(move |name| {
            let name = name.split(';').next()?.trim().to_lowercase();
            filter::is_attribute(&name).then(|| names.usual(&name))
        })
}

/// Whether people are judged by `memberOf`, which is not theirs: the group changes, and nothing is told of its members.
pub(in crate::directory) fn by_groups(scope: &Scope) -> bool {
    mentioned(scope).any(|name| name == "memberof")
}

/// Of everything that a cursor depends on: another account sees others, and what was not asked for was not told.
pub(super) fn key(scope: &Scope, account: &str) -> u64 {
    let mut bases: Vec<String> = scope.bases.iter().map(|b| fold_dn(b)).collect();
    bases.sort();
    let parts = [
        bases,
        vec![scope.filter.trim().to_owned(), fold_dn(account)],
        asked(scope),
    ]
    .concat();
    xxh3_64(parts.join("\0").as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::IdForm;

    fn scope(bases: &[&str], filter: &str, attributes: &[&str]) -> Scope {
        Scope {
            bases: bases.iter().map(|b| (*b).to_owned()).collect(),
            filter: filter.into(),
            attributes: attributes.iter().map(|a| (*a).to_owned()).collect(),
            id_attribute: "objectGUID".into(),
            id_form: IdForm::Guid,
            page_size: 7,
        }
    }

    #[test]
    fn trap_22_what_the_filter_looks_at_and_what_says_moved_or_deleted_is_asked_for() {
        let s = scope(
            &["OU=People,DC=x"],
            "(&(objectClass=user)(!(employeeType=former)))",
            &["mobile;lang-fi", "Mobile", "*", "sAMAccountName"],
        );
        assert_eq!(
            asked(&s),
            [
                "employeetype",
                "isdeleted",
                "mobile",
                "name",
                "objectclass",
                "objectguid",
                "parentguid",
                "samaccountname"
            ]
        );
        assert!(!by_groups(&s));
        assert!(by_groups(&scope(&[], "(memberOf=cn=g)", &[])));
        assert!(by_groups(&scope(&[], "(cn=x)", &["memberOf"])));
    }

    #[test]
    fn a_cursor_is_of_bases_filter_attributes_and_account() {
        let one = scope(&["OU=a,DC=x", "OU=b,DC=x"], "(cn=*)", &["mobile"]);
        let same = scope(&["ou=b, dc=x", "ou=A,dc=X"], " (cn=*)", &["MOBILE"]);
        assert_eq!(key(&one, "CN=s,DC=x"), key(&same, "cn=s, dc=x"));
        for other in [
            scope(&["OU=a,DC=x"], "(cn=*)", &["mobile"]),
            scope(&["OU=a,DC=x", "OU=b,DC=x"], "(cn=a)", &["mobile"]),
            scope(&["OU=a,DC=x", "OU=b,DC=x"], "(cn=*)", &["otherMobile"]),
        ] {
            assert_ne!(key(&one, ""), key(&other, ""));
        }
        assert_ne!(key(&one, "CN=s,DC=x"), key(&one, "CN=t,DC=x"));
    }

    proptest! {
        #[test]
        fn a_place_comes_back(usn in any::<Option<u64>>(), object_security in any::<bool>(), cookies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..4)) {
            let place = DirSyncPlace::new(usn, object_security, &cookies);
            prop_assert_eq!(DirSyncPlace::parse(&place.text(), cookies.len()), Some((place.clone(), cookies.clone())));
            prop_assert_eq!(DirSyncPlace::parse(&place.text(), cookies.len() + 1), None);
        }

        #[test]
        fn trap_36_no_text_panics(text in ".{0,80}") {
            let _unused = DirSyncPlace::parse(&text, 1);
        }
    }

    #[test]
    fn trap_19_garbage_and_an_empty_cookie_are_no_place() {
        for text in [
            "",
            "null",
            "MSDS",
            r#"{"usn":1,"object-security":false,"cookies":["%"]}"#,
            r#"{"usn":1,"object-security":false,"cookies":[""]}"#,
            r#"{"usn":1,"object-security":false,"cookies":[]}"#,
        ] {
            assert_eq!(DirSyncPlace::parse(text, 1), None, "{text}");
        }
    }
}
