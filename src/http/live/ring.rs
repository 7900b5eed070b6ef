//! What changed lately, and frames made of it: several changes of one order become one, with the
//! newest state and all events.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytestring::ByteString;

use super::filter::Spec;
use super::message::{
    ChangeShape, Changes, HappenedShape, OrderChangeShape, ServerMessage, StockChangeShape, Topic,
};
use super::token::Token;
use crate::actors::changes::{Changed, Happened, OrderChange, StockChange};
use crate::http::order_shape::OrderSummary;
use crate::http::stock::level_row;
use crate::store::order::Row;

/// About how many bytes a change is on the wire without its events.
const CHANGE_BYTES: usize = 700;
/// About how many bytes an event is.
const EVENT_BYTES: usize = 100;

/// The last changes of a shard, without a gap between them.
#[derive(Debug)]
pub struct Ring {
    changed: VecDeque<Arc<Changed>>,
    /// Things that changed, over all of them.
    held: usize,
    held_max: usize,
    head: i64,
}

impl Ring {
    /// A ring that begins behind `head` and holds about `held_max` changes.
    #[must_use]
    pub const fn new(head: i64, held_max: usize) -> Self {
        Self { changed: VecDeque::new(), held: 0, held_max, head }
    }

    /// How far the feed has come.
    #[must_use]
    pub const fn head(&self) -> i64 {
        self.head
    }

    /// Forgets all, and begins behind `head`.
    pub fn begin_at(&mut self, head: i64) {
        self.changed.clear();
        (self.held, self.head) = (0, head);
    }

    /// Takes what comes next. What is known already is left out; over a gap, what came before it
    /// is forgotten.
    pub fn push(&mut self, changed: Arc<Changed>) {
        if changed.pos <= self.head {
            return;
        }
        if changed.after_pos != self.head {
            let from = changed.after_pos.max(self.head);
            self.begin_at(from);
            if changed.after_pos < from {
                self.head = changed.pos;
                return;
            }
        }
        self.head = changed.pos;
        if changed.is_empty()
            && let Some(last) = self.changed.back_mut()
            && last.is_empty()
        {
            // Steps in which nothing is told are one, however many there are.
            let (shard, after_pos, pos) = (last.shard, last.after_pos, changed.pos);
            let (orders, stock) = (Vec::new(), Vec::new());
            *last = Arc::new(Changed { shard, after_pos, pos, orders, stock });
            return;
        }
        self.held += changed.len();
        self.changed.push_back(changed);
        while self.held > self.held_max
            && let Some(oldest) = self.changed.pop_front()
        {
            self.held -= oldest.len();
        }
    }

    /// What came behind `pos`; `None` if that is not all here.
    #[must_use]
    pub fn since(&self, pos: i64) -> Option<impl Iterator<Item = &Changed>> {
        let mut at = self.changed.partition_point(|changed| changed.after_pos < pos);
        // It may lie within steps in which nothing was told.
        if let Some(before) = at.checked_sub(1)
            && let Some(changed) = self.changed.get(before)
            && changed.is_empty()
            && pos < changed.pos
        {
            at = before;
        }
        let there = match self.changed.get(at) {
            Some(changed) => changed.after_pos <= pos,
            None => self.head == pos,
        };
        there.then(|| self.changed.range(at..).map(AsRef::as_ref))
    }
}

/// A frame of changes.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The frame; nothing if nothing in it is what the subscription is about.
    pub frame: Option<ByteString>,
    /// How far it leads.
    pub upto: i64,
    /// How many changes were looked at.
    pub looked: usize,
}

/// Several changes of one order.
struct Merged<'a> {
    first: &'a OrderChange,
    row: &'a Row,
    events: Vec<&'a [Happened]>,
}

#[derive(Default)]
struct Gathered<'a> {
    orders: Vec<Merged<'a>>,
    places: HashMap<&'a str, usize>,
    stock: HashMap<&'a str, (i64, &'a StockChange)>,
}

/// Makes one frame of what follows `pos`, as far as about `bytes_max` go. It leads nowhere if the
/// first step is larger than that.
#[must_use]
pub fn render<'a>(
    spec: &Spec,
    pos: i64,
    changes: impl Iterator<Item = &'a Changed>,
    bytes_max: usize,
) -> Rendered {
    let mut gathered = Gathered::default();
    let (mut upto, mut shard, mut looked, mut bytes) = (pos, 0, 0, 0);
    for changed in changes {
        let more = gathered.size(spec, changed);
        if bytes + more > bytes_max {
            break;
        }
        bytes += more;
        looked += changed.len();
        gathered.take(spec, changed);
        (upto, shard) = (changed.pos, changed.shard);
    }
    let data = gathered.shapes(spec);
    let frame = (!data.is_empty()).then(|| {
        let token = Token { shard, pos: upto }.text();
        ServerMessage::Changes(Changes { id: &spec.id, token, data }).frame()
    });
    Rendered { frame, upto, looked }
}

impl<'a> Gathered<'a> {
    /// About how many bytes a step adds.
    fn size(&self, spec: &Spec, changed: &Changed) -> usize {
        let order = |change: &OrderChange| {
            let known = self.places.contains_key(change.row.id.as_str());
            let row = if known { 0 } else { CHANGE_BYTES };
            if known || spec.takes(&change.row) || spec.took(change) {
                row + EVENT_BYTES * change.events.len()
            } else {
                0
            }
        };
        match spec.topic {
            Topic::Orders | Topic::Sagas => changed.orders.iter().map(order).sum(),
            Topic::Stock => {
                let taken = changed.stock.iter().filter(|change| spec.takes_sku(&change.sku));
                taken.map(|change| EVENT_BYTES + 250 * change.rows.len()).sum()
            }
            Topic::Cluster | Topic::Stats => 0,
        }
    }

    fn take(&mut self, spec: &Spec, changed: &'a Changed) {
        match spec.topic {
            Topic::Orders | Topic::Sagas => {
                for change in &changed.orders {
                    self.take_order(spec, change);
                }
            }
            Topic::Stock => {
                for change in changed.stock.iter().filter(|change| spec.takes_sku(&change.sku)) {
                    let place = self.stock.entry(change.sku.as_str());
                    place.or_insert((change.after, change)).1 = change;
                }
            }
            Topic::Cluster | Topic::Stats => {}
        }
    }

    fn take_order(&mut self, spec: &Spec, change: &'a OrderChange) {
        if let Some(place) = self.places.get(change.row.id.as_str()) {
            if let Some(merged) = self.orders.get_mut(*place) {
                merged.row = &change.row;
                merged.events.push(&change.events);
            }
        } else if spec.takes(&change.row) || spec.took(change) {
            self.places.insert(&change.row.id, self.orders.len());
            let events = vec![change.events.as_slice()];
            self.orders.push(Merged { first: change, row: &change.row, events });
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
        stock.sort_unstable_by(|one, other| one.1.sku.cmp(&other.1.sku));
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

fn level(after: i64, change: &StockChange) -> ChangeShape<'_> {
    ChangeShape::Stock(StockChangeShape {
        sku: change.sku.as_str(),
        after,
        version: change.version,
        rows: change.rows.iter().cloned().map(level_row).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(after_pos: i64) -> Arc<Changed> {
        let (orders, stock) = (Vec::new(), Vec::new());
        Arc::new(Changed { shard: 0, after_pos, pos: after_pos + 1, orders, stock })
    }

    fn full(after_pos: i64) -> Arc<Changed> {
        let sku = "LAMP".parse().unwrap();
        let stock = vec![StockChange { sku, after: 0, version: 1, rows: Vec::new() }];
        let orders = Vec::new();
        Arc::new(Changed { shard: 0, after_pos, pos: after_pos + 1, orders, stock })
    }

    fn since(ring: &Ring, pos: i64) -> Option<Vec<i64>> {
        ring.since(pos).map(|rest| rest.map(|changed| changed.pos).collect())
    }

    #[test]
    fn steps_in_which_nothing_is_told_take_no_room_and_leave_no_gap() {
        let mut ring = Ring::new(0, 10);
        ring.push(full(0));
        for at in 1..1_000 {
            ring.push(empty(at));
        }
        ring.push(full(1_000));
        assert_eq!(ring.changed.len(), 3);
        assert_eq!(since(&ring, 0), Some(vec![1, 1_000, 1_001]));
        for within in [1, 500, 999] {
            assert_eq!(since(&ring, within), Some(vec![1_000, 1_001]), "{within}");
        }
        assert_eq!(since(&ring, 1_000), Some(vec![1_001]));
        assert_eq!(since(&ring, 1_001), Some(Vec::new()));
        assert_eq!((since(&ring, -1), since(&ring, 1_002)), (None, None));
    }
}
