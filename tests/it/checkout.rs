//! The checkout saga on a real node, store and provider.

use std::sync::Arc;

use futures_util::future::join_all;
use kontor::actors::engine::host;
use kontor::actors::flows::checkout::CheckoutRefusal;
use kontor::domain::cart::{self, NewLine};
use kontor::domain::entity::Cause;
use kontor::domain::order::{OrderStatus, PaymentStatus, Phase};

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn a_cart_becomes_a_paid_order() {
    let shop = Shop::open().await;
    shop.sell("LAMP", 1_250, 5).await;
    shop.sell("MUG", 300, 5).await;
    let cart = shop.cart(&[("LAMP", 2), ("MUG", 1)]).await;
    let placed = shop.checkout(cart, "tok_ok").await.unwrap();
    assert!(placed.has_outcome);
    assert_eq!(placed.order.status(), OrderStatus::Confirmed);
    assert_eq!(placed.order.number(), Some(1));
    let order = shop.until(cart, |order| order.captured() > 0).await;
    assert_eq!((order.captured(), order.payment_status()), (2_800, PaymentStatus::Captured));
    let level = shop.level("LAMP").await;
    assert_eq!((level.allocated, level.reserved, level.sellable()), (2, 0, 3));
    let again = shop.checkout(cart, "tok_ok").await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.order.number(), Some(1));
    let shop = shop.restart().await;
    let order = shop.order(cart).await;
    assert_eq!((order.captured(), order.number()), (2_800, Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_units_are_sold_once() {
    let shop = Shop::open().await;
    shop.sell("RARE", 1_000, 50).await;
    let buyers = (0..200).map(|_| async {
        let cart = shop.cart(&[("RARE", 1)]).await;
        match shop.checkout(cart, "tok_ok").await {
            Ok(placed) if placed.order.phase() == Phase::Confirmed => 1,
            Ok(placed) => {
                let why = placed.order.cancellation().map(|why| why.reason.clone());
                assert_eq!(why.as_deref(), Some("out_of_stock"), "{:?}", placed.order.phase());
                0
            }
            Err(CheckoutRefusal::OutOfStock(short)) => {
                assert_eq!(short[0].requested, 1);
                0
            }
            Err(other) => panic!("{other}"),
        }
    });
    assert_eq!(join_all(buyers).await.into_iter().sum::<i32>(), 50);
    let level = shop.level("RARE").await;
    assert_eq!((level.allocated, level.reserved, level.sellable()), (50, 0, 0));
    drop(Arc::clone(&shop.node));
}

#[tokio::test(flavor = "multi_thread")]
async fn cart_change_during_checkout_is_ordered_or_refused() {
    let shop = Shop::open().await;
    shop.sell("LAMP", 1_250, 1_000).await;
    shop.sell("MUG", 300, 1_000).await;
    let mut carts = Vec::new();
    for _ in 0..100 {
        carts.push(shop.cart(&[("LAMP", 1)]).await);
    }
    let buyers = carts.iter().map(|cart| async {
        let mug = NewLine {
            sku: "MUG".parse().unwrap(),
            quantity: 1,
            agreed_price: None,
            agreed_until: None,
        };
        let add = cart::Command::AddLines { lines: vec![mug], lines_max: cart::LINES_MAX };
        let entity = cart::entity_id(*cart);
        let added = shop.node.carts.ask(&entity, add, Cause::default(), |_| ());
        let (added, placed) = tokio::join!(added, shop.checkout(*cart, "tok_ok"));
        let lines = placed.unwrap().order.placed().unwrap().lines.len();
        let accepted = match added {
            Ok(()) => true,
            Err(host::Error::Rejected(cart::Rejection::Spent { .. })) => false,
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(lines, if accepted { 2 } else { 1 });
    });
    join_all(buyers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn placed_order_is_answered_with_unknown_outcome() {
    let shop = Shop::open().await;
    shop.sell("LAMP", 1_250, 5).await;
    let cart = shop.cart(&[("LAMP", 1)]).await;
    let buying = {
        let node = Arc::clone(&shop.node);
        tokio::spawn(async move { crate::shop::checkout(&node, cart, "tok_slow").await })
    };
    shop.until(cart, |order| order.placed().is_some()).await;
    shop.node.orders.abandon(0);
    let placed = buying.await.unwrap().unwrap();
    assert!(!placed.has_outcome);
    assert!(placed.order.placed().is_some());
}
