//! The HTTP server: its options, its own thread with its own runtime, and what every request
//! passes through: its id, its log line, its metrics, its headers and the body of its problem.
//!
//! The routes are in `routes`; who may call them is enforced in `edge::access`.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use actix_web::body::BoxBody;
use actix_web::dev::{ServerHandle, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpMessage as _, HttpRequest, HttpResponse, web};
use garde::Validate;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::actors::engine::runtime::{PRODUCTS_CACHED_MAX_SECS, Rates};
use crate::actors::node::Node;
use crate::bus::Calls;
use crate::bus::queue::Queue;
use crate::cache::Cache;
use crate::domain::limits::{holds, within};
use crate::http::edge::access::Keys;
use crate::http::edge::call::RequestId;
use crate::http::edge::client_address::{self, Network};
use crate::http::edge::connection;
use crate::http::edge::error::Error;
use crate::http::edge::idempotency::InFlight;
use crate::http::edge::listen::listen;
use crate::http::edge::load_shedding::{self, Admission};
use crate::http::edge::problem;
use crate::http::edge::session::Sessions;
use crate::http::live::{self, Live};
use crate::http::operator::health::Health;
use crate::http::operator::metrics::Metrics;
use crate::http::routes;
use crate::store::{self, Store};

/// How HTTP is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Options {
    /// The address to listen on; port 0 for any free one.
    pub listen: SocketAddr,
    /// Threads that serve requests; 0 for one a core.
    #[garde(custom(within(0..=1_024)))]
    pub workers: usize,
    /// The most connections of one worker.
    #[garde(custom(within(1..=1_000_000)))]
    pub connections_max: usize,
    /// The most connections that wait to be taken.
    #[garde(custom(within(1..=65_535)))]
    pub backlog: u32,
    /// How long a connection may idle, in seconds.
    #[garde(custom(within(0..=86_400)))]
    pub keep_alive_secs: u64,
    /// How long the head of a request may take, in seconds.
    #[garde(custom(within(1..=3_600)))]
    pub head_timeout_secs: u64,
    /// How long the body of a request may take, in seconds.
    #[garde(custom(within(1..=3_600)))]
    pub body_timeout_secs: u64,
    /// How long a client may take nothing of its answer, in seconds.
    #[garde(custom(within(1..=3_600)))]
    pub answer_timeout_secs: u64,
    /// The largest body, in bytes.
    #[garde(custom(within(1_024..=1 << 30)))]
    pub body_bytes_max: usize,
    /// How long requests under way may take when the server stops, in seconds.
    #[garde(custom(within(0..=9)))]
    pub shutdown_timeout_secs: u64,
    /// When requests are refused because there is too much to do.
    #[garde(dive)]
    pub overload: load_shedding::Options,
    /// How many requests one client may send.
    #[garde(dive)]
    pub rates: Rates,
    /// How long lists of products are answered again, in seconds; 0 for never.
    #[garde(custom(within(0..=PRODUCTS_CACHED_MAX_SECS)))]
    pub products_cached_secs: u64,
    /// Proxies whose word is taken for where a request comes from.
    #[garde(custom(few_networks))]
    pub trusted_proxies: Vec<Network>,
    /// How much live feeds may take.
    #[garde(dive)]
    pub live: live::Options,
}

fn few_networks(networks: &[Network], (): &()) -> garde::Result {
    holds(networks.len() <= 100, || "must name at most 100 networks")
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            workers: 0,
            connections_max: 10_000,
            backlog: 1_024,
            keep_alive_secs: 75,
            head_timeout_secs: 10,
            body_timeout_secs: 20,
            answer_timeout_secs: 30,
            body_bytes_max: 1 << 20,
            shutdown_timeout_secs: 8,
            overload: load_shedding::Options::default(),
            rates: Rates::default(),
            products_cached_secs: 5,
            trusted_proxies: Vec::new(),
            live: live::Options::default(),
        }
    }
}

/// What all requests share.
pub struct Shared {
    /// The house below.
    pub node: Arc<Node>,
    /// The data.
    pub store: Store,
    /// How HTTP is served.
    pub options: Options,
    /// The requests with an idempotency key that are being worked on.
    pub in_flight: InFlight,
    /// Who is let in when there is too much to do.
    pub admission: Admission,
    /// What is counted.
    pub metrics: Metrics,
    /// How the dependencies are.
    pub health: Health,
    /// What live feeds share.
    pub live: Live,
    /// Calls of other nodes, if there are any.
    pub calls: Option<Calls>,
    /// The job queue, once it has begun.
    pub jobs: OnceLock<Queue>,
    pub(super) keys: Keys,
    pub(super) sessions: Sessions,
    pub(super) secret: [u8; 32],
    ready: AtomicBool,
}

impl Shared {
    /// What nodes share.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.node.cache
    }

    /// Where a request comes from.
    #[must_use]
    pub fn client(&self, request: &HttpRequest) -> IpAddr {
        let peer = request.peer_addr().map(|addr| addr.ip());
        client_address::of(peer, request.headers(), &self.options.trusted_proxies)
    }

    /// Whether the server takes traffic: not before it has started, nor once it stops.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be had.
    #[error("cannot listen on {addr}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The thread cannot be had.
    #[error("the server's thread does not start: {0}")]
    Thread(#[from] std::io::Error),
    /// The secret of tokens cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A running server.
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    handle: ServerHandle,
    over: oneshot::Receiver<()>,
}

/// Starts the server on a thread of its own. `calls` answers other nodes, if there are any.
///
/// # Errors
/// [`StartError`]: the address is taken, or the store cannot be read.
pub async fn start(
    options: Options,
    node: Arc<Node>,
    store: Store,
    calls: Option<Calls>,
) -> Result<Server, StartError> {
    let secret = store.secret("http").await?;
    let shared = Arc::new(Shared {
        node,
        store,
        live: Live::new(&options.live),
        admission: Admission::new(&options.overload),
        options,
        in_flight: InFlight::default(),
        metrics: Metrics::new(calls.as_ref().map(Calls::metrics)),
        calls,
        jobs: OnceLock::new(),
        health: Health::default(),
        keys: Keys::default(),
        sessions: Sessions::default(),
        secret,
        ready: AtomicBool::new(false),
    });
    let (started, begun) = oneshot::channel();
    let (ended, over) = oneshot::channel();
    let of_thread = shared.clone();
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        let system = actix_web::rt::System::new();
        system.block_on(serve(of_thread, started));
        // An error means that nobody waits for the end.
        let _gone = ended.send(());
    })?;
    let lost = || StartError::Thread(std::io::Error::other("it ended at once"));
    let (addr, handle) = begun.await.map_err(|_| lost())??;
    shared.ready.store(true, Ordering::Relaxed);
    Ok(Server { addr, shared, handle, over })
}

type Started = oneshot::Sender<Result<(SocketAddr, ServerHandle), StartError>>;

async fn serve(shared: Arc<Shared>, started: Started) {
    let options = shared.options.clone();
    let data = web::Data::from(shared);
    let of_samples = data.clone();
    actix_web::rt::spawn(async move { live::sample(&of_samples).await });
    let of_admission = data.clone();
    actix_web::rt::spawn(async move { load_shedding::watch(&of_admission).await });
    let served = listen(&options, move || {
        actix_web::rt::spawn(load_shedding::watch_turns(data.clone()));
        App::new()
            .app_data(data.clone())
            .app_data(web::Data::new(live::Slot::default()))
            .wrap(from_fn(observe))
            .configure(routes::configure)
            .default_service(web::to(|| async {
                Err::<HttpResponse, Error>(Error::of_status(StatusCode::NOT_FOUND))
            }))
    });
    let (addr, running) = match served {
        Ok(served) => served,
        Err(source) => {
            let addr = options.listen;
            let _gone = started.send(Err(StartError::Listen { addr, source }));
            return;
        }
    };
    if started.send(Ok((addr, running.handle()))).is_ok()
        && let Err(error) = running.await
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

    /// Where it listens, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What all requests share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Says that it should get no more traffic. What comes all the same is served.
    pub fn leave(&self) {
        self.shared.ready.store(false, Ordering::Relaxed);
    }

    /// Stops taking traffic, lets what is under way come to its end, and stops.
    pub async fn stop(self) {
        self.shared.ready.store(false, Ordering::Relaxed);
        self.shared.live.stop.cancel();
        self.handle.stop(true).await;
        // An error means that the thread is gone already.
        let _gone = self.over.await;
    }
}

/// The operation that a request was routed to.
#[derive(Clone, Copy, Debug)]
pub struct Operation(pub &'static str);

/// What every request passes through.
async fn observe(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let began = Instant::now();
    let id = request_id(request.headers());
    let shared = request.app_data::<web::Data<Shared>>().cloned();
    request.extensions_mut().insert(RequestId(id.clone()));
    let _works = connection::works(request.request());
    let _under_way = shared.as_ref().map(|shared| shared.metrics.begin());
    let response = next.call(request).await;
    let took = began.elapsed();
    let mut response = match response {
        Ok(response) => explained(response, &id),
        Err(error) => {
            if let Some(shared) = &shared {
                shared.metrics.end("none", error.as_response_error().status_code(), took);
            }
            return Err(error);
        }
    };
    let operation = response.request().extensions().get::<Operation>().map_or("none", |op| op.0);
    let status = response.status();
    if let Some(shared) = &shared {
        shared.metrics.end(operation, status, took);
        shared.live.request(operation, status, took);
    }
    tracing::debug!(
        request_id = &*id,
        method = %response.request().method(),
        operation,
        status = status.as_u16(),
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "answered"
    );
    let path = response.request().path();
    let (api, page) = (path.starts_with("/v1/"), path.starts_with("/docs"));
    add_headers(response.headers_mut(), &id, api, page);
    let again = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    if again && !response.headers().contains_key(header::RETRY_AFTER) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(response)
}

/// Gives an answer that is an error its problem.
fn explained(response: ServiceResponse<BoxBody>, id: &str) -> ServiceResponse<BoxBody> {
    let rendered = match response.response().error() {
        Some(error) => match error.as_error::<Error>() {
            Some(ours) => {
                ours.log(id);
                problem::respond(ours, id)
            }
            None => {
                let status = error.as_response_error().status_code();
                if status.is_server_error() {
                    tracing::error!(request_id = id, %error, "a request failed");
                }
                problem::respond(&Error::of_status(status), id)
            }
        },
        None => return response,
    };
    let (request, _) = response.into_parts();
    ServiceResponse::new(request, rendered)
}

/// The request's own id if it is a good one, or else a new one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let own = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    let good = |text: &&str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (1..=64).contains(&text.len()) && text.bytes().all(letter)
    };
    match own.filter(good) {
        Some(text) => text.into(),
        None => format!("req_{:032x}", rand::random::<u128>()).into(),
    }
}

fn add_headers(headers: &mut HeaderMap, id: &str, api: bool, page: bool) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    if api && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if page {
        let policy = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; \
                      frame-ancestors 'none'; base-uri 'none'";
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_kept_only_if_it_is_harmless() {
        let id = |text: &str| {
            let mut headers = HeaderMap::new();
            let name = HeaderName::from_static("x-request-id");
            headers.insert(name, HeaderValue::from_str(text).unwrap());
            request_id(&headers)
        };
        assert_eq!(&*id("abc-1.2_3"), "abc-1.2_3");
        for bad in ["", "a b", "a\"b", &"x".repeat(65)] {
            assert!(id(bad).starts_with("req_"), "{bad}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
