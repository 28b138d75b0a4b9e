//! What a realm remembers of how it hears of changes.

use serde::{Deserialize, Serialize};

use crate::config::{ChangesWay, DirectoryKind, RealmConfig};
use crate::directory::{Blind, Mark, Way};
use crate::model::{RealmId, RealmRow, Synonyms};
use crate::runs::RunError;
use crate::sync::changes::drift_by_kind::ByKind;
use crate::sync::engine::Engine;

/// What a realm's full passes found out about deltas. The store keeps it as JSON beside the cursor.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Following {
    /// The way that is used; `None`: full passes only.
    pub way: Option<Way>,
    /// All ways that the server offers to the account, best first.
    pub ways: Vec<Way>,
    /// What the way cannot tell; `None`: it tells everything, or is not known to be blind.
    pub blind: Option<String>,
    /// The same for comparing: what it cannot tell is no drift.
    pub blind_to: Vec<Blind>,
    /// Scheduled full passes in a row that found what deltas should have told.
    pub drifts: u32,
    /// Deltas are not trusted any more, until `sync --full` finds no drift or the configuration changes.
    pub fell_back: bool,
    /// Where the server stood before the last full pass read everybody: whose entry did not change since can be told by no delta.
    /// `None`: that is not known.
    pub mark: Option<Mark>,
    /// Whom the last full pass that counted drift found, by kind.
    pub untold: ByKind,
    /// What kind of server answered, where the file does not say it.
    pub kind: Option<DirectoryKind>,
    /// What the server's schema calls the attributes that the file names; `None`: it was not looked at.
    pub synonyms: Option<Synonyms>,
    /// The configuration that this was found out with: `changes` and the mapping's hash.
    pub of: String,
}

impl Following {
    /// What the store remembers; nothing where it is of another configuration, or cannot be read.
    pub(in crate::sync) fn of(row: &RealmRow, of: &str) -> Self {
        let kept = row
            .following
            .as_deref()
            .and_then(|text| serde_json::from_str::<Self>(text).ok())
            .filter(|kept| kept.of == of);
        kept.unwrap_or_else(|| Self {
            of: of.to_owned(),
            ..Self::default()
        })
    }

    /// What kind of server the last full pass read; `None`: that is not known.
    pub(in crate::sync) fn kind_of(row: &RealmRow) -> Option<DirectoryKind> {
        let kept: Self = serde_json::from_str(row.following.as_deref()?).ok()?;
        kept.kind
    }

    /// What the last full pass of the same mapping found the attributes to be called.
    pub(in crate::sync) fn synonyms_of(row: &RealmRow, mapping_hash: &str) -> Option<Synonyms> {
        let same = row.mapping_hash.as_deref() == Some(mapping_hash);
        let kept: Self = serde_json::from_str(row.following.as_deref().filter(|_| same)?).ok()?;
        kept.synonyms
    }

    /// What is remembered once a plan of another mapping is approved: the cursor goes on as it is, and so does the way, which the
    /// next full pass looks at again. `None`: nothing is to be written.
    pub(in crate::sync) fn renewed(
        row: &RealmRow,
        config: &RealmConfig,
        of: &str,
    ) -> Option<String> {
        let kept: Self = serde_json::from_str(row.following.as_deref()?).ok()?;
        if kept.of == of || kept.fell_back {
            return None;
        }
        let renewed = Self {
            way: way_of(config.directory.changes).or(kept.way),
            of: of.to_owned(),
            drifts: 0,
            ..kept
        };
        renewed.text()
    }

    pub(in crate::sync) fn text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }
}

impl Engine {
    /// How a realm hears of changes, as its last full pass found out; `None`: no full pass was applied yet.
    pub async fn following(&self, realm: &RealmId) -> Result<Option<Following>, RunError> {
        let row = self.row(realm).await?;
        Ok(row
            .following
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok()))
    }
}

/// The way that is named.
pub(in crate::sync) fn way_of(changes: ChangesWay) -> Option<Way> {
    match changes {
        ChangesWay::Auto | ChangesWay::Full => None,
        ChangesWay::Push => Some(Way::Push),
        ChangesWay::Syncrepl => Some(Way::Syncrepl),
        ChangesWay::DirSync => Some(Way::DirSync),
        ChangesWay::Timestamp => Some(Way::Timestamp),
    }
}
