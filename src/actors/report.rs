//! Answers calls of other nodes: for this node's entities and rows, and for a report on its shards,
//! so that an operator can see the whole cluster on any node.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future;
use serde::{Deserialize, Serialize};

use super::engine::hosts::ErasedHost;
use super::node::Node;
use crate::bus::{CallSlot, IncomingCall};

/// The request for a report; in calls between nodes, it stands in the place of a noun's prefix.
const NOUN: &str = "report";
/// Timeout of another node's report.
const PATIENCE: Duration = Duration::from_secs(1);

/// A node's report on its load and its shards.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its shards.
    pub shards: BTreeMap<u16, ShardReport>,
    /// Entities in memory.
    pub awake: usize,
    /// Commands and reads in progress.
    pub under_way: usize,
    /// Entities in quarantine.
    pub quarantined: usize,
}

/// A node's report on one of its shards.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ShardReport {
    /// Appends that are queued or in flight in its lane.
    pub lane_depth: usize,
    /// Committed events that are not in the stream yet; `None` without a stream.
    pub relay_lag: Option<i64>,
}

impl Node {
    /// Answers another node's call to an entity or a row, or for a report.
    pub(super) async fn answer_call(&self, call: IncomingCall, mut place: CallSlot) -> Bytes {
        let Some(end) = call.body.iter().position(|byte| *byte == b'\n') else {
            return Bytes::new();
        };
        let (asked, body) = (&call.body[..end], &call.body[end + 1..]);
        let asked = std::str::from_utf8(asked).unwrap_or_default();
        if asked == NOUN {
            return serde_json::to_vec(&self.report()).unwrap_or_default().into();
        }
        let answer = self.shards.serve(asked, body, &mut || place.wait()).await;
        if answer.is_none() {
            tracing::error!(asked, from = call.from, "another node sent an unknown request");
        }
        answer.unwrap_or_default().into()
    }

    /// This node's report.
    #[must_use]
    pub fn report(&self) -> NodeReport {
        let shards = self.lanes.owned().into_iter().map(|fence| {
            let lane_depth = self.lanes.of(fence.shard).depth();
            (fence.shard, ShardReport { lane_depth, relay_lag: self.relay_lag(fence.shard) })
        });
        let mut report = NodeReport { shards: shards.collect(), ..NodeReport::default() };
        for gauge in self.hosts().iter().map(ErasedHost::gauge) {
            report.awake += gauge.awake;
            report.under_way += gauge.under_way;
            report.quarantined += gauge.quarantined;
        }
        report
    }

    /// The report of every node, this one included; `None` for one that does not answer within a
    /// second.
    pub async fn reports(&self) -> BTreeMap<String, Option<NodeReport>> {
        let mut all = BTreeMap::from([(self.name().to_owned(), Some(self.report()))]);
        if let Some(cluster) = &self.cluster {
            let asked = cluster.peers().into_iter().map(|peer| async move {
                let ask = format!("{NOUN}\n").into();
                let answer = cluster.calls().call(&peer, ask, PATIENCE).await.ok();
                (peer.node, answer.and_then(|answer| serde_json::from_slice(&answer).ok()))
            });
            all.extend(future::join_all(asked).await);
        }
        all
    }
}
