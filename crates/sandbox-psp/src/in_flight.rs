//! One request at a time for each idempotency key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::OwnedMutexGuard;

use super::ledger::locked;

type Key = (String, String);
type Turns = Arc<Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>>;

/// The idempotency keys of the requests in progress, by account.
#[derive(Clone, Debug, Default)]
pub struct KeysInFlight(Turns);

/// The exclusive use of an idempotency key, until this value is dropped.
#[derive(Debug)]
pub struct Turn {
    // Must be dropped before `_place`, which then counts the remaining users of the key.
    _guard: OwnedMutexGuard<()>,
    _place: KeyGuard,
}

#[derive(Debug)]
struct KeyGuard {
    turns: Turns,
    key: Key,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl KeysInFlight {
    /// Waits until no other request uses this idempotency key.
    pub async fn enter(&self, account: &str, key: &str) -> Turn {
        let key = (account.to_owned(), key.to_owned());
        let turn = Arc::clone(locked(&self.0).entry(key.clone()).or_default());
        let place = KeyGuard { turns: Arc::clone(&self.0), key, turn };
        let guard = Arc::clone(&place.turn).lock_owned().await;
        Turn { _guard: guard, _place: place }
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        let mut turns = locked(&self.turns);
        // Only the references of the map and of this value are left: no other request uses the key
        // or waits for it.
        if Arc::strong_count(&self.turn) == 2 {
            turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finished_keys_are_removed() {
        let in_flight = KeysInFlight::default();
        let first = in_flight.enter("a", "k").await;
        let mut second = Box::pin(in_flight.enter("a", "k"));
        tokio::select! {
            biased;
            _ = &mut second => panic!("two turns at once"),
            () = std::future::ready(()) => {}
        }
        let other = in_flight.enter("b", "k").await;
        drop(first);
        drop(second.await);
        drop(other);
        assert!(locked(&in_flight.0).is_empty());
    }
}
