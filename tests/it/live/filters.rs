//! What is refused in the filter of a subscription, and in which words.

use reqwest::Method;
use serde_json::{Value, json};

use super::Client;
use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_value_of_a_filter_has_its_place() {
    let site = Site::open().await;
    let mut client = Client::open(&site).await;
    let ask = |topic: &str, filter: Value| json!({"type": "subscribe", "id": "a", "topic": topic, "filter": filter});
    let late =
        json!({"type": "subscribe", "id": "a", "topic": "stock", "from": "2999-01-01T00:00:00Z"});
    for (message, expected) in [
        (
            ask("stock", json!({"sku": ["A", "a/b", ""], "location": "no place"})),
            &["filter.location", "filter.sku[1]", "filter.sku[2]"][..],
        ),
        (
            ask(
                "orders",
                json!({"id": ["ord_1"], "number": [1, "x"], "payment_status": ["paid"], "sku": []}),
            ),
            &["filter.id[0]", "filter.number[1]", "filter.payment_status[0]", "filter.sku"],
        ),
        (ask("orders", json!({"order": "ord_1"})), &["filter.order"]),
        (
            ask(
                "orders",
                json!({"status": [], "reference": "", "email": ["a@b.example", 7], "id": null}),
            ),
            &["filter.email[1]", "filter.id", "filter.reference", "filter.status"],
        ),
        (
            ask("stock", json!({"sku": 7, "location": ["main", "moon", 7]})),
            &["filter.location[1]", "filter.location[2]", "filter.sku"],
        ),
        (
            ask("products", json!({"sku": true, "location": "main"})),
            &["filter.location", "filter.sku"],
        ),
        (ask("orders", json!({"email": vec!["a@b.example"; 101]})), &["filter.email"]),
        (late, &["from"]),
    ] {
        client.say(message).await;
        let error = client.next().await;
        let errors = error["errors"].as_array().unwrap_or_else(|| panic!("{error}"));
        let mut fields: Vec<_> = errors.iter().map(|one| one["field"].as_str().unwrap()).collect();
        fields.sort_unstable();
        assert_eq!(fields, expected, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_refused_in_the_words_of_the_lists() {
    let site = Site::open().await;
    let mut client = Client::open(&site).await;
    for (list, field, value) in [
        ("stock", "location", "moon"),
        ("stock", "location", "no place"),
        ("stock", "sku", "a/b"),
        ("products", "sku", ""),
        ("orders", "status", "eaten"),
        ("orders", "id", "ord_1"),
        ("orders", "number", "x"),
    ] {
        let path = format!("/{list}?{field}={value}");
        let listed = site.admin(Method::GET, &path, None).await;
        client
            .say(json!({"type": "subscribe", "id": "a", "topic": list, "filter": {field: [value]}}))
            .await;
        let error = client.next().await;
        let told = |errors: &Value| errors[0]["message"].as_str().unwrap().to_owned();
        let (over_http, live) = (told(&listed.body["errors"]), told(&error["errors"]));
        match value {
            "" => assert!(live.starts_with("must be a SKU"), "{live}"),
            _ => assert_eq!(live, over_http, "{path}"),
        }
    }
}
