//! The interface of payment providers, the meaning of their failures, and the circuit breaker.
//!
//! Not here: a provider's wire format, retries, and the steps of an order. A call that fails may
//! have been carried out; only [`Error::Unavailable`] and [`Error::Rejected`] say that it was not.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use garde::Validate;
use recloser::{AsyncRecloser, Recloser};
use serde::{Deserialize, Serialize};

use crate::domain::limits::{holds, within};
use crate::domain::money::Money;
use crate::domain::order::BuyerAction;
use crate::domain::time::Timestamp;

/// The client of an account at a payment provider. "Our reference" is a text that kontor chooses
/// for a payment attempt or an operation. The requirements of every implementation:
///
/// 1. `authorize`, `capture`, `void` and `refund` have an idempotency key. A repeated key with the
///    same content has no further effect, and gets the same answer.
/// 2. A decline is final for its reference: another attempt needs another idempotency key and
///    reference.
/// 3. A pending answer, whether or not the buyer must act, is decided later: `find` and a webhook
///    report the outcome.
/// 4. [`Error::Rejected`] and [`Error::Unavailable`] say that nothing was done. Every other failure
///    is [`Error::Unknown`]: the outcome can be looked up by our reference.
/// 5. No more is captured than was authorized, and no more is refunded than was captured.
/// 6. After `reverse`, nothing is authorized or captured under the reference, nor ever will be.
/// 7. `find` and `list` change nothing, and their answers contain everything that earlier answers
///    reported.
/// 8. Every payment and operation is reported by webhook, at least once, in any order. The webhook
///    contains our reference. A webhook without a valid and recent signature is refused.
///
/// `tests/it/provider_contract.rs` tests an implementation against each requirement.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The provider and the account, by which a checkout selects this client.
    fn account(&self) -> ProviderAccount;

    /// Requests an authorization of an amount.
    ///
    /// # Errors
    /// [`Error`]; a decline is an answer, not an error.
    async fn authorize(&self, request: &Authorize) -> Result<Authorization, Error>;

    /// Captures an authorized amount, or a part of it.
    ///
    /// # Errors
    /// [`Error`]; `Rejected` if less is left to capture.
    async fn capture(&self, request: &Operation) -> Result<Receipt, Error>;

    /// Voids everything that is authorized and not captured; the request's amount is ignored.
    ///
    /// # Errors
    /// [`Error`]; `Rejected` when nothing is left to void.
    async fn void(&self, request: &Operation) -> Result<Receipt, Error>;

    /// Refunds a captured amount, or a part of it.
    ///
    /// # Errors
    /// [`Error`]; `Rejected` if less is left to refund.
    async fn refund(&self, request: &Operation) -> Result<Receipt, Error>;

    /// Undoes everything that was done with our reference, and blocks the reference if nothing was.
    /// Idempotent.
    ///
    /// # Errors
    /// [`Error`].
    async fn reverse(&self, reference: &str) -> Result<Reversal, Error>;

    /// Looks up the payment with our reference.
    ///
    /// # Errors
    /// [`Error`].
    async fn find(&self, reference: &str) -> Result<Option<Payment>, Error>;

    /// Lists payments in the order of their creation, after a page cursor; at most `limit`, and
    /// never more than 200.
    ///
    /// # Errors
    /// [`Error`].
    async fn list(&self, after: Option<&str>, limit: u32) -> Result<PaymentPage, Error>;

    /// Registers the URL for webhooks.
    ///
    /// # Errors
    /// [`Error`].
    async fn subscribe(&self, webhook_url: &str) -> Result<(), Error>;

    /// Verifies that a webhook was sent by the provider and is recent, and parses it. Where the
    /// signature is found depends on the provider.
    ///
    /// # Errors
    /// [`WebhookError`]; the request must not be trusted.
    fn read_webhook(
        &self,
        request: &WebhookRequest<'_>,
        now: Timestamp,
    ) -> Result<PaymentNotice, WebhookError>;

    /// Parses the body of a webhook that was verified and stored before; returns the same notice as
    /// [`Provider::read_webhook`].
    ///
    /// # Errors
    /// [`WebhookError::Malformed`].
    fn reread_webhook(&self, body: &[u8]) -> Result<PaymentNotice, WebhookError>;
}

/// A webhook's whole HTTP request, because providers sign different parts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, as it was sent.
    pub path: &'a str,
    /// The query string, as it was sent; empty without one.
    pub query: &'a str,
    /// Names and values in the order of the request; a name may occur more than once.
    pub headers: Vec<(&'a str, &'a [u8])>,
    /// The body, byte for byte.
    pub body: &'a [u8],
}

impl<'a> WebhookRequest<'a> {
    /// The value of the first header with this name, in upper or lower case; `None` if it is not
    /// UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let found = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// An account at a provider. Its text, such as `sandbox` or `sandbox/eu`, is stored in orders, and
/// is part of the path of webhooks (with `%2F` for the `/`) and of the name of the setting that
/// switches the account on and off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderAccount {
    /// The provider's name.
    pub provider: &'static str,
    /// The account.
    pub account: AccountId,
}

impl fmt::Display for ProviderAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.account == AccountId::default() {
            return f.write_str(self.provider);
        }
        write!(f, "{}/{}", self.provider, self.account.0)
    }
}

/// The shop's name for an account at a provider: 1 to 32 lowercase letters, digits and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountId(String);

/// A text that is not an account id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an account id has 1 to 32 lowercase letters, digits and hyphens")]
pub struct InvalidAccountId;

impl Default for AccountId {
    /// The account of a shop that has only one account at this provider; it is left out of the text
    /// of [`ProviderAccount`].
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for AccountId {
    type Err = InvalidAccountId;

    fn from_str(text: &str) -> Result<Self, InvalidAccountId> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(fits) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidAccountId)
    }
}

/// A request for an authorization.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorize {
    /// Our reference, unique for each payment attempt.
    pub reference: String,
    /// The idempotency key.
    pub key: String,
    /// The requested amount.
    pub amount: Money,
    /// The provider's token for the card, from the buyer's browser; a secret.
    pub token: String,
}

impl fmt::Debug for Authorize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorize")
            .field("reference", &self.reference)
            .field("key", &self.key)
            .field("amount", &self.amount)
            .finish_non_exhaustive()
    }
}

/// A request to capture, void or refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The provider's id of the payment.
    pub payment: String,
    /// Our reference for this operation.
    pub reference: String,
    /// The idempotency key.
    pub key: String,
    /// The amount.
    pub amount: Money,
}

/// The outcome of a request for an authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// The money is authorized.
    Authorized {
        /// The provider's id of the payment.
        payment: String,
        /// The authorized amount, which the caller compares with the requested one.
        amount: Money,
    },
    /// The request is declined, finally: another attempt needs another idempotency key and
    /// reference.
    Declined {
        /// The provider's id of the payment, if it has one.
        payment: Option<String>,
        /// The provider's code of the decline.
        code: String,
    },
    /// Not decided yet: a webhook or [`Provider::find`] will report the outcome.
    Pending {
        /// The provider's id of the payment.
        payment: String,
    },
    /// Pending until the buyer has taken an action. A repeated call with the same idempotency
    /// key returns the same action.
    ActionRequired {
        /// The provider's id of the payment.
        payment: String,
        /// The buyer's action.
        action: BuyerAction,
        /// The deadline, after which the provider declines.
        expires_at: Timestamp,
    },
}

/// The receipt of a capture, void or refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The provider's id of the operation.
    pub operation: String,
    /// The provider's id of the payment.
    pub payment: String,
    /// The amount moved.
    pub amount: Money,
}

/// The outcome of [`Provider::reverse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reversal {
    /// There was a payment; none of its money is authorized or captured any more.
    Reversed {
        /// The payment's current state.
        payment: Payment,
    },
    /// There was no payment, and there will never be one with this reference.
    Blocked,
}

/// The status of a payment's authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorizationStatus {
    /// Not decided.
    Pending,
    /// Granted; the payment's `captured`, `refunded` and `voided` say what followed.
    Authorized,
    /// Declined.
    Declined,
}

/// A payment in its provider's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The provider's id.
    pub id: String,
    /// Our reference.
    pub reference: String,
    /// The status of its authorization.
    pub status: AuthorizationStatus,
    /// The authorized amount; while the payment is pending or declined, the requested one.
    pub amount: Money,
    /// Minor units captured so far.
    pub captured: i64,
    /// Minor units refunded so far.
    pub refunded: i64,
    /// Whether the uncaptured part of the authorization was voided.
    pub voided: bool,
    /// The provider's code of a decline.
    pub decline_code: Option<String>,
    /// Its operations, oldest first.
    pub operations: Vec<PaymentOperation>,
}

/// An operation on a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentOperation {
    /// The provider's id.
    pub id: String,
    /// Its kind.
    pub kind: OperationKind,
    /// Our reference.
    pub reference: String,
    /// The amount moved.
    pub amount: Money,
}

/// The kinds of operations on an authorized payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Money was captured.
    Capture,
    /// The uncaptured part of the authorization was voided.
    Void,
    /// Money was refunded.
    Refund,
}

/// A page of payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentPage {
    /// The payments, in the order of their creation.
    pub payments: Vec<Payment>,
    /// The cursor of the next page; `None` on the last page.
    pub next: Option<String>,
}

/// The content of a webhook. Webhooks may arrive twice, late and out of order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentNotice {
    /// The provider's id of the event; the same when it is sent again.
    pub id: String,
    /// Its kind.
    pub kind: NoticeKind,
    /// The payment after the event.
    pub payment: Payment,
    /// The operation that the webhook reports, if any.
    pub operation: Option<PaymentOperation>,
}

/// The kinds of webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// The payment was authorized.
    Authorized,
    /// The payment was declined.
    Declined,
    /// An amount was captured.
    Captured,
    /// The uncaptured part of the authorization was voided.
    Voided,
    /// An amount was refunded.
    Refunded,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The call was certainly not executed: the circuit breaker is open, no connection could be
    /// made, or the provider asked to slow down.
    #[error("the payment provider cannot be reached")]
    Unavailable,
    /// The call may have been executed: it timed out, the connection broke, or the provider failed
    /// or sent an invalid answer.
    #[error("the payment provider's answer is unknown: {0}")]
    Unknown(String),
    /// The provider has rejected the call, finally and without executing it.
    #[error("the payment provider rejected the call: {code}: {message}")]
    Rejected {
        /// The provider's code.
        code: String,
        /// The provider's message.
        message: String,
    },
}

impl Error {
    /// Whether the same call with the same idempotency key may succeed later.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Unavailable | Self::Unknown(_) => true,
            Self::Rejected { .. } => false,
        }
    }
}

/// Why a webhook is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// It has no signature.
    #[error("the webhook has no signature")]
    Missing,
    /// Its signature does not match our secret and this body.
    #[error("the webhook's signature is forged")]
    Forged,
    /// The time in its signature is more than 5 minutes before or after the current time.
    #[error("the webhook's signature has expired")]
    Expired,
    /// The header of its signature, or its body, is malformed.
    #[error("the webhook is malformed: {0}")]
    Malformed(String),
}

/// When the circuit breaker stops calls to a failing provider.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerOptions {
    /// The number of latest calls whose failures are counted, 1 to 10,000. The breaker opens only
    /// after at least this many calls.
    #[garde(custom(within(1..=10_000)))]
    pub calls: u32,
    /// The share of failures among these calls that opens the breaker; above 0, at most 1.
    #[garde(custom(share))]
    pub failure_rate: f32,
    /// The number of calls that are let through while the breaker is half open, 1 to 10,000; their
    /// outcomes decide whether it closes or opens again.
    #[garde(custom(within(1..=10_000)))]
    pub probes: u32,
    /// How long the breaker stays open, in milliseconds.
    #[garde(custom(within(1..=3_600_000)))]
    pub wait_ms: u64,
}

fn share(rate: &f32, (): &()) -> garde::Result {
    holds(*rate > 0.0 && *rate <= 1.0, || "must be above 0 and at most 1")
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self { calls: 20, failure_rate: 0.5, probes: 4, wait_ms: 5000 }
    }
}

/// The circuit breaker: while a provider fails, calls are not sent, so that they fail at once and
/// have certainly not been executed.
///
/// It is used only for calls that move money. Lookups bypass it: they settle unknown outcomes while
/// the breaker is open, and their successes must not hide that payments fail.
#[derive(Debug)]
pub struct Breaker(AsyncRecloser);

impl Breaker {
    /// Creates a closed breaker.
    #[must_use]
    pub fn new(options: BreakerOptions) -> Self {
        let length = |calls: u32| usize::try_from(calls.clamp(1, 10_000)).unwrap_or(1);
        let recloser = Recloser::custom()
            .error_rate(options.failure_rate)
            .closed_len(length(options.calls))
            .half_open_len(length(options.probes))
            .open_wait(Duration::from_millis(options.wait_ms))
            .build();
        Self(AsyncRecloser::from(recloser))
    }

    /// Makes a call, unless the breaker is open. A call whose future is dropped is not counted.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the breaker is open; otherwise the error of the call.
    pub async fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match self.0.call_with(Error::retryable, call).await {
            Ok(answer) => Ok(answer),
            Err(recloser::Error::Inner(error)) => Err(error),
            Err(recloser::Error::Rejected) => Err(Error::Unavailable),
        }
    }
}
