//! `/freeze/TOKEN`: whoever got the notice of a changed number says that this was not them.
//!
//! GET and HEAD change nothing, since scanners and previews of mail and chat programs open links; the button does. Nothing on the page
//! says whom it is about. A link that is not valid (any more) and one that never was are the same page.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use super::enrol::USER;
use crate::acts::{ActContext, ActFailure, Caller, Door, freeze_by_link, open_freeze_link};
use crate::sync::Engine;

/// The form has no fields.
const BODY: usize = 1024;

/// No script, no style, nothing from elsewhere; forms to ourselves.
const POLICY: &str =
    "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The page.
pub(super) fn routes(engine: watch::Receiver<Engine>) -> Router {
    Router::new()
        .route("/freeze/{token}", get(look).post(object))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(engine)
}

type Engines = State<watch::Receiver<Engine>>;

/// What is shown.
#[derive(Clone, Copy)]
enum Shown {
    Ask,
    Done,
    Gone,
    Trouble,
}

/// GET and HEAD.
async fn look(State(engine): Engines, Path(token): Path<String>) -> Response {
    let at = context(&engine);
    match open_freeze_link(&at, &token).await {
        Ok(Some(_)) => Shown::Ask,
        Ok(None) => Shown::Gone,
        Err(failure) => failed(&failure),
    }
    .answer()
}

/// The button.
async fn object(State(engine): Engines, Path(token): Path<String>) -> Response {
    let at = context(&engine);
    match freeze_by_link(&at, &token).await {
        Ok(true) => Shown::Done,
        Ok(false) => Shown::Gone,
        Err(failure) => failed(&failure),
    }
    .answer()
}

fn context(engine: &watch::Receiver<Engine>) -> ActContext {
    let caller = Caller::new(Some(USER.to_owned()), Door::Page);
    ActContext::new(engine.borrow().clone(), caller)
}

/// The store, or the realm's rules, cannot be had at present.
fn failed(failure: &ActFailure) -> Shown {
    tracing::error!(
        code = failure.code,
        "the page that objects to a number cannot answer: {failure}"
    );
    Shown::Trouble
}

impl Shown {
    fn answer(self) -> Response {
        let (status, title, text) = match self {
            Self::Ask => (
                StatusCode::OK,
                "Was this not you?",
                "<p>Somebody gave another phone number in place of yours for signing in. If that was you, close this page: there is nothing to do.</p>\
                 <p>If it was not you, press the button. The new number is then not used, whatever was set up since is void, and nobody can sign in \
                 with your account's second factor until an administrator has looked at it.</p>\
                 <form method=\"post\"><button type=\"submit\">This was not me</button></form>",
            ),
            Self::Done => (
                StatusCode::OK,
                "The new number is not used",
                "<p>The account is frozen until an administrator has looked at it. Please call your administrator or helpdesk now, on a number that you know.</p>",
            ),
            Self::Gone => (
                StatusCode::GONE,
                "This link is not valid",
                "<p>It is no longer valid, or was not copied whole. If a change of your phone number was not yours, call your administrator or helpdesk.</p>",
            ),
            Self::Trouble => (
                StatusCode::SERVICE_UNAVAILABLE,
                "This does not work at the moment",
                "<p>Nothing was changed. Please try again in a few minutes, or call your administrator or helpdesk.</p>",
            ),
        };
        let html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"robots\" content=\"noindex, nofollow\"><meta name=\"color-scheme\" content=\"light dark\">\
             <title>{title}</title></head>\n<body><main><h1>{title}</h1>\n{text}\n</main></body></html>\n"
        );
        let mut response = (status, Html(html)).into_response();
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
