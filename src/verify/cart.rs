//! The book of carts: the lines of an order must be those that its cart had when it was spent (I1).
//!
//! After its order is placed, only the seq of a spent cart is kept in memory. When there are many
//! open carts, their states are evicted too; at its next event, an evicted cart is read from the
//! journal again.

use std::collections::HashMap;

use super::report::{Invariant, Violations};
use crate::domain::cart::{Cart, Event};
use crate::domain::entity::{EntityId, Noun as _, Record};
use crate::domain::id::{Key, OrderId};
use crate::domain::order::Placed;
use crate::domain::time::Timestamp;

/// The number of open carts in memory beyond which they are evicted.
const AWAKE_MAX: usize = 100_000;

#[derive(Default)]
pub(super) struct CartEntry {
    pub seq: i64,
    pub broken: bool,
    pub spent: bool,
    pub state: Option<Box<Cart>>,
}

/// The book of carts.
#[derive(Default)]
pub(super) struct Carts {
    pub all: HashMap<Key, CartEntry>,
    /// Spent carts whose order is not placed yet. A cart may stay among them forever, if a crash
    /// came between the two events and the buyer did not retry.
    pub sealed: HashMap<Key, Box<Cart>>,
    pub spent: u64,
    /// The given up orders that carts replaced, with the entity and the position of each cart.
    pub replaced: Vec<(Key, EntityId, i64)>,
    awake: usize,
}

impl Carts {
    /// Whether a cart must be read again before its next event is folded.
    pub(super) fn asleep(&self, key: Key) -> bool {
        self.all.get(&key).is_some_and(|entry| entry.state.is_none() && !entry.spent)
    }

    /// Whether a cart's events could not all be folded.
    pub(super) fn unreadable(&self, key: Key) -> bool {
        self.all.get(&key).is_some_and(|entry| entry.broken)
    }

    pub(super) fn wake(&mut self, key: Key, cart: Cart) {
        if let Some(entry) = self.all.get_mut(&key) {
            entry.state = Some(Box::new(cart));
            self.awake += 1;
        }
    }

    /// Folds an event.
    pub(super) fn fold_event(
        &mut self,
        key: Key,
        record: &Record,
        event: &Event,
        findings: &mut Violations,
    ) {
        let entry = self.all.entry(key).or_insert_with(|| {
            self.awake += 1;
            CartEntry { state: Some(Box::default()), ..CartEntry::default() }
        });
        entry.seq = record.seq;
        if entry.spent {
            let why = "it has events after it was spent on its order";
            findings.add(Invariant::I1, &record.entity, &[record.pos], why);
            return;
        }
        let Some(state) = &mut entry.state else {
            entry.broken = true;
            return;
        };
        state.evolve(event, record.at);
        if let Event::Replaced { order } = event {
            self.replaced.push((order.0, record.entity.clone(), record.pos));
        }
        if let Event::Spent { order } = event {
            if *order != OrderId(key) {
                let why = "it was spent on an order with another key";
                findings.add(Invariant::I1, &record.entity, &[record.pos], why);
            }
            entry.spent = true;
            self.spent += 1;
            self.awake = self.awake.saturating_sub(1);
            self.sealed.extend(entry.state.take().map(|cart| (key, cart)));
        }
    }

    /// Evicts open carts, if there are many.
    pub(super) fn shrink(&mut self) {
        if self.awake > AWAKE_MAX {
            self.all.values_mut().for_each(|entry| entry.state = None);
            self.awake = 0;
        }
    }
}

/// Whether an order has a cart's lines: the same ids, SKUs and units, and the unit price where the
/// cart's line has an agreed one that had not expired when the order was placed, at `placed_at`.
pub(super) fn same_lines(cart: &Cart, (placed, placed_at): (&Placed, Timestamp)) -> bool {
    cart.lines().len() == placed.lines.len()
        && cart.lines().iter().zip(&placed.lines).all(|(line, frozen)| {
            line.id == frozen.id
                && line.sku == frozen.sku
                && line.quantity == frozen.quantity
                && line.agreed_price_at(placed_at).is_none_or(|price| price == frozen.unit_price)
        })
}
