//! What a buyer is shown of an order, beside what an operator sees of the same order.

use kontor::domain::order::CapturePolicy;
use reqwest::Method;
use serde_json::{Value, json};

use crate::buyer_tokens;
use crate::site::Site;

/// An order as its buyer reads it with the cart's token.
async fn buyers(site: &Site, told: &Value) -> Value {
    let id = told["id"].as_str().or(told["order"].as_str()).unwrap();
    let request = site.request(Method::GET, &format!("/v1/store/orders/{id}"));
    site.send(request.bearer_auth(buyer_tokens::token(id))).await.expect(200)
}

fn statuses(order: &Value) -> (&str, &str, i64) {
    let text = |name: &str| order[name].as_str().unwrap();
    (text("status"), text("payment_status"), order["captured"]["amount"].as_i64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn money_is_authorized_until_it_is_captured() {
    let site = Site::with(|config| config.shop.capture = CapturePolicy::ByHand).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let told = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    assert_eq!(statuses(&told), ("confirmed", "authorized", 0));
    let path = format!("/orders/{}", told["id"].as_str().unwrap());
    let capture = json!({"amount": {"amount": 400, "currency": "GBP"}});
    site.admin(Method::POST, &format!("{path}/captures"), Some(capture)).await.expect(200);
    let order = site.until(&cart, |order| order["captured"]["amount"] == 400).await;
    assert_eq!(statuses(&order), ("confirmed", "partially_captured", 400));
    assert_eq!(statuses(&buyers(&site, &told).await), ("confirmed", "partially_paid", 400));
    site.admin(Method::POST, &format!("{path}/captures"), Some(json!({}))).await.expect(200);
    site.until(&cart, |order| order["payment_status"] == "captured").await;
    assert_eq!(statuses(&buyers(&site, &told).await), ("confirmed", "paid", 1_000));
    let refund = json!({"amount": {"amount": 100, "currency": "GBP"}, "reason": "a rude buyer"});
    site.admin(Method::POST, &format!("{path}/refunds"), Some(refund)).await.expect(200);
    let order = site.until(&cart, |order| order["payment_status"] == "partially_refunded").await;
    assert_eq!(order["refunds"][0]["reason"], "a rude buyer");
    let seen = buyers(&site, &told).await;
    assert_eq!(statuses(&seen), ("confirmed", "partially_refunded", 1_000));
    assert_eq!((&seen["refunds"][0]["id"], seen["refunds"][0].get("reason")), (&json!("1"), None));
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_an_operator_sees_that_an_order_is_stuck() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let told = site.checkout(&cart, "key-1", "tok_mismatch", 30).await.expect(202);
    assert_eq!(
        (&told["status"], &told["payment_status"]),
        (&json!("pending"), &json!("authorized"))
    );
    let order = site.order(&cart).await;
    assert_eq!(order["status"], "stuck");
    assert_eq!((order.get("links"), order.get("decline_code")), (None, None));
    let path = format!("/orders/{}/cancel", told["id"].as_str().unwrap());
    let why = json!({"reason": "looks like fraud"});
    site.admin(Method::POST, &path, Some(why)).await.expect(200);
    let order = site.until(&cart, |order| order["payment_status"] == "voided").await;
    assert_eq!(order["cancel_reason"], "looks like fraud");
    let seen = buyers(&site, &told).await;
    assert_eq!(statuses(&seen), ("cancelled", "cancelled", 0));
    assert_eq!(seen["cancel_reason"], "cancelled_by_shop");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_who_did_not_wait_reads_the_decline_in_the_order() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let told = site.checkout(&cart, "key-1", "tok_declined", 0).await;
    site.until(&cart, |order| order["status"] == "awaiting_payment").await;
    let seen = buyers(&site, &told.body).await;
    assert_eq!(statuses(&seen), ("awaiting_payment", "declined", 0));
    assert_eq!(seen["decline_code"], "card_declined");
    let id = seen["id"].as_str().unwrap();
    assert_eq!(seen["links"]["pay"], format!("/v1/store/orders/{id}/payments"));
    site.verify().await;
}
