//! What a buyer does after a declined payment, with the token of the order or its cart: pay again,
//! cancel the order, or go on with a new cart.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::actors::buyer_data::BuyerData;
use crate::actors::flows::start_over::StartOverRefusal;
use crate::domain::id::OrderId;
use crate::domain::order::{self, Phase};
use crate::http::api::cart::carts;
use crate::http::api::cart::checkout::{self, PaymentInput};
use crate::http::api::cart::guest::GuestCaller;
use crate::http::api::cart::next_steps::with_next_steps;
use crate::http::api::cart::shape::CreatedCartShape;
use crate::http::api::order::replacement::{links_of, replacement_id};
use crate::http::api::order::shape::OrderShape;
use crate::http::docs::schemas;
use crate::http::edge::call::{RequestParts, id, versioned};
use crate::http::edge::error::Error;
use crate::http::edge::json_body::{Draft, NoBody};
use crate::http::edge::prefer::Patience;
use crate::http::edge::problem_body::Problem;
use crate::http::edge::read_your_writes;

/// How long a cancellation is waited for, unless the request says so.
const PATIENCE: Duration = Duration::from_secs(5);

/// Another payment of an order.
#[derive(Clone, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RepaymentInput {
    #[garde(dive)]
    payment: PaymentInput,
}

/// Pays an order again after a declined payment.
#[utoipa::path(post, path = "/v1/store/orders/{id}/payments", tag = "checkout",
    request_body = RepaymentInput,
    params(("id" = inline(schemas::OrderId), Path),
        ("Prefer" = Option<String>, Header, description = "`wait=N` waits up to N seconds, 0 to 30, for the outcome"),
        ("Challenge-Response" = Option<String>, Header, description = "What the buyer has got for a challenge (`challenge_required`)")),
    responses(
        (status = 201, description = "The order is confirmed", body = OrderShape),
        (status = 202, description = "The order; its outcome is not known yet", body = OrderShape),
        (status = 402, description = "`payment_declined`; `links` has what the buyer can do next", body = Problem,
            content_type = "application/problem+json"),
        (status = 403, description = "`challenge_required`, `checkout_denied`", body = Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "`checkout_in_progress`, `order_cancelled`, `out_of_stock`, `too_many_held`, `wrong_state`",
            body = Problem, content_type = "application/problem+json")))]
pub async fn pay_my_order(
    call: RequestParts,
    path: web::Path<String>,
    Patience(patience): Patience,
    GuestCaller(guest): GuestCaller,
    body: Draft<RepaymentInput>,
) -> Result<HttpResponse, Error> {
    let order: OrderId = id(&path, "order")?;
    let cause = call.cause(body.digest);
    let Draft { value: RepaymentInput { payment }, mut faults, .. } = body;
    checkout::check_payment(&call, Some(&payment), &mut faults);
    faults.check()?;
    let method = payment.seal(&call).await?;
    let checkout = &call.node().flows.checkout;
    match Box::pin(checkout.pay_again(order, method, guest.as_ref(), (cause, patience))).await {
        Ok(placed) => checkout::answer(&call, order, &placed, patience).await,
        Err(refusal) => Err(with_next_steps(&call, order, refusal.into()).await),
    }
}

/// Cancels an order that is not paid.
#[utoipa::path(post, path = "/v1/store/orders/{id}/cancel", tag = "checkout",
    params(("id" = inline(schemas::OrderId), Path),
        ("Prefer" = Option<String>, Header, description = "`wait=N` waits up to N seconds, 0 to 30, until the units are free; by default 5")),
    responses(
        (status = 200, description = "The order is cancelled, and its units are free", body = OrderShape),
        (status = 202, description = "The order is cancelled; a payment is being reversed before its units are free", body = OrderShape),
        (status = 409, description = "`wrong_state`: the order is paid", body = Problem, content_type = "application/problem+json")))]
pub async fn cancel_my_order(
    call: RequestParts,
    path: web::Path<String>,
    patience: Patience,
    body: NoBody,
) -> Result<HttpResponse, Error> {
    let order: OrderId = id(&path, "order")?;
    let (cause, patience) = (call.cause(body.digest), patience.0.unwrap_or(PATIENCE));
    let flow = &call.node().flows.start_over;
    let cancel = async |version| Ok(flow.cancel(order, version, (cause.clone(), patience)).await?);
    let (state, version) = match call.if_match.write(cancel).await {
        Ok(cancelled) => cancelled,
        Err(error) => return Err(with_next_steps(&call, order, error).await),
    };
    let links = links_of(&call, order, &state).await;
    let buyer = BuyerData::of_order(call.store(), &state).await?;
    let shape = OrderShape::new(order, (&state, version), buyer, links)?;
    let response = match state.phase() {
        Phase::Cancelled => versioned(StatusCode::OK, version, &shape),
        _ => {
            let place = format!("/v1/store/orders/{order}");
            checkout::undecided((&state, version), &place, shape)
        }
    };
    Ok(read_your_writes::wrote(response, order::entity_id(order), version))
}

/// Cancels an order that is not paid, and creates a cart with the same contents. Repeated requests
/// return the same cart.
#[utoipa::path(post, path = "/v1/store/orders/{id}/cart", tag = "checkout",
    params(("id" = inline(schemas::OrderId), Path),
        ("Prefer" = Option<String>, Header, description = "`wait=N` waits up to N seconds, 0 to 30, until the units are free; by default 5")),
    responses(
        (status = 201, description = "The cart, with its token", body = CreatedCartShape),
        (status = 409, description = "`wrong_state`: the order is paid, or the shop has cancelled it; `cart_spent`",
            body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "`cart_expired`", body = Problem, content_type = "application/problem+json")))]
pub async fn replace_my_cart(
    call: RequestParts,
    path: web::Path<String>,
    patience: Patience,
    body: NoBody,
) -> Result<HttpResponse, Error> {
    let order: OrderId = id(&path, "order")?;
    let (cause, patience) = (call.cause(body.digest), patience.0.unwrap_or(PATIENCE));
    let cart = replacement_id(call.secret(), order);
    let made = call.node().flows.start_over.new_cart(order, cart, (cause, patience)).await;
    let made = match made {
        Ok(made) => made,
        Err(StartOverRefusal::Order(refusal)) => {
            return Err(with_next_steps(&call, order, refusal.into()).await);
        }
        Err(StartOverRefusal::Cart(refusal)) => return Err(refusal.into()),
        Err(StartOverRefusal::Store(error)) => return Err(error.into()),
    };
    made.0.open(call.now())?;
    carts::answer(&call, StatusCode::CREATED, cart, made, None).await
}
