//! Limits of concurrent sockets and streams, in all and per owner, so that no owner can use up all
//! slots. The owner of a socket is an API key or a session; the owner of a stream is its order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotsFull {
    /// The limit of all owners is reached.
    All,
    /// The limit of one owner is reached.
    Owner,
}

/// A limited number of slots for sockets or streams.
#[derive(Debug)]
pub struct OwnerSlots {
    taken: Arc<Mutex<Taken>>,
    max: usize,
    each_max: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<Arc<str>, usize>,
}

/// A slot, until it is dropped.
#[derive(Debug)]
pub struct OwnerSlot {
    taken: Arc<Mutex<Taken>>,
    owner: Arc<str>,
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OwnerSlots {
    /// `max` free slots, of which each owner may use `each_max`.
    #[must_use]
    pub fn new(max: usize, each_max: usize) -> Self {
        Self { taken: Arc::default(), max, each_max }
    }

    /// Takes a slot for an owner.
    ///
    /// # Errors
    /// [`SlotsFull`]: none is free, or the owner has reached its limit.
    pub fn take(&self, owner: &str) -> Result<OwnerSlot, SlotsFull> {
        let mut taken = lock(&self.taken);
        if taken.all >= self.max {
            return Err(SlotsFull::All);
        }
        let known = taken.of.get_key_value(owner).map(|(owner, count)| (owner.clone(), *count));
        let (owner, count) = known.unwrap_or_else(|| (owner.into(), 0));
        if count >= self.each_max {
            return Err(SlotsFull::Owner);
        }
        taken.all += 1;
        taken.of.insert(owner.clone(), count + 1);
        drop(taken);
        Ok(OwnerSlot { taken: Arc::clone(&self.taken), owner })
    }

    /// The number of slots in use.
    #[must_use]
    pub fn taken(&self) -> usize {
        lock(&self.taken).all
    }
}

impl Drop for OwnerSlot {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= 1;
        if let Some(count) = taken.of.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                taken.of.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_cannot_take_all_slots() {
        let slots = OwnerSlots::new(3, 2);
        let (one, two) = (slots.take("a").unwrap(), slots.take("a").unwrap());
        assert_eq!(slots.take("a").unwrap_err(), SlotsFull::Owner);
        let other = slots.take("b").unwrap();
        assert_eq!(slots.take("c").unwrap_err(), SlotsFull::All);
        drop((one, other));
        assert_eq!(slots.taken(), 1);
        let again = slots.take("a").unwrap();
        assert_eq!(slots.take("a").unwrap_err(), SlotsFull::Owner);
        drop((two, again));
        assert_eq!((slots.taken(), lock(&slots.taken).of.len()), (0, 0));
    }
}
