//! Faults by token and by rate.

use std::time::{Duration, Instant};

use kontor::providers::payment::{Authorization, AuthorizationStatus, Error, Provider, Reversal};
use serde_json::json;

use super::fixture::{Fixture, authorize, code, gbp, operation, unknown};

#[tokio::test]
async fn decline_tokens_are_declined() {
    let psp = Fixture::start().await;
    for (token, expected) in [
        ("tok_declined", "card_declined"),
        ("tok_insufficient_funds", "insufficient_funds"),
        ("tok_visa", "unknown_token"),
    ] {
        let answer = psp.client.authorize(&authorize(token, token, 1000, token)).await;
        let Ok(Authorization::Declined { payment: Some(_), code }) = answer else {
            panic!("{token}: {answer:?}")
        };
        assert_eq!(code, expected);
    }
}

#[tokio::test]
async fn card_number_is_refused_and_never_stored() {
    let psp = Fixture::start().await;
    for number in ["4111111111111111", "4111 1111 1111 1111", "411111111111"] {
        let answer = psp.client.authorize(&authorize("order-1", "k", 1, number)).await;
        assert_eq!(code(answer), "card_number_refused", "{number}");
    }
    for bad in ["", "card", "12345"] {
        let answer = psp.client.authorize(&authorize("order-1", "k", 1, bad)).await;
        assert_eq!(code(answer), "invalid_token", "{bad}");
    }
    let secret = authorize("order-1", "key-1", 1000, "tok_very_secret");
    psp.client.authorize(&secret).await.unwrap();
    assert!(!format!("{secret:?}").contains("tok_very_secret"));
    let ledger = psp.ledger();
    assert!(ledger.contains("order-1"));
    assert!(!ledger.contains("4111") && !ledger.contains("tok_very_secret"), "{ledger}");
}

#[tokio::test]
async fn a_timeout_may_hide_a_payment() {
    let psp = Fixture::start().await;
    let request = authorize("order-1", "key-1", 1000, "tok_timeout");
    for _ in 0..2 {
        let answer = psp.hasty(1500).authorize(&request).await;
        assert!(unknown(&answer), "{answer:?}");
    }
    let payment = psp.client.find("order-1").await.unwrap().unwrap();
    assert_eq!((payment.status, payment.amount), (AuthorizationStatus::Authorized, gbp(1000)));
    assert_eq!(psp.client.list(None, 10).await.unwrap().payments.len(), 1);
}

#[tokio::test]
async fn a_timeout_may_hide_nothing() {
    let psp = Fixture::start().await;
    let request = authorize("order-1", "key-1", 1000, "tok_timeout_lost");
    let answer = psp.hasty(300).authorize(&request).await;
    assert!(unknown(&answer), "{answer:?}");
    assert_eq!(psp.client.find("order-1").await, Ok(None));
    assert_eq!(psp.client.reverse("order-1").await, Ok(Reversal::Blocked));
}

#[tokio::test]
async fn stopping_does_not_wait_for_held_calls() {
    let psp = Fixture::start().await;
    let request = authorize("order-1", "key-1", 1000, "tok_timeout");
    let client = psp.client_of("shop");
    let held = tokio::spawn(async move { client.authorize(&request).await });
    psp.until_status("order-1", AuthorizationStatus::Authorized).await;
    psp.running.stop().await;
    let answer = held.await.unwrap();
    assert!(unknown(&answer), "{answer:?}");
}

#[tokio::test]
async fn two_failures_then_it_works() {
    let psp = Fixture::start().await;
    let request = authorize("order-1", "key-1", 1000, "tok_500");
    for _ in 0..2 {
        let answer = psp.client.authorize(&request).await;
        assert!(unknown(&answer), "{answer:?}");
        assert_eq!(psp.client.find("order-1").await, Ok(None), "not executed");
    }
    let answer = psp.client.authorize(&request).await;
    assert!(matches!(answer, Ok(Authorization::Authorized { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_second_call_waits_for_the_one_in_flight() {
    let psp = Fixture::start().await;
    let request = authorize("order-1", "key-1", 1000, "tok_slow");
    let began = Instant::now();
    let call = async || (psp.client.authorize(&request).await, began.elapsed());
    let (first, second) = tokio::join!(call(), call());
    assert!(first.0.is_ok());
    assert_eq!(first.0, second.0);
    assert!(first.1.min(second.1) >= Duration::from_secs(2), "{first:?} {second:?}");
}

#[tokio::test]
async fn a_pending_payment_is_decided_later() {
    let psp = Fixture::start().await;
    let request = authorize("order-1", "key-1", 1000, "tok_webhook_only");
    let pending = psp.client.authorize(&request).await;
    let Ok(Authorization::Pending { payment }) = &pending else { panic!("{pending:?}") };
    psp.until_status("order-1", AuthorizationStatus::Authorized).await;
    assert_eq!(psp.client.authorize(&request).await, pending, "as it was told at first");
    psp.client.capture(&operation(payment, "c1", 1000)).await.unwrap();
}

#[tokio::test]
async fn an_amount_may_differ() {
    let psp = Fixture::start().await;
    let answer = psp.client.authorize(&authorize("order-1", "k", 1000, "tok_mismatch")).await;
    assert!(
        matches!(answer, Ok(Authorization::Authorized { amount, .. }) if amount == gbp(999)),
        "{answer:?}"
    );
}

#[tokio::test]
async fn rates_decline_and_fail() {
    let psp = Fixture::start().await;
    let id = psp.authorized("order-0", 1000).await;
    psp.set_faults(json!({ "decline": 1.0 })).await;
    let declined = psp.client.authorize(&authorize("order-1", "k1", 1000, "tok_ok")).await;
    assert!(matches!(declined, Ok(Authorization::Declined { .. })), "{declined:?}");
    psp.client.capture(&operation(&id, "c1", 100)).await.unwrap();

    psp.set_faults(json!({ "error_500": 1.0 })).await;
    let failed = psp.client.authorize(&authorize("order-2", "k2", 1000, "tok_ok")).await;
    assert!(unknown(&failed), "{failed:?}");
    assert!(unknown(&psp.client.capture(&operation(&id, "c2", 100)).await));
    assert!(unknown(&psp.client.reverse("order-0").await));
    assert_eq!(psp.client.find("order-2").await, Ok(None));
    assert_eq!(psp.client.find("order-0").await.unwrap().unwrap().captured, 100);
    let other = psp.client_of("other").authorize(&authorize("o", "k", 1, "tok_ok")).await;
    assert!(other.is_ok(), "faults are an account's own");
}

#[tokio::test]
async fn rates_leave_calls_unanswered() {
    let psp = Fixture::start().await;
    psp.set_faults(json!({ "timeout": 1.0 })).await;
    let request = authorize("order-1", "k1", 1000, "tok_ok");
    let lost = psp.hasty(300).authorize(&request).await;
    assert!(unknown(&lost), "{lost:?}");
    psp.set_faults(json!({})).await;
    let answer = psp.client.authorize(&request).await;
    assert!(matches!(answer, Ok(Authorization::Authorized { .. })), "{answer:?}");
    assert_eq!(psp.client.list(None, 10).await.unwrap().payments.len(), 1);

    psp.set_faults(json!({ "slow_ms": 400 })).await;
    let began = Instant::now();
    psp.authorized("order-2", 1000).await;
    assert!(began.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn faults_are_shown_and_checked() {
    let psp = Fixture::start().await;
    psp.set_faults(json!({ "decline": 0.25, "webhook_shuffle": true })).await;
    let url = format!("{}/v1/faults", psp.running.url());
    let shown = super::fixture::plain().get(url).bearer_auth("shop").send().await.unwrap();
    let shown: serde_json::Value = shown.json().await.unwrap();
    assert_eq!((&shown["decline"], &shown["webhook_shuffle"]), (&json!(0.25), &json!(true)));
    for bad in [json!({"decline": 1.1}), json!({"decline": -0.1}), json!({"declines": 1})] {
        assert_eq!(psp.put("/v1/faults", &bad).await.status(), 400, "{bad}");
    }
}

#[tokio::test]
async fn errors_say_what_may_have_happened() {
    let rejected = Error::Rejected { code: "x".into(), message: "y".into() };
    assert!(Error::Unavailable.retryable() && Error::Unknown("z".into()).retryable());
    assert!(!rejected.retryable());
}

#[tokio::test]
async fn a_client_that_hangs_up_frees_its_key() {
    let psp = Fixture::start().await;
    psp.set_faults(json!({ "slow_ms": 100_000 })).await;
    let request = authorize("order-1", "k1", 1000, "tok_ok");
    assert!(unknown(&psp.hasty(1000).authorize(&request).await));
    psp.set_faults(json!({})).await;
    let answer = psp.client.authorize(&request).await;
    assert!(matches!(answer, Ok(Authorization::Authorized { .. })), "{answer:?}");
}
