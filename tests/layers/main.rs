//! Holds the import table of the crate's map against its source: imports go one way, and each foreign crate has one home.
//!
//! ```text
//! clock, model, net ← config, factors ← directory, import, normalise, plan, store, delivery ← runs ← outbox, sync ← verification ← story ← acts ← api, console ← service ← cli
//! ```
//!
//! Modules of one rank do not know each other. What stands under `#[cfg(test)]` is free. Within the modules that
//! `circles` names no files import each other in a circle.

mod circles;
mod source;
mod traps;

use std::path::Path;

use source::{rust_files, without_tests, without_text, words};

/// The ranks, lowest first; a module may import from lower ranks only.
const RANKS: &[&[&str]] = &[
    &["clock", "failpoint"],
    &["model", "net"],
    &["config", "factors"],
    &[
        "directory",
        "import",
        "normalise",
        "plan",
        "store",
        "delivery",
    ],
    &["runs"],
    &["outbox", "sync"],
    &["verification"],
    &["story"],
    &["acts"],
    &["api", "console"],
    &["service"],
    &["cli"],
    &["fuzzing"],
];

/// Crates that only these modules may name, so that a stage can be read, tested and replaced by itself.
const HOMES: &[(&str, &[&str])] = &[
    ("ldap3", &["directory"]),
    ("lber", &["directory"]),
    ("sqlx", &["store"]),
    ("reqwest", &["delivery"]),
    ("axum", &["api", "console"]),
];

/// Modules that decide and therefore never wait.
const PURE: &[&str] = &["factors", "import", "model", "normalise", "plan"];

/// Lines of code in one file, tests, comments and blank lines apart, beyond which it surely holds two ideas.
const LONGEST: usize = 650;

#[test]
fn the_source_keeps_the_import_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(
        files.iter().any(|f| f.ends_with("lib.rs")),
        "no source found in {}",
        src.display()
    );
    let mut faults = Vec::new();
    for file in &files {
        let inside = file.strip_prefix(&src).unwrap_or(file);
        match std::fs::read_to_string(file) {
            Ok(text) => faults.extend(check(inside, &text)),
            Err(e) => faults.push(format!("{}: {e}", inside.display())),
        }
    }
    assert!(
        faults.is_empty(),
        "imports that the table does not allow:\n{}",
        faults.join("\n")
    );
}

/// The faults of one file; `file` is its path below `src`.
fn check(file: &Path, text: &str) -> Vec<String> {
    let parts: Vec<&str> = file.iter().filter_map(|p| p.to_str()).collect();
    let module = parts[0].trim_end_matches(".rs");
    // The map names everything, the entry point starts the topmost module, and a file of tests is free.
    if matches!(module, "lib" | "main") || parts.last() == Some(&"tests.rs") {
        return Vec::new();
    }
    let Some(rank) = rank_of(module) else {
        return vec![format!(
            "{}: module `{module}` has no place in the table",
            file.display()
        )];
    };
    // How many `super` lead from this file to the crate's root.
    let depth = parts.len() - usize::from(parts.len() > 1 && parts.last() == Some(&"mod.rs"));

    let code = without_tests(&without_text(text));
    let words = words(&code);
    let mut faults = Vec::new();
    let mut fault =
        |line: usize, what: String| faults.push(format!("{}:{line}: {what}", file.display()));
    for (target, line) in imports(&words, depth) {
        match rank_of(&target) {
            Some(r) if r < rank || target == module => {}
            Some(_) => fault(line, format!("`{module}` may not import `{target}`")),
            // A macro or a re-export at the root: it would hide where a thing comes from.
            None => fault(line, format!("`crate::{target}` is no module of the table")),
        }
    }
    for (word, line) in &words {
        if let Some((_, homes)) = HOMES.iter().find(|(c, _)| c == word)
            && !homes.contains(&module)
        {
            fault(
                *line,
                format!("only {} may name `{word}`", homes.join(" and ")),
            );
        }
        if PURE.contains(&module) && matches!(*word, "async" | "await") {
            fault(
                *line,
                format!("`{module}` decides and does not wait: no `{word}` here"),
            );
        }
    }
    let lines = code.lines().filter(|l| !l.trim().is_empty()).count();
    if lines > LONGEST {
        fault(
            1,
            format!("{lines} lines: two ideas, two files (at most {LONGEST})"),
        );
    }
    faults
}

fn rank_of(module: &str) -> Option<usize> {
    RANKS.iter().position(|r| r.contains(&module))
}

/// The top-level modules that are named by `crate::x`, `crate::{x, y::z}` or as many `super` as lead to the root, with their lines.
fn imports(words: &[(&str, usize)], depth: usize) -> Vec<(String, usize)> {
    let at = |i: usize| words.get(i).map_or("", |w| w.0);
    let mut found = Vec::new();
    let mut i = 0;
    while i < words.len() {
        let mut next = match at(i) {
            "crate" if at(i + 1) == "::" => i + 2,
            "super" if at(i + 1) == "::" => {
                let mut supers = 0;
                let mut j = i;
                while at(j) == "super" && at(j + 1) == "::" {
                    supers += 1;
                    j += 2;
                }
                if supers < depth {
                    i = j;
                    continue;
                }
                j
            }
            _ => {
                i += 1;
                continue;
            }
        };
        if at(next) == "{" {
            let mut nested = 0;
            let mut first = true;
            while next < words.len() {
                match at(next) {
                    "{" => nested += 1,
                    "}" => nested -= 1,
                    "," if nested == 1 => first = true,
                    word if nested == 1 && first => {
                        found.push((word.to_owned(), words[next].1));
                        first = false;
                    }
                    _ => {}
                }
                next += 1;
                if nested == 0 {
                    break;
                }
                first |= nested == 1 && at(next - 1) == "{";
            }
        } else {
            found.push((at(next).to_owned(), words[i].1));
        }
        i = next.max(i + 1);
    }
    found
}

/// What the checker says of a piece of source, without the file's name.
fn said(file: &str, source: &str) -> Vec<String> {
    let name = format!("{file}:");
    check(Path::new(file), source)
        .into_iter()
        .map(|f| f.trim_start_matches(&name).to_owned())
        .collect()
}

#[test]
fn an_import_upwards_is_a_fault() {
    assert_eq!(
        said("store/users.rs", "use crate::sync::Engine;\n"),
        ["1: `store` may not import `sync`"]
    );
    assert_eq!(
        said(
            "store/users.rs",
            "fn f() {\n  crate::service::start();\n}\n"
        ),
        ["2: `store` may not import `service`"]
    );
    assert_eq!(
        said("plan/mod.rs", "use super::cli::X;"),
        ["1: `plan` may not import `cli`"]
    );
    assert_eq!(
        said("plan/a.rs", "use super::super::cli::X;"),
        ["1: `plan` may not import `cli`"]
    );
    assert_eq!(
        said("delivery.rs", "use super::outbox;"),
        ["1: `delivery` may not import `outbox`"]
    );
}

#[test]
fn an_import_sideways_is_a_fault() {
    assert_eq!(
        said("plan/decide.rs", "use crate::normalise::Normaliser;"),
        ["1: `plan` may not import `normalise`"]
    );
    assert_eq!(
        said(
            "sync/mod.rs",
            "use crate::{\n    model::{Run, Change},\n    outbox::Worker,\n    store,\n    api,\n};"
        ),
        [
            "3: `sync` may not import `outbox`",
            "5: `sync` may not import `api`"
        ]
    );
}

#[test]
fn a_foreign_crate_away_from_home_is_a_fault() {
    assert_eq!(
        said("sync/mod.rs", "use sqlx::Row;"),
        ["1: only store may name `sqlx`"]
    );
    assert_eq!(
        said("store/a.rs", "fn f(e: ldap3::LdapError) {}"),
        ["1: only directory may name `ldap3`"]
    );
    assert_eq!(
        said("cli/mod.rs", "#[derive(X)]\nstruct A(axum::Router);"),
        ["2: only api and console may name `axum`"]
    );
}

#[test]
fn waiting_in_a_pure_module_is_a_fault() {
    assert_eq!(
        said("plan/decide.rs", "pub async fn f() {}"),
        ["1: `plan` decides and does not wait: no `async` here"]
    );
    assert_eq!(
        said("store/a.rs", "pub async fn f() { g().await }"),
        [""; 0]
    );
}

#[test]
fn a_module_without_a_place_is_a_fault() {
    assert_eq!(
        said("utils.rs", ""),
        [" module `utils` has no place in the table"]
    );
    assert_eq!(
        said("store/a.rs", "use crate::helper;"),
        ["1: `crate::helper` is no module of the table"]
    );
}

#[test]
fn a_file_of_two_ideas_is_a_fault() {
    let long = "fn f() {}\n".repeat(LONGEST + 1);
    assert_eq!(said("store/a.rs", &long).len(), 1);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert_eq!(said("store/a.rs", &tests), [""; 0]);
}

#[test]
fn words_that_are_no_code_do_not_count() {
    let source = r##"
//! Like crate::cli, with `sqlx`.
/* crate::cli /* axum */ ldap3 */
use crate::model::{Run, sync::X};
const A: &str = "crate::cli \" axum"; const B: &str = r#"use "sqlx";"#; const C: char = '"'; const D: char = '\''; fn f<'a>(x: &'a str) {}
use super::other;
#[cfg(test)]
mod tests {
    use crate::cli::Args;
    async fn f() { if true { sqlx::x() } }
}
"##;
    assert_eq!(
        said("plan/mod.rs", &source.replace("use super::other;", "")),
        [""; 0]
    );
    assert_eq!(said("plan/decide.rs", source), [""; 0]);
    // What follows the tests is looked at again, and lines are counted through all of it.
    assert_eq!(
        said("plan/decide.rs", &format!("{source}use crate::store;")),
        ["12: `plan` may not import `store`"]
    );
}
