//! A walk over the whole document that finds all that does not fit the file's shape at once.
//!
//! The document is read into toml's spanned tree and not into serde's structures, which end at their first error.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::file::{Findings, Meant, address};
use super::hide::Hider;
use super::keys::{FILE, Key, Shape};
use super::words::{join, label, nearest, quote};
use Shape::{
    Boolean, Duration, Integer, Name, Path, Percent, Secret, Table, Tables, Text, Texts, Url, Urls,
};

/// Finds every unknown key and every value of a wrong type; says where secrets are, and what was probably meant.
pub(super) fn walk(
    document: &DeTable<'_>,
    source: &str,
    findings: &Findings,
) -> (Vec<Range<usize>>, Meant) {
    let mut walker = Walker {
        findings,
        meant: Vec::new(),
    };
    walker.table(document, FILE, "");
    (Hider::of(document, source), walker.meant)
}

struct Walker<'a> {
    findings: &'a Findings,
    meant: Meant,
}

impl Walker<'_> {
    fn table(&mut self, table: &DeTable<'_>, keys: &'static [Key], path: &str) {
        for (name, value) in table {
            let known = keys.iter().find(|k| k.name == name.get_ref());
            match known {
                Some(key) => self.value(value, key, name, path),
                None => self.unknown(name, table, keys, path),
            }
        }
    }

    fn value(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        key: &'static Key,
        name: &Spanned<Cow<'_, str>>,
        path: &str,
    ) {
        let inner = join(path, key.name);
        match (key.shape, value.get_ref()) {
            (
                Text | Secret | Url | Path | Name | Duration | Percent | Texts | Urls,
                DeValue::String(_),
            )
            | (Boolean, DeValue::Boolean(_)) => {}
            (Integer, DeValue::Integer(number)) => {
                if i64::from_str_radix(number.as_str(), number.radix()).is_err() {
                    self.findings
                        .fault(value.span(), "the number is too large", None);
                }
            }
            (Texts | Urls, DeValue::Array(list)) => self.texts(list),
            (Table(keys), DeValue::Table(table)) => self.table(table, keys, &inner),
            (Tables(keys), DeValue::Array(list)) => {
                for item in list {
                    match item.get_ref() {
                        DeValue::Table(table) => self.table(table, keys, &inner),
                        other => self.findings.fault(
                            item.span(),
                            format!("expected a table, found {}", a(other)),
                            None,
                        ),
                    }
                }
            }
            (Tables(keys), DeValue::Table(table)) => {
                let message = format!(
                    "`[{inner}]` must be written with double brackets, since there may be several"
                );
                self.findings
                    .fault(name.span(), message, Some(format!("write `[[{inner}]]`")));
                self.table(table, keys, &inner);
            }
            (Table(_), DeValue::Array(_)) => {
                self.findings.fault(
                    name.span(),
                    format!("there is only one `[{inner}]`"),
                    Some(format!("write `[{inner}]`, with single brackets")),
                );
            }
            (shape, other) => self.mistyped(value, shape, other, key, &inner),
        }
    }

    fn texts(&self, list: &DeArray<'_>) {
        for item in list.iter().filter(|i| !i.get_ref().is_str()) {
            self.findings.fault(
                item.span(),
                format!("expected a string, found {}", a(item.get_ref())),
                None,
            );
        }
    }

    fn mistyped(
        &self,
        value: &Spanned<DeValue<'_>>,
        shape: Shape,
        found: &DeValue<'_>,
        key: &Key,
        path: &str,
    ) {
        let number = match found {
            DeValue::Integer(n) if n.radix() == 10 => Some(n.as_str()),
            DeValue::Float(n) => Some(n.as_str()),
            _ => None,
        };
        let (wanted, help) = match shape {
            Text | Secret | Url | Path | Name => (
                "a string".into(),
                number
                    .filter(|_| matches!(shape, Text))
                    .map(|n| format!("write `{} = \"{n}\"`", key.name)),
            ),
            Duration => (
                "a duration such as \"15s\", \"24h\" or \"30d\"".into(),
                number.map(|n| format!("write `{} = \"{n}s\"` if seconds are meant", key.name)),
            ),
            Percent => (
                "a percentage such as \"5%\"".into(),
                number.map(|n| format!("write `{} = \"{n}%\"`", key.name)),
            ),
            Texts | Urls => ("a string or a list of strings".to_string(), None),
            Integer => {
                let digits = found
                    .as_str()
                    .filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()));
                (
                    "a whole number".into(),
                    digits.map(|n| format!("write `{} = {n}`, without quotes", key.name)),
                )
            }
            Boolean => {
                let word = match found.as_str().map(str::to_ascii_lowercase).as_deref() {
                    Some("true" | "yes" | "on" | "1") => Some("true"),
                    Some("false" | "no" | "off" | "0") => Some("false"),
                    _ => None,
                };
                (
                    "`true` or `false`".into(),
                    word.map(|w| format!("write `{} = {w}`, without quotes", key.name)),
                )
            }
            Table(keys) => (
                format!("a table `[{path}]`"),
                Some(format!("its keys are {}", list(keys))),
            ),
            Tables(_) => (format!("tables `[[{path}]]`"), None),
        };
        self.findings.fault(
            value.span(),
            format!("`{}` expects {wanted}, found {}", key.name, a(found)),
            help,
        );
    }

    fn unknown(
        &mut self,
        name: &Spanned<Cow<'_, str>>,
        table: &DeTable<'_>,
        keys: &'static [Key],
        path: &str,
    ) {
        let word: &str = name.get_ref();
        let place = label(path);
        let help = if let Some(known) = nearest(word, keys.iter().map(|k| k.name)) {
            self.meant.push((address(table), known));
            format!("did you mean `{known}`?")
        } else if let Some(section) = elsewhere(word, FILE, "") {
            format!("`{}` belongs {}", quote(word), label(&section))
        } else {
            format!("the keys {place} are {}", list(keys))
        };
        self.findings.fault(
            name.span(),
            format!("unknown key `{}` {place}", quote(word)),
            help,
        );
    }
}

fn list(keys: &[Key]) -> String {
    keys.iter()
        .map(|k| format!("`{}`", k.name))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A value's type with its article.
fn a(value: &DeValue<'_>) -> String {
    let article = if matches!(value, DeValue::Integer(_) | DeValue::Array(_)) {
        "an"
    } else {
        "a"
    };
    format!("{article} {}", value.type_str())
}

/// The section that has a key of just this name.
fn elsewhere(word: &str, keys: &[Key], path: &str) -> Option<String> {
    let folded = word.to_lowercase().replace('_', "-");
    keys.iter().find_map(|k| match k.shape {
        Table(inner) | Tables(inner) => {
            let path = join(path, k.name);
            if inner.iter().any(|i| i.name == folded) {
                Some(path)
            } else {
                elsewhere(word, inner, &path)
            }
        }
        _ => None,
    })
}
