//! Stock cannot be held by who does not pay: the units of a declined order are open to others.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use kontor::actors::engine::clock::Clock;
use kontor::app::App;
use kontor::config::Config;
use kontor::domain::time::Span;
use reqwest::Method;
use serde_json::{Value, json};

use crate::buyer_tokens;
use crate::site::{Answer, Site};

/// How long buyers who pay may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);

async fn declined(site: &Site, units: i64, key: &str) -> String {
    let cart = site.cart(&[("LAMP", units)]).await;
    let answer = site.checkout(&cart, key, "tok_declined", 30).await;
    assert_eq!(answer.code(), "payment_declined");
    cart
}

async fn pay(site: &Site, cart: &str, key: &str) -> Answer {
    let path = format!("/v1/store/orders/{}/payments", cart.replace("cart_", "ord_"));
    let body = json!({"payment": {"provider": "sandbox", "token": "tok_ok"}});
    let request = site.request(Method::POST, &path).bearer_auth(buyer_tokens::token(cart));
    let request = request.header("Idempotency-Key", key).header("Prefer", "wait=30");
    site.send(request.json(&body)).await
}

/// A call of the store surface with a key.
async fn keyed(site: &Site, method: Method, path: &str, body: Option<Value>) -> Answer {
    let url = format!("{}/v1/store{path}", site.url());
    site.send(site.web.request(method, url).bearer_auth(&site.key).json(&body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_a_declined_order_go_to_the_next_buyer_who_pays() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 5).await;
    let first = declined(&site, 5, "key-1").await;
    site.until_some(async || (site.level("LAMP").await["sellable"] == 5).then_some(())).await;
    let item = site.admin(Method::GET, "/stock/LAMP", None).await.expect(200);
    assert_eq!((&item["reserved"], &item["sellable"]), (&json!(0), &json!(5)));
    assert_eq!(
        (&item["holds"][0]["quantity"], &item["holds"][0]["yields"]),
        (&json!(5), &json!(true))
    );
    let other = site.cart(&[("LAMP", 2)]).await;
    site.checkout(&other, "key-2", "tok_ok", 30).await.expect(201);

    // The buyer who was declined comes too late.
    let late = pay(&site, &first, "key-3").await;
    assert_eq!((late.status, late.code()), (409, "out_of_stock"), "{:#}", late.body);
    assert_eq!(late.body["lines"][0]["available"], 3);
    assert_eq!(late.body["lines"][0]["may_come_free"], false);
    assert!(late.body["links"]["new_cart"].is_string());
    let history = site.admin(Method::GET, "/stock/LAMP/events?kind=yielded", None).await;
    assert_eq!(history.expect(200)["data"][0]["changes"][0]["reserved"], -5);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_a_declined_order_stay_its_own_while_nobody_needs_them() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 5).await;
    let first = declined(&site, 3, "key-1").await;
    let other = site.cart(&[("LAMP", 2)]).await;
    site.checkout(&other, "key-2", "tok_ok", 30).await.expect(201);
    let paid = pay(&site, &first, "key-3").await.expect(201);
    assert_eq!(paid["status"], "confirmed");
    assert_eq!(site.level("LAMP").await["allocated"], 5);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_who_is_too_late_is_told_that_units_may_come_free() {
    let mut site = Site::open().await;
    site.sell("LAMP", 1_000, 5).await;
    site.stop_psp().await;
    let first = site.cart(&[("LAMP", 4)]).await;
    site.checkout(&first, "key-1", "tok_ok", 0).await.expect(202);
    site.until(&first, |order| !order["payments"][0].is_null()).await;
    let short = async |units: i64, key: &str| {
        let cart = site.cart(&[("LAMP", units)]).await;
        let answer = site.checkout(&cart, key, "tok_ok", 30).await;
        assert_eq!((answer.status, answer.code()), (409, "out_of_stock"), "{:#}", answer.body);
        answer.body["lines"][0].clone()
    };
    let line = |requested: i64, free: bool| json!({"sku": "LAMP", "requested": requested, "available": 1, "may_come_free": free});
    assert_eq!(short(2, "key-2").await, line(2, true));
    assert_eq!(short(6, "key-3").await, line(6, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_that_are_declined_keep_no_unit_from_buyers_who_pay() {
    const UNITS: i64 = 60;
    let site = Site::open().await;
    site.sell("LAMP", 1_000, UNITS).await;
    let (over, refused) = (AtomicBool::new(false), AtomicI64::new(0));
    let attack = async |one: usize| {
        for number in 0.. {
            if over.load(Ordering::Relaxed) {
                return;
            }
            let cart = site.cart(&[("LAMP", 10)]).await;
            let key = format!("attack-{one}-{number}");
            let answer = site.checkout(&cart, &key, "tok_declined", 30).await;
            refused.fetch_add(i64::from(answer.code() == "payment_declined"), Ordering::Relaxed);
        }
    };
    let buy = async |number: i64| {
        let mut cart = site.cart(&[("LAMP", 1)]).await;
        for attempt in 0.. {
            let key = format!("buy-{number}-{attempt}");
            let answer = site.checkout(&cart, &key, "tok_ok", 30).await;
            match (answer.status, &answer.body["order"]) {
                (201, _) => return,
                // Nothing was ordered: the cart can be ordered again.
                (409, Value::Null) => {}
                // The units were taken after they had been seen: the buyer goes on with a new cart.
                (409, Value::String(_)) => cart = site.cart(&[("LAMP", 1)]).await,
                other => panic!("{other:?}: {:#}", answer.body),
            }
        }
    };
    let honest = async {
        // The attack is under way.
        site.until_some(async || (refused.load(Ordering::Relaxed) > 10).then_some(())).await;
        let all = tokio::time::timeout(PATIENCE, join_all((0..UNITS).map(buy))).await;
        assert!(all.is_ok(), "buyers who pay wait in vain");
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all((0..10).map(attack)), honest);
    assert_eq!(site.level("LAMP").await["allocated"], UNITS);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agreed_price_is_for_its_quantity_and_its_time() {
    let clock = Clock::by_hand(Clock::system().now());
    let now = clock.clone();
    let start = async move |config: &Config| App::start_at(config, now).await.unwrap();
    let site = Site::started(|_| {}, start).await;
    site.sell("LAMP", 1_000, 99).await;
    let agreed = json!({"amount": 700, "currency": "GBP"});
    let lines = json!({"lines": [{"sku": "LAMP", "quantity": 10, "unit_price": agreed}]});
    let cart = site.store(Method::POST, "/carts", None).await.expect(201);
    let id = cart["id"].as_str().unwrap().to_owned();
    let cart = keyed(&site, Method::POST, &format!("/carts/{id}/lines"), Some(lines)).await;
    let line = &cart.expect(200)["lines"][0];
    assert_eq!(
        (&line["unit_price"]["amount"], &line["total"]["amount"]),
        (&json!(700), &json!(7_000))
    );
    assert!(line["unit_price_until"].is_string(), "{line}");

    let path = format!("/carts/{id}/lines/1");
    for quantity in [9, 11] {
        let body = Some(json!({"quantity": quantity}));
        let refused = site.store(Method::PATCH, &path, body).await;
        assert_eq!(
            (refused.status, &refused.body["errors"][0]["field"]),
            (422, &json!("quantity"))
        );
        assert_eq!(
            refused.body["errors"][0]["message"],
            "must stay 10: the price of the line was agreed for so many units"
        );
    }
    let more = json!({"sku": "LAMP", "quantity": 1});
    let cart =
        site.store(Method::POST, &format!("/carts/{id}/lines"), Some(more)).await.expect(200);
    assert_eq!(cart["lines"][1]["unit_price"]["amount"], 1_000);
    assert_eq!(cart["lines"][1]["unit_price_until"], Value::Null);
    keyed(&site, Method::PATCH, &path, Some(json!({"quantity": 11}))).await.expect(200);

    clock.turn(Span::from_secs(30 * 24 * 3_600 - 1));
    let cart = site.store(Method::GET, &format!("/carts/{id}"), None).await.expect(200);
    assert_eq!(cart["lines"][0]["unit_price"]["amount"], 700);
    // A change keeps the cart, but not the price.
    site.store(Method::PATCH, &format!("/carts/{id}"), Some(json!({"reference": "PO 7"})))
        .await
        .expect(200);
    clock.turn(Span::from_secs(2));
    let cart = site.store(Method::GET, &format!("/carts/{id}"), None).await.expect(200);
    let line = &cart["lines"][0];
    assert_eq!(
        (&line["unit_price"]["amount"], &line["unit_price_until"]),
        (&json!(1_000), &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_without_a_key_fills_a_cart_with_fewer_lines() {
    let site = Site::with(|config| config.shop.guest_cart_lines = 2).await;
    for sku in ["A", "B", "C"] {
        site.sell(sku, 100, 9).await;
    }
    let cart = site.cart(&[("A", 1), ("B", 1)]).await;
    let path = format!("/carts/{cart}/lines");
    let line = |sku: &str| Some(json!({"sku": sku, "quantity": 1}));
    let refused = site.store(Method::POST, &path, line("C")).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["field"]), (422, &json!("sku")));
    assert_eq!(refused.body["errors"][0]["message"], "must leave the cart with at most 2 lines");
    keyed(&site, Method::POST, &path, line("C")).await.expect(200);
    site.store(Method::POST, &path, line("A")).await.expect(200);
}
