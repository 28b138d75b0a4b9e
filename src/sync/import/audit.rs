//! What is written down of a file: with its run, while its plan waits, and in the audit once it is applied.

use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use crate::clock::Timestamp;
use crate::model::{AuditAct, AuditEntry, ImportCounts, Run};

/// What is remembered of a file beside its run.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ImportFacts {
    /// What it is called.
    pub(super) file: String,
    /// What it came to.
    pub(super) counts: ImportCounts,
}

impl ImportFacts {
    /// As the store keeps them with the run.
    pub(super) fn text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// From what the store kept.
    pub(super) fn of(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// The one line of the audit.
    pub(super) fn entry(
        &self,
        run: &Run,
        by: Option<&str>,
        from: &str,
        at: Timestamp,
    ) -> AuditEntry {
        let counts = &self.counts;
        let after = json!({
            "file": self.file, "lines": counts.lines, "created": counts.created, "updated": counts.updated,
            "unchanged": counts.unchanged, "refused": counts.refused, "marked": counts.marked, "suspended": counts.suspended,
        });
        AuditEntry {
            at,
            by: by.map(str::to_owned),
            from: from.to_owned(),
            act: AuditAct::Import,
            realm: Some(run.realm.clone()),
            user: None,
            username: None,
            run: Some(run.run),
            before: Map::new(),
            after: after.as_object().cloned().unwrap_or_default(),
        }
    }

    /// What the run says of it.
    pub(super) fn note(&self) -> String {
        let c = &self.counts;
        let mut note = format!(
            "file `{}`: {} = {} created + {} updated + {} unchanged + {} refused",
            self.file,
            crate::model::words::count(c.lines, "line"),
            c.created,
            c.updated,
            c.unchanged,
            c.refused
        );
        if c.marked > 0 {
            note.push_str(&format!(
                "; {} lost the zero or the plus and got it back",
                crate::model::words::count(c.marked, "number")
            ));
        }
        if c.suspended > 0 {
            note.push_str(&format!(
                "; {} of earlier imports, not in the file, suspended",
                crate::model::words::count(c.suspended, "user")
            ));
        }
        note
    }
}
