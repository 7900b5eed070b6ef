//! The messages of a live socket, from the client and from the server. `asyncapi` generates their
//! documentation from these types; docs/api.md explains them.

use std::marker::PhantomData;

use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::filter_values::FilterValues;
use super::stats::Sample;
use crate::actors::engine::projections::Happened;
use crate::http::api::location::locations::StockLocationShape;
use crate::http::api::order::schema;
use crate::http::api::order::shape::OrderSummary;
use crate::http::api::product::schema::RowEventKind;
use crate::http::api::product::shape::ProductShape;
use crate::http::api::shape::LocationInput;
use crate::http::api::stock::levels::StockListItem;
use crate::http::api::stock::schema::StockEventKind;
use crate::http::docs::schemas;
use crate::http::edge::checked;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::input::{Text, Whole};
use crate::http::edge::problem::{ErrorCode, FieldError};
use crate::http::edge::query::LIMIT_MAX;
use crate::http::operator::entities::Here;

/// The most characters of the id of a subscription.
const ID_MAX: usize = 64;

/// The topic of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, ToSchema)]
#[schema(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Topic {
    Orders,
    Sagas,
    Stock,
    Products,
    Locations,
    Cluster,
    Stats,
}

/// A filter of orders, stock or products; empty for all. One value can also be sent without a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct FilterInput {
    /// Only the orders with these ids; the old name is `order`.
    #[serde(default, alias = "order")]
    #[schema(value_type = Vec<schemas::OrderId>, min_items = 1, max_items = 100)]
    pub id: FilterValues,
    /// Orders in one of these statuses.
    #[serde(default)]
    #[schema(value_type = Vec<schema::Status>, min_items = 1, max_items = 100)]
    pub status: FilterValues,
    /// Orders with one of these payment statuses.
    #[serde(default)]
    #[schema(value_type = Vec<schema::PaymentStatus>, min_items = 1, max_items = 100)]
    pub payment_status: FilterValues,
    /// Orders with one of these fulfillment statuses.
    #[serde(default)]
    #[schema(value_type = Vec<schema::FulfillmentStatus>, min_items = 1, max_items = 100)]
    pub fulfillment_status: FilterValues,
    /// Orders with one of these email addresses.
    #[serde(default)]
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100)]
    pub email: FilterValues,
    /// Orders with one of these order numbers.
    #[serde(default)]
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100)]
    pub number: FilterValues,
    /// Orders with one of these references.
    #[serde(default)]
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100)]
    pub reference: FilterValues,
    /// The stock of these SKUs, or these products.
    #[serde(default)]
    #[schema(value_type = Vec<checked::Sku>, min_items = 1, max_items = 100)]
    pub sku: FilterValues,
    /// The stock at these locations.
    #[serde(default)]
    #[schema(value_type = Vec<LocationInput>, min_items = 1, max_items = 100)]
    pub location: FilterValues,
}

/// Subscribes to a topic: to the changes from now on, or to those since a token.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Subscribe {
    /// The id of the subscription, chosen by the client, 1 to 64 characters.
    #[garde(dive)]
    #[schema(value_type = String)]
    pub id: Text<1, ID_MAX>,
    /// The topic.
    #[schema(value_type = Topic)]
    pub topic: String,
    /// The filter.
    #[serde(default = "all")]
    #[schema(value_type = FilterInput)]
    pub filter: Value,
    /// The maximum number of rows of a snapshot, 1 to 200; 50 by default.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = Option<u32>)]
    pub limit: Option<Whole<1, { LIMIT_MAX as i64 }>>,
    /// The last token that the client received, or a time (RFC 3339): the changes since then follow,
    /// without a snapshot if possible. The changes since a time begin up to a minute earlier.
    #[serde(default)]
    pub from: Option<String>,
}

/// The filter that matches everything.
fn all() -> Value {
    Value::Object(serde_json::Map::new())
}

/// Ends a subscription.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Unsubscribe {
    /// The id of the subscription, chosen by the client.
    pub id: String,
}

/// A message from the client.
#[derive(Clone, Debug)]
pub enum ClientMessage {
    /// A subscription, with the faults of its fields.
    Subscribe(Subscribe, RequestFaults),
    Unsubscribe(Unsubscribe),
}

/// The first message of a socket.
#[derive(Debug, Serialize, ToSchema)]
pub struct Hello {
    /// The version of kontor.
    pub version: &'static str,
    /// The node that serves this socket.
    pub node: String,
}

/// A row of a snapshot, by topic.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum LiveRow {
    Order(OrderSummary),
    Stock(StockListItem),
    Product(ProductShape),
    Location(StockLocationShape),
}

/// The current rows of a subscription: orders newest first, others by SKU or id.
#[derive(Debug, Serialize, ToSchema)]
pub struct Snapshot<'a, R = LiveRow> {
    /// The id of the subscription.
    pub id: &'a str,
    /// The client's position in the feed, which it can later send as `from`.
    pub token: String,
    /// The rows, at most `limit`.
    #[schema(value_type = Vec<LiveRow>)]
    pub data: &'a [R],
    /// Whether there are more rows than `data` contains.
    pub more: bool,
}

/// An event, without its data. `K` is the schema of its kind.
#[derive(Debug, Serialize, ToSchema)]
pub struct HappenedShape<'a, K> {
    /// The number of the event in its order, stock, product or location, from 1.
    pub seq: i64,
    /// The kind of the event.
    #[schema(value_type = K)]
    pub kind: &'a str,
    /// The time of the event.
    #[schema(value_type = schemas::Moment)]
    pub at: String,
    /// The principal that caused the event.
    #[schema(value_type = schemas::PrincipalName)]
    pub by: &'a str,
    /// The name of the principal's key or sign-in link, if it has one.
    pub by_name: Option<&'a str>,
    #[serde(skip)]
    #[schema(ignore)]
    kinds: PhantomData<K>,
}

impl<'a, K> HappenedShape<'a, K> {
    /// The events of a change in their wire format.
    #[must_use]
    pub fn all(events: &[&'a [Happened]]) -> Vec<Self> {
        let shape = |event: &'a Happened| Self {
            seq: event.seq,
            kind: &event.kind,
            at: event.at.to_string(),
            by: &event.by,
            by_name: event.by_name.as_deref(),
            kinds: PhantomData,
        };
        events.iter().copied().flatten().map(shape).collect()
    }
}

/// A change of an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderChangeShape<'a> {
    /// The order.
    #[schema(value_type = schemas::OrderId)]
    pub order: &'a str,
    /// The order's version before the change; 0 for a new order.
    pub after: i64,
    /// The order's version after the change, which is `after` of its next change.
    pub version: i64,
    /// Whether the order matches the filter now; `false` if it no longer does.
    pub matches: bool,
    /// The events of the change, oldest first.
    pub events: Vec<HappenedShape<'a, schema::OrderEventKind>>,
    /// The order's current row.
    pub row: OrderSummary,
}

/// A change of the stock of a SKU.
#[derive(Debug, Serialize, ToSchema)]
pub struct StockChangeShape<'a> {
    /// The SKU.
    #[schema(value_type = checked::Sku)]
    pub sku: &'a str,
    /// The stock's version before the change.
    pub after: i64,
    /// The stock's version after the change.
    pub version: i64,
    /// The events of the change, oldest first.
    pub events: Vec<HappenedShape<'a, StockEventKind>>,
    /// The current stock level at each location.
    pub rows: Vec<StockListItem>,
}

/// A change of a product.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProductChangeShape<'a> {
    /// The SKU.
    #[schema(value_type = checked::Sku)]
    pub sku: &'a str,
    /// The product's version before the change; 0 for a new product.
    pub after: i64,
    /// The product's version after the change.
    pub version: i64,
    /// The events of the change, oldest first.
    pub events: Vec<HappenedShape<'a, RowEventKind>>,
    /// The product after the change.
    pub row: ProductShape,
}

/// A change of a location.
#[derive(Debug, Serialize, ToSchema)]
pub struct LocationChangeShape<'a> {
    /// The location.
    #[schema(value_type = LocationInput)]
    pub location: &'a str,
    /// The location's version before the change; 0 for a new one.
    pub after: i64,
    /// The location's version after the change.
    pub version: i64,
    /// The events of the change, oldest first.
    pub events: Vec<HappenedShape<'a, RowEventKind>>,
    /// The location after the change; `null` if it is deleted.
    pub row: Option<StockLocationShape>,
}

/// A change, by topic.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ChangeShape<'a> {
    Order(OrderChangeShape<'a>),
    Stock(StockChangeShape<'a>),
    Product(ProductChangeShape<'a>),
    Location(LocationChangeShape<'a>),
}

/// The changes since the previous token. If `data` is empty, only the token is newer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Changes<'a, C = ChangeShape<'a>> {
    /// The id of the subscription.
    pub id: &'a str,
    /// The client's position in the feed, which it can later send as `from`.
    pub token: String,
    /// One entry per order, SKU or location.
    #[schema(value_type = Vec<ChangeShape<'a>>)]
    pub data: Vec<C>,
}

/// Why a client gets a new snapshot without asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The client read too slowly, or there were more changes than could be sent to all clients.
    Slow,
    /// The token is too old: there were more changes since than can be sent.
    TooOld,
    /// The token belongs to another history: the store was restored from a backup since, or the
    /// token is of another store, or of an earlier version of kontor.
    OtherHistory,
}

/// Changes were left out; a snapshot follows.
#[derive(Debug, Serialize, ToSchema)]
pub struct Resync<'a> {
    /// The id of the subscription.
    pub id: &'a str,
    /// The client's position in the feed, which it can later send as `from`.
    pub token: String,
    /// The reason.
    pub reason: Reason,
    /// The number of events that were skipped, over all topics.
    pub skipped: i64,
}

/// Statistics: at first up to 300 samples, then one per second.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stats<'a> {
    /// The id of the subscription.
    pub id: &'a str,
    /// The samples, newest last.
    #[schema(value_type = Vec<Sample>)]
    pub data: &'a [std::sync::Arc<Sample>],
}

/// The state of this node, at first and after each change.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClusterNow<'a> {
    /// The id of the subscription.
    pub id: &'a str,
    /// This node.
    #[schema(value_type = Here)]
    pub data: &'a Here,
}

/// The refusal of an invalid or forbidden message. The socket stays open.
#[derive(Debug, Serialize, ToSchema)]
pub struct Refused<'a> {
    /// The id of the subscription, if the message named one.
    pub id: Option<&'a str>,
    /// The error code; stable.
    #[schema(value_type = ErrorCode)]
    pub code: &'a str,
    /// The reason for the refusal.
    pub detail: &'a str,
    /// All invalid fields of the message.
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    pub errors: &'a [FieldError],
}

/// The last message of a socket.
#[derive(Debug, Serialize, ToSchema)]
pub struct Bye {
    /// The reason.
    pub reason: &'static str,
}

/// A server's message about a list.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ListMessage<'a, D> {
    Snapshot(Snapshot<'a, D>),
    Changes(Changes<'a, D>),
}

/// The server's other messages.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage<'a> {
    Hello(Hello),
    Resync(Resync<'a>),
    Stats(Stats<'a>),
    Cluster(ClusterNow<'a>),
    Error(Refused<'a>),
    Bye(Bye),
}

impl ServerMessage<'_> {
    /// The message as text of a frame.
    #[must_use]
    pub fn frame(&self) -> ByteString {
        frame(self)
    }
}

impl<D: Serialize> ListMessage<'_, D> {
    /// The message as text of a frame.
    #[must_use]
    pub fn frame(&self) -> ByteString {
        frame(self)
    }
}

fn frame(message: &impl Serialize) -> ByteString {
    match serde_json::to_string(message) {
        Ok(text) => text.into(),
        Err(error) => {
            tracing::error!(%error, "cannot serialize a live message");
            ByteString::from_static(r#"{"type":"bye","reason":"internal"}"#)
        }
    }
}
