//! The sweep: compares the providers' lists of payments with the journal, periodically. It repairs
//! differences if possible; for the others it raises an alert on the order, or parks a webhook,
//! which operators see.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::payment::{Payments, parse_reference, record_of, report_of};
use crate::actors::engine::clock::Clock;
use crate::actors::engine::host::{self, Host, View};
use crate::actors::engine::projections::Owned;
use crate::actors::engine::runtime::Runtime;
use crate::cache::Cache;
use crate::domain::entity::{Cause, EntityId, Noun as _};
use crate::domain::money::Currency;
use crate::domain::order::{Attempt, Command, Order, Phase, ProviderReport, Rejection};
use crate::providers::payment::{AuthorizationStatus, Payment, Provider};
use crate::store::webhook::{NEVER, Parked};
use crate::store::{self, Tables};

/// TTL of the lock on a provider's list: if the node that compares the list dies, another node can
/// compare it after this time.
const SWEEP_LOCK: Duration = Duration::from_secs(30);
/// Prefix of the ids of notices that the sweep has parked; the body of such a notice is our
/// reference.
pub(super) const SWEPT: &str = "sweep:";
/// Payments that are read at once.
const PAGE: u32 = 100;

/// Why a notice was not applied to an order.
pub(super) enum NotApplied {
    /// It matches no order or attempt, or its order rejects it.
    Unmatched(String),
    /// The order cannot take it now.
    Later(String),
}

/// Compares the lists of payment providers with the journal.
#[derive(Clone)]
pub struct Reconciliation {
    pub(super) orders: Host<Order>,
    pub(super) payments: Payments,
    pub(super) store: Arc<dyn Tables>,
    pub(super) cache: Cache,
    pub(super) runtime: Runtime,
    pub(super) clock: Clock,
}

impl Reconciliation {
    /// Sweeps at the period of the settings, while this node owns the first shard, until stopped.
    pub async fn sweep_until(self, owned: Owned, stop: CancellationToken) {
        let mut settings = self.runtime.watch();
        let mut last = Instant::now();
        loop {
            let period = settings.borrow_and_update().sweep;
            let due = async {
                if period.is_zero() { pending().await } else { sleep_until(last + period).await }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Ok(()) = settings.changed() => {}
                () = due => {
                    if owned.has(0) {
                        // A sweep that is stopped is continued by the next one.
                        let swept = stop.run_until_cancelled(Box::pin(self.sweep_all())).await;
                        if let Some(Err(error)) = swept {
                            tracing::warn!(%error, "a sweep was interrupted");
                        }
                    }
                    last = Instant::now();
                }
            }
        }
    }

    /// Compares the lists of all providers with the journal; returns the providers compared. A list
    /// that is being compared already, here or on another node, is skipped.
    ///
    /// # Errors
    /// The store's; the next sweep continues.
    pub async fn sweep_all(&self) -> Result<Vec<&str>, store::Error> {
        let mut swept = Vec::new();
        for (name, provider) in self.payments.all() {
            let sweep = self.sweep(provider.as_ref());
            let lock = format!("sweep:{name}");
            match self.cache.unless_taken(&lock, SWEEP_LOCK, sweep).await {
                Some(done) => {
                    done?;
                    swept.push(name);
                }
                None => tracing::debug!(
                    provider = name,
                    "a sweep of this provider is already in \
                                                          progress"
                ),
            }
        }
        Ok(swept)
    }

    /// Compares a provider's list with the journal: repairs differences if possible, and else
    /// raises an alert. Payments whose orders are finished and agree are not read again. Orders whose
    /// rows agree with the list are not woken; of the others, so many a second as the settings say.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep(&self, provider: &dyn Provider) -> Result<(), store::Error> {
        let name = provider.account().to_string();
        let setting = format!("sweep_after_{name}");
        let mut after = self.store.setting(&setting).await?.filter(|after| !after.is_empty());
        let mut agreed = true;
        loop {
            let before = self.store.shards().await?;
            let page = match provider.list(after.as_deref(), PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, provider = name, "a sweep was interrupted");
                    if !error.retryable() {
                        // The provider does not know our cursor: the next sweep begins at the start
                        // of its list.
                        self.store.put_setting(&setting, "").await?;
                    }
                    return Ok(());
                }
            };
            let settled = self.settled(&name, &before, &page.payments).await?;
            for payment in &page.payments {
                if !settled.contains(&*payment.id) {
                    agreed = self.compare(provider, payment).await && agreed;
                    self.rest().await;
                }
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

    /// Pauses after an order was woken.
    async fn rest(&self) {
        let most = self.runtime.current().sweep_orders;
        if most > 0 {
            tokio::time::sleep(Duration::from_secs(1) / most).await;
        }
    }

    /// Compares one payment with its order; `true` if both are finished and agree.
    async fn compare(&self, provider: &dyn Provider, payment: &Payment) -> bool {
        let Some((order, 'p', number)) = parse_reference(&payment.reference) else {
            return true;
        };
        let (account, currency) = (provider.account().to_string(), payment.amount.currency);
        let name = &account;
        let see = async || {
            let account = account.clone();
            let read =
                move |view: View<'_, Order>| SweptOrder::of(view.state, &account, currency, number);
            self.orders.read(&order, read).await
        };
        let Ok(seen) = see().await else {
            return false;
        };
        if !seen.exists {
            return self.park_orphan(provider, payment).await;
        }
        let told = |command| Command::FromProvider {
            provider: name.clone(),
            currency,
            attempt: number,
            command: Box::new(command),
        };
        if seen.open {
            if let Some(report) = report_of(payment) {
                let command = told(Command::Report { attempt: number, report });
                let _ = tell_order(&self.orders, &order, command, name).await;
            }
            return false;
        }
        for operation in &payment.operations {
            if let Some(command) = record_of(&order, operation) {
                let _ = tell_order(&self.orders, &order, told(command), name).await;
            }
        }
        if payment.voided && seen.live {
            let command = Command::Report { attempt: number, report: ProviderReport::Voided };
            let _ = tell_order(&self.orders, &order, told(command), name).await;
        }
        let Ok(seen) = see().await else {
            return false;
        };
        if seen.fits(payment) || !seen.is_finished {
            return seen.fits(payment) && seen.is_finished;
        }
        // The order may have changed since the list was read: the payment is read again, and only a
        // remaining difference counts.
        let Ok(Some(payment)) = provider.find(&payment.reference).await else {
            return false;
        };
        if see().await.is_ok_and(|again| again == seen) && !seen.fits(&payment) {
            self.disagree(provider, &payment, (&order, number), &seen).await;
        }
        false
    }

    /// Reports a payment whose order is not in the journal. It is not refunded, because the journal
    /// may be an old one that was restored or copied. It is parked once, as a webhook, for an
    /// operator. `true` once that is durable, or if the payment holds no money; `false` while the
    /// payment is pending.
    async fn park_orphan(&self, provider: &dyn Provider, payment: &Payment) -> bool {
        if payment.status == AuthorizationStatus::Pending {
            return false;
        }
        let Some(reason) = lost(payment) else {
            return true;
        };
        let parked = Parked {
            provider: provider.account().to_string(),
            notice_id: format!("{SWEPT}{}", payment.id),
            received_at: self.clock.now(),
            body: payment.reference.clone(),
            reason,
            next_try_at: NEVER,
        };
        match self.store.park_webhook(&parked).await {
            Ok(true) => {
                let (payment, reason) = (&payment.id, &parked.reason);
                tracing::error!(payment, reason, "the provider has a payment without an order");
                true
            }
            Ok(false) => true,
            Err(error) => {
                tracing::error!(%error, "cannot record a payment without an order");
                false
            }
        }
    }

    /// Returns the money of an attempt that its order has given up, and raises an alert for any
    /// other difference.
    async fn disagree(
        &self,
        provider: &dyn Provider,
        payment: &Payment,
        (order, number): (&EntityId, u32),
        seen: &SweptOrder,
    ) {
        if seen.given_up && seen.captured == 0 {
            tracing::warn!(%order, payment = payment.id, "returning money of an attempt that its \
                                                          order gave up");
            let _ = provider.reverse(&payment.reference).await;
            return;
        }
        let alert = if seen.known {
            format!(
                "the provider has {} captured and {} refunded, the journal {} and {}",
                payment.captured, payment.refunded, seen.captured, seen.refunded
            )
        } else {
            let (name, amount) = (provider.account(), payment.amount);
            format!("{name} has a payment attempt {number} of {amount}, the journal none there")
        };
        tracing::error!(%order, alert, "the ledgers differ");
        let cause = Cause { by: "sweep".into(), ..Cause::default() };
        let told = self.orders.carry_out(order, Command::RaiseAlert { alert }, cause).await;
        if let Err(error) = told {
            tracing::warn!(%order, %error, "cannot raise an alert; the next sweep will raise it");
        }
    }

    /// Retries a notice that the sweep has parked, because a payment's order was not in the
    /// journal: compares the payment with its order again.
    pub(super) async fn look_again(
        &self,
        provider: &dyn Provider,
        reference: &str,
    ) -> Result<(), NotApplied> {
        let found = provider.find(reference).await;
        let Some(payment) = found.map_err(|error| NotApplied::Later(error.to_string()))? else {
            return Ok(());
        };
        let Some((order, ..)) = parse_reference(&payment.reference) else {
            return Ok(());
        };
        let exists = self.orders.read(&order, |view| view.state.placed().is_some()).await;
        if exists.map_err(|error| NotApplied::Later(error.to_string()))? {
            self.compare(provider, &payment).await;
            return Ok(());
        }
        lost(&payment).map_or(Ok(()), |why| Err(NotApplied::Unmatched(why)))
    }
}

/// Sends a command to an order; `false` if there is no such order.
///
/// # Errors
/// Why the order rejects the command, for example because the attempt was not made with this
/// account; or why it cannot take it now.
pub(super) async fn tell_order(
    orders: &Host<Order>,
    order: &EntityId,
    command: Command,
    provider: &str,
) -> Result<bool, NotApplied> {
    let cause = Cause { by: format!("provider:{provider}"), ..Cause::default() };
    match orders.carry_out(order, command, cause).await {
        Ok(()) => Ok(true),
        Err(host::Error::Rejected(Rejection::NotFound)) => Ok(false),
        Err(host::Error::Rejected(why)) => Err(NotApplied::Unmatched(why.to_string())),
        Err(error) => Err(NotApplied::Later(error.to_string())),
    }
}

/// The data of an order that the sweep compares.
#[derive(PartialEq, Eq)]
struct SweptOrder {
    /// The order exists.
    exists: bool,
    /// The order has the payment's attempt, with the same account and currency.
    known: bool,
    /// The attempt has ended, and does not pay the order.
    given_up: bool,
    /// The attempt's outcome is unknown, and the order still waits for it.
    open: bool,
    /// The attempt has authorized or captured money.
    live: bool,
    captured: i64,
    refunded: i64,
    /// No step of the order is unfinished.
    is_finished: bool,
}

impl SweptOrder {
    /// Whether a payment agrees with the order.
    fn fits(&self, payment: &Payment) -> bool {
        self.captured == payment.captured
            && self.refunded == payment.refunded
            && (self.live || !is_live(payment) || payment.captured > 0)
    }

    fn of(order: &Order, account: &str, currency: Currency, number: u32) -> Self {
        let made = |attempt: &&Attempt| attempt.number == number && attempt.provider == account;
        let placed = order.placed().filter(|placed| placed.currency == currency);
        let attempt = placed.and_then(|_| order.attempts().iter().find(made));
        let live = attempt.is_some_and(|attempt| attempt.authorized() > 0);
        let paying = order.paying_attempt().map(|attempt| attempt.number);
        let moved = attempt.is_some() && paying == Some(number);
        Self {
            exists: order.placed().is_some(),
            known: attempt.is_some(),
            given_up: attempt.is_some_and(|attempt| !attempt.open() && !live),
            open: attempt.is_some_and(Attempt::open),
            live,
            captured: if moved { order.captured() } else { 0 },
            refunded: if moved { order.refunded() } else { 0 },
            is_finished: order.effects().is_empty()
                && matches!(
                    order.phase(),
                    Phase::Absent | Phase::Confirmed | Phase::Cancelled | Phase::AwaitingPayment
                ),
        }
    }
}

/// Whether a payment has authorized or captured money.
pub(super) fn is_live(payment: &Payment) -> bool {
    payment.status == AuthorizationStatus::Authorized && !payment.voided
}

/// Describes a payment without an order; `None` if all of its money was returned.
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
