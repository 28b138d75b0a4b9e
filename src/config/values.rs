//! Single values: durations, percentages, words, paths and URLs, each with its fault at its place.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use toml::Spanned;
use url::Url;

use super::check::Check;
use super::file::Section;
use super::words::{nearest, quote};

/// Milliseconds in a second, minute, hour and day.
pub(super) const SECOND: i64 = 1000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;

/// Reads `15s`, `10m`, `24h`, `30d` or `1w` into milliseconds; the error is help.
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    let wanted =
        || "a number and one of `s`, `m`, `h`, `d` or `w`, as \"90s\" or \"30d\"".to_owned();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        "w" => 7 * DAY,
        _ => return Err(wanted()),
    };
    if number.is_empty() {
        return Err(wanted());
    }
    // Ten thousand years do for anything, and leave room to add two of them.
    let longest = 3_652_500 * DAY;
    number
        .parse::<i64>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .filter(|ms| *ms <= longest)
        .ok_or_else(|| "ten thousand years at most".to_owned())
}

/// Milliseconds as [`parse_duration`] reads them, in the largest unit that fits.
pub(super) fn show_duration(ms: i64) -> String {
    [(DAY, 'd'), (HOUR, 'h'), (MINUTE, 'm')]
        .into_iter()
        .find(|(unit, _)| ms != 0 && ms % unit == 0)
        .map_or_else(
            || format!("{}s", ms / SECOND),
            |(unit, letter)| format!("{}{letter}", ms / unit),
        )
}

/// Reads `5%` or `2.5%`; the error is help.
pub(super) fn parse_percent(text: &str) -> Result<f64, String> {
    let Some(number) = text.strip_suffix('%') else {
        return Err(format!(
            "write it with its sign, as \"{}%\"",
            if text.trim().parse::<f64>().is_ok() {
                text.trim()
            } else {
                "5"
            }
        ));
    };
    let number = number.trim_end();
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match number.parse::<f64>() {
        Ok(percent) if plain && (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("a number from 0 to 100 and `%`, as \"5%\" or \"0.5%\"".into()),
    }
}

impl Check<'_> {
    /// The place of a part of a string in the file; the whole string where escapes make that unknown.
    pub(super) fn part(&self, text: &Spanned<&str>, at: usize, len: usize) -> Range<usize> {
        let span = text.span();
        let raw = self.source.get(span.clone()).unwrap_or_default();
        let plain = raw.len() == text.get_ref().len() + 2
            && raw.get(1..raw.len() - 1) == Some(*text.get_ref());
        if plain && at <= text.get_ref().len() {
            let start = span.start + 1 + at;
            // Past the end of the text, the closing quote is shown.
            start..(start + len.max(1)).min(span.end)
        } else {
            span
        }
    }

    /// A string that is not empty.
    pub(super) fn text<'a>(
        &self,
        section: &Section<'a>,
        key: &'static str,
    ) -> Option<Spanned<&'a str>> {
        let text = section.text(key)?;
        if text.get_ref().trim().is_empty() {
            self.findings.fault(
                text.span(),
                format!("`{key}` is empty"),
                Some(format!("give it a value, or leave `{key}` out")),
            );
            return None;
        }
        Some(text)
    }

    /// A string that must be there and not be empty; `example` is shown where it is missing.
    pub(super) fn required<'a>(
        &self,
        section: &Section<'a>,
        key: &'static str,
        example: &str,
    ) -> Option<Spanned<&'a str>> {
        self.present(section, key, example);
        self.text(section, key)
    }

    /// Says that a key is missing, if it is.
    pub(super) fn present(&self, section: &Section<'_>, key: &'static str, example: &str) {
        if !section.has(key) {
            self.findings.fault(
                section.span(),
                format!("`{key}` is missing {}", section.label()),
                Some(format!("add `{key} = {example}`")),
            );
        }
    }

    /// A duration within bounds, or the default.
    pub(super) fn duration(
        &self,
        section: &Section<'_>,
        key: &'static str,
        default: i64,
        bounds: RangeInclusive<i64>,
    ) -> i64 {
        let Some(text) = section.text(key) else {
            return default;
        };
        match parse_duration(text.get_ref()) {
            Ok(ms) if bounds.contains(&ms) => return ms,
            Ok(_) => {
                let help = format!(
                    "it must be between \"{}\" and \"{}\"",
                    show_duration(*bounds.start()),
                    show_duration(*bounds.end())
                );
                let bad =
                    if bounds.start() > &0 && text.get_ref().trim_start_matches('0').len() == 1 {
                        "is no time at all"
                    } else {
                        "makes no sense"
                    };
                self.findings.fault(
                    text.span(),
                    format!("`{key} = \"{}\"` {bad}", quote(text.get_ref())),
                    Some(help),
                );
            }
            Err(help) => self.findings.fault(
                text.span(),
                format!("`{}` is no duration", quote(text.get_ref())),
                Some(help),
            ),
        }
        default
    }

    /// A percentage, or the default.
    pub(super) fn percent(&self, section: &Section<'_>, key: &'static str, default: f64) -> f64 {
        let Some(text) = section.text(key) else {
            return default;
        };
        parse_percent(text.get_ref()).unwrap_or_else(|help| {
            self.findings.fault(
                text.span(),
                format!("`{}` is an impossible percentage", quote(text.get_ref())),
                Some(help),
            );
            default
        })
    }

    /// A whole number within bounds, or the default.
    pub(super) fn integer(
        &self,
        section: &Section<'_>,
        key: &'static str,
        default: i64,
        bounds: RangeInclusive<i64>,
    ) -> i64 {
        let Some(number) = section.integer(key) else {
            return default;
        };
        let value = *number.get_ref();
        if bounds.contains(&value) {
            return value;
        }
        self.findings.fault(
            number.span(),
            format!("`{key} = {value}` makes no sense"),
            Some(format!(
                "it must be between {} and {}",
                bounds.start(),
                bounds.end()
            )),
        );
        default
    }

    /// One of a few words, or the first of them.
    pub(super) fn word<T: Copy>(
        &self,
        section: &Section<'_>,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> T {
        let default = words[0].1;
        let Some(text) = section.text(key) else {
            return default;
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| word == text.get_ref()) {
            return *value;
        }
        self.unknown_word(&text, key, words.iter().map(|(word, _)| *word));
        default
    }

    /// Says that a word is none of those that are known.
    pub(super) fn unknown_word<'k>(
        &self,
        text: &Spanned<&str>,
        key: &str,
        known: impl Iterator<Item = &'k str> + Clone,
    ) {
        let list = known
            .clone()
            .map(|w| format!("`{w}`"))
            .collect::<Vec<_>>()
            .join(", ");
        let help = nearest(text.get_ref(), known).map_or_else(
            || format!("it is one of {list}"),
            |word| format!("did you mean `{word}`? It is one of {list}"),
        );
        self.findings.fault(
            text.span(),
            format!("unknown value `{}` of `{key}`", quote(text.get_ref())),
            Some(help),
        );
    }

    /// An absolute path.
    pub(super) fn path(
        &self,
        section: &Section<'_>,
        key: &'static str,
    ) -> Option<Spanned<PathBuf>> {
        let text = self.text(section, key)?;
        if !text.get_ref().starts_with('/') || text.get_ref().contains('\0') {
            let help = Some(format!(
                "write the whole path of a file, as `{key} = \"/etc/realmsync/…\"`"
            ));
            self.findings.fault(
                text.span(),
                format!("`{key}` is not an absolute path"),
                help,
            );
            return None;
        }
        Some(Spanned::new(text.span(), PathBuf::from(*text.get_ref())))
    }

    /// A URL of one of these schemes with a host and without a user, which would end in logs.
    pub(super) fn url(&self, text: &Spanned<&str>, schemes: &[&str], example: &str) -> Option<Url> {
        let help = Some(format!("write it as `{example}`"));
        let refuse = |message: String, help: Option<String>| {
            self.findings.fault(text.span(), message, help);
            None
        };
        if !text.get_ref().contains("://") {
            return refuse(
                format!("this is no URL: it does not begin with `{}://`", schemes[0]),
                help,
            );
        }
        // The text itself is only in the excerpt, where its password is hidden.
        let url = match Url::parse(text.get_ref()) {
            Ok(url) => url,
            Err(e) => return refuse(format!("this is no URL: {e}"), help),
        };
        if !schemes.contains(&url.scheme()) {
            let close =
                nearest(url.scheme(), schemes.iter().copied()).filter(|s| *s != url.scheme());
            let known = schemes
                .iter()
                .map(|s| format!("`{s}://`"))
                .collect::<Vec<_>>()
                .join(" or ");
            let help = close.map_or(help, |s| Some(format!("did you mean `{s}://`?")));
            return refuse(
                format!("this URL is not understood here, only {known}"),
                help,
            );
        }
        let host = url.host_str().unwrap_or_default();
        if host.is_empty() || !host_is_sane(host) {
            return refuse("the URL names no host".into(), help);
        }
        if url.port() == Some(0) {
            return refuse("port 0 cannot be connected to".into(), help);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse(
                "a user name or password does not belong in this URL".into(),
                help,
            );
        }
        Some(url)
    }
}

/// The `url` crate takes anything as the host of a scheme that it does not know, as `ldap` is.
fn host_is_sane(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.len() <= 253
        && host.split('.').enumerate().all(|(i, label)| {
            (!label.is_empty() || i > 0)
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

/// Whether a URL's host is this machine itself.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url
        .host_str()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_and_percentages() {
        for (text, ms) in [
            ("0s", 0),
            ("15s", 15_000),
            ("10m", 600_000),
            ("24h", DAY),
            ("30d", 30 * DAY),
            ("1w", 7 * DAY),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
        for text in [
            "",
            "15",
            "s",
            "1.5h",
            "-1s",
            "15 s",
            "1h30m",
            "15S",
            "15ms",
            "99999999999999999999d",
            "9999999999d",
            "١s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for (text, percent) in [
            ("5%", 5.0),
            ("0%", 0.0),
            ("100%", 100.0),
            ("0.5%", 0.5),
            ("5 %", 5.0),
        ] {
            assert_eq!(parse_percent(text), Ok(percent), "{text}");
        }
        for text in [
            "",
            "%",
            "5",
            "101%",
            "-1%",
            "1e1%",
            "NaN%",
            "inf%",
            "5%%",
            ".%",
            "5 percent",
        ] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_is_this_machine_alone() {
        for (url, wanted) in [
            ("http://127.0.0.1:1/", true),
            ("http://[::1]/", true),
            ("http://LOCALHOST/", true),
            ("http://10.0.0.1/", false),
            ("http://localhost.example.org/", false),
            ("http://127.0.0.1.example.org/", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), wanted, "{url}");
        }
    }

    proptest! {
        #[test]
        fn a_shown_duration_reads_back(s in 0_i64..3_652_500 * 86_400) {
            prop_assert_eq!(parse_duration(&show_duration(s * SECOND)), Ok(s * SECOND));
        }

        #[test]
        fn any_text_is_a_value_or_none(text in ".{0,20}|[0-9.smhdw%]{0,8}") {
            let _answers = (parse_duration(&text), parse_percent(&text));
        }
    }
}
