//! The command line's client against a stub server: what it sends again, and what it sends once.
//!
//! What deliberately is not here: a real server; the replay's end-to-end test needs one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use kontor_client::{Client, Error};
use kontor_lab::import;
use serde_json::{Value, json};

/// What the stub has been asked, and what it is to answer first.
#[derive(Default)]
struct Stub {
    /// Idempotency key, authorization and body of each request.
    asked: Vec<(String, String, Value)>,
    /// What to answer to the next requests, a status and a code; 0 is a good answer.
    trouble: Vec<(u16, &'static str)>,
    /// Products by SKU.
    products: HashMap<String, Value>,
}

type Shared = web::Data<Mutex<Stub>>;

async fn imports(request: HttpRequest, body: web::Json<Value>, stub: Shared) -> HttpResponse {
    let mut stub = stub.lock().unwrap();
    let header = |name: &str| {
        request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    stub.asked.push((header("idempotency-key"), header("authorization"), body.0.clone()));
    let trouble = if stub.trouble.is_empty() { (0, "") } else { stub.trouble.remove(0) };
    if let (status @ 1.., code) = trouble {
        let status = actix_web::http::StatusCode::from_u16(status).unwrap();
        let problem = json!({"status": status.as_u16(), "code": code, "detail": "stub"});
        return HttpResponse::build(status).json(problem);
    }
    let (mut created, mut errors) = (0, Vec::new());
    for (row, product) in body["rows"].as_array().unwrap().iter().enumerate() {
        if product["product"]["name"] == "refuse me" {
            let error = json!({"row": row, "field": "product.name", "message": "no"});
            errors.push(error);
        } else {
            let sku = product["product"]["sku"].as_str().unwrap().to_owned();
            created += u64::from(stub.products.insert(sku, product.clone()).is_none());
        }
    }
    HttpResponse::Ok().json(json!({
        "created": created, "updated": 0, "unchanged": 0, "stock_set": 0, "errors": errors
    }))
}

async fn start() -> (String, Shared, ServerHandle) {
    let stub: Shared = web::Data::from(Arc::new(Mutex::new(Stub::default())));
    let data = stub.clone();
    let server = HttpServer::new(move || {
        let post = web::post().to(imports);
        App::new().app_data(data.clone()).route("/v1/admin/imports", post)
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    (url, stub, handle)
}

fn args(file: &Path, url: &str, more: &[&str]) -> import::Args {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: import::Args,
    }
    let file = file.to_str().unwrap();
    let words = ["kontor", file, "--url", url, "--key", "sk_test", "--json"];
    <Cli as clap::Parser>::parse_from(words.iter().chain(more)).args
}

fn csv(rows: usize, refused: usize) -> String {
    let mut text = "sku,name,price\n".to_owned();
    for row in 0..rows {
        let name = if row == refused { "refuse me" } else { "fine" };
        text.push_str(&format!("S{row},{name},1.00\n"));
    }
    text
}

fn code(outcome: Result<std::process::ExitCode, import::Error>) -> String {
    format!("{:?}", outcome.unwrap())
}

fn exit(code: u8) -> String {
    format!("{:?}", std::process::ExitCode::from(code))
}

#[actix_web::test]
async fn a_busy_server_is_asked_again_under_the_same_key() {
    let (url, stub, server) = start().await;
    stub.lock().unwrap().trouble =
        vec![(503, "try_again"), (429, "too_many_requests"), (409, "idempotency_in_flight")];
    let client = Client::new(&url, Some("sk_test".into())).unwrap();
    let body = json!({"dry_run": false, "rows": []});
    client.post::<Value>("/v1/admin/imports").json(&body).send().await.unwrap();
    client.post::<Value>("/v1/admin/imports").json(&body).send().await.unwrap();
    let asked = stub.lock().unwrap().asked.clone();
    assert_eq!(asked.len(), 5);
    assert!(asked[..4].iter().all(|request| *request == asked[0] && !request.0.is_empty()));
    assert_ne!(asked[4].0, asked[0].0);
    assert_eq!(asked[0].1, "Bearer sk_test");
    server.stop(false).await;
}

#[actix_web::test]
async fn refusal_is_final_and_shown_completely() {
    let (url, stub, server) = start().await;
    stub.lock().unwrap().trouble = vec![(422, "invalid_request")];
    let client = Client::new(&url, None).unwrap();
    let call =
        client.post::<Value>("/v1/admin/imports").idempotency_key("k").json(&json!({"rows": []}));
    let error = call.send().await.unwrap_err();
    assert_eq!((error.code(), error.problem().unwrap().status), ("invalid_request", 422));
    assert_eq!(error.problem().unwrap().document["detail"], "stub");
    assert_eq!(stub.lock().unwrap().asked.len(), 1);
    server.stop(false).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::new(&format!("http://{nobody}"), None).unwrap();
    let gone = client.with_retries(1).get::<Value>("/livez").send().await.unwrap_err();
    assert!(matches!(gone, Error::Unreachable { .. }), "{gone}");
}

#[actix_web::test]
async fn import_sends_batches_and_reports_refused_rows() {
    let (url, stub, server) = start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("products.csv");
    std::fs::write(&file, csv(1_201, 700)).unwrap();
    assert_eq!(code(import::run(args(&file, &url, &[])).await), exit(2));
    let sizes: Vec<usize> = {
        let stub = stub.lock().unwrap();
        assert_eq!(stub.products.len(), 1_200);
        stub.asked.iter().map(|(_, _, body)| body["rows"].as_array().unwrap().len()).collect()
    };
    assert_eq!(sizes, [500, 500, 201]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a position is left behind");
    server.stop(false).await;
}

#[actix_web::test]
async fn a_file_with_an_unclosed_quote_is_refused_before_anything_is_sent() {
    let (url, stub, server) = start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("products.csv");
    let good = csv(1_200, 1_200);
    std::fs::write(&file, format!("{good}Q1,\"19 inch,1\nQ2,Shelf,2\nQ3,Board,3\n")).unwrap();
    let error = import::run(args(&file, &url, &[])).await.unwrap_err().to_string();
    assert_eq!(error, "line 1202: the quote that opens here is never closed");
    assert!(stub.lock().unwrap().asked.is_empty());
    server.stop(false).await;
}

#[actix_web::test]
async fn interrupted_import_resumes() {
    let (url, stub, server) = start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("products.csv");
    std::fs::write(&file, csv(1_100, 3)).unwrap();
    let position = folder.path().join("products.csv.kontor-import.json");
    let break_off = || stub.lock().unwrap().trouble = vec![(0, ""), (403, "forbidden")];
    let first_sku =
        |asked: usize| stub.lock().unwrap().asked[asked].2["rows"][0]["product"]["sku"].clone();

    break_off();
    assert!(import::run(args(&file, &url, &[])).await.is_err());
    assert!(position.exists());
    assert_eq!(code(import::run(args(&file, &url, &[])).await), exit(2));
    assert_eq!(
        (first_sku(0), first_sku(1), first_sku(2)),
        (json!("S0"), json!("S500"), json!("S500"))
    );
    assert_eq!((stub.lock().unwrap().products.len(), position.exists()), (1_099, false));
    let key = |asked: usize| stub.lock().unwrap().asked[asked].0.clone();
    assert_eq!(key(1), key(2), "what was sent before the break may have been carried out");

    break_off();
    assert!(import::run(args(&file, &url, &[])).await.is_err());
    let asked = stub.lock().unwrap().asked.len();
    assert_eq!(code(import::run(args(&file, &url, &["--restart"])).await), exit(2));
    assert_eq!(first_sku(asked), json!("S0"));
    assert_ne!(key(asked), key(0), "a new run is not an old one");
    server.stop(false).await;
}

#[actix_web::test]
async fn demo_catalog_is_a_valid_import() {
    let (url, stub, server) = start().await;
    let client = Client::new(&url, None).unwrap();
    let tally = import::import_csv(&client, import::DEMO_CATALOG).await.unwrap();
    assert_eq!((tally.rows, tally.created, tally.refused), (200, 200, 0));
    server.stop(false).await;
    for product in stub.lock().unwrap().products.values() {
        assert!((3..=400).contains(&product["on_hand"].as_i64().unwrap()), "{product}");
        assert!(product["product"]["category"].is_string(), "{product}");
    }
}
