//! Handlers that list, read and change stock levels, for operators.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actors::engine::host::View;
use crate::actors::locations::Locations;
use crate::domain::entity::Cause;
use crate::domain::id::Sku;
use crate::domain::search_text::words;
use crate::domain::stock::{self, CLAIMS_SHOWN_MAX, Command, Level, QUANTITY_MAX, Stock};
use crate::domain::time::Timestamp;
use crate::http::api::location::known;
use crate::http::api::product::products::find;
use crate::http::api::shape::{LocationInput, Page};
use crate::http::api::stock::rejection::at_field;
use crate::http::api::stock::schema::StockSort;
use crate::http::api::stock::units_change::UnitsChange;
use crate::http::docs::schemas;
use crate::http::edge::call::{RequestParts, versioned};
use crate::http::edge::checked;
use crate::http::edge::error::Error;
use crate::http::edge::if_none_match::ChangesBetweenVersions;
use crate::http::edge::input::{Prose, Whole};
use crate::http::edge::json_body::Draft;
use crate::http::edge::query::{Query, cursor, cut, sorted_list};
use crate::http::edge::read_your_writes;
use crate::store::stock::{Filter, ListPlace, Row, Sort};

/// A new number of units on hand.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StockInput {
    /// The units at the location, including reserved and allocated ones.
    #[garde(dive)]
    on_hand: Whole<0, { QUANTITY_MAX }>,
    /// The number of units that must be on hand before the change.
    #[serde(default)]
    #[garde(dive)]
    change_from: Option<Whole<0, { QUANTITY_MAX }>>,
    /// A reason in the operator's own words.
    #[serde(default)]
    #[garde(dive)]
    reason: Option<Prose<1, 500>>,
}

/// Goods that were received.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptInput {
    #[garde(dive)]
    quantity: Whole<1, { QUANTITY_MAX }>,
    /// Whether these units were announced as incoming.
    #[serde(default)]
    #[garde(skip)]
    from_incoming: bool,
    /// A reason in the operator's own words.
    #[serde(default)]
    #[garde(dive)]
    reason: Option<Prose<1, 500>>,
}

/// A correction of the stock after a count, a loss or a find.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustmentInput {
    /// Units to add, or to remove if negative.
    #[garde(dive)]
    quantity: UnitsChange,
    #[garde(dive)]
    reason: Prose<1, 500>,
}

/// Goods that are announced but have not arrived.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IncomingInput {
    /// Announced units to add, or to take back if negative.
    #[garde(dive)]
    quantity: UnitsChange,
    /// A reason in the operator's own words.
    #[serde(default)]
    #[garde(dive)]
    reason: Option<Prose<1, 500>>,
}

/// Units to move between locations.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferInput {
    #[garde(dive)]
    from: LocationInput,
    #[garde(dive)]
    to: LocationInput,
    #[garde(dive)]
    quantity: Whole<1, { QUANTITY_MAX }>,
    /// A reason in the operator's own words.
    #[serde(default)]
    #[garde(dive)]
    reason: Option<Prose<1, 500>>,
}

/// The units of a SKU at a location.
#[derive(Debug, Serialize, ToSchema)]
pub struct LevelShape {
    #[schema(value_type = LocationInput)]
    location: String,
    on_hand: i64,
    reserved: i64,
    allocated: i64,
    incoming: i64,
    sellable: i64,
    sold: i64,
}

/// Units reserved for an order until `hold_until`.
#[derive(Debug, Serialize, ToSchema)]
pub struct HoldShape {
    #[schema(value_type = schemas::OrderId)]
    order: String,
    quantity: i64,
    generation: u32,
    #[schema(value_type = schemas::Moment)]
    hold_until: String,
    /// Whether another order can take its units, because its own waits for another payment.
    yields: bool,
    /// These units by location.
    parts: Vec<UnitsAt>,
}

/// Units allocated to a paid order.
#[derive(Debug, Serialize, ToSchema)]
pub struct AllocationShape {
    #[schema(value_type = schemas::OrderId)]
    order: String,
    quantity: i64,
    /// These units by location.
    parts: Vec<UnitsAt>,
}

/// Units at a location.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnitsAt {
    #[schema(example = "main")]
    location: String,
    quantity: i64,
}

/// The stock of a SKU.
#[derive(Debug, Serialize, ToSchema)]
pub struct StockItem {
    #[schema(value_type = checked::Sku)]
    sku: String,
    version: i64,
    on_hand: i64,
    reserved: i64,
    allocated: i64,
    incoming: i64,
    /// Units that can be promised now: not those at locations that are not for sale. Expired holds
    /// are not subtracted.
    sellable: i64,
    sold: i64,
    levels: Vec<LevelShape>,
    /// Only in the answer to `GET /v1/admin/stock/{sku}`; at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    holds: Option<Vec<HoldShape>>,
    /// Only in the answer to `GET /v1/admin/stock/{sku}`; at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    allocations: Option<Vec<AllocationShape>>,
}

/// A stock level in a list: a SKU at a location, with the name of its product.
#[derive(Debug, Serialize, ToSchema)]
pub struct StockListItem {
    #[schema(value_type = checked::Sku)]
    sku: String,
    #[serde(flatten)]
    level: LevelShape,
    /// The version of the SKU's stock, which all its locations share.
    version: i64,
    updated_at: String,
    /// The product's name.
    name: Option<String>,
}

/// Lists stock levels.
#[utoipa::path(get, path = "/v1/admin/stock", tag = "stock",
    params(("sku" = inline(Option<Vec<checked::Sku>>), Query, explode = false, max_items = 100),
        ("location" = inline(Option<Vec<LocationInput>>), Query, explode = false, max_items = 100),
        ("q" = Option<String>, Query, max_length = 254, description = "Words, each of which must be a part of the SKU or of the product's name"),
        ("held" = Option<bool>, Query, description = "Only levels with reserved units; if it is false, only those without"),
        ("sellable_max" = Option<i64>, Query, description = "Only levels with at most this number of sellable units"),
        ("updated_from" = inline(Option<schemas::Moment>), Query, description = "Only levels that last changed at this time or later"),
        ("updated_to" = inline(Option<schemas::Moment>), Query, description = "Only levels that last changed before this time"),
        ("sort" = inline(Option<StockSort>), Query),
        ("Kontor-After" = Option<String>, Header, description = "`Kontor-Position` values of writes that the list must include"),
        ("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of levels", body = Page<StockListItem>)))]
pub async fn list_stock(call: RequestParts, request: HttpRequest) -> Result<HttpResponse, Error> {
    let known =
        ["q", "held", "sellable_max", "updated_from", "updated_to", "sort", "limit", "after"];
    let mut query = Query::of_list(&request, &known, &["sku", "location"])?;
    let (limit, sort) = (query.limit(), query.sort::<Sort>());
    let list = sorted_list("stock", sort);
    let after = query.after::<ListPlace>(&list);
    let filter = Filter {
        sku: query.values("sku", "must be a SKU"),
        words: words(query.search()),
        held: query.boolean("held"),
        location: known::of_filter(&call, &mut query).await?,
        sellable_max: query.read("sellable_max", "must be a number of units"),
        updated_from: query.moment("updated_from"),
        updated_to: query.moment("updated_to"),
        sort,
        after,
        limit: limit + 1,
    };
    let writes = query.faults.note(read_your_writes::named(&request));
    query.check()?;
    let seen = read_your_writes::wait(&call, writes).await?;
    let mut rows = call.store().stock_levels(&filter).await?;
    let more = cut(&mut rows, limit);
    let last = rows.last().map(|row| cursor(&list, &ListPlace::from(row).to_string()));
    let names = call.store().product_names(rows.iter().map(|row| &row.sku)).await?;
    let item = |row: Row| {
        let name = names.get(&row.sku).cloned();
        StockListItem::new(row, name)
    };
    let data = rows.into_iter().map(item).collect();
    let page = Page::<StockListItem> { data, next_cursor: last.filter(|_| more) };
    Ok(seen.mark(HttpResponse::Ok().json(page)))
}

/// Returns the stock of a SKU, with its holds and allocations.
#[utoipa::path(get, path = "/v1/admin/stock/{sku}", tag = "stock",
    params(("sku" = inline(checked::Sku), Path)),
    responses((status = 200, description = "The stock of the SKU", body = StockItem)))]
pub async fn get_stock(call: RequestParts, path: web::Path<String>) -> Result<HttpResponse, Error> {
    let sku = find(&call, &path).await?.value.sku.clone();
    let (now, named, locations) = (call.now(), sku.clone(), call.node().locations.clone());
    let read = move |view: View<'_, Stock>| item(&named, &view, (now, &locations), true);
    let shape = call.node().stock.read(&stock::entity_id(&sku), read).await?;
    let mut response = versioned(StatusCode::OK, shape.version, &shape);
    // Holds expire without an event.
    response.extensions_mut().insert(ChangesBetweenVersions);
    Ok(response)
}

/// Sets the number of units on hand.
#[utoipa::path(put, path = "/v1/admin/stock/{sku}/{location}", tag = "stock", request_body = StockInput,
    params(("sku" = inline(checked::Sku), Path), ("location" = inline(LocationInput), Path)),
    responses((status = 200, description = "The stock of the SKU", body = StockItem)))]
pub async fn set_stock(
    call: RequestParts,
    path: web::Path<(String, String)>,
    body: Draft<StockInput>,
) -> Result<HttpResponse, Error> {
    let StockInput { on_hand, change_from, reason } = body.value;
    let (on_hand, change_from) = (on_hand.get(), change_from.map(Whole::get));
    let reason = reason.map(Into::into);
    let location = known::checked(&call, "location", &path.1, body.faults).await?;
    let command = Command::Set { location, on_hand, change_from, reason };
    change(&call, &path.0, command, call.cause(body.digest)).await
}

/// Receives goods: adds units on hand.
#[utoipa::path(post, path = "/v1/admin/stock/{sku}/{location}/receipts", tag = "stock",
    request_body = ReceiptInput, params(("sku" = inline(checked::Sku), Path), ("location" = inline(LocationInput), Path)),
    responses((status = 200, description = "The stock of the SKU", body = StockItem)))]
pub async fn receive_stock(
    call: RequestParts,
    path: web::Path<(String, String)>,
    body: Draft<ReceiptInput>,
) -> Result<HttpResponse, Error> {
    let ReceiptInput { quantity, from_incoming, reason } = body.value;
    let (quantity, reason) = (quantity.get(), reason.map(Into::into));
    let location = known::checked(&call, "location", &path.1, body.faults).await?;
    let command = Command::Receive { location, quantity, from_incoming, reason };
    change(&call, &path.0, command, call.cause(body.digest)).await
}

/// Adjusts the number of units on hand, with a reason.
#[utoipa::path(post, path = "/v1/admin/stock/{sku}/{location}/adjustments", tag = "stock",
    request_body = AdjustmentInput, params(("sku" = inline(checked::Sku), Path), ("location" = inline(LocationInput), Path)),
    responses((status = 200, description = "The stock of the SKU", body = StockItem)))]
pub async fn adjust_stock(
    call: RequestParts,
    path: web::Path<(String, String)>,
    body: Draft<AdjustmentInput>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let AdjustmentInput { quantity, reason } = body.value;
    let (delta, reason) = (quantity.get(), reason.into());
    let location = known::checked(&call, "location", &path.1, body.faults).await?;
    let command = Command::Adjust { location, delta, reason };
    change(&call, &path.0, command, cause).await
}

/// Announces incoming goods.
#[utoipa::path(post, path = "/v1/admin/stock/{sku}/{location}/incoming", tag = "stock",
    request_body = IncomingInput, params(("sku" = inline(checked::Sku), Path), ("location" = inline(LocationInput), Path)),
    responses((status = 200, description = "The stock of the SKU", body = StockItem)))]
pub async fn expect_stock(
    call: RequestParts,
    path: web::Path<(String, String)>,
    body: Draft<IncomingInput>,
) -> Result<HttpResponse, Error> {
    let IncomingInput { quantity, reason } = body.value;
    let (quantity, reason) = (quantity.get(), reason.map(Into::into));
    let location = known::checked(&call, "location", &path.1, body.faults).await?;
    let command = Command::Expect { location, quantity, reason };
    change(&call, &path.0, command, call.cause(body.digest)).await
}

/// Transfers units between locations.
#[utoipa::path(post, path = "/v1/admin/stock/{sku}/transfers", tag = "stock",
    request_body = TransferInput, params(("sku" = inline(checked::Sku), Path)),
    responses((status = 200, description = "The stock of the SKU", body = StockItem)))]
pub async fn transfer_stock(
    call: RequestParts,
    path: web::Path<String>,
    body: Draft<TransferInput>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let Draft { value: TransferInput { from, to, quantity, reason }, mut faults, .. } = body;
    let (quantity, reason) = (quantity.get(), reason.map(Into::into));
    if *from == *to {
        faults.invalid("to", "must differ from `from`");
    }
    let source = known::read((call.node(), call.store()), "from", &from, &mut faults).await?;
    let to = known::checked(&call, "to", &to, faults).await?;
    let from = source.ok_or_else(|| Error::field("from", known::UNKNOWN))?;
    let command = Command::Transfer { from, to, quantity, reason };
    change(&call, &path, command, cause).await
}

async fn change(
    call: &RequestParts,
    path: &str,
    command: Command,
    cause: Cause,
) -> Result<HttpResponse, Error> {
    let sku = find(call, path).await?.value.sku.clone();
    let (now, named, locations) = (call.now(), sku.clone(), call.node().locations.clone());
    let (stock, entity) = (&call.node().stock, stock::entity_id(&sku));
    let read = move |view: View<'_, Stock>| item(&named, &view, (now, &locations), false);
    let write = async |version| {
        let (cause, read) = (cause.clone(), read.clone());
        let asked = stock.ask_at_version(&entity, version, command.clone(), cause, read).await;
        asked.map_err(|error| at_field(error, &command))
    };
    let shape = call.if_match.write(write).await?;
    let response = versioned(StatusCode::OK, shape.version, &shape);
    Ok(read_your_writes::wrote(response, entity, shape.version))
}

/// The stock of a SKU now. Nothing is sold at the closed locations, and a deleted one without units
/// is not shown.
fn item(
    sku: &Sku,
    view: &View<'_, Stock>,
    (now, locations): (Timestamp, &Locations),
    claims: bool,
) -> StockItem {
    let (closed, deleted) = (locations.closed(), locations.deleted_ids());
    let levels = view.state.shown_levels();
    let shown = levels.iter().filter(|(at, level)| level.has_units() || !deleted.contains(at));
    let total: Level = levels.values().sum();
    let sum = |parts: &[stock::LocationUnits]| parts.iter().map(|part| part.quantity).sum();
    let at = |parts: &[stock::LocationUnits]| {
        let each = |part: &stock::LocationUnits| UnitsAt {
            location: part.location.to_string(),
            quantity: part.quantity,
        };
        parts.iter().map(each).collect::<Vec<_>>()
    };
    let holds = || {
        let live = view.state.holds().filter(|(_, hold)| hold.hold_until > now);
        live.take(CLAIMS_SHOWN_MAX).map(|(order, hold)| HoldShape {
            order: order.to_string(),
            quantity: sum(&hold.parts),
            generation: hold.generation,
            hold_until: hold.hold_until.to_string(),
            yields: hold.yields,
            parts: at(&hold.parts),
        })
    };
    let allocations = || {
        view.state.allocations().take(CLAIMS_SHOWN_MAX).map(|(order, parts)| AllocationShape {
            order: order.to_string(),
            quantity: sum(parts),
            parts: at(parts),
        })
    };
    StockItem {
        sku: sku.to_string(),
        version: view.seq,
        on_hand: total.on_hand,
        reserved: total.reserved,
        allocated: total.allocated,
        incoming: total.incoming,
        sellable: match &*closed {
            [] => view.summary_number(now),
            closed => view.state.sellable_outside(closed, now),
        },
        sold: total.sold,
        levels: shown.map(|(at, level)| level_of(at.as_str(), level)).collect(),
        holds: claims.then(|| holds().collect()),
        allocations: claims.then(|| allocations().collect()),
    }
}

fn level_of(location: &str, level: &Level) -> LevelShape {
    LevelShape {
        location: location.to_owned(),
        on_hand: level.on_hand,
        reserved: level.reserved,
        allocated: level.allocated,
        incoming: level.incoming,
        sellable: level.sellable(),
        sold: level.sold,
    }
}

impl StockListItem {
    /// A row of a list, with the name of its product.
    #[must_use]
    pub fn new(row: Row, name: Option<String>) -> Self {
        Self {
            sku: row.sku.to_string(),
            level: LevelShape {
                sellable: row.on_hand - row.reserved - row.allocated,
                location: row.location,
                on_hand: row.on_hand,
                reserved: row.reserved,
                allocated: row.allocated,
                incoming: row.incoming,
                sold: row.sold,
            },
            version: row.version,
            updated_at: row.updated_at.to_string(),
            name,
        }
    }
}
