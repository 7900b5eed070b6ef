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

/// A list after a write, once it is not marked as stale: the server waits for half a second, which a
/// busy machine may exceed. `stale` counts the lists that did not wait for long enough.
async fn fresh(site: &Site, path: &str, after: &str, stale: &mut u32) -> Value {
    let (_, headers, list) = ask(site, Method::GET, path, (Some(after), None)).await;
    if !headers.contains_key("kontor-stale") {
        return list;
    }
    *stale += 1;
    site.until_some(async || {
        let (_, headers, list) = ask(site, Method::GET, path, (Some(after), None)).await;
        (!headers.contains_key("kontor-stale")).then_some(list)
    })
    .await
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
    let mut stale = 0;
    for on_hand in [7, 8, 9] {
        let body = Some(json!({"on_hand": on_hand}));
        let path = "/v1/admin/stock/LAMP/main";
        let (status, headers, _) = ask(&site, Method::PUT, path, (None, body)).await;
        assert_eq!(status, 200);
        let both = format!("{product}, {}", position(&headers));
        let list = fresh(&site, "/v1/admin/stock", &both, &mut stale).await;
        assert_eq!(list["data"][0]["on_hand"], on_hand, "{list:#}");
    }
    for path in ["/v1/admin/products", "/v1/store/products"] {
        let list = fresh(&site, path, &product, &mut stale).await;
        assert_eq!(list["data"][0]["sku"], "LAMP", "{list:#}");
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
    let list = fresh(&site, "/v1/admin/orders", &after, &mut stale).await;
    assert_eq!(list["data"][0]["id"], order.as_str(), "{list:#}");
    site.until(&cart, |order| order["status"] == "confirmed").await;
    let path = format!("/v1/admin/orders/{order}/fulfillments");
    let (status, headers, _) = ask(&site, Method::POST, &path, (None, Some(json!({})))).await;
    assert_eq!(status, 200);
    let after = position(&headers);
    let path = "/v1/admin/orders?fulfillment_status=fulfilled";
    let list = fresh(&site, path, &after, &mut stale).await;
    assert_eq!(list["data"][0]["id"], order.as_str(), "{list:#}");
    assert!(stale < 5, "no list after a write waited");
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
