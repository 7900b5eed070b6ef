//! Calls to the node that owns a shard.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;

use super::ClusterMember;
use crate::actors::engine::host::{RemoteEntities, RemoteFailure};
use crate::bus::CallError;

/// How long to wait for answers of a former owner that may still be in transit.
const LAST_WORDS: Duration = Duration::from_millis(500);

impl ClusterMember {
    /// Waits until `node` is no longer the owner of a shard, and then until its last answers may
    /// have arrived. A call to it is given up after that, because a dead node never answers.
    async fn no_longer(&self, shard: u16, node: &str) {
        loop {
            let changed = self.changed.notified();
            let view = self.view();
            let owner = view.holdings.get(usize::from(shard)).and_then(|one| one.owner.as_deref());
            if owner != Some(node) {
                return tokio::time::sleep(LAST_WORDS).await;
            }
            changed.await;
        }
    }

    /// Sends a message to the owner of a shard, and returns its answer.
    async fn ask(
        &self,
        shard: u16,
        message: Bytes,
        patience: Duration,
    ) -> Result<Bytes, RemoteFailure> {
        let view = self.view();
        let owner = view.holdings.get(usize::from(shard)).and_then(|one| one.owner.as_ref());
        let peer = owner.filter(|owner| **owner != self.me).and_then(|id| view.peers.get(id));
        let Some(peer) = peer else {
            return Err(RemoteFailure::Nobody);
        };
        let answer = tokio::select! {
            biased;
            answer = self.calls.call(peer, message, patience) => answer,
            () = self.no_longer(shard, &peer.node) => return Err(RemoteFailure::Unknown),
        };
        match answer {
            Ok(answer) => Ok(answer),
            Err(CallError::Busy(_)) => Err(RemoteFailure::Busy),
            Err(error @ CallError::TooLarge(_)) => {
                Err(RemoteFailure::Unsendable(error.to_string()))
            }
            Err(error) => {
                tracing::debug!(%error, "a node did not answer");
                self.look_now.notify_one();
                let delivered = matches!(error, CallError::Unknown { .. });
                Err(if delivered { RemoteFailure::Unknown } else { RemoteFailure::Nobody })
            }
        }
    }
}

#[async_trait]
impl RemoteEntities for ClusterMember {
    async fn call(
        &self,
        shard: u16,
        noun: &'static str,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<Bytes, RemoteFailure> {
        let mut message = Vec::with_capacity(noun.len() + 1 + body.len());
        message.extend_from_slice(noun.as_bytes());
        message.push(b'\n');
        message.extend_from_slice(&body);
        self.ask(shard, message.into(), patience).await
    }

    async fn changed(&self, patience: Duration) {
        let _either = timeout(patience, self.changed.notified()).await;
    }
}
