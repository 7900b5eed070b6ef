//! A hostile hand at the NATS server of a shop: it says in the name of the server that nobody listens to
//! a call, and reads everything.

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use kontor::bus::{CallError, Peer};
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::bytes::Bytes;

use super::calls::Pair;
use super::{PATIENCE, nats, until};
use crate::servers::database;
use crate::site::Site;

/// Answers each call that is overheard as the server does if there is no subscriber. No client
/// library can say that, so it is written by hand.
async fn forges(server: &nats::Server, mut calls: Subscriber) -> JoinHandle<()> {
    let mut wire = TcpStream::connect(server.addr()).await.unwrap();
    let greeting = b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n";
    wire.write_all(greeting).await.unwrap();
    tokio::spawn(async move {
        const HEAD: &str = "NATS/1.0 503\r\n\r\n";
        while let Some(call) = calls.next().await {
            let Some(reply) = call.reply else { continue };
            let length = HEAD.len();
            let message = format!("HPUB {reply} {length} {length}\r\n{HEAD}\r\n");
            wire.write_all(message.as_bytes()).await.unwrap();
        }
    })
}

/// Two nodes over NATS, each of which owns shards, with one provider.
async fn shops(server: &nats::Server) -> (Site, Site) {
    let store = database();
    let node = async |name: &str, psp: Option<&str>| {
        Site::with(|config| {
            config.store.url = store.as_str().into();
            config.bus = server.options();
            config.cluster.node = name.into();
            config.cluster.settle_ms = 0;
            config.sandbox.url = psp.map_or_else(|| config.sandbox.url.clone(), str::to_owned);
        })
        .await
    };
    let one = node("one", None).await;
    let two = node("two", Some(&one.config.sandbox.url)).await;
    until("each has shards", async || {
        let all = one.admin(Method::GET, "/cluster", None).await.expect(200);
        let nodes = all["nodes"].as_array().unwrap();
        nodes.len() == 2 && nodes.iter().all(|node| node["shards"] != 0)
    })
    .await;
    (one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_word_that_nobody_listens_does_not_say_that_nothing_was_done() {
    let server = nats::Server::start();
    // The callee does not listen to NATS, so that the forger is always faster.
    let pair = Pair::wire(Some(server.connect("a").await), None).await;
    let (_forger, calls) = server.stranger("kontor.node.b.calls").await;
    let forging = forges(&server, calls).await;
    assert_eq!(pair.ask(b"hello", PATIENCE).await.unwrap(), "hello", "by HTTP");
    // Where HTTP is cut off, too, nobody knows what the call over NATS has done.
    let cut_off = Peer { node: "b".into(), url: "http://127.0.0.1:1".into() };
    let call = pair.a.call(&cut_off, Bytes::from_static(b"hello"), PATIENCE).await;
    assert!(matches!(call, Err(CallError::Unknown { .. })), "{call:?}");
    forging.abort();
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_that_nobody_listens_changes_no_price_stock_or_payment() {
    let server = nats::Server::start();
    let (one, mut two) = shops(&server).await;
    let (_forger, calls) = server.stranger("kontor.node.*.calls").await;
    let forging = forges(&server, calls).await;
    one.sell("LAMP", 1_000, 20).await;
    for at in 0..12_i64 {
        let site = [&one, &two][usize::from(at % 2 == 1)];
        let price = json!({"prices": [{"amount": 1_000 + at, "currency": "GBP"}]});
        site.admin(Method::PATCH, "/products/LAMP", Some(price)).await.expect(200);
        let cart = site.cart(&[("LAMP", 1)]).await;
        let key = format!("key-{at}");
        let placed = site.checkout(&cart, &key, "tok_ok", 30).await.expect(201);
        let again = site.checkout(&cart, &key, "tok_ok", 30).await.expect(201);
        assert_eq!((&placed["id"], &placed["total"]), (&again["id"], &again["total"]));
        one.until(&cart, |order| order["payment_status"] == "captured").await;
    }
    assert_eq!(two.level("LAMP").await["sellable"], 8);
    forging.abort();
    two.app.take().unwrap().stop().await;
    one.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_everything_on_nats_learns_nobody_by_name_address_or_card() {
    let server = nats::Server::start();
    let (one, two) = shops(&server).await;
    let (_spy, mut all) = server.stranger(">").await;
    one.sell("LAMP", 1_000, 20).await;
    let mut last = String::new();
    for at in 0..8 {
        let site = [&one, &two][at % 2];
        last = site.cart(&[("LAMP", 1)]).await;
        site.checkout(&last, &format!("retry-key-{at}"), "tok_ok", 30).await.expect(201);
        // Each reads it, the owner or another.
        for reader in [&one, &two] {
            let order = reader.order(&last).await;
            assert_eq!(order["email"], "ada@example.com");
            reader.until(&last, |order| order["payment_status"] == "captured").await;
        }
    }
    let (mut calls, mut answers, mut events) = (0, 0, 0);
    let mut is_last_seen = false;
    while !is_last_seen || calls == 0 || answers == 0 {
        let message = tokio::time::timeout(PATIENCE, all.next()).await.unwrap().unwrap();
        let (subject, text) = (&*message.subject, String::from_utf8_lossy(&message.payload));
        for secret in ["ada@", "Ada", "High Street", "London", "N1 1AA", "tok_ok", "retry-key"] {
            assert!(!text.contains(secret), "{secret} in {subject}: {text}");
        }
        calls += usize::from(subject.starts_with("kontor.node."));
        answers += usize::from(subject.starts_with("_INBOX."));
        events += usize::from(subject.starts_with("kontor.events."));
        is_last_seen |=
            subject.ends_with(".captured") && text.contains(last.trim_start_matches("cart_"));
    }
    assert!(events > 0);
}
