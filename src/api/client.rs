//! The control API from the other side: what the command line calls.

use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Bytes, Frame, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::routes::{Route, import_path};
use super::types::{AnswerLine, ProgressLine};
use super::{ACTING_FOR, FILE, NDJSON};
use crate::acts::{ActFailure, FailureKind, Import, ImportReport, Plan};
use crate::config::Digest;
use crate::model::ErrorCode;
use crate::story::status::StatusAnswer;

/// The daemon sends a line every two seconds; one that is silent this long is stuck.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a file may take to be taken.
const UPLOAD: Duration = Duration::from_mins(15);

/// Bytes of a file that are sent at once.
const PIECE: usize = 64 * 1024;

type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

fn whole_body(bytes: Vec<u8>) -> RequestBody {
    BodyExt::boxed_unsync(Full::new(Bytes::from(bytes)).map_err(|never| match never {}))
}

/// A daemon that answers on its control socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    acting_for: Option<String>,
    file: Option<String>,
}

impl Client {
    /// `None`: nobody answers there (no socket, one that a dead daemon left, or no right to it).
    pub async fn connect(socket: &Path) -> Option<Self> {
        UnixStream::connect(socket).await.ok()?;
        Some(Self {
            socket: socket.to_owned(),
            acting_for: None,
            file: None,
        })
    }

    /// Says for whom root acts (`SUDO_USER`), for the audit trail.
    #[must_use]
    pub fn acting_for(mut self, name: Option<String>) -> Self {
        self.acting_for = name;
        self
    }

    /// Says which file the command was given: what depends on the file is refused if the daemon works by another.
    #[must_use]
    pub fn by_file(mut self, digest: &Digest) -> Self {
        let text = digest.secret_text();
        self.file = (!text.is_empty()).then(|| text.to_owned());
        self
    }

    /// Has something done; gives what came of it. A run that failed is `Ok`.
    pub async fn ask<R: Route>(
        &self,
        act: &R,
        mut progress: impl FnMut(ProgressLine),
    ) -> Result<R::Answer, ActFailure> {
        self.hear(act, |line| {
            if let AnswerLine::Progress(seen) = line {
                progress(seen);
            }
            ControlFlow::Continue(())
        })
        .await
    }

    /// A dry run, or one whose plan is held: progress, then the run, then its changes as they come; nothing is gathered. Ends
    /// early, and lets the daemon end too, when `heard` breaks off.
    pub async fn plan(
        &self,
        plan: &Plan,
        heard: impl FnMut(AnswerLine) -> ControlFlow<()>,
    ) -> Result<(), ActFailure> {
        self.hear(plan, heard).await
    }

    /// Takes a file of users into a realm: progress, then the run, then the lines that were refused, then what a dry run would change.
    pub async fn import(
        &self,
        import: &Import,
        heard: impl FnMut(AnswerLine) -> ControlFlow<()>,
    ) -> Result<ImportReport, ActFailure> {
        let file = import.file.open();
        let pieces = futures_util::stream::unfold(Some(file), async |file| {
            let mut file = file?;
            let mut piece = vec![0; PIECE];
            match file.read(&mut piece) {
                Ok(0) => None,
                Ok(read) => {
                    piece.truncate(read);
                    Some((Ok(Frame::data(Bytes::from(piece))), Some(file)))
                }
                Err(error) => Some((Err(error), None)),
            }
        });
        let body = BodyExt::boxed_unsync(StreamBody::new(pieces));
        self.call(Method::POST, &import_path(import), body, heard)
            .await
    }

    /// The daemon and its realms.
    pub async fn status(&self) -> Result<StatusAnswer, ActFailure> {
        self.call(Method::GET, "status", whole_body(vec![]), |_| {
            ControlFlow::Continue(())
        })
        .await
    }

    async fn hear<R: Route>(
        &self,
        act: &R,
        heard: impl FnMut(AnswerLine) -> ControlFlow<()>,
    ) -> Result<R::Answer, ActFailure> {
        let body = serde_json::to_vec(&act.body()).map_err(|e| broken(&e))?;
        self.call(act.method(), &act.path(), whole_body(body), heard)
            .await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: RequestBody,
        mut heard: impl FnMut(AnswerLine) -> ControlFlow<()>,
    ) -> Result<T, ActFailure> {
        let patience = match body.size_hint().exact() {
            Some(_) => SILENCE,
            None => UPLOAD,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{path}"))
            .header("host", "localhost")
            .header("content-type", "application/json");
        if let Some(name) = &self.acting_for {
            request = request.header(ACTING_FOR, name);
        }
        if let Some(file) = &self.file {
            request = request.header(FILE, file);
        }
        let request = request.body(body).map_err(|e| broken(&e))?;
        // Ends with this call, as the connection does.
        let mut tasks = JoinSet::new();
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|e| gone(&self.socket, &e))?;
        let (mut sender, connection) = timeout(
            SILENCE,
            hyper::client::conn::http1::handshake(TokioIo::new(stream)),
        )
        .await
        .map_err(|_| silent())?
        .map_err(|e| broken(&e))?;
        tasks.spawn(connection);
        // A large file takes its time to be taken.
        let response = timeout(patience, sender.send_request(request))
            .await
            .map_err(|_| silent())?
            .map_err(|e| broken(&e))?;
        let value = if response
            .headers()
            .get("content-type")
            .is_some_and(|kind| kind == NDJSON)
        {
            lines(response, &mut heard).await?
        } else {
            whole(response).await?
        };
        serde_json::from_value(value).map_err(|e| broken(&e))
    }
}

/// A short answer: the result itself, or an error under an error's status.
async fn whole(response: Response<Incoming>) -> Result<Value, ActFailure> {
    let status = response.status();
    let body = timeout(SILENCE, response.into_body().collect())
        .await
        .map_err(|_| silent())?
        .map_err(|e| broken(&e))?
        .to_bytes();
    match serde_json::from_slice::<AnswerLine>(&body) {
        Ok(AnswerLine::Error(failure)) => Err(failure),
        Ok(AnswerLine::Result(value)) if status.is_success() => Ok(value),
        _ => Err(ActFailure::new(
            FailureKind::Unfit,
            format!(
                "the daemon answered {status}: it may be of another version than this command; restart it after an upgrade"
            ),
        )),
    }
}

/// A long answer: lines until the last.
async fn lines(
    mut response: Response<Incoming>,
    heard: &mut impl FnMut(AnswerLine) -> ControlFlow<()>,
) -> Result<Value, ActFailure> {
    let mut pending: Vec<u8> = Vec::new();
    while let Some(frame) = timeout(SILENCE, response.frame())
        .await
        .map_err(|_| silent())?
    {
        let frame = frame.map_err(|e| broken(&e))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        // Only what is new can hold the end of a line.
        let searched = pending.len();
        pending.extend_from_slice(data);
        let mut from = searched;
        while let Some(end) = pending[from..].iter().position(|b| *b == b'\n') {
            let rest = pending.split_off(from + end + 1);
            let line = std::mem::replace(&mut pending, rest);
            from = 0;
            match serde_json::from_slice(&line).map_err(|e| broken(&e))? {
                line @ (AnswerLine::Progress(_)
                | AnswerLine::Run(_)
                | AnswerLine::Changes(_)
                | AnswerLine::Operation(_)
                | AnswerLine::Refused(_)) => {
                    if heard(line).is_break() {
                        return Ok(Value::Null);
                    }
                }
                AnswerLine::Result(value) => return Ok(value),
                AnswerLine::Error(failure) => return Err(failure),
            }
        }
    }
    Err(ActFailure::new(
        FailureKind::Stopping,
        "the daemon ended before it answered; look at `realmsync runs` for what came of it",
    ))
}

fn broken(error: &dyn std::fmt::Display) -> ActFailure {
    ActFailure::new(
        FailureKind::Unfit,
        format!("the talk with the daemon broke off ({error}); look at its log"),
    )
}

fn gone(socket: &Path, error: &std::io::Error) -> ActFailure {
    ActFailure::new(
        FailureKind::Gone,
        format!(
            "the daemon does not answer on {} any more: {error}",
            socket.display()
        ),
    )
}

fn silent() -> ActFailure {
    ActFailure::new(
        FailureKind::Run(ErrorCode::Busy),
        format!(
            "the daemon has been silent for {} seconds; `systemctl status realmsync` says how it is",
            SILENCE.as_secs()
        ),
    )
}
