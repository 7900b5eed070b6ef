//! What a buyer can do next with an order that was refused a payment or a cancellation.

use serde_json::json;

use crate::domain::id::OrderId;
use crate::http::api::order::read::read_order;
use crate::http::api::order::shape::OrderLinks;
use crate::http::edge::call::RequestParts;
use crate::http::edge::error::Error;

/// A refusal, with the order and what is possible with it.
pub async fn with_next_steps(call: &RequestParts, id: OrderId, error: Error) -> Error {
    let error = error.with("order", id.to_string().into());
    match read_order(call, id).await {
        Ok((order, _)) => error.with("links", json!(OrderLinks::new(id, &order))),
        Err(_) => error,
    }
}
