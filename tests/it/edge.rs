//! The edge over the wire: keys, limits, headers, and stopping under load.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use kontor::domain::cart;
use kontor::domain::id::CartId;
use kontor::store::Store;
use kontor::store::journal::{Append, NewEvent};
use reqwest::{Method, Response, header};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::buyer_tokens;
use crate::process::{self, Server};
use crate::site::Site;

const KEY: &str = "0f5c3a9e-7d1b-4e52";

fn head(response: &Response, name: header::HeaderName) -> String {
    response.headers().get(name).map_or_else(String::new, |value| value.to_str().unwrap().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_request_with_the_same_key_answers_409() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let second = async {
        site.until_some(async || (site.level("LAMP").await["reserved"] == 1).then_some(())).await;
        site.checkout(&cart, "key-1", "tok_slow", 30).await
    };
    let (first, second) = tokio::join!(site.checkout(&cart, "key-1", "tok_slow", 30), second);
    assert_eq!((second.status, second.code()), (409, "idempotency_in_flight"));
    let again = site.checkout(&cart, "key-1", "tok_slow", 30).await.expect(201);
    assert_eq!(first.expect(201)["id"], again["id"]);
    site.until(&cart, |order| order["payment_status"] == "captured").await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_leads_to_one_cart_and_is_never_weak() {
    let mut site = Site::open().await;
    let make = async |site: &Site, key: &str, admin: bool, email: &str| {
        let mut request = site.request(Method::POST, "/v1/store/carts");
        if admin {
            request = request.bearer_auth(&site.key);
        }
        site.send(request.header("Idempotency-Key", key).json(&json!({"email": email}))).await
    };
    let weak = make(&site, "cart-1", false, "ada@example.com").await;
    assert_eq!((weak.status, weak.code()), (422, "invalid_request"));
    assert_eq!(weak.body["errors"][0]["field"], "Idempotency-Key");
    let first = make(&site, KEY, false, "ada@example.com").await.expect(201);
    site.restart().await;
    let again = make(&site, KEY, false, "ada@example.com").await.expect(201);
    assert_eq!(first["id"], again["id"], "a crash forgets no key");
    let other = make(&site, KEY, false, "eve@example.com").await;
    assert_eq!(other.code(), "idempotency_key_reused");
    let own = make(&site, KEY, true, "ada@example.com").await.expect(201);
    assert_ne!(first["id"], own["id"], "an API key has keys of its own");
    make(&site, "cart-1", true, "ada@example.com").await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_history_answers_423() {
    let site = Site::open().await;
    let id: CartId = "cart_01k0000000e008000000000001".parse().unwrap();
    let node = &site.app.as_ref().unwrap().node;
    let event = NewEvent { kind: "nonsense", version: 1, data: "{}".into() };
    let append = Append {
        entity: cart::entity_id(id),
        after_seq: 0,
        events: vec![event],
        at: node.clock.now(),
        cause: "{}".into(),
        timer: None,
        rows: Vec::new(),
    };
    let (sender, written) = tokio::sync::oneshot::channel();
    let done = Box::new(move |outcome| drop(sender.send(outcome)));
    node.lanes.of(0).enqueue(append, done).unwrap();
    written.await.unwrap().unwrap();
    let path = format!("/v1/store/carts/{id}");
    let locked = site.send(site.request(Method::GET, &path).bearer_auth(&site.key)).await;
    assert_eq!((locked.status, locked.code()), (423, "quarantined"));
    site.store(Method::POST, "/carts", Some(json!({}))).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_get_without_the_body() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let paths = [
        format!("/v1/store/carts/{cart}"),
        "/v1/store/products".into(),
        "/v1/store/products/LAMP".into(),
        "/v1/store/products/NONE".into(),
        "/v1/store/delivery-options".into(),
        "/v1/admin/orders".into(),
        "/livez".into(),
        "/openapi.json".into(),
        "/docs".into(),
    ];
    for path in &paths {
        let head_of = site.request(Method::HEAD, path).send().await.unwrap();
        let get = site.request(Method::GET, path).send().await.unwrap();
        assert_eq!(head_of.status(), get.status(), "{path}");
        for name in [header::ETAG, header::CONTENT_TYPE, header::CACHE_CONTROL] {
            assert_eq!(head(&head_of, name.clone()), head(&get, name), "{path}");
        }
        assert_eq!(head_of.bytes().await.unwrap().len(), 0, "{path}");
    }
    let wrong = site.request(Method::HEAD, "/v1/store/carts").send().await.unwrap();
    assert_eq!((wrong.status().as_u16(), &*head(&wrong, header::ALLOW)), (405, "POST"));
}

#[tokio::test(flavor = "multi_thread")]
async fn created_answers_carry_location() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let product = json!({"sku": "A 1%", "name": "Odd", "prices": []});
    let request = site.request(Method::POST, "/v1/admin/products").bearer_auth(&site.key);
    let made = request.json(&product).send().await.unwrap();
    let place = head(&made, header::LOCATION);
    assert_eq!((made.status().as_u16(), &*place), (201, "/v1/admin/products/A%201%25"));
    let there = site.send(site.request(Method::GET, &place).bearer_auth(&site.key)).await;
    assert_eq!(there.expect(200)["sku"], "A 1%");
    let cart = site.cart(&[("LAMP", 1)]).await;
    let made = site.request(Method::POST, "/v1/store/carts").json(&json!({})).send().await.unwrap();
    let place = head(&made, header::LOCATION);
    let own: Value = made.json().await.unwrap();
    assert_eq!(place, format!("/v1/store/carts/{}", own["id"].as_str().unwrap()));
    let pay = json!({"payment": {"provider": "sandbox", "token": "tok_ok"}});
    let request = site.request(Method::POST, &format!("/v1/store/carts/{cart}/checkout"));
    let placed = request.header("Idempotency-Key", "key-1").json(&pay).send().await.unwrap();
    assert_eq!(placed.status().as_u16(), 202);
    let place = head(&placed, header::LOCATION);
    let order: Value = placed.json().await.unwrap();
    assert_eq!(place, format!("/v1/store/orders/{}", order["id"].as_str().unwrap()));
    let token = order["token"].as_str().unwrap();
    site.send(site.request(Method::GET, &place).bearer_auth(token)).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_answers_carry_retry_after() {
    let site = Site::with(|config| config.entities.commands_max = 1).await;
    let refused = site
        .until_some(async || {
            let post = || site.request(Method::POST, "/v1/store/carts").json(&json!({})).send();
            let answers = join_all((0..32).map(|_| post())).await;
            answers.into_iter().map(Result::unwrap).find(|answer| answer.status() != 201)
        })
        .await;
    assert_eq!(refused.status().as_u16(), 429);
    assert_eq!(head(&refused, header::RETRY_AFTER), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_lists_have_limits() {
    let site = Site::open().await;
    let post = async |path: &str, body: String| {
        let request = site.request(Method::POST, path).bearer_auth(&site.key);
        site.send(request.header(header::CONTENT_TYPE, "application/json").body(body)).await
    };
    let max = site.config.http.body_bytes_max;
    let padded = |bytes: usize| format!("{{{}}}", " ".repeat(bytes - 2));
    post("/v1/store/carts", padded(max)).await.expect(201);
    let large = post("/v1/store/carts", padded(max + 1)).await;
    assert_eq!((large.status, large.code()), (413, "payload_too_large"));
    let answer = chunked(&site, 33, 32 << 10).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let nested =
        |depth: usize| format!("{{\"x\": {}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert_eq!(post("/v1/store/carts", nested(32)).await.code(), "invalid_request");
    let deep = post("/v1/store/carts", nested(33)).await;
    assert_eq!((deep.status, deep.code()), (400, "malformed_json"));
    let lines =
        |count| json!({"lines": vec![json!({"sku": "A", "quantity": 1}); count]}).to_string();
    assert_eq!(post("/v1/store/carts", lines(2_000)).await.code(), "unknown_sku");
    let long = post("/v1/store/carts", lines(2_001)).await;
    assert_eq!((long.status, &long.body["errors"][0]["field"]), (422, &json!("lines")));
    for rows in [0, 501] {
        let body = json!({"rows": vec![json!({}); rows]}).to_string();
        let answer = post("/v1/admin/imports", body).await;
        assert_eq!(answer.body["errors"][0]["field"], "rows", "{rows}");
    }
    for limit in ["0", "201", "x", "-1"] {
        let page = site.store(Method::GET, &format!("/products?limit={limit}"), None).await;
        assert_eq!((page.status, &page.body["errors"][0]["field"]), (422, &json!("limit")));
    }
    site.store(Method::GET, "/products?limit=200", None).await.expect(200);
}

/// Makes a cart with a body of so many chunks of blanks, and answers the first line that comes.
async fn chunked(site: &Site, chunks: usize, bytes: usize) -> String {
    let address = site.url().trim_start_matches("http://").to_owned();
    let (read, mut write) = tokio::net::TcpStream::connect(address).await.unwrap().into_split();
    let send = async {
        let head = "POST /v1/store/carts HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        write.write_all(head.as_bytes()).await?;
        for _ in 0..chunks {
            let chunk = format!("{bytes:x}\r\n{}\r\n", " ".repeat(bytes));
            write.write_all(chunk.as_bytes()).await?;
        }
        write.write_all(b"0\r\n\r\n").await
    };
    let mut line = String::new();
    let mut reader = BufReader::new(read);
    // The server may answer and close before the end of the body.
    let (_, got) = tokio::join!(send, reader.read_line(&mut line));
    got.unwrap();
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_and_totals_are_validated_at_the_edge() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = async |amount: Value| {
        let price = json!({"amount": amount, "currency": "GBP"});
        let lines = json!([{"sku": "LAMP", "quantity": 1, "unit_price": price}]);
        let request = site.request(Method::POST, "/v1/store/carts").bearer_auth(&site.key);
        site.send(request.json(&json!({"lines": lines}))).await
    };
    for (amount, meant) in
        [(json!(-1), ""), (json!(9.99), ": 9.99 GBP is 999;"), (json!(9.0), ": 9.0 GBP is 900;")]
    {
        let answer = cart(amount).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request"));
        let fault = &answer.body["errors"][0];
        assert_eq!(fault["field"], "lines[0].unit_price.amount");
        assert!(fault["message"].as_str().unwrap().contains(meant), "{fault}");
    }
    assert_eq!(cart(json!(0)).await.expect(201)["totals"]["total"]["amount"], 0);
    let cart = site.cart(&[("LAMP", 1)]).await;
    let check_out = async |payment: Value, total: Value| {
        let body = json!({"payment": payment, "expected_total": total});
        let request = site.request(Method::POST, &format!("/v1/store/carts/{cart}/checkout"));
        site.send(request.header("Idempotency-Key", "key-1").json(&body)).await
    };
    let pay = json!({"provider": "sandbox", "token": "tok_ok"});
    let euros = check_out(pay.clone(), json!({"amount": 1_000, "currency": "EUR"})).await;
    assert_eq!((euros.status, euros.code()), (422, "currency_mismatch"));
    assert_eq!(euros.body["errors"][0]["field"], "expected_total.currency");
    let major = check_out(pay.clone(), json!({"amount": 9.99, "currency": "GBP"})).await;
    assert_eq!(
        (major.status, &major.body["errors"][0]),
        (
            422,
            &json!({
                "field": "expected_total.amount",
                "message": "must be a whole number of minor units: 9.99 GBP is 999",
            })
        )
    );
    let cheap = check_out(pay, json!({"amount": 999, "currency": "GBP"})).await;
    assert_eq!((cheap.status, cheap.code()), (409, "cart_changed"));
    let list = check_out(json!(["sandbox", "tok_ok"]), Value::Null).await;
    assert_eq!((list.status, &list.body["errors"][0]["field"]), (422, &json!("payment")));
}

#[tokio::test(flavor = "multi_thread")]
async fn unconditional_writes_never_conflict() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let put = |number: i64| {
        let (path, site) = ("/products/LAMP", &site);
        let price = json!([{"amount": number, "currency": "GBP"}]);
        async move {
            if number % 2 == 0 {
                let body = json!({"name": format!("Lamp {number}"), "prices": price});
                site.admin(Method::PUT, path, Some(body)).await
            } else {
                site.admin(Method::PATCH, path, Some(json!({ "prices": price }))).await
            }
        }
    };
    for answer in join_all((1..=24).map(put)).await {
        answer.expect(200);
    }
    let lamp = site.admin(Method::GET, "/products/LAMP", None).await.expect(200);
    assert_eq!(lamp["version"], 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_step_that_is_stuck_can_be_skipped() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let path = format!("/orders/{}/skip", order["id"].as_str().unwrap());
    let body = json!({"step": "capture:1", "reason": "settled elsewhere"});
    let answer = site.admin(Method::POST, &path, Some(body)).await;
    assert_eq!((answer.status, answer.code()), (409, "wrong_state"));
    let answer = site.admin(Method::POST, &path, Some(json!({"step": ""}))).await.expect(422);
    assert_eq!(answer["errors"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_breaks_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let psp = kontor_sandbox_psp::Options { data: dir.path().join("psp"), listen: local() };
    let psp = kontor_sandbox_psp::start(psp).await.unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &psp.url());
    let (url, web) = (server.url.clone(), reqwest::Client::new());
    let answered = AtomicUsize::new(0);
    let client = async || {
        let mut carts = Vec::new();
        loop {
            let request = web.post(format!("{url}/v1/store/carts")).json(&json!({}));
            let Ok(answer) = request.send().await else {
                return carts;
            };
            let status = answer.status().as_u16();
            let cart: Value = answer.json().await.expect("an answer that has begun is whole");
            if status != 201 {
                assert_eq!(status, 503, "{cart}");
                return carts;
            }
            buyer_tokens::keep(&cart);
            carts.push(cart["id"].as_str().unwrap().to_owned());
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    let stop = async {
        while answered.load(Ordering::Relaxed) < 200 {
            tokio::task::yield_now().await;
        }
        tokio::task::spawn_blocking(|| server.terminate()).await.unwrap()
    };
    let (carts, code) = tokio::join!(join_all((0..16).map(|_| client())), stop);
    assert_eq!(code, Some(0));
    let server = Server::start(&data, &psp.url());
    for cart in carts.into_iter().flatten() {
        let url = format!("{}/v1/store/carts/{cart}", server.url);
        let found = buyer_tokens::authorized(web.get(&url), &url).send().await.unwrap();
        assert_eq!(found.status().as_u16(), 200, "{cart} was acknowledged and is lost");
    }
    server.kill();
    psp.stop().await;
}

fn local() -> std::net::SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_while_a_server_starts_on_a_new_folder() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let keys: Vec<_> = (0..4)
        .map(|_| {
            let data = data.clone();
            tokio::task::spawn_blocking(move || process::key(&data))
        })
        .collect();
    let folder = data.clone();
    let serve = move || Server::start(&folder, "http://127.0.0.1:9");
    let server = tokio::task::spawn_blocking(serve).await.unwrap();
    for key in keys {
        let url = format!("{}/v1/admin/orders", server.url);
        let answer = reqwest::Client::new().get(url).bearer_auth(key.await.unwrap()).send().await;
        assert_eq!(answer.unwrap().status().as_u16(), 200);
    }
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn server_waits_for_a_folder_that_is_being_closed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let held = Store::open(&data, &kontor::store::Options::default()).await.unwrap();
    let folder = data.clone();
    let serve = move || Server::start(&folder, "http://127.0.0.1:9");
    let starting = tokio::task::spawn_blocking(serve);
    // Long enough for the first look to fail; a slow machine makes the test weaker, not wrong.
    tokio::time::timeout(Duration::from_millis(500), std::future::pending::<()>()).await.ok();
    held.close().await;
    starting.await.unwrap().kill();
}

#[test]
fn all_invalid_settings_are_refused_at_once() {
    let run = |command: &str| {
        let told = process::kontor()
            .arg(command)
            .env("KONTOR__SHOP__HOLD_SECS", "0")
            .env("KONTOR__SHOP__TIMER_POLL_MS", "0")
            .output()
            .unwrap();
        assert!(!told.status.success(), "{command}");
        String::from_utf8(told.stderr).unwrap()
    };
    for command in ["serve", "config"] {
        let words = run(command);
        for part in ["shop.hold_secs is 0 (from environment): it must be from 1", "timer_poll_ms"] {
            assert!(words.contains(part), "{command}: {words}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parcel_is_tracked_by_what_is_known_of_it() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 3)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let path = format!("/orders/{}/fulfillments", order["id"].as_str().unwrap());
    let ship = async |tracking: Value| {
        let body = json!({"lines": [{"line": "1", "quantity": 1}], "tracking": tracking});
        site.admin(Method::POST, &path, Some(body)).await
    };
    let nothing = ship(json!({})).await.expect(422);
    assert_eq!(nothing["errors"][0]["field"], "tracking", "{nothing}");
    let url = "https://carrier.example/1";
    for (at, tracking) in
        [json!({"number": "RM-1"}), json!({"carrier": "Bob"}), json!({"url": url})]
            .into_iter()
            .enumerate()
    {
        let shipped = ship(tracking.clone()).await.expect(200);
        let shown = &shipped["fulfillments"][at]["tracking"];
        for part in ["carrier", "number", "url"] {
            assert_eq!(shown[part], tracking[part], "{shown}");
        }
    }
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_documents_are_compressed_once_and_sent_once() {
    let site = Site::open().await;
    let paths = ["/openapi.json", "/asyncapi.json", "/postman.json", "/docs/", "/docs/start.js"];
    let files = ["/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/admin", "/admin/main.js"];
    for path in paths.iter().chain(&files) {
        let ask = async |encodings: &str, known: &str| {
            let request = site.request(Method::GET, path);
            let request = request.header("Accept-Encoding", encodings);
            request.header("If-None-Match", known).send().await.unwrap()
        };
        let plain = ask("identity", "").await;
        let head = |response: &reqwest::Response, name: &str| {
            response.headers().get(name).map(|one| one.to_str().unwrap().to_owned())
        };
        assert_eq!(
            (plain.status().as_u16(), head(&plain, "content-encoding")),
            (200, None),
            "{path}"
        );
        let tag = head(&plain, "etag").unwrap();
        let plain = plain.bytes().await.unwrap();
        let gzip = ask("gzip, br", "").await;
        assert_eq!(head(&gzip, "content-encoding").as_deref(), Some("gzip"), "{path}");
        let vary = gzip.headers().get_all("vary").iter();
        assert!(vary.into_iter().any(|one| one == "Accept-Encoding"), "{path}");
        let gzip_tag = head(&gzip, "etag").unwrap();
        assert_ne!(tag, gzip_tag);
        let gzip = gzip.bytes().await.unwrap();
        assert!(gzip.len() * 10 < plain.len() * 9, "{path}: {} of {}", gzip.len(), plain.len());
        for (encodings, known) in [("identity", &tag), ("gzip", &gzip_tag)] {
            let again = ask(encodings, known).await;
            assert_eq!(again.status().as_u16(), 304, "{path}");
            assert!(again.bytes().await.unwrap().is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_one_line_has_no_control_characters() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let address = |city: &str| {
        json!({"name": "Ada", "line1": "1 High Street", "city": city, "postal_code": "N1 1AA",
               "country": "GB"})
    };
    let admin =
        async |method: Method, path: &str, body: Value| site.admin(method, path, Some(body)).await;
    for odd in ["a\nb", "a\r\nb", "a\tb", "a\u{202e}b", "a\u{2066}b", "a\u{2028}b"] {
        let cart = json!({"reference": odd, "shipping_address": address(odd)});
        let cart = site.store(Method::POST, "/carts", Some(cart)).await;
        let product = json!({"name": odd, "category": odd, "prices": []});
        let product = admin(Method::PUT, "/products/LAMP", product).await;
        let location = admin(Method::PUT, "/locations/annex", json!({"name": odd})).await;
        let tracking = json!({"tracking": {"carrier": odd, "number": odd}});
        let order = "/orders/ord_01h455vb4pex5vsknk084sn02q/fulfillments";
        let tracking = admin(Method::POST, order, tracking).await;
        for (refused, expected) in [
            (cart, &["reference", "shipping_address.city"][..]),
            (product, &["category", "name"]),
            (location, &["name"]),
            (tracking, &["tracking.carrier", "tracking.number"]),
        ] {
            let errors = refused.body["errors"].as_array().unwrap();
            let mut fields: Vec<_> =
                errors.iter().map(|fault| fault["field"].as_str().unwrap()).collect();
            fields.sort_unstable();
            assert_eq!(fields, expected, "{odd:?}: {}", refused.body);
        }
    }
    let lines = |text: &str| json!({"quantity": -1, "reason": text});
    let path = "/stock/LAMP/main/adjustments";
    admin(Method::POST, path, lines("broken\r\nin transit")).await.expect(200);
    for odd in ["a\tb", "a\u{202e}b"] {
        let refused = admin(Method::POST, path, lines(odd)).await;
        assert_eq!(refused.body["errors"][0]["field"], "reason", "{odd:?}");
    }
    let events = site.admin(Method::GET, "/stock/LAMP/events?limit=1", None).await.expect(200);
    assert_eq!(events["data"][0]["reason"], "broken\nin transit");
}
