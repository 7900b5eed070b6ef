//! The client of `kontor sandbox-psp`.
//!
//! Calls that move money use the circuit breaker; lookups and the webhook registration bypass it
//! (see [`Breaker`]). There are no retries here: the caller repeats a call with the same
//! idempotency key.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::payment::{
    AccountId, Authorization, AuthorizationStatus, Authorize, Breaker, BreakerOptions, Error,
    Operation, OperationKind, Payment, PaymentNotice, PaymentPage, Provider, ProviderAccount,
    Receipt, Reversal, WebhookError, WebhookRequest,
};
#[cfg(debug_assertions)]
use crate::crash;
use crate::domain::order::BuyerAction;
use crate::domain::time::Timestamp;

mod wire;

/// The signature header of webhooks.
const SIGNATURE_HEADER: &str = "Sandbox-Signature";
/// The most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// The most payments on a page.
const PAGE_MAX: u32 = 200;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Shorter than the keep-alive timeout of the sandbox, so that the sandbox has seldom closed a
/// pooled connection that is used again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS_MAX: usize = 512;

/// Options of the sandbox's client.
#[derive(Clone, Debug)]
pub struct Options {
    /// The sandbox's URL.
    pub url: String,
    /// The shop's name for the account.
    pub account_id: AccountId,
    /// The name of the account at the sandbox, which is also the credential.
    pub account: SecretString,
    /// The secret that signs webhooks.
    pub webhook_secret: SecretString,
    /// Timeout of a call, in milliseconds; the outcome of a call that times out is unknown.
    pub timeout_ms: u64,
    /// Options of the circuit breaker.
    pub breaker: BreakerOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8081".into(),
            account_id: AccountId::default(),
            account: "kontor".into(),
            webhook_secret: SecretString::default(),
            timeout_ms: 10_000,
            breaker: BreakerOptions::default(),
        }
    }
}

/// The sandbox as a [`Provider`].
#[derive(Debug)]
pub struct Sandbox {
    client: Client,
    base: Url,
    account_id: AccountId,
    account: SecretString,
    webhook_secret: SecretString,
    breaker: Breaker,
}

impl Sandbox {
    /// Creates a client; nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Rejected`] with code `invalid_options` if the URL is invalid, the webhook secret is
    /// empty, or the system has no usable certificates for an `https` URL.
    pub fn new(options: Options) -> Result<Self, Error> {
        super::install_crypto();
        if options.webhook_secret.expose_secret().is_empty() {
            return Err(invalid_options("the webhook secret is empty"));
        }
        let base = Url::parse(&options.url).map_err(|e| invalid_options(&e.to_string()))?;
        let mut client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_millis(options.timeout_ms))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .tcp_nodelay(true);
        if base.scheme() == "http" {
            // The system's certificates are not needed, and there may be none.
            client = client.tls_certs_only([]);
        }
        Ok(Self {
            client: client.build().map_err(|e| invalid_options(&e.to_string()))?,
            base,
            account_id: options.account_id,
            account: options.account,
            webhook_secret: options.webhook_secret,
            breaker: Breaker::new(options.breaker),
        })
    }

    fn address(&self, path: &[&str]) -> Result<Url, Error> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| invalid_options("the address cannot have a path"))?
            .pop_if_empty()
            .push("v1")
            .extend(path);
        Ok(url)
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url).bearer_auth(self.account.expose_secret())
    }

    fn post(&self, path: &[&str], body: &serde_json::Value) -> Result<RequestBuilder, Error> {
        Ok(self.request(Method::POST, self.address(path)?).json(body))
    }

    async fn operate(&self, kind: OperationKind, request: &Operation) -> Result<Receipt, Error> {
        let (call, verb, body) = match kind {
            OperationKind::Capture => ("capture", "captures", amount_body(request)),
            OperationKind::Refund => ("refund", "refunds", amount_body(request)),
            OperationKind::Void => ("void", "void", json!({ "reference": request.reference })),
        };
        let path = ["payments", &request.payment, verb];
        let sent = self.post(&path, &body)?.header("Idempotency-Key", &request.key);
        let answer = answer::<wire::WirePayment>(call, sent);
        let payment: Payment = self.breaker.call(answer).await?.into();
        let found = payment
            .operations
            .iter()
            .rev()
            .find(|done| done.kind == kind && done.reference == request.reference)
            .filter(|_| payment.id == request.payment);
        let done = found.ok_or_else(|| Error::Unknown("the answer lacks the operation".into()))?;
        if kind != OperationKind::Void && done.amount != request.amount {
            return Err(Error::Unknown("the answer is about another amount".into()));
        }
        Ok(Receipt { operation: done.id.clone(), amount: done.amount, payment: payment.id })
    }
}

fn amount_body(request: &Operation) -> serde_json::Value {
    json!({ "amount": request.amount.amount, "reference": request.reference })
}

fn invalid_options(message: &str) -> Error {
    Error::Rejected { code: "invalid_options".into(), message: message.into() }
}

#[async_trait]
impl Provider for Sandbox {
    fn account(&self) -> ProviderAccount {
        ProviderAccount { provider: "sandbox", account: self.account_id.clone() }
    }

    async fn authorize(&self, request: &Authorize) -> Result<Authorization, Error> {
        let body = json!({
            "reference": request.reference,
            "amount": request.amount.amount,
            "currency": request.amount.currency,
            "token": request.token,
        });
        let sent = self.post(&["payments"], &body)?.header("Idempotency-Key", &request.key);
        let answer = answer::<wire::WirePayment>("authorize", sent);
        let mut answer = self.breaker.call(answer).await?;
        let redirect = answer.redirect.take();
        let payment = Payment::from(answer);
        if payment.reference != request.reference {
            return Err(Error::Unknown("the answer is about another payment".into()));
        }
        if let Some(wire::WireRedirect { url, expires_at }) = redirect {
            let expires_at = Timestamp::parse(&expires_at)
                .ok_or_else(|| Error::Unknown("the answer's expires_at is not a time".into()))?;
            let action = BuyerAction::Redirect { url };
            return Ok(Authorization::ActionRequired { payment: payment.id, action, expires_at });
        }
        Ok(match payment.status {
            AuthorizationStatus::Authorized => {
                Authorization::Authorized { payment: payment.id, amount: payment.amount }
            }
            AuthorizationStatus::Pending => Authorization::Pending { payment: payment.id },
            AuthorizationStatus::Declined => Authorization::Declined {
                payment: Some(payment.id),
                code: payment.decline_code.unwrap_or_else(|| "declined".into()),
            },
        })
    }

    async fn capture(&self, request: &Operation) -> Result<Receipt, Error> {
        self.operate(OperationKind::Capture, request).await
    }

    async fn void(&self, request: &Operation) -> Result<Receipt, Error> {
        self.operate(OperationKind::Void, request).await
    }

    async fn refund(&self, request: &Operation) -> Result<Receipt, Error> {
        self.operate(OperationKind::Refund, request).await
    }

    async fn reverse(&self, reference: &str) -> Result<Reversal, Error> {
        let sent = self.post(&["cancellations"], &json!({ "reference": reference }))?;
        match self.breaker.call(answer::<wire::WireReversal>("reverse", sent)).await? {
            wire::WireReversal::Blocked => Ok(Reversal::Blocked),
            wire::WireReversal::Reversed { payment } if payment.reference == reference => {
                Ok(Reversal::Reversed { payment: (*payment).into() })
            }
            wire::WireReversal::Reversed { .. } => {
                Err(Error::Unknown("the answer speaks of another payment".into()))
            }
        }
    }

    async fn find(&self, reference: &str) -> Result<Option<Payment>, Error> {
        let mut url = self.address(&["payments"])?;
        url.query_pairs_mut().append_pair("reference", reference);
        let page: wire::WirePage = answer("find", self.request(Method::GET, url)).await?;
        let found = page.data.into_iter().find(|payment| payment.reference == reference);
        Ok(found.map(Payment::from))
    }

    async fn list(&self, after: Option<&str>, limit: u32) -> Result<PaymentPage, Error> {
        let mut url = self.address(&["payments"])?;
        url.query_pairs_mut().append_pair("limit", &limit.clamp(1, PAGE_MAX).to_string());
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", after);
        }
        let page: wire::WirePage = answer("list", self.request(Method::GET, url)).await?;
        let payments = page.data.into_iter().map(Payment::from).collect();
        Ok(PaymentPage { payments, next: page.next_cursor })
    }

    async fn subscribe(&self, webhook_url: &str) -> Result<(), Error> {
        let body = json!({ "url": webhook_url, "secret": self.webhook_secret.expose_secret() });
        let url = self.address(&["webhook_endpoint"])?;
        let sent = self.request(Method::PUT, url).json(&body);
        answer::<serde::de::IgnoredAny>("subscribe", sent).await.map(|_| ())
    }

    fn read_webhook(
        &self,
        request: &WebhookRequest<'_>,
        now: Timestamp,
    ) -> Result<PaymentNotice, WebhookError> {
        let secret = self.webhook_secret.expose_secret().as_bytes();
        let signature = request.header(SIGNATURE_HEADER).unwrap_or("");
        wire::check_signature(secret, signature, request.body, now)?;
        wire::read_notice(request.body)
    }

    fn reread_webhook(&self, body: &[u8]) -> Result<PaymentNotice, WebhookError> {
        wire::read_notice(body)
    }
}

/// Sends a call's request, and parses the answer or maps its failure.
async fn answer<T: DeserializeOwned>(call: &str, request: RequestBuilder) -> Result<T, Error> {
    #[cfg(debug_assertions)]
    crash::reached(crash::Side::Before, "psp", call);
    let answer = exchange(request).await;
    #[cfg(debug_assertions)]
    crash::reached(crash::Side::After, "psp", call);
    tracing::trace!(call, answered = answer.is_ok(), "called the provider");
    answer
}

async fn exchange<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Error> {
    let response = request.send().await.map_err(|error| error_of(&error))?;
    let status = response.status();
    let body = read_body(response).await?;
    // A decline (402) has the same body as a success.
    if status.is_success() || status == StatusCode::PAYMENT_REQUIRED {
        return serde_json::from_slice(&body)
            .map_err(|error| Error::Unknown(format!("the {status} answer is broken: {error}")));
    }
    Err(error_of_status(status, &body))
}

async fn read_body(mut response: Response) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error_of(&error))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Error::Unknown("the answer is too large".into()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Maps a failure to send or to receive to an [`Error`] whose text contains no address, token or
/// secret.
fn error_of(error: &reqwest::Error) -> Error {
    if error.is_connect() {
        return Error::Unavailable;
    }
    if error.is_builder() {
        return Error::Rejected {
            code: "invalid_request".into(),
            message: "the request cannot be sent".into(),
        };
    }
    let what = if error.is_timeout() { "the call timed out" } else { "the connection broke off" };
    Error::Unknown(what.into())
}

/// Maps an answer with an error status to an [`Error`]. It is a final rejection only if its body
/// has the format of the sandbox: the 404 of a proxy is not one.
fn error_of_status(status: StatusCode, body: &[u8]) -> Error {
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Error::Unavailable;
    }
    if status.is_client_error()
        && status != StatusCode::REQUEST_TIMEOUT
        && let Ok(problem) = serde_json::from_slice::<wire::WireProblem>(body)
    {
        return Error::Rejected { code: problem.code, message: problem.detail };
    }
    Error::Unknown(format!("it answered {status}"))
}
