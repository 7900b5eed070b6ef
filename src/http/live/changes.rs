//! The feed of changes over HTTP: what the socket sends as it happens, page by page, from a token or
//! a time. Both have the same tokens, so that a client can go from one to the other.
//!
//! `actors::engine::change_pages` reads the pages, on any node. This module adds the current rows,
//! those of orders, products and stock with one statement each. There is no topic of carts: what was
//! bought is in the orders.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantArray};
use utoipa::ToSchema;
use utoipa::openapi::schema::ObjectBuilder;

use super::token::LiveToken;
use super::{Live, positions};
use crate::actors::engine::change_pages::{self, ChangePage, PageTopic, read_page};
use crate::actors::engine::projections::{Happened, Projection as _};
use crate::actors::order_rows::{OpenedOrderRow, OrderRows};
use crate::actors::stock_rows::StockRows;
use crate::domain::entity::{EntityId, Noun as _};
use crate::domain::id::Sku;
use crate::domain::location::StockLocation;
use crate::domain::order::Order;
use crate::domain::product::Product;
use crate::domain::stock::{Location, Stock};
use crate::domain::time::Timestamp;
use crate::domain::versioned::Versioned as _;
use crate::http::api::location::locations::StockLocationShape;
use crate::http::api::order::schema::OrderEventKind;
use crate::http::api::order::shape::OrderSummary;
use crate::http::api::product::schema::RowEventKind;
use crate::http::api::product::shape::ProductShape;
use crate::http::api::shape::LocationInput;
use crate::http::api::stock::levels::StockListItem;
use crate::http::api::stock::schema::StockEventKind;
use crate::http::docs::schemas::{self, one_of, schemas};
use crate::http::edge::call::RequestParts;
use crate::http::edge::checked;
use crate::http::edge::error::Error;
use crate::http::edge::input::string;
use crate::http::edge::principal::Scope;
use crate::http::edge::problem::{Code, FieldError};
use crate::http::edge::query::Query;
use crate::store::{LIST_MAX, Store, order, product, stock, versioned};

/// The rule of a text that is no token.
const NO_TOKEN: &str = "must be the `token` of a page or of the live socket, or a time such \
    as 2026-01-31T12:00:00Z; without it, the feed begins with the first change ever";
/// The rule of a token that does not fit the store.
const OTHER_HISTORY: &str = "is a token of another history: the store was restored from a backup \
    since, or the token is of another store or of an earlier version of kontor; copy the \
    lists again, and then read the changes after a time just before the copy";

/// A topic of the feed.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
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

    const fn page_topic(self) -> PageTopic {
        let projection = match self {
            Self::Orders => Some(OrderRows::NAME),
            Self::Locations | Self::Products => None,
            Self::Stock => Some(StockRows::NAME),
        };
        PageTopic { prefix: self.prefix(), projection }
    }

    /// The topic of an entity.
    fn of(entity: &EntityId) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|topic| topic.prefix() == entity.prefix())
    }
}

schemas! {
    /// A topic of the feed of changes.
    ChangeTopics one_of::<ChangeTopic>;
    /// The topic of locations.
    OfLocations |about| only(about, ChangeTopic::Locations);
    /// The topic of orders.
    OfOrders |about| only(about, ChangeTopic::Orders);
    /// The topic of products.
    OfProducts |about| only(about, ChangeTopic::Products);
    /// The topic of stock.
    OfStock |about| only(about, ChangeTopic::Stock);
}

fn only(about: &str, topic: ChangeTopic) -> ObjectBuilder {
    let name: &str = topic.into();
    string().description(Some(about)).enum_values(Some([name]))
}

/// An event of a change, without its data. `K` is the schema of its kind.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangeEvent<K> {
    /// The number of the event in its order, stock, product or location, from 1.
    seq: i64,
    #[schema(value_type = K)]
    kind: String,
    #[schema(value_type = schemas::Moment)]
    at: String,
    #[schema(value_type = schemas::PrincipalName)]
    by: String,
    /// The name of the principal's key or sign-in link, if it has one.
    by_name: Option<String>,
    #[serde(skip)]
    #[schema(ignore)]
    kinds: PhantomData<K>,
}

impl<K> ChangeEvent<K> {
    fn all(events: &[Happened]) -> Vec<Self> {
        let shape = |event: &Happened| Self {
            seq: event.seq,
            kind: event.kind.to_string(),
            at: event.at.to_string(),
            by: event.by.to_string(),
            by_name: event.by_name.as_deref().map(str::to_owned),
            kinds: PhantomData,
        };
        events.iter().map(shape).collect()
    }
}

/// A change of a location, of an order, of a product, or of the stock of a SKU.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
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
    #[schema(value_type = OfLocations, inline)]
    topic: ChangeTopic,
    #[schema(value_type = LocationInput)]
    location: String,
    /// The location's version before the change; 0 for a new one.
    after: i64,
    /// The location's version after the change.
    version: i64,
    events: Vec<ChangeEvent<RowEventKind>>,
    /// The current location, which may already show later changes; `null` if it is deleted.
    row: Option<StockLocationShape>,
}

/// A change of an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedOrder {
    #[schema(value_type = OfOrders, inline)]
    topic: ChangeTopic,
    #[schema(value_type = schemas::OrderId)]
    order: String,
    /// The order's version before the change; 0 for a new order.
    after: i64,
    /// The order's version after the change, which is `after` of its next change.
    version: i64,
    events: Vec<ChangeEvent<OrderEventKind>>,
    /// The order's current row, which may already show later changes; `null` if it cannot be shown.
    row: Option<OrderSummary>,
}

/// A change of a product.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedProduct {
    #[schema(value_type = OfProducts, inline)]
    topic: ChangeTopic,
    #[schema(value_type = checked::Sku)]
    sku: String,
    /// The product's version before the change; 0 for a new product.
    after: i64,
    /// The product's version after the change.
    version: i64,
    events: Vec<ChangeEvent<RowEventKind>>,
    /// The current product, which may already show later changes.
    row: Option<ProductShape>,
}

/// A change of the stock of a SKU.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedStock {
    #[schema(value_type = OfStock, inline)]
    topic: ChangeTopic,
    #[schema(value_type = checked::Sku)]
    sku: String,
    /// The stock's version before the change.
    after: i64,
    /// The stock's version after the change.
    version: i64,
    events: Vec<ChangeEvent<StockEventKind>>,
    /// The current level at each location, which may already show later changes.
    rows: Vec<StockListItem>,
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
    let mut query = Query::of_list(&request, &["after", "limit"], &["topic"])?;
    let limit = usize::try_from(query.limit()).unwrap_or(usize::MAX);
    let asked: Vec<ChangeTopic> = query.choices("topic");
    let after = Beginning::of(&mut query, call.now());
    query.check()?;
    let topics = topics(&call, asked)?;
    let shards = live.store.shards().await?;
    let heads: Vec<i64> = shards.iter().map(|shard| shard.last_pos).collect();
    let from = after.positions(&live, &heads).await?;
    let of: Vec<PageTopic> = topics.iter().map(|topic| topic.page_topic()).collect();
    let page = read_page(&live.store, &of, (&from, heads), limit).await?;
    let (token, more) = (live.token(page.seen.as_slice().into()), page.more);
    let data = shown(&live.store, page).await?;
    Ok(HttpResponse::Ok().json(ChangesPage { data, token, more }))
}

/// The topics that the caller asks for.
fn topics(call: &RequestParts, asked: Vec<ChangeTopic>) -> Result<Vec<ChangeTopic>, Error> {
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

/// Where the page begins.
enum Beginning {
    /// At the first change ever.
    First,
    /// At a time.
    At(Timestamp),
    /// After a token.
    After(LiveToken),
}

impl Beginning {
    /// What a query says, with its faults.
    fn of(query: &mut Query, now: Timestamp) -> Self {
        let Some(text) = query.text("after") else { return Self::First };
        if let Some(at) = Timestamp::parse(text) {
            if let Err(rule) = positions::check_time(at, now) {
                query.faults.invalid("after", rule);
            }
            return Self::At(at);
        }
        let token = LiveToken::parse(text);
        if token.is_none() {
            query.faults.add(Code::InvalidCursor, "after", NO_TOKEN);
        }
        token.map_or(Self::First, Self::After)
    }

    /// The positions after which it begins.
    async fn positions(self, live: &Live, heads: &[i64]) -> Result<Arc<[i64]>, Error> {
        let journal = live.store.journal();
        let token = match self {
            Self::First => return Ok(vec![0; heads.len()].into()),
            Self::At(at) => return Ok(positions::seen_at(journal.as_ref(), at).await?),
            Self::After(token) => token,
        };
        let mut fits = token.fits(live.history, heads.len());
        // A position that the journal does not have belongs to another history: an earlier state of
        // the database was put back. What was written since the heads were read may be in a socket's
        // token.
        for ((shard, at), head) in (0..).zip(token.seen.iter()).zip(heads) {
            fits = fits && (at <= head || *at <= journal.last_pos(shard).await?);
        }
        let fault = || FieldError { field: "after".to_owned(), message: OTHER_HISTORY.to_owned() };
        if fits { Ok(token.seen) } else { Err(Error::faulty(Code::InvalidCursor, vec![fault()])) }
    }
}

impl From<change_pages::Error> for Error {
    fn from(error: change_pages::Error) -> Self {
        match error {
            change_pages::Error::Journal(error) => error.into(),
            change_pages::Error::Store(error) => error.into(),
        }
    }
}

/// The ids of the changed entities of a topic, without their prefixes.
fn keys<T: FromStr>(page: &ChangePage, topic: ChangeTopic) -> Vec<T> {
    let of = page.changes.iter().filter(|(entity, _)| entity.prefix() == topic.prefix());
    of.filter_map(|(entity, _)| entity.key().parse().ok()).collect()
}

/// The changes with the current rows.
async fn shown(store: &Store, page: ChangePage) -> Result<Vec<ListedChange>, Error> {
    let mut orders = order_rows(store, &page).await?;
    let mut levels = stock_rows(store, keys(&page, ChangeTopic::Stock)).await?;
    let mut products = product_rows(store, keys(&page, ChangeTopic::Products)).await?;
    let mut locations = HashMap::new();
    for id in keys::<Location>(&page, ChangeTopic::Locations) {
        let row = versioned::find::<StockLocation>(store, &id).await?;
        let row = row.filter(|row| !row.value.deleted);
        locations.insert(id.to_string(), row.as_ref().map(StockLocationShape::from));
    }
    let mut data = Vec::with_capacity(page.changes.len());
    for (entity, events) in page.changes {
        let Some(topic) = ChangeTopic::of(&entity) else { continue };
        let after = events.first().map_or(0, |event| event.seq - 1);
        let version = events.last().map_or(0, |event| event.seq);
        let key = entity.key().to_owned();
        data.push(match topic {
            ChangeTopic::Locations => {
                let row = locations.remove(&key).flatten();
                let location = key;
                let events = ChangeEvent::all(&events);
                ListedChange::Locations(ChangedLocation {
                    topic,
                    location,
                    after,
                    version,
                    events,
                    row,
                })
            }
            ChangeTopic::Orders => {
                let row = orders.remove(entity.as_str()).map(OrderSummary::new).transpose()?;
                let order = entity.to_string();
                let events = ChangeEvent::all(&events);
                ListedChange::Orders(Box::new(ChangedOrder {
                    topic,
                    order,
                    after,
                    version,
                    events,
                    row,
                }))
            }
            ChangeTopic::Products => {
                let row = products.remove(&key).map(|row| ProductShape::from(&row));
                let events = ChangeEvent::all(&events);
                ListedChange::Products(ChangedProduct {
                    topic,
                    sku: key,
                    after,
                    version,
                    events,
                    row,
                })
            }
            ChangeTopic::Stock => {
                let rows = levels.remove(&key).unwrap_or_default();
                let events = ChangeEvent::all(&events);
                ListedChange::Stock(ChangedStock { topic, sku: key, after, version, events, rows })
            }
        });
    }
    Ok(data)
}

async fn order_rows(
    store: &Store,
    page: &ChangePage,
) -> Result<HashMap<String, OpenedOrderRow>, Error> {
    let of = page.changes.iter().filter(|(entity, _)| entity.prefix() == Order::PREFIX);
    let id: Vec<String> = of.map(|(entity, _)| entity.to_string()).collect();
    if id.is_empty() {
        return Ok(HashMap::new());
    }
    let filter = order::Filter { id, limit: LIST_MAX, ..order::Filter::default() };
    let (rows, _) = store.orders_at(&filter, OrderRows::NAME).await?;
    let keys = store.personal_keys(&OpenedOrderRow::key_ids(&rows)).await?;
    let open = |row: order::Row| (row.id.clone(), OpenedOrderRow::open(row, Some(&keys)));
    Ok(rows.into_iter().map(open).collect())
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
) -> Result<HashMap<String, Vec<StockListItem>>, Error> {
    let mut all: HashMap<String, Vec<StockListItem>> = HashMap::new();
    let names = store.product_names(&sku).await?;
    let mut filter = stock::Filter { sku, limit: LIST_MAX, ..stock::Filter::default() };
    while !filter.sku.is_empty() {
        let (rows, _) = store.stock_levels_at(&filter, StockRows::NAME).await?;
        let last = rows.last().map(stock::ListPlace::from);
        let full = rows.len() == usize::try_from(LIST_MAX).unwrap_or(usize::MAX);
        for row in rows {
            let name = names.get(&row.sku).cloned();
            all.entry(row.sku.to_string()).or_default().push(StockListItem::new(row, name));
        }
        match last.filter(|_| full) {
            Some(last) => filter.after = Some(last),
            None => break,
        }
    }
    Ok(all)
}
