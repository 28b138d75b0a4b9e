//! `/enrol/TOKEN`: a user sets the mobile application up, without JavaScript, by forms alone.
//!
//! ```text
//!   GET: what this is ─▶ POST begin: the secret ─▶ POST use: the recovery codes ─▶ POST done: it is done
//!                         └ a code of what the user has, where there is something
//! ```
//!
//! A link that is not valid says so, and whom to ask; a button tells the administrators that somebody asked, and says the same of every link.
//!
//! GET and HEAD show no secret and change nothing but when the link was first opened. Every answer may be stored nowhere, and tells no
//! other site where it was.

mod applications;
mod browser;
mod page;
mod qr;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Extension, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use tokio::sync::watch;

pub(super) use self::browser::Browser;
use self::page::{Page, Secret, Show};
pub(super) use self::page::{STYLE, safely};
pub(super) use self::words::Language;
use crate::acts::{
    ActContext, ActFailure, Caller, Door, PageAnswer, Visitor, alarmed, ask_at_link, begin_at_link,
    done_at_link, enrol_at_link, new_mark, no_mark_at_link, open_link, renew_codes_at_link,
};
use crate::sync::Engine;

/// Forms have three fields.
const BODY: usize = 4096;

/// Who the audit says did it.
pub(super) const USER: &str = "user";

/// The enrolment page.
pub(super) fn routes(engine: watch::Receiver<Engine>) -> Router {
    Router::new()
        .route("/enrol/{token}", get(look).post(step))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(engine)
}

type Engines = State<watch::Receiver<Engine>>;

/// What stands in a link; what is no text is no token either.
pub(super) type Token = Result<Path<String>, PathRejection>;

pub(super) fn text_of(token: Token) -> String {
    token.map(|Path(token)| token).unwrap_or_default()
}

/// GET and HEAD.
async fn look(
    State(engine): Engines,
    from: Option<Extension<SocketAddr>>,
    token: Token,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let engine = engine.borrow().clone();
    let browser = Browser::of(&headers, query.as_deref());
    let visitor = visitor(&engine, text_of(token), &browser, &headers, from);
    let config = Arc::clone(&engine.config);
    let at = context(engine);
    let page = match open_link(&at, &visitor).await {
        Ok(Some(link)) => Page::new(
            StatusCode::OK,
            Show::Start {
                link: Box::new(link),
                wrong: None,
            },
        ),
        Ok(None) => Page::gone(),
        Err(failure) => failed(&failure),
    };
    page.answer(&browser, &config.enrolment, None)
}

/// POST: one step on.
async fn step(
    State(engine): Engines,
    from: Option<Extension<SocketAddr>>,
    token: Token,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let engine = engine.borrow().clone();
    let browser = Browser::of(&headers, query.as_deref());
    let mut visitor = visitor(&engine, text_of(token), &browser, &headers, from);
    let secure = engine
        .config
        .http
        .as_ref()
        .is_some_and(|http| http.public_url.starts_with("https:"));
    let config = Arc::clone(&engine.config);
    let at = context(engine);
    if browser.comes_from_elsewhere {
        return Page::gone().answer(&browser, &config.enrolment, None);
    }
    let mut cookie = None;
    if visitor.mark.is_none() {
        match new_mark() {
            Ok(mark) => {
                cookie = Some(browser::cookie(&mark, secure));
                visitor.mark = Some(mark);
            }
            Err(failure) => return failed(&failure).answer(&browser, &config.enrolment, None),
        }
    }
    let field = |name: &str| {
        url::form_urlencoded::parse(&body)
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let page = match field("step").as_deref() {
        Some("use") if cookie.is_some() => shown(no_mark_at_link(&at, &visitor).await),
        Some("use") => {
            let code = field("code").unwrap_or_default();
            shown(alarmed(&at, enrol_at_link(&at, &visitor, &code).await).await)
        }
        Some("codes") => {
            let proof = field("proof").unwrap_or_default();
            shown(alarmed(&at, renew_codes_at_link(&at, &visitor, &proof).await).await)
        }
        Some("ask") => match ask_at_link(&at, &visitor).await {
            Ok(()) => Page::asked(),
            Err(failure) => failed(&failure),
        },
        Some("done") => match done_at_link(&at, &visitor, &field("seal").unwrap_or_default()).await
        {
            Ok(Some(before)) => Page::new(StatusCode::OK, Show::Done { before }),
            Ok(None) => Page::gone(),
            Err(failure) => failed(&failure),
        },
        _ => {
            let proof = field("proof").filter(|proof| !proof.trim().is_empty());
            shown(alarmed(&at, begin_at_link(&at, &visitor, proof.as_deref()).await).await)
        }
    };
    page.answer(&browser, &config.enrolment, cookie.as_deref())
}

fn context(engine: Engine) -> ActContext {
    ActContext::new(engine, Caller::new(Some(USER.to_owned()), Door::Page))
}

fn visitor(
    engine: &Engine,
    token: String,
    browser: &Browser,
    headers: &HeaderMap,
    from: Option<Extension<SocketAddr>>,
) -> Visitor {
    let proxied = engine.config.http.as_ref().is_some_and(|h| h.behind_proxy);
    let told = proxied.then(|| browser::forwarded(headers)).flatten();
    let peer = from.map(|Extension(address)| address.ip());
    Visitor {
        token,
        mark: browser.mark.clone(),
        address: told.or(peer).map(|ip| ip.to_string()),
    }
}

/// The page of an answer.
fn shown(answer: Result<PageAnswer, ActFailure>) -> Page {
    match answer {
        Ok(PageAnswer::Gone) => Page::gone(),
        Ok(PageAnswer::Proof(asked)) => {
            let (link, wrong) = *asked;
            let link = Box::new(link);
            Page::new(StatusCode::OK, Show::Start { link, wrong })
        }
        Ok(PageAnswer::Secret(made)) => {
            let (_, secret, wrong) = *made;
            match Secret::of(&secret) {
                Some(secret) => Page::new(StatusCode::OK, Show::Secret { secret, wrong }),
                None => Page::new(StatusCode::INTERNAL_SERVER_ERROR, Show::Trouble),
            }
        }
        Ok(PageAnswer::Codes(codes)) => Page::new(StatusCode::OK, Show::Codes(codes)),
        Err(failure) => failed(&failure),
    }
}

/// The store, or what it holds, cannot be used at present.
fn failed(failure: &ActFailure) -> Page {
    tracing::error!(
        code = failure.code,
        "the enrolment page cannot answer: {failure}"
    );
    Page::new(StatusCode::SERVICE_UNAVAILABLE, Show::Trouble)
}
