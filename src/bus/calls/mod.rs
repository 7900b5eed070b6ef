//! Calls: a request to one node, and its answer. A call goes over NATS if NATS is connected and the
//! callee listens there, otherwise over HTTP to the callee's own address. Nodes in one process call
//! each other in memory. The content of a call is opaque to this module.
//!
//! A call may be carried out twice, so handlers must be idempotent: if an answer is too large for
//! NATS, the call is repeated over HTTP, and callers retry calls with an unknown outcome.

mod http;
mod message;
mod metrics;
mod repeats;
mod seal;
mod serve;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::local::Board;
use super::nats::Connection;
use super::{Now, Options, token};
use crate::domain::cluster_key::ClusterKey;
use crate::domain::time::Timestamp;
use crate::telemetry::security::SecurityEvent;
use repeats::{CallId, Repeats};
use seal::Seal;

pub use message::CallMessage;
pub use metrics::CallMetrics;
pub use repeats::SKEW;
pub use seal::{MAC, OUTCOME};
pub use serve::{AnnouncedCall, LONGEST};

/// The largest request, in bytes.
pub const CALL_BYTES_MAX: usize = 1 << 20;
/// The largest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// The HTTP path of calls.
pub const PATH: &str = "/v1/node/calls";

/// How long a node is called over HTTP first, after it did not answer over NATS.
const SILENT_FOR: Duration = Duration::from_secs(15);
/// The highest possible limit of calls that are served at once.
const PLACES_MAX: u32 = 1_000_000;
/// The most calls that wait without a slot ([`CallSlot::wait`]), as a multiple of the calls that
/// are served at once.
const WAITS: u32 = 8;

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its id.
    pub node: String,
    /// Its HTTP address, for example `http://10.0.0.2:8080`.
    pub url: String,
}

/// A received call.
#[derive(Clone, Debug)]
pub struct IncomingCall {
    /// The calling node.
    pub from: String,
    /// The call's id, new for each attempt.
    pub id: String,
    /// The trace context (W3C `traceparent`), possibly empty.
    pub trace: String,
    /// The caller's deadline.
    pub until: Instant,
    /// The request.
    pub body: Bytes,
}

/// Answers a call. A handler may get the same request twice. The call occupies its slot until the
/// handler drops the slot.
pub type Handler = Arc<dyn Fn(IncomingCall, CallSlot) -> BoxFuture<'static, Bytes> + Send + Sync>;

/// One of the slots for calls that are served at once, occupied by one call.
#[derive(Debug)]
pub struct CallSlot {
    taken: OwnedSemaphorePermit,
    waits: Arc<Semaphore>,
}

impl CallSlot {
    /// Frees the slot for other calls, because this call only waits from now on; `false` if too
    /// many calls wait already.
    #[must_use]
    pub fn wait(&mut self) -> bool {
        let place = Arc::clone(&self.waits).try_acquire_owned();
        let is_free = place.is_ok();
        place.into_iter().for_each(|place| self.taken = place);
        is_free
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The node cannot be reached, or accepts no calls. Nothing was done.
    #[error("node {node} cannot be reached: {why}")]
    Unreachable {
        /// The node.
        node: String,
        /// The cause.
        why: String,
    },
    /// The node is overloaded; nothing was done.
    #[error("node {0} is overloaded")]
    Busy(String),
    /// The request is larger than [`CALL_BYTES_MAX`]; nothing was sent.
    #[error("a call of {0} bytes is too large")]
    TooLarge(usize),
    /// The request was sent and not answered. The call may have been carried out, or may still be.
    #[error("the outcome of a call to node {node} is unknown: {why}")]
    Unknown {
        /// The node.
        node: String,
        /// The cause, as far as it is known.
        why: String,
    },
}

impl CallError {
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Busy(_) => "busy",
            Self::TooLarge(_) => "too_large",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// Why a received call is refused, before anything was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallRefusal {
    /// The call is not signed by a node of this cluster for this node.
    #[error("the call is not signed by a node of this cluster, to this node")]
    Unsigned,
    /// The call was received before.
    #[error("the call was received before")]
    Repeated,
    /// The call was sent too long ago, or before this process began, or the clocks of the nodes differ
    /// too much.
    #[error(
        "the call was sent before this node started, or the clocks of the nodes differ by more than \
         {} seconds: check them",
        SKEW.as_secs()
    )]
    Late,
    /// This node is overloaded.
    #[error("the node is overloaded")]
    Busy,
    /// The request is too large.
    #[error("the call is too large")]
    TooLarge,
    /// This node does not accept calls yet, or no longer.
    #[error("the node accepts no calls")]
    Closed,
}

impl CallRefusal {
    /// Whether a node of the cluster would not have sent the call so.
    #[must_use]
    pub const fn is_of_stranger(self) -> bool {
        matches!(self, Self::Unsigned | Self::Late | Self::Repeated)
    }

    const fn outcome(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Repeated => "repeated",
            Self::Late => "late",
            Self::Busy => "busy",
            Self::TooLarge => "too_large",
            Self::Closed => "closed",
        }
    }
}

/// Why an accepted call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// Nothing was done.
    #[error(transparent)]
    Refused(#[from] CallRefusal),
    /// The call was started, and the caller's deadline passed before it ended.
    #[error("the call was not answered in time")]
    Expired,
}

/// Sends and receives calls. Clones share the same state.
#[derive(Clone)]
pub struct Calls(Arc<Inner>);

struct Inner {
    node: String,
    way: Way,
    key: ClusterKey,
    /// The random number of this process, and the number of its next call.
    process: u64,
    next_call: AtomicU64,
    repeats: Repeats,
    began_at: Timestamp,
    now: Now,
    metrics: CallMetrics,
    handler: OnceLock<Handler>,
    places: Arc<Semaphore>,
    places_max: u32,
    waits: Arc<Semaphore>,
    closed: CancellationToken,
    /// Nodes that did not answer over NATS, and the time until which they are called over HTTP
    /// first. Pings alone would detect a connection that drops all messages only much later.
    silent: Mutex<HashMap<String, Instant>>,
}

/// Why a call has no answer that came over NATS.
enum NatsFailure {
    /// It has failed.
    Error(CallError),
    /// It may have been carried out, and the node is to be asked over HTTP.
    Unproven(&'static str),
}

impl NatsFailure {
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Error(error) => error.outcome(),
            Self::Unproven(outcome) => outcome,
        }
    }
}

enum Way {
    Wire { nats: Option<Connection>, http: reqwest::Client },
    Local(Board),
}

impl Calls {
    /// Calls between nodes in separate processes, over HTTP with this TLS or with none.
    ///
    /// # Errors
    /// The reason why the HTTP client cannot be created.
    pub fn new(
        nats: Option<Connection>,
        tls: Option<ClientConfig>,
        options: &Options,
        key: ClusterKey,
        node: &str,
        now: Now,
    ) -> Result<Self, String> {
        let way = Way::Wire { nats, http: http::client(tls)? };
        Ok(Self::with(way, options, key, node, now))
    }

    /// Calls between nodes in one process.
    #[must_use]
    pub fn local(board: &Board, options: &Options, key: ClusterKey, node: &str, now: Now) -> Self {
        let this = Self::with(Way::Local(board.clone()), options, key, node, now);
        board.add(node, &this);
        this
    }

    fn with(way: Way, options: &Options, key: ClusterKey, node: &str, now: Now) -> Self {
        let places_max = u32::try_from(options.calls_max).unwrap_or(PLACES_MAX).min(PLACES_MAX);
        Self(Arc::new(Inner {
            node: node.to_owned(),
            way,
            key,
            process: rand::random(),
            next_call: AtomicU64::new(1),
            repeats: Repeats::default(),
            began_at: now(),
            now,
            metrics: CallMetrics::default(),
            handler: OnceLock::new(),
            places: Arc::new(Semaphore::new(places_max as usize)),
            places_max,
            waits: Arc::new(Semaphore::new((WAITS * places_max) as usize)),
            closed: CancellationToken::new(),
            silent: Mutex::default(),
        }))
    }

    /// This node's id.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.0.node
    }

    /// Metrics of calls.
    #[must_use]
    pub fn metrics(&self) -> &CallMetrics {
        &self.0.metrics
    }

    /// Calls a node and waits for its answer until the timeout.
    ///
    /// # Errors
    /// [`CallError`]. Only after [`CallError::Unknown`] the call may have been carried out.
    pub async fn call(
        &self,
        to: &Peer,
        body: Bytes,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        if body.len() > CALL_BYTES_MAX {
            return Err(CallError::TooLarge(body.len()));
        }
        let until = Instant::now() + patience;
        let nats = match &self.0.way {
            Way::Local(board) => {
                let work = self.by_board(board, to, body, until);
                return self.counted("local", CallError::outcome, work).await;
            }
            Way::Wire { nats, .. } => nats.as_ref().filter(|nats| nats.is_up()),
        };
        if nats.is_some() && self.is_silent(&to.node) {
            let work = self.by_http(to, body.clone(), until);
            let tried = self.counted("http", CallError::outcome, work).await;
            if !matches!(tried, Err(CallError::Unreachable { .. })) {
                return tried;
            }
        }
        let mut maybe_done = false;
        if let Some(nats) = nats {
            let work = self.by_nats(nats, to, body.clone(), until);
            match self.counted("nats", NatsFailure::outcome, work).await {
                Ok(answer) => return Ok(answer),
                Err(NatsFailure::Unproven(_)) => maybe_done = true,
                Err(NatsFailure::Error(CallError::Unreachable { .. })) => {}
                Err(NatsFailure::Error(error)) => return Err(error),
            }
        }
        let tried = self.counted("http", CallError::outcome, self.by_http(to, body, until)).await;
        tried.map_err(|error| match error {
            CallError::Unreachable { node, why } if maybe_done => CallError::Unknown { node, why },
            CallError::Busy(node) if maybe_done => {
                CallError::Unknown { node, why: "it is overloaded, and was called before".into() }
            }
            error => error,
        })
    }

    fn is_silent(&self, node: &str) -> bool {
        let silent = self.0.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.get(node).is_some_and(|until| Instant::now() < *until)
    }

    fn note_silent(&self, node: &str) {
        let mut silent = self.0.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.retain(|_, until| Instant::now() < *until);
        silent.insert(node.to_owned(), Instant::now() + SILENT_FOR);
    }

    async fn counted<T, E>(
        &self,
        way: &'static str,
        failure: impl FnOnce(&E) -> &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let done = work.await;
        let outcome = done.as_ref().map_or_else(failure, |_| "answered");
        self.0.metrics.called(way, outcome, began.elapsed());
        done
    }

    fn seal(&self, until: Instant, body: &[u8]) -> Seal {
        let number = self.0.next_call.fetch_add(1, Ordering::Relaxed);
        let id = CallId { process: self.0.process, number };
        let trace = format!("00-{id}-{:016x}-01", rand::random::<u64>());
        Seal {
            from: self.0.node.clone(),
            id,
            sent: (self.0.now)(),
            left: until.saturating_duration_since(Instant::now()),
            digest: seal::digest(body),
            trace,
        }
    }

    /// The answer over NATS. If it is too large for NATS, or what came is not signed by the node, the
    /// call is repeated over HTTP; and so it is if nobody seems to listen there, because whoever can
    /// publish can say that, too.
    async fn by_nats(
        &self,
        nats: &Connection,
        to: &Peer,
        body: Bytes,
        until: Instant,
    ) -> Result<Bytes, NatsFailure> {
        use async_nats::RequestErrorKind as Kind;

        let unreachable = |why: &str| {
            let (node, why) = (to.node.clone(), why.to_owned());
            NatsFailure::Error(CallError::Unreachable { node, why })
        };
        let unknown = |why: &str| {
            let (node, why) = (to.node.clone(), why.to_owned());
            NatsFailure::Error(CallError::Unknown { node, why })
        };
        let (mut headers, seal) = (async_nats::HeaderMap::new(), self.seal(until, &body));
        for (name, value) in seal.headers(&self.0.key, &to.node) {
            headers.insert(name, value);
        }
        let left = until.saturating_duration_since(Instant::now());
        let request = async_nats::Request::new().headers(headers).payload(body).timeout(Some(left));
        let sent = nats.client().send_request(subject(&to.node), request);
        let message = tokio::select! {
            sent = sent => sent,
            () = nats.broken() => return Err(unknown("the connection to NATS was lost")),
        };
        let message = message.map_err(|error| match error.kind() {
            Kind::NoResponders => NatsFailure::Unproven("unreachable"),
            Kind::InvalidSubject | Kind::MaxPayloadExceeded => unreachable(&error.to_string()),
            Kind::TimedOut => {
                self.note_silent(&to.node);
                unknown("no answer in time")
            }
            Kind::Other => unknown(&error.to_string()),
        })?;
        let header =
            |name: &str| message.headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str);
        match self.read_answer((seal.id, to), "NATS", header, &message.payload) {
            Ok(true) => Ok(message.payload.clone()),
            Ok(false) => Err(NatsFailure::Unproven("unproven")),
            Err(error) => Err(NatsFailure::Error(error)),
        }
    }

    async fn by_board(
        &self,
        board: &Board,
        to: &Peer,
        body: Bytes,
        until: Instant,
    ) -> Result<Bytes, CallError> {
        let seal = self.seal(until, &body);
        let headers = seal.headers(&self.0.key, &to.node).into();
        let call = CallMessage { headers, body };
        let answer = board.call(&self.0.node, &to.node, call, until).await?;
        let header = |name: &str| answer.header(name);
        if self.read_answer((seal.id, to), "this process", header, &answer.body)? {
            return Ok(answer.body);
        }
        let why = "what came is not signed by the node".to_owned();
        Err(CallError::Unknown { node: to.node.clone(), why })
    }
}

impl Calls {
    /// Reads what came in answer to a call; `false` if it is neither the answer nor a refusal of the
    /// node that was called.
    fn read_answer<'a>(
        &self,
        (call, to): (CallId, &Peer),
        from: &str,
        header: impl Fn(&str) -> Option<&'a str>,
        body: &[u8],
    ) -> Result<bool, CallError> {
        match header(OUTCOME) {
            None => Ok(self.is_answer((call, to), from, header(MAC), body)),
            Some("expired") => {
                let why = "the call timed out".to_owned();
                Err(CallError::Unknown { node: to.node.clone(), why })
            }
            outcome => match self.refusal((call, to), from, outcome, header(MAC)) {
                Some(refused) => Err(refused),
                None => Ok(false),
            },
        }
    }

    /// Whether an answer was signed by the node that was called.
    fn is_answer(
        &self,
        (call, to): (CallId, &Peer),
        from: &str,
        signature: Option<&str>,
        answer: &[u8],
    ) -> bool {
        let signature = signature.unwrap_or_default();
        let is_signed = seal::is_answer(&self.0.key, signature, call, &to.node, answer);
        if !is_signed {
            log_forged_answer(to, from);
        }
        is_signed
    }

    /// The refusal of a call, if the node that was called has signed it: only then nothing was done.
    fn refusal(
        &self,
        (call, to): (CallId, &Peer),
        from: &str,
        outcome: Option<&str>,
        signature: Option<&str>,
    ) -> Option<CallError> {
        let (outcome, signature) = (outcome?, signature?);
        if !seal::is_refusal(&self.0.key, signature, (call, &to.node), outcome) {
            log_forged_answer(to, from);
            return None;
        }
        let node = to.node.clone();
        Some(match outcome {
            "busy" => CallError::Busy(node),
            why => CallError::Unreachable { node, why: why.to_owned() },
        })
    }
}

/// Logs that somebody else has answered in place of a node.
fn log_forged_answer(to: &Peer, from: &str) {
    let about = format!("an answer to a call to node {} is not signed by it", to.node);
    SecurityEvent::NodeAnswerForged.log("anyone", from, &about);
}

impl Seal {
    fn into_call(self, body: Bytes, until: Instant) -> IncomingCall {
        IncomingCall { from: self.from, id: self.id.to_string(), trace: self.trace, until, body }
    }
}

/// The NATS subject of a node's calls.
fn subject(node: &str) -> String {
    format!("kontor.node.{}.calls", token(node))
}
