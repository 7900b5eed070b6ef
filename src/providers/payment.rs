//! What kontor asks of a payment provider, the meaning of its failures, and the breaker.
//!
//! Not here: any provider's wire format, retries and the steps of a checkout. A provider that
//! did not answer clearly has *perhaps* acted; only [`Error::Unavailable`] and
//! [`Error::Rejected`] say that it did not.

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

/// A payment provider, by one account there. What each implementation must keep:
///
/// 1. A call that changes something carries a key. The same key and content again do nothing
///    again, and come to the same answer.
/// 2. A decline is final for its reference: another attempt has another key and reference.
/// 3. What is answered as pending, whether or not the buyer must act, is decided later: `find`
///    and a webhook tell how.
/// 4. [`Error::Rejected`] and [`Error::Unavailable`] say that nothing was done. Whatever else
///    goes wrong is [`Error::Unknown`]: the outcome can be asked for by our reference.
/// 5. No more is captured than was authorized, and no more refunded than was captured.
/// 6. After `reverse` nothing is held or captured under a reference, nor ever will be.
/// 7. `find` and `list` change nothing, and know all that was answered before.
/// 8. Every payment and operation is told by webhook, at least once, in any order. A notice names
///    our reference. What does not prove to be the provider's, whole and fresh, is not believed.
///
/// `tests/it/provider_contract.rs` asks each of these of a client.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Which provider this is, and by which account: what a checkout chooses it by.
    fn account(&self) -> ProviderAccount;

    /// Asks to hold an amount of the buyer's money.
    ///
    /// # Errors
    /// [`Error`]; a decline is an answer, no error.
    async fn authorize(&self, request: &Authorize) -> Result<Authorization, Error>;

    /// Takes an amount that is authorized, or a part of it.
    ///
    /// # Errors
    /// [`Error`]; `Rejected` when more is asked for than is left.
    async fn capture(&self, request: &Operation) -> Result<Receipt, Error>;

    /// Gives up all that is authorized and not captured; the request's amount is not looked at.
    ///
    /// # Errors
    /// [`Error`]; `Rejected` when nothing is left to void.
    async fn void(&self, request: &Operation) -> Result<Receipt, Error>;

    /// Gives back an amount that was captured, or a part of it.
    ///
    /// # Errors
    /// [`Error`]; `Rejected` when more is asked for than was captured and not refunded.
    async fn refund(&self, request: &Operation) -> Result<Receipt, Error>;

    /// Undoes whatever was done under our reference, and blocks the reference if that is nothing
    /// so far. Safe to repeat.
    ///
    /// # Errors
    /// [`Error`].
    async fn reverse(&self, reference: &str) -> Result<Reversal, Error>;

    /// The payment with our reference, if there is one.
    ///
    /// # Errors
    /// [`Error`]; nothing is changed either way.
    async fn find(&self, reference: &str) -> Result<Option<Payment>, Error>;

    /// Payments in the order of their making, after a cursor; at most `limit`, at most 200.
    ///
    /// # Errors
    /// [`Error`]; nothing is changed either way.
    async fn list(&self, after: Option<&str>, limit: u32) -> Result<PaymentPage, Error>;

    /// Tells the provider where to send webhooks.
    ///
    /// # Errors
    /// [`Error`].
    async fn subscribe(&self, webhook_url: &str) -> Result<(), Error>;

    /// Checks that a webhook is the provider's and not old, and reads it. Where in the request
    /// the proof is, only the provider knows.
    ///
    /// # Errors
    /// [`WebhookError`]; nothing of the request may be believed then.
    fn read_webhook(
        &self,
        request: &WebhookRequest<'_>,
        now: Timestamp,
    ) -> Result<PaymentNotice, WebhookError>;

    /// Reads the body of a webhook that was checked when it came, and kept since, to the same
    /// notice.
    ///
    /// # Errors
    /// [`WebhookError::Malformed`].
    fn reread_webhook(&self, body: &[u8]) -> Result<PaymentNotice, WebhookError>;
}

/// A webhook as it came, whole: providers sign different parts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookRequest<'a> {
    /// `POST` and the like.
    pub method: &'a str,
    /// The path, as it was sent.
    pub path: &'a str,
    /// What follows the `?`, as it was sent; empty without one.
    pub query: &'a str,
    /// Names and values in the order of their coming; a name may come more than once.
    pub headers: Vec<(&'a str, &'a [u8])>,
    /// The body, byte for byte.
    pub body: &'a [u8],
}

impl<'a> WebhookRequest<'a> {
    /// The first header of a name, in upper or lower case, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let found = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// One account at a provider, of perhaps several at the same. Its text, `sandbox` or
/// `sandbox/eu`, stands in orders and in the path of webhooks, and names its switch among the settings,
/// where a path has `%2F` for the `/`.
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

/// Our name for an account at a provider: 1 to 32 lowercase letters, digits and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountId(String);

/// A text that is no account's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an account id has 1 to 32 lowercase letters, digits and hyphens")]
pub struct InvalidAccountId;

impl Default for AccountId {
    /// The account of a shop that has one; it is not named.
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

/// A request to hold money.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorize {
    /// Ours, unique for each attempt to pay.
    pub reference: String,
    /// The idempotency key.
    pub key: String,
    /// What is asked for.
    pub amount: Money,
    /// What the provider gave the buyer's browser in place of a card; a secret.
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
    /// Ours, for this operation.
    pub reference: String,
    /// The idempotency key.
    pub key: String,
    /// How much of it.
    pub amount: Money,
}

/// What became of a request to hold money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// The money is held.
    Authorized {
        /// The provider's id.
        payment: String,
        /// What is held: to be compared with what was asked for.
        amount: Money,
    },
    /// It is not, for good: another attempt needs another key and reference.
    Declined {
        /// The provider's id, if it made one.
        payment: Option<String>,
        /// Why, in the provider's word.
        code: String,
    },
    /// Not decided yet: a webhook or [`Provider::find`] will tell.
    Pending {
        /// The provider's id.
        payment: String,
    },
    /// Pending until the buyer has done something. The same call with the same key answers the
    /// same action.
    ActionRequired {
        /// The provider's id.
        payment: String,
        /// What the buyer must do.
        action: BuyerAction,
        /// When it is too late: the provider then declines.
        expires_at: Timestamp,
    },
}

/// Proof of a capture, void or refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The provider's id of the operation.
    pub operation: String,
    /// The provider's id of the payment.
    pub payment: String,
    /// What was moved.
    pub amount: Money,
}

/// What [`Provider::reverse`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reversal {
    /// There was a payment; nothing of it is held or captured any more.
    Reversed {
        /// The payment as it is now.
        payment: Payment,
    },
    /// There was none, and there never will be one with this reference.
    Blocked,
}

/// The status of a payment's authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorizationStatus {
    /// Not decided.
    Pending,
    /// Granted; `captured`, `refunded` and `voided` say what came after.
    Authorized,
    /// Refused.
    Declined,
}

/// A payment as its provider sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The provider's id.
    pub id: String,
    /// Ours.
    pub reference: String,
    /// Where its authorization is.
    pub status: AuthorizationStatus,
    /// What was authorized, or asked for while it is pending or declined.
    pub amount: Money,
    /// Minor units captured so far.
    pub captured: i64,
    /// Minor units given back so far.
    pub refunded: i64,
    /// Whether the rest was given up.
    pub voided: bool,
    /// Why it was declined, in the provider's word.
    pub decline_code: Option<String>,
    /// What was done with it, oldest first.
    pub operations: Vec<PaymentOperation>,
}

/// One thing that was done with a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentOperation {
    /// The provider's id.
    pub id: String,
    /// What was done.
    pub kind: OperationKind,
    /// Ours.
    pub reference: String,
    /// How much was moved.
    pub amount: Money,
}

/// What can be done with an authorized payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Money was taken.
    Capture,
    /// The rest was given up.
    Void,
    /// Money was given back.
    Refund,
}

/// A page of a provider's payments, and where the next begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentPage {
    /// In the order of their making.
    pub payments: Vec<Payment>,
    /// The cursor of the next page; none on the last.
    pub next: Option<String>,
}

/// What a webhook says. It may come twice, late and out of order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentNotice {
    /// The provider's id of the event; the same when it is told again.
    pub id: String,
    /// What happened.
    pub kind: NoticeKind,
    /// The payment just after it.
    pub payment: Payment,
    /// The operation that it speaks of, if it speaks of one.
    pub operation: Option<PaymentOperation>,
}

/// What a webhook can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// The payment was authorized.
    Authorized,
    /// The payment was declined.
    Declined,
    /// Some of it was captured.
    Captured,
    /// The rest was given up.
    Voided,
    /// Some of it was given back.
    Refunded,
}

/// Why a call came to nothing clear, or to nothing at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Surely not executed: the breaker is open, no connection came about, or the provider
    /// asked us to slow down.
    #[error("the payment provider cannot be reached")]
    Unavailable,
    /// Perhaps executed: it timed out, broke off, failed inside or answered nonsense.
    #[error("the payment provider's answer is unknown: {0}")]
    Unknown(String),
    /// Refused for good, not executed.
    #[error("the payment provider rejected the call: {code}: {message}")]
    Rejected {
        /// The provider's code.
        code: String,
        /// The provider's words.
        message: String,
    },
}

impl Error {
    /// Whether the same call with the same key may come to something else later.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Unavailable | Self::Unknown(_) => true,
            Self::Rejected { .. } => false,
        }
    }
}

/// Why a webhook is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// It carries no signature.
    #[error("the webhook has no signature")]
    Missing,
    /// Its signature was not made with our secret over this body.
    #[error("the webhook's signature is forged")]
    Forged,
    /// It was signed more than 5 minutes from now.
    #[error("the webhook's signature has expired")]
    Expired,
    /// Signed, but not in the form that was agreed on.
    #[error("the webhook is malformed: {0}")]
    Malformed(String),
}

/// When calls to a provider that fails are no longer tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerOptions {
    /// How many of the latest calls are looked at, and must have been made before it can open;
    /// 1 to 10,000.
    #[garde(custom(within(1..=10_000)))]
    pub calls: u32,
    /// The share of failures among them, 0 to 1, that opens it.
    #[garde(custom(share))]
    pub failure_rate: f32,
    /// How many calls are looked at once it is half open; 1 to 10,000.
    #[garde(custom(within(1..=10_000)))]
    pub probes: u32,
    /// How long it stays open, in milliseconds.
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

/// Stops calls to a provider that fails, so that they fail at once and surely unexecuted.
///
/// For what moves money only. A query goes around it: it is how an unknown outcome is settled
/// while the breaker is open, and its successes must not hide that payments fail.
#[derive(Debug)]
pub struct Breaker(AsyncRecloser);

impl Breaker {
    /// A closed breaker.
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

    /// Makes a call unless it is open. A call that is dropped halfway is not counted.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it is open, else the call's own.
    pub async fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match self.0.call_with(Error::retryable, call).await {
            Ok(answer) => Ok(answer),
            Err(recloser::Error::Inner(error)) => Err(error),
            Err(recloser::Error::Rejected) => Err(Error::Unavailable),
        }
    }
}
