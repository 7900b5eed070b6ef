//! What is refused of stock, in one request or in a row of an import, names its field, with the numbers.

use reqwest::Method;
use serde_json::{Value, json};

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_change_of_stock_names_the_field_and_the_numbers() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 5).await;
    let annex = json!({"name": "Annex", "for_sale": true});
    site.admin(Method::PUT, "/locations/annex", Some(annex)).await.expect(201);
    let cart = site.cart(&[("LAMP", 2)]).await;
    site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let put = Method::PUT;
    let post = Method::POST;
    let held = "5 units are on hand, of which 2 are reserved or allocated";
    let first = "cancel their orders or refund their units first";
    let transfer =
        |from: &str, to: &str, quantity: i64| json!({"from": from, "to": to, "quantity": quantity});
    for (method, path, body, code, field, rule) in [
        (&put, "/main", json!({"on_hand": 1}), "stock_committed", "on_hand", format!("must be at least 2: {held}: {first}")),
        (&put, "/main", json!({"on_hand": 9, "change_from": 4}), "stock_changed", "change_from", "must be 5: so many units are on hand".to_owned()),
        (&post, "/main/adjustments", json!({"quantity": -4, "reason": "x"}), "stock_committed", "quantity", format!("must be at least -3: {held}: {first}")),
        (&post, "/transfers", transfer("main", "annex", 4), "stock_committed", "quantity", format!("must be at most 3: {held} at main")),
        (&post, "/transfers", transfer("annex", "main", 1), "stock_committed", "quantity", "is too many: no unit is free: 0 units are on hand, of which 0 are reserved or allocated at annex".to_owned()),
        (&post, "/main/receipts", json!({"quantity": 3, "from_incoming": true}), "invalid_request", "from_incoming", "must be false: 0 units are announced as incoming at the location".to_owned()),
        (&post, "/main/incoming", json!({"quantity": -1}), "invalid_request", "quantity", "must be from 0 to 1000000000".to_owned()),
        (&post, "/main/receipts", json!({"quantity": 1_000_000_000}), "invalid_request", "quantity", "must be from 1 to 999999995".to_owned()),
    ] {
        let refused = site.admin(method.clone(), &format!("/stock/LAMP{path}"), Some(body)).await;
        assert_eq!(refused.code(), code, "{path}: {:#}", refused.body);
        let error = &refused.body["errors"][0];
        assert_eq!((&error["field"], &error["message"]), (&json!(field), &json!(rule)), "{path}");
    }
    let announce = json!({"quantity": 4});
    site.admin(Method::POST, "/stock/LAMP/main/incoming", Some(announce)).await.expect(200);
    let came = json!({"quantity": 5, "from_incoming": true});
    let came = site.admin(Method::POST, "/stock/LAMP/main/receipts", Some(came)).await.expect(200);
    assert_eq!((&came["on_hand"], &came["incoming"]), (&json!(10), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_an_import_names_its_own_fault() {
    let site = Site::open().await;
    let import = async |rows: Value| {
        let body = Some(json!({"rows": rows}));
        let report = site.admin(Method::POST, "/imports", body).await.expect(200);
        let errors = report["errors"].as_array().unwrap().clone();
        let told = |one: &Value| {
            (
                one["row"].as_i64().unwrap(),
                one["field"].as_str().unwrap().to_owned(),
                one["message"].as_str().unwrap().to_owned(),
            )
        };
        errors.iter().map(told).collect::<Vec<_>>()
    };
    let named = json!({"sku": "NEW", "name": "New"});
    let more = json!({"sku": "NEW"});
    let told = import(json!([{"product": named}, {"product": more, "price": "-1"}])).await;
    assert_eq!(told, [(1, "price".to_owned(), "must not be negative".to_owned())]);
    let named = json!({"sku": "NEWER", "name": "Newer"});
    let more = json!({"sku": "NEWER"});
    let told = import(json!([{"product": named, "price": "-1"}, {"product": more}])).await;
    let rule = "is required for a new product: row 0, which has one, is refused";
    assert_eq!(told[1], (1, "product.name".to_owned(), rule.to_owned()), "{told:?}");
    let told = import(json!([{"product": more}])).await;
    let rule = "is required for a new product";
    assert_eq!(told, [(0, "product.name".to_owned(), rule.to_owned())]);
    let stock = json!([{"product": {"sku": "NEW"}, "on_hand": 5, "change_from": 3},
        {"product": {"sku": "NEW"}, "on_hand_change": -1}]);
    let told = import(stock).await;
    assert_eq!(told[0].1, "change_from");
    assert_eq!(told[1].1, "on_hand_change");
}
