//! Keys of erased people: all of them are gone, from every file, and no others.

use kontor::store::Store;
use kontor::verify::verify;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::{EMAIL, in_clear, order, ship, shown};
use crate::servers::database;
use crate::site::Site;

const WRONG: &str = "zsofia.kanarienvogl@example.com";

/// Erases whoever has the address, until nothing of theirs is kept.
async fn erase(site: &Site, email: &str) {
    site.until_some(async || {
        let body = Some(json!({"email": email}));
        let done = site.admin(Method::POST, "/erasures", body).await.expect(200);
        done["kept"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
}

async fn connect(site: &Site) -> SqliteConnection {
    let file = site.config.data.dir.join("kontor.db");
    SqliteConnectOptions::new().filename(file).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrected_email_address_leaves_no_key_of_an_erased_order_in_sqlite() {
    corrected(Site::open().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrected_email_address_leaves_no_key_of_an_erased_order_in_postgres() {
    let url = database();
    corrected(Site::with(|config| config.store.url = url.as_str().into()).await).await;
}

async fn corrected(site: Site) {
    site.sell("LAMP", 1_000, 10).await;
    let name = json!({
        "name": "Zsofia Kanarienvogel", "line1": "Vogelweg 77", "city": "Vogelhausen",
        "postal_code": "10115", "country": "DE",
    });
    for (key, erased) in [("one", EMAIL), ("two", WRONG)] {
        let cart = site.cart(&[("LAMP", 1)]).await;
        let path = format!("/carts/{cart}");
        let first = json!({"email": WRONG, "shipping_address": name});
        site.store(Method::PATCH, &path, Some(first)).await.expect(200);
        site.store(Method::PATCH, &path, Some(json!({"email": EMAIL}))).await.expect(200);
        site.checkout(&cart, key, "tok_ok", 10).await.expect(201);
        ship(&site, &cart).await;
        erase(&site, erased).await;
        let order = shown(&site, &cart).await;
        assert_eq!((&order["email"], &order["shipping_address"]), (&Value::Null, &Value::Null));
        let events = format!("/orders/{}/events", cart.replace("cart_", "ord_"));
        let events = site.admin(Method::GET, &events, None).await.expect(200).to_string();
        assert!(!events.to_lowercase().contains("kanari"), "{erased}: {events}");
        let store = &site.app.as_ref().unwrap().store;
        for email in [EMAIL, WRONG] {
            let subject = store.lookups().await.unwrap().email(email);
            assert_eq!(store.keys_of_subject(&subject).await.unwrap(), [], "{erased}: {email}");
        }
    }
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn destroyed_keys_and_removed_exports_are_in_no_file_of_a_data_folder() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    let cart = order(&site, "one").await;
    ship(&site, &cart).await;
    let export = format!("/order-exports?email={EMAIL}");
    let export = site.admin(Method::POST, &export, None).await.expect(202);
    let path = format!("/order-exports/{}", export["id"].as_str().unwrap());
    site.until_some(async || {
        let now = site.admin(Method::GET, &path, None).await.expect(200);
        now["file"].is_string().then_some(())
    })
    .await;
    let mut connection = connect(&site).await;
    let text = "SELECT wrapped FROM personal_key WHERE subject IS NOT NULL";
    let wrapped: Vec<String> = sqlx::query_scalar(text).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let holding = || {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&site.config.data.dir).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap_or_default();
            let has = |key: &&String| bytes.windows(key.len()).any(|part| part == key.as_bytes());
            files.extend(wrapped.iter().find(has).map(|_| path));
        }
        files
    };
    assert!(!wrapped.is_empty() && !holding().is_empty());
    erase(&site, EMAIL).await;
    assert_eq!(holding(), [""; 0].map(std::path::PathBuf::from));
    assert_eq!(in_clear(&site.config.data.dir), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_an_order_whose_keys_are_gone_though_nobody_was_erased() {
    let mut site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    let carts = [order(&site, "one").await, order(&site, "two").await];
    site.restart().await;
    site.app.take().unwrap().stop().await;
    let mut connection = connect(&site).await;
    let gone = sqlx::query("DELETE FROM personal_key WHERE entity = $1").bind(&carts[0]);
    assert!(gone.execute(&mut connection).await.unwrap().rows_affected() > 0);
    connection.close().await.unwrap();
    let beside = Store::open_beside(&site.config.data.dir).await.unwrap();
    let report = verify(&beside, None, |_| {}).await.unwrap();
    beside.close().await;
    let of_keys = report.violations.iter().filter(|found| found.invariant.to_string() == "I7");
    let named: Vec<(&str, &str)> = of_keys.map(|one| (&*one.entity, &*one.message)).collect();
    let why = "its buyer was not erased, but keys of their data are gone";
    assert_eq!(named, [(&*carts[0].replace("cart_", "ord_"), why)], "{report}");
}
