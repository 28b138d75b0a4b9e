//! What DirSync does not say by itself: who was taken along by a container that moved, and whether deletions are shown at all.

use std::sync::Arc;

use ldap3::Scope as Depth;
use ldap3::controls::RawControl;

use super::super::delta::NoDelta;
use super::super::entry;
use super::super::error::DirectoryError;
use super::super::link::within;
use super::super::look_up::BATCH;
use super::super::read::Scope;
use super::super::search::Trouble;
use super::super::session::Session;
use super::super::spelling::Spellings;
use super::SHOW_DELETED;
use super::changes::{DirSyncChanges, MAX_TOLD, Unfollowable};
use crate::model::IdForm;

const ID: &str = "objectGUID";

impl Session {
    /// Adds whoever is beneath a container that was renamed or moved: their names changed, and nothing was told of them.
    pub(super) async fn taken_along(
        &mut self,
        scope: &Scope,
        told: &mut DirSyncChanges,
    ) -> Result<(), NoDelta> {
        let attributes: Arc<[String]> = vec![ID.to_owned()].into();
        let moved = told.moved();
        let mut containers = Vec::new();
        for batch in moved.chunks(BATCH) {
            let any = Spellings::default().any_of(ID, IdForm::Guid, batch.iter());
            // People and groups are leaves, and most of those who are renamed.
            let filter = format!("(&{any}(!(objectClass=person))(!(objectClass=group)))");
            let what = "looking for containers that moved";
            containers.extend(self.everywhere(what, scope, &filter, &attributes).await?);
        }
        for container in containers {
            let Ok(base) = String::from_utf8(container.dn().to_vec()) else {
                return Err(NoDelta::StartOver(
                    "a container whose name is no text was moved".into(),
                ));
            };
            let Some(beneath) = self.beneath(scope, &base, MAX_TOLD).await? else {
                return Err(NoDelta::StartOver(Unfollowable::TooMany.text()));
            };
            for id in beneath {
                told.along(id)
                    .map_err(|odd| NoDelta::StartOver(odd.text()))?;
            }
        }
        Ok(())
    }

    /// Whether the account is shown tombstones. Everybody may know that their container exists; who is given the right to list it
    /// can also read it, and that is what can be tried without a deletion at hand.
    pub(in crate::directory) async fn sees_deletions(&mut self) -> Result<bool, DirectoryError> {
        let attributes: Arc<[String]> = vec!["isDeleted".to_owned()].into();
        for context in self.contexts.clone() {
            let container = format!("CN=Deleted Objects,{context}");
            let what = format!("reading `{container}`");
            let mut ldap = self.ldap.clone();
            ldap.with_controls(vec![RawControl {
                ctype: SHOW_DELETED.into(),
                crit: true,
                val: None,
            }]);
            let until = self.page_end();
            let names = &mut self.names;
            let shown = within(until, async {
                let any = "(objectClass=*)";
                let mut stream = ldap
                    .streaming_search(&container, Depth::Base, any, Arc::clone(&attributes))
                    .await?;
                let mut shown = false;
                while let Some(item) = stream.next().await? {
                    if !item.is_ref()
                        && !item.is_intermediate()
                        && let Ok((entry, _)) = entry::entry(item.0, names)
                    {
                        shown |= entry.values("isdeleted").next().is_some();
                    }
                }
                Ok(shown)
            })
            .await;
            match shown {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(broken) => {
                    return Err(match self.broken(&what, broken).await {
                        Trouble::Error(e) => e,
                        Trouble::Result { code, text, what } => self.refused(&what, code, &text),
                    });
                }
            }
        }
        Ok(true)
    }
}
