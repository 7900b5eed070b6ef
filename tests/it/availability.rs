//! What buyers see of stock, in products and in carts: as much as the shop's settings allow.

use kontor::actors::settings::StockDisplay;
use reqwest::Method;
use serde_json::{Value, json};

use crate::site::Site;

async fn shop(shown: StockDisplay) -> Site {
    let site = Site::with(|config| {
        (config.shop.availability, config.shop.few_left_at) = (shown, 3);
        config.http.products_cached_secs = 0;
    })
    .await;
    for (sku, on_hand) in [("MANY", 9), ("FEW", 3), ("NONE", 0)] {
        site.sell(sku, 1_000, on_hand).await;
    }
    site
}

/// What the shop shows of the stock of a product, once the page shows the same.
async fn product(site: &Site, sku: &str) -> Value {
    site.until_some(async || {
        let one = site.store(Method::GET, &format!("/products/{sku}"), None).await.expect(200);
        let page = site.store(Method::GET, "/products", None).await.expect(200);
        let rows = page["data"].as_array().unwrap();
        let row = rows.iter().find(|row| row["sku"] == sku).unwrap();
        (one["availability"] == row["availability"]).then(|| one["availability"].clone())
    })
    .await
}

/// What the shop shows of the stock of these cart lines.
async fn lines(site: &Site, lines: &[(&str, i64)]) -> Vec<Value> {
    let cart = site.cart(lines).await;
    let cart = site.store(Method::GET, &format!("/carts/{cart}"), None).await.expect(200);
    let lines = cart["lines"].as_array().unwrap();
    assert!(lines.iter().all(|line| line["available"] == true), "{cart:#}");
    lines.iter().map(|line| line["availability"].clone()).collect()
}

fn is(status: &str, quantity: Option<i64>) -> Value {
    json!({"status": status, "quantity": quantity, "restock_at": null})
}

#[tokio::test(flavor = "multi_thread")]
async fn buyers_see_as_much_of_stock_as_the_shop_shows() {
    let all = [("MANY", 9), ("MANY", 10), ("FEW", 1), ("FEW", 5_000), ("NONE", 1)];
    let expected = [
        (StockDisplay::InStock, ["in_stock", "short", "in_stock", "short", "out_of_stock"], false),
        (StockDisplay::FewLeft, ["in_stock", "short", "few_left", "short", "out_of_stock"], false),
        (StockDisplay::Number, ["in_stock", "short", "few_left", "short", "out_of_stock"], true),
    ];
    for (shown, statuses, numbers) in expected {
        let site = shop(shown).await;
        for sku in ["MANY", "FEW"] {
            site.until_some(async || {
                (product(&site, sku).await["status"] != "out_of_stock").then_some(())
            })
            .await;
        }
        for ((sku, wanted), status) in all.into_iter().zip(statuses) {
            let free = match sku {
                "MANY" => 9,
                "FEW" => 3,
                _ => 0,
            };
            let seen = lines(&site, &[(sku, wanted)]).await;
            assert_eq!(seen, [is(status, numbers.then_some(free))], "{shown:?} {sku} {wanted}");
        }
        let few = if shown == StockDisplay::InStock { "in_stock" } else { "few_left" };
        assert_eq!(product(&site, "FEW").await, is(few, numbers.then_some(3)));
        site.verify().await;
    }
    let site = shop(StockDisplay::Hidden).await;
    assert_eq!(product(&site, "MANY").await, Value::Null);
    assert_eq!(lines(&site, &[("NONE", 1)]).await, [Value::Null]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restock_date_is_shown_while_there_is_no_stock() {
    let site = shop(StockDisplay::FewLeft).await;
    let patch = async |at: Value| {
        let body = json!({"restock_at": at});
        site.admin(Method::PATCH, "/products/NONE", Some(body)).await
    };
    let at = "2999-01-31T12:00:00.000Z";
    assert_eq!(patch(json!("soon")).await.body["errors"][0]["field"], "restock_at");
    assert_eq!(patch(json!(at)).await.expect(200)["restock_at"], at);
    let expected = json!({"status": "out_of_stock", "quantity": null, "restock_at": at});
    assert_eq!(product(&site, "NONE").await, expected);
    assert_eq!(lines(&site, &[("NONE", 2)]).await, [expected]);

    let shelf = json!({"name": "Returned goods", "for_sale": false});
    site.admin(Method::PUT, "/locations/returns", Some(shelf)).await.expect(201);
    let set = Some(json!({"on_hand": 4}));
    site.admin(Method::PUT, "/stock/NONE/returns", set).await.expect(200);
    site.set_stock("MANY", 2).await;
    site.until_some(async || (product(&site, "MANY").await["status"] == "few_left").then_some(()))
        .await;
    assert_eq!(product(&site, "NONE").await["status"], "out_of_stock", "not for sale there");
    patch(json!("2001-01-31T12:00:00Z")).await.expect(200);
    assert_eq!(product(&site, "NONE").await, is("out_of_stock", None), "a past date is not shown");
    patch(Value::Null).await.expect(200);
    site.verify().await;
}
