//! The faults of a cluster: each is caused, held until a condition is met, and repaired.

use std::time::{Duration, Instant};

use rand::RngExt as _;

use super::cluster::Trial;
use super::witness;
use crate::cluster::cut::ProxyMode;
use crate::cluster::servers::{Signal, Stop};
use crate::{Error, blocking};

/// Orders that must be confirmed before a fault, during one that still allows sales, and after it.
const SOLD: u64 = 10;
/// Timeout of a condition.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// The polling interval.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// A fault that is injected into a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterFault {
    /// kill -9 of a node
    Kill,
    /// A node is frozen until others own its shards, and then resumed
    Freeze,
    /// A node is cut off from PostgreSQL
    CutPostgres,
    /// A node is cut off from NATS
    CutNats,
    /// A node is cut off from PostgreSQL and NATS
    CutBoth,
    /// A node is cut off from Redis
    CutRedis,
    /// PostgreSQL is stopped, and started again when no node is ready
    PostgresStop,
    /// PostgreSQL crashes in the middle of commits, and is started at once
    PostgresCrash,
    /// NATS is killed, and started again
    NatsKill,
    /// NATS is killed, its data is deleted, and it is started again
    NatsWipe,
    /// Redis is killed, and started again
    RedisKill,
    /// Redis is flushed
    RedisFlush,
    /// All nodes are restarted, one after the other; no request may fail
    Rolling,
}

impl ClusterFault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Kill,
        Self::Freeze,
        Self::CutPostgres,
        Self::CutNats,
        Self::CutBoth,
        Self::CutRedis,
        Self::PostgresStop,
        Self::PostgresCrash,
        Self::NatsKill,
        Self::NatsWipe,
        Self::RedisKill,
        Self::RedisFlush,
        Self::Rolling,
    ];

    /// Its name, as in the arguments.
    pub fn name(self) -> String {
        use clap::ValueEnum as _;
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether no request may fail during it.
    pub fn allows_no_failed_request(self) -> bool {
        matches!(self, Self::Rolling | Self::RedisKill | Self::RedisFlush)
    }
}

impl Trial {
    /// Causes a fault while buyers shop, and repairs it; returns how long other nodes took to own a
    /// node's shards.
    pub(super) async fn inject(&mut self, fault: ClusterFault) -> Result<Option<Duration>, Error> {
        self.sells(SOLD).await?;
        let node = self.moments.random_range(0..self.cluster.nodes.len());
        let cut = if self.moments.random() { ProxyMode::Cut } else { ProxyMode::Reset };
        let took = match fault {
            ClusterFault::Kill => {
                self.cluster.nodes[node].kill();
                let took = self.taken_over(node).await?;
                self.sells(SOLD).await?;
                self.cluster.start_node(node)?;
                Some(took)
            }
            ClusterFault::Freeze => {
                self.cluster.nodes[node].signal(Signal::STOP)?;
                let took = self.taken_over(node).await;
                self.cluster.nodes[node].signal(Signal::CONT)?;
                Some(took?)
            }
            ClusterFault::CutPostgres | ClusterFault::CutBoth => {
                self.set_lines(node, fault, cut);
                let took = self.taken_over(node).await;
                self.set_lines(node, fault, ProxyMode::Whole);
                Some(took?)
            }
            ClusterFault::CutNats | ClusterFault::CutRedis => {
                self.set_lines(node, fault, cut);
                let sold = self.sells(SOLD).await;
                self.set_lines(node, fault, ProxyMode::Whole);
                sold?;
                None
            }
            ClusterFault::PostgresStop | ClusterFault::PostgresCrash => {
                self.postgres(fault).await?
            }
            ClusterFault::NatsKill | ClusterFault::NatsWipe => {
                let nats = &mut self.cluster.nats;
                match fault {
                    ClusterFault::NatsWipe => blocking(|| nats.wipe())?,
                    _ => nats.kill(),
                }
                self.sells(SOLD).await?;
                blocking(|| self.cluster.nats.start_again())?;
                None
            }
            ClusterFault::RedisKill => {
                self.cluster.redis.kill();
                self.sells(SOLD).await?;
                blocking(|| self.cluster.redis.start_again())?;
                None
            }
            ClusterFault::RedisFlush => {
                blocking(|| self.cluster.redis.flush())?;
                None
            }
            ClusterFault::Rolling => {
                for node in 0..self.cluster.nodes.len() {
                    blocking(|| self.cluster.nodes[node].stop())?;
                    self.sells(SOLD).await?;
                    self.cluster.start_node(node)?;
                    self.cluster.all_up().await?;
                }
                None
            }
        };
        self.cluster.all_up().await?;
        self.spread().await?;
        self.sells(SOLD).await?;
        Ok(took)
    }

    async fn postgres(&mut self, fault: ClusterFault) -> Result<Option<Duration>, Error> {
        let how = match fault {
            ClusterFault::PostgresStop => Stop::Fast,
            _ if self.moments.random() => Stop::Immediate,
            _ => Stop::Kill,
        };
        blocking(|| self.cluster.postgres.stop(how))?;
        if fault == ClusterFault::PostgresStop {
            self.cluster.up(|up| up == [false; 3]).await?;
        }
        blocking(|| self.cluster.postgres.start_again())?;
        Ok(None)
    }

    fn set_lines(&self, node: usize, fault: ClusterFault, state: ProxyMode) {
        let proxies = &self.cluster.proxies[node];
        if matches!(fault, ClusterFault::CutPostgres | ClusterFault::CutBoth) {
            proxies.postgres.set(state);
        }
        if matches!(fault, ClusterFault::CutNats | ClusterFault::CutBoth) {
            proxies.nats.set(state);
        }
        if fault == ClusterFault::CutRedis {
            proxies.redis.set(state);
        }
    }

    /// Waits until more orders have been confirmed; stock is added meanwhile.
    async fn sells(&self, count: u64) -> Result<(), Error> {
        let (before, _) = self.buyers.shopping();
        self.until("no orders are confirmed", async || {
            let (now, _) = self.buyers.shopping();
            Ok(now >= before + count)
        })
        .await
    }

    /// Waits until a node owns nothing and all shards have an owner; returns how long it took.
    async fn taken_over(&self, node: usize) -> Result<Duration, Error> {
        let (started, url) = (Instant::now(), self.cluster.nodes[node].url());
        let what = format!("no node takes over the shards of {}", self.cluster.nodes[node].name());
        self.until(&what, async || {
            let shards = witness::shards(&self.cluster, &url)?;
            Ok(shards.of_node == 0 && shards.all_owned())
        })
        .await?;
        Ok(started.elapsed())
    }

    /// Waits until all shards have an owner, and each node has some.
    pub(super) async fn spread(&self) -> Result<(), Error> {
        let nodes = self.cluster.nodes.len() as u64;
        self.until("not every node has shards", async || {
            let shards = witness::shards(&self.cluster, "")?;
            Ok(shards.all_owned() && shards.owners == nodes)
        })
        .await
    }

    async fn until(
        &self,
        what: &str,
        met: impl AsyncFn() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let until = Instant::now() + PATIENCE;
        while !met().await? {
            if Instant::now() >= until {
                let scene = witness::scene(&self.cluster);
                return Err(Error::Failed(format!("{scene}\n{what}")));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}
