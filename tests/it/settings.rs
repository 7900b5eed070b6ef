//! What changes while servers run: rate limits and who is counted, switches, and the cached lists
//! of products; on one server, and on several that share a Redis.

use std::collections::HashSet;

use kontor::cache::CacheState;
use kontor::domain::entity::Record;
use kontor::domain::product;
use kontor::domain::time::Timestamp;
use kontor::store::runtime_setting::Row;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::cache::server::Redis;
use crate::cache::until;
use crate::site::{Answer, Site};

/// A site whose limits and sessions are shared over a Redis.
async fn sharing(redis: &Redis) -> Site {
    let site = Site::with(|config| {
        config.cache = redis.options();
        config.http.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let cache = site.app.as_ref().unwrap().node.cache.clone();
    until("redis is there", async || cache.state() == CacheState::Ok).await;
    site
}

async fn set(site: &Site, name: &str, value: Value) -> Answer {
    let body = json!({"value": value, "reason": "a test"});
    site.admin(Method::PUT, &format!("/settings/{name}"), Some(body)).await
}

/// An answer's status, code and headers.
struct Seen {
    status: u16,
    code: String,
    headers: reqwest::header::HeaderMap,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn see(request: RequestBuilder) -> Seen {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body: Value = response.json().await.unwrap_or_default();
    Seen { status, code: body["code"].as_str().unwrap_or_default().to_owned(), headers }
}

fn browse(site: &Site, from: &str) -> RequestBuilder {
    site.request(Method::GET, "/v1/store/products").header("X-Forwarded-For", from)
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_is_shared_by_all_servers() {
    let redis = Redis::start();
    let (one, two) = (sharing(&redis).await, sharing(&redis).await);
    let first = see(browse(&one, "1.1.1.1")).await;
    assert_eq!((first.status, first.header("ratelimit")), (200, ""), "no limit, no word of it");
    for site in [&one, &two] {
        set(site, "rates.browse", json!(4)).await.expect(200);
    }
    for (left, site) in [(3, &one), (2, &two), (1, &one), (0, &two)] {
        let seen = see(browse(site, "1.1.1.1")).await;
        assert_eq!(seen.status, 200);
        assert_eq!(seen.header("ratelimit-policy"), "\"browse\";q=4;w=60");
        assert!(seen.header("ratelimit").starts_with(&format!("\"browse\";r={left};t=")));
    }
    for site in [&one, &two] {
        let refused = see(browse(site, "1.1.1.1")).await;
        assert_eq!((refused.status, refused.code.as_str()), (429, "rate_limited"));
        let again: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=15).contains(&again), "{again}");
        assert!(refused.header("ratelimit").contains(";r=0;"));
    }
    assert_eq!(see(browse(&one, "2.2.2.2")).await.status, 200, "another client");
    assert_eq!(
        see(browse(&one, "1.1.1.1, 3.3.3.3")).await.status,
        200,
        "only the last is believed"
    );
    let cart = one.store(Method::POST, "/carts", Some(json!({}))).await;
    assert_eq!(cart.status, 201, "another class");
    let metrics = one.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("kontor_http_rate_limited_total{class=\"browse\"} 1"), "{metrics}");
    assert!(metrics.contains("kontor_cache_up 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_of_a_key_includes_its_sessions() {
    let site = Site::open().await;
    let ask = |from: &str| {
        let request = site.request(Method::GET, "/v1/admin/orders").bearer_auth(&site.key);
        see(request.header("X-Forwarded-For", from))
    };
    // One call is refilled every 6 s: none while the test runs.
    set(&site, "rates.operate", json!(10)).await.expect(200);
    let left = |seen: &Seen| -> u32 {
        let text = seen.header("ratelimit").to_owned();
        text.split("r=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap()
    };
    let (first, second) = (ask("1.1.1.1").await, ask("2.2.2.2").await);
    assert!(left(&second) < left(&first));
    let signed = site.request(Method::POST, "/v1/session").json(&json!({"key": site.key}));
    let signed = see(signed).await;
    let cookie = signed.header("set-cookie").split(';').next().unwrap().to_owned();
    let by_cookie = site.request(Method::GET, "/v1/admin/orders").header("Cookie", cookie);
    assert!(left(&see(by_cookie).await) < left(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_count_rate_limits_during_a_redis_outage() {
    let mut redis = Redis::start();
    let site = sharing(&redis).await;
    set(&site, "rates.browse", json!(2)).await.expect(200);
    redis.kill();
    let cache = site.app.as_ref().unwrap().node.cache.clone();
    until("redis is away", async || matches!(cache.state(), CacheState::Away(_))).await;
    let statuses = [
        see(browse(&site, "1.1.1.1")).await.status,
        see(browse(&site, "1.1.1.1")).await.status,
        see(browse(&site, "1.1.1.1")).await.status,
    ];
    assert_eq!(statuses, [200, 200, 429]);
    let metrics = site.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("kontor_cache_up 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_sign_ins_are_counted_by_all_servers() {
    let redis = Redis::start();
    let (one, two) = (sharing(&redis).await, sharing(&redis).await);
    let wrong = |site: &Site, from: &str| {
        let body = json!({"link": "wrong"});
        see(site.request(Method::POST, "/v1/session").header("X-Forwarded-For", from).json(&body))
    };
    for n in 0..20 {
        assert_eq!(wrong(if n % 2 == 0 { &one } else { &two }, "1.1.1.1").await.status, 401);
    }
    for site in [&one, &two] {
        let refused = wrong(site, "1.1.1.1").await;
        assert_eq!((refused.status, refused.code.as_str()), (429, "too_many_tries"));
    }
    assert_eq!(wrong(&one, "2.2.2.2").await.status, 401, "another address");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_is_shown_changed_and_its_history_kept() {
    let mut site = Site::open().await;
    let all = site.admin(Method::GET, "/settings", None).await.expect(200);
    let names: HashSet<&str> =
        all["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    for name in ["checkout", "imports", "projections.paused", "providers.sandbox", "rates.cart"] {
        assert!(names.contains(name), "{names:?}");
    }
    let put = |value: Value, version: Option<i64>| {
        let request = site.request(Method::PUT, "/v1/admin/settings/rates.cart");
        let request =
            request.bearer_auth(&site.key).json(&json!({"value": value, "reason": "why"}));
        match version {
            Some(version) => request.header("If-Match", format!("\"{version}\"")),
            None => request,
        }
    };
    let made = site.send(put(json!(100), Some(0))).await.expect(200);
    assert_eq!((&made["value"], &made["version"]), (&json!(100), &json!(1)));
    assert_eq!((&made["default"], &made["maximum"]), (&json!(0), &json!(10_000_000)));
    assert!(made["changed_by"].as_str().unwrap().starts_with("key:"));
    assert!(!made["changed_by"].as_str().unwrap().contains(' '));
    assert_eq!(made["changed_by_name"], "test");
    let stale = site.send(put(json!(7), Some(0))).await;
    assert_eq!((stale.status, stale.code()), (412, "version_mismatch"));
    assert_eq!(site.send(put(json!(200), None)).await.expect(200)["version"], 2);
    for bad in [json!(true), json!(-1), json!(10_000_001), json!(1.5), json!("1"), json!([1])] {
        let refused = site.send(put(bad.clone(), None)).await;
        assert_eq!(
            (refused.status, refused.body["errors"][0]["field"].as_str()),
            (422, Some("value"))
        );
        assert!(!refused.body.to_string().contains("enum"), "{bad}: {}", refused.body);
    }
    let forgotten = site.admin(Method::PUT, "/settings/rates.cart", Some(json!({"reason": "why"})));
    let forgotten = forgotten.await;
    assert_eq!(
        (forgotten.status, forgotten.body["errors"][0]["field"].as_str()),
        (422, Some("value"))
    );
    assert_eq!(set(&site, "rates.unheard_of", json!(1)).await.status, 404);
    let silent = json!({"value": 1});
    assert_eq!(site.admin(Method::PUT, "/settings/checkout", Some(silent)).await.status, 422);
    let back = site.send(put(Value::Null, Some(2))).await.expect(200);
    assert_eq!((&back["value"], &back["version"]), (&json!(0), &json!(3)));

    let path = "/settings/rates.cart/history?limit=2";
    let page = site.admin(Method::GET, path, None).await.expect(200);
    let shown = |one: &Value| (one["version"].clone(), one["before"].clone(), one["after"].clone());
    assert_eq!(shown(&page["data"][0]), (json!(3), json!(200), Value::Null));
    assert_eq!(shown(&page["data"][1]), (json!(2), json!(100), json!(200)));
    assert_eq!(page["data"][0]["reason"], "why");
    assert!(page["data"][0]["request_id"].as_str().unwrap().starts_with("req_"));
    let path = format!("{path}&after={}", page["next_cursor"].as_str().unwrap());
    let rest = site.admin(Method::GET, &path, None).await.expect(200);
    assert_eq!((shown(&rest["data"][0]).0, &rest["next_cursor"]), (json!(1), &Value::Null));

    set(&site, "rates.cart", json!(9)).await.expect(200);
    site.restart().await;
    assert_eq!(site.app.as_ref().unwrap().node.runtime.current().rates.cart, 9);
    let file = site.dir.path().join("data/kontor.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut vandal = sqlx::ConnectOptions::connect(&options).await.unwrap();
    for text in ["DELETE FROM runtime_setting", "UPDATE runtime_setting SET value = '1'"] {
        assert!(sqlx::query(text).execute(&mut vandal).await.is_err(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changing_a_setting_requires_its_scope() {
    let site = Site::open().await;
    let app = site.app.as_ref().unwrap();
    let key = async |scope: &str| {
        let made = app.store.create_key("k", &[scope.to_owned()], app.node.clock.now()).await;
        made.unwrap().1.reveal().to_owned()
    };
    let (ops, writer) = (key("ops").await, key("settings:write").await);
    let read = |key: &str| site.request(Method::GET, "/v1/admin/settings").bearer_auth(key);
    let write = |key: &str| {
        let request = site.request(Method::PUT, "/v1/admin/settings/imports").bearer_auth(key);
        request.json(&json!({"value": false, "reason": "r"}))
    };
    assert_eq!(see(read(&ops)).await.status, 200);
    assert_eq!(see(write(&ops)).await.code, "forbidden");
    assert_eq!(see(read(&writer)).await.code, "forbidden");
    assert_eq!(see(write(&writer)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_changed_by_another_node_takes_effect() {
    let site = Site::open().await;
    let app = site.app.as_ref().unwrap();
    let row = Row {
        name: "rates.browse".to_owned(),
        version: 1,
        value: Some("12".to_owned()),
        before: "0".to_owned(),
        changed_by: "key:1".to_owned(),
        reason: "busy".to_owned(),
        request_id: "req_1".to_owned(),
        at: app.node.clock.now(),
    };
    assert!(app.store.change_runtime_setting(&row).await.unwrap());
    assert!(!app.store.change_runtime_setting(&row).await.unwrap(), "once");
    let skips = Row { version: 3, ..row };
    assert!(!app.store.change_runtime_setting(&skips).await.unwrap(), "none is left out");
    until("it holds", async || app.node.runtime.current().rates.browse == 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disabled_provider_gets_no_new_payments() {
    let site = Site::open().await;
    site.sell("A", 100, 5).await;
    let cart = site.cart(&[("A", 1)]).await;
    set(&site, "providers.sandbox", json!(false)).await.expect(200);
    let refused = site.checkout(&cart, "k1", "tok_ok", 5).await;
    assert_eq!((refused.status, refused.code()), (409, "provider_off"));
    set(&site, "checkout", json!(false)).await.expect(200);
    let refused = site.checkout(&cart, "k2", "tok_ok", 5).await;
    assert_eq!((refused.status, refused.code()), (503, "checkout_closed"));
    set(&site, "providers.sandbox", json!(true)).await.expect(200);
    set(&site, "checkout", Value::Null).await.expect(200);
    site.checkout(&cart, "k3", "tok_ok", 30).await.expect(201);
    set(&site, "imports", json!(false)).await.expect(200);
    let import = json!({"rows": [{"sku": "B", "name": "B", "prices": []}]});
    let refused = site.admin(Method::POST, "/imports", Some(import)).await;
    assert_eq!((refused.status, refused.code()), (503, "imports_closed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_projections_write_no_rows() {
    let site = Site::open().await;
    site.sell("A", 100, 50).await;
    set(&site, "projections.paused", json!(true)).await.expect(200);
    let reached = async || {
        let node = &site.app.as_ref().unwrap().node;
        node.projected()
    };
    // What was under way when it was paused may still be written.
    site.set_stock("A", 40).await;
    let one = site.cart(&[("A", 1)]).await;
    site.checkout(&one, "k1", "tok_ok", 30).await.expect(201);
    let order = one.replace("cart_", "ord_");
    let listed = async || {
        let page = site.admin(Method::GET, "/orders", None).await.expect(200);
        page["data"].as_array().unwrap().iter().any(|row| row["id"] == order)
    };
    let stands = reached().await;
    assert!(!listed().await, "the order is taken, and not listed");
    assert_eq!(reached().await, stands);
    set(&site, "projections.paused", json!(false)).await.expect(200);
    until("it is listed", listed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn product_lists_are_cached_until_one_changes() {
    let redis = Redis::start();
    let site = sharing(&redis).await;
    set(&site, "products.cached_secs", json!(3_600)).await.expect(200);
    let node = site.app.as_ref().unwrap().node.clone();
    let names = async |query: &str| {
        let page = site.store(Method::GET, &format!("/products{query}"), None).await.expect(200);
        let all = page["data"].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let hits = async |query: &str| {
        let before = node.cache.counts().hits;
        (names(query).await, node.cache.counts().hits - before)
    };
    site.sell("A", 100, 5).await;
    // The change comes by the feed, too, when it likes: what was dropped twice is found once.
    until("it is answered again", async || hits("").await == (vec!["Product A".to_owned()], 1))
        .await;
    until("so is another page", async || hits("?limit=1").await.1 == 1).await;
    assert_eq!(hits("?currency=EUR").await, (vec![], 0), "its own page");
    let patch = json!({"name": "New"});
    site.admin(Method::PATCH, "/products/A", Some(patch)).await.expect(200);
    assert_eq!(names("").await, ["New"], "at once");

    // Another node changes it: its event comes by the feed.
    until("it is answered again", async || hits("").await.1 == 1).await;
    let sku = "A".parse().unwrap();
    let mut changed = node.catalog.get(&sku).await.unwrap().unwrap().value.clone();
    changed.name = "Theirs".to_owned();
    let event = product::Event::Updated(changed);
    let record = Record {
        shard: 0,
        pos: 1_000,
        entity: product::entity_id(&sku),
        seq: 3,
        kind: "updated".into(),
        version: 1,
        at: Timestamp::default(),
        cause: "{}".into(),
        data: serde_json::to_string(&event).unwrap().into(),
        intact: true,
    };
    let misses = node.cache.counts().misses;
    node.feed.publish(&[record]);
    until("it is taken over", async || {
        let row = node.catalog.get(&sku).await.unwrap().unwrap();
        row.value.name == "Theirs" && row.version == 3
    })
    .await;
    until("the list was dropped", async || {
        names("").await;
        node.cache.counts().misses > misses
    })
    .await;
    let metrics = site.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("kontor_cache_lookups{outcome=\"hit\"}"), "{metrics}");
    assert!(metrics.contains("kontor_product_lookups{outcome=\"hit\"}"));
}
