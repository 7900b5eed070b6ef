//! What `providers::payment::Provider` asks of every implementation, rule by rule as its
//! documentation numbers them, and asked through the trait alone. A new client of a provider runs
//! through [`keeps_the_contract`] with tokens of that provider's test mode.
//!
//! What only the sandbox does (faults, restarts, its protocol) is in `sandbox_psp`.

use std::sync::Arc;

use kontor::actors::flows::payment::{self, Payments};
use kontor::domain::order::BuyerAction;
use kontor::domain::time::Span;
use kontor::providers::payment::{
    AccountId, Authorization, AuthorizationStatus, Error, NoticeKind, Provider, Reversal,
    WebhookError,
};
use kontor::providers::sandbox::{Options, Sandbox};

use crate::sandbox_psp::fixture::{
    Fixture, Receiver, authorize, gbp, now, operation, options, unknown, until, webhook,
};

/// What a provider takes in place of a card, and what it then does.
struct Tokens {
    authorized: &'static str,
    declined: &'static str,
    pending: &'static str,
    action: &'static str,
}

const SANDBOX: Tokens = Tokens {
    authorized: "tok_ok",
    declined: "tok_declined",
    pending: "tok_webhook_only",
    action: "tok_action",
};

async fn keeps_the_contract(provider: &dyn Provider, tokens: &Tokens) {
    repeats_what_was_answered(provider, tokens).await;
    decides_later_what_is_pending(provider, tokens).await;
    moves_no_more_than_there_is(provider, tokens).await;
    takes_back_and_blocks(provider, tokens).await;
    lists_in_order(provider, tokens).await;
}

/// Rules 1 and 2.
async fn repeats_what_was_answered(provider: &dyn Provider, tokens: &Tokens) {
    for (reference, token) in [("same-1", tokens.authorized), ("same-2", tokens.declined)] {
        let request = authorize(reference, reference, 1_000, token);
        let first = provider.authorize(&request).await.unwrap();
        assert_eq!(provider.authorize(&request).await, Ok(first.clone()), "{token}");
        let declined = matches!(first, Authorization::Declined { .. });
        assert_eq!(declined, token == tokens.declined, "{first:?}");
    }
    let payment = provider.find("same-1").await.unwrap().unwrap();
    assert_eq!((payment.status, payment.amount), (AuthorizationStatus::Authorized, gbp(1_000)));
    let capture = operation(&payment.id, "same-c1", 400);
    let receipt = provider.capture(&capture).await.unwrap();
    assert_eq!(provider.capture(&capture).await, Ok(receipt));
    let refund = operation(&payment.id, "same-r1", 100);
    let receipt = provider.refund(&refund).await.unwrap();
    assert_eq!(provider.refund(&refund).await, Ok(receipt));
    let payment = provider.find("same-1").await.unwrap().unwrap();
    assert_eq!((payment.captured, payment.refunded, payment.operations.len()), (400, 100, 2));
    let declined = provider.find("same-2").await.unwrap().unwrap();
    assert_eq!((declined.status, declined.captured), (AuthorizationStatus::Declined, 0));
}

/// Rule 3.
async fn decides_later_what_is_pending(provider: &dyn Provider, tokens: &Tokens) {
    let request = authorize("later-1", "later-1", 1_000, tokens.pending);
    let answer = provider.authorize(&request).await.unwrap();
    assert!(matches!(answer, Authorization::Pending { .. }), "{answer:?}");

    let request = authorize("later-2", "later-2", 1_000, tokens.action);
    let answer = provider.authorize(&request).await.unwrap();
    let Authorization::ActionRequired { payment, action, expires_at } = &answer else {
        panic!("{answer:?}")
    };
    let BuyerAction::Redirect { url } = action else { panic!("{action:?}") };
    assert!(url.starts_with("https://"), "{url}");
    assert!(*expires_at > now());
    assert_eq!(provider.authorize(&request).await, Ok(answer.clone()));
    for reference in ["later-1", "later-2"] {
        let decided = until(async || {
            let found = provider.find(reference).await.unwrap().unwrap();
            (found.status != AuthorizationStatus::Pending).then_some(found)
        })
        .await;
        assert_eq!(decided.amount, gbp(1_000));
        assert!(reference != "later-2" || decided.id == *payment);
    }
}

/// Rule 5.
async fn moves_no_more_than_there_is(provider: &dyn Provider, tokens: &Tokens) {
    let refused = |outcome| matches!(outcome, Err(Error::Rejected { .. }));
    let request = authorize("much-1", "much-1", 1_000, tokens.authorized);
    let Ok(Authorization::Authorized { payment, .. }) = provider.authorize(&request).await else {
        panic!("not authorized")
    };
    assert!(refused(provider.refund(&operation(&payment, "much-r0", 1)).await));
    provider.capture(&operation(&payment, "much-c1", 600)).await.unwrap();
    assert!(refused(provider.capture(&operation(&payment, "much-c2", 401)).await));
    assert!(refused(provider.refund(&operation(&payment, "much-r1", 601)).await));
    let voided = provider.void(&operation(&payment, "much-v1", 0)).await.unwrap();
    assert_eq!(voided.amount, gbp(400));
    assert!(refused(provider.void(&operation(&payment, "much-v2", 0)).await));
    assert!(refused(provider.capture(&operation(&payment, "much-c3", 1)).await));
    let found = provider.find("much-1").await.unwrap().unwrap();
    assert_eq!((found.captured, found.refunded, found.voided), (600, 0, true));
}

/// Rule 6.
async fn takes_back_and_blocks(provider: &dyn Provider, tokens: &Tokens) {
    let request = authorize("back-1", "back-1", 1_000, tokens.authorized);
    let Ok(Authorization::Authorized { payment, .. }) = provider.authorize(&request).await else {
        panic!("not authorized")
    };
    provider.capture(&operation(&payment, "back-c1", 300)).await.unwrap();
    for _ in 0..2 {
        let Ok(Reversal::Reversed { payment }) = provider.reverse("back-1").await else {
            panic!("not reversed")
        };
        assert_eq!((payment.captured, payment.refunded, payment.voided), (300, 300, true));
    }
    assert_eq!(provider.reverse("back-2").await, Ok(Reversal::Blocked));
    assert_eq!(provider.reverse("back-2").await, Ok(Reversal::Blocked));
    let late = authorize("back-2", "back-2", 1_000, tokens.authorized);
    assert!(matches!(provider.authorize(&late).await, Err(Error::Rejected { .. })));
    assert_eq!(provider.find("back-2").await, Ok(None));
}

/// Rule 7.
async fn lists_in_order(provider: &dyn Provider, tokens: &Tokens) {
    for reference in ["list-1", "list-2", "list-3"] {
        let request = authorize(reference, reference, 1_000, tokens.authorized);
        provider.authorize(&request).await.unwrap();
    }
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let page = provider.list(after.as_deref(), 2).await.unwrap();
        assert!(page.payments.len() <= 2);
        found.extend(page.payments);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let mine = found.iter().filter(|payment| payment.reference.starts_with("list-"));
    let mine: Vec<_> = mine.map(|payment| payment.reference.as_str()).collect();
    assert_eq!(mine, ["list-1", "list-2", "list-3"]);
    for payment in found {
        assert_eq!(provider.find(&payment.reference).await, Ok(Some(payment)));
    }
}

#[tokio::test]
async fn sandbox_fulfills_the_provider_contract() {
    let psp = Fixture::start().await;
    keeps_the_contract(&psp.client, &SANDBOX).await;
}

/// Rule 4.
#[tokio::test]
async fn unclear_outcome_is_unknown() {
    let psp = Fixture::start().await;
    let hasty: &dyn Provider = &psp.hasty(200);
    let lost = hasty.authorize(&authorize("lost-1", "lost-1", 1_000, "tok_timeout")).await;
    assert!(unknown(&lost), "{lost:?}");
    let found = psp.client.find("lost-1").await.unwrap().unwrap();
    assert_eq!(found.status, AuthorizationStatus::Authorized, "it was carried out");
    let never = hasty.authorize(&authorize("lost-2", "lost-2", 1_000, "tok_timeout_lost")).await;
    assert!(unknown(&never), "{never:?}");
    assert_eq!(psp.client.find("lost-2").await, Ok(None), "it was not");
    let nobody =
        Sandbox::new(Options { url: "http://127.0.0.1:1".into(), ..options(&psp.running) });
    let away = nobody.unwrap().authorize(&authorize("lost-3", "lost-3", 1_000, "tok_ok")).await;
    assert_eq!(away, Err(Error::Unavailable));
}

/// Rule 8.
#[tokio::test]
async fn webhooks_are_sent_and_verified() {
    let psp = Fixture::start().await;
    let provider: &dyn Provider = &psp.client;
    let receiver = Receiver::start(0).await;
    provider.subscribe(&receiver.url).await.unwrap();
    let request = authorize("told-1", "told-1", 1_000, SANDBOX.action);
    provider.authorize(&request).await.unwrap();
    let came = receiver.until_received(1).await.remove(0);
    let mut whole = webhook(&came.signature, &came.body);
    let notice = provider.read_webhook(&whole, now()).unwrap();
    assert_eq!((notice.kind, &*notice.payment.reference), (NoticeKind::Authorized, "told-1"));
    assert_eq!(provider.reread_webhook(&came.body), Ok(notice));
    let late = now() + Span::from_secs(24 * 3_600);
    assert_eq!(provider.read_webhook(&whole, late), Err(WebhookError::Expired));
    let mut forged = came.body.clone();
    forged.push(b' ');
    whole.body = &forged;
    assert_eq!(provider.read_webhook(&whole, now()), Err(WebhookError::Forged));
    whole.headers.clear();
    assert_eq!(provider.read_webhook(&whole, now()), Err(WebhookError::Missing));
}

#[tokio::test]
async fn a_provider_can_have_several_accounts() {
    let psp = Fixture::start().await;
    let account_id = "eu".parse().unwrap();
    let second = Options { account_id, account: "second".into(), ..options(&psp.running) };
    let second = Sandbox::new(second).unwrap();
    let both: Vec<Arc<dyn Provider>> = vec![Arc::new(psp.client), Arc::new(second)];
    let payments = Payments::new(both, payment::Options::default());
    let names: Vec<_> = payments.all().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["sandbox", "sandbox/eu"]);
    assert!(payments.knows("sandbox/eu") && !payments.knows("sandbox/us"));
    let request = authorize("order-1", "order-1", 1_000, SANDBOX.authorized);
    for (_, provider) in payments.all() {
        assert_eq!(provider.find("order-1").await, Ok(None), "each has its own payments");
        provider.authorize(&request).await.unwrap();
    }
    for bad in ["", "EU", "a/b", &"x".repeat(33)] {
        assert!(bad.parse::<AccountId>().is_err(), "{bad}");
    }
}
