//! A shop in process: a real node on a store of its own, and a sandbox provider over HTTP.

use std::sync::Arc;
use std::time::Duration;

use kontor::actors::buyer_data::NewBuyerData;
use kontor::actors::engine::clock::Clock;
use kontor::actors::engine::host;
use kontor::actors::engine::runtime::{self, Runtime};
use kontor::actors::flows::checkout::{CheckoutRefusal, PlacedOrder, Request};
use kontor::actors::flows::payment::{self, Payments};
use kontor::actors::node::{Node, NodeStart, ShopSettings};
use kontor::actors::nouns;
use kontor::domain::address::Address;
use kontor::domain::cart::{self, NewLine};
use kontor::domain::entity::{Cause, Idempotency};
use kontor::domain::id::{CartId, OrderId, Sku};
use kontor::domain::money::{Currency, TaxRate, UnitPrice};
use kontor::domain::order::{self, Order, PaymentMethod};
use kontor::domain::product::Product;
use kontor::domain::stock;
use kontor::providers::payment::{AccountId, Provider};
use kontor::providers::sandbox::{Options, Sandbox};
use kontor::store::Store;
use kontor_sandbox_psp::Running;
use tempfile::TempDir;

pub struct Shop {
    pub node: Arc<Node>,
    pub store: Store,
    pub psp: Running,
    pub dir: TempDir,
}

impl Shop {
    pub async fn open() -> Self {
        Self::with_accounts(&[]).await
    }

    /// One that has more accounts at its provider, beside the first.
    pub async fn with_accounts(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let psp = kontor_sandbox_psp::start(kontor_sandbox_psp::Options {
            data: dir.path().join("psp"),
            listen: "127.0.0.1:0".parse().unwrap(),
        })
        .await
        .unwrap();
        let (node, store) = node(&dir, &psp.url(), more).await;
        Self { node, store, psp, dir }
    }

    /// Stops the node, and starts it again on the same store.
    pub async fn restart(self) -> Self {
        self.node.stop().await;
        let (node, store) = node(&self.dir, &self.psp.url(), &[]).await;
        Self { node, store, ..self }
    }

    pub async fn sell(&self, sku: &str, price: i64, on_hand: i64) {
        sell(&self.node, sku, price, on_hand).await;
    }

    pub async fn cart(&self, lines: &[(&str, i64)]) -> CartId {
        cart(&self.node, lines).await
    }

    pub async fn checkout(
        &self,
        cart: CartId,
        token: &str,
    ) -> Result<PlacedOrder, CheckoutRefusal> {
        checkout(&self.node, cart, token).await
    }

    pub async fn order(&self, id: CartId) -> Order {
        let entity = order::entity_id(OrderId(id.0));
        self.node.orders.read(&entity, |view| view.state.clone()).await.unwrap()
    }

    /// Waits until an order is as it should be.
    pub async fn until(
        &self,
        id: CartId,
        ready: impl Fn(&Order) -> bool + Send + 'static,
    ) -> Order {
        until(&self.node, id, ready).await
    }

    pub async fn level(&self, sku: &str) -> stock::Level {
        let entity = stock::entity_id(&sku.parse().unwrap());
        self.node.stock.read(&entity, |view| view.state.total()).await.unwrap()
    }
}

pub async fn sell(node: &Node, sku: &str, price: i64, on_hand: i64) {
    let sku: Sku = sku.parse().unwrap();
    let product = Product {
        sku: sku.clone(),
        name: format!("Product {sku}"),
        description: String::new(),
        category: None,
        prices: [(Currency::GBP, UnitPrice::from_minor(price).unwrap())].into(),
        tax_rate: TaxRate::parse("0.2").unwrap(),
        active: true,
        restock_at: None,
    };
    let any = kontor::actors::catalog::Expect::Any;
    node.catalog.put(product, any, saga()).await.unwrap();
    let location = "main".parse().unwrap();
    let set = stock::Command::Set { location, on_hand, change_from: None, reason: None };
    node.stock.ask(&stock::entity_id(&sku), set, saga(), |_| ()).await.unwrap();
}

pub async fn cart(node: &Node, lines: &[(&str, i64)]) -> CartId {
    let id = CartId(node.clock.new_key());
    let address = Address {
        name: "Ada".into(),
        company: None,
        line1: "1 High Street".into(),
        line2: None,
        city: "London".into(),
        region: None,
        postal_code: "N1 1AA".into(),
        country: "GB".into(),
        phone: None,
    };
    let buyer = NewBuyerData {
        email: Some(Some("ada@example.com".into())),
        shipping_address: Some(Some(address)),
        delivery_option: Some(Some("standard".into())),
        ..NewBuyerData::default()
    };
    let lines = lines.iter().map(|(sku, quantity)| NewLine {
        sku: sku.parse().unwrap(),
        quantity: *quantity,
        agreed_price: None,
        agreed_until: None,
    });
    let entity = cart::entity_id(id);
    let (details, key) = buyer.sealed(&*node.store, &entity, node.clock.for_key()).await.unwrap();
    let create = cart::Command::Create {
        currency: Currency::GBP,
        details,
        lines: lines.collect(),
        lines_max: cart::LINES_MAX,
        key,
    };
    node.carts.create(&entity, create, saga(), |_| ()).await.unwrap();
    id
}

pub async fn checkout(
    node: &Node,
    cart: CartId,
    token: &str,
) -> Result<PlacedOrder, CheckoutRefusal> {
    pay(node, cart, token, Some(Duration::from_secs(30))).await
}

/// Checks a cart out without waiting for the outcome.
pub async fn place(node: &Node, cart: CartId, token: &str) -> Result<PlacedOrder, CheckoutRefusal> {
    pay(node, cart, token, None).await
}

fn saga() -> Cause {
    Cause { by: "saga".into(), ..Cause::default() }
}

async fn pay(
    node: &Node,
    cart: CartId,
    token: &str,
    patience: Option<Duration>,
) -> Result<PlacedOrder, CheckoutRefusal> {
    let key = format!("{cart}-{token}");
    let idempotency = Some(Idempotency { key, digest: 1 });
    let token = node.store.seal_payment_token(token, node.clock.now()).await.unwrap();
    let method = PaymentMethod { provider: "sandbox".into(), token };
    let cause = Cause { by: "buyer".into(), idempotency, ..Cause::default() };
    node.flows
        .checkout
        .run(Request {
            cart,
            method: Some(method),
            expected_total: None,
            cause,
            patience,
            guest: None,
        })
        .await
}

/// Waits until an order is as it should be, wherever it lives.
pub async fn until(node: &Node, id: CartId, ready: impl Fn(&Order) -> bool) -> Order {
    let entity = order::entity_id(OrderId(id.0));
    let (patience, mut until) = (Duration::from_secs(30), host::Until::Past(-1));
    loop {
        let read = |view: host::View<'_, Order>| (view.state.clone(), view.seq);
        let (state, seq) = node.orders.wait(&entity, patience, until, read).await.unwrap();
        if ready(&state) {
            return state;
        }
        assert_ne!(until, host::Until::Past(seq), "it stays as it is: {state:?}");
        until = host::Until::Past(seq);
    }
}

async fn node(dir: &TempDir, psp: &str, more: &[&str]) -> (Arc<Node>, Store) {
    let options = kontor::store::Options::default();
    let store = Store::open(&dir.path().join("data"), &options).await.unwrap();
    let account = |account_id: AccountId, account: &str| -> Arc<dyn Provider> {
        // Each account has a secret of its own.
        let (url, webhook_secret) = (psp.into(), format!("whsec_{account}").into());
        let account = account.to_owned().into();
        let options = Options { url, account_id, account, webhook_secret, ..Options::default() };
        Arc::new(Sandbox::new(options).unwrap())
    };
    let mut providers = vec![account(AccountId::default(), "shop")];
    providers.extend(more.iter().map(|id| account(id.parse().unwrap(), id)));
    let names = providers.iter().map(|one| one.account().to_string()).collect();
    let defaults = runtime::Defaults { providers: names, ..runtime::Defaults::default() };
    let start = NodeStart {
        challenge_hook: None,
        nouns: nouns::all(),
        store: Arc::new(store.clone()),
        clock: Clock::system(),
        rules: kontor::domain::pricing::Rules::default(),
        rows: kontor::actors::row_kinds::all(),
        projections: kontor::actors::read_models::all(),
        settings: ShopSettings {
            timer_poll_ms: 20,
            projection_pause_ms: 5,
            ..ShopSettings::default()
        },
        host: host::Options::default(),
        lane: options.lane,
        lanes: 1,
        cluster: None,
        payments: Payments::new(providers, payment::Options::default()),
        cache: kontor::cache::Cache::in_process(),
        runtime: Runtime::new(&defaults),
    };
    (Node::start(start).await.unwrap(), store)
}
