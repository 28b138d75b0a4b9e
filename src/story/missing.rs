//! Why somebody is not there.

use crate::model::{Change, RealmId, RealmRow, Refusal, person};
use crate::store::{RefusedRow, Store, StoreError};

/// What is known of a name that no user has.
#[derive(Clone, Debug)]
pub struct Missing {
    /// What of this name, or of an entry whose DN begins so, is refused.
    pub refused: Vec<RefusedRow>,
    /// Changes by which somebody stopped being called so, newest first.
    pub renamed: Vec<Change>,
    /// The realms that were looked through.
    pub realms: Vec<RealmRow>,
}

impl Missing {
    /// Whether nothing is known but where it was looked.
    pub fn is_unknown(&self) -> bool {
        self.refused.is_empty() && self.renamed.is_empty()
    }
}

/// Looks for why there is no user of this name, in one realm or in all.
pub async fn look(
    store: &Store,
    who: &str,
    realm: Option<&RealmId>,
) -> Result<Missing, StoreError> {
    let mut refused: Vec<RefusedRow> = vec![];
    let each = |row: RefusedRow| {
        if names(&row.refusal, who) {
            refused.push(row);
        }
    };
    store.refused_each(realm, each).await?;
    let renamed = store.renamed_from(who, realm).await?;
    let mut realms = store.realms().await?;
    realms.retain(|row| realm.is_none_or(|id| row.id == *id));
    Ok(Missing {
        refused,
        renamed,
        realms,
    })
}

/// Whether a refusal is of somebody of this name, or of an entry whose DN begins so.
fn names(refusal: &Refusal, who: &str) -> bool {
    let key = person::fold_name(who.trim());
    let dn = person::fold_name(&refusal.dn);
    let value = dn
        .split(',')
        .next()
        .and_then(|rdn| rdn.split_once('='))
        .map(|(_, value)| value.trim());
    refusal
        .username
        .as_deref()
        .is_some_and(|n| person::fold_name(n) == key)
        || dn == key
        || value == Some(key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_by_name_by_dn_and_by_the_beginning_of_a_dn() {
        let refusal = Refusal {
            dn: "uid=Jan,ou=people,dc=example,dc=org".into(),
            directory_id: None,
            username: Some("jan.novak".into()),
            attribute: None,
            raw: None,
            reason: "no user name".into(),
            entry: true,
        };
        for who in [
            "jan",
            " JAN ",
            "Jan.Novak",
            "uid=jan,ou=people,dc=example,dc=org",
        ] {
            assert!(names(&refusal, who), "{who}");
        }
        for who in ["ja", "novak", "ou=people,dc=example,dc=org", ""] {
            assert!(!names(&refusal, who), "{who}");
        }
    }
}
