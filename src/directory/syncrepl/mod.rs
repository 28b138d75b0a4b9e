//! Content synchronisation (RFC 4533) with OpenLDAP and 389-ds.
//!
//! ```text
//! now ────── asks for the base object alone, without a cookie ───▶ Cursor, and nobody is read
//! changes ── refreshOnly, with the cookie ─┐
//! watch ──── refreshAndPersist, with it ───┤
//!                                          ▼
//!             messages ─▶ codec ─▶ Told ─▶ judged by evidence ─▶ Delta
//! ```
//!
//! On 389-ds the search is made without the realm's filter: the server is silent when an entry leaves a filter (trap 21), and
//! everybody told is looked up within the filter anyway. OpenLDAP tells those who leave as gone; there the filter lets in whatever
//! is no person besides, since a container that is moved takes people along, of whom nothing is told.

mod changes;
mod codec;
mod cookie;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod offer;
mod persist;
mod refresh;

pub use persist::SyncWatch;

use cookie::Dialect;

use super::delta::{Cursor, NoDelta, Way};
use super::read::Scope;
use super::root_dse::fold_dn;
use super::session::Session;
use crate::config::DirectoryKind;
use crate::model::IdForm;

/// What may hold others: containers are of many classes, people and their groups of few. Only classes that every OpenLDAP knows:
/// of one that it does not, neither the one nor the other is true, and nothing would be told.
const NO_LEAF: &str =
    "(!(|(objectClass=person)(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)))";

impl Session {
    /// The dialect that gives the ids that the realm keeps.
    fn dialect(&self, scope: &Scope) -> Result<Dialect, NoDelta> {
        let attribute = scope.id_attribute.to_ascii_lowercase();
        match (self.kind, attribute.as_str(), scope.id_form) {
            (DirectoryKind::Ds389, "nsuniqueid", IdForm::NsUniqueId) => Ok(Dialect::Ds389),
            (DirectoryKind::Ds389, "entryuuid", IdForm::Uuid) => Ok(Dialect::Ds389AsOpenLdap),
            (DirectoryKind::OpenLdap | DirectoryKind::Generic, "entryuuid", IdForm::Uuid) => {
                Ok(Dialect::OpenLdap)
            }
            (kind, _, _) => Err(NoDelta::NotOffered(format!(
                "{}: content synchronisation (RFC 4533) names people by {}, and the realm by `{}`",
                self.server,
                if kind == DirectoryKind::Ds389 {
                    "nsUniqueId or entryUUID"
                } else {
                    "entryUUID"
                },
                scope.id_attribute
            ))),
        }
    }

    /// The filter to ask with.
    fn sync_filter(dialect: Dialect, scope: &Scope) -> String {
        if dialect.is_389() {
            "(objectClass=*)".to_owned()
        } else {
            format!("(|{}{NO_LEAF})", scope.enclosed_filter())
        }
    }

    /// What a cursor belongs to: bases, filter, the id and the account.
    fn sync_scope(&self, scope: &Scope) -> u64 {
        let mut parts: Vec<String> = scope.bases.iter().map(|b| fold_dn(b)).collect();
        parts.extend([
            scope.enclosed_filter(),
            scope.id_attribute.to_ascii_lowercase(),
            fold_dn(&self.account),
        ]);
        xxhash_rust::xxh3::xxh3_64(parts.join("\0").as_bytes())
    }

    fn sync_cursor(&self, scope: &Scope, cookies: &[Vec<u8>]) -> Cursor {
        Cursor {
            way: Way::Syncrepl,
            server: self.server.clone(),
            cookie: cookie::keep(cookies),
            scope: self.sync_scope(scope),
        }
    }

    fn start_over(&self, why: impl std::fmt::Display) -> NoDelta {
        NoDelta::StartOver(format!("{}: {why}: everything is read", self.server))
    }
}
