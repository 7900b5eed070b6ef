//! The OpenAPI schemas of single values of orders.

use utoipa::openapi::schema::{ObjectBuilder, Type};

use crate::domain::order;
use crate::http::docs::schemas::{names, schemas};
use crate::http::edge::input::string;

schemas! {
    /// A server-sent event: its name, the order's version as its id, and the order as JSON.
    OrderEvent |about| ObjectBuilder::new().schema_type(Type::Object).description(Some(about))
        .property("event", string().enum_values(Some(["order"])))
        .property("id", string().pattern(Some("^[0-9]+$")))
        .property("data", string());
    /// One status, or several separated by commas.
    Statuses statuses;
    /// The payment status of an order.
    PaymentStatus |about| string().description(Some(about)).enum_values(Some(names::<order::PaymentStatus>()));
    /// The fulfillment status of an order.
    FulfillmentStatus |about| string().description(Some(about)).enum_values(Some(names::<order::FulfillmentStatus>()));
    /// The status of an order.
    Status |about| string().description(Some(about)).enum_values(Some(names::<order::OrderStatus>()));
}

fn statuses(about: &str) -> ObjectBuilder {
    let any = names::<order::OrderStatus>().join("|");
    string().description(Some(about)).pattern(Some(format!("^ *({any}) *(, *({any}) *)*$")))
}
