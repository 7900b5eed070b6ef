//! The chain of a shard's events: the digest of each event covers the digest before it, so that no
//! event can be changed, removed, inserted or moved without all digests after it being others. The
//! digest of a shard's last event stands for its whole history.
//!
//! Whoever can write to the database can compute digests too. That a history was computed anew is
//! shown by digests that were kept outside of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::{Epoch, Fence, Record};

/// The SHA-256 digest of an event and of all events before it in its shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest before the first event of a shard.
    pub const FIRST: Self = Self([0; 32]);

    /// The digest of the event that follows the event with this digest.
    #[must_use]
    pub fn next(&self, event: &Record) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        // The numbers have a fixed length, and each text comes after its length: no two events
        // have the same bytes.
        for number in [event.shard.into(), event.pos, event.seq, event.version.into()] {
            hasher.update(number.to_le_bytes());
        }
        hasher.update(event.at.millis().to_le_bytes());
        for text in [event.entity.as_str(), &event.kind, &event.cause, &event.data] {
            hasher.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(text);
        }
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The end of a shard's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The position of the shard's last event, 0 if it has none.
    pub pos: i64,
    /// The digest of that event.
    pub digest: Digest,
}

impl Head {
    /// The end of the chain of a shard without events.
    pub const FIRST: Self = Self { pos: 0, digest: Digest::FIRST };

    /// Adds an event to the chain; returns its digest.
    pub fn add(&mut self, event: &Record) -> Digest {
        self.pos = event.pos;
        self.digest = self.digest.next(event);
        self.digest
    }
}

/// An event with its digest, as they are stored.
#[derive(Clone, Debug)]
pub struct Chained {
    /// The event.
    pub record: Record,
    /// Its digest; `None` if what is stored is no digest.
    pub digest: Option<Digest>,
}

/// A stored digest; `None` if it has not 32 bytes.
pub(in crate::store) fn stored(bytes: Option<&[u8]>) -> Option<Digest> {
    bytes?.try_into().ok().map(Digest)
}

/// The ends of the chains of shards after the last appends of this process, each with the epoch of
/// its fence.
#[derive(Default)]
pub(in crate::store) struct Heads(Mutex<HashMap<u16, (Epoch, Head)>>);

impl Heads {
    /// Takes out the ends of these fences' shards, in order; `None` if one is not known. They are
    /// put in again when the outcome of the append is known.
    pub(super) fn take(&self, fences: &[Fence]) -> Option<Vec<Head>> {
        let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: Vec<_> = fences.iter().map(|fence| heads.remove(&fence.shard)).collect();
        let known = taken.into_iter().zip(fences).map(|(known, fence)| match known {
            Some((epoch, head)) if epoch == fence.epoch => Some(head),
            _ => None,
        });
        known.collect()
    }

    pub(super) fn put(&self, fences: &[Fence], ends: impl Iterator<Item = Head>) {
        let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heads.extend(fences.iter().zip(ends).map(|(fence, end)| (fence.shard, (fence.epoch, end))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::entity::EntityId;
    use crate::domain::time::Timestamp;

    fn event() -> Record {
        Record {
            shard: 1,
            pos: 2,
            entity: EntityId::new("sku:LAMP"),
            seq: 3,
            kind: "received".into(),
            version: 4,
            at: Timestamp::from_millis(5),
            cause: "{}".into(),
            data: "[]".into(),
            intact: true,
        }
    }

    #[test]
    fn the_digest_covers_each_field_and_the_digest_before() {
        let others = [
            Record { shard: 9, ..event() },
            Record { pos: 9, ..event() },
            Record { entity: EntityId::new("sku:LAMPS"), ..event() },
            Record { seq: 9, ..event() },
            Record { kind: "receive".into(), ..event() },
            Record { version: 9, ..event() },
            Record { at: Timestamp::from_millis(9), ..event() },
            Record { cause: "{ }".into(), ..event() },
            Record { data: "[ ]".into(), ..event() },
            // A byte that moves from one text to the next.
            Record { cause: "{}[".into(), data: "]".into(), ..event() },
        ];
        let mut all: Vec<Digest> = others.iter().map(|one| Digest::FIRST.next(one)).collect();
        all.push(Digest::FIRST.next(&event()));
        all.push(Digest([1; 32]).next(&event()));
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(Digest::FIRST.next(&event()), Digest::FIRST.next(&event()));
    }
}
