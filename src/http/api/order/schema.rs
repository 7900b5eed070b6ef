//! The OpenAPI schemas of single values of orders.

use strum::VariantNames as _;
use utoipa::openapi::schema::ObjectBuilder;

use crate::actors::order_search::SearchField;
use crate::domain::{money, order};
use crate::http::api::order::part::OrderPart;
use crate::http::docs::schemas::{one_kind_of, one_of, schemas};
use crate::http::edge::checked::pattern;
use crate::http::edge::input::string;
use crate::store::order::Sort;

schemas! {
    /// Server-sent events named `order`: the id is opaque, the data is the order as JSON.
    OrderEvents |about| string().description(Some(about));
    /// The payment status of an order.
    PaymentStatus one_of::<order::PaymentStatus>;
    /// The fulfillment status of an order.
    FulfillmentStatus one_of::<order::FulfillmentStatus>;
    /// The status of an order, for its buyer.
    BuyerStatus one_of::<order::BuyerStatus>;
    /// The payment status of an order, for its buyer.
    BuyerPaymentStatus one_of::<order::BuyerPayment>;
    /// Why an order was cancelled, for its buyer.
    CancelReason one_of::<order::CancelCause>;
    /// The order of a list of orders; the newest placed first by default.
    OrderSort one_of::<Sort>;
    /// What an order is found by.
    OrderSearchField one_of::<SearchField>;
    /// A part of an order.
    OrderParts one_of::<OrderPart>;
    /// The status of an order.
    Status one_of::<order::OrderStatus>;
    /// The phase of the saga of an order.
    OrderPhase one_of::<order::Phase>;
    /// The status of a payment attempt.
    AttemptStatus one_kind_of::<order::AttemptState>;
    /// The kind of an event of an order.
    OrderEventKind one_kind_of::<order::Event>;
    /// The status of a capture, a refund or a fulfillment: it is to be carried out, it was, or an
    /// operator has skipped its step.
    MovementStatus one_of::<order::MovementStatus>;
    /// Which units of a line a refund takes back: those that were not shipped, or shipped ones.
    RefundSource one_of::<order::RefundFrom>;
    /// How halves of a minor unit are rounded: to the even neighbor, or away from zero.
    RoundingRule one_of::<money::Rounding>;
    /// When the money of an order is captured: when it is confirmed, with each fulfillment, or when
    /// an operator requests it.
    CaptureTime one_of::<order::CapturePolicy>;
    /// A step of the saga of an order, with the number of its reservation, payment attempt, capture,
    /// refund or fulfillment.
    OrderStep step;
}

fn step(about: &str) -> ObjectBuilder {
    let names = order::Effect::VARIANTS.join("|");
    pattern(about, &format!("^({names})(:[1-9][0-9]*)?$"), 64).examples(["capture:1"])
}

#[cfg(test)]
mod tests {
    use regex::Regex;
    use utoipa::PartialSchema as _;
    use utoipa::openapi::{RefOr, Schema};

    use super::*;
    use crate::domain::order::Effect;

    #[test]
    fn the_schema_of_steps_has_their_names() {
        let RefOr::T(Schema::Object(schema)) = OrderStep::schema() else { panic!("not a text") };
        let pattern = Regex::new(&schema.pattern.unwrap()).unwrap();
        let void = Effect::Reverse { attempt: 2, provider: String::new() };
        for step in [void.step().as_str(), "release", "reserve:1", "capture:10"] {
            assert!(pattern.is_match(step), "{step}");
        }
        assert!(!pattern.is_match("pay:1") && !pattern.is_match("capture:0"));
    }
}
