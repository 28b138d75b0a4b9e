//! What a realm's keeper has seen, for `status` and the metrics.

use crate::api::types::{AwayStatus, PushStatus};
use crate::clock::Timestamp;
use crate::directory::Way;

/// How a realm hears of changes now.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The way that is in use; `None`: full passes only, or not looked yet.
    pub way: Option<Way>,
    /// Whether the push is connected; `None`: the realm does not live by push.
    pub push: Option<PushStatus>,
    /// Why the realm is polled although its last full pass found push.
    pub not_pushed: Option<String>,
    /// When the directory was last asked, or told something by itself, and all went well.
    pub heard_at: Option<Timestamp>,
    /// Preferred servers that could not be used when they were last looked at.
    pub away: Vec<AwayStatus>,
}
