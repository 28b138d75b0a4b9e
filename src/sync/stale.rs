//! A server that is behind what was already seen (design § 3.14) is left for the next one of the list.

use tokio::time::Instant;

use super::prepare::PassError;
use crate::clock::Clock;
use crate::config::DirectoryConfig;
use crate::directory::{ServerState, Session, connect, shown};
use crate::model::ErrorCode;

/// This session, or one with the first server after it that holds what was already seen. Where there is none it is the error of
/// the first one that lacks it: a server that is behind is left as one that is down is, and nothing is taken from it.
pub(super) async fn not_behind(
    mut session: Session,
    mut left: DirectoryConfig,
    seen: &ServerState,
    clock: &Clock,
    deadline: Instant,
) -> Result<Session, PassError> {
    let mut stale: Option<String> = None;
    while let Some(why) = session.state().behind(seen) {
        let server = session.server().to_owned();
        let stale = stale.get_or_insert_with(|| {
            format!(
                "{server} is behind what was already seen: {why}; nothing was applied. Once it has caught up the next run goes on; `sync --accept-older` takes it as it is, once"
            )
        });
        let place = left.servers.iter().position(|url| shown(url) == server);
        let tried = place.map_or(left.servers.len(), |place| place + 1);
        left.servers.drain(..tried);
        let failed = |more: &str| PassError::new(ErrorCode::Stale, format!("{stale}{more}"));
        if left.servers.is_empty() {
            return Err(failed(""));
        }
        tracing::debug!(server, "left for the next one, since it is behind: {why}");
        session = connect(&left, clock, deadline)
            .await
            .map_err(|e| failed(&format!(". Of the others none can be used: {e}")))?;
    }
    Ok(session)
}
