//! The only place where everything meets: what is started, in which order, and how it stops.
//!
//! Store, node, HTTP server, in this order; and back in the other: no new requests, those under
//! way finish, the journal's queue is written, the store is closed. A node among others gives its
//! shards away first, and goes on serving until balancers have noticed that it leaves.

mod assembly;
mod cluster;
mod jobs;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::actors::engine::clock::Clock;
use crate::actors::engine::runtime::{Defaults, Runtime};
use crate::actors::flows::payment::Payments;
use crate::actors::node::{self, Node};
use crate::bus::queue::{QueueConnection, TwinLine};
use crate::cache::{self, Cache};
use crate::config::{self, Config, Use};
use crate::http::server::{self, Server};
use crate::providers::payment::{self, Provider};
use crate::providers::sandbox::Sandbox;
use crate::store::{self, OpenError, Store};
use crate::verify::provider::sandbox_options;

pub use self::assembly::Assembly;

/// The pause between two tries to tell the provider where its webhooks go.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(2);

/// A running server.
pub struct App {
    /// The node.
    pub node: Arc<Node>,
    /// The data.
    pub store: Store,
    server: Server,
    jobs: JoinHandle<()>,
    stop: CancellationToken,
    webhook_url: String,
    leave_after: Duration,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The data folder cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There can be no cache.
    #[error(transparent)]
    Cache(#[from] cache::CacheOpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The node does not start.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// The HTTP server does not start.
    #[error(transparent)]
    Server(#[from] server::StartError),
    /// NATS cannot be used as it is set up.
    #[error(transparent)]
    Bus(#[from] crate::bus::nats::Error),
    /// Other nodes cannot be called.
    #[error("cannot call other nodes: {0}")]
    Calls(String),
    /// The sandbox provider cannot be used.
    #[error("the sandbox payment provider cannot be used: {0}")]
    Provider(#[from] payment::Error),
    /// The sandbox is for trying things out.
    #[error(
        "profile production does not allow the sandbox provider: remove sandbox.url (or --sandbox-psp), or \
         use profile development"
    )]
    SandboxInProduction,
}

impl App {
    /// Starts a server.
    ///
    /// # Errors
    /// [`Error`]; nothing keeps running then.
    pub fn start(config: &Config) -> BoxFuture<'_, Result<Self, Error>> {
        Self::start_at(config, Clock::system())
    }

    /// Starts a server with a clock of the caller's.
    ///
    /// # Errors
    /// As [`App::start`].
    pub fn start_at(config: &Config, clock: Clock) -> BoxFuture<'_, Result<Self, Error>> {
        Self::start_with(config, clock, Assembly::standard())
    }

    /// Starts a server that is made of more than every other.
    ///
    /// # Errors
    /// As [`App::start`].
    pub fn start_with(
        config: &Config,
        clock: Clock,
        assembly: Assembly,
    ) -> BoxFuture<'_, Result<Self, Error>> {
        // Boxed, it is compiled with this crate, and not again with each that starts a server.
        Box::pin(Self::assemble(config, clock, assembly))
    }

    async fn assemble(config: &Config, clock: Clock, assembly: Assembly) -> Result<Self, Error> {
        config.check()?;
        if config.profile == Use::Production && !config.sandbox.url.is_empty() {
            return Err(Error::SandboxInProduction);
        }
        let cache = Cache::open(&config.cache).await?;
        let store = if config.store.url.is_empty() {
            Store::open(&config.data.dir, &config.store).await?
        } else {
            Store::connect(&config.store.url, &config.store).await?
        };
        let sandbox = match sandbox(config, &store).await {
            Ok(sandbox) => sandbox,
            Err(error) => {
                store.close().await;
                return Err(error);
            }
        };
        let stop = CancellationToken::new();
        let (cluster, line) = match cluster::start(config, &store, &clock, &stop).await? {
            Some((cluster, line)) => (Some(cluster), line),
            None => (None, Arc::new(TwinLine::default()) as Arc<dyn QueueConnection>),
        };
        let name = cluster.as_ref().map_or_else(|| "single".to_owned(), |own| own.node.clone());
        let calls = cluster.as_ref().map(|cluster| cluster.calls.clone());
        let leave_ms = cluster.as_ref().map_or(0, |_| config.cluster.leave_ms);
        let providers: Vec<Arc<dyn Provider>> = sandbox.into_iter().collect();
        let runtime = Runtime::new(&defaults(config, &providers));
        runtime.refresh(&store).await?;
        let node = Node::start(node::NodeStart {
            nouns: assembly.nouns,
            store: Arc::new(store.clone()),
            clock,
            rules: config.pricing.clone(),
            projections: assembly.projections,
            settings: config.shop.clone(),
            rows: assembly.rows,
            host: config.entities.clone(),
            lane: config.store.lane.clone(),
            lanes: config.store.lanes(),
            payments: Payments::new(providers, config.payments.clone()),
            cache,
            runtime: runtime.clone(),
            cluster,
        })
        .await?;
        let start = server::ServerStart {
            options: config.http.clone(),
            node: node.clone(),
            store: store.clone(),
            calls,
            routes: assembly.routes,
            topics: assembly.topics,
        };
        let server = match server::start(start).await {
            Ok(server) => server,
            Err(error) => {
                node.stop().await;
                return Err(error.into());
            }
        };
        let (queue, jobs) = jobs::start(&node, (&store, assembly.books), line, &name, stop.clone());
        server.set_jobs(queue);
        let webhook_url = config.payments.webhook_url.clone();
        let leave_after = Duration::from_millis(leave_ms);
        let app = Self { node, store, server, jobs, stop, webhook_url, leave_after };
        let own = cluster::address(config, app.server.addr()).await;
        app.node.join(&own).await;
        let notices = app.node.cluster.as_ref().map(|cluster| cluster.notices().clone());
        tokio::spawn(runtime.follow(app.store.clone(), notices, app.stop.clone()));
        app.subscribe();
        Ok(app)
    }

    /// Waits until the HTTP server serves no more, because it was stopped or has failed.
    pub async fn server_ended(&self) {
        self.server.ended().await;
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        let mut addr = self.server.addr();
        if addr.ip().is_unspecified() {
            addr.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        format!("http://{addr}")
    }

    /// Stops it: requests under way finish, and all that was acknowledged is on disk.
    pub fn stop(self) -> BoxFuture<'static, ()> {
        Box::pin(self.wind_down())
    }

    async fn wind_down(self) {
        self.server.leave();
        let noticed = tokio::time::sleep(self.leave_after);
        self.node.leave().await;
        noticed.await;
        self.stop.cancel();
        self.server.stop().await;
        // What a job had begun, and did not end in time, is begun again at the next start.
        let _ended = self.jobs.await;
        self.node.stop().await;
    }

    /// Tells every provider where its webhooks go, again and again until it has understood.
    fn subscribe(&self) {
        for (name, provider) in self.node.payments.all() {
            let (name, provider) = (name.to_owned(), Arc::clone(provider));
            let own = self.url();
            let base = if self.webhook_url.is_empty() { &own } else { &self.webhook_url };
            let url = format!("{base}/v1/webhooks/{name}");
            let stop = self.stop.clone();
            tokio::spawn(async move {
                while let Err(error) = provider.subscribe(&url).await {
                    tracing::warn!(%error, provider = name, "cannot register the webhook URL at \
                                                             the provider; retrying");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(SUBSCRIBE_AGAIN) => {}
                    }
                }
            });
        }
    }
}

/// What holds of the settings that may change while it runs, until somebody changes them.
fn defaults(config: &Config, providers: &[Arc<dyn Provider>]) -> Defaults {
    Defaults {
        rates: config.http.rates,
        products_cached_secs: config.http.products_cached_secs,
        sweep_secs: config.payments.sweep_secs,
        providers: providers.iter().map(|provider| provider.account().to_string()).collect(),
    }
}

async fn sandbox(config: &Config, store: &Store) -> Result<Option<Arc<dyn Provider>>, Error> {
    if config.sandbox.url.is_empty() {
        return Ok(None);
    }
    let mut options = sandbox_options(store, &config.sandbox.url).await?;
    options.timeout_ms = config.sandbox.timeout_ms;
    options.breaker = config.sandbox.breaker;
    Ok(Some(Arc::new(Sandbox::new(options)?)))
}
