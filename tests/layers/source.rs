//! Rust source as words: enough to see who imports whom.

use std::path::{Path, PathBuf};

/// All `.rs` files below `folder`.
pub(crate) fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|e| e.path()) {
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Words, `::` and single other characters, each with its line.
pub(crate) fn words(code: &str) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    for (line, text) in code.lines().enumerate() {
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            found.push((&rest[..length], line + 1));
            rest = rest[length..].trim_start();
        }
    }
    found
}

/// The source without comments, strings and characters; line breaks stay.
pub(crate) fn without_text(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut code = String::with_capacity(source.len());
    let mut i = 0;
    while i < chars.len() {
        let start = i;
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut nested = 0;
                while i < chars.len() {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (nested, i) = (nested + 1, i + 2),
                        ('*', '/') => (nested, i) = (nested - 1, i + 2),
                        _ => i += 1,
                    }
                    if nested == 0 {
                        break;
                    }
                }
            }
            'r' if !word_before(&code) && raw_string(&chars[i + 1..]).is_some() => {
                i += 1 + raw_string(&chars[i + 1..]).unwrap_or(0);
            }
            '"' => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            // A character, not a lifetime: it closes at once, or after an escape.
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            c => {
                code.push(c);
                i += 1;
                continue;
            }
        }
        code.push(' ');
        code.extend(
            chars[start..i.min(chars.len())]
                .iter()
                .filter(|c| **c == '\n'),
        );
    }
    code
}

fn word_before(code: &str) -> bool {
    // `br"…"` is a string as well.
    let last = code.trim_end_matches('b').chars().next_back();
    last.is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// The length of `#"…"#` at the start of `chars`, after its `r`.
fn raw_string(chars: &[char]) -> Option<usize> {
    let hashes = chars.iter().take_while(|c| **c == '#').count();
    if chars.get(hashes) != Some(&'"') {
        return None;
    }
    let mut i = hashes + 1;
    while i < chars.len() {
        if chars[i] == '"'
            && chars[i + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes
        {
            return Some(i + 1 + hashes);
        }
        i += 1;
    }
    Some(chars.len())
}

/// Blanks every item under `#[cfg(test)]`, be it a module, a function or an import; line breaks stay.
pub(crate) fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        let mut nested = 0;
        let end = item.char_indices().find_map(|(i, c)| match c {
            '{' => {
                nested += 1;
                None
            }
            '}' => {
                nested -= 1;
                (nested == 0).then_some(i + 1)
            }
            ';' if nested == 0 => Some(i + 1),
            _ => None,
        });
        let end = end.unwrap_or(item.len());
        kept.extend(item[..end].chars().filter(|c| *c == '\n'));
        rest = &item[end..];
    }
    kept.push_str(rest);
    kept
}
