//! Files that nobody would write: what editors do to them, and any text.

use proptest::prelude::*;

use super::*;

/// One accident of an editor: something is cut out, doubled, swapped, or typed in the wrong place.
fn accident(text: &str, kind: u8, a: usize, b: usize, piece: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let lines: Vec<&str> = text.lines().collect();
    let (i, j) = (a % chars.len(), a % chars.len() + b % 12);
    let cut = |from: usize, to: usize, put: &str| -> String {
        chars[..from]
            .iter()
            .chain(&put.chars().collect::<Vec<_>>())
            .chain(&chars[to.min(chars.len())..])
            .collect()
    };
    let line = a % lines.len();
    let edit = |new: Vec<&str>| new.join("\n");
    match kind % 8 {
        0 => cut(i, j, ""),
        1 => cut(i, i, piece),
        2 => cut(i, j, piece),
        3 => edit(
            lines
                .iter()
                .enumerate()
                .filter(|(n, _)| *n != line)
                .map(|(_, l)| *l)
                .collect(),
        ),
        4 => edit(
            lines
                .iter()
                .enumerate()
                .flat_map(|(n, l)| vec![*l; if n == line { 2 } else { 1 }])
                .collect(),
        ),
        5 => {
            let mut new = lines.clone();
            new.swap(line, b % lines.len());
            edit(new)
        }
        6 => edit(lines[..line].to_vec()),
        // A value of another line: mostly of a wrong type or meaning.
        _ => {
            let value = lines[b % lines.len()]
                .split_once('=')
                .map_or(piece, |(_, v)| v);
            let new = lines[line]
                .split_once('=')
                .map_or(lines[line].to_owned(), |(k, _)| format!("{k}={value}"));
            let mut all: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
            all[line] = new;
            all.join("\n")
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_broken_sample_is_refused_or_taken_and_never_leaks(
        sample in 0_usize..5,
        accidents in prop::collection::vec((any::<u8>(), any::<usize>(), any::<usize>(), prop_oneof![
            Just("\""), Just("="), Just("["), Just("]]"), Just("\n"), Just("\"\"\""), Just("{ a = 1 }"), Just("[]"), Just("\\u0000"), Just("é\u{202e}"), Just("-1"), Just("\"\""), Just("#"), Just("'"), Just("99999999999999999999999"), Just("1979-05-27"),
        ]), 1..5),
    ) {
        let text = samples().get(sample).map_or(GOOD.to_owned(), |(_, text)| text.clone());
        let broken = accidents.iter().fold(text, |t, (kind, a, b, piece)| if t.is_empty() { t } else { accident(&t, *kind, *a, *b, piece) });
        for environment in [None, Some(&Environment::default())] {
            match check(&broken, Path::new("realmsync.toml"), true, environment) {
                Ok(loaded) => {
                    for warning in &loaded.warnings {
                        let _text = (warning.render(true), warning.to_string());
                    }
                }
                Err(faults) => {
                    prop_assert!(!faults.faults.is_empty());
                    let text = faults.render(false);
                    for fault in faults.all() {
                        prop_assert!(fault.line().is_none_or(|l| l >= 1 && l <= broken.split('\n').count()));
                    }
                    // Where the key is whole, its value is hidden, however broken the rest is.
                    if !broken.lines().any(|l| l.contains("hunter2") && !l.trim_start().starts_with("bind-password")) {
                        prop_assert!(!text.contains("hunter2"), "{}", text);
                    }
                }
            }
        }
    }

    #[test]
    fn any_text_is_a_configuration_or_none(text in "(.|\n){0,200}", toml in "([a-z\\[\\]=\"'.#{}, \n-]|realm|version = 1\n|\\[\\[realm\\]\\]\n|secret){0,60}") {
        for t in [&text, &toml] {
            if let Err(faults) = check(t, Path::new("x"), true, None) {
                prop_assert!(!faults.faults.is_empty());
                let _text = faults.render(false);
            }
        }
    }
}

#[test]
fn windows_editors_are_forgiven() {
    let text = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    assert!(read(&text).is_ok(), "{}", read(&text).unwrap_err());
    let faults = read(&text.replace("5%", "500%")).unwrap_err();
    assert_eq!(
        (faults.faults[0].line(), faults.faults[0].column()),
        (Some(39), Some(13)),
        "{faults}"
    );
}
