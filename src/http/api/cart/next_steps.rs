//! What a buyer can do next with an order that was refused a payment or a cancellation.

use crate::domain::id::OrderId;
use crate::http::api::order::problem::BuyersOrder;
use crate::http::api::order::read::read_order;
use crate::http::api::order::replacement::links_of;
use crate::http::edge::call::RequestParts;
use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;

/// A refusal because of the order's state, with the order and what is possible with it instead; other
/// errors are returned as they are.
pub async fn with_next_steps(call: &RequestParts, id: OrderId, error: Error) -> Error {
    let of_order = [Code::WrongState, Code::OrderCancelled, Code::CheckoutInProgress];
    if !of_order.contains(&error.code()) {
        return error;
    }
    let read = read_order(call, id).await.ok();
    let order = match &read {
        Some((order, _)) => Some((order, links_of(call, id, order).await)),
        None => None,
    };
    let (order, detail) = (BuyersOrder { id, order }, error.detail().to_owned());
    match error.code() {
        Code::OrderCancelled => order.cancelled(detail),
        Code::CheckoutInProgress => order.in_progress(detail),
        _ => order.wrong_state(detail),
    }
}
