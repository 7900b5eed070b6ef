//! The tokens of buyers: an id, which stands in logs, links and lists, opens nothing; a cart's token
//! opens the cart and its order, an order's token the order.

use kontor::actors::engine::clock::Clock;
use kontor::domain::time::Span;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::buyer_tokens;
use crate::site::{Answer, Site};

/// What can be done with a cart.
fn requests(site: &Site, cart: &str) -> Vec<RequestBuilder> {
    let to = |method: Method, path: &str, body: Option<Value>| {
        let request =
            site.web.request(method, format!("{}/v1/store/carts/{cart}{path}", site.url()));
        match body {
            Some(body) => request.header("Idempotency-Key", "key-1").json(&body),
            None => request,
        }
    };
    let pay = json!({"payment": {"provider": "sandbox", "token": "tok_ok"}});
    vec![
        to(Method::GET, "", None),
        to(Method::PATCH, "", Some(json!({"email": "eve@example.com"}))),
        to(Method::POST, "/lines", Some(json!({"sku": "LAMP", "quantity": 1}))),
        to(Method::PATCH, "/lines/1", Some(json!({"quantity": 2}))),
        to(Method::DELETE, "/lines/1", None),
        to(Method::POST, "/checkout", Some(pay)),
    ]
}

/// The statuses of all requests to a cart with a token.
async fn statuses(site: &Site, cart: &str, token: Option<&str>) -> Vec<u16> {
    let mut all = Vec::new();
    for request in requests(site, cart) {
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        all.push(site.send(request).await.status);
    }
    all
}

async fn key(site: &Site, scope: &str) -> String {
    let store = &site.app.as_ref().unwrap().store;
    let made = store.create_key("some", &[scope.to_owned()], Clock::system().now()).await;
    made.unwrap().1.reveal().to_owned()
}

async fn my_order(site: &Site, order: &str, token: &str) -> Answer {
    let request = site.request(Method::GET, &format!("/v1/store/orders/{order}"));
    site.send(request.bearer_auth(token)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cart_without_its_token_is_answered_404_and_stays_as_it_is() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let (cart, other) = (site.cart(&[("LAMP", 1)]).await, site.cart(&[("LAMP", 2)]).await);
    let placed = site.checkout(&other, "key-1", "tok_ok", 30).await.expect(201);
    let before = site.store(Method::GET, &format!("/carts/{cart}"), None).await.expect(200);
    let foreign = buyer_tokens::token(&other);
    let wrong = buyer_tokens::token(&cart).replace("ct_", "ot_");
    let of_order = placed["token"].as_str().unwrap();
    for token in [None, Some(foreign.as_str()), Some(of_order), Some(wrong.as_str())] {
        assert_eq!(statuses(&site, &cart, token).await, [404; 6], "{token:?}");
    }
    // An unknown cart and one whose token is missing cannot be told apart.
    let none = "cart_01h455vb4pex5vsknk084sn02q";
    for (unknown, known) in requests(&site, none).into_iter().zip(requests(&site, &cart)) {
        let (unknown, known) = (site.send(unknown).await.body, site.send(known).await.body);
        assert_eq!((&unknown["code"], &unknown["detail"]), (&known["code"], &known["detail"]));
    }
    let after = site.store(Method::GET, &format!("/carts/{cart}"), None).await.expect(200);
    assert_eq!(before, after);
    let own = buyer_tokens::token(&cart);
    assert_eq!(statuses(&site, &cart, Some(&own)).await, [200, 200, 200, 200, 200, 422]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_reads_stock_cannot_use_the_carts_whose_orders_it_sees() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    site.checkout(&cart, "key-1", "tok_declined", 30).await.expect(402);
    let stock = key(&site, "stock:read").await;
    let level = site.request(Method::GET, "/v1/admin/stock/LAMP").bearer_auth(&stock);
    let level = site.send(level).await.expect(200);
    let seen = level["holds"][0]["order"].as_str().unwrap();
    assert_eq!(seen.replace("ord_", "cart_"), cart);
    assert_eq!(statuses(&site, &cart, Some(&stock)).await, [403; 6]);
    assert_eq!(my_order(&site, seen, &stock).await.status, 401);

    let open = site.cart(&[("LAMP", 1)]).await;
    let reads = key(&site, "orders:read").await;
    assert_eq!(statuses(&site, &open, Some(&reads)).await, [200, 403, 403, 403, 403, 403]);
    let writes = key(&site, "orders:write").await;
    assert_eq!(statuses(&site, &open, Some(&writes)).await, [403, 200, 200, 200, 200, 422]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_answered_only_when_the_cart_is_created_and_never_in_an_error() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let new = || {
        let request = site.request(Method::POST, "/v1/store/carts");
        request.header("Idempotency-Key", "0123456789abcdef").json(&json!({}))
    };
    let first = site.send(new()).await.expect(201);
    let again = site.send(new()).await.expect(201);
    assert_eq!(first["token"], again["token"], "a lost answer is answered again");
    let cart = site.cart(&[("LAMP", 1)]).await;
    let token = buyer_tokens::token(&cart);
    let mut answers = vec![
        site.store(Method::GET, &format!("/carts/{cart}"), None).await.expect(200),
        site.store(Method::PATCH, &format!("/carts/{cart}"), Some(json!({}))).await.expect(200),
        site.store(Method::DELETE, &format!("/carts/{cart}/lines/9"), None).await.expect(404),
        site.checkout(&cart, "key-1", "tok_declined", 30).await.expect(402),
    ];
    answers.push(site.store(Method::GET, &format!("/carts/{cart}"), None).await.expect(409));
    answers.push(site.checkout(&cart, "key-2", "tok_ok", 30).await.expect(201));
    answers.push(site.order(&cart).await);
    for answer in answers {
        let text = answer.to_string();
        assert!(!text.contains(&token) && !text.contains("\"ct_"), "{text}");
        assert!(!text.contains("\"ot_") || answer["status"] == "confirmed", "{text}");
    }
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_an_order_expires_and_is_issued_again_to_its_email_address() {
    let mut site = Site::with(|config| config.shop.order_token_days = 2).await;
    let clock = Clock::by_hand(Clock::system().now());
    site.app.take().unwrap().stop().await;
    site.app = Some(kontor::app::App::start_at(&site.config, clock.clone()).await.unwrap());
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let placed = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let (order, token) = (placed["id"].as_str().unwrap(), placed["token"].as_str().unwrap());
    let of_cart = buyer_tokens::token(&cart);
    let old = site.cart(&[("LAMP", 1)]).await;
    for days in [0, 2] {
        clock.turn(Span::from_secs(days * 24 * 3_600));
        my_order(&site, order, token).await.expect(200);
        my_order(&site, order, &of_cart).await.expect(200);
    }
    clock.turn(Span::from_secs(24 * 3_600));
    for expired in [token, &of_cart] {
        let refused = my_order(&site, order, expired).await;
        assert_eq!((refused.status, refused.code()), (401, "unauthorized"));
        assert!(refused.body["detail"].as_str().unwrap().contains("expired"), "{}", refused.body);
    }
    // A cart is older than its order: its token opens the order from when it was placed.
    let placed = site.checkout(&old, "key-2", "tok_ok", 30).await.expect(201);
    my_order(&site, placed["id"].as_str().unwrap(), &buyer_tokens::token(&old)).await.expect(200);
    let path = format!("/orders/{order}/tokens");
    let issued = site.admin(Method::POST, &path, None).await.expect(201);
    assert_eq!(issued["email"], "ada@example.com");
    my_order(&site, order, issued["token"].as_str().unwrap()).await.expect(200);
    let reads = key(&site, "orders:read").await;
    let request = site.request(Method::POST, &format!("/v1/admin{path}")).bearer_auth(&reads);
    assert_eq!(site.send(request).await.status, 403);
    let unknown = "/orders/ord_01h455vb4pex5vsknk084sn02q/tokens";
    site.admin(Method::POST, unknown, None).await.expect(404);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_forgotten_and_the_token_of_another_cart_create_a_new_cart() {
    let mut site = Site::open().await;
    let clock = Clock::by_hand(Clock::system().now());
    site.app.take().unwrap().stop().await;
    site.app = Some(kontor::app::App::start_at(&site.config, clock.clone()).await.unwrap());
    let new = |token: &str| {
        let request = site.request(Method::POST, "/v1/store/carts").json(&json!({}));
        let request = request.header("Idempotency-Key", "0123456789abcdef");
        if token.is_empty() { request } else { request.bearer_auth(token) }
    };
    let first = site.send(new("")).await.expect(201);
    let token = first["token"].as_str().unwrap();
    let again = site.send(new(token)).await.expect(201);
    assert_eq!(first["id"], again["id"]);
    clock.turn(Span::from_secs(24 * 3_600 + 1));
    let later = site.send(new("")).await.expect(201);
    assert_ne!(first["id"], later["id"]);
    assert_eq!(site.send(new("")).await.expect(201)["id"], later["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_keys_are_of_one_cart_one_key_or_one_session() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    // The same key in two carts: two lines, two orders.
    let carts = [site.cart(&[("LAMP", 1)]).await, site.cart(&[("LAMP", 1)]).await];
    for cart in &carts {
        let request = site.request(Method::POST, &format!("/v1/store/carts/{cart}/lines"));
        let line = json!({"sku": "LAMP", "quantity": 1});
        let added = site.send(request.header("Idempotency-Key", "k").json(&line)).await.expect(200);
        assert_eq!(added["lines"][0]["quantity"], 2);
    }
    // A key and the session that was started with it adjust the stock once each.
    let sign_in = site.request(Method::POST, "/v1/session").json(&json!({"key": site.key}));
    let signed_in = sign_in.header("Origin", site.url()).send().await.unwrap();
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let adjust = || {
        let request = site.request(Method::POST, "/v1/admin/stock/LAMP/main/adjustments");
        request.header("Idempotency-Key", "k").json(&json!({"quantity": 1, "reason": "found"}))
    };
    for _ in 0..2 {
        site.send(adjust().bearer_auth(&site.key)).await.expect(200);
        let session = adjust().header("Cookie", &cookie).header("Origin", site.url());
        site.send(session).await.expect(200);
    }
    assert_eq!(site.level("LAMP").await["on_hand"], 101);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_lets_a_page_tell_others_its_address() {
    let site = Site::open().await;
    let cart = site.cart(&[]).await;
    for path in [&*format!("/v1/store/carts/{cart}"), "/v1/store/carts/x", "/docs", "/admin", "/x"]
    {
        let answer = site.request(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.headers()["referrer-policy"], "no-referrer", "{path}");
    }
}
