//! Seals of snapshots. A snapshot stands for all events before it, so one that was written by other
//! means than by a server of the store would be believed instead of them. Its seal is a keyed hash, and
//! the key is sealed with the master key; a snapshot without its seal counts as missing.

use super::StateSnapshot;
use crate::store::{Error, Store};

/// Seals the snapshots of a store.
#[derive(Clone)]
pub(in crate::store) struct SnapshotSeals(Store);

impl SnapshotSeals {
    pub(in crate::store) const fn of(store: Store) -> Self {
        Self(store)
    }

    /// The seal of a snapshot.
    ///
    /// # Errors
    /// As [`Store::lookups`].
    pub(in crate::store) async fn seal(&self, snapshot: &StateSnapshot) -> Result<i64, Error> {
        let StateSnapshot { entity, seq, state_version, data } = snapshot;
        let text = format!("{}\n{seq}\n{state_version}\n{data}", entity.as_str());
        Ok(self.0.lookups().await?.snapshot_seal(&text))
    }

    /// The snapshot, if it has this seal.
    pub(super) async fn believed(
        &self,
        snapshot: StateSnapshot,
        seal: Option<i64>,
    ) -> Option<StateSnapshot> {
        let right = self.seal(&snapshot).await;
        if right.as_ref().is_ok_and(|right| Some(*right) == seal) {
            return Some(snapshot);
        }
        let entity = snapshot.entity.as_str();
        tracing::warn!(entity, "a snapshot without its seal is ignored: all events are read");
        None
    }
}
