//! The OpenAPI schemas of single values of orders.

use crate::domain::order;
use crate::http::api::order::part::OrderPart;
use crate::http::docs::schemas::{names, schemas};
use crate::http::edge::input::string;
use crate::store::order::Sort;

schemas! {
    /// Server-sent events named `order`: the id is the order's version, the data is the order as JSON.
    OrderEvents |about| string().description(Some(about));
    /// The payment status of an order.
    PaymentStatus |about| string().description(Some(about)).enum_values(Some(names::<order::PaymentStatus>()));
    /// The fulfillment status of an order.
    FulfillmentStatus |about| string().description(Some(about)).enum_values(Some(names::<order::FulfillmentStatus>()));
    /// The status of an order, for its buyer.
    BuyerStatus |about| string().description(Some(about)).enum_values(Some(names::<order::BuyerStatus>()));
    /// The payment status of an order, for its buyer.
    BuyerPaymentStatus |about| string().description(Some(about)).enum_values(Some(names::<order::BuyerPayment>()));
    /// Why an order was cancelled, for its buyer.
    CancelReason |about| string().description(Some(about)).enum_values(Some(names::<order::CancelCause>()));
    /// The order of a list of orders; the newest placed first by default.
    OrderSort |about| string().description(Some(about)).enum_values(Some(names::<Sort>()));
    /// A part of an order.
    OrderParts |about| string().description(Some(about)).enum_values(Some(names::<OrderPart>()));
    /// The status of an order.
    Status |about| string().description(Some(about)).enum_values(Some(names::<order::OrderStatus>()));
}
