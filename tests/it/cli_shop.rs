//! `kontor replay` and the demo's buyers against a stub shop: scarce stock, refunds, lost answers.
//!
//! What deliberately is not here: a real server, and the real file.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use kontor_client::Client;
use kontor_lab::{replay, shoppers};
use serde_json::{Value, json};
use tokio::sync::watch;

#[derive(Default)]
struct Shop {
    stock: BTreeMap<String, [i64; 2]>,
    carts: HashMap<String, Value>,
    orders: BTreeMap<String, Value>,
    answers: HashMap<String, (u16, Value)>,
    requests: usize,
    /// Answers with a total that is off by a penny.
    miscounts: bool,
}

type Shared = web::Data<Mutex<Shop>>;

fn lock(shop: &Shared) -> MutexGuard<'_, Shop> {
    shop.lock().unwrap()
}

fn answer((status, body): (u16, Value)) -> HttpResponse {
    HttpResponse::build(StatusCode::from_u16(status).unwrap()).json(body)
}

/// What a shop has left, and what it has sold.
fn books(shop: &Shared) -> (BTreeMap<String, [i64; 2]>, BTreeMap<String, Value>) {
    let shop = lock(shop);
    (shop.stock.clone(), shop.orders.clone())
}

/// Half to even, as the shop rounds a line.
fn pence(line: &Value) -> i64 {
    let price: f64 = line["unit_price"]["amount_decimal"].as_str().unwrap().parse().unwrap();
    let price = (price * 10_000.0).round() as i64;
    let value = price * line["quantity"].as_i64().unwrap();
    let (whole, rest) = (value / 10_000, value % 10_000);
    whole + i64::from(rest > 5_000 || (rest == 5_000 && whole % 2 == 1))
}

/// Every POST: once a key, and now and then its answer is lost on the way.
async fn post(request: HttpRequest, body: web::Json<Value>, shop: Shared) -> HttpResponse {
    let key = request.headers().get("idempotency-key").unwrap().to_str().unwrap().to_owned();
    tokio::task::yield_now().await;
    let mut shop = lock(&shop);
    shop.requests += 1;
    if let Some(known) = shop.answers.get(&key) {
        return answer(known.clone());
    }
    let path: Vec<&str> = request.path().trim_matches('/').split('/').collect();
    let outcome = match path[1..] {
        ["admin", "imports"] => import(&mut shop, &body),
        ["store", "carts"] => cart(&mut shop, body.0),
        ["store", "carts", id, "lines"] => add_line(&mut shop, id, body.0),
        ["store", "carts", id, "checkout"] => checkout(&mut shop, id, &body),
        ["admin", "orders", id, "refunds"] => refund(&mut shop, id, &body),
        _ => (404, json!({"code": "not_found"})),
    };
    shop.answers.insert(key, outcome.clone());
    if shop.requests.is_multiple_of(7) {
        return answer((503, json!({"code": "try_again"})));
    }
    answer(outcome)
}

fn import(shop: &mut Shop, body: &Value) -> (u16, Value) {
    for row in body["rows"].as_array().unwrap() {
        let sku = row["product"]["sku"].as_str().unwrap().to_owned();
        shop.stock.insert(sku, [row["on_hand"].as_i64().unwrap(), 0]);
    }
    (200, json!({"created": 1, "errors": []}))
}

fn cart(shop: &mut Shop, mut body: Value) -> (u16, Value) {
    let id = format!("cart_{}", shop.carts.len());
    for (number, line) in body["lines"].as_array_mut().unwrap().iter_mut().enumerate() {
        line["id"] = json!(number.to_string());
    }
    if let Some(address) = body.get("shipping_address") {
        assert_eq!(address["country"].as_str().unwrap().len(), 2);
    }
    body["id"] = json!(id);
    let body = with_total(&mut body);
    shop.carts.insert(id, body.clone());
    let mut made = body;
    made["token"] = json!("ct_a");
    (201, made)
}

fn add_line(shop: &mut Shop, id: &str, mut line: Value) -> (u16, Value) {
    let cart = shop.carts.get_mut(id).unwrap();
    let lines = cart["lines"].as_array_mut().unwrap();
    line["id"] = json!(lines.len().to_string());
    line["unit_price"] = json!({"amount": 100, "amount_decimal": "100", "currency": "GBP"});
    lines.push(line);
    (200, with_total(cart))
}

fn with_total(cart: &mut Value) -> Value {
    let total: i64 = cart["lines"].as_array().unwrap().iter().map(pence).sum();
    cart["totals"] = json!({"total": {"amount": total, "currency": "GBP"}});
    cart.clone()
}

fn spent(shop: &Shop, cart: &str) -> Option<(u16, Value)> {
    let order = cart.replace("cart", "ord");
    let there = shop.orders.contains_key(&order);
    there.then(|| (409, json!({"code": "cart_spent", "order": order})))
}

/// PATCH of a cart, PATCH and DELETE of a line.
async fn change(request: HttpRequest, body: web::Bytes, shop: Shared) -> HttpResponse {
    let mut shop = lock(&shop);
    let path: Vec<&str> = request.path().split('/').collect();
    if let Some(spent) = spent(&shop, path[4]) {
        return answer(spent);
    }
    let cart = shop.carts.get_mut(path[4]).unwrap();
    let Some(id) = path.get(6) else { return answer((200, cart.clone())) };
    let lines = cart["lines"].as_array_mut().unwrap();
    let Some(place) = lines.iter().position(|line| line["id"] == *id) else {
        return answer((404, json!({"code": "not_found"})));
    };
    if request.method() == "DELETE" {
        lines.remove(place);
    } else {
        let body: Value = serde_json::from_slice(&body).unwrap();
        lines[place]["quantity"] = body["quantity"].clone();
    }
    answer((200, with_total(cart)))
}

fn checkout(shop: &mut Shop, id: &str, body: &Value) -> (u16, Value) {
    if let Some(spent) = spent(shop, id) {
        return spent;
    }
    let cart = shop.carts[id].clone();
    let lines = cart["lines"].as_array().unwrap();
    let mut wanted: BTreeMap<&str, i64> = BTreeMap::new();
    for line in lines {
        *wanted.entry(line["sku"].as_str().unwrap()).or_default() +=
            line["quantity"].as_i64().unwrap();
    }
    let order = id.replace("cart", "ord");
    let short: Vec<Value> = wanted
        .iter()
        .filter(|(sku, units)| shop.stock[**sku][0] < **units)
        .map(|(sku, units)| json!({"sku": sku, "requested": units, "available": shop.stock[*sku][0]}))
        .collect();
    if !short.is_empty() {
        // Every other shortage is found before anything is placed.
        let placed = shop.requests.is_multiple_of(2).then_some(&order);
        let lost = json!({"id": order, "status": "cancelled", "lines": [], "total": {"amount": 0, "currency": "GBP"}, "captured": {"amount": 0, "currency": "GBP"}});
        if placed.is_some() {
            shop.orders.insert(order.clone(), lost);
        }
        return (409, json!({"code": "out_of_stock", "order": placed, "lines": short}));
    }
    let total: i64 = lines.iter().map(pence).sum();
    let total = total + i64::from(shop.miscounts);
    if !shop.miscounts {
        assert_eq!(body["expected_total"]["amount"], total);
    }
    for (sku, units) in wanted {
        let stock = shop.stock.get_mut(sku).unwrap();
        *stock = [stock[0] - units, stock[1] + units];
    }
    let money = |amount: i64| json!({"amount": amount, "currency": "GBP"});
    let placed = json!({"id": order, "status": "confirmed", "lines": lines, "total": money(total),
        "captured": money(total), "refunded": money(0)});
    shop.orders.insert(order, placed.clone());
    (201, placed)
}

fn refund(shop: &mut Shop, id: &str, body: &Value) -> (u16, Value) {
    let order = shop.orders.get_mut(id).unwrap();
    assert_eq!(body["restock"], false);
    for back in body["lines"].as_array().unwrap() {
        let lines = order["lines"].as_array_mut().unwrap();
        let line = lines.iter_mut().find(|line| line["id"] == back["line"]).unwrap();
        let left = line["quantity"].as_i64().unwrap() - line["back"].as_i64().unwrap_or(0);
        let units = back["quantity"].as_i64().unwrap();
        assert!((1..=left).contains(&units), "more comes back than was sold");
        line["back"] = json!(line["back"].as_i64().unwrap_or(0) + units);
        let sku = line["sku"].as_str().unwrap();
        shop.stock.get_mut(sku).unwrap()[1] -= units;
        let sum = order["refunded"]["amount"].as_i64().unwrap();
        order["refunded"]["amount"] = json!(sum + back["amount"]["amount"].as_i64().unwrap());
    }
    (200, order.clone())
}

async fn list(request: HttpRequest, shop: Shared) -> HttpResponse {
    let shop = lock(&shop);
    let all: Vec<Value> = if request.path().starts_with("/v1/store/products") {
        shop.stock.keys().map(|sku| json!({"sku": sku})).collect()
    } else if request.path().ends_with("stock") {
        let item = |(sku, [free, taken]): (&String, &[i64; 2])| json!({"sku": sku, "sellable": free, "reserved": 0, "allocated": taken, "sold": 0});
        shop.stock.iter().map(item).collect()
    } else {
        shop.orders.values().cloned().collect()
    };
    let after = request.query_string().split("after=").nth(1);
    let start: usize = after.map_or(0, |after| after.parse().unwrap());
    let page: Vec<Value> = all.iter().skip(start).take(2).cloned().collect();
    let next = (start + 2 < all.len()).then(|| (start + 2).to_string());
    answer((200, json!({"data": page, "next_cursor": next})))
}

/// Opens a shop; its address, and how to close it.
async fn open(shop: Shop) -> (Shared, String, ServerHandle) {
    let shop: Shared = web::Data::new(Mutex::new(shop));
    let data = shop.clone();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .route("/v1/store/carts/{id}", web::patch().to(change))
            .route("/v1/store/carts/{id}/lines/{line}", web::patch().to(change))
            .route("/v1/store/carts/{id}/lines/{line}", web::delete().to(change))
            .route("/{path:.*}", web::get().to(list))
            .default_service(web::post().to(post))
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    (shop, url, handle)
}

/// Replays `rows`; the exit code.
async fn replay(url: &str, rows: &str, more: &[&str]) -> ExitCode {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: replay::Args,
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let header =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country";
    write!(file, "{header}\n{rows}").unwrap();
    let path = file.path().to_str().unwrap();
    let words = ["kontor", path, "--url", url, "--key", "sk_test", "--json"];
    let args = <Cli as clap::Parser>::parse_from(words.iter().chain(more)).args;
    replay::run(args).await.unwrap()
}

const ROWS: &str = "\
1,a,LAMP,10,d,2.55,7.0,United Kingdom
1,a,LAMP,5,d,1.555,7.0,United Kingdom
1,POST,POSTAGE,1,d,5.00,7.0,United Kingdom
2,a,LAMP,10,d,2.55,,EIRE
2,c,CUP,3,d,0.001,,EIRE
C3,a,LAMP,-12,d,2.55,7.0,United Kingdom
4,c,CUP,30,d,0.85,8.0,Channel Islands
5,c,CUP,-4,d,0,,United Kingdom
C6,a,LAMP,-20,d,2.55,7.0,United Kingdom
C6,c,CUP,-2,d,0.85,8.0,Channel Islands
A7,B,Adjust bad debt,1,d,-11062.06,,United Kingdom
";

fn same(code: ExitCode, want: ExitCode) -> bool {
    format!("{code:?}") == format!("{want:?}")
}

#[actix_web::test]
async fn replay_with_exact_stock_sells_everything() {
    let (shop, url, server) = open(Shop::default()).await;
    assert!(same(replay(&url, ROWS, &[]).await, ExitCode::SUCCESS));
    server.stop(false).await;
    let shop = lock(&shop);
    assert!(shop.stock.values().all(|[free, _]| *free == 0));
    assert_eq!(shop.orders.len(), 3);
    // 12 come back, ten at 2.55 and two that had cost 1.555; then the three that are left.
    assert_eq!(shop.orders["ord_0"]["refunded"]["amount"], 2_550 + 311 + 467);
}

#[actix_web::test]
async fn replay_with_scarce_stock_sells_the_last_unit() {
    for percent in ["90%", "50%", "0%"] {
        let (shop, url, server) = open(Shop::default()).await;
        let code = replay(&url, ROWS, &["--opening-stock", percent]).await;
        assert!(same(code, ExitCode::SUCCESS), "{percent}");
        server.stop(false).await;
        assert!(lock(&shop).stock.values().all(|[free, _]| *free == 0), "{percent}");
    }
}

#[actix_web::test]
async fn a_replay_that_is_run_again_books_nothing_twice() {
    for more in [["--opening-stock", "exact"], ["--opening-stock", "50%"]] {
        let (shop, url, server) = open(Shop::default()).await;
        assert!(same(replay(&url, ROWS, &more).await, ExitCode::SUCCESS));
        let before = books(&shop);
        assert!(same(replay(&url, ROWS, &more).await, ExitCode::SUCCESS), "{more:?}");
        assert!(before == books(&shop), "{more:?}");
        server.stop(false).await;
    }
}

#[actix_web::test]
async fn a_total_that_is_off_by_a_penny_fails_the_replay() {
    let (_, url, server) = open(Shop { miscounts: true, ..Shop::default() }).await;
    assert!(same(replay(&url, ROWS, &[]).await, ExitCode::FAILURE));
    server.stop(false).await;
}

#[actix_web::test]
async fn simulated_buyers_shop_until_stopped() {
    let stock = ["a", "c d"].map(|sku| (sku.to_owned(), [60, 0]));
    let (shop, url, server) = open(Shop { stock: stock.into(), ..Shop::default() }).await;
    let client = Client::new(&url, None).unwrap();
    let counters = Arc::new(shoppers::BuyerCounters::default());
    let (stop, stopped) = watch::channel(false);
    let options = shoppers::Options {
        buyers: 4,
        carts_per_sec: 500.0,
        think_max: Duration::ZERO,
        ..shoppers::Options::default()
    };
    let watched = async {
        while lock(&shop).stock.values().any(|[free, _]| *free > 5) {
            tokio::task::yield_now().await;
        }
        stop.send(true).unwrap();
    };
    let shopping = shoppers::run(client, options, Arc::clone(&counters), stopped);
    let both = futures_util::future::join(shopping, watched);
    tokio::time::timeout(Duration::from_secs(60), both).await.unwrap().0.unwrap();
    server.stop(false).await;
    let counts = counters.read();
    assert!(counts.carts >= counts.placed && counts.placed >= counts.confirmed, "{counts:?}");
    assert!(counts.confirmed > 0 && counts.revenue > 0 && counts.errors == 0, "{counts:?}");
}
