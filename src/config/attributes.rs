//! What a directory calls things: the defaults of each kind, and what the file puts in their place.

use super::{AttributeOverrides, Attributes, DirectoryKind, DisabledRule};
use crate::model::{IdForm, Synonyms};

impl DirectoryKind {
    /// What people call it.
    pub fn named(self) -> &'static str {
        match self {
            Self::OpenLdap => "OpenLDAP",
            Self::Ds389 => "389 Directory Server",
            Self::ActiveDirectory => "Active Directory",
            Self::Generic => "an LDAP server of no kind that is known",
        }
    }
}

/// The filter that finds people in a directory of this kind.
pub fn default_filter(kind: DirectoryKind) -> &'static str {
    match kind {
        DirectoryKind::OpenLdap | DirectoryKind::Ds389 | DirectoryKind::Generic => {
            "(objectClass=inetOrgPerson)"
        }
        DirectoryKind::ActiveDirectory => "(&(objectClass=user)(!(objectClass=computer)))",
    }
}

impl Attributes {
    /// The attributes of a directory of this kind, with the file's own in place of the defaults.
    pub fn for_kind(kind: DirectoryKind, overrides: &AttributeOverrides) -> Self {
        let mut explicit = Vec::new();
        let mut list = |given: &Option<Vec<String>>, default: &[&str]| match given {
            Some(names) => {
                explicit.extend(names.iter().cloned());
                names.clone()
            }
            None => default.iter().map(|n| (*n).to_owned()).collect(),
        };
        let ad = kind == DirectoryKind::ActiveDirectory;
        let username = list(
            &overrides.username,
            if ad { &["sAMAccountName"] } else { &["uid"] },
        );
        let display_name = list(
            &overrides.display_name,
            if ad {
                &["displayName", "name"]
            } else {
                &["displayName", "cn"]
            },
        );
        let email = list(&overrides.email, &["mail"]);
        let phone = list(
            &overrides.phone,
            if ad {
                &["mobile", "otherMobile"]
            } else {
                &["mobile"]
            },
        );
        let country = list(
            &overrides.country,
            if ad {
                &["c"]
            } else {
                &["c", "preferredLanguage"]
            },
        );
        let directory_id = overrides
            .directory_id
            .clone()
            .unwrap_or_else(|| default_id(kind).to_owned());
        explicit.extend(overrides.directory_id.clone());
        let disabled = overrides
            .disabled
            .clone()
            .unwrap_or_else(|| default_disabled(kind));
        if let Some(DisabledRule::Equals { attribute, .. } | DisabledRule::Bits { attribute, .. }) =
            &overrides.disabled
        {
            explicit.push(attribute.clone());
        }
        Self {
            username,
            display_name,
            email,
            phone,
            country,
            id_form: id_form(kind, &directory_id),
            directory_id,
            disabled,
            explicit,
        }
    }
}

fn default_id(kind: DirectoryKind) -> &'static str {
    match kind {
        DirectoryKind::OpenLdap | DirectoryKind::Generic => "entryUUID",
        DirectoryKind::Ds389 => "nsUniqueId",
        DirectoryKind::ActiveDirectory => "objectGUID",
    }
}

/// How the id looks is a matter of its attribute; of an unknown one, of the kind.
fn id_form(kind: DirectoryKind, attribute: &str) -> IdForm {
    match Synonyms::default().usual(attribute).as_str() {
        "entryuuid" => IdForm::Uuid,
        "objectguid" => IdForm::Guid,
        "nsuniqueid" => IdForm::NsUniqueId,
        _ if kind == DirectoryKind::ActiveDirectory => IdForm::Guid,
        _ => IdForm::Uuid,
    }
}

fn default_disabled(kind: DirectoryKind) -> DisabledRule {
    match kind {
        // Locked for ever by an administrator (draft-behera-ldap-password-policy § 5.3.3); another time is a lockout that passes.
        DirectoryKind::OpenLdap | DirectoryKind::Generic => DisabledRule::Equals {
            attribute: "pwdAccountLockedTime".into(),
            equals: "000001010000Z".into(),
        },
        DirectoryKind::Ds389 => DisabledRule::Equals {
            attribute: "nsAccountLock".into(),
            equals: "true".into(),
        },
        // ADS_UF_ACCOUNTDISABLE (MS-ADTS 2.2.16).
        DirectoryKind::ActiveDirectory => DisabledRule::Bits {
            attribute: "userAccountControl".into(),
            bits: 2,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::filter;

    const KINDS: [DirectoryKind; 4] = [
        DirectoryKind::OpenLdap,
        DirectoryKind::Ds389,
        DirectoryKind::ActiveDirectory,
        DirectoryKind::Generic,
    ];

    #[test]
    fn each_kind_has_its_own_words() {
        let of = |kind| Attributes::for_kind(kind, &AttributeOverrides::default());
        let ad = of(DirectoryKind::ActiveDirectory);
        assert_eq!(
            (ad.username, ad.phone, ad.id_form),
            (
                vec!["sAMAccountName".to_owned()],
                vec!["mobile".into(), "otherMobile".into()],
                IdForm::Guid
            )
        );
        assert_eq!(of(DirectoryKind::Ds389).id_form, IdForm::NsUniqueId);
        assert_eq!(of(DirectoryKind::OpenLdap), of(DirectoryKind::Generic));
        for kind in KINDS {
            assert!(filter::parse(default_filter(kind)).is_ok() && of(kind).explicit.is_empty());
        }
    }

    #[test]
    fn what_the_file_names_is_explicit() {
        let overrides = AttributeOverrides {
            phone: Some(vec!["telephoneNumber".into(), "mobile".into()]),
            directory_id: Some("EntryUUID".into()),
            disabled: Some(DisabledRule::Equals {
                attribute: "employeeType".into(),
                equals: "former".into(),
            }),
            ..AttributeOverrides::default()
        };
        let attributes = Attributes::for_kind(DirectoryKind::Ds389, &overrides);
        assert_eq!(
            attributes.explicit,
            ["telephoneNumber", "mobile", "EntryUUID", "employeeType"]
        );
        assert_eq!(
            (attributes.id_form, attributes.username),
            (IdForm::Uuid, vec!["uid".to_owned()])
        );
    }
}
