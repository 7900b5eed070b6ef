//! `evolve` of a stock: applies an event to the state. An event has already happened, so nothing is
//! rejected here.

use super::{CLAIM_TTL, Claim, Event, Hold, Level, LocationUnits, RETURNED_CLAIM_TTL, Stock};
use crate::domain::id::OrderId;
use crate::domain::time::Timestamp;
use crate::seeded_fault::{self, SeededFault};

impl Stock {
    pub(super) fn evolve_event(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::Reserved { order, generation, parts, hold_until } => {
                let claim = self.claims.entry(*order).or_default();
                let (generation, hold_until) = (*generation, *hold_until);
                let held = parts.clone();
                claim.hold = Some(Hold { parts: held, generation, hold_until, yields: false });
                self.lapses.insert((hold_until, *order));
                self.change_levels(parts, |level, quantity| level.reserved += quantity);
            }
            Event::Extended { order, generation, hold_until } => {
                if let Some(hold) = self.claims.get_mut(order).and_then(|claim| claim.hold.as_mut())
                {
                    self.lapses.remove(&(hold.hold_until, *order));
                    self.lapses.insert((*hold_until, *order));
                    hold.generation = *generation;
                    hold.hold_until = *hold_until;
                    hold.yields = false;
                    self.yielding.remove(order);
                }
            }
            Event::Yielded { order, .. } => {
                if let Some(hold) = self.claims.get_mut(order).and_then(|claim| claim.hold.as_mut())
                {
                    hold.yields = true;
                    self.yielding.insert(*order);
                }
            }
            Event::Lapsed { order } => {
                self.drop_hold(*order);
                self.remember(*order, at);
            }
            Event::Committed { order } => {
                let parts = self.drop_hold(*order);
                self.change_levels(&parts, |level, quantity| level.allocated += quantity);
                let claim = self.claims.entry(*order).or_default();
                claim.allocated = parts;
                claim.committed = true;
            }
            Event::Released { order } => {
                self.drop_hold(*order);
                let claim = self.claims.entry(*order).or_default();
                claim.released = !seeded_fault::active(SeededFault::ReleasedWithoutTombstone);
                let parts = std::mem::take(&mut claim.allocated);
                self.change_levels(&parts, |level, quantity| level.allocated -= quantity);
                self.remember(*order, at);
            }
            Event::Shipped { order, id, parts } => {
                self.drop_allocated(*order, parts).shipped.push(id.clone());
                self.change_levels(parts, |level, quantity| {
                    level.on_hand -= quantity;
                    level.sold += quantity;
                });
                self.remember(*order, at);
            }
            Event::Restocked { order, id, unshipped, returned } => {
                self.drop_allocated(*order, unshipped).returned.push(id.clone());
                self.change_levels(returned, |level, quantity| {
                    level.on_hand += quantity;
                    level.sold -= quantity;
                });
                self.remember(*order, at);
            }
            Event::WrittenOff { order, id, parts } => {
                self.drop_allocated(*order, parts).returned.push(id.clone());
                self.change_levels(parts, |level, quantity| {
                    level.on_hand -= quantity;
                    level.received -= quantity;
                });
                self.remember(*order, at);
            }
            Event::Received { .. }
            | Event::Expected { .. }
            | Event::Adjusted { .. }
            | Event::Transferred { .. } => self.evolve_levels(event),
        }
    }

    /// Applies an event about goods that arrive, leave or move without an order.
    fn evolve_levels(&mut self, event: &Event) {
        match event {
            Event::Received { location, quantity, from_incoming, .. } => {
                let level = self.levels.entry(location.clone()).or_default();
                level.on_hand += quantity;
                level.received += quantity;
                if *from_incoming {
                    level.incoming = (level.incoming - quantity).max(0);
                }
            }
            Event::Expected { location, quantity, .. } => {
                self.levels.entry(location.clone()).or_default().incoming += quantity;
            }
            Event::Adjusted { location, delta, .. } => {
                let level = self.levels.entry(location.clone()).or_default();
                level.on_hand += delta;
                level.received += delta;
            }
            Event::Transferred { from, to, quantity, .. } => {
                for (location, delta) in [(from, -quantity), (to, *quantity)] {
                    let level = self.levels.entry(location.clone()).or_default();
                    level.on_hand += delta;
                    level.received += delta;
                }
            }
            _ => {}
        }
    }

    fn change_levels(&mut self, parts: &[LocationUnits], change: impl Fn(&mut Level, i64)) {
        for part in parts {
            change(self.levels.entry(part.location.clone()).or_default(), part.quantity);
        }
    }

    fn drop_hold(&mut self, order: OrderId) -> Vec<LocationUnits> {
        let Some(hold) = self.claims.get_mut(&order).and_then(|claim| claim.hold.take()) else {
            return Vec::new();
        };
        self.lapses.remove(&(hold.hold_until, order));
        self.yielding.remove(&order);
        self.change_levels(&hold.parts, |level, quantity| level.reserved -= quantity);
        hold.parts
    }

    fn drop_allocated(&mut self, order: OrderId, parts: &[LocationUnits]) -> &mut Claim {
        self.change_levels(parts, |level, quantity| level.allocated -= quantity);
        let claim = self.claims.entry(order).or_default();
        for part in parts {
            let mut left = part.quantity;
            for mine in claim.allocated.iter_mut().filter(|mine| mine.location == part.location) {
                let taken = mine.quantity.min(left);
                mine.quantity -= taken;
                left -= taken;
            }
        }
        claim.allocated.retain(|part| part.quantity > 0);
        claim
    }

    /// If the order has neither hold nor allocation any more, schedules the removal of its claim;
    /// and removes the claims whose time has come.
    fn remember(&mut self, order: OrderId, at: Timestamp) {
        if let Some(claim) = self.claims.get_mut(&order).filter(|claim| claim.settled()) {
            let ttl = if claim.returned.is_empty() { CLAIM_TTL } else { RETURNED_CLAIM_TTL };
            if let Some(before) = claim.forget_at.replace(at + ttl) {
                self.settled.remove(&(before, order));
            }
            self.settled.insert((at + ttl, order));
        }
        while let Some((forget_at, order)) = self.settled.first().copied() {
            if forget_at > at {
                break;
            }
            self.settled.pop_first();
            if self.claims.get(&order).is_some_and(Claim::settled) {
                self.claims.remove(&order);
            }
        }
    }
}
