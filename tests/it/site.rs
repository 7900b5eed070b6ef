//! A whole server in process, over HTTP, with a sandbox provider of its own.

use std::time::Duration;

use kontor::actors::engine::clock::Clock;
use kontor::app::App;
use kontor::config::Config;
use kontor::providers::sandbox::Sandbox;
use kontor::store::{Options, Store};
use kontor::verify;
use kontor_sandbox_psp::Running;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::buyer_tokens;
use crate::documents::check_answer;

/// How long a condition may take to come true before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Site {
    pub app: Option<App>,
    pub psp: Option<Running>,
    pub config: Config,
    pub key: String,
    pub web: reqwest::Client,
    pub dir: TempDir,
}

/// An answer: its status, its JSON and its headers.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub headers: HeaderMap,
}

impl Answer {
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:#}", self.body);
        self.body
    }

    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Site {
    pub async fn open() -> Self {
        Self::with(|_| {}).await
    }

    /// A site whose settings are changed first. Timers and providers are hasty from the start.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::started(change, async |config| App::start(config).await.unwrap()).await
    }

    /// The same, whose server is started by whoever asks for it.
    pub async fn started(
        change: impl FnOnce(&mut Config),
        start: impl AsyncFnOnce(&Config) -> App,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let psp = start_psp(&dir, "127.0.0.1:0").await;
        let mut config = Config::default();
        config.data.dir = dir.path().join("data");
        config.http.listen = "127.0.0.1:0".parse().unwrap();
        config.http.workers = 2;
        config.sandbox.url = psp.url();
        config.shop.timer_poll_ms = 20;
        config.shop.projection_pause_ms = 5;
        config.payments.retry_after_ms = 20;
        config.entities.effect_pause_ms = 50;
        change(&mut config);
        let app = start(&config).await;
        let scopes = ["admin".to_owned()];
        let now = Clock::system().now();
        let (_, key) = app.store.create_key("test", &scopes, now).await.unwrap();
        let key = key.reveal().to_owned();
        let web = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { app: Some(app), psp: Some(psp), config, key, web, dir }
    }

    pub fn url(&self) -> String {
        self.app.as_ref().unwrap().url()
    }

    /// Stops the server, and starts it again on the same store.
    pub async fn restart(&mut self) {
        self.app.take().unwrap().stop().await;
        self.app = Some(App::start(&self.config).await.unwrap());
    }

    pub async fn stop_psp(&mut self) {
        self.psp.take().unwrap().stop().await;
    }

    /// Starts the provider again where it was.
    pub async fn start_psp(&mut self) {
        let address = self.config.sandbox.url.trim_start_matches("http://").to_owned();
        self.psp = Some(start_psp(&self.dir, &address).await);
    }

    /// A request; with the cart's token, if it is one of a cart.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        buyer_tokens::authorized(self.web.request(method, format!("{}{path}", self.url())), path)
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let request = request.build().unwrap();
        let (method, path) = (request.method().to_string(), request.url().path().to_owned());
        let response = self.web.execute(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let media = response.headers().get("content-type").map(|media| media.to_str().unwrap());
        let media = media.unwrap_or_default().to_owned();
        let bytes = response.bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        check_answer((&method, &path), (status, &media), &body);
        buyer_tokens::keep(&body);
        let answer = Answer { status, body, headers };
        let place = answer.header("location");
        assert!(status != 202 || place.starts_with("/v1/"), "{method} {path}: {place:?}");
        answer
    }

    /// A call of the admin surface.
    pub async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = self.request(method, &format!("/v1/admin{path}")).bearer_auth(&self.key);
        self.send(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    /// A call of the store surface.
    pub async fn store(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = self.request(method, &format!("/v1/store{path}"));
        self.send(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    pub async fn sell(&self, sku: &str, price: i64, on_hand: i64) {
        let product = json!({
            "sku": sku, "name": format!("Product {sku}"), "tax_rate": "0.2",
            "prices": [{"amount": price, "currency": "GBP"}],
        });
        self.admin(Method::POST, "/products", Some(product)).await.expect(201);
        self.set_stock(sku, on_hand).await;
    }

    pub async fn set_stock(&self, sku: &str, on_hand: i64) {
        let level = json!({"on_hand": on_hand});
        let path = format!("/stock/{sku}/main");
        self.admin(Method::PUT, &path, Some(level)).await.expect(200);
    }

    pub async fn cart(&self, lines: &[(&str, i64)]) -> String {
        let lines: Vec<Value> =
            lines.iter().map(|(sku, n)| json!({"sku": sku, "quantity": n})).collect();
        let cart = json!({
            "currency": "GBP", "email": "ada@example.com", "lines": lines,
            "delivery_option": "standard",
            "shipping_address": {
                "name": "Ada", "line1": "1 High Street", "city": "London",
                "postal_code": "N1 1AA", "country": "GB",
            },
        });
        let cart = self.store(Method::POST, "/carts", Some(cart)).await.expect(201);
        cart["id"].as_str().unwrap().to_owned()
    }

    /// A checkout under a key, with a token, waiting up to `wait` seconds for the outcome.
    pub async fn checkout(&self, cart: &str, key: &str, token: &str, wait: u32) -> Answer {
        let body = json!({"payment": {"provider": "sandbox", "token": token}});
        let request = self
            .request(Method::POST, &format!("/v1/store/carts/{cart}/checkout"))
            .header("Idempotency-Key", key)
            .header("Prefer", format!("wait={wait}"))
            .json(&body);
        self.send(request).await
    }

    pub async fn order(&self, cart: &str) -> Value {
        let order = cart.replace("cart_", "ord_");
        self.admin(Method::GET, &format!("/orders/{order}"), None).await.expect(200)
    }

    /// The kinds of an order's events, in order.
    pub async fn kinds(&self, cart: &str) -> Vec<String> {
        let order = cart.replace("cart_", "ord_");
        let path = format!("/orders/{order}/events");
        let events = self.admin(Method::GET, &path, None).await.expect(200);
        let all = events["data"].as_array().unwrap();
        all.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until an order is as it should be.
    pub async fn until(&self, cart: &str, ready: impl Fn(&Value) -> bool) -> Value {
        self.until_some(async || {
            let order = cart.replace("cart_", "ord_");
            let answer = self.admin(Method::GET, &format!("/orders/{order}"), None).await;
            (answer.status == 200 && ready(&answer.body)).then_some(answer.body)
        })
        .await
    }

    /// Asks again and again until there is an answer.
    pub async fn until_some<T>(&self, ask: impl AsyncFn() -> Option<T>) -> T {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(answer) = ask().await {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.expect("the condition never came true")
    }

    pub async fn level(&self, sku: &str) -> Value {
        self.admin(Method::GET, &format!("/stock/{sku}"), None).await.expect(200)
    }

    pub async fn faults(&self, faults: Value) {
        let account = self.account().await;
        let url = format!("{}/v1/faults", self.config.sandbox.url);
        let put = self.web.put(url).bearer_auth(account).json(&faults);
        assert_eq!(put.send().await.unwrap().status(), StatusCode::OK);
    }

    /// A call straight to the provider, as its account.
    pub async fn provider(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        key: &str,
    ) -> Value {
        let url = format!("{}/v1{path}", self.config.sandbox.url);
        let mut call = self.web.request(method, url).bearer_auth(self.account().await);
        if let Some(body) = &body {
            call = call.header("Idempotency-Key", key).json(body);
        }
        let answer = call.send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        answer.json().await.unwrap()
    }

    /// All payments, as the provider lists them.
    pub async fn payments(&self) -> Value {
        self.provider(Method::GET, "/payments", None, "").await
    }

    async fn account(&self) -> String {
        let store = &self.app.as_ref().unwrap().store;
        let options = verify::provider::sandbox_options(store, &self.config.sandbox.url).await;
        options.unwrap().account.expose_secret().to_owned()
    }

    /// Stops the server and verifies the store, against the provider's ledger too.
    pub async fn verify(self) {
        let violations = self.violations().await;
        assert!(violations.is_empty(), "{violations:#?}");
    }

    /// The same, and answers what does not hold.
    pub async fn violations(mut self) -> Vec<verify::Violation> {
        self.app.take().unwrap().stop().await;
        report(&self.config).await.violations
    }
}

/// What is found in a store that no server runs on, against the provider's ledger too.
async fn report(config: &Config) -> verify::VerifyReport {
    let store = match config.store.url.is_empty() {
        true => Store::open_beside(&config.data.dir).await.unwrap(),
        false => Store::connect(&config.store.url, &Options::default()).await.unwrap(),
    };
    let options = verify::provider::sandbox_options(&store, &config.sandbox.url).await.unwrap();
    let provider = Sandbox::new(options).unwrap();
    let report = verify::verify(&store, Some(&provider), |_| {}).await.unwrap();
    store.close().await;
    report
}

pub async fn start_psp(dir: &TempDir, listen: &str) -> Running {
    let data = dir.path().join("psp");
    kontor_sandbox_psp::start(kontor_sandbox_psp::Options { data, listen: listen.parse().unwrap() })
        .await
        .unwrap()
}
