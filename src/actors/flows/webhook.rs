//! Webhooks of payment providers, including parked ones: those that match no order yet, or whose
//! order could not take them.
//!
//! A webhook is acknowledged only once its content is durable, in its order or as a parked webhook.
//! It is matched to its order by our own reference. Applying it is idempotent and never undoes a
//! later state, so late, duplicate and reordered webhooks do no harm.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::payment::{Payments, parse_reference, record_of};
use super::reconciliation::{NotApplied, Reconciliation, SWEPT, tell_order};
use crate::actors::engine::clock::Clock;
use crate::actors::engine::host::Host;
use crate::actors::engine::projections::Owned;
use crate::domain::order::{Command, Order, ProviderReport};
use crate::domain::time::Span;
use crate::providers::payment::{NoticeKind, PaymentNotice, WebhookError, WebhookRequest};
use crate::seeded_fault::{self, SeededFault};
use crate::store::webhook::{NEVER, Parked, Row};
use crate::store::{self, Tables};

/// How often parked webhooks are looked for.
const PARKED_EVERY: Duration = Duration::from_secs(5);
/// Attempts to apply a parked webhook before it stays parked for an operator.
const TRIES_MAX: i64 = 10;
/// The pause before the first retry; it doubles with each attempt.
const RETRY_AFTER: Span = Span::from_secs(5);
/// Parked webhooks that are read at once.
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
    /// The body is malformed.
    #[error("{0}")]
    Malformed(String),
    /// It could not be stored: the provider must send it again.
    #[error("the webhook could not be stored: send it again")]
    TryAgain,
}

/// Processes webhooks.
#[derive(Clone)]
pub struct WebhookIntake {
    pub(super) orders: Host<Order>,
    pub(super) payments: Payments,
    pub(super) reconciliation: Reconciliation,
    pub(super) store: Arc<dyn Tables>,
    pub(super) clock: Clock,
}

impl WebhookIntake {
    /// Processes a webhook.
    ///
    /// # Errors
    /// [`WebhookRefusal`]: nothing was stored.
    pub async fn accept(
        &self,
        provider: &str,
        request: &WebhookRequest<'_>,
    ) -> Result<(), WebhookRefusal> {
        let now = self.clock.now();
        let from = self.payments.get(provider).ok_or(WebhookRefusal::UnknownProvider)?;
        let notice = from.read_webhook(request, now).map_err(|error| match error {
            WebhookError::Malformed(why) => WebhookRefusal::Malformed(why),
            other => WebhookRefusal::Unauthorized(other.to_string()),
        })?;
        let reason = match self.take_notice(provider, &notice).await {
            Ok(()) => return Ok(()),
            Err(NotApplied::Unmatched(why) | NotApplied::Later(why)) => why,
        };
        if seeded_fault::active(SeededFault::WebhookNotKept) {
            return Ok(());
        }
        let parked = Parked {
            provider: provider.to_owned(),
            notice_id: notice.id,
            received_at: now,
            body: String::from_utf8_lossy(request.body).into_owned(),
            reason,
            next_try_at: now + RETRY_AFTER,
        };
        self.store.park_webhook(&parked).await.map(|_| ()).map_err(|error| {
            tracing::error!(%error, "cannot park a webhook");
            WebhookRefusal::TryAgain
        })
    }

    /// Applies a notice to its order.
    async fn take_notice(&self, provider: &str, notice: &PaymentNotice) -> Result<(), NotApplied> {
        let unmatched =
            || NotApplied::Unmatched(format!("no order for {}", notice.payment.reference));
        let Some((order, 'p', attempt)) = parse_reference(&notice.payment.reference) else {
            return Err(unmatched());
        };
        let moved = notice.operation.as_ref().and_then(|one| record_of(&order, one));
        let command = match (notice.kind, moved) {
            (NoticeKind::Authorized, ..) => Command::Report {
                attempt,
                report: ProviderReport::Authorized {
                    payment: notice.payment.id.clone(),
                    amount: notice.payment.amount.amount,
                },
            },
            (NoticeKind::Declined, ..) => {
                let code = notice.payment.decline_code.clone();
                let code = code.unwrap_or_else(|| "declined".into());
                Command::Report { attempt, report: ProviderReport::Declined { code } }
            }
            (NoticeKind::Voided, ..) => Command::Report { attempt, report: ProviderReport::Voided },
            (NoticeKind::Captured | NoticeKind::Refunded, Some(moved)) => moved,
            (NoticeKind::Captured | NoticeKind::Refunded, None) => {
                let why = "the provider's notice does not say what was captured or refunded";
                return Err(NotApplied::Unmatched(why.into()));
            }
        };
        let command = Command::FromProvider {
            provider: provider.to_owned(),
            currency: notice.payment.amount.currency,
            attempt,
            command: Box::new(command),
        };
        let known = tell_order(&self.orders, &order, command, provider).await?;
        if known { Ok(()) } else { Err(unmatched()) }
    }

    /// Retries due parked webhooks, every few seconds and while this node owns the first shard,
    /// until stopped.
    pub async fn retry_parked_until(self, owned: Owned, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PARKED_EVERY) => {}
            }
            if !owned.has(0) {
                continue;
            }
            if let Some(Err(error)) = stop.run_until_cancelled(self.retry_parked()).await {
                tracing::warn!(%error, "cannot retry parked webhooks");
            }
        }
    }

    /// Retries due parked webhooks.
    ///
    /// # Errors
    /// The store's.
    pub async fn retry_parked(&self) -> Result<(), store::Error> {
        for row in self.store.due_webhooks(self.clock.now(), PAGE).await? {
            self.try_parked(&row).await?;
        }
        Ok(())
    }

    /// Retries a parked webhook at once, even if its attempts are used up; `None` if there is no
    /// such webhook, else whether it was applied. If not, it stays parked, with the reason why this
    /// attempt failed.
    ///
    /// # Errors
    /// The store's.
    pub async fn retry(&self, id: i64) -> Result<Option<bool>, store::Error> {
        match self.store.webhook(id).await? {
            Some(row) => self.try_parked(&row).await.map(Some),
            None => Ok(None),
        }
    }

    async fn try_parked(&self, row: &Row) -> Result<bool, store::Error> {
        let Err(NotApplied::Unmatched(why) | NotApplied::Later(why)) =
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

    async fn take_parked(&self, parked: &Parked) -> Result<(), NotApplied> {
        let Some(provider) = self.payments.get(&parked.provider) else {
            let why = format!("the payment provider {} is not configured", parked.provider);
            return Err(NotApplied::Unmatched(why));
        };
        if parked.notice_id.starts_with(SWEPT) {
            return self.reconciliation.look_again(provider.as_ref(), &parked.body).await;
        }
        match provider.reread_webhook(parked.body.as_bytes()) {
            Ok(notice) => self.take_notice(&parked.provider, &notice).await,
            Err(error) => Err(NotApplied::Unmatched(error.to_string())),
        }
    }
}
