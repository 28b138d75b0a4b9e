//! What could not be used, as programs see it.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::model::RealmId;
use crate::store::RefusedRow;

/// An entry, or one value of it, that could not be used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the design's § 5 names each field")]
pub struct RefusedStory {
    pub realm: RealmId,
    pub dn: String,
    pub username: Option<String>,
    pub attribute: Option<String>,
    pub raw: Option<String>,
    pub reason: String,
    pub since: Timestamp,
}

impl From<RefusedRow> for RefusedStory {
    fn from(row: RefusedRow) -> Self {
        let refusal = row.refusal;
        Self {
            realm: row.realm,
            dn: refusal.dn,
            username: refusal.username,
            attribute: refusal.attribute,
            raw: refusal.raw,
            reason: refusal.reason,
            since: row.since,
        }
    }
}
