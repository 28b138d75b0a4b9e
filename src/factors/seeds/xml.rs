//! The text of a file, and its tree: elements are found by their local names in the namespaces that PSKC files use.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use roxmltree::{Document, Node, ParsingOptions};
use zeroize::Zeroizing;

use super::guard::{NODES, guard};

/// Namespaces of PSKC and of its drafts.
pub(super) const PSKC: [&str; 5] = [
    "urn:ietf:params:xml:ns:keyprov:pskc",
    "urn:ietf:params:xml:ns:keyprov:pskc:1.0",
    "urn:ietf:params:xml:ns:keyprov:container",
    "urn:ietf:params:xml:ns:keyprov:container:1.0",
    "http://www.openauthentication.org/OATH/2006/08/PSKC",
];

/// Namespaces that it borrows from.
const BORROWED: [&str; 5] = [
    "http://www.w3.org/2001/04/xmlenc#",
    "http://www.w3.org/2009/xmlenc11#",
    "http://www.w3.org/2000/09/xmldsig#",
    "http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#",
    "http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5#",
];

/// Bytes as text with `\n` at the end of lines: UTF-8, UTF-16 with a mark, or Latin-1 where the file says so.
///
/// # Errors
/// The encoding is another.
pub(super) fn text(bytes: &[u8]) -> Result<Zeroizing<String>, String> {
    // Never longer than this, so that no copy is left behind where it grows.
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2 + 4));
    let mut last = '\0';
    let mut add = |c: char| {
        match (last, c) {
            ('\r', '\n') => {}
            (_, '\r') => text.push('\n'),
            _ => text.push(c),
        }
        last = c;
    };
    if let [0xff, 0xfe, rest @ ..] | [0xfe, 0xff, rest @ ..] = bytes {
        let little = bytes[0] == 0xff;
        let units = rest.chunks(2).map(|pair| match *pair {
            [a, b] if little => u16::from_le_bytes([a, b]),
            [a, b] => u16::from_be_bytes([a, b]),
            _ => 0xd800,
        });
        for c in char::decode_utf16(units) {
            add(c.map_err(|_| "it begins like UTF-16, and is none".to_owned())?);
        }
        return Ok(text);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(utf8) => utf8.chars().for_each(add),
        Err(_) if says_latin(bytes) => bytes.iter().for_each(|b| add(char::from(*b))),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = before.split(|b| *b == b'\n').count();
            return Err(format!(
                "line {line}: it is neither UTF-8 nor UTF-16: save it as UTF-8"
            ));
        }
    }
    Ok(text)
}

fn says_latin(bytes: &[u8]) -> bool {
    let head = bytes.get(..bytes.len().min(200)).unwrap_or_default();
    let head = String::from_utf8_lossy(head).to_lowercase();
    let declaration = head.split("?>").next().unwrap_or_default();
    declaration.starts_with("<?xml")
        && ["iso-8859-1", "iso-8859-15", "windows-1252", "latin1"]
            .iter()
            .any(|name| declaration.contains(name))
}

/// A document whose lines are known.
pub(super) struct Xml<'i> {
    pub(super) document: Document<'i>,
    lines: Vec<usize>,
}

impl<'i> Xml<'i> {
    /// Parses a text.
    ///
    /// # Errors
    /// What is no XML in it, with its line.
    pub(super) fn parse(text: &'i str) -> Result<Self, String> {
        guard(text)?;
        let options = ParsingOptions {
            allow_dtd: false,
            nodes_limit: u32::try_from(NODES).unwrap_or(u32::MAX),
            ..ParsingOptions::default()
        };
        let document = Document::parse_with_options(text, options).map_err(|error| {
            // The parser's own words may quote what it read.
            let at = error.pos();
            format!(
                "line {}: it begins like XML, and is none from column {} on: is the file whole?",
                at.row, at.col
            )
        })?;
        let ends = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        Ok(Self {
            document,
            lines: ends.map(|(at, _)| at).collect(),
        })
    }

    /// The line in which an element begins.
    pub(super) fn line(&self, node: Node<'_, '_>) -> u32 {
        let at = node.range().start;
        u32::try_from(self.lines.partition_point(|end| *end < at) + 1).unwrap_or(u32::MAX)
    }
}

/// Whether an element is of a namespace that is read.
pub(super) fn known(node: Node<'_, '_>) -> bool {
    node.tag_name()
        .namespace()
        .is_none_or(|ns| ns.is_empty() || PSKC.contains(&ns) || BORROWED.contains(&ns))
}

/// The elements of these names within an element.
pub(super) fn children<'a, 'i: 'a>(
    node: Node<'a, 'i>,
    names: &'a [&'a str],
) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children()
        .filter(|child| child.is_element() && names.contains(&child.tag_name().name()))
        .filter(|child| known(*child))
}

/// The first element of one of these names.
pub(super) fn child<'a, 'i: 'a>(node: Node<'a, 'i>, names: &[&str]) -> Option<Node<'a, 'i>> {
    node.children().find(|child| {
        child.is_element() && names.contains(&child.tag_name().name()) && known(*child)
    })
}

/// The first of these attributes that is there and is not empty.
pub(super) fn attribute<'a>(node: Node<'a, '_>, names: &[&str]) -> Option<&'a str> {
    let values = names.iter().filter_map(|name| node.attribute(*name));
    values.map(str::trim).find(|value| !value.is_empty())
}

/// The text of an element, comments left out, without space around it. `None`: there is none.
pub(super) fn value(node: Node<'_, '_>) -> Option<Zeroizing<String>> {
    let parts = || node.children().filter(Node::is_text);
    let length = parts()
        .map(|part| part.text().unwrap_or_default().len())
        .sum();
    let mut text = Zeroizing::new(String::with_capacity(length));
    for part in parts() {
        text.push_str(part.text().unwrap_or_default());
    }
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return None;
    }
    Some(Zeroizing::new(trimmed.to_owned()))
}

/// The text of the first element of one of these names.
pub(super) fn text_of(node: Node<'_, '_>, names: &[&str]) -> Option<String> {
    Some(value(child(node, names)?)?.to_string())
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes from base64; white space within is nothing.
pub(super) fn base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut kept = Zeroizing::new(Vec::with_capacity(text.len()));
    kept.extend(text.iter().filter(|b| !b.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(vec![0; kept.len()]);
    let length = BASE64.decode_slice(&*kept, &mut bytes).ok()?;
    bytes.truncate(length);
    (!bytes.is_empty()).then_some(bytes)
}

/// The bytes of the first element of one of these names. `None`: there is no such element.
///
/// # Errors
/// It is no base64.
pub(super) fn bytes_of(
    node: Node<'_, '_>,
    names: &[&str],
) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    let Some(element) = child(node, names) else {
        return Ok(None);
    };
    let bytes = value(element).and_then(|text| base64(text.as_bytes()));
    bytes
        .map(Some)
        .ok_or_else(|| format!("`{}` is no base64", element.tag_name().name()))
}
