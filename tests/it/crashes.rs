//! The real server dies at every point of the saga at which something becomes durable, and around
//! every call to the provider; the client sends its request again under the same key, and it ends
//! exactly as if nothing had happened: the same events, stock, rows and ledger of the provider as
//! in a run without a crash.
//!
//! Where a process can be made to die is in `src/crash.rs`; random moments under load are in
//! `kills`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use kontor::providers::payment::Provider as _;
use kontor::providers::sandbox::Sandbox;
use kontor::store::Store;
use kontor::verify;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::buyer_tokens;
use crate::process::{self, Server};

/// How long a condition may take to come true before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Processes that are killed at the same time.
const AT_ONCE: usize = 4;
/// Before a commit or a call, and after it.
const SIDES: [&str; 2] = ["before", "after"];

/// What a buyer and an operator do while the server dies under them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// A cart is made, checked out and paid.
    Buy,
    /// An attempt that the provider never got is reversed; the next one pays.
    PayAgain,
    /// A part of a paid order is sent, the other part is given back.
    SendAndGiveBack,
    /// An order whose payment was declined is cancelled.
    CancelUnpaid,
    /// A new cart takes the place of an order whose payment was declined.
    ReplaceCart,
    /// An order whose money is set aside is cancelled.
    CancelAuthorized,
    /// An order whose money was taken is cancelled.
    CancelCaptured,
}

impl Story {
    /// Every kind of event that the story makes durable, and every call to the provider. The run
    /// without a crash proves that no kind of event is missing here.
    const fn points(self) -> &'static [&'static str] {
        match self {
            Self::Buy => &[
                "cart.created",
                "cart.spent",
                "ord.placed",
                "sku.reserved",
                "ord.payment_requested",
                "psp.authorize",
                "ord.payment_authorized",
                "sku.committed",
                "ctr.drawn",
                "ord.confirmed",
                "psp.capture",
                "ord.captured",
            ],
            Self::PayAgain => &[
                "ord.placed",
                "psp.authorize",
                "ord.payment_unknown",
                "psp.find",
                "psp.reverse",
                "ord.payment_given_up",
                "ord.payment_reversed",
                "sku.yielded",
                "ord.hold_yielded",
                "ord.payment_retried",
                "sku.extended",
                "ord.payment_requested",
                "ord.payment_authorized",
                "ord.confirmed",
                "ord.captured",
            ],
            Self::SendAndGiveBack => &[
                "ord.fulfilled",
                "sku.shipped",
                "ord.shipped",
                "ord.refund_requested",
                "psp.refund",
                "ord.refunded",
                "sku.restocked",
                "ord.refund_restocked",
            ],
            Self::CancelUnpaid => &["ord.cancel_requested", "sku.released", "ord.cancelled"],
            Self::ReplaceCart => &[
                "ord.cancel_requested",
                "sku.released",
                "ord.cancelled",
                "cart.created",
                "cart.replaced",
            ],
            Self::CancelAuthorized => &[
                "ord.cancel_requested",
                "psp.void",
                "ord.payment_voided",
                "sku.released",
                "ord.cancelled",
            ],
            Self::CancelCaptured => &[
                "ord.cancel_requested",
                "ord.refund_requested",
                "psp.refund",
                "ord.refunded",
                "sku.released",
                "ord.cancelled",
            ],
        }
    }

    const fn capture(self) -> &'static str {
        match self {
            Self::CancelAuthorized => "by_hand",
            _ => "at_once",
        }
    }

    /// What was there before: goods, and the order that something is done to.
    async fn prepare(self, world: &World) {
        world.sell("LAMP").await;
        world.sell("MUG").await;
        match self {
            Self::Buy | Self::PayAgain => {}
            Self::SendAndGiveBack | Self::CancelCaptured => {
                world.buy("tok_ok").await;
                world.until("payment_status", "captured").await;
            }
            Self::CancelUnpaid | Self::ReplaceCart => world.buy("tok_declined").await,
            Self::CancelAuthorized => world.buy("tok_ok").await,
        }
    }

    /// What is done, until it is over.
    async fn act(self, world: &World) {
        match self {
            Self::Buy => {
                world.buy("tok_ok").await;
                world.until("payment_status", "captured").await;
            }
            Self::PayAgain => {
                world.buy("tok_timeout_lost").await;
                let paid = world.checkout("checkout-2", "tok_ok").await;
                assert_eq!(paid["status"], "confirmed", "{paid:#}");
                world.until("payment_status", "captured").await;
            }
            Self::SendAndGiveBack => {
                let lamps = json!([{"line": "1", "quantity": 2}]);
                world.change("fulfillments", json!({"lines": lamps})).await;
                let mug = json!([{"line": "2", "quantity": 1}]);
                let why = "broken";
                let refund = json!({"lines": mug, "restock": true, "reason": why});
                world.change("refunds", refund).await;
                world.until("payment_status", "partially_refunded").await;
                world.until_stock("LAMP", "allocated", 0).await;
                world.until_stock("MUG", "allocated", 0).await;
                world.until_stock("MUG", "on_hand", 10).await;
            }
            Self::ReplaceCart => {
                let declined = world.checkout("checkout-1", "tok_declined").await;
                let path = declined["links"]["new_cart"].as_str().unwrap();
                let path = path.strip_prefix("/v1").unwrap();
                let made = world.send(Method::POST, path, "", None).await;
                let again = world.send(Method::POST, path, "", None).await;
                assert_eq!((&made["id"], &made["version"]), (&again["id"], &json!(2)), "{made:#}");
                world.until("status", "cancelled").await;
            }
            Self::CancelUnpaid | Self::CancelAuthorized | Self::CancelCaptured => {
                world.change("cancel", json!({"reason": "changed my mind"})).await;
                world.until("status", "cancelled").await;
            }
        }
        world.until_idle().await;
    }
}

/// A folder, a server that dies once, and its provider.
struct World {
    dir: TempDir,
    psp: kontor_sandbox_psp::Running,
    key: String,
    web: reqwest::Client,
    capture: &'static str,
    life: Mutex<Life>,
    cart: Mutex<String>,
}

/// The server as it stands.
struct Life {
    server: Option<Server>,
    /// It is still to die.
    doomed: bool,
}

impl World {
    /// Starts a server on a copy of a folder, or on a new one; `point` says where it dies.
    async fn start(of: Option<&Self>, story: Story, point: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if let Some(of) = of {
            copy(of.dir.path(), dir.path());
        }
        let listen = "127.0.0.1:0".parse().unwrap();
        let data = dir.path().join("psp");
        let psp =
            kontor_sandbox_psp::start(kontor_sandbox_psp::Options { data, listen }).await.unwrap();
        let data = dir.path().join("data");
        let key = of.map_or_else(|| process::key(&data), |of| of.key.clone());
        let web = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let cart = match of {
            Some(of) => of.cart.lock().await.clone(),
            None => String::new(),
        };
        let life = Life { server: None, doomed: point.is_some() };
        let (life, cart) = (Mutex::new(life), Mutex::new(cart));
        let world = Self { dir, psp, key, web, capture: story.capture(), life, cart };
        world.life.lock().await.server = Some(world.server(point));
        world
    }

    fn server(&self, point: Option<&str>) -> Server {
        let data = self.dir.path().join("data");
        tokio::task::block_in_place(|| {
            Server::start_with(&data, &self.psp.url(), |command| {
                command
                    .env("KONTOR__SHOP__CAPTURE", self.capture)
                    .env("KONTOR__SANDBOX__TIMEOUT_MS", "300")
                    .env("KONTOR__PAYMENTS__RETRY_AFTER_MS", "20")
                    .env("KONTOR__ENTITIES__EFFECT_PAUSE_MS", "50")
                    .env(kontor::crash::VARIABLE, point.unwrap_or_default());
            })
        })
    }

    /// Makes a request until it is answered: a new server takes the place of a dead one.
    async fn send(&self, method: Method, path: &str, key: &str, body: Option<Value>) -> Value {
        loop {
            let url = self.life.lock().await.server.as_ref().unwrap().url.clone();
            let mut request = self.web.request(method.clone(), format!("{url}/v1{path}"));
            request = match path.strip_prefix("/store/orders/") {
                _ if path.starts_with("/admin") => request.bearer_auth(&self.key),
                Some(order) => {
                    request.bearer_auth(buyer_tokens::token(order.split('/').next().unwrap()))
                }
                None => buyer_tokens::authorized(request, path),
            };
            if !key.is_empty() {
                request = request.header("Idempotency-Key", key).header("Prefer", "wait=30");
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answered = match request.send().await {
                Ok(response) => {
                    let status = response.status();
                    response.json::<Value>().await.map(|body| (status, body))
                }
                Err(error) => Err(error),
            };
            match answered {
                Ok((status, body)) => {
                    buyer_tokens::keep(&body);
                    let fine = status.is_success() || status == 402;
                    assert!(fine, "{method} {path}: {status} {body:#}");
                    return body;
                }
                Err(_) => self.revive(&url).await,
            }
        }
    }

    /// Starts a new server, unless another request has seen to it.
    async fn revive(&self, dead: &str) {
        let mut life = self.life.lock().await;
        if life.server.as_ref().is_some_and(|server| server.url != dead) {
            return;
        }
        assert!(life.doomed, "the server died, and was not asked to");
        life.doomed = false;
        let server = life.server.take().unwrap();
        tokio::task::block_in_place(|| server.died());
        life.server = Some(self.server(None));
    }

    async fn sell(&self, sku: &str) {
        let prices = json!([{"amount": 1_000, "currency": "GBP"}]);
        let product = json!({"sku": sku, "name": sku, "prices": prices});
        self.send(Method::POST, "/admin/products", "", Some(product)).await;
        let level = Some(json!({"on_hand": 10}));
        self.send(Method::PUT, &format!("/admin/stock/{sku}/main"), "", level).await;
    }

    /// Makes a cart and checks it out.
    async fn buy(&self, token: &str) {
        let lines = json!([{"sku": "LAMP", "quantity": 2}, {"sku": "MUG", "quantity": 1}]);
        let address = json!({
            "name": "Ada", "line1": "1 High Street", "city": "London",
            "postal_code": "N1 1AA", "country": "GB",
        });
        let cart = json!({
            "email": "ada@example.com", "delivery_option": "standard",
            "lines": lines, "shipping_address": address,
        });
        let key = "a-key-long-enough-to-be-random";
        let made = self.send(Method::POST, "/store/carts", key, Some(cart)).await;
        *self.cart.lock().await = made["id"].as_str().unwrap().to_owned();
        self.checkout("checkout-1", token).await;
    }

    async fn checkout(&self, key: &str, token: &str) -> Value {
        let path = format!("/store/carts/{}/checkout", self.cart.lock().await);
        let body = json!({"payment": {"provider": "sandbox", "token": token}});
        self.send(Method::POST, &path, key, Some(body)).await
    }

    async fn path(&self) -> String {
        format!("/admin/orders/{}", self.cart.lock().await.replace("cart_", "ord_"))
    }

    /// What an operator does to the order.
    async fn change(&self, what: &str, body: Value) {
        let path = format!("{}/{what}", self.path().await);
        self.send(Method::POST, &path, what, Some(body)).await;
    }

    async fn until(&self, field: &str, value: &str) {
        let path = self.path().await;
        self.until_true(&path, |order| order[field] == value).await;
    }

    async fn until_stock(&self, sku: &str, level: &str, units: i64) {
        let path = format!("/admin/stock/{sku}");
        self.until_true(&path, |stock| stock[level] == units).await;
    }

    /// Waits until the order, the only one, wants nothing more, and its row says so.
    async fn until_idle(&self) {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let order = self.send(Method::GET, &self.path().await, "", None).await;
                let listed = self.send(Method::GET, "/admin/orders", "", None).await;
                let row = &listed["data"][0];
                if row["version"] == order["version"] && row["saga_step"].is_null() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.expect("the order never came to rest");
    }

    async fn until_true(&self, path: &str, ready: impl Fn(&Value) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let seen = self.send(Method::GET, path, "", None).await;
                if ready(&seen) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "{path}: {:#}", self.send(Method::GET, path, "", None).await);
    }

    /// Everything that is true at the end, but for names and times; the store is verified too.
    async fn end(&self, after: i64) -> End {
        let order = self.send(Method::GET, &self.path().await, "", None).await;
        let mut stock = BTreeMap::new();
        for sku in ["LAMP", "MUG"] {
            let level = self.send(Method::GET, &format!("/admin/stock/{sku}"), "", None).await;
            let told = ["on_hand", "reserved", "allocated", "sellable"];
            stock.insert(sku, told.map(|name| level[name].as_i64().unwrap()));
        }
        let mut life = self.life.lock().await;
        life.server.take().unwrap().kill();
        let store = Store::open_beside(&self.dir.path().join("data")).await.unwrap();
        let options = verify::provider::sandbox_options(&store, &self.psp.url()).await.unwrap();
        let provider = Sandbox::new(options).unwrap();
        let report = verify::verify(&store, Some(&provider), |_| {}).await.unwrap();
        assert!(report.ok, "{report}");
        let mut events: BTreeMap<String, usize> = BTreeMap::new();
        for record in store.journal().read_shard(0, after, 1_000).await.unwrap() {
            let name = format!("{}.{}", record.entity.prefix(), record.kind);
            *events.entry(name).or_default() += 1;
        }
        store.close().await;
        let payments = provider.list(None, 10).await.unwrap().payments;
        let money = payments.iter().map(|one| {
            let done = one.operations.iter().map(|done| format!("{:?} {}", done.kind, done.amount));
            let done = done.collect::<Vec<_>>().join(", ");
            format!("{:?} {} voided {}: {done}", one.status, one.amount, one.voided)
        });
        let told = ["number", "status", "payment_status", "fulfillment_status", "version"];
        let told = told.map(|name| order[name].clone());
        End { order: told, stock, events, money: money.collect() }
    }
}

/// How a story ended.
#[derive(Debug, PartialEq)]
struct End {
    order: [Value; 5],
    stock: BTreeMap<&'static str, [i64; 4]>,
    events: BTreeMap<String, usize>,
    money: Vec<String>,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

async fn last_pos(world: &World) -> i64 {
    let store = Store::open_beside(&world.dir.path().join("data")).await.unwrap();
    let last = store.journal().last_pos(0).await.unwrap();
    store.close().await;
    last
}

/// Plays a story once without a crash, and then once for each point and side of it.
async fn crash_everywhere(story: Story) {
    let template = World::start(None, story, None).await;
    story.prepare(&template).await;
    let server = template.life.lock().await.server.take().unwrap();
    assert_eq!(server.terminate(), Some(0));
    let after = last_pos(&template).await;
    let quiet = World::start(Some(&template), story, None).await;
    story.act(&quiet).await;
    let expected = quiet.end(after).await;
    for kind in expected.events.keys() {
        let known = [story, Story::Buy].iter().any(|one| one.points().contains(&kind.as_str()));
        assert!(known, "{kind} is no point of {story:?}");
    }
    let rows = story.points().iter().flat_map(|point| SIDES.map(|side| format!("{side}:{point}")));
    let played = rows.map(|row| {
        let (template, expected) = (&template, &expected);
        async move {
            let world = World::start(Some(template), story, Some(&row)).await;
            story.act(&world).await;
            let missed = world.life.lock().await.doomed;
            assert!(!missed, "{story:?} never came to {row}");
            let end = world.end(after).await;
            assert_eq!(&end, expected, "{story:?} {row}");
        }
    });
    futures_util::stream::iter(played).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_anywhere_in_a_purchase_changes_nothing() {
    crash_everywhere(Story::Buy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_anywhere_in_a_reversal_changes_nothing() {
    crash_everywhere(Story::PayAgain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_anywhere_in_a_shipment_or_refund_changes_nothing() {
    crash_everywhere(Story::SendAndGiveBack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_anywhere_in_a_cancellation_changes_nothing() {
    for story in
        [Story::CancelUnpaid, Story::ReplaceCart, Story::CancelAuthorized, Story::CancelCaptured]
    {
        crash_everywhere(story).await;
    }
}
