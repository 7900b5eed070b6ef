//! Checks that orders, stock and the counter of order numbers agree, once all events are folded
//! (I2, I4).

use std::collections::HashMap;

use super::books::Books;
use super::order::{OrderEntry, OrderProgress, Summary};
use super::report::{Invariant, count};
use crate::domain::entity::EntityId;
use crate::domain::id::{Key, OrderId};
use crate::domain::order;
use crate::domain::stock;

impl Books {
    /// Compares the units of orders with the stock, and their order numbers with the counter.
    pub(super) fn compare_nouns(&mut self) {
        let mut allocated: HashMap<EntityId, i64> = HashMap::new();
        let mut faults = Vec::new();
        let mut broken = false;
        for (key, entry) in &self.orders.all {
            let Some(summary) = entry.summary() else { continue };
            self.checked.orders += 1;
            match summary.progress {
                OrderProgress::InFlight => self.checked.in_flight += 1,
                OrderProgress::Confirmed => self.checked.confirmed += 1,
                OrderProgress::Cancelled => self.checked.cancelled += 1,
            }
            self.checked.stuck += u64::from(summary.stuck);
            self.checked.overruled += u64::from(entry.overruled);
            broken |= entry.broken;
            if !entry.broken {
                self.compare_number(*key, entry, summary, &mut faults);
                self.compare_stock(*key, entry, summary, (&mut allocated, &mut faults));
            }
        }
        self.compare_replaced(&mut faults);
        for (invariant, id, positions, message) in faults {
            self.findings.add(invariant, id, &positions, message);
        }
        self.checked.idempotency_keys = count(self.orders.keys.len());
        self.checked.operations = count(self.orders.operations.len());
        self.checked.carts = count(self.carts.all.len());
        self.checked.carts_spent = self.carts.spent;
        self.checked.stock_items = count(self.stock.all.len());
        for book in &self.others {
            book.count(&mut self.checked);
        }
        self.compare_totals(&allocated, broken);
        self.for_sale.check(&mut self.findings);
        self.prices.check(&mut self.findings);
    }

    /// Checks that an order whose cart was replaced is given up: nobody pays for both.
    fn compare_replaced(&self, faults: &mut Vec<CrossFault>) {
        for (order, cart, pos) in &self.carts.replaced {
            let entry = self.orders.all.get(order);
            let kept = entry.and_then(OrderEntry::summary).is_none_or(|there| !there.given_up);
            if kept && !entry.is_some_and(|entry| entry.broken) {
                let why = format!("it replaces {}, which is not cancelled", OrderId(*order));
                faults.push((Invariant::I2, cart.clone(), vec![*pos], why));
            }
        }
    }

    /// Checks that an order has the order number that the counter issued for it.
    fn compare_number(
        &self,
        key: Key,
        entry: &OrderEntry,
        summary: &Summary,
        faults: &mut Vec<CrossFault>,
    ) {
        let Some(number) = summary.number else { return };
        let id = order::entity_id(OrderId(key));
        match self.drawn.get(&key) {
            Some((drawn, _)) if *drawn == number => {}
            Some((drawn, at)) => {
                let why = format!("it has the number {number}, but {drawn} was issued for it");
                faults.push((Invariant::I2, id, vec![*at, entry.last_pos], why));
            }
            None => {
                let why = format!("it has the number {number}, but none was issued for it");
                faults.push((Invariant::I2, id, vec![entry.last_pos], why));
            }
        }
    }

    fn compare_stock(
        &self,
        key: Key,
        entry: &OrderEntry,
        summary: &Summary,
        (allocated, faults): (&mut HashMap<EntityId, i64>, &mut Vec<CrossFault>),
    ) {
        for (sku, unshipped) in &summary.unshipped {
            let item = stock::entity_id(sku);
            let Some(there) = self.stock.all.get(&item) else { continue };
            let has = self.stock.allocated(&item, OrderId(key));
            let claim = there.state.claim(OrderId(key));
            let held = claim.is_some_and(|claim| claim.hold.is_some());
            *allocated.entry(item).or_insert(0) += has;
            if there.faulty || entry.overruled {
                continue;
            }
            if summary.hold_yields
                && let Some(hold) = claim.and_then(|claim| claim.hold.as_ref())
                && !hold.yields
            {
                let id = order::entity_id(OrderId(key));
                let why =
                    format!("it waits for another payment, but keeps units of {sku} from others");
                faults.push((Invariant::I4, id, vec![entry.last_pos, there.last_pos], why));
            }
            let owed = match summary.progress {
                OrderProgress::InFlight => continue,
                OrderProgress::Confirmed => *unshipped,
                OrderProgress::Cancelled => 0,
            };
            if has != owed || held {
                let id = order::entity_id(OrderId(key));
                let hold = if held { " and a hold" } else { "" };
                let why = format!(
                    "it has no unfinished work and should have {owed} units of {sku} allocated, \
                     but has {has}{hold}"
                );
                let positions = vec![entry.first_pos, entry.last_pos, there.last_pos];
                faults.push((Invariant::I4, id, positions, why));
            }
        }
    }

    /// Checks that no unit is allocated to, or held for, an order that does not exist.
    fn compare_totals(&mut self, allocated: &HashMap<EntityId, i64>, broken: bool) {
        for (item, entry) in &self.stock.all {
            let total = entry.state.total();
            self.checked.allocations += u64::try_from(total.allocated).unwrap_or(0);
            for (order, _) in entry.state.holds() {
                self.checked.holds += 1;
                let known =
                    self.orders.all.contains_key(&order.0) || self.carts.all.contains_key(&order.0);
                if !known {
                    let why = format!("units are held for {order}, which does not exist");
                    self.findings.add(Invariant::I4, item, &[entry.last_pos], why);
                }
            }
            let known = allocated.get(item).copied().unwrap_or(0);
            if known != total.allocated && !entry.faulty && !broken {
                let why = format!(
                    "{} units are allocated, but the orders that exist have {known}",
                    total.allocated
                );
                self.findings.add(Invariant::I4, item, &[entry.last_pos], why);
            }
        }
    }
}

type CrossFault = (Invariant, EntityId, Vec<i64>, String);
