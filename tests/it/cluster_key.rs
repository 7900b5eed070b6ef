//! The key of a cluster is replaced by the command while two nodes serve buyers. The nodes have a clock
//! that is set forward, so that nobody waits for the times of a rotation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use async_nats::Message;
use futures_util::StreamExt as _;
use kontor::actors::engine::clock::{Clock, TimeSource};
use kontor::app::App;
use kontor::bus::{CallError, Calls, Now, Options, Peer};
use kontor::domain::cluster_key::{
    ACCEPTED_FOR, ClusterKey, KeyGeneration, MessageKind, USED_AFTER,
};
use kontor::domain::time::{Span, Timestamp};
use reqwest::Method;
use tokio_util::bytes::Bytes;

use crate::bus::{PATIENCE, nats, until};
use crate::process::kontor;
use crate::servers::database;
use crate::site::Site;

/// The machine's clock, set forward by so many milliseconds.
#[derive(Default)]
struct Ahead(AtomicI64);

impl TimeSource for Ahead {
    fn now(&self) -> Timestamp {
        Clock::system().now() + Span::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn turn(&self, span: Span) {
        self.0.fetch_add(span.millis(), Ordering::SeqCst);
    }
}

/// Two nodes of a store and what looks at their wire.
struct Nodes {
    one: Site,
    two: Site,
    clock: Clock,
    history: String,
    placed: AtomicUsize,
    over: AtomicBool,
}

impl Nodes {
    async fn start(server: &nats::Server, store: &str) -> Self {
        let clock = Clock::of(Arc::new(Ahead::default()));
        let node = async |name: &str, psp: Option<&str>| {
            let change = |config: &mut kontor::config::Config| {
                config.store.url = store.into();
                config.bus = server.options();
                config.cluster.node = name.into();
                config.cluster.settle_ms = 0;
                config.sandbox.url = psp.map_or_else(|| config.sandbox.url.clone(), str::to_owned);
            };
            let start = async |config: &kontor::config::Config| {
                App::start_at(config, clock.clone()).await.unwrap()
            };
            Site::started(change, start).await
        };
        let one = node("one", None).await;
        let two = node("two", Some(&one.config.sandbox.url)).await;
        let history = one.app.as_ref().unwrap().store.history().await.unwrap().to_string();
        let (placed, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { one, two, clock, history, placed, over }
    }

    async fn generations(&self) -> Vec<KeyGeneration> {
        let mut all = self.one.app.as_ref().unwrap().store.cluster_key().await.unwrap();
        all.sort_unstable();
        all
    }

    /// The key that has this generation only.
    fn only(&self, generation: KeyGeneration) -> ClusterKey {
        let key = ClusterKey::alone();
        key.set(&[generation], &self.history, self.clock.now());
        key
    }

    /// Whether both nodes, or neither of them, admit a call that is signed with a key.
    async fn admit(&self, key: &ClusterKey) -> Option<bool> {
        let mut admitted = Vec::new();
        for (name, site) in [("one", &self.one), ("two", &self.two)] {
            let clock = self.clock.clone();
            let now: Now = Arc::new(move || clock.now());
            let calls = Calls::new(None, None, &Options::default(), key.clone(), "x", now).unwrap();
            let peer = Peer { node: name.into(), url: site.url() };
            let answer = calls.call(&peer, Bytes::from_static(b"nothing"), PATIENCE).await;
            let refused = |error: &CallError| error.to_string().contains("401");
            admitted.push(!answer.is_err_and(|error| refused(&error)));
        }
        (admitted[0] == admitted[1]).then_some(admitted[0])
    }

    /// Buys at both nodes by turns, until it is over. No checkout fails.
    async fn buy(&self) {
        for at in 0.. {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            let site = [&self.one, &self.two][at % 2];
            let cart = site.cart(&[("LAMP", 1)]).await;
            site.checkout(&cart, &format!("key-{at}"), "tok_ok", 30).await.expect(201);
            self.placed.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Sets the clock forward, in steps between which orders are placed.
    async fn later(&self, span: Span) {
        const STEPS: i64 = 10;
        for _ in 0..STEPS {
            self.clock.turn(Span::from_millis(span.millis() / STEPS + 1));
            let before = self.placed.load(Ordering::SeqCst);
            until("orders are placed", async || self.placed.load(Ordering::SeqCst) > before + 1)
                .await;
        }
    }
}

/// Whether a call that was overheard is signed with a key.
fn is_signed(call: &Message, key: &ClusterKey) -> bool {
    let headers = call.headers.as_ref().unwrap();
    let header = |name: &str| headers.get(name).unwrap().as_str();
    let to = call.subject.split('.').nth(2).unwrap();
    let [from, id, sent] =
        ["From", "Id", "Sent"].map(|name| header(&format!("Kontor-Call-{name}")));
    let signed = [from, to, id, sent, header("Kontor-Call-Left"), header("Kontor-Call-Digest")];
    key.is_signed(header("Kontor-Call-Mac"), MessageKind::Call, &signed, b"")
}

#[tokio::test(flavor = "multi_thread")]
async fn key_of_a_cluster_is_replaced_while_nodes_serve_and_no_checkout_fails() {
    let (server, store) = (nats::Server::start(), database());
    let nodes = Nodes::start(&server, &store).await;
    until("each has shards", async || {
        let all = nodes.one.admin(Method::GET, "/cluster", None).await.expect(200);
        let all = all["nodes"].as_array().unwrap();
        all.len() == 2 && all.iter().all(|node| node["shards"] != 0)
    })
    .await;
    nodes.one.sell("LAMP", 1_000, 100_000).await;
    let (_spy, mut overheard) = server.stranger("kontor.node.*.calls").await;
    let rotates = async {
        let told =
            kontor().args(["key", "rotate", "--cluster", "--store", &store]).output().unwrap();
        assert!(told.status.success(), "{told:?}");
        let [old, new] = nodes.generations().await[..] else { panic!("not two generations") };
        let (old, new) = (nodes.only(old), nodes.only(new));
        until("nodes know the new key", async || nodes.admit(&new).await == Some(true)).await;
        assert_eq!(nodes.admit(&old).await, Some(true), "it is the one that nodes sign with");
        let call = overheard.next().await.unwrap();
        assert!(is_signed(&call, &old) && !is_signed(&call, &new));

        nodes.later(USED_AFTER).await;
        let signed = async { while !is_signed(&overheard.next().await.unwrap(), &new) {} };
        tokio::time::timeout(PATIENCE, signed).await.expect("nodes sign with the new key");
        assert_eq!(nodes.admit(&old).await, Some(true), "for some minutes");

        nodes.later(ACCEPTED_FOR).await;
        until("the old key is refused", async || nodes.admit(&old).await == Some(false)).await;
        assert_eq!(nodes.admit(&new).await, Some(true));
        nodes.later(Span::from_secs(1)).await;
        nodes.over.store(true, Ordering::SeqCst);
    };
    tokio::join!(rotates, nodes.buy());
    let Nodes { one, mut two, placed, .. } = nodes;
    assert_eq!(one.level("LAMP").await["sellable"], 100_000 - placed.into_inner());
    two.app.take().unwrap().stop().await;
    one.verify().await;
}
