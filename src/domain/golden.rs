//! The golden files: one event of every kind and version that was ever written, as it stands in
//! a journal. What they hold must be readable for ever; a new shape is a new version and file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use strum::VariantNames;

use super::entity::{Event, Noun};
use super::{cart, counter, order, stock};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Reads every file of a noun: each must be a known kind, lift to the newest version, and, if
/// it is of that version, be written again as it was read.
fn check<N: Noun>()
where
    N::Event: VariantNames,
{
    let kinds: BTreeSet<&str> = N::Event::VARIANTS.iter().copied().collect();
    let mut wanted: BTreeSet<(String, u16)> = kinds
        .iter()
        .flat_map(|kind| (1..=N::Event::newest(kind)).map(|version| ((*kind).to_owned(), version)))
        .collect();
    for entry in std::fs::read_dir(folder().join(N::PREFIX)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (kind, version) = name.strip_suffix(".json").unwrap().rsplit_once(".v").unwrap();
        let version: u16 = version.parse().unwrap();
        assert!(wanted.remove(&(kind.to_owned(), version)), "{}: an orphan", path.display());
        let text = std::fs::read_to_string(&path).unwrap();
        let stored: Value = serde_json::from_str(&text).unwrap();
        let lifted = (version..N::Event::newest(kind))
            .fold(stored.clone(), |data, version| N::Event::upcast(kind, version, data));
        let event: N::Event = serde_json::from_value(lifted.clone())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!((event.kind(), event.version()), (kind, N::Event::newest(kind)));
        assert_eq!(serde_json::to_value(&event).unwrap(), lifted, "{}", path.display());
    }
    assert!(wanted.is_empty(), "tests/golden/{} lacks {wanted:?}", N::PREFIX);
}

#[test]
fn every_event_ever_written_can_be_read() {
    check::<stock::Stock>();
    check::<cart::Cart>();
    check::<order::Order>();
    check::<counter::Counter>();
    let nouns: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let known = [stock::Stock::PREFIX, cart::Cart::PREFIX, order::Order::PREFIX];
    let known = known.into_iter().chain([counter::Counter::PREFIX]);
    assert_eq!(nouns, known.map(str::to_owned).collect());
}
