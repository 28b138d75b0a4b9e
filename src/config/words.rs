//! Words of messages: what is quoted, and what was probably meant.

/// A table as messages write it.
pub(super) fn label(path: &str) -> String {
    match path {
        "" => "at the top of the file".into(),
        "realm" => "in `[[realm]]`".into(),
        _ => format!("in `[{path}]`"),
    }
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
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
    // Of equals the first: lists begin with what is meant most.
    let mut best: Option<(f64, &str)> = None;
    for k in known {
        let likeness = likeness(k);
        if likeness >= 0.6 && best.is_none_or(|(l, _)| likeness > l) {
            best = Some((likeness, k));
        }
    }
    best.map(|(_, k)| k)
}
