//! The HTTP server: its options, its thread with a runtime of its own, and the state that all
//! handlers share.
//!
//! The list of routes is in `routes`; the middleware is in `observe` and `edge`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::middleware::{Compat, Condition, from_fn};
use actix_web::{App, HttpResponse, web};
use futures_util::future::join_all;
use garde::Validate;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::docs::openapi::Document;
use super::edge::authentication::Authenticator;
use super::edge::client_address::{Network, TrustedProxies};
use super::edge::cross_origin::{check_origins, cors};
use super::edge::error::Error;
use super::edge::idempotency::RequestsInFlight;
use super::edge::json_body::BodyLimits;
use super::edge::load_shedding::{self, Admission, Queues};
use super::edge::request_metrics::RequestMetrics;
use super::edge::route::Routes;
use super::edge::router::ServedRoutes;
use super::edge::secret::ServerSecret;
use super::edge::{listen, router};
use super::live::{self, Live};
use super::observe::{explain_preflight, observe};
use super::operator::health::{Health, Serving};
use super::operator::jobs::Jobs;
use super::operator::metrics::NodeMetrics;
use crate::actors::engine::runtime::{GuestHolds, PRODUCTS_CACHED_MAX_SECS, Rates};
use crate::actors::node::Node;
use crate::bus::Calls;
use crate::bus::queue::Queue;
use crate::domain::limits::{holds, within};
use crate::store::history::HistoryId;
use crate::store::{self, Store};
use crate::telemetry::security;

/// How HTTP is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Options {
    /// The address to listen on; port 0 stands for any free port.
    pub listen: SocketAddr,
    /// The address of the internal routes (metrics, and calls of other nodes); empty to serve them at
    /// `listen`. Port 0 stands for any free port.
    #[garde(custom(empty_or_address))]
    pub internal_listen: String,
    /// The number of threads that serve requests (workers); 0 for one per core.
    #[garde(custom(within(0..=1_024)))]
    pub workers: usize,
    /// The maximum number of connections of one worker; 0 for as many as the limit on open files
    /// allows, at most 10,000.
    #[garde(custom(within(0..=1_000_000)))]
    pub connections_max: usize,
    /// The maximum number of connections that wait to be accepted.
    #[garde(custom(within(1..=65_535)))]
    pub backlog: u32,
    /// How long a connection may be idle, in seconds.
    #[garde(custom(within(0..=86_400)))]
    pub keep_alive_secs: u64,
    /// How long the head of a request may take to arrive, in seconds.
    #[garde(custom(within(1..=3_600)))]
    pub head_timeout_secs: u64,
    /// How long the body of a request may take to arrive, in seconds.
    #[garde(custom(within(1..=3_600)))]
    pub body_timeout_secs: u64,
    /// How long a client may read nothing of its answer, in seconds.
    #[garde(custom(within(1..=3_600)))]
    pub answer_timeout_secs: u64,
    /// The maximum size of a request body, in bytes.
    #[garde(custom(within(1_024..=1 << 30)))]
    pub body_bytes_max: usize,
    /// How long requests in progress may still take when the server stops, in seconds.
    #[garde(custom(within(0..=9)))]
    pub shutdown_timeout_secs: u64,
    /// Load shedding: when requests are refused because of overload.
    #[garde(dive)]
    pub overload: load_shedding::Options,
    /// Rate limits: how many requests one client may send per minute.
    #[garde(dive)]
    pub rates: Rates,
    /// The units that a buyer without a key, from a public IP address, may have in unpaid orders.
    #[garde(dive)]
    pub guest_holds: GuestHolds,
    /// How long the cache keeps a page of active products, in seconds; 0 for no cache.
    #[garde(custom(within(0..=PRODUCTS_CACHED_MAX_SECS)))]
    pub products_cached_secs: u64,
    /// Proxies whose `X-Forwarded-For` header is trusted.
    #[garde(custom(few_networks))]
    pub trusted_proxies: Vec<Network>,
    /// Origins whose pages may call the API from a browser: `https://shop.example`, or `*` for any.
    #[garde(custom(check_origins))]
    pub cors_origins: Vec<String>,
    /// The limits of live feeds.
    #[garde(dive)]
    pub live: live::Options,
}

fn empty_or_address(text: &str, (): &()) -> garde::Result {
    let address = text.parse::<SocketAddr>().is_ok();
    holds(text.is_empty() || address, || "must be empty, or an address such as 10.0.0.11:8090")
}

fn few_networks(networks: &[Network], (): &()) -> garde::Result {
    holds(networks.len() <= 100, || "must name at most 100 networks")
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            internal_listen: String::new(),
            workers: 0,
            connections_max: 0,
            backlog: 1_024,
            keep_alive_secs: 75,
            head_timeout_secs: 10,
            body_timeout_secs: 20,
            answer_timeout_secs: 30,
            body_bytes_max: 1 << 20,
            shutdown_timeout_secs: 8,
            overload: load_shedding::Options::default(),
            rates: Rates::default(),
            guest_holds: GuestHolds::default(),
            products_cached_secs: 5,
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            live: live::Options::default(),
        }
    }
}

impl Options {
    /// The address of the internal routes, if they have one of their own.
    #[must_use]
    pub fn internal(&self) -> Option<SocketAddr> {
        self.internal_listen.parse().ok()
    }

    fn listening(&self, addr: SocketAddr, tls: Option<Arc<ServerConfig>>) -> listen::Options {
        listen::Options {
            addr,
            tls,
            workers: self.workers,
            connections_max: self.connections_max,
            backlog: self.backlog,
            keep_alive: Duration::from_secs(self.keep_alive_secs),
            head_timeout: Duration::from_secs(self.head_timeout_secs),
            answer_timeout: Duration::from_secs(self.answer_timeout_secs),
            shutdown_timeout_secs: self.shutdown_timeout_secs,
        }
    }
}

/// The arguments of [`start`].
pub struct ServerStart {
    /// How HTTP is served.
    pub options: Options,
    /// The node, which runs the entities.
    pub node: Arc<Node>,
    /// The store.
    pub store: Store,
    /// Receives calls of other nodes; `None` without a cluster.
    pub calls: Option<Calls>,
    /// How clients of the internal routes are admitted by their certificates; `None` for connections
    /// without TLS.
    pub internal_tls: Option<Arc<ServerConfig>>,
    /// All routes.
    pub routes: Routes,
    /// The topics of the live feed that are lists.
    pub topics: live::Topics,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The server cannot listen on the address.
    #[error("cannot listen on {addr}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The server's thread cannot be started.
    #[error("cannot start the server's thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The state that the handlers of a server share; a handler asks for a part by its type.
#[derive(Clone)]
struct SharedState {
    node: web::Data<Node>,
    store: web::Data<Store>,
    secret: web::Data<ServerSecret>,
    callers: web::Data<Authenticator>,
    proxies: web::Data<TrustedProxies>,
    body_limits: web::Data<BodyLimits>,
    in_flight: web::Data<RequestsInFlight>,
    admission: web::Data<Admission>,
    request_metrics: web::Data<RequestMetrics>,
    metrics: web::Data<NodeMetrics>,
    health: web::Data<Health>,
    serving: web::Data<Serving>,
    jobs: web::Data<Jobs>,
    calls: web::Data<Option<Calls>>,
    live: web::Data<Live>,
    document: web::Data<Document>,
}

impl SharedState {
    fn new(start: ServerStart, secret: ServerSecret, history: HistoryId) -> Self {
        let ServerStart { options, node, store, calls, internal_tls: _, routes, topics } = start;
        let callers = Arc::new(Authenticator::new(Arc::clone(&node), store.clone()));
        let serving = Arc::new(Serving::default());
        let live = Live::new(
            Arc::clone(&node),
            (store.clone(), history),
            options.live,
            Arc::clone(&callers),
            Arc::clone(&serving),
            topics,
        );
        let request_metrics = RequestMetrics::default();
        let mut registry = Registry::with_prefix("kontor");
        request_metrics.register(&mut registry);
        live.metrics.register(&mut registry);
        security::register(&mut registry);
        if let Some(calls) = &calls {
            calls.metrics().register(&mut registry);
        }
        Self {
            node: node.into(),
            store: web::Data::new(store),
            secret: web::Data::new(secret),
            callers: callers.into(),
            proxies: web::Data::new(TrustedProxies(options.trusted_proxies)),
            body_limits: web::Data::new(BodyLimits {
                bytes_max: options.body_bytes_max,
                timeout: Duration::from_secs(options.body_timeout_secs),
            }),
            in_flight: web::Data::default(),
            admission: web::Data::new(Admission::new(&options.overload)),
            request_metrics: web::Data::new(request_metrics),
            metrics: web::Data::new(NodeMetrics::new(registry)),
            health: web::Data::default(),
            serving: serving.into(),
            jobs: web::Data::default(),
            calls: web::Data::new(calls),
            live: web::Data::new(live),
            document: web::Data::new(Document::new(routes)),
        }
    }

    /// Registers all parts with the app of a worker.
    fn share(self, app: &mut web::ServiceConfig) {
        app.app_data(self.node)
            .app_data(self.store)
            .app_data(self.secret)
            .app_data(self.callers)
            .app_data(self.proxies)
            .app_data(self.body_limits)
            .app_data(self.in_flight)
            .app_data(self.admission)
            .app_data(self.request_metrics)
            .app_data(self.metrics)
            .app_data(self.health)
            .app_data(self.serving)
            .app_data(self.jobs)
            .app_data(self.calls)
            .app_data(self.live)
            .app_data(self.document)
            .app_data(web::Data::new(live::Slot::default()));
    }
}

/// A running server.
pub struct Server {
    addr: SocketAddr,
    internal: SocketAddr,
    serving: Arc<Serving>,
    jobs: Arc<Jobs>,
    live: Arc<Live>,
    handles: Vec<ServerHandle>,
    over: CancellationToken,
}

/// Starts the server on a thread of its own.
///
/// # Errors
/// [`StartError`]: for example, the address is in use, or the store cannot be read.
pub async fn start(start: ServerStart) -> Result<Server, StartError> {
    let secret = ServerSecret::new(start.store.secret("http").await?);
    let history = start.store.history().await?;
    let (options, routes) = (start.options.clone(), start.routes.clone());
    let internal_tls = start.internal_tls.clone();
    let shared = SharedState::new(start, secret, history);
    let serving = shared.serving.clone().into_inner();
    let (jobs, live) = (shared.jobs.clone().into_inner(), shared.live.clone().into_inner());
    let (started, begun) = oneshot::channel();
    let over = CancellationToken::new();
    let ended = over.clone().drop_guard();
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        let system = actix_web::rt::System::new();
        system.block_on(serve(&options, internal_tls, (routes, shared), started));
        drop(ended);
    })?;
    let lost = || {
        StartError::Thread(std::io::Error::other(
            "the server ended right after its \
                                                            start",
        ))
    };
    let Begun { addr, internal, handles } = begun.await.map_err(|_| lost())??;
    serving.set(true);
    Ok(Server { addr, internal, serving, jobs, live, handles, over })
}

/// The addresses on which the server listens.
struct Begun {
    addr: SocketAddr,
    internal: SocketAddr,
    handles: Vec<ServerHandle>,
}

type Started = oneshot::Sender<Result<Begun, StartError>>;

/// The mean wait of commands in the mailboxes of carts or of orders, whichever is longer. The
/// mailboxes of stock do not count: a queue at one popular SKU is no reason to refuse requests for
/// others.
fn mailboxes(node: &Node) -> Duration {
    node.carts.take_wait().max(node.orders.take_wait())
}

async fn serve(
    options: &Options,
    internal_tls: Option<Arc<ServerConfig>>,
    (routes, shared): (Routes, SharedState),
    started: Started,
) {
    let admission = shared.admission.clone().into_inner();
    actix_web::rt::spawn(live::sample(shared.live.clone().into_inner()));
    let queues = Queues {
        node: shared.node.clone().into_inner(),
        store: Store::clone(&shared.store),
        mailboxes,
    };
    let watch = load_shedding::watch(Arc::clone(&admission), queues, options.overload.clone());
    actix_web::rt::spawn(watch);
    let app = |side: ServedRoutes| {
        let cors_origins = options.cors_origins.clone();
        let (shared, routes, admission) = (shared.clone(), routes.clone(), Arc::clone(&admission));
        move || {
            actix_web::rt::spawn(load_shedding::watch_event_loop(Arc::clone(&admission)));
            let (shared, routes) = (shared.clone(), routes.clone());
            App::new()
                .configure(|app| shared.share(app))
                .wrap(from_fn(observe))
                .wrap(Compat::new(Condition::new(!cors_origins.is_empty(), cors(&cors_origins))))
                .wrap(from_fn(explain_preflight))
                .configure(|app| router::configure(&routes, side, app))
                .default_service(web::to(|| async {
                    Err::<HttpResponse, Error>(Error::of_status(StatusCode::NOT_FOUND))
                }))
        }
    };
    let listen = |addr: SocketAddr, side: ServedRoutes| {
        let tls = internal_tls.clone().filter(|_| side == ServedRoutes::Internal);
        let served = listen::listen(&options.listening(addr, tls), app(side));
        served.map_err(|source| StartError::Listen { addr, source })
    };
    let served = match options.internal() {
        None => listen(options.listen, ServedRoutes::Both).map(|public| (public, None)),
        Some(addr) => listen(options.listen, ServedRoutes::Public).and_then(|public| {
            let internal = listen(addr, ServedRoutes::Internal)?;
            Ok((public, Some(internal)))
        }),
    };
    let ((addr, running), internal) = match served {
        Ok(served) => served,
        Err(error) => {
            let _gone = started.send(Err(error));
            return;
        }
    };
    let mut handles = vec![running.handle()];
    handles.extend(internal.as_ref().map(|(_, running)| running.handle()));
    let begun =
        Begun { addr, internal: internal.as_ref().map_or(addr, |(addr, _)| *addr), handles };
    let beside = async {
        match internal {
            Some((_, running)) => running.await,
            None => Ok(()),
        }
    };
    if started.send(Ok(begun)).is_ok()
        && let Err(error) = tokio::try_join!(running, beside)
    {
        tracing::error!(%error, "the HTTP server failed");
    }
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it listens for what is internal: metrics, and calls of other nodes.
    #[must_use]
    pub const fn internal_addr(&self) -> SocketAddr {
        self.internal
    }

    /// The URL of the server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Sets the job queue as soon as it has started; later calls have no effect.
    pub fn set_jobs(&self, queue: Queue) {
        let _first = self.jobs.set(queue);
    }

    /// Waits until the server has stopped or failed.
    pub async fn ended(&self) {
        self.over.cancelled().await;
    }

    /// Reports at `/readyz` that the server should get no more traffic. Requests that arrive anyway
    /// are still served.
    pub fn leave(&self) {
        self.serving.set(false);
    }

    /// Accepts no more connections, waits for requests in progress up to the shutdown timeout, and
    /// stops.
    pub async fn stop(self) {
        self.serving.set(false);
        self.live.stop.cancel();
        join_all(self.handles.iter().map(|handle| handle.stop(true))).await;
        self.over.cancelled().await;
    }
}
