//! What programs are told when something is not done: `application/problem+json` (RFC 9457).

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::acts::ActFailure;
use crate::model::Scope;

/// What is wrong with one member of the body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct BadMember {
    /// A JSON pointer (RFC 6901); empty: the whole body.
    pub(super) pointer: String,
    /// What is wrong, and what was expected.
    pub(super) detail: String,
}

/// Why a request was not done.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    slug: &'static str,
    detail: String,
    errors: Vec<BadMember>,
    retry_after: Option<Duration>,
    challenge: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, slug: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            slug,
            detail: detail.into(),
            errors: vec![],
            retry_after: None,
            challenge: None,
        }
    }

    /// No token, or none that is accepted. `why`: what is wrong with the one that was sent.
    pub(super) fn unauthorized(why: Option<&str>) -> Self {
        let (detail, challenge) = match why {
            None => (
                "send an API token: `Authorization: Bearer rs_…`".to_owned(),
                "Bearer realm=\"realmsync\"".to_owned(),
            ),
            Some(why) => (
                format!(
                    "{why}: an administrator makes another one (`realmsync api-tokens create`)"
                ),
                "Bearer realm=\"realmsync\", error=\"invalid_token\"".to_owned(),
            ),
        };
        Self {
            challenge: Some(challenge),
            ..Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
        }
    }

    /// The token may not do this.
    pub(super) fn scope_missing(scope: Scope) -> Self {
        Self {
            challenge: Some(format!(
                "Bearer realm=\"realmsync\", error=\"insufficient_scope\", scope=\"{scope}\""
            )),
            ..Self::forbidden(format!("the token has no scope `{scope}`"))
        }
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// The path is there, and cannot be asked in this way. The router says in which.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "this path takes other methods: `Allow` names them",
        )
    }

    pub(super) fn too_large(most: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("the body has more than {most} bytes"),
        )
    }

    pub(super) fn late(why: String) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", why)
    }

    pub(super) fn broken_off(why: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", why)
    }

    pub(super) fn media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "send JSON: `Content-Type: application/json`",
        )
    }

    /// The request was understood, and cannot be used.
    pub(super) fn unusable(detail: impl Into<String>, errors: Vec<BadMember>) -> Self {
        Self {
            errors,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
        }
    }

    pub(super) fn too_many(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail)
        }
    }

    /// Nothing was done, and nothing counted.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
        }
    }

    /// The same, for so long.
    pub(super) fn unavailable_for(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::unavailable(detail)
        }
    }

    /// The same for an act that was not done.
    pub(super) fn of(failure: &ActFailure) -> Self {
        let detail = failure.message.clone();
        match failure.code.as_str() {
            "not-found" => Self::not_found(detail),
            "forbidden" => Self::forbidden(detail),
            "invalid" => Self::unusable(detail, vec![]),
            "refused" => Self::new(StatusCode::CONFLICT, "refused", detail),
            "outdated" => Self::new(StatusCode::PRECONDITION_FAILED, "outdated", detail),
            "busy" | "stopping" | "store" | "unreachable" => Self::unavailable(detail),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": self.slug,
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if !self.errors.is_empty() {
            body["errors"] = self
                .errors
                .iter()
                .map(|e| json!({ "pointer": e.pointer, "detail": e.detail }))
                .collect::<Vec<Value>>()
                .into();
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        let wait = self.retry_after.map(|d| d.as_secs().max(1).to_string());
        let extra = [
            (header::RETRY_AFTER, wait),
            (header::WWW_AUTHENTICATE, self.challenge),
        ];
        for (name, value) in extra {
            if let Some(value) = value.and_then(|text| HeaderValue::try_from(text).ok()) {
                headers.insert(name, value);
            }
        }
        response
    }
}
