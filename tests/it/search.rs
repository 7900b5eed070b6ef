//! Finding orders, products and stock as an operator does it, over HTTP, on both databases.

use kontor::app::App;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::site::Site;

on_both_databases! {
    orders_are_found_by_any_part_of_what_they_have
    a_search_is_paged_filtered_and_sorted
    what_changes_is_found_as_it_is_now
    a_store_with_orders_in_clear_is_refused
    products_and_stock_are_found_by_any_part_of_sku_and_name
}

/// A shop, and the address of its database if that is in PostgreSQL.
type Shop = (Site, Option<String>);

async fn shop(database: Option<String>) -> Shop {
    let site = Site::with(|config| {
        if let Some(url) = &database {
            config.store.url = url.as_str().into();
        }
    });
    (site.await, database)
}

async fn name(site: &Site, sku: &str, name: &str) {
    site.sell(sku, 100, 50).await;
    let name = json!({"name": name});
    site.admin(Method::PATCH, &format!("/products/{sku}"), Some(name)).await.expect(200);
}

/// Places an order whose cart has these details; returns its id.
async fn order(site: &Site, lines: &[(&str, i64)], details: Value) -> String {
    let cart = site.cart(lines).await;
    site.store(Method::PATCH, &format!("/carts/{cart}"), Some(details)).await.expect(200);
    site.checkout(&cart, &cart, "tok_ok", 10).await.expect(201);
    cart.replace("cart_", "ord_")
}

fn address(name: &str, phone: Option<&str>) -> Value {
    json!({
        "name": name, "line1": "1 High Street", "city": "London", "postal_code": "N1 1AA",
        "country": "GB", "phone": phone,
    })
}

/// The page of a list, which follows all writes so far.
async fn list(site: &Site, path: &str, q: &str, more: &str) -> Value {
    let q: String = q.bytes().map(|byte| format!("%{byte:02X}")).collect();
    site.admin(Method::GET, &format!("/{path}?q={q}{more}"), None).await.expect(200)
}

fn column(page: &Value, field: &str) -> Vec<String> {
    let rows = page["data"].as_array().unwrap();
    rows.iter().map(|row| row[field].as_str().unwrap().to_owned()).collect()
}

/// Waits until a search finds these orders, the newest first.
async fn until_found(site: &Site, q: &str, expected: &[&String]) -> Value {
    site.until_some(async || {
        let page = list(site, "orders", q, "").await;
        let found = column(&page, "id");
        (found.iter().collect::<Vec<_>>() == expected).then_some(page)
    })
    .await
}

/// What the only order that is found was found by.
fn matched(page: &Value) -> Vec<(&str, &str)> {
    assert_eq!(page["data"].as_array().unwrap().len(), 1, "{page:#}");
    let all = page["data"][0]["matched"].as_array().unwrap();
    all.iter().map(|one| (one["field"].as_str().unwrap(), one["text"].as_str().unwrap())).collect()
}

async fn orders_are_found_by_any_part_of_what_they_have((site, _): Shop) {
    name(&site, "SKU-%_01", "Große Müslischale \"50%\" (blau)").await;
    name(&site, "TV", "Television").await;
    let first = json!({
        "email": "Grace.Hopper@Example.com",
        "reference": "PO 1*",
        "shipping_address": address("Zoë Straßer", Some("+44 20 7946 0958")),
        "billing_address": {
            "name": "Grace B. Hopper", "company": "O'Neill-Smith", "line1": "12b Chestnut Röad", "city": "Camden",
            "postal_code": "NW1 7JN", "country": "GB",
        },
    });
    let first = order(&site, &[("SKU-%_01", 1), ("TV", 1)], first).await;
    let second = order(&site, &[("TV", 2)], json!({"email": "li@example.org"})).await;
    until_found(&site, "example", &[&second, &first]).await;

    let shown = site.order(&first).await;
    let (number, payment) = (shown["number"].to_string(), shown["payments"][0]["payment"].as_str());
    let (ours, payment) = (format!("{first}-p1"), payment.unwrap());
    let product = "Große Müslischale \"50%\" (blau)";
    let end = |text: &str| text[text.len() - 12..].to_owned();
    for (q, found) in [
        ("hopp", vec![("name", "Grace B. Hopper"), ("email", "Grace.Hopper@Example.com")]),
        ("STRASSER", vec![("name", "Zoë Straßer")]),
        ("straß", vec![("name", "Zoë Straßer")]),
        ("ZOË", vec![("name", "Zoë Straßer")]),
        ("per@EX", vec![("email", "Grace.Hopper@Example.com")]),
        ("2079460958", vec![("phone", "+44 20 7946 0958")]),
        ("02079460958", vec![("phone", "+44 20 7946 0958")]),
        (
            "musli hopper zoe",
            vec![
                ("name", "Zoë Straßer"),
                ("name", "Grace B. Hopper"),
                ("email", "Grace.Hopper@Example.com"),
                ("product", product),
            ],
        ),
        ("chest road camden", vec![("street", "12b Chestnut Röad"), ("city", "Camden")]),
        ("nw17jn", vec![("postal_code", "NW1 7JN")]),
        ("nw1 7jn", vec![("postal_code", "NW1 7JN")]),
        ("+44 7946", vec![("phone", "+44 20 7946 0958")]),
        ("oneillsmith", vec![("company", "O'Neill-Smith")]),
        ("O’Neill", vec![("company", "O'Neill-Smith")]),
        ("b.", vec![("name", "Grace B. Hopper")]),
        ("PO 1*", vec![("reference", "PO 1*")]),
        ("sku-%_0", vec![("sku", "SKU-%_01")]),
        ("%_0", vec![("sku", "SKU-%_01")]),
        ("\"50%", vec![("product", product)]),
        ("(bla", vec![("product", product)]),
        ("müsli GROSSE hopper@", vec![("email", "Grace.Hopper@Example.com"), ("product", product)]),
        (&format!("#{number}"), vec![("number", &*number)]),
        (payment, vec![("payment", payment)]),
        (&payment[3..], vec![("payment", payment)]),
        (&format!("{}-p1", end(&first)), vec![("payment", &*ours)]),
        (&end(&first), vec![("id", &*first), ("payment", &*ours)]),
    ] {
        let page = list(&site, "orders", q, "").await;
        assert_eq!(column(&page, "id"), [first.as_str()], "{q}");
        assert_eq!(matched(&page), found, "{q}");
    }
    for (q, expected) in [
        ("tv", vec![&second, &first]),
        ("TELEVISION", vec![&second, &first]),
        ("vision example", vec![&second, &first]),
        ("vision hopper", vec![&first]),
        (" ", vec![&second, &first]),
        ("a%b", vec![]),
        ("h_pper", vec![]),
        ("hop*", vec![]),
        ("\"hopper", vec![]),
        ("hopper OR", vec![]),
        ("hopper li", vec![]),
        ("hopper'", vec![&first]),
        ("zoé strasser", vec![&first]),
        ("020 7946 0958", vec![&first]),
        ("+44 (0)20 79460958 zoe", vec![&first]),
        ("020 7946 0959", vec![]),
        ("high street london", vec![&second, &first]),
        ("n11aa", vec![&second, &first]),
        // The number of one order, and of a house in the streets of both.
        (&number, vec![&second, &first]),
        ("t", vec![]),
        ("#99", vec![]),
        ("\\", vec![]),
        ("\u{0}", vec![&second, &first]),
    ] {
        let page = list(&site, "orders", q, "").await;
        assert_eq!(column(&page, "id").iter().collect::<Vec<_>>(), expected, "{q}");
    }
    let all = site.admin(Method::GET, "/orders", None).await.expect(200);
    assert_eq!(all["data"][0].get("matched"), None, "nothing was searched for");
    for path in ["orders", "products", "stock"] {
        let long = format!("/{path}?q={}", "x".repeat(255));
        let refused = site.admin(Method::GET, &long, None).await;
        let fault = refused.expect(422);
        assert_eq!(fault["errors"][0]["field"], "q", "{fault}");
    }
    site.verify().await;
}

async fn a_search_is_paged_filtered_and_sorted((site, _): Shop) {
    name(&site, "CUP", "Cup").await;
    let mut orders = Vec::new();
    for n in 0..7 {
        let details = json!({"email": format!("buyer{}@example.com", n % 2)});
        orders.insert(0, order(&site, &[("CUP", 1)], details).await);
    }
    until_found(&site, "buyer", &orders.iter().collect::<Vec<_>>()).await;
    // Nothing of them changes any more.
    let newest = site
        .until_some(async || {
            let last = "&status=confirmed&payment_status=captured&sort=-updated_at";
            let ids = column(&list(&site, "orders", "buyer", last).await, "id");
            (ids.len() == 7).then_some(ids)
        })
        .await;
    let even: Vec<&String> = orders.iter().step_by(2).collect();
    for (sort, descending) in [("-placed_at", true), ("placed_at", false), ("-updated_at", true)] {
        for (q, mut expected) in [("buyer", orders.iter().collect()), ("buyer0 cup", even.clone())]
        {
            let (mut found, mut after) = (Vec::new(), String::new());
            loop {
                let more = format!("&limit=2&sort={sort}&status=confirmed,cancelled{after}");
                let page = list(&site, "orders", q, &more).await;
                found.extend(column(&page, "id"));
                let Some(cursor) = page["next_cursor"].as_str() else { break };
                after = format!("&after={cursor}");
            }
            if !descending {
                expected.reverse();
            }
            if sort == "-updated_at" {
                let place = |id: &&String| newest.iter().position(|one| one == *id);
                expected.sort_by_key(place);
            }
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{q} {sort}");
        }
    }
    let none = list(&site, "orders", "buyer", "&status=cancelled").await;
    assert_eq!(none["data"], json!([]));
}

async fn what_changes_is_found_as_it_is_now((site, url): Shop) {
    name(&site, "CUP", "Cup").await;
    let id = order(&site, &[("CUP", 2)], json!({"reference": "first"})).await;
    until_found(&site, "first", &[&id]).await;
    site.app.as_ref().unwrap().store.index_order_texts(100).await.unwrap();
    // The status of the order changes, and what it is found by does not.
    let refund =
        json!({"lines": [{"line": "1", "quantity": 1}], "reason": "broken", "restock": false});
    site.admin(Method::POST, &format!("/orders/{id}/refunds"), Some(refund)).await.expect(200);
    let shipment =
        json!({"lines": [{"line": "1", "quantity": 1}], "tracking": {"number": "JD-0042"}});
    site.admin(Method::POST, &format!("/orders/{id}/fulfillments"), Some(shipment))
        .await
        .expect(200);
    let page = until_found(&site, "d-004", &[&id]).await;
    assert_eq!(matched(&page), [("tracking_number", "JD-0042")]);
    until_found(&site, "first", &[&id]).await;
    site.app.as_ref().unwrap().store.index_order_texts(100).await.unwrap();
    until_found(&site, "d-004 first", &[&id]).await;

    let shown = site.admin(Method::GET, &format!("/orders/{id}"), None).await.expect(200);
    let path =
        format!("/orders/{id}/fulfillments/{}", shown["fulfillments"][0]["id"].as_str().unwrap());
    let right = json!({"tracking": {"number": "JD-0099"}});
    site.admin(Method::PATCH, &path, Some(right)).await.expect(200);
    until_found(&site, "jd-0042", &[]).await;
    until_found(&site, "d-0099", &[&id]).await;

    // As a person is forgotten: what is no longer in the text is not found by an old index entry.
    site.until_some(async || {
        let order = site.admin(Method::GET, &format!("/orders/{id}"), None).await.expect(200);
        let row = list(&site, "orders", "first", "").await["data"][0].take();
        (row["saga_step"].is_null() && row["version"] == order["version"]).then_some(())
    })
    .await;
    let lookups = site.app.as_ref().unwrap().store.lookups().await.unwrap();
    let [first, other] = ["first", "other"].map(|word| lookups.codes(&format!("\n{word}\n")));
    let change = format!("UPDATE order_search SET text = replace(text, '{first}', '{other}')");
    execute(&site, url.as_deref(), &change).await;
    for _ in 0..2 {
        until_found(&site, "first", &[]).await;
        until_found(&site, "other d-0099", &[&id]).await;
        site.app.as_ref().unwrap().store.index_order_texts(100).await.unwrap();
    }
    execute(&site, url.as_deref(), "DELETE FROM order_search").await;
    until_found(&site, "cup", &[]).await;
}

/// Runs statements in the database of a server behind its back.
async fn execute(site: &Site, url: Option<&str>, statements: &str) {
    let statements = sqlx::AssertSqlSafe(statements.to_owned());
    if let Some(url) = url {
        let mut there = sqlx::PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(statements).execute(&mut there).await.unwrap();
    } else {
        let file = format!("sqlite://{}", site.config.data.dir.join("kontor.db").display());
        let mut there = sqlx::SqliteConnection::connect(&file).await.unwrap();
        sqlx::raw_sql(statements).execute(&mut there).await.unwrap();
    }
}

async fn a_store_with_orders_in_clear_is_refused((mut site, url): Shop) {
    name(&site, "CUP", "Cup").await;
    order(&site, &[("CUP", 1)], json!({})).await;
    site.app.take().unwrap().stop().await;
    let older = "DELETE FROM _sqlx_migrations WHERE version >= 20";
    execute(&site, url.as_deref(), older).await;
    let refused = App::start(&site.config).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("kept names, addresses and payment tokens in clear"), "{refused}");
}

async fn products_and_stock_are_found_by_any_part_of_sku_and_name((site, _): Shop) {
    for (sku, called) in [("A-1", "Grüne Tasse"), ("A-2", "Teller 100%"), ("B-1", "Tasse")] {
        name(&site, sku, called).await;
    }
    site.until_some(async || {
        let all = list(&site, "stock", "", "").await;
        (all["data"].as_array().unwrap().len() == 3).then_some(())
    })
    .await;
    for (q, expected) in [
        ("TASSE", &["A-1", "B-1"][..]),
        ("sse", &["A-1", "B-1"]),
        ("-1", &["A-1", "B-1"]),
        ("tasse a-", &["A-1"]),
        ("GRÜNE tas", &["A-1"]),
        ("grune", &["A-1"]),
        ("täßer", &[]),
        ("0%", &["A-2"]),
        ("a-2", &["A-2"]),
        ("_", &[]),
        ("tasse teller", &[]),
        ("", &["A-1", "A-2", "B-1"]),
    ] {
        for path in ["products", "stock"] {
            assert_eq!(column(&list(&site, path, q, "").await, "sku"), expected, "{path} {q}");
        }
    }
    let page = list(&site, "stock", "tasse", "&limit=1").await;
    assert_eq!(column(&page, "name"), ["Grüne Tasse"]);
    let after = format!("&limit=1&after={}", page["next_cursor"].as_str().unwrap());
    let page = list(&site, "stock", "tasse", &after).await;
    assert_eq!(
        (column(&page, "sku"), &page["next_cursor"]),
        (vec!["B-1".to_owned()], &Value::Null)
    );
    let none = list(&site, "stock", "tasse", "&held=true").await;
    assert_eq!(none["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn reserved_stock_is_listed_with_hold_expiry() {
    let mut site = Site::open().await;
    for sku in ["A-1", "A-2", "B-1"] {
        site.sell(sku, 100, 5).await;
    }
    // Its payment is in progress as long as the provider does not answer.
    site.stop_psp().await;
    let cart = site.cart(&[("A-2", 3)]).await;
    site.checkout(&cart, "key", "tok_ok", 0).await.expect(202);
    let find = async |query: &str| {
        let page = site.admin(Method::GET, &format!("/stock?{query}"), None).await.expect(200);
        column(&page, "sku")
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
