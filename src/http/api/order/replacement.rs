//! What the buyer of an order can do next, and the cart in the place of one that was given up.

use crate::actors::node::Node;
use crate::domain::id::{CartId, Key, OrderId};
use crate::domain::order::Order;
use crate::http::api::order::shape::OrderLinks;
use crate::http::edge::call::RequestParts;
use crate::http::edge::secret::ServerSecret;

/// The id of the cart in place of a given up order: the same at every request, and known to nobody
/// who was not told it.
#[must_use]
pub fn replacement_id(secret: &ServerSecret, order: OrderId) -> CartId {
    let digest = secret.mac(&["cart", "in place of", &order.to_string()]);
    let mut random = [0; 10];
    random.copy_from_slice(&digest[..10]);
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&order.0.as_bytes()[..6]);
    let millis = u64::from_be_bytes(millis);
    CartId(Key::new(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()))
}

/// What the buyer of an order can do next. A new cart is possible until the one in the order's place
/// was ordered, or has expired. Nothing else is read for an order that was not given up.
pub async fn links(node: &Node, cart: CartId, id: OrderId, order: &Order) -> OrderLinks {
    let given_up = order.given_up() && order.replaceable();
    let used_up = given_up && node.flows.start_over.is_used_up(cart, node.clock.now()).await;
    OrderLinks::new(id, order, used_up)
}

/// The same, for the order of a request.
pub async fn links_of(call: &RequestParts, id: OrderId, order: &Order) -> OrderLinks {
    links(call.node(), replacement_id(call.secret(), id), id, order).await
}
