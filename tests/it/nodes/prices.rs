//! What a buyer pays is what the store says, whatever a node has heard or remembers.

use std::time::Duration;

use kontor::actors::flows::checkout::{CheckoutRefusal, Request};
use kontor::actors::node::Node;
use kontor::domain::entity::Cause;
use kontor::domain::money::Money;
use kontor::domain::order::PaymentMethod;
use kontor::domain::product;

use super::Shared;
use crate::shop;

/// A SKU whose product another node than this one writes.
fn foreign(node: &Node) -> String {
    let mut all = (0..).map(|number| format!("LAMP-{number}"));
    let is_foreign = |sku: &String| !node.lanes.own(&product::entity_id(&sku.parse().unwrap()));
    all.find(is_foreign).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_price_that_a_node_remembers_is_never_charged() {
    let shared = Shared { cache_ttl_ms: 3_600_000, ..Shared::open().await };
    let nodes = shared.nodes(&["a", "b"]).await;
    shared.shared_among(&["a", "b"]).await;
    let (a, b) = (nodes[0].node(), nodes[1].node());
    let sku = foreign(&b);
    let (sold, here) = (sku.clone(), a.clone());
    nodes[0].on(async move { shop::sell(&here, &sold, 1_250, 10).await }).await;
    let (sold, here) = (sku.clone(), b.clone());
    let first = nodes[1].on(async move {
        let cart = shop::cart(&here, &[(&sold, 1)]).await;
        let product = here.catalog.get(&sold.parse().unwrap()).await.unwrap().unwrap();
        (cart, product.version)
    });
    let (cart, version) = first.await;
    // The price rises, and no event of it reaches the other node.
    shared.stream.reach(false);
    let (sold, here) = (sku.clone(), a.clone());
    nodes[0].on(async move { shop::sell(&here, &sold, 2_000, 10).await }).await;
    let (sold, here) = (sku.clone(), b.clone());
    let outcome = nodes[1].on(async move {
        let known = here.catalog.get(&sold.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(known.version, version, "the node still remembers the old price");
        let token = here.store.seal_payment_token("tok_ok", here.clock.now()).await.unwrap();
        let request = |expected: i64| {
            let (provider, token) = ("sandbox".into(), token.clone());
            let method = PaymentMethod { provider, token };
            let cause = Cause { by: "buyer".into(), ..Cause::default() };
            let expected_total = Some(Money::new(expected, "GBP".parse().unwrap()));
            let patience = Some(Duration::from_secs(30));
            Request { cart, method: Some(method), expected_total, cause, patience, guest: None }
        };
        let refused = here.flows.checkout.run(request(1_250)).await;
        let Err(CheckoutRefusal::Changed { total }) = refused else { panic!("{refused:?}") };
        let placed = here.flows.checkout.run(request(total.amount)).await.unwrap();
        (total.amount, placed.order.total())
    });
    assert_eq!(outcome.await, (2_000, 2_000));
}
