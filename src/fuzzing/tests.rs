//! A little of what the fuzzers do, in every run of the tests: the seeds as they are, and a bounded number of damaged ones.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{FuzzTarget, TARGETS};

/// Damaged seeds a target. All of them together take some seconds.
const CASES: u32 = 400;

/// The longest input that is put together: a few messages.
const LONGEST: usize = 4096;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

/// The seeds of a target, in the order of their names.
fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(folder(target))
        .unwrap_or_else(|e| panic!("{}: {e}", folder(target).display()))
        .map(|file| file.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    all.sort();
    assert!(!all.is_empty(), "no seeds for {target}");
    all
}

fn damaged((name, call): FuzzTarget) {
    let seeds: Vec<Vec<u8>> = seeds(name).into_iter().map(|(_, seed)| seed).collect();
    let harm = (
        0..6_u8,
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        prop_oneof![
            any::<u8>().prop_map(|b| vec![b]),
            prop::sample::select(vec![0, 1, 0x30, 0x7f, 0x80, 0x84, 0xff, b'\n', b'"', b'#'])
                .prop_map(|b| vec![b]),
            prop::collection::vec(any::<u8>(), 1..6),
        ],
    );
    let input = (
        prop::sample::select(seeds.clone()),
        prop::sample::select(seeds),
        prop::collection::vec(harm, 1..8),
    )
        .prop_map(|(seed, other, harms)| {
            harms.into_iter().fold(seed, |mut bytes, harm| {
                let (kind, from, to, piece) = harm;
                let (from, to) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
                let (from, to) = (from.min(to), from.max(to));
                match kind {
                    0 => bytes.truncate(to),
                    1 => drop(bytes.drain(from..to)),
                    2 => drop(bytes.splice(from..to.min(from + 1), piece)),
                    3 => drop(bytes.splice(from..from, piece)),
                    4 => bytes.extend_from_within(from..to),
                    _ => bytes.extend(&other),
                }
                bytes.truncate(LONGEST);
                bytes
            })
        });
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&input, |bytes| {
        call(&bytes);
        Ok(())
    });
    assert!(outcome.is_ok(), "{name}: {}", outcome.unwrap_err());
}

#[test]
fn trap_36_every_seed_is_read_or_refused() {
    for (name, call) in TARGETS {
        for (path, seed) in seeds(name) {
            assert!(seed.len() <= LONGEST, "{}", path.display());
            call(&seed);
        }
    }
}

/// One test for each target, so that they run side by side and a failure names its target.
macro_rules! no_damage_to_a_seed_panics {
    ($($name:ident),*) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                let target = TARGETS.iter().find(|(name, _)| *name == stringify!($name));
                damaged(*target.unwrap());
            }
        )*
    };
}

mod trap_36_no_damage_panics {
    use super::*;

    no_damage_to_a_seed_panics!(
        answer,
        bulk,
        configuration,
        crontab_line,
        dirsync,
        distinguished_name,
        guard,
        person,
        phone,
        search_filter,
        seed_file,
        sync_controls,
        sync_cookie,
        sync_told,
        users_file
    );

    #[test]
    fn every_target_is_tested_has_seeds_and_a_fuzzer() {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, TESTED);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
        for name in names {
            assert!(folder(name).is_dir(), "no seeds for {name}");
            assert!(root.join(format!("fuzz_targets/{name}.rs")).is_file());
            assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
        }
    }
}
