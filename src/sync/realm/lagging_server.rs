//! A server that is behind what was already seen (design § 3.14) is left for the next one of the list.

use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::DirectoryConfig;
use crate::directory::{Lag, ServerState, Session, connect, shown};
use crate::model::ErrorCode;
use crate::runs::RunFailure;

/// This session, or one with the first server after it that holds what was already seen. Where there is none it is the error of
/// the first one that lacks it: a server that is behind is left as one that is down is, and nothing is taken from it.
pub(in crate::sync) async fn not_behind(
    mut session: Session,
    mut left: DirectoryConfig,
    seen: &ServerState,
    clock: &Clock,
    deadline: Instant,
) -> Result<Session, RunFailure> {
    let mut first: Option<RunFailure> = None;
    while let Some(lag) = session.lags(seen) {
        let server = session.server().to_owned();
        let (why, error) = match lag {
            Lag::Behind(why) => {
                let text = format!(
                    "{server} is behind what was already seen: {why}; nothing was applied. Once it has caught up the next run goes on; `sync --accept-older` takes it as it is, once"
                );
                (why, RunFailure::new(ErrorCode::Stale, text))
            }
            // Refused is not behind: to take it as it is would be no remedy.
            Lag::Refused(error) => (error.to_string(), error.into()),
        };
        let first = first.get_or_insert(error);
        let place = left.servers.iter().position(|url| shown(url) == server);
        let tried = place.map_or(left.servers.len(), |place| place + 1);
        left.servers.drain(..tried);
        let (code, message) = (first.code, first.message.clone());
        let failed = |more: &str| RunFailure {
            code,
            ..RunFailure::new(ErrorCode::Stale, format!("{message}{more}"))
        };
        if left.servers.is_empty() {
            return Err(failed(""));
        }
        tracing::debug!(server, "left for the next one, since it lags: {why}");
        session = connect(&left, clock, deadline)
            .await
            .map_err(|e| failed(&format!(". Of the others none can be used: {e}")))?;
    }
    Ok(session)
}
