//! The target for stored events and snapshots: each is decoded as the kind that it claims to be,
//! and to the same content when it is written and decoded again, or it is refused.

use serde_json::Value;

use super::split;
use crate::actors::engine::stored::StoredShapes;
use crate::actors::nouns;
use crate::domain::entity::{EntityId, Record};
use crate::domain::time::Timestamp;

/// The first byte selects the noun, the second a kind of its events, or a snapshot if there is no
/// such kind, the third the version; the rest is the JSON.
pub(super) fn events(bytes: &[u8]) {
    let (noun, bytes) = split(bytes);
    let (kind, bytes) = split(bytes);
    let (version, bytes) = split(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let nouns = nouns::all();
    let Some(noun) = nouns.shapes().nth(usize::from(noun)) else { return };
    match noun.kinds.get(usize::from(kind)) {
        Some(kind) => event(noun, kind, u16::from(version), text),
        None => snapshot(noun, text),
    }
}

fn record(kind: &str, version: u16, data: &str) -> Record {
    Record {
        shard: 0,
        pos: 1,
        entity: EntityId::new("ord_1"),
        seq: 1,
        kind: kind.into(),
        version,
        at: Timestamp::default(),
        cause: "{}".into(),
        data: data.into(),
        intact: true,
    }
}

fn event(noun: &StoredShapes, kind: &str, version: u16, text: &str) {
    let Ok(read) = (noun.round_trip_event)(&record(kind, version, text)) else { return };
    assert_eq!(read.kind, kind, "an event was read as one of another kind");
    assert!(read.same, "{} does not read as what wrote it", read.written);
    // Upcasting must accept any JSON.
    if let Ok(mut data) = serde_json::from_str::<Value>(text) {
        for version in 0..(noun.newest)(kind) {
            data = (noun.upcast)(kind, version, data);
        }
    }
}

fn snapshot(noun: &StoredShapes, text: &str) {
    let Ok(read) = (noun.round_trip_state)(text) else { return };
    assert!(read.same, "{} does not read as what wrote it", read.written);
}
