//! A shop of one's own: a real node on a folder, and the sandbox provider beside it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kontor::actors::buyer_data::NewBuyerData;
use kontor::actors::catalog::Expect;
use kontor::actors::engine::clock::Clock;
use kontor::actors::engine::host;
use kontor::actors::engine::runtime::{self, Runtime};
use kontor::actors::flows::checkout::{CheckoutRefusal, PlacedOrder, Request};
use kontor::actors::flows::payment::{self, Payments};
use kontor::actors::node::{Node, NodeStart, ShopSettings};
use kontor::actors::nouns;
use kontor::domain::address::Address;
use kontor::domain::cart::{self, NewLine};
use kontor::domain::entity::{Cause, Idempotency, Noun as _};
use kontor::domain::id::{CartId, OrderId, Sku};
use kontor::domain::money::{Currency, UnitPrice};
use kontor::domain::order::{self, Command, Order, PaymentMethod, PaymentStatus, Phase};
use kontor::domain::pricing;
use kontor::domain::product::Product;
use kontor::domain::stock;
use kontor::providers::payment::{Payment, Provider};
use kontor::providers::sandbox::Sandbox;
use kontor::store::{self, Store};
use kontor::verify::provider::sandbox_options;
use kontor::verify::{VerifyReport, verify};
use kontor_sandbox_psp::Running;
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use crate::sandbox_psp::fixture;

pub const DECLINED: PaymentStatus = PaymentStatus::Declined;
pub const SKUS: [&str; 3] = ["mug", "cup", "tea spoon"];

pub struct Shop {
    pub dir: TempDir,
    node: Arc<Node>,
    provider: Arc<Sandbox>,
    psp: Running,
    _psp_dir: TempDir,
}

/// What is left of a shop that was stopped.
pub struct Stopped {
    pub dir: TempDir,
    pub provider: Sandbox,
    _psp: Running,
    _psp_dir: TempDir,
}

pub struct Counts {
    pub orders: u64,
    pub confirmed: u64,
    pub cancelled: u64,
}

pub fn cause() -> Cause {
    Cause { by: "buyer".into(), ..Cause::default() }
}

fn sku(text: &str) -> Sku {
    text.parse().unwrap()
}

impl Shop {
    /// A shop with three products, 100 of each.
    pub async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let psp_dir = tempfile::tempdir().unwrap();
        let psp = fixture::start_in(&psp_dir).await.unwrap();
        let store =
            Store::open(&dir.path().join("data"), &store::Options::default()).await.unwrap();
        let options = sandbox_options(&store, &psp.url()).await.unwrap();
        let options = kontor::providers::sandbox::Options { timeout_ms: 1_000, ..options };
        let provider = Arc::new(Sandbox::new(options).unwrap());
        let patience = payment::Options { retry_after_ms: 50, ..Default::default() };
        let node = Node::start(NodeStart {
            challenge_hook: None,
            nouns: nouns::all(),
            store: Arc::new(store),
            clock: Clock::system(),
            rules: pricing::Rules::default(),
            rows: kontor::actors::row_kinds::all(),
            projections: kontor::actors::read_models::all(),
            settings: ShopSettings::default(),
            host: host::Options::default(),
            lane: store::journal::lane::Options::default(),
            lanes: 1,
            cluster: None,
            payments: Payments::new(vec![provider.clone()], patience),
            cache: kontor::cache::Cache::in_process(),
            runtime: Runtime::new(&runtime::Defaults::default()),
        })
        .await
        .unwrap();
        let shop = Self { dir, node, provider, psp, _psp_dir: psp_dir };
        for name in SKUS {
            shop.stock_up(name).await;
        }
        shop
    }

    async fn stock_up(&self, name: &str) {
        let product = Product {
            sku: sku(name),
            name: format!("A {name}"),
            description: String::new(),
            category: None,
            prices: [(Currency::GBP, UnitPrice::from_minor(250).unwrap())].into(),
            tax_rate: kontor::domain::money::TaxRate::parse("0.2").unwrap(),
            active: true,
            restock_at: None,
        };
        self.node.catalog.put(product, Expect::Absent, cause()).await.unwrap();
        let receive = stock::Command::Receive {
            location: "main".parse().unwrap(),
            quantity: 100,
            from_incoming: false,
            reason: None,
        };
        let item = stock::entity_id(&sku(name));
        self.node.stock.ask(&item, receive, cause(), |_| ()).await.unwrap();
    }

    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// Fills a cart and checks it out; waits for the outcome if asked to.
    pub async fn buy(&self, name: &str, quantity: i64, token: &str, wait: bool) -> OrderId {
        let placed = self.try_buy(name, quantity, token, wait).await.unwrap();
        assert!(placed.has_outcome || !wait, "{:?}", placed.order);
        placed.order.placed().unwrap().order
    }

    /// The same, where it may be refused.
    pub async fn try_buy(
        &self,
        name: &str,
        quantity: i64,
        token: &str,
        wait: bool,
    ) -> Result<PlacedOrder, CheckoutRefusal> {
        let id = CartId(self.node.clock.new_key());
        let address = Address {
            name: "A. Buyer".into(),
            company: None,
            line1: "1 Road".into(),
            line2: None,
            city: "Town".into(),
            region: None,
            postal_code: "AB1 2CD".into(),
            country: "GB".into(),
            phone: None,
        };
        let buyer = NewBuyerData {
            email: Some(Some("buyer@example.com".into())),
            shipping_address: Some(Some(address)),
            delivery_option: Some(Some("standard".into())),
            ..NewBuyerData::default()
        };
        let line = NewLine { sku: sku(name), quantity, agreed_price: None, agreed_until: None };
        let (entity, store, now) = (cart::entity_id(id), &self.node.store, self.node.clock.now());
        let (details, key) =
            buyer.sealed(&**store, &entity, Clock::by_hand(now).for_key()).await.unwrap();
        let create = cart::Command::Create {
            currency: Currency::GBP,
            details,
            lines: vec![line],
            lines_max: cart::LINES_MAX,
            key,
        };
        self.node.carts.create(&entity, create, cause(), |_| ()).await.unwrap();
        let token = store.seal_payment_token(token, now).await.unwrap();
        let idempotency = Idempotency { key: format!("key-{id}"), digest: 7 };
        self.node
            .flows
            .checkout
            .run(Request {
                cart: id,
                method: Some(PaymentMethod { provider: "sandbox".into(), token }),
                expected_total: None,
                cause: Cause { idempotency: Some(idempotency), ..cause() },
                patience: wait.then_some(Duration::from_secs(20)),
                guest: None,
            })
            .await
    }

    /// Makes the provider fail now and then.
    pub async fn set_faults(&self, faults: serde_json::Value) {
        let options = {
            let store = Store::open_beside(&self.data()).await.unwrap();
            let options = sandbox_options(&store, &self.psp.url()).await.unwrap();
            store.close().await;
            options
        };
        let put = fixture::plain().put(format!("{}/v1/faults", self.psp.url()));
        let put = put.bearer_auth(options.account.expose_secret());
        let answer = put.json(&faults).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    pub async fn command(&self, id: &OrderId, command: Command) {
        self.node.orders.ask(&order::entity_id(*id), command, cause(), |_| ()).await.unwrap();
    }

    pub async fn until(&self, id: &OrderId, ready: fn(&Order) -> bool) {
        crate::shop::until(&self.node, CartId(id.0), ready).await;
    }

    pub async fn until_cancelled(&self, id: &OrderId) {
        self.until(id, |order| order.phase() == Phase::Cancelled).await;
    }

    pub async fn until_at_rest(&self, all: &[OrderId]) {
        for id in all {
            self.until(id, |order| order.effects().is_empty()).await;
        }
    }

    pub async fn payment_of(&self, id: &OrderId) -> Payment {
        self.provider.find(&format!("{id}-p1")).await.unwrap().unwrap()
    }

    pub async fn refund_elsewhere(&self, payment: &Payment, amount: i64) {
        let operation = fixture::operation(&payment.id, "by-hand", amount);
        self.provider.refund(&operation).await.unwrap();
    }

    pub async fn authorize_elsewhere(&self, reference: &str) {
        let request = fixture::authorize(reference, reference, 500, "tok_ok");
        self.provider.authorize(&request).await.unwrap();
    }

    pub async fn verify_running(&self) -> VerifyReport {
        let store = Store::open_beside(&self.data()).await.unwrap();
        let report = verify(&store, Some(self.provider.as_ref()), |_| {}).await.unwrap();
        store.close().await;
        report
    }

    pub async fn stop(self) -> Stopped {
        self.node.stop().await;
        let Self { dir, psp, _psp_dir, node, provider } = self;
        drop(node);
        drop(provider);
        let store = Store::open_beside(&dir.path().join("data")).await.unwrap();
        let options = sandbox_options(&store, &psp.url()).await.unwrap();
        store.close().await;
        Stopped { dir, provider: Sandbox::new(options).unwrap(), _psp: psp, _psp_dir }
    }
}

impl Stopped {
    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }
}

/// Copies the data folder's file of a shop that was stopped.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for name in ["kontor.db", "master.key"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}
