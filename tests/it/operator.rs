//! What cannot go on by itself: it keeps nobody else from going on, an operator sees it, and can
//! let it try again or take it away.

use std::sync::Mutex;

use async_trait::async_trait;
use kontor::domain::entity::{Cause, EntityId, Noun as _};
use kontor::domain::id::{CartId, OrderId};
use kontor::domain::money::{Currency, Money};
use kontor::domain::order::{Command, Order, ProviderReport, entity_id};
use kontor::domain::time::{Span, Timestamp};
use kontor::providers::payment::{
    Authorization, AuthorizationStatus, Authorize, Error, Operation, Payment, PaymentNotice,
    PaymentPage, Provider, ProviderAccount, Receipt, Reversal, WebhookError, WebhookRequest,
};
use kontor::store::journal::{Append, NewEvent, TimerChange};
use kontor::store::webhook::{NEVER, Parked};
use kontor::store::{Options, Store};
use reqwest::Method;
use serde_json::json;

use crate::shop::Shop;
use crate::site::Site;

/// A provider that has these payments, and notes what it is asked to reverse.
struct Ledger {
    account: &'static str,
    /// What the list says.
    payments: Vec<Payment>,
    /// What it says when it is asked for one, a moment later.
    fresh: Vec<Payment>,
    reversed: Mutex<Vec<String>>,
}

impl Ledger {
    fn of(payments: Vec<Payment>) -> Self {
        let fresh = payments.clone();
        Self { account: "", payments, fresh, reversed: Mutex::default() }
    }

    fn reversed(&self) -> Vec<String> {
        self.reversed.lock().unwrap().clone()
    }
}

fn payment(reference: &str) -> Payment {
    Payment {
        id: format!("pay_{reference}"),
        reference: reference.into(),
        status: AuthorizationStatus::Authorized,
        amount: Money::new(500, Currency::GBP),
        captured: 0,
        refunded: 0,
        voided: false,
        decline_code: None,
        operations: Vec::new(),
    }
}

#[async_trait]
impl Provider for Ledger {
    fn account(&self) -> ProviderAccount {
        ProviderAccount { provider: "sandbox", account: self.account.parse().unwrap_or_default() }
    }

    async fn authorize(&self, _: &Authorize) -> Result<Authorization, Error> {
        Err(Error::Unavailable)
    }

    async fn capture(&self, _: &Operation) -> Result<Receipt, Error> {
        Err(Error::Unavailable)
    }

    async fn void(&self, _: &Operation) -> Result<Receipt, Error> {
        Err(Error::Unavailable)
    }

    async fn refund(&self, _: &Operation) -> Result<Receipt, Error> {
        Err(Error::Unavailable)
    }

    async fn reverse(&self, reference: &str) -> Result<Reversal, Error> {
        self.reversed.lock().unwrap().push(reference.to_owned());
        Ok(Reversal::Blocked)
    }

    async fn find(&self, reference: &str) -> Result<Option<Payment>, Error> {
        Ok(self.fresh.iter().find(|payment| payment.reference == reference).cloned())
    }

    async fn list(&self, _: Option<&str>, _: u32) -> Result<PaymentPage, Error> {
        Ok(PaymentPage { payments: self.payments.clone(), next: None })
    }

    async fn subscribe(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    fn read_webhook(
        &self,
        _: &WebhookRequest<'_>,
        _: Timestamp,
    ) -> Result<PaymentNotice, WebhookError> {
        Err(WebhookError::Missing)
    }

    fn reread_webhook(&self, _: &[u8]) -> Result<PaymentNotice, WebhookError> {
        Err(WebhookError::Missing)
    }
}

fn order(cart: CartId) -> String {
    OrderId(cart.0).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_without_an_order_is_raised_once_and_never_reversed() {
    let shop = Shop::open().await;
    let ledger = Ledger::of(vec![payment("ord_01h455vb4pex5vsknk084sn02q-p1")]);
    shop.node.flows.reconciliation.sweep(&ledger).await.unwrap();
    shop.node.flows.reconciliation.sweep(&ledger).await.unwrap();
    assert_eq!(ledger.reversed(), [""; 0]);
    let parked = shop.node.store.parked_webhooks(0, 10).await.unwrap();
    assert_eq!(parked.len(), 1, "{parked:?}");
    assert!(parked[0].webhook.reason.contains("no order"), "{parked:?}");
    assert_eq!(parked[0].webhook.next_try_at, NEVER);
    // The real provider has never heard of it: tried again, it is settled.
    assert_eq!(shop.node.flows.webhooks.retry(parked[0].id).await.unwrap(), Some(true));
    assert_eq!(shop.node.flows.webhooks.retry(parked[0].id).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_provider_list_is_no_difference() {
    let shop = Shop::open().await;
    shop.sell("LAMP", 500, 5).await;
    let cart = shop.cart(&[("LAMP", 1)]).await;
    shop.checkout(cart, "tok_ok").await.unwrap();
    shop.until(cart, |order| order.captured() == 500).await;
    let listed = payment(&format!("{}-p1", order(cart)));
    let fresh = Payment { captured: 500, ..listed.clone() };
    let ledger = Ledger { fresh: vec![fresh], ..Ledger::of(vec![listed.clone()]) };
    shop.node.flows.reconciliation.sweep(&ledger).await.unwrap();
    assert_eq!(shop.order(cart).await.alert(), None);
    shop.node.flows.reconciliation.sweep(&Ledger::of(vec![listed])).await.unwrap();
    shop.until(cart, |order| order.alert().is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_of_an_abandoned_attempt_is_returned_and_of_an_unknown_one_is_an_alert() {
    let shop = Shop::open().await;
    shop.sell("LAMP", 500, 5).await;
    let cart = shop.cart(&[("LAMP", 1)]).await;
    shop.checkout(cart, "tok_declined").await.unwrap();
    let given_up = format!("{}-p1", order(cart));
    let ledger = Ledger::of(vec![payment(&given_up)]);
    shop.node.flows.reconciliation.sweep(&ledger).await.unwrap();
    assert_eq!(ledger.reversed(), [given_up]);
    let ledger = Ledger::of(vec![payment(&format!("{}-p7", order(cart)))]);
    shop.node.flows.reconciliation.sweep(&ledger).await.unwrap();
    assert_eq!(ledger.reversed(), [""; 0]);
    let order = shop.until(cart, |order| order.alert().is_some()).await;
    assert!(order.alert().unwrap().contains("attempt 7"), "{:?}", order.alert());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_at_an_account_or_in_a_currency_where_none_was_made_is_an_alert() {
    let shop = Shop::open().await;
    shop.sell("LAMP", 500, 5).await;
    for (token, captured) in [("tok_ok", 500), ("tok_declined", 0)] {
        for (account, currency) in [("eu", Currency::GBP), ("", Currency::EUR)] {
            let cart = shop.cart(&[("LAMP", 1)]).await;
            shop.checkout(cart, token).await.unwrap();
            let is_finished =
                move |order: &Order| order.captured() == captured && order.effects().is_empty();
            shop.until(cart, is_finished).await;
            let amount = Money::new(500, currency);
            let same = payment(&format!("{}-p1", order(cart)));
            let there = vec![Payment { amount, captured, ..same }];
            let ledger = Ledger { account, ..Ledger::of(there) };
            shop.node.flows.reconciliation.sweep(&ledger).await.unwrap();
            assert_eq!(ledger.reversed(), [""; 0], "{token} {account} {currency:?}");
            let alert = shop.order(cart).await.alert().unwrap_or_default().to_owned();
            assert!(alert.contains("the journal none"), "{token} {account} {currency:?}: {alert}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn captures_are_compared_with_the_attempt_that_they_are_of() {
    let shop = Shop::open().await;
    shop.sell("LAMP", 500, 5).await;
    let cart = shop.cart(&[("LAMP", 1)]).await;
    let entity = entity_id(OrderId(cart.0));
    let slow = shop.checkout(cart, "tok_webhook_only");
    let declined = async {
        shop.until(cart, |order| order.attempts().len() == 1).await;
        let pending = ProviderReport::Pending { payment: "pay_first".into(), action: None };
        for report in [pending, ProviderReport::Declined { code: "late".into() }] {
            let command = Command::Report { attempt: 1, report };
            shop.node.orders.ask(&entity, command, Cause::default(), |_| ()).await.unwrap();
        }
    };
    let (_, ()) = tokio::join!(slow, declined);
    let attempt = shop.order(cart).await.attempts()[0].clone();
    assert!(attempt.payment.is_some() && !attempt.open(), "{attempt:?}");
    shop.checkout(cart, "tok_ok").await.unwrap();
    shop.until(cart, |order| order.captured() == 500).await;
    let first = Payment {
        status: AuthorizationStatus::Declined,
        ..payment(&format!("{}-p1", order(cart)))
    };
    shop.node.flows.reconciliation.sweep(&Ledger::of(vec![first])).await.unwrap();
    let swept = shop.order(cart).await;
    assert_eq!(swept.alert(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_webhook_can_be_retried_and_discarded() {
    let site = Site::open().await;
    let node = site.app.as_ref().unwrap().node.clone();
    let now = node.clock.now();
    let parked = Parked {
        provider: "gone".into(),
        notice_id: "n1".into(),
        received_at: now,
        body: "{}".into(),
        reason: "no order".into(),
        next_try_at: now,
    };
    node.store.park_webhook(&parked).await.unwrap();
    let id = node.store.parked_webhooks(0, 1).await.unwrap()[0].id;
    for _ in 0..9 {
        node.store.retry_webhook(id, "no order", now).await.unwrap();
    }
    // The tenth try of the running server is the last one.
    let tries = site
        .until_some(async || {
            let row = node.store.webhook(id).await.unwrap().unwrap();
            (row.attempts >= 10 && row.webhook.next_try_at == NEVER).then_some(row.attempts)
        })
        .await;
    let far = Timestamp::from_millis(NEVER.millis() - 1);
    assert_eq!(node.store.due_webhooks(far, 10).await.unwrap(), []);
    let listed = site.admin(Method::GET, "/webhooks", None).await.expect(200);
    assert_eq!(listed["data"][0]["next_try_at"], json!(null), "{listed:#}");
    let path = format!("/webhooks/{id}");
    let retried = site.admin(Method::POST, &format!("{path}/retry"), None).await.expect(200);
    assert_eq!(retried["taken"], false);
    assert_eq!(retried["webhook"]["attempts"], tries + 1);
    assert_eq!(retried["webhook"]["reason"], "the payment provider gone is not configured");
    site.admin(Method::DELETE, &path, None).await.expect(204);
    site.admin(Method::DELETE, &path, None).await.expect(404);
    site.admin(Method::POST, &format!("{path}/retry"), None).await.expect(404);
}

/// Writes to the journal of a folder that no server runs on.
async fn write(dir: &std::path::Path, appends: &[Append]) {
    let store = Store::open(dir, &Options::default()).await.unwrap();
    let journal = store.journal();
    let fences = journal.claim(&[0], "test", Span::from_secs(0)).await.unwrap();
    for batch in appends.chunks(100) {
        journal.append(&fences, batch).await.unwrap();
    }
    store.close().await;
}

fn append(entity: &str, data: Option<&str>, due: i64) -> Append {
    let event = |data: &str| NewEvent { kind: "placed", version: 1, data: data.into() };
    Append {
        entity: EntityId::new(entity),
        after_seq: 0,
        events: data.map(event).into_iter().collect(),
        at: Timestamp::from_millis(1),
        cause: "{}".into(),
        timer: Some(TimerChange::Set(Timestamp::from_millis(due))),
        rows: Vec::new(),
    }
}

/// Starts a site again with an order whose history cannot be read: `ord_bad`.
pub async fn unreadable_order(site: &mut Site) {
    site.app.take().unwrap().stop().await;
    write(&site.config.data.dir, &[append("ord_bad", Some("{}"), 1)]).await;
    site.app = Some(kontor::app::App::start(&site.config).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_of_unreadable_entities_starve_nobody() {
    let shop = Shop::open().await;
    shop.node.stop().await;
    let mut appends: Vec<_> =
        (0..1_200).map(|n| append(&format!("ord_bad{n:04}"), Some("{}"), 1)).collect();
    appends.push(append("sku_GOOD", None, 2));
    write(&shop.dir.path().join("data"), &appends).await;
    let shop = shop.restart().await;
    // It has nothing to do, so that its timer is taken away as soon as it is fired.
    let fired = tokio::time::timeout(std::time::Duration::from_secs(8), async {
        let journal = shop.node.store.journal();
        while !journal.timers_of(0, "sku_", None, 1).await.unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    fired.await.expect("its timer was never fired");
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantine_and_dead_letters_are_shown_and_tried_again() {
    let mut site = Site::open().await;
    site.sell("LAMP", 500, 5).await;
    unreadable_order(&mut site).await;
    let cluster = site
        .until_some(async || {
            let cluster = site.admin(Method::GET, "/cluster", None).await.expect(200);
            (!cluster["here"]["quarantine"][0].is_null()).then_some(cluster)
        })
        .await;
    let listed = &cluster["here"]["quarantine"][0];
    assert_eq!(listed["entity"], "ord_bad");
    assert!(listed["reason"].as_str().unwrap().contains("event 1 (placed)"), "{listed}");
    let again = site.admin(Method::POST, "/quarantine/ord_bad/retry", None).await.expect(200);
    assert_eq!(again["quarantined"], true, "{again:#}");
    site.admin(Method::POST, "/quarantine/ord_good/retry", None).await.expect(404);
    site.admin(Method::POST, "/quarantine/nobody/retry", None).await.expect(404);

    let letters = async || site.admin(Method::GET, "/dead-letters", None).await.expect(200);
    let first = site
        .until_some(async || letters().await["data"][0]["id"].as_str().map(str::to_owned))
        .await;
    let path = format!("/dead-letters/{first}");
    let letter = site.admin(Method::GET, &path, None).await.expect(200);
    assert_eq!(
        (&letter["entity"], &letter["event"]["kind"]),
        (&json!("ord_bad"), &json!("placed"))
    );
    assert_eq!((&letter["event"]["data"], &letter["event"]["seq"]), (&json!("{}"), &json!(1)));
    site.admin(Method::GET, "/dead-letters/99999", None).await.expect(404);
    let store = site.app.as_ref().unwrap().store.clone();
    let old = store.dead_letters(0, 1).await.unwrap().remove(0);
    // One that is no fault any more is gone after the replay, one that is comes back.
    let mended = kontor::store::projection::DeadLetter { pos: 1, ..old.clone() };
    let name = "orders";
    let pos = store.cursor(name, 0).await.unwrap();
    let batch = kontor::store::projection::ProjectionBatch {
        projection: name,
        cursors: &[kontor::store::projection::Cursor { shard: 0, after: pos, pos }],
        dead: &[mended],
        ..Default::default()
    };
    assert!(store.commit_projections(&[batch]).await.unwrap());
    assert_eq!(store.dead_letters(0, 10).await.unwrap().len(), 2);
    site.admin(Method::POST, "/dead-letters/replay", None).await.expect(202);
    site.until_some(async || {
        let left = store.dead_letters(0, 10).await.unwrap();
        let cursor = store.cursor(name, 0).await.unwrap();
        (cursor == pos && left.len() == 1 && left[0].pos == old.pos).then_some(())
    })
    .await;
    assert!(!first.is_empty());
    let lamps = site.admin(Method::GET, "/stock?sku=LAMP", None).await.expect(200);
    assert_eq!(lamps["data"][0]["on_hand"], 5, "{lamps:#}");
}
