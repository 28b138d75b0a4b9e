//! What a server says about itself (RFC 4512 § 5.1): its kind, its naming contexts, what it can do.

use crate::config::DirectoryKind;
use crate::model::{RawEntry, dn};

/// Paged results (RFC 2696).
pub(super) const PAGED_RESULTS: &str = "1.2.840.113556.1.4.319";
/// Search within the naming context only, without references to others (MS-ADTS 3.1.1.3.4.1.4).
pub(super) const DOMAIN_SCOPE: &str = "1.2.840.113556.1.4.1339";
/// Who am I (RFC 4532).
pub(super) const WHO_AM_I: &str = "1.3.6.1.4.1.4203.1.11.3";
/// Active Directory, and the lightweight one (MS-ADTS 3.1.1.3.4.3).
const ACTIVE_DIRECTORY: [&str; 2] = ["1.2.840.113556.1.4.800", "1.2.840.113556.1.4.1851"];

/// What to ask the root DSE for. Active Directory refuses paging here.
pub(super) const ATTRIBUTES: [&str; 14] = [
    "objectClass",
    "structuralObjectClass",
    "vendorName",
    "vendorVersion",
    "namingContexts",
    "defaultNamingContext",
    "supportedControl",
    "supportedExtension",
    "supportedCapabilities",
    "subschemaSubentry",
    "forestFunctionality",
    "highestCommittedUSN",
    "dsServiceName",
    "dnsHostName",
];

/// The root DSE. What a server does not tell is empty.
#[derive(Clone, Default, Debug)]
pub struct RootDse {
    /// What kind of server it is.
    pub kind: Option<DirectoryKind>,
    /// `namingContexts`, as written.
    pub naming_contexts: Vec<String>,
    /// `supportedControl`.
    pub controls: Vec<String>,
    /// `supportedExtension`.
    pub extensions: Vec<String>,
    /// `subschemaSubentry`.
    pub subschema: Option<String>,
    /// `vendorName` and `vendorVersion`, for people.
    pub vendor: Option<String>,
    /// Active Directory: `highestCommittedUSN`.
    pub highest_usn: Option<u64>,
    /// Active Directory: the DN of the server's own settings, where its `invocationId` is.
    pub service: Option<String>,
}

impl RootDse {
    /// Reads the entry with the empty DN.
    pub(super) fn read(entry: &RawEntry) -> Self {
        let all = |name: &str| -> Vec<String> {
            entry
                .values(name)
                .filter_map(|v| std::str::from_utf8(v).ok())
                .map(|v| v.trim().to_owned())
                .collect()
        };
        let one = |name: &str| all(name).into_iter().next();
        let vendor: Vec<String> = ["vendorname", "vendorversion"]
            .iter()
            .filter_map(|n| one(n))
            .collect();
        let mut root = Self {
            kind: None,
            naming_contexts: all("namingcontexts"),
            controls: all("supportedcontrol"),
            extensions: all("supportedextension"),
            subschema: one("subschemasubentry"),
            vendor: (!vendor.is_empty()).then(|| vendor.join(" ")),
            highest_usn: one("highestcommittedusn").and_then(|n| n.parse().ok()),
            service: one("dsservicename"),
        };
        if let Some(default) = one("defaultnamingcontext")
            && !root
                .naming_contexts
                .iter()
                .any(|c| fold_dn(c) == fold_dn(&default))
        {
            root.naming_contexts.push(default);
        }
        let classes: Vec<String> = ["objectclass", "structuralobjectclass"]
            .iter()
            .flat_map(|n| all(n))
            .map(|c| c.to_lowercase())
            .collect();
        let vendor = root.vendor.as_deref().unwrap_or_default().to_lowercase();
        root.kind = if one("forestfunctionality").is_some()
            || all("supportedcapabilities")
                .iter()
                .any(|c| ACTIVE_DIRECTORY.contains(&c.as_str()))
        {
            Some(DirectoryKind::ActiveDirectory)
        } else if classes.iter().any(|c| c == "openldaprootdse") || vendor.contains("openldap") {
            Some(DirectoryKind::OpenLdap)
        } else if vendor.contains("389 project")
            || vendor.contains("389-directory")
            || vendor.contains("red hat")
            || vendor.contains("fedora")
        {
            Some(DirectoryKind::Ds389)
        } else {
            None
        };
        root
    }

    /// Whether the server announces a control.
    pub fn has_control(&self, oid: &str) -> bool {
        self.controls.iter().any(|c| c == oid)
    }

    /// The naming context that holds a DN: the longest one above it. `None`: the server names none.
    pub fn naming_context(&self, dn: &str) -> Option<&str> {
        self.naming_contexts
            .iter()
            .filter(|context| !context.is_empty() && dn::is_within(dn, context))
            .max_by_key(|context| fold_dn(context).len())
            .map(String::as_str)
    }
}

/// A DN for comparison; a text that is no DN only equals itself.
pub(super) fn fold_dn(text: &str) -> String {
    dn::parse(text).map_or_else(|_| text.trim().to_lowercase(), |dn| dn.folded())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RawAttribute;

    fn dse(attributes: &[(&str, &[&str])]) -> RootDse {
        let attributes: Vec<RawAttribute> = attributes
            .iter()
            .map(|(n, vs)| RawAttribute {
                name: (*n).into(),
                options: "".into(),
                values: vs.iter().map(|v| v.as_bytes().to_vec()).collect(),
            })
            .collect();
        RootDse::read(&RawEntry::new(b"", &attributes))
    }

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(
            dse(&[("structuralobjectclass", &["OpenLDAProotDSE"])]).kind,
            Some(DirectoryKind::OpenLdap)
        );
        assert_eq!(
            dse(&[("objectclass", &["top", "OpenLDAProotDSE"])]).kind,
            Some(DirectoryKind::OpenLdap)
        );
        assert_eq!(
            dse(&[("vendorname", &["389 Project"])]).kind,
            Some(DirectoryKind::Ds389)
        );
        assert_eq!(
            dse(&[("forestfunctionality", &["7"])]).kind,
            Some(DirectoryKind::ActiveDirectory)
        );
        assert_eq!(
            dse(&[("supportedcapabilities", &["1.2.840.113556.1.4.800"])]).kind,
            Some(DirectoryKind::ActiveDirectory)
        );
        // Samba names itself as the vendor, and is an Active Directory all the same.
        assert_eq!(
            dse(&[
                ("vendorname", &["Samba Team"]),
                ("forestfunctionality", &["2"])
            ])
            .kind,
            Some(DirectoryKind::ActiveDirectory)
        );
        assert_eq!(dse(&[("vendorname", &["Somebody"])]).kind, None);
        assert_eq!(dse(&[]).kind, None);
    }

    #[test]
    fn the_longest_naming_context_above_holds_a_name() {
        let root = dse(&[(
            "namingcontexts",
            &[
                "DC=example,DC=test",
                "CN=Configuration,DC=example,DC=test",
                "",
            ],
        )]);
        assert_eq!(
            root.naming_context("ou=People, dc=Example,dc=test"),
            Some("DC=example,DC=test")
        );
        assert_eq!(
            root.naming_context("cn=x,cn=configuration,dc=example,dc=test"),
            Some("CN=Configuration,DC=example,DC=test")
        );
        assert_eq!(
            root.naming_context("dc=example,dc=test"),
            Some("DC=example,DC=test")
        );
        assert_eq!(root.naming_context("dc=counterexample,dc=test"), None);
        assert_eq!(root.naming_context("ou=a\\,dc=example,dc=test"), None);
    }
}
