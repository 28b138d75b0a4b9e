//! The page itself: what is shown, and with which headers.

use std::sync::LazyLock;

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::applications::{Guide, guides};
use super::browser::Browser;
use super::qr;
use super::words::{Language, Words, fill};
use crate::acts::{PageTrouble, ShownCodes, ShownSecret, ValidLink};
use crate::config::EnrolmentConfig;
use crate::factors::otpauth::grouped;
use crate::model::Phone;

/// The style, inline: its hash stands in the policy, and nothing is fetched.
pub(in crate::console) const STYLE: &str = include_str!("../pages/enrol.css");

/// Nothing but our own style, and forms to ourselves.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
});

/// A page with the headers of all pages that are open to whoever has a link: it is stored nowhere, and tells nobody where it was.
pub(in crate::console) fn safely(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let fixed = [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::VARY, "accept-language, cookie, user-agent"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(
        "x-robots-tag",
        HeaderValue::from_static("noindex, nofollow"),
    );
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// A secret, ready to be shown.
pub(super) struct Secret {
    label: String,
    link: Zeroizing<String>,
    key: Zeroizing<String>,
    before: bool,
    before_void: bool,
}

impl Secret {
    /// `None`: its link is too long for a QR code.
    pub(super) fn of(shown: &ShownSecret) -> Option<Self> {
        let link = shown.label.link(&shown.secret);
        qr::svg(&link, "")?;
        Some(Self {
            label: shown.label.shown(),
            link,
            key: grouped(&shown.secret),
            before: shown.before,
            before_void: shown.before_void,
        })
    }
}

/// What is shown.
pub(super) enum Show {
    /// What this is, and a button.
    Start {
        link: Box<ValidLink>,
        wrong: Option<PageTrouble>,
    },
    /// The secret.
    Secret {
        secret: Secret,
        wrong: Option<PageTrouble>,
    },
    /// Recovery codes.
    Codes(ShownCodes),
    /// It is done; an older entry may be left in the application.
    Done { before: bool },
    /// The link is not valid; whether its visitor has asked for another one.
    Gone { asked: bool },
    /// The store fails.
    Trouble,
}

/// A page with its status.
pub(super) struct Page {
    status: StatusCode,
    show: Show,
}

#[derive(Template)]
#[template(path = "enrol.html", config = "src/console/askama.toml")]
struct Enrol<'a> {
    words: &'static Words,
    language: Language,
    languages: [Language; Language::ALL.len()],
    /// Where forms go: this page, in the chosen language.
    action: String,
    title: &'static str,
    show: &'a Show,
    style: &'static str,
    /// Why the code before did not count.
    wrong: Option<String>,
    mobile: bool,
    /// Of a secret: the QR code.
    qr: Zeroizing<String>,
    /// Of a secret: where its entry is called by its name.
    before: String,
    key_how: String,
    /// Of the start: the phone's end.
    phone: Option<String>,
    /// Whom users ask.
    contact: Option<&'a str>,
    /// How to install an application and to delete an entry.
    guides: Vec<Guide>,
}

impl Page {
    pub(super) fn new(status: StatusCode, show: Show) -> Self {
        Self { status, show }
    }

    /// Whatever is wrong with a link, its page is the same.
    pub(super) fn gone() -> Self {
        Self::new(StatusCode::GONE, Show::Gone { asked: false })
    }

    /// The same once another link was asked for.
    pub(super) fn asked() -> Self {
        Self::new(StatusCode::GONE, Show::Gone { asked: true })
    }

    /// The answer to a browser.
    pub(super) fn answer(
        &self,
        browser: &Browser,
        config: &EnrolmentConfig,
        cookie: Option<&str>,
    ) -> Response {
        let html = self.render(browser, config);
        let mut response = safely((self.status, Html(html)).into_response());
        let headers = response.headers_mut();
        if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
            headers.insert(header::SET_COOKIE, cookie);
        }
        response
    }

    fn render(&self, browser: &Browser, config: &EnrolmentConfig) -> String {
        let words = browser.language.words();
        let (title, wrong) = match &self.show {
            Show::Start { wrong, .. } => (words.start, *wrong),
            Show::Secret { wrong, .. } => (words.secret, *wrong),
            Show::Codes(_) => (words.codes, None),
            Show::Done { .. } => (words.done, None),
            Show::Gone { .. } => (words.gone, None),
            Show::Trouble => (words.trouble, None),
        };
        let (qr, before, key_how) = match &self.show {
            Show::Secret { secret, .. } => (
                qr::svg(&secret.link, words.qr).unwrap_or_default(),
                fill(
                    if secret.before_void {
                        words.before_void
                    } else {
                        words.before
                    },
                    &[("label", &secret.label)],
                ),
                fill(words.key_how, &[("label", &secret.label)]),
            ),
            _ => Default::default(),
        };
        let phone = match &self.show {
            Show::Start { link, .. } => link.user.phone.as_ref().map(phone_end),
            _ => None,
        };
        let page = Enrol {
            words,
            language: browser.language,
            languages: Language::ALL,
            action: browser.action(),
            title,
            show: &self.show,
            style: STYLE,
            wrong: wrong.map(|wrong| said(words, wrong)),
            mobile: browser.mobile,
            qr,
            before,
            key_how,
            phone,
            contact: config.contact.as_deref(),
            guides: guides(words, &config.applications, &browser.agent),
        };
        // Rendering into a string has nothing to fail with.
        page.render().unwrap_or_default()
    }
}

/// The end of a number: enough for its owner, and no more for who only found the link.
fn phone_end(phone: &Phone) -> String {
    let digits: Vec<char> = phone.as_str().chars().collect();
    let end: String = digits[digits.len().saturating_sub(3)..].iter().collect();
    format!("••• {end}")
}

/// Why a code did not count, in words.
fn said(words: &Words, wrong: PageTrouble) -> String {
    let minutes = |seconds: i64| ((seconds.abs() + 30) / 60).max(1).to_string();
    let seconds = |ms: i64| ((ms.max(0) + 999) / 1000).to_string();
    match wrong {
        PageTrouble::Wrong => words.wrong.to_owned(),
        PageTrouble::Used => words.used.to_owned(),
        PageTrouble::Clock(ahead) if ahead > 0 => {
            fill(words.ahead, &[("minutes", &minutes(ahead))])
        }
        PageTrouble::Clock(behind) => fill(words.behind, &[("minutes", &minutes(behind))]),
        PageTrouble::First => words.first.to_owned(),
        PageTrouble::Earlier => words.earlier.to_owned(),
        PageTrouble::Anew => words.anew.to_owned(),
        PageTrouble::NoCookie => words.cookies.to_owned(),
        PageTrouble::Often(ms) => fill(words.often, &[("seconds", &seconds(ms))]),
        PageTrouble::Wait(ms) => fill(words.wait, &[("seconds", &seconds(ms))]),
        PageTrouble::Locked => words.locked.to_owned(),
    }
}
