//! The handler of the checkout, which turns a cart into an order, and the status of its answer.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::actors::buyer_data::BuyerData;
use crate::actors::engine::host::View;
use crate::actors::flows::checkout::{CheckoutRefusal, PlacedOrder, Request};
use crate::domain::cart;
use crate::domain::id::{CartId, OrderId};
use crate::domain::money::Money;
use crate::domain::order::{self, CancelCause, Order, PaymentMethod, Phase};
use crate::http::api::amount::MoneyInput;
use crate::http::api::cart::guest::GuestCaller;
use crate::http::api::cart::next_steps::with_next_steps;
use crate::http::api::cart::rejection::{UNKNOWN_PROVIDER, must_be_total};
use crate::http::api::order::problem::BuyersOrder;
use crate::http::api::order::replacement::links_of;
use crate::http::api::order::shape::{OrderLinks, OrderShape};
use crate::http::api::order::waiting::{OrderWait, waits_for};
use crate::http::api::token::order_token;
use crate::http::docs::schemas;
use crate::http::edge::call::{RequestParts, id, located};
use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::input::Text;
use crate::http::edge::json_body::Draft;
use crate::http::edge::prefer::Patience;
use crate::http::edge::problem::Code;
use crate::http::edge::read_your_writes;

/// How the buyer pays.
#[derive(Clone, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"provider": "sandbox", "token": "tok_ok"}))]
pub struct PaymentInput {
    /// The provider's name.
    #[garde(dive)]
    provider: Text<1, 64>,
    /// The token that the provider gave the buyer's browser for the card.
    #[garde(dive)]
    token: Text<1, 512>,
}

impl PaymentInput {
    /// The payment method, its token sealed.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn seal(self, call: &RequestParts) -> Result<PaymentMethod, Error> {
        let token = call.store().seal_payment_token(&self.token, call.now()).await?;
        Ok(PaymentMethod { provider: self.provider.into(), token })
    }
}

/// A checkout request.
#[derive(Clone, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckoutInput {
    /// How the buyer pays. Not needed if the total is 0.
    #[serde(default)]
    #[garde(dive)]
    payment: Option<PaymentInput>,
    /// The total that the buyer was shown.
    #[serde(default)]
    #[garde(dive)]
    expected_total: Option<MoneyInput>,
}

/// Checks out a cart: places its order, or retries the payment of that order.
#[utoipa::path(post, path = "/v1/store/carts/{id}/checkout", tag = "checkout",
    request_body = CheckoutInput,
    params(("id" = inline(schemas::CartId), Path),
        ("Prefer" = Option<String>, Header, description = "`wait=N` waits up to N seconds, 0 to 30, for the outcome"),
        ("Challenge-Response" = Option<String>, Header, description = "What the buyer has got for a challenge (`challenge_required`)")),
    responses(
        (status = 201, description = "The order is confirmed", body = OrderShape),
        (status = 202, description = "The order; its outcome is not known yet", body = OrderShape),
        (status = 402, description = "`payment_declined`; `links` has what the buyer can do next", body = crate::http::edge::problem_body::Problem,
            content_type = "application/problem+json"),
        (status = 403, description = "`challenge_required`, `checkout_denied`", body = crate::http::edge::problem_body::Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "`out_of_stock`, `cart_changed`, `cart_spent`, `order_cancelled`, `checkout_in_progress`, `too_many_held`",
            body = crate::http::edge::problem_body::Problem, content_type = "application/problem+json")))]
pub async fn check_out(
    call: RequestParts,
    path: web::Path<String>,
    patience: Patience,
    guest: GuestCaller,
    body: Draft<CheckoutInput>,
) -> Result<HttpResponse, Error> {
    let cart: CartId = id(&path, "cart")?;
    let Patience(patience) = patience;
    let cause = call.cause(body.digest);
    let Draft { value: CheckoutInput { payment, expected_total }, mut faults, .. } = body;
    check_payment(&call, payment.as_ref(), &mut faults);
    let expected = expected_total.as_ref().and_then(|total| {
        let currency = total.currency.read().ok()?;
        Some(Money::new(total.amount.get(), currency))
    });
    let given = GivenTerms { payment: payment.is_some(), total: expected_total.as_ref() };
    if !faults.is_empty() {
        given.check(&call, cart, &mut faults).await?;
        faults.check()?;
    }
    let method = match payment {
        Some(payment) => Some(payment.seal(&call).await?),
        None => None,
    };
    let GuestCaller(guest) = guest;
    let asked = Request { cart, method, expected_total: expected, cause, patience, guest };
    let placed = Box::pin(call.node().flows.checkout.run(asked)).await;
    let order = OrderId(cart.0);
    match placed {
        Ok(placed) => answer(&call, order, &placed, patience).await,
        Err(refusal) => {
            if matches!(refusal, CheckoutRefusal::Changed { .. } | CheckoutRefusal::PaymentRequired)
            {
                let mut faults = RequestFaults::default();
                given.check(&call, cart, &mut faults).await?;
                faults.check()?;
            }
            Err(with_next_steps(&call, order, refusal.into()).await)
        }
    }
}

/// What a checkout says of the total and of the payment, which the cart must agree with.
struct GivenTerms<'a> {
    payment: bool,
    total: Option<&'a MoneyInput>,
}

impl GivenTerms<'_> {
    /// Adds what does not fit the cart, or its order. A total that has changed is no fault alone: the
    /// checkout itself refuses it, with the new one.
    async fn check(
        &self,
        call: &RequestParts,
        cart: CartId,
        faults: &mut RequestFaults,
    ) -> Result<(), Error> {
        let Some(total) = total_now(call, cart).await? else { return Ok(()) };
        if total.amount > 0 && !self.payment {
            faults.note(Err(Error::from(order::Rejection::PaymentRequired)))
        }
        let Some(given) = self.total else { return Ok(()) };
        let field = "expected_total.currency";
        match given.currency.read() {
            Ok(currency) if currency != total.currency => {
                let message = format!("must be the cart's currency, {}", total.currency.code());
                faults.add(Code::CurrencyMismatch, field, message);
            }
            Ok(_) if given.amount.get() != total.amount && !faults.is_empty() => {
                faults.invalid("expected_total.amount", must_be_total(total));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The total of an open cart, or of its order; `None` if there is neither.
async fn total_now(call: &RequestParts, cart: CartId) -> Result<Option<Money>, Error> {
    let of_order = |view: View<'_, order::Order>| {
        let placed = view.state.placed()?;
        Some(Money::new(view.state.total(), placed.currency))
    };
    let entity = order::entity_id(OrderId(cart.0));
    if let Some(total) = call.node().orders.read(&entity, of_order).await? {
        return Ok(Some(total));
    }
    let read = |view: View<'_, cart::Cart>| view.state.clone();
    let cart = call.node().carts.read(&cart::entity_id(cart), read).await?;
    let Some(currency) = cart.currency().filter(|_| cart.open(call.now()).is_ok()) else {
        return Ok(None);
    };
    let priced = call.node().pricing.price(&cart, call.now()).await?;
    Ok(Some(Money::new(priced.totals.total, currency)))
}

/// Checks what a checkout or a further payment needs besides a valid body: a key, and a provider
/// that the shop has.
pub(super) fn check_payment(
    call: &RequestParts,
    payment: Option<&PaymentInput>,
    faults: &mut RequestFaults,
) {
    if call.idempotency_key().is_none() {
        let rule = "is required: a new random value, and the same value with each retry";
        faults.add(Code::IdempotencyKeyMissing, "Idempotency-Key", rule);
    }
    let known = |payment: &PaymentInput| call.node().flows.checkout.takes(&payment.provider);
    if payment.is_some_and(|payment| !known(payment)) {
        faults.add(Code::UnknownProvider, "payment.provider", UNKNOWN_PROVIDER);
    }
}

/// The answer to a checkout or to a further payment: the order, or why it is not confirmed.
///
/// # Errors
/// The outcome, for who waited for it.
pub(super) async fn answer(
    call: &RequestParts,
    id: OrderId,
    placed: &PlacedOrder,
    patience: Option<Duration>,
) -> Result<HttpResponse, Error> {
    let links = links_of(call, id, &placed.order).await;
    let status = match patience {
        Some(_) => outcome(id, links.clone(), placed)?,
        None => StatusCode::ACCEPTED,
    };
    let token = order_token(call.secret(), id, call.now());
    let buyer = BuyerData::of_order(call.store(), &placed.order).await?;
    let shape = OrderShape::new(id, (&placed.order, placed.seq), buyer, links)?.with_token(token);
    let place = format!("/v1/store/orders/{id}");
    let response = match status {
        StatusCode::ACCEPTED => undecided((&placed.order, placed.seq), &place, shape),
        status => located(status, placed.seq, &place, &shape),
    };
    Ok(read_your_writes::wrote(response, order::entity_id(id), placed.seq))
}

/// The answer with an order whose outcome is not known yet: what it waits for, and when to look again.
pub(super) fn undecided(
    (order, version): (&Order, i64),
    place: &str,
    shape: OrderShape,
) -> HttpResponse {
    let OrderWait { hint, secs } = waits_for(order);
    let mut response = located(StatusCode::ACCEPTED, version, place, &shape.with_hint(hint));
    response.headers_mut().insert(header::RETRY_AFTER, secs.into());
    response
}

/// The status or the error for a buyer who has waited for the outcome.
fn outcome(id: OrderId, links: OrderLinks, placed: &PlacedOrder) -> Result<StatusCode, Error> {
    let order = &placed.order;
    let buyers = BuyersOrder { id, order: Some((order, links)) };
    match order.phase() {
        Phase::Confirmed => Ok(StatusCode::CREATED),
        Phase::AwaitingPayment if order.has_open_reversal() => Ok(StatusCode::ACCEPTED),
        Phase::AwaitingPayment => Err(buyers.declined()),
        Phase::Cancelling | Phase::Cancelled => match order.cancellation() {
            Some(why) if why.cause() == CancelCause::OutOfStock => {
                Err(buyers.out_of_stock(&why.shortages))
            }
            _ => Err(buyers.cancelled("the order was cancelled".to_owned())),
        },
        _ => Ok(StatusCode::ACCEPTED),
    }
}
