//! Which shards a node writes rows of: said by whoever claims and loses them, heard by the
//! projector and the follower. Who owns a shard is decided elsewhere, and proven by nothing here.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The shards that this node owns. Clones are handles on the same set.
#[derive(Clone, Debug, Default)]
pub struct Owned(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    shards: BTreeSet<u16>,
    /// One for each who listens: they hear of a change in the order in which they began.
    told: Vec<watch::Sender<BTreeSet<u16>>>,
}

impl Owned {
    /// A set that begins with these.
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

    /// Lets the rows of a shard be written here from now on.
    pub fn own(&self, shard: u16) {
        self.change(|shards| shards.insert(shard));
    }

    /// Lets them be written here no longer. A step that is under way leaves this shard out.
    pub fn disown(&self, shard: u16) {
        self.change(|shards| shards.remove(&shard));
    }

    /// Whether a shard is in it.
    #[must_use]
    pub fn has(&self, shard: u16) -> bool {
        self.lock().shards.contains(&shard)
    }

    /// All of them, in order.
    #[must_use]
    pub fn all(&self) -> BTreeSet<u16> {
        self.lock().shards.clone()
    }

    /// Hears of every change.
    pub(in crate::actors) fn watch(&self) -> watch::Receiver<BTreeSet<u16>> {
        let mut inner = self.lock();
        let (sender, receiver) = watch::channel(inner.shards.clone());
        inner.told.push(sender);
        receiver
    }
}
