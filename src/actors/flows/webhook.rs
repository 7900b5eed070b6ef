//! What a payment provider tells without being asked, or shows when its list is read: webhooks,
//! parked webhooks, and the sweep.
//!
//! A webhook is answered only once what it says is durable: in its order, or parked. Everything
//! is matched by our own reference and is monotone, so that late, doubled and disordered notices
//! change nothing twice.

use super::payment::{parse_reference, report_of};
use crate::actors::engine::host::{self, View};
use crate::actors::node::Node;
use crate::domain::entity::{Cause, EntityId, Noun as _};
use crate::domain::order::{AttemptState, Command, Order, Phase, Report};
use crate::domain::time::Span;
use crate::providers::payment::{
    Notice, NoticeKind, OperationKind, Payment, PaymentStatus, Provider, WebhookError,
};
use crate::seeded_fault::{self, SeededFault};
use crate::store;
use crate::store::webhook::{NEVER, Parked, Row};

/// How often a webhook that fits nothing is tried again before it is given up and stays parked.
const TRIES_MAX: i64 = 10;
/// The pause before the first new try.
const RETRY_AFTER: Span = Span::from_secs(5);
/// What the id of a parked notice begins with that the sweep found; its body is our reference.
const SWEPT: &str = "sweep:";
/// How many payments are read at once.
const PAGE: u32 = 100;

/// Why a webhook is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookRefusal {
    /// No provider has this name.
    #[error("there is no payment provider of this name")]
    UnknownProvider,
    /// The signature is missing, wrong or old.
    #[error("{0}")]
    Unauthorized(String),
    /// The body is not what the provider sends.
    #[error("{0}")]
    Malformed(String),
    /// It could not be kept: send it again.
    #[error("the webhook could not be kept: send it again")]
    TryAgain,
}

/// Why a notice was not taken by an order.
enum Untaken {
    /// It fits nothing that is known.
    Unmatched(String),
    /// The order cannot take it now.
    Later(String),
}

impl Node {
    /// Takes a webhook.
    ///
    /// # Errors
    /// [`WebhookRefusal`]; only then is nothing kept.
    pub async fn webhook(
        &self,
        provider: &str,
        signature: &str,
        body: &[u8],
    ) -> Result<(), WebhookRefusal> {
        let now = self.clock.now();
        let from = self.payments.get(provider).ok_or(WebhookRefusal::UnknownProvider)?;
        let notice = from.read_webhook(signature, body, now).map_err(|error| match error {
            WebhookError::Malformed(why) => WebhookRefusal::Malformed(why),
            other => WebhookRefusal::Unauthorized(other.to_string()),
        })?;
        let reason = match self.take_notice(provider, &notice).await {
            Ok(()) => return Ok(()),
            Err(Untaken::Unmatched(why) | Untaken::Later(why)) => why,
        };
        if seeded_fault::active(SeededFault::WebhookNotKept) {
            return Ok(());
        }
        let parked = Parked {
            provider: provider.to_owned(),
            notice_id: notice.id,
            received_at: now,
            body: String::from_utf8_lossy(body).into_owned(),
            reason,
            next_try_at: now + RETRY_AFTER,
        };
        self.store.park_webhook(&parked).await.map(|_| ()).map_err(|error| {
            tracing::error!(%error, "a webhook could not be parked");
            WebhookRefusal::TryAgain
        })
    }

    /// Brings a notice to its order.
    async fn take_notice(&self, provider: &str, notice: &Notice) -> Result<(), Untaken> {
        let unmatched = || Untaken::Unmatched(format!("no order for {}", notice.payment.reference));
        let Some((order, 'p', attempt)) = parse_reference(&notice.payment.reference) else {
            return Err(unmatched());
        };
        let operation = notice.operation.as_ref();
        let ours = operation.and_then(|operation| parse_reference(&operation.reference));
        let command = match (notice.kind, operation, ours) {
            (NoticeKind::Authorized, ..) => Command::Report {
                attempt,
                report: Report::Authorized {
                    payment: notice.payment.id.clone(),
                    amount: notice.payment.amount.amount,
                },
            },
            (NoticeKind::Declined, ..) => {
                let code = notice.payment.decline_code.clone();
                let code = code.unwrap_or_else(|| "declined".into());
                Command::Report { attempt, report: Report::Declined { code } }
            }
            (NoticeKind::Voided, ..) => Command::Report { attempt, report: Report::Voided },
            (NoticeKind::Captured, Some(operation), Some((_, 'c', capture))) => Command::Captured {
                capture,
                amount: operation.amount.amount,
                operation: operation.id.clone(),
            },
            (NoticeKind::Refunded, Some(operation), Some((_, 'r', refund))) => {
                Command::Refunded { refund, operation: operation.id.clone() }
            }
            _ => return Err(Untaken::Unmatched("an operation that we did not ask for".into())),
        };
        let known = self.tell_order(&order, attempt, command, provider).await?;
        if known { Ok(()) } else { Err(unmatched()) }
    }

    /// Sends a command to an order; `false` if it does not know the attempt.
    async fn tell_order(
        &self,
        order: &EntityId,
        attempt: u32,
        command: Command,
        provider: &str,
    ) -> Result<bool, Untaken> {
        let cause = Cause { by: format!("provider:{provider}"), ..Cause::default() };
        let knows = move |view: View<'_, Order>| {
            view.state.attempts().iter().any(|known| known.number == attempt)
        };
        match self.orders.ask(order, command, cause, knows).await {
            Ok(known) => Ok(known),
            Err(host::Error::Rejected(_)) => Ok(false),
            Err(error) => Err(Untaken::Later(error.to_string())),
        }
    }

    /// Tries parked webhooks again that are due.
    ///
    /// # Errors
    /// The store's.
    pub async fn retry_parked(&self) -> Result<(), store::Error> {
        for row in self.store.due_webhooks(self.clock.now(), PAGE).await? {
            self.try_parked(&row).await?;
        }
        Ok(())
    }

    /// Tries a parked webhook at once, given up or not; `None` if there is none, else whether it
    /// was taken. One that was not stays as it was, with the reason of this try.
    ///
    /// # Errors
    /// The store's.
    pub async fn retry_webhook(&self, id: i64) -> Result<Option<bool>, store::Error> {
        match self.store.webhook(id).await? {
            Some(row) => self.try_parked(&row).await.map(Some),
            None => Ok(None),
        }
    }

    async fn try_parked(&self, row: &Row) -> Result<bool, store::Error> {
        let Err(Untaken::Unmatched(why) | Untaken::Later(why)) =
            self.take_parked(&row.webhook).await
        else {
            self.store.remove_webhook(row.id).await?;
            return Ok(true);
        };
        let given_up = row.webhook.next_try_at >= NEVER || row.attempts + 1 >= TRIES_MAX;
        let pause = Span::from_millis(RETRY_AFTER.millis() << row.attempts.min(12));
        let next = if given_up { NEVER } else { self.clock.now() + pause };
        self.store.retry_webhook(row.id, &why, next).await?;
        Ok(false)
    }

    async fn take_parked(&self, parked: &Parked) -> Result<(), Untaken> {
        let Some(provider) = self.payments.get(&parked.provider) else {
            let why = format!("the payment provider {} is not configured", parked.provider);
            return Err(Untaken::Unmatched(why));
        };
        if parked.notice_id.starts_with(SWEPT) {
            return self.look_again(provider.as_ref(), &parked.body).await;
        }
        match provider.reread_webhook(parked.body.as_bytes()) {
            Ok(notice) => self.take_notice(provider.name(), &notice).await,
            Err(error) => Err(Untaken::Unmatched(error.to_string())),
        }
    }

    /// Compares a provider's list with the journal: repairs what can be repaired, and raises an
    /// alert on what cannot. Payments whose orders are at rest and agree are not read again.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep(&self, provider: &dyn Provider) -> Result<(), store::Error> {
        let setting = format!("sweep_after_{}", provider.name());
        let mut after = self.store.setting(&setting).await?.filter(|after| !after.is_empty());
        let mut agreed = true;
        loop {
            let page = match provider.list(after.as_deref(), PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, provider = provider.name(), "the sweep broke off");
                    if !error.retryable() {
                        // It does not know where we stopped: the next sweep begins anew.
                        self.store.put_setting(&setting, "").await?;
                    }
                    return Ok(());
                }
            };
            for payment in &page.payments {
                agreed = self.compare(provider, payment).await && agreed;
                if agreed {
                    after = Some(payment.id.clone());
                }
            }
            if agreed && let Some(after) = &after {
                self.store.put_setting(&setting, after).await?;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Compares one payment with its order; `true` if both are at rest and agree.
    async fn compare(&self, provider: &dyn Provider, payment: &Payment) -> bool {
        let Some((order, 'p', number)) = parse_reference(&payment.reference) else {
            return true;
        };
        let seen = self.orders.look(&order, move |view| Seen::of(view.state, number)).await;
        let Ok(seen) = seen else {
            return false;
        };
        if !seen.exists {
            return self.raise_lost(provider, payment).await;
        }
        let name = provider.name();
        if seen.open {
            if let Some(report) = report_of(payment) {
                let command = Command::Report { attempt: number, report };
                let _ = self.tell_order(&order, number, command, name).await;
            }
            return false;
        }
        for operation in &payment.operations {
            let (id, amount) = (operation.id.clone(), operation.amount.amount);
            let command = match (operation.kind, parse_reference(&operation.reference)) {
                (OperationKind::Capture, Some((_, 'c', capture))) => {
                    Command::Captured { capture, amount, operation: id }
                }
                (OperationKind::Refund, Some((_, 'r', refund))) => {
                    Command::Refunded { refund, operation: id }
                }
                _ => continue,
            };
            let _ = self.tell_order(&order, number, command, name).await;
        }
        let Ok(seen) = self.orders.look(&order, move |view| Seen::of(view.state, number)).await
        else {
            return false;
        };
        if seen.fits(payment) || !seen.at_rest {
            return seen.fits(payment) && seen.at_rest;
        }
        // The list may be older than the order by now: only what still differs is a difference.
        let Ok(Some(payment)) = provider.find(&payment.reference).await else {
            return false;
        };
        let again = self.orders.look(&order, move |view| Seen::of(view.state, number)).await;
        if again.is_ok_and(|again| again == seen) && !seen.fits(&payment) {
            self.disagree(provider, &payment, (&order, number), &seen).await;
        }
        false
    }

    /// Money whose order the journal does not have at all stays where it is: the journal is
    /// perhaps the older one, restored or copied. It is parked for an operator, once; `true` once
    /// that is durable, or where no money is kept.
    async fn raise_lost(&self, provider: &dyn Provider, payment: &Payment) -> bool {
        if payment.status == PaymentStatus::Pending {
            return false;
        }
        let Some(reason) = lost(payment) else {
            return true;
        };
        let parked = Parked {
            provider: provider.name().to_owned(),
            notice_id: format!("{SWEPT}{}", payment.id),
            received_at: self.clock.now(),
            body: payment.reference.clone(),
            reason,
            next_try_at: NEVER,
        };
        match self.store.park_webhook(&parked).await {
            Ok(true) => {
                let (payment, reason) = (&payment.id, &parked.reason);
                tracing::error!(payment, reason, "money that no order stands for");
                true
            }
            Ok(false) => true,
            Err(error) => {
                tracing::error!(%error, "a payment without an order could not be noted");
                false
            }
        }
    }

    /// Looks again at a payment whose order the journal did not have.
    async fn look_again(&self, provider: &dyn Provider, reference: &str) -> Result<(), Untaken> {
        let found = provider.find(reference).await;
        let Some(payment) = found.map_err(|error| Untaken::Later(error.to_string()))? else {
            return Ok(());
        };
        let Some((order, ..)) = parse_reference(&payment.reference) else {
            return Ok(());
        };
        let exists = self.orders.look(&order, |view| view.state.placed().is_some()).await;
        if exists.map_err(|error| Untaken::Later(error.to_string()))? {
            self.compare(provider, &payment).await;
            return Ok(());
        }
        lost(&payment).map_or(Ok(()), |why| Err(Untaken::Unmatched(why)))
    }

    /// Money of an attempt that its order has given up goes back; any other difference is for an
    /// operator.
    async fn disagree(
        &self,
        provider: &dyn Provider,
        payment: &Payment,
        (order, number): (&EntityId, u32),
        seen: &Seen,
    ) {
        if seen.given_up && seen.captured == 0 {
            tracing::warn!(%order, payment = payment.id, "money of an attempt given up goes back");
            let _ = provider.reverse(&payment.reference).await;
            return;
        }
        let alert = if seen.known {
            format!(
                "the provider has {} captured and {} refunded, the journal {} and {}",
                payment.captured, payment.refunded, seen.captured, seen.refunded
            )
        } else {
            let amount = payment.amount;
            format!("the provider has a payment attempt {number} of {amount}, the journal none")
        };
        tracing::error!(%order, alert, "the ledgers differ");
        let cause = Cause { by: "sweep".into(), ..Cause::default() };
        let told = self.orders.carry_out(order, Command::RaiseAlert { alert }, cause).await;
        if let Err(error) = told {
            tracing::warn!(%order, %error, "an alert was not raised; the next sweep raises it");
        }
    }
}

/// An order as the sweep sees it.
#[derive(PartialEq, Eq)]
struct Seen {
    /// There is such an order.
    exists: bool,
    /// It has such an attempt.
    known: bool,
    /// The attempt is over, and the order lives from no money of it.
    given_up: bool,
    /// The attempt is of unknown outcome, and the order is still at it.
    open: bool,
    /// Money is set aside or taken on the attempt.
    live: bool,
    captured: i64,
    refunded: i64,
    /// Nothing is under way.
    at_rest: bool,
}

impl Seen {
    /// Whether a payment is what the order says of it.
    fn fits(&self, payment: &Payment) -> bool {
        self.captured == payment.captured
            && self.refunded == payment.refunded
            && (self.live || !is_live(payment) || payment.captured > 0)
    }

    fn of(order: &Order, number: u32) -> Self {
        let attempt = order.attempts().iter().find(|attempt| attempt.number == number);
        let live = attempt.is_some_and(|attempt| attempt.authorized() > 0);
        let moved = lives_from(order) == Some(number);
        Self {
            exists: order.placed().is_some(),
            known: attempt.is_some(),
            given_up: attempt.is_some_and(|attempt| !attempt.open() && !live),
            open: attempt.is_some_and(crate::domain::order::Attempt::open),
            live,
            captured: if moved { order.captured() } else { 0 },
            refunded: if moved { order.refunded() } else { 0 },
            at_rest: order.effects().is_empty()
                && matches!(
                    order.phase(),
                    Phase::Absent | Phase::Confirmed | Phase::Cancelled | Phase::AwaitingPayment
                ),
        }
    }
}

/// The attempt whose money is, or was, the order's: one that was declined never had any.
fn lives_from(order: &Order) -> Option<u32> {
    let had = |state: &AttemptState| matches!(state, AttemptState::Voided);
    let had = || order.attempts().iter().rfind(|attempt| had(&attempt.state));
    order.paid_attempt().or_else(had).map(|attempt| attempt.number)
}

/// Whether money is set aside or taken on a payment.
fn is_live(payment: &Payment) -> bool {
    payment.status == PaymentStatus::Authorized && !payment.voided
}

/// What is wrong with a payment whose order is not there; `None` if all of its money is back.
fn lost(payment: &Payment) -> Option<String> {
    let Payment { id, reference, amount, captured, refunded, .. } = payment;
    let back = if *captured > 0 { captured == refunded } else { !is_live(payment) };
    (!back).then(|| {
        format!(
            "the journal has no order for {reference}: payment {id} of {amount}, of which \
             {captured} captured and {refunded} refunded, stays at the provider"
        )
    })
}
