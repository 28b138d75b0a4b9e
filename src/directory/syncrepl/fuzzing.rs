//! What of content synchronisation the fuzzers call (see [`crate::fuzzing`]).

use super::super::fuzzing::items;
use super::changes::{RefreshChanges, message};
use super::codec::{self, SyncInfo};
use super::cookie::{self, Dialect};

const DIALECTS: [Dialect; 3] = [Dialect::OpenLdap, Dialect::Ds389, Dialect::Ds389AsOpenLdap];

/// The value of a Sync State or Sync Done control, or of a Sync Info message: nothing is read that is not there.
pub fn sync_controls(data: &[u8]) {
    let fits = |cookie: Option<Vec<u8>>| {
        assert!(
            cookie.is_none_or(|c| data.windows(c.len().max(1)).any(|w| w == c) || c.is_empty())
        );
    };
    if let Ok(state) = codec::state(data) {
        assert!(data.len() >= 16 + 7);
        fits(state.cookie);
    }
    if let Ok(done) = codec::done(data) {
        fits(done.cookie);
    }
    match codec::info(data) {
        Ok(SyncInfo::Ids { cookie, ids, .. }) => {
            assert!(ids.len() * 18 <= data.len());
            fits(cookie);
        }
        Ok(SyncInfo::Cookie(cookie)) => fits(Some(cookie)),
        Ok(SyncInfo::Deleted { cookie, .. } | SyncInfo::Present { cookie, .. }) => fits(cookie),
        Err(_) => {}
    }
}

/// Two cookies, one a line: the one that is held, and the one that is told after it. Where a live search goes on is never before
/// where it was, and no server that holds as much is said to hold less.
pub fn sync_cookie(data: &[u8]) {
    let mut lines = data.splitn(2, |b| *b == b'\n');
    let (held, told) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    for dialect in DIALECTS {
        let _unused = (dialect.change_number(held), dialect.begin());
        let Some(next) = dialect.follow(held, told) else {
            continue;
        };
        if dialect == Dialect::Ds389 {
            assert!(dialect.reads(&next));
            continue;
        }
        let csns = cookie::csns(&next).unwrap_or_default();
        assert_eq!(cookie::write(&csns), next);
        for of in [held, told] {
            let older = cookie::csns(of).unwrap_or_default();
            assert_eq!(cookie::beyond(&older, &csns), None);
        }
        assert_eq!(dialect.follow(&next, held).unwrap_or(next.clone()), next);
    }
    let cookies = vec![held.to_vec(), told.to_vec()];
    assert_eq!(cookie::kept(&cookie::keep(&cookies)), Some(cookies));
    let _unused = cookie::kept(&String::from_utf8_lossy(data));
}

/// The messages of a search with the Sync Request control, and what they add up to.
pub fn sync_told(data: &[u8]) {
    let (mut refresh, mut live) = (RefreshChanges::default(), RefreshChanges::default());
    let mut ends = Vec::new();
    for item in items(data) {
        let Ok(message) = message(item) else { continue };
        if let Ok(Some(end)) = refresh.refresh(message.clone()) {
            ends.push(end);
        }
        let _cookie = live.live(message);
    }
    for end in ends {
        for dialect in DIALECTS {
            let Ok(judged) = refresh.clone().judge(dialect, &end) else {
                continue;
            };
            // A phase of those who are there is one only if somebody is.
            let somebody = judged.gone.values().any(|gone| !gone);
            assert!(judged.present.is_none_or(|p| somebody || !p.is_empty()));
        }
    }
    assert!(live.told_live().present.is_none() && live.told_live().gone.is_empty());
}
