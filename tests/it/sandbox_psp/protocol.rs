//! The protocol beyond what the client sends: credentials, limits and the shape of errors.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::fixture::{Fixture, plain};

async fn send(
    psp: &Fixture,
    method: Method,
    path: &str,
    key: Option<&str>,
    body: &str,
) -> (StatusCode, Value) {
    let url = format!("{}{path}", psp.running.url());
    let mut request = plain().request(method, url).bearer_auth("shop").body(body.to_owned());
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

#[tokio::test]
async fn errors_are_problems() {
    let psp = Fixture::start().await;
    let body = json!({"reference": "o", "amount": 1, "currency": "GBP", "token": "tok_ok"});
    let body = body.to_string();
    let huge = format!("{{\"reference\": \"{}\"}}", "x".repeat(70_000));
    let cases = [
        (Method::POST, "/v1/payments", None, body.as_str(), 400, "idempotency_key_required"),
        (Method::POST, "/v1/payments", Some("k"), "{}", 400, "invalid_body"),
        (Method::POST, "/v1/payments", Some("k"), &huge, 413, "body_too_large"),
        (Method::GET, "/v1/payments?limit=201", None, "", 400, "invalid_limit"),
        (Method::GET, "/v1/payments?limit=0", None, "", 400, "invalid_limit"),
        (Method::GET, "/v1/payments?status=x", None, "", 400, "invalid_query"),
        (Method::GET, "/v1/payments/pay_none", None, "", 404, "not_found"),
        (Method::GET, "/v2/nothing", None, "", 404, "not_found"),
        (Method::DELETE, "/v1/payments", None, "", 405, "method_not_allowed"),
        (
            Method::POST,
            "/v1/payments/x/void",
            Some("k"),
            "{\"reference\":\"\"}",
            400,
            "invalid_reference",
        ),
        (
            Method::PUT,
            "/v1/webhook_endpoint",
            None,
            "{\"url\":\"ftp://x\",\"secret\":\"s\"}",
            400,
            "invalid_url",
        ),
    ];
    for (method, path, key, body, status, code) in cases {
        let (got, problem) = send(&psp, method, path, key, body).await;
        assert_eq!((got.as_u16(), &problem["code"]), (status, &json!(code)), "{path}: {problem}");
        assert_eq!(problem["status"], json!(status));
        assert!(problem["type"].is_string() && problem["title"].is_string(), "{problem}");
        assert!(problem["detail"].is_string(), "{problem}");
    }
    assert_eq!(psp.ledger(), "", "nothing was recorded");
}

#[tokio::test]
async fn an_account_is_needed() {
    let psp = Fixture::start().await;
    let url = format!("{}/v1/payments", psp.running.url());
    let long = "x".repeat(65);
    for bad in ["", "Bearer ", "Basic abc", "Bearer a b", &format!("Bearer {long}")] {
        let answer = plain().get(&url).header("Authorization", bad).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{bad}");
        assert_eq!(answer.headers()["Content-Type"], "application/problem+json");
    }
}

#[tokio::test]
async fn a_payment_is_shown_whole() {
    let psp = Fixture::start().await;
    let body = json!({"reference": "o", "amount": 1250, "currency": "GBP", "token": "tok_ok"});
    let body = body.to_string();
    let (status, mut payment) = send(&psp, Method::POST, "/v1/payments", Some("k"), &body).await;
    assert_eq!(status, 201);
    let path = format!("/v1/payments/{}", payment["id"].as_str().unwrap());
    assert_eq!(send(&psp, Method::GET, &path, None, "").await, (StatusCode::OK, payment.clone()));
    for dynamic in ["id", "created_at"] {
        assert!(payment.as_object_mut().unwrap().remove(dynamic).unwrap().is_string());
    }
    let expected = json!({
        "reference": "o", "status": "authorized", "amount": 1250, "currency": "GBP",
        "captured": 0, "refunded": 0, "voided": false, "operations": [],
    });
    assert_eq!(payment, expected);
    for (token, status) in [("tok_declined", 402), ("tok_webhook_only", 202)] {
        let body = json!({"reference": token, "amount": 1, "currency": "GBP", "token": token});
        let body = body.to_string();
        let (got, _) = send(&psp, Method::POST, "/v1/payments", Some(token), &body).await;
        assert_eq!(got, status);
    }
}

/// Every match of a pattern's group in a source file of the sandbox.
fn in_source(file: &str, pattern: &str) -> Vec<String> {
    let path = format!("{}/crates/sandbox-psp/src/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let pattern = regex::Regex::new(pattern).unwrap();
    let found: Vec<_> = pattern.captures_iter(&text).map(|found| found[1].to_owned()).collect();
    assert!(!found.is_empty(), "{file} {pattern}");
    found
}

#[test]
fn the_documentation_names_all_routes_tokens_faults_and_webhooks() {
    let path = format!("{}/docs/api.md", env!("CARGO_MANIFEST_DIR"));
    let guide = std::fs::read_to_string(path).unwrap();
    let routes = in_source("api.rs", r#"resource\("(/v1/[^"]+)"\)"#).into_iter();
    let routes = routes.map(|route| format!(" {route}"));
    let tokens = in_source("faults.rs", r#""(tok_\w+)" =>"#).into_iter();
    let faults = in_source("faults.rs", r"(?m)^    pub (\w+): (?:f64|u64|bool),").into_iter();
    let kinds = in_source("service.rs", r#""(payment\.\w+)""#).into_iter();
    let codes = tokens.chain(faults).chain(kinds).map(|name| format!("`{name}`"));
    for name in routes.chain(codes) {
        assert!(guide.contains(&name), "docs/api.md does not name {name}");
    }
}
