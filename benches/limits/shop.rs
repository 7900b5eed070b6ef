//! A node over a folder, with or without the sandbox provider beside it in this process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kontor::actors::buyer_data::NewBuyerData;
use kontor::actors::engine::clock::Clock;
use kontor::actors::engine::cluster;
use kontor::actors::engine::host;
use kontor::actors::engine::runtime::{self, Runtime};
use kontor::actors::flows::checkout::Request;
use kontor::actors::flows::payment::{self, Payments};
use kontor::actors::node::{Node, NodeStart, ShopSettings};
use kontor::actors::nouns;
use kontor::actors::row_kinds;
use kontor::domain::address::Address;
use kontor::domain::cart::{self, NewLine};
use kontor::domain::entity::{Cause, Idempotency};
use kontor::domain::id::{CartId, OrderId, Sku};
use kontor::domain::money::Currency;
use kontor::domain::order::{self, Order, PaymentMethod, PaymentStatus};
use kontor::domain::pricing::Rules;
use kontor::providers::payment::Provider;
use kontor::providers::sandbox::Sandbox;
use kontor::store::{self, Store};
use kontor::verify::provider::sandbox_options;

use crate::Outcome;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node over a folder. Entities stay in memory for an hour.
pub async fn node(dir: &Path, psp: Option<&str>) -> Outcome<Arc<Node>> {
    std::fs::create_dir_all(dir)?;
    let store = Store::open(dir, &store::Options::default()).await?;
    node_on(store, psp).await
}

/// A node over a store.
pub async fn node_on(store: Store, psp: Option<&str>) -> Outcome<Arc<Node>> {
    node_among(store, psp, None).await
}

/// A node over a store, among others if it is told how.
pub async fn node_among(
    store: Store,
    psp: Option<&str>,
    cluster: Option<cluster::ClusterStart>,
) -> Outcome<Arc<Node>> {
    let options = store::Options::default();
    let mut providers: Vec<Arc<dyn Provider>> = Vec::new();
    if let Some(url) = psp {
        providers.push(Arc::new(Sandbox::new(sandbox_options(&store, url).await?)?));
    }
    let node = Node::start(NodeStart {
        challenge_hook: None,
        nouns: nouns::all(),
        store: Arc::new(store),
        clock: Clock::system(),
        rules: Rules::default(),
        projections: kontor::actors::read_models::all(),
        settings: ShopSettings::default(),
        rows: row_kinds::all(),
        host: host::Options { idle_secs: 3_600, ..host::Options::default() },
        lanes: options.lanes(),
        lane: options.lane,
        cluster,
        payments: Payments::new(providers, payment::Options::default()),
        cache: kontor::cache::Cache::in_process(),
        runtime: Runtime::new(&runtime::Defaults::default()),
    });
    Ok(node.await?)
}

/// An address.
pub fn address() -> Address {
    Address {
        name: "Ada Lovelace".into(),
        company: None,
        line1: "12 St James's Square".into(),
        line2: None,
        city: "London".into(),
        region: None,
        postal_code: "SW1Y 4JH".into(),
        country: "GB".into(),
        phone: None,
    }
}

/// What a buyer says beside the lines.
pub fn buyer(buyer: u64) -> NewBuyerData {
    NewBuyerData {
        email: Some(Some(format!("buyer-{buyer}@example.com"))),
        shipping_address: Some(Some(address())),
        delivery_option: Some(Some("standard".into())),
        ..NewBuyerData::default()
    }
}

/// A line of one unit for each SKU.
pub fn lines(skus: &[Sku]) -> Vec<NewLine> {
    let line = |sku: &Sku| NewLine {
        sku: sku.clone(),
        quantity: 1,
        agreed_price: None,
        agreed_until: None,
    };
    skus.iter().map(line).collect()
}

/// Makes a cart.
pub async fn cart(node: &Node, buyer: u64, skus: &[Sku]) -> Outcome<CartId> {
    let id = CartId(node.clock.new_key());
    let entity = cart::entity_id(id);
    let sealed = self::buyer(buyer).sealed(&*node.store, &entity, node.clock.for_key());
    let (details, key) = sealed.await?;
    let create = cart::Command::Create {
        currency: Currency::GBP,
        details,
        lines: lines(skus),
        lines_max: cart::LINES_MAX,
        key,
    };
    let cause = Cause { by: "buyer".into(), ..Cause::default() };
    node.carts.create(&entity, create, cause, |_| ()).await?;
    Ok(id)
}

/// Checks a cart out, and waits until its money is taken.
pub async fn buy(node: &Node, cart: CartId) -> Outcome {
    let idempotency = Some(Idempotency { key: format!("key-{cart}"), digest: 1 });
    let token = node.store.seal_payment_token("tok_ok", node.clock.now()).await?;
    let method = PaymentMethod { provider: "sandbox".into(), token };
    let cause = Cause { by: "buyer".into(), idempotency, ..Cause::default() };
    let patience = Some(PATIENCE);
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
        .await?;
    let entity = order::entity_id(OrderId(cart.0));
    let mut until = host::Until::Settled;
    loop {
        let read = |view: host::View<'_, Order>| (view.state.payment_status(), view.seq);
        let (status, seq) = node.orders.wait(&entity, PATIENCE, until, read).await?;
        if status == PaymentStatus::Captured {
            return Ok(());
        }
        if until == host::Until::Past(seq) {
            return Err(format!("an order ended {status:?}").into());
        }
        until = host::Until::Past(seq);
    }
}
