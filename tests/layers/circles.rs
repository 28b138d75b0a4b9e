//! Files of one module do not import each other in a circle: whoever reads one of them can begin with what it imports.
//!
//! A `mod.rs` that only passes names on (`pub use`) is looked through to the file that has them. What stands under `#[cfg(test)]` is
//! free, and so are methods: they belong to their type, wherever it is implemented.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::source::{rust_files, without_tests, without_text, words};

/// The modules whose files are held to it.
const ROOMS: &[&str] = &[
    "acts", "api", "delivery", "outbox", "plan", "runs", "service", "store", "story", "sync",
];

/// A module's path below the crate's root.
type Module = Vec<String>;

/// The crate: the words of each module's file, and the names that its `use` brings in.
#[derive(Default)]
struct Crate {
    words: BTreeMap<Module, Vec<String>>,
    names: BTreeMap<Module, BTreeMap<String, Module>>,
}

impl Crate {
    fn read(files: &[(String, String)]) -> Self {
        let mut read = Self::default();
        for (path, text) in files {
            let mut module: Module = path
                .trim_end_matches(".rs")
                .split('/')
                .map(str::to_owned)
                .collect();
            if module.last().is_some_and(|m| m == "mod" || m == "lib") {
                module.pop();
            }
            if path == "main.rs" || module.iter().any(|m| m == "tests") {
                continue;
            }
            let code = without_tests(&without_text(text));
            let words = words(&code).iter().map(|(w, _)| (*w).to_owned()).collect();
            read.words.insert(module, words);
        }
        for module in read.words.keys() {
            let mut names = BTreeMap::new();
            for statement in read.uses(module) {
                for (path, name) in tree(&statement) {
                    if let Some(path) = read.absolute(module, &path) {
                        names.insert(name, path);
                    }
                }
            }
            read.names.insert(module.clone(), names);
        }
        read
    }

    /// The words of each `use` statement of a file, without `use` and `;`.
    fn uses(&self, module: &Module) -> Vec<Vec<String>> {
        let mut found = vec![];
        let mut rest = self.words[module].as_slice();
        while let Some(at) = rest.iter().position(|w| w == "use") {
            let statement = &rest[at + 1..];
            let end = statement.iter().position(|w| w == ";");
            let (statement, after) = statement.split_at(end.unwrap_or(statement.len()));
            found.push(statement.to_vec());
            rest = after;
        }
        found
    }

    /// Where a path leads from the root; `None`: out of this crate.
    fn absolute(&self, from: &Module, path: &[String]) -> Option<Module> {
        let first = path.first()?;
        let mut base = from.clone();
        let mut rest = path;
        match first.as_str() {
            "crate" => {
                base.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|w| w == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            _ => {
                let child = [base.as_slice(), std::slice::from_ref(first)].concat();
                let known = || self.names.get(from).and_then(|names| names.get(first));
                if !self.words.contains_key(&child) {
                    base.clone_from(known()?);
                    rest = &rest[1..];
                }
            }
        }
        Some([base.as_slice(), rest].concat())
    }

    /// The file that has what a path names; `None`: the path is a module's.
    fn home(&self, path: &Module) -> Option<Module> {
        let mut path = path.clone();
        // A name that is passed on more often than this is passed on in a circle.
        for _ in 0..8 {
            let known = (0..=path.len())
                .rev()
                .find(|n| self.words.contains_key(&path[..*n]))?;
            let (module, rest) = path.split_at(known);
            let name = rest.first()?;
            match self.names.get(module).and_then(|names| names.get(name)) {
                Some(passed) if *passed != path => {
                    path = [passed.as_slice(), &rest[1..]].concat();
                }
                _ => return Some(module.to_vec()),
            }
        }
        None
    }

    /// The files that a file needs, each with one of the names for which.
    fn needs(&self, module: &Module) -> BTreeMap<Module, String> {
        let words = &self.words[module];
        let mut needs = BTreeMap::new();
        let mut i = 0;
        while i < words.len() {
            if words[i] == "use" {
                // What is passed on is no need of the file itself.
                let passed_on = i > 0 && (words[i - 1] == "pub" || words[i - 1] == ")");
                let end = words[i..].iter().position(|w| w == ";");
                let end = i + end.unwrap_or(words.len() - i);
                if !passed_on {
                    for (path, name) in tree(&words[i + 1..end]) {
                        self.need(module, &path, &name, &mut needs);
                    }
                }
                i = end;
            } else if words.get(i + 1).is_some_and(|w| w == "::")
                && (i == 0 || words[i - 1] != "::")
            {
                let mut path = vec![words[i].clone()];
                while words.get(i + 1).is_some_and(|w| w == "::")
                    && words.get(i + 2).is_some_and(|w| is_name(w))
                {
                    path.push(words[i + 2].clone());
                    i += 2;
                }
                let name = path.join("::");
                self.need(module, &path, &name, &mut needs);
            }
            i += 1;
        }
        needs
    }

    fn need(
        &self,
        module: &Module,
        path: &[String],
        name: &str,
        needs: &mut BTreeMap<Module, String>,
    ) {
        let home = self.absolute(module, path).and_then(|p| self.home(&p));
        if let Some(home) = home.filter(|home| home != module) {
            needs.insert(home, name.to_owned());
        }
    }

    /// The shortest circles below a top module, one for each file that is on any, as text.
    fn circles(&self, room: &str) -> Vec<String> {
        let files: Vec<&Module> = self
            .words
            .keys()
            .filter(|m| m.first().is_some_and(|first| first == room))
            .collect();
        let needs: BTreeMap<&Module, BTreeMap<Module, String>> =
            files.iter().map(|m| (*m, self.needs(m))).collect();
        let mut told = BTreeSet::new();
        let mut circles = vec![];
        for start in &files {
            if told.contains(*start) {
                continue;
            }
            // Breadth first, until something needs the start.
            let mut from: BTreeMap<&Module, &Module> = BTreeMap::new();
            let mut next = std::collections::VecDeque::from([*start]);
            while let Some(file) = next.pop_front() {
                if needs[file].contains_key(*start) {
                    let mut circle = vec![*start, file];
                    while let Some(before) = from.get(circle[circle.len() - 1]) {
                        circle.push(*before);
                    }
                    circle.reverse();
                    told.extend(circle.iter().map(|m| (*m).clone()));
                    let step = |pair: &[&Module]| {
                        let what = &needs[pair[0]][pair[1]];
                        format!(
                            "{} needs `{what}` of {}",
                            pair[0].join("::"),
                            pair[1].join("::")
                        )
                    };
                    let steps: Vec<String> = circle.windows(2).map(step).collect();
                    circles.push(steps.join(", "));
                    break;
                }
                for need in needs[file].keys() {
                    if let Some((need, _)) = needs.get_key_value(need)
                        && *need != *start
                        && !from.contains_key(*need)
                    {
                        from.insert(*need, file);
                        next.push_back(*need);
                    }
                }
            }
        }
        circles
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The paths of a `use` statement, each with the name that it brings in.
fn tree(words: &[String]) -> Vec<(Vec<String>, String)> {
    let mut found = vec![];
    let mut prefix: Vec<Vec<String>> = vec![vec![]];
    let mut path: Vec<String> = vec![];
    let mut name: Option<String> = None;
    let mut renamed = false;
    let mut end = |prefix: &[Vec<String>], path: &mut Vec<String>, name: &mut Option<String>| {
        let mut whole: Vec<String> = prefix.concat();
        whole.append(path);
        if whole.last().is_some_and(|w| w == "self") {
            whole.pop();
        }
        if let Some(last) = whole.last() {
            let name = name.take().unwrap_or_else(|| last.clone());
            found.push((whole.clone(), name));
        }
    };
    for word in words {
        match word.as_str() {
            "::" => {}
            "{" => prefix.push(std::mem::take(&mut path)),
            "," | "}" => {
                if !path.is_empty() {
                    end(&prefix, &mut path, &mut name);
                }
                if word == "}" {
                    prefix.pop();
                }
            }
            "as" => renamed = true,
            word if renamed => {
                name = Some(word.to_owned());
                renamed = false;
            }
            word => path.push(word.to_owned()),
        }
    }
    if !path.is_empty() {
        end(&prefix, &mut path, &mut name);
    }
    found
}

#[test]
fn no_files_of_a_module_import_each_other_in_a_circle() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = vec![];
    rust_files(&src, &mut paths);
    let files: Vec<(String, String)> = paths
        .iter()
        .map(|path| {
            let inside = path.strip_prefix(&src).expect("below src");
            let text = std::fs::read_to_string(path).expect("readable source");
            (inside.to_string_lossy().into_owned(), text)
        })
        .collect();
    let all = Crate::read(&files);
    let circles: Vec<String> = ROOMS.iter().flat_map(|room| all.circles(room)).collect();
    assert!(
        circles.is_empty(),
        "circles of imports:\n{}",
        circles.join("\n")
    );
}

fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<(String, String)> = files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect();
    Crate::read(&files).circles("a")
}

#[test]
fn two_files_that_need_each_other_are_a_circle() {
    let found = circles(&[
        ("a/mod.rs", "mod b; mod c; mod d;"),
        ("a/b.rs", "use super::c::C; pub struct B(C);"),
        ("a/c.rs", "pub struct C; fn f() { super::d::g() }"),
        (
            "a/d.rs",
            "use crate::a::b::{self, B as Other}; pub fn g() {}",
        ),
    ]);
    assert_eq!(
        found,
        ["a::b needs `C` of a::c, a::c needs `super::d::g` of a::d, a::d needs `Other` of a::b"]
    );
}

#[test]
fn a_module_that_only_passes_names_on_is_in_no_circle() {
    let passed_on = [
        (
            "a/mod.rs",
            "mod b; mod c; pub use b::B; pub(crate) use c::C;",
        ),
        ("a/b.rs", "pub struct B;"),
        ("a/c.rs", "use super::B; pub struct C(B);"),
    ];
    assert_eq!(circles(&passed_on), [""; 0]);
    // One that has what its files need, and needs them too, is in one.
    let mut needed = passed_on;
    needed[0].1 = "mod b; mod c; pub struct B; fn f(c: c::C) {}";
    assert_eq!(
        circles(&needed),
        ["a needs `c::C` of a::c, a::c needs `B` of a"]
    );
}

#[test]
fn what_tests_and_other_modules_need_is_no_circle() {
    let found = circles(&[
        ("a/mod.rs", "mod b; mod c;"),
        (
            "a/b.rs",
            "#[cfg(test)] mod tests { use super::super::c::C; } pub struct B;",
        ),
        ("a/c.rs", "use super::b::B; use crate::z::Z; pub struct C;"),
        ("z.rs", "use crate::a::c::C; pub struct Z;"),
    ]);
    assert_eq!(found, [""; 0]);
}
