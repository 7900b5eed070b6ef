//! The in-process feed of committed events: this node's own come from its lanes, those of other
//! nodes from the stream. It may lose events: a receiver that lags reads the journal.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::domain::entity::Record;

/// The commits that a slow receiver may lag before it has to read the journal.
const DEPTH: usize = 4_096;

/// Broadcasts every commit.
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

    /// Subscribes.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<[Record]>> {
        self.sender.subscribe()
    }
}
