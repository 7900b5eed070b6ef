//! States of a server that requests alone do not make, for the steps of the story that need one.

use hmac::{Hmac, KeyInit as _, Mac as _};
use kontor::actors::engine::clock::Clock;
use kontor::app::App;
use kontor::domain::background_job::{Job, JobState};
use kontor::domain::time::{Span, Timestamp};
use kontor::http::docs::examples::{ExampleValues, plain_text};
use kontor::store::node::NodeRow;
use kontor::store::webhook::Parked;
use kontor::verify::provider::sandbox_options;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::json;
use sha2::Sha256;

use crate::buyer_tokens;
use crate::operator::unreadable_order;
use crate::site::Site;

/// Makes a state; the values that the steps need of it, by name.
pub async fn make(site: &mut Site, name: &str, values: &ExampleValues) -> ExampleValues {
    let made = match name {
        "weak_key" => vec![("weakKey", weak_key(site).await)],
        "signature" => signed_webhook(site).await,
        "parked_webhook" => park_webhook(site).await,
        "dead_job" => vec![("deadJobId", dead_job(site).await)],
        "declined_order" => declined_order(site).await,
        "failing_refund" => vec![("failingOrderId", failing_refund(site, values).await)],
        "authorized_order" => vec![("authorizedOrderId", authorized_order(site).await)],
        "unreadable_order" => restart_with_unreadable_order(site).await,
        "more_nodes" => add_nodes(site).await,
        other => panic!("nobody makes {other}"),
    };
    made.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

type Made = Vec<(&'static str, String)>;

fn app(site: &Site) -> &App {
    site.app.as_ref().unwrap()
}

async fn weak_key(site: &Site) -> String {
    let scopes = ["orders:read".to_owned()];
    let made = app(site).store.create_key("reader", &scopes, Clock::system().now()).await;
    made.unwrap().1.reveal().to_owned()
}

/// A webhook of the sandbox and its signature.
async fn signed_webhook(site: &Site) -> Made {
    let payment = site.payments().await["data"][0].clone();
    let body = json!({
        "id": "evt_1", "type": "payment.captured", "created_at": payment["created_at"],
        "account": payment["account"], "data": {"payment": payment},
    });
    let (body, secs) = (body.to_string(), Clock::system().now().millis() / 1_000);
    let options = sandbox_options(&app(site).store, &site.config.sandbox.url).await.unwrap();
    let secret = options.webhook_secret.expose_secret().as_bytes();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(format!("{secs}.{body}").as_bytes());
    let signature = format!("t={secs},v1={}", hex::encode(mac.finalize().into_bytes()));
    vec![("webhook", body), ("signature", signature)]
}

async fn park_webhook(site: &Site) -> Made {
    let now = Clock::system().now();
    let parked = Parked {
        provider: "sandbox/eu".into(),
        notice_id: "evt_2".into(),
        received_at: now,
        body: "{}".into(),
        reason: "no order has this payment".into(),
        next_try_at: now + Span::from_secs(3_600),
    };
    app(site).store.park_webhook(&parked).await.unwrap();
    Vec::new()
}

async fn dead_job(site: &Site) -> String {
    let now = Clock::system().now();
    let id = "job_0000000000000000dead";
    let job = Job::new(id.into(), "retry_webhooks", "{}".into(), "schedule:nightly".into(), now);
    let store = &app(site).store;
    // It is not due before it is dead.
    let waiting = Job { due_at: now + Span::from_secs(3_600), ..job.clone() };
    assert!(store.add_job(&waiting).await.unwrap());
    let dead = Job {
        state: JobState::Dead,
        attempts: 5,
        started_at: Some(now),
        ended_at: Some(now),
        last_error: Some("the store did not answer".into()),
        ..waiting.clone()
    };
    assert!(store.put_job(&waiting, &dead).await.unwrap());
    id.to_owned()
}

/// An order whose payment was declined, and the token of its cart.
async fn declined_order(site: &Site) -> Made {
    let cart = site.cart(&[("85123A", 1)]).await;
    let declined = site.checkout(&cart, "declined-order", "tok_declined", 30).await.expect(402);
    let order = declined["order"].as_str().unwrap().to_owned();
    vec![("slowOrderId", order), ("slowToken", buyer_tokens::token(&cart))]
}

/// An order whose refund fails at the provider, which fails from now on.
async fn failing_refund(site: &Site, values: &ExampleValues) -> String {
    let order = plain_text(&values["orderId"]);
    site.faults(json!({"error_500": 1.0})).await;
    let refund = json!({"amount": {"amount": 10, "currency": "GBP"}, "reason": "a scratch"});
    let path = format!("/orders/{order}/refunds");
    site.admin(Method::POST, &path, Some(refund)).await.expect(200);
    site.until(&order.replace("ord_", "cart_"), |order| order["status"] == "stuck").await;
    order
}

/// An order that is authorized and not captured, in a shop that captures by hand from now on.
async fn authorized_order(site: &mut Site) -> String {
    site.faults(json!({})).await;
    site.config.shop.capture = kontor::domain::order::CapturePolicy::ByHand;
    site.restart().await;
    let cart = site.cart(&[("85123A", 2)]).await;
    site.checkout(&cart, "capture-by-hand", "tok_ok", 30).await.expect(201);
    cart.replace("cart_", "ord_")
}

async fn restart_with_unreadable_order(site: &mut Site) -> Made {
    unreadable_order(site).await;
    site.until_some(async || {
        let letters = site.admin(Method::GET, "/dead-letters", None).await.expect(200);
        letters["data"].get(0).map(|_| ())
    })
    .await;
    Vec::new()
}

/// Two more nodes, of which the store is only told.
async fn add_nodes(site: &Site) -> Made {
    for id in ["node-b", "node-c"] {
        let node = NodeRow {
            id: id.to_owned(),
            url: format!("http://{id}.example:8080"),
            machine: "another".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Timestamp::from_millis(0),
        };
        app(site).store.heartbeat(&node, Span::from_secs(3_600)).await.unwrap();
    }
    Vec::new()
}
