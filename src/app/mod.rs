//! Assembles, starts and stops a server: the only place where all parts of the program meet.
//!
//! The store, the node and the HTTP server are started in this order, and stopped in the reverse
//! order: new requests are refused, requests in progress finish, queued appends are written, and
//! the store is closed. A node of a cluster first hands over its shards, and goes on serving for
//! `cluster.leave_ms`, so that load balancers notice that it is leaving.

mod assembly;
mod cluster;
mod cluster_key;
mod erasures;
mod jobs;
mod search_index;
mod signed_heads;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::signed_heads::Signer;
use crate::actors::engine::clock::Clock;
use crate::actors::engine::runtime::{Defaults, Runtime};
use crate::actors::flows::payment::Payments;
use crate::actors::node::{self, Node};
use crate::bus::queue::{JobChannel, LocalJobNotices};
use crate::cache::{self, Cache};
use crate::config::{self, Config, ServerProfile};
use crate::http::server::{self, Server};
use crate::providers::challenge::{self, ChallengeHook};
use crate::providers::payment::{self, Provider};
use crate::providers::sandbox::Sandbox;
use crate::store::personal::own_master::OwnMasterKey;
use crate::store::{self, OpenError, Store};
use crate::telemetry::security;
use crate::verify::provider::sandbox_options;

pub use self::assembly::Assembly;

/// The pause before the next attempt to register the webhook URL at a payment provider.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(2);

/// A running server.
pub struct App {
    /// The node.
    pub node: Arc<Node>,
    /// The store.
    pub store: Store,
    server: Server,
    jobs: JoinHandle<()>,
    index: JoinHandle<()>,
    signer: Arc<Signer>,
    stop: CancellationToken,
    webhook_url: String,
    leave_after: Duration,
    /// The scheme of the internal routes.
    internal_scheme: &'static str,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The cache cannot be opened.
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
    /// NATS cannot be used as it is configured.
    #[error(transparent)]
    Bus(#[from] crate::bus::nats::Error),
    /// Calls to other nodes cannot be set up.
    #[error("cannot call other nodes: {0}")]
    Calls(String),
    /// The sandbox payment provider cannot be used.
    #[error("the sandbox payment provider cannot be used: {0}")]
    Provider(#[from] payment::Error),
    /// The challenge hook cannot be used.
    #[error(transparent)]
    Challenge(#[from] challenge::Error),
    /// The sandbox payment provider is configured, but the profile is `production`.
    #[error(
        "profile production does not allow the sandbox provider: remove sandbox.url (or --sandbox-psp), or \
         use profile development"
    )]
    SandboxInProduction,
    /// The store is in PostgreSQL and has no master key of its own, but the profile is `production`.
    #[error(
        "profile production needs store.master_key for a store in PostgreSQL, the same on all nodes \
         (openssl rand -hex 32): without it, whoever reads the database reads all names and addresses"
    )]
    NoMasterKeyInProduction,
    /// Nodes cannot use TLS as it is configured.
    #[error(transparent)]
    Tls(#[from] crate::tls::NodeTlsError),
    /// Other machines could call the node in clear, but the profile is `production`.
    #[error(
        "profile production needs cluster.tls.ca, cert and key where other machines can call this node: \
         whoever listens there reads orders and amounts. A node that is alone can have \
         http.internal_listen = \"127.0.0.1:8090\" instead"
    )]
    ClearInProduction,
    /// NATS or Redis lets anyone in, but the profile is `production`.
    #[error(
        "profile production needs a password, a token or a client certificate in {setting}: whoever \
         reaches the server could delay events and shut nodes out"
    )]
    OpenInProduction {
        /// The setting with the address.
        setting: &'static str,
    },
}

impl App {
    /// Starts a server.
    ///
    /// # Errors
    /// [`Error`]; nothing keeps running then.
    pub fn start(config: &Config) -> BoxFuture<'_, Result<Self, Error>> {
        Self::start_at(config, Clock::system())
    }

    /// Starts a server that uses the given clock.
    ///
    /// # Errors
    /// As [`App::start`].
    pub fn start_at(config: &Config, clock: Clock) -> BoxFuture<'_, Result<Self, Error>> {
        Self::start_with(config, clock, Assembly::standard())
    }

    /// Starts a server that is made of the given parts.
    ///
    /// # Errors
    /// As [`App::start`].
    pub fn start_with(
        config: &Config,
        clock: Clock,
        assembly: Assembly,
    ) -> BoxFuture<'_, Result<Self, Error>> {
        // The future is boxed, so that it is compiled once, with this crate, and not again in every
        // crate that starts a server.
        Box::pin(Self::assemble(config, clock, assembly))
    }

    async fn assemble(config: &Config, clock: Clock, assembly: Assembly) -> Result<Self, Error> {
        config.check()?;
        if config.profile == ServerProfile::Production {
            is_fit_for_production(config).await?;
        }
        let tls = cluster::tls(config).await?;
        let challenge_hook = ChallengeHook::new(&config.challenge)?;
        let store = if config.store.url.is_empty() {
            Store::open(&config.data.dir, &config.store).await?
        } else {
            Store::connect(&config.store.url, &config.store).await?
        };
        // With a wrong master key, nobody's data could be read or written.
        if let Err(error) = store.lookups().await {
            store.close().await;
            return Err(error.into());
        }
        warn_of_own_master_key(&store).await?;
        let sandbox = match sandbox(config, &store).await {
            Ok(sandbox) => sandbox,
            Err(error) => {
                store.close().await;
                return Err(error);
            }
        };
        let stop = CancellationToken::new();
        let unless_started = stop.clone().drop_guard();
        let key = cluster_key::open(config, &store, &clock, &stop).await?;
        let cache = Cache::open(&config.cache, cluster_key::seal(&key, &clock)).await?;
        let (cluster, channel) =
            match cluster::start(config, &store, &clock, tls.as_ref(), (&key, &stop)).await? {
                Some((cluster, channel)) => (Some(cluster), channel),
                None => (None, Arc::new(LocalJobNotices::default()) as Arc<dyn JobChannel>),
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
            challenge_hook,
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
            internal_tls: tls.as_ref().map(|tls| Arc::clone(&tls.server)),
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
        let (queue, jobs) =
            jobs::start(&node, (&store, assembly.books), channel, &name, stop.clone());
        server.set_jobs(queue);
        let webhook_url = config.payments.webhook_url.clone();
        let leave_after = Duration::from_millis(leave_ms);
        let index = tokio::spawn(search_index::fill(store.clone(), stop.clone()));
        if let Some(tls) = tls {
            tokio::spawn(cluster::watch_certificate(tls, stop.clone()));
        }
        tokio::spawn(security::summarize(stop.clone()));
        let (guests, ended) = (node.clone(), stop.clone());
        tokio::spawn(async move { guests.flows.checkout.guests.counted.follow(ended).await });
        tokio::spawn(erasures::go_on(node.clone(), store.clone(), stop.clone()));
        let signer = Signer::new(
            config.store.heads.clone(),
            store.clone(),
            node.clock.clone(),
            name.clone(),
        );
        let signer = Arc::new(signer);
        let signing = (Arc::clone(&signer), stop.clone());
        tokio::spawn(async move { signing.0.run(&signing.1).await });
        let internal_scheme = cluster::scheme(config);
        let app = Self {
            node,
            store,
            server,
            jobs,
            index,
            signer,
            stop,
            webhook_url,
            leave_after,
            internal_scheme,
        };
        let own = cluster::address(config, app.server.internal_addr()).await;
        app.node.join(&own).await;
        let notices = app.node.cluster.as_ref().map(|cluster| cluster.notices().clone());
        tokio::spawn(runtime.follow(app.store.clone(), notices, app.stop.clone()));
        app.subscribe();
        unless_started.disarm();
        Ok(app)
    }

    /// Waits until the HTTP server has ended, because it was stopped or has failed.
    pub async fn server_ended(&self) {
        self.server.ended().await;
    }

    /// The URL at which the server listens; with the loopback address if it listens at all
    /// addresses.
    #[must_use]
    pub fn url(&self) -> String {
        reached("http", self.server.addr())
    }

    /// The URL of the internal routes.
    #[must_use]
    pub fn internal_url(&self) -> String {
        reached(self.internal_scheme, self.server.internal_addr())
    }

    /// Stops the server: requests in progress finish, and queued appends are written.
    pub fn stop(self) -> BoxFuture<'static, ()> {
        Box::pin(self.wind_down())
    }

    async fn wind_down(self) {
        self.server.leave();
        let noticed = tokio::time::sleep(self.leave_after);
        // While the node owns its shards.
        self.signer.sign().await;
        self.node.leave().await;
        noticed.await;
        self.stop.cancel();
        self.server.stop().await;
        // A job that did not finish in time is started again after the next start.
        let _ended = self.jobs.await;
        let _ended = self.index.await;
        self.signer.sign().await;
        self.node.stop().await;
        security::log_summary();
    }

    /// Registers the webhook URL at every payment provider, and retries until that succeeds.
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

/// Warns of keys that are still sealed with the master key of the database, although there is another.
async fn warn_of_own_master_key(store: &Store) -> Result<(), store::Error> {
    let own = store.own_master_key().await?;
    if own == OwnMasterKey::StillNeeded {
        tracing::warn!("{}: {}", own.meaning(), OwnMasterKey::REMEDY);
    }
    Ok(())
}

/// Refuses what is for trying out only.
async fn is_fit_for_production(config: &Config) -> Result<(), Error> {
    if !config.sandbox.url.is_empty() {
        return Err(Error::SandboxInProduction);
    }
    if !config.store.url.is_empty() && config.store.master_key.is_empty() {
        return Err(Error::NoMasterKeyInProduction);
    }
    if !config.bus.url.is_empty() && !config.bus.authenticates() {
        return Err(Error::OpenInProduction { setting: "bus.url" });
    }
    let socket = config.cache.url.contains("unix://");
    if !config.cache.url.is_empty() && !socket && !config.cache.authenticates() {
        return Err(Error::OpenInProduction { setting: "cache.url" });
    }
    if cluster::is_called_in_clear(config).await {
        return Err(Error::ClearInProduction);
    }
    Ok(())
}

/// The URL of an address, from this machine.
fn reached(scheme: &str, mut addr: SocketAddr) -> String {
    if addr.ip().is_unspecified() {
        addr.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("{scheme}://{addr}")
}

/// The defaults of the runtime settings, from the configuration.
fn defaults(config: &Config, providers: &[Arc<dyn Provider>]) -> Defaults {
    Defaults {
        rates: config.http.rates,
        holds: config.http.guest_holds,
        floods: config.challenge.floods(),
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
