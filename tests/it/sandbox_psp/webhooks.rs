//! Webhooks: what they say, whom they convince, and how they misbehave.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use kontor::domain::time::Span;
use kontor::providers::payment::{NoticeKind, Provider, WebhookError};
use serde_json::json;

use super::fixture::{Fixture, Receiver, authorize, gbp, now, operation, unknown, until, webhook};

async fn subscribed(refusals: usize) -> (Fixture, Receiver) {
    let psp = Fixture::start().await;
    let receiver = Receiver::start(refusals).await;
    psp.client.subscribe(&receiver.url).await.unwrap();
    (psp, receiver)
}

#[tokio::test]
async fn every_operation_sends_a_webhook() {
    let (psp, receiver) = subscribed(0).await;
    let id = psp.authorized("order-1", 1000).await;
    psp.client.capture(&operation(&id, "c1", 400)).await.unwrap();
    psp.client.refund(&operation(&id, "r1", 100)).await.unwrap();
    psp.client.void(&operation(&id, "v1", 0)).await.unwrap();
    psp.client.authorize(&authorize("order-2", "k2", 5, "tok_declined")).await.unwrap();
    receiver.until_received(5).await;
    let notices = receiver.notices(&psp.client);
    let kind = |kind| notices.iter().find(|notice| notice.kind == kind).unwrap();
    for (told, amount) in [
        (NoticeKind::Captured, gbp(400)),
        (NoticeKind::Refunded, gbp(100)),
        (NoticeKind::Voided, gbp(600)),
    ] {
        let operation = kind(told).operation.as_ref().unwrap();
        assert_eq!(operation.amount, amount);
        assert_eq!(kind(told).payment.reference, "order-1");
    }
    let authorized = kind(NoticeKind::Authorized);
    assert_eq!((&authorized.payment.id, authorized.payment.captured), (&id, 0));
    assert_eq!(authorized.operation, None);
    assert_eq!(kind(NoticeKind::Declined).payment.decline_code.as_deref(), Some("card_declined"));
}

#[tokio::test]
async fn a_reversal_and_a_late_decision_are_told() {
    let (psp, receiver) = subscribed(0).await;
    let id = psp.authorized("order-1", 1000).await;
    psp.client.capture(&operation(&id, "c1", 400)).await.unwrap();
    psp.client.reverse("order-1").await.unwrap();
    psp.client.reverse("order-1").await.unwrap();
    let request = authorize("order-2", "k2", 5, "tok_webhook_only");
    psp.client.authorize(&request).await.unwrap();
    receiver.until_received(5).await;
    let kinds: HashSet<_> = receiver
        .notices(&psp.client)
        .into_iter()
        .map(|n| (n.payment.reference, format!("{:?}", n.kind)))
        .collect();
    let expected = [
        ("order-1", "Authorized"),
        ("order-1", "Captured"),
        ("order-1", "Voided"),
        ("order-1", "Refunded"),
        ("order-2", "Authorized"),
    ];
    assert_eq!(kinds, expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
}

#[tokio::test]
async fn only_a_fresh_and_genuine_webhook_is_believed() {
    let (psp, receiver) = subscribed(0).await;
    psp.authorized("order-1", 1000).await;
    let one = receiver.until_received(1).await.remove(0);
    let read =
        |signature: &str, body: &[u8], at| psp.client.read_webhook(&webhook(signature, body), at);
    assert!(read(&one.signature, &one.body, now()).is_ok());
    assert_eq!(read("", &one.body, now()), Err(WebhookError::Missing));

    let mut changed = one.body.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(read(&one.signature, &changed, now()), Err(WebhookError::Forged));
    let (time, tag) = one.signature.split_once(",v1=").unwrap();
    let later = format!("t={},v1={tag}", time[2..].parse::<i64>().unwrap() + 1);
    assert_eq!(read(&later, &one.body, now()), Err(WebhookError::Forged));
    let zeros = format!("{time},v1={}", "0".repeat(64));
    assert_eq!(read(&zeros, &one.body, now()), Err(WebhookError::Forged));
    let short = format!("{time},v1={}", &tag[..62]);
    assert_eq!(read(&short, &one.body, now()), Err(WebhookError::Forged));
    let none = format!("{time},v1=");
    assert_eq!(read(&none, &one.body, now()), Err(WebhookError::Forged));

    let fresh = now() + Span::from_secs(295);
    assert!(read(&one.signature, &one.body, fresh).is_ok());
    let stale = now() + Span::from_secs(302);
    assert_eq!(read(&one.signature, &one.body, stale), Err(WebhookError::Expired));
    let early = now() - Span::from_secs(302);
    assert_eq!(read(&one.signature, &one.body, early), Err(WebhookError::Expired));
    for bad in ["nonsense", "t=1", "v1=00", "t=1,v1=xyz", "t=1,v1=0é"] {
        let answer = read(bad, &one.body, now());
        assert!(matches!(answer, Err(WebhookError::Malformed(_))), "{bad}: {answer:?}");
    }
    let other = kontor::providers::sandbox::Sandbox::new(kontor::providers::sandbox::Options {
        webhook_secret: "another".into(),
        ..Default::default()
    });
    let answer = other.unwrap().read_webhook(&webhook(&one.signature, &one.body), now());
    assert_eq!(answer, Err(WebhookError::Forged));
}

#[tokio::test]
async fn a_refused_webhook_comes_again() {
    let (psp, receiver) = subscribed(2).await;
    psp.authorized("order-1", 1000).await;
    receiver.until_received(3).await;
    let notices = receiver.notices(&psp.client);
    assert!(notices.iter().all(|notice| notice.id == notices[0].id), "{notices:?}");
    // The third was taken: a second event comes, and the first does not come again before it.
    psp.authorized("order-2", 1000).await;
    let received = receiver.until_received(4).await;
    assert_eq!(received.len(), 4);
    let gap = |n: usize| received[n].at - received[n - 1].at;
    assert!(gap(1) >= Duration::from_millis(250) && gap(2) >= Duration::from_millis(500));
}

#[tokio::test]
async fn webhooks_come_twice() {
    let (psp, receiver) = subscribed(0).await;
    psp.set_faults(json!({ "webhook_duplicate": 1.0 })).await;
    psp.authorized("order-1", 1000).await;
    receiver.until_received(2).await;
    let notices = receiver.notices(&psp.client);
    assert_eq!(notices[0], notices[1]);
}

#[tokio::test]
async fn webhooks_come_before_the_answer() {
    let (psp, receiver) = subscribed(0).await;
    psp.set_faults(json!({ "webhook_early": true })).await;
    for n in 0..5 {
        psp.authorized(&format!("order-{n}"), 1000).await;
        assert_eq!(receiver.received().len(), n + 1);
    }
}

#[tokio::test]
async fn an_early_webhook_that_is_refused_comes_again() {
    let (psp, receiver) = subscribed(1).await;
    psp.set_faults(json!({ "webhook_early": true })).await;
    psp.authorized("order-1", 1000).await;
    receiver.until_received(2).await;
}

#[tokio::test]
async fn webhooks_come_late() {
    let (psp, receiver) = subscribed(0).await;
    psp.set_faults(json!({ "webhook_late_ms": 500 })).await;
    let began = Instant::now();
    psp.authorized("order-1", 1000).await;
    let received = receiver.until_received(1).await;
    assert!(received[0].at - began >= Duration::from_millis(500));
}

#[tokio::test]
async fn webhooks_lose_their_order() {
    let (psp, receiver) = subscribed(0).await;
    psp.set_faults(json!({ "webhook_shuffle": true })).await;
    let made: Vec<_> = (0..30).map(|n| format!("order-{n}")).collect();
    for reference in &made {
        psp.authorized(reference, 1000).await;
    }
    receiver.until_received(30).await;
    let notices = receiver.notices(&psp.client);
    let told: Vec<_> = notices.into_iter().map(|notice| notice.payment.reference).collect();
    assert_ne!(told, made);
    assert_eq!(told.iter().collect::<HashSet<_>>(), made.iter().collect::<HashSet<_>>());
}

#[tokio::test]
async fn webhooks_get_lost() {
    let (psp, receiver) = subscribed(0).await;
    psp.set_faults(json!({ "webhook_drop": 1.0 })).await;
    psp.authorized("order-1", 1000).await;
    psp.set_faults(json!({})).await;
    psp.authorized("order-2", 1000).await;
    receiver.until_received(1).await;
    assert_eq!(receiver.notices(&psp.client)[0].payment.reference, "order-2");
}

#[tokio::test]
async fn an_unanswered_payment_is_told_by_webhook() {
    let (psp, receiver) = subscribed(0).await;
    let request = authorize("order-1", "k1", 1000, "tok_timeout");
    assert!(unknown(&psp.hasty(1500).authorize(&request).await));
    receiver.until_received(1).await;
    let notices = receiver.notices(&psp.client);
    assert_eq!((notices[0].kind, notices[0].payment.amount), (NoticeKind::Authorized, gbp(1000)));
}

#[tokio::test]
async fn a_new_endpoint_takes_over() {
    let (psp, first) = subscribed(usize::MAX).await;
    psp.authorized("order-1", 1000).await;
    first.until_received(1).await;
    let second = Receiver::start(0).await;
    psp.client.subscribe(&second.url).await.unwrap();
    until(async || (!second.received().is_empty()).then_some(())).await;
    assert_eq!(second.notices(&psp.client)[0].payment.reference, "order-1");
}
