//! What the messages of a refresh and of a live search add up to (RFC 4533 § 3.3, § 3.4). Pure.

use std::collections::HashMap;

use lber::common::TagClass;
use lber::structure::PL;
use ldap3::ResultEntry;

use super::codec::{self, EntryState, MalformedControl, SyncInfo, SyncState};
use super::cookie::Dialect;
use crate::model::DirectoryId;

/// The most ids that are kept of one refresh: no realm has so many, and a hostile server could go on for ever.
const MAX_TOLD: usize = 10_000_000;

/// One message of a search with the Sync Request control.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SyncMessage {
    /// An entry, or its id alone. What attributes it carries is nobody's business here.
    Entry(SyncState),
    Info(SyncInfo),
    /// A reference to another server, or an intermediate message of another kind.
    Other,
}

/// Reads a message of a search.
pub(super) fn message(item: ResultEntry) -> Result<SyncMessage, MalformedControl> {
    const BAD: MalformedControl = MalformedControl("an intermediate message cannot be read");
    if item.is_ref() {
        return Ok(SyncMessage::Other);
    }
    if !item.is_intermediate() {
        let control = item.1.iter().find(|c| c.1.ctype == codec::STATE);
        let value = control.and_then(|c| c.1.val.as_deref());
        let value = value.ok_or(MalformedControl(
            "an entry comes without its Sync State control",
        ))?;
        return codec::state(value).map(SyncMessage::Entry);
    }
    // IntermediateResponse ::= SEQUENCE { responseName [0] OPTIONAL, responseValue [1] OPTIONAL } (RFC 4511 § 4.13).
    let PL::C(parts) = item.0.payload else {
        return Err(BAD);
    };
    let (mut name, mut value) = (None, None);
    for part in parts {
        match (part.class, part.id, part.payload) {
            (TagClass::Context, 0, PL::P(bytes)) => name = Some(bytes),
            (TagClass::Context, 1, PL::P(bytes)) => value = Some(bytes),
            _ => return Err(BAD),
        }
    }
    match (name, value) {
        (Some(name), Some(value)) if name == codec::INFO.as_bytes() => {
            codec::info(&value).map(SyncMessage::Info)
        }
        (Some(name), None) if name == codec::INFO.as_bytes() => Err(BAD),
        _ => Ok(SyncMessage::Other),
    }
}

/// How a refresh ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RefreshEnd {
    /// Where to go on; `None`: the old cookie stays.
    pub cookie: Option<Vec<u8>>,
    /// Whether the server says that its last phase named those who are gone.
    pub deletes: bool,
}

/// More was told than anybody can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooMuch;

/// What was told so far.
#[derive(Clone, Default, Debug)]
pub(super) struct RefreshChanges {
    /// Whoever was touched (`false`) or is gone (`true`): the last word counts.
    gone: HashMap<DirectoryId, bool>,
    /// Told to be there, unchanged.
    present: Vec<DirectoryId>,
    /// Whether a present phase came to its end in so many words.
    present_ended: bool,
}

impl RefreshChanges {
    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.present.is_empty()
    }

    fn hear(&mut self, id: DirectoryId, gone: bool) {
        self.gone.insert(id, gone);
    }

    /// Takes a message of the refresh. The end comes where live messages follow; a cookie before that would claim what is not yet told.
    pub(super) fn refresh(&mut self, message: SyncMessage) -> Result<Option<RefreshEnd>, TooMuch> {
        let mut end = None;
        match message {
            SyncMessage::Entry(entry) => match entry.state {
                EntryState::Present => self.present.push(entry.id),
                EntryState::Add | EntryState::Modify => self.hear(entry.id, false),
                EntryState::Delete => self.hear(entry.id, true),
            },
            SyncMessage::Info(SyncInfo::Ids { deletes, ids, .. }) => {
                if deletes {
                    self.gone.extend(ids.into_iter().map(|id| (id, true)));
                } else {
                    self.present.extend(ids);
                }
            }
            SyncMessage::Info(SyncInfo::Deleted { cookie, done }) => {
                end = done.then_some(RefreshEnd {
                    cookie,
                    deletes: true,
                });
            }
            SyncMessage::Info(SyncInfo::Present { cookie, done }) => {
                self.present_ended = true;
                end = done.then_some(RefreshEnd {
                    cookie,
                    deletes: false,
                });
            }
            SyncMessage::Info(SyncInfo::Cookie(_)) | SyncMessage::Other => {}
        }
        if self.gone.len() + self.present.len() > MAX_TOLD {
            return Err(TooMuch);
        }
        Ok(end)
    }

    /// Takes a live message; returns its cookie.
    pub(super) fn live(&mut self, message: SyncMessage) -> Option<Vec<u8>> {
        match message {
            SyncMessage::Entry(SyncState { state, id, cookie }) => {
                self.hear(id, state == EntryState::Delete);
                cookie
            }
            SyncMessage::Info(SyncInfo::Ids {
                cookie,
                deletes,
                ids,
            }) => {
                self.gone.extend(ids.into_iter().map(|id| (id, deletes)));
                cookie
            }
            SyncMessage::Info(SyncInfo::Cookie(cookie)) => Some(cookie),
            SyncMessage::Info(
                SyncInfo::Deleted { cookie, .. } | SyncInfo::Present { cookie, .. },
            ) => cookie,
            SyncMessage::Other => None,
        }
    }

    /// What a refresh that ended so has told, by evidence: 389-ds says `refreshDeletes FALSE` whatever it did, so there only ids
    /// that are told to be present make a present phase. Elsewhere the word counts, but a present phase that shows nobody at
    /// all is how a lost right looks, and is an error.
    pub(super) fn judge(
        self,
        dialect: Dialect,
        end: &RefreshEnd,
    ) -> Result<Refreshed, &'static str> {
        let said_present = self.present_ended || !end.deletes;
        let is_present = said_present && (!dialect.is_389() || !self.present.is_empty());
        let touched = self.gone.values().filter(|gone| !**gone).count();
        if is_present && self.present.is_empty() && touched == 0 {
            return Err(
                "the server says that it told of everybody who is there, and told of nobody",
            );
        }
        let present = is_present.then_some(self.present);
        Ok(Refreshed {
            gone: self.gone,
            present,
        })
    }

    /// What live messages have told.
    pub(super) fn told_live(&mut self) -> Refreshed {
        Refreshed {
            gone: std::mem::take(&mut self.gone),
            present: None,
        }
    }
}

/// What one base's refresh, or a moment of live messages, told.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Refreshed {
    /// Whoever was touched (`false`) or is gone (`true`).
    pub gone: HashMap<DirectoryId, bool>,
    /// Those who are there besides; `None`: only what changed was told.
    pub present: Option<Vec<DirectoryId>>,
}

#[cfg(test)]
mod tests;
