//! The sandbox payment provider over real HTTP, through the client that kontor uses.
//!
//! Here: its ledger's rules, idempotency and restart. `faults`, `webhooks` and `breaker` beside
//! it have the rest. The sandbox's insides are not looked at, but for its ledger file.

mod breaker;
mod faults;
pub mod fixture;
mod protocol;
mod restart;
mod webhooks;

use kontor::domain::money::{Currency, Money};
use kontor::providers::payment::{
    Authorization, AuthorizationStatus, Error, OperationKind, Provider, Reversal,
};

use self::fixture::{Fixture, authorize, code, gbp, operation};

#[tokio::test]
async fn every_operation_moves_what_it_says() {
    let psp = Fixture::start().await;
    let id = psp.authorized("order-1", 1000).await;
    let captured = psp.client.capture(&operation(&id, "c1", 400)).await.unwrap();
    assert_eq!((captured.amount, &captured.payment), (gbp(400), &id));
    psp.client.capture(&operation(&id, "c2", 300)).await.unwrap();
    psp.client.refund(&operation(&id, "r1", 200)).await.unwrap();
    let voided = psp.client.void(&operation(&id, "v1", 0)).await.unwrap();
    assert_eq!(voided.amount, gbp(300), "what was not captured");

    let payment = psp.client.find("order-1").await.unwrap().unwrap();
    assert_eq!(payment.status, AuthorizationStatus::Authorized);
    assert_eq!((payment.id.as_str(), payment.amount), (id.as_str(), gbp(1000)));
    assert_eq!((payment.captured, payment.refunded, payment.voided), (700, 200, true));
    let kinds: Vec<_> = payment.operations.iter().map(|done| (done.kind, done.amount)).collect();
    let expected = [
        (OperationKind::Capture, gbp(400)),
        (OperationKind::Capture, gbp(300)),
        (OperationKind::Refund, gbp(200)),
        (OperationKind::Void, gbp(300)),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(payment.operations[0].id, captured.operation);
    assert_eq!(psp.client.find("order-2").await, Ok(None));
}

#[tokio::test]
async fn operations_never_exceed_the_available_amount() {
    let psp = Fixture::start().await;
    let id = psp.authorized("order-1", 1000).await;
    let over = psp.client.capture(&operation(&id, "c0", 1001)).await;
    assert_eq!(code(over), "capture_exceeds_authorized");
    psp.client.capture(&operation(&id, "c1", 600)).await.unwrap();
    let over = psp.client.capture(&operation(&id, "c2", 401)).await;
    assert_eq!(code(over), "capture_exceeds_authorized");
    let over = psp.client.refund(&operation(&id, "r0", 601)).await;
    assert_eq!(code(over), "refund_exceeds_captured");
    psp.client.refund(&operation(&id, "r1", 600)).await.unwrap();
    let over = psp.client.refund(&operation(&id, "r2", 1)).await;
    assert_eq!(code(over), "refund_exceeds_captured");
    psp.client.void(&operation(&id, "v1", 0)).await.unwrap();
    assert_eq!(code(psp.client.capture(&operation(&id, "c3", 1)).await), "payment_voided");
    assert_eq!(code(psp.client.void(&operation(&id, "v2", 0)).await), "payment_voided");

    let full = psp.authorized("order-2", 500).await;
    psp.client.capture(&operation(&full, "c4", 500)).await.unwrap();
    assert_eq!(code(psp.client.void(&operation(&full, "v3", 0)).await), "nothing_to_void");
    assert_eq!(code(psp.client.capture(&operation("pay_none", "c5", 1)).await), "not_found");
    let zero = psp.client.authorize(&authorize("order-3", "k3", 0, "tok_ok")).await;
    assert_eq!(code(zero), "invalid_amount");
}

#[tokio::test]
async fn many_captures_at_once_never_exceed_the_authorization() {
    let psp = Fixture::start().await;
    let id = psp.authorized("order-1", 1000).await;
    let requests: Vec<_> = (0..20).map(|n| operation(&id, &format!("capture-{n}"), 100)).collect();
    let results =
        futures_util::future::join_all(requests.iter().map(|one| psp.client.capture(one))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
    assert_eq!(psp.client.find("order-1").await.unwrap().unwrap().captured, 1000);
}

#[tokio::test]
async fn a_key_is_executed_once() {
    let psp = Fixture::start().await;
    let request = authorize("order-1", "key-1", 1000, "tok_ok");
    let calls = (0..20).map(|_| psp.client.authorize(&request));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers[0].is_ok(), "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(psp.client.list(None, 200).await.unwrap().payments.len(), 1);

    let other_amount = authorize("order-1", "key-1", 999, "tok_ok");
    assert_eq!(code(psp.client.authorize(&other_amount).await), "idempotency_mismatch");
    let other_key = authorize("order-1", "key-2", 1000, "tok_ok");
    assert_eq!(code(psp.client.authorize(&other_key).await), "reference_used");

    let id = psp.client.find("order-1").await.unwrap().unwrap().id;
    let capture = operation(&id, "c1", 600);
    let first = psp.client.capture(&capture).await.unwrap();
    assert_eq!(psp.client.capture(&capture).await.as_ref(), Ok(&first));
    assert_eq!(psp.client.find("order-1").await.unwrap().unwrap().captured, 600);
    assert_eq!(code(psp.client.refund(&capture).await), "idempotency_mismatch");
    assert_eq!(psp.client.authorize(&request).await, answers[0], "as it was told at first");
}

#[tokio::test]
async fn repeated_decline_gets_the_same_answer() {
    let psp = Fixture::start().await;
    let request = authorize("order-1", "key-1", 1000, "tok_declined");
    let first = psp.client.authorize(&request).await.unwrap();
    assert!(matches!(&first, Authorization::Declined { code, .. } if code == "card_declined"));
    assert_eq!(psp.client.authorize(&request).await, Ok(first));
    let payment = psp.client.find("order-1").await.unwrap().unwrap();
    assert_eq!(payment.status, AuthorizationStatus::Declined);
    let capture = operation(&payment.id, "c1", 1);
    assert_eq!(code(psp.client.capture(&capture).await), "not_authorized");
}

#[tokio::test]
async fn a_reversal_undoes_everything_once() {
    let psp = Fixture::start().await;
    let id = psp.authorized("order-1", 1000).await;
    psp.client.capture(&operation(&id, "c1", 600)).await.unwrap();
    psp.client.refund(&operation(&id, "r1", 100)).await.unwrap();
    let Ok(Reversal::Reversed { payment }) = psp.client.reverse("order-1").await else {
        panic!("not reversed")
    };
    assert_eq!((payment.captured, payment.refunded, payment.voided), (600, 600, true));
    let again = psp.client.reverse("order-1").await;
    assert_eq!(again, Ok(Reversal::Reversed { payment: payment.clone() }));
    assert_eq!(psp.client.find("order-1").await, Ok(Some(payment)));
    assert_eq!(code(psp.client.capture(&operation(&id, "c2", 1)).await), "payment_voided");
}

#[tokio::test]
async fn a_reversal_of_nothing_blocks_the_reference() {
    let psp = Fixture::start().await;
    assert_eq!(psp.client.reverse("order-1").await, Ok(Reversal::Blocked));
    assert_eq!(psp.client.reverse("order-1").await, Ok(Reversal::Blocked));
    let late = psp.client.authorize(&authorize("order-1", "key-1", 1000, "tok_ok")).await;
    assert_eq!(code(late), "reference_blocked");
    assert_eq!(psp.client.find("order-1").await, Ok(None));
}

#[tokio::test]
async fn a_reversed_pending_payment_holds_nothing() {
    let psp = Fixture::start().await;
    let request = authorize("order-1", "key-1", 1000, "tok_webhook_only");
    let answer = psp.client.authorize(&request).await;
    assert!(matches!(answer, Ok(Authorization::Pending { .. })), "{answer:?}");
    let Ok(Reversal::Reversed { payment }) = psp.client.reverse("order-1").await else {
        panic!("not reversed")
    };
    assert!(payment.voided);
    // Made later, and therefore settled later: the first would have settled before it.
    let later = authorize("order-2", "key-2", 1000, "tok_webhook_only");
    psp.client.authorize(&later).await.unwrap();
    psp.until_status("order-2", AuthorizationStatus::Authorized).await;
    assert_eq!(psp.client.find("order-1").await, Ok(Some(payment)));
}

#[tokio::test]
async fn accounts_do_not_see_each_other() {
    let psp = Fixture::start().await;
    let other = psp.client_of("other");
    let id = psp.authorized("order-1", 1000).await;
    assert_eq!(other.find("order-1").await, Ok(None));
    assert_eq!(code(other.capture(&operation(&id, "c1", 1)).await), "not_found");
    let same = authorize("order-1", "order-1", 5, "tok_ok");
    assert!(matches!(other.authorize(&same).await, Ok(Authorization::Authorized { .. })));
}

#[tokio::test]
async fn pages_follow_the_order_of_making() {
    let psp = Fixture::start().await;
    for n in 0..5 {
        psp.authorized(&format!("order-{n}"), 100 + n).await;
    }
    let (mut after, mut seen, mut pages) = (None, Vec::new(), 0);
    while pages < 10 {
        let page = psp.client.list(after.as_deref(), 2).await.unwrap();
        seen.extend(page.payments.into_iter().map(|payment| payment.reference));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(seen, ["order-0", "order-1", "order-2", "order-3", "order-4"]);
    assert_eq!(code(psp.client.list(Some("pay_none"), 2).await), "invalid_cursor");
}

#[tokio::test]
async fn a_currency_is_kept() {
    let psp = Fixture::start().await;
    let mut request = authorize("order-1", "key-1", 1000, "tok_ok");
    request.amount = Money::new(1000, Currency::JPY);
    let answer = psp.client.authorize(&request).await;
    assert!(
        matches!(&answer, Ok(Authorization::Authorized { amount, .. }) if *amount == request.amount),
        "{answer:?}"
    );
    request.amount = Money::new(1000, Currency::XXX);
    request.reference = "order-2".into();
    request.key = "key-2".into();
    let refused: Result<_, Error> = psp.client.authorize(&request).await;
    assert_eq!(code(refused), "invalid_currency");
}
