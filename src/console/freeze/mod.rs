//! `/freeze/TOKEN`: whoever got the notice of another number, or of an application that was set up, says that this was not them.
//!
//! GET and HEAD change nothing, since scanners and previews of mail and chat programs open links; the button does. Nothing on the page
//! says whom it is about. A link that is not valid (any more) and one that never was are the same page.

mod words;

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use self::words::{FreezeWords, words};
use super::enrol::{Browser, Language, STYLE, Token, USER, safely, text_of};
use crate::acts::{ActContext, ActFailure, Caller, Door, freeze_by_link, open_freeze_link};
use crate::sync::Engine;

/// The form has no fields.
const BODY: usize = 1024;

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

#[derive(Template)]
#[template(path = "freeze.html", config = "src/console/askama.toml")]
struct FreezePage<'a> {
    words: &'a FreezeWords,
    language: Language,
    languages: [Language; Language::ALL.len()],
    /// Where the form goes: this page, in the chosen language.
    action: String,
    title: &'a str,
    texts: Vec<&'a str>,
    /// There is something to press.
    asks: bool,
    style: &'static str,
}

/// GET and HEAD.
async fn look(
    State(engine): Engines,
    token: Token,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let at = context(&engine);
    let token = text_of(token);
    match open_freeze_link(&at, &token).await {
        Ok(Some(_)) => Shown::Ask,
        Ok(None) => Shown::Gone,
        Err(failure) => failed(&failure),
    }
    .answer(&Browser::of(&headers, query.as_deref()))
}

/// The button.
async fn object(
    State(engine): Engines,
    token: Token,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let browser = Browser::of(&headers, query.as_deref());
    if browser.comes_from_elsewhere {
        return Shown::Gone.answer(&browser);
    }
    let at = context(&engine);
    let token = text_of(token);
    match freeze_by_link(&at, &token).await {
        Ok(true) => Shown::Done,
        Ok(false) => Shown::Gone,
        Err(failure) => failed(&failure),
    }
    .answer(&browser)
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
    fn answer(self, browser: &Browser) -> Response {
        let language = browser.language;
        let words = words(language);
        let (status, title, texts) = match self {
            Self::Ask => (
                StatusCode::OK,
                words.ask,
                vec![words.ask_what, words.ask_effect],
            ),
            Self::Done => (StatusCode::OK, words.done, vec![words.done_what]),
            Self::Gone => (StatusCode::GONE, words.gone, vec![words.gone_what]),
            Self::Trouble => (
                StatusCode::SERVICE_UNAVAILABLE,
                words.trouble,
                vec![words.trouble_what],
            ),
        };
        let page = FreezePage {
            words,
            language,
            languages: Language::ALL,
            action: browser.action(),
            title,
            texts,
            asks: matches!(self, Self::Ask),
            style: STYLE,
        };
        match page.render() {
            Ok(html) => safely((status, Html(html)).into_response()),
            Err(error) => {
                tracing::error!("the page that objects to a number cannot be shown: {error}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}
