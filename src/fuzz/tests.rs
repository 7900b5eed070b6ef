//! Runs the targets on the stored inputs, on mutations of these, and on random bytes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use strum::VariantArray as _;

use super::{Target, run};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The stored inputs of a target, with their files.
fn corpus(target: Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = folder().join("corpus").join(<&str>::from(target));
    let files = names(&folder).into_iter().map(|name| folder.join(name));
    files.map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<&str> = Target::VARIANTS.iter().map(|target| target.into()).collect();
    let programs = names(&folder().join("fuzz_targets"));
    let programs: BTreeSet<&str> =
        programs.iter().filter_map(|name| name.strip_suffix(".rs")).collect();
    assert_eq!(programs, targets);
    let kept = names(&folder().join("corpus"));
    assert_eq!(kept.iter().map(String::as_str).collect::<BTreeSet<_>>(), targets);
    assert!(Target::VARIANTS.iter().all(|target| !corpus(*target).is_empty()));
}

#[test]
fn stored_inputs_keep_the_guarantees() {
    for target in Target::VARIANTS {
        for (file, bytes) in corpus(*target) {
            // If the target panics, the last file printed is the one that it panicked on.
            println!("{}", file.display());
            run(*target, &bytes);
        }
    }
}

/// A mutation of some bytes.
#[derive(Clone, Debug)]
enum Edit {
    Set(Index, u8),
    Cut(Index, Index),
    Repeat(Index, Index),
    Insert(Index, &'static str),
    Splice(Index, Index),
}

/// Texts that are often handled wrongly.
const WORDS: [&str; 20] = [
    "null",
    "true",
    "-1",
    "0",
    "9223372036854775807",
    "9223372036854775808",
    "1e400",
    "1.5",
    "{}",
    "[]",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "\"",
    "\\u0000",
    "\0",
    "é",
    ",",
    "\n",
    "=",
    "%",
    " ",
];

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = |index: &Index| index.index(bytes.len() + 1);
        match self {
            Self::Set(index, byte) => {
                let at = at(index);
                if let Some(there) = bytes.get_mut(at) {
                    *there = *byte;
                }
            }
            Self::Cut(from, to) => {
                let (from, to) = (at(from), at(to));
                drop(bytes.drain(from.min(to)..from.max(to)));
            }
            Self::Repeat(from, to) => {
                let (from, to) = (at(from), at(to));
                let part = bytes[from.min(to)..from.max(to)].to_vec();
                let end = from.max(to);
                drop(bytes.splice(end..end, part));
            }
            Self::Insert(index, word) => {
                let at = at(index);
                drop(bytes.splice(at..at, word.bytes()));
            }
            Self::Splice(index, from) => {
                let at = at(index);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = any::<Index>;
    prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (place(), place()).prop_map(|(from, to)| Edit::Cut(from, to)),
        (place(), place()).prop_map(|(from, to)| Edit::Repeat(from, to)),
        (place(), prop::sample::select(&WORDS[..])).prop_map(|(at, word)| Edit::Insert(at, word)),
        (place(), place()).prop_map(|(at, from)| Edit::Splice(at, from)),
    ]
}

/// A target and its input; the debug output shows the bytes as escaped text.
struct Input(Target, Vec<u8>);

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} on \"{}\"", self.0, self.1.escape_ascii())
    }
}

/// A mutated stored input.
fn mutated() -> impl Strategy<Value = Input> {
    let seeds = any::<(Index, Index, Index)>();
    (seeds, prop::collection::vec(edit(), 0..6)).prop_map(|((target, seed, other), edits)| {
        let (target, kept) = target.get(CORPUS.as_slice());
        let mut bytes = seed.get(kept).clone();
        let other: &Vec<u8> = other.get(kept);
        for edit in &edits {
            edit.apply(&mut bytes, other);
        }
        Input(*target, bytes)
    })
}

static CORPUS: LazyLock<Vec<(Target, Vec<Vec<u8>>)>> = LazyLock::new(|| {
    let bytes = |target| corpus(target).into_iter().map(|(_, bytes)| bytes).collect();
    Target::VARIANTS.iter().map(|target| (*target, bytes(*target))).collect()
});

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(20_000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn mutated_inputs_keep_the_guarantees(input in mutated()) {
        run(input.0, &input.1);
    }

    #[test]
    fn random_inputs_keep_the_guarantees(
        target in prop::sample::select(Target::VARIANTS),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        run(target, &bytes);
    }
}
