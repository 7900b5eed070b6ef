//! The stock of every SKU, folded and checked after every event (I4).
//!
//! A separate tally counts units from the events alone, and must agree with the folded state; and
//! each event must have the same effect on the claims of orders as on the levels. `cross` compares
//! the claims with the orders.

use std::collections::{BTreeMap, HashMap};

use super::report::{Invariant, Violations};
use crate::domain::entity::{EntityId, Noun as _, Record};
use crate::domain::id::OrderId;
use crate::domain::stock::{Claim, Event, Level, Location, LocationUnits, Stock};
use crate::domain::time::Timestamp;

/// Units received and shipped at a location, counted from the events alone.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    received: i64,
    sold: i64,
}

/// A SKU's folded stock, and further data for its checks.
#[derive(Default)]
pub(super) struct StockEntry {
    pub state: Stock,
    pub seq: i64,
    pub last_pos: i64,
    pub at: Timestamp,
    /// Whether a violation was reported: its consequences are not reported again.
    pub faulty: bool,
    /// Whether its events cannot be folded.
    pub broken: bool,
    /// Whether a row of it was read.
    pub rows_seen: bool,
    tally: BTreeMap<Location, Tally>,
}

/// The book of stock: all SKUs.
#[derive(Default)]
pub(super) struct Items {
    pub all: HashMap<EntityId, StockEntry>,
}

impl Items {
    /// Folds an event, and checks the totals after it.
    pub(super) fn fold_event(&mut self, record: &Record, event: &Event, findings: &mut Violations) {
        let entry = self.all.entry(record.entity.clone()).or_default();
        let order = order_of(event);
        let claim = order.and_then(|order| entry.state.claim(order)).cloned().unwrap_or_default();
        let before = entry.state.levels().clone();
        let groundless = matches!(event, Event::Committed { .. }) && claim.hold.is_none();
        entry.state.evolve(event, record.at);
        count(&mut entry.tally, event);
        if !entry.faulty
            && let Some(fault) = groundless
                .then(|| "units were allocated that were not on hold".to_owned())
                .or_else(|| entry.fault(order, &claim, &before))
        {
            entry.faulty = true;
            let positions = [entry.last_pos, record.pos];
            let positions = if entry.last_pos > 0 { &positions[..] } else { &positions[1..] };
            findings.add(Invariant::I4, &record.entity, positions, fault);
        }
    }

    /// The number of units of a SKU that are allocated to an order.
    pub(super) fn allocated(&self, sku: &EntityId, order: OrderId) -> i64 {
        let claim = self.all.get(sku).and_then(|entry| entry.state.claim(order));
        claim.map_or(0, |claim| claim.allocated.iter().map(|part| part.quantity).sum())
    }
}

impl StockEntry {
    fn fault(
        &self,
        order: Option<OrderId>,
        claim: &Claim,
        before: &BTreeMap<Location, Level>,
    ) -> Option<String> {
        let nothing = Claim::default();
        let after = order.and_then(|order| self.state.claim(order)).unwrap_or(&nothing);
        for (location, level) in self.state.levels() {
            if !level.sound() {
                let sellable = level.sellable();
                return Some(format!(
                    "the level at {location} is impossible: {sellable} sellable, {level:?}"
                ));
            }
            let tally = self.tally.get(location).copied().unwrap_or_default();
            if (level.received, level.sold) != (tally.received, tally.sold) {
                return Some(format!(
                    "at {location} the level has {} received and {} sold, the events {} and {}",
                    level.received, level.sold, tally.received, tally.sold
                ));
            }
            let was = before.get(location).copied().unwrap_or_default();
            let change =
                |sum: fn(&Claim, &Location) -> i64| sum(after, location) - sum(claim, location);
            let (held, allocated) = (change(held_at), change(allocated_at));
            if level.reserved - was.reserved != held || level.allocated - was.allocated != allocated
            {
                return Some(format!(
                    "at {location} the level went from {} reserved and {} allocated to {} and {}, \
                     but the order's claim changed by {held} and {allocated}",
                    was.reserved, was.allocated, level.reserved, level.allocated
                ));
            }
        }
        None
    }
}

fn held_at(claim: &Claim, location: &Location) -> i64 {
    claim.hold.as_ref().map_or(0, |hold| sum_at(&hold.parts, location))
}

fn allocated_at(claim: &Claim, location: &Location) -> i64 {
    sum_at(&claim.allocated, location)
}

fn sum_at(parts: &[LocationUnits], location: &Location) -> i64 {
    parts.iter().filter(|part| part.location == *location).map(|part| part.quantity).sum()
}

/// The order that an event is about, if any.
const fn order_of(event: &Event) -> Option<OrderId> {
    match event {
        Event::Reserved { order, .. }
        | Event::Extended { order, .. }
        | Event::Yielded { order, .. }
        | Event::Lapsed { order }
        | Event::Committed { order }
        | Event::Released { order }
        | Event::Shipped { order, .. }
        | Event::Restocked { order, .. }
        | Event::WrittenOff { order, .. } => Some(*order),
        Event::Received { .. }
        | Event::Expected { .. }
        | Event::Adjusted { .. }
        | Event::Transferred { .. } => None,
    }
}

/// Adds the units that an event receives and ships to the tally.
fn count(tally: &mut BTreeMap<Location, Tally>, event: &Event) {
    let mut add = |location: &Location, received: i64, sold: i64| {
        let tally = tally.entry(location.clone()).or_default();
        tally.received += received;
        tally.sold += sold;
    };
    match event {
        Event::Received { location, quantity, .. } => add(location, *quantity, 0),
        Event::Adjusted { location, delta, .. } => add(location, *delta, 0),
        Event::Transferred { from, to, quantity, .. } => {
            add(from, -quantity, 0);
            add(to, *quantity, 0);
        }
        Event::Shipped { parts, .. } => {
            parts.iter().for_each(|part| add(&part.location, 0, part.quantity));
        }
        Event::Restocked { returned, .. } => {
            returned.iter().for_each(|part| add(&part.location, 0, -part.quantity));
        }
        Event::WrittenOff { parts, .. } => {
            parts.iter().for_each(|part| add(&part.location, -part.quantity, 0));
        }
        Event::Reserved { .. }
        | Event::Extended { .. }
        | Event::Yielded { .. }
        | Event::Lapsed { .. }
        | Event::Committed { .. }
        | Event::Released { .. }
        | Event::Expected { .. } => {}
    }
}
