//! Lists of orders, products and stock over HTTP, as an integrator reads them: what has changed since
//! a time, sorted, several values in a filter, many by id, and the parts of orders in one call.

use reqwest::Method;
use serde_json::{Value, json};

use crate::live::Client;
use crate::site::Site;

fn texts(page: &Value, field: &str) -> Vec<String> {
    let rows = page["data"].as_array().unwrap();
    rows.iter().map(|row| row[field].as_str().unwrap().to_owned()).collect()
}

async fn list(site: &Site, path: &str) -> Value {
    site.admin(Method::GET, path, None).await.expect(200)
}

/// The values of a field on all pages of a list.
async fn pages(site: &Site, path: &str, field: &str) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = list(site, &format!("{path}&after={after}")).await;
        all.extend(texts(&page, field));
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => return all,
        }
    }
}

async fn add_east(site: &Site) {
    let east = json!({"name": "East"});
    let added = site.admin(Method::PUT, "/locations/east", Some(east)).await;
    assert!(added.status < 300, "{}", added.body);
}

/// Three confirmed orders in the order of their placement, of which the first is then shipped.
async fn three_orders(site: &Site) -> Vec<Value> {
    site.sell("A", 100, 50).await;
    site.sell("B", 250, 50).await;
    let mut orders = Vec::new();
    for n in 0..3 {
        let cart = site.cart(&[("A", 1), ("B", n + 1)]).await;
        let patch = json!({"reference": format!("PO {n}, part 1")});
        site.store(Method::PATCH, &format!("/carts/{cart}"), Some(patch)).await.expect(200);
        site.checkout(&cart, &format!("key-{n}"), "tok_ok", 10).await.expect(201);
        let captured = |order: &Value| order["payment_status"] == "captured";
        orders.push(site.until(&cart, captured).await);
    }
    let first = format!("/v1/admin/orders/{}/fulfillments", orders[0]["id"].as_str().unwrap());
    let ship = site.request(Method::POST, &first).bearer_auth(&site.key).json(&json!({}));
    orders[0] = site.send(ship.header("Prefer", "wait=30")).await.expect(200);
    let shipped = async || {
        let rows = list(site, "/orders?sort=updated_at&payment_status=captured").await;
        let done = rows["data"].as_array().unwrap().len() == 3
            && rows["data"][2]["version"] == orders[0]["version"];
        done.then_some(())
    };
    site.until_some(shipped).await;
    orders
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_sorted_and_found_by_time_of_change_and_by_many_values() {
    let site = Site::open().await;
    let orders = three_orders(&site).await;
    let id = |n: usize| orders[n]["id"].as_str().unwrap().to_owned();
    let number = |n: usize| orders[n]["number"].as_i64().unwrap();
    let changed = orders[0]["updated_at"].as_str().unwrap();
    for (query, expected) in [
        ("sort=placed_at".to_owned(), vec![0, 1, 2]),
        ("sort=-placed_at".to_owned(), vec![2, 1, 0]),
        ("sort=updated_at".to_owned(), vec![1, 2, 0]),
        ("sort=-updated_at".to_owned(), vec![0, 2, 1]),
        (format!("updated_from={changed}"), vec![0]),
        (format!("updated_to={changed}&sort=updated_at"), vec![1, 2]),
        ("status=confirmed,cancelled".to_owned(), vec![2, 1]),
        ("status=confirmed&status=completed&sort=placed_at".to_owned(), vec![0, 1, 2]),
        ("fulfillment_status=fulfilled,partial".to_owned(), vec![0]),
        (format!("id={},{}", id(0), id(2)), vec![2, 0]),
        (format!("id={}&id={}&sort=updated_at", id(0), id(2)), vec![2, 0]),
        (format!("number={},{}", number(0), number(1)), vec![1, 0]),
        ("reference=PO%200%5C,%20part%201&reference=PO%202%5C,%20part%201".to_owned(), vec![2, 0]),
        ("email=nobody@example.com,ADA@example.com&sort=placed_at".to_owned(), vec![0, 1, 2]),
    ] {
        let expected: Vec<String> = expected.into_iter().map(id).collect();
        let found = pages(&site, &format!("/orders?limit=1&{query}"), "id").await;
        assert_eq!(found, expected, "{query}");
    }
    let other = list(&site, "/orders?limit=1&sort=updated_at").await;
    let cursor = other["next_cursor"].as_str().unwrap();
    for (query, status, field) in [
        (format!("after={cursor}"), 400, "after"),
        (format!("sort=placed_at&after={cursor}"), 400, "after"),
        ("sort=total".to_owned(), 422, "sort"),
        ("expand=lines,tags".to_owned(), 422, "expand"),
        ("id=ord_1".to_owned(), 422, "id"),
        ("updated_from=yesterday".to_owned(), 422, "updated_from"),
        (
            format!("number={}", (0..=100).map(|n| n.to_string()).collect::<Vec<_>>().join(",")),
            422,
            "number",
        ),
    ] {
        let refused = site.admin(Method::GET, &format!("/orders?{query}"), None).await;
        assert_eq!(refused.status, status, "{query}: {}", refused.body);
        let fault = &refused.body["errors"][0]["field"];
        assert_eq!(fault.as_str().unwrap_or_default(), field, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pick_list_is_one_call() {
    let site = Site::open().await;
    let orders = three_orders(&site).await;
    let expand = "expand=lines,addresses,payments,fulfillments";
    let page = list(&site, &format!("/orders?{expand}&sort=placed_at&limit=2")).await;
    assert!(page["next_cursor"].is_string());
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
    for (row, order) in page["data"].as_array().unwrap().iter().zip(&orders) {
        for part in [
            "lines",
            "shipping_address",
            "billing_address",
            "delivery",
            "payments",
            "captures",
            "refunds",
            "fulfillments",
        ] {
            let shown = order.get(part).filter(|part| !part.is_null());
            assert_eq!(row.get(part), shown, "{part}");
        }
        assert_eq!(row["version"], order["version"]);
    }
    assert_eq!(page["data"][0]["lines"][1]["fulfilled"], 1);
    let open = |row: &Value| [0, 1].map(|line| row["lines"][line]["open"].as_i64().unwrap());
    assert_eq!((open(&page["data"][0]), open(&page["data"][1])), ([0, 0], [1, 2]));
    let second = orders[1]["id"].as_str().unwrap();
    let back = json!({"lines": [{"line": "2", "quantity": 1}], "reason": "too many"});
    let path = format!("/orders/{second}/refunds");
    let order = site.admin(Method::POST, &path, Some(back)).await.expect(200);
    assert_eq!(open(&order), [1, 1], "what is refunded before it is shipped is not picked");
    let third = orders[2]["id"].as_str().unwrap();
    let gone = Some(json!({"reason": "wrong"}));
    let path = format!("/orders/{third}/cancel");
    let order = site.admin(Method::POST, &path, gone).await.expect(200);
    assert_eq!(open(&order), [0, 0], "nothing is left to ship of a cancelled order");
    let lines = list(&site, "/orders?expand=lines").await;
    assert!(lines["data"][0].get("lines").is_some() && lines["data"][0].get("payments").is_none());
    let plain = list(&site, "/orders").await;
    assert!(plain["data"][0].get("lines").is_none());
    list(&site, "/sagas?expand=lines&sort=updated_at").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn products_and_stock_are_listed_by_many_skus_and_by_time_of_change() {
    let site = Site::open().await;
    for sku in ["A", "B,2", "C"] {
        site.sell(sku, 100, 5).await;
    }
    add_east(&site).await;
    let patch = json!({"name": "Lamp", "category": "Home, Garden"});
    let path = "/products/A";
    let changed = site.admin(Method::PATCH, path, Some(patch)).await.expect(200);
    let since = changed["updated_at"].as_str().unwrap();
    site.until_some(async || (texts(&list(&site, "/stock").await, "sku").len() == 3).then_some(()))
        .await;
    for (path, expected) in [
        ("/products?limit=1&sku=C,A".to_owned(), vec!["A", "C"]),
        ("/products?limit=1&sku=B%5C,2&sku=C".to_owned(), vec!["B,2", "C"]),
        ("/products?limit=1&sort=-sku".to_owned(), vec!["C", "B,2", "A"]),
        ("/products?limit=1&sort=updated_at".to_owned(), vec!["B,2", "C", "A"]),
        ("/products?limit=1&sort=-updated_at".to_owned(), vec!["A", "C", "B,2"]),
        (format!("/products?limit=1&updated_from={since}"), vec!["A"]),
        (format!("/products?limit=1&updated_to={since}"), vec!["B,2", "C"]),
        ("/products?limit=1&category=Home%5C,%20Garden,x".to_owned(), vec!["A"]),
        ("/products?limit=200&currency=EUR,GBP".to_owned(), vec!["A", "B,2", "C"]),
        ("/products?limit=200&currency=EUR".to_owned(), vec![]),
        ("/stock?limit=1&sku=A,C&location=main,east".to_owned(), vec!["A", "C"]),
        ("/stock?limit=1&sort=-sku".to_owned(), vec!["C", "B,2", "A"]),
        ("/stock?limit=1&sort=updated_at".to_owned(), vec!["A", "B,2", "C"]),
        ("/stock?limit=1&sort=-updated_at".to_owned(), vec!["C", "B,2", "A"]),
        ("/stock?limit=1&updated_to=2000-01-01T00:00:00Z".to_owned(), vec![]),
        ("/stock?limit=1&updated_from=2000-01-01T00:00:00Z".to_owned(), vec!["A", "B,2", "C"]),
    ] {
        assert_eq!(pages(&site, &path, "sku").await, expected, "{path}");
    }
    let shop = site.store(Method::GET, "/products?sku=C,A&sort=-updated_at", None).await;
    assert_eq!(texts(&shop.expect(200), "sku"), ["A", "C"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_client_has_is_not_sent_again() {
    let site = Site::open().await;
    site.sell("A", 100, 5).await;
    let get = async |path: &str, tag: Option<&str>| {
        let mut request = site.request(Method::GET, path);
        if path.contains("/admin/") {
            request = request.bearer_auth(&site.key);
        }
        if let Some(tag) = tag {
            request = request.header("If-None-Match", tag);
        }
        let response = request.send().await.unwrap();
        let header = |name: &str| {
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let (tag, keep) = (header("etag").unwrap_or_default(), header("cache-control").unwrap());
        (response.status().as_u16(), tag, keep, response.text().await.unwrap())
    };
    let public = "public, max-age=5";
    let cart = site.cart(&[("A", 1)]).await;
    for (path, keep, status) in [
        ("/v1/store/products".to_owned(), public, 304),
        ("/v1/store/products?q=product&limit=1".to_owned(), public, 304),
        ("/v1/store/products/A".to_owned(), public, 304),
        ("/v1/store/delivery-options".to_owned(), "no-cache", 304),
        ("/openapi.json".to_owned(), "no-cache", 304),
        ("/asyncapi.json".to_owned(), "no-cache", 304),
        ("/v1/admin/products/A".to_owned(), "no-store", 304),
        // Their answers can change without their versions.
        (format!("/v1/store/carts/{cart}"), "no-store", 200),
        ("/v1/admin/stock/A".to_owned(), "no-store", 200),
    ] {
        let first = get(&path, None).await;
        assert_eq!((first.0, first.2.as_str()), (200, keep), "{path}");
        let again = get(&path, Some(&first.1)).await;
        assert_eq!((again.0, &again.1, again.2.as_str()), (status, &first.1, keep), "{path}");
        assert_eq!(again.3.is_empty(), status == 304, "{path}");
        assert_eq!(get(&path, Some("\"other\"")).await.0, 200, "{path}");
    }
    let (one, all) =
        (get("/v1/store/products/A", None).await.1, get("/v1/store/products", None).await.1);
    let patch = json!({"name": "Lamp"});
    site.admin(Method::PATCH, "/products/A", Some(patch)).await.expect(200);
    assert_eq!(get("/v1/store/products/A", Some(&one)).await.0, 200);
    assert_eq!(get("/v1/store/products", Some(&all)).await.0, 200);
    let fresh = site.request(Method::GET, "/v1/store/products").header("Kontor-After", "");
    assert_eq!(site.send(fresh).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_history_says_who_why_and_what() {
    let site = Site::open().await;
    site.sell("A", 100, 5).await;
    add_east(&site).await;
    let write = async |path: &str, body: Value| {
        site.admin(Method::POST, &format!("/stock/A{path}"), Some(body)).await.expect(200)
    };
    write("/main/adjustments", json!({"quantity": -2, "reason": "broken in transit"})).await;
    write("/main/incoming", json!({"quantity": 10, "reason": "ordered by phone"})).await;
    write(
        "/main/receipts",
        json!({"quantity": 4, "from_incoming": true, "reason": "the first pallet"}),
    )
    .await;
    write("/transfers", json!({"from": "main", "to": "east", "quantity": 3, "reason": "the fair"}))
        .await;
    let cart = site.cart(&[("A", 1)]).await;
    site.checkout(&cart, "key", "tok_ok", 10).await.expect(201);
    let all = list(&site, "/stock/A/events").await;
    let kinds =
        ["committed", "reserved", "transferred", "received", "expected", "adjusted", "received"];
    assert_eq!(all["next_cursor"], Value::Null);
    let seen = texts(&all, "kind");
    assert_eq!(seen[..5], kinds[..5]);
    let row = |kind: &str| {
        let rows = all["data"].as_array().unwrap();
        rows.iter().find(|row| row["kind"] == kind).unwrap().clone()
    };
    let moved = |location: &str, on_hand: i64, reserved: i64, incoming: i64| {
        json!({"location": location, "on_hand": on_hand, "reserved": reserved, "allocated": 0,
            "incoming": incoming})
    };
    let adjusted = row("adjusted");
    assert_eq!(adjusted["reason"], "broken in transit");
    for (kind, reason) in [
        ("expected", "ordered by phone"),
        ("received", "the first pallet"),
        ("transferred", "the fair"),
    ] {
        assert_eq!(row(kind)["reason"], reason);
    }
    assert!(adjusted["by"].as_str().unwrap().starts_with("key:"), "{adjusted}");
    assert_eq!(adjusted["by_name"], "test");
    assert_eq!(
        (&row("reserved")["by"], &row("reserved")["by_name"]),
        (&json!("saga"), &Value::Null)
    );
    assert!(adjusted["request_id"].as_str().unwrap().starts_with("req_"), "{adjusted}");
    assert_eq!(adjusted["changes"], json!([moved("main", -2, 0, 0)]));
    assert_eq!(row("received")["changes"], json!([moved("main", 4, 0, -4)]));
    let transfer = json!([moved("main", -3, 0, 0), moved("east", 3, 0, 0)]);
    assert_eq!(row("transferred")["changes"], transfer);
    assert_eq!(row("reserved")["order"], cart.replace("cart_", "ord_"));
    assert_eq!(row("reserved")["changes"].as_array().unwrap().len(), 1);
    // What was reserved is allocated, also where its reservation is on a later page.
    let allocated = json!([{"location": "main", "on_hand": 0, "reserved": -1, "allocated": 1,
        "incoming": 0}]);
    assert_eq!(row("committed")["changes"], allocated);
    let first = site.admin(Method::GET, "/stock/A/events?limit=1", None).await.expect(200);
    assert_eq!(first["data"][0]["changes"], allocated);
    for (location, count) in [("main", 1), ("east", 0)] {
        let path = format!("/stock/A/events?kind=committed&location={location}");
        assert_eq!(list(&site, &path).await["data"].as_array().unwrap().len(), count);
    }
    let order = cart.replace("cart_", "ord_");
    let reason = json!({"reason": "the buyer called"});
    site.admin(Method::POST, &format!("/orders/{order}/cancel"), Some(reason)).await.expect(200);
    site.until(&cart, |order| order["status"] == "cancelled").await;
    let released = site.admin(Method::GET, "/stock/A/events?kind=released", None).await.expect(200);
    assert_eq!(released["data"][0]["changes"][0]["allocated"], -1);
    let all = list(&site, "/stock/A/events").await;
    let seen = texts(&all, "kind");
    assert_eq!(pages(&site, "/stock/A/events?limit=2", "kind").await, seen);
    let some = pages(&site, "/stock/A/events?limit=1&kind=expected,transferred", "kind").await;
    assert_eq!(some, ["transferred", "expected"]);
    // A count may have a reason, too.
    let count = json!({"on_hand": 9, "reason": "counted twice"});
    site.admin(Method::PUT, "/stock/A/main", Some(count)).await.expect(200);
    let all = list(&site, "/stock/A/events?kind=adjusted").await;
    let told = |at: usize| (all["data"][at]["counted"].clone(), all["data"][at]["reason"].clone());
    assert_eq!(told(0), (json!(true), json!("counted twice")));
    assert_eq!(told(1), (json!(false), json!("broken in transit")));
    assert_eq!(told(2), (json!(true), Value::Null));
    let wrong = site.admin(Method::GET, "/stock/A/events?kind=eaten", None).await;
    assert_eq!((wrong.status, &wrong.body["errors"][0]["field"]), (422, &json!("kind")));
    site.admin(Method::GET, "/stock/nothing/events", None).await.expect(404);
}

/// All changes after a token or a time, and the last token.
async fn changes(site: &Site, query: &str, mut after: String) -> (Vec<Value>, String) {
    let mut all = Vec::new();
    loop {
        let page = list(site, &format!("/changes?{query}&after={after}")).await;
        all.extend(page["data"].as_array().unwrap().iter().cloned());
        page["token"].as_str().unwrap().clone_into(&mut after);
        if page["more"] == false {
            return (all, after);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_every_list_follow_a_token_or_a_time() {
    let site = Site::open().await;
    let orders = three_orders(&site).await;
    let (all, token) = changes(&site, "limit=1", String::new()).await;
    let order = orders[0]["id"].as_str().unwrap();
    // What happened to an order, in order and without a gap.
    let of: Vec<&Value> = all.iter().filter(|change| change["order"] == order).collect();
    let events = of.iter().flat_map(|change| change["events"].as_array().unwrap());
    let seqs: Vec<i64> = events.map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=orders[0]["version"].as_i64().unwrap()).collect::<Vec<_>>());
    for pair in of.windows(2) {
        assert_eq!(pair[1]["after"], pair[0]["version"]);
    }
    for change in &all {
        let row = if change["topic"] == "stock" { &change["rows"][0] } else { &change["row"] };
        assert!(row["version"].as_i64() >= change["version"].as_i64(), "{change}");
        assert!(change["topic"] != "stock" || row["name"].is_string(), "{change}");
    }
    for topic in ["orders", "products", "stock"] {
        let (some, _) = changes(&site, &format!("topic={topic}"), String::new()).await;
        assert!(!some.is_empty() && some.iter().all(|change| change["topic"] == topic));
    }
    let (none, same) = changes(&site, "", token.clone()).await;
    assert_eq!((none.len(), &same), (0, &token));
    let patch = json!({"name": "Lamp"});
    site.admin(Method::PATCH, "/products/A", Some(patch)).await.expect(200);
    let (one, _) = changes(&site, "topic=products", token.clone()).await;
    assert_eq!(
        (one.len(), &one[0]["row"]["name"], &one[0]["sku"]),
        (1, &json!("Lamp"), &json!("A"))
    );
    let (old, _) = changes(&site, "limit=1", "2000-01-01T00:00:00Z".to_owned()).await;
    assert_eq!((&old[0]["topic"], &old[0]["events"]), (&all[0]["topic"], &all[0]["events"]));
    // The socket goes on from a token of the feed, and from a time.
    let mut client = Client::open(&site).await;
    let mut first = async |from: &str| {
        client.say(json!({"type": "subscribe", "id": "a", "topic": "orders", "from": from})).await;
        client.until(|message| message["id"] == "a" && message["data"] != json!([])).await
    };
    let since = first("2000-01-01T00:00:00Z").await;
    assert_eq!((&since["type"], &since["data"][0]["after"]), (&json!("changes"), &json!(0)));
    let path = format!("/orders/{}/cancel", orders[2]["id"].as_str().unwrap());
    site.admin(Method::POST, &path, Some(json!({"reason": "changed"}))).await.expect(200);
    let next = first(&token).await;
    assert_eq!((&next["type"], &next["data"][0]["order"]), (&json!("changes"), &orders[2]["id"]));
    for (query, status) in [
        ("after=x", 400),
        ("after=2100-01-01T00:00:00Z", 422),
        ("after=MjoBv4Q9", 400),
        ("topic=carts", 422),
        ("limit=0", 422),
        ("from=x", 400),
    ] {
        let path = format!("/changes?{query}");
        assert_eq!(site.admin(Method::GET, &path, None).await.status, status, "{query}");
    }
    let now = kontor::actors::engine::clock::Clock::system().now();
    let store = &site.app.as_ref().unwrap().store;
    let with = async |scope: &str, path: &str| {
        let scopes = [scope.to_owned()];
        let (_, key) = store.create_key("some", &scopes, now).await.unwrap();
        site.send(site.request(Method::GET, path).bearer_auth(key.reveal())).await
    };
    assert_eq!(with("stock:read", "/v1/admin/changes?topic=orders").await.status, 403);
    let page = with("stock:read", "/v1/admin/changes").await.expect(200);
    assert!(page["data"].as_array().unwrap().iter().all(|change| change["topic"] == "stock"));
    let nothing = with("settings:write", "/v1/admin/changes").await;
    assert_eq!((nothing.status, nothing.code()), (403, "forbidden"));
    let detail = nothing.body["detail"].as_str().unwrap();
    for scope in ["orders:read for orders", "products:read for products", "stock:read for stock"] {
        assert!(detail.contains(scope), "{detail}");
    }
    let wrong = site.admin(Method::GET, "/changes?after=x", None).await;
    let detail = wrong.body["detail"].as_str().unwrap();
    assert!(detail.contains("`token`") && detail.contains("2026-01-31T12:00:00Z"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_answered_when_it_is_done() {
    let site = Site::open().await;
    let orders = three_orders(&site).await;
    let act = async |n: usize, action: &str, body: Value, wait: &str| {
        let path = format!("/v1/admin/orders/{}/{action}", orders[n]["id"].as_str().unwrap());
        let request = site.request(Method::POST, &path).bearer_auth(&site.key).json(&body);
        site.send(request.header("Prefer", wait)).await
    };
    let refund = json!({"amount": {"amount": 10, "currency": "GBP"}, "reason": "late"});
    let refunded = act(1, "refunds", refund.clone(), "wait=30").await.expect(200);
    assert_eq!(refunded["refunds"][0]["status"], "done");
    assert_eq!(refunded["refunded"]["amount"], 10);
    let cancelled = act(2, "cancel", json!({"reason": "changed"}), "wait=30").await.expect(200);
    assert_eq!(
        (&cancelled["status"], &cancelled["phase"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
    let wrong = act(1, "refunds", refund, "wait=31").await;
    assert_eq!((wrong.status, &wrong.body["errors"][0]["field"]), (422, &json!("Prefer")));
}
