//! A full pass: everybody under the bases, and the proof that it was everybody.

use std::sync::Arc;

use ldap3::Scope as Depth;
use tokio::sync::mpsc;

use super::error::{DirectoryError, came, search_advice};
use super::search::{SearchRequest, Sink, Trouble};
use super::session::Session;
use crate::model::{IdForm, RawEntry};

/// What a realm takes from its directory.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The DNs beneath which people are, none within another.
    pub bases: Vec<String>,
    /// The filter (RFC 4515).
    pub filter: String,
    /// The attributes to ask for, operational ones included.
    pub attributes: Vec<String>,
    /// The attribute that holds the directory id; asked for in any case.
    pub id_attribute: String,
    /// How that id is written.
    pub id_form: IdForm,
    /// Entries in a page. The server may give fewer.
    pub page_size: i32,
}

impl Scope {
    pub(super) fn asked(&self) -> Arc<[String]> {
        let mut asked = self.attributes.clone();
        if !asked
            .iter()
            .any(|a| a.eq_ignore_ascii_case(&self.id_attribute))
        {
            asked.push(self.id_attribute.clone());
        }
        asked.into()
    }

    /// The filter with its parentheses.
    pub(super) fn enclosed_filter(&self) -> String {
        enclosed(&self.filter)
    }
}

/// A filter with its parentheses.
pub(super) fn enclosed(filter: &str) -> String {
    let filter = filter.trim();
    if filter.starts_with('(') {
        filter.to_owned()
    } else {
        format!("({filter})")
    }
}

/// The proof that a pass saw everybody: every page of every base ended in success, nothing was hidden, nothing broke, and no
/// base was empty. Only [`Session::read`] makes one, and only with one can anybody be found absent.
#[derive(Debug)]
#[must_use = "a pass without its proof of completeness makes nobody absent"]
pub struct Complete {
    entries: Vec<u64>,
}

impl Complete {
    /// How many entries each base had, in the order of the scope's bases.
    pub fn entries(&self) -> &[u64] {
        &self.entries
    }
}

impl Session {
    /// Reads all bases, in portions into the (bounded) channel. An error says that the pass is not complete, whatever came before it.
    pub async fn read(
        &mut self,
        scope: &Scope,
        pages: mpsc::Sender<Vec<RawEntry>>,
    ) -> Result<Complete, DirectoryError> {
        let mut entries = Vec::with_capacity(scope.bases.len());
        let (attributes, filter) = (scope.asked(), scope.enclosed_filter());
        let mut pass = Box::pin(self.begin_pass(&pages)).await;
        for base in &scope.bases {
            let what = format!("reading `{base}`");
            let ask = SearchRequest {
                base,
                depth: Depth::Subtree,
                filter: &filter,
                attributes: Arc::clone(&attributes),
                page_size: scope.page_size,
                elsewhere_is_fine: false,
            };
            let read = match &mut pass {
                Some(pass) => Box::pin(self.read_base(pass, &what, &ask)).await,
                None => Box::pin(self.try_search(&what, &ask, Sink::Channel(&pages))).await,
            };
            let count = match read {
                Ok(count) => count,
                // A base that is gone is as empty as one without people.
                Err(Trouble::Result { code: 32, text, .. }) => {
                    return Err(DirectoryError::Empty(self.failure(
                        &what,
                        came(32, &text),
                        search_advice(32),
                    )));
                }
                Err(Trouble::Result { code, text, what }) => {
                    return Err(self.refused(&what, code, &text));
                }
                Err(Trouble::Error(e)) => return Err(e),
            };
            if count == 0 {
                return Err(DirectoryError::Empty(self.failure(
                    &what,
                    format!("success, and no entry that matches {filter}"),
                    "look for a typing error in the filter, for a wrong base, and at what the account may see: nobody is ever taken for gone because of this",
                )));
            }
            entries.push(count);
        }
        if let Some(pass) = pass {
            pass.end().await;
        }
        self.still_sound("reading to the end")?;
        Ok(Complete { entries })
    }
}
