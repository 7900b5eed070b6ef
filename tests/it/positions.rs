//! Reading what one has written: lists that are given its position show it, or say that they do
//! not.

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::site::Site;

async fn ask(
    site: &Site,
    method: Method,
    path: &str,
    (after, body): (Option<&str>, Option<Value>),
) -> (u16, HeaderMap, Value) {
    let request = site.request(method, path).bearer_auth(&site.key);
    let request = match after {
        Some(after) => request.header("Kontor-After", after),
        None => request,
    };
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.json().await.unwrap())
}

fn position(headers: &HeaderMap) -> String {
    headers["kontor-position"].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn read_your_writes_waits_for_the_row() {
    // Rows are late, so that whoever does not wait is shown what was before.
    let site = Site::with(|config| config.shop.projection_pause_ms = 150).await;
    let lamp = json!({
        "sku": "LAMP", "name": "Lamp", "prices": [{"amount": 500, "currency": "GBP"}],
    });
    let made = ask(&site, Method::POST, "/v1/admin/products", (None, Some(lamp))).await;
    let product = position(&made.1);
    let mut last = String::new();
    for on_hand in [7, 8, 9] {
        let body = Some(json!({"on_hand": on_hand}));
        let path = "/v1/admin/stock/LAMP/main";
        let (status, headers, _) = ask(&site, Method::PUT, path, (None, body)).await;
        assert_eq!(status, 200);
        last = position(&headers);
        let both = format!("{product}, {last}");
        let after = (Some(both.as_str()), None);
        let (_, headers, list) = ask(&site, Method::GET, "/v1/admin/stock", after).await;
        assert_eq!(list["data"][0]["on_hand"], on_hand, "{list:#}");
        assert!(!headers.contains_key("kontor-stale"), "{headers:?}");
    }
    let after = || (Some(product.as_str()), None);
    for path in ["/v1/admin/products", "/v1/store/products"] {
        let (_, headers, list) = ask(&site, Method::GET, path, after()).await;
        assert_eq!(list["data"][0]["sku"], "LAMP", "{list:#}");
        assert!(!headers.contains_key("kontor-stale"), "{headers:?}");
    }

    let cart = site.cart(&[("LAMP", 1)]).await;
    let body = json!({"payment": {"provider": "sandbox", "token": "tok_ok"}});
    let checkout = site
        .request(Method::POST, &format!("/v1/store/carts/{cart}/checkout"))
        .header("Idempotency-Key", "k")
        .json(&body)
        .send()
        .await
        .unwrap();
    let (order, after) = (cart.replace("cart_", "ord_"), position(checkout.headers()));
    let after = (Some(after.as_str()), None);
    let (_, headers, list) = ask(&site, Method::GET, "/v1/admin/orders", after).await;
    assert_eq!(list["data"][0]["id"], order.as_str(), "{list:#}");
    assert!(!headers.contains_key("kontor-stale"), "{headers:?}");
    site.until(&cart, |order| order["status"] == "confirmed").await;
    let path = format!("/v1/admin/orders/{order}/fulfillments");
    let (status, headers, _) = ask(&site, Method::POST, &path, (None, Some(json!({})))).await;
    assert_eq!(status, 200);
    let after = position(&headers);
    let path = "/v1/admin/orders?fulfillment_status=fulfilled";
    let (_, _, list) = ask(&site, Method::GET, path, (Some(&after), None)).await;
    assert_eq!(list["data"][0]["id"], order.as_str(), "{list:#}");
    assert!(!last.is_empty());
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_list_is_marked() {
    let site = Site::open().await;
    site.sell("LAMP", 500, 5).await;
    // Version 99 of its stock, in our own words: "1:99:sku_LAMP".
    let never = "MTo5OTpza3VfTEFNUA";
    let (status, headers, list) =
        ask(&site, Method::GET, "/v1/admin/stock", (Some(never), None)).await;
    assert_eq!((status, headers["kontor-stale"].to_str().unwrap()), (200, "1"));
    assert_eq!(list["data"][0]["on_hand"], 5);
    for path in ["/v1/admin/orders", "/v1/admin/sagas", "/v1/store/products"] {
        let (status, _, problem) = ask(&site, Method::GET, path, (Some("nonsense"), None)).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("Kontor-After")));
    }
}
