//! Places: how many may listen at once, over all and for each owner, so that nobody can take
//! all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why there is no free slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketsFull {
    /// All are taken.
    All,
    /// The owner has as many as one may have.
    Owner,
}

/// A bounded number of slots.
#[derive(Debug)]
pub struct SocketSlots {
    taken: Arc<Mutex<Taken>>,
    max: usize,
    each_max: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<Arc<str>, usize>,
}

/// A slot, taken until this is dropped.
#[derive(Debug)]
pub struct SocketSlot {
    taken: Arc<Mutex<Taken>>,
    owner: Arc<str>,
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SocketSlots {
    /// Nobody has one of `max` places yet, of which each owner may have `each_max`.
    #[must_use]
    pub fn new(max: usize, each_max: usize) -> Self {
        Self { taken: Arc::default(), max, each_max }
    }

    /// Takes a place for an owner.
    ///
    /// # Errors
    /// [`SocketsFull`]: there is none, or none for this owner.
    pub fn take(&self, owner: &str) -> Result<SocketSlot, SocketsFull> {
        let mut taken = lock(&self.taken);
        if taken.all >= self.max {
            return Err(SocketsFull::All);
        }
        let known = taken.of.get_key_value(owner).map(|(owner, count)| (owner.clone(), *count));
        let (owner, count) = known.unwrap_or_else(|| (owner.into(), 0));
        if count >= self.each_max {
            return Err(SocketsFull::Owner);
        }
        taken.all += 1;
        taken.of.insert(owner.clone(), count + 1);
        drop(taken);
        Ok(SocketSlot { taken: Arc::clone(&self.taken), owner })
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        lock(&self.taken).all
    }
}

impl Drop for SocketSlot {
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
    fn nobody_takes_all_places_and_each_comes_back() {
        let places = SocketSlots::new(3, 2);
        let (one, two) = (places.take("a").unwrap(), places.take("a").unwrap());
        assert_eq!(places.take("a").unwrap_err(), SocketsFull::Owner);
        let other = places.take("b").unwrap();
        assert_eq!(places.take("c").unwrap_err(), SocketsFull::All);
        drop((one, other));
        assert_eq!(places.taken(), 1);
        let again = places.take("a").unwrap();
        assert_eq!(places.take("a").unwrap_err(), SocketsFull::Owner);
        drop((two, again));
        assert_eq!((places.taken(), lock(&places.taken).of.len()), (0, 0));
    }
}
