//! All books, into which the journal's events are folded, one book per noun.
//!
//! Each event is passed to the book of its noun, and the seqs of each entity are checked (I5).
//! Checks that compare two nouns as of the same event are here, too (I1, I4). Orders, carts, stock
//! and the counter depend on each other, so [`Books`] has their books as fields. A noun that is
//! checked by itself has an [`EntityBook`], which is added in [`Books::standard`].

use std::collections::{BTreeSet, HashMap};

use super::book::EntityBook;
use super::cart::{Carts, same_lines};
use super::heads::{HeadsToCompare, SignedHeads};
use super::location::ForSale;
use super::order::AllOrders;
use super::price::PriceBook;
use super::replay::{next, replay};
use super::report::{CheckedCounts, Invariant, Violations};
use super::stock::Items;
use crate::domain::cart::{self, Cart};
use crate::domain::counter::{self, Counter};
use crate::domain::entity::{EntityId, Noun, Record};
use crate::domain::id::{Key, OrderId};
use crate::domain::location::StockLocation;
use crate::domain::order::{self, Order, Placed};
use crate::domain::product::Product;
use crate::domain::stock::{self, Stock};
use crate::domain::time::Timestamp;
use crate::domain::versioned::Versioned as _;
use crate::store::journal::{Journal, ReadError};

/// The books of all nouns, and the violations found so far.
#[derive(Default)]
pub struct Books {
    pub(super) shards: u16,
    pub(super) orders: AllOrders,
    pub(super) carts: Carts,
    pub(super) stock: Items,
    pub(super) for_sale: ForSale,
    pub(super) prices: PriceBook,
    /// For each order, the order number that the counter issued for it, and the position of that
    /// event.
    pub(super) drawn: HashMap<Key, (i64, i64)>,
    pub(super) newest_at: Timestamp,
    pub(super) checked: CheckedCounts,
    pub(super) findings: Violations,
    pub(super) counters: HashMap<EntityId, (Counter, i64, bool)>,
    /// The keys of personal data that cannot be opened.
    pub(super) damaged_keys: BTreeSet<String>,
    /// The signed heads to compare with.
    pub(super) heads: HeadsToCompare,
    /// The books of nouns that are checked by themselves.
    pub(super) others: Vec<Box<dyn EntityBook>>,
}

impl Books {
    /// Adds the book of a noun that is checked by itself.
    #[must_use]
    pub fn with(mut self, book: impl EntityBook + 'static) -> Self {
        self.others.push(Box::new(book));
        self
    }

    /// Compares the chains of events with these heads, too.
    #[must_use]
    pub fn with_heads(mut self, heads: SignedHeads) -> Self {
        (self.heads, self.checked.kept_heads) = HeadsToCompare::given(heads);
        self
    }

    /// Folds an event into the book of its noun.
    pub(super) async fn fold_event(
        &mut self,
        journal: &dyn Journal,
        record: &Record,
    ) -> Result<(), ReadError> {
        self.checked.events += 1;
        self.newest_at = self.newest_at.max(record.at);
        let home = record.entity.shard(self.shards);
        if home != record.shard {
            let why = format!("its event is on shard {}, but its shard is {home}", record.shard);
            self.findings.add(Invariant::I5, &record.entity, &[record.pos], why);
        }
        if record.entity.prefix() == StockLocation::PREFIX {
            self.for_sale.fold_location(record);
        }
        if record.entity.prefix() == Product::PREFIX {
            self.prices.fold_product(record);
        }
        match record.entity.prefix() {
            Order::PREFIX => self.fold_order(journal, record).await?,
            Cart::PREFIX => self.fold_cart(journal, record).await?,
            Stock::PREFIX => self.fold_stock(record),
            Counter::PREFIX => self.fold_counter(record),
            prefix => match self.others.iter_mut().find(|book| book.prefix() == prefix) {
                Some(book) => book.fold_event(record, &mut self.findings),
                None => {
                    let why = "no noun has this prefix";
                    self.findings.add(Invariant::I5, &record.entity, &[record.pos], why);
                }
            },
        }
        Ok(())
    }

    async fn fold_order(
        &mut self,
        journal: &dyn Journal,
        record: &Record,
    ) -> Result<(), ReadError> {
        let Some(key) = self.key(record) else { return Ok(()) };
        let (seq, broken) =
            self.orders.all.get(&key).map_or((0, false), |entry| (entry.seq, entry.broken));
        if broken {
            return Ok(());
        }
        if self.orders.asleep(key)
            && let Some(folded) = replay(journal, &record.entity, seq).await?
        {
            self.orders.wake(key, folded.state);
        }
        let Some(event) = next::<order::Event>(record, seq, &mut self.findings) else {
            self.orders.give_up(key, record.pos);
            return Ok(());
        };
        if matches!(event, order::Event::Confirmed { .. }) && self.shards == 1 {
            self.check_allocated(key, record);
        }
        if let order::Event::Placed { placed, .. } = &event {
            self.check_placed(key, record, placed);
        }
        self.orders.fold_event(key, record, &event, &mut self.findings);
        self.orders.shrink();
        Ok(())
    }

    /// Checks that an order has all its units allocated when it is confirmed.
    fn check_allocated(&mut self, key: Key, record: &Record) {
        let Some(order) = self.orders.whole(key) else { return };
        for (sku, units) in order.units() {
            let item = stock::entity_id(&sku);
            let allocated = self.stock.allocated(&item, OrderId(key));
            let faulty = self.stock.all.get(&item).is_some_and(|entry| entry.faulty);
            if allocated != units && !faulty {
                let why = format!(
                    "it was confirmed with {allocated} of {units} units of {sku} allocated"
                );
                self.findings.add(Invariant::I4, &record.entity, &[record.pos], why);
            }
        }
    }

    async fn fold_cart(&mut self, journal: &dyn Journal, record: &Record) -> Result<(), ReadError> {
        let Some(key) = self.key(record) else { return Ok(()) };
        let (seq, broken) =
            self.carts.all.get(&key).map_or((0, false), |entry| (entry.seq, entry.broken));
        if broken {
            return Ok(());
        }
        if self.carts.asleep(key)
            && let Some(folded) = replay(journal, &record.entity, seq).await?
        {
            self.carts.wake(key, folded.state);
        }
        let Some(event) = next::<cart::Event>(record, seq, &mut self.findings) else {
            self.carts.all.entry(key).or_default().broken = true;
            return Ok(());
        };
        self.carts.fold_event(key, record, &event, &mut self.findings);
        self.carts.shrink();
        Ok(())
    }

    /// Checks that an order was placed after its cart was spent, and with the cart's lines.
    fn check_placed(&mut self, key: Key, record: &Record, placed: &Placed) {
        // The violation was already reported, with the cart's event that could not be folded.
        if self.carts.unreadable(key) {
            return;
        }
        let fault = match self.carts.sealed.remove(&key) {
            None => "it was placed before its cart was spent on it",
            Some(cart) if !same_lines(&cart, (placed, record.at)) => {
                "its lines differ from those of its cart"
            }
            Some(cart) => return self.prices.note_placed(&cart, (placed, record)),
        };
        self.findings.add(Invariant::I1, &record.entity, &[record.pos], fault);
    }

    fn fold_stock(&mut self, record: &Record) {
        let (seq, broken) =
            self.stock.all.get(&record.entity).map_or((0, false), |one| (one.seq, one.broken));
        if broken {
            return;
        }
        match next::<stock::Event>(record, seq, &mut self.findings) {
            Some(event) => {
                self.stock.fold_event(record, &event, &mut self.findings);
                self.for_sale.note_reserved(record, &event);
                if let Some(entry) = self.stock.all.get_mut(&record.entity) {
                    (entry.seq, entry.last_pos, entry.at) = (record.seq, record.pos, record.at);
                }
            }
            None => {
                let entry = self.stock.all.entry(record.entity.clone()).or_default();
                (entry.faulty, entry.broken) = (true, true);
            }
        }
    }

    fn fold_counter(&mut self, record: &Record) {
        let entry = self.counters.entry(record.entity.clone()).or_default();
        if entry.2 {
            return;
        }
        let Some(event) = next::<counter::Event>(record, entry.1, &mut self.findings) else {
            entry.2 = true;
            return;
        };
        let counter::Event::Drawn { order, number, .. } = &event;
        let expected = entry.0.last() + 1;
        if *number != expected {
            let why = format!("{number} was issued, but the next number is {expected}");
            self.findings.add(Invariant::I2, &record.entity, &[record.pos], why);
        }
        entry.0.evolve(&event, record.at);
        entry.1 = record.seq;
        if record.entity == counter::order_numbers() {
            self.checked.numbers += 1;
            if let Some((other, at)) = self.drawn.insert(order.0, (*number, record.pos)) {
                let why = format!("{order} was issued both {other} and {number}");
                self.findings.add(Invariant::I2, &record.entity, &[at, record.pos], why);
            }
        }
    }

    fn key(&mut self, record: &Record) -> Option<Key> {
        let key = record.entity.key().parse().ok();
        if key.is_none() {
            let why = "its id cannot be read";
            self.findings.add(Invariant::I5, &record.entity, &[record.pos], why);
        }
        key
    }
}
