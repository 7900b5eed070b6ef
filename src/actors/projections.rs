//! Makes the read models of orders and stock from the journal, in its order.
//!
//! The feed only tells early; what it skips is read from the journal. A row is the fold of its
//! entity's events, so that making it again gives the same row. An event that cannot be read
//! parks its entity and becomes a dead letter, and the rest goes on. What a step changed is told
//! through `changes` once it is written; rows that are made again are not news.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::changes::{Changed, Changes, Notes};
use super::clock::Clock;
use super::host::decode;
use crate::domain::entity::{EntityId, Noun, Record};
use crate::domain::flaw::{self, Flaw};
use crate::domain::id::Sku;
use crate::domain::order::Order;
use crate::domain::stock::Stock;
use crate::domain::time::Timestamp;
use crate::store::journal::{Journal, ReadError};
use crate::store::projection::{DeadLetter, Step};
use crate::store::{self, Tables};

/// The name of the one projection that makes the rows of orders and stock.
pub const NAME: &str = "rows";
/// Events that are taken in one step.
const STEP_MAX: u32 = 2_000;
/// Events that are folded before others on the same thread get their turn.
const BREATH: i64 = 64;
/// Folded orders in memory above which those at rest are forgotten at first.
const RESTING_MAX: usize = 1_000;
/// Folded entities that are kept in memory.
const FOLDED_MAX: usize = 20_000;

/// A fold and how far it has come.
struct Folded<N> {
    state: N,
    seq: i64,
    at: Timestamp,
}

/// Makes rows of one shard.
pub struct Projector {
    store: Arc<dyn Tables>,
    journal: Arc<dyn Journal>,
    clock: Clock,
    shard: u16,
    pos: i64,
    orders: HashMap<EntityId, Folded<Order>>,
    stock: HashMap<EntityId, Folded<Stock>>,
    parked: HashSet<EntityId>,
    again: Arc<Notify>,
    /// Folded orders above which those at rest are forgotten.
    resting_max: usize,
    changes: Changes,
    /// A step was folded and not written: what it changed is not known any more.
    torn: bool,
}

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The rows cannot be written.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Projector {
    /// Goes on where the cursor stands.
    ///
    /// # Errors
    /// The store's.
    pub async fn new(
        store: Arc<dyn Tables>,
        clock: Clock,
        shard: u16,
    ) -> Result<Self, store::Error> {
        let pos = store.cursor(NAME, shard).await?;
        let letters = store.dead_letters(0, store::LIST_MAX).await?;
        let parked = letters.into_iter().filter(|letter| letter.projection == NAME);
        Ok(Self {
            journal: store.journal(),
            store,
            clock,
            shard,
            pos,
            orders: HashMap::new(),
            stock: HashMap::new(),
            parked: parked.map(|letter| letter.entity).collect(),
            again: Arc::default(),
            resting_max: RESTING_MAX,
            changes: Changes::default(),
            torn: false,
        })
    }

    /// Tells what each step changed.
    #[must_use]
    pub fn tell(mut self, changes: Changes) -> Self {
        changes.reached(self.pos);
        self.changes = changes;
        self
    }

    /// Makes all rows again, from the first event on, each time that it is notified.
    #[must_use]
    pub fn again_on(mut self, again: Arc<Notify>) -> Self {
        self.again = again;
        self
    }

    /// Works until told to stop; `reached` shows how far it has come. Steps are at least `pause`
    /// apart, so that many events share one.
    pub async fn run(
        mut self,
        mut feed: broadcast::Receiver<Arc<[Record]>>,
        pause: Duration,
        reached: watch::Sender<i64>,
        stop: CancellationToken,
    ) {
        loop {
            match self.catch_up(&mut feed).await {
                Ok(()) => {
                    reached.send_replace(self.pos);
                }
                Err(error) => tracing::error!(%error, "rows fall behind the journal"),
            }
            let heard = async {
                tokio::time::sleep(pause).await;
                if feed.is_empty() { feed.recv().await.ok() } else { None }
            };
            let again = self.again.clone();
            let heard = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = again.notified() => {
                    match self.begin_again().await {
                        Ok(()) => {
                            reached.send_replace(0);
                        }
                        Err(error) => tracing::error!(%error, "rows cannot be made again"),
                    }
                    continue;
                }
                heard = heard => heard,
            };
            if let Some(batch) = heard
                && let Err(error) = self.take(&batch).await
            {
                tracing::error!(%error, "rows fall behind the journal");
            }
        }
    }

    /// Forgets the cursor and all dead letters.
    async fn begin_again(&mut self) -> Result<(), store::Error> {
        self.store.reset_projection(NAME).await?;
        tracing::info!("all rows of orders and stock are made again");
        self.pos = 0;
        self.orders.clear();
        self.stock.clear();
        self.parked.clear();
        self.torn = false;
        Ok(())
    }

    /// Makes one last step, so that the rows show all that the journal has.
    ///
    /// # Errors
    /// [`Error`]: the journal cannot be read, or the rows not be written.
    pub async fn finish(&mut self) -> Result<i64, Error> {
        self.read_journal().await?;
        Ok(self.pos)
    }

    /// Takes what the feed has, and from the journal what it has not.
    async fn catch_up(
        &mut self,
        feed: &mut broadcast::Receiver<Arc<[Record]>>,
    ) -> Result<(), Error> {
        let mut heard: Vec<Record> = Vec::new();
        while heard.len() < STEP_MAX as usize
            && let Ok(batch) = feed.try_recv()
        {
            heard.extend(batch.iter().filter(|record| record.shard == self.shard).cloned());
        }
        self.take(&heard).await?;
        if heard.is_empty() || feed.is_empty() {
            self.read_journal().await?;
        }
        Ok(())
    }

    async fn read_journal(&mut self) -> Result<(), Error> {
        loop {
            let page = self.journal.read_shard(self.shard, self.pos, STEP_MAX).await?;
            let full = page.len() == STEP_MAX as usize;
            self.take(&page).await?;
            if !full {
                return Ok(());
            }
        }
    }

    /// Takes records that follow the cursor; a gap is left for the journal to fill.
    async fn take(&mut self, records: &[Record]) -> Result<(), Error> {
        let whole = !std::mem::replace(&mut self.torn, true);
        let mut notes = (whole && self.changes.listened()).then(Notes::default);
        let (mut changed, mut dead) = (HashSet::new(), Vec::new());
        let mut pos = self.pos;
        for record in records {
            if record.pos <= pos {
                continue;
            }
            if record.pos != pos + 1 && !flaw::on(Flaw::CursorSkips) {
                break;
            }
            pos = record.pos;
            if pos % BREATH == 0 {
                tokio::task::yield_now().await;
            }
            if !matches!(record.entity.prefix(), Order::PREFIX | Stock::PREFIX) {
                continue;
            }
            // What is made again is not news.
            let notes = notes.as_mut().filter(|_| record.pos > self.changes.head());
            let outcome = if self.parked.contains(&record.entity) {
                Err("an earlier event of it could not be read".to_owned())
            } else if record.entity.prefix() == Order::PREFIX {
                let before = |order: &Order| notes.map_or((), |notes| notes.order(order, record));
                fold(&mut self.orders, self.journal.as_ref(), record, before).await?
            } else {
                let before = |_: &Stock| notes.map_or((), |notes| notes.stock(record));
                fold(&mut self.stock, self.journal.as_ref(), record, before).await?
            };
            match outcome {
                Ok(()) => drop(changed.insert(&record.entity)),
                Err(reason) => {
                    self.parked.insert(record.entity.clone());
                    dead.push(self.letter(record, reason));
                }
            }
        }
        if pos == self.pos {
            self.torn = !whole;
            return Ok(());
        }
        self.write(pos, &changed, &dead).await?;
        let after_pos = std::mem::replace(&mut self.pos, pos);
        self.torn = false;
        self.publish(after_pos, notes);
        self.forget();
        Ok(())
    }

    /// Writes the rows of what was folded, and moves the cursor.
    async fn write(
        &self,
        pos: i64,
        changed: &HashSet<&EntityId>,
        dead: &[DeadLetter],
    ) -> Result<(), store::Error> {
        let mut ids: Vec<&EntityId> = changed.iter().copied().collect();
        ids.sort_unstable();
        let orders: Vec<_> = ids.iter().filter_map(|id| self.order(id)).collect();
        let stock: Vec<_> =
            ids.iter().filter_map(|id| self.stock(id)).flat_map(|it| it.1).collect();
        let step = Step { orders: &orders, stock: &stock, dead };
        self.store.commit_projection(NAME, self.shard, pos, step).await?;
        Ok(())
    }

    fn order(&self, id: &EntityId) -> Option<store::order::Row> {
        self.orders.get(id).map(|one| order_row(id, &one.state, one.seq))
    }

    fn stock(&self, id: &EntityId) -> Option<(i64, Vec<store::stock::Row>)> {
        self.stock.get(id).map(|one| (one.seq, stock_rows(id, &one.state, one.seq, one.at)))
    }

    /// Tells what a step changed that was written. Without notes, all that is told is that
    /// something may have changed.
    fn publish(&self, after_pos: i64, notes: Option<Notes>) {
        let (shard, pos, head) = (self.shard, self.pos, self.changes.head());
        if pos <= head {
            return;
        }
        self.changes.reached(pos);
        if !self.changes.listened() {
            return;
        }
        let changed = match notes {
            Some(notes) => {
                let between = (shard, after_pos.max(head), pos);
                notes.changed(between, |id| self.order(id), |id| self.stock(id))
            }
            None => Changed { shard, after_pos: pos, pos, orders: Vec::new(), stock: Vec::new() },
        };
        self.changes.publish(changed);
    }

    fn letter(&self, record: &Record, reason: String) -> DeadLetter {
        DeadLetter {
            id: 0,
            projection: NAME.into(),
            shard: record.shard,
            pos: record.pos,
            entity: record.entity.clone(),
            reason,
            at: self.clock.now(),
        }
    }

    fn forget(&mut self) {
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
        match super::host::load::<N>(journal, &record.entity, record.seq - 1).await? {
            Ok((state, seq)) => {
                let at = record.at;
                folded.insert(record.entity.clone(), Folded { state, seq, at });
            }
            Err(reason) => return Ok(Err(reason)),
        }
    }
    let one = folded.entry(record.entity.clone()).or_insert_with(|| Folded {
        state: N::default(),
        seq: 0,
        at: record.at,
    });
    if record.seq <= one.seq {
        return Ok(Ok(()));
    }
    match decode::<N::Event>(record) {
        Ok(event) => {
            before(&one.state);
            one.state.evolve(&event, record.at);
            (one.seq, one.at) = (record.seq, record.at);
            Ok(Ok(()))
        }
        Err(error) => Ok(Err(error.to_string())),
    }
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
