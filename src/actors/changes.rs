//! What the projector tells as it goes: which orders and stock a step changed, once their rows
//! are written. Whoever hears of a change can also read it.
//!
//! It is a feed and not the truth: whoever falls behind, or comes later, reads the journal, which
//! `read` here folds into the same shape. Who listens, and how a change is shown, is not known
//! here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::broadcast;

use super::host::{decode, load_within};
use super::projections::{order_row, stock_rows};
use crate::domain::entity::{EntityId, Noun, Record};
use crate::domain::id::Sku;
use crate::domain::order::Order;
use crate::domain::stock::Stock;
use crate::domain::time::Timestamp;
use crate::store;
use crate::store::journal::{Journal, ReadError};

/// How many steps a slow listener may be behind before it has to read the journal.
const DEPTH: usize = 1_024;
/// Events that are read from the journal at once, and the most of one [`Changed`] made of them.
const PAGE: u32 = 256;

/// An event of an order, without what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// Its place in the order's life, from 1.
    pub seq: i64,
    /// Its kind.
    pub kind: Arc<str>,
    /// When it was decided.
    pub at: Timestamp,
    /// Who asked for it.
    pub by: Arc<str>,
}

/// How an order stood before a change: what lists are filtered by, and can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facets {
    /// Where it stood.
    pub status: &'static str,
    /// Where its money stood.
    pub payment_status: &'static str,
    /// Where its goods stood.
    pub fulfillment_status: &'static str,
    /// Whether its saga could not go on by itself.
    pub stuck: bool,
    /// Whether its saga was under way or stuck.
    pub unfinished: bool,
}

impl Facets {
    fn of(order: &Order) -> Self {
        let stuck = !order.stuck().is_empty();
        Self {
            status: order.status().into(),
            payment_status: order.payment_status().into(),
            fulfillment_status: order.fulfillment_status().into(),
            stuck,
            unfinished: stuck || !order.effects().is_empty(),
        }
    }
}

/// What became of an order.
#[derive(Clone, Debug)]
pub struct OrderChange {
    /// The seq of its last event before these, 0 if it is new.
    pub after: i64,
    /// How it stood before; nothing if it is new.
    pub before: Option<Facets>,
    /// How it stands now, as its row shows it.
    pub row: store::order::Row,
    /// What happened, in order.
    pub events: Vec<Happened>,
}

/// What became of the stock of a SKU.
#[derive(Clone, Debug)]
pub struct StockChange {
    /// What is kept.
    pub sku: Sku,
    /// The seq of its last event before.
    pub after: i64,
    /// The seq of its last event now.
    pub version: i64,
    /// How it stands at each location.
    pub rows: Vec<store::stock::Row>,
}

/// What became of a shard's orders and stock between two positions of its journal.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The shard.
    pub shard: u16,
    /// The position before the first event of it.
    pub after_pos: i64,
    /// The position of the last event of it.
    pub pos: i64,
    /// Orders that changed, each once.
    pub orders: Vec<OrderChange>,
    /// Stock that changed, each once.
    pub stock: Vec<StockChange>,
}

impl Changed {
    /// How many things changed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.orders.len() + self.stock.len()
    }

    /// Whether nothing changed that is told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Tells of changes to all who listen.
#[derive(Clone, Debug)]
pub struct Changes {
    sender: broadcast::Sender<Arc<Changed>>,
    head: Arc<AtomicI64>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(DEPTH), head: Arc::default() }
    }
}

impl Changes {
    /// Listens from now on. What comes next may leave a gap behind [`Changes::head`]: its
    /// `after_pos` is then higher.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<Changed>> {
        self.sender.subscribe()
    }

    /// The highest position whose rows were ever written. A cursor below it means that rows are
    /// being made again.
    #[must_use]
    pub fn head(&self) -> i64 {
        self.head.load(Ordering::Acquire)
    }

    pub(super) fn listened(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Says that rows are written up to `pos`.
    pub(super) fn reached(&self, pos: i64) {
        self.head.fetch_max(pos, Ordering::AcqRel);
    }

    pub(super) fn publish(&self, changed: Changed) {
        // An error means that nobody listens any more.
        let _nobody = self.sender.send(Arc::new(changed));
    }
}

/// Gathers changes while events are folded.
#[derive(Debug, Default)]
pub(super) struct Notes {
    orders: HashMap<EntityId, Note>,
    stock: HashMap<EntityId, i64>,
}

#[derive(Debug)]
struct Note {
    after: i64,
    before: Option<Facets>,
    events: Vec<Happened>,
}

impl Notes {
    /// Takes an event of an order that is about to be folded into its state.
    pub(super) fn order(&mut self, order: &Order, record: &Record) {
        let happened = Happened {
            seq: record.seq,
            kind: Arc::clone(&record.kind),
            at: record.at,
            by: record.cause().by.into(),
        };
        match self.orders.entry(record.entity.clone()) {
            Entry::Occupied(mut note) => note.get_mut().events.push(happened),
            Entry::Vacant(new) => {
                let after = record.seq - 1;
                let before = (after > 0).then(|| Facets::of(order));
                new.insert(Note { after, before, events: vec![happened] });
            }
        }
    }

    /// Takes an event of stock.
    pub(super) fn stock(&mut self, record: &Record) {
        self.stock.entry(record.entity.clone()).or_insert(record.seq - 1);
    }

    /// What changed. `order` and `stock` answer the present rows; who has none is left out.
    pub(super) fn changed(
        self,
        (shard, after_pos, pos): (u16, i64, i64),
        order: impl Fn(&EntityId) -> Option<store::order::Row>,
        stock: impl Fn(&EntityId) -> Option<(i64, Vec<store::stock::Row>)>,
    ) -> Changed {
        let orders = self.orders.into_iter().filter_map(|(id, note)| {
            let Note { after, before, events } = note;
            Some(OrderChange { after, before, row: order(&id)?, events })
        });
        let mut orders: Vec<OrderChange> = orders.collect();
        orders.sort_unstable_by(|one, other| one.row.id.cmp(&other.row.id));
        let stock = self.stock.into_iter().filter_map(|(id, after)| {
            let (version, rows) = stock(&id)?;
            Some(StockChange { sku: id.key().parse().ok()?, after, version, rows })
        });
        let mut stock: Vec<StockChange> = stock.collect();
        stock.sort_unstable_by(|one, other| one.sku.cmp(&other.sku));
        Changed { shard, after_pos, pos, orders, stock }
    }
}

/// How much [`read`] may take on.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Events of the stretch, and as many again that go before it and are folded for it.
    pub events: usize,
    /// Orders and SKUs.
    pub entities: usize,
}

/// States that are folded while a stretch of the journal is read.
struct States {
    /// Events that may be folded still to know how something stood before.
    left: i64,
    orders: HashMap<EntityId, Option<(Order, i64)>>,
    stock: HashMap<EntityId, Option<(Stock, i64, Timestamp)>>,
}

/// What changed behind `after_pos` up to `until`, from the journal, in stretches of at most 256
/// events; `None` if that is more than `bounds` allow.
///
/// # Errors
/// [`ReadError`] of the journal.
pub async fn read(
    journal: &dyn Journal,
    (shard, after_pos, until): (u16, i64, i64),
    bounds: Bounds,
) -> Result<Option<Vec<Arc<Changed>>>, ReadError> {
    let far = usize::try_from(until.saturating_sub(after_pos)).unwrap_or(0);
    if far > bounds.events {
        return Ok(None);
    }
    let left = i64::try_from(bounds.events).unwrap_or(i64::MAX);
    let mut states = States { left, orders: HashMap::new(), stock: HashMap::new() };
    let (mut all, mut at) = (Vec::new(), after_pos);
    while at < until {
        let page = journal.read_shard(shard, at, PAGE).await?;
        let Some(last) = page.iter().map(|record| record.pos).filter(|pos| *pos <= until).max()
        else {
            return Ok(None);
        };
        let mut notes = Notes::default();
        for record in page.iter().filter(|record| record.pos <= last) {
            if !states.fold(journal, record, &mut notes).await? {
                return Ok(None);
            }
        }
        if states.orders.len() + states.stock.len() > bounds.entities {
            return Ok(None);
        }
        all.push(Arc::new(states.changed(notes, (shard, at, last))));
        at = last;
    }
    Ok(Some(all))
}

impl States {
    /// Takes an event; whether that was within bounds.
    async fn fold(
        &mut self,
        journal: &dyn Journal,
        record: &Record,
        notes: &mut Notes,
    ) -> Result<bool, ReadError> {
        let (entity, before) = (&record.entity, record.seq - 1);
        match record.entity.prefix() {
            Order::PREFIX => {
                if !self.orders.contains_key(&record.entity) {
                    let before = load_within::<Order>(journal, entity, before, &mut self.left);
                    let Some(before) = before.await? else { return Ok(false) };
                    self.orders.insert(record.entity.clone(), before.ok());
                }
                let known = self.orders.get_mut(&record.entity);
                if let Some(Some((state, seq))) = known
                    && let Ok(event) = decode::<<Order as Noun>::Event>(record)
                {
                    notes.order(state, record);
                    state.evolve(&event, record.at);
                    *seq = record.seq;
                }
            }
            Stock::PREFIX => {
                if !self.stock.contains_key(&record.entity) {
                    let before = load_within::<Stock>(journal, entity, before, &mut self.left);
                    let Some(before) = before.await? else { return Ok(false) };
                    let before = before.ok().map(|(state, seq)| (state, seq, record.at));
                    self.stock.insert(record.entity.clone(), before);
                }
                let known = self.stock.get_mut(&record.entity);
                if let Some(Some((state, seq, at))) = known
                    && let Ok(event) = decode::<<Stock as Noun>::Event>(record)
                {
                    notes.stock(record);
                    state.evolve(&event, record.at);
                    (*seq, *at) = (record.seq, record.at);
                }
            }
            _ => {}
        }
        Ok(true)
    }

    fn changed(&self, notes: Notes, between: (u16, i64, i64)) -> Changed {
        notes.changed(
            between,
            |id| {
                let (state, seq) = self.orders.get(id)?.as_ref()?;
                Some(order_row(id, state, *seq))
            },
            |id| {
                let (state, seq, at) = self.stock.get(id)?.as_ref()?;
                Some((*seq, stock_rows(id, state, *seq, *at)))
            },
        )
    }
}
