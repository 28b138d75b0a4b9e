//! What is looked at before a parser sees the text: the parser's cost must be bounded by the text's length, whoever wrote it.

/// Elements within elements.
const DEEPEST: usize = 32;
/// Attributes of one element. The parser compares each with each.
const ATTRIBUTES: usize = 32;
/// Declared prefixes that hold at one place. The parser copies them from element to element.
const PREFIXES: usize = 64;
/// The longest text between two tags, in bytes.
const TEXT: usize = 16 * 1024;
/// Elements, texts and comments.
pub(super) const NODES: usize = 1_500_000;

/// Sees that a document is one that may be parsed: no document type, and nothing too deep, too wide, too long or too much.
///
/// # Errors
/// What there is too much of, with its line.
pub(super) fn guard(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut nodes = 0;
    // The prefixes that each open element declares.
    let mut open: Vec<usize> = vec![];
    let mut prefixes = 0;
    while let Some(next) = find(bytes, at, b"<") {
        let line = || text[..next].matches('\n').count() + 1;
        nodes += 2;
        if nodes > NODES {
            return Err(format!(
                "line {}: more than {NODES} elements and texts: split the file",
                line()
            ));
        }
        if next - at > TEXT {
            return Err(format!("line {}: a text of more than {TEXT} bytes", line()));
        }
        let rest = &bytes[next..];
        let cut = |what: &str| format!("line {}: {what} without an end", line());
        if rest.starts_with(b"<!--") {
            at = find(bytes, next + 4, b"-->").ok_or_else(|| cut("a comment"))? + 3;
        } else if rest.starts_with(b"<![CDATA[") {
            at = find(bytes, next + 9, b"]]>").ok_or_else(|| cut("a CDATA section"))? + 3;
        } else if rest.starts_with(b"<!") {
            return Err(format!(
                "line {}: a document type, which no file of seeds needs",
                line()
            ));
        } else if rest.starts_with(b"<?") {
            at = find(bytes, next + 2, b"?>").ok_or_else(|| cut("an instruction"))? + 2;
        } else {
            let tag = tag(bytes, next + 1).ok_or_else(|| cut("a tag"))?;
            at = tag.end;
            if rest.starts_with(b"</") {
                prefixes -= open.pop().unwrap_or(0);
                continue;
            }
            if tag.attributes > ATTRIBUTES {
                return Err(format!(
                    "line {}: an element with more than {ATTRIBUTES} attributes",
                    line()
                ));
            }
            if prefixes + tag.prefixes > PREFIXES {
                return Err(format!("line {}: more than {PREFIXES} namespaces", line()));
            }
            if !tag.empty {
                open.push(tag.prefixes);
                prefixes += tag.prefixes;
            }
            if open.len() > DEEPEST {
                return Err(format!(
                    "line {}: more than {DEEPEST} elements within each other",
                    line()
                ));
            }
        }
    }
    Ok(())
}

/// A tag: what it has, and where it ends.
struct Tag {
    attributes: usize,
    prefixes: usize,
    empty: bool,
    end: usize,
}

fn tag(bytes: &[u8], from: usize) -> Option<Tag> {
    let (mut attributes, mut prefixes) = (0, 0);
    let mut at = from;
    let mut quote = None;
    loop {
        let byte = *bytes.get(at)?;
        match quote {
            Some(q) if q == byte => quote = None,
            Some(_) => {}
            None => match byte {
                b'"' | b'\'' => quote = Some(byte),
                b'=' => attributes += 1,
                b'x' if bytes[at..].starts_with(b"xmlns")
                    && bytes[at - 1].is_ascii_whitespace() =>
                {
                    prefixes += 1;
                }
                b'>' => {
                    return Some(Tag {
                        attributes,
                        prefixes,
                        empty: bytes[at - 1] == b'/',
                        end: at + 1,
                    });
                }
                _ => {}
            },
        }
        at += 1;
    }
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let first = *what.first()?;
    let mut at = 0;
    while let Some(next) = rest[at..].iter().position(|b| *b == first) {
        at += next;
        if rest[at..].starts_with(what) {
            return Some(from + at);
        }
        at += 1;
    }
    None
}
