//! The sandbox payment provider: a separate program that behaves like a real one.
//!
//! It does not depend on kontor. It keeps its own ledger, with which tests compare the amounts in
//! kontor's journal: an answer is sent only after its facts are written to the ledger's file.
//! `fact` defines the facts in the ledger, `book` the state folded from them, `ledger` the file,
//! `service` what requests do, `faults` the faults on request, `webhooks` the webhooks, `api` the
//! protocol, `clock` times and ids.

mod api;
mod book;
mod clock;
mod fact;
mod faults;
#[cfg(any(feature = "fuzz", fuzzing))]
pub mod fuzz;
mod in_flight;
mod ledger;
mod problem;
mod service;
mod webhooks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use self::faults::Desired;
use self::in_flight::KeysInFlight;
use self::ledger::SandboxLedger;
use self::service::SandboxService;
use self::webhooks::WebhookSender;

const WORKERS: usize = 2;
const CONNECTIONS_PER_WORKER_MAX: usize = 10_000;
/// Longer than clients keep idle connections, so that the sandbox seldom closes one that is used
/// again.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const SHUTDOWN_SECS: u64 = 5;

/// The options of the sandbox, which are also the arguments of `kontor sandbox-psp`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(
    about = "Run the sandbox payment provider",
    after_help = "\
It moves no money. Its ledger is DIR/ledger.jsonl, with one line per change. Every line is written
to the file before the request is answered.

The payment token determines the outcome:
  tok_ok                  authorized
  tok_declined            declined: card_declined
  tok_insufficient_funds  declined: insufficient_funds
  tok_slow                authorized; the answer and the webhook come after 2 seconds
  tok_action              pending until the buyer has acted, which is assumed after 200 ms; reported
                          by webhook
  tok_webhook_only        pending for 200 ms; reported by webhook
  tok_timeout             authorized, but never answered; reported by webhook after a second
  tok_timeout_lost        neither authorized nor answered
  tok_500                 answered 500 twice, and then authorized
  tok_mismatch            authorized, but one minor unit less
  tok_other_currency      authorized, but in another currency
Any other token that begins with tok_ is declined: unknown_token. PUT /v1/faults sets fault rates.

Example:
  kontor sandbox-psp --data psp --listen 127.0.0.1:8081"
)]
pub struct Options {
    /// The folder of the ledger
    // Only one process may use it at a time; it is created if it is missing.
    #[arg(long, value_name = "DIR", default_value = "data/sandbox-psp")]
    pub data: PathBuf,
    /// The address to listen on
    // Port 0 selects a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    pub listen: SocketAddr,
}

/// Why the sandbox could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger cannot be read or written.
    #[error("the ledger {} cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another process uses the ledger.
    #[error("the ledger {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// A line cannot be parsed, or contradicts earlier ones; an incomplete last line is no error.
    #[error("line {line} of the ledger {} is corrupt: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: u64,
        /// Why it cannot be parsed or applied.
        reason: String,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The HTTP client for webhooks cannot be created.
    #[error("cannot create the webhook client: {0}")]
    Client(String),
    /// The server's thread could not be started, or ended unexpectedly.
    #[error("the sandbox ended unexpectedly")]
    Ended,
}

/// A running sandbox. If this value is dropped without [`Running::stop`], the sandbox ends without
/// answering the calls in progress.
#[derive(Debug)]
pub struct Running {
    /// The address on which it listens.
    pub addr: SocketAddr,
    server: ServerHandle,
    closing: watch::Sender<bool>,
    done: Option<oneshot::Receiver<()>>,
}

impl Running {
    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Answers the calls in progress, writes the ledger and closes it, within some 5 seconds.
    /// Undelivered webhooks are lost.
    pub async fn stop(mut self) {
        self.closing.send_replace(true);
        self.server.stop(true).await;
        if let Some(done) = self.done.take()
            && done.await.is_err()
        {
            tracing::error!("the sandbox ended unexpectedly");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.done.is_some() {
            self.closing.send_replace(true);
            // Calling `stop` sends the command; dropping its future only means not to wait for the
            // end.
            drop(self.server.stop(false));
        }
    }
}

struct Started {
    addr: SocketAddr,
    server: ServerHandle,
}

/// Starts the sandbox on a thread of its own.
///
/// # Errors
/// [`Error`] when the ledger or the address cannot be used.
pub async fn start(options: Options) -> Result<Running, Error> {
    let (closing, closed) = watch::channel(false);
    let (ready, started) = oneshot::channel();
    let (finished, done) = oneshot::channel();
    std::thread::Builder::new()
        .name("sandbox-psp".into())
        .spawn(move || {
            actix_web::rt::System::new().block_on(run(options, closed, ready));
            // It is no error if nobody waits for the end.
            let _ = finished.send(());
        })
        .map_err(|_| Error::Ended)?;
    let Started { addr, server } = started.await.map_err(|_| Error::Ended)??;
    Ok(Running { addr, server, closing, done: Some(done) })
}

async fn run(
    options: Options,
    closing: watch::Receiver<bool>,
    ready: oneshot::Sender<Result<Started, Error>>,
) {
    let ledger = match SandboxLedger::open(&options.data) {
        Ok(ledger) => Arc::new(ledger),
        Err(error) => return drop(ready.send(Err(error))),
    };
    match serve(options.listen, Arc::clone(&ledger), closing) {
        Err(error) => {
            ledger.close();
            drop(ready.send(Err(error)));
        }
        Ok((addr, server)) => {
            drop(ready.send(Ok(Started { addr, server: server.handle() })));
            if let Err(error) = server.await {
                tracing::error!(%error, "the sandbox's server failed");
            }
            ledger.close();
        }
    }
}

fn serve(
    listen: SocketAddr,
    ledger: Arc<SandboxLedger>,
    closing: watch::Receiver<bool>,
) -> Result<(SocketAddr, actix_web::dev::Server), Error> {
    let service = Arc::new(SandboxService {
        webhooks: WebhookSender::start(Arc::clone(&ledger))?,
        ledger,
        desired: Desired::default(),
        in_flight: KeysInFlight::default(),
        background: Handle::current(),
        closing,
    });
    service.settle_pending();
    let refused = |source| Error::Listen { addr: listen, source };
    let server = HttpServer::new(move || App::new().configure(api::routes(Arc::clone(&service))))
        .workers(WORKERS)
        .max_connections(CONNECTIONS_PER_WORKER_MAX)
        .keep_alive(KEEP_ALIVE)
        .tcp_nodelay(true)
        // When a client disconnects, its unanswered request is dropped.
        .h1_allow_half_closed(false)
        .shutdown_timeout(SHUTDOWN_SECS)
        .disable_signals()
        .bind(listen)
        .map_err(refused)?;
    let addr = server.addrs().first().copied().unwrap_or(listen);
    Ok((addr, server.run()))
}
