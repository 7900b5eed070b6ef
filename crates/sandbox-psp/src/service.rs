//! Carries out requests: decides, records the facts, queues webhooks, and answers with the
//! requested faults. Of HTTP, only status codes are used here.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use iso_currency::Currency;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::book::{self, Answered};
use super::clock::{new_id, now};
use super::fact::{
    BookedKind, BookedOperation, BookedStatus, Endpoint, Fact, Made, OperationView, PaymentView,
    Redirect, What,
};
use super::faults::{Desired, Faults, TokenOutcome, happens};
use super::in_flight::{KeysInFlight, Turn};
use super::ledger::{LedgerGuard, LedgerPosition, SandboxLedger};
use super::problem::Problem;
use super::webhooks::{PaymentNews, WebhookSender};

/// The largest amount, in minor units: the largest integer that a 64-bit float represents exactly.
pub const AMOUNT_MAX: i64 = 9_007_199_254_740_991;
/// How long a call that is never answered is kept open.
const HOLD: Duration = Duration::from_secs(120);
const SLOW: Duration = Duration::from_secs(2);
/// The time that a buyer has for an action. With `tok_action`, the sandbox assumes the action after
/// [`PENDING`].
const ACTION_LASTS: Duration = Duration::from_secs(900);
/// How long `tok_webhook_only` and `tok_action` stay pending.
const PENDING: Duration = Duration::from_millis(200);
/// Delay of the webhook of a payment whose call is never answered.
const TIMEOUT_WEBHOOK_DELAY: Duration = Duration::from_secs(1);
const REFERENCE_BYTES_MAX: usize = 128;
const URL_BYTES_MAX: usize = 2048;
const SECRET_BYTES_MAX: usize = 256;

/// The body of an authorization.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizeBody {
    reference: String,
    amount: i64,
    currency: String,
    token: String,
}

/// The body of an operation; a void has no amount.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operate {
    reference: String,
    amount: Option<i64>,
}

/// The result of a cancellation.
#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Cancelled {
    Reversed { payment: Box<PaymentView> },
    Blocked,
}

/// The sandbox's state, and the services that its requests use.
pub struct SandboxService {
    pub ledger: Arc<SandboxLedger>,
    pub webhooks: Arc<WebhookSender>,
    pub desired: Desired,
    pub in_flight: KeysInFlight,
    /// The runtime for tasks that outlive their request.
    pub background: Handle,
    /// Turns true when the sandbox stops.
    pub closing: watch::Receiver<bool>,
}

/// How an answer is sent: after the webhooks in `early`, and after `delay`; never if `silent`.
#[derive(Default)]
struct SimulatedBehavior {
    early: Vec<JoinHandle<()>>,
    silent: bool,
    delay: Duration,
}

impl SandboxService {
    /// Authorizes an amount, or returns the recorded answer to this idempotency key.
    pub async fn authorize(
        self: &Arc<Self>,
        account: &str,
        key: &str,
        asked: &AuthorizeBody,
    ) -> Result<Answered, Problem> {
        let token = asked.check()?;
        let faults = self.desired.get(account);
        let turn = self.in_flight.enter(account, key).await;
        fail_by(&faults)?;
        if token == TokenOutcome::Error500 && self.desired.fails_at_first(account, key) {
            return Err(internal_fault());
        }
        if token == TokenOutcome::TimeoutLost {
            drop(turn);
            return Err(self.hold().await);
        }
        let request = fingerprint(&[
            "authorize",
            &asked.reference,
            &asked.amount.to_string(),
            &asked.currency,
            &asked.token,
        ]);
        let (result, position) = self.ledger.enter(|entry| {
            if let Some(answered) = entry.book.recorded(account, key, &request)? {
                return Ok((answered, false));
            }
            entry.book.check_reference(account, &asked.reference)?;
            let payment = asked.decide(token, &faults)?;
            let id = payment.id.clone();
            let key = key.to_owned();
            entry.record(&fact(account, What::Made { key, request, payment }))?;
            let made = entry.book.by_id(account, &id).ok_or_else(Problem::not_found)?;
            Ok((Answered::of(made, 0), true))
        });
        let mut behavior = SimulatedBehavior {
            silent: token == TokenOutcome::Timeout,
            ..SimulatedBehavior::default()
        };
        if let Ok((answered, true)) = &result {
            let delay = match token {
                TokenOutcome::Slow => SLOW,
                TokenOutcome::Timeout => TIMEOUT_WEBHOOK_DELAY,
                _ => Duration::ZERO,
            };
            behavior.delay = if token == TokenOutcome::Slow { SLOW } else { Duration::ZERO };
            self.tell_made(account, &answered.payment, position, delay, &mut behavior);
        }
        self.answer(&faults, turn, position, result, behavior).await.map(|(answered, _)| answered)
    }

    /// Captures, voids or refunds, or returns the recorded answer to this idempotency key.
    pub async fn operate(
        self: &Arc<Self>,
        account: &str,
        key: &str,
        payment: &str,
        kind: BookedKind,
        asked: &Operate,
    ) -> Result<Answered, Problem> {
        asked.check(kind)?;
        let faults = self.desired.get(account);
        let turn = self.in_flight.enter(account, key).await;
        fail_by(&faults)?;
        let amount = asked.amount.unwrap_or(0).to_string();
        let request = fingerprint(&[name(kind), payment, &asked.reference, &amount]);
        let (result, position) = self.ledger.enter(|entry| {
            if let Some(answered) = entry.book.recorded(account, key, &request)? {
                return Ok((answered, false));
            }
            let now = entry.book.by_id(account, payment).ok_or_else(Problem::not_found)?;
            let amount = book::allowed(now, kind, asked.amount)?;
            let reference = asked.reference.clone();
            let operation = BookedOperation { id: new_id("op"), kind, reference, amount };
            let (key, payment) = (key.to_owned(), payment.to_owned());
            let what = What::Operated { key, request, payment: payment.clone(), operation };
            entry.record(&fact(account, what))?;
            let done = entry.book.by_id(account, &payment).ok_or_else(Problem::not_found)?;
            Ok((Answered::of(done, done.operations.len()), true))
        });
        let mut behavior = SimulatedBehavior::default();
        if let Ok((answered, true)) = &result {
            self.tell_operations(account, &answered.payment, 1, position, &mut behavior);
        }
        self.answer(&faults, turn, position, result, behavior).await.map(|(answered, _)| answered)
    }

    /// Reverses the payment of a reference, or blocks the reference.
    pub async fn cancel(
        self: &Arc<Self>,
        account: &str,
        reference: &str,
    ) -> Result<Cancelled, Problem> {
        check_reference(reference)?;
        let faults = self.desired.get(account);
        let turn = self.in_flight.enter(account, &format!("cancel {reference}")).await;
        fail_by(&faults)?;
        let (result, position) =
            self.ledger.enter(|entry| reverse_or_block(entry, account, reference));
        let mut behavior = SimulatedBehavior::default();
        if let Ok((Cancelled::Reversed { payment }, operations)) = &result {
            self.tell_operations(account, payment, *operations, position, &mut behavior);
        }
        self.answer(&faults, turn, position, result, behavior).await.map(|(cancelled, _)| cancelled)
    }

    /// Sets the endpoint to which the webhooks of an account are sent.
    pub async fn subscribe(&self, account: &str, endpoint: Endpoint) -> Result<(), Problem> {
        let scheme = ["http://", "https://"].iter().any(|scheme| endpoint.url.starts_with(scheme));
        if !scheme || endpoint.url.len() > URL_BYTES_MAX {
            return Err(Problem::invalid("invalid_url", "the url is not an http URL"));
        }
        if endpoint.secret.is_empty() || endpoint.secret.len() > SECRET_BYTES_MAX {
            return Err(Problem::invalid("invalid_secret", "a secret has 1 to 256 bytes"));
        }
        let (result, position) = self.ledger.enter(|entry| {
            if entry.book.endpoint(account) == Some(&endpoint) {
                return Ok(());
            }
            entry.record(&fact(account, What::Endpoint(endpoint)))
        });
        self.ledger.durable(position).await?;
        result
    }

    /// Reads from the book, and waits until all facts in the book are in the ledger's file.
    pub async fn read_book<T>(
        &self,
        read: impl FnOnce(&book::AccountBook) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let (result, position) = self.ledger.enter(|entry| read(entry.book));
        self.ledger.durable(position).await?;
        result
    }

    /// Authorizes every pending payment after [`PENDING`].
    pub fn settle_pending(self: &Arc<Self>) {
        let (pending, _) = self.ledger.enter(|entry| Ok(entry.book.pending()));
        for (account, id) in pending.unwrap_or_default() {
            self.settle_later(account, id);
        }
    }

    fn settle_later(self: &Arc<Self>, account: String, id: String) {
        let service = Arc::clone(self);
        self.background.spawn(async move {
            tokio::time::sleep(PENDING).await;
            let (result, position) = service.ledger.enter(|entry| settle(entry, &account, &id));
            if let Ok(Some(payment)) = result {
                let mut behavior = SimulatedBehavior::default();
                service.tell_made(&account, &payment, position, Duration::ZERO, &mut behavior);
            }
        });
    }

    fn tell_made(
        self: &Arc<Self>,
        account: &str,
        payment: &PaymentView,
        position: LedgerPosition,
        delay: Duration,
        behavior: &mut SimulatedBehavior,
    ) {
        let kind = match payment.status {
            BookedStatus::Authorized => "payment.authorized",
            BookedStatus::Declined => "payment.declined",
            BookedStatus::Pending => {
                self.settle_later(account.to_owned(), payment.id.clone());
                return;
            }
        };
        let news = PaymentNews { account, kind, payment, operation: None, position, delay };
        behavior.early.extend(self.webhooks.announce(&news, &self.desired.get(account)));
    }

    /// Queues a webhook for each of the last `count` operations.
    fn tell_operations(
        &self,
        account: &str,
        payment: &PaymentView,
        count: usize,
        position: LedgerPosition,
        behavior: &mut SimulatedBehavior,
    ) {
        let faults = self.desired.get(account);
        let told = payment.operations.len().saturating_sub(count);
        let tell = |operation: &OperationView| {
            let kind = match operation.kind {
                BookedKind::Capture => "payment.captured",
                BookedKind::Void => "payment.voided",
                BookedKind::Refund => "payment.refunded",
            };
            let operation = Some(operation);
            let news =
                PaymentNews { account, kind, payment, operation, position, delay: Duration::ZERO };
            self.webhooks.announce(&news, &faults)
        };
        behavior.early.extend(payment.operations.iter().skip(told).filter_map(tell));
    }

    /// Returns an answer once its facts are in the ledger's file, with the requested faults.
    async fn answer<T>(
        &self,
        faults: &Faults,
        turn: Turn,
        position: LedgerPosition,
        result: Result<T, Problem>,
        behavior: SimulatedBehavior,
    ) -> Result<T, Problem> {
        self.ledger.durable(position).await?;
        for early in behavior.early {
            if early.await.is_err() {
                tracing::warn!("sending an early webhook was interrupted");
            }
        }
        let answer = result?;
        if behavior.silent || happens(faults.timeout) {
            // Another call with this idempotency key must not wait for this one, which is never
            // answered.
            drop(turn);
            return Err(self.hold().await);
        }
        let delay = behavior.delay + Duration::from_millis(faults.slow_ms);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok(answer)
    }

    /// Keeps a call open without an answer.
    async fn hold(&self) -> Problem {
        let mut closing = self.closing.clone();
        tokio::select! {
            () = tokio::time::sleep(HOLD) => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "no_answer", "an injected fault")
    }
}

impl Operate {
    /// Validates a request for an operation.
    pub fn check(&self, kind: BookedKind) -> Result<(), Problem> {
        check_reference(&self.reference)?;
        match (kind, self.amount) {
            (BookedKind::Void, None) => Ok(()),
            (BookedKind::Void, Some(_)) => {
                Err(Problem::invalid("invalid_amount", "a void has no amount"))
            }
            (_, amount) => check_amount(amount.unwrap_or(0)),
        }
    }
}

impl AuthorizeBody {
    /// Validates a request, and parses its token.
    pub fn check(&self) -> Result<TokenOutcome, Problem> {
        check_reference(&self.reference)?;
        check_amount(self.amount)?;
        TokenOutcome::read(&self.token)
    }

    /// The payment that the request creates.
    pub fn decide(&self, token: TokenOutcome, faults: &Faults) -> Result<Made, Problem> {
        let currency = match (check_currency(&self.currency)?, token) {
            (Currency::JPY, TokenOutcome::OtherCurrency) => Currency::KRW,
            (_, TokenOutcome::OtherCurrency) => Currency::JPY,
            (asked, _) => asked,
        };
        let decline = match token {
            TokenOutcome::InsufficientFunds => Some("insufficient_funds"),
            TokenOutcome::Declined => Some("card_declined"),
            TokenOutcome::UnknownToken => Some("unknown_token"),
            _ if happens(faults.decline) => Some("card_declined"),
            _ => None,
        };
        let status = match token {
            _ if decline.is_some() => BookedStatus::Declined,
            TokenOutcome::WebhookOnly | TokenOutcome::Action => BookedStatus::Pending,
            _ => BookedStatus::Authorized,
        };
        let less = i64::from(token == TokenOutcome::Mismatch);
        let id = new_id("pay");
        let redirect =
            (token == TokenOutcome::Action && status == BookedStatus::Pending).then(|| Redirect {
                url: format!("https://sandbox.invalid/approve/{id}"),
                expires_at: now().after(ACTION_LASTS).to_string(),
            });
        Ok(Made {
            id,
            reference: self.reference.clone(),
            status,
            amount: self.amount - less,
            currency,
            decline_code: decline.map(str::to_owned),
            redirect,
        })
    }
}

/// Reverses the payment with a reference, or blocks the reference. Also returns the number of
/// operations that this took.
fn reverse_or_block(
    entry: &mut LedgerGuard<'_>,
    account: &str,
    reference: &str,
) -> Result<(Cancelled, usize), Problem> {
    let Some(payment) = entry.book.by_reference(account, reference) else {
        if !entry.book.blocked(account, reference) {
            let reference = reference.to_owned();
            entry.record(&fact(account, What::Blocked { reference }))?;
        }
        return Ok((Cancelled::Blocked, 0));
    };
    let operations = book::undoing(payment, || new_id("op"));
    let count = operations.len();
    if count > 0 {
        let payment = payment.made.id.clone();
        entry.record(&fact(account, What::Reversed { payment, operations }))?;
    }
    let payment = entry.book.by_reference(account, reference).ok_or_else(Problem::not_found)?;
    Ok((Cancelled::Reversed { payment: Box::new(payment.view()) }, count))
}

/// Authorizes a payment that is still pending.
fn settle(
    entry: &mut LedgerGuard<'_>,
    account: &str,
    id: &str,
) -> Result<Option<PaymentView>, Problem> {
    match entry.book.by_id(account, id) {
        Some(payment) if payment.status == BookedStatus::Pending => {}
        _ => return Ok(None),
    }
    entry.record(&fact(account, What::Settled { payment: id.to_owned() }))?;
    Ok(entry.book.by_id(account, id).map(super::fact::BookedPayment::view))
}

fn fact(account: &str, what: What) -> Fact {
    Fact { account: account.to_owned(), at: now(), what }
}

const fn name(kind: BookedKind) -> &'static str {
    match kind {
        BookedKind::Capture => "capture",
        BookedKind::Void => "void",
        BookedKind::Refund => "refund",
    }
}

/// A hash that distinguishes requests without storing their content.
fn fingerprint(parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.join("\n").as_bytes());
    hex::encode(digest.get(..16).unwrap_or(&digest))
}

fn fail_by(faults: &Faults) -> Result<(), Problem> {
    if happens(faults.error_500) { Err(internal_fault()) } else { Ok(()) }
}

fn internal_fault() -> Problem {
    Problem::internal("an injected fault: nothing was executed")
}

/// A reference is 1 to 128 visible ASCII characters.
pub fn check_reference(reference: &str) -> Result<(), Problem> {
    let fits = (1..=REFERENCE_BYTES_MAX).contains(&reference.len())
        && reference.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        return Ok(());
    }
    let detail = "a reference has 1 to 128 visible ASCII characters";
    Err(Problem::invalid("invalid_reference", detail))
}

/// A currency is an ISO 4217 code that has minor units.
fn check_currency(code: &str) -> Result<Currency, Problem> {
    let known = Currency::from_code(code).filter(|currency| currency.exponent().is_some());
    let detail = "must be an ISO 4217 currency code, for example GBP";
    known.ok_or_else(|| Problem::invalid("invalid_currency", detail))
}

fn check_amount(amount: i64) -> Result<(), Problem> {
    if (1..=AMOUNT_MAX).contains(&amount) {
        return Ok(());
    }
    let detail = "an amount is from 1 to 9007199254740991 minor units";
    Err(Problem::invalid("invalid_amount", detail))
}
