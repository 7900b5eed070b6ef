//! What is captured, and what is never charged, under the policies `at_dispatch` and `by_hand`.

use kontor::domain::order::CapturePolicy;
use reqwest::Method;
use serde_json::{Value, json};

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn at_dispatch_each_shipment_captures_its_share_beside_what_was_captured_by_hand() {
    let site = Site::with(|config| config.shop.capture = CapturePolicy::AtDispatch).await;
    site.sell("LAMP", 1_000, 9).await;
    site.sell("MUG", 500, 9).await;
    let order = async |key: &str| {
        let cart = site.cart(&[("LAMP", 1), ("MUG", 1)]).await;
        let order = site.checkout(&cart, key, "tok_ok", 30).await.expect(201);
        (cart, format!("/orders/{}", order["id"].as_str().unwrap()))
    };
    let post = async |path: &str, body: Value| site.admin(Method::POST, path, Some(body)).await;

    let (cart, path) = order("by-hand").await;
    let some = json!({"amount": {"amount": 1000, "currency": "GBP"}});
    post(&format!("{path}/captures"), some).await.expect(200);
    site.until(&cart, |order| order["captured"]["amount"] == 1_000).await;
    post(&format!("{path}/fulfillments"), json!({})).await.expect(200);
    site.until(&cart, |order| order["captured"]["amount"] == 1_500).await;
    site.until(&cart, |order| order["status"] == "completed").await;

    let (cart, path) = order("in-parts").await;
    let lamp = json!({"lines": [{"line": "1", "quantity": 1}]});
    post(&format!("{path}/fulfillments"), lamp).await.expect(200);
    let order = site.until(&cart, |order| order["captured"]["amount"] != 0).await;
    assert_eq!(order["captured"]["amount"], 1_000);
    let mug = json!({"lines": [{"line": "2", "quantity": 1,
        "amount": {"amount": 0, "currency": "GBP"}}], "reason": "none left"});
    let order = post(&format!("{path}/refunds"), mug).await.expect(200);
    assert_eq!(order["due"]["amount"], 1_000);
    let order = site.until(&cart, |order| order["payment_status"] == "captured").await;
    assert_eq!(
        (&order["status"], &order["captured"]["amount"]),
        (&json!("completed"), &json!(1_000))
    );
    let order = site
        .until_some(async || {
            let order = site.admin(Method::GET, &path, None).await.expect(200);
            (order["payments"][0]["status"] == "voided").then_some(order)
        })
        .await;
    assert_eq!(order["payments"][0]["authorized"], gbp(1_500), "what was authorized stays");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_refunded_before_a_capture_by_hand_are_never_charged() {
    let site = Site::with(|config| config.shop.capture = CapturePolicy::ByHand).await;
    site.sell("LAMP", 1_000, 9).await;
    site.sell("MUG", 500, 9).await;
    let cart = site.cart(&[("LAMP", 1), ("MUG", 1)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let path = format!("/orders/{}", order["id"].as_str().unwrap());
    let post = async |what: &str, body: Value| {
        site.admin(Method::POST, &format!("{path}/{what}"), Some(body)).await.expect(200)
    };
    let units = |line: &str| json!({"lines": [{"line": line, "quantity": 1}], "reason": "none"});

    let order = post("refunds", units("2")).await;
    assert_eq!(order["refunds"][0]["amount"]["amount"], 0);
    assert_eq!((&order["due"], &order["left_to_capture"]), (&gbp(1_000), &gbp(1_000)));
    post("captures", json!({"amount": {"amount": 600, "currency": "GBP"}})).await;
    site.until(&cart, |order| order["captured"]["amount"] == 600).await;
    // 400 are still to be captured, so 600 of the lamp's price are refunded.
    let order = post("refunds", units("1")).await;
    assert_eq!(order["refunds"][1]["amount"], gbp(600));
    assert_eq!((&order["due"], &order["left_to_capture"]), (&gbp(0), &gbp(0)));
    site.until(&cart, |order| order["refunded"]["amount"] == 600).await;
    site.until_some(async || {
        let payments = site.payments().await;
        payments.to_string().contains("\"voided\":true").then_some(())
    })
    .await;
    site.verify().await;
}

fn gbp(amount: i64) -> Value {
    json!({"amount": amount, "currency": "GBP"})
}

/// Captures or refunds in the provider's dashboard, which knows nothing of kontor's references.
async fn in_the_dashboard(site: &Site, what: &str, amount: i64) {
    let payment = site.payments().await["data"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/payments/{payment}/{what}");
    let body = json!({"reference": format!("dashboard-{what}-{amount}"), "amount": amount});
    site.provider(Method::POST, &path, Some(body), &format!("{what}-{amount}")).await;
}

/// Voids what is left of the authorization in the provider's dashboard.
async fn void_in_the_dashboard(site: &Site) {
    let payment = site.payments().await["data"][0]["id"].as_str().unwrap().to_owned();
    let void = json!({"reference": "dashboard-void"});
    site.provider(Method::POST, &format!("/payments/{payment}/void"), Some(void), "void").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_refunded_in_the_providers_dashboard_is_a_refund_of_the_order() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let path = format!("/orders/{}", order["id"].as_str().unwrap());
    site.until(&cart, |order| order["captured"]["amount"] == 1_000).await;

    in_the_dashboard(&site, "refunds", 300).await;
    let order = site.until(&cart, |order| order["refunded"]["amount"] == 300).await;
    assert_eq!((&order["status"], &order["due"]), (&json!("confirmed"), &gbp(700)));
    let refund = &order["refunds"][0];
    assert_eq!(
        (&refund["status"], &refund["reason"]),
        (&json!("done"), &json!("refunded at the payment provider"))
    );

    // Only the rest is refunded when the order is cancelled.
    site.admin(Method::POST, &format!("{path}/cancel"), Some(json!({"reason": "none left"})))
        .await
        .expect(200);
    site.until(&cart, |order| {
        order["status"] == "cancelled" && order["refunded"]["amount"] == 1_000
    })
    .await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_captured_in_the_providers_dashboard_is_a_capture_of_the_order() {
    let site = Site::with(|config| config.shop.capture = CapturePolicy::ByHand).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let path = format!("/orders/{}", order["id"].as_str().unwrap());

    in_the_dashboard(&site, "captures", 400).await;
    let order = site.until(&cart, |order| order["captured"]["amount"] == 400).await;
    assert_eq!((&order["status"], &order["left_to_capture"]), (&json!("confirmed"), &gbp(600)));
    site.admin(Method::POST, &format!("{path}/captures"), Some(json!({}))).await.expect(200);
    site.until(&cart, |order| order["captured"]["amount"] == 1_000).await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_cancelled_orders_money_can_be_refunded() {
    let site = Site::with(|config| config.payments.stuck_after = 2).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let path = format!("/orders/{}", order["id"].as_str().unwrap());
    let post = async |what: &str, body: Value| {
        site.admin(Method::POST, &format!("{path}/{what}"), Some(body)).await
    };
    site.until(&cart, |order| order["captured"]["amount"] == 1_000).await;
    site.faults(json!({"error_500": 1.0})).await;
    post("cancel", json!({"reason": "none left"})).await.expect(200);
    site.until(&cart, |order| order["status"] == "stuck").await;
    post("skip", json!({"reason": "the provider is down"})).await.expect(200);
    site.until(&cart, |order| order["status"] == "cancelled").await;
    site.faults(json!({})).await;

    let line = json!({"lines": [{"line": "1", "quantity": 1}], "reason": "late"});
    let refused = post("refunds", line).await.expect(409);
    let why = "a cancelled order has no goods: refund an amount only";
    assert!(refused["detail"].as_str().unwrap().contains(why), "{refused:#}");
    let amount = |amount: i64| json!({"amount": gbp(amount), "reason": "late"});
    post("refunds", amount(1_001)).await.expect(422);
    post("refunds", amount(1_000)).await.expect(200);
    site.until(&cart, |order| order["refunded"]["amount"] == 1_000).await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_in_the_providers_dashboard_whose_webhook_is_lost_is_found_by_the_sweep() {
    for captured in [0, 400] {
        let site = Site::with(|config| {
            config.shop.capture = CapturePolicy::ByHand;
            config.payments.sweep_secs = 0;
        })
        .await;
        site.sell("LAMP", 1_000, 9).await;
        let cart = site.cart(&[("LAMP", 1)]).await;
        site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
        site.faults(json!({"webhook_drop": 1.0})).await;
        if captured > 0 {
            in_the_dashboard(&site, "captures", captured).await;
        }
        void_in_the_dashboard(&site).await;
        let node = &site.app.as_ref().unwrap().node;
        assert_eq!(node.flows.reconciliation.sweep_all().await.unwrap(), ["sandbox"]);
        let order = site.until(&cart, |order| order["left_to_capture"] == gbp(0)).await;
        // Once an operator has captured, the rest need not be captured.
        assert_eq!(order["alert"] == "voided_elsewhere", captured == 0, "{order:#}");
        assert_eq!(order["captured"], gbp(captured));
        site.verify().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_to_capture_of_an_authorization_that_was_voided_elsewhere() {
    let site = Site::with(|config| config.shop.capture = CapturePolicy::ByHand).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let path = format!("/orders/{}", order["id"].as_str().unwrap());
    let post = async |what: &str, body: Value| {
        site.admin(Method::POST, &format!("{path}/{what}"), Some(body)).await
    };
    assert_eq!(
        site.admin(Method::GET, &path, None).await.expect(200)["left_to_capture"],
        gbp(1_000)
    );
    void_in_the_dashboard(&site).await;
    site.until(&cart, |order| order["status"] == "stuck").await;
    let refused = post("fulfillments", json!({})).await.expect(409);
    let why = "an order with an alert cannot be fulfilled: clear the alert first";
    assert!(refused["detail"].as_str().unwrap().contains(why), "{refused:#}");
    let order = post("retry", json!({"reason": "paid in cash"})).await.expect(200);
    assert_eq!((&order["left_to_capture"], &order["due"]), (&gbp(0), &gbp(1_000)));
    post("captures", json!({})).await.expect(422);
    // What is refunded now was never captured: less is to be paid.
    let line = json!({"lines": [{"line": "1", "quantity": 1}], "reason": "broken"});
    let order = post("refunds", line).await.expect(200);
    assert_eq!((&order["refunds"][0]["amount"], &order["due"]), (&gbp(0), &gbp(0)));
    site.verify().await;
}
