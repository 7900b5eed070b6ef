//! The sandbox's wire format, and its webhook signature.
//!
//! The format is deliberately defined a second time in `crates/sandbox-psp`: with a shared
//! definition, a mistake would be made on both sides, and no test would show it.

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

use crate::domain::money::{Currency, Money};
use crate::domain::time::{Span, Timestamp};
use crate::providers::payment::{
    self, AuthorizationStatus, NoticeKind, OperationKind, PaymentNotice, WebhookError,
};

/// The largest difference between the time in a signature and the current time.
const SIGNATURE_AGE_MAX: Span = Span::from_secs(300);

#[derive(Deserialize)]
pub(super) struct WirePayment {
    id: String,
    pub(super) reference: String,
    status: AuthorizationStatus,
    amount: i64,
    currency: Currency,
    captured: i64,
    refunded: i64,
    voided: bool,
    decline_code: Option<String>,
    operations: Vec<WireOperation>,
    /// Present while the payment waits for the buyer.
    pub(super) redirect: Option<WireRedirect>,
}

#[derive(Deserialize)]
pub(super) struct WireRedirect {
    pub(super) url: String,
    pub(super) expires_at: String,
}

#[derive(Deserialize)]
struct WireOperation {
    id: String,
    kind: OperationKind,
    reference: String,
    amount: i64,
}

impl WireOperation {
    fn into_domain(self, currency: Currency) -> payment::PaymentOperation {
        payment::PaymentOperation {
            id: self.id,
            kind: self.kind,
            reference: self.reference,
            amount: Money::new(self.amount, currency),
        }
    }
}

impl From<WirePayment> for payment::Payment {
    fn from(wire: WirePayment) -> Self {
        let operation = |operation: WireOperation| operation.into_domain(wire.currency);
        Self {
            id: wire.id,
            reference: wire.reference,
            status: wire.status,
            amount: Money::new(wire.amount, wire.currency),
            captured: wire.captured,
            refunded: wire.refunded,
            voided: wire.voided,
            decline_code: wire.decline_code,
            operations: wire.operations.into_iter().map(operation).collect(),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WirePage {
    pub(super) data: Vec<WirePayment>,
    pub(super) next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum WireReversal {
    Reversed { payment: Box<WirePayment> },
    Blocked,
}

#[derive(Deserialize)]
pub(super) struct WireProblem {
    pub(super) code: String,
    pub(super) detail: String,
}

#[derive(Deserialize)]
struct WireEvent {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    data: EventData,
}

#[derive(Deserialize)]
struct EventData {
    payment: WirePayment,
    operation: Option<WireOperation>,
}

/// Verifies `t=<unix secs>,v1=<hex hmac-sha256(secret, "{t}.{body}")>`, in constant time.
pub(super) fn check_signature(
    secret: &[u8],
    header: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<(), WebhookError> {
    if header.is_empty() {
        return Err(WebhookError::Missing);
    }
    let field = |name: &str| {
        header.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
    };
    let (Some(at), Some(tag)) = (field("t"), field("v1").and_then(|tag| hex::decode(tag).ok()))
    else {
        return Err(WebhookError::Malformed("its signature is not t=..,v1=..".into()));
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| WebhookError::Forged)?;
    mac.update(at.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.verify_slice(&tag).map_err(|_| WebhookError::Forged)?;
    let signed_secs: i64 =
        at.parse().map_err(|_| WebhookError::Malformed("its signature has no time".into()))?;
    let age = now.millis().saturating_sub(signed_secs.saturating_mul(1000)).saturating_abs();
    if age > SIGNATURE_AGE_MAX.millis() { Err(WebhookError::Expired) } else { Ok(()) }
}

/// Parses a webhook whose signature was verified.
pub(super) fn read_notice(body: &[u8]) -> Result<PaymentNotice, WebhookError> {
    let event: WireEvent =
        serde_json::from_slice(body).map_err(|error| WebhookError::Malformed(error.to_string()))?;
    let kind = match event.kind.as_str() {
        "payment.authorized" => NoticeKind::Authorized,
        "payment.declined" => NoticeKind::Declined,
        "payment.captured" => NoticeKind::Captured,
        "payment.voided" => NoticeKind::Voided,
        "payment.refunded" => NoticeKind::Refunded,
        _ => return Err(WebhookError::Malformed("its type is not known".into())),
    };
    let currency = event.data.payment.currency;
    let operation = event.data.operation.map(|operation| operation.into_domain(currency));
    Ok(PaymentNotice { id: event.id, kind, payment: event.data.payment.into(), operation })
}
