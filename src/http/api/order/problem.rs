//! The members of the problems of orders.

use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use crate::domain::id::OrderId;
use crate::domain::order::{Order, Shortage};
use crate::http::api::order::shape::OrderLinks;
use crate::http::docs::schemas;
use crate::http::edge::checked;
use crate::http::edge::error::Error;
use crate::http::edge::problem::{Code, Members};
use crate::http::edge::problem_body::problem_schema;

/// A SKU with too few units.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShortageShape {
    #[schema(value_type = checked::Sku)]
    sku: String,
    /// Units that the order needs.
    requested: i64,
    /// Units that the order could have got.
    available: i64,
    /// Whether enough units are held for other buyers whose payment is in progress: if it fails,
    /// they become available.
    may_come_free: bool,
}

impl From<&Shortage> for ShortageShape {
    fn from(one: &Shortage) -> Self {
        Self {
            sku: one.sku.to_string(),
            requested: one.requested,
            available: one.available,
            may_come_free: one.held > 0 && one.available + one.held >= one.requested,
        }
    }
}

/// A placed order, and what its buyer can do next.
pub struct BuyersOrder<'a> {
    /// The order's id.
    pub id: OrderId,
    /// The order, and what is possible with it; `None` if it cannot be read now.
    pub order: Option<(&'a Order, OrderLinks)>,
}

impl BuyersOrder<'_> {
    fn links(self) -> Option<OrderLinks> {
        self.order.map(|(_, links)| links)
    }

    /// Its last payment was declined.
    #[must_use]
    pub fn declined(self) -> Error {
        let found = self.order.and_then(|(order, links)| Some((order, order.placed()?, links)));
        let Some((order, placed, links)) = found else {
            return Error::not_found("order");
        };
        let members = PaymentDeclined {
            order: self.id.to_string(),
            links,
            decline_code: order.decline_code().map(str::to_owned),
            payment_deadline_at: placed.deadline_at.to_string(),
        };
        let detail = "the payment did not go through; the order is open for another attempt";
        Error::of(&members, detail)
    }

    /// A payment of it is in progress.
    #[must_use]
    pub fn in_progress(self, detail: String) -> Error {
        let order = self.id.to_string();
        Error::of(&CheckoutInProgress { order, links: self.links() }, detail)
    }

    /// It was cancelled.
    #[must_use]
    pub fn cancelled(self, detail: String) -> Error {
        let order = self.id.to_string();
        Error::of(&OrderCancelled { order, links: self.links() }, detail)
    }

    /// It was cancelled, because of these SKUs.
    #[must_use]
    pub fn out_of_stock(self, lines: &[Shortage]) -> Error {
        let members = OutOfStock {
            lines: lines.iter().map(Into::into).collect(),
            order: Some(self.id.to_string()),
            links: self.links(),
        };
        Error::of(&members, "the order was cancelled: there is not enough stock")
    }

    /// Its state does not allow what was asked for.
    #[must_use]
    pub fn wrong_state(self, detail: String) -> Error {
        let members = WrongState { order: Some(self.id.to_string()), links: self.links() };
        Error::of(&members, detail)
    }
}

/// The error of a checkout that placed no order, because of these SKUs.
#[must_use]
pub fn not_ordered(lines: &[Shortage]) -> Error {
    let lines = lines.iter().map(Into::into).collect();
    let members = OutOfStock { lines, order: None, links: None };
    Error::of(&members, "nothing was ordered; the cart is still open")
}

/// The members of `payment_declined`.
#[derive(Debug, Serialize, ToSchema)]
pub struct PaymentDeclined {
    #[schema(value_type = schemas::OrderId)]
    order: String,
    links: OrderLinks,
    /// The provider's code, or `no_answer`.
    #[schema(example = "card_declined")]
    decline_code: Option<String>,
    /// The time until which the order must be paid.
    payment_deadline_at: String,
}

/// The members of `order_cancelled`.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderCancelled {
    #[schema(value_type = schemas::OrderId)]
    order: String,
    /// `null` if the order cannot be read now.
    links: Option<OrderLinks>,
}

/// The members of `out_of_stock`.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutOfStock {
    lines: Vec<ShortageShape>,
    /// The order, which is cancelled; `null` if none was placed: then the cart is still open.
    #[schema(value_type = Option<schemas::OrderId>)]
    order: Option<String>,
    /// What the buyer can do with the order, if there is one.
    links: Option<OrderLinks>,
}

/// The members of `checkout_in_progress`.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckoutInProgress {
    #[schema(value_type = schemas::OrderId)]
    order: String,
    /// `null` if the order cannot be read now.
    links: Option<OrderLinks>,
}

/// The members of `wrong_state`, in answers to the buyer of an order; other answers have none of
/// them.
#[derive(Debug, Serialize, ToSchema)]
pub struct WrongState {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schemas::OrderId, required = false)]
    order: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    links: Option<OrderLinks>,
}

impl Members for PaymentDeclined {
    const CODE: Code = Code::PaymentDeclined;
}

impl Members for OrderCancelled {
    const CODE: Code = Code::OrderCancelled;
}

impl Members for OutOfStock {
    const CODE: Code = Code::OutOfStock;
}

impl Members for CheckoutInProgress {
    const CODE: Code = Code::CheckoutInProgress;
}

impl Members for WrongState {
    const CODE: Code = Code::WrongState;
}

/// The schemas of these problems.
#[must_use]
pub fn all() -> Vec<(String, RefOr<Schema>)> {
    [
        problem_schema::<PaymentDeclined>(),
        problem_schema::<OrderCancelled>(),
        problem_schema::<OutOfStock>(),
        problem_schema::<CheckoutInProgress>(),
        problem_schema::<WrongState>(),
    ]
    .concat()
}
