//! What two servers over one store in PostgreSQL and one Redis have together: sessions, keys and
//! how they end, and settings.

use kontor::cache::CacheState;
use kontor::config::Config;
use reqwest::Method;
use serde_json::json;

use crate::cache::server::Redis;
use crate::cache::until;
use crate::live;
use crate::servers::database;
use crate::site::Site;

async fn over(store: &str, redis: &Redis) -> Site {
    over_with(store, redis, |_| {}).await
}

/// The same, with other settings.
pub async fn over_with(store: &str, redis: &Redis, change: impl FnOnce(&mut Config)) -> Site {
    let site = Site::with(|config| {
        config.store.url = store.into();
        config.cache = redis.options();
        change(config);
    })
    .await;
    let cache = site.app.as_ref().unwrap().node.cache.clone();
    until("redis is there", async || cache.state() == CacheState::Ok).await;
    site
}

async fn status(site: &Site, name: &str, value: &str) -> u16 {
    let request = site.request(Method::GET, "/v1/admin/products").header(name, value);
    request.send().await.unwrap().status().as_u16()
}

/// Two nodes that call each other, without NATS, at addresses that serve nothing to buyers.
#[tokio::test(flavor = "multi_thread")]
async fn internal_routes_are_only_at_their_own_address() {
    let store = database();
    let node = async |name: &str| {
        Site::with(|config| {
            config.store.url = store.as_str().into();
            config.http.internal_listen = "127.0.0.1:0".into();
            config.cluster.node = name.into();
            config.cluster.settle_ms = 0;
        })
        .await
    };
    let (one, two) = (node("one").await, node("two").await);
    let status =
        async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    for site in [&one, &two] {
        let app = site.app.as_ref().unwrap();
        let (public, internal) = (app.url(), app.internal_url());
        assert_ne!(public, internal);
        for (path, at_public, at_internal) in [
            ("/metrics", 404, 200),
            ("/livez", 200, 200),
            ("/readyz", 200, 200),
            ("/v1/store/products", 200, 404),
            ("/admin", 200, 404),
            ("/v1/session", 401, 404),
        ] {
            assert_eq!(status(site.web.get(format!("{public}{path}"))).await, at_public, "{path}");
            assert_eq!(
                status(site.web.get(format!("{internal}{path}"))).await,
                at_internal,
                "{path}"
            );
        }
        let calls = |at: &str| site.web.post(format!("{at}/v1/node/calls")).body("call");
        assert_eq!((status(calls(&public)).await, status(calls(&internal)).await), (404, 401));
    }
    until("each has shards", async || {
        let all = one.admin(Method::GET, "/cluster", None).await.expect(200);
        let nodes = all["nodes"].as_array().unwrap();
        nodes.len() == 2 && nodes.iter().all(|node| node["shards"] != 0)
    })
    .await;
    one.sell("LAMP", 1_000, 9).await;
    for at in 0..8 {
        let site = [&one, &two][at % 2];
        let cart = site.cart(&[("LAMP", 1)]).await;
        site.checkout(&cart, &format!("key-{at}"), "tok_ok", 30).await.expect(201);
    }
    let metrics = one.web.get(format!("{}/metrics", one.app.as_ref().unwrap().internal_url()));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    let called = metrics.lines().any(|line| {
        line.starts_with("kontor_node_calls_total")
            && line.contains("http")
            && line.contains("answered")
    });
    assert!(called, "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_products_are_consistent_across_servers() {
    let (store, redis) = (database(), Redis::start());
    let (one, two) = (over(&store, &redis).await, over(&store, &redis).await);

    let sign_in = one.request(Method::POST, "/v1/session").json(&json!({"key": one.key}));
    let signed = sign_in.send().await.unwrap();
    let cookie = signed.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap();
    let cookie = cookie.to_owned();
    for site in [&one, &two] {
        assert_eq!(status(site, "Cookie", &cookie).await, 200);
    }
    let out = one.request(Method::DELETE, "/v1/session").header("Cookie", &cookie);
    assert_eq!(out.header("Origin", one.url()).send().await.unwrap().status(), 204);
    until("it is over there, too", async || status(&two, "Cookie", &cookie).await == 401).await;

    let app = one.app.as_ref().unwrap();
    let now = app.node.clock.now();
    let made = app.store.create_key("k", &["admin".to_owned()], now).await.unwrap();
    let bearer = format!("Bearer {}", made.1.reveal());
    for site in [&one, &two] {
        assert_eq!(status(site, "Authorization", &bearer).await, 200);
    }
    assert!(app.store.revoke_key(&made.0.id, now).await.unwrap());
    for site in [&one, &two] {
        until("nobody believes it", async || status(site, "Authorization", &bearer).await == 401)
            .await;
    }

    let body = json!({"value": false, "reason": "a test"});
    one.admin(Method::PUT, "/settings/imports", Some(body)).await.expect(200);
    let there = &two.app.as_ref().unwrap().node.runtime;
    until("it holds there, too", async || !there.current().imports).await;
    let shown = two.admin(Method::GET, "/settings/imports", None).await.expect(200);
    assert_eq!((&shown["value"], &shown["version"]), (&json!(false), &json!(1)));
    let body = json!({"value": null, "reason": "back"});
    two.admin(Method::PUT, "/settings/imports", Some(body)).await.expect(200);
    let here = &app.node.runtime;
    until("and the other way", async || here.current().imports).await;

    let cluster = one.admin(Method::GET, "/cluster", None).await.expect(200);
    assert_eq!(cluster["shards"].as_array().unwrap().len(), 64);
    let names = cluster["services"].to_string();
    assert!(names.contains("postgresql") && names.contains("redis"), "{names}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_location_is_known_and_closed_on_both_servers() {
    let (store, redis) = (database(), Redis::start());
    let (one, two) = (over(&store, &redis).await, over(&store, &redis).await);
    two.sell("LAMP", 1_000, 2).await;
    let shelf = json!({"name": "Returned goods"});
    one.admin(Method::PUT, "/locations/returns", Some(shelf)).await.expect(201);
    let set = json!({"on_hand": 3});
    two.admin(Method::PUT, "/stock/LAMP/returns", Some(set)).await.expect(200);
    let shut = json!({"for_sale": false});
    one.admin(Method::PATCH, "/locations/returns", Some(shut)).await.expect(200);
    for site in [&one, &two] {
        until("nothing is sold there", async || site.level("LAMP").await["sellable"] == 2).await;
    }
    let cart = two.cart(&[("LAMP", 3)]).await;
    let short = two.checkout(&cart, "key-1", "tok_ok", 10).await;
    assert_eq!((short.code(), &short.body["lines"][0]["available"]), ("out_of_stock", &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_one_socket_on_any_server() {
    let store = database();
    let over = async || Site::with(|config| config.store.url = store.as_str().into()).await;
    let (one, two) = (over().await, over().await);
    let ticket = async |site: &Site, key: &str| {
        let asked = site.request(Method::POST, "/v1/admin/live/tickets").bearer_auth(key);
        let issued = site.send(asked).await.expect(201);
        format!("?ticket={}", issued["ticket"].as_str().unwrap())
    };
    let query = ticket(&one, &one.key).await;
    let (here, there) =
        tokio::join!(live::connect(&one, &query, &[]), live::connect(&two, &query, &[]));
    assert!(here.is_ok() != there.is_ok(), "one of them opens it");
    let query = ticket(&one, &one.key).await;
    let mut client = live::connect(&two, &query, &[]).await.unwrap();
    assert_eq!(client.next().await["type"], "hello");
    let unauthorized = (401, "unauthorized".to_owned());
    for site in [&one, &two] {
        assert_eq!(live::refused(site, &query, &[]).await, unauthorized, "it was used");
    }

    let app = one.app.as_ref().unwrap();
    let (scopes, now) = (["admin".to_owned()], app.node.clock.now());
    let (row, key) = app.store.create_key("k", &scopes, now).await.unwrap();
    let query = ticket(&one, key.reveal()).await;
    assert!(app.store.revoke_key(&row.id, now).await.unwrap());
    assert_eq!(live::refused(&two, &query, &[]).await, unauthorized, "its key was revoked");

    let signed = one.request(Method::POST, "/v1/session").json(&json!({"key": one.key}));
    let signed = signed.send().await.unwrap();
    let cookie = signed.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap();
    let by_session = |method, path| {
        one.request(method, path).header("Cookie", cookie).header("Origin", one.url())
    };
    let asked = by_session(Method::POST, "/v1/admin/live/tickets");
    let issued = one.send(asked).await.expect(201);
    assert_eq!(by_session(Method::DELETE, "/v1/session").send().await.unwrap().status(), 204);
    let query = format!("?ticket={}", issued["ticket"].as_str().unwrap());
    assert_eq!(live::refused(&two, &query, &[]).await, unauthorized, "its session has ended");

    let mut of_two = 0;
    while two.admin(Method::POST, "/live/tickets", None).await.status == 201 {
        of_two += 1;
    }
    assert_eq!(of_two, 100, "two has a key of its own");
    let asked = one.request(Method::POST, "/v1/admin/live/tickets").bearer_auth(&two.key);
    let full = one.send(asked).await;
    assert_eq!((full.status, full.code()), (429, "too_many_requests"), "on the other, too");
}
