//! `/verify`: a service has a code verified.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::body::{Members, whole};
use super::problem::Problem;
use crate::api::Api;
use crate::factors::typed;
use crate::model::Scope;
use crate::verification::{Answered, AskKey, NotVerified, VerifyAsk};

/// The longest name of a user, in characters, with a domain.
pub(super) const LONGEST_NAME: usize = 512;
/// The longest name of a realm, in characters.
pub(super) const LONGEST_REALM: usize = 256;
/// The longest code, in characters, however it is grouped.
const LONGEST_CODE: usize = 200;
/// The longest key of a request, in characters.
const LONGEST_KEY: usize = 255;

/// The header by which a program knows its request again.
const KEY: &str = "idempotency-key";

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/verify", post(verify))
}

async fn verify(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let engine = api.engine();
    let token = api
        .tokens
        .caller(&engine, &parts.headers, Scope::Verify)
        .await?;
    let key = key(&parts.headers)?;
    let bytes = Zeroizing::new(whole(&parts.headers, body).await?);
    let mut members = Members::parse(&bytes)?;
    let username = members.needed("username", LONGEST_NAME, false);
    let realm = members.text("realm", LONGEST_REALM, false);
    let code = Zeroizing::new(members.needed("code", LONGEST_CODE, true));
    members.end()?;
    let asked = VerifyAsk {
        token,
        username,
        realm: realm.filter(|realm| !realm.trim().is_empty()),
        code: typed::read(&code),
        key: key.map(|key| AskKey {
            key,
            body: digest("verify", &bytes),
        }),
    };
    let answered = api.verifier.verify(asked).await;
    answered.map(answer).map_err(problem)
}

/// What a request comes to, as it is sent.
pub(super) fn answer(answered: Answered) -> Response {
    let status = StatusCode::from_u16(answered.status).unwrap_or(StatusCode::OK);
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, answered.body).into_response()
}

fn problem(why: NotVerified) -> Problem {
    match why {
        NotVerified::OtherBody => other_body(),
        NotVerified::OtherRealm => Problem::forbidden("the token may ask in another realm only"),
        NotVerified::Unavailable(why) => Problem::unavailable(why),
        NotVerified::Sealed(_) => Problem::unavailable(
            "a secret of this user cannot be decrypted: an administrator looks at `realmsync status`, and at the enrolment key",
        ),
    }
}

/// The key was used for another request.
pub(super) fn other_body() -> Problem {
    Problem::unusable(
        "this Idempotency-Key was used for another request within the last ten minutes: each request has a key of its own",
        vec![],
    )
}

/// What of a request tells it from others.
pub(super) fn digest(what: &str, bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(what.as_bytes());
    hash.update([0]);
    hash.update(bytes);
    hash.finalize().into()
}

/// The program's own key of a request; `None`: it has none.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(sent) = headers.get(KEY) else {
        return Ok(None);
    };
    let key = sent.to_str().ok().map(str::trim);
    match key {
        Some(key) if (1..=LONGEST_KEY).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Problem::unusable(
            format!("Idempotency-Key: expected 1 to {LONGEST_KEY} letters of ASCII"),
            vec![],
        )),
    }
}
