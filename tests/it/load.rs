//! `kontor load` against the whole app over HTTP: its counts are the server's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::{App, HttpServer, web};
use clap::Parser as _;
use kontor_lab::load::report::{LoadReport, StepReport};
use kontor_lab::load::{self, Args};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::site::Site;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(words: &str, more: &[&str]) -> Args {
    let words = ["load"].into_iter().chain(words.split(' ')).chain(more.iter().copied());
    Cli::try_parse_from(words.chain(["--quiet"])).unwrap_or_else(|error| panic!("{error}")).args
}

/// Runs a scenario on a site to its end.
async fn run(site: &Site, words: &str) -> LoadReport {
    let (_told, stop) = watch::channel(false);
    let args = args(words, &["--url", &site.url(), "--key", &site.key]);
    load::measure(args, stop).await.unwrap()
}

fn step<'a>(report: &'a LoadReport, name: &str) -> &'a StepReport {
    let found = report.steps.iter().find(|step| step.step == name);
    found.unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// The orders that the server lists for a run.
async fn orders(site: &Site, report: &LoadReport) -> Vec<Value> {
    let path = format!("/orders?limit=200&reference={}", report.run);
    let page = site.admin(Method::GET, &path, None).await.expect(200);
    page["data"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn checkouts_are_counted_as_the_server_counts_them() {
    let site = Site::open().await;
    let report = run(&site, "checkout --count 30 --concurrency 4 --skus 20").await;
    assert!(report.ok, "{report}");
    assert_eq!(report.requests_per_checkout, 2);
    for name in ["create_cart", "checkout", "whole_checkout"] {
        assert_eq!((step(&report, name).count, step(&report, name).failed), (30, 0), "{name}");
    }
    let found = report.check.clone().unwrap();
    assert_eq!((found.told, found.listed, found.confirmed), (30, 30, 30));
    let orders = orders(&site, &report).await;
    assert_eq!(orders.len(), 30);
    let mut emails: Vec<&str> =
        orders.iter().map(|order| order["email"].as_str().unwrap()).collect();
    emails.sort_unstable();
    emails.dedup();
    assert_eq!(emails.len(), 30, "each buyer has an address of its own");
    assert!(orders.iter().all(|order| order["line_count"] == 2 && order["status"] == "confirmed"));

    let again = run(&site, "checkout --count 6 --concurrency 2 --skus 20 --stepwise").await;
    assert!(again.ok, "{again}");
    assert_eq!(again.requests_per_checkout, 4);
    for name in ["create_cart", "add_lines", "set_details", "checkout"] {
        assert_eq!(step(&again, name).count, 6, "{name}");
    }
    assert_eq!(again.check.clone().unwrap().listed, 6, "another run has orders of its own");
    let json = serde_json::to_value(&again).unwrap();
    assert_eq!(json["check"]["confirmed"], 6);
    assert!(again.to_string().contains("check: passed"), "{again}");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_offers_its_rate() {
    let site = Site::open().await;
    let words = "checkout --count 20 --rate 100 --arrivals even --skus 10";
    let report = run(&site, words).await;
    assert!(report.ok && report.shed == 0, "{report}");
    assert_eq!(report.check.clone().unwrap().confirmed, 20);
    assert_eq!(step(&report, "start_delay").count, 20);
    let words = "checkout --count 40 --rate 5000 --max-in-flight 1 --skus 10";
    let report = run(&site, words).await;
    let begun = step(&report, "whole_checkout").count;
    assert!(report.ok && report.shed > 0, "{report}");
    assert_eq!(begun + report.shed, 40);
    assert_eq!(report.check.clone().unwrap().listed, begun);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_counted_by_code() {
    let site = Site::open().await;
    let report = run(&site, "checkout --count 10 --concurrency 5 --skus 2 --stock 3").await;
    let found = report.check.clone().unwrap();
    assert!(report.ok && found.confirmed == 3, "{report}");
    assert_eq!(report.refusals, [("out_of_stock".to_owned(), 7)].into());
    let report = run(&site, "checkout --count 8 --skus 10 --token tok_declined").await;
    let found = report.check.clone().unwrap();
    assert!(report.ok && (found.listed, found.confirmed) == (8, 0), "{report}");
    assert_eq!(report.refusals, [("payment_declined".to_owned(), 8)].into());
    assert_eq!((step(&report, "checkout").failed, step(&report, "create_cart").failed), (8, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flash_sale_is_exact() {
    let site = Site::open().await;
    for (units, buyers, sold) in [(7, 30, 7), (20, 9, 9)] {
        let words = format!("flash-sale --units {units} --buyers {buyers} --wait 30");
        let report = run(&site, &words).await;
        assert!(report.ok, "{report}");
        let sale = report.sale.clone().unwrap();
        assert!(sale.exact(), "{report}");
        assert_eq!((sale.confirmed, sale.refused, sale.otherwise), (sold, buyers - sold, 0));
        let rest = i64::try_from(units - sold).unwrap();
        assert_eq!(sale.sellable, rest);
        assert_eq!(step(&report, "checkout").count, buyers);
    }
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browse_and_mixed_loads_pass_the_order_check() {
    let site = Site::open().await;
    let report = run(&site, "browse --count 60 --skus 50").await;
    assert!(report.ok && report.refusals.is_empty() && report.unanswered.is_empty(), "{report}");
    let read: u64 = ["list_products", "read_product", "read_cart"]
        .iter()
        .map(|name| step(&report, name).count)
        .sum();
    assert_eq!(read, 60);
    assert_eq!(report.check.clone().unwrap().listed, 0);

    let words = "mixed --count 60 --skus 50 --browse 50 --leave 25 --checkouts 25";
    let report = run(&site, words).await;
    assert!(report.ok && report.refusals.is_empty(), "{report}");
    let bought = step(&report, "checkout").count;
    assert!(step(&report, "create_cart").count > bought, "some carts are left: {report}");
    assert_eq!(report.check.clone().unwrap().confirmed, bought);
    assert_eq!(orders(&site, &report).await.len() as u64, bought);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_still_reports_and_checks() {
    let site = Site::open().await;
    let (told, stop) = watch::channel(false);
    let args = args(
        "checkout --for 1h --warmup 0s --concurrency 2 --skus 10",
        &["--url", &site.url(), "--key", &site.key],
    );
    let stopper = async {
        site.until_some(async || {
            let page = site.admin(Method::GET, "/orders?limit=5", None).await.expect(200);
            (page["data"].as_array().unwrap().len() == 5).then_some(())
        })
        .await;
        told.send_replace(true);
    };
    let (report, ()) = futures_util::future::join(load::measure(args, stop), stopper).await;
    let report = report.unwrap();
    assert!(report.ok && report.ended == "stopped", "{report}");
    let found = report.check.clone().unwrap();
    assert!(found.listed >= 5 && found.told == found.listed, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_stopped_during_preparation_ends_at_once() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    for words in ["checkout --count 1", "flash-sale --buyers 2"] {
        let (told, stop) = watch::channel(false);
        told.send_replace(true);
        let run = load::measure(args(words, &["--url", &url, "--key", "sk_1"]), stop);
        let stopped = tokio::time::timeout(Duration::from_secs(20), run).await.unwrap();
        assert!(matches!(stopped, Err(load::Error::Stopped)), "{stopped:?}");
    }
}

/// Orders that nobody was told of, or that are not there, fail the run: here the server's list is
/// behind a stub that leaves one out, or shows one of another run.
#[actix_web::test]
async fn false_answers_fail_the_check() {
    for (shown, missing, unknown) in [("none", 1, 0), ("other", 1, 1), ("all", 0, 0)] {
        let url = liar(shown);
        let (_told, stop) = watch::channel(false);
        let words = "checkout --count 1 --concurrency 1 --skus 2 --patience 0s";
        let report =
            load::measure(args(words, &["--url", &url, "--key", "sk_1"]), stop).await.unwrap();
        let found = report.check.clone().unwrap();
        assert_eq!((found.missing.count, found.unknown.count), (missing, unknown), "{report}");
        assert_eq!(report.ok, shown == "all", "{report}");
    }
}

const KEYS: [&str; 2] = ["01h455vb4pex5vsknk084sn02q", "01h455vb4pex5vsknk084sn02r"];

/// A stub whose list of orders is what `shown` says.
fn liar(shown: &'static str) -> String {
    let money = |amount: i64| json!({"amount": amount, "currency": "GBP"});
    let order = |key: &str| {
        json!({"id": format!("ord_{key}"), "status": "confirmed", "lines": [1, 2],
            "line_count": 2, "total": money(900)})
    };
    let cart = json!({"id": format!("cart_{}", KEYS[0]), "token": "ct_a", "lines": [1, 2],
        "totals": {"total": money(900)}});
    let listed = match shown {
        "none" => vec![],
        "other" => vec![order(KEYS[1])],
        _ => vec![order(KEYS[0])],
    };
    let list = json!({"data": listed, "next_cursor": null});
    let ways = json!({"data": [{"id": "standard", "prices": [], "free": true}]});
    let placed = order(KEYS[0]);
    let server = HttpServer::new(move || {
        let reply = |status: u16, body: &Value| {
            let body = body.clone();
            move || {
                let status = actix_web::http::StatusCode::from_u16(status).unwrap();
                let response = actix_web::HttpResponse::build(status).json(&body);
                async move { response }
            }
        };
        App::new()
            .route("/v1/admin/imports", web::post().to(reply(200, &json!({"unchanged": 2}))))
            .route("/v1/store/delivery-options", web::get().to(reply(200, &ways)))
            .route("/v1/store/carts", web::post().to(reply(201, &cart)))
            .route("/v1/store/carts/{id}/checkout", web::post().to(reply(201, &placed)))
            .route("/v1/admin/orders", web::get().to(reply(200, &list)))
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    actix_web::rt::spawn(server.run());
    url
}

/// A server that echoes at `/echo`, and at `/once` for a single request.
fn echo_server() -> String {
    let echo = async |body: web::Bytes| body;
    let asked = web::Data::new(AtomicBool::new(false));
    let once = async |asked: web::Data<AtomicBool>| match asked.swap(true, Ordering::Relaxed) {
        false => actix_web::HttpResponse::Ok(),
        true => actix_web::HttpResponse::TooManyRequests(),
    };
    let server = HttpServer::new(move || {
        App::new()
            .app_data(asked.clone())
            .route("/echo", web::post().to(echo))
            .route("/once", web::post().to(once))
    });
    let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    tokio::spawn(server.run());
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn echo_needs_no_shop_and_faults_are_distinguished() {
    let site = Site::open().await;
    let (_told, stop) = watch::channel(false);
    let words = "echo --count 20 --concurrency 2";
    for url in [site.url(), format!("{}/nowhere", site.url())] {
        let run = load::measure(args(words, &["--url", &url]), stop.clone());
        let error = run.await.unwrap_err().to_string();
        assert!(error.contains(&format!("{url} does not echo: a POST was answered 40")), "{error}");
    }
    let echo = echo_server();
    for url in [echo.clone(), format!("{echo}/"), format!("{echo}/echo")] {
        let run = load::measure(args(words, &["--url", &url]), stop.clone());
        let report = run.await.unwrap();
        assert!(report.ok && step(&report, "echo").count == 20, "{url}: {report}");
    }
    let url = format!("{echo}/once");
    let report = load::measure(args(words, &["--url", &url]), stop.clone()).await.unwrap();
    assert_eq!(report.refusals.values().sum::<u64>(), 20);
    assert!(!report.ok, "nothing was answered well");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let words = "echo --count 2 --concurrency 2";
    let report = load::measure(args(words, &["--url", &gone]), stop.clone()).await.unwrap();
    assert_eq!(report.unanswered, [("connect", 2)].into());
    let tls = load::measure(args(words, &["--url", "https://h"]), stop).await.unwrap_err();
    assert!(tls.to_string().contains("http:// only"), "{tls}");
}

/// A server that answers nothing is a timeout, and the latency says how long it took.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_a_timeout() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let (_told, stop) = watch::channel(false);
    let words = "echo --count 2 --concurrency 1 --timeout 50ms";
    let run = load::measure(args(words, &["--url", &url]), stop);
    let report = tokio::time::timeout(Duration::from_secs(20), run).await.unwrap().unwrap();
    assert_eq!(report.unanswered, [("timeout", 2)].into());
    assert!(step(&report, "echo").p50_ms >= 50.0, "{report}");
}
