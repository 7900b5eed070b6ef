//! Handlers with which an operator changes an order: cancel, refund, capture, fulfill, retry, skip.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::actors::buyer_data::BuyerData;
use crate::actors::engine::host::{self, Until, View};
use crate::domain::cart::{LINES_MAX, double_option};
use crate::domain::entity::{Cause, EntityId, Noun as _};
use crate::domain::id::OrderId;
use crate::domain::money::Currency;
use crate::domain::order::{
    self, Command, FulfillmentRequest, Order, RefundFrom, RefundLineRequest, RefundRequest,
    Tracking, TrackingPatch,
};
use crate::http::api::amount::MoneyInput;
use crate::http::api::order::read::read_order;
use crate::http::api::order::rejection::at_fields;
use crate::http::api::order::schema::RefundSource;
use crate::http::api::order::shape::AdminOrder;
use crate::http::api::shape::Units;
use crate::http::docs::schemas;
use crate::http::edge::call::{RequestParts, id, versioned};
use crate::http::edge::checked;
use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::input::{IN_PLACE, List, ListItem, Prose, Text, string};
use crate::http::edge::json_body::{Draft, Json};
use crate::http::edge::prefer::Patience;
use crate::http::edge::problem::Code;
use crate::http::edge::read_your_writes;

/// The reason for an action.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonInput {
    /// A reason in the operator's own words.
    #[garde(dive)]
    reason: Prose<1, 500>,
}

/// A stuck step to skip.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"step": "capture:1"}))]
pub struct SkipInput {
    /// The step to skip; may be omitted if only one is stuck.
    #[serde(default)]
    #[garde(dive)]
    step: Option<Text<1, 64>>,
    /// A reason in the operator's own words.
    #[garde(dive)]
    reason: Prose<1, 500>,
}

/// Units of a line to refund.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundLineInput {
    #[garde(dive)]
    line: checked::LineId,
    #[garde(dive)]
    quantity: Units,
    /// The amount to refund for these units; by default their share of what was paid.
    #[serde(default)]
    #[garde(dive)]
    amount: Option<MoneyInput>,
    /// Which units come back: those that were not shipped, or shipped ones. By default those that were
    /// not shipped first.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<RefundSource>)]
    from: Option<RefundFrom>,
}

/// The lines of a refund.
pub type RefundLines = List<RefundLineInput, 0, LINES_MAX>;

impl ListItem for RefundLineInput {
    const PLURAL: &'static str = "lines";
}

/// A refund of lines, of the delivery, of an amount that belongs to neither, or a combination of
/// these.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundInput {
    #[serde(default)]
    #[garde(dive)]
    lines: RefundLines,
    /// The amount to refund for the delivery.
    #[serde(default)]
    #[garde(dive)]
    delivery: Option<MoneyInput>,
    /// An amount that belongs neither to a line nor to the delivery.
    #[serde(default)]
    #[garde(dive)]
    amount: Option<MoneyInput>,
    /// Whether the goods are put back on sale.
    #[serde(default)]
    #[garde(skip)]
    restock: bool,
    #[garde(dive)]
    reason: Prose<1, 500>,
}

/// A capture request.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureInput {
    /// The amount to capture; by default everything that is left to capture.
    #[serde(default)]
    #[garde(dive)]
    amount: Option<MoneyInput>,
}

/// Units of a line to ship.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FulfillmentLineInput {
    #[garde(dive)]
    line: checked::LineId,
    #[garde(dive)]
    quantity: Units,
}

/// The lines of a fulfillment.
pub type FulfillmentLines = List<FulfillmentLineInput, 0, LINES_MAX>;

impl ListItem for FulfillmentLineInput {
    const PLURAL: &'static str = "lines";
}

/// Tracking data of a parcel: what is known of it, at least one of the three.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackingInput {
    #[serde(default)]
    #[garde(dive)]
    carrier: Option<Text<1, 100>>,
    #[serde(default)]
    #[garde(dive)]
    number: Option<Text<1, 100>>,
    #[serde(default)]
    #[garde(dive)]
    url: Option<WebAddress>,
}

/// The maximum number of characters of a web address.
const WEB_ADDRESS_MAX: usize = 500;

/// A web address.
#[derive(Clone, Debug, Deserialize, garde::Validate)]
#[serde(transparent)]
#[garde(transparent)]
pub struct WebAddress(#[garde(custom(check_web_address))] String);

fn check_web_address(value: &str, (): &()) -> garde::Result {
    let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    let plain = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic());
    if rest.is_some_and(plain) && value.len() <= WEB_ADDRESS_MAX {
        Ok(())
    } else {
        Err(garde::Error::new(format!(
            "must begin with https:// or http:// and have at most {WEB_ADDRESS_MAX} visible ASCII characters"
        )))
    }
}

impl PartialSchema for WebAddress {
    fn schema() -> RefOr<Schema> {
        string().pattern(Some("^https?://[!-~]+$")).max_length(Some(WEB_ADDRESS_MAX)).into()
    }
}

impl ToSchema for WebAddress {
    fn name() -> Cow<'static, str> {
        format!("{IN_PLACE}web_address").into()
    }
}

/// A fulfillment request.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FulfillmentInput {
    /// The lines to ship; without it, everything that is left.
    #[serde(default)]
    #[garde(custom(some_lines), dive)]
    lines: Option<FulfillmentLines>,
    #[serde(default)]
    #[garde(dive)]
    tracking: Option<TrackingInput>,
}

/// An empty list does not stand for all lines: a pick list that came out empty ships nothing.
fn some_lines(lines: &Option<FulfillmentLines>, (): &()) -> garde::Result {
    match lines {
        Some(lines) if lines.is_empty() => Err(garde::Error::new(
            "must not be empty: leave it out to ship everything that is left",
        )),
        _ => Ok(()),
    }
}

/// A correction of a fulfillment.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"tracking": {"carrier": "DHL", "number": "JD014600006751"}}))]
pub struct FulfillmentPatch {
    /// The tracking data; `null` for none.
    #[serde(default, deserialize_with = "double_option::deserialize")]
    #[garde(dive)]
    tracking: Option<Option<TrackingChange>>,
}

/// A correction of tracking data: what is absent stays as it is, and `null` clears it.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackingChange {
    #[serde(default, deserialize_with = "double_option::deserialize")]
    #[garde(dive)]
    carrier: Option<Option<Text<1, 100>>>,
    #[serde(default, deserialize_with = "double_option::deserialize")]
    #[garde(dive)]
    number: Option<Option<Text<1, 100>>>,
    #[serde(default, deserialize_with = "double_option::deserialize")]
    #[garde(dive)]
    url: Option<Option<WebAddress>>,
}

impl From<TrackingChange> for TrackingPatch {
    fn from(TrackingChange { carrier, number, url }: TrackingChange) -> Self {
        let text = |text: Option<Text<1, 100>>| text.map(Into::into).unwrap_or_default();
        Self {
            carrier: carrier.map(text),
            number: number.map(text),
            url: url.map(|url| url.map(|url| url.0).unwrap_or_default()),
        }
    }
}

/// The number of a line; 0, which no line has, for an id that was not validated.
fn number(line: &checked::LineId) -> u32 {
    line.read().map_or(0, |number| number.0)
}

/// Cancels an order.
#[utoipa::path(post, path = "/v1/admin/orders/{id}/cancel", tag = "orders", request_body = ReasonInput,
    params(("id" = inline(schemas::OrderId), Path),
        ("Prefer" = Option<String>, Header, description = "`wait=N` waits up to N seconds, 0 to 30, until the order has no unfinished steps")),
    responses((status = 200, description = "The order", body = AdminOrder)))]
pub async fn cancel_order(
    call: RequestParts,
    path: web::Path<String>,
    patience: Patience,
    body: Json<ReasonInput>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    change(&call, &path, patience, Command::Cancel { reason: body.value.reason.into() }, cause)
        .await
}

/// Refunds an order, in full or in part.
#[utoipa::path(post, path = "/v1/admin/orders/{id}/refunds", tag = "orders", request_body = RefundInput,
    params(("id" = inline(schemas::OrderId), Path),
        ("Prefer" = Option<String>, Header, description = "`wait=N` waits up to N seconds, 0 to 30, until the order has no unfinished steps")),
    responses((status = 200, description = "The order", body = AdminOrder)))]
pub async fn refund_order(
    call: RequestParts,
    path: web::Path<String>,
    patience: Patience,
    body: Draft<RefundInput>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let Draft { value: input, mut faults, .. } = body;
    let currency = currency(&call, &path).await?;
    let mut minor = |amount: &MoneyInput, field: &str| minor(amount, currency, field, &mut faults);
    let mut lines = Vec::with_capacity(input.lines.len());
    for (index, line) in input.lines.iter().enumerate() {
        let field = format!("lines[{index}].amount");
        let amount = line.amount.as_ref().map(|amount| minor(amount, &field));
        lines.push(RefundLineRequest {
            line: number(&line.line),
            quantity: line.quantity.get(),
            amount,
            from: line.from,
        });
    }
    let mut of = |amount: &Option<MoneyInput>, field: &str| {
        amount.as_ref().map_or(0, |amount| minor(amount, field))
    };
    let request = RefundRequest {
        lines,
        delivery: of(&input.delivery, "delivery"),
        free: of(&input.amount, "amount"),
        restock: input.restock,
        reason: input.reason.into(),
    };
    let numbers: Vec<u32> = request.lines.iter().map(|line| line.line).collect();
    each_once(&numbers, &mut faults);
    if request.lines.is_empty() && request.delivery + request.free == 0 {
        for (amount, field) in [(&input.delivery, "delivery"), (&input.amount, "amount")] {
            if amount.as_ref().is_some_and(|amount| amount.amount.get() == 0) {
                faults.invalid(format!("{field}.amount"), "must be at least 1");
            }
        }
    }
    faults.check()?;
    change(&call, &path, patience, Command::Refund(request), cause).await
}

/// Captures authorized money.
#[utoipa::path(post, path = "/v1/admin/orders/{id}/captures", tag = "orders", request_body = CaptureInput,
    params(("id" = inline(schemas::OrderId), Path),
        ("Prefer" = Option<String>, Header, description = "`wait=N` waits up to N seconds, 0 to 30, until the order has no unfinished steps")),
    responses((status = 200, description = "The order", body = AdminOrder)))]
pub async fn capture_order(
    call: RequestParts,
    path: web::Path<String>,
    patience: Patience,
    body: Draft<CaptureInput>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let Draft { value: input, mut faults, .. } = body;
    let amount = match &input.amount {
        Some(amount) => Some(minor(amount, currency(&call, &path).await?, "amount", &mut faults)),
        None => None,
    };
    faults.check()?;
    change(&call, &path, patience, Command::Capture { amount }, cause).await
}

/// Records a shipment (fulfillment) of an order.
#[utoipa::path(post, path = "/v1/admin/orders/{id}/fulfillments", tag = "orders",
    request_body = FulfillmentInput,
    params(("id" = inline(schemas::OrderId), Path),
        ("Prefer" = Option<String>, Header, description = "`wait=N` waits up to N seconds, 0 to 30, until the order has no unfinished steps")),
    responses((status = 200, description = "The order", body = AdminOrder)))]
pub async fn fulfill_order(
    call: RequestParts,
    path: web::Path<String>,
    patience: Patience,
    body: Draft<FulfillmentInput>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let Draft { value: FulfillmentInput { lines, tracking }, mut faults, .. } = body;
    let lines = lines.unwrap_or_default();
    let numbers: Vec<u32> = lines.iter().map(|line| number(&line.line)).collect();
    each_once(&numbers, &mut faults);
    let tracking = faults.note(tracking.map(tracking_of).transpose());
    faults.check()?;
    let request = FulfillmentRequest {
        lines: lines.iter().map(|line| (number(&line.line), line.quantity.get())).collect(),
        tracking,
    };
    change(&call, &path, patience, Command::Fulfill(request), cause).await
}

/// Corrects the tracking data of a fulfillment. Each correction is an event of the order.
#[utoipa::path(patch, path = "/v1/admin/orders/{id}/fulfillments/{fulfillment}", tag = "orders",
    request_body = FulfillmentPatch,
    params(("id" = inline(schemas::OrderId), Path),
        ("fulfillment" = String, Path, pattern = "^[1-9][0-9]{0,8}$", max_length = 9, description = "The id of the fulfillment in its order")),
    responses((status = 200, description = "The order", body = AdminOrder)))]
pub async fn update_fulfillment(
    call: RequestParts,
    path: web::Path<(String, String)>,
    body: Json<FulfillmentPatch>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let (order, fulfillment) = path.into_inner();
    let fulfillment = id(&fulfillment, "fulfillment")?;
    let unchanged = Some(TrackingPatch::default());
    let tracking = body.value.tracking.map_or(unchanged, |tracking| tracking.map(Into::into));
    let command = Command::CorrectTracking { fulfillment, tracking };
    change(&call, &order, Patience(None), command, cause).await
}

/// The tracking data of a request. What is unknown is stored as an empty text.
fn tracking_of(input: TrackingInput) -> Result<Tracking, Error> {
    let TrackingInput { carrier, number, url } = input;
    if carrier.is_none() && number.is_none() && url.is_none() {
        return Err(Error::field("tracking", "must have a carrier, a number or a url"));
    }
    Ok(Tracking {
        carrier: carrier.map(Into::into).unwrap_or_default(),
        number: number.map(Into::into).unwrap_or_default(),
        url: url.map(|url| url.0),
    })
}

/// Retries all stuck steps of an order.
#[utoipa::path(post, path = "/v1/admin/orders/{id}/retry", tag = "orders", request_body = ReasonInput,
    params(("id" = inline(schemas::OrderId), Path),
        ("Prefer" = Option<String>, Header, description = "`wait=N` waits up to N seconds, 0 to 30, until the order has no unfinished steps")),
    responses((status = 200, description = "The order", body = AdminOrder)))]
pub async fn retry_order(
    call: RequestParts,
    path: web::Path<String>,
    patience: Patience,
    body: Json<ReasonInput>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    change(&call, &path, patience, Command::Retry { reason: body.value.reason.into() }, cause).await
}

/// Skips a stuck step of an order.
#[utoipa::path(post, path = "/v1/admin/orders/{id}/skip", tag = "orders", request_body = SkipInput,
    params(("id" = inline(schemas::OrderId), Path),
        ("Prefer" = Option<String>, Header, description = "`wait=N` waits up to N seconds, 0 to 30, until the order has no unfinished steps")),
    responses((status = 200, description = "The order", body = AdminOrder)))]
pub async fn skip_order_step(
    call: RequestParts,
    path: web::Path<String>,
    patience: Patience,
    body: Json<SkipInput>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let SkipInput { step, reason } = body.value;
    let command = Command::Skip { step: step.map(Into::into), reason: reason.into() };
    change(&call, &path, patience, command, cause).await
}

/// Puts an order under a legal hold: the buyer's personal data are not erased until it is released,
/// whoever asks for it. A hold that is placed again has the new reason.
#[utoipa::path(put, path = "/v1/admin/orders/{id}/legal-hold", tag = "orders", request_body = ReasonInput,
    params(("id" = inline(schemas::OrderId), Path)),
    responses((status = 200, description = "The order", body = AdminOrder)))]
pub async fn place_legal_hold(
    call: RequestParts,
    path: web::Path<String>,
    body: Json<ReasonInput>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let command = Command::PlaceLegalHold { reason: body.value.reason.into() };
    change(&call, &path, Patience(None), command, cause).await
}

/// Releases the legal hold of an order. An erasure that waited for it is continued within 10 minutes.
#[utoipa::path(delete, path = "/v1/admin/orders/{id}/legal-hold", tag = "orders",
    params(("id" = inline(schemas::OrderId), Path)),
    responses((status = 200, description = "The order", body = AdminOrder)))]
pub async fn release_legal_hold(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(0);
    change(&call, &path, Patience(None), Command::ReleaseLegalHold, cause).await
}

async fn change(
    call: &RequestParts,
    path: &str,
    Patience(patience): Patience,
    command: Command,
    cause: Cause,
) -> Result<HttpResponse, Error> {
    let order: OrderId = id(path, "order")?;
    let (orders, entity) = (&call.node().orders, order::entity_id(order));
    let read = |view: View<'_, Order>| (view.state.clone(), view.seq);
    let write = async |version| match orders
        .ask_at_version(&entity, version, command.clone(), cause.clone(), read)
        .await
    {
        Ok(Err(0)) => Err(Error::not_found("order")),
        Ok(asked) => Ok(asked),
        Err(host::Error::Rejected(rejection)) => {
            let now = read_order(call, order).await.ok();
            Err(at_fields(rejection, &command, now.as_ref().map(|(order, _)| order)))
        }
        Err(error) => Err(error.into()),
    };
    let mut now = call.if_match.write(write).await?;
    if let Some(patience) = patience {
        now = until_done(call, &entity, patience, now).await;
    }
    let (state, version) = now;
    let buyer = BuyerData::of_order(call.store(), &state).await?;
    let shape = AdminOrder::new(order, (&state, version), buyer)?;
    let response = versioned(StatusCode::OK, version, &shape);
    Ok(read_your_writes::wrote(response, entity, version))
}

/// Adds a fault for each line that a request names again.
fn each_once(lines: &[u32], faults: &mut RequestFaults) {
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| **line > 0) {
        if lines[..index].contains(line) {
            faults.invalid(format!("lines[{index}].line"), "must be named only once");
        }
    }
}

/// The order and its version once all its steps are done or stuck, or when the patience ends.
async fn until_done(
    call: &RequestParts,
    entity: &EntityId,
    patience: Duration,
    mut now: (Order, i64),
) -> (Order, i64) {
    let read = |view: View<'_, Order>| (view.state.clone(), view.seq);
    let deadline = Instant::now() + patience;
    while !now.0.effects().is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let next = call.node().orders.wait(entity, left, Until::Past(now.1), read).await;
        match next {
            Ok(next) if next.1 != now.1 => now = next,
            Ok(_) => break,
            // The change is made; only the outcome of its steps is not known yet.
            Err(error) => {
                tracing::debug!(%error, entity = entity.as_str(), "cannot wait for an order");
                break;
            }
        }
    }
    now
}

async fn currency(call: &RequestParts, path: &str) -> Result<Currency, Error> {
    let (state, _) = read_order(call, id(path, "order")?).await?;
    let placed = state.placed().ok_or_else(|| Error::not_found("order"))?;
    Ok(placed.currency)
}

/// The minor units of an amount. Another currency than the order's is a fault; the amount is 0 then.
fn minor(amount: &MoneyInput, currency: Currency, field: &str, faults: &mut RequestFaults) -> i64 {
    amount.in_currency(currency).unwrap_or_else(|| {
        let message = format!("must be the order's currency, {}", currency.code());
        faults.add(Code::CurrencyMismatch, format!("{field}.currency"), message);
        0
    })
}
