//! What anybody may ask: is it alive, is it ready, and the metrics. No personal data is in any of them.

use std::time::Duration;

use axum::extract::{Json, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, http};
use serde_json::json;

use super::Api;
use super::control::{failed, last_line, order};
use super::order::OrderKind;
use crate::acts::{Caller, Door};

/// Probes ask often and give up soon.
const PROBE: Duration = Duration::from_secs(4);

/// The content type of the metrics (OpenMetrics 1.0, which Prometheus reads).
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `/healthz`, `/readyz` and `/metrics`.
pub fn routes() -> Router<Api> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

/// Whoever asks for these is not told apart.
fn nobody() -> Caller {
    Caller::new(None, Door::Socket)
}

/// The process is alive: its loop has moved within the last seconds. A restart would mend the opposite.
async fn healthz(State(api): State<Api>) -> (StatusCode, &'static str) {
    if (api.alive.0)() {
        (StatusCode::OK, "ok\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the daemon does not move\n",
        )
    }
}

/// The daemon does its work: the store answers, and every realm of the file is scheduled. A directory that does not
/// answer, a failed run or a held plan is no reason: the daemon works, and a restart would not help; metrics and `status` tell.
async fn readyz(State(api): State<Api>) -> Response {
    let why_not = match order(&api, OrderKind::Ready, nobody(), None).await {
        Ok(mut lines) => last_line(&mut lines, PROBE)
            .await
            .unwrap_or_else(|failure| json!([failure.message])),
        Err(failure) => json!([failure.message]),
    };
    let ready = why_not.as_array().is_some_and(Vec::is_empty);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({ "ready": ready, "reasons": why_not }))).into_response()
}

async fn metrics(State(api): State<Api>) -> Response {
    let text = match order(&api, OrderKind::Metrics, nobody(), None).await {
        Ok(mut lines) => last_line(&mut lines, PROBE).await,
        Err(failure) => Err(failure),
    };
    match text {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                http::HeaderValue::from_static(OPENMETRICS),
            )],
            text.as_str().unwrap_or_default().to_owned(),
        )
            .into_response(),
        Err(failure) => failed(&failure),
    }
}
