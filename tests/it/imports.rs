//! `kontor import` into a real server, with SQLite and with PostgreSQL: what a file changes, and what
//! it leaves alone.
//!
//! What deliberately is not here: batches and resuming (`cli_client`), reading files (the lab's own
//! tests).

use std::process::ExitCode;

use kontor::domain::money::Currency;
use kontor_lab::import;
use reqwest::Method;
use serde_json::{Value, json};

use crate::site::Site;

on_both_databases! {
    a_price_without_a_currency_is_in_the_shops
    what_a_file_does_not_say_stays_as_it_is
    line_breaks_are_line_feeds_wherever_they_come_from
    on_hand_sets_and_on_hand_change_adds
    a_refused_row_changes_nothing
    a_dry_run_sees_the_rows_before_as_the_real_run_does
}

/// A shop that sells in euros, and files for it.
struct Shop {
    site: Site,
    folder: tempfile::TempDir,
}

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: import::Args,
}

async fn shop(database: Option<String>) -> Shop {
    Shop::open(database).await
}

impl Shop {
    async fn open(database: Option<String>) -> Self {
        let site = Site::with(|config| {
            config.shop.currency = Currency::EUR;
            if let Some(url) = database {
                config.store.url = url.as_str().into();
            }
        });
        Self { site: site.await, folder: tempfile::tempdir().unwrap() }
    }

    /// Imports a file of this name and text; whether all rows were taken.
    async fn import(&self, name: &str, text: &str) -> bool {
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let (file, url) = (file.to_str().unwrap(), self.site.url());
        let words = ["kontor", file, "--url", &url, "--key", &self.site.key, "--json"];
        let args = <Cli as clap::Parser>::parse_from(words).args;
        let code = import::run(args).await.unwrap();
        format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS)
    }

    async fn product(&self, sku: &str) -> Value {
        self.site.admin(Method::GET, &format!("/products/{sku}"), None).await.expect(200)
    }

    async fn close(self) {
        self.site.verify().await;
    }
}

fn price(amount: i64, currency: &str) -> Value {
    json!({"amount": amount, "amount_decimal": amount.to_string(), "currency": currency})
}

async fn a_price_without_a_currency_is_in_the_shops(shop: Shop) {
    assert!(shop.import("a.csv", "sku,name,price\nP1,Desk lamp,12.99\n").await);
    let rows = "{\"sku\":\"P2\",\"name\":\"Shelf\",\"price\":5}\n\
                {\"sku\":\"P3\",\"name\":\"Rack\",\"price\":\"700\",\"currency\":\"JPY\"}\n";
    assert!(shop.import("b.jsonl", rows).await);
    for (sku, amount, currency) in [("P1", 1299, "EUR"), ("P2", 500, "EUR"), ("P3", 700, "JPY")] {
        let prices = json!([price(amount, currency)]);
        assert_eq!(shop.product(sku).await["prices"], prices, "{sku}");
    }
    let cart = json!({"lines": [{"sku": "P1", "quantity": 1}]});
    let cart = shop.site.store(Method::POST, "/carts", Some(cart)).await.expect(201);
    assert_eq!(cart["totals"]["items"], json!({"amount": 1299, "currency": "EUR"}));
    assert!(!shop.import("c.csv", "sku,name,price\nP4,Dust,0.0000001\n").await);
    shop.close().await;
}

async fn what_a_file_does_not_say_stays_as_it_is(shop: Shop) {
    let mut whole = json!({
        "sku": "P1", "name": "Lamp", "description": "Tall", "category": "Light", "active": false,
        "restock_at": null,
        "tax_rate": "0.2", "prices": [price(1000, "EUR"), price(900, "GBP")],
    });
    shop.site.admin(Method::POST, "/products", Some(whole.clone())).await.expect(201);
    let is = async |whole: &Value, what: &str| {
        let mut found = shop.product("P1").await;
        found
            .as_object_mut()
            .unwrap()
            .retain(|name, _| !["version", "updated_at"].contains(&&**name));
        assert_eq!(&found, whole, "{what}");
    };

    assert!(shop.import("a.csv", "sku,on_hand\nP1,5\n").await);
    is(&whole, "stock").await;
    assert_eq!(shop.site.level("P1").await["on_hand"], 5);
    let empty = "sku,name,description,category,price,currency,tax_rate,active,location,on_hand\n\
                 P1,,,,,,,,,\n";
    assert!(shop.import("b.csv", empty).await);
    is(&whole, "empty cells").await;
    assert!(shop.import("c.csv", "sku,name,price\nP1,Desk lamp,12.99\n").await);
    whole["name"] = json!("Desk lamp");
    whole["prices"][0] = price(1299, "EUR");
    is(&whole, "a name and a price").await;
    let both = "sku,name,price,currency\nP1,Desk lamp,14,USD\nP1,,800,JPY\n";
    assert!(shop.import("d.csv", both).await);
    let prices = [(1299, "EUR"), (900, "GBP"), (800, "JPY"), (1400, "USD")]
        .map(|(amount, currency)| price(amount, currency));
    whole["prices"] = json!(prices);
    is(&whole, "two currencies").await;
    assert!(shop.import("e.csv", "sku,active\nP1,TRUE\n").await);
    whole["active"] = json!(true);
    is(&whole, "active").await;
    let null = "{\"sku\":\"P1\",\"description\":null,\"category\":null}\n";
    assert!(shop.import("f.jsonl", null).await);
    (whole["description"], whole["category"]) = (json!(""), Value::Null);
    is(&whole, "null").await;
    assert!(!shop.import("g.csv", "sku,price\nP9,1\n").await, "a new product needs a name");
    shop.close().await;
}

async fn a_refused_row_changes_nothing(shop: Shop) {
    assert!(shop.import("a.csv", "sku,name,price,on_hand\nP1,Lamp,5,3\n").await);
    let before = shop.product("P1").await;
    let expects = "sku,name,price,active,on_hand,change_from\nP1,Other,9,false,1,77\n";
    assert!(!shop.import("b.csv", expects).await, "3 are there, not 77");
    assert_eq!(shop.product("P1").await, before);
    assert!(!shop.import("c.csv", "sku,name,on_hand_change\nP2,Shelf,-1\n").await);
    shop.site.admin(Method::GET, "/products/P2", None).await.expect(404);
    assert!(!shop.import("d.csv", "sku,on_hand\nP3,5\n").await, "a new product needs a name");
    shop.site.admin(Method::GET, "/stock/P3", None).await.expect(404);
    shop.close().await;
}

async fn a_dry_run_sees_the_rows_before_as_the_real_run_does(shop: Shop) {
    let rows = json!([
        {"product": {"sku": "P1", "name": "Lamp"}, "on_hand": 5},
        {"product": {"sku": "P1"}, "on_hand_change": -3},
        {"product": {"sku": "P1"}, "on_hand": 9, "change_from": 2},
        {"product": {"sku": "P1"}, "on_hand": 9},
        {"product": {"sku": "P1"}, "on_hand_change": -10},
    ]);
    let mut reports = Vec::new();
    for dry_run in [true, false] {
        let body = json!({"dry_run": dry_run, "rows": rows});
        let report = shop.site.admin(Method::POST, "/imports", Some(body)).await.expect(200);
        assert_eq!(report["stock_set"], 3, "{report}");
        assert_eq!(report["errors"].as_array().map(Vec::len), Some(1), "{report}");
        reports.push(report["errors"].clone());
    }
    assert_eq!(reports[0], reports[1]);
    assert_eq!(shop.site.level("P1").await["on_hand"], 9);
    shop.close().await;
}

async fn line_breaks_are_line_feeds_wherever_they_come_from(shop: Shop) {
    let rows = "sku,name,description\r\nP1,Lamp,\"Tall\r\nand thin\"\r\n";
    assert!(shop.import("a.csv", rows).await);
    let row = "{\"sku\":\"P2\",\"name\":\"Lamp\",\"description\":\"Tall\\r\\nand thin\"}\r\n";
    assert!(shop.import("b.jsonl", row).await);
    for sku in ["P1", "P2"] {
        assert_eq!(shop.product(sku).await["description"], "Tall\nand thin", "{sku}");
    }
    let patch = json!({"description": "Tall\rand thin"});
    shop.site.admin(Method::PATCH, "/products/P1", Some(patch)).await.expect(200);
    assert_eq!(shop.product("P1").await["description"], "Tall\nand thin");
    assert!(!shop.import("c.csv", "sku,name\nP3,\"Tall\r\nlamp\"\n").await, "a name has one line");
    shop.close().await;
}

async fn on_hand_sets_and_on_hand_change_adds(shop: Shop) {
    let on_hand = async || shop.site.level("P1").await["on_hand"].clone();
    let count = "sku,name,on_hand\nP1,Lamp,10\n";
    assert!(shop.import("count.csv", count).await);
    let sold = json!({"quantity": -3, "reason": "sold"});
    let sold = shop.site.admin(Method::POST, "/stock/P1/main/adjustments", Some(sold)).await;
    sold.expect(200);

    let expected = "sku,on_hand,change_from\nP1,10,10\n";
    assert!(!shop.import("expected.csv", expected).await, "7 are there, not 10");
    assert_eq!(on_hand().await, 7);
    let right = "sku,on_hand,change_from\nP1,12,7\n";
    for _ in 0..2 {
        assert!(shop.import("right.csv", right).await, "12 are set, or there already");
        assert_eq!(on_hand().await, 12);
    }
    assert!(shop.import("count.csv", count).await);
    assert_eq!(on_hand().await, 10);

    let change = "sku,on_hand_change\nP1,-2\nP1,1\n";
    for left in [9, 8] {
        assert!(shop.import("change.csv", change).await);
        assert_eq!(on_hand().await, left, "each row of each import counts once");
    }
    assert!(!shop.import("gone.csv", "sku,on_hand_change\nP1,-9\n").await);
    for bad in ["on_hand,on_hand_change\nP1,1,1\n", "change_from\nP1,8\n"] {
        assert!(!shop.import("bad.csv", &format!("sku,{bad}")).await, "{bad}");
    }
    assert_eq!(on_hand().await, 8);

    let back = json!({"name": "Back room"});
    shop.site.admin(Method::PUT, "/locations/back", Some(back)).await.expect(201);
    let rows = json!({"rows": [
        {"product": {"sku": "P1"}, "on_hand_change": 5},
        {"product": {"sku": "P1"}, "on_hand_change": -9, "location": "back"},
        {"product": {"sku": "P1"}, "on_hand": 1, "change_from": 9},
        {"product": {"sku": "P1"}, "on_hand": 1, "on_hand_change": 9},
        {"product": {"sku": "P1"}, "change_from": 9},
    ]});
    let fields =
        [(1, "on_hand_change"), (2, "change_from"), (3, "on_hand_change"), (4, "change_from")]
            .map(|(row, field)| json!([row, field]));
    for _ in 0..2 {
        let request = shop.site.request(Method::POST, "/v1/admin/imports").json(&rows);
        let request = request.bearer_auth(&shop.site.key).header("Idempotency-Key", "delivery-1");
        let done = shop.site.send(request).await.expect(200);
        let errors = done["errors"].as_array().unwrap();
        let found: Vec<Value> =
            errors.iter().map(|error| json!([error["row"], error["field"]])).collect();
        assert_eq!(found, fields, "{done}");
        assert_eq!(on_hand().await, 13, "the same request adds once");
    }
    shop.close().await;
}
