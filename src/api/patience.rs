//! A peer that does not go on: the rest of a request has a time, and a connection that nobody reads ends.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// For a whole body on TCP. The largest one there is a form or a name with a code.
const BODY: Duration = Duration::from_secs(10);

/// So long sent bytes may stay unacknowledged, and a silent peer is believed to be there.
const UNREAD: Duration = Duration::from_secs(30);

/// A body that has to come in time.
pub(super) struct PunctualBody {
    body: Incoming,
    until: Instant,
    late: Option<Pin<Box<Sleep>>>,
}

/// The body did not come in time.
#[derive(Debug)]
pub(super) struct BodyLate;

impl std::fmt::Display for BodyLate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the body did not come within {} seconds", BODY.as_secs())
    }
}

impl std::error::Error for BodyLate {}

impl PunctualBody {
    /// From now on.
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body,
            until: Instant::now() + BODY,
            late: None,
        }
    }
}

impl Body for PunctualBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if Instant::now() < self.until
            && let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context)
        {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let until = self.until;
        let late = self
            .late
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        late.as_mut()
            .poll(context)
            .map(|()| Some(Err(BodyLate.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether a body ended for this reason.
pub(super) fn was_late(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(<dyn std::error::Error>::is::<BodyLate>)
}

/// Ends the connection of a peer that is gone, or that does not read its answer.
pub(super) fn end_if_unread(stream: &TcpStream) {
    let set = || {
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, UNREAD)?;
        let ms = u32::try_from(UNREAD.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(stream, ms)
    };
    if let Err(why) = set() {
        tracing::debug!(%why, "a connection keeps the system's own limits");
    }
}
