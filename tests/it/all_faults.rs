//! A request is refused once: faults of its headers and its query stand beside those of its body, and
//! what only the cart tells beside what the request itself shows.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::buyer_tokens;
use crate::site::{Answer, Site};

/// The fields of a refusal, in their order.
fn fields(answer: &Answer) -> Vec<&str> {
    let errors = answer.body["errors"].as_array().unwrap_or_else(|| panic!("{:#}", answer.body));
    let mut fields: Vec<_> = errors.iter().map(|fault| fault["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    fields
}

fn admin(site: &Site, method: Method, path: &str) -> RequestBuilder {
    site.request(method, &format!("/v1/admin{path}")).bearer_auth(&site.key)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cart_tells_stands_beside_other_faults_of_a_checkout() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let checkout = async |key: &str, wait: &str, body: Value| {
        let request = site.request(Method::POST, &format!("/v1/store/carts/{cart}/checkout"));
        let request = request.header("Idempotency-Key", key).header("Prefer", wait);
        site.send(request.json(&body)).await
    };
    let money = |amount: i64, currency: &str| json!({"amount": amount, "currency": currency});
    let paid = json!({"provider": "sandbox", "token": "tok_ok"});
    for (key, wait, body, status, code, expected) in [
        (
            "a b",
            "wait=99",
            json!({"expected_total": money(1, "EUR"), "colour": "red"}),
            422,
            "invalid_request",
            &["Idempotency-Key", "Prefer", "colour", "expected_total.currency", "payment"][..],
        ),
        (
            "k",
            "wait=1",
            json!({"expected_total": money(1, "EUR")}),
            422,
            "invalid_request",
            &["expected_total.currency", "payment"],
        ),
        (
            "k",
            "wait=1",
            json!({"expected_total": money(1, "GBP")}),
            422,
            "invalid_request",
            &["expected_total.amount", "payment"],
        ),
        ("k", "wait=1", json!({}), 422, "invalid_request", &["payment"]),
        (
            "k",
            "wait=1",
            json!({"payment": paid, "expected_total": money(1_000, "EUR")}),
            422,
            "currency_mismatch",
            &["expected_total.currency"],
        ),
        (
            "k",
            "wait=1",
            json!({"payment": {"provider": "none", "token": "t"}, "expected_total": money(1, "GBP")}),
            422,
            "invalid_request",
            &["expected_total.amount", "payment.provider"],
        ),
        (
            "k",
            "wait=1",
            json!({"payment": paid, "expected_total": money(1, "GBP")}),
            409,
            "cart_changed",
            &["expected_total.amount"],
        ),
    ] {
        let refused = checkout(key, wait, body.clone()).await;
        assert_eq!((refused.status, refused.code()), (status, code), "{body}");
        assert_eq!(fields(&refused), expected, "{body}");
    }
    let order = checkout("k", "wait=30", json!({"payment": paid})).await.expect(201);
    assert_eq!(order["status"], "confirmed");
    let other = checkout("k", "wait=30", json!({"payment": paid, "expected_total": null})).await;
    assert_eq!((other.code(), fields(&other)), ("idempotency_key_reused", vec!["Idempotency-Key"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_headers_stand_beside_those_of_the_body() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let create = site.request(Method::POST, "/v1/store/carts").header("Idempotency-Key", "short");
    let lines = json!({"lines": [{"sku": "NONE", "quantity": 0}]});
    let refused = site.send(create.json(&lines)).await;
    assert_eq!(fields(&refused), ["Idempotency-Key", "lines[0].quantity", "lines[0].sku"]);
    let patch = site.request(Method::PATCH, &format!("/v1/store/carts/{cart}"));
    let refused = site.send(patch.header("If-Match", "4").json(&json!({"email": "x"}))).await;
    assert_eq!(fields(&refused), ["If-Match", "email"]);
    let whole = site.request(Method::PATCH, &format!("/v1/store/carts/{cart}"));
    let refused = site.send(whole.header("If-Match", "4").json(&json!([]))).await;
    assert_eq!(fields(&refused), ["If-Match", "body"]);

    let order = site.checkout(&cart, "key-1", "tok_declined", 30).await.body;
    let path = order["links"]["cancel"].as_str().unwrap();
    let cancel = site.request(Method::POST, &format!("{path}?colour=red"));
    let cancel = cancel.bearer_auth(buyer_tokens::token(&cart));
    let refused = site.send(cancel.header("Prefer", "wait=x").json(&json!({"why": 1}))).await;
    assert_eq!(fields(&refused), ["Prefer", "body", "colour"]);

    let id = order["order"].as_str().unwrap();
    let refund = admin(&site, Method::POST, &format!("/orders/{id}/refunds"));
    let refund = refund.header("Prefer", "wait=-1").header("If-Match", "x");
    let body = json!({"amount": {"amount": 1, "currency": "EUR"}});
    let refused = site.send(refund.header("Idempotency-Key", "ü").json(&body)).await;
    let all = ["Idempotency-Key", "If-Match", "Prefer", "amount.currency", "reason"];
    assert_eq!(fields(&refused), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_faults_of_a_list_are_named_at_once() {
    let site = Site::open().await;
    let token = "?limit=0&sort=x&after=x&updated_from=x&colour=red";
    for (list, more, own) in [
        ("orders", "&status=a,b&id=1&number=x&expand=x", "status"),
        ("products", "&active=x&currency=x,y&sku=%2F", "currency"),
        ("stock", "&held=x&sellable_max=x&location=none,%2F&sku=%2F", "location"),
    ] {
        let request = admin(&site, Method::GET, &format!("/{list}{token}{more}"));
        let refused = site.send(request.header("Kontor-After", "x")).await;
        assert_eq!((refused.status, refused.code()), (422, "invalid_request"), "{list}");
        let of_query = format!("{token}{more}").replace('?', "&");
        let named = of_query.split('&').filter_map(|pair| pair.split('=').next());
        let mut expected: Vec<_> = named.filter(|name| !name.is_empty()).collect();
        expected.push("Kontor-After");
        expected.sort_unstable();
        assert_eq!(fields(&refused), expected, "{list}");
        let errors = refused.body["errors"].as_array().unwrap();
        let own = errors.iter().find(|fault| fault["field"] == own).unwrap();
        if list != "stock" {
            let said = own["message"].as_str().unwrap();
            assert!(said.contains(", \""), "{said}");
        }
    }
    for list in
        ["jobs", "webhooks", "dead-letters", "locations", "changes", "settings/checkout/history"]
    {
        let path = format!("/{list}?limit=x&colour=red");
        let refused = site.admin(Method::GET, &path, None).await;
        assert_eq!(fields(&refused), ["colour", "limit"], "{list}");
    }
    let cursor = site.admin(Method::GET, "/orders?after=x", None).await;
    assert_eq!((cursor.status, cursor.code()), (400, "invalid_cursor"));
    assert_eq!(fields(&cursor), ["after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_is_refused_where_there_is_no_body() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let ticket = admin(&site, Method::POST, "/live/tickets").header("Idempotency-Key", "a b");
    assert_eq!(fields(&site.send(ticket).await), ["Idempotency-Key"]);
    let line = site.request(Method::DELETE, &format!("/v1/store/carts/{cart}/lines/1"));
    assert_eq!(fields(&site.send(line.header("If-Match", "4")).await), ["If-Match"]);
    let kept = site.store(Method::GET, &format!("/carts/{cart}"), None).await.expect(200);
    assert_eq!(kept["lines"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_is_an_object_without_fields() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let empty = site.store(Method::POST, "/carts", None).await.expect(201);
    assert_eq!(empty["lines"], json!([]));
    let cart = site.cart(&[("LAMP", 1)]).await;
    let pay = site.request(Method::POST, &format!("/v1/store/carts/{cart}/checkout"));
    let refused = site.send(pay.header("Idempotency-Key", "k")).await;
    assert_eq!((refused.status, fields(&refused)), (422, vec!["payment"]));
    site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let id = cart.replace("cart_", "ord_");
    site.admin(Method::POST, &format!("/orders/{id}/fulfillments"), None).await.expect(200);
    let refused = site.admin(Method::POST, &format!("/orders/{id}/cancel"), None).await;
    assert_eq!((refused.status, fields(&refused)), (422, vec!["reason"]));
    let typeless = site.request(Method::POST, "/v1/store/carts").body("{}");
    assert_eq!(site.send(typeless).await.status, 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_faulty_lines_of_a_change_are_named() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    site.sell("MUG", 500, 9).await;
    let cart = site.cart(&[("LAMP", 2), ("MUG", 1)]).await;
    site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let order = site.until(&cart, |order| order["payment_status"] == "captured").await;
    let path = format!("/orders/{}", order["id"].as_str().unwrap());
    let gbp = |amount: i64| json!({"amount": amount, "currency": "GBP"});
    let line = |line: &str, quantity: i64| json!({"line": line, "quantity": quantity});
    let lines = json!([line("1", 3), line("2", 1), line("7", 1)]);
    let dear = json!([{"line": "1", "quantity": 1, "amount": gbp(9_000)}, line("2", 5)]);
    for (what, body, code, expected) in [
        (
            "refunds",
            json!({"lines": lines, "reason": "x"}),
            "invalid_request",
            &["lines[0].quantity", "lines[2].line"][..],
        ),
        (
            "refunds",
            json!({"lines": dear, "delivery": gbp(90_000), "reason": "x"}),
            "invalid_request",
            &["delivery.amount", "lines[0].amount.amount", "lines[1].quantity"],
        ),
        (
            "fulfillments",
            json!({"lines": lines}),
            "invalid_request",
            &["lines[0].quantity", "lines[2].line"],
        ),
        (
            "refunds",
            json!({"amount": gbp(0), "reason": "x"}),
            "invalid_request",
            &["amount.amount"],
        ),
        (
            "refunds",
            json!({"amount": gbp(0), "delivery": gbp(0), "reason": "x"}),
            "invalid_request",
            &["amount.amount", "delivery.amount"],
        ),
        ("refunds", json!({"reason": "x"}), "invalid_request", &["lines"]),
    ] {
        let refused = site.admin(Method::POST, &format!("{path}/{what}"), Some(body.clone())).await;
        assert_eq!((refused.status, refused.code()), (422, code), "{body}");
        assert_eq!(fields(&refused), expected, "{body}");
    }
    let captured = json!({"amount": gbp(1)});
    let refused = site.admin(Method::POST, &format!("{path}/captures"), Some(captured)).await;
    assert_eq!((refused.code(), fields(&refused)), ("capture_too_large", vec!["amount.amount"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_a_line_of_a_cart_cannot_take_are_named_where_they_are() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 999_990)]).await;
    let add = async |body: Value| {
        let refused = site.store(Method::POST, &format!("/carts/{cart}/lines"), Some(body)).await;
        let error = refused.body["errors"].as_array().unwrap().clone();
        assert_eq!((refused.status, error.len()), (422, 1), "{:#}", refused.body);
        (error[0]["field"].clone(), error[0]["message"].as_str().unwrap().to_owned())
    };
    let line = |quantity: i64| json!({"sku": "LAMP", "quantity": quantity});
    let (field, rule) = add(json!({"lines": [line(8), line(3)]})).await;
    let expected = "must be at most 2: a line has at most 1000000 units";
    assert_eq!((field, rule.as_str()), (json!("lines[1].quantity"), expected));
    let (field, rule) = add(line(11)).await;
    let expected = "must be at most 10: a line has at most 1000000 units";
    assert_eq!((field, rule.as_str()), (json!("quantity"), expected));
    let path = format!("/carts/{cart}/lines/1");
    let none = site.store(Method::PATCH, &path, Some(json!({"quantity": 0}))).await;
    let rule = none.body["errors"][0]["message"].as_str().unwrap();
    assert_eq!(rule, "must be from 1 to 1000000; DELETE removes the line");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_does_not_stand_for_all() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 2)]).await;
    site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let path = format!("/orders/{}/fulfillments", cart.replace("cart_", "ord_"));
    let refused = site.send(admin(&site, Method::POST, &path).json(&json!({"lines": []}))).await;
    assert_eq!(fields(&refused), ["lines"]);
    assert_eq!(site.order(&cart).await["fulfillment_status"], "unfulfilled");
    for (list, filter) in [("orders", "id"), ("orders", "status"), ("stock", "sku")] {
        for nothing in ["", ","] {
            let path = format!("/{list}?{filter}={nothing}");
            let refused = site.send(admin(&site, Method::GET, &path)).await;
            assert_eq!(fields(&refused), [filter], "{path}");
        }
    }
    let export =
        admin(&site, Method::POST, "/order-exports").json(&json!({"status": ["confirmed"]}));
    assert_eq!(site.send(export).await.status, 422, "its filters are in the query");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_the_caller_may_not_set_hides_no_other_fault() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let price = json!({"amount": 1, "currency": "EUR"});
    let create = |lines: Value| {
        let body = json!({"currency": "GBP", "lines": lines});
        site.send(site.request(Method::POST, "/v1/store/carts").json(&body))
    };
    let lines = json!([{"sku": "LAMP", "quantity": 0, "unit_price": price}, {"sku": "NONE", "quantity": 1}]);
    let refused = create(lines).await;
    assert_eq!((refused.status, refused.code()), (422, "invalid_request"));
    let all = [
        "lines[0].quantity",
        "lines[0].unit_price",
        "lines[0].unit_price.currency",
        "lines[1].sku",
    ];
    assert_eq!(fields(&refused), all);
    let price = json!({"amount": 1, "currency": "GBP"});
    let refused = create(json!([{"sku": "LAMP", "quantity": 1, "unit_price": price}])).await;
    assert_eq!((refused.status, refused.code()), (401, "unauthorized"));
    assert_eq!(fields(&refused), ["lines[0].unit_price"]);
}
