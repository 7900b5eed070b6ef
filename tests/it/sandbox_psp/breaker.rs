//! The client when the provider is down or fails.

use kontor::providers::payment::{Authorization, BreakerOptions, Error, Provider};
use kontor::providers::sandbox::{Options, Sandbox};
use serde_json::json;

use super::fixture::{Fixture, SECRET, authorize, code, options, unknown, until};

fn touchy(psp: &Fixture, wait_ms: u64) -> Sandbox {
    let breaker = BreakerOptions { calls: 4, failure_rate: 0.5, probes: 1, wait_ms };
    Sandbox::new(Options { breaker, ..options(&psp.running) }).unwrap()
}

#[tokio::test]
async fn a_refused_connection_executed_nothing() {
    let psp = Fixture::start().await;
    let client = psp.client_of("shop");
    let url = psp.running.url();
    psp.running.stop().await;
    let answer = client.authorize(&authorize("order-1", "k", 1, "tok_ok")).await;
    assert_eq!(answer, Err(Error::Unavailable), "{url}");
    assert_eq!(client.find("order-1").await, Err(Error::Unavailable));
}

#[tokio::test]
async fn it_opens_on_failures_and_closes_again() {
    let psp = Fixture::start().await;
    let client = touchy(&psp, 100);
    psp.set_faults(json!({ "error_500": 1.0 })).await;
    let request = authorize("order-1", "k", 1000, "tok_ok");
    for _ in 0..5 {
        let answer = client.authorize(&request).await;
        assert!(unknown(&answer), "{answer:?}");
    }
    assert_eq!(client.authorize(&request).await, Err(Error::Unavailable));
    assert_eq!(client.reverse("order-1").await, Err(Error::Unavailable));
    assert_eq!(client.find("order-1").await, Ok(None), "a query goes around it");
    psp.set_faults(json!({})).await;
    let answer = until(async || client.authorize(&request).await.ok()).await;
    assert!(matches!(answer, Authorization::Authorized { .. }), "{answer:?}");
}

#[tokio::test]
async fn an_open_breaker_sends_nothing() {
    let psp = Fixture::start().await;
    let client = touchy(&psp, 600_000);
    psp.set_faults(json!({ "error_500": 1.0 })).await;
    let request = authorize("order-1", "k", 1000, "tok_ok");
    until(async || (client.authorize(&request).await == Err(Error::Unavailable)).then_some(()))
        .await;
    psp.set_faults(json!({})).await;
    assert_eq!(client.authorize(&request).await, Err(Error::Unavailable));
    assert_eq!(psp.client.find("order-1").await, Ok(None));
}

#[tokio::test]
async fn refusals_do_not_open_it() {
    let psp = Fixture::start().await;
    let client = touchy(&psp, 600_000);
    for n in 0..20 {
        let key = format!("k{n}");
        assert_eq!(
            code(client.authorize(&authorize("o", &key, 0, "tok_ok")).await),
            "invalid_amount"
        );
    }
    assert!(client.authorize(&authorize("o", "k", 1, "tok_ok")).await.is_ok());
}

#[tokio::test]
async fn an_answer_not_of_the_provider_is_unknown() {
    // A web server that knows no payments, as a proxy in front of a provider may be.
    let receiver = super::fixture::Receiver::start(0).await;
    let client = Sandbox::new(Options {
        url: receiver.url.clone(),
        webhook_secret: SECRET.into(),
        ..Options::default()
    });
    let client = client.unwrap();
    let answer = client.authorize(&authorize("order-1", "k", 1, "tok_ok")).await;
    assert_eq!(answer, Err(Error::Unknown("it answered 404 Not Found".into())));
}

#[test]
fn secrets_are_not_shown() {
    let options = Options {
        account: "acct-secret".into(),
        webhook_secret: "whsec-secret".into(),
        ..Options::default()
    };
    assert!(!format!("{options:?}").contains("-secret"));
    assert!(!format!("{:?}", Sandbox::new(options).unwrap()).contains("-secret"));
    assert_eq!(code(Sandbox::new(Options::default())), "invalid_options");
}
