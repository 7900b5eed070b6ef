//! `verify`: a journal made by a real node holds; broken in many ways, each way is found.

pub mod shop;
mod tampering;

use kontor::domain::order::{Command, FulfillmentRequest, Order, RefundRequest};
use kontor::domain::time::Timestamp;
use kontor::store::Store;
use kontor::store::maintenance::restore;
use kontor::verify::{VerifyReport, verify};
use serde_json::Value;

use self::shop::Shop;

/// The report's invariants that are violated.
fn violated(report: &VerifyReport) -> Vec<String> {
    report.violations_total.keys().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_shop_verifies() {
    let shop = Shop::open().await;
    let placed = shop.some_of_everything().await;
    let report = shop.verify_running().await;
    assert!(report.ok, "while it runs: {report}");
    let shop = shop.stop().await;
    let store = Store::open_beside(&shop.data()).await.unwrap();
    let report = verify(&store, Some(&shop.provider), |_| {}).await.unwrap();
    assert!(report.ok, "{report}");
    let checked = &report.checked;
    assert_eq!(checked.orders, placed.orders, "{checked:?}");
    assert_eq!(checked.confirmed, placed.confirmed, "{checked:?}");
    assert_eq!(checked.cancelled, placed.cancelled, "{checked:?}");
    assert_eq!(checked.in_flight, placed.orders - placed.confirmed - placed.cancelled);
    assert_eq!(
        (checked.numbers, checked.stock_items, checked.products),
        (placed.confirmed + 1, 3, 3)
    );
    assert_eq!(checked.order_rows, checked.orders);
    assert!(checked.payments.unwrap() >= placed.confirmed);
    let json: Value = serde_json::to_value(&report).unwrap();
    assert_eq!(json["ok"], true);
    assert_eq!(json["violations"], serde_json::json!([]));
    let text = report.to_string();
    assert!(text.contains("I1 orders") && text.contains("I6 read models"), "{text}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_orders_are_no_violation() {
    let shop = Shop::open().await;
    let order = shop.buy("mug", 1, "tok_timeout_lost", false).await;
    let report = shop.verify_running().await;
    assert!(report.ok, "{report}");
    assert_eq!((report.checked.orders, report.checked.in_flight), (1, 1), "{:?}", order);
    let shop = shop.stop().await;
    let store = Store::open_beside(&shop.data()).await.unwrap();
    let report = verify(&store, Some(&shop.provider), |_| {}).await.unwrap();
    assert!(report.ok && report.checked.in_flight == 1, "{report}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_differs_is_found() {
    let shop = Shop::open().await;
    let order = shop.buy("mug", 2, "tok_ok", true).await;
    shop.until(&order, |order| order.captured() == order.total()).await;
    let payment = shop.payment_of(&order).await;
    // Behind kontor's back: 100 back to the buyer, and a payment that nobody asked for.
    shop.refund_elsewhere(&payment, 100).await;
    let report = shop.verify_running().await;
    assert_eq!(violated(&report), ["I3"], "{report}");
    assert!(report.violations[0].message.contains("the provider 500"), "{report}");
    shop.authorize_elsewhere("ord_01h455vb4pex5vsknk084sn02q-p1").await;
    let report = shop.verify_running().await;
    assert_eq!(report.violations.len(), 2, "{report}");
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_while_orders_come_restores_and_verifies() {
    let shop = std::sync::Arc::new(Shop::open().await);
    let buying = {
        let shop = shop.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                shop.buy("mug", 1, "tok_ok", true).await;
            }
        })
    };
    shop.buy("cup", 1, "tok_ok", true).await;
    let beside = Store::open_beside(&shop.data()).await.unwrap();
    let file = shop.dir.path().join("backup.db");
    assert!(beside.backup(&file).await.unwrap() > 0);
    beside.close().await;
    buying.await.unwrap();
    let restored = shop.dir.path().join("restored");
    restore(&file, &restored, &[], Timestamp::default()).await.unwrap();
    std::fs::copy(shop.data().join("master.key"), restored.join("master.key")).unwrap();
    let store = Store::open_beside(&restored).await.unwrap();
    let report = verify(&store, None, |_| {}).await.unwrap();
    assert!(report.ok, "{report}");
    assert!(report.checked.orders >= 1, "{report}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_passes_during_load() {
    let shop = std::sync::Arc::new(Shop::open().await);
    let faults = serde_json::json!({"decline": 0.1, "error_500": 0.1, "timeout": 0.02});
    shop.set_faults(faults).await;
    let buyers: Vec<_> = (0..150)
        .map(|_| {
            let shop = shop.clone();
            tokio::spawn(async move { shop.try_buy("mug", 1, "tok_ok", true).await })
        })
        .collect();
    let mut checks = 0;
    while buyers.iter().any(|buyer| !buyer.is_finished()) {
        let report = shop.verify_running().await;
        assert!(report.ok, "check {checks}: {report}");
        checks += 1;
    }
    let mut sold = 0;
    for buyer in buyers {
        let placed = buyer.await.unwrap();
        let confirmed = |order: &Order| order.number().is_some();
        sold += i64::from(placed.is_ok_and(|placed| confirmed(&placed.order)));
    }
    assert!(checks > 0 && sold > 0 && sold <= 100, "{checks} checks, {sold} sold");
    let report = shop.verify_running().await;
    assert!(report.ok, "{report}");
}

impl Shop {
    /// Orders of every kind: confirmed, refunded, fulfilled, declined, cancelled, out of stock.
    pub async fn some_of_everything(&self) -> shop::Counts {
        let mut all = Vec::new();
        for (sku, quantity) in [("mug", 1), ("mug", 3), ("cup", 2), ("tea spoon", 5)] {
            all.push(self.buy(sku, quantity, "tok_ok", true).await);
        }
        for order in &all {
            self.until(order, |order| order.captured() == order.total()).await;
        }
        let line = kontor::domain::order::RefundLineRequest {
            line: 1,
            quantity: 1,
            amount: None,
            from: None,
        };
        let refund = RefundRequest {
            lines: vec![line],
            restock: true,
            reason: "broken".into(),
            ..RefundRequest::default()
        };
        self.command(&all[1], Command::Refund(refund)).await;
        self.until(&all[1], |order| order.refunded() > 0 && order.unshipped_units() == 2).await;
        self.command(&all[2], Command::Fulfill(FulfillmentRequest::default())).await;
        self.until(&all[2], |order| order.fulfillments().iter().all(|one| one.shipped)).await;
        self.command(&all[3], Command::Cancel { reason: "changed mind".into() }).await;
        self.until_cancelled(&all[3]).await;
        let declined = self.buy("mug", 1, "tok_declined", true).await;
        self.until(&declined, |order| order.payment_status().eq(&shop::DECLINED)).await;
        self.command(&declined, Command::Cancel { reason: "given up".into() }).await;
        self.until_cancelled(&declined).await;
        let open = self.buy("mug", 1, "tok_declined", true).await;
        self.until(&open, |order| order.payment_status().eq(&shop::DECLINED)).await;
        self.until_at_rest(&all).await;
        shop::Counts { orders: 6, confirmed: 3, cancelled: 2 }
    }
}
