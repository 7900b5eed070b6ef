//! The demo's shopkeepers at a whole server: they restock, ship and refund, and the books hold.

use std::sync::Arc;
use std::time::Duration;

use kontor_client::Client;
use kontor_lab::shopkeepers::{self, Options, ShopkeeperCounters};
use reqwest::Method;
use tokio::sync::watch;

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn shopkeepers_restock_ship_and_refund_until_they_are_told_to_stop() {
    let site = Site::open().await;
    // The first SKU of the shop is one that is left to sell out.
    site.sell("A-FAN", 500, 0).await;
    site.sell("LAMP", 1_000, 12).await;
    site.sell("MUG", 1_000, 1_000).await;
    let cart = site.cart(&[("LAMP", 8)]).await;
    site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);

    let client = Client::new(&site.url(), Some(site.key.clone())).unwrap();
    let counters = Arc::new(ShopkeeperCounters::default());
    let (stop, stopped) = watch::channel(false);
    let options = Options {
        turn: Duration::from_millis(20),
        pack_after: Duration::ZERO,
        cancel_percent: 0,
        refund_percent: 100,
        ..Options::default()
    };
    let work = tokio::spawn(shopkeepers::run(client, options, Arc::clone(&counters), stopped));
    let order = site.until(&cart, |order| order["refunds"][0]["status"] == "done").await;
    assert_eq!(order["fulfillment_status"], "fulfilled");
    assert!(order["fulfillments"][0]["tracking"]["number"].is_string(), "{order:#}");
    assert_eq!(order["refunds"][0]["lines"][0]["quantity"], 1);
    site.until_some(async || {
        (site.level("LAMP").await["sellable"].as_i64() > Some(options.low)).then_some(())
    })
    .await;
    stop.send(true).unwrap();
    work.await.unwrap().unwrap();

    assert_eq!(site.level("A-FAN").await["on_hand"], 0, "it is left empty for a minute");
    assert_eq!(site.level("MUG").await["on_hand"], 1_000, "there is enough of it");
    let counts = counters.read();
    assert_eq!((counts.shipped, counts.refunded, counts.canceled), (1, 1, 0), "{counts:?}");
    assert!(counts.received > 0 && counts.errors == 0, "{counts:?}");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scarce_skus_are_restocked_and_orders_cancelled() {
    let site = Site::open().await;
    site.sell("A-FAN", 500, 2).await;
    let cart = site.cart(&[("A-FAN", 2)]).await;
    site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let client = Client::new(&site.url(), Some(site.key.clone())).unwrap();
    let counters = Arc::new(ShopkeeperCounters::default());
    let (stop, stopped) = watch::channel(false);
    let options = Options {
        turn: Duration::from_millis(20),
        pack_after: Duration::ZERO,
        empty_for: Duration::ZERO,
        cancel_percent: 100,
        ..Options::default()
    };
    let work = tokio::spawn(shopkeepers::run(client, options, Arc::clone(&counters), stopped));
    let order = site.until(&cart, |order| order["status"] == "cancelled").await;
    assert_eq!(order["cancel_reason"], "the buyer changed their mind");
    site.until_some(async || (counters.read().received > 0).then_some(())).await;
    drop(stop);
    work.await.unwrap().unwrap();
    let path = format!("/orders/{}", cart.replace("cart_", "ord_"));
    let order = site.admin(Method::GET, &path, None).await.expect(200);
    assert_eq!(order["fulfillment_status"], "unfulfilled");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn some_orders_are_left_to_the_visitor_and_shipped_late() {
    let site = Site::open().await;
    site.sell("MUG", 1_000, 1_000).await;
    let mut carts = Vec::new();
    for key in ["key-1", "key-2", "key-3"] {
        let cart = site.cart(&[("MUG", 1)]).await;
        site.checkout(&cart, key, "tok_ok", 30).await.expect(201);
        carts.push(cart);
    }
    let work = async |left_for: Duration| {
        let client = Client::new(&site.url(), Some(site.key.clone())).unwrap();
        let (stop, stopped) = watch::channel(false);
        let options = Options {
            turn: Duration::from_millis(20),
            pack_after: Duration::ZERO,
            left_each: 2,
            left_for,
            cancel_percent: 0,
            ..Options::default()
        };
        let counters = Arc::new(ShopkeeperCounters::default());
        (stop, tokio::spawn(shopkeepers::run(client, options, counters, stopped)))
    };
    let (stop, staff) = work(Duration::from_hours(1)).await;
    for cart in [&carts[0], &carts[2]] {
        site.until(cart, |order| order["status"] == "completed").await;
    }
    stop.send(true).unwrap();
    staff.await.unwrap().unwrap();
    let left = site.until(&carts[1], |order| order["number"] == 2).await;
    assert_eq!(left["fulfillment_status"], "unfulfilled");
    let (stop, staff) = work(Duration::ZERO).await;
    site.until(&carts[1], |order| order["status"] == "completed").await;
    stop.send(true).unwrap();
    staff.await.unwrap().unwrap();
    site.verify().await;
}
