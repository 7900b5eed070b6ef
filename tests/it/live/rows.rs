//! Products and locations on the live socket: rows that are written with their events.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Client, nodes};
use crate::servers::database;
use crate::site::Site;

fn subscribe(topic: &str, more: Value) -> Value {
    let mut message = json!({"type": "subscribe", "id": topic, "topic": topic});
    message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    message
}

async fn rename(site: &Site, sku: &str, name: &str) {
    let patch = json!({"name": name});
    site.admin(Method::PATCH, &format!("/products/{sku}"), Some(patch)).await.expect(200);
}

/// The next message with data about a topic.
async fn next(client: &mut Client, topic: &str) -> Value {
    client.until(|message| message["id"] == topic && message["data"] != json!([])).await
}

/// Two nodes on one store, or one on its own.
async fn sites(several: bool) -> Vec<Site> {
    if !several {
        return vec![Site::open().await];
    }
    let database = database();
    let one = nodes::node("one", &database, None, None).await;
    let other = nodes::node("other", &database, None, Some(&one)).await;
    nodes::shared([&one, &other]).await;
    vec![one, other]
}

async fn products_are_followed(several: bool) {
    let sites = sites(several).await;
    let (site, other) = (&sites[0], sites.last().unwrap());
    site.sell("LAMP", 1_000, 5).await;
    site.sell("MUG", 500, 5).await;
    let mut client = Client::open(site).await;
    client.say(subscribe("products", json!({}))).await;
    let snapshot = next(&mut client, "products").await;
    let listed = site.admin(Method::GET, "/products", None).await.expect(200);
    assert_eq!((&snapshot["type"], &snapshot["data"]), (&json!("snapshot"), &listed["data"]));
    assert_eq!(snapshot["more"], false);

    // Each product is changed on the other node, too, in any shard.
    rename(other, "LAMP", "Lamp").await;
    let change = next(&mut client, "products").await;
    let one = &change["data"][0];
    assert_eq!(
        (&one["sku"], &one["after"], &one["version"]),
        (&json!("LAMP"), &json!(1), &json!(2))
    );
    let event = &one["events"][0];
    assert_eq!((&event["seq"], &event["kind"]), (&json!(2), &json!("updated")));
    assert!(event["by"].as_str().unwrap().starts_with("key:"), "{event}");
    assert_eq!(event["by_name"], "test");
    let row = site.admin(Method::GET, "/products/LAMP", None).await.expect(200);
    assert_eq!(one["row"], row);
    rename(other, "MUG", "Mug").await;
    let change = next(&mut client, "products").await;
    assert_eq!(
        (&change["data"][0]["sku"], &change["data"][0]["after"]),
        (&json!("MUG"), &json!(1))
    );

    // It resumes on another node, with one SKU only, from a token and from a time.
    let token = change["token"].clone();
    drop(client);
    for name in ["Lamp 2", "Lamp 3"] {
        rename(site, "LAMP", name).await;
        rename(site, "MUG", name).await;
    }
    let mut client = Client::open(other).await;
    let filter = json!({"sku": "LAMP"});
    client.say(subscribe("products", json!({"from": token, "filter": filter}))).await;
    let (mut after, mut seqs) = (2, Vec::new());
    while after < 4 {
        let change = next(&mut client, "products").await;
        assert_eq!(change["type"], "changes");
        for one in change["data"].as_array().unwrap() {
            assert_eq!((&one["sku"], &one["after"]), (&json!("LAMP"), &json!(after)));
            seqs.extend(one["events"].as_array().unwrap().iter().map(|event| event["seq"].clone()));
            after = one["version"].as_i64().unwrap();
        }
    }
    assert_eq!(seqs, [3, 4]);
    let from = json!({"from": "2000-01-01T00:00:00Z", "filter": filter});
    client.say(subscribe("products", from)).await;
    let first = next(&mut client, "products").await;
    assert_eq!((&first["type"], &first["data"][0]["after"]), (&json!("changes"), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn products_are_followed_on_one_node() {
    products_are_followed(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn products_are_followed_on_two_nodes() {
    products_are_followed(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locations_are_followed_until_they_are_deleted() {
    let site = Site::open().await;
    let put = |name: &str| {
        let body = json!({"name": name});
        site.admin(Method::PUT, "/locations/annex", Some(body))
    };
    let shelf = put("Shelf").await.expect(201);
    let mut client = Client::open(&site).await;
    client.say(subscribe("locations", json!({}))).await;
    let snapshot = next(&mut client, "locations").await;
    assert_eq!((&snapshot["type"], &snapshot["data"]), (&json!("snapshot"), &json!([shelf])));
    let annex = put("Annex").await.expect(200);
    let change = next(&mut client, "locations").await;
    let one = &change["data"][0];
    assert_eq!((&one["location"], &one["after"]), (&json!("annex"), &json!(1)));
    assert_eq!((&one["row"], &one["events"][0]["seq"]), (&annex, &json!(2)));
    site.admin(Method::DELETE, "/locations/annex", None).await;
    let change = next(&mut client, "locations").await;
    let one = &change["data"][0];
    assert_eq!((&one["row"], &one["version"]), (&Value::Null, &json!(3)));
    assert_eq!(one["events"][0]["kind"], "deleted");
    client.say(subscribe("locations", json!({}))).await;
    let again = client.until(|message| message["type"] == "snapshot").await;
    assert_eq!(again["data"], json!([]));

    let page = site.admin(Method::GET, "/changes?topic=locations", None).await.expect(200);
    let listed = &page["data"][0];
    assert_eq!((&listed["location"], &listed["row"]), (&json!("annex"), &Value::Null));
    let kinds = |listed: &Value| {
        let events = listed["events"].as_array().unwrap();
        assert!(events.iter().all(|event| event["by_name"] == "test"), "{listed:#}");
        events.iter().map(|event| event["kind"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(listed), ["created", "updated", "deleted"]);
    put("Annex again").await.expect(201);
    let page = site.admin(Method::GET, "/changes?topic=locations", None).await.expect(200);
    assert_eq!(kinds(&page["data"][0])[3..], ["created"], "what was deleted can be created again");
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_of_one_location_is_followed_until_the_location_is_deleted() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 5).await;
    let annex = json!({"name": "Annex"});
    site.admin(Method::PUT, "/locations/annex", Some(annex)).await.expect(201);
    let transfer = async |from: &str, to: &str| {
        let body = json!({"from": from, "to": to, "quantity": 2});
        site.admin(Method::POST, "/stock/LAMP/transfers", Some(body)).await.expect(200)
    };
    transfer("main", "annex").await;
    let there = async || {
        let listed = site.admin(Method::GET, "/stock?location=annex", None).await.expect(200);
        (listed["data"][0]["on_hand"] == 2).then_some(listed["data"].clone())
    };
    let listed = site.until_some(there).await;
    let mut client = Client::open(&site).await;
    let about = json!({"filter": {"location": "annex"}});
    client.say(subscribe("stock", about.clone())).await;
    assert_eq!(next(&mut client, "stock").await["data"], listed);
    transfer("annex", "main").await;
    let change = next(&mut client, "stock").await;
    let one = &change["data"][0];
    assert_eq!(one["rows"].as_array().unwrap().len(), 1, "{one:#}");
    assert_eq!(
        (&one["rows"][0]["location"], &one["rows"][0]["on_hand"]),
        (&json!("annex"), &json!(0))
    );
    let event = &one["events"][0];
    assert_eq!((&event["kind"], &event["by_name"]), (&json!("transferred"), &json!("test")));
    let gone = site.admin(Method::DELETE, "/locations/annex", None).await;
    assert_eq!(gone.status, 204);
    let counted = Some(json!({"on_hand": 9}));
    site.admin(Method::PUT, "/stock/LAMP/main", counted).await.expect(200);
    let change = next(&mut client, "stock").await;
    assert_eq!(
        (&change["data"][0]["sku"], &change["data"][0]["rows"]),
        (&json!("LAMP"), &json!([]))
    );
    let pages = site.admin(Method::GET, "/changes?topic=stock", None).await.expect(200);
    let changed = pages["data"].as_array().unwrap().last().unwrap();
    assert_eq!(changed["rows"].as_array().unwrap().len(), 1, "{changed:#}");
    assert!(changed["rows"][0]["name"].is_string(), "{changed:#}");
    client.say(subscribe("stock", json!({"filter": {"location": "An nex", "order": "x"}}))).await;
    let refused = client.until(|message| message["type"] == "error").await;
    let fields: Vec<_> =
        refused["errors"].as_array().unwrap().iter().map(|one| &one["field"]).collect();
    assert_eq!(fields, ["filter.location", "filter.order"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_of_products_does_not_disturb_those_who_follow_orders() {
    let site = Site::with(|config| config.http.live.ring_changes = 50).await;
    site.sell("LAMP", 1_000, 50).await;
    let mut client = Client::open(&site).await;
    client.say(super::orders(None)).await;
    client.say(subscribe("products", json!({"limit": 1}))).await;
    let mut book = super::Book::default();
    book.take(&client.until(|message| message["id"] == "o").await);
    let long = "A long description. ".repeat(400);
    for number in 0..20 {
        let product = json!({
            "sku": format!("SKU-{number}"), "name": "Product", "description": long,
            "prices": [{"amount": 1_000, "currency": "GBP"}],
        });
        site.admin(Method::POST, "/products", Some(product)).await.expect(201);
    }
    let orders = super::buy(&site, 2).await;
    while !book.whole(&site, &orders).await {
        book.take(&client.until(|message| message["id"] == "o").await);
    }
    assert_eq!(book.resyncs, 0);
}
