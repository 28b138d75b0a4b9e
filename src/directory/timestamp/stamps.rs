//! `modifyTimestamp` in the entries, and where the server's own time is to be had.

use std::sync::Arc;

use ldap3::Scope as Depth;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

use super::super::delta::{Cursor, Delta, NoDelta, Way};
use super::super::dirsync::{MAX_TOLD, Unfollowable, passing};
use super::super::entry::{directory_id, values_of};
use super::super::error::{DirectoryError, came};
use super::super::read::Scope;
use super::super::search::{SearchRequest, Sink, Trouble};
use super::super::session::Session;
use super::super::state::ServerState;
use super::offer::key;
use super::window::{Held, OVERLAP, Window};
use super::{BLIND, instant};
use crate::config::DirectoryKind;
use crate::model::{DirectoryId, RawEntry};

/// Seconds by which our clock may be ahead of a server's that shows none of its own. Kerberos allows as much.
const SKEW: i64 = 300;

/// Seconds after the server's time from which a timestamp is nonsense, and moves no cursor.
const NONSENSE: i64 = 86_400;

/// What a server says of its time.
struct Now {
    /// Seconds since 1970, if it says.
    at: Option<i64>,
    /// Of its whole measure: as long as that is the same, nothing changed.
    state: Option<u64>,
}

/// Why nobody is told by timestamps.
pub(super) enum Unstamped {
    /// More than a delta may tell.
    TooMany,
    /// The search.
    Trouble(Trouble),
}

impl Session {
    pub(super) async fn stamp_place(&mut self, scope: &Scope) -> Result<Cursor, NoDelta> {
        let now = self.server_now().await?;
        let ours = self.clock.now();
        let at = now.at.unwrap_or(ours.0 / 1000 - SKEW);
        // One search that finds hardly anybody shows whether the server compares timestamps at all.
        let newest = instant::show(at).ok_or_else(|| no_time(at))?;
        let filter = format!("(modifyTimestamp>={newest})");
        let mut last = at;
        let sane = (ours.0 / 1000).saturating_add(NONSENSE);
        let searched = self.stamped(scope, &filter, &["modifyTimestamp"], |_, stamp| {
            last = last.max(stamp.filter(|stamp| *stamp <= sane).unwrap_or(at));
        });
        match searched.await {
            Ok(()) => {}
            // Its measure stood still for long.
            Err(Unstamped::TooMany) => last = last.max(ours.0 / 1000 - SKEW),
            Err(Unstamped::Trouble(Trouble::Result { code, text, .. })) if !passing(code) => {
                return Err(NoDelta::NotOffered(format!(
                    "{} does not search by modifyTimestamp: {}",
                    self.server,
                    came(code, &text)
                )));
            }
            Err(e) => return Err(self.no_stamps(e)),
        }
        // A contextCSN may stand still, and what is asked for next begins where people were changed last.
        let at = if now.state.is_some() { last } else { at };
        let begin = Window {
            state: now.state,
            ..Window::begin(at, ours)
        };
        Ok(self.at_window(scope, &begin))
    }

    fn at_window(&self, scope: &Scope, window: &Window) -> Cursor {
        Cursor {
            way: Way::Timestamp,
            server: self.server.clone(),
            // A value of numbers can always be written.
            cookie: serde_json::to_string(window).unwrap_or_default(),
            scope: key(scope, &self.account),
        }
    }

    pub(super) async fn stamp_changes(
        &mut self,
        scope: &Scope,
        cursor: &Cursor,
    ) -> Result<Delta, NoDelta> {
        let window = serde_json::from_str::<Window>(&cursor.cookie)
            .map_err(|_| NoDelta::StartOver("the cursor is no instant".into()))?;
        // Both are read before the search, so that they never claim more than was seen.
        let now = self.server_now().await?;
        let ours = self.clock.now();
        let blind = Some(BLIND.to_owned());
        let stands_still = now.state.is_some() && now.state == window.state;
        if stands_still && window.moved {
            return Ok(Delta {
                blind,
                ..Delta::default()
            });
        }
        // Without syncprov a contextCSN is as old as the data that was loaded with it: no clock.
        let clock = now.at.filter(|_| !stands_still || window.moved);
        let from = window.from();
        if let Some(at) = clock
            && at < from
        {
            return Err(NoDelta::StartOver(
                "the server is older than the cursor: restored from a backup, or its clock was set back".into(),
            ));
        }
        let since = instant::show(from)
            .ok_or_else(|| NoDelta::StartOver("the cursor is no instant".into()))?;
        let (filter, stamps): (String, &[&str]) = match self.kind {
            // An attribute that is not indexed makes a scan of everybody, so only what the server needs.
            DirectoryKind::OpenLdap | DirectoryKind::Ds389 => {
                (format!("(modifyTimestamp>={since})"), &["modifyTimestamp"])
            }
            // There are servers that give a new entry nothing but its createTimestamp.
            _ => (
                format!("(|(modifyTimestamp>={since})(createTimestamp>={since}))"),
                &["modifyTimestamp", "createTimestamp"],
            ),
        };
        let limit = clock.unwrap_or(ours.0 / 1000).saturating_add(NONSENSE);
        let (mut touched, mut held, mut newest) = (Vec::new(), Held::default(), from);
        self.stamped(scope, &filter, stamps, |id, stamp| {
            let stamp = stamp.unwrap_or_default();
            held.add(&id.0, stamp);
            if stamp <= limit {
                newest = newest.max(stamp);
            }
            touched.push(id);
        })
        .await
        .map_err(|e| self.no_stamps(e))?;
        // Where the server shows no clock, ours says how much later it is than when the same people were first seen.
        let later = if window.held == held.value() {
            ours.since_ms(window.first).max(0) / 1000
        } else {
            0
        };
        let at = clock.unwrap_or(newest.saturating_add(later)).max(newest);
        let (next, tell) = window.then(at, now.state, held, ours);
        touched.sort_unstable();
        touched.dedup();
        // A cursor that only lets time go by is not worth keeping, unless it makes the next question a shorter one.
        let settles = next.settled != window.settled || next.state != window.state;
        let shorter = !touched.is_empty() && next.at.saturating_sub(window.at) >= OVERLAP;
        if !tell {
            touched.clear();
        }
        let keep = tell || settles || shorter || next.held != window.held;
        Ok(Delta {
            touched,
            blind,
            cursor: keep.then(|| self.at_window(scope, &next)),
            ..Delta::default()
        })
    }

    /// Who is under the bases and matches `filter`, with the newest of these timestamps. In portions, so that only ids are held.
    pub(super) async fn stamped(
        &mut self,
        scope: &Scope,
        filter: &str,
        stamps: &[&str],
        mut each: impl FnMut(DirectoryId, Option<i64>),
    ) -> Result<(), Unstamped> {
        let names: Vec<String> = stamps.iter().map(|s| s.to_lowercase()).collect();
        let attributes: Arc<[String]> = [&scope.id_attribute[..]]
            .iter()
            .chain(stamps)
            .map(|a| (*a).to_owned())
            .collect();
        let mut count = 0;
        let mut spellings = std::mem::take(&mut self.spellings);
        for base in &scope.bases {
            let what = format!("asking for who changed under `{base}`");
            let ask = SearchRequest {
                base,
                depth: Depth::Subtree,
                filter,
                attributes: Arc::clone(&attributes),
                page_size: scope.page_size,
                elsewhere_is_fine: true,
            };
            let (sender, mut pages) = mpsc::channel::<Vec<RawEntry>>(2);
            let search = async {
                let searched = self.try_search(&what, &ask, Sink::Channel(&sender)).await;
                drop(sender);
                searched
            };
            let spellings = &mut spellings;
            let gather = async {
                while let Some(page) = pages.recv().await {
                    for entry in page {
                        count += 1;
                        let id = directory_id(&entry, &scope.id_attribute, scope.id_form);
                        let stamp = names
                            .iter()
                            .flat_map(|n| entry.values(n))
                            .filter_map(instant::parse)
                            .max();
                        // What has no id is nobody (containers of some servers), and too many are counted only.
                        if let Some(id) = id.filter(|_| count <= MAX_TOLD) {
                            if let Some(value) = values_of(&entry, &scope.id_attribute).next() {
                                spellings.learn(id, value, scope.id_form);
                            }
                            each(id, stamp);
                        }
                    }
                }
            };
            let (searched, ()) = tokio::join!(search, gather);
            self.spellings.clone_from(spellings);
            match searched {
                // Empty: a base in which nothing changed, to a server that says of it what it says of one that is not there.
                Ok(_) | Err(Trouble::Error(DirectoryError::Empty(_))) => {}
                Err(trouble) => return Err(Unstamped::Trouble(trouble)),
            }
            if count > MAX_TOLD {
                return Err(Unstamped::TooMany);
            }
        }
        self.still_sound("asking for who changed")
            .map_err(|e| Unstamped::Trouble(Trouble::Error(e)))
    }

    pub(super) fn no_stamps(&self, why: Unstamped) -> NoDelta {
        match why {
            Unstamped::TooMany => NoDelta::StartOver(Unfollowable::TooMany.text()),
            Unstamped::Trouble(Trouble::Result { code, text, what }) => {
                self.refused(&what, code, &text).into()
            }
            Unstamped::Trouble(Trouble::Error(e)) => e.into(),
        }
    }

    /// What time it is to the server.
    async fn server_now(&mut self) -> Result<Now, DirectoryError> {
        match self.kind {
            DirectoryKind::OpenLdap | DirectoryKind::Generic => {
                let until = self.page_end();
                let begun = self.state.clone();
                let read = self.read_state(until).await;
                let state = std::mem::replace(&mut self.state, begun);
                read?;
                let ServerState::OpenLdap { csn } = state else {
                    return Ok(Now {
                        at: None,
                        state: None,
                    });
                };
                let at = csn.values().filter_map(|csn| {
                    instant::parse(csn.split('#').next().unwrap_or_default().as_bytes())
                });
                let whole: Vec<String> = csn
                    .iter()
                    .map(|(sid, csn)| format!("{sid}={csn}"))
                    .collect();
                Ok(Now {
                    at: at.max(),
                    state: Some(xxh3_64(whole.join(" ").as_bytes())),
                })
            }
            DirectoryKind::Ds389 => Ok(Now {
                at: self.clock_of_389().await?,
                state: None,
            }),
            DirectoryKind::ActiveDirectory => Ok(Now {
                at: None,
                state: None,
            }),
        }
    }
}

impl Session {
    /// What time it is to a 389-ds, in seconds since 1970; `None`: it does not say.
    pub(in crate::directory) async fn clock_of_389(
        &mut self,
    ) -> Result<Option<i64>, DirectoryError> {
        let until = self.page_end();
        let what = "reading the server's clock";
        let found = self
            .glance(until, what, "cn=monitor", &["currentTime"])
            .await?;
        Ok(found
            .as_ref()
            .and_then(|e| e.values("currenttime").next())
            .and_then(instant::parse))
    }
}

fn no_time(at: i64) -> NoDelta {
    NoDelta::NotOffered(format!("the server's time is none ({at} s since 1970)"))
}
