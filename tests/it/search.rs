//! Finding orders and stock as an operator's page does it, over HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use crate::site::Site;

fn ids(page: &Value, field: &str) -> Vec<String> {
    let rows = page["data"].as_array().unwrap();
    rows.iter().map(|row| row[field].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_found_by_id_number_reference_and_email() {
    let site = Site::open().await;
    site.sell("A", 100, 50).await;
    let mut orders = Vec::new();
    for n in 0..3 {
        let cart = site.cart(&[("A", 1)]).await;
        let patch = json!({"reference": format!("PO {n}")});
        site.store(Method::PATCH, &format!("/carts/{cart}"), Some(patch)).await.expect(200);
        let order = site.checkout(&cart, &format!("k{n}"), "tok_ok", 10).await.expect(201);
        orders.insert(0, order);
    }
    let find = async |query: &str| {
        site.admin(Method::GET, &format!("/orders?{query}"), None).await.expect(200)
    };
    let all: Vec<String> =
        orders.iter().map(|order| order["id"].as_str().unwrap().to_owned()).collect();
    let number = orders[1]["number"].as_i64().unwrap();
    // Lists follow the journal: the last order's row is the last to be written.
    let newest = format!("q={}&status=confirmed", all[0]);
    site.until_some(async || (!ids(&find(&newest).await, "id").is_empty()).then_some(())).await;
    for (query, expected) in [
        (format!("q={}", all[2]), &all[2..]),
        (format!("q={number}"), &all[1..2]),
        (format!("q=%23{number}"), &all[1..2]),
        ("q=PO%201".to_owned(), &all[1..2]),
        ("q=PO".to_owned(), &[]),
        ("q=ada%40example.com".to_owned(), &all[..]),
        ("q=Ada".to_owned(), &all[..]),
        ("q=ADA%40Ex".to_owned(), &all[..]),
        ("email=ADA%40Example.com".to_owned(), &all[..]),
        ("q=ada&status=cancelled,stuck".to_owned(), &[]),
        ("q=nobody".to_owned(), &[]),
        ("q=+".to_owned(), &all[..]),
    ] {
        assert_eq!(ids(&find(&query).await, "id"), expected, "{query}");
    }
    let first = find("q=ada&limit=2").await;
    assert_eq!(ids(&first, "id"), all[..2]);
    let after = first["next_cursor"].as_str().unwrap();
    let second = find(&format!("q=ada&limit=2&after={after}")).await;
    assert_eq!((ids(&second, "id"), &second["next_cursor"]), (all[2..].to_vec(), &Value::Null));
    let long = format!("/orders?q={}", "x".repeat(255));
    site.admin(Method::GET, &long, None).await.expect(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn reserved_stock_is_listed_with_hold_expiry() {
    let site = Site::open().await;
    for sku in ["A-1", "A-2", "B-1"] {
        site.sell(sku, 100, 5).await;
    }
    let cart = site.cart(&[("A-2", 3)]).await;
    let declined = site.checkout(&cart, "key", "tok_declined", 10).await;
    assert_eq!(declined.status, 402, "{}", declined.body);
    let find = async |query: &str| {
        let page = site.admin(Method::GET, &format!("/stock?{query}"), None).await.expect(200);
        ids(&page, "sku")
    };
    let held =
        site.until_some(async || Some(find("held=true").await).filter(|all| !all.is_empty()));
    assert_eq!(held.await, ["A-2"]);
    site.until_some(async || (find("").await.len() == 3).then_some(())).await;
    assert_eq!(find("q=A-").await, ["A-1", "A-2"]);
    assert_eq!(find("q=B&held=true").await, Vec::<String>::new());
    let hold = &site.level("A-2").await["holds"][0];
    assert_eq!(
        (&hold["order"], &hold["quantity"]),
        (&json!(cart.replace("cart_", "ord_")), &json!(3))
    );
    assert!(hold["hold_until"].as_str().unwrap().ends_with('Z'), "{hold}");
}
