//! The golden files: one event of every kind and version that was ever written, as it stands in
//! a journal. What they hold must be readable for ever; a new shape is a new version and file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kontor::actors::engine::stored::StoredShapes;
use kontor::actors::nouns;
use kontor::domain::entity::{EntityId, Record};
use kontor::domain::time::Timestamp;
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn record(noun: &StoredShapes, kind: &str, version: u16, data: &str) -> Record {
    Record {
        shard: 0,
        pos: 1,
        entity: EntityId::new(&format!("{}_1", noun.prefix)),
        seq: 1,
        kind: kind.into(),
        version,
        at: Timestamp::default(),
        cause: "{}".into(),
        data: data.into(),
        intact: true,
    }
}

/// Reads every file of a noun: each must be a known kind, lift to the newest version, and be
/// written again as it was lifted.
fn check(noun: &StoredShapes) {
    let mut wanted: BTreeSet<(String, u16)> = noun
        .kinds
        .iter()
        .flat_map(|kind| (1..=(noun.newest)(kind)).map(|version| ((*kind).to_owned(), version)))
        .collect();
    for entry in std::fs::read_dir(folder().join(noun.prefix)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (kind, version) = name.strip_suffix(".json").unwrap().rsplit_once(".v").unwrap();
        let version: u16 = version.parse().unwrap();
        assert!(wanted.remove(&(kind.to_owned(), version)), "{}: an orphan", path.display());
        let text = std::fs::read_to_string(&path).unwrap();
        let stored: Value = serde_json::from_str(&text).unwrap();
        let lifted = (version..(noun.newest)(kind))
            .fold(stored, |data, version| (noun.upcast)(kind, version, data));
        let read = (noun.round_trip_event)(&record(noun, kind, version, &text))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!((read.kind, read.version), (kind, (noun.newest)(kind)));
        let written: Value = serde_json::from_str(&read.written).unwrap();
        assert_eq!(written, lifted, "{}", path.display());
        assert!(read.same, "{}", path.display());
    }
    assert!(wanted.is_empty(), "tests/golden/{} lacks {wanted:?}", noun.prefix);
}

#[test]
fn every_golden_event_can_be_decoded() {
    let nouns = nouns::all();
    nouns.shapes().for_each(check);
    let folders: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, nouns.shapes().map(|noun| noun.prefix.to_owned()).collect());
}
