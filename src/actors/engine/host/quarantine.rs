//! The list of a noun's quarantined entities, with reason and time, and their release. An entity
//! quarantines itself if its history cannot be read; its shard's supervisor quarantines it if it
//! has failed too often.

use std::collections::BTreeMap;
use std::sync::RwLock;

use super::route::ShardMessage;
use super::{Error, Host, read_lock, write};
use crate::domain::entity::{EntityId, Noun};
use crate::domain::time::Timestamp;

/// The most entities in the list; the others are only in the log.
const NOTED_MAX: usize = 10_000;
/// The most characters stored of a reason.
const REASON_MAX: usize = 500;

/// An entity in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The entity.
    pub entity: EntityId,
    /// The reason.
    pub reason: String,
    /// The time of quarantine.
    pub since: Timestamp,
}

/// The outcome of releasing an entity from quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// It is not in quarantine.
    NotThere,
    /// It works again.
    Well,
    /// It is in quarantine again, for this reason.
    Again(String),
    /// The entity did not answer: whether it works again is not known yet.
    Unknown,
}

/// The entities in quarantine.
#[derive(Default)]
pub(super) struct Quarantine(RwLock<BTreeMap<EntityId, (String, Timestamp)>>);

impl Quarantine {
    pub(super) fn len(&self) -> usize {
        read_lock(&self.0).len()
    }

    /// Adds an entity, unless it is in the list already.
    pub(super) fn note(&self, entity: &EntityId, why: &str, now: Timestamp) {
        let mut noted = write(&self.0);
        if noted.len() < NOTED_MAX && !noted.contains_key(entity) {
            let reason = why.chars().take(REASON_MAX).collect();
            noted.insert(entity.clone(), (reason, now));
        }
    }

    /// Removes an entity, because it has read its history without a fault.
    pub(super) fn well(&self, entity: &EntityId) {
        if read_lock(&self.0).contains_key(entity) {
            write(&self.0).remove(entity);
        }
    }
}

impl<N: Noun> Host<N> {
    /// The quarantined entities in order of their ids, at most `limit`.
    #[must_use]
    pub fn quarantined(&self, limit: usize) -> Vec<Quarantined> {
        let show = |(entity, (reason, since)): (&EntityId, &(String, Timestamp))| Quarantined {
            entity: entity.clone(),
            reason: reason.clone(),
            since: *since,
        };
        read_lock(&self.shared.quarantine.0).iter().take(limit).map(show).collect()
    }

    /// Releases an entity from quarantine: it reads its history again.
    pub async fn release(&self, entity: &EntityId) -> Released {
        if !read_lock(&self.shared.quarantine.0).contains_key(entity) {
            return Released::NotThere;
        }
        let shard = entity.shard(self.shared.journal.shards());
        if !self.shared.running.cast(shard, ShardMessage::Release(entity.clone())) {
            return Released::Unknown;
        }
        match self.read(entity, |_| ()).await {
            Ok(()) => Released::Well,
            Err(Error::Quarantined(why)) => Released::Again(why),
            Err(_) => Released::Unknown,
        }
    }
}
