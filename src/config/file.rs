//! The file's tables, read key by key with their places; what is found wrong is gathered.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{FILE, Key, Shape};
use super::words::{join, label};
use Shape::{Table, Tables};

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

    /// How many were gathered so far.
    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    pub(super) fn into_inner(self) -> Vec<Finding> {
        self.0.into_inner()
    }
}

/// Keys that an unknown key was probably meant to be, by the address of their table: they are not missing as well.
pub(super) type Meant = Vec<(usize, &'static str)>;

/// One table of the file with the keys it may have. A table that is not there has no values.
#[derive(Clone)]
pub(super) struct Section<'a> {
    /// As the file writes it: `realm.directory`; empty at the top.
    path: String,
    keys: &'static [Key],
    table: Option<&'a DeTable<'a>>,
    meant: &'a [(usize, &'static str)],
    /// Where its header is, or its parent's if it is not there.
    span: (usize, usize),
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn document(table: &'a DeTable<'a>, meant: &'a Meant) -> Self {
        Self {
            path: String::new(),
            keys: FILE,
            table: Some(table),
            meant,
            span: (0, 0),
        }
    }

    /// The table as messages write it: ``in `[realm.directory]` ``.
    pub(super) fn label(&self) -> String {
        label(&self.path)
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
            meant: self.meant,
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
                meant: self.meant,
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

    /// Whether the key is there, whatever its value, or was meant to be.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.raw(name).is_some()
            || self
                .table
                .is_some_and(|t| self.meant.contains(&(address(t), name)))
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

pub(super) fn address(table: &DeTable<'_>) -> usize {
    std::ptr::from_ref(table).addr()
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
