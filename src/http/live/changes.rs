//! The feed of changes over HTTP: what the socket sends as it happens, page by page, from a token or
//! a time. Both have the same tokens, so that a client can go from one to the other.
//!
//! The journal is read, on any node, up to the position that the rows of all asked topics have
//! reached: so a row that is shown is never older than its change, and nothing is left out. The rows
//! of orders, products and stock are read with one statement each. There is no topic of carts:
//! whoever knows a cart's id may use the cart.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantArray};
use utoipa::ToSchema;

use super::token::LiveToken;
use super::{Live, positions};
use crate::actors::engine::projections::Projection as _;
use crate::actors::order_rows::OrderRows;
use crate::actors::stock_rows::StockRows;
use crate::domain::entity::{EntityId, Noun as _, Record};
use crate::domain::id::Sku;
use crate::domain::location::StockLocation;
use crate::domain::order::Order;
use crate::domain::product::Product;
use crate::domain::stock::{Location, Stock};
use crate::domain::time::Timestamp;
use crate::domain::versioned::Versioned as _;
use crate::http::api::location::locations::StockLocationShape;
use crate::http::api::order::shape::OrderSummary;
use crate::http::api::product::shape::ProductShape;
use crate::http::api::stock::levels::{StockLevel, level_row};
use crate::http::docs::schemas::{self, names, schemas};
use crate::http::edge::call::RequestParts;
use crate::http::edge::error::Error;
use crate::http::edge::input::string;
use crate::http::edge::principal::Scope;
use crate::http::edge::problem::Code;
use crate::http::edge::query::Query;
use crate::store::{LIST_MAX, Store, order, product, stock, versioned};

/// The most events that are read for one page.
const EVENTS_MAX: i64 = 1_000;
/// The most events that are read at once.
const READ_MAX: i64 = 250;

/// The detail of a refusal of a text that is no token.
const NO_TOKEN: &str = "`after` must be the `token` of a page or of the live socket, or a time such \
    as 2026-01-31T12:00:00Z; without it, the feed begins with the first change ever";
/// The detail of a refusal of a token that does not fit the store.
const OTHER_HISTORY: &str = "`after` is a token of another history: the store was restored from a \
    backup since, or the token is of another store or of an earlier version of kontor; copy the \
    lists again, and then read the changes after a time just before the copy";

/// A topic of the feed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum ChangeTopic {
    /// Locations.
    Locations,
    /// Orders.
    Orders,
    /// Products.
    Products,
    /// Stock.
    Stock,
}

impl ChangeTopic {
    const fn scope(self) -> Scope {
        match self {
            Self::Orders => Scope::OrdersRead,
            Self::Products => Scope::ProductsRead,
            Self::Locations | Self::Stock => Scope::StockRead,
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Locations => StockLocation::PREFIX,
            Self::Orders => Order::PREFIX,
            Self::Products => Product::PREFIX,
            Self::Stock => Stock::PREFIX,
        }
    }

    /// The projection that writes the rows; `None` if they are written together with the events.
    const fn projection(self) -> Option<&'static str> {
        match self {
            Self::Orders => Some(OrderRows::NAME),
            Self::Locations | Self::Products => None,
            Self::Stock => Some(StockRows::NAME),
        }
    }
}

schemas! {
    /// A topic of the feed of changes.
    ChangeTopics |about| string().description(Some(about)).enum_values(Some(names::<ChangeTopic>()));
}

/// An event of a change, without its data.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangeEvent {
    /// The number of the event in its order, stock, product or location, from 1.
    seq: i64,
    #[schema(example = "confirmed")]
    kind: String,
    at: String,
    /// The principal that caused the event.
    by: String,
}

/// A change of a location, of an order, of a product, or of the stock of a SKU.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "topic", rename_all = "snake_case")]
pub enum ListedChange {
    /// Of a location.
    Locations(ChangedLocation),
    /// Of an order.
    Orders(Box<ChangedOrder>),
    /// Of a product.
    Products(ChangedProduct),
    /// Of the stock of a SKU.
    Stock(ChangedStock),
}

/// A change of a location.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedLocation {
    location: String,
    /// The location's version before the change; 0 for a new one.
    after: i64,
    /// The location's version after the change.
    version: i64,
    events: Vec<ChangeEvent>,
    /// The current location, which may already show later changes; `null` if it is deleted.
    row: Option<StockLocationShape>,
}

/// A change of an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedOrder {
    order: String,
    /// The order's version before the change; 0 for a new order.
    after: i64,
    /// The order's version after the change, which is `after` of its next change.
    version: i64,
    events: Vec<ChangeEvent>,
    /// The order's current row, which may already show later changes; `null` if it cannot be shown.
    row: Option<OrderSummary>,
}

/// A change of a product.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedProduct {
    sku: String,
    /// The product's version before the change; 0 for a new product.
    after: i64,
    /// The product's version after the change.
    version: i64,
    events: Vec<ChangeEvent>,
    /// The current product, which may already show later changes.
    row: Option<ProductShape>,
}

/// A change of the stock of a SKU.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedStock {
    sku: String,
    /// The stock's version before the change.
    after: i64,
    /// The stock's version after the change.
    version: i64,
    events: Vec<ChangeEvent>,
    /// The current level at each location, which may already show later changes.
    rows: Vec<StockLevel>,
}

/// A page of the feed of changes.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangesPage {
    /// One entry per order, SKU, product or location, with its events in order.
    data: Vec<ListedChange>,
    /// Where the next page begins: to be sent as `after`, or as `from` on the live socket.
    token: String,
    /// Whether there are more changes now.
    more: bool,
}

/// Lists changes of orders, products, stock and locations since a token or a time.
#[utoipa::path(get, path = "/v1/admin/changes", tag = "live",
    params(("topic" = inline(Option<Vec<ChangeTopics>>), Query, explode = false, description = "By default all topics that the caller may read"),
        ("after" = Option<String>, Query, description = "The `token` of the page before or of the live socket, or a time (RFC 3339), whose changes begin up to a minute earlier; by default the first change ever"),
        ("limit" = inline(Option<schemas::Limit>), Query)),
    responses((status = 200, description = "A page of changes, oldest first for each order, SKU, product and location", body = ChangesPage)))]
pub async fn list_changes(
    call: RequestParts,
    request: HttpRequest,
    live: web::Data<Live>,
) -> Result<HttpResponse, Error> {
    let query = Query::of_list(&request, &["after", "limit"], &["topic"])?;
    let limit = usize::try_from(query.limit()?).unwrap_or(usize::MAX);
    let topics = topics(&call, &query)?;
    let shards = call.store().shards().await?;
    let heads: Vec<i64> = shards.iter().map(|shard| shard.last_pos).collect();
    let from = begin(&live, &query, &heads).await?;
    let ends = ends(call.store(), &topics, heads).await?;
    let mut page = Gathered { at: from.to_vec(), ..Gathered::default() };
    page.read(call.store(), &topics, &ends, limit).await?;
    let more = page.at.iter().zip(&ends).any(|(at, end)| at < end);
    let token = live.token(page.at.as_slice().into());
    let data = shown(call.store(), page).await?;
    Ok(HttpResponse::Ok().json(ChangesPage { data, token, more }))
}

/// The topics that the caller asks for.
fn topics(call: &RequestParts, query: &Query) -> Result<Vec<ChangeTopic>, Error> {
    let asked: Vec<ChangeTopic> = query.choices("topic")?;
    let may = |topic: &ChangeTopic| call.principal().may(topic.scope());
    if let Some(topic) = asked.iter().find(|topic| !may(topic)) {
        let detail = format!("this topic needs the scope {}", topic.scope().as_str());
        return Err(Error::new(Code::Forbidden, detail));
    }
    if !asked.is_empty() {
        return Ok(asked);
    }
    let all: Vec<ChangeTopic> = ChangeTopic::VARIANTS.iter().copied().filter(may).collect();
    if all.is_empty() {
        let of = |topic: &ChangeTopic| {
            let name: &str = topic.into();
            format!("{} for {name}", topic.scope().as_str())
        };
        let scopes: Vec<String> = ChangeTopic::VARIANTS.iter().map(of).collect();
        let detail = format!("every topic needs a scope that you lack: {}", scopes.join(", "));
        return Err(Error::new(Code::Forbidden, detail));
    }
    Ok(all)
}

/// The positions after which the page begins.
async fn begin(live: &Live, query: &Query, heads: &[i64]) -> Result<Arc<[i64]>, Error> {
    let journal = live.store.journal();
    let Some(text) = query.text("after") else {
        return Ok(vec![0; heads.len()].into());
    };
    if let Some(at) = Timestamp::parse(text) {
        return Ok(positions::seen_at(journal.as_ref(), at).await?);
    }
    let wrong = |detail| Error::new(Code::InvalidCursor, detail);
    let token = LiveToken::parse(text).ok_or_else(|| wrong(NO_TOKEN))?;
    let mut fits = token.fits(live.history, heads.len());
    // A position that the journal does not have belongs to another history: an earlier state of the
    // database was put back. What was written since the heads were read may be in a socket's token.
    for ((shard, at), head) in (0..).zip(token.seen.iter()).zip(heads) {
        fits = fits && (at <= head || *at <= journal.last_pos(shard).await?);
    }
    if fits { Ok(token.seen) } else { Err(wrong(OTHER_HISTORY)) }
}

/// The position up to which each shard can be shown: that of the rows of these topics.
///
/// # Errors
/// The errors of the store.
async fn ends(
    store: &Store,
    topics: &[ChangeTopic],
    mut ends: Vec<i64>,
) -> Result<Vec<i64>, Error> {
    for name in topics.iter().filter_map(|topic| topic.projection()) {
        let cursors: BTreeMap<u16, i64> = store.cursors(name).await?.into_iter().collect();
        for (shard, end) in (0..).zip(&mut ends) {
            *end = cursors.get(&shard).map_or(0, |pos| *pos).min(*end);
        }
    }
    Ok(ends)
}

/// The changes of one page, in the order of their first events.
#[derive(Default)]
struct Gathered {
    /// The position up to which each shard was read.
    at: Vec<i64>,
    changes: Vec<(ChangeTopic, EntityId, Vec<ChangeEvent>)>,
    known: HashMap<EntityId, usize>,
}

impl Gathered {
    /// Reads events of all shards, first of those with the most, until there are `limit` changes.
    async fn read(
        &mut self,
        store: &Store,
        topics: &[ChangeTopic],
        ends: &[i64],
        limit: usize,
    ) -> Result<(), Error> {
        let journal = store.journal();
        let shards = (0_u16..).zip(self.at.iter().zip(ends));
        let mut left: Vec<(i64, u16)> = shards
            .map(|(shard, (at, end))| (end - at, shard))
            .filter(|(left, _)| *left > 0)
            .collect();
        left.sort_unstable_by(|one, other| other.cmp(one));
        let share = (EVENTS_MAX / i64::try_from(left.len()).unwrap_or(EVENTS_MAX).max(1)).max(1);
        for (left, shard) in left {
            let mut left = left.min(share);
            while left > 0 {
                let (at, count) = (self.at[usize::from(shard)], left.min(READ_MAX));
                let count = u32::try_from(count).unwrap_or(0);
                let records = journal.read_shard(shard, at, count).await?;
                if records.is_empty() {
                    break;
                }
                for record in &records {
                    if !self.take(record, topics, limit) {
                        return Ok(());
                    }
                    self.at[usize::from(shard)] = record.pos;
                    left -= 1;
                }
            }
        }
        Ok(())
    }

    /// Adds an event; `false` if the page is full.
    fn take(&mut self, record: &Record, topics: &[ChangeTopic], limit: usize) -> bool {
        let prefix = record.entity.prefix();
        let Some(topic) = topics.iter().find(|topic| topic.prefix() == prefix) else {
            return true;
        };
        let known = self.known.get(&record.entity).copied();
        if known.is_none() && self.changes.len() >= limit {
            return false;
        }
        let nth = known.unwrap_or(self.changes.len());
        if known.is_none() {
            self.known.insert(record.entity.clone(), nth);
            self.changes.push((*topic, record.entity.clone(), Vec::new()));
        }
        if let Some((_, _, events)) = self.changes.get_mut(nth) {
            events.push(ChangeEvent {
                seq: record.seq,
                kind: record.kind.to_string(),
                at: record.at.to_string(),
                by: record.cause().by,
            });
        }
        true
    }

    /// The ids of the changed entities of a topic, without their prefixes.
    fn keys<T: FromStr>(&self, topic: ChangeTopic) -> Vec<T> {
        let of = self.changes.iter().filter(|(its, _, _)| *its == topic);
        of.filter_map(|(_, entity, _)| entity.key().parse().ok()).collect()
    }
}

/// The changes with the current rows.
async fn shown(store: &Store, page: Gathered) -> Result<Vec<ListedChange>, Error> {
    let mut orders = order_rows(store, &page).await?;
    let mut levels = stock_rows(store, page.keys(ChangeTopic::Stock)).await?;
    let mut products = product_rows(store, page.keys(ChangeTopic::Products)).await?;
    let mut locations = HashMap::new();
    for id in page.keys::<Location>(ChangeTopic::Locations) {
        let row = versioned::find::<StockLocation>(store, &id).await?;
        let row = row.filter(|row| !row.value.deleted);
        locations.insert(id.to_string(), row.as_ref().map(StockLocationShape::from));
    }
    let mut data = Vec::with_capacity(page.changes.len());
    for (topic, entity, events) in page.changes {
        let after = events.first().map_or(0, |event| event.seq - 1);
        let version = events.last().map_or(0, |event| event.seq);
        let key = entity.key().to_owned();
        data.push(match topic {
            ChangeTopic::Locations => {
                let row = locations.remove(&key).flatten();
                let location = key;
                ListedChange::Locations(ChangedLocation { location, after, version, events, row })
            }
            ChangeTopic::Orders => {
                let row = orders.remove(entity.as_str()).map(OrderSummary::new).transpose()?;
                let order = entity.to_string();
                ListedChange::Orders(Box::new(ChangedOrder { order, after, version, events, row }))
            }
            ChangeTopic::Products => {
                let row = products.remove(&key).map(|row| ProductShape::from(&row));
                ListedChange::Products(ChangedProduct { sku: key, after, version, events, row })
            }
            ChangeTopic::Stock => {
                let rows = levels.remove(&key).unwrap_or_default();
                ListedChange::Stock(ChangedStock { sku: key, after, version, events, rows })
            }
        });
    }
    Ok(data)
}

async fn order_rows(store: &Store, page: &Gathered) -> Result<HashMap<String, order::Row>, Error> {
    let of = page.changes.iter().filter(|(topic, _, _)| *topic == ChangeTopic::Orders);
    let id: Vec<String> = of.map(|(_, entity, _)| entity.to_string()).collect();
    if id.is_empty() {
        return Ok(HashMap::new());
    }
    let filter = order::Filter { id, limit: LIST_MAX, ..order::Filter::default() };
    let (rows, _) = store.orders_at(&filter, OrderRows::NAME).await?;
    Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
}

async fn product_rows(
    store: &Store,
    sku: Vec<Sku>,
) -> Result<HashMap<String, product::Row>, Error> {
    if sku.is_empty() {
        return Ok(HashMap::new());
    }
    let filter = product::Filter { sku, limit: LIST_MAX, ..product::Filter::default() };
    let rows = store.products_for_cache(&filter).await?;
    Ok(rows.into_iter().map(|row| (row.value.sku.to_string(), row)).collect())
}

async fn stock_rows(
    store: &Store,
    sku: Vec<Sku>,
) -> Result<HashMap<String, Vec<StockLevel>>, Error> {
    let mut all: HashMap<String, Vec<StockLevel>> = HashMap::new();
    let mut filter = stock::Filter { sku, limit: LIST_MAX, ..stock::Filter::default() };
    while !filter.sku.is_empty() {
        let (rows, _) = store.stock_levels_at(&filter, StockRows::NAME).await?;
        let last = rows.last().map(|row| (row.sku.clone(), row.location.clone()));
        let full = rows.len() == usize::try_from(LIST_MAX).unwrap_or(usize::MAX);
        for row in rows {
            all.entry(row.sku.to_string()).or_default().push(level_row(row));
        }
        match last.filter(|_| full) {
            Some(last) => filter.after = Some(last),
            None => break,
        }
    }
    Ok(all)
}
