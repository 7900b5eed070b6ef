//! What the projector tells as it goes: which orders and stock a step changed, once their rows
//! are written. Of shards that other nodes own, the follower tells, and their rows may be a moment
//! late.
//!
//! It is a feed and not the truth: whoever falls behind, or comes later, reads the journal, which
//! `read` here folds into the same shape. Who listens, and how a change is shown, is not known
//! here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::{Notify, broadcast};

use super::fold::{Folded, load_within};
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
    /// Something may have changed up to a position, and it is not known what: a gap, which whoever
    /// listens fills from the journal.
    pub(in crate::actors) const fn unknown(shard: u16, pos: i64) -> Self {
        Self { shard, after_pos: pos, pos, orders: Vec::new(), stock: Vec::new() }
    }

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
    /// How far each shard was told.
    heads: Arc<[AtomicI64]>,
    /// How far the rows of each shard were written, as far as is known here.
    written: Arc<[AtomicI64]>,
    begun: Arc<Notify>,
}

impl Changes {
    /// Of so many shards.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        let zeros = || (0..shards.max(1)).map(|_| AtomicI64::new(0)).collect();
        let sender = broadcast::Sender::new(DEPTH);
        Self { sender, heads: zeros(), written: zeros(), begun: Arc::default() }
    }

    /// Listens from now on. What comes next may leave a gap behind [`Changes::heads`]: its
    /// `after_pos` is then higher.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<Changed>> {
        let receiver = self.sender.subscribe();
        self.begun.notify_one();
        receiver
    }

    /// How far each shard was told.
    #[must_use]
    pub fn heads(&self) -> Vec<i64> {
        self.heads.iter().map(|head| head.load(Ordering::Acquire)).collect()
    }

    /// The positions of rows that were read with these cursors; `None` if they show an earlier
    /// state than others did before: they are being made again.
    #[must_use]
    pub fn rows_at(&self, cursors: &[(u16, i64)]) -> Option<Arc<[i64]>> {
        let mut seen = vec![0; self.heads.len()];
        for (shard, pos) in cursors {
            if let Some(there) = seen.get_mut(usize::from(*shard)) {
                *there = *pos;
            }
        }
        let later =
            |(written, pos): (&AtomicI64, &i64)| written.fetch_max(*pos, Ordering::AcqRel) <= *pos;
        self.written.iter().zip(&seen).all(later).then(|| seen.into())
    }

    /// How far a shard was told.
    pub(in crate::actors) fn head(&self, shard: u16) -> i64 {
        self.heads.get(usize::from(shard)).map_or(0, |head| head.load(Ordering::Acquire))
    }

    pub(in crate::actors) fn listened(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Resolves when somebody has begun to listen.
    pub(in crate::actors) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Says that a shard is told up to `pos`.
    pub(in crate::actors) fn reached(&self, shard: u16, pos: i64) {
        if let Some(head) = self.heads.get(usize::from(shard)) {
            head.fetch_max(pos, Ordering::AcqRel);
        }
    }

    /// Says that the rows of a shard are written up to `pos`.
    pub(in crate::actors) fn wrote(&self, shard: u16, pos: i64) {
        if let Some(written) = self.written.get(usize::from(shard)) {
            written.fetch_max(pos, Ordering::AcqRel);
        }
    }

    pub(in crate::actors) fn publish(&self, changed: Changed) {
        // An error means that nobody listens any more.
        let _nobody = self.sender.send(Arc::new(changed));
    }
}

/// Gathers changes while events are folded.
#[derive(Debug, Default)]
pub(in crate::actors) struct Notes {
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
    pub(in crate::actors) fn order(&mut self, order: &Order, record: &Record) {
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
    pub(in crate::actors) fn stock(&mut self, record: &Record) {
        self.stock.entry(record.entity.clone()).or_insert(record.seq - 1);
    }

    /// What changed. `order` and `stock` answer the present rows; who has none is left out.
    pub(in crate::actors) fn changed(
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
    /// Nothing of those with an event that cannot be read.
    orders: HashMap<EntityId, Option<Folded<Order>>>,
    stock: HashMap<EntityId, Option<Folded<Stock>>>,
}

/// What changed behind some positions up to others, one a shard, from the journal: shard by shard,
/// in stretches of at most 256 events; `None` if that is more than `bounds` allow.
///
/// # Errors
/// [`ReadError`] of the journal.
pub async fn read(
    journal: &dyn Journal,
    (after, until): (&[i64], &[i64]),
    bounds: Bounds,
) -> Result<Option<Vec<Arc<Changed>>>, ReadError> {
    let max = i64::try_from(bounds.events).unwrap_or(i64::MAX);
    if distance(after, until) > max {
        return Ok(None);
    }
    let mut states = States { left: max, orders: HashMap::new(), stock: HashMap::new() };
    let mut all = Vec::new();
    for (shard, (after, until)) in (0..).zip(after.iter().zip(until)) {
        let stretch = (shard, *after, *until);
        if !read_shard(journal, stretch, bounds.entities, &mut states, &mut all).await? {
            return Ok(None);
        }
    }
    Ok(Some(all))
}

/// How many events lie between positions, over all shards.
#[must_use]
pub fn distance(after: &[i64], until: &[i64]) -> i64 {
    let between = |(after, until): (&i64, &i64)| until.saturating_sub(*after).max(0);
    after.iter().zip(until).map(between).fold(0, i64::saturating_add)
}

/// Adds what changed in one shard; whether that was within bounds.
async fn read_shard(
    journal: &dyn Journal,
    (shard, after, until): (u16, i64, i64),
    entities: usize,
    states: &mut States,
    all: &mut Vec<Arc<Changed>>,
) -> Result<bool, ReadError> {
    let mut at = after;
    while at < until {
        let page = journal.read_shard(shard, at, PAGE).await?;
        let Some(last) = page.iter().map(|record| record.pos).filter(|pos| *pos <= until).max()
        else {
            return Ok(false);
        };
        let mut notes = Notes::default();
        for record in page.iter().filter(|record| record.pos <= last) {
            if !states.fold(journal, record, &mut notes).await? {
                return Ok(false);
            }
        }
        if states.orders.len() + states.stock.len() > entities {
            return Ok(false);
        }
        all.push(Arc::new(states.changed(notes, (shard, at, last))));
        at = last;
    }
    Ok(true)
}

impl States {
    /// Takes an event; whether that was within bounds.
    async fn fold(
        &mut self,
        journal: &dyn Journal,
        record: &Record,
        notes: &mut Notes,
    ) -> Result<bool, ReadError> {
        let left = &mut self.left;
        match record.entity.prefix() {
            Order::PREFIX => {
                let before = |order: &Order| notes.order(order, record);
                fold(&mut self.orders, journal, record, left, before).await
            }
            Stock::PREFIX => {
                let before = |_: &Stock| notes.stock(record);
                fold(&mut self.stock, journal, record, left, before).await
            }
            _ => Ok(true),
        }
    }

    fn changed(&self, notes: Notes, between: (u16, i64, i64)) -> Changed {
        notes.changed(
            between,
            |id| {
                let one = self.orders.get(id)?.as_ref()?;
                Some(order_row(id, &one.state, one.seq))
            },
            |id| {
                let one = self.stock.get(id)?.as_ref()?;
                Some((one.seq, stock_rows(id, &one.state, one.seq, one.at)))
            },
        )
    }
}

/// Folds an event in, reading what came before it if that was not read yet; whether that was
/// within bounds. `before` sees the state that it is folded into.
async fn fold<N: Noun>(
    folded: &mut HashMap<EntityId, Option<Folded<N>>>,
    journal: &dyn Journal,
    record: &Record,
    left: &mut i64,
    before: impl FnOnce(&N),
) -> Result<bool, ReadError> {
    if !folded.contains_key(&record.entity) {
        let loaded = load_within(journal, &record.entity, record.seq - 1, left).await?;
        let Some(loaded) = loaded else { return Ok(false) };
        folded.insert(record.entity.clone(), loaded.ok());
    }
    if let Some(Some(one)) = folded.get_mut(&record.entity)
        && let Ok(event) = one.read(record)
    {
        before(&one.state);
        one.fold(record, &event);
    }
    Ok(true)
}
