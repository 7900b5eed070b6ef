//! The answer types of orders: for the buyer, for an operator, and as a row of a list.

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::buyer_data::BuyerData;
use crate::actors::order_rows::OpenedOrderRow;
use crate::actors::order_search::SearchedValue;
use crate::domain::id::OrderId;
use crate::domain::money::{Currency, parse_currency};
use crate::domain::order::{
    self, Attempt, AttemptState, BuyerPayment, BuyerStatus, CancelCause, Cancellation,
    CapturePolicy, FulfillmentStatus, MovementStatus, Order, OrderStatus, PaymentStatus, Phase,
    Placed,
};
use crate::domain::pricing;
use crate::http::api::order::allocations::OrderAllocation;
use crate::http::api::order::part::OrderPart;
use crate::http::api::order::schema;
use crate::http::api::shape::{Address, Delivery, Money, Price, Totals};
use crate::http::docs::schemas;
use crate::http::edge::checked;
use crate::http::edge::error::Error;

/// A line as it was ordered.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlacedLine {
    #[schema(value_type = checked::LineId)]
    id: String,
    #[schema(value_type = checked::Sku)]
    sku: String,
    name: String,
    quantity: i64,
    unit_price: Price,
    #[schema(value_type = checked::TaxRate)]
    tax_rate: String,
    total: Money,
    tax: Money,
}

/// A line of an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderLine {
    #[serde(flatten)]
    line: PlacedLine,
    /// Units that were shipped.
    fulfilled: i64,
    /// Units that were, or will be, refunded; without those of skipped refunds.
    refunded: i64,
    /// Units that are left to ship: not shipped, not refunded before they were, and of no cancelled
    /// order.
    open: i64,
}

/// Units of a line that were shipped.
#[derive(Debug, Serialize, ToSchema)]
pub struct LineUnits {
    #[schema(value_type = checked::LineId)]
    line: String,
    quantity: i64,
}

/// Units of a line that were refunded. `unfulfilled` and `fulfilled` are fewer than `quantity` if an
/// earlier refund, which was skipped, has moved the goods already.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefundedLine {
    #[schema(value_type = checked::LineId)]
    line: String,
    quantity: i64,
    amount: Money,
    /// Units of them that had not been shipped.
    unfulfilled: i64,
    /// Units of them that had been shipped.
    fulfilled: i64,
}

/// Tracking data of a parcel.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrackingShape {
    carrier: Option<String>,
    number: Option<String>,
    url: Option<String>,
}

/// A fulfillment: goods that were shipped together.
#[derive(Debug, Serialize, ToSchema)]
pub struct FulfillmentShape {
    id: String,
    /// Whether the stock has recorded the shipment.
    #[schema(value_type = schema::MovementStatus)]
    status: MovementStatus,
    lines: Vec<LineUnits>,
    tracking: Option<TrackingShape>,
    created_at: String,
}

/// A refund.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefundShape {
    id: String,
    /// Whether the provider has refunded the money.
    #[schema(value_type = schema::MovementStatus)]
    status: MovementStatus,
    amount: Money,
    lines: Vec<RefundedLine>,
    delivery: Money,
    /// Whether the goods are put back on sale.
    restock: bool,
    /// An operator's words, for operators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
    requested_at: String,
}

/// What is the same in an order for its buyer and for an operator.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderContent {
    #[schema(value_type = schemas::OrderId)]
    id: String,
    /// The order number; `null` until the order is confirmed.
    number: Option<i64>,
    #[schema(value_type = schema::FulfillmentStatus)]
    fulfillment_status: FulfillmentStatus,
    #[schema(value_type = checked::Currency)]
    currency: &'static str,
    /// `null` once the buyer's personal data were erased, as the reference and the addresses are.
    #[schema(value_type = Option<checked::Email>)]
    email: Option<String>,
    reference: Option<String>,
    lines: Vec<OrderLine>,
    shipping_address: Option<Address>,
    billing_address: Option<Address>,
    delivery: Delivery,
    totals: Totals,
    total: Money,
    captured: Money,
    refunded: Money,
    fulfillments: Vec<FulfillmentShape>,
    refunds: Vec<RefundShape>,
    placed_at: String,
    /// The time until which the order must be paid.
    payment_deadline_at: String,
    version: i64,
}

/// An order as its buyer sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Order)]
pub struct OrderShape {
    #[serde(flatten)]
    content: OrderContent,
    #[schema(value_type = schema::BuyerStatus)]
    status: BuyerStatus,
    #[schema(value_type = schema::BuyerPaymentStatus)]
    payment_status: BuyerPayment,
    /// Why the last payment was declined, if it was: the provider's code, or `no_answer`.
    #[schema(example = "card_declined")]
    decline_code: Option<String>,
    #[schema(value_type = Option<schema::CancelReason>)]
    cancel_reason: Option<CancelCause>,
    links: OrderLinks,
    /// What the order waits for, in words; only in an answer whose outcome is not known yet (202).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "the payment provider has not decided yet")]
    hint: Option<&'static str>,
    /// The order's token; only in the answers to checkout and payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    token: Option<String>,
}

/// What the buyer of an order that is not paid can do next, each with a POST to its path; `null` if
/// it is not possible now.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OrderLinks {
    /// Pays again.
    #[schema(example = "/v1/store/orders/ord_01k8x4m5n6p7q8r9s0t1v2w3x4/payments")]
    pay: Option<String>,
    /// Cancels the order.
    #[schema(example = "/v1/store/orders/ord_01k8x4m5n6p7q8r9s0t1v2w3x4/cancel")]
    cancel: Option<String>,
    /// Cancels the order, and creates a new cart with the same lines, or returns that cart.
    #[schema(example = "/v1/store/orders/ord_01k8x4m5n6p7q8r9s0t1v2w3x4/cart")]
    new_cart: Option<String>,
}

impl OrderLinks {
    /// What is possible with an order. `used_up`: the cart in its place was ordered, or has expired.
    #[must_use]
    pub fn new(id: OrderId, order: &Order, used_up: bool) -> Self {
        let to = |possible: bool, what| possible.then(|| format!("/v1/store/orders/{id}/{what}"));
        Self {
            pay: to(order.payable(), "payments"),
            cancel: to(order.abandonable(), "cancel"),
            new_cart: to(order.replaceable() && !used_up, "cart"),
        }
    }
}

/// A payment attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptShape {
    attempt: u32,
    provider: String,
    /// The amount that was requested.
    amount: Money,
    /// The amount that the provider authorized, if it ever did; it stays when the rest is voided.
    authorized: Option<Money>,
    #[schema(value_type = schema::AttemptStatus)]
    status: &'static str,
    /// The provider's id of the payment.
    payment: Option<String>,
    /// The provider's code of the decline, if it declined.
    #[schema(example = "card_declined")]
    decline_code: Option<String>,
}

/// A capture.
#[derive(Debug, Serialize, ToSchema)]
pub struct CaptureShape {
    id: String,
    amount: Money,
    /// Whether the provider has captured the money.
    #[schema(value_type = schema::MovementStatus)]
    status: MovementStatus,
}

/// A step that needs an operator.
#[derive(Debug, Serialize, ToSchema)]
pub struct StuckStep {
    #[schema(value_type = schema::OrderStep)]
    step: String,
    why: String,
}

/// An order as an operator sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdminOrder {
    #[serde(flatten)]
    content: OrderContent,
    #[schema(value_type = schema::Status)]
    status: OrderStatus,
    #[schema(value_type = schema::PaymentStatus)]
    payment_status: PaymentStatus,
    /// `out_of_stock`, `payment_deadline`, `cancelled_by_buyer`, or an operator's reason.
    cancel_reason: Option<String>,
    #[schema(value_type = schema::OrderPhase)]
    phase: Phase,
    payments: Vec<AttemptShape>,
    captures: Vec<CaptureShape>,
    /// When its money is captured.
    #[schema(value_type = schema::CaptureTime)]
    capture_policy: CapturePolicy,
    /// The amount that the buyer has to pay in the end.
    due: Money,
    /// The part of it that was not captured yet, and for which no capture is in progress.
    left_to_capture: Money,
    stuck: Vec<StuckStep>,
    /// Why the order is stopped: `amount_mismatch`, `voided_elsewhere`, `capture_mismatch`, or a
    /// difference to the provider's ledger, in words.
    alert: Option<String>,
    /// Why the buyer's personal data must not be erased: there is a legal hold; `null` without one.
    legal_hold: Option<String>,
    updated_at: String,
    /// Only with `expand=allocations`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    allocations: Option<Vec<OrderAllocation>>,
}

/// An order in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderSummary {
    #[schema(value_type = schemas::OrderId)]
    id: String,
    number: Option<i64>,
    #[schema(value_type = schema::Status)]
    status: String,
    #[schema(value_type = schema::PaymentStatus)]
    payment_status: String,
    #[schema(value_type = schema::FulfillmentStatus)]
    fulfillment_status: String,
    #[schema(value_type = checked::Currency)]
    currency: String,
    /// `null` once the buyer's personal data were erased, as the name and the reference are.
    #[schema(value_type = Option<checked::Email>)]
    email: Option<String>,
    /// The name in the billing address, or in the shipping address if that is the only one.
    #[schema(example = "Ada Lovelace")]
    buyer_name: Option<String>,
    #[schema(value_type = Option<checked::Country>)]
    country: Option<String>,
    reference: Option<String>,
    total: Money,
    captured: Money,
    refunded: Money,
    line_count: i64,
    item_count: i64,
    /// The current step of the saga; `null` if the saga has nothing to do.
    #[schema(value_type = Option<schema::OrderStep>)]
    saga_step: Option<String>,
    stuck_reason: Option<String>,
    alert: Option<String>,
    placed_at: String,
    updated_at: String,
    version: i64,
}

/// A value of an order in which a word of a search was found.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderMatch {
    #[schema(value_type = schema::OrderSearchField)]
    field: &'static str,
    /// The whole value.
    #[schema(example = "ada@example.com")]
    text: String,
}

/// An order in a list, with the parts that the caller asked for by `expand`.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderListItem {
    #[serde(flatten)]
    row: OrderSummary,
    /// Only with `q`: what was found in the order, at most 5 values of each field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    matched: Option<Vec<OrderMatch>>,
    /// Only with `expand=lines`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    lines: Option<Vec<OrderLine>>,
    /// Only with `expand=addresses`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    shipping_address: Option<Address>,
    /// Only with `expand=addresses`, if it is not the shipping address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    billing_address: Option<Address>,
    /// Only with `expand=addresses`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    delivery: Option<Delivery>,
    /// Only with `expand=payments`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    payments: Option<Vec<AttemptShape>>,
    /// Only with `expand=payments`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    captures: Option<Vec<CaptureShape>>,
    /// Only with `expand=payments`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refunds: Option<Vec<RefundShape>>,
    /// Only with `expand=fulfillments`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    fulfillments: Option<Vec<FulfillmentShape>>,
    /// Only with `expand=allocations`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    allocations: Option<Vec<OrderAllocation>>,
}

impl OrderListItem {
    /// A row of a list with these parts of the order, what a search found in it, and its
    /// allocations.
    ///
    /// # Errors
    /// An internal error for a row with an unknown currency.
    pub fn new(
        row: OpenedOrderRow,
        order: Option<(&Order, BuyerData)>,
        parts: &BTreeSet<OrderPart>,
        (found, allocations): (Option<Vec<SearchedValue>>, Option<Vec<OrderAllocation>>),
    ) -> Result<Self, Error> {
        let matched = |one: SearchedValue| OrderMatch { field: one.field.into(), text: one.text };
        let (order, buyer) =
            order.map_or((None, None), |(order, buyer)| (Some(order), Some(buyer)));
        let order = order.and_then(|order| Some((order, order.placed()?)));
        let part = |part| order.filter(|_| parts.contains(&part));
        let addresses = part(OrderPart::Addresses);
        let buyer = buyer.filter(|_| addresses.is_some()).unwrap_or_default();
        let payments = part(OrderPart::Payments);
        let lines = part(OrderPart::Lines).map(|(order, placed)| {
            placed.lines.iter().map(|line| order_line(order, line, placed)).collect()
        });
        Ok(Self {
            row: OrderSummary::new(row)?,
            matched: found.map(|found| found.into_iter().map(matched).collect()),
            lines,
            shipping_address: buyer.shipping_address.as_ref().map(Into::into),
            billing_address: buyer.billing_address.as_ref().map(Into::into),
            delivery: addresses.map(|(_, placed)| Delivery::new(&placed.delivery, placed.currency)),
            payments: payments.map(|(order, placed)| attempts(order, placed.currency)),
            captures: payments.map(|(order, placed)| captures(order, placed.currency)),
            refunds: payments.map(|(order, placed)| refunds(order, placed.currency)),
            fulfillments: part(OrderPart::Fulfillments).map(|(order, _)| fulfillments(order)),
            allocations: part(OrderPart::Allocations).map(|_| allocations.unwrap_or_default()),
        })
    }
}

impl OrderContent {
    fn new(id: OrderId, order: &Order, version: i64, buyer: BuyerData) -> Result<Self, Error> {
        let placed = order.placed().ok_or_else(|| Error::not_found("order"))?;
        let money = |amount| Money::new(amount, placed.currency);
        Ok(Self {
            id: id.to_string(),
            number: order.number(),
            fulfillment_status: order.fulfillment_status(),
            currency: placed.currency.code(),
            email: buyer.email,
            reference: buyer.reference,
            lines: placed.lines.iter().map(|line| order_line(order, line, placed)).collect(),
            shipping_address: buyer.shipping_address.as_ref().map(Into::into),
            billing_address: buyer.billing_address.as_ref().map(Into::into),
            delivery: Delivery::new(&placed.delivery, placed.currency),
            totals: Totals::new(&placed.totals, placed.currency),
            total: money(order.total()),
            captured: money(order.captured()),
            refunded: money(order.refunded()),
            fulfillments: fulfillments(order),
            refunds: refunds(order, placed.currency),
            placed_at: order.placed_at().to_string(),
            payment_deadline_at: placed.deadline_at.to_string(),
            version,
        })
    }
}

impl OrderShape {
    /// An order at a version, with what its buyer can do next.
    ///
    /// # Errors
    /// 404 for one that was not placed.
    pub fn new(
        id: OrderId,
        (order, version): (&Order, i64),
        buyer: BuyerData,
        links: OrderLinks,
    ) -> Result<Self, Error> {
        let mut content = OrderContent::new(id, order, version, buyer)?;
        content.refunds.iter_mut().for_each(|refund| refund.reason = None);
        Ok(Self {
            content,
            status: order.buyer_status(),
            payment_status: order.buyer_payment(),
            decline_code: order.decline_code().map(str::to_owned),
            cancel_reason: order.cancellation().map(Cancellation::cause),
            links,
            hint: None,
            token: None,
        })
    }

    /// The same, in an answer whose outcome is not known yet.
    #[must_use]
    pub const fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// The same, with a token of the order.
    #[must_use]
    pub fn with_token(mut self, token: String) -> Self {
        self.token = Some(token);
        self
    }
}

impl AdminOrder {
    /// An order at a version.
    ///
    /// # Errors
    /// 404 if the order was not placed.
    pub fn new(
        id: OrderId,
        (order, version): (&Order, i64),
        buyer: BuyerData,
    ) -> Result<Self, Error> {
        let content = OrderContent::new(id, order, version, buyer)?;
        let placed = order.placed().ok_or_else(|| Error::not_found("order"))?;
        let currency = placed.currency;
        let stuck = order.stuck().iter();
        Ok(Self {
            content,
            status: order.status(),
            payment_status: order.payment_status(),
            cancel_reason: order.cancellation().map(|why| why.reason.clone()),
            phase: order.phase(),
            payments: attempts(order, currency),
            captures: captures(order, currency),
            capture_policy: placed.capture,
            due: Money::new(order.due(), currency),
            left_to_capture: Money::new(order.left_to_capture(), currency),
            stuck: stuck
                .map(|(step, why)| StuckStep { step: step.clone(), why: why.clone() })
                .collect(),
            alert: order.alert().map(str::to_owned),
            legal_hold: order.legal_hold().map(str::to_owned),
            updated_at: order.updated_at().to_string(),
            allocations: None,
        })
    }

    /// The order with its allocations.
    #[must_use]
    pub fn with_allocations(self, allocations: Vec<OrderAllocation>) -> Self {
        Self { allocations: Some(allocations), ..self }
    }
}

impl OrderSummary {
    /// A row of a list.
    ///
    /// # Errors
    /// An internal error for a row with an unknown currency.
    pub fn new(listed: OpenedOrderRow) -> Result<Self, Error> {
        let OpenedOrderRow { row, email, buyer_name, reference } = listed;
        let currency = parse_currency(&row.currency).map_err(Error::internal)?;
        let money = |amount| Money::new(amount, currency);
        Ok(Self {
            total: money(row.total),
            captured: money(row.captured),
            refunded: money(row.refunded),
            id: row.id,
            number: row.number,
            status: row.status,
            payment_status: row.payment_status,
            fulfillment_status: row.fulfillment_status,
            currency: row.currency,
            email,
            buyer_name,
            country: row.country,
            reference,
            line_count: row.line_count,
            item_count: row.item_count,
            saga_step: row.saga_step,
            stuck_reason: row.stuck_reason,
            alert: row.alert,
            placed_at: row.placed_at.to_string(),
            updated_at: row.updated_at.to_string(),
            version: row.version,
        })
    }
}

impl PlacedLine {
    /// A line in a currency.
    #[must_use]
    pub fn new(line: &pricing::QuotedLine, currency: Currency) -> Self {
        Self {
            id: line.id.to_string(),
            sku: line.sku.to_string(),
            name: line.name.clone(),
            quantity: line.quantity,
            unit_price: Price::new(line.unit_price, currency),
            tax_rate: line.tax_rate.to_string(),
            total: Money::new(line.total, currency),
            tax: Money::new(line.tax, currency),
        }
    }
}

impl RefundedLine {
    /// Units that were refunded, with their amount.
    #[must_use]
    pub fn new(line: &order::RefundLine, currency: Currency) -> Self {
        Self {
            line: line.line.to_string(),
            quantity: line.quantity(),
            amount: Money::new(line.amount, currency),
            unfulfilled: line.unshipped,
            fulfilled: line.shipped,
        }
    }
}

impl From<&order::FulfillmentLine> for LineUnits {
    fn from(line: &order::FulfillmentLine) -> Self {
        Self { line: line.line.to_string(), quantity: line.quantity }
    }
}

impl From<&order::Tracking> for TrackingShape {
    fn from(tracking: &order::Tracking) -> Self {
        Self {
            carrier: named(&tracking.carrier),
            number: named(&tracking.number),
            url: tracking.url.clone(),
        }
    }
}

fn order_line(order: &Order, line: &pricing::QuotedLine, placed: &Placed) -> OrderLine {
    OrderLine {
        line: PlacedLine::new(line, placed.currency),
        fulfilled: order.fulfilled(line.id),
        refunded: order.refunded_units(line.id),
        open: order.open_units(line.id),
    }
}

fn attempts(order: &Order, currency: Currency) -> Vec<AttemptShape> {
    order.attempts().iter().map(|one| attempt(one, currency)).collect()
}

fn captures(order: &Order, currency: Currency) -> Vec<CaptureShape> {
    let shape = |one: &order::Capture| CaptureShape {
        id: one.number.to_string(),
        amount: Money::new(one.amount, currency),
        status: order.capture_status(one),
    };
    order.captures().iter().map(shape).collect()
}

fn refunds(order: &Order, currency: Currency) -> Vec<RefundShape> {
    order.refunds().iter().map(|one| refund(order, one, currency)).collect()
}

fn fulfillments(order: &Order) -> Vec<FulfillmentShape> {
    order.fulfillments().iter().map(|one| fulfillment(order, one)).collect()
}

fn fulfillment(order: &Order, one: &order::Fulfillment) -> FulfillmentShape {
    FulfillmentShape {
        id: one.number.to_string(),
        status: order.shipment_status(one),
        lines: one.lines.iter().map(Into::into).collect(),
        tracking: one.tracking.as_ref().map(Into::into),
        created_at: one.created_at.to_string(),
    }
}

fn refund(order: &Order, one: &order::Refund, currency: Currency) -> RefundShape {
    let lines = one.lines.iter().map(|line| RefundedLine::new(line, currency));
    RefundShape {
        id: one.number.to_string(),
        status: order.refund_status(one),
        amount: Money::new(one.amount, currency),
        lines: lines.collect(),
        delivery: Money::new(one.delivery, currency),
        restock: one.restock,
        reason: Some(one.reason.clone()),
        requested_at: one.requested_at.to_string(),
    }
}

fn attempt(one: &Attempt, currency: Currency) -> AttemptShape {
    AttemptShape {
        attempt: one.number,
        provider: one.provider.clone(),
        amount: Money::new(one.amount, currency),
        authorized: one.once_authorized.map(|amount| Money::new(amount, currency)),
        status: (&one.state).into(),
        payment: one.payment.clone(),
        decline_code: match &one.state {
            AttemptState::Declined { code } => Some(code.clone()),
            _ => None,
        },
    }
}

/// A text that is stored as empty if there is none.
fn named(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
