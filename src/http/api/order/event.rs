//! The events of an order as the API shows them: each kind has data of its own, in the API's shapes
//! and units. Stored events are read through the domain's types, so that older ones look like newer
//! ones. Payment tokens are not shown.

use std::borrow::Cow;

use serde::Serialize;
use strum::VariantNames;
use utoipa::openapi::schema::{Discriminator, Object, OneOfBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::actors::buyer_data::BuyerData;
use crate::domain::entity::{Cause, Record};
use crate::domain::money::{Currency, Rounding};
use crate::domain::order::{
    BuyerAction, CapturePolicy, Event, Fulfillment, PaymentMethod, Placed, Refund, RequiredAction,
};
use crate::http::api::order::problem::ShortageShape;
use crate::http::api::order::schema;
use crate::http::api::order::shape::{LineUnits, PlacedLine, RefundedLine, TrackingShape};
use crate::http::api::shape::{Address, Delivery, Money, Totals};
use crate::http::docs::schemas;
use crate::http::edge::checked;

/// An event of an order.
#[derive(Debug, Serialize)]
pub struct EventShape {
    #[serde(flatten)]
    head: EventHead,
    #[serde(flatten)]
    event: EventData,
}

/// What every event has.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventHead {
    /// The number of the event in its order, from 1.
    seq: i64,
    /// The position of the event in its shard of the journal.
    pos: i64,
    #[schema(value_type = schemas::Moment)]
    at: String,
    cause: CauseShape,
}

/// The cause of an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct CauseShape {
    #[schema(value_type = schemas::PrincipalName)]
    by: String,
    /// The name of the principal's key or sign-in link, if it has one.
    by_name: Option<String>,
    /// The command that was carried out.
    #[schema(example = "cancel")]
    command: String,
    /// The id of the request, if there was one.
    request_id: Option<String>,
    /// The idempotency key of the request, if it had one.
    idempotency_key: Option<String>,
}

impl From<Cause> for CauseShape {
    fn from(cause: Cause) -> Self {
        Self {
            by: cause.by,
            by_name: cause.name.as_deref().map(str::to_owned),
            command: cause.command,
            request_id: cause.request,
            idempotency_key: cause.idempotency.map(|idempotency| idempotency.key),
        }
    }
}

/// The kind of an event of an order, and its data.
#[derive(Debug, Serialize, ToSchema, VariantNames)]
#[serde(tag = "kind", content = "data", rename_all = "snake_case")]
pub enum EventData {
    /// The order was placed, with all its data fixed.
    Placed(Box<PlacedData>),
    /// The buyer makes another payment attempt.
    PaymentRetried {
        /// The payment provider.
        provider: String,
    },
    /// All stock is reserved, for an order that is already authorized or whose total is 0.
    Reserved {
        /// The number of the attempt to reserve stock.
        generation: u32,
    },
    /// All stock is reserved, and the provider is asked for an authorization.
    PaymentRequested {
        attempt: u32,
        provider: String,
        amount: Money,
    },
    /// The provider has accepted the attempt and will report its outcome.
    PaymentPending {
        attempt: u32,
        /// The provider's id of the payment.
        payment: String,
        /// What the buyer has to do first, if anything.
        #[schema(required)]
        action: Option<ActionShape>,
    },
    /// The provider did not answer.
    PaymentUnknown {
        attempt: u32,
        why: String,
    },
    /// The money is authorized.
    PaymentAuthorized {
        attempt: u32,
        /// The provider's id of the payment.
        payment: String,
        amount: Money,
    },
    /// The provider declined.
    PaymentDeclined {
        attempt: u32,
        /// The provider's code.
        decline_code: String,
    },
    /// The provider does not know the attempt: it is given up, and reversed.
    PaymentGivenUp {
        attempt: u32,
    },
    /// An attempt that was not decided yet was reversed.
    PaymentReversed {
        attempt: u32,
    },
    /// An authorization was voided.
    PaymentVoided {
        attempt: u32,
    },
    /// The order waits for another payment: its units stay held only until another order needs
    /// them.
    HoldYielded {
        /// The number of the attempt to reserve stock.
        generation: u32,
    },
    /// A hold had expired when it was to be turned into an allocation.
    HoldLapsed {
        /// The number of the attempt to reserve stock.
        generation: u32,
    },
    /// The order is paid, its stock is allocated, and it has an order number.
    Confirmed {
        number: i64,
    },
    /// A capture is requested.
    CaptureRequested {
        /// The id of the capture.
        capture: String,
        amount: Money,
    },
    /// Money was captured.
    Captured {
        /// The id of the capture.
        capture: String,
        amount: Money,
        /// The provider's id of the capture.
        operation: String,
    },
    /// A refund is requested.
    RefundRequested {
        /// The id of the refund.
        refund: String,
        amount: Money,
        lines: Vec<RefundedLine>,
        /// The part for the delivery.
        delivery: Money,
        /// The part that belongs neither to a line nor to the delivery.
        other: Money,
        /// Whether the goods are put back on sale.
        restock: bool,
        reason: String,
    },
    /// Money was refunded.
    Refunded {
        /// The id of the refund.
        refund: String,
        /// The provider's id of the refund.
        operation: String,
    },
    /// The goods of a refund are back in stock, or written off.
    RefundRestocked {
        /// The id of the refund.
        refund: String,
    },
    /// Goods are shipped.
    Fulfilled {
        /// The id of the fulfillment.
        fulfillment: String,
        lines: Vec<LineUnits>,
        #[schema(required)]
        tracking: Option<TrackingShape>,
    },
    /// The stock has recorded a shipment.
    Shipped {
        /// The id of the fulfillment.
        fulfillment: String,
    },
    /// The tracking data of a fulfillment were corrected.
    TrackingCorrected {
        /// The id of the fulfillment.
        fulfillment: String,
        #[schema(required)]
        tracking: Option<TrackingShape>,
    },
    /// Cancellation is requested.
    CancelRequested {
        /// A cause, or an operator's words.
        reason: String,
        /// The SKUs with too few units, if stock was the reason.
        shortages: Vec<ShortageShape>,
    },
    /// The cancellation is complete.
    Cancelled {},
    /// A step cannot be done without an operator.
    Stuck {
        #[schema(value_type = schema::OrderStep)]
        step: String,
        why: String,
    },
    /// An operator retries a stuck order.
    RetryRequested {
        reason: String,
    },
    /// An operator skipped a stuck step.
    StepSkipped {
        #[schema(value_type = schema::OrderStep)]
        step: String,
        reason: String,
    },
    /// A contradiction in the order's data was found: nothing is done until an operator has acted.
    AlertRaised {
        alert: String,
    },
    /// An operator cleared the alert.
    AlertCleared {
        reason: String,
    },
    PersonalDataErased {},
    /// The buyer's personal data must not be erased: there is a legal hold.
    LegalHoldPlaced {
        reason: String,
    },
    /// The legal hold was released.
    LegalHoldReleased {},
    /// A stored event that this version of the program cannot read.
    Unreadable {
        /// The kind of the event, as stored.
        stored_kind: String,
        /// Why it cannot be read.
        why: String,
    },
}

/// What was fixed when an order was placed.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlacedData {
    #[schema(value_type = checked::Currency)]
    currency: &'static str,
    /// `null` once the buyer's personal data were erased, as the reference and the addresses are.
    #[schema(value_type = Option<checked::Email>)]
    email: Option<String>,
    reference: Option<String>,
    lines: Vec<PlacedLine>,
    shipping_address: Option<Address>,
    billing_address: Option<Address>,
    delivery: Delivery,
    totals: Totals,
    #[schema(value_type = schema::RoundingRule)]
    rounding: Rounding,
    #[schema(value_type = schema::CaptureTime)]
    capture: CapturePolicy,
    /// The time until which the order must be paid.
    payment_deadline_at: String,
    /// How long its stock is held, in milliseconds.
    hold_ms: i64,
    /// The payment provider; `null` for an order whose total is 0.
    provider: Option<String>,
}

/// What a buyer has to do before a payment attempt can complete.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActionShape {
    kind: ActionKind,
    /// The page to visit, or that of the slip.
    url: Option<String>,
    /// The content of the QR code.
    payload: Option<String>,
    /// The digits of the bar code of the slip.
    barcode: Option<String>,
    expires_at: String,
}

/// What a buyer has to do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// Visit a page of the provider or the bank, and return.
    Redirect,
    /// Pay by scanning a QR code.
    QrCode,
    /// Pay a printed slip.
    Slip,
}

impl From<RequiredAction> for ActionShape {
    fn from(required: RequiredAction) -> Self {
        let (kind, url, payload, barcode) = match required.action {
            BuyerAction::Redirect { url } => (ActionKind::Redirect, Some(url), None, None),
            BuyerAction::QrCode { payload } => (ActionKind::QrCode, None, Some(payload), None),
            BuyerAction::Slip { barcode, url } => {
                (ActionKind::Slip, Some(url), None, Some(barcode))
            }
        };
        Self { kind, url, payload, barcode, expires_at: required.expires_at.to_string() }
    }
}

impl PlacedData {
    fn new(placed: &Placed, method: Option<PaymentMethod>, buyer: &BuyerData) -> Self {
        let currency = placed.currency;
        Self {
            currency: currency.code(),
            email: buyer.email.clone(),
            reference: buyer.reference.clone(),
            lines: placed.lines.iter().map(|line| PlacedLine::new(line, currency)).collect(),
            shipping_address: buyer.shipping_address.as_ref().map(Into::into),
            billing_address: buyer.billing_address.as_ref().map(Into::into),
            delivery: Delivery::new(&placed.delivery, currency),
            totals: Totals::new(&placed.totals, currency),
            rounding: placed.rounding,
            capture: placed.capture,
            payment_deadline_at: placed.deadline_at.to_string(),
            hold_ms: placed.hold.millis(),
            provider: method.map(|method| method.provider),
        }
    }
}

impl EventShape {
    /// A stored event, whose amounts are in this currency, with the order's personal data.
    #[must_use]
    pub fn new(
        record: &Record,
        event: Result<Event, String>,
        currency: Currency,
        buyer: &BuyerData,
    ) -> Self {
        let head = EventHead {
            seq: record.seq,
            pos: record.pos,
            at: record.at.to_string(),
            cause: record.cause().into(),
        };
        let unreadable = |why| EventData::Unreadable { stored_kind: record.kind.to_string(), why };
        Self { head, event: event.map_or_else(unreadable, |event| data(event, currency, buyer)) }
    }
}

fn data(event: Event, currency: Currency, buyer: &BuyerData) -> EventData {
    let money = |amount| Money::new(amount, currency);
    match event {
        Event::Placed { placed, method } => {
            EventData::Placed(Box::new(PlacedData::new(&placed, method, buyer)))
        }
        Event::PaymentRetried { method } => EventData::PaymentRetried { provider: method.provider },
        Event::Reserved { generation } => EventData::Reserved { generation },
        Event::PaymentRequested { attempt, provider, amount } => {
            EventData::PaymentRequested { attempt, provider, amount: money(amount) }
        }
        Event::PaymentPending { attempt, payment, action } => {
            EventData::PaymentPending { attempt, payment, action: action.map(Into::into) }
        }
        Event::PaymentUnknown { attempt, why } => EventData::PaymentUnknown { attempt, why },
        Event::PaymentAuthorized { attempt, payment, amount } => {
            EventData::PaymentAuthorized { attempt, payment, amount: money(amount) }
        }
        Event::PaymentDeclined { attempt, code } => {
            EventData::PaymentDeclined { attempt, decline_code: code }
        }
        Event::PaymentGivenUp { attempt } => EventData::PaymentGivenUp { attempt },
        Event::PaymentReversed { attempt } => EventData::PaymentReversed { attempt },
        Event::PaymentVoided { attempt } => EventData::PaymentVoided { attempt },
        Event::HoldYielded { generation } => EventData::HoldYielded { generation },
        Event::HoldLapsed { generation } => EventData::HoldLapsed { generation },
        Event::Confirmed { number } => EventData::Confirmed { number },
        Event::CaptureRequested { capture, amount } => {
            EventData::CaptureRequested { capture: capture.to_string(), amount: money(amount) }
        }
        Event::Captured { capture, amount, operation } => {
            let capture = capture.to_string();
            EventData::Captured { capture, amount: money(amount), operation }
        }
        Event::RefundRequested { refund } => refund_requested(*refund, currency),
        Event::Refunded { refund, operation } => {
            EventData::Refunded { refund: refund.to_string(), operation }
        }
        Event::RefundRestocked { refund } => {
            EventData::RefundRestocked { refund: refund.to_string() }
        }
        Event::Fulfilled { fulfillment } => fulfilled(&fulfillment),
        Event::Shipped { fulfillment } => {
            EventData::Shipped { fulfillment: fulfillment.to_string() }
        }
        Event::TrackingCorrected { fulfillment, tracking } => EventData::TrackingCorrected {
            fulfillment: fulfillment.to_string(),
            tracking: tracking.as_deref().map(Into::into),
        },
        Event::CancelRequested { reason, shortages } => {
            let shortages = shortages.iter().map(Into::into).collect();
            EventData::CancelRequested { reason, shortages }
        }
        Event::Cancelled {} => EventData::Cancelled {},
        Event::Stuck { step, why } => EventData::Stuck { step, why },
        Event::RetryRequested { reason } => EventData::RetryRequested { reason },
        Event::StepSkipped { step, reason } => EventData::StepSkipped { step, reason },
        Event::AlertRaised { alert } => EventData::AlertRaised { alert },
        Event::AlertCleared { reason } => EventData::AlertCleared { reason },
        Event::PersonalDataErased {} => EventData::PersonalDataErased {},
        Event::LegalHoldPlaced { reason } => EventData::LegalHoldPlaced { reason },
        Event::LegalHoldReleased {} => EventData::LegalHoldReleased {},
    }
}

fn refund_requested(refund: Refund, currency: Currency) -> EventData {
    let money = |amount| Money::new(amount, currency);
    EventData::RefundRequested {
        refund: refund.number.to_string(),
        amount: money(refund.amount),
        lines: refund.lines.iter().map(|line| RefundedLine::new(line, currency)).collect(),
        delivery: money(refund.delivery),
        other: money(refund.free),
        restock: refund.restock,
        reason: refund.reason,
    }
}

fn fulfilled(fulfillment: &Fulfillment) -> EventData {
    EventData::Fulfilled {
        fulfillment: fulfillment.number.to_string(),
        lines: fulfillment.lines.iter().map(Into::into).collect(),
        tracking: fulfillment.tracking.as_ref().map(Into::into),
    }
}

/// The schema of each kind of event, with its name.
fn kinds() -> Vec<(String, Object)> {
    let (RefOr::T(Schema::OneOf(union)), RefOr::T(Schema::Object(head))) =
        (EventData::schema(), EventHead::schema())
    else {
        return Vec::new();
    };
    let whole = |(name, kind): (&&str, RefOr<Schema>)| {
        let RefOr::T(Schema::Object(mut kind)) = kind else { return None };
        kind.properties.extend(head.properties.clone());
        kind.required.extend(head.required.clone());
        Some((format!("Order{name}Event"), kind))
    };
    EventData::VARIANTS.iter().zip(union.items).filter_map(whole).collect()
}

/// The kind in the schema of a kind of event.
fn kind_of(event: &Object) -> Option<&str> {
    let RefOr::T(Schema::Object(kind)) = event.properties.get("kind")? else { return None };
    kind.enum_values.as_ref()?.first()?.as_str()
}

impl PartialSchema for EventShape {
    fn schema() -> RefOr<Schema> {
        let kinds = kinds();
        let to = |name: &str| Ref::from_schema_name(name);
        let mapping = kinds.iter().filter_map(|(name, event)| {
            kind_of(event).map(|kind| (kind.to_owned(), to(name).ref_location))
        });
        let kind = Discriminator::with_mapping("kind", mapping);
        let union = OneOfBuilder::new().description(Some("An event of an order."));
        let union = kinds.iter().fold(union, |union, (name, _)| union.item(to(name)));
        union.discriminator(Some(kind)).into()
    }
}

impl ToSchema for EventShape {
    fn name() -> Cow<'static, str> {
        "OrderEvent".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        EventHead::schemas(schemas);
        EventData::schemas(schemas);
        schemas.extend(kinds().into_iter().map(|(name, kind)| (name, kind.into())));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::actors::engine::host::decode;
    use crate::domain::entity::EntityId;
    use crate::domain::time::Timestamp;

    fn record(kind: &str, version: u16, data: &str) -> Record {
        let cause = r#"{"by": "key:5f0c", "cmd": "cancel", "name": "Mira", "req": "req_1", "idem": {"k": "k1", "d": 1}}"#;
        Record {
            shard: 0,
            pos: 7,
            entity: EntityId::new("ord_1"),
            seq: 3,
            kind: kind.into(),
            version,
            at: Timestamp::default(),
            cause: cause.into(),
            data: data.into(),
            intact: true,
        }
    }

    fn shown(record: &Record) -> Value {
        let event = decode(record).map_err(|error| error.to_string());
        serde_json::to_value(EventShape::new(record, event, Currency::GBP, &BuyerData::default()))
            .unwrap()
    }

    /// The names of the members of the data of a kind, as the document has them.
    fn documented(event: &Object) -> Vec<String> {
        let names = |object: &Object| object.properties.keys().cloned().collect();
        match &event.properties["data"] {
            RefOr::T(Schema::Object(data)) => names(data),
            _ => match PlacedData::schema() {
                RefOr::T(Schema::Object(data)) => names(&data),
                _ => Vec::new(),
            },
        }
    }

    #[test]
    fn stored_events_of_all_versions_are_shown_as_documented() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ord");
        let kinds: BTreeMap<String, Object> = kinds()
            .into_iter()
            .map(|(_, event)| (kind_of(&event).unwrap().into(), event))
            .collect();
        let mut lines = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let (kind, version) = name.rsplit_once(".v").unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let event = shown(&record(kind, version.parse().unwrap(), &text));
            assert_eq!(event["kind"], kind);
            let mut members: Vec<&String> = event["data"].as_object().unwrap().keys().collect();
            let mut known = documented(&kinds[kind]);
            members.sort();
            known.sort();
            assert_eq!(members, known.iter().collect::<Vec<_>>(), "{name}");
            lines.push(format!("{name} {}", event["data"]));
        }
        lines.sort();
        assert!(kinds.len() > 20 && lines.len() >= kinds.len() - 1, "{}", lines.len());
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn an_event_has_its_cause_and_no_payment_token() {
        let text = r#"{"payment_retried": {"method": {"provider": "sandbox", "token": "01k8x4m5n6p7q8r9s0t1.tok1"}}}"#;
        let event = shown(&record("payment_retried", 1, text));
        let cause = serde_json::json!({"by": "key:5f0c", "by_name": "Mira", "command": "cancel",
            "request_id": "req_1", "idempotency_key": "k1"});
        assert_eq!((&event["cause"], &event["data"]["provider"]), (&cause, &"sandbox".into()));
        assert!(!event.to_string().contains("tok1"), "{event:#}");
        let odd = shown(&record("gift_wrapped", 1, "{\"gift_wrapped\": {}}"));
        assert_eq!(
            (&odd["kind"], &odd["data"]["stored_kind"]),
            (&"unreadable".into(), &"gift_wrapped".into())
        );
    }
}
