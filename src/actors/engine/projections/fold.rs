//! Orders and stock as they are folded from the journal, kept in memory as long as they change,
//! and the rows that show them. Where rows go, and who is told, is not known here.

use std::collections::HashMap;

use crate::actors::engine::changes::Notes;
use crate::actors::engine::fold::{Folded, load};
use crate::domain::entity::{EntityId, Noun, Record};
use crate::domain::id::Sku;
use crate::domain::order::Order;
use crate::domain::stock::Stock;
use crate::domain::time::Timestamp;
use crate::store;
use crate::store::journal::{Journal, ReadError};

/// Folded orders in memory above which those at rest are forgotten at first.
const RESTING_MAX: usize = 1_000;
/// Folded entities that are kept in memory.
const FOLDED_MAX: usize = 20_000;

/// What was folded lately.
pub(super) struct Folds {
    orders: HashMap<EntityId, Folded<Order>>,
    stock: HashMap<EntityId, Folded<Stock>>,
    /// Folded orders above which those at rest are forgotten.
    resting_max: usize,
}

impl Default for Folds {
    fn default() -> Self {
        Self { orders: HashMap::new(), stock: HashMap::new(), resting_max: RESTING_MAX }
    }
}

impl Folds {
    /// Whether rows are made of an event.
    pub(super) fn concerns(record: &Record) -> bool {
        matches!(record.entity.prefix(), Order::PREFIX | Stock::PREFIX)
    }

    /// Takes an event of an order or of stock, with a note of what it changes; the inner error
    /// says why it cannot be read.
    pub(super) async fn take(
        &mut self,
        journal: &dyn Journal,
        record: &Record,
        notes: Option<&mut Notes>,
    ) -> Result<Result<(), String>, ReadError> {
        if record.entity.prefix() == Order::PREFIX {
            let before = |order: &Order| notes.map_or((), |notes| notes.order(order, record));
            fold(&mut self.orders, journal, record, before).await
        } else {
            let before = |_: &Stock| notes.map_or((), |notes| notes.stock(record));
            fold(&mut self.stock, journal, record, before).await
        }
    }

    /// The row of an order.
    pub(super) fn order(&self, id: &EntityId) -> Option<store::order::Row> {
        self.orders.get(id).map(|one| order_row(id, &one.state, one.seq))
    }

    /// The version of stock, and its rows.
    pub(super) fn stock(&self, id: &EntityId) -> Option<(i64, Vec<store::stock::Row>)> {
        self.stock.get(id).map(|one| (one.seq, stock_rows(id, &one.state, one.seq, one.at)))
    }

    /// Forgets what changes no more, when there is much of it.
    pub(super) fn forget_resting(&mut self) {
        if self.orders.len() > self.resting_max {
            self.orders.retain(|_, one| one.state.timer().is_some());
            // Not at every step again when most of them are under way.
            self.resting_max = (2 * self.orders.len()).clamp(RESTING_MAX, FOLDED_MAX);
        }
        if self.orders.len() > FOLDED_MAX {
            self.orders.clear();
        }
        if self.stock.len() > FOLDED_MAX {
            self.stock.clear();
        }
    }

    /// Keeps only what `of` says.
    pub(super) fn retain(&mut self, of: impl Fn(&EntityId) -> bool) {
        self.orders.retain(|id, _| of(id));
        self.stock.retain(|id, _| of(id));
    }
}

/// Folds a record in, reading what came before it if that is not in memory. `before` sees the
/// state that it is folded into.
async fn fold<N: Noun>(
    folded: &mut HashMap<EntityId, Folded<N>>,
    journal: &dyn Journal,
    record: &Record,
    before: impl FnOnce(&N),
) -> Result<Result<(), String>, ReadError> {
    let known = folded.get(&record.entity).map_or(0, |one| one.seq);
    if known + 1 < record.seq {
        match load::<N>(journal, &record.entity, record.seq - 1).await? {
            Ok(loaded) => drop(folded.insert(record.entity.clone(), loaded)),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    let one = folded.entry(record.entity.clone()).or_default();
    if record.seq <= one.seq {
        return Ok(Ok(()));
    }
    Ok(one.read(record).map(|event| {
        before(&one.state);
        one.fold(record, &event);
    }))
}

/// An order as its row shows it.
#[must_use]
pub fn order_row(id: &EntityId, order: &Order, seq: i64) -> store::order::Row {
    let placed = order.placed();
    let text = |word: &'static str| word.to_owned();
    let effects = order.effects();
    store::order::Row {
        id: id.to_string(),
        number: order.number(),
        status: text(order.status().into()),
        payment_status: text(order.payment_status().into()),
        fulfillment_status: text(order.fulfillment_status().into()),
        email: placed.map(|placed| placed.email.clone()).unwrap_or_default(),
        country: placed.map(|placed| placed.shipping_address.country.clone()),
        currency: placed.map(|placed| placed.currency.code().to_owned()).unwrap_or_default(),
        total: order.total(),
        captured: order.captured(),
        refunded: order.refunded(),
        line_count: placed.map_or(0, |placed| i64::try_from(placed.lines.len()).unwrap_or(0)),
        item_count: order.units().values().sum(),
        reference: placed.and_then(|placed| placed.reference.clone()),
        saga_step: effects
            .first()
            .map(crate::domain::order::Effect::step)
            .or_else(|| order.stuck().keys().next().cloned()),
        stuck_reason: order.stuck().values().next().cloned(),
        alert: order.alert().map(str::to_owned),
        placed_at: order.placed_at(),
        updated_at: order.updated_at(),
        version: seq,
    }
}

/// The stock of a SKU as its rows show it, one a location.
#[must_use]
pub fn stock_rows(id: &EntityId, stock: &Stock, seq: i64, at: Timestamp) -> Vec<store::stock::Row> {
    let Ok(sku) = id.key().parse::<Sku>() else {
        return Vec::new();
    };
    let row = |(location, level): (&crate::domain::stock::Location, &_)| {
        let level: &crate::domain::stock::Level = level;
        store::stock::Row {
            sku: sku.clone(),
            location: location.to_string(),
            on_hand: level.on_hand,
            reserved: level.reserved,
            allocated: level.allocated,
            incoming: level.incoming,
            sold: level.sold,
            updated_at: at,
            version: seq,
        }
    };
    stock.levels().iter().map(row).collect()
}
