//! Checksums (CRC-32) of stored events, which detect damage on the disk.

use super::Record;

/// The checksum of an event.
pub(in crate::store) fn of(record: &Record) -> i64 {
    let mut sum = crc32fast::Hasher::new();
    for number in [record.shard.into(), record.pos, record.seq, record.version.into()] {
        sum.update(&number.to_le_bytes());
    }
    sum.update(&record.at.millis().to_le_bytes());
    for text in [record.entity.as_str(), &record.kind, &record.cause, &record.data] {
        sum.update(text.as_bytes());
        // A separator that does not occur in UTF-8: without it, text could move from the end of one
        // field to the start of the next one unnoticed.
        sum.update(&[0xff]);
    }
    sum.finalize().into()
}
