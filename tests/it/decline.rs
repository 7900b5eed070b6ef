//! What a buyer does after a declined payment, over HTTP against the sandbox provider: pay again,
//! cancel, or go on with a new cart. The declined order has all units of its SKU, so whatever is
//! sold afterwards shows that they are free.

use futures_util::future::join_all;
use kontor::config::Config;
use reqwest::Method;
use serde_json::{Value, json};

use crate::buyer_tokens;
use crate::site::{Answer, Site};

/// A declined order: its answer, and the cart that it came from.
struct Declined {
    cart: String,
    answer: Value,
}

impl Declined {
    async fn order(site: &Site, units: i64) -> Self {
        site.sell("LAMP", 1_000, units).await;
        Self::again(site, units).await
    }

    async fn again(site: &Site, units: i64) -> Self {
        let cart = site.cart(&[("LAMP", units)]).await;
        let declined = site.checkout(&cart, "key-1", "tok_declined", 30).await;
        assert_eq!((declined.status, declined.code()), (402, "payment_declined"));
        Self { cart, answer: declined.body }
    }

    fn id(&self) -> &str {
        self.answer["order"].as_str().unwrap()
    }

    /// Follows a link of the answer, with the order's token.
    async fn follow(&self, site: &Site, link: &str, key: &str, body: Option<Value>) -> Answer {
        let path = self.answer["links"][link].as_str().unwrap();
        let request = site
            .request(Method::POST, path)
            .bearer_auth(buyer_tokens::token(self.id()))
            .header("Idempotency-Key", key)
            .header("Prefer", "wait=30");
        site.send(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    async fn pay(&self, site: &Site, key: &str, token: &str) -> Answer {
        let body = json!({"payment": {"provider": "sandbox", "token": token}});
        self.follow(site, "pay", key, Some(body)).await
    }

    async fn cancel(&self, site: &Site) -> Answer {
        self.follow(site, "cancel", "key-cancel", None).await
    }

    async fn new_cart(&self, site: &Site) -> Answer {
        self.follow(site, "new_cart", "key-cart", None).await
    }

    /// The order, as its buyer reads it.
    async fn read(&self, site: &Site) -> Value {
        let path = format!("/v1/store/orders/{}", self.id());
        let token = buyer_tokens::token(self.id());
        site.send(site.request(Method::GET, &path).bearer_auth(token)).await.expect(200)
    }

    fn links(&self, pay: bool, cancel: bool, new_cart: bool) -> Value {
        let to = |yes: bool, what| yes.then(|| format!("/v1/store/orders/{}/{what}", self.id()));
        json!({"pay": to(pay, "payments"), "cancel": to(cancel, "cancel"), "new_cart": to(new_cart, "cart")})
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_order_is_paid_again_with_its_token() {
    let site = Site::open().await;
    let declined = Declined::order(&site, 1).await;
    assert_eq!(declined.answer["links"], declined.links(true, true, true));
    assert!(declined.answer["payment_deadline_at"].is_string(), "{:#}", declined.answer);
    let worse = declined.pay(&site, "key-2", "tok_declined").await;
    assert_eq!((worse.status, worse.code()), (402, "payment_declined"));
    assert_eq!(worse.body["links"], declined.answer["links"]);
    let paid = declined.pay(&site, "key-3", "tok_ok").await.expect(201);
    assert_eq!(
        (&paid["status"], &paid["links"]),
        (&json!("confirmed"), &declined.links(false, false, false))
    );
    let again = declined.pay(&site, "key-3", "tok_ok").await.expect(201);
    assert_eq!((&again["id"], &again["number"]), (&paid["id"], &paid["number"]));
    let reused = declined.pay(&site, "key-3", "tok_declined").await;
    assert_eq!((reused.status, reused.code()), (422, "idempotency_key_reused"));
    for late in [
        declined.pay(&site, "key-4", "tok_ok").await,
        declined.cancel(&site).await,
        declined.new_cart(&site).await,
    ] {
        assert_eq!((late.status, late.code()), (409, "wrong_state"), "{:#}", late.body);
        assert_eq!(late.body["order"], declined.id());
        assert_eq!(late.body["links"], declined.links(false, false, false));
    }
    let order = site.until(&declined.cart, |order| order["payment_status"] == "captured").await;
    assert_eq!(order["payments"].as_array().unwrap().len(), 3);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_an_order_that_its_buyer_cancels_are_free_at_once() {
    let site = Site::open().await;
    let declined = Declined::order(&site, 1).await;
    let cancelled = declined.cancel(&site).await.expect(200);
    assert_eq!(
        (&cancelled["status"], &cancelled["cancel_reason"]),
        (&json!("cancelled"), &json!("cancelled_by_buyer"))
    );
    assert_eq!(cancelled["links"], declined.links(false, false, true));
    let told = declined.follow(&site, "cancel", "key-told", Some(json!({"reason": "late"}))).await;
    assert_eq!((told.status, &told.body["errors"][0]["field"]), (422, &json!("body")));
    let reused = declined.follow(&site, "new_cart", "key-cancel", None).await;
    assert_eq!((reused.status, reused.code()), (422, "idempotency_key_reused"));
    assert_eq!(site.level("LAMP").await["sellable"], 1);
    let again = declined.cancel(&site).await.expect(200);
    assert_eq!(again["version"], cancelled["version"]);
    let late = declined.pay(&site, "key-2", "tok_ok").await;
    assert_eq!((late.status, late.code()), (409, "order_cancelled"), "{:#}", late.body);
    assert_eq!(late.body["links"], declined.links(false, false, true));
    let other = site.cart(&[("LAMP", 1)]).await;
    site.checkout(&other, "key-other", "tok_ok", 30).await.expect(201);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_order_goes_on_as_a_new_cart_with_the_same_lines() {
    let site = Site::open().await;
    site.sell("MUG", 300, 9).await;
    site.sell("LAMP", 1_000, 2).await;
    let cart = site.cart(&[("LAMP", 2), ("MUG", 1)]).await;
    let before = site.store(Method::GET, &format!("/carts/{cart}"), None).await.expect(200);
    let answer = site.checkout(&cart, "key-1", "tok_declined", 30).await.body;
    let declined = Declined { cart, answer };
    let made = declined.new_cart(&site).await.expect(201);
    for same in ["lines", "email", "shipping_address", "delivery", "totals", "currency"] {
        assert_eq!(made[same], before[same], "{same}");
    }
    let next = made["id"].as_str().unwrap();
    assert_ne!(next, declined.cart);
    assert_eq!(site.level("LAMP").await["sellable"], 2);
    assert_eq!(site.order(&declined.cart).await["status"], "cancelled");
    let line = format!("/carts/{next}/lines/2");
    site.store(Method::DELETE, &line, None).await.expect(200);
    let again = declined.new_cart(&site).await.expect(201);
    assert_eq!((&again["id"], again["lines"].as_array().unwrap().len()), (&made["id"], 1));
    assert_eq!(declined.read(&site).await["links"], declined.links(false, false, true));
    let bought = site.checkout(next, "key-2", "tok_ok", 30).await.expect(201);
    let order = declined.read(&site).await;
    assert_eq!(order["links"], declined.links(false, false, false), "the new cart was ordered");
    let spent = declined.new_cart(&site).await;
    assert_eq!((spent.code(), &spent.body["order"]), ("cart_spent", &bought["id"]));
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_nobody_paid_in_time_goes_on_as_a_new_cart() {
    let site = Site::with(|config: &mut Config| config.shop.payment_deadline_secs = 1).await;
    let declined = Declined::order(&site, 1).await;
    site.until(&declined.cart, |order| order["status"] == "cancelled").await;
    let made = declined.new_cart(&site).await.expect(201);
    site.checkout(made["id"].as_str().unwrap(), "key-2", "tok_ok", 30).await.expect(201);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_cart_opens_its_order() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let (cart, other) = (site.cart(&[("LAMP", 1)]).await, site.cart(&[("LAMP", 1)]).await);
    let (own, foreign) = (buyer_tokens::token(&cart), buyer_tokens::token(&other));
    let order = format!("/v1/store/orders/{}", cart.replace("cart_", "ord_"));
    let read = async |token: &str| {
        site.send(site.request(Method::GET, &order).bearer_auth(token)).await.status
    };
    assert_eq!(read(&own).await, 404);
    let bought = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let of_order = bought["token"].as_str().unwrap();
    assert_ne!(of_order, own);
    let all = [&own, of_order, &foreign, &cart, ""];
    assert_eq!(join_all(all.map(read)).await, [200, 200, 401, 401, 401]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_at_once_charge_once() {
    let site = Site::open().await;
    let declined = Declined::order(&site, 1).await;
    let keys: Vec<String> = (0..8).map(|number| format!("key-at-once-{number}")).collect();
    let answers = join_all(keys.iter().map(|key| declined.pay(&site, key, "tok_ok"))).await;
    let paid = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(paid, 1);
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        let known = ["checkout_in_progress", "wrong_state"].contains(&refused.code());
        assert!(known && refused.status == 409, "{:#}", refused.body);
    }
    let order = site.until(&declined.cart, |order| order["payment_status"] == "captured").await;
    assert_eq!(order["payments"].as_array().unwrap().len(), 2);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_paid_or_replaced_and_never_both() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let mut orders = Vec::new();
    for _ in 0..12 {
        orders.push(Declined::again(&site, 1).await);
    }
    join_all(orders.iter().map(async |declined| {
        let (paid, made) =
            tokio::join!(declined.pay(&site, "key-2", "tok_ok"), declined.new_cart(&site));
        match (paid.status, made.status) {
            (201, 409) => assert_eq!(made.code(), "wrong_state", "{:#}", made.body),
            (409, 201) => assert_eq!(paid.code(), "order_cancelled", "{:#}", paid.body),
            _ => panic!("{:#} {:#}", paid.body, made.body),
        }
        let ended =
            |order: &Value| order["status"] == "cancelled" || order["payment_status"] == "captured";
        let order = site.until(&declined.cart, ended).await;
        assert_eq!(order["status"] == "cancelled", made.status == 201);
    }))
    .await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_buyer_goes_on_and_not_after_the_shop_has_cancelled() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let (one, other) = (Declined::again(&site, 1).await, Declined::again(&site, 1).await);
    for what in ["payments", "cancel", "cart"] {
        let path = format!("/v1/store/orders/{}/{what}", one.id());
        let without = site.send(site.request(Method::POST, &path)).await;
        let token = buyer_tokens::token(other.id());
        let with = site.send(site.request(Method::POST, &path).bearer_auth(token)).await;
        assert_eq!((without.status, with.status), (401, 401), "{what}");
    }
    let path = format!("/orders/{}/cancel", one.id());
    let why = "the price was wrong";
    site.admin(Method::POST, &path, Some(json!({"reason": why}))).await.expect(200);
    let refused = one.new_cart(&site).await;
    assert_eq!((refused.status, refused.code()), (409, "wrong_state"), "{:#}", refused.body);
    assert_eq!(refused.body["links"], one.links(false, false, false));
    site.verify().await;
}
