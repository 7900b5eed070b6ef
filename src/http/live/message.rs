//! The messages of a socket, both ways, as they stand on the wire. `asyncapi` describes them from
//! these very types; docs/api.md walks through them.

use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::stats::Sample;
use crate::http::api::order::shape::OrderSummary;
use crate::http::api::stock::levels::StockLevel;
use crate::http::operator::entities::Here;

/// What a subscription is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, ToSchema)]
#[schema(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Topic {
    Orders,
    Sagas,
    Stock,
    Cluster,
    Stats,
}

/// Which orders or stock a subscription is about; all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FilterInput {
    /// Orders in one of these statuses, at most 16.
    pub status: Vec<String>,
    /// Orders with this payment status.
    pub payment_status: Option<String>,
    /// Orders with this fulfillment status.
    pub fulfillment_status: Option<String>,
    /// The one order of this id.
    pub order: Option<String>,
    /// Orders of this buyer.
    pub email: Option<String>,
    /// Only orders that cannot go on by themselves.
    pub stuck: bool,
    /// Stock of this SKU.
    pub sku: Option<String>,
}

/// Asks for a topic from now on, or from a token on.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// The client's own word for it, 1 to 64 characters.
    pub id: String,
    /// What it is about.
    #[schema(value_type = Topic)]
    pub topic: String,
    /// Which of them.
    #[serde(default = "all")]
    #[schema(value_type = FilterInput)]
    pub filter: Value,
    /// Rows of a snapshot, 1 to 200; 50 by default.
    #[serde(default)]
    pub limit: Option<u32>,
    /// The last token that was seen: what came later follows, and no snapshot.
    #[serde(default)]
    pub from: Option<String>,
}

/// The filter that takes all.
fn all() -> Value {
    Value::Object(serde_json::Map::new())
}

/// Ends a subscription.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unsubscribe {
    /// The client's own word for it.
    pub id: String,
}

/// What a client says.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
}

/// The first message of a socket.
#[derive(Debug, Serialize, ToSchema)]
pub struct Hello {
    /// The version of the server.
    pub version: &'static str,
    /// The node that serves this socket.
    pub node: String,
}

/// A row of a snapshot, by topic.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are the large one")]
pub enum LiveRow {
    Order(OrderSummary),
    Stock(StockLevel),
}

/// How everything stands that a subscription is about, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Snapshot<'a, R = LiveRow> {
    /// The subscription.
    pub id: &'a str,
    /// The place in the feed.
    pub token: String,
    /// Rows, at most `limit`.
    #[schema(value_type = Vec<LiveRow>)]
    pub data: &'a [R],
    /// Whether there are more of them than that.
    pub more: bool,
}

/// An event of an order, without what it says.
#[derive(Debug, Serialize, ToSchema)]
pub struct HappenedShape<'a> {
    /// Its place in the order's life, from 1.
    pub seq: i64,
    /// Its kind.
    #[schema(example = "confirmed")]
    pub kind: &'a str,
    /// When it was decided.
    pub at: String,
    /// Who asked for it.
    pub by: &'a str,
}

/// What became of an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderChangeShape<'a> {
    /// The order.
    pub order: &'a str,
    /// The version that it had before; 0 if it is new.
    pub after: i64,
    /// The version that it has now: `after` of the next change of this order.
    pub version: i64,
    /// Whether the filter takes it now; `false` if it no longer does.
    pub matches: bool,
    /// What happened, in order.
    pub events: Vec<HappenedShape<'a>>,
    /// How it stands now.
    pub row: OrderSummary,
}

/// What became of the stock of a SKU.
#[derive(Debug, Serialize, ToSchema)]
pub struct StockChangeShape<'a> {
    /// The SKU.
    pub sku: &'a str,
    /// The version that it had before.
    pub after: i64,
    /// The version that it has now.
    pub version: i64,
    /// How it stands now at each location.
    pub rows: Vec<StockLevel>,
}

/// A change, by topic.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are the large one")]
pub enum ChangeShape<'a> {
    Order(OrderChangeShape<'a>),
    Stock(StockChangeShape<'a>),
}

/// What changed since the token before. Without data, only the token moves.
#[derive(Debug, Serialize, ToSchema)]
pub struct Changes<'a, C = ChangeShape<'a>> {
    /// The subscription.
    pub id: &'a str,
    /// The place in the feed.
    pub token: String,
    /// Each order or SKU once.
    #[schema(value_type = Vec<ChangeShape<'a>>)]
    pub data: Vec<C>,
}

/// Why a client gets a snapshot that it did not ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It read too slowly, or there was too much for all.
    Slow,
    /// Its token lies too far back, or is not of this store.
    TooOld,
}

/// Changes were left out; a snapshot follows.
#[derive(Debug, Serialize, ToSchema)]
pub struct Resync<'a> {
    /// The subscription.
    pub id: &'a str,
    /// The place in the feed.
    pub token: String,
    /// Why.
    pub reason: Reason,
    /// How many events lie between, of all topics.
    pub skipped: i64,
}

/// Figures, one sample a second; at first up to 300 of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stats<'a> {
    /// The subscription.
    pub id: &'a str,
    /// Samples, the newest last.
    #[schema(value_type = Vec<Sample>)]
    pub data: &'a [std::sync::Arc<Sample>],
}

/// This node, at first and whenever it looks different.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClusterNow<'a> {
    /// The subscription.
    pub id: &'a str,
    /// This node.
    #[schema(value_type = Here)]
    pub data: &'a Here,
}

/// A message that was not understood or is not allowed. The socket stays open.
#[derive(Debug, Serialize, ToSchema)]
pub struct Refused<'a> {
    /// The subscription, if the message named one.
    pub id: Option<&'a str>,
    /// What went wrong; stable.
    pub code: &'a str,
    /// What is wrong with this message.
    pub detail: &'a str,
}

/// The last message of a socket.
#[derive(Debug, Serialize, ToSchema)]
pub struct Bye {
    /// Why.
    pub reason: &'static str,
}

/// What a server says of a list.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ListMessage<'a, D> {
    Snapshot(Snapshot<'a, D>),
    Changes(Changes<'a, D>),
}

/// What a server says beside that.
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
    /// The message as a frame's text.
    #[must_use]
    pub fn frame(&self) -> ByteString {
        frame(self)
    }
}

impl<D: Serialize> ListMessage<'_, D> {
    /// The message as a frame's text.
    #[must_use]
    pub fn frame(&self) -> ByteString {
        frame(self)
    }
}

fn frame(message: &impl Serialize) -> ByteString {
    match serde_json::to_string(message) {
        Ok(text) => text.into(),
        Err(error) => {
            tracing::error!(%error, "a live message cannot be written");
            ByteString::from_static(r#"{"type":"bye","reason":"internal"}"#)
        }
    }
}
