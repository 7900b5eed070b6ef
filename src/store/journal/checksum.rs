//! Checksums of what is written, so that a bit that flips on the disk is seen. Which column they
//! are in, and what is done about one that is wrong, is not here.

use super::{Record, StateSnapshot};

/// What is written beside an event, so that a bit that flips later is seen.
pub(super) fn of(record: &Record) -> i64 {
    let mut sum = crc32fast::Hasher::new();
    for number in [record.shard.into(), record.pos, record.seq, record.version.into()] {
        sum.update(&number.to_le_bytes());
    }
    sum.update(&record.at.millis().to_le_bytes());
    for text in [record.entity.as_str(), &record.kind, &record.cause, &record.data] {
        sum.update(text.as_bytes());
        // No text has this byte: what moves from one to the next is seen.
        sum.update(&[0xff]);
    }
    sum.finalize().into()
}

/// What is written beside a snapshot.
pub(super) fn of_snapshot(snapshot: &StateSnapshot) -> i64 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&snapshot.seq.to_le_bytes());
    sum.update(&snapshot.state_version.to_le_bytes());
    sum.update(snapshot.entity.as_str().as_bytes());
    sum.update(snapshot.data.as_bytes());
    sum.finalize().into()
}
