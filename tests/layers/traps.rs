//! `docs/traps.md` names the files in which each trap is tested: every test that is named after a trap (`trap_NN_…`) stands in a
//! file that its row names, and every file that a row names has such a test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::source::rust_files;

/// The numbers of the traps that functions of a file are named after.
fn tested(source: &str) -> BTreeSet<u32> {
    source
        .split("fn trap_")
        .skip(1)
        .flat_map(|rest| rest.split('(').next().unwrap_or_default().split("trap_"))
        .flat_map(|rest| {
            let words: Vec<&str> = rest.split('_').collect();
            let others = words[1..].chunks_exact(2).map_while(|two| match two {
                ["and", other] => other.parse().ok(),
                _ => None,
            });
            words[0]
                .parse()
                .ok()
                .into_iter()
                .chain(others.collect::<Vec<_>>())
        })
        .collect()
}

/// The rows of the table: a trap's number, and the files that it names.
fn rows(table: &str) -> BTreeMap<u32, BTreeSet<String>> {
    let row = |line: &str| {
        let number = line.strip_prefix("| ")?.split(' ').next()?.parse().ok()?;
        let file = |text: &&str| Path::new(text).extension().is_some_and(|e| e == "rs");
        let files = line.split('`').filter(file).map(str::to_owned).collect();
        Some((number, files))
    };
    table.lines().filter_map(row).collect()
}

#[test]
fn each_test_of_a_trap_stands_in_a_file_that_its_row_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = rows(&std::fs::read_to_string(root.join("docs/traps.md")).unwrap());
    assert!(rows.len() > 50, "{} rows in docs/traps.md", rows.len());
    let mut faults = BTreeSet::new();
    for (number, files) in &rows {
        if files.is_empty() {
            faults.insert(format!("trap {number}: no file"));
        }
        for file in files {
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            if !tested(&source).contains(number) {
                faults.insert(format!("trap {number}: {file} has no test of it"));
            }
        }
    }
    let mut files: Vec<PathBuf> = Vec::new();
    rust_files(&root.join("src"), &mut files);
    rust_files(&root.join("tests/it"), &mut files);
    for file in files {
        let inside = file
            .strip_prefix(root)
            .unwrap()
            .to_string_lossy()
            .replace('\\', "/");
        for number in tested(&std::fs::read_to_string(&file).unwrap()) {
            if rows
                .get(&number)
                .is_none_or(|files| !files.contains(&inside))
            {
                faults.insert(format!("trap {number}: {inside} is not named"));
            }
        }
    }
    let faults: Vec<String> = faults.into_iter().collect();
    assert!(faults.is_empty(), "docs/traps.md:\n{}", faults.join("\n"));
}

#[test]
fn rows_and_tests_are_found() {
    assert_eq!(
        tested(
            "async fn trap_07_a() {} fn trap_120_and_9_389_and_8_b() {} fn trap_3_c_and_trap_4_d() {} fn trapped() {}"
        ),
        [3, 4, 7, 9, 120].into()
    );
    let table = "| # | trap |\n|---|---|\n| 7 | page `cookie` | `src/a.rs`, `tests/b.rs` |\n";
    let files = ["src/a.rs".to_owned(), "tests/b.rs".to_owned()];
    assert_eq!(rows(table), [(7, files.into())].into());
}
