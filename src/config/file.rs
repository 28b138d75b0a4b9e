//! The file's shape: every key that there is, and a walk that finds all that does not fit it at once.
//!
//! The document is read into toml's spanned tree and not into serde's structures, which end at their first error.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::mask;

/// What a key's value must look like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// A string.
    Text,
    /// A string that no excerpt shows.
    Secret,
    /// A string with a number and a unit.
    Duration,
    /// A string with a number and `%`.
    Percent,
    /// Strings, or a single one.
    Texts,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// `[table]`.
    Table(&'static [Key]),
    /// `[[table]]`, any number of them.
    Tables(&'static [Key]),
}

/// A key that the file may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
}

const fn key(name: &'static str, shape: Shape) -> Key {
    Key { name, shape }
}

use Shape::{Boolean, Duration, Integer, Percent, Table, Tables, Text, Texts};

const DELIVERY: &[Key] = &[
    key("kind", Text),
    key("url", Text),
    key("secret", Shape::Secret),
    key("secret-file", Text),
    key("secret-credential", Text),
    key("secret-env", Text),
    key("previous-secret", Shape::Secret),
    key("previous-secret-file", Text),
    key("previous-secret-credential", Text),
    key("previous-secret-env", Text),
    key("ca-file", Text),
    key("proxy", Text),
    key("insecure-plaintext", Boolean),
    key("timeout", Duration),
    key("concurrency", Integer),
    key("retry-for", Duration),
];

/// Every key of the file; `docs/configuration.md` explains each.
pub(super) const FILE: &[Key] = &[
    key("version", Integer),
    key(
        "store",
        Table(&[
            key("url", Text),
            key("password", Shape::Secret),
            key("password-file", Text),
            key("password-credential", Text),
            key("password-env", Text),
            key("keep-runs", Duration),
        ]),
    ),
    key(
        "http",
        Table(&[
            key("listen", Text),
            key("public-url", Text),
            key("tls-cert", Text),
            key("tls-key", Text),
            key("behind-proxy", Boolean),
        ]),
    ),
    key("control", Table(&[key("socket", Text)])),
    key(
        "enrolment",
        Table(&[
            key("valid", Duration),
            key("self-enrolment", Boolean),
            key("key", Shape::Secret),
            key("key-file", Text),
            key("key-credential", Text),
            key("key-env", Text),
        ]),
    ),
    key("delivery", Table(DELIVERY)),
    key("log", Table(&[key("format", Text), key("level", Text)])),
    key(
        "realm",
        Tables(&[
            key("id", Text),
            key("name", Text),
            key("schedule", Text),
            key("full-schedule", Text),
            key("time-zone", Text),
            key("two-factor", Texts),
            key("new-users", Text),
            key("on-phone-change", Text),
            key("revoke", Text),
            key("phone-authority", Text),
            key("approve", Boolean),
            key(
                "directory",
                Table(&[
                    key("kind", Text),
                    key("servers", Texts),
                    key("start-tls", Boolean),
                    key("ca-file", Text),
                    key("client-cert", Text),
                    key("client-key", Text),
                    key("insecure-plaintext", Boolean),
                    key("bind-dn", Text),
                    key("bind-password", Shape::Secret),
                    key("bind-password-file", Text),
                    key("bind-password-credential", Text),
                    key("bind-password-env", Text),
                    key("base", Texts),
                    key("filter", Text),
                    key("page-size", Integer),
                    key("changes", Text),
                    key("poll", Duration),
                    key("connect-timeout", Duration),
                    key("run-timeout", Duration),
                    key("sentinel", Text),
                ]),
            ),
            key(
                "attributes",
                Table(&[
                    key("username", Texts),
                    key("display-name", Texts),
                    key("email", Texts),
                    key("phone", Texts),
                    key("country", Texts),
                    key("directory-id", Text),
                    key(
                        "disabled",
                        Table(&[key("attribute", Text), key("equals", Text)]),
                    ),
                ]),
            ),
            key(
                "phone",
                Table(&[
                    key("region", Text),
                    key("mobile-only", Boolean),
                    key("allow-premium", Boolean),
                ]),
            ),
            key(
                "phone-change",
                Table(&[key("hold", Duration), key("notify-previous", Boolean)]),
            ),
            key("removal", Table(&[key("grace", Duration)])),
            key(
                "brake",
                Table(&[
                    key("suspended", Percent),
                    key("restored", Percent),
                    key("phone-changed", Percent),
                    key("phone-lost", Percent),
                    key("renamed", Percent),
                    key("created", Percent),
                    key("removed", Percent),
                    key("floor", Integer),
                ]),
            ),
            key("delivery", Table(DELIVERY)),
        ]),
    ),
];

/// A fault before it is known how the file looks: place, words, help.
pub(super) struct Finding {
    pub(super) warning: bool,
    pub(super) at: Option<Range<usize>>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// Where faults are gathered.
#[derive(Default)]
pub(super) struct Findings(RefCell<Vec<Finding>>);

impl Findings {
    pub(super) fn fault(
        &self,
        at: Range<usize>,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        self.add(false, Some(at), message.into(), help.into());
    }

    pub(super) fn warning(
        &self,
        at: Range<usize>,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        self.add(true, Some(at), message.into(), help.into());
    }

    pub(super) fn add(
        &self,
        warning: bool,
        at: Option<Range<usize>>,
        message: String,
        help: Option<String>,
    ) {
        self.0.borrow_mut().push(Finding {
            warning,
            at,
            message,
            help,
        });
    }

    pub(super) fn into_inner(self) -> Vec<Finding> {
        self.0.into_inner()
    }
}

/// One table of the file with the keys it may have. A table that is not there has no values.
#[derive(Clone)]
pub(super) struct Section<'a> {
    /// As the file writes it: `realm.directory`; empty at the top.
    path: String,
    keys: &'static [Key],
    table: Option<&'a DeTable<'a>>,
    /// Where its header is, or its parent's if it is not there.
    span: (usize, usize),
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn document(table: &'a DeTable<'a>) -> Self {
        Self {
            path: String::new(),
            keys: FILE,
            table: Some(table),
            span: (0, 0),
        }
    }

    /// The table as messages write it: `[realm.directory]`.
    pub(super) fn label(&self) -> String {
        if self.path.is_empty() {
            "the file".into()
        } else {
            format!("`[{}]`", self.path)
        }
    }

    /// Whether the file has this table.
    pub(super) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// The table's header.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.0..self.span.1
    }

    /// A table in this one.
    pub(super) fn section(&self, name: &'static str) -> Section<'a> {
        let Some(Key {
            name,
            shape: Table(keys),
        }) = self.key(name)
        else {
            return Section {
                table: None,
                keys: &[],
                ..self.clone()
            };
        };
        let table = self.raw(name).and_then(|v| v.get_ref().as_table());
        let span = if table.is_some() {
            self.key_span(name).map_or(self.span, |s| (s.start, s.end))
        } else {
            self.span
        };
        Section {
            path: join(&self.path, name),
            keys,
            table,
            span,
        }
    }

    /// The tables of an array of tables; a lone table counts as one, its fault being told by the walk.
    pub(super) fn sections(&self, name: &'static str) -> Vec<Section<'a>> {
        let Some(Key {
            name,
            shape: Tables(keys),
        }) = self.key(name)
        else {
            return Vec::new();
        };
        let make = |value: &'a Spanned<DeValue<'a>>| {
            value.get_ref().as_table().map(|table| Section {
                path: join(&self.path, name),
                keys,
                table: Some(table),
                span: header(value, table),
            })
        };
        match self.raw(name) {
            Some(value) => match value.get_ref() {
                DeValue::Array(list) => list.iter().filter_map(make).collect(),
                _ => make(value).into_iter().collect(),
            },
            None => Vec::new(),
        }
    }

    /// Whether the key is there, whatever its value.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.raw(name).is_some()
    }

    /// Where the key is, without its value.
    pub(super) fn key_span(&self, name: &'static str) -> Option<Range<usize>> {
        self.table?.get_key_value(name).map(|(k, _)| k.span())
    }

    /// A string.
    pub(super) fn text(&self, name: &'static str) -> Option<Spanned<&'a str>> {
        let value = self.raw(name)?;
        value
            .get_ref()
            .as_str()
            .map(|text| Spanned::new(value.span(), text))
    }

    /// Strings, or a single one.
    pub(super) fn texts(&self, name: &'static str) -> Option<Vec<Spanned<&'a str>>> {
        let value = self.raw(name)?;
        match value.get_ref() {
            DeValue::Array(list) => Some(
                list.iter()
                    .filter_map(|v| v.get_ref().as_str().map(|t| Spanned::new(v.span(), t)))
                    .collect(),
            ),
            other => other
                .as_str()
                .map(|text| vec![Spanned::new(value.span(), text)]),
        }
    }

    /// A whole number.
    pub(super) fn integer(&self, name: &'static str) -> Option<Spanned<i64>> {
        let value = self.raw(name)?;
        let number = value.get_ref().as_integer()?;
        i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(|n| Spanned::new(value.span(), n))
    }

    /// `true` or `false`; false where it is not there.
    pub(super) fn boolean(&self, name: &'static str) -> bool {
        self.raw(name)
            .and_then(|v| v.get_ref().as_bool())
            .unwrap_or(false)
    }

    /// The value's place, or the key's table's.
    pub(super) fn value_span(&self, name: &'static str) -> Range<usize> {
        self.raw(name).map_or(self.span(), Spanned::span)
    }

    fn key(&self, name: &'static str) -> Option<&'static Key> {
        let known = self.keys.iter().find(|k| k.name == name);
        debug_assert!(
            known.is_some() || self.keys.is_empty(),
            "`{name}` is no key of `{}`",
            self.path
        );
        known
    }

    fn raw(&self, name: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.key(name)?;
        self.table?.get(name)
    }
}

/// Where a table of an array begins: the document's tree has its header's span, an inline one its own.
fn header(value: &Spanned<DeValue<'_>>, table: &DeTable<'_>) -> (usize, usize) {
    let span = value.span();
    let first = table
        .iter()
        .map(|(k, _)| k.span().start)
        .min()
        .unwrap_or(span.end);
    (span.start, span.end.min(first.max(span.start)))
}

/// Finds every unknown key and every value of a wrong type; says where secrets are.
pub(super) fn walk(document: &DeTable<'_>, source: &str, findings: &Findings) -> Vec<Range<usize>> {
    let mut walker = Walker {
        findings,
        source,
        secrets: Vec::new(),
    };
    walker.table(document, FILE, "");
    document.values().for_each(|v| walker.hide_urls(v));
    walker.secrets
}

struct Walker<'a> {
    findings: &'a Findings,
    source: &'a str,
    secrets: Vec<Range<usize>>,
}

impl Walker<'_> {
    fn table(&mut self, table: &DeTable<'_>, keys: &'static [Key], path: &str) {
        for (name, value) in table {
            let known = keys.iter().find(|k| k.name == name.get_ref());
            let secret = known.map_or_else(
                || mask::is_secret_key(name.get_ref()),
                |k| matches!(k.shape, Shape::Secret),
            );
            if secret {
                self.hide(value);
            }
            match known {
                Some(key) => self.value(value, key, name, path),
                None => self.unknown(name, value, keys, path),
            }
        }
    }

    fn value(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        key: &'static Key,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        path: &str,
    ) {
        let inner = join(path, key.name);
        match (key.shape, value.get_ref()) {
            (Text | Shape::Secret | Duration | Percent | Texts, DeValue::String(_))
            | (Boolean, DeValue::Boolean(_)) => {}
            (Integer, DeValue::Integer(number)) => {
                if i64::from_str_radix(number.as_str(), number.radix()).is_err() {
                    self.findings
                        .fault(value.span(), "the number is too large", None);
                }
            }
            (Texts, DeValue::Array(list)) => self.texts(list),
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
            Text | Shape::Secret => (
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
            Texts => ("a string or a list of strings".to_string(), None),
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
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        keys: &'static [Key],
        path: &str,
    ) {
        self.hide_within(value);
        let word: &str = name.get_ref();
        let place = if path.is_empty() {
            "the top of the file".to_owned()
        } else {
            format!("`[{path}]`")
        };
        let help = nearest(word, keys.iter().map(|k| k.name)).map_or_else(
            || {
                elsewhere(word, FILE, "").map_or_else(
                    || format!("the keys of {place} are {}", list(keys)),
                    |section| format!("`{word}` belongs to `[{section}]`"),
                )
            },
            |known| format!("did you mean `{known}`?"),
        );
        self.findings.fault(
            name.span(),
            format!("unknown key `{}` in {place}", quote(word)),
            Some(help),
        );
    }

    /// Secrets in a table that nobody knows are secrets all the same.
    fn hide_within(&mut self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => {
                for (name, value) in table {
                    if mask::is_secret_key(name.get_ref()) {
                        self.hide(value);
                    }
                    self.hide_within(value);
                }
            }
            DeValue::Array(list) => list.iter().for_each(|v| self.hide_within(v)),
            _ => {}
        }
    }

    /// URLs are found in the file's text; one that is written with escapes or over several lines is not, and is hidden whole.
    fn hide_urls(&mut self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => table.values().for_each(|v| self.hide_urls(v)),
            DeValue::Array(list) => list.iter().for_each(|v| self.hide_urls(v)),
            DeValue::String(text) => {
                let plain = self
                    .source
                    .get(value.span())
                    .is_some_and(|raw| raw.get(1..raw.len().saturating_sub(1)) == Some(text));
                if !plain && !mask::in_urls(text).is_empty() {
                    self.secrets.push(value.span());
                }
            }
            _ => {}
        }
    }

    fn hide(&mut self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => table.values().for_each(|v| self.hide(v)),
            DeValue::Array(list) => list.iter().for_each(|v| self.hide(v)),
            _ => self.secrets.push(value.span()),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
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

/// A value in a message: on one line, and not endless.
pub(super) fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown.replace("\\\"", "\"").replace("\\'", "'")
}

/// The known word that was probably meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nothing longer is a slip of the pen, and comparing costs the product of the lengths.
    if word.len() > 100 {
        return None;
    }
    let fold = |w: &str| w.to_lowercase().replace(['_', ' '], "-");
    let word = fold(word);
    let likeness = |k: &str| {
        let k = fold(k);
        strsim::normalized_damerau_levenshtein(&word, &k).max(
            if word.len() >= 4 && (k.starts_with(&word) || word.starts_with(&k) && k.len() >= 4) {
                0.7
            } else {
                0.0
            },
        )
    };
    known
        .into_iter()
        .map(|k| (likeness(k), k))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
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
