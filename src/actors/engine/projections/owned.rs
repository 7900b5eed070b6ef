//! The set of shards whose rows this node writes. The cluster changes it; the projector and the
//! follower watch it. It is no proof of ownership: the lease and the journal are.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The shards that this node owns. Clones are handles on the same set.
#[derive(Clone, Debug, Default)]
pub struct Owned(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    shards: BTreeSet<u16>,
    /// One per watcher: they are notified in the order in which they started to watch.
    told: Vec<watch::Sender<BTreeSet<u16>>>,
}

impl Owned {
    /// A set with these shards.
    #[must_use]
    pub fn of(shards: impl IntoIterator<Item = u16>) -> Self {
        let inner = Inner { shards: shards.into_iter().collect(), told: Vec::new() };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<u16>) -> bool) {
        let mut inner = self.lock();
        let Inner { shards, told } = &mut *inner;
        if change(shards) {
            told.retain(|one| one.send(shards.clone()).is_ok());
        }
    }

    /// Adds a shard.
    pub fn own(&self, shard: u16) {
        self.change(|shards| shards.insert(shard));
    }

    /// Removes a shard. The projector's batch in progress leaves it out.
    pub fn disown(&self, shard: u16) {
        self.change(|shards| shards.remove(&shard));
    }

    /// Whether the set contains a shard.
    #[must_use]
    pub fn has(&self, shard: u16) -> bool {
        self.lock().shards.contains(&shard)
    }

    /// All shards of the set, in order.
    #[must_use]
    pub fn all(&self) -> BTreeSet<u16> {
        self.lock().shards.clone()
    }

    /// Watches the set.
    pub(in crate::actors) fn watch(&self) -> watch::Receiver<BTreeSet<u16>> {
        let mut inner = self.lock();
        let (sender, receiver) = watch::channel(inner.shards.clone());
        inner.told.push(sender);
        receiver
    }
}
