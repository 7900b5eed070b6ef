//! The HTTP API in process: who may call what, carts, bad input, products, stock and orders.

use std::sync::Arc;
use std::time::Duration;

use kontor::domain::money::{Currency, Money};
use kontor::http::live::Topics;
use kontor::http::server::{self, Options, Server};
use kontor::http::{Access, Route, Routes};
use kontor::providers::payment::Authorize;
use reqwest::Method;
use serde_json::{Value, json};

use crate::buyer_tokens;
use crate::shop::Shop;

struct Api {
    shop: Shop,
    server: Server,
    client: reqwest::Client,
    admin: String,
}

struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Answer {
    fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("")
    }

    fn etag(&self) -> String {
        self.headers["etag"].to_str().unwrap().to_owned()
    }
}

impl Api {
    async fn open() -> Self {
        Self::of(Shop::open().await).await
    }

    async fn of(shop: Shop) -> Self {
        let options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            workers: 1,
            body_timeout_secs: 1,
            shutdown_timeout_secs: 1,
            ..Options::default()
        };
        let start = server::ServerStart {
            options,
            node: Arc::clone(&shop.node),
            store: shop.store.clone(),
            calls: None,
            internal_tls: None,
            routes: Routes::standard(),
            topics: Topics::standard(),
        };
        let server = server::start(start).await.unwrap();
        let client = reqwest::Client::builder().build().unwrap();
        let admin = key(&shop, "admin").await;
        Self { shop, server, client, admin }
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.client.request(method, format!("{}{path}", self.server.url()));
        buyer_tokens::authorized(request, path)
    }

    async fn admin(&self, method: &str, path: &str, body: Value) -> Answer {
        let request = self.request(method, path).bearer_auth(&self.admin);
        send(if method == "GET" { request } else { request.json(&body) }).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        send(self.request("POST", path).json(&body)).await
    }

    async fn get(&self, path: &str) -> Answer {
        send(self.request("GET", path)).await
    }

    async fn close(self) {
        self.server.stop().await;
        self.shop.node.stop().await;
    }
}

async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    buyer_tokens::keep(&body);
    Answer { status, headers, body }
}

async fn key(shop: &Shop, scope: &str) -> String {
    let scopes = [scope.to_owned()];
    let made = shop.store.create_key("test", &scopes, shop.node.clock.now());
    made.await.unwrap().1.reveal().to_owned()
}

fn address() -> Value {
    json!({"name": "Ada", "line1": "1 High Street", "city": "London", "postal_code": "N1 1AA",
        "country": "GB"})
}

fn full_cart(sku: &str, quantity: i64) -> Value {
    json!({"currency": "GBP", "email": "ada@example.com", "delivery_option": "standard",
        "shipping_address": address(), "lines": [{"sku": sku, "quantity": quantity}]})
}

fn pay(token: &str) -> Value {
    json!({"payment": {"provider": "sandbox", "token": token}})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_api_refuses_unknown_parameters() {
    let api = Api::open().await;
    api.shop.sell("A", 255, 5).await;
    let cart = api.post("/v1/store/carts", full_cart("A", 1)).await.body["id"].clone();
    let checkout = format!("/v1/store/carts/{}/checkout", cart.as_str().unwrap());
    let buy = api.request("POST", &checkout).header("Idempotency-Key", "key").json(&pay("tok_ok"));
    let order = send(buy).await.body["id"].clone();
    let cart = api.admin("POST", "/v1/store/carts", json!({})).await.body["id"].clone();
    let mut silent = Vec::new();
    for route in Routes::standard().all().filter(|route| route.path.starts_with("/v1/")) {
        let of_buyer =
            matches!(route.access, Access::Proof(proof) if !proof.schemes.contains(&"api_key"));
        if of_buyer || matches!(route.access, Access::Signed(_)) {
            continue;
        }
        let path = route.path.replace("{sku}", "A").replace("{location}", "main");
        let path = path.replace("{name}", "checkout");
        let path = match route.path.contains("carts") {
            true => path.replace("{id}", cart.as_str().unwrap()),
            false => path.replace("{id}", order.as_str().unwrap()),
        };
        let request = api.request(route.method.as_str(), &format!("{path}?colour=red"));
        let refused = send(request.bearer_auth(&api.admin)).await;
        let errors = refused.body["errors"].as_array().into_iter().flatten();
        if errors.filter(|fault| fault["field"] == "colour").count() != 1 {
            silent.push(format!("{} {}: {}", route.method, route.path, refused.body));
        }
    }
    assert_eq!(silent, Vec::<String>::new());
    api.close().await;
}

/// The page on which a reviewer sees who may call what.
#[test]
fn access_of_every_route_is_unchanged() {
    let line = |route: &Route| {
        let (class, who) = (route.class.as_str(), route.access.to_string());
        let Route { method, path, operation, .. } = route;
        format!("{method:6} {path:49} {who:22} {class:8} {operation}", method = method.as_str())
    };
    let table: Vec<String> = Routes::standard().all().map(line).collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_enforces_its_access() {
    let api = Api::open().await;
    let (other, weak) = (key(&api.shop, "nothing").await, "sk_0000_0000".to_owned());
    for route in Routes::standard().all() {
        let id = "cart_01h455vb4pex5vsknk084sn02q";
        let order = "ord_01h455vb4pex5vsknk084sn02q";
        let path = route.path.replace("{line}", "1").replace("{sku}", "A").replace("{code}", "x");
        let path = path.replace("{location}", "main").replace("{file:.*}", "index.html");
        let path = path.replace("{provider}", "sandbox").replace("/{account}", "");
        let path = path.replace("{id}", if path.contains("orders") { order } else { id });
        let call = |bearer: Option<&str>| {
            let request = api.request(route.method.as_str(), &path);
            let request = match bearer {
                Some(text) => request.bearer_auth(text),
                None => request,
            };
            send(request.json(&json!({"?": 1})))
        };
        let name = format!("{} {}", route.method, route.path);
        let anyone = call(None).await;
        assert!(anyone.headers.contains_key("x-request-id"), "{name}");
        match route.access {
            Access::Key(scope) => {
                assert_eq!((anyone.status, anyone.code()), (401, "unauthorized"), "{name}");
                assert_eq!(call(Some(&weak)).await.status, 401, "{name}");
                let refused = call(Some(&other)).await;
                assert_eq!((refused.status, refused.code()), (403, "forbidden"), "{name}");
                let right = key(&api.shop, scope.as_str()).await;
                for good in [&right, &api.admin] {
                    let status = call(Some(good)).await.status;
                    assert!(![401, 403, 405, 500].contains(&status), "{name}: {status}");
                }
            }
            Access::AnyKey => {
                assert_eq!((anyone.status, anyone.code()), (401, "unauthorized"), "{name}");
                assert_eq!(call(Some(&weak)).await.status, 401, "{name}");
                // The handler may still ask for a scope.
                let status = call(Some(&other)).await.status;
                assert!(![401, 405, 500].contains(&status), "{name}: {status}");
                let status = call(Some(&api.admin)).await.status;
                assert!(![401, 403, 405, 500].contains(&status), "{name}: {status}");
            }
            Access::Proof(proof) => {
                // Anyone, or only callers with the proof; a proof that is given must be valid. A cart
                // is answered 404 without its token.
                let open = proof.schemes.contains(&"") && proof.name.contains("anyone");
                let of_cart = proof.name.contains("the cart's token");
                let refused = if of_cart { 404 } else { 401 };
                assert_eq!(anyone.status == refused, !open, "{name}");
                assert!(![403, 405, 500].contains(&anyone.status), "{name}");
                assert_eq!(call(Some(&weak)).await.status, 401, "{name}");
                if proof.schemes.contains(&"api_key") {
                    let good = if of_cart { &api.admin } else { &other };
                    let status = call(Some(good)).await.status;
                    assert!(![401, 403, 405, 500].contains(&status), "{name}: {status}");
                }
                if of_cart {
                    assert_eq!(call(Some(&other)).await.status, 403, "{name}");
                }
                if proof.name.contains("private address") {
                    let ops = key(&api.shop, "ops").await;
                    let forwarded = || api.request("GET", &path).header("Via", "1.1 a");
                    assert_eq!(send(forwarded()).await.status, 401, "{name}");
                    for (text, status) in [(&weak, 401), (&other, 403), (&ops, 200)] {
                        assert_eq!(send(forwarded().bearer_auth(text)).await.status, status);
                    }
                }
            }
            // There is no cluster.
            Access::Signed(_) if route.path.contains("node") => {
                assert_eq!(anyone.status, 404, "{name}");
            }
            Access::Signed(_) => assert_eq!(anyone.status, 401, "{name}"),
            // Who is signed in: nobody.
            Access::Public if route.operation == "get_session" => assert_eq!(anyone.status, 401),
            Access::Public => assert!(![401, 403, 405, 500].contains(&anyone.status), "{name}"),
        }
        let wrong = send(api.request("OPTIONS", &path)).await;
        assert_eq!((wrong.status, wrong.code()), (405, "method_not_allowed"), "{name}");
        assert!(wrong.headers["allow"].to_str().unwrap().contains(route.method.as_str()), "{name}");
    }
    api.close().await;
}

/// What a provider tells of a second account there comes to where it was told to send it, and its switch
/// is a setting as any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_account_of_a_provider_is_reached() {
    let api = Api::of(Shop::with_accounts(&["eu"]).await).await;
    let mut providers = api.shop.node.payments.all();
    let second = providers.find(|(name, _)| *name == "sandbox/eu").unwrap().1.clone();
    drop(providers);
    let url = format!("{}/v1/webhooks/sandbox/eu", api.server.url());
    for (account, status) in [("eu", 401), ("us", 404)] {
        let unsigned = api.post(&format!("/v1/webhooks/sandbox/{account}"), json!({})).await;
        assert_eq!(unsigned.status, status, "{account}: {}", unsigned.body);
    }
    second.subscribe(&url).await.unwrap();
    let amount = Money { amount: 1_000, currency: Currency::GBP };
    let (reference, key) = ("order-1".to_owned(), "order-1".to_owned());
    let request = Authorize { reference, key, amount, token: "tok_ok".to_owned() };
    second.authorize(&request).await.unwrap();
    let parked = async {
        loop {
            let page = api.admin("GET", "/v1/admin/webhooks", Value::Null).await.body;
            match page["data"].get(0) {
                Some(parked) => return parked.clone(),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let parked = tokio::time::timeout(Duration::from_secs(30), parked).await.expect("it is taken");
    assert_eq!(parked["provider"], "sandbox/eu", "{parked:#}");

    let path = "/v1/admin/settings/providers.sandbox%2Feu";
    let off = json!({"value": false, "reason": "a test"});
    assert_eq!(api.admin("PUT", path, off).await.status, 200);
    let shown = api.admin("GET", path, Value::Null).await;
    assert_eq!(
        (&shown.body["name"], &shown.body["value"]),
        (&json!("providers.sandbox/eu"), &json!(false))
    );
    let history = api.admin("GET", &format!("{path}/history"), Value::Null).await;
    assert_eq!((history.status, &history.body["data"][0]["after"]), (200, &json!(false)));
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cart_is_made_changed_and_guarded_by_its_version() {
    let api = Api::open().await;
    api.shop.sell("A", 255, 10).await;
    let made = api.post("/v1/store/carts", json!({})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let codes = |answer: &Answer| -> Vec<String> {
        let list = answer.body["requirements"].as_array().unwrap().iter();
        list.map(|one| one["code"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        codes(&made),
        ["lines_missing", "email_missing", "shipping_address_missing", "delivery_option_missing"]
    );
    let path = format!("/v1/store/carts/{}", made.body["id"].as_str().unwrap());
    let lines = format!("{path}/lines");
    api.post(&lines, json!({"sku": "A", "quantity": 1})).await;
    let added = api.post(&lines, json!({"lines": [{"sku": "A", "quantity": 1}]})).await;
    assert_eq!((added.status, &added.body["lines"][0]["quantity"]), (200, &json!(2)));
    assert_eq!(added.body["totals"]["total"], json!({"amount": 510, "currency": "GBP"}));
    let line = format!("{lines}/1");
    let stale = api.request("PATCH", &line).header("If-Match", made.etag());
    let stale = send(stale.json(&json!({"quantity": 3}))).await;
    assert_eq!((stale.status, stale.code()), (412, "version_mismatch"));
    // A weak tag matches nothing (RFC 9110, section 13.1.1); of a list one must.
    let weak = format!("W/{}", added.etag());
    let stale = api.request("PATCH", &line).header("If-Match", weak);
    assert_eq!(send(stale.json(&json!({"quantity": 3}))).await.status, 412);
    let listed = format!("W/\"9\", {}, {}", made.etag(), added.etag());
    let fresh = api.request("PATCH", &line).header("If-Match", listed);
    let fresh = send(fresh.json(&json!({"quantity": 3}))).await;
    assert_eq!((fresh.status, &fresh.body["lines"][0]["quantity"]), (200, &json!(3)));
    let said = json!({"email": "ada@example.com", "reference": "PO 7", "delivery_option": "standard",
        "shipping_address": address()});
    let said = send(api.request("PATCH", &path).json(&said)).await;
    assert!(codes(&said).is_empty(), "{}", said.body);
    let cleared = send(api.request("PATCH", &path).json(&json!({"email": null}))).await;
    assert_eq!(
        (&cleared.body["email"], &cleared.body["reference"]),
        (&Value::Null, &json!("PO 7"))
    );
    let emptied = send(api.request("DELETE", &line)).await;
    assert_eq!((emptied.status, &emptied.body["lines"]), (200, &json!([])));
    assert_eq!(send(api.request("DELETE", &line)).await.status, 404);
    assert_eq!(api.get("/v1/store/carts/cart_x").await.code(), "not_found");
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_key_creates_one_cart_and_one_line() {
    let api = Api::open().await;
    api.shop.sell("A", 100, 10).await;
    let send_as = |key: &'static str, path: String, body: Value| {
        send(api.request("POST", &path).header("Idempotency-Key", key).json(&body))
    };
    let send_with = |path: String, body: Value| send_as("0123456789abcdef", path, body);
    let body = json!({"email": "ada@example.com"});
    let first = send_with("/v1/store/carts".into(), body.clone()).await;
    let again = send_with("/v1/store/carts".into(), body).await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.body["id"], again.body["id"]);
    let other = send_with("/v1/store/carts".into(), json!({})).await;
    assert_eq!((other.status, other.code()), (422, "idempotency_key_reused"));
    let lines = format!("/v1/store/carts/{}/lines", first.body["id"].as_str().unwrap());
    for _ in 0..2 {
        let added = send_as("k2", lines.clone(), json!({"sku": "A", "quantity": 2})).await;
        assert_eq!(added.body["lines"][0]["quantity"], 2, "{}", added.body);
    }
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_named() {
    let api = Api::open().await;
    api.shop.sell("A", 100, 10).await;
    let json_type = "application/json";
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let large = format!("{{\"email\": \"{}\"}}", "x".repeat(1 << 20));
    let cases = [
        ("", json_type, 400, "malformed_json"),
        ("{", json_type, 400, "malformed_json"),
        (&deep, json_type, 400, "malformed_json"),
        ("[]", json_type, 422, "invalid_request"),
        ("{\"color\": 1}", json_type, 422, "invalid_request"),
        ("{\"currency\": \"XXX\"}", json_type, 422, "invalid_request"),
        ("{\"lines\": [{\"sku\": \"B\", \"quantity\": 1}]}", json_type, 422, "unknown_sku"),
        (
            "{\"currency\": \"EUR\", \"lines\": [{\"sku\": \"A\", \"quantity\": 1}]}",
            json_type,
            422,
            "currency_mismatch",
        ),
        ("{\"delivery_option\": \"drone\"}", json_type, 422, "unknown_delivery_option"),
        (
            "{\"lines\": [{\"sku\": \"A\", \"quantity\": 1, \"unit_price\": {\"amount\": 1, \"currency\": \"GBP\"}}]}",
            json_type,
            401,
            "unauthorized",
        ),
        ("{}", "text/plain", 415, "unsupported_media_type"),
        ("{}", "application/json; charset=latin1", 415, "unsupported_media_type"),
        (&large, json_type, 413, "payload_too_large"),
    ];
    for (body, kind, status, code) in cases {
        let request = api.request("POST", "/v1/store/carts").header("Content-Type", kind);
        let answer = send(request.body(body.to_owned())).await;
        let shown = &body[..body.len().min(80)];
        assert_eq!((answer.status, answer.code()), (status, code), "{shown}: {}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{shown}");
        let page = api.get(answer.body["type"].as_str().unwrap()).await;
        assert_eq!(page.status, 200, "{shown}");
    }
    assert_eq!(api.get("/v1/store/products?color=red").await.code(), "unknown_filter");
    assert_eq!(api.get("/v1/store/products?after=zz").await.code(), "invalid_cursor");
    assert_eq!(api.get("/v1/nothing").await.code(), "not_found");
    let key = api.request("POST", "/v1/store/carts").header("Idempotency-Key", "a b");
    assert_eq!(send(key.json(&json!({}))).await.body["errors"][0]["field"], "Idempotency-Key");
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_body_times_out() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let api = Api::open().await;
    let mut line = tokio::net::TcpStream::connect(api.server.addr()).await.unwrap();
    let head = "POST /v1/store/carts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\n\r\n{";
    line.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let read = line.read_exact(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_placed_read_with_its_token_and_refunded() {
    let api = Api::open().await;
    api.shop.sell("A", 255, 5).await;
    let cart = api.post("/v1/store/carts", full_cart("A", 2)).await;
    let checkout = format!("/v1/store/carts/{}/checkout", cart.body["id"].as_str().unwrap());
    assert_eq!(api.post(&checkout, pay("tok_ok")).await.code(), "idempotency_key_missing");
    let buy = |key: &'static str, body: Value| {
        let request = api.request("POST", &checkout).header("Prefer", "wait=30");
        send(request.header("Idempotency-Key", key).json(&body))
    };
    let mut wrong = pay("tok_ok");
    wrong["expected_total"] = json!({"amount": 1, "currency": "GBP"});
    let changed = buy("k0", wrong).await;
    assert_eq!((changed.code(), &changed.body["total"]["amount"]), ("cart_changed", &json!(510)));
    let declined = buy("k1", pay("tok_declined")).await;
    assert_eq!((declined.status, declined.code()), (402, "payment_declined"), "{}", declined.body);
    let bought = buy("k2", pay("tok_ok")).await;
    assert_eq!(
        (bought.status, &bought.body["status"]),
        (201, &json!("confirmed")),
        "{}",
        bought.body
    );
    let again = buy("k2", pay("tok_ok")).await;
    assert_eq!((again.status, &again.body["id"]), (201, &bought.body["id"]));
    let spent = api.get(&checkout.replace("/checkout", "")).await;
    assert_eq!((spent.code(), &spent.body["order"]), ("cart_spent", &bought.body["id"]));

    let (id, token) = (bought.body["id"].as_str().unwrap(), bought.body["token"].as_str().unwrap());
    let path = format!("/v1/store/orders/{id}");
    assert_eq!(api.get(&path).await.status, 401);
    let read = |token: &str| send(api.request("GET", &path).bearer_auth(token));
    assert_eq!(read(&format!("{token}x")).await.status, 401);
    let in_the_url = api.get(&format!("{path}?token={token}")).await;
    assert_eq!(in_the_url.status, 401, "a token is never believed in a URL, which is logged");
    let answer = read(token).await;
    assert_eq!((answer.status, answer.body.get("token")), (200, None));

    let admin = format!("/v1/admin/orders/{id}");
    let order =
        api.shop.until(id.replace("ord_", "cart_").parse().unwrap(), |order| order.captured() > 0);
    let _captured = order.await;
    let refund =
        json!({"lines": [{"line": "1", "quantity": 1}], "restock": true, "reason": "broken"});
    let refunded = api.admin("POST", &format!("{admin}/refunds"), refund).await;
    assert_eq!(refunded.status, 200, "{}", refunded.body);
    assert_eq!(refunded.body["refunds"][0]["amount"], json!({"amount": 255, "currency": "GBP"}));
    let much = json!({"amount": {"amount": 9999, "currency": "GBP"}, "reason": "x"});
    let much = api.admin("POST", &format!("{admin}/refunds"), much).await;
    assert_eq!((much.status, much.code()), (422, "refund_too_large"));
    let ship = api.request("POST", &format!("{admin}/fulfillments")).bearer_auth(&api.admin);
    let sent = send(ship.header("Prefer", "wait=30").json(&json!({}))).await;
    assert_eq!((sent.status, &sent.body["fulfillment_status"]), (200, &json!("fulfilled")));
    tracking_is_corrected(&api, &admin, &sent.body).await;
    let first = api.admin("GET", &format!("{admin}?at_seq=1"), Value::Null).await;
    assert_eq!((&first.body["status"], &first.body["version"]), (&json!("pending"), &json!(1)));
    let events = api.admin("GET", &format!("{admin}/events?limit=200"), Value::Null).await;
    assert_eq!(events.body["data"][0]["kind"], "placed");
    assert!(!events.body.to_string().contains("tok_"), "{}", events.body);
    api.close().await;
}

/// Corrects the tracking data of an order's only fulfillment, as its answer to it says.
async fn tracking_is_corrected(api: &Api, order: &str, sent: &Value) {
    let path = |id: &str| format!("{order}/fulfillments/{id}");
    let patch = async |id: &str, body: Value| api.admin("PATCH", &path(id), body).await;
    assert_eq!(sent["fulfillments"][0]["tracking"], Value::Null);
    let tracking = json!({"carrier": "DHL", "number": "JD01", "url": null});
    let done = patch("1", json!({"tracking": {"carrier": "DHL", "number": "JD01"}})).await;
    assert_eq!((done.status, &done.body["fulfillments"][0]["tracking"]), (200, &tracking));
    assert_eq!(done.body["captured"], sent["captured"]);
    let again = patch("1", json!({"tracking": {"carrier": "DHL", "number": "JD01"}})).await;
    assert_eq!((again.status, &again.body["fulfillments"]), (200, &done.body["fulfillments"]));
    for (body, field) in [
        (json!({"tracking": {"url": "javascript:1"}}), "tracking.url"),
        (json!({"tracking": null, "lines": []}), "lines"),
    ] {
        let refused = patch("1", body).await;
        assert_eq!((refused.status, &refused.body["errors"][0]["field"]), (422, &json!(field)));
    }
    for nothing in [json!({}), json!({"tracking": {}})] {
        let same = patch("1", nothing).await;
        assert_eq!((same.status, &same.body["fulfillments"]), (200, &done.body["fulfillments"]));
    }
    let page = "https://dhl.example/JD01";
    let added = patch("1", json!({"tracking": {"url": page, "carrier": null}})).await;
    let tracking = json!({"carrier": null, "number": "JD01", "url": page});
    assert_eq!((added.status, &added.body["fulfillments"][0]["tracking"]), (200, &tracking));
    for id in ["2", "x", "0"] {
        assert_eq!(patch(id, json!({"tracking": null})).await.status, 404, "{id}");
    }
    let stale =
        api.request("PATCH", &path("1")).bearer_auth(&api.admin).header("If-Match", "\"1\"");
    assert_eq!(send(stale.json(&json!({"tracking": null}))).await.status, 412);
    assert_eq!(patch("1", json!({"tracking": null})).await.status, 200);
    let events = api.admin("GET", &format!("{order}/events?limit=200"), Value::Null).await;
    let kept: Vec<_> = events.body["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["kind"] == "tracking_corrected")
        .map(|event| (&event["data"]["tracking"]["number"], &event["cause"]["command"]))
        .collect();
    let command = json!("correct_tracking");
    let number = json!("JD01");
    assert_eq!(kept, [(&number, &command), (&number, &command), (&Value::Null, &command)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_text_in_an_optional_field_of_an_address_is_none() {
    let api = Api::open().await;
    let plain = address();
    let mut filled = plain.clone();
    for field in ["company", "line2", "region", "phone"] {
        filled[field] = json!("");
    }
    let cart = json!({"shipping_address": filled, "billing_address": filled});
    let made = api.post("/v1/store/carts", cart).await;
    assert_eq!((made.status, &made.body["shipping_address"]), (201, &plain), "{}", made.body);
    assert_eq!(made.body["billing_address"], plain);
    filled["city"] = json!("");
    let refused = api.post("/v1/store/carts", json!({"shipping_address": filled})).await;
    assert_eq!((refused.status, refused.code()), (422, "invalid_request"));
    assert_eq!(refused.body["errors"][0]["field"], "shipping_address.city");
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postal_code_is_validated_by_country() {
    let api = Api::open().await;
    let make = async |country: &str, code: Value| {
        let mut address = address();
        address["country"] = json!(country);
        match code {
            Value::Null => drop(address.as_object_mut().unwrap().remove("postal_code")),
            code => address["postal_code"] = code,
        }
        let cart = json!({"shipping_address": address, "billing_address": address});
        api.post("/v1/store/carts", cart).await
    };
    let open = make("HK", Value::Null).await;
    assert_eq!(open.status, 201, "{}", open.body);
    assert_eq!(open.body["shipping_address"].get("postal_code"), None);
    for (country, code) in
        [("HK", json!("999077")), ("DE", json!("10115")), ("CA", json!("k1a 0b1"))]
    {
        let cart = make(country, code.clone()).await;
        assert_eq!((cart.status, &cart.body["shipping_address"]["postal_code"]), (201, &code));
    }
    let open = make("HK", json!("")).await;
    assert_eq!((open.status, open.body["shipping_address"].get("postal_code")), (201, None));
    for (country, code) in
        [("DE", Value::Null), ("DE", json!("")), ("DE", json!("N1 1AA")), ("US", json!("1234"))]
    {
        let refused = make(country, code).await;
        assert_eq!((refused.status, refused.code()), (422, "invalid_request"));
        let fields = refused.body["errors"].as_array().unwrap().iter().map(|one| &one["field"]);
        assert_eq!(
            fields.collect::<Vec<_>>(),
            ["billing_address.postal_code", "shipping_address.postal_code"]
        );
    }
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cart_with_total_zero_is_ordered_without_payment() {
    let api = Api::open().await;
    api.shop.sell("GIFT", 0, 9).await;
    api.shop.sell("A", 100, 9).await;
    let buy = async |sku: &str, key: &str, body: Value| {
        let cart = api.post("/v1/store/carts", full_cart(sku, 2)).await;
        let path = format!("/v1/store/carts/{}/checkout", cart.body["id"].as_str().unwrap());
        let ask = || {
            let request = api.request("POST", &path).header("Prefer", "wait=30");
            send(request.header("Idempotency-Key", key).json(&body))
        };
        (ask().await, ask().await)
    };
    for (key, body) in [("k1", json!({})), ("k2", json!({"payment": null})), ("k3", pay("tok_ok"))]
    {
        let (bought, again) = buy("GIFT", key, body).await;
        assert_eq!((bought.status, &bought.body["status"]), (201, &json!("confirmed")), "{key}");
        assert_eq!(bought.body["payment_status"], "none", "{key}");
        assert_eq!((again.status, &again.body["id"]), (201, &bought.body["id"]), "{key}");
        let path = format!("/v1/admin/orders/{}/refunds", bought.body["id"].as_str().unwrap());
        let back = json!({"lines": [{"line": "1", "quantity": 1}], "reason": "broken"});
        let refunded = api.admin("POST", &path, back).await;
        let refund = &refunded.body["refunds"][0];
        assert_eq!((&refund["status"], &refund["amount"]["amount"]), (&json!("done"), &json!(0)));
    }
    let (refused, again) = buy("A", "k4", json!({})).await;
    for answer in [refused, again] {
        assert_eq!((answer.status, answer.code()), (422, "invalid_request"), "{}", answer.body);
        assert_eq!(answer.body["errors"][0]["field"], "payment");
    }
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_refunded_before_shipping_leaves_the_pick_list() {
    let api = Api::open().await;
    api.shop.sell("A", 100, 9).await;
    let cart = api.post("/v1/store/carts", full_cart("A", 2)).await;
    let path = format!("/v1/store/carts/{}/checkout", cart.body["id"].as_str().unwrap());
    let request = api.request("POST", &path).header("Idempotency-Key", "k");
    let bought = send(request.json(&pay("tok_ok"))).await;
    let id = bought.body["id"].as_str().unwrap().to_owned();
    let cart = id.replace("ord_", "cart_").parse().unwrap();
    api.shop.until(cart, |order| order.captured() > 0).await;
    let lists = ["status=confirmed", "fulfillment_status=unfulfilled", "status=refunded"];
    let listed = async |after: &str| {
        let mut listed = Vec::new();
        for list in lists {
            let path = format!("/v1/admin/orders?{list}");
            let request = api.request("GET", &path).bearer_auth(&api.admin);
            let list = send(request.header("Kontor-After", after)).await;
            listed.push(list.body["data"].as_array().unwrap().len());
        }
        listed
    };
    let path = format!("/v1/admin/orders/{id}/refunds");
    let refund = json!({"lines": [{"line": "1", "quantity": 2}], "reason": "not to be had"});
    let refunded = api.admin("POST", &path, refund).await;
    assert_eq!(
        (&refunded.body["status"], &refunded.body["fulfillment_status"]),
        (&json!("refunded"), &json!("not_required")),
        "{}",
        refunded.body
    );
    let after = refunded.headers["kontor-position"].to_str().unwrap();
    assert_eq!(listed(after).await, [0, 0, 1]);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_stock_leaves_the_cart_open() {
    let api = Api::open().await;
    api.shop.sell("A", 100, 1).await;
    let cart = api.post("/v1/store/carts", full_cart("A", 2)).await;
    let path = format!("/v1/store/carts/{}", cart.body["id"].as_str().unwrap());
    let request = api.request("POST", &format!("{path}/checkout")).header("Idempotency-Key", "k");
    let refused = send(request.json(&pay("tok_ok"))).await;
    assert_eq!((refused.status, refused.code()), (409, "out_of_stock"), "{}", refused.body);
    assert_eq!(refused.body["order"], Value::Null);
    assert_eq!(
        refused.body["lines"],
        json!([{"sku": "A", "requested": 2, "available": 1, "may_come_free": false}])
    );
    assert_eq!(api.get(&path).await.status, 200);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn products_and_stock_are_created_and_updated() {
    let api = Api::open().await;
    let priced =
        |price: Value| json!({"sku": "M 1", "name": "Mug", "prices": [price], "tax_rate": "0.2"});
    let vague = priced(json!({"amount": 0.1, "currency": "GBP"}));
    let vague = api.admin("POST", "/v1/admin/products", vague).await;
    assert_eq!(
        (vague.status, &vague.body["errors"][0]["field"]),
        (422, &json!("prices[0].amount"))
    );
    let mug = priced(json!({"amount_decimal": "0.1", "currency": "GBP"}));
    let made = api.admin("POST", "/v1/admin/products", mug.clone()).await;
    let exact = json!([{"amount": null, "amount_decimal": "0.1", "currency": "GBP"}]);
    assert_eq!((made.status, &made.body["prices"]), (201, &exact), "{}", made.body);
    assert_eq!(api.admin("POST", "/v1/admin/products", mug.clone()).await.code(), "already_exists");
    let path = "/v1/admin/products/M%201";
    let hidden = json!({"active": false, "prices": exact});
    let hidden = api.admin("PATCH", path, hidden).await;
    assert_eq!((hidden.status, &hidden.body["version"]), (200, &json!(2)));
    assert_eq!(api.get("/v1/store/products/M%201").await.status, 404);
    let stale = api.request("PUT", path).bearer_auth(&api.admin).header("If-Match", made.etag());
    assert_eq!(send(stale.json(&mug)).await.code(), "version_mismatch");
    let put = |path: &str, tags: &str| {
        api.request("PUT", path).bearer_auth(&api.admin).header("If-Match", tags)
    };
    for tags in ["\"1\"", "*"] {
        let new = json!({"name": "Jug", "prices": mug["prices"]});
        let new = send(put("/v1/admin/products/JUG", tags).json(&new)).await;
        assert_eq!((new.status, new.code()), (412, "version_mismatch"), "{tags}");
    }
    assert_eq!(send(put(path, "2").json(&mug)).await.status, 422);
    let put = send(put(path, "\"1\", \"2\"").json(&mug)).await;
    assert_eq!((put.status, &put.body["active"]), (200, &json!(true)));
    assert_eq!(api.get("/v1/store/products?q=mug").await.body["data"][0]["sku"], "M 1");

    let stock = "/v1/admin/stock/M%201";
    let main = format!("{stock}/main");
    let set = api.admin("PUT", &main, json!({"on_hand": 5})).await;
    assert_eq!((set.status, &set.body["sellable"]), (200, &json!(5)), "{}", set.body);
    let changed = api.admin("PUT", &main, json!({"on_hand": 9, "change_from": 7})).await;
    assert_eq!((changed.status, changed.code()), (409, "stock_changed"));
    let lost = json!({"quantity": -6, "reason": "lost"});
    let lost = api.admin("POST", &format!("{main}/adjustments"), lost).await;
    assert_eq!((lost.status, lost.code()), (409, "stock_committed"));
    api.admin("POST", &format!("{main}/receipts"), json!({"quantity": 2})).await;
    api.admin("PUT", "/v1/admin/locations/back", json!({"name": "Back room"})).await;
    let moved = json!({"from": "main", "to": "back", "quantity": 3});
    let moved = api.admin("POST", &format!("{stock}/transfers"), moved).await;
    assert_eq!((moved.status, moved.body["levels"].as_array().unwrap().len()), (200, 2));
    let one = api.admin("GET", stock, Value::Null).await;
    assert_eq!((&one.body["on_hand"], &one.body["holds"]), (&json!(7), &json!([])));
    assert_eq!(api.admin("GET", "/v1/admin/stock/none", Value::Null).await.status, 404);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn import_is_partial_and_idempotent() {
    let api = Api::open().await;
    let row = |sku: &str| json!({"product": {"sku": sku, "name": "N", "prices": []}, "on_hand": 3});
    let mut rows = vec![row("A"), row("B"), json!({"product": {"sku": "C"}, "on_hand": -1})];
    rows.push(row("A"));
    rows[3]["location"] = json!("back");
    api.admin("PUT", "/v1/admin/locations/back", json!({"name": "Back room"})).await;
    let body = json!({"rows": rows});
    let dry = json!({"dry_run": true, "rows": body["rows"]});
    let dry = api.admin("POST", "/v1/admin/imports", dry).await;
    assert_eq!(dry.body["created"], 2, "{}", dry.body);
    let done = api.admin("POST", "/v1/admin/imports", body.clone()).await;
    assert_eq!(
        (&done.body["created"], &done.body["stock_set"]),
        (&json!(2), &json!(3)),
        "{}",
        done.body
    );
    let fields: Vec<&str> = done.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["on_hand", "product.name"]);
    assert_eq!(done.body["errors"][0]["row"], 2);
    let again = api.admin("POST", "/v1/admin/imports", body).await;
    assert_eq!((&again.body["unchanged"], &again.body["stock_set"]), (&json!(3), &json!(0)));
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_are_served() {
    let api = Api::open().await;
    let ready = api.get("/readyz").await;
    assert_eq!((ready.status, &ready.body["ready"]), (200, &json!(true)), "{}", ready.body);
    let names = ready.body["checks"].as_array().unwrap().iter().map(|one| one["name"].clone());
    let names: Vec<Value> = names.collect();
    for name in ["server", "store", "disk", "lanes", "provider sandbox"] {
        assert!(names.contains(&json!(name)), "{name}");
    }
    let metrics = api.get("/metrics").await;
    let text = metrics.body.as_str().unwrap();
    assert!(
        text.contains("kontor_http_requests_total{operation=\"check_ready\",status=\"200\"} 1")
    );
    assert_eq!(api.get("/openapi.json").await.body["openapi"], "3.1.0");
    let page = api.get("/docs/").await;
    assert!(page.body.as_str().unwrap().contains("swagger-ui"), "the pages are served from here");
    assert!(page.headers.contains_key("content-security-policy"));
    let cluster = api.admin("GET", "/v1/admin/cluster", Value::Null).await;
    assert_eq!(cluster.body["here"]["ready"], true);
    for list in ["sagas", "dead-letters", "webhooks", "orders", "stock", "products"] {
        let page = api.admin("GET", &format!("/v1/admin/{list}"), Value::Null).await;
        assert_eq!((page.status, &page.body["data"]), (200, &json!([])), "{list}: {}", page.body);
    }
    let head = api.request("HEAD", "/livez").send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.bytes().await.unwrap().len()), (200, 0));
    api.close().await;
}
