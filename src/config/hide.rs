//! Which places of a file hold a secret, or may: by the keys, and where a key or a value is not known, all of it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{FILE, Key, Shape};
use super::{mask, shown};

/// Gathers the places in one document.
pub(super) struct Hider<'a> {
    source: &'a str,
    hidden: Vec<Range<usize>>,
    /// Keys and values: a `#` outside of them begins a comment.
    tokens: Vec<Range<usize>>,
}

impl<'a> Hider<'a> {
    /// All places of a document that no excerpt may show.
    pub(super) fn of(document: &DeTable<'_>, source: &'a str) -> Vec<Range<usize>> {
        let mut hider = Self {
            source,
            hidden: Vec::new(),
            tokens: Vec::new(),
        };
        hider.table(document, FILE);
        hider.comments();
        hider.hidden
    }

    fn table(&mut self, table: &DeTable<'_>, keys: &'static [Key]) {
        for (name, value) in table {
            self.tokens.push(name.span());
            match keys.iter().find(|k| k.name == name.get_ref()) {
                Some(key) => self.value(value, key.shape),
                None => self.whole(value),
            }
        }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, shape: Shape) {
        match (shape, value.get_ref()) {
            (Shape::Table(keys) | Shape::Tables(keys), DeValue::Table(table)) => {
                self.table(table, keys);
            }
            (Shape::Tables(_) | Shape::Texts | Shape::Urls, DeValue::Array(list)) => {
                list.iter().for_each(|v| self.value(v, shape));
            }
            (Shape::Url | Shape::Urls, DeValue::String(text)) => {
                self.text(value.span(), text, shown::in_url(text));
            }
            (Shape::Path, DeValue::String(text)) => {
                let shown = shown::is_path(text).then(Vec::new);
                self.text(value.span(), text, shown);
            }
            (Shape::Name, DeValue::String(text)) => {
                let shown = shown::is_name(text).then(Vec::new);
                self.text(value.span(), text, shown);
            }
            (
                Shape::Text | Shape::Texts | Shape::Duration | Shape::Percent,
                DeValue::String(text),
            ) => {
                let shown = mask::guess(text).is_empty().then(Vec::new);
                self.text(value.span(), text, shown);
            }
            (
                Shape::Text
                | Shape::Texts
                | Shape::Duration
                | Shape::Percent
                | Shape::Integer
                | Shape::Boolean,
                DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_),
            ) => self.tokens.push(value.span()),
            // A whole number or a boolean may be in quotes by mistake.
            (Shape::Integer | Shape::Boolean, DeValue::String(text)) => {
                let shown = (text.len() <= 5).then(Vec::new);
                self.text(value.span(), text, shown);
            }
            (Shape::Text, DeValue::Array(list)) => {
                list.iter().for_each(|v| self.value(v, shape));
            }
            _ => self.whole(value),
        }
    }

    /// Hides parts of a string; `None`: all of it. Where escapes make the parts' places unknown, all of it too.
    fn text(&mut self, span: Range<usize>, text: &str, parts: Option<Vec<Range<usize>>>) {
        let raw = self.source.get(span.clone()).unwrap_or_default();
        let plain = raw.get(1..raw.len().saturating_sub(1)) == Some(text);
        self.tokens.push(span.clone());
        match parts {
            Some(parts) if parts.is_empty() => {}
            Some(parts) if plain => {
                let places = parts
                    .into_iter()
                    .map(|p| span.start + 1 + p.start..span.start + 1 + p.end);
                self.hidden.extend(places);
            }
            _ => self.hidden.push(span),
        }
    }

    fn whole(&mut self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => {
                for (name, value) in table {
                    self.tokens.push(name.span());
                    self.whole(value);
                }
            }
            DeValue::Array(list) => list.iter().for_each(|v| self.whole(v)),
            _ => {
                self.tokens.push(value.span());
                self.hidden.push(value.span());
            }
        }
    }

    /// An old value often lives on behind a `#`.
    fn comments(&mut self) {
        self.tokens.sort_by_key(|t| (t.start, t.end));
        let mut at = 0;
        while let Some(hash) = self.source[at..].find('#').map(|i| at + i) {
            let token = self.tokens.partition_point(|t| t.start <= hash);
            if let Some(around) = token
                .checked_sub(1)
                .map(|t| &self.tokens[t])
                .filter(|t| t.end > hash)
            {
                at = around.end;
                continue;
            }
            let end = self.source[hash..]
                .find('\n')
                .map_or(self.source.len(), |i| hash + i);
            if end > hash + 1 {
                self.hidden.push(hash + 1..end);
            }
            at = end;
        }
    }
}
