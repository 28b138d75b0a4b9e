//! What a browser says of itself: its mark, its language, and whether it is a telephone.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

use super::words::Language;
use crate::acts::is_mark;

/// The cookie with the browser's mark.
const COOKIE: &str = "realmsync-browser";

/// How long a browser keeps its mark, in seconds: longer than a secret waits for its first code.
const KEPT: u32 = 3600;

/// A browser.
#[derive(Clone, Debug)]
pub(in crate::console) struct Browser {
    /// Its mark.
    pub(super) mark: Option<String>,
    /// The language that it wants.
    pub(in crate::console) language: Language,
    /// Somebody chose that language by hand.
    pub(super) chosen: bool,
    /// What it calls itself.
    pub(super) agent: String,
    /// It is a telephone or a tablet: the application is on the same device.
    pub(super) mobile: bool,
    /// A page of another site sent it here by a form.
    pub(in crate::console) comes_from_elsewhere: bool,
}

impl Browser {
    /// A browser by its headers and the query of the address.
    pub(in crate::console) fn of(headers: &HeaderMap, query: Option<&str>) -> Self {
        let text = |name: header::HeaderName| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default()
        };
        let chosen = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .find(|(key, _)| key == "lang")
            .and_then(|(_, word)| Language::parse(&word));
        let agent = text(header::USER_AGENT);
        let site = headers.get("sec-fetch-site");
        Self {
            mark: mark(headers),
            language: chosen.unwrap_or_else(|| Language::accepted(text(header::ACCEPT_LANGUAGE))),
            chosen: chosen.is_some(),
            agent: agent.to_owned(),
            mobile: ["Android", "iPhone", "iPad", "Mobile"]
                .iter()
                .any(|word| agent.contains(word)),
            comes_from_elsewhere: site
                .is_some_and(|site| site == "cross-site" || site == "same-site"),
        }
    }
}

impl Browser {
    /// Where forms of a page go: to the same page, in the language that was chosen by hand.
    pub(in crate::console) fn action(&self) -> String {
        if self.chosen {
            format!("?lang={}", self.language.code())
        } else {
            String::new()
        }
    }
}

fn mark(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).into_iter();
    let mut pairs = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, mark) = pairs.find(|(name, mark)| *name == COOKIE && is_mark(mark))?;
    Some(mark.to_owned())
}

/// What sets the mark. It goes to the enrolment page alone, and to no script.
pub(super) fn cookie(mark: &str, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={mark}; Path=/enrol; Max-Age={KEPT}; HttpOnly; SameSite=Lax{secure}")
}

/// The address that the proxy in front saw: the last one of those that it says, since whoever asks can write the others.
pub(super) fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").into_iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = header::HeaderName::from_static(name);
            (name, value.parse().expect("a value"))
        });
        pairs.collect()
    }

    #[test]
    fn a_mark_is_taken_from_among_other_cookies_and_nothing_else_is_one() {
        let good = "A".repeat(43);
        for (cookies, mark) in [
            (format!("a=b; {COOKIE}={good}; c=d"), Some(good.as_str())),
            (format!("{COOKIE}=short"), None),
            (format!("x{COOKIE}={good}"), None),
            (String::new(), None),
        ] {
            let headers = headers(&[("cookie", &cookies)]);
            let browser = Browser::of(&headers, None);
            assert_eq!(browser.mark.as_deref(), mark, "{cookies}");
        }
    }

    #[test]
    fn the_last_address_is_the_one_that_the_proxy_saw() {
        let seen = |text| forwarded(&headers(&[("x-forwarded-for", text)]));
        assert_eq!(
            seen("10.0.0.1, 192.0.2.7").map(|ip| ip.to_string()),
            Some("192.0.2.7".to_owned())
        );
        assert_eq!(seen("nonsense"), None);
        assert_eq!(forwarded(&HeaderMap::new()), None);
    }

    #[test]
    fn trap_127_a_telephone_is_told_from_a_desktop() {
        for (agent, mobile) in [
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1",
                true,
            ),
            (
                "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36",
                true,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                false,
            ),
            ("", false),
        ] {
            let browser = Browser::of(&headers(&[("user-agent", agent)]), None);
            assert_eq!(browser.mobile, mobile, "{agent}");
        }
    }
}
