//! The handler that issues a new token of an order: for a buyer whose token is lost or has expired.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::buyer_data::BuyerData;
use crate::domain::id::OrderId;
use crate::http::api::order::read::read_order;
use crate::http::api::token::{opens_order_until, order_token};
use crate::http::docs::schemas;
use crate::http::edge::call::{RequestParts, id};
use crate::http::edge::error::Error;
use crate::http::edge::json_body::NoBody;
use crate::http::edge::security_log;
use crate::telemetry::security::SecurityEvent;

/// A new token of an order.
#[derive(Serialize, ToSchema)]
pub struct NewOrderToken {
    /// The token: give it to the order's buyer only, at the order's email address.
    #[schema(example = "ot_TiDqW8b1mJt0s9gq2Zx7pQ4nK5yV6cR3hL8eF1dA0uBwXi")]
    token: String,
    /// Where to send it: the order's email address; `null` once it was erased.
    #[schema(nullable = true)]
    email: Option<String>,
    /// When it expires, as `shop.order_token_days` says.
    expires_at: String,
}

/// Issues a new token of an order, to be sent to the order's email address. Earlier tokens stay valid
/// until they expire.
#[utoipa::path(post, path = "/v1/admin/orders/{id}/tokens", tag = "orders",
    params(("id" = inline(schemas::OrderId), Path)),
    responses((status = 201, description = "The token", body = NewOrderToken)))]
pub async fn issue_order_token(
    call: RequestParts,
    request: HttpRequest,
    path: web::Path<String>,
    _body: NoBody,
) -> Result<HttpResponse, Error> {
    let order: OrderId = id(&path, "order")?;
    let (state, _) = read_order(&call, order).await?;
    state.placed().ok_or_else(|| Error::not_found("order"))?;
    let buyer = BuyerData::of_order(call.store(), &state).await?;
    let token = order_token(call.secret(), order, call.now());
    let lifetime = call.node().settings.order_token_lifetime();
    let until = opens_order_until(call.secret(), order, &token, lifetime);
    let about = order.to_string();
    security_log::log(SecurityEvent::OrderTokenIssued, &request, call.principal(), &about);
    Ok(HttpResponse::Created().json(NewOrderToken {
        token,
        email: buyer.email,
        expires_at: until.unwrap_or_default().to_string(),
    }))
}
