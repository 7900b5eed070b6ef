//! Stored events and snapshots: whatever stands in the journal is read as what it claims to be,
//! or refused.

use std::fmt::Debug;

use serde_json::Value;
use strum::VariantNames;

use super::split;
use crate::actors::engine::host::decode;
use crate::domain::cart::Cart;
use crate::domain::counter::Counter;
use crate::domain::entity::{EntityId, Event, Noun, Record};
use crate::domain::order::Order;
use crate::domain::stock::Stock;
use crate::domain::time::Timestamp;

/// The first byte chooses the noun, the second a kind of its events (or a snapshot), the third a
/// version.
pub(super) fn events(bytes: &[u8]) {
    let (noun, bytes) = split(bytes);
    match noun % 4 {
        0 => of::<Stock>(bytes),
        1 => of::<Cart>(bytes),
        2 => of::<Order>(bytes),
        _ => of::<Counter>(bytes),
    }
}

fn of<N: Noun + PartialEq + Debug>(bytes: &[u8])
where
    N::Event: VariantNames + PartialEq,
{
    let (kind, bytes) = split(bytes);
    let (version, bytes) = split(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match N::Event::VARIANTS.get(usize::from(kind)) {
        Some(kind) => event::<N::Event>(kind, u16::from(version), text),
        None => snapshot::<N>(text),
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

fn event<E: Event + PartialEq>(kind: &str, version: u16, text: &str) {
    let Ok(read) = decode::<E>(&record(kind, version, text)) else { return };
    assert_eq!(read.kind(), kind, "an event was read as one of another kind");
    let written = serde_json::to_string(&read).unwrap_or_default();
    let again = decode::<E>(&record(kind, read.version(), &written));
    assert_eq!(again.ok().as_ref(), Some(&read), "{written} does not read as what wrote it");
    // What lifts an old event must take any JSON.
    if let Ok(mut data) = serde_json::from_str::<Value>(text) {
        for version in 0..E::newest(kind) {
            data = E::upcast(kind, version, data);
        }
    }
}

fn snapshot<N: Noun + PartialEq + Debug>(text: &str) {
    let Ok(state) = serde_json::from_str::<N>(text) else { return };
    let written = serde_json::to_string(&state).unwrap_or_default();
    let again = serde_json::from_str::<N>(&written);
    assert_eq!(again.ok().as_ref(), Some(&state), "{written} does not read as what wrote it");
}
