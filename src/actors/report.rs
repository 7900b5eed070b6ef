//! What only a node itself knows of its shards and entities, told to any other that asks, so that
//! an operator sees all of it on any node.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future;
use serde::{Deserialize, Serialize};

use super::node::Node;

/// What reports are called between nodes.
pub(super) const NOUN: &str = "report";
/// How long another node may take to report.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a node says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Its shards.
    pub shards: BTreeMap<u16, OfShard>,
    /// Entities in memory.
    pub awake: usize,
    /// Commands under way.
    pub under_way: usize,
    /// Entities in quarantine.
    pub quarantined: usize,
}

/// What a node says of a shard that it has.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct OfShard {
    /// Appends that wait or are in flight in its lane.
    pub lane_depth: usize,
    /// Events that the stream does not have yet; nothing without one.
    pub relay_lag: Option<i64>,
}

impl Node {
    /// What this node says of itself.
    #[must_use]
    pub fn report(&self) -> Report {
        let shards = self.lanes.owned().into_iter().map(|fence| {
            let lane_depth = self.lanes.of(fence.shard).depth();
            (fence.shard, OfShard { lane_depth, relay_lag: self.relay_lag(fence.shard) })
        });
        let mut report = Report { shards: shards.collect(), ..Report::default() };
        let (carts, orders) = (self.carts.gauge(), self.orders.gauge());
        for gauge in [carts, orders, self.stock.gauge(), self.counters.gauge()] {
            report.awake += gauge.awake;
            report.under_way += gauge.under_way;
            report.quarantined += gauge.quarantined;
        }
        report
    }

    /// What every node says of itself, this one too; nothing of one that does not answer within
    /// a second.
    pub async fn reports(&self) -> BTreeMap<String, Option<Report>> {
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
