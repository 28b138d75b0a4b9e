//! Whose numbering plan a national number is read by: an ISO 3166-1 code or a country's name, or the country part of a language tag.

use std::collections::HashMap;
use std::sync::LazyLock;

use rlibphonenumber::Region;
use unicode_normalization::UnicodeNormalization;

/// What one attribute, or all of them, say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CountryReading {
    /// Absent, empty, or a language without a country: the next one is asked, and at last the realm.
    Nothing,
    /// This country.
    Country(Region),
    /// Something, but not what: national numbers are refused, for any guess may name a stranger's number.
    NotUnderstood,
}

impl CountryReading {
    /// What two values of one attribute say together. Their order means nothing, so two countries are none.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, said) | (said, Self::Nothing) => said,
            (Self::Country(a), Self::Country(b)) if a == b => self,
            _ => Self::NotUnderstood,
        }
    }
}

/// Whether an attribute holds languages rather than countries: there `uk` is Ukrainian, while as a country it is the United Kingdom.
pub(super) fn holds_languages(name: &str) -> bool {
    name.contains("lang") || name.contains("locale")
}

/// Reads a value of a country attribute (`c`, `co`, `countryCode`).
pub(super) fn of_country(text: &str) -> CountryReading {
    let text = super::text::tidy(text);
    // Active Directory gives `countryCode: 0` to every account that nobody gave a country.
    if text.is_empty() || &*text == "0" {
        return CountryReading::Nothing;
    }
    country(&text).map_or(CountryReading::NotUnderstood, CountryReading::Country)
}

/// Reads a value of a language attribute: one tag (RFC 5646) or, as RFC 2798 § 2.7 has it, a list of HTTP's Accept-Language
/// (RFC 9110 § 12.5.4). Only the most preferred tag counts: in `sk, en-US;q=0.8` an American keyboard makes nobody an American.
pub(super) fn of_language(text: &str) -> CountryReading {
    let mut best: Option<(f32, &str)> = None;
    for item in text.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let tag = parts.next().unwrap_or_default();
        if tag.is_empty() {
            continue;
        }
        let mut weight = 1.0;
        for parameter in parts.filter(|p| !p.is_empty()) {
            let quality = parameter
                .strip_prefix("q=")
                .or_else(|| parameter.strip_prefix("Q="));
            match quality
                .and_then(|q| q.trim().parse::<f32>().ok())
                .filter(|q| (0.0..=1.0).contains(q))
            {
                Some(quality) => weight = quality,
                None => return CountryReading::NotUnderstood,
            }
        }
        if weight > 0.0 && best.is_none_or(|(most, _)| weight > most) {
            best = Some((weight, tag));
        }
    }
    best.map_or(CountryReading::Nothing, |(_, tag)| of_tag(tag))
}

/// The country part of a tag: `sk-SK`, `zh-Hant-TW`, `sr-Latn-RS-ekavsk`, and as POSIX writes it `sk_SK.UTF-8`.
fn of_tag(tag: &str) -> CountryReading {
    if tag == "*" {
        return CountryReading::Nothing;
    }
    let tag = tag.split(['.', '@']).next().unwrap_or_default();
    let mut subtags = tag.split(['-', '_']);
    let language = subtags.next().unwrap_or_default();
    if language.eq_ignore_ascii_case("i") || language.eq_ignore_ascii_case("x") {
        return CountryReading::Nothing;
    }
    let letters = |s: &str| s.bytes().all(|b| b.is_ascii_alphabetic());
    if !(2..=8).contains(&language.len()) || !letters(language) {
        return CountryReading::NotUnderstood;
    }
    for subtag in subtags {
        match subtag.len() {
            1 => return CountryReading::Nothing,
            // A script, or a language within a language (`zh-yue-HK`).
            3 | 4 if letters(subtag) => {}
            2 if letters(subtag) => {
                return country(subtag)
                    .map_or(CountryReading::NotUnderstood, CountryReading::Country);
            }
            // UN M.49: 703 is Slovakia; an area such as 419, Latin America, is no country.
            3 if subtag.bytes().all(|b| b.is_ascii_digit()) => {
                return country(subtag)
                    .map_or(CountryReading::NotUnderstood, CountryReading::Country);
            }
            4..=8 if subtag.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                return CountryReading::Nothing;
            }
            _ => return CountryReading::NotUnderstood,
        }
    }
    CountryReading::Nothing
}

/// A country by its ISO 3166-1 code (two letters, three letters, three digits) or name, in any case.
pub(super) fn country(text: &str) -> Option<Region> {
    if let [a, b] = *text.as_bytes()
        && a.is_ascii_alphabetic()
        && b.is_ascii_alphabetic()
    {
        let code = [a.to_ascii_uppercase(), b.to_ascii_uppercase()];
        // `UK` is reserved in ISO 3166-1 for the United Kingdom, and no other country's.
        let code = if code == *b"UK" { *b"GB" } else { code };
        return KNOWN
            .codes
            .contains(&code)
            .then(|| Region::from_code(std::str::from_utf8(&code).ok()?).ok())
            .flatten();
    }
    KNOWN.names.get(&plain(text)).copied()
}

/// The table of countries, ready to be asked.
struct CountryTable {
    codes: Vec<[u8; 2]>,
    names: HashMap<String, Region>,
}

static KNOWN: LazyLock<CountryTable> = LazyLock::new(|| {
    let mut known = CountryTable {
        codes: Vec::new(),
        names: HashMap::new(),
    };
    for (code, others) in rows() {
        let (Ok(region), &[a, b]) = (Region::from_code(code), code.as_bytes()) else {
            continue;
        };
        known.codes.push([a, b]);
        known.names.extend(others.map(|name| (plain(name), region)));
    }
    known
});

/// The lines of the table: a code of two letters, and everything else that the country goes by.
fn rows() -> impl Iterator<Item = (&'static str, impl Iterator<Item = &'static str>)> {
    let lines = include_str!("countries.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('\t'))
        .map(|(code, others)| {
            (
                code,
                others.split(['\t', '|']).filter(|name| !name.is_empty()),
            )
        })
}

/// A name without case, marks and punctuation: `Côte d'Ivoire` and `COTE D IVOIRE` are not told apart.
fn plain(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    for c in name.nfkd().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            plain.push(c);
        } else if !unicode_normalization::char::is_combining_mark(c)
            && c != '.'
            && !plain.ends_with(' ')
        {
            plain.push(' ');
        }
    }
    let trimmed = plain.trim();
    trimmed.strip_prefix("the ").unwrap_or(trimmed).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(said: CountryReading) -> String {
        match said {
            CountryReading::Nothing => "nothing".to_owned(),
            CountryReading::NotUnderstood => "not understood".to_owned(),
            CountryReading::Country(region) => region.to_string(),
        }
    }

    #[test]
    fn countries_by_code_and_name() {
        for (text, expected) in [
            ("SK", "SK"),
            ("sk", "SK"),
            (" Sk ", "SK"),
            ("\u{a0}SK", "SK"),
            ("SVK", "SK"),
            ("703", "SK"),
            ("Slovakia", "SK"),
            ("SLOVENSKO", "SK"),
            ("Slovak Republic", "SK"),
            ("Slovenská republika", "not understood"),
            ("UK", "GB"),
            ("uk", "GB"),
            ("GB", "GB"),
            ("Great Britain", "GB"),
            ("U.K.", "GB"),
            ("England", "GB"),
            ("UA", "UA"),
            ("Україна", "UA"),
            ("USA", "US"),
            ("U.S.A.", "US"),
            ("united states of america", "US"),
            ("The Netherlands", "NL"),
            ("Holland", "NL"),
            ("Deutschland", "DE"),
            ("Österreich", "AT"),
            ("Osterreich", "AT"),
            ("Česko", "CZ"),
            ("Cesko", "CZ"),
            ("Czech Republic", "CZ"),
            ("日本", "JP"),
            ("भारत", "IN"),
            ("Côte d'Ivoire", "CI"),
            ("COTE D IVOIRE", "CI"),
            ("Ivory Coast", "CI"),
            ("South Korea", "KR"),
            ("Korea, Republic of", "KR"),
            ("XK", "XK"),
            ("Kosovo", "XK"),
            ("040", "AT"),
            ("SR", "SR"),
            ("CS", "not understood"),
            ("", "nothing"),
            (" ", "nothing"),
            ("0", "nothing"),
            ("XX", "not understood"),
            ("EU", "not understood"),
            ("AA", "not understood"),
            ("ZZ", "not understood"),
            ("001", "not understood"),
            ("sk-SK", "not understood"),
            ("Bratislava", "not understood"),
            ("?", "not understood"),
            ("S", "not understood"),
            ("Congo", "not understood"),
            ("Korea", "not understood"),
            ("42", "not understood"),
            ("+421", "not understood"),
            ("SK;CZ", "not understood"),
            ("ŠK", "not understood"),
        ] {
            assert_eq!(shown(of_country(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn of_a_language_only_the_country_part() {
        for (text, expected) in [
            ("sk-SK", "SK"),
            ("sk", "nothing"),
            ("SK", "nothing"),
            ("uk", "nothing"),
            ("UK", "nothing"),
            ("uk-UA", "UA"),
            ("en-UK", "GB"),
            ("en-GB", "GB"),
            ("en_US", "US"),
            ("sk_SK.UTF-8", "SK"),
            ("de_DE@euro", "DE"),
            ("zh-Hant-TW", "TW"),
            ("zh-yue-HK", "HK"),
            ("sr-Latn-RS-ekavsk", "RS"),
            ("de-1996", "nothing"),
            ("sl-rozaj", "nothing"),
            ("sl-IT-nedis", "IT"),
            ("sk-703", "SK"),
            ("es-419", "not understood"),
            ("en-XX", "not understood"),
            ("sk-SK, en;q=0.8", "SK"),
            ("sk-SK,sk;q=0.9,en-US;q=0.8", "SK"),
            ("en;q=0.8, sk-SK", "SK"),
            ("en-US;q=0.5, de-AT;q=0.7", "AT"),
            ("sk, en-US;q=0.8", "nothing"),
            ("en-US;q=0, sk-SK;q=0.1", "SK"),
            ("*", "nothing"),
            ("", "nothing"),
            (" ", "nothing"),
            (",", "nothing"),
            ("en-US;q=high", "not understood"),
            ("en-US;q=2", "not understood"),
            ("English (US)", "not understood"),
            ("sk-", "not understood"),
            ("x-private", "nothing"),
            ("en-u-ca-buddhist", "nothing"),
            ("Slovenčina", "not understood"),
            ("slovak", "nothing"),
            ("+421", "not understood"),
        ] {
            assert_eq!(shown(of_language(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn values_of_one_attribute_must_agree() {
        let (sk, cz) = (of_country("SK"), of_country("CZ"));
        assert_eq!(sk.and(of_country("Slovakia")), sk);
        assert_eq!(sk.and(CountryReading::Nothing), sk);
        assert_eq!(CountryReading::Nothing.and(sk), sk);
        assert_eq!(sk.and(cz), CountryReading::NotUnderstood);
        assert_eq!(
            sk.and(CountryReading::NotUnderstood),
            CountryReading::NotUnderstood
        );
    }

    #[test]
    fn no_name_is_two_countries() {
        let mut seen: HashMap<String, &str> = HashMap::new();
        for (code, others) in rows() {
            for name in std::iter::once(code).chain(others) {
                let before = seen.insert(plain(name), code);
                assert!(
                    before.is_none_or(|b| b == code),
                    "{name} is {code} and {before:?}"
                );
            }
        }
        assert!(seen.len() > 900, "the table is there: {}", seen.len());
    }
}
