//! Attributes that came in part (`member;range=0-1499`, MS-ADTS 3.1.1.3.1.3.3): the rest is read, value by value range.

use ldap3::Scope as Depth;

use super::entry::{self, RangeRest};
use super::search::{SearchRequest, Trouble};
use super::session::Session;
use crate::model::RawEntry;

/// Parts of one attribute that are put together: Active Directory gives 1500 values a part.
const MAX_PARTS: usize = 10_000;

impl Session {
    /// Reads what is still missing of attributes that came in part.
    pub(super) async fn put_together(
        &mut self,
        what: &str,
        entries: &mut [RawEntry],
        rests: Vec<(usize, RangeRest)>,
        elsewhere_is_fine: bool,
    ) -> Result<(), Trouble> {
        for (at, rest) in rests {
            let Some(found) = entries.get_mut(at) else {
                continue;
            };
            let Ok(dn) = String::from_utf8(found.dn().to_vec()) else {
                return Err(self.incomplete(
                    what,
                    "an attribute came in part, and the entry's DN is not UTF-8",
                    "mend that entry's name",
                ));
            };
            let mut rest = Some(rest);
            for part in 0.. {
                let Some(wanted) = rest.take() else { break };
                if part >= MAX_PARTS {
                    return Err(self.incomplete(
                        what,
                        format!("an attribute of `{dn}` came in more than {MAX_PARTS} parts"),
                        "ask for fewer attributes",
                    ));
                }
                let ask = SearchRequest {
                    base: &dn,
                    depth: Depth::Base,
                    filter: "(objectClass=*)",
                    attributes: [wanted.ask.clone()].into(),
                    page_size: 1,
                    elsewhere_is_fine,
                };
                let deed = format!("{what}, reading `{}` of `{dn}`", wanted.ask);
                let until = self.page_end();
                let stream = self.start(&deed, &ask, None, until).await?;
                let answer =
                    Box::pin(self.collect(&deed, &ask, stream, until, None, &mut 0)).await?;
                if answer.result.rc != 0 {
                    return Err(Trouble::result(answer.result, deed));
                }
                let mut parts = answer.entries.into_iter();
                let (Some(entry), None) = (parts.next(), parts.next()) else {
                    return Err(self.incomplete(
                        &deed,
                        "the entry is gone",
                        "the next pass reads it anew",
                    ));
                };
                let more = answer.rests.into_iter().map(|(_, r)| r).collect();
                match entry::append(found, &wanted, &entry, more) {
                    Ok(next) if next.as_ref().is_some_and(|n| n.ask == wanted.ask) => {
                        return Err(self.incomplete(
                            &deed,
                            "the same part again",
                            "look at the server",
                        ));
                    }
                    Ok(next) => rest = next,
                    Err(_) => {
                        return Err(self.incomplete(
                            &deed,
                            "not there any more",
                            "the next pass reads it anew",
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
