//! The live feed over the wire: what a client is shown chains without a gap or a double, also
//! when it comes back, and one that does not read harms nobody.

mod filters;
mod nodes;
mod restored;
mod rows;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use kontor::domain::entity::EntityId;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, connect_async};

use crate::site::Site;

const PATIENCE: Duration = Duration::from_secs(60);

/// A client of the live socket.
pub struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// Headers of a handshake.
type Headers<'a> = &'a [(&'static str, &'a str)];

pub async fn connect(
    site: &Site,
    query: &str,
    headers: Headers<'_>,
) -> tungstenite::Result<Client> {
    connect_to(&site.url(), query, headers).await
}

/// The same, to any server.
pub async fn connect_to(
    server: &str,
    query: &str,
    headers: Headers<'_>,
) -> tungstenite::Result<Client> {
    let url = format!("{}/v1/admin/live{query}", server.replace("http://", "ws://"));
    let mut request = url.into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    connect_async(request).await.map(|(stream, _)| Client(stream))
}

/// A client that the system keeps little for.
async fn narrow(site: &Site) -> Client {
    let url = format!("{}/v1/admin/live", site.url().replace("http://", "ws://"));
    let mut request = url.into_client_request().unwrap();
    let bearer = HeaderValue::from_str(&format!("Bearer {}", site.key)).unwrap();
    request.headers_mut().insert("authorization", bearer);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let address = site.url().trim_start_matches("http://").parse().unwrap();
    let stream = MaybeTlsStream::Plain(socket.connect(address).await.unwrap());
    Client(client_async(request, stream).await.unwrap().0)
}

/// The status and code of a handshake that is refused.
pub async fn refused(site: &Site, query: &str, headers: Headers<'_>) -> (u16, String) {
    match connect(site, query, headers).await {
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            (response.status().as_u16(), body["code"].as_str().unwrap_or_default().to_owned())
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the socket was opened"),
    }
}

impl Client {
    pub async fn open(site: &Site) -> Self {
        Self::with_key(site, &site.key).await
    }

    async fn with_key(site: &Site, key: &str) -> Self {
        let bearer = format!("Bearer {key}");
        let mut client = connect(site, "", &[("authorization", &bearer)]).await.unwrap();
        assert_eq!(client.next().await["type"], "hello");
        client
    }

    pub async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message, or how the socket was closed.
    async fn heard(&mut self) -> Result<Value, Option<u16>> {
        let next = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Ok(serde_json::from_str(&text).unwrap());
                    }
                    Some(Ok(Message::Close(frame))) => {
                        return Err(frame.map(|frame| u16::from(frame.code)));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(None),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("nothing came")
    }

    pub async fn next(&mut self) -> Value {
        self.heard().await.unwrap()
    }

    pub async fn until(&mut self, ready: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.next().await;
            if ready(&message) {
                return message;
            }
        }
    }
}

/// What a client knows of orders, which checks that it all chains.
#[derive(Default)]
struct Book {
    versions: BTreeMap<String, i64>,
    events: BTreeMap<String, Vec<i64>>,
    token: String,
    resyncs: usize,
}

impl Book {
    fn take(&mut self, message: &Value) {
        let data = || message["data"].as_array().unwrap();
        match message["type"].as_str().unwrap() {
            "snapshot" => {
                self.versions.clear();
                for row in data() {
                    let version = row["version"].as_i64().unwrap();
                    self.versions.insert(row["id"].as_str().unwrap().to_owned(), version);
                }
            }
            "changes" => data().iter().for_each(|change| self.change(change)),
            "resync" => self.resyncs += 1,
            other => panic!("{other}: {message}"),
        }
        self.token = message["token"].as_str().unwrap().to_owned();
    }

    fn change(&mut self, change: &Value) {
        let order = change["order"].as_str().unwrap().to_owned();
        let (after, version) = (change["after"].as_i64(), change["version"].as_i64().unwrap());
        assert_eq!(after, Some(self.versions.get(&order).copied().unwrap_or(0)), "{change:#}");
        assert_eq!(change["row"]["version"], version);
        let seqs = change["events"].as_array().unwrap().iter().map(|event| event["seq"].as_i64());
        let seqs: Vec<i64> = seqs.map(Option::unwrap).collect();
        assert_eq!(seqs, (after.unwrap() + 1..=version).collect::<Vec<_>>(), "{change:#}");
        self.events.entry(order.clone()).or_default().extend(seqs);
        self.versions.insert(order, version);
    }

    /// Whether it has come as far as the journal has for these orders, with every event of each.
    async fn whole(&self, site: &Site, orders: &[String]) -> bool {
        let journal = site.app.as_ref().unwrap().node.store.journal();
        for order in orders {
            let all = journal.read_entity(&EntityId::new(order), 0, 1_000).await.unwrap();
            let seqs: Vec<i64> = all.iter().map(|record| record.seq).collect();
            if self.events.get(order) != Some(&seqs) {
                return false;
            }
        }
        true
    }
}

fn orders(from: Option<&str>) -> Value {
    match from {
        Some(from) => json!({"type": "subscribe", "id": "o", "topic": "orders", "from": from}),
        None => json!({"type": "subscribe", "id": "o", "topic": "orders"}),
    }
}

/// Buys so many carts and waits until each is paid; answers their orders.
async fn buy(site: &Site, count: usize) -> Vec<String> {
    let one = async |_| {
        let cart = site.cart(&[("LAMP", 1)]).await;
        site.checkout(&cart, &format!("key-{cart}"), "tok_ok", 30).await.expect(201);
        site.until(&cart, |order| order["payment_status"] == "captured").await;
        cart.replace("cart_", "ord_")
    };
    futures_util::future::join_all((0..count).map(one)).await
}

/// Buys, and waits until the lists show it all.
async fn bought(site: &Site, count: usize) -> Vec<String> {
    let orders = buy(site, count).await;
    site.until_some(async || {
        let page = site.admin(Method::GET, "/orders?limit=100", None).await.expect(200);
        let rows = page["data"].as_array().unwrap();
        let is_listed = |order: &String| {
            rows.iter().any(|row| row["id"] == **order && row["payment_status"] == "captured")
        };
        orders.iter().all(is_listed).then_some(())
    })
    .await;
    orders
}

/// Reads until the book has every event of these orders.
async fn read_all(client: &mut Client, book: &mut Book, site: &Site, orders: &[String]) {
    while !book.whole(site, orders).await {
        book.take(&client.next().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_and_its_changes_chain_without_a_gap() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 1_000).await;
    let first = bought(&site, 3).await;
    let mut client = Client::open(&site).await;
    let (buying, reading) = (buy(&site, 12), async {
        client.say(orders(None)).await;
        let snapshot = client.next().await;
        assert_eq!((&snapshot["type"], &snapshot["id"]), (&json!("snapshot"), &json!("o")));
        assert!(snapshot["data"].as_array().unwrap().len() >= first.len());
        let mut book = Book::default();
        book.take(&snapshot);
        book
    });
    let (later, mut book) = tokio::join!(buying, reading);
    let newest = |book: &Book, order: &String| book.versions.get(order).copied();
    let journal = site.app.as_ref().unwrap().node.store.journal();
    for order in first.iter().chain(&later) {
        let all = journal.read_entity(&EntityId::new(order), 0, 1_000).await.unwrap();
        let last = all.last().map(|record| record.seq);
        while newest(&book, order) != last {
            book.take(&client.next().await);
        }
    }
    assert_eq!(book.resyncs, 0);
}

/// Kills the client again and again; every event of every order is seen once.
async fn comes_back(site: &mut Site, restart: bool) {
    site.sell("LAMP", 1_000, 1_000).await;
    let mut book = Book::default();
    let mut client = Client::open(site).await;
    client.say(orders(None)).await;
    book.take(&client.next().await);
    let mut bought = Vec::new();
    for round in 0..4 {
        let seen = buy(site, 3).await;
        if round % 2 == 0 {
            read_all(&mut client, &mut book, site, &seen).await;
        }
        bought.extend(seen);
        drop(client);
        bought.extend(buy(site, 3).await);
        if restart && round == 1 {
            site.restart().await;
        }
        client = Client::open(site).await;
        client.say(orders(Some(&book.token))).await;
        let message = client.next().await;
        assert_eq!(message["type"], "changes", "{message}");
        book.take(&message);
    }
    read_all(&mut client, &mut book, site, &bought).await;
    assert_eq!(book.resyncs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn resumed_client_gets_every_event_once() {
    comes_back(&mut Site::open().await, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resumed_client_gets_old_changes_from_the_journal() {
    let mut site = Site::with(|config| config.http.live.ring_changes = 1).await;
    comes_back(&mut site, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_resumes_after_a_restart_without_loss() {
    comes_back(&mut Site::open().await, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_too_far_back_or_of_an_earlier_version_leads_to_a_snapshot() {
    let site = Site::with(|config| {
        (config.http.live.ring_changes, config.http.live.resume_events_max) = (1, 5);
    })
    .await;
    site.sell("LAMP", 1_000, 1_000).await;
    let mut client = Client::open(&site).await;
    client.say(orders(None)).await;
    let token = client.next().await["token"].as_str().unwrap().to_owned();
    let orders_bought = bought(&site, 3).await;
    // "1:0:1", as an earlier version wrote it.
    for (from, reason) in [(token.as_str(), "too_old"), ("MTowOjE", "other_history")] {
        let mut other = Client::open(&site).await;
        other.say(orders(Some(from))).await;
        let resync = other.next().await;
        assert_eq!((&resync["type"], &resync["reason"]), (&json!("resync"), &json!(reason)));
        let snapshot = other.next().await;
        assert_eq!((&snapshot["type"], &snapshot["token"]), (&json!("snapshot"), &resync["token"]));
        assert_eq!(snapshot["data"].as_array().unwrap().len(), orders_bought.len());
    }
    client.say(json!({"type": "subscribe", "id": "x", "topic": "orders", "from": "?"})).await;
    let error = client.until(|message| message["type"] == "error").await;
    assert_eq!((&error["id"], &error["code"]), (&json!("x"), &json!("invalid_cursor")));
}

#[tokio::test(flavor = "multi_thread")]
async fn order_that_leaves_the_filter_is_sent_once() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 1_000).await;
    let mut client = Client::open(&site).await;
    let filter = json!({"status": ["confirmed"]});
    let subscribe = |filter: &Value| json!({"type": "subscribe", "id": "c", "topic": "orders", "filter": filter});
    client.say(subscribe(&filter)).await;
    assert_eq!(client.next().await["data"], json!([]));
    let order = buy(&site, 1).await.remove(0);
    let is_about = |message: &Value, matches: bool| {
        let data = message["data"].as_array().unwrap();
        data.iter().any(|one| one["order"] == *order && one["matches"] == matches)
    };
    client.until(|message| is_about(message, true)).await;
    let cancel = json!({"reason": "test"});
    let path = format!("/orders/{order}/cancel");
    site.admin(Method::POST, &path, Some(cancel)).await.expect(200);
    let left = client.until(|message| is_about(message, false)).await;
    assert_ne!(left["data"][0]["row"]["status"], "confirmed");
    // It is another order's turn: nothing more is told of the one that left.
    let other = bought(&site, 1).await.remove(0);
    let next = client.until(|message| message["data"][0]["order"] == *other).await;
    assert!(!next.to_string().contains(&order), "{next}");
    let mut one = Client::open(&site).await;
    one.say(subscribe(&json!({"order": order}))).await;
    let snapshot = one.next().await;
    assert_eq!(snapshot["data"].as_array().unwrap().len(), 1);
    assert_eq!(snapshot["data"][0]["id"], *order);
    one.say(subscribe(&json!({"email": "eve@example.com"}))).await;
    assert_eq!(one.next().await["data"], json!([]));
    one.say(subscribe(&json!({"sku": "LAMP"}))).await;
    assert_eq!(one.next().await["code"], "unknown_filter");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_topics_are_served() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 50).await;
    site.until_some(async || {
        let listed = site.admin(Method::GET, "/stock?q=LAMP", None).await.expect(200);
        (listed["data"][0]["sellable"] == 50).then_some(())
    })
    .await;
    let mut client = Client::open(&site).await;
    let filter = json!({"sku": "LAMP"});
    client.say(json!({"type": "subscribe", "id": "s", "topic": "stock", "filter": filter})).await;
    let snapshot = client.next().await;
    assert_eq!(snapshot["data"][0]["sellable"], 50);
    assert!(snapshot["data"][0]["name"].is_string(), "{snapshot:#}");
    let mut version = snapshot["data"][0]["version"].as_i64().unwrap();
    buy(&site, 1).await;
    let allocated = site.level("LAMP").await;
    let (first, mut events) = (version, Vec::new());
    while version < allocated["version"].as_i64().unwrap() {
        let changes = client.next().await;
        let change = &changes["data"][0];
        assert_eq!(change["after"], version, "{changes:#}");
        version = change["version"].as_i64().unwrap();
        let row = &change["rows"][0];
        assert_eq!(
            (&row["location"], &row["name"]),
            (&json!("main"), &snapshot["data"][0]["name"])
        );
        events.extend(change["events"].as_array().unwrap().iter().cloned());
    }
    let seqs: Vec<_> = events.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (first + 1..=version).collect::<Vec<_>>());
    assert_eq!((&events[0]["kind"], &events[0]["by"]), (&json!("reserved"), &json!("saga")));
    for topic in ["sagas", "stats", "cluster"] {
        let mut client = Client::open(&site).await;
        client.say(json!({"type": "subscribe", "id": "t", "topic": topic})).await;
        let kind = if topic == "sagas" { "snapshot" } else { topic };
        let message = client.until(|message| message["type"] == kind).await;
        if topic == "stats" {
            let sample = &message["data"][0];
            assert!(sample["sockets"].is_number() && sample["request_ms"]["p50"].is_number());
            let more = client.until(|message| message["type"] == "stats").await;
            assert_eq!(more["data"].as_array().unwrap().len(), 1, "{more}");
        }
    }
}

/// Makes a key with scopes.
async fn key(site: &Site, scopes: &[&str]) -> (String, String) {
    let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let app = site.app.as_ref().unwrap();
    let (row, key) = app.store.create_key("live", &scopes, app.node.clock.now()).await.unwrap();
    (row.id, key.reveal().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_requires_authentication_and_same_origin() {
    let site = Site::open().await;
    let bearer = format!("Bearer {}", site.key);
    let auth = ("authorization", bearer.as_str());
    let code = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(refused(&site, "", &[]).await, code(401, "unauthorized"));
    assert_eq!(refused(&site, "?ticket=x", &[auth]).await, code(401, "unauthorized"));
    let page = ("origin", "https://evil.example");
    assert_eq!(refused(&site, "", &[auth, page]).await, code(403, "forbidden_origin"));
    let own = site.url();
    connect(&site, "", &[auth, ("origin", &own)]).await.unwrap();
    let ticket = site.admin(Method::POST, "/live/tickets", None).await.expect(201);
    let query = format!("?ticket={}", ticket["ticket"].as_str().unwrap());
    let mut client = connect(&site, &query, &[]).await.unwrap();
    assert_eq!(client.next().await["type"], "hello");
    assert_eq!(refused(&site, &query, &[]).await, code(401, "unauthorized"), "it was used");
    let protocol = format!("kontor.live.v1, bearer.{}", site.key);
    let offered = ("sec-websocket-protocol", protocol.as_str());
    connect(&site, "", &[offered]).await.unwrap();
    let offered = ("sec-websocket-protocol", "kontor.live.v1, bearer.sk_no");
    assert_eq!(refused(&site, "", &[offered]).await, code(401, "unauthorized"));
    let plain = site.admin(Method::GET, "/live", None).await;
    assert_eq!((plain.status, plain.code()), (400, "bad_request"));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_do_not_begin_in_the_future() {
    let site = Site::open().await;
    let now = site.app.as_ref().unwrap().node.clock.now();
    let ahead =
        |secs: i64| kontor::domain::time::Timestamp::from_millis(now.millis() + secs * 1_000);
    let read =
        async |at: String| site.admin(Method::GET, &format!("/changes?after={at}"), None).await;
    read(ahead(240).to_string()).await.expect(200);
    let refused = read(ahead(3_600).to_string()).await;
    let errors = &refused.body["errors"];
    assert_eq!((refused.status, &errors[0]["field"]), (422, &json!("after")), "{errors}");
    let said = errors[0]["message"].as_str().unwrap();
    assert!(said.starts_with("must not be in the future: the server's time is 2"), "{said}");
    let wrong = site.admin(Method::GET, "/changes?after=x&topic=x", None).await;
    assert_eq!(wrong.body["errors"].as_array().map(Vec::len), Some(2), "{:#}", wrong.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_takes_several_values() {
    let site = Site::open().await;
    for sku in ["LAMP", "MUG", "VASE"] {
        site.sell(sku, 1_000, 5).await;
    }
    let annex = json!({"name": "Annex", "for_sale": true});
    site.admin(Method::PUT, "/locations/annex", Some(annex)).await.expect(201);
    let moved = json!({"from": "main", "to": "annex", "quantity": 2});
    site.admin(Method::POST, "/stock/MUG/transfers", Some(moved)).await.expect(200);
    site.until_some(async || {
        let listed = site.admin(Method::GET, "/stock?location=annex", None).await.expect(200);
        (listed["data"].as_array()?.len() == 1).then_some(())
    })
    .await;
    let snapshot = async |topic: &str, filter: Value| {
        let mut client = Client::open(&site).await;
        client.say(json!({"type": "subscribe", "id": "a", "topic": topic, "filter": filter})).await;
        let snapshot = client.next().await;
        assert_eq!(snapshot["type"], "snapshot", "{snapshot}");
        (client, snapshot["data"].as_array().unwrap().clone())
    };
    let (_, two) = snapshot("products", json!({"sku": ["LAMP", "VASE"]})).await;
    assert_eq!(two.iter().map(|row| &row["sku"]).collect::<Vec<_>>(), ["LAMP", "VASE"]);
    let filter = json!({"sku": ["LAMP", "MUG"], "location": ["annex"]});
    let (mut client, at_annex) = snapshot("stock", filter).await;
    assert_eq!(at_annex.len(), 1, "{at_annex:?}");
    // Only what concerns the location is sent, and only its levels.
    for (path, quantity) in [("LAMP/main", 1), ("MUG/annex", 3)] {
        let more = json!({"quantity": quantity});
        let path = format!("/stock/{path}/receipts");
        site.admin(Method::POST, &path, Some(more)).await.expect(200);
    }
    let change = client.until(|message| message["data"][0]["rows"].is_array()).await;
    assert_eq!(change["data"].as_array().unwrap().len(), 1, "{change}");
    let rows = change["data"][0]["rows"].as_array().unwrap();
    assert_eq!(
        (rows.len(), &rows[0]["location"], &rows[0]["on_hand"]),
        (1, &json!("annex"), &json!(5))
    );
    let carts = [site.cart(&[("LAMP", 1)]).await, site.cart(&[("VASE", 1)]).await];
    for cart in &carts {
        site.checkout(cart, "key", "tok_ok", 30).await.expect(201);
    }
    let ids = carts.map(|cart| cart.replace("cart_", "ord_"));
    site.until_some(async || {
        let listed = site.admin(Method::GET, "/orders?status=confirmed", None).await.expect(200);
        (listed["data"].as_array()?.len() == 2).then_some(())
    })
    .await;
    for filter in [
        json!({"id": ids}),
        json!({"number": [1, "2"], "status": ["confirmed", "stuck"]}),
        json!({"email": ["ADA@example.com", "eve@example.com"]}),
    ] {
        assert_eq!(snapshot("orders", filter.clone()).await.1.len(), 2, "{filter}");
    }
    let (_, one) = snapshot("orders", json!({"order": ids[0]})).await;
    assert_eq!(one.iter().map(|row| &row["id"]).collect::<Vec<_>>(), [&ids[0]]);
    assert!(snapshot("orders", json!({"reference": ["PO 7"]})).await.1.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_messages_are_answered_and_close_nothing() {
    let site = Site::with(|config| config.http.live.subscriptions_max = 2).await;
    let (id, key) = key(&site, &["stock:read"]).await;
    let mut client = Client::with_key(&site, &key).await;
    let subscribe = |id: &str, topic: &str| json!({"type": "subscribe", "id": id, "topic": topic});
    let stuck = json!({"type": "subscribe", "id": "a", "topic": "stock", "limit": 0});
    let wrong = [
        (json!("x"), "invalid_request"),
        (json!({"type": "dance"}), "invalid_request"),
        (subscribe("a", "weather"), "invalid_request"),
        (subscribe("", "stock"), "invalid_request"),
        (stuck, "invalid_request"),
        (subscribe("a", "orders"), "forbidden"),
        (subscribe("a", "cluster"), "forbidden"),
    ];
    for (message, code) in wrong {
        client.say(message).await;
        let error = client.next().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{error}");
    }
    client
        .say(json!({"type": "subscribe", "id": "", "topik": "stock", "limit": 0,
        "filter": {"sku": "a/b"}, "from": "x"}))
        .await;
    let error = client.next().await;
    let mut fields: Vec<_> = error["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["field"].as_str().unwrap())
        .collect();
    fields.sort_unstable();
    assert_eq!(fields, ["from", "id", "limit", "topic", "topik"], "{error}");
    client
        .say(json!({"type": "subscribe", "id": "a", "topic": "stock", "limit": 0,
        "filter": {"sku": "a/b", "colour": 1}}))
        .await;
    let error = client.next().await;
    assert_eq!(error["errors"].as_array().map(Vec::len), Some(3), "{error}");
    // What would be right is said.
    let right = async |client: &mut Client, message: Value, said: &[&str]| {
        client.say(message).await;
        let error = client.next().await.to_string();
        assert!(said.iter().all(|one| error.contains(one)), "{error}");
    };
    let mut from = subscribe("a", "stock");
    from["from"] = json!("x");
    right(&mut client, from, &["token", "2026-01-31T12:00:00Z"]).await;
    let mut filtered = subscribe("a", "stock");
    filtered["filter"] = json!({"status": ["confirmed"]});
    right(&mut client, filtered, &["its filters are sku, location"]).await;
    let mut filtered = subscribe("a", "orders");
    filtered["filter"] = json!({"status": ["eaten"], "payment_status": "x", "sku": "A"});
    right(&mut client, filtered, &["confirmed, ", "captured, ", "fulfillment_status, "]).await;
    for id in ["a", "b"] {
        client.say(subscribe(id, "stock")).await;
        assert_eq!(client.next().await["type"], "snapshot");
    }
    client.say(subscribe("c", "stock")).await;
    let error = client.next().await;
    assert_eq!((&error["id"], &error["code"]), (&json!("c"), &json!("too_many_requests")));
    client.say(json!({"type": "unsubscribe", "id": "a"})).await;
    client.say(subscribe("c", "stock")).await;
    assert_eq!(client.next().await["type"], "snapshot");
    // The socket goes with its key.
    let app = site.app.as_ref().unwrap();
    assert!(app.store.revoke_key(&id, app.node.clock.now()).await.unwrap());
    assert_eq!(client.next().await["type"], "bye");
    assert_eq!(client.heard().await, Err(Some(4401)));
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_socket_does_not_delay_others() {
    let mut site = Site::with(|config| {
        let live = &mut config.http.live;
        (live.behind_max, live.ring_changes) = (200, 50);
        (live.messages_per_sec, live.pause_ms) = (10_000, 10);
    })
    .await;
    site.sell("LAMP", 1_000, 100_000).await;
    let (mut deaf, mut stuck) = (narrow(&site).await, narrow(&site).await);
    let mut client = Client::open(&site).await;
    let mut book = Book::default();
    client.say(orders(None)).await;
    book.take(&client.next().await);
    deaf.say(orders(None)).await;
    let metric = async |name: &str| {
        let text = site.request(Method::GET, "/metrics").send().await.unwrap();
        let text = text.text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    // Its buffers, and the system's, have to be full first: then every turn passes it by.
    let (mut passed_by, mut rounds) = (0, 0);
    while passed_by < 10 {
        for id in 0..15 {
            let id = id.to_string();
            let full = json!({"type": "subscribe", "id": id, "topic": "orders", "limit": 200});
            tokio::join!(deaf.say(full.clone()), stuck.say(full));
        }
        let before = metric("kontor_live_skipped_total").await;
        let more = buy(&site, 4).await;
        read_all(&mut client, &mut book, &site, &more).await;
        let after = metric("kontor_live_skipped_total").await;
        passed_by = if after - before >= 2.0 { passed_by + 1 } else { 0 };
        rounds += 1;
        assert!(rounds < 500, "it was never full");
    }
    let bytes = metric("kontor_live_bytes_total").await;
    assert!(bytes < 64e6, "{bytes} bytes went to one that does not read");
    for _ in 0..10 {
        let more = buy(&site, 4).await;
        read_all(&mut client, &mut book, &site, &more).await;
    }
    let resync = deaf.until(|message| message["type"] == "resync").await;
    assert_eq!(resync["reason"], "slow");
    assert!(resync["skipped"].as_i64().unwrap() > 200);
    assert_eq!(deaf.next().await["type"], "snapshot");
    assert_eq!(book.resyncs, 0);
    // The other one has read nothing still, not even that it is to go.
    let app = site.app.take().unwrap();
    let stopped = tokio::time::timeout(Duration::from_secs(6), app.stop()).await;
    stopped.expect("a socket that does not read held the server up");
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuild_publishes_nothing() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 1_000).await;
    let mut client = Client::open(&site).await;
    let mut book = Book::default();
    client.say(orders(None)).await;
    book.take(&client.next().await);
    let mut bought = buy(&site, 3).await;
    read_all(&mut client, &mut book, &site, &bought).await;
    site.admin(Method::POST, "/dead-letters/replay", None).await.expect(202);
    bought.extend(buy(&site, 3).await);
    read_all(&mut client, &mut book, &site, &bought).await;
    assert_eq!(book.resyncs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_server_closes_sockets_without_waiting() {
    let mut site = Site::open().await;
    let mut client = Client::open(&site).await;
    let deaf = Client::open(&site).await;
    let app = site.app.take().unwrap();
    let stopped = tokio::time::timeout(Duration::from_secs(6), app.stop());
    let heard = async {
        assert_eq!(client.next().await["type"], "bye");
        client.heard().await
    };
    let (stopped, heard) = tokio::join!(stopped, heard);
    stopped.expect("a socket held the server up");
    assert_eq!(heard, Err(Some(1001)));
    drop(deaf);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_sees_its_own_order_to_the_end() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let order = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let other = site.cart(&[("LAMP", 1)]).await;
    let other = site.checkout(&other, "key-2", "tok_ok", 30).await.expect(201);
    let id = order["id"].as_str().unwrap();
    let watch = |token: &Value| {
        let request = site.request(Method::GET, &format!("/v1/store/orders/{id}/live"));
        request.bearer_auth(token.as_str().unwrap())
    };
    assert_eq!(watch(&other["token"]).send().await.unwrap().status(), 401);
    let stream = watch(&order["token"]).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let cancel = json!({"reason": "changed my mind"});
    site.admin(Method::POST, &format!("/orders/{id}/cancel"), Some(cancel)).await.expect(200);
    let text = stream.text().await.unwrap();
    let field = |name: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix(name)).map(str::to_owned).collect()
    };
    let ids = field("id: ");
    let version = |id: &String| id.split_once('-').unwrap().0.parse::<i64>().unwrap();
    let versions: Vec<i64> = ids.iter().map(version).collect();
    assert!(versions.is_sorted() && versions.len() >= 2, "{text}");
    let last: Value = serde_json::from_str(field("data: ").last().unwrap()).unwrap();
    assert_eq!(last["status"], "cancelled");
    assert_eq!(last["version"], *versions.last().unwrap());
    let since = |id: &str| watch(&order["token"]).header("last-event-id", id).send();
    assert_eq!(since(ids.last().unwrap()).await.unwrap().status(), 204);
    // The same version before a restore of the store.
    let before = format!("{}-0123456789abcdef", versions.last().unwrap());
    assert_eq!(since(&before).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_cannot_take_all_sockets() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let mut orders = Vec::new();
    for key in ["key-1", "key-2"] {
        let cart = site.cart(&[("LAMP", 1)]).await;
        orders.push(site.checkout(&cart, key, "tok_ok", 30).await.expect(201));
    }
    let watch = async |order: &Value| {
        let (id, token) = (order["id"].as_str().unwrap(), order["token"].as_str().unwrap());
        let request = site.request(Method::GET, &format!("/v1/store/orders/{id}/live"));
        request.bearer_auth(token).send().await.unwrap()
    };
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(watch(&orders[0]).await);
    }
    assert!(streams.iter().all(|stream| stream.status() == 200));
    let refused = watch(&orders[0]).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "too_many_requests");
    assert_eq!(watch(&orders[1]).await.status(), 200);
    // A place that is left is free again.
    streams.pop();
    let again = async {
        while watch(&orders[0]).await.status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("a place stayed taken");
}

/// Buys until a token is old, comes back with it, and is led to a snapshot.
async fn is_resynced(site: &Site, before: usize) {
    site.sell("LAMP", 1_000, 1_000).await;
    buy(site, before).await;
    let subscribe = |from: Option<&Value>| json!({"type": "subscribe", "id": "s", "topic": "stock", "from": from});
    let mut client = Client::open(site).await;
    client.say(subscribe(None)).await;
    let snapshot = client.next().await;
    buy(site, 1).await;
    let mut again = Client::open(site).await;
    again.say(subscribe(Some(&snapshot["token"]))).await;
    let resync = again.next().await;
    assert_eq!((&resync["type"], &resync["reason"]), (&json!("resync"), &json!("too_old")));
    assert_eq!(again.next().await["type"], "snapshot");
}

#[tokio::test(flavor = "multi_thread")]
async fn resume_folds_no_long_history() {
    let short = |config: &mut kontor::config::Config| {
        (config.http.live.ring_changes, config.http.live.resume_events_max) = (1, 60);
    };
    is_resynced(&Site::with(short).await, 40).await;
}
