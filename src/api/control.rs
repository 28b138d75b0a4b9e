//! The control API: `/api/v1/…` on the unix socket.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Extension, Json, Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::order::{Order, OrderKind};
use super::peer::Peer;
use super::types::AnswerLine;
use super::{ACTING_FOR, Api, FILE, NDJSON};
use crate::acts::{
    Act, ActFailure, AddUser, AddUserRequest, Backup, BackupRequest, Caller, ChangeUser, Decide,
    DecidePhone, DecidePhoneRequest, DecideRequest, Door, EditRealm, EditUser, EditUserRequest,
    FailureKind, GiveUpKey, GiveUpKeyRequest, Import, ImportRequest, MakeApiToken,
    MakeApiTokenRequest, MakeRealm, MakeRealmRequest, NoteBackup, Outbox, OutboxAct, OutboxRequest,
    Pause, PauseRequest, Plan, PlanRequest, RealmAct, RealmRequest, RemoveRealm,
    RemoveRealmRequest, Restore, RestoredRequest, Resume, RevokeApiToken, RevokeAuthenticators,
    RevokeRequest, RunDecision, SendApplication, SendRequest, Sync, SyncRequest, UnfreezeRequest,
    UnfreezeUser, UnlockUser, UserVerb, UserVerbRequest, VerifyAudit, WithdrawLinks,
};
use crate::model::{ErrorCode, RealmId, UserId};
use crate::sync::ImportFile;

/// Long enough for a store that waits for its writer (10 s); a short request that takes longer has an answer all the same.
pub(super) const SHORT: Duration = Duration::from_secs(25);

/// The routes that only the unix socket has.
pub fn routes() -> Router<Api> {
    Router::new()
        .route(
            "/api/v1/status",
            get(async |call: Call| call.short(OrderKind::Status).await),
        )
        .route(
            "/api/v1/backup",
            post(
                async |call: Call, body: JsonBody<BackupRequest>| match body {
                    Ok(Json(request)) if request.to.is_absolute() => {
                        call.long(at_once(Backup { request })).await
                    }
                    Ok(_) => refuse("the copy's path must be absolute"),
                    Err(why) => invalid(&why),
                },
            ),
        )
        .route(
            "/api/v1/backup/note",
            post(
                async |call: Call, body: JsonBody<BackupRequest>| match body {
                    Ok(Json(request)) => call.short(at_once(NoteBackup { request })).await,
                    Err(why) => invalid(&why),
                },
            ),
        )
        .route(
            "/api/v1/realms/{realm}/sync",
            post(
                async |call: Call, Path(realm): Path<RealmId>, body: JsonBody<SyncRequest>| {
                    match body {
                        Ok(Json(request)) => {
                            let act = RealmAct::Sync(Sync::asked(realm, request));
                            call.long(OrderKind::InRealm(act)).await
                        }
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/realms/{realm}/plan",
            post(
                async |call: Call, Path(realm): Path<RealmId>, body: JsonBody<PlanRequest>| {
                    match body {
                        Ok(Json(request)) => {
                            let act = RealmAct::Plan(Plan { realm, request });
                            call.long(OrderKind::InRealm(act)).await
                        }
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/realms/{realm}/pause",
            post(
                async |call: Call, Path(realm): Path<RealmId>, body: JsonBody<PauseRequest>| {
                    match body {
                        Ok(Json(request)) if request.for_ms.is_none_or(|ms| ms > 0) => {
                            call.short(at_once(Pause { realm, request })).await
                        }
                        Ok(_) => refuse("a pause lasts longer than nothing"),
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/realms/{realm}/resume",
            post(async |call: Call, Path(realm): Path<RealmId>| {
                call.short(at_once(Resume { realm })).await
            }),
        )
        .route(
            "/api/v1/runs/{run}/{decision}",
            post(
                async |call: Call,
                       Path((run, decision)): Path<(String, RunDecision)>,
                       body: Result<Option<Json<DecideRequest>>, JsonRejection>| {
                    match body {
                        Ok(asked) => {
                            let request = asked.map(|Json(asked)| asked).unwrap_or_default();
                            let act = Decide {
                                decision,
                                run,
                                request,
                            };
                            call.long(OrderKind::InRealm(RealmAct::Decide(act))).await
                        }
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/outbox/{act}",
            post(
                async |call: Call, Path(act): Path<OutboxAct>, body: JsonBody<OutboxRequest>| {
                    match body {
                        Ok(Json(which)) if which == OutboxRequest::default() => {
                            refuse("say which jobs: ids, a realm, types, or all of them")
                        }
                        Ok(Json(which)) => call.short(at_once(Outbox { act, which })).await,
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .merge(by_hand())
        .merge(tokens())
        .merge(factors())
        .route(
            "/api/v1/realms/{realm}/imports",
            post(
                async |call: Call,
                       Path(realm): Path<RealmId>,
                       query: Result<Query<ImportRequest>, QueryRejection>,
                       body: Body| {
                    match query {
                        Ok(Query(request)) => match taken(&request.name, body).await {
                            Ok(file) => {
                                let act = Import {
                                    realm,
                                    file,
                                    request,
                                    reading: None,
                                };
                                call.long(OrderKind::InRealm(RealmAct::Import(act))).await
                            }
                            Err(failure) => failed(&failure),
                        },
                        Err(why) => refuse(&why.body_text()),
                    }
                },
            ),
        )
        .fallback(async || {
            failed(&ActFailure::new(
                FailureKind::NotFound,
                "no such path in the control API; restart the daemon after an upgrade",
            ))
        })
}

/// The body of a request, in a temporary file that nobody else sees.
async fn taken(name: &str, body: Body) -> Result<ImportFile, ActFailure> {
    let unwritten = |error: std::io::Error| {
        ActFailure::new(
            FailureKind::Unfit,
            format!("the file cannot be taken: {error}; see that /var/tmp has room for it"),
        )
    };
    let mut to =
        tokio::fs::File::from_std(ImportFile::temporary(&ImportFile::places()).map_err(unwritten)?);
    let mut body = body.into_data_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| {
            ActFailure::new(
                FailureKind::Usage,
                format!("the file did not come to its end: {error}"),
            )
        })?;
        to.write_all(&piece).await.map_err(unwritten)?;
    }
    to.flush().await.map_err(unwritten)?;
    Ok(ImportFile::new(name, to.into_std().await))
}

/// What administrators do to single users, and to realms that are in no file.
fn by_hand() -> Router<Api> {
    Router::new()
        .route(
            "/api/v1/restored",
            post(
                async |call: Call, body: JsonBody<RestoredRequest>| match body {
                    Ok(Json(request)) => call.short(at_once(Restore { request })).await,
                    Err(why) => invalid(&why),
                },
            ),
        )
        .route(
            "/api/v1/give-up-key",
            post(
                async |call: Call, body: JsonBody<GiveUpKeyRequest>| match body {
                    Ok(Json(request)) => call.short(at_once(GiveUpKey { request })).await,
                    Err(why) => invalid(&why),
                },
            ),
        )
        .route(
            "/api/v1/audit/verify",
            post(async |call: Call| call.long(at_once(VerifyAudit)).await),
        )
        .route(
            "/api/v1/realms",
            post(
                async |call: Call, body: JsonBody<MakeRealmRequest>| match body {
                    Ok(Json(request)) => call.short(at_once(MakeRealm { request })).await,
                    Err(why) => invalid(&why),
                },
            ),
        )
        .route(
            "/api/v1/realms/{realm}/edit",
            post(
                async |call: Call, Path(realm): Path<RealmId>, body: JsonBody<RealmRequest>| {
                    match body {
                        Ok(Json(request)) => {
                            call.short(at_once(EditRealm { realm, request })).await
                        }
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/realms/{realm}/remove",
            post(
                async |call: Call,
                       Path(realm): Path<RealmId>,
                       body: JsonBody<RemoveRealmRequest>| {
                    match body {
                        Ok(Json(request)) => {
                            call.long(at_once(RemoveRealm { realm, request })).await
                        }
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/realms/{realm}/users",
            post(
                async |call: Call, Path(realm): Path<RealmId>, body: JsonBody<AddUserRequest>| {
                    match body {
                        Ok(Json(request)) => call.short(at_once(AddUser { realm, request })).await,
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/users/{user}/edit",
            post(
                async |call: Call, Path(user): Path<UserId>, body: JsonBody<EditUserRequest>| {
                    match body {
                        Ok(Json(request)) => call.short(at_once(EditUser { user, request })).await,
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/users/{user}/unlock",
            post(async |call: Call, Path(user): Path<UserId>| {
                call.short(at_once(UnlockUser { user })).await
            }),
        )
        .route(
            "/api/v1/users/{user}/unfreeze",
            post(
                async |call: Call, Path(user): Path<UserId>, body: JsonBody<UnfreezeRequest>| {
                    match body {
                        Ok(Json(request)) => {
                            call.short(at_once(UnfreezeUser { user, request })).await
                        }
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/users/{user}/phone",
            post(
                async |call: Call, Path(user): Path<UserId>, body: JsonBody<DecidePhoneRequest>| {
                    match body {
                        Ok(Json(request)) => {
                            call.short(at_once(DecidePhone { user, request })).await
                        }
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/users/{user}/{verb}",
            post(
                async |call: Call,
                       Path((user, verb)): Path<(UserId, UserVerb)>,
                       body: JsonBody<UserVerbRequest>| {
                    match body {
                        Ok(Json(request)) => {
                            let act = ChangeUser {
                                user,
                                verb,
                                request,
                            };
                            call.short(at_once(act)).await
                        }
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
}

/// What administrators do about what users prove themselves with.
fn factors() -> Router<Api> {
    Router::new()
        .route(
            "/api/v1/users/{user}/enrolments",
            post(
                async |call: Call, Path(user): Path<UserId>, body: JsonBody<SendRequest>| match body
                {
                    Ok(Json(request)) => {
                        call.short(at_once(SendApplication { user, request })).await
                    }
                    Err(why) => invalid(&why),
                },
            ),
        )
        .route(
            "/api/v1/users/{user}/authenticators/revoke",
            post(
                async |call: Call, Path(user): Path<UserId>, body: JsonBody<RevokeRequest>| {
                    match body {
                        Ok(Json(request)) => {
                            let act = RevokeAuthenticators { user, request };
                            call.short(at_once(act)).await
                        }
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/users/{user}/withdraw",
            post(async |call: Call, Path(user): Path<UserId>| {
                call.short(at_once(WithdrawLinks { user })).await
            }),
        )
}

/// Programs that may call the API.
fn tokens() -> Router<Api> {
    Router::new()
        .route(
            "/api/v1/api-tokens",
            post(
                async |call: Call, body: JsonBody<MakeApiTokenRequest>| match body {
                    Ok(Json(request)) => call.short(at_once(MakeApiToken { request })).await,
                    Err(why) => invalid(&why),
                },
            ),
        )
        .route(
            "/api/v1/api-tokens/{token}/revoke",
            post(async |call: Call, Path(token): Path<String>| {
                call.short(at_once(RevokeApiToken { token })).await
            }),
        )
}

pub(super) fn at_once(act: impl Act) -> OrderKind {
    OrderKind::Act(Box::new(act))
}

pub(super) type JsonBody<T> = Result<Json<T>, JsonRejection>;

/// One call: where to send the order, who asks, and by which file.
pub(super) struct Call {
    api: Api,
    by: String,
    file: Option<String>,
}

impl axum::extract::FromRequestParts<Api> for Call {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        api: &Api,
    ) -> Result<Self, Response> {
        let headers: &HeaderMap = &parts.headers;
        let header = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned)
        };
        let (claimed, file) = (header(ACTING_FOR), header(FILE));
        let Extension(peer) = Extension::<Peer>::from_request_parts(parts, api)
            .await
            .map_err(|_| {
                failed(&ActFailure::new(
                    FailureKind::Forbidden,
                    "only root and the daemon's own user may use the control socket",
                ))
            })?;
        let axum::extract::State(api) = axum::extract::State::<Api>::from_request_parts(parts, api)
            .await
            .map_err(IntoResponse::into_response)?;
        Ok(Self {
            api,
            by: peer.acting_for(claimed.as_deref()),
            file,
        })
    }
}

impl Call {
    async fn order(&self, what: OrderKind) -> Result<mpsc::Receiver<AnswerLine>, ActFailure> {
        let caller = Caller::new(Some(self.by.clone()), Door::Socket);
        order(&self.api, what, caller, self.file.clone()).await
    }

    /// Answers with one JSON object when it is done.
    pub(super) async fn short(self, what: OrderKind) -> Response {
        match self.order(what).await {
            Ok(mut lines) => match last_line(&mut lines, SHORT).await {
                Ok(value) => Json(AnswerLine::Result(value)).into_response(),
                Err(failure) => failed(&failure),
            },
            Err(failure) => failed(&failure),
        }
    }

    /// Answers with progress, line by line.
    pub(super) async fn long(self, what: OrderKind) -> Response {
        let lines = match self.order(what).await {
            Ok(lines) => lines,
            Err(failure) => return failed(&failure),
        };
        let stream = futures_util::stream::unfold(lines, async |mut lines| {
            let line = lines.recv().await?;
            let mut text = serde_json::to_vec(&line).unwrap_or_default();
            text.push(b'\n');
            Some((Ok::<_, std::convert::Infallible>(text), lines))
        });
        ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(stream)).into_response()
    }
}

/// Sends an order to the daemon's loop.
pub(super) async fn order(
    api: &Api,
    what: OrderKind,
    caller: Caller,
    file: Option<String>,
) -> Result<mpsc::Receiver<AnswerLine>, ActFailure> {
    let (lines, answer) = mpsc::channel(8);
    let stopping = |_| {
        ActFailure::new(
            FailureKind::Stopping,
            "the daemon is stopping; try again when it is back",
        )
    };
    match timeout(
        Duration::from_secs(5),
        api.orders.send(Order {
            what,
            caller,
            file,
            lines,
        }),
    )
    .await
    {
        Ok(sent) => sent.map_err(stopping)?,
        Err(_) => {
            return Err(ActFailure::new(
                FailureKind::Run(ErrorCode::Busy),
                "the daemon is busy with other requests; try again",
            ));
        }
    }
    Ok(answer)
}

/// The end of a short answer.
pub(super) async fn last_line(
    lines: &mut mpsc::Receiver<AnswerLine>,
    within: Duration,
) -> Result<serde_json::Value, ActFailure> {
    let ended = timeout(within, async {
        while let Some(line) = lines.recv().await {
            match line {
                AnswerLine::Progress(_)
                | AnswerLine::Run(_)
                | AnswerLine::Changes(_)
                | AnswerLine::Operation(_)
                | AnswerLine::Refused(_) => {}
                AnswerLine::Result(value) => return Ok(value),
                AnswerLine::Error(failure) => return Err(failure),
            }
        }
        Err(ActFailure::new(
            FailureKind::Stopping,
            "the daemon stopped before it answered; try again when it is back",
        ))
    });
    ended.await.unwrap_or_else(|_| {
        Err(ActFailure::new(
            FailureKind::Run(ErrorCode::Busy),
            "the daemon has not answered in time; it goes on with what was asked",
        ))
    })
}

pub(super) fn invalid(why: &JsonRejection) -> Response {
    refuse(&why.body_text())
}

pub(super) fn refuse(why: &str) -> Response {
    failed(&ActFailure::new(FailureKind::Usage, why))
}

/// A failure under the status that fits it.
pub(super) fn failed(failure: &ActFailure) -> Response {
    let status = match failure.code.as_str() {
        "not-found" => StatusCode::NOT_FOUND,
        "forbidden" => StatusCode::FORBIDDEN,
        "invalid" => StatusCode::BAD_REQUEST,
        "refused" => StatusCode::CONFLICT,
        "outdated" => StatusCode::PRECONDITION_FAILED,
        "busy" | "stopping" | "key" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(AnswerLine::Error(failure.clone()))).into_response()
}
