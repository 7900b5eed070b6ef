//! The in-process feed of what journals have committed: this node's own commits come from its
//! lanes, those of other nodes from the stream. It is not the truth: whoever falls behind reads
//! the journal.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::domain::entity::Record;

/// How many commits a slow reader may be behind before it has to read the journal.
const DEPTH: usize = 4_096;

/// Hands every commit to all who listen.
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
    /// Hands a commit's records on; nobody is waited for.
    pub fn publish(&self, records: &[Record]) {
        if self.sender.receiver_count() > 0 {
            let _ = self.sender.send(records.into());
        }
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<[Record]>> {
        self.sender.subscribe()
    }
}
