//! What of a value may be shown. A value that cannot be taken apart may be a secret in the wrong place, so it is hidden whole.

use std::ops::Range;
use std::path::Path;

use url::Url;

use super::mask::{DOTS, Masked, is_secret_key};

/// Parameters of a database's URL whose values are no secrets.
const HARMLESS: [&str; 8] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "port",
    "dbname",
    "application_name",
];

/// The parts of a URL that are hidden: password, query and fragment, and a user name that may be a token. `None`: it is no URL, and is
/// hidden whole.
pub(super) fn in_url(text: &str) -> Option<Vec<Range<usize>>> {
    if let Some(rest) = text.strip_prefix("sqlite:") {
        let path = rest.split(['?', '#']).next().unwrap_or(rest);
        let end = text.len() - rest.len() + path.len();
        let hidden = (end < text.len()).then(|| end + 1..text.len());
        return has_only(path, "/._- ").then(|| hidden.into_iter().collect());
    }
    let (scheme, rest) = text.split_once("://")?;
    let odd = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, ';' | '\\' | '"' | '\'' | '<' | '>')
    };
    let known = scheme.len() <= 12 && scheme.bytes().all(|b| b.is_ascii_lowercase());
    if !known || rest.contains(odd) || Url::parse(text).is_err() {
        return None;
    }
    let database = matches!(scheme, "postgres" | "postgresql");
    let start = scheme.len() + 3;
    let mut hidden = Vec::new();
    let mut end_of_user = start;
    // A password may hold an `@`, a `/` or a `?` that should have been written as `%40`, `%2F` or `%3F`.
    if let Some(at) = text.rfind('@').filter(|at| *at >= start) {
        match text[start..at].find(':') {
            Some(colon) => hidden.push(start + colon + 1..at),
            None if database && has_only(&text[start..at], "._-%") => {}
            None => hidden.push(start..at),
        }
        end_of_user = at;
    }
    let Some(query) = text[end_of_user..]
        .find(['?', '#'])
        .map(|i| end_of_user + i)
    else {
        return Some(hidden);
    };
    if !database || text[query..].contains('#') {
        hidden.push(query + 1..text.len());
        return Some(hidden);
    }
    let mut at = query + 1;
    for part in text[query + 1..].split('&') {
        match part.split_once('=') {
            Some((name, value)) if HARMLESS.contains(&name) && has_only(value, "/._-%") => {}
            Some((name, _)) if parameter(name) => {
                hidden.push(at + name.len() + 1..at + part.len());
            }
            _ => hidden.push(at..at + part.len()),
        }
        at += part.len() + 1;
    }
    Some(hidden)
}

/// A URL as messages show it.
pub(super) fn url(text: &str) -> String {
    match in_url(text) {
        Some(hidden) => Masked::new(text, hidden).text,
        None => DOTS.to_owned(),
    }
}

/// Whether a word looks like the name of a parameter, so that a message may quote it.
pub(super) fn parameter(name: &str) -> bool {
    (1..=30).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'-'))
}

/// Whether a text is the path of a file, and not a secret that was written in its place: a secret in base64 may begin with `/` too.
pub(super) fn is_path(text: &str) -> bool {
    let Some((first, rest)) = text.strip_prefix('/').and_then(|t| t.split_once('/')) else {
        return false;
    };
    let folder = (2..=16).contains(&first.len())
        && first
            .bytes()
            .all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_' | b'.'));
    (folder || is_there(first)) && !rest.is_empty() && !text.contains(char::is_control)
}

/// Whether the root has such a folder on this machine.
fn is_there(folder: &str) -> bool {
    folder.len() >= 2 && Path::new("/").join(folder).is_dir()
}

/// A path as messages show it.
pub(super) fn path(path: &Path) -> String {
    let text = path.display().to_string();
    if is_path(&text) {
        text
    } else {
        DOTS.to_owned()
    }
}

/// Whether a text is the name of a credential or a variable, and not the secret itself: several words, of which one says what it is,
/// and none that is as mixed as what a machine makes up.
pub(super) fn is_name(text: &str) -> bool {
    let words: Vec<&str> = text.split(['-', '_', '.']).collect();
    let plain = |w: &&str| {
        let letters = w.bytes().take_while(u8::is_ascii_alphabetic).count();
        let upper = w.bytes().filter(u8::is_ascii_uppercase).count();
        w.len() <= 20
            && w.len() - letters <= 3
            && w[letters..].bytes().all(|b| b.is_ascii_digit())
            && (upper == 0 || upper == letters)
    };
    let says = |w: &&str| {
        matches!(
            w.to_ascii_lowercase().as_str(),
            "bind"
                | "key"
                | "ldap"
                | "ad"
                | "webhook"
                | "hook"
                | "store"
                | "db"
                | "database"
                | "realmsync"
        ) || is_secret_key(w)
    };
    let variable = words.len() > 1 && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    text.len() <= 64
        && words.iter().all(plain)
        && (variable || words.iter().any(says))
        && !text.starts_with("whsec")
}

/// A credential's or variable's name as messages show it.
pub(super) fn name(text: &str) -> &str {
    if is_name(text) { text } else { DOTS }
}

/// Letters and digits of any language, and a few more characters.
fn has_only(text: &str, more: &str) -> bool {
    text.chars()
        .all(|c| c.is_alphanumeric() || more.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_only_what_is_surely_no_secret_is_shown() {
        for (text, wanted) in [
            (
                "postgres://me@db.example.org/x",
                "postgres://me@db.example.org/x",
            ),
            (
                "postgres://me:hunter2@db/x?sslmode=require",
                "postgres://me:•••@db/x?sslmode=require",
            ),
            ("postgres://me:hun/te@r2@db/x", "•••"),
            (
                "postgres://me@db/x?password=hunter2&sslmod=off",
                "postgres://me@db/x?password=•••&sslmod=•••",
            ),
            ("postgres://me@db/x?hunter2", "postgres://me@db/x?•••"),
            (
                "https://hunter2@hooks.example.org/x",
                "https://•••@hooks.example.org/x",
            ),
            (
                "https://hooks.example.org/x?token=hunter2#a",
                "https://hooks.example.org/x?•••",
            ),
            (
                "https://hooks.example.org/x#hunter2",
                "https://hooks.example.org/x#•••",
            ),
            (
                "sqlite:/var/lib/realmsync/realmsync.db",
                "sqlite:/var/lib/realmsync/realmsync.db",
            ),
            ("sqlite:/x?key=hunter2", "sqlite:/x?•••"),
            ("sqlite:Password=hunter2", "•••"),
            ("host=db password=hunter2", "•••"),
            ("Server=db;Password=hunter2;", "•••"),
            ("postgres//me:hunter2@db/x", "•••"),
            ("postgres:/me:hunter2@db/x", "•••"),
            ("postgres://me:hunter2", "•••"),
            ("jdbc:postgresql://db/x?password=hunter2", "•••"),
            ("me:hunter2@db:5432/x", "•••"),
            ("https//hooks.example.org/x?token=hunter2", "•••"),
        ] {
            assert_eq!(url(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_path_or_a_name_is_told_from_a_secret_in_its_place() {
        for path in [
            "/etc/realmsync/bind",
            "/run/credentials/x/y",
            "/nowhere/secret",
        ] {
            assert!(is_path(path), "{path}");
        }
        for secret in [
            "whsec_abc",
            "/hunter2",
            "/9j/4AAQSkZJRg==",
            "/K7gNU3sdo/OL0wNhqoVWhr3g6s1xYv72ol",
            "secret",
            "",
        ] {
            assert!(!is_path(secret), "{secret}");
        }
        for name in [
            "example-bind",
            "webhook-secret-before",
            "store-password",
            "BIND_PASSWORD",
            "X_TOKEN2",
            "corp.key",
        ] {
            assert!(is_name(name), "{name}");
        }
        for secret in [
            "hunter2",
            "Tr0ub4dor-canary",
            "correct-horse-battery-staple",
            "whsec_key",
            "secret-K7gNU3sdoOL0",
            "JBSWY3DPEHPK3PXP",
            "",
        ] {
            assert!(!is_name(secret), "{secret}");
        }
    }
}
