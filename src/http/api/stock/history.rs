//! The history of a SKU's stock: who changed it, why, and by how many units; from the journal, the
//! newest event first.
//!
//! An event that allocates or releases what an order holds has no units of its own: they are found by
//! replaying the order's events from its last reservation on.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use strum::VariantNames as _;
use utoipa::ToSchema;

use crate::actors::engine::host::decode;
use crate::domain::entity::Noun as _;
use crate::domain::id::OrderId;
use crate::domain::stock::{self, COUNTED, Event, Location, LocationUnits, Stock};
use crate::domain::time::Timestamp;
use crate::http::api::location::known;
use crate::http::api::product::products::find;
use crate::http::api::shape::{LocationInput, Page};
use crate::http::api::stock::schema::StockEventKind;
use crate::http::docs::schemas;
use crate::http::edge::call::RequestParts;
use crate::http::edge::checked;
use crate::http::edge::error::Error;
use crate::http::edge::query::{Query, cursor};
use crate::store::journal::Record;

/// Events that are read at once.
const WINDOW: i64 = 500;
/// The most events that are read for one page, if a filter leaves most of them out or the units of an
/// event are far back.
const READ_MAX: i64 = 5_000;

/// The units by which an event changed the level at a location.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct UnitsMoved {
    #[schema(value_type = LocationInput)]
    location: String,
    on_hand: i64,
    reserved: i64,
    allocated: i64,
    incoming: i64,
}

/// An event of a SKU's stock.
#[derive(Debug, Serialize, ToSchema)]
pub struct StockEvent {
    /// The number of the event in the SKU's stock, from 1: the stock's version after it.
    seq: i64,
    #[schema(value_type = StockEventKind)]
    kind: &'static str,
    #[schema(value_type = schemas::Moment)]
    at: String,
    #[schema(value_type = schemas::PrincipalName)]
    by: String,
    /// The name of the principal's key or sign-in link, if it has one.
    #[schema(example = "Mira")]
    by_name: Option<String>,
    /// The id of the request that caused the event.
    request_id: Option<String>,
    /// The reason, in the operator's own words.
    reason: Option<String>,
    /// Whether the number of units was set, as after a count.
    counted: bool,
    /// The order for which the units were reserved, allocated, shipped or returned.
    #[schema(value_type = Option<schemas::OrderId>)]
    order: Option<String>,
    /// The changes at each location; empty for an event that moves no units (`extended`), and for one
    /// whose units were reserved more than 5,000 events before.
    changes: Vec<UnitsMoved>,
}

/// Lists the events of a SKU's stock, the newest first.
#[utoipa::path(get, path = "/v1/admin/stock/{sku}/events", tag = "stock",
    params(("sku" = inline(checked::Sku), Path),
        ("kind" = inline(Option<Vec<StockEventKind>>), Query, explode = false, description = "Only events of these kinds: a page may then have fewer rows than its limit"),
        ("location" = inline(Option<Vec<LocationInput>>), Query, explode = false, max_items = 100, description = "Only events that changed the level at one of these locations: a page may then have fewer rows than its limit"),
        ("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of events, the newest first", body = Page<StockEvent>)))]
pub async fn list_stock_events(
    call: RequestParts,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let mut query = Query::of_list(&request, &["limit", "after"], &["kind", "location"])?;
    let kinds = kinds(&mut query);
    let locations = known::of_filter(&call, &mut query).await?;
    let limit = usize::try_from(query.limit()).unwrap_or(usize::MAX);
    let before: Option<i64> = query.after("stock-events");
    query.check()?;
    let entity = stock::entity_id(&find(&call, &path).await?.value.sku);
    let mut at = match before {
        Some(before) => before.max(1) - 1,
        None => call.node().stock.read(&entity, |view| view.seq).await?,
    };
    let (journal, end) = (call.store().journal(), at.saturating_sub(READ_MAX).max(0));
    let mut listed = Listed { rows: Vec::new(), limit, kinds, locations, open: Vec::new() };
    let mut next = 0;
    while at > end && listed.wants_more() {
        let from = (at - WINDOW).max(0);
        let window = u32::try_from(at - from).unwrap_or(0);
        let mut records = journal.read_entity(&entity, from, window).await?;
        while let Some(record) = records.pop().filter(|_| listed.wants_more()) {
            if !listed.is_full() {
                next = record.seq - 1;
            }
            listed.take(&record)?;
        }
        at = from;
    }
    let next_cursor = (next > 0).then(|| cursor("stock-events", &(next + 1).to_string()));
    Ok(HttpResponse::Ok().json(Page::<StockEvent> { data: listed.rows(), next_cursor }))
}

/// A page of events while it is read, the newest first.
struct Listed {
    rows: Vec<StockEvent>,
    limit: usize,
    /// The kinds that are listed; all if there are none.
    kinds: Vec<String>,
    /// The locations whose changes are listed; all if there are none.
    locations: Vec<String>,
    open: Vec<OpenClaim>,
}

/// A row whose units are told by earlier events of its order.
struct OpenClaim {
    row: usize,
    order: OrderId,
    /// The events of the order from this one back, the newest first.
    events: Vec<(Event, Timestamp)>,
}

impl Listed {
    const fn is_full(&self) -> bool {
        self.rows.len() >= self.limit
    }

    const fn wants_more(&self) -> bool {
        !self.is_full() || !self.open.is_empty()
    }

    fn is_there(&self, event: &StockEvent) -> bool {
        self.locations.is_empty()
            || event.changes.iter().any(|moved| self.locations.contains(&moved.location))
    }

    /// The page: now the units of all events are known.
    fn rows(mut self) -> Vec<StockEvent> {
        let rows = std::mem::take(&mut self.rows);
        rows.into_iter().filter(|row| self.is_there(row)).collect()
    }

    /// Takes the next older event.
    fn take(&mut self, record: &Record) -> Result<(), Error> {
        let listed = !self.is_full()
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| **kind == *record.kind));
        if !listed && self.open.is_empty() {
            return Ok(());
        }
        let event: Event = decode(record).map_err(Error::internal)?;
        let Self { rows, open, .. } = self;
        open.retain_mut(|claim| {
            if order(&event) != Some(&claim.order) {
                return true;
            }
            claim.events.push((event.clone(), record.at));
            let reserved = matches!(event, Event::Reserved { .. });
            if reserved && let Some(row) = rows.get_mut(claim.row) {
                row.changes = claim.changes();
            }
            !reserved
        });
        if listed {
            let row = shape(record, &event);
            if let Event::Committed { order }
            | Event::Extended { order, .. }
            | Event::Yielded { order, .. }
            | Event::Lapsed { order }
            | Event::Released { order } = &event
            {
                let (row, order) = (self.rows.len(), *order);
                let events = vec![(event.clone(), record.at)];
                self.open.push(OpenClaim { row, order, events });
            } else if !self.is_there(&row) {
                return Ok(());
            }
            self.rows.push(row);
        }
        Ok(())
    }
}

impl OpenClaim {
    /// By how many units the newest of the events changed each level.
    fn changes(&self) -> Vec<UnitsMoved> {
        let (mut before, mut after) = (Stock::default(), Stock::default());
        for (event, at) in self.events.iter().rev() {
            before = after.clone();
            after.evolve(event, *at);
        }
        let before = before.shown_levels();
        let moved = after.shown_levels().into_iter().map(|(location, level)| {
            let was = before.get(&location).copied().unwrap_or_default();
            UnitsMoved {
                location: location.to_string(),
                reserved: level.reserved - was.reserved,
                allocated: level.allocated - was.allocated,
                ..UnitsMoved::default()
            }
        });
        moved.filter(|moved| moved.reserved != 0 || moved.allocated != 0).collect()
    }
}

fn kinds(query: &mut Query) -> Vec<String> {
    let kinds: Vec<String> = query.values("kind", "must be a kind of events");
    let unknown = kinds.iter().filter(|kind| !Event::VARIANTS.contains(&kind.as_str()));
    let unknown: Vec<String> = unknown.map(|kind| format!("{kind:?}")).collect();
    if !unknown.is_empty() {
        let (known, unknown) = (Event::VARIANTS.join(", "), unknown.join(", "));
        query.faults.invalid("kind", format!("must be one of {known}, not {unknown}"));
    }
    kinds
}

fn shape(record: &Record, event: &Event) -> StockEvent {
    let cause = record.cause();
    let reason = match event {
        Event::Adjusted { reason, .. } => (reason != COUNTED).then(|| reason.clone()),
        Event::Received { reason, .. }
        | Event::Expected { reason, .. }
        | Event::Transferred { reason, .. } => reason.clone(),
        _ => None,
    };
    StockEvent {
        seq: record.seq,
        kind: event.into(),
        at: record.at.to_string(),
        by: cause.by,
        by_name: cause.name.as_deref().map(str::to_owned),
        request_id: cause.request,
        reason,
        counted: matches!(event, Event::Adjusted { reason, counted, .. } if *counted || reason == COUNTED),
        order: order(event).map(ToString::to_string),
        changes: changes(event),
    }
}

const fn order(event: &Event) -> Option<&OrderId> {
    match event {
        Event::Reserved { order, .. }
        | Event::Extended { order, .. }
        | Event::Yielded { order, .. }
        | Event::Lapsed { order }
        | Event::Committed { order }
        | Event::Released { order }
        | Event::Shipped { order, .. }
        | Event::Restocked { order, .. }
        | Event::WrittenOff { order, .. } => Some(order),
        Event::Received { .. }
        | Event::Expected { .. }
        | Event::Adjusted { .. }
        | Event::Transferred { .. } => None,
    }
}

fn changes(event: &Event) -> Vec<UnitsMoved> {
    let at = |location: &Location| UnitsMoved {
        location: location.to_string(),
        ..UnitsMoved::default()
    };
    let each = |parts: &[LocationUnits], change: fn(UnitsMoved, i64) -> UnitsMoved| {
        let moved = parts.iter().map(|part| change(at(&part.location), part.quantity));
        moved.collect::<Vec<_>>()
    };
    match event {
        Event::Reserved { parts, .. } => {
            each(parts, |moved, units| UnitsMoved { reserved: units, ..moved })
        }
        Event::Shipped { parts, .. } | Event::WrittenOff { parts, .. } => {
            each(parts, |moved, units| UnitsMoved { on_hand: -units, allocated: -units, ..moved })
        }
        Event::Restocked { unshipped, returned, .. } => {
            let mut all = each(unshipped, |moved, units| UnitsMoved { allocated: -units, ..moved });
            all.extend(each(returned, |moved, units| UnitsMoved { on_hand: units, ..moved }));
            all
        }
        Event::Received { location, quantity, from_incoming, .. } => {
            let incoming = if *from_incoming { -*quantity } else { 0 };
            vec![UnitsMoved { on_hand: *quantity, incoming, ..at(location) }]
        }
        Event::Expected { location, quantity, .. } => {
            vec![UnitsMoved { incoming: *quantity, ..at(location) }]
        }
        Event::Adjusted { location, delta, .. } => {
            vec![UnitsMoved { on_hand: *delta, ..at(location) }]
        }
        Event::Transferred { from, to, quantity, .. } => vec![
            UnitsMoved { on_hand: -*quantity, ..at(from) },
            UnitsMoved { on_hand: *quantity, ..at(to) },
        ],
        Event::Extended { .. }
        | Event::Yielded { .. }
        | Event::Lapsed { .. }
        | Event::Committed { .. }
        | Event::Released { .. } => Vec::new(),
    }
}
