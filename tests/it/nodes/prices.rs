//! What a buyer pays is what the store says, whatever a node has heard or remembers.

use std::time::Duration;

use kontor::actors::engine::row_host::{Error, Expect, WriteOutcome};
use kontor::actors::flows::checkout::{CheckoutRefusal, Request};
use kontor::actors::node::Node;
use kontor::domain::entity::Cause;
use kontor::domain::money::{Money, UnitPrice};
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

/// The number of calls that a node has got no answer to.
fn unanswered(node: &Node) -> u64 {
    let mut registry = prometheus_client::registry::Registry::default();
    node.cluster.as_ref().unwrap().calls().metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let name = "node_calls_total{way=\"local\",outcome=\"unknown\"} ";
    let count = text.lines().find_map(|line| line.strip_prefix(name));
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_is_lost_is_written_once_and_is_no_change_of_somebody_else() {
    let shared = Shared::open().await;
    let nodes = shared.nodes(&["a", "b"]).await;
    shared.shared_among(&["a", "b"]).await;
    let (a, b) = (nodes[0].node(), nodes[1].node());
    let sku = foreign(&b);
    let (sold, here) = (sku.clone(), a.clone());
    nodes[0].on(async move { shop::sell(&here, &sold, 1_000, 1).await }).await;
    let sku: kontor::domain::id::Sku = sku.parse().unwrap();
    let product = a.catalog.get(&sku).await.unwrap().unwrap().value.clone();
    // The owner of the product carries out what it is asked, and no answer of it arrives until the
    // change is written.
    let change = async |price: i64, expect: Expect, written: i64| {
        shared.board.mute("a", true);
        let (mut product, here) = (product.clone(), b.clone());
        let price = UnitPrice::from_minor(price).unwrap();
        product.prices.values_mut().for_each(|one| *one = price);
        let cause = Cause { by: "admin".into(), ..Cause::default() };
        let changing = nodes[1].on(async move { here.catalog.put(product, expect, cause).await });
        let heard = async {
            while a.catalog.get(&sku).await.unwrap().unwrap().version < written {
                tokio::task::yield_now().await;
            }
            let lost = unanswered(&b);
            while unanswered(&b) < lost + 3 {
                tokio::task::yield_now().await;
            }
            shared.board.mute("a", false);
        };
        tokio::join!(changing, heard).0
    };
    let (row, outcome) = change(1_100, Expect::Any, 2).await.unwrap();
    assert_eq!((row.version, outcome), (2, WriteOutcome::Unchanged));
    let unknown = change(1_200, Expect::Version(2), 3).await;
    assert!(matches!(unknown, Err(Error::TryAgain)), "{unknown:?}");
    assert_eq!(a.catalog.get(&sku).await.unwrap().unwrap().version, 3);
}
