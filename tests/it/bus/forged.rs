//! A hostile hand between nodes: what it forges, overhears and sends again is not obeyed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_nats::{HeaderMap, Request};
use futures_util::StreamExt as _;
use kontor::bus::calls::CallMessage;
use kontor::bus::local::Eavesdropper;
use kontor::bus::{CallError, Calls, Now, Peer, SignedNotice};
use kontor::domain::cluster_key::ClusterKey;
use kontor::domain::time::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::bytes::Bytes;

use super::calls::{Pair, key};
use super::{PATIENCE, nats, now, until};

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_call_is_refused_without_effect() {
    let server = nats::Server::start();
    for by_nats in [false, true] {
        let connect = async |node: &str| match by_nats {
            true => Some(server.connect(node).await),
            false => None,
        };
        let pair = Pair::wire(None, connect("b").await).await;
        let stranger = Calls::new(
            connect("x").await,
            None,
            &Pair::options(),
            ClusterKey::new([8; 32]),
            "a",
            now(),
        );
        let stranger = stranger.unwrap();
        let refused = stranger.call(&pair.peer, Bytes::from_static(b"hello"), PATIENCE).await;
        assert!(matches!(refused, Err(CallError::Unknown { .. })), "{refused:?}");
        // The refusal of a call that is not known to be the caller's proves nothing to it.
        // One of the cluster whose clock is wrong, and one that means another node.
        let wrong: Now = Arc::new(|| Timestamp::from_millis(1_000));
        let late =
            Calls::new(connect("y").await, None, &Pair::options(), key(), "a", wrong).unwrap();
        let refused = late.call(&pair.peer, Bytes::from_static(b"hello"), PATIENCE).await;
        assert!(matches!(refused, Err(CallError::Unknown { .. })), "{refused:?}");
        let other = Peer { node: "c".into(), url: pair.peer.url.clone() };
        let refused = pair.a.call(&other, Bytes::from_static(b"hello"), PATIENCE).await;
        assert!(matches!(refused, Err(CallError::Unknown { .. })), "{refused:?}");
        assert_eq!(pair.done(), 0);
        pair.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_a_stranger_is_refused_before_its_body_is_read() {
    let pair = Pair::wire(None, None).await;
    let address = pair.peer.url.trim_start_matches("http://").to_owned();
    let mut stranger = tokio::net::TcpStream::connect(&address).await.unwrap();
    // The body is announced, and never sent.
    let head =
        format!("POST /v1/node/calls HTTP/1.1\r\nhost: {address}\r\ncontent-length: 9\r\n\r\n");
    stranger.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    let read = tokio::time::timeout(PATIENCE, stranger.read_exact(&mut status)).await;
    assert_eq!((read.unwrap().unwrap(), &status), (12, b"HTTP/1.1 401"));
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overheard_call_that_is_sent_again_is_refused() {
    let server = nats::Server::start();
    let pair = Pair::wire(Some(server.connect("a").await), Some(server.connect("b").await)).await;
    let (spy, mut overheard) = server.stranger("kontor.node.b.calls").await;
    assert_eq!(pair.ask(b"hello", PATIENCE).await.unwrap(), "hello");
    let call = tokio::time::timeout(PATIENCE, overheard.next()).await.unwrap().unwrap();
    let headers = call.headers.unwrap();
    let again = Request::new().headers(headers.clone()).payload(call.payload.clone());
    let answer = spy.send_request(call.subject, again).await.unwrap();
    let outcome = answer.headers.unwrap().get("Kontor-Call-Outcome").unwrap().to_string();
    assert_eq!((outcome.as_str(), answer.payload.len()), ("repeated", 0));
    let mut again = reqwest::Client::new().post(format!("{}/v1/node/calls", pair.peer.url));
    for (name, values) in headers.iter() {
        again = again.header(name.to_string(), values[0].to_string());
    }
    assert_eq!(again.body(call.payload).send().await.unwrap().status(), 401);
    assert_eq!(pair.done(), 1);
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_answer_is_not_believed() {
    let server = nats::Server::start();
    // The callee does not listen to NATS, so only the forger answers there.
    let pair = Pair::wire(Some(server.connect("a").await), None).await;
    let (forger, mut calls) = server.stranger("kontor.node.b.calls").await;
    let forges = tokio::spawn(async move {
        for _ in 0..2 {
            let call = calls.next().await.unwrap();
            let (reply, headers) = (call.reply.unwrap(), call.headers.unwrap());
            forger.publish_with_headers(reply, headers, "forged".into()).await.unwrap();
        }
        forger
    });
    for _ in 0..2 {
        assert_eq!(pair.ask(b"hello", PATIENCE).await.unwrap(), "hello");
    }
    let _connected = tokio::time::timeout(PATIENCE, forges).await.unwrap().unwrap();
    assert_eq!(pair.done(), 2);

    // Over HTTP there is nobody else to ask: the outcome is unknown.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = Peer { node: "b".into(), url: format!("http://{}", listener.local_addr().unwrap()) };
    let forges = tokio::spawn(async move {
        let (mut wire, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 4_096];
        let _some = tokio::io::AsyncReadExt::read(&mut wire, &mut bytes).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";
        tokio::io::AsyncWriteExt::write_all(&mut wire, answer).await.unwrap();
        wire
    });
    let by_http = Calls::new(None, None, &Pair::options(), key(), "a", now()).unwrap();
    let forged = by_http.call(&peer, Bytes::from_static(b"hello"), PATIENCE).await;
    assert!(matches!(forged, Err(CallError::Unknown { .. })), "{forged:?}");
    drop(forges.await.unwrap());
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_refusal_does_not_say_that_nothing_was_done() {
    let server = nats::Server::start();
    for outcome in ["busy", "closed", "unsigned", "repeated"] {
        // The call is carried out; the forger is only faster with an answer.
        let pair = Pair::wire(Some(server.connect("a").await), None).await;
        let (forger, mut calls) = server.stranger("kontor.node.b.calls").await;
        let forges = tokio::spawn(async move {
            let reply = calls.next().await.unwrap().reply.unwrap();
            let mut headers = HeaderMap::new();
            headers.insert("Kontor-Call-Outcome", outcome);
            headers.insert("Kontor-Call-Mac", "00".repeat(32));
            forger.publish_with_headers(reply, headers, "".into()).await.unwrap();
            forger
        });
        assert_eq!(pair.ask(b"hello", PATIENCE).await.unwrap(), "hello", "{outcome}");
        let _connected = forges.await.unwrap();
        pair.close().await;
    }
    // Over HTTP there is nobody else to ask: the outcome is unknown.
    for status in ["503 Service Unavailable", "401 Unauthorized", "413 Payload Too Large"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let forges = tokio::spawn(async move {
            let (mut wire, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 4_096];
            let _some = wire.read(&mut bytes).await.unwrap();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            wire.write_all(answer.as_bytes()).await.unwrap();
            wire
        });
        let caller = Calls::new(None, None, &Pair::options(), key(), "a", now()).unwrap();
        let peer = Peer { node: "b".into(), url };
        let forged = caller.call(&peer, Bytes::from_static(b"hello"), PATIENCE).await;
        assert!(matches!(forged, Err(CallError::Unknown { .. })), "{forged:?}");
        drop(forges.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_an_earlier_process_is_not_carried_out_by_the_next() {
    let server = nats::Server::start();
    let pair = Pair::wire(Some(server.connect("a").await), Some(server.connect("b").await)).await;
    let (spy, mut overheard) = server.stranger("kontor.node.b.calls").await;
    assert_eq!(pair.ask(b"hello", PATIENCE).await.unwrap(), "hello");
    let call = tokio::time::timeout(PATIENCE, overheard.next()).await.unwrap().unwrap();
    pair.close().await;
    // The node starts again and remembers no calls.
    let again = Pair::wire(None, Some(server.connect("b").await)).await;
    until("the call is refused", async || {
        let request = Request::new().headers(call.headers.clone().unwrap());
        let sent = spy.send_request(call.subject.clone(), request.payload(call.payload.clone()));
        let Ok(answer) = sent.await else { return false };
        let outcome = answer.headers.unwrap().get("Kontor-Call-Outcome").unwrap().to_string();
        assert_eq!(outcome, "late");
        true
    })
    .await;
    assert_eq!(again.done(), 0);
    again.close().await;
}

/// Hears calls on the bus in process, and answers them before the callee does once it forges.
#[derive(Default)]
struct Forger {
    calls: Mutex<Vec<CallMessage>>,
    forges: AtomicBool,
}

impl Eavesdropper for Forger {
    fn hears_call(&self, _: &str, call: &CallMessage) -> Option<CallMessage> {
        self.calls.lock().unwrap().push(call.clone());
        let forged = CallMessage { headers: Vec::new(), body: Bytes::from_static(b"forged") };
        self.forges.load(Ordering::SeqCst).then_some(forged)
    }

    fn hears_answer(&self, _: &CallMessage) {}

    fn hears_notice(&self, _: &SignedNotice) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bus_in_process_does_not_believe_an_intruder_either() {
    let (pair, board) = Pair::local().await;
    let forger = Arc::new(Forger::default());
    board.overheard_by(forger.clone());
    assert_eq!(pair.ask(b"hello", PATIENCE).await.unwrap(), "hello");
    let call = forger.calls.lock().unwrap()[0].clone();
    let mut unsigned = call.clone();
    unsigned.body = Bytes::from_static(b"other");
    for (call, outcome) in [(call, "repeated"), (unsigned, "unsigned")] {
        let answer = board.send_call("b", call).await.unwrap();
        assert_eq!(answer.header("Kontor-Call-Outcome"), Some(outcome));
    }
    assert_eq!(pair.done(), 1);
    forger.forges.store(true, Ordering::SeqCst);
    let answered = pair.ask(b"hello", PATIENCE).await;
    assert!(matches!(answered, Err(CallError::Unknown { .. })), "{answered:?}");
    pair.close().await;
}
