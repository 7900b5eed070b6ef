//! Frames made of changes: several changes of one order become one, with the newest state and all
//! events. Which changes somebody is due is known to the ring.

use std::collections::HashMap;

use bytestring::ByteString;

use super::filter::Spec;
use super::message::{
    ChangeShape, Changes, HappenedShape, OrderChangeShape, ServerMessage, StockChangeShape, Topic,
};
use crate::actors::engine::changes::{Change, Changed};
use crate::actors::order_rows::{Happened, OrderRows};
use crate::actors::stock_rows::StockRows;
use crate::http::api::order::shape::OrderSummary;
use crate::http::api::stock::levels::level_row;
use crate::store::order::Row;

/// About how many bytes a change is on the wire without its events.
const CHANGE_BYTES: usize = 700;
/// About how many bytes an event is.
const EVENT_BYTES: usize = 100;

/// Changes on their way to a frame.
pub struct Rendered<'a> {
    gathered: Gathered<'a>,
    /// The number of the last step in it; nothing if the first is larger than a frame.
    pub upto: Option<u64>,
    /// How many changes were looked at.
    pub looked: usize,
}

/// Several changes of one order.
struct Merged<'a> {
    first: &'a Change<OrderRows>,
    row: &'a Row,
    events: Vec<&'a [Happened]>,
}

#[derive(Default)]
struct Gathered<'a> {
    orders: Vec<Merged<'a>>,
    places: HashMap<&'a str, usize>,
    stock: HashMap<&'a str, (i64, &'a Change<StockRows>)>,
}

/// Gathers what is told in some steps, as far as about `bytes_max` go.
#[must_use]
pub fn render<'a>(
    spec: &Spec,
    steps: impl Iterator<Item = (u64, Option<&'a Changed>)>,
    bytes_max: usize,
) -> Rendered<'a> {
    let mut rendered = Rendered { gathered: Gathered::default(), upto: None, looked: 0 };
    let mut bytes = 0;
    for (number, changed) in steps {
        if let Some(changed) = changed {
            let more = rendered.gathered.size(spec, changed);
            if bytes + more > bytes_max {
                break;
            }
            bytes += more;
            rendered.looked += changed.len();
            rendered.gathered.take(spec, changed);
        }
        rendered.upto = Some(number);
    }
    rendered
}

impl Rendered<'_> {
    /// The frame, with the token of where it leads; nothing if nothing in it is what the
    /// subscription is about.
    #[must_use]
    pub fn frame(self, spec: &Spec, token: impl FnOnce() -> String) -> Option<ByteString> {
        let data = self.gathered.shapes(spec);
        (!data.is_empty())
            .then(|| ServerMessage::Changes(Changes { id: &spec.id, token: token(), data }).frame())
    }
}

impl<'a> Gathered<'a> {
    /// About how many bytes a step adds.
    fn size(&self, spec: &Spec, changed: &Changed) -> usize {
        let order = |change: &Change<OrderRows>| {
            let known = self.places.contains_key(change.shown.id.as_str());
            let row = if known { 0 } else { CHANGE_BYTES };
            if known || spec.takes(&change.shown) || spec.took(change) {
                row + EVENT_BYTES * change.events.len()
            } else {
                0
            }
        };
        match spec.topic {
            Topic::Orders | Topic::Sagas => changed.of::<OrderRows>().iter().map(order).sum(),
            Topic::Stock => {
                let taken = changed
                    .of::<StockRows>()
                    .iter()
                    .filter(|change| spec.takes_sku(&change.shown.sku));
                taken.map(|change| EVENT_BYTES + 250 * change.shown.rows.len()).sum()
            }
            Topic::Cluster | Topic::Stats => 0,
        }
    }

    fn take(&mut self, spec: &Spec, changed: &'a Changed) {
        match spec.topic {
            Topic::Orders | Topic::Sagas => {
                for change in changed.of::<OrderRows>() {
                    self.take_order(spec, change);
                }
            }
            Topic::Stock => {
                for change in changed
                    .of::<StockRows>()
                    .iter()
                    .filter(|change| spec.takes_sku(&change.shown.sku))
                {
                    let place = self.stock.entry(change.shown.sku.as_str());
                    place.or_insert((change.after, change)).1 = change;
                }
            }
            Topic::Cluster | Topic::Stats => {}
        }
    }

    fn take_order(&mut self, spec: &Spec, change: &'a Change<OrderRows>) {
        if let Some(place) = self.places.get(change.shown.id.as_str()) {
            if let Some(merged) = self.orders.get_mut(*place) {
                merged.row = &change.shown;
                merged.events.push(&change.events);
            }
        } else if spec.takes(&change.shown) || spec.took(change) {
            self.places.insert(&change.shown.id, self.orders.len());
            let events = vec![change.events.as_slice()];
            self.orders.push(Merged { first: change, row: &change.shown, events });
        }
    }

    fn shapes(self, spec: &Spec) -> Vec<ChangeShape<'a>> {
        let orders = self.orders.into_iter().filter_map(|merged| {
            let matches = spec.takes(merged.row);
            // One that came and left in between was never shown.
            if !matches && !spec.took(merged.first) {
                return None;
            }
            order(&merged, matches)
        });
        let mut stock: Vec<_> = self.stock.into_values().collect();
        stock.sort_unstable_by(|one, other| one.1.shown.sku.cmp(&other.1.shown.sku));
        orders.chain(stock.into_iter().map(|(after, change)| level(after, change))).collect()
    }
}

fn order<'a>(merged: &Merged<'a>, matches: bool) -> Option<ChangeShape<'a>> {
    let happened = |event: &'a Happened| HappenedShape {
        seq: event.seq,
        kind: &event.kind,
        at: event.at.to_string(),
        by: &event.by,
    };
    let row = OrderSummary::new(merged.row.clone());
    let row = row.inspect_err(|error| tracing::error!(%error, "an order cannot be shown")).ok()?;
    Some(ChangeShape::Order(OrderChangeShape {
        order: &merged.row.id,
        after: merged.first.after,
        version: merged.row.version,
        matches,
        events: merged.events.iter().copied().flatten().map(happened).collect(),
        row,
    }))
}

fn level(after: i64, change: &Change<StockRows>) -> ChangeShape<'_> {
    ChangeShape::Stock(StockChangeShape {
        sku: change.shown.sku.as_str(),
        after,
        version: change.version,
        rows: change.shown.rows.iter().cloned().map(level_row).collect(),
    })
}
