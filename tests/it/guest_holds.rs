//! Which orders of a guest are counted: those that are being paid, whichever request or event has begun
//! that, and no longer once they are confirmed, declined or cancelled, whatever has ended them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::buyer_tokens;
use crate::cache::server::Redis;
use crate::guests::{Buyer, Hook, behind_proxy, bound};
use crate::servers::database;
use crate::site::Site;
use crate::two_servers::over_with;

/// A cart of ten units whose payment was declined.
async fn declined(buyer: &Buyer<'_>) -> String {
    let cart = buyer.cart(&[("LAMP", 10)]).await;
    let answer = buyer.check_out(&cart, "tok_declined", None).await;
    assert_eq!((answer.status, answer.code()), (402, "payment_declined"));
    cart
}

/// Cancels the order of a cart, and waits until it holds nothing.
async fn cancel(site: &Site, buyer: &Buyer<'_>, cart: &str) {
    let path = format!("/v1/store/orders/{}/cancel", cart.replace("cart_", "ord_"));
    let request = site.request(Method::POST, &path).bearer_auth(buyer_tokens::token(cart));
    let request = request.header("X-Forwarded-For", &buyer.address).header("Prefer", "wait=0");
    let status = site.send(request).await.status;
    assert!([200, 202].contains(&status), "{status}");
    site.until(cart, |order| order["status"] == "cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pays_a_declined_order_again_is_counted_again() {
    let site = behind_proxy(|config| config.http.guest_holds.address = 25).await;
    site.sell("LAMP", 1_000, 1_000).await;
    let buyer = Buyer::at(&site, "203.0.113.7");
    let mut carts = Vec::new();
    for _ in 0..4 {
        carts.push(declined(&buyer).await);
    }
    let held = async || site.level("LAMP").await["reserved"].as_i64().unwrap();
    site.until_some(async || (held().await == 0).then_some(())).await;
    let [first, second, third, fourth] = &carts[..] else { unreachable!() };
    for cart in [first, second] {
        buyer.pay_again(cart, ("again", 0), "tok_timeout_lost", None).await.expect(202);
    }
    let refused = buyer.pay_again(third, ("again", 0), "tok_ok", None).await;
    assert_eq!(bound(&refused), ("address", 25, 10));
    let detail = "the cart has 10 units, and the unpaid orders from one IP address may have at most \
                  25, without an API key; nothing was paid: pay or cancel the others first, order \
                  fewer units, or try again later";
    assert_eq!(refused.body["detail"], detail);
    assert!(!refused.header("retry-after").is_empty());
    // A checkout of the same cart under another key is another payment, too.
    let path = format!("/v1/store/carts/{fourth}/checkout");
    let request = site.request(Method::POST, &path);
    let again = buyer.send_payment(request, ("another", 0), "tok_ok", None).await;
    assert_eq!(bound(&again), ("address", 25, 10));
    assert_eq!(held().await, 20);
    // Who repeats what was done is answered as before.
    buyer.pay_again(first, ("again", 0), "tok_timeout_lost", None).await.expect(202);

    // An honest buyer pays with another card, in as many attempts as it takes.
    let honest = Buyer::at(&site, "198.51.100.7");
    let cart = declined(&honest).await;
    for attempt in ["2", "3", "4"] {
        let answer = honest.pay_again(&cart, (attempt, 30), "tok_declined", None).await;
        assert_eq!(answer.code(), "payment_declined");
    }
    honest.pay_again(&cart, ("5", 30), "tok_ok", None).await.expect(201);
    for _ in 0..3 {
        honest.buy(20, "tok_ok").await.expect(201);
    }
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_payment_meets_the_challenge_hook_before_anything_is_held() {
    let hook = Hook::start(|question| match question["response"].as_str() {
        Some("solved") => json!({"decision": "allow"}),
        _ => json!({"decision": "challenge", "challenge": {"type": "captcha"}}),
    })
    .await;
    let site = behind_proxy(|config| {
        config.challenge.url = hook.url.clone();
        config.challenge.sku_checkouts = 2;
    })
    .await;
    site.sell("LAMP", 1_000, 100).await;
    let buyer = Buyer::at(&site, "203.0.113.7");
    let carts = [declined(&buyer).await, declined(&buyer).await];
    assert_eq!(hook.asked(), Vec::<Value>::new(), "that was no flood");
    let refused = buyer.pay_again(&carts[0], ("again", 30), "tok_ok", None).await;
    assert_eq!((refused.status, refused.code()), (403, "challenge_required"));
    assert_eq!(hook.asked()[0]["lines"], json!([{"sku": "LAMP", "quantity": 10}]));
    assert_eq!(site.level("LAMP").await["allocated"], 0);
    let paid = buyer.pay_again(&carts[0], ("again", 30), "tok_ok", Some("solved")).await;
    assert_eq!(paid.expect(201)["status"], "confirmed");
    // Who only repeats a payment is not asked again.
    let known = hook.asked().len();
    buyer.pay_again(&carts[0], ("again", 30), "tok_ok", None).await.expect(201);
    assert_eq!(hook.asked().len(), known);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_paid_or_cancelled_later_is_not_counted() {
    let site = behind_proxy(|config| {
        config.http.guest_holds.address = 20;
        config.sandbox.timeout_ms = 100;
    })
    .await;
    site.sell("LAMP", 1_000, 1_000).await;
    let buyer = Buyer::at(&site, "203.0.113.7");
    // Their payments are reported by webhooks, and nobody waits for them.
    let office = async |nth: usize| {
        let buyer = Buyer::at(&site, "203.0.113.7").with_email(&format!("{nth}@example.com"));
        let cart = buyer.cart(&[("LAMP", 10)]).await;
        let token = if nth.is_multiple_of(2) { "tok_webhook_only" } else { "tok_action" };
        let answer = buyer.check_out_waiting(0, &cart, token, None).await;
        (answer, cart)
    };
    for nth in 0..2 {
        let (answer, cart) = office(nth).await;
        answer.expect(202);
        site.until(&cart, |order| order["status"] == "confirmed").await;
    }
    office(2).await.0.expect(202);
    // One that is cancelled is not counted, either; one that is being paid is.
    let cart = buyer.cart(&[("LAMP", 10)]).await;
    buyer.check_out_waiting(0, &cart, "tok_timeout_lost", None).await.expect(202);
    let last = Buyer::at(&site, "203.0.113.7").with_email("last@example.com");
    let open = last.cart(&[("LAMP", 20)]).await;
    assert_eq!(bound(&last.check_out(&open, "tok_ok", None).await), ("address", 20, 20));
    cancel(&site, &buyer, &cart).await;
    let bought = async || {
        let answer = last.check_out(&open, "tok_ok", None).await;
        (answer.code() != "too_many_held").then_some(answer)
    };
    site.until_some(bought).await.expect(201);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_order_is_counted_while_its_units_are_not_free() {
    let mut site = behind_proxy(|config| config.http.guest_holds.address = 10).await;
    site.sell("LAMP", 1_000, 1_000).await;
    site.stop_psp().await;
    let (cart, path) = {
        let buyer = Buyer::at(&site, "203.0.113.7");
        let cart = buyer.cart(&[("LAMP", 10)]).await;
        buyer.check_out_waiting(0, &cart, "tok_ok", None).await.expect(202);
        site.until(&cart, |order| !order["payments"][0].is_null()).await;
        let path = format!("/v1/store/orders/{}/cancel", cart.replace("cart_", "ord_"));
        (cart, path)
    };
    let request = site.request(Method::POST, &path).bearer_auth(buyer_tokens::token(&cart));
    site.send(request.header("Prefer", "wait=0")).await.expect(202);
    let buyer = Buyer::at(&site, "203.0.113.7");
    assert_eq!(bound(&buyer.hold(10).await), ("address", 10, 10));
    assert_eq!(site.level("LAMP").await["reserved"], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_bounded_however_the_proxy_writes_the_address() {
    let site = behind_proxy(|config| {
        let holds = &mut config.http.guest_holds;
        (holds.email, holds.address, holds.network) = (0, 10, 0);
    })
    .await;
    site.sell("LAMP", 1_000, 1_000).await;
    let hold = async |address: &str, units: i64| {
        Buyer::at(&site, address).with_email("ada@example.com").hold(units).await
    };
    for (first, same) in [
        ("203.0.113.7:4711", "203.0.113.7"),
        ("[2001:db8::1]:4711", "[2001:db8::2]"),
        ("unknown", "203.0.113.8:99999"),
    ] {
        hold(first, 10).await.expect(202);
        assert_eq!(bound(&hold(same, 1).await), ("address", 10, 1), "{first}, then {same}");
    }
    let limits = async |address: &str| {
        let asked = site.request(Method::GET, "/v1/store/delivery-options");
        let answer = site.send(asked.header("X-Forwarded-For", address)).await;
        answer.header("ratelimit-policy").to_owned()
    };
    for address in ["203.0.113.7:1", "unknown", ""] {
        assert_eq!(limits(address).await, "\"cart\";q=600;w=60", "{address}");
    }
    assert_eq!(limits("10.1.2.3").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_another_node_has_counted_come_back_when_their_order_has_ended() {
    let (store, redis) = (database(), Redis::start());
    let server = async || {
        over_with(&store, &redis, |config| {
            config.http.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
            config.http.guest_holds.address = 10;
            config.http.rates.guest_checkout = 0;
            config.sandbox.timeout_ms = 100;
        })
        .await
    };
    let (one, two) = (server().await, server().await);
    one.sell("LAMP", 1_000, 1_000).await;
    let first = Buyer::at(&one, "203.0.113.7");
    let cart = first.cart(&[("LAMP", 6)]).await;
    first.check_out_waiting(0, &cart, "tok_timeout_lost", None).await.expect(202);
    // The other node learns of them in the background.
    let second = Buyer::at(&two, "203.0.113.7").with_email("second@example.com");
    second.hold(1).await.expect(202);
    let whole = second.cart(&[("LAMP", 10)]).await;
    let learned = async || {
        let refused = second.check_out(&whole, "tok_ok", None).await;
        assert_eq!(bound(&refused), ("address", 10, 10));
        (refused.header("retry-after").parse::<u64>().unwrap() > 600).then_some(())
    };
    two.until_some(learned).await;
    let open = second.cart(&[("LAMP", 5)]).await;
    assert_eq!(bound(&second.check_out(&open, "tok_ok", None).await), ("address", 10, 5));

    cancel(&one, &first, &cart).await;
    let bought = async || {
        let answer = second.check_out(&open, "tok_ok", None).await;
        (answer.code() != "too_many_held").then_some(answer)
    };
    two.until_some(bought).await.expect(201);
}
