//! The in-process feed of committed events. The events of this node come from its lanes, those of
//! other nodes from the stream. A receiver that lags too far misses events, and reads them from the
//! journal.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::domain::entity::Record;

/// The number of commits by which a receiver may lag before it misses some.
const DEPTH: usize = 4_096;

/// Broadcasts the records of every commit within this node.
#[derive(Clone, Debug)]
pub struct Feed {
    sender: broadcast::Sender<Arc<[Record]>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(DEPTH) }
    }
}

impl Feed {
    /// Publishes a commit's records without waiting for receivers.
    pub fn publish(&self, records: &[Record]) {
        if self.sender.receiver_count() > 0 {
            let _ = self.sender.send(records.into());
        }
    }

    /// Subscribes to all commits from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<[Record]>> {
        self.sender.subscribe()
    }
}
