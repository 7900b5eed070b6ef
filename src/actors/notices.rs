//! What a payment provider tells without being asked, or shows when its list is read: webhooks,
//! parked webhooks, and the sweep.
//!
//! A webhook is answered only once what it says is durable: in its order, or parked. Everything
//! is matched by our own reference and is monotone, so that late, doubled and disordered notices
//! change nothing twice.

use super::host::{self, View};
use super::node::Node;
use super::payments::{parse_reference, report_of};
use crate::domain::entity::{Cause, EntityId, Noun as _};
use crate::domain::order::{Command, Order, Phase, Report};
use crate::domain::time::Span;
use crate::providers::payment::{
    Notice, NoticeKind, OperationKind, Payment, PaymentStatus, Provider, WebhookError,
};
use crate::store;
use crate::store::webhook::Parked;

/// How long a webhook that fits nothing is tried again before it stays parked.
const TRIES_MAX: i64 = 10;
/// The pause before the first new try.
const RETRY_AFTER: Span = Span::from_secs(5);
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
    pub(super) async fn retry_parked(&self) -> Result<(), store::Error> {
        let now = self.clock.now();
        for row in self.store.due_webhooks(now, PAGE).await? {
            if row.attempts >= TRIES_MAX {
                continue;
            }
            let Some(provider) = self.payments.get(&row.webhook.provider) else {
                continue;
            };
            let outcome = match provider.reread_webhook(row.webhook.body.as_bytes()) {
                Ok(notice) => self.take_notice(provider.name(), &notice).await,
                Err(error) => Err(Untaken::Unmatched(error.to_string())),
            };
            match outcome {
                Ok(()) => {
                    self.store.remove_webhook(row.id).await?;
                }
                Err(Untaken::Unmatched(why) | Untaken::Later(why)) => {
                    let pause = Span::from_millis(RETRY_AFTER.millis() << row.attempts.min(12));
                    self.store.retry_webhook(row.id, &why, now + pause).await?;
                }
            }
        }
        Ok(())
    }

    /// Compares a provider's list with the journal: repairs what can be repaired, and raises an
    /// alert on what cannot. Payments whose orders are at rest and agree are not read again.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep(&self, provider: &dyn Provider) -> Result<(), store::Error> {
        let setting = format!("sweep_after_{}", provider.name());
        let mut after = self.store.setting(&setting).await?;
        let mut agreed = true;
        loop {
            let Ok(page) = provider.list(after.as_deref(), PAGE).await else {
                return Ok(());
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
        let live = payment.status == PaymentStatus::Authorized && !payment.voided;
        let fits = seen.captured == payment.captured
            && seen.refunded == payment.refunded
            && (seen.live || !live || payment.captured > 0);
        if fits || !seen.at_rest {
            return fits && seen.at_rest;
        }
        self.disagree(provider, payment, &order, &seen).await;
        false
    }

    /// Money that no order stands for goes back; any other difference is for an operator.
    async fn disagree(
        &self,
        provider: &dyn Provider,
        payment: &Payment,
        order: &EntityId,
        seen: &Seen,
    ) {
        if !seen.live && seen.captured == 0 {
            tracing::warn!(%order, payment = payment.id, "money that no order stands for goes back");
            let _ = provider.reverse(&payment.reference).await;
            return;
        }
        let alert = format!(
            "the provider has {} captured and {} refunded, the journal {} and {}",
            payment.captured, payment.refunded, seen.captured, seen.refunded
        );
        tracing::error!(%order, alert, "the ledgers differ");
        let cause = Cause { by: "sweep".into(), ..Cause::default() };
        self.orders.tell(order, Command::RaiseAlert { alert }, cause);
    }
}

/// An order as the sweep sees it.
struct Seen {
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
    fn of(order: &Order, number: u32) -> Self {
        let attempt = order.attempts().iter().find(|attempt| attempt.number == number);
        let live = attempt.is_some_and(|attempt| attempt.authorized() > 0);
        let moved = attempt.is_some_and(|attempt| attempt.payment.is_some());
        Self {
            open: attempt.is_some_and(super::super::domain::order::Attempt::open),
            live,
            captured: if live || moved { order.captured() } else { 0 },
            refunded: if live || moved { order.refunded() } else { 0 },
            at_rest: order.effects().is_empty()
                && matches!(
                    order.phase(),
                    Phase::Absent | Phase::Confirmed | Phase::Cancelled | Phase::AwaitingPayment
                ),
        }
    }
}
