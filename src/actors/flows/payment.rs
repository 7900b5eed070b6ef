//! The payment steps of an order: calls to its provider, whose answers are reported to the order.
//!
//! A call without an answer may have been carried out. So it is repeated with the same idempotency
//! key; then the provider is asked for the payment with our reference; then the attempt is
//! reversed. No second attempt is made while the first one's outcome is unknown. Webhooks are in
//! `webhook`, the providers' lists in `reconciliation`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::actors::engine::backoff::Backoff;
use crate::actors::engine::clock::Clock;
use crate::actors::engine::host::{Teller, View};
use crate::actors::engine::runtime::SWEEP_MAX_SECS;
use crate::domain::entity::{EntityId, Noun as _};
use crate::domain::limits::{web_address, within};
use crate::domain::money::Money;
use crate::domain::order::{Command, Order, ProviderReport, RequiredAction, attempt_reference};
use crate::domain::sealed::Sealed;
use crate::providers::checked::CheckedProvider;
use crate::providers::payment::{
    Authorization, AuthorizationStatus, Authorize, Error, Operation, OperationKind, Payment,
    PaymentOperation, Provider, Receipt,
};
use crate::seeded_fault::{self, SeededFault};
use crate::store::Tables;
use crate::store::personal::PersonalField;

/// Options of payments: the retries of calls to providers, the sweep, and the address for webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The pause before the first retry of a call, in milliseconds; each next one is longer.
    #[garde(custom(within(1..=60_000)))]
    pub retry_after_ms: u64,
    /// Calls without an answer after which the provider is asked for the outcome.
    #[garde(custom(within(1..=1_000)))]
    pub ask_after: u32,
    /// Calls without an answer after which a step is stuck and an operator sees it. Calls that
    /// certainly had no effect (no connection was made, or the provider asked to slow down) are not
    /// counted, and are retried without limit.
    #[garde(custom(within(1..=100_000)))]
    pub stuck_after: u32,
    /// Period of the sweep, which compares the provider's list with the journal, in seconds; 0
    /// turns it off.
    #[garde(custom(within(0..=SWEEP_MAX_SECS)))]
    pub sweep_secs: u64,
    /// The address to which providers send their webhooks; if empty, the address on which this
    /// server listens.
    #[garde(custom(web_address))]
    pub webhook_url: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retry_after_ms: 200,
            ask_after: 2,
            stuck_after: 10,
            webhook_url: String::new(),
            sweep_secs: 180,
        }
    }
}

/// The shop's accounts at payment providers, by the name of the account.
#[derive(Clone, Default)]
pub struct Payments {
    providers: BTreeMap<String, Arc<dyn Provider>>,
    options: Options,
}

impl Payments {
    /// Creates it from the clients of the accounts, and options for the calls to them.
    #[must_use]
    pub fn new(providers: Vec<Arc<dyn Provider>>, options: Options) -> Self {
        let checked = |one: Arc<dyn Provider>| -> (String, Arc<dyn Provider>) {
            (one.account().to_string(), Arc::new(CheckedProvider(one)))
        };
        let providers = providers.into_iter().map(checked).collect();
        Self { providers, options }
    }

    /// Whether there is an account of this name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.providers.contains_key(name)
    }

    /// All accounts with their names.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Arc<dyn Provider>)> {
        self.providers.iter().map(|(name, provider)| (name.as_str(), provider))
    }

    pub(in crate::actors) fn get(&self, name: &str) -> Option<&Arc<dyn Provider>> {
        self.providers.get(name)
    }

    fn backoff(&self, clock: &Clock) -> Backoff {
        Backoff::new(Duration::from_millis(self.options.retry_after_ms), clock)
    }
}

/// Parses our reference for an operation at the provider into the order, the letter of the
/// operation's kind (`p` attempt, `c` capture, `v` void, `r` refund), and the number of the
/// attempt, capture or refund.
#[must_use]
pub fn parse_reference(reference: &str) -> Option<(EntityId, char, u32)> {
    let (order, rest) = reference.rsplit_once('-')?;
    let kind = rest.chars().next()?;
    let number = rest.get(kind.len_utf8()..)?.parse().ok()?;
    order.starts_with("ord_").then(|| (EntityId::new(order), kind, number))
}

/// The command that records a capture or refund of the provider in its order; `None` for another
/// operation. An operation whose reference is not ours, or of another order, was made elsewhere.
#[must_use]
pub fn record_of(order: &EntityId, operation: &PaymentOperation) -> Option<Command> {
    let ours = |kind: char| {
        let (of, found, number) = parse_reference(&operation.reference)?;
        (found == kind && of == *order).then_some(number)
    };
    let (amount, id) = (operation.amount.amount, operation.id.clone());
    match operation.kind {
        OperationKind::Capture => {
            Some(Command::Captured { capture: ours('c'), amount, operation: id })
        }
        OperationKind::Refund => {
            Some(Command::Refunded { refund: ours('r'), amount, operation: id })
        }
        OperationKind::Void => None,
    }
}

/// Makes the report on an attempt from the provider's record of its payment; `None` while the
/// payment is pending.
#[must_use]
pub fn report_of(payment: &Payment) -> Option<ProviderReport> {
    match payment.status {
        AuthorizationStatus::Pending => None,
        AuthorizationStatus::Declined => Some(ProviderReport::Declined {
            code: payment.decline_code.clone().unwrap_or_else(|| "declined".into()),
        }),
        AuthorizationStatus::Authorized if payment.voided && payment.captured == 0 => {
            Some(ProviderReport::Voided)
        }
        AuthorizationStatus::Authorized => Some(ProviderReport::Authorized {
            payment: payment.id.clone(),
            amount: payment.amount.amount,
        }),
    }
}

/// Whether a provider speaks of another currency than it was asked for. Such money is never
/// counted. (Another amount of the same currency is the order's matter.)
fn is_foreign(amount: Money, asked: Money) -> bool {
    amount.currency != asked.currency && !seeded_fault::active(SeededFault::ForeignMoneyBelieved)
}

/// One operation on an authorized payment.
struct ProviderOperation<'a> {
    step: String,
    payment: &'a str,
    reference: String,
    amount: Money,
    kind: OperationKind,
}

/// Performs the steps of an order that move money.
pub struct PaymentSteps {
    pub(super) payments: Payments,
    pub(super) clock: Clock,
    pub(super) store: Arc<dyn Tables>,
}

impl PaymentSteps {
    /// Authorizes the money.
    pub(super) async fn authorize(
        &self,
        order: &EntityId,
        attempt: u32,
        (provider, token, amount): (String, Option<Sealed<String>>, Money),
        teller: &Teller<Order>,
    ) {
        let step = format!("authorize:{attempt}");
        let Some(provider) = self.payments.get(&provider) else {
            return no_provider(step, &provider, teller);
        };
        let reference = attempt_reference(order, attempt);
        let (key, token) = (reference.clone(), self.open_token(token.as_ref()).await);
        let request = Authorize { reference, key, amount, token };
        self.ask_for_money(&step, attempt, (provider, &request), teller).await;
    }

    /// Opens a payment token; an empty one if its key is destroyed, as it is two days after the buyer
    /// has sent the token.
    async fn open_token(&self, token: Option<&Sealed<String>>) -> String {
        let Some(token) = token else { return String::new() };
        let mut backoff = self.payments.backoff(&self.clock);
        loop {
            match self.store.personal_keys(&[token.key()].into()).await {
                Ok(keys) => {
                    return keys.open(PersonalField::PaymentToken, token).unwrap_or_default();
                }
                Err(error) => tracing::warn!(%error, "the key of a payment token cannot be read"),
            }
            backoff.pause().await;
        }
    }

    /// Compensates [`PaymentSteps::authorize`] if its outcome is unknown. The step becomes stuck if
    /// the provider rejects the reversal, or has not answered `stuck_after` calls.
    pub(super) async fn reverse(
        &self,
        order: &EntityId,
        attempt: u32,
        provider: &str,
        teller: &Teller<Order>,
    ) {
        let step = format!("reverse:{attempt}");
        let Some(provider) = self.payments.get(provider) else {
            return no_provider(step, provider, teller);
        };
        let reference = attempt_reference(order, attempt);
        let (mut backoff, mut unanswered) = (self.payments.backoff(&self.clock), 0);
        loop {
            let error = match provider.reverse(&reference).await {
                Ok(_) => {
                    return teller
                        .tell(Command::Report { attempt, report: ProviderReport::Reversed });
                }
                Err(error) => error,
            };
            if self.is_stuck(&error, &mut unanswered) {
                return teller.tell(Command::GiveUp { step, why: error.to_string() });
            }
            backoff.pause().await;
        }
    }

    /// Compensates [`PaymentSteps::authorize`] if it succeeded: voids the authorization.
    pub(super) async fn void(
        &self,
        order: &EntityId,
        attempt: u32,
        (provider, payment, amount): (&str, &str, Money),
        teller: &Teller<Order>,
    ) {
        let (step, reference) = (format!("void:{attempt}"), format!("{order}-v{attempt}"));
        let operation =
            ProviderOperation { step, payment, reference, amount, kind: OperationKind::Void };
        let done = |_| Command::Report { attempt, report: ProviderReport::Voided };
        self.operate(provider, &operation, teller, done).await;
    }

    /// Captures money.
    pub(super) async fn capture(
        &self,
        order: &EntityId,
        capture: u32,
        (provider, payment, amount): (&str, &str, Money),
        teller: &Teller<Order>,
    ) {
        let (step, reference) = (format!("capture:{capture}"), format!("{order}-c{capture}"));
        let operation =
            ProviderOperation { step, payment, reference, amount, kind: OperationKind::Capture };
        let done = |receipt: Receipt| Command::Captured {
            capture: Some(capture),
            amount: receipt.amount.amount,
            operation: receipt.operation,
        };
        self.operate(provider, &operation, teller, done).await;
    }

    /// Compensates [`PaymentSteps::capture`], or a part of it: refunds money.
    pub(super) async fn refund(
        &self,
        order: &EntityId,
        refund: u32,
        (provider, payment, amount): (&str, &str, Money),
        teller: &Teller<Order>,
    ) {
        let (step, reference) = (format!("refund:{refund}"), format!("{order}-r{refund}"));
        let operation =
            ProviderOperation { step, payment, reference, amount, kind: OperationKind::Refund };
        let done = |receipt: Receipt| Command::Refunded {
            refund: Some(refund),
            amount: receipt.amount.amount,
            operation: receipt.operation,
        };
        self.operate(provider, &operation, teller, done).await;
    }

    /// Asks for the authorization until its outcome is known.
    async fn ask_for_money(
        &self,
        step: &str,
        attempt: u32,
        (provider, request): (&Arc<dyn Provider>, &Authorize),
        teller: &Teller<Order>,
    ) {
        let mut backoff = self.payments.backoff(&self.clock);
        let (mut unanswered, mut may_have_happened) = (0, false);
        let report = |report| teller.tell(Command::Report { attempt, report });
        loop {
            match provider.authorize(request).await {
                Ok(Authorization::Authorized { payment, amount })
                    if is_foreign(amount, request.amount) =>
                {
                    tracing::error!(payment, %amount, asked = %request.amount, "the provider \
                                    authorized another currency: it is reversed");
                    return report(ProviderReport::Unheard);
                }
                Ok(Authorization::Authorized { payment, amount }) => {
                    return report(ProviderReport::Authorized { payment, amount: amount.amount });
                }
                Ok(Authorization::Declined { code, .. }) => {
                    return report(ProviderReport::Declined { code });
                }
                Ok(Authorization::Pending { payment }) => {
                    report(ProviderReport::Pending { payment, action: None });
                    unanswered = self.payments.options.ask_after;
                    may_have_happened = true;
                }
                Ok(Authorization::ActionRequired { payment, action, expires_at }) => {
                    let action = Some(RequiredAction { action, expires_at });
                    report(ProviderReport::Pending { payment, action });
                    unanswered = self.payments.options.ask_after;
                    may_have_happened = true;
                }
                Err(Error::Rejected { code, .. }) if code == "reference_blocked" => {
                    return report(ProviderReport::Reversed);
                }
                Err(Error::Rejected { code, .. }) if !may_have_happened => {
                    return report(ProviderReport::Declined { code });
                }
                // A rejection of a repeated call says nothing about the first call.
                Err(Error::Rejected { .. }) => unanswered = self.payments.options.ask_after,
                Err(error @ (Error::Unavailable | Error::Unknown(_))) => {
                    if matches!(error, Error::Unknown(_)) {
                        unanswered += 1;
                        may_have_happened = true;
                    }
                    if may_have_happened
                        && seeded_fault::active(SeededFault::TimeoutTakenForDecline)
                    {
                        return report(ProviderReport::Declined { code: "timeout".into() });
                    }
                    report(ProviderReport::Unknown { why: error.to_string() });
                }
            }
            if unanswered >= self.payments.options.ask_after
                && let Some(known) = self.find_out(step, (provider, request), teller).await
            {
                return report(known);
            }
            backoff.pause().await;
            if !still_wanted(step, teller).await {
                return;
            }
        }
    }

    /// Asks the provider for the outcome of an attempt; `None` if it is not known yet. If the
    /// provider does not know the attempt, the answer is `Unheard`, and nothing is reversed here:
    /// the order gives up the attempt, and its next step reverses it. Until then a webhook may
    /// still report the authorization.
    async fn find_out(
        &self,
        step: &str,
        (provider, request): (&Arc<dyn Provider>, &Authorize),
        teller: &Teller<Order>,
    ) -> Option<ProviderReport> {
        let mut backoff = self.payments.backoff(&self.clock);
        loop {
            match provider.find(&request.reference).await {
                Ok(Some(payment)) => {
                    if is_foreign(payment.amount, request.amount) {
                        return Some(ProviderReport::Unheard);
                    }
                    if let Some(report) = report_of(&payment) {
                        return Some(report);
                    }
                }
                Ok(None) if seeded_fault::active(SeededFault::LateCallNotBlocked) => {
                    return Some(ProviderReport::Reversed);
                }
                Ok(None) if seeded_fault::active(SeededFault::ReversedUndecided) => {
                    let reversed = provider.reverse(&request.reference).await;
                    return reversed.ok().map(|_| ProviderReport::Reversed);
                }
                Ok(None) => return Some(ProviderReport::Unheard),
                Err(_) => return None,
            }
            backoff.pause().await;
            if !still_wanted(step, teller).await {
                return None;
            }
        }
    }

    /// Performs an operation on an authorized payment until it is done or impossible.
    async fn operate(
        &self,
        provider: &str,
        operation: &ProviderOperation<'_>,
        teller: &Teller<Order>,
        done: impl Fn(Receipt) -> Command,
    ) {
        let Some(provider) = self.payments.get(provider) else {
            return no_provider(operation.step.clone(), provider, teller);
        };
        let mut request = Operation {
            payment: operation.payment.to_owned(),
            reference: operation.reference.clone(),
            key: operation.reference.clone(),
            amount: operation.amount,
        };
        let (mut backoff, mut unanswered) = (self.payments.backoff(&self.clock), 0);
        loop {
            if seeded_fault::active(SeededFault::NewKeyAtEachCall) {
                request.key = format!("{}-{}", operation.reference, self.clock.jitter());
            }
            let outcome = match operation.kind {
                OperationKind::Capture => provider.capture(&request).await,
                OperationKind::Void => provider.void(&request).await,
                OperationKind::Refund => provider.refund(&request).await,
            };
            let error = match outcome {
                Ok(receipt) if is_foreign(receipt.amount, request.amount) => {
                    Error::Unknown(format!("it moved {}", receipt.amount))
                }
                Ok(receipt) => return teller.tell(done(receipt)),
                Err(error) => error,
            };
            if self.is_stuck(&error, &mut unanswered) {
                let (step, why) = (operation.step.clone(), error.to_string());
                return teller.tell(Command::GiveUp { step, why });
            }
            backoff.pause().await;
        }
    }

    /// Whether the step is stuck: the provider rejected the call, or left too many calls
    /// unanswered. While the provider is unavailable, the call is retried without limit.
    fn is_stuck(&self, error: &Error, unanswered: &mut u32) -> bool {
        match error {
            Error::Unavailable => false,
            Error::Rejected { .. } => true,
            Error::Unknown(_) => {
                *unanswered += 1;
                *unanswered >= self.payments.options.stuck_after
            }
        }
    }
}

/// Whether the order still requires a step; it does not once a webhook or an operator has settled
/// it.
async fn still_wanted(step: &str, teller: &Teller<Order>) -> bool {
    let step = step.to_owned();
    let wanted = move |view: View<'_, Order>| {
        view.state.effects().iter().any(|effect| effect.step() == step)
    };
    teller.read(wanted).await.unwrap_or(true)
}

fn no_provider(step: String, provider: &str, teller: &Teller<Order>) {
    let why = format!("the payment provider {provider} is not configured");
    teller.tell(Command::GiveUp { step, why });
}
