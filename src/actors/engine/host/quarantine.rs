//! Who of a noun is in quarantine, why and since when, and the way out. Who gets there is decided
//! by the entity, which cannot read its history, and by its shard, which it has failed too often.

use std::collections::BTreeMap;
use std::sync::RwLock;

use super::route::ShardMessage;
use super::{Error, Host, read_lock, write};
use crate::domain::entity::{EntityId, Noun};
use crate::domain::time::Timestamp;

/// The most entities that are noted; more are in the log only.
const NOTED_MAX: usize = 10_000;
/// The most characters that are noted of a reason.
const REASON_MAX: usize = 500;

/// An entity in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Who.
    pub entity: EntityId,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// What came of letting an entity out of quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// It is not in quarantine.
    NotThere,
    /// It answers again.
    Well,
    /// It is in quarantine again, with why.
    Again(String),
    /// It gave no answer: look again later.
    Unknown,
}

/// Those in quarantine.
#[derive(Default)]
pub(super) struct Quarantine(RwLock<BTreeMap<EntityId, (String, Timestamp)>>);

impl Quarantine {
    pub(super) fn len(&self) -> usize {
        read_lock(&self.0).len()
    }

    /// Notes an entity once, however often it is found to be broken.
    pub(super) fn note(&self, entity: &EntityId, why: &str, now: Timestamp) {
        let mut noted = write(&self.0);
        if noted.len() < NOTED_MAX && !noted.contains_key(entity) {
            let reason = why.chars().take(REASON_MAX).collect();
            noted.insert(entity.clone(), (reason, now));
        }
    }

    /// An entity has read its history.
    pub(super) fn well(&self, entity: &EntityId) {
        if read_lock(&self.0).contains_key(entity) {
            write(&self.0).remove(entity);
        }
    }
}

impl<N: Noun> Host<N> {
    /// Those in quarantine in order of their ids, at most `limit`.
    #[must_use]
    pub fn quarantined(&self, limit: usize) -> Vec<Quarantined> {
        let show = |(entity, (reason, since)): (&EntityId, &(String, Timestamp))| Quarantined {
            entity: entity.clone(),
            reason: reason.clone(),
            since: *since,
        };
        read_lock(&self.shared.quarantine.0).iter().take(limit).map(show).collect()
    }

    /// Lets an entity out of quarantine: it reads its history again.
    pub async fn release(&self, entity: &EntityId) -> Released {
        if !read_lock(&self.shared.quarantine.0).contains_key(entity) {
            return Released::NotThere;
        }
        let shard = entity.shard(self.shared.journal.shards());
        if !self.shared.places.cast(shard, ShardMessage::Release(entity.clone())) {
            return Released::Unknown;
        }
        match self.read(entity, |_| ()).await {
            Ok(()) => Released::Well,
            Err(Error::Quarantined(why)) => Released::Again(why),
            Err(_) => Released::Unknown,
        }
    }
}
