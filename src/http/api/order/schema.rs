//! What the API's document says of single values of orders.

use utoipa::openapi::schema::{ObjectBuilder, Type};

use crate::domain::order;
use crate::http::docs::schemas::{names, schemas};
use crate::http::edge::input::string;

schemas! {
    /// An event of a stream: its name, the version of the order, and the order as JSON.
    OrderEvent |about| ObjectBuilder::new().schema_type(Type::Object).description(Some(about))
        .property("event", string().enum_values(Some(["order"])))
        .property("id", string().pattern(Some("^[0-9]+$")))
        .property("data", string());
    /// One status, or several with commas between.
    Statuses statuses;
    /// How the money of an order stands.
    PaymentStatus |about| string().description(Some(about)).enum_values(Some(names::<order::PaymentStatus>()));
    /// How the goods of an order stand.
    FulfillmentStatus |about| string().description(Some(about)).enum_values(Some(names::<order::FulfillmentStatus>()));
    /// How an order stands.
    Status |about| string().description(Some(about)).enum_values(Some(names::<order::Status>()));
}

fn statuses(about: &str) -> ObjectBuilder {
    let any = names::<order::Status>().join("|");
    string().description(Some(about)).pattern(Some(format!("^ *({any}) *(, *({any}) *)*$")))
}
