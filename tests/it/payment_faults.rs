//! What can go wrong around a payment and what is right then, a test a row, over HTTP against the
//! sandbox provider; at the end of each the journal's money is compared with the provider's ledger.
//!
//! | what happens | what is right | test |
//! | --- | --- | --- |
//! | the buyer asks twice | the recorded order | `a_retry_gets_the_recorded_order` |
//! | a crash at any point | it ends as if there had been none | `crashes`, and `pending_sagas_resume_after_a_restart` |
//! | the outcome of a commit is unknown | forgotten, read again, answered as retryable | `host` |
//! | the provider times out, having acted | unknown, asked, found | `timed_out_authorization_is_looked_up` |
//! | the provider times out, not having acted | unknown, asked, reversed | `an_attempt_that_never_arrived_is_reversed_and_the_buyer_tries_again` |
//! | the provider fails at first | the same key again | `a_provider_that_fails_at_first_is_asked_again_under_the_same_key` |
//! | a capture or refund is not answered | made once | `unanswered_capture_is_executed_once`, `unanswered_refund_is_executed_once` |
//! | a decline | final; a new attempt has a new key | `a_decline_is_final_and_a_new_attempt_has_a_new_key` |
//! | a webhook before the response | the same answer, once | `a_webhook_before_the_response_counts_once` |
//! | a webhook twice | counts once | `a_webhook_twice_counts_once` |
//! | a webhook late, and nothing else tells | it pays the order | `a_late_webhook_pays_the_order` |
//! | the buyer must act first | it waits, and the webhook pays the order | `order_waits_for_the_buyer_action` |
//! | webhooks out of order | nothing goes back | `webhooks_out_of_order_change_nothing` |
//! | no webhook at all | the response does | `lost_webhooks_do_not_matter` |
//! | a webhook for nothing we know | kept, shown, tried again | `unmatched_webhook_is_parked` |
//! | a forged webhook | refused | `a_forged_webhook_is_refused` |
//! | paid after the hold lapsed | reserved again, else the money goes back | `late_payment_with_stock_confirms_the_order`, `late_payment_without_stock_is_refunded` |
//! | another amount | an alert, and nothing is sent | `other_authorized_amount_raises_an_alert_and_ships_nothing` |
//! | another currency | never counted: it is reversed, and the buyer pays again | `an_authorization_in_another_currency_is_reversed` |
//! | the provider is down | orders wait, all else goes on | `unreachable_provider_stops_only_payments` |
//! | nobody pays | given up at the deadline | `unpaid_order_is_cancelled_at_its_deadline` |

use kontor::domain::order::CapturePolicy;
use kontor::verify::Invariant;
use reqwest::Method;
use serde_json::{Value, json};

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_recorded_order() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let first = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let again = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    assert_eq!((&first["id"], &first["number"]), (&again["id"], &again["number"]));
    let order = site.until(&cart, |order| order["payment_status"] == "captured").await;
    assert_eq!(order["captured"]["amount"], 1_000);
    let spent = site.checkout(&cart, "key-2", "tok_ok", 30).await;
    assert_eq!((spent.status, spent.code()), (409, "cart_spent"));
    assert_eq!(spent.body["order"], first["id"]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timed_out_authorization_is_looked_up() {
    let site = Site::with(|config| config.sandbox.timeout_ms = 150).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    site.faults(json!({"webhook_drop": 1.0})).await;
    let order = site.checkout(&cart, "key-1", "tok_timeout", 30).await.expect(201);
    assert_eq!(order["status"], "confirmed");
    let kinds = site.kinds(&cart).await;
    assert!(kinds.iter().any(|kind| kind == "payment_unknown"), "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| *kind == "payment_requested").count(), 1);
    site.until(&cart, |order| order["payment_status"] == "captured").await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_never_arrived_is_reversed_and_the_buyer_tries_again() {
    let site = Site::with(|config| config.sandbox.timeout_ms = 150).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let lost = site.checkout(&cart, "key-1", "tok_timeout_lost", 30).await;
    assert_eq!((lost.status, lost.code()), (402, "payment_declined"), "{:#}", lost.body);
    let order = site.order(&cart).await;
    assert_eq!(order["status"], "awaiting_payment");
    let order = site.checkout(&cart, "key-2", "tok_ok", 30).await.expect(201);
    assert_eq!(order["status"], "confirmed");
    site.until(&cart, |order| order["payment_status"] == "captured").await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decline_is_final_and_a_new_attempt_has_a_new_key() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let declined = site.checkout(&cart, "key-1", "tok_declined", 30).await;
    assert_eq!((declined.status, declined.code()), (402, "payment_declined"));
    let same = site.checkout(&cart, "key-1", "tok_declined", 30).await;
    assert_eq!((same.status, same.code()), (402, "payment_declined"));
    let reused = site.checkout(&cart, "key-1", "tok_ok", 30).await;
    assert_eq!((reused.status, reused.code()), (422, "idempotency_key_reused"));
    site.checkout(&cart, "key-2", "tok_ok", 30).await.expect(201);
    let kinds = site.kinds(&cart).await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "payment_requested").count(), 2);
    site.until(&cart, |order| order["payment_status"] == "captured").await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_in_another_currency_is_reversed() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let foreign = site.checkout(&cart, "key-1", "tok_other_currency", 30).await;
    assert_eq!((foreign.status, foreign.code()), (402, "payment_declined"), "{:#}", foreign.body);
    let kinds = site.kinds(&cart).await;
    assert!(!kinds.iter().any(|kind| kind == "payment_authorized"), "{kinds:?}");
    site.checkout(&cart, "key-2", "tok_ok", 30).await.expect(201);
    site.until(&cart, |order| order["payment_status"] == "captured").await;
    let payments = site.payments().await;
    let payments = payments["data"].as_array().unwrap();
    let foreign = payments.iter().find(|one| one["currency"] == "JPY").unwrap();
    assert_eq!((&foreign["amount"], &foreign["voided"]), (&json!(1_000), &json!(true)));
    let parked = site
        .until_some(async || {
            let parked = site.admin(Method::GET, "/webhooks", None).await.expect(200);
            parked["data"].as_array().filter(|all| !all.is_empty()).cloned()
        })
        .await;
    assert_eq!(parked[0]["reason"], "the payment is in JPY, and its order in GBP", "{parked:#?}");
    site.verify().await;
}

/// Buys under these faults, and looks that each order was paid exactly once.
async fn paid_once(faults: Value, token: &str, orders: usize) {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    site.faults(faults).await;
    let mut carts = Vec::new();
    for number in 0..orders {
        let cart = site.cart(&[("LAMP", 1)]).await;
        let order = site.checkout(&cart, &format!("key-{number}"), token, 30).await.expect(201);
        assert_eq!(order["status"], "confirmed", "{order:#}");
        carts.push(cart);
    }
    for cart in &carts {
        let order = site.until(cart, |order| order["payment_status"] == "captured").await;
        assert_eq!(order["captured"]["amount"], 1_000);
        let kinds = site.kinds(cart).await;
        for once in ["payment_authorized", "confirmed", "captured"] {
            assert_eq!(kinds.iter().filter(|kind| *kind == once).count(), 1, "{kinds:?}");
        }
    }
    assert_eq!(site.level("LAMP").await["allocated"], orders);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_before_the_response_counts_once() {
    paid_once(json!({"webhook_early": true}), "tok_ok", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_twice_counts_once() {
    paid_once(json!({"webhook_duplicate": 1.0}), "tok_ok", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_webhook_pays_the_order() {
    let faults = json!({"webhook_late_ms": 200, "webhook_duplicate": 0.5});
    paid_once(faults, "tok_webhook_only", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_waits_for_the_buyer_action() {
    paid_once(json!({"webhook_late_ms": 200}), "tok_action", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_out_of_order_change_nothing() {
    let faults = json!({
        "webhook_early": true, "webhook_duplicate": 1.0, "webhook_shuffle": true,
    });
    paid_once(faults, "tok_ok", 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_webhooks_do_not_matter() {
    paid_once(json!({"webhook_drop": 1.0}), "tok_ok", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_at_first_is_asked_again_under_the_same_key() {
    let site = Site::with(|config| config.payments.ask_after = 5).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    site.checkout(&cart, "key-1", "tok_500", 30).await.expect(201);
    site.until(&cart, |order| order["payment_status"] == "captured").await;
    let kinds = site.kinds(&cart).await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "payment_requested").count(), 1, "{kinds:?}");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unanswered_capture_is_executed_once() {
    let change = |config: &mut kontor::config::Config| {
        config.sandbox.timeout_ms = 150;
        config.shop.capture = CapturePolicy::ByHand;
    };
    let site = Site::with(change).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    not_answered(&site, &order, "captures", json!({})).await;
    let order = site.until(&cart, |order| order["payment_status"] == "captured").await;
    assert_eq!(
        (&order["captured"]["amount"], &order["status"]),
        (&json!(1_000), &json!("confirmed"))
    );
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unanswered_refund_is_executed_once() {
    let site = Site::with(|config| config.sandbox.timeout_ms = 150).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    site.until(&cart, |order| order["payment_status"] == "captured").await;
    let amount = json!({"amount": 400, "currency": "GBP"});
    not_answered(&site, &order, "refunds", json!({"amount": amount, "reason": "late"})).await;
    let refunded = |order: &Value| order["payment_status"] == "partially_refunded";
    let order = site.until(&cart, refunded).await;
    assert_eq!(order["refunded"]["amount"], 400);
    site.verify().await;
}

/// Does something to an order whose provider executes and does not answer, until it has done so.
async fn not_answered(site: &Site, order: &Value, what: &str, body: Value) {
    site.faults(json!({"timeout": 1.0, "webhook_drop": 1.0})).await;
    let path = format!("/orders/{}/{what}", order["id"].as_str().unwrap());
    site.admin(Method::POST, &path, Some(body)).await.expect(200);
    site.until_some(async || {
        let payment = site.payments().await["data"][0].clone();
        (payment["captured"] != 0 && (what == "captures" || payment["refunded"] != 0)).then_some(())
    })
    .await;
    site.faults(json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unmatched_webhook_is_parked() {
    let site = Site::open().await;
    let references = ["ord_01h455vb4pex5vsknk084sn02q-p1", "somebody-elses"];
    for reference in references {
        let payment = json!({
            "reference": reference, "amount": 700, "currency": "GBP", "token": "tok_ok",
        });
        site.provider(Method::POST, "/payments", Some(payment), reference).await;
    }
    let listed = site
        .until_some(async || {
            let listed = site.admin(Method::GET, "/webhooks", None).await.expect(200);
            (listed["data"].as_array().unwrap().len() == 2).then_some(listed)
        })
        .await;
    for parked in listed["data"].as_array().unwrap() {
        let reason = parked["reason"].as_str().unwrap();
        assert!(references.iter().any(|one| reason.contains(one)), "{parked:#}");
        assert!(!parked["next_try_at"].is_null(), "it is tried again: {parked:#}");
    }
    let orders = site.admin(Method::GET, "/orders", None).await.expect(200);
    assert_eq!(orders["data"], json!([]));
    // The money is there, and the proof says that nobody asked for it.
    let violations = site.violations().await;
    assert_eq!(violations.len(), 2, "{violations:?}");
    assert!(violations.iter().all(|one| one.invariant == Invariant::I3), "{violations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_webhook_is_refused() {
    let site = Site::open().await;
    for (signature, status) in [(None, 401), (Some("t=1,v1=00"), 401), (Some("nonsense"), 400)] {
        let mut request = site.request(Method::POST, "/v1/webhooks/sandbox").json(&json!({}));
        if let Some(signature) = signature {
            request = request.header("Sandbox-Signature", signature);
        }
        assert_eq!(site.send(request).await.status, status, "{signature:?}");
    }
    let nobody = site.send(site.request(Method::POST, "/v1/webhooks/nobody").json(&json!({})));
    assert_eq!(nobody.await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_payment_with_stock_confirms_the_order() {
    let site = Site::with(|config| config.shop.hold_secs = 1).await;
    site.sell("LAMP", 1_000, 1).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let order = site.checkout(&cart, "key-1", "tok_slow", 30).await.expect(201);
    assert_eq!(order["status"], "confirmed");
    let kinds = site.kinds(&cart).await;
    assert!(kinds.iter().any(|kind| kind == "hold_lapsed"), "{kinds:?}");
    site.until(&cart, |order| order["payment_status"] == "captured").await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_payment_without_stock_is_refunded() {
    let site = Site::with(|config| config.shop.hold_secs = 1).await;
    site.sell("LAMP", 1_000, 1).await;
    site.faults(json!({"webhook_drop": 1.0})).await;
    let slow = site.cart(&[("LAMP", 1)]).await;
    let quick = site.cart(&[("LAMP", 1)]).await;
    let slow_checkout = site.checkout(&slow, "key-1", "tok_slow", 30);
    let quick_checkout = async {
        site.until_some(async || (site.level("LAMP").await["reserved"] == 1).then_some(())).await;
        site.until_some(async || {
            let answer = site.checkout(&quick, "key-2", "tok_ok", 30).await;
            (answer.status == 201).then_some(())
        })
        .await;
    };
    let (slow_answer, ()) = tokio::join!(slow_checkout, quick_checkout);
    assert_eq!((slow_answer.status, slow_answer.code()), (409, "out_of_stock"));
    let order = site
        .until(&slow, |order| order["status"] == "cancelled" && order["payment_status"] == "voided")
        .await;
    assert_eq!(order["captured"]["amount"], 0);
    site.until(&quick, |order| order["payment_status"] == "captured").await;
    assert_eq!(site.level("LAMP").await["allocated"], 1);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_authorized_amount_raises_an_alert_and_ships_nothing() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let answer = site.checkout(&cart, "key-1", "tok_mismatch", 30).await;
    assert_eq!(answer.header("retry-after"), "60");
    let order = answer.expect(202);
    assert_eq!(order["hint"], "the shop has to solve a problem with the order first");
    assert_eq!(site.order(&cart).await["status"], "stuck");
    let id = order["id"].as_str().unwrap();
    let seen = site.admin(Method::GET, &format!("/orders/{id}"), None).await.expect(200);
    let attempt = &seen["payments"][0];
    assert_eq!(attempt["amount"]["amount"], 1_000, "{attempt}");
    assert!(attempt["authorized"]["amount"].as_i64().is_some_and(|got| got != 1_000), "{attempt}");
    let path = format!("/orders/{id}/fulfillments");
    let send = site.admin(Method::POST, &path, Some(json!({}))).await;
    assert_eq!(send.code(), "wrong_state");
    let why = json!({"reason": "the amounts differ"});
    site.admin(Method::POST, &format!("/orders/{id}/cancel"), Some(why)).await.expect(200);
    let order = site.until(&cart, |order| order["payment_status"] == "voided").await;
    assert_eq!(order["status"], "cancelled");
    site.until_some(async || (site.level("LAMP").await["sellable"] == 9).then_some(())).await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_provider_stops_only_payments() {
    let mut site = Site::with(|config| config.sandbox.breaker.wait_ms = 100).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    site.stop_psp().await;
    let answer = site.checkout(&cart, "key-1", "tok_ok", 1).await;
    assert!(!answer.header("retry-after").is_empty());
    let told = answer.expect(202);
    assert!(told["hint"].is_string(), "{told:#}");
    let order = site.order(&cart).await;
    for (shown, status, payment_status) in
        [(told, "pending", "pending"), (order, "awaiting_payment", "unknown")]
    {
        assert_eq!(
            (&shown["status"], &shown["payment_status"]),
            (&json!(status), &json!(payment_status))
        );
    }
    site.store(Method::GET, "/products", None).await.expect(200);
    site.start_psp().await;
    site.until(&cart, |order| order["payment_status"] == "captured").await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unpaid_order_is_cancelled_at_its_deadline() {
    let site = Site::with(|config| config.shop.payment_deadline_secs = 1).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    site.checkout(&cart, "key-1", "tok_declined", 30).await;
    let order = site.until(&cart, |order| order["status"] == "cancelled").await;
    assert_eq!(order["cancel_reason"], "payment_deadline");
    site.until_some(async || (site.level("LAMP").await["sellable"] == 9).then_some(())).await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_sagas_resume_after_a_restart() {
    let mut site = Site::with(|config| config.sandbox.breaker.wait_ms = 100).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    site.stop_psp().await;
    site.checkout(&cart, "key-1", "tok_ok", 0).await.expect(202);
    site.restart().await;
    site.start_psp().await;
    site.until(&cart, |order| order["payment_status"] == "captured").await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_says_which_units_of_a_line_come_back() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 3)]).await;
    site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let order = site.until(&cart, |order| order["payment_status"] == "captured").await;
    let post = async |what: &str, body: Value| {
        let path = format!("/v1/admin/orders/{}/{what}", order["id"].as_str().unwrap());
        let request = site.request(Method::POST, &path).bearer_auth(&site.key);
        site.send(request.header("Prefer", "wait=30").json(&body)).await
    };
    let lines = json!([{"line": "1", "quantity": 1}]);
    post("fulfillments", json!({"lines": lines})).await.expect(200);
    let back = async |quantity: i64, from: &str| {
        let lines = json!([{"line": "1", "quantity": quantity, "from": from}]);
        post("refunds", json!({"lines": lines, "restock": true, "reason": "broken"})).await
    };
    for (quantity, from, field, limit) in [
        (2, "fulfilled", "lines[0].quantity", "at most 1"),
        (3, "unfulfilled", "lines[0].quantity", "at most 2"),
        (1, "shipped", "lines[0].from", "unfulfilled"),
    ] {
        let refused = back(quantity, from).await;
        let fault = &refused.body["errors"][0];
        assert_eq!((refused.status, &fault["field"]), (422, &json!(field)), "{from}");
        assert!(fault["message"].as_str().unwrap().contains(limit), "{fault}");
    }
    let order = back(1, "fulfilled").await.expect(200);
    let line = &order["lines"][0];
    assert_eq!((&line["open"], &line["refunded"]), (&json!(2), &json!(1)));
    let amount = json!({"amount": 1_000, "currency": "GBP"});
    let whole =
        json!({"line": "1", "quantity": 1, "amount": amount, "unfulfilled": 0, "fulfilled": 1});
    assert_eq!(order["refunds"][0]["lines"], json!([whole]));
    let level = site.level("LAMP").await;
    assert_eq!((&level["on_hand"], &level["allocated"]), (&json!(9), &json!(2)));
    assert_eq!(back(1, "fulfilled").await.status, 422);
    let order = back(2, "unfulfilled").await.expect(200);
    assert_eq!(
        (&order["lines"][0]["open"], &order["refunded"]["amount"]),
        (&json!(0), &json!(3_000))
    );
    let level = site.level("LAMP").await;
    assert_eq!((&level["on_hand"], &level["allocated"]), (&json!(9), &json!(0)));
    site.verify().await;
}
