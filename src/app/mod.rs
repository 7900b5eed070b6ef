//! The only place where everything meets: what is started, in which order, and how it stops.
//!
//! Store, node, HTTP server, in this order; and back in the other: no new requests, those under
//! way finish, the journal's queue is written, the store is closed.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::actors::clock::Clock;
use crate::actors::node::{self, Node};
use crate::actors::payments::Payments;
use crate::config::{self, Config, Use};
use crate::http::server::{self, Server};
use crate::providers::payment::{self, Provider};
use crate::providers::sandbox::Sandbox;
use crate::store::{self, OpenError, Store};
use crate::verify::provider::sandbox_options;

/// The pause between two tries to tell the provider where its webhooks go.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(2);

/// A running server.
pub struct App {
    /// The node.
    pub node: Arc<Node>,
    /// The data.
    pub store: Store,
    server: Server,
    stop: CancellationToken,
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
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The node does not start.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// The HTTP server does not start.
    #[error(transparent)]
    Server(#[from] server::StartError),
    /// The sandbox provider cannot be used.
    #[error("the sandbox payment provider cannot be used: {0}")]
    Provider(#[from] payment::Error),
    /// The sandbox is for trying things out.
    #[error(
        "profile production takes no sandbox provider: remove sandbox.url (or --sandbox-psp), or \
         use profile development"
    )]
    SandboxInProduction,
}

impl App {
    /// Starts a server.
    ///
    /// # Errors
    /// [`Error`]; nothing keeps running then.
    pub async fn start(config: &Config) -> Result<Self, Error> {
        Self::start_at(config, Clock::system()).await
    }

    /// Starts a server with a clock of the caller's.
    ///
    /// # Errors
    /// As [`App::start`].
    pub async fn start_at(config: &Config, clock: Clock) -> Result<Self, Error> {
        config.check()?;
        if config.profile == Use::Production && !config.sandbox.url.is_empty() {
            return Err(Error::SandboxInProduction);
        }
        let store = Store::open(&config.data.dir, &config.store).await?;
        let sandbox = match sandbox(config, &store).await {
            Ok(sandbox) => sandbox,
            Err(error) => {
                store.close().await;
                return Err(error);
            }
        };
        let providers: Vec<Arc<dyn Provider>> = sandbox.into_iter().collect();
        let node = Node::start(node::Start {
            store: Arc::new(store.clone()),
            clock,
            rules: config.pricing.clone(),
            settings: config.shop.clone(),
            host: config.entities.clone(),
            lane: config.store.lane.clone(),
            payments: Payments::new(providers, config.payments.clone()),
        })
        .await?;
        let server = match server::start(config.http.clone(), node.clone(), store.clone()).await {
            Ok(server) => server,
            Err(error) => {
                node.stop().await;
                return Err(error.into());
            }
        };
        let app = Self { node, store, server, stop: CancellationToken::new() };
        app.subscribe();
        Ok(app)
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
    pub async fn stop(self) {
        self.stop.cancel();
        self.server.stop().await;
        self.node.stop().await;
    }

    /// Tells every provider where its webhooks go, again and again until it has understood.
    fn subscribe(&self) {
        for provider in self.node.payments.all() {
            let provider = Arc::clone(provider);
            let url = format!("{}/v1/webhooks/{}", self.url(), provider.name());
            let stop = self.stop.clone();
            tokio::spawn(async move {
                while let Err(error) = provider.subscribe(&url).await {
                    tracing::warn!(%error, provider = provider.name(), "no webhooks yet");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(SUBSCRIBE_AGAIN) => {}
                    }
                }
            });
        }
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
