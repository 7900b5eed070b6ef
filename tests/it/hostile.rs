//! Hostile clients on the real server: each gets a clear refusal or is let go in bounded time,
//! and an honest client beside it is served. The same at full size: `kontor load hostile` and
//! `kontor load overload`.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, header};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::buyer_tokens;
use crate::site::Site;

/// Longer than any deadline that these tests set, shorter than what they must not wait for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A site whose deadlines are short.
async fn hasty() -> Site {
    Site::with(|config| {
        config.http.head_timeout_secs = 1;
        config.http.body_timeout_secs = 1;
        config.http.answer_timeout_secs = 1;
    })
    .await
}

async fn connect(site: &Site) -> TcpStream {
    TcpStream::connect(site.url().trim_start_matches("http://")).await.unwrap()
}

/// Reads until the server closes the connection; a reset counts as closed.
async fn to_its_end(wire: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut some = [0; 4096];
    let reading = async {
        while let Ok(count @ 1..) = wire.read(&mut some).await {
            all.extend_from_slice(&some[..count]);
        }
    };
    timeout(PATIENCE, reading).await.expect("it was never closed");
    String::from_utf8_lossy(&all).into_owned()
}

/// Writes until the server has closed the connection.
async fn until_cut(wire: &mut TcpStream, bytes: &[u8]) {
    let writing = async { while wire.write_all(bytes).await.is_ok() {} };
    timeout(PATIENCE, writing).await.expect("it was never cut");
}

/// Whether so many requests are under way, the one that asks included.
async fn under_way(site: &Site, count: usize) -> Option<()> {
    let line = format!("kontor_http_requests_under_way {count}\n");
    let answer = site.request(Method::GET, "/metrics").send().await.unwrap();
    answer.text().await.unwrap().contains(&line).then_some(())
}

async fn honest(site: &Site) {
    site.store(Method::GET, "/delivery-options", None).await.expect(200);
}

/// The head of a POST of a cart.
fn post(more: &str) -> String {
    format!(
        "POST /v1/store/carts HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n{more}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_requests_are_refused() {
    let site = Site::open().await;
    let get = |more: &str| format!("GET /livez HTTP/1.1\r\nHost: shop\r\n{more}\r\n\r\n");
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let large = format!("x: {}", "y".repeat(200 << 10));
    let shapes = [
        ("both", post("Content-Length: 4\r\nTransfer-Encoding: chunked") + "0\r\n\r\n", "400"),
        ("two lengths", post("Content-Length: 4\r\nContent-Length: 5") + "{}  ", "400"),
        ("a signed length", post("Content-Length: +2") + "{}", "400"),
        ("a list of lengths", post("Content-Length: 2, 2") + "{}", "400"),
        ("chunked not last", post("Transfer-Encoding: chunked, identity") + "0\r\n\r\n", "400"),
        ("an unknown coding", post("Transfer-Encoding: xchunked") + "0\r\n\r\n", "400"),
        ("a blank in a name", get("Content-Length : 0"), "400"),
        ("a folded line", get("x: a\r\n b"), "400"),
        ("a bare line feed", get("x: a\ny: b"), "400"),
        (
            "a bare line feed in the first line",
            "GET /livez HTTP/1.1\nHost: s\r\n\r\n".into(),
            "400",
        ),
        (
            "a bare line feed at the end",
            "GET /livez HTTP/1.1\r\nHost: s\r\n\n\r\n\r\n".into(),
            "400",
        ),
        ("a bare carriage return", get("x: a\ry: b"), "400"),
        ("no host", "GET /livez HTTP/1.1\r\n\r\n".into(), "400"),
        ("two hosts", get("Host: other"), "400"),
        ("another protocol", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), "400"),
        ("many headers", get(many.trim_end()), "4"),
        ("a large header", get(&large), "431"),
        ("a long path", format!("GET /{} HTTP/1.1\r\nHost: s\r\n\r\n", "x".repeat(70_000)), "4"),
    ];
    for (name, bytes, status) in shapes {
        let mut wire = connect(&site).await;
        // The server may answer and close before the end of it.
        let _early = wire.write_all(bytes.as_bytes()).await;
        let said = to_its_end(&mut wire).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{name}: {said:?}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{name}: one answer: {said:?}");
    }
    let mut wire = connect(&site).await;
    wire.write_all(b"\x16\x03\x01\x02\x00\x01\xff\xff\r\n\r\n").await.unwrap();
    assert!(to_its_end(&mut wire).await.starts_with("HTTP/1.1 400"), "TLS on a plain port");
    honest(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malicious_bodies_are_refused() {
    let site = Site::open().await;
    for coding in ["gzip", "br", "deflate", "zstd", "gzip, identity", "x"] {
        let request = site.request(Method::POST, "/v1/store/carts");
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let answer = site.send(request.header("Content-Encoding", coding).body("\x1f\u{8b}")).await;
        assert_eq!((answer.status, answer.code()), (415, "unsupported_media_type"), "{coding}");
    }
    let sent = async |body: Vec<u8>| {
        let request = site.request(Method::POST, "/v1/store/carts");
        site.send(request.header(header::CONTENT_TYPE, "application/json").body(body)).await
    };
    for deep in ["[".repeat(100_000), format!("{{\"a\":{}", "[".repeat(100_000))] {
        assert_eq!(sent(deep.into_bytes()).await.code(), "malformed_json");
    }
    assert_eq!(sent(b"{\"email\": \"\xff\xfe\"}".to_vec()).await.code(), "malformed_json");
    let text = "x".repeat(900_000);
    let long = sent(json!({ "email": text }).to_string().into_bytes()).await;
    assert_eq!((long.status, long.code()), (422, "invalid_request"));
    for (path, status) in [
        ("/v1/store/products?q=%ff%fe", 200),
        ("/v1/store/products/%ff%fe", 404),
        ("/v1/store/carts/%00", 404),
    ] {
        let answer = site.send(site.request(Method::GET, path)).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    honest(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_get_408_and_are_closed() {
    let site = hasty().await;
    // The first head, the second one, and a body.
    let mut first = connect(&site).await;
    first.write_all(b"GET /livez HT").await.unwrap();
    assert!(to_its_end(&mut first).await.starts_with("HTTP/1.1 408"));

    let mut second = connect(&site).await;
    second.write_all(b"GET /livez HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
    let mut some = [0; 4096];
    assert!(second.read(&mut some).await.unwrap() > 0);
    until_cut_slowly(&mut second).await;

    let mut body = connect(&site).await;
    body.write_all((post("Content-Length: 100") + "{\"email\"").as_bytes()).await.unwrap();
    let said = to_its_end(&mut body).await;
    assert!(said.starts_with("HTTP/1.1 408") && said.contains("request_timeout"), "{said}");

    let mut broken = connect(&site).await;
    broken.write_all((post("Content-Length: 100") + "{").as_bytes()).await.unwrap();
    broken.shutdown().await.unwrap();
    to_its_end(&mut broken).await;
    honest(&site).await;
}

/// Sends a byte every now and then until the server has closed the connection.
async fn until_cut_slowly(wire: &mut TcpStream) {
    let dribble = async {
        let mut every = tokio::time::interval(Duration::from_millis(100));
        loop {
            every.tick().await;
            if wire.write_all(b"x").await.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE, dribble).await.expect("it was never cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_and_unread_requests_are_closed() {
    let site = hasty().await;
    // A body without an end that nobody reads, and answers that nobody takes.
    let mut endless = connect(&site).await;
    let head = "POST /livez HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n";
    endless.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 16 << 10, " ".repeat(16 << 10));
    until_cut(&mut endless, chunk.as_bytes()).await;

    let mut deaf = connect(&site).await;
    until_cut(&mut deaf, b"GET /openapi.json HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    honest(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let site = Site::open().await;
    let mut wire = connect(&site).await;
    let one = |n: usize| format!("GET /nothing/{n} HTTP/1.1\r\nHost: s\r\nX-Request-Id: r-{n}\r\n");
    let mut all: String = (0..49).map(|n| one(n) + "\r\n").collect();
    all += &(one(49) + "Connection: close\r\n\r\n");
    wire.write_all(all.as_bytes()).await.unwrap();
    let said = to_its_end(&mut wire).await;
    let ids: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("x-request-id: ")).collect();
    let expected: Vec<String> = (0..50).map(|n| format!("r-{n}")).collect();
    assert_eq!(ids, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_block_new_ones() {
    let site = Site::with(|config| {
        config.http.workers = 1;
        config.http.connections_max = 20;
    })
    .await;
    let mut idle = Vec::new();
    for _ in 0..60 {
        idle.push(connect(&site).await);
        honest(&site).await;
    }
    let ended = join_all(idle.iter_mut().map(async |wire| {
        matches!(
            timeout(Duration::from_millis(1), wire.read(&mut [0; 64])).await,
            Ok(Ok(0) | Err(_))
        )
    }));
    let ended = ended.await.into_iter().filter(|ended| *ended).count();
    assert!((40..60).contains(&ended), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_closed_connections_are_dropped() {
    let mut site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    site.stop_psp().await;
    let body = json!({"payment": {"provider": "sandbox", "token": "tok_ok"}}).to_string();
    let head = format!(
        "POST /v1/store/carts/{cart}/checkout HTTP/1.1\r\nHost: shop\r\nPrefer: wait=30\r\n\
         Authorization: Bearer {}\r\nIdempotency-Key: key-1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        buyer_tokens::token(&cart),
        body.len()
    );
    let mut wire = connect(&site).await;
    wire.write_all((head + &body).as_bytes()).await.unwrap();
    site.until(&cart, |order| order["status"] != "confirmed").await;
    under_way(&site, 2).await.expect("it waits for the outcome");
    drop(wire);
    let gone = site.until_some(async || under_way(&site, 1).await);
    timeout(PATIENCE, gone).await.expect("it is still being worked on");
    site.start_psp().await;
    let order = site.until(&cart, |order| order["status"] == "confirmed").await;
    assert_eq!(order["total"]["amount"], 1_000, "what was placed goes on");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_shedding_refuses_carts_first_and_a_retry_succeeds() {
    let site = Site::with(|config| config.http.overload.under_way_max = 2).await;
    site.sell("LAMP", 1_000, 9).await;
    let full = site.cart(&[("LAMP", 1)]).await;
    // Two carts whose bodies are still to come are all that may be under way.
    let key = "0f5c3a9e-7d1b-4e52";
    let head = post(&format!("Content-Length: 2\r\nIdempotency-Key: {key}"));
    let mut held = [connect(&site).await, connect(&site).await];
    held[0].write_all(head.as_bytes()).await.unwrap();
    held[1].write_all(post("Content-Length: 2").as_bytes()).await.unwrap();
    site.until_some(async || under_way(&site, 3).await).await;
    let refused = async |method: Method, path: &str| {
        let request = site.request(method, path).header("Idempotency-Key", "0123456789abcdef");
        let response = request.json(&json!({})).send().await.unwrap();
        let again = response.headers().get(header::RETRY_AFTER).is_some();
        response.status().as_u16() == 503 && again
    };
    assert!(refused(Method::POST, "/v1/store/carts").await);
    assert!(refused(Method::GET, "/v1/store/products").await);
    let told = site.store(Method::GET, "/products/LAMP", None).await;
    assert_eq!((told.status, told.code()), (503, "overloaded"));
    // Whoever has a cart gets through with it, and operators and watchers do, too.
    site.checkout(&full, "key-1", "tok_ok", 30).await.expect(201);
    site.admin(Method::GET, "/orders", None).await.expect(200);
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = site.request(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    let text = site.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(text.contains("kontor_http_refused_total{class=\"browse\"} 2"), "{text}");
    // A refused request does not break its connection: its body was taken.
    let mut wire = connect(&site).await;
    let twice = post("Content-Length: 2") + "{}" + &post("Content-Length: 2\r\nConnection: close");
    wire.write_all((twice + "{}").as_bytes()).await.unwrap();
    assert_eq!(to_its_end(&mut wire).await.matches("HTTP/1.1 503").count(), 2);
    // Those who were let in are answered, and so is whoever was refused and comes again.
    for wire in &mut held {
        wire.write_all(b"{}").await.unwrap();
        let mut some = [0; 4096];
        let count = wire.read(&mut some).await.unwrap();
        assert!(some[..count].starts_with(b"HTTP/1.1 201"));
    }
    let request = site.request(Method::POST, "/v1/store/carts").header("Idempotency-Key", key);
    site.send(request.json(&json!({}))).await.expect(201);
    site.store(Method::GET, "/products/LAMP", None).await.expect(200);
    site.verify().await;
}
