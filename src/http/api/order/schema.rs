//! The OpenAPI schemas of single values of orders.

use utoipa::openapi::schema::ObjectBuilder;

use crate::domain::order;
use crate::http::docs::schemas::{names, schemas};
use crate::http::edge::input::string;

schemas! {
    /// Server-sent events named `order`: the id is the order's version, the data is the order as JSON.
    OrderEvents |about| string().description(Some(about));
    /// One status, or several separated by commas.
    Statuses statuses;
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
    /// The status of an order.
    Status |about| string().description(Some(about)).enum_values(Some(names::<order::OrderStatus>()));
}

fn statuses(about: &str) -> ObjectBuilder {
    let any = names::<order::OrderStatus>().join("|");
    string().description(Some(about)).pattern(Some(format!("^ *({any}) *(, *({any}) *)*$")))
}
