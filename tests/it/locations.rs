//! Locations, on both databases: which there are, what is refused elsewhere, and that nothing is
//! sold from one that is not for sale.

use kontor::domain::entity::Cause;
use kontor::domain::stock;
use reqwest::Method;
use serde_json::{Value, json};

use crate::site::{Answer, Site};

on_both_databases! {
    an_unknown_location_is_refused_wherever_it_is_named
    a_location_is_described_and_deleted
    nothing_is_sold_where_it_is_not_for_sale
    an_order_says_from_which_locations_its_units_are_taken
    units_that_come_back_to_a_deleted_location_can_be_moved
    old_stock_keeps_its_location
}

async fn shop(database: Option<String>) -> Site {
    let site = Site::with(|config| {
        if let Some(url) = database {
            config.store.url = url.as_str().into();
        }
    });
    let site = site.await;
    site.sell("LAMP", 1_000, 5).await;
    site
}

async fn admin(site: &Site, method: &str, path: &str, body: Value) -> Answer {
    let body = Some(body).filter(|body| !body.is_null());
    site.admin(method.parse().unwrap(), path, body).await
}

fn fields(answer: &Answer) -> Vec<&str> {
    let errors = answer.body["errors"].as_array().unwrap_or_else(|| panic!("{:#}", answer.body));
    errors.iter().map(|fault| fault["field"].as_str().unwrap()).collect()
}

async fn ids(site: &Site) -> Vec<String> {
    let page = admin(site, "GET", "/locations", Value::Null).await.expect(200);
    let rows = page["data"].as_array().unwrap();
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// Whether each location that is listed has units, by their ids.
async fn with_units(site: &Site) -> Vec<bool> {
    let page = admin(site, "GET", "/locations", Value::Null).await.expect(200);
    let rows = page["data"].as_array().unwrap();
    rows.iter().map(|row| row["has_units"].as_bool().unwrap()).collect()
}

/// The locations of the levels in the list of stock.
async fn listed(site: &Site, query: &str) -> Vec<String> {
    let page = admin(site, "GET", &format!("/stock?{query}"), Value::Null).await.expect(200);
    let rows = page["data"].as_array().unwrap();
    rows.iter().map(|row| row["location"].as_str().unwrap().to_owned()).collect()
}

async fn an_unknown_location_is_refused_wherever_it_is_named(site: Site) {
    for (method, path, body) in [
        ("PUT", "/stock/LAMP/mian", json!({"on_hand": 5})),
        ("POST", "/stock/LAMP/mian/receipts", json!({"quantity": 5})),
        ("POST", "/stock/LAMP/mian/adjustments", json!({"quantity": 5, "reason": "found"})),
        ("POST", "/stock/LAMP/mian/incoming", json!({"quantity": 5})),
        ("GET", "/stock?location=mian", Value::Null),
    ] {
        let refused = admin(&site, method, path, body).await;
        assert_eq!((refused.status, fields(&refused)), (422, vec!["location"]), "{path}");
    }
    let both = json!({"from": "mian", "to": "bakc", "quantity": 0});
    let refused = admin(&site, "POST", "/stock/LAMP/transfers", both).await;
    let mut all = fields(&refused);
    all.sort_unstable();
    assert_eq!(all, ["from", "quantity", "to"]);
    let rows = json!({"rows": [{"product": {"sku": "LAMP"}, "location": "mian", "on_hand": 7}]});
    let done = admin(&site, "POST", "/imports", rows).await.expect(200);
    assert_eq!(done["errors"][0]["field"], "location", "{done}");
    assert_eq!(site.level("LAMP").await["on_hand"], 5);
    assert_eq!(ids(&site).await, ["main"]);
    site.verify().await;
}

async fn a_location_is_described_and_deleted(mut site: Site) {
    let main = admin(&site, "GET", "/locations/main", Value::Null).await.expect(200);
    let implied =
        json!({"id": "main", "name": "main", "address": null, "for_sale": true, "version": 0});
    assert_eq!(main, implied);
    assert_eq!(admin(&site, "GET", "/locations/attic", Value::Null).await.status, 404);
    let address = json!({"name": "Shop", "line1": "1 High St", "city": "York", "postal_code": "YO1 7HH",
        "country": "GB"});
    let attic = json!({"name": "The attic", "address": address, "for_sale": false});
    let made = admin(&site, "PUT", "/locations/attic", attic.clone()).await;
    assert_eq!((made.status, &made.body["version"]), (201, &json!(1)), "{:#}", made.body);
    assert_eq!(made.body["address"], address);
    let wrong = admin(&site, "PUT", "/locations/At_tic", json!({"name": "", "open": true})).await;
    assert_eq!(wrong.status, 422);
    assert_eq!(fields(&wrong).len(), 3, "{:#}", wrong.body);
    let patched = admin(&site, "PATCH", "/locations/attic", json!({"address": null})).await;
    assert_eq!((patched.status, &patched.body["address"]), (200, &Value::Null));
    let renamed =
        admin(&site, "PATCH", "/locations/main", json!({"name": "Shop"})).await.expect(200);
    assert_eq!((&renamed["version"], &renamed["for_sale"]), (&json!(1), &json!(true)));
    let stale = site.request(Method::PATCH, "/v1/admin/locations/main").bearer_auth(&site.key);
    let stale = stale.header("If-Match", "\"0\"").json(&json!({"name": "S"}));
    assert_eq!(site.send(stale).await.code(), "version_mismatch");
    assert_eq!(ids(&site).await, ["attic", "main"]);
    assert!(!with_units(&site).await[0]);

    let moved = json!({"from": "main", "to": "attic", "quantity": 2});
    admin(&site, "POST", "/stock/LAMP/transfers", moved).await.expect(200);
    let full = admin(&site, "DELETE", "/locations/attic", Value::Null).await;
    assert_eq!((full.status, full.code()), (409, "wrong_state"));
    assert_eq!(with_units(&site).await, [true, true]);
    let back = json!({"from": "attic", "to": "main", "quantity": 2});
    admin(&site, "POST", "/stock/LAMP/transfers", back).await.expect(200);
    assert_eq!(admin(&site, "DELETE", "/locations/attic", Value::Null).await.status, 204);
    assert_eq!(admin(&site, "GET", "/locations/attic", Value::Null).await.status, 404);
    assert_eq!(admin(&site, "DELETE", "/locations/attic", Value::Null).await.status, 404);
    let main = async || (listed(&site, "").await == ["main"]).then_some(());
    site.until_some(main).await;
    let item = admin(&site, "GET", "/stock/LAMP", Value::Null).await.expect(200);
    let levels = item["levels"].as_array().unwrap();
    assert_eq!((levels.len(), &levels[0]["location"]), (1, &json!("main")));
    let moved = |location: &str| format!("/stock/LAMP/events?location={location}");
    let at_main = admin(&site, "GET", &moved("main"), Value::Null).await.expect(200);
    let kinds: Vec<_> =
        at_main["data"].as_array().unwrap().iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds, ["transferred", "transferred", "adjusted"]);
    let unknown = admin(&site, "GET", &moved("mian"), Value::Null).await;
    assert_eq!((unknown.status, fields(&unknown)), (422, vec!["location"]));
    let gone = admin(&site, "PUT", "/stock/LAMP/attic", json!({"on_hand": 1})).await;
    assert_eq!((gone.status, fields(&gone)), (422, vec!["location"]));
    site.restart().await;
    assert_eq!(ids(&site).await, ["main"]);
    let again = admin(&site, "PUT", "/locations/attic", attic).await;
    assert_eq!((again.status, &again.body["for_sale"]), (201, &json!(false)));
    site.verify().await;
}

async fn nothing_is_sold_where_it_is_not_for_sale(site: Site) {
    let shelf = json!({"name": "Returned goods", "for_sale": false});
    admin(&site, "PUT", "/locations/returns", shelf).await.expect(201);
    admin(&site, "PUT", "/stock/LAMP/returns", json!({"on_hand": 4})).await.expect(200);
    let item = admin(&site, "GET", "/stock/LAMP", Value::Null).await.expect(200);
    assert_eq!((&item["on_hand"], &item["sellable"]), (&json!(9), &json!(5)));
    let cart = site.cart(&[("LAMP", 6)]).await;
    let short = site.checkout(&cart, "key-1", "tok_ok", 10).await;
    assert_eq!(
        (short.code(), &short.body["order"]),
        ("out_of_stock", &Value::Null),
        "{:#}",
        short.body
    );
    assert_eq!(short.body["lines"][0]["available"], 5);
    let cart = site.cart(&[("LAMP", 5)]).await;
    site.checkout(&cart, "key-2", "tok_ok", 10).await.expect(201);
    let item = admin(&site, "GET", "/stock/LAMP", Value::Null).await.expect(200);
    let level = |at: &str| {
        let levels = item["levels"].as_array().unwrap();
        levels.iter().find(|level| level["location"] == at).unwrap()["allocated"].clone()
    };
    assert_eq!((level("main"), level("returns")), (json!(5), json!(0)));

    admin(&site, "PATCH", "/locations/returns", json!({"for_sale": true})).await.expect(200);
    let cart = site.cart(&[("LAMP", 4)]).await;
    site.checkout(&cart, "key-3", "tok_ok", 10).await.expect(201);
    site.verify().await;
}

async fn an_order_says_from_which_locations_its_units_are_taken(site: Site) {
    admin(&site, "PUT", "/locations/attic", json!({"name": "The attic"})).await.expect(201);
    admin(&site, "PUT", "/stock/LAMP/attic", json!({"on_hand": 4})).await.expect(200);
    let cart = site.cart(&[("LAMP", 7)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 10).await.expect(201);
    let path = format!("/orders/{}", order["id"].as_str().unwrap());
    let units = |attic: i64, main: i64| {
        let part = |location: &str, quantity: i64| json!({"sku": "LAMP", "location": location, "quantity": quantity});
        let parts = [("attic", attic), ("main", main)].into_iter().filter(|(_, units)| *units > 0);
        Value::from(parts.map(|(at, units)| part(at, units)).collect::<Vec<_>>())
    };
    let sorted = |order: &Value| {
        let mut all = order["allocations"].as_array().unwrap().clone();
        all.sort_by_key(|one| one["location"].to_string());
        Value::from(all)
    };
    let read = format!("{path}?expand=allocations");
    let seen = admin(&site, "GET", &read, Value::Null).await.expect(200);
    let parts = sorted(&seen);
    assert!([units(4, 3), units(2, 5)].contains(&parts), "{parts}");
    site.until_some(async || {
        let page = admin(&site, "GET", "/orders?expand=allocations", Value::Null).await.expect(200);
        (page["data"][0]["allocations"] == seen["allocations"]).then_some(())
    })
    .await;
    let item = admin(&site, "GET", "/stock/LAMP", Value::Null).await.expect(200);
    let allocated = &item["allocations"][0];
    assert_eq!(
        (allocated["quantity"].as_i64(), allocated["parts"].as_array().unwrap().len()),
        (Some(7), 2)
    );

    // What was shipped is left to ship nowhere.
    let all = json!({"lines": [{"line": "1", "quantity": 6}]});
    admin(&site, "POST", &format!("{path}/fulfillments"), all).await.expect(200);
    site.until_some(async || {
        let seen = admin(&site, "GET", &read, Value::Null).await.expect(200);
        [units(1, 0), units(0, 1)].contains(&sorted(&seen)).then_some(())
    })
    .await;
    let early = admin(&site, "GET", &format!("{read}&at_seq=1"), Value::Null).await;
    assert_eq!((early.status, fields(&early)), (422, vec!["expand"]));
}

async fn units_that_come_back_to_a_deleted_location_can_be_moved(site: Site) {
    admin(&site, "PUT", "/locations/attic", json!({"name": "The attic"})).await.expect(201);
    let moved = json!({"from": "main", "to": "attic", "quantity": 5});
    admin(&site, "POST", "/stock/LAMP/transfers", moved).await.expect(200);
    let cart = site.cart(&[("LAMP", 5)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 10).await.expect(201);
    site.until(&cart, |order| order["payment_status"] == "captured").await;
    let order = format!("/orders/{}", order["id"].as_str().unwrap());
    admin(&site, "POST", &format!("{order}/fulfillments"), json!({})).await.expect(200);
    site.until_some(async || {
        let gone = admin(&site, "DELETE", "/locations/attic", Value::Null).await;
        (gone.status == 204).then_some(())
    })
    .await;
    assert_eq!(ids(&site).await, ["main"]);
    let lines = json!([{"line": "1", "quantity": 2}]);
    let back = json!({"lines": lines, "restock": true, "reason": "not wanted"});
    admin(&site, "POST", &format!("{order}/refunds"), back).await.expect(200);
    site.until_some(async || (ids(&site).await == ["attic", "main"]).then_some(())).await;
    let attic = admin(&site, "GET", "/locations/attic", Value::Null).await.expect(200);
    assert_eq!((&attic["name"], &attic["for_sale"]), (&json!("The attic"), &json!(false)));
    let full = admin(&site, "DELETE", "/locations/attic", Value::Null).await;
    assert_eq!((full.status, full.code()), (409, "wrong_state"));
    let moved = json!({"from": "attic", "to": "main", "quantity": 2});
    admin(&site, "POST", "/stock/LAMP/transfers", moved).await.expect(200);
    site.until_some(async || (ids(&site).await == ["main"]).then_some(())).await;
    site.verify().await;
}

async fn old_stock_keeps_its_location(site: Site) {
    let stock = &site.app.as_ref().unwrap().node.stock;
    let location: stock::Location = "cellar".parse().unwrap();
    let set = stock::Command::Set { location, on_hand: 3, change_from: None, reason: None };
    let lamp = stock::entity_id(&"LAMP".parse().unwrap());
    stock.ask(&lamp, set, Cause::default(), |_| ()).await.unwrap();
    site.until_some(async || (ids(&site).await == ["cellar", "main"]).then_some(())).await;
    let lost = json!({"quantity": -1, "reason": "lost"});
    admin(&site, "POST", "/stock/LAMP/cellar/adjustments", lost).await.expect(200);
    let cart = site.cart(&[("LAMP", 7)]).await;
    site.checkout(&cart, "key-1", "tok_ok", 10).await.expect(201);
    let named =
        admin(&site, "PATCH", "/locations/cellar", json!({"name": "Cellar"})).await.expect(200);
    assert_eq!(named["version"], 1);
    site.verify().await;
}
