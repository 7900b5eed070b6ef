//! A whole cluster on one machine: three nodes behind HAProxy, on PostgreSQL, NATS and Redis, with
//! a sandbox payment provider in this process.
//!
//! `servers` starts and stops the real servers, `node` runs this program as a node; `cut` is a
//! connection between two of them that can be cut; `packages` installs missing programs.
//! `crash_test` causes faults in a cluster and checks it.

pub mod cut;
pub mod node;
pub mod packages;
pub mod servers;

use std::path::Path;
use std::time::{Duration, Instant};

use kontor_sandbox_psp::Running;

use self::cut::{ProxyMode, TcpProxy};
use self::node::{ServerNode, Surroundings};
use self::servers::{
    Haproxy, Nats, PostgresOptions, PostgresServer, ProxyPlan, Redis, Signal, local,
};
use crate::program::{Kontor, StoreLocation};
use crate::{Error, blocking};

/// The database of the shop.
pub const DATABASE: &str = "kontor";
/// The names of the nodes.
const NODES: [&str; 3] = ["node1", "node2", "node3"];
/// The longest time until the balancer uses all nodes.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// The polling interval.
const LOOK: Duration = Duration::from_millis(20);

/// Options of a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The nodes' program.
    pub program: Kontor,
    /// Whether each node reaches PostgreSQL, NATS and Redis through proxies that can be cut, and
    /// uses PostgreSQL as a user with the node's name.
    pub proxies: bool,
    /// More settings of the nodes.
    pub settings: Vec<(&'static str, String)>,
}

/// The proxies of one node.
#[derive(Debug)]
pub struct NodeProxies {
    /// The proxy to PostgreSQL.
    pub postgres: TcpProxy,
    /// The proxy to NATS.
    pub nats: TcpProxy,
    /// The proxy to Redis.
    pub redis: TcpProxy,
}

/// A running cluster. It stops when it is dropped.
pub struct Cluster {
    /// The balancer.
    pub haproxy: Haproxy,
    /// The nodes.
    pub nodes: Vec<ServerNode>,
    /// The addresses that each node uses.
    around: Vec<Surroundings>,
    /// The proxies of each node, if there are any.
    pub proxies: Vec<NodeProxies>,
    /// The NATS server.
    pub nats: Nats,
    /// The Redis server.
    pub redis: Redis,
    /// The PostgreSQL server.
    pub postgres: PostgresServer,
    /// The payment provider.
    pub psp: Running,
    /// An administrator's API key.
    pub key: String,
}

impl Cluster {
    /// Starts everything in a folder, until the balancer sends requests to all nodes.
    ///
    /// # Errors
    /// [`Error`]; everything that was started is stopped then.
    pub async fn start(dir: &Path, options: &Options) -> Result<Self, Error> {
        let listen = ([127, 0, 0, 1], 0).into();
        let psp = kontor_sandbox_psp::Options { data: dir.join("psp"), listen };
        let psp = kontor_sandbox_psp::start(psp).await?;
        let (postgres, nats, redis) = blocking(|| servers(dir))?;
        let program = &options.program;
        let key =
            program.create_key(StoreLocation::Database(&postgres.url(DATABASE)), "cluster")?;
        let mut nodes = Vec::new();
        for name in NODES {
            nodes.push(ServerNode::new(name, program, dir)?);
        }
        let plan = ProxyPlan::before([nodes[0].addr(), nodes[1].addr(), nodes[2].addr()])?;
        let mut settings = options.settings.clone();
        settings.push(("KONTOR__PAYMENTS__WEBHOOK_URL", format!("http://{}", plan.balancer)));
        let plain = Surroundings {
            store: postgres.url(DATABASE),
            bus: nats.url(),
            cache: redis.url(),
            psp: psp.url(),
            settings,
        };
        let (mut around, mut all_proxies) = (vec![plain.clone(); NODES.len()], Vec::new());
        if options.proxies {
            for (name, around) in NODES.iter().zip(&mut around) {
                let role = format!("CREATE ROLE {name} SUPERUSER LOGIN");
                blocking(|| postgres.sql(DATABASE, &role))?;
                let own = proxies(&postgres, &nats, &redis).await?;
                *around = by(&own, &plain, (&postgres, &nats, &redis), name);
                all_proxies.push(own);
            }
        }
        let haproxy = blocking(|| Haproxy::start(&dir.join("haproxy"), plan))?;
        let mut cluster =
            Self { haproxy, nodes, around, proxies: all_proxies, nats, redis, postgres, psp, key };
        for node in 0..cluster.nodes.len() {
            cluster.nodes[node].start(&cluster.around[node])?;
        }
        for node in &mut cluster.nodes {
            blocking(|| node.answers())?;
        }
        cluster.all_up().await?;
        Ok(cluster)
    }

    /// The shop's URL, for clients.
    #[must_use]
    pub fn url(&self) -> String {
        self.haproxy.url()
    }

    /// The store's URL, for this process.
    #[must_use]
    pub fn store_url(&self) -> String {
        self.postgres.url(DATABASE)
    }

    /// Starts a node again, and waits until it answers.
    ///
    /// # Errors
    /// [`Error`].
    pub fn start_node(&mut self, node: usize) -> Result<(), Error> {
        let (one, around) = (&mut self.nodes[node], &self.around[node]);
        blocking(|| one.start(around).and_then(|()| one.answers()))?;
        Ok(())
    }

    /// Restarts nodes that have ended unexpectedly; returns a message about each.
    pub fn restart_ended(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for (node, around) in self.nodes.iter_mut().zip(&self.around) {
            if let Some(status) = node.take_ended() {
                lines.push(match node.start(around) {
                    Ok(()) => format!("{} ended ({status}) and was started again", node.name()),
                    Err(error) => format!("{} ended ({status}): {error}", node.name()),
                });
            }
        }
        lines
    }

    /// Waits until each node answers; a node that does not answer in time is killed.
    pub fn settle(&mut self) {
        for node in &mut self.nodes {
            if blocking(|| node.answers()).is_err() {
                node.kill();
            }
        }
    }

    /// Waits until the nodes to which the balancer sends requests are as `wanted`.
    ///
    /// # Errors
    /// [`Error::Failed`] after a timeout.
    pub async fn up(&self, wanted: impl Fn([bool; 3]) -> bool) -> Result<(), Error> {
        let until = Instant::now() + UP_WITHIN;
        loop {
            let up = blocking(|| self.haproxy.up())?;
            if wanted(up) {
                return Ok(());
            }
            if Instant::now() >= until {
                let logs: Vec<String> = self.nodes.iter().map(ServerNode::log).collect();
                let text =
                    format!("{}\nthe balancer sees the nodes as {up:?}", logs.join("\n---\n"));
                return Err(Error::Failed(text));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the balancer sends requests to all nodes.
    ///
    /// # Errors
    /// As [`Cluster::up`].
    pub async fn all_up(&self) -> Result<(), Error> {
        self.up(|up| up == [true; 3]).await
    }

    /// Stops the balancer and the nodes in order. Store and provider keep running, for checks.
    ///
    /// # Errors
    /// [`Error`]: a node did not stop, or failed.
    pub fn close(&mut self) -> Result<(), Error> {
        self.haproxy.kill();
        for proxy in self.proxies.iter().flat_map(|one| [&one.postgres, &one.nats, &one.redis]) {
            proxy.set(ProxyMode::Whole);
        }
        // All are signaled first, then awaited one by one.
        self.nodes.iter().try_for_each(|node| node.signal(Signal::TERM))?;
        for node in &mut self.nodes {
            blocking(|| node.stop())?;
        }
        Ok(())
    }
}

fn servers(dir: &Path) -> Result<(PostgresServer, Nats, Redis), Error> {
    let options = PostgresOptions::default();
    let postgres = PostgresServer::start_with(&dir.join("postgres"), options)?;
    postgres.create_database(DATABASE)?;
    let nats = Nats::start(&dir.join("nats"))?;
    let redis = Redis::start(&dir.join("redis"))?;
    Ok((postgres, nats, redis))
}

async fn proxies(
    postgres: &PostgresServer,
    nats: &Nats,
    redis: &Redis,
) -> std::io::Result<NodeProxies> {
    Ok(NodeProxies {
        postgres: TcpProxy::to(local(postgres.port())).await?,
        nats: TcpProxy::to(local(nats.port())).await?,
        redis: TcpProxy::to(local(redis.port())).await?,
    })
}

/// Replaces the addresses by those of the node's own proxies, and the database user by the node's
/// own.
fn by(
    proxies: &NodeProxies,
    plain: &Surroundings,
    (postgres, nats, redis): (&PostgresServer, &Nats, &Redis),
    user: &str,
) -> Surroundings {
    let store = proxies.postgres.instead(&plain.store, local(postgres.port()));
    Surroundings {
        store: store.replacen("postgres@", &format!("{user}@"), 1),
        bus: proxies.nats.instead(&plain.bus, local(nats.port())),
        cache: proxies.redis.instead(&plain.cache, local(redis.port())),
        ..plain.clone()
    }
}
