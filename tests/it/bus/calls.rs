//! One suite for calls, on all ways that they go; then what only a wire can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use kontor::bus::local::Board;
use kontor::bus::nats::Connection;
use kontor::bus::{CallError, CallSlot, Calls, Handler, IncomingCall, Options, Peer};
use kontor::domain::cluster_key::ClusterKey;
use kontor::http::Routes;
use kontor::http::live::Topics;
use kontor::http::server::{self, Server};
use kontor_lab::cluster::cut::{ProxyMode, TcpProxy};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::nats::{self, up};
use super::{PATIENCE, now, until};
use crate::shop::Shop;

pub(super) fn key() -> ClusterKey {
    ClusterKey::new([9; 32])
}
const CALLS_MAX: usize = 4;

/// Does what a call's body says: `echo`, `hang`, `wait`, `large`, `who`.
struct Desk {
    begun: AtomicUsize,
    done: AtomicUsize,
    gate: Semaphore,
}

impl Desk {
    fn handler(self: &Arc<Self>) -> Handler {
        let desk = Arc::clone(self);
        Arc::new(move |call: IncomingCall, mut place: CallSlot| {
            let desk = Arc::clone(&desk);
            async move {
                desk.begun.fetch_add(1, Ordering::SeqCst);
                let answer = match &call.body[..] {
                    b"wait" if !place.wait() => Bytes::from_static(b"too many"),
                    b"hang" | b"wait" => {
                        desk.gate.acquire().await.unwrap().forget();
                        Bytes::from_static(b"at last")
                    }
                    b"large" => Bytes::from(vec![b'x'; 3 << 20]),
                    b"who" => Bytes::from(call.from),
                    _ => call.body,
                };
                desk.done.fetch_add(1, Ordering::SeqCst);
                answer
            }
            .boxed()
        })
    }
}

/// Node `b`, which answers, and node `a`, which calls it.
pub(super) struct Pair {
    pub(super) a: Calls,
    pub(super) peer: Peer,
    desk: Arc<Desk>,
    stop: CancellationToken,
    served: Option<JoinHandle<()>>,
    web: Option<(Shop, Server)>,
}

impl Pair {
    pub(super) fn options() -> Options {
        Options { calls_max: CALLS_MAX, ..Options::default() }
    }

    pub(super) async fn local() -> (Self, Board) {
        let board = Board::default();
        let calls = |node| Calls::local(&board, &Self::options(), key(), node, now());
        (Self::of(calls("a"), &calls("b"), None, String::new()), board)
    }

    pub(super) async fn wire(a: Option<Connection>, b: Option<Connection>) -> Self {
        let calls =
            |nats, node| Calls::new(nats, None, &Self::options(), key(), node, now()).unwrap();
        let (a, b) = (calls(a, "a"), calls(b, "b"));
        let shop = Shop::open().await;
        let listen = "127.0.0.1:0".parse().unwrap();
        let options = server::Options { listen, workers: 1, ..server::Options::default() };
        let (node, store) = (Arc::clone(&shop.node), shop.store.clone());
        let (calls, routes) = (Some(b.clone()), Routes::standard());
        let topics = Topics::standard();
        let start =
            server::ServerStart { options, node, store, calls, internal_tls: None, routes, topics };
        let server = server::start(start).await.unwrap();
        let url = server.url();
        Self::of(a, &b, Some((shop, server)), url)
    }

    fn of(a: Calls, b: &Calls, web: Option<(Shop, Server)>, url: String) -> Self {
        let desk = Desk { begun: 0.into(), done: 0.into(), gate: Semaphore::new(0) };
        let (desk, stop) = (Arc::new(desk), CancellationToken::new());
        let served = Some(b.serve(desk.handler(), stop.clone()));
        Self { a, peer: Peer { node: "b".into(), url }, desk, stop, served, web }
    }

    pub(super) async fn ask(
        &self,
        body: &'static [u8],
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        self.a.call(&self.peer, Bytes::from_static(body), patience).await
    }

    /// Begins a call that is not answered before the gate opens.
    async fn begin(&self, body: &'static [u8]) -> JoinHandle<Result<Bytes, CallError>> {
        let before = self.desk.begun.load(Ordering::SeqCst);
        let (a, peer) = (self.a.clone(), self.peer.clone());
        let call = async move { a.call(&peer, Bytes::from_static(body), PATIENCE).await };
        let call = tokio::spawn(call);
        until("a call is begun", async || self.desk.begun.load(Ordering::SeqCst) > before).await;
        call
    }

    pub(super) fn done(&self) -> usize {
        self.desk.done.load(Ordering::SeqCst)
    }

    pub(super) async fn close(mut self) {
        self.stop.cancel();
        self.desk.gate.add_permits(1_000);
        if let Some(served) = self.served.take() {
            served.await.unwrap();
        }
        if let Some((shop, server)) = self.web {
            server.stop().await;
            shop.node.stop().await;
        }
    }
}

/// What holds on every way. Over NATS nobody proves that there is nobody.
async fn suite(mut pair: Pair, is_nats: bool) {
    let is_absent = |error: &CallError| match error {
        CallError::Unreachable { .. } => true,
        CallError::Unknown { .. } => is_nats,
        _ => false,
    };
    assert_eq!(pair.ask(b"hello", PATIENCE).await.unwrap(), "hello");
    assert_eq!(pair.ask(b"", PATIENCE).await.unwrap(), "");
    assert_eq!(pair.ask(b"who", PATIENCE).await.unwrap(), "a");
    assert_eq!(pair.ask(b"large", PATIENCE).await.unwrap().len(), 3 << 20);

    let nobody = Peer { node: "nobody".into(), url: String::new() };
    let missed = pair.a.call(&nobody, Bytes::new(), PATIENCE).await;
    assert!(missed.as_ref().is_err_and(is_absent), "{missed:?}");
    let large = Bytes::from(vec![0; (1 << 20) + 1]);
    let missed = pair.a.call(&pair.peer, large, PATIENCE).await;
    assert!(matches!(missed, Err(CallError::TooLarge(_))), "{missed:?}");
    let most = Bytes::from(vec![0; 1 << 20]);
    assert_eq!(pair.a.call(&pair.peer, most.clone(), PATIENCE).await.unwrap(), most);

    // Whoever runs out of patience does not know, and the place is free again.
    let late = pair.ask(b"hang", Duration::from_millis(50)).await;
    assert!(matches!(late, Err(CallError::Unknown { .. })), "{late:?}");
    until("the place is free", async || pair.ask(b"hello", PATIENCE).await.is_ok()).await;

    // Calls that only wait take no place of those that are worked on, and have a limit too.
    let mut waiting = Vec::new();
    for _ in 0..8 * CALLS_MAX {
        waiting.push(pair.begin(b"wait").await);
    }
    assert_eq!(pair.ask(b"wait", PATIENCE).await.unwrap(), "too many");
    assert_eq!(pair.ask(b"hello", PATIENCE).await.unwrap(), "hello");
    pair.desk.gate.add_permits(waiting.len());
    for call in waiting {
        assert_eq!(call.await.unwrap().unwrap(), "at last");
    }

    let waiting = pair.begin(b"wait").await;

    // All places are taken: the next is told so at once, and nothing is done.
    let mut hanging = Vec::new();
    for _ in 0..CALLS_MAX {
        hanging.push(pair.begin(b"hang").await);
    }
    let (done, began) = (pair.done(), Instant::now());
    let refused = pair.ask(b"hello", PATIENCE).await;
    assert_eq!(refused, Err(CallError::Busy("b".into())));
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(pair.done(), done);

    // A node that stops answers those under way, and takes no others.
    pair.stop.cancel();
    until("it is closed", async || {
        let asked = pair.ask(b"hello", Duration::from_secs(5)).await;
        asked.is_err_and(|error| is_absent(&error))
    })
    .await;
    let served = pair.served.take().unwrap();
    assert!(!served.is_finished());
    pair.desk.gate.add_permits(CALLS_MAX + 1);
    for call in hanging.into_iter().chain([waiting]) {
        assert_eq!(call.await.unwrap().unwrap(), "at last");
    }
    served.await.unwrap();
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_one_process() {
    suite(Pair::local().await.0, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_by_nats() {
    let server = nats::Server::start();
    let (a, b) = (server.connect("a").await, server.connect("b").await);
    suite(Pair::wire(Some(a), Some(b)).await, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_nats_falls_back_to_http() {
    let server = nats::Server::start();
    let (url, addr) = (server.options().url, server.addr());
    let line = TcpProxy::to(addr).await.unwrap();
    let options = Options { url: line.instead(&url, addr), ..Options::default() };
    let b = Connection::open(&options, "b").await.unwrap().unwrap();
    up(&b, true).await;
    let pair = Pair::wire(Some(server.connect("a").await), Some(b)).await;
    assert_eq!(pair.ask(b"hello", PATIENCE).await.unwrap(), "hello");
    line.set(ProxyMode::Cut);
    let lost = pair.ask(b"hello", Duration::from_millis(200)).await;
    assert!(matches!(lost, Err(CallError::Unknown { .. })), "{lost:?}");
    assert_eq!(pair.ask(b"hello", Duration::from_secs(5)).await.unwrap(), "hello");
    line.set(ProxyMode::Whole);
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_by_http() {
    suite(Pair::wire(None, None).await, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_process_bus_injects_failures() {
    let (pair, board) = Pair::local().await;
    board.cut("b", true);
    let cut = pair.ask(b"hello", PATIENCE).await;
    assert!(matches!(cut, Err(CallError::Unreachable { .. })), "{cut:?}");
    assert_eq!(pair.done(), 0);
    board.cut("b", false);
    board.mute("b", true);
    let mute = pair.ask(b"hello", PATIENCE).await;
    assert!(matches!(mute, Err(CallError::Unknown { .. })), "{mute:?}");
    assert_eq!(pair.done(), 1);
    board.mute("b", false);
    assert_eq!(pair.ask(b"hello", PATIENCE).await.unwrap(), "hello");
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_use_http_during_a_nats_outage() {
    let mut server = nats::Server::start();
    let (a, b) = (server.connect("a").await, server.connect("b").await);
    let pair = Pair::wire(Some(a.clone()), Some(b.clone())).await;
    until("b listens to NATS", async || {
        assert_eq!(pair.ask(b"hello", PATIENCE).await.unwrap(), "hello");
        counted(&pair, "way=\"nats\",outcome=\"answered\"") > 0
    })
    .await;

    // What was under way is not known, and that is known soon.
    let (hanging, began) = (pair.begin(b"hang").await, Instant::now());
    server.kill();
    let broken = hanging.await.unwrap();
    assert!(matches!(broken, Err(CallError::Unknown { .. })), "{broken:?}");
    assert!(began.elapsed() < PATIENCE);
    up(&a, false).await;
    assert_eq!(pair.ask(b"hello", PATIENCE).await.unwrap(), "hello");
    assert!(counted(&pair, "way=\"http\",outcome=\"answered\"") > 0);

    server.resume();
    up(&a, true).await;
    up(&b, true).await;
    let before = counted(&pair, "way=\"nats\",outcome=\"answered\"");
    until("calls go by NATS again", async || {
        assert_eq!(pair.ask(b"hello", PATIENCE).await.unwrap(), "hello");
        counted(&pair, "way=\"nats\",outcome=\"answered\"") > before
    })
    .await;
    pair.close().await;
}

/// What the caller has counted, by its labels.
fn counted(pair: &Pair, labels: &str) -> u64 {
    let mut registry = prometheus_client::registry::Registry::default();
    pair.a.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line =
        text.lines().find(|line| line.starts_with("node_calls_total") && line.contains(labels));
    line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_call_is_unknown_and_refused_call_is_not() {
    let pair = Pair::wire(None, None).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let peer = Peer { node: "b".into(), url };
    let breaks = tokio::spawn(async move {
        let (mut wire, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 1_024];
        let _some = tokio::io::AsyncReadExt::read(&mut wire, &mut bytes).await.unwrap();
        listener
    });
    let broken = pair.a.call(&peer, Bytes::from_static(b"hello"), PATIENCE).await;
    assert!(matches!(broken, Err(CallError::Unknown { .. })), "{broken:?}");
    drop(breaks.await.unwrap());
    let refused = pair.a.call(&peer, Bytes::from_static(b"hello"), PATIENCE).await;
    assert!(matches!(refused, Err(CallError::Unreachable { .. })), "{refused:?}");
    pair.close().await;
}
