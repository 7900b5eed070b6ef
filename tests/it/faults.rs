//! All faults of a request are named at once, each with its field and in one sentence: those of
//! the body beside those that only a look-up finds.

use kontor::domain::order::CapturePolicy;
use reqwest::Method;
use serde_json::{Value, json};

use crate::site::{Answer, Site};

/// The fields of a refusal and what is said of each, in the order of the fields.
fn told(answer: &Answer) -> Vec<(String, String)> {
    let errors = answer.body["errors"].as_array().unwrap_or_else(|| panic!("{:#}", answer.body));
    let text = |fault: &Value, name: &str| fault[name].as_str().unwrap().to_owned();
    let mut told: Vec<_> =
        errors.iter().map(|fault| (text(fault, "field"), text(fault, "message"))).collect();
    told.sort();
    told
}

fn fields(answer: &Answer) -> Vec<String> {
    told(answer).into_iter().map(|(field, _)| field).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_look_ups_are_named_beside_those_of_the_body() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let post = async |path: &str, body: Value| site.store(Method::POST, path, Some(body)).await;
    let address = json!({"name": "Ada", "line1": "1 High St", "city": "York", "postal_code": "N1",
        "country": "XX"});
    let cart = json!({"lines": [{"sku": "NONE", "quantity": 1}, {"sku": "LAMP", "quantity": 0}],
        "shipping_address": address, "delivery_option": "drone"});
    let refused = post("/carts", cart).await;
    assert_eq!((refused.status, refused.code()), (422, "invalid_request"));
    let all = ["delivery_option", "lines[0].sku", "lines[1].quantity", "shipping_address.country"];
    assert_eq!(fields(&refused), all);
    let alone = post("/carts", json!({"lines": [{"sku": "NONE", "quantity": 1}]})).await;
    assert_eq!((alone.code(), fields(&alone)), ("unknown_sku", vec!["lines[0].sku".to_owned()]));

    let cart = site.cart(&[("LAMP", 1)]).await;
    let lines = format!("/carts/{cart}/lines");
    let typo = post(&lines, json!({"sku": "NONE", "qty": 2})).await;
    let expected = [
        ("qty", "is not a field here: the fields are sku, quantity, unit_price, lines"),
        ("quantity", "is required"),
        ("sku", "must be a product: NONE is none"),
    ];
    let expected = expected.map(|(field, rule)| (field.to_owned(), rule.to_owned()));
    assert_eq!(told(&typo), expected);
    assert_eq!(fields(&post(&lines, json!({})).await), ["lines"]);
    assert_eq!(fields(&post(&lines, json!([])).await), ["body"]);

    let price = json!([{"amount": 9.99, "currency": "GBP"}]);
    let other = json!({"sku": "MUG", "prices": price});
    let refused = site.admin(Method::PUT, "/products/LAMP", Some(other)).await;
    assert_eq!(fields(&refused), ["name", "prices[0].amount", "sku"]);
    let rows = json!({"rows": [{"product": {"sku": "NEW"}, "price": "-1", "on_hand": -1,
        "on_hand_change": 1}]});
    let refused = site.admin(Method::POST, "/imports", Some(rows)).await.expect(200);
    let mut found: Vec<_> =
        refused["errors"].as_array().unwrap().iter().map(|one| &one["field"]).collect();
    found.sort_by_key(|field| field.to_string());
    assert_eq!(found, ["on_hand", "on_hand_change", "price", "product.name"]);
    let unknown = site.admin(Method::GET, "/orders?colour=red&size=9", None).await;
    assert_eq!(
        (unknown.code(), fields(&unknown)),
        ("unknown_filter", vec!["colour".into(), "size".into()])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_is_refused_in_words() {
    let site = Site::open().await;
    for (value, rule) in [
        (json!(-5), "must be a whole number from 0 to 10000000, or null for the default"),
        (json!(1.5), "must be a whole number from 0 to 10000000, or null for the default"),
        (json!("many"), "must be a whole number from 0 to 10000000, or null for the default"),
    ] {
        let body = json!({"value": value, "reason": ""});
        let refused = site.admin(Method::PUT, "/settings/rates.browse", Some(body)).await;
        let told = told(&refused);
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0].0, "reason");
        assert_eq!(told[1], ("value".to_owned(), rule.to_owned()));
    }
    let body = json!({"value": 1, "reason": "a test"});
    let refused = site.admin(Method::PUT, "/settings/checkout", Some(body)).await;
    assert_eq!(told(&refused)[0].1, "must be true or false, or null for the default");
}

/// The code of a refusal, and its only field with what is said of it.
fn only(answer: &Answer) -> (String, String, String) {
    let told = told(answer);
    assert_eq!(told.len(), 1, "{told:?}");
    let (field, rule) = told.into_iter().next().unwrap();
    (answer.code().to_owned(), field, rule)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_change_of_an_order_names_the_field_and_what_is_left() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 2)]).await;
    site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let order = site.until(&cart, |order| order["payment_status"] == "captured").await;
    let path = format!("/orders/{}", order["id"].as_str().unwrap());
    let total = order["total"]["amount"].as_i64().unwrap();
    let gbp = |amount: i64| json!({"amount": amount, "currency": "GBP"});
    let one = |quantity: i64| json!([{"line": "1", "quantity": quantity}]);
    let refused = async |what: &str, mut body: Value| {
        if what == "refunds" {
            body["reason"] = json!("a test");
        }
        only(&site.admin(Method::POST, &format!("{path}/{what}"), Some(body)).await)
    };
    let left = |most: &str| format!("must be at most {most}: so much is left to refund");
    let units = |most: i64| format!("must be at most {most}: so many are left");
    let over = json!([{"line": "1", "quantity": 1, "amount": gbp(5_000)}]);
    for (what, body, code, field, rule) in [
        ("refunds", json!({"lines": one(3)}), "too_many_units", "lines[0].quantity", units(2)),
        (
            "refunds",
            json!({"lines": over}),
            "refund_too_large",
            "lines[0].amount.amount",
            left("2000"),
        ),
        (
            "refunds",
            json!({"delivery": gbp(9_000)}),
            "refund_too_large",
            "delivery.amount",
            left(&(total - 2_000).to_string()),
        ),
        (
            "refunds",
            json!({"lines": one(1), "amount": gbp(total)}),
            "refund_too_large",
            "amount.amount",
            left(&(total - 1_000).to_string()),
        ),
        (
            "refunds",
            json!({"lines": [{"line": "1", "quantity": 1, "from": "fulfilled"}]}),
            "too_many_units",
            "lines[0].quantity",
            "is too many: no shipped unit of the line is left to come back".to_owned(),
        ),
        (
            "refunds",
            json!({"lines": [{"line": "1", "quantity": 3, "from": "unfulfilled"}]}),
            "too_many_units",
            "lines[0].quantity",
            "must be at most 2: so many are left that were not shipped".to_owned(),
        ),
        ("fulfillments", json!({"lines": one(3)}), "too_many_units", "lines[0].quantity", units(2)),
        (
            "fulfillments",
            json!({"lines": [{"line": "1", "quantity": 1}, {"line": "7", "quantity": 1}]}),
            "unknown_line",
            "lines[1].line",
            "must be a line of the order".to_owned(),
        ),
    ] {
        let expected = (code.to_owned(), field.to_owned(), rule);
        assert_eq!(refused(what, body.clone()).await, expected, "{what} {body}");
    }
    let twice = json!([{"line": "1", "quantity": 1}, {"line": "1", "quantity": 1}]);
    let (code, field, _) = refused("fulfillments", json!({"lines": twice})).await;
    assert_eq!((&*code, &*field), ("invalid_request", "lines[1].line"));
    let (code, field, rule) = refused("refunds", json!({"lines": twice})).await;
    assert_eq!(
        (&*code, &*field, &*rule),
        ("invalid_request", "lines[1].line", "must be named only once")
    );
    let captures = format!("{path}/captures");
    let nothing = site.admin(Method::POST, &captures, Some(json!({}))).await;
    assert_eq!((nothing.status, nothing.code()), (422, "capture_too_large"));
    assert_eq!(nothing.body["detail"], "nothing is left to capture");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_before_any_capture_is_told_what_to_do_instead() {
    let site = Site::with(|config| config.shop.capture = CapturePolicy::ByHand).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 2)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let path = format!("/orders/{}", order["id"].as_str().unwrap());
    let refused = async |mut body: Value| {
        body["reason"] = json!("a test");
        let refused = site.admin(Method::POST, &format!("{path}/refunds"), Some(body)).await;
        let (code, _, rule) = only(&refused);
        assert_eq!(code, "refund_too_large");
        let why = "cannot be refunded, because nothing was captured yet: capture the money first";
        rule.strip_prefix(why).unwrap_or_else(|| panic!("{rule}")).to_owned()
    };
    let pence = json!({"amount": 1, "currency": "GBP"});
    assert_eq!(refused(json!({"amount": pence})).await, ", or cancel the order");
    let line = json!({"lines": [{"line": "1", "quantity": 1, "amount": pence}]});
    assert_eq!(refused(line.clone()).await, ", or cancel the order, or leave the amount out");
    let ship = json!({"lines": [{"line": "1", "quantity": 1}]});
    site.admin(Method::POST, &format!("{path}/fulfillments"), Some(ship)).await.expect(200);
    assert_eq!(refused(line).await, ", or leave the amount out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_whose_sum_is_too_large_names_an_amount_that_was_given() {
    let site = Site::with(|config| config.shop.capture = CapturePolicy::ByHand).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 2)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let path = format!("/orders/{}", order["id"].as_str().unwrap());
    let gbp = |amount: i64| json!({"amount": amount, "currency": "GBP"});
    let part = json!({"amount": gbp(500)});
    site.admin(Method::POST, &format!("{path}/captures"), Some(part)).await.expect(200);
    site.until(&cart, |order| order["captured"]["amount"] == 500).await;
    let alone = "must be at most 500: so much is left to refund";
    let beside = "is too much with the rest of the refund: at most 500 is left to refund in all";
    let line = json!([{"line": "1", "quantity": 1, "amount": gbp(900)}]);
    for (mut body, field, rule) in [
        (json!({"lines": line}), "lines[0].amount.amount", alone),
        (json!({"lines": line, "amount": gbp(100)}), "amount.amount", beside),
        (json!({"amount": gbp(600)}), "amount.amount", alone),
    ] {
        body["reason"] = json!("a test");
        let refunds = format!("{path}/refunds");
        let refused = only(&site.admin(Method::POST, &refunds, Some(body.clone())).await);
        let expected = ("refund_too_large".to_owned(), field.to_owned(), rule.to_owned());
        assert_eq!(refused, expected, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_refunded_before_its_capture_has_nothing_left_and_keeps_what_was_authorized() {
    let site = Site::with(|config| config.shop.capture = CapturePolicy::ByHand).await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 2)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let path = format!("/orders/{}/refunds", order["id"].as_str().unwrap());
    let all = json!({"lines": [{"line": "1", "quantity": 2}], "reason": "none left"});
    site.admin(Method::POST, &path, Some(all)).await.expect(200);
    let voided = site.until(&cart, |order| order["payment_status"] == "voided").await;
    assert_eq!(voided["payments"][0]["authorized"]["amount"], 2_000, "{voided:#}");
    let pence = json!({"amount": {"amount": 1, "currency": "GBP"}, "reason": "a test"});
    let refused = site.admin(Method::POST, &path, Some(pence)).await;
    let (code, _, rule) = only(&refused);
    assert_eq!(code, "refund_too_large");
    let why = "cannot be refunded: nothing was captured, and nothing is left to capture";
    assert_eq!(rule, why);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_faults_of_a_checkout_are_named_at_once() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let path = format!("/carts/{cart}/checkout");
    let body = json!({"payment": {"provider": "none", "token": ""}, "expected_total": {"amount": 1.5,
        "currency": "gbp"}, "colour": "red"});
    let refused = site.store(Method::POST, &path, Some(body)).await;
    assert_eq!((refused.status, refused.code()), (422, "invalid_request"));
    let all = [
        "Idempotency-Key",
        "colour",
        "expected_total.amount",
        "expected_total.currency",
        "payment.provider",
        "payment.token",
    ];
    assert_eq!(fields(&refused), all);
    let body = json!({"payment": {"provider": "sandbox", "token": "tok_ok"}});
    let alone = site.store(Method::POST, &path, Some(body)).await;
    assert_eq!(
        (alone.status, only(&alone).0, only(&alone).1),
        (422, "idempotency_key_missing".to_owned(), "Idempotency-Key".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn null_does_not_clear_what_every_resource_has() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let patch =
        async |path: &str, body: Value| fields(&site.admin(Method::PATCH, path, Some(body)).await);
    let product = json!({"name": null, "prices": null, "tax_rate": null, "active": null});
    assert_eq!(patch("/products/LAMP", product).await, ["active", "name", "prices", "tax_rate"]);
    let location = json!({"name": null, "for_sale": null});
    assert_eq!(patch("/locations/main", location).await, ["for_sale", "name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_option_without_a_price_in_the_carts_currency_is_refused() {
    let site = Site::open().await;
    let what = |option: &str| Some(json!({"currency": "JPY", "delivery_option": option}));
    let refused = site.store(Method::POST, "/carts", what("express")).await;
    let told = |body: &Value| body["errors"][0].clone();
    let why = json!({"field": "delivery_option", "message": "has no price in JPY; GET /v1/store/delivery-options lists them"});
    assert_eq!((refused.status, told(&refused.body)), (422, why.clone()));
    let cart = site.store(Method::POST, "/carts", what("standard")).await.expect(201);
    let path = format!("/carts/{}", cart["id"].as_str().unwrap());
    let patch = Some(json!({"delivery_option": "express"}));
    let refused = site.store(Method::PATCH, &path, patch).await;
    assert_eq!((refused.status, told(&refused.body)), (422, why));
    let cart = site.store(Method::GET, &path, None).await.expect(200);
    assert_eq!(cart["delivery"]["option"], "standard", "{cart:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_events_below_1_is_named_beside_other_faults() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let path = format!("/orders/{}", order["id"].as_str().unwrap());
    for (query, fields) in [("at_seq=0", vec!["at_seq"]), ("at_seq=-1&at=x", vec!["at_seq", "at"])]
    {
        let refused = site.admin(Method::GET, &format!("{path}?{query}"), None).await;
        let named: Vec<_> = refused.body["errors"].as_array().unwrap().iter().collect();
        let named: Vec<_> = named.iter().map(|one| one["field"].as_str().unwrap()).collect();
        assert_eq!(named, fields, "{query}");
    }
}
