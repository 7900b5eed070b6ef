//! The book of orders, and the checks of each order by itself: its content (I1), that nothing is
//! done twice (I2), and that its amounts agree (I3).
//!
//! A whole order takes one to a few kilobytes of memory. When there are many, finished orders are
//! reduced to summaries of some 400 bytes; at its next event, a reduced order is read from the
//! journal again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher as _};

use super::report::{Invariant, Violations};
use crate::actors::order_rows::order_row;
use crate::actors::order_search::{PlacedHashes, search_row};
use crate::domain::entity::{EntityId, Noun as _, Record};
use crate::domain::id::{Key, Sku};
use crate::domain::money::{Currency, Rounding};
use crate::domain::order::{
    Attempt, AttemptState, CapturePolicy, Event, FulfillmentStatus, Order, Phase, Placed,
    RefundLine,
};
use crate::domain::pricing::{QuotedLine, Totals};
use crate::domain::time::Timestamp;
use crate::store::personal::Keys;

use crate::actors::buyer_data::key_ids;
use crate::domain::sealed::KeyId;

/// The number of whole orders in memory beyond which finished ones are reduced to summaries.
const WHOLE_MAX: usize = 100_000;

/// An order, and further data for its checks.
pub(super) struct OrderEntry {
    pub seq: i64,
    pub first_pos: i64,
    pub last_pos: i64,
    /// Whether its events cannot be folded: the consequences are not reported.
    pub broken: bool,
    /// Whether an operator skipped a step or cleared an alert: then the amounts need not agree any
    /// more.
    pub overruled: bool,
    pub row_seen: bool,
    /// Whether the text by which it is found was seen.
    pub text_seen: bool,
    pub data: OrderData,
}

/// A whole order, or its summary.
pub(super) enum OrderData {
    Whole(Box<Order>),
    Reduced(Box<Summary>),
}

/// How far an order is, for the final checks: in flight means that it has unfinished work or an
/// alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrderProgress {
    InFlight,
    Confirmed,
    Cancelled,
}

/// The data of an order that the final checks need.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub progress: OrderProgress,
    pub stuck: bool,
    /// Whether it is cancelled, or is being cancelled.
    pub given_up: bool,
    /// Whether its hold yields to other orders.
    pub hold_yields: bool,
    pub number: Option<i64>,
    pub currency: Currency,
    pub total: i64,
    pub captured: i64,
    pub refunded: i64,
    pub due: i64,
    /// Money that is authorized and not captured.
    pub set_aside: i64,
    /// Whether the whole amount due must have been captured by now, by the capture policy.
    pub takes_all: bool,
    /// The amount that must have been captured by now because its goods were shipped.
    pub due_at_dispatch: i64,
    /// Whether no authorization may be left: the order is captured at dispatch, and nothing is left
    /// to ship.
    pub released: bool,
    pub attempts: Box<[Attempt]>,
    pub operations: Box<[ConfirmedOperation]>,
    /// Whether lists show the order as to be picked.
    pub to_pick: bool,
    /// The units of each SKU that are still to be shipped.
    pub unshipped: Box<[(Sku, i64)]>,
    pub timer: Option<Timestamp>,
    pub row: u128,
    /// Of the text by which it is found.
    pub text: u128,
}

/// A capture or refund that the provider has confirmed.
#[derive(Clone, Debug)]
pub(super) struct ConfirmedOperation {
    pub operation: Box<str>,
    pub amount: i64,
    pub refund: bool,
}

impl Summary {
    pub(super) fn of(id: &EntityId, order: &Order, seq: i64, keys: Option<&Keys>) -> Self {
        let rest = order.timer().is_none() && order.alert().is_none();
        let captures = order.captures().iter().map(|one| (&one.operation, one.amount, false));
        let refunds = order.refunds().iter().map(|one| (&one.operation, one.amount, true));
        let operations = captures.chain(refunds).filter_map(|(operation, amount, refund)| {
            let operation = operation.as_deref()?.into();
            Some(ConfirmedOperation { operation, amount, refund })
        });
        let lines = || order.placed().into_iter().flat_map(|placed| &placed.lines);
        let unshipped = |sku: &Sku| -> i64 {
            lines().filter(|line| line.sku == *sku).map(|line| order.unshipped(line.id)).sum()
        };
        // All units were refunded before they were shipped.
        let nothing_ships = order.fulfillment_status() == FulfillmentStatus::NotRequired;
        let hashes = PlacedHashes::of(id, order, keys);
        let set_aside: i64 = order.attempts().iter().map(Attempt::authorized).sum();
        Self {
            progress: match order.phase() {
                Phase::Confirmed if rest => OrderProgress::Confirmed,
                Phase::Cancelled if rest => OrderProgress::Cancelled,
                _ => OrderProgress::InFlight,
            },
            given_up: order.given_up(),
            hold_yields: order.hold_yields(),
            stuck: !order.stuck().is_empty() || order.alert().is_some(),
            number: order.number(),
            currency: order.placed().map_or(Currency::XXX, |placed| placed.currency),
            total: order.total(),
            captured: order.captured(),
            refunded: order.refunded(),
            due: order.due(),
            set_aside: (set_aside - order.captured()).max(0),
            takes_all: match order.placed().map(|placed| placed.capture) {
                Some(CapturePolicy::AtOnce) => true,
                Some(CapturePolicy::AtDispatch) => order.unshipped_units() == 0,
                Some(CapturePolicy::ByHand) => nothing_ships,
                None => false,
            },
            due_at_dispatch: order.due_at_dispatch(),
            released: nothing_ships || order.captures_at_dispatch() && order.unshipped_units() == 0,
            attempts: order.attempts().into(),
            operations: operations.collect(),
            to_pick: order.phase() == Phase::Confirmed
                && matches!(
                    order.fulfillment_status(),
                    FulfillmentStatus::Unfulfilled | FulfillmentStatus::Partial
                ),
            unshipped: order
                .units()
                .into_keys()
                .map(|sku| (sku.clone(), unshipped(&sku)))
                .collect(),
            timer: order.timer(),
            row: row_digest(&order_row(id, order, seq, &hashes)),
            text: row_digest(&search_row(id, order, seq, (keys, &hashes)).text),
        }
    }

    /// What is wrong with the amounts of an order that has no unfinished work, if anything.
    fn fault(&self, entry: &OrderEntry) -> Option<String> {
        let Self { total, captured, refunded, due, .. } = self;
        match self.progress {
            OrderProgress::InFlight => None,
            _ if entry.overruled => None,
            OrderProgress::Cancelled if captured != refunded => Some(format!(
                "it is cancelled, but {captured} were captured and {refunded} refunded"
            )),
            OrderProgress::Cancelled if self.set_aside > 0 => Some(format!(
                "it is cancelled, but {} of the buyer's money are still authorized",
                self.set_aside
            )),
            OrderProgress::Cancelled => None,
            OrderProgress::Confirmed if *captured < self.due_at_dispatch => Some(format!(
                "{captured} were captured, but what was shipped comes to {}",
                self.due_at_dispatch
            )),
            OrderProgress::Confirmed if self.takes_all && captured - refunded != *due => {
                Some(format!(
                    "it has no unfinished work, with {captured} captured and {refunded} refunded, but \
                     {due} of {total} are due"
                ))
            }
            OrderProgress::Confirmed if self.released && self.set_aside > 0 => Some(format!(
                "nothing is left to ship, but {} of the buyer's money are still authorized",
                self.set_aside
            )),
            OrderProgress::Confirmed => (captured > total || refunded > captured)
                .then(|| format!("{captured} were captured and {refunded} refunded of {total}")),
        }
    }
}

/// The book of orders.
#[derive(Default)]
pub(super) struct AllOrders {
    pub all: HashMap<Key, OrderEntry>,
    pub keys: HashMap<u128, Key>,
    pub operations: HashSet<u128>,
    whole: usize,
    whole_max: usize,
    /// The keys of the personal values of all orders.
    pub people: Option<Keys>,
    /// The orders whose buyers were erased, each with the position of that event and the keys that
    /// must be destroyed.
    pub erased: Vec<(EntityId, i64, BTreeSet<KeyId>)>,
    /// The orders under a legal hold.
    pub held: BTreeSet<EntityId>,
    /// The orders of which a key of their buyers' data is not there, each with the position of its
    /// first event.
    pub keyless: BTreeMap<EntityId, i64>,
}

impl AllOrders {
    /// Whether an order must be read again before its next event is folded.
    pub(super) fn asleep(&self, key: Key) -> bool {
        self.all.get(&key).is_some_and(|entry| matches!(entry.data, OrderData::Reduced(_)))
    }

    pub(super) fn wake(&mut self, key: Key, order: Order) {
        if let Some(entry) = self.all.get_mut(&key) {
            entry.data = OrderData::Whole(Box::new(order));
            self.whole += 1;
        }
    }

    /// The whole order, if it is in memory.
    pub(super) fn whole(&self, key: Key) -> Option<&Order> {
        match &self.all.get(&key)?.data {
            OrderData::Whole(order) => Some(order),
            OrderData::Reduced(_) => None,
        }
    }

    /// Records that an order's events cannot be folded.
    pub(super) fn give_up(&mut self, key: Key, pos: i64) {
        self.all.entry(key).or_insert_with(|| OrderEntry::new(pos)).broken = true;
    }

    /// Folds an event; the whole order must be in memory ([`AllOrders::asleep`]).
    pub(super) fn fold_event(
        &mut self,
        key: Key,
        record: &Record,
        event: &Event,
        findings: &mut Violations,
    ) {
        let entry = self.all.entry(key).or_insert_with(|| {
            self.whole += 1;
            OrderEntry::new(record.pos)
        });
        let OrderData::Whole(order) = &mut entry.data else {
            return;
        };
        let mut add = |(invariant, message): (Invariant, String)| {
            findings.add(invariant, &record.entity, &[record.pos], message);
        };
        if let Some(fault) = unexpected(order, event, record) {
            add(fault);
        }
        match event {
            Event::Placed { placed, .. } => {
                content_faults(placed, &record.entity).into_iter().for_each(&mut add);
                if let Some(idempotency) = record.cause().idempotency {
                    let digest = digest(&(&idempotency.key, idempotency.digest));
                    if let Some(other) = self.keys.insert(digest, key)
                        && other != key
                    {
                        let why = format!(
                            "it was placed under the idempotency key that made ord_{other}"
                        );
                        add((Invariant::I2, why));
                    }
                }
            }
            Event::Captured { operation, .. } | Event::Refunded { operation, .. }
                if !self.operations.insert(digest(operation)) =>
            {
                let why = format!("the provider's operation {operation} was recorded twice");
                add((Invariant::I2, why));
            }
            Event::StepSkipped { .. } | Event::AlertCleared { .. } => entry.overruled = true,
            Event::LegalHoldPlaced { .. } => {
                self.held.insert(record.entity.clone());
            }
            Event::LegalHoldReleased {} => {
                self.held.remove(&record.entity);
            }
            Event::PersonalDataErased {} => {
                if self.held.contains(&record.entity) {
                    let why = "its buyer was erased, though it is under a legal hold";
                    add((Invariant::I7, why.to_owned()));
                }
                let mut ids = BTreeSet::new();
                key_ids(order, &mut ids);
                self.erased.push((record.entity.clone(), record.pos, ids));
            }
            _ => {}
        }
        order.evolve(event, record.at);
        if let Some(fault) = impossible(order, event) {
            add((Invariant::I3, fault));
        }
        (entry.seq, entry.last_pos) = (record.seq, record.pos);
    }

    /// Reduces finished orders to summaries, if there are many whole ones.
    pub(super) fn shrink(&mut self) {
        if self.whole <= self.whole_max.max(WHOLE_MAX) {
            return;
        }
        self.whole = 0;
        for (key, entry) in &mut self.all {
            if let OrderData::Whole(order) = &entry.data {
                let id = EntityId::new(&format!("ord_{key}"));
                let summary = Summary::of(&id, order, entry.seq, self.people.as_ref());
                if summary.progress == OrderProgress::InFlight {
                    self.whole += 1;
                } else {
                    entry.data = OrderData::Reduced(Box::new(summary));
                }
            }
        }
        self.whole_max = 2 * self.whole;
    }

    /// Reduces all orders to summaries, and checks each by itself, after the last event.
    pub(super) fn finish(&mut self, findings: &mut Violations) {
        for (key, entry) in &mut self.all {
            let id = EntityId::new(&format!("ord_{key}"));
            if let OrderData::Whole(order) = &entry.data {
                let summary = Summary::of(&id, order, entry.seq, self.people.as_ref());
                entry.data = OrderData::Reduced(Box::new(summary));
            }
            let OrderData::Reduced(summary) = &entry.data else { continue };
            if entry.broken {
                continue;
            }
            let positions = [entry.first_pos, entry.last_pos];
            if let Some(fault) = summary.fault(entry) {
                findings.add(Invariant::I3, &id, &positions, fault);
            }
            if summary.to_pick && summary.unshipped.iter().all(|(_, units)| *units == 0) {
                let why = "it is listed as to be picked, but none of its units is left to ship";
                findings.add(Invariant::I6, &id, &positions, why.to_owned());
            }
        }
    }
}

impl OrderEntry {
    fn new(pos: i64) -> Self {
        Self {
            seq: 0,
            first_pos: pos,
            last_pos: pos,
            broken: false,
            overruled: false,
            row_seen: false,
            text_seen: false,
            data: OrderData::Whole(Box::default()),
        }
    }

    /// The summary of the order; always there after [`AllOrders::finish`].
    pub(super) fn summary(&self) -> Option<&Summary> {
        match &self.data {
            OrderData::Reduced(summary) => Some(summary),
            OrderData::Whole(_) => None,
        }
    }
}

/// Why an event must not follow the state before it, if so.
fn unexpected(order: &Order, event: &Event, record: &Record) -> Option<(Invariant, String)> {
    let twice = |what: &str, number: u32| {
        Some((Invariant::I2, format!("{what} {number} is in its history twice, or out of order")))
    };
    match event {
        Event::Placed { .. } => (order.placed().is_some() || record.seq != 1)
            .then(|| (Invariant::I1, "it was placed twice".to_owned())),
        _ if order.placed().is_none() => {
            Some((Invariant::I1, "it has events, but was never placed".to_owned()))
        }
        Event::PaymentRequested { attempt, amount, .. } => {
            if order.attempts().iter().any(|one| one.number >= *attempt) {
                return twice("payment attempt", *attempt);
            }
            if *amount <= 0 {
                let why = format!("{amount} was requested, but nothing is to be paid");
                return Some((Invariant::I3, why));
            }
            (*amount != order.total()).then(|| {
                let total = order.total();
                (Invariant::I3, format!("{amount} was requested, but its total is {total}"))
            })
        }
        Event::CaptureRequested { capture, .. } => {
            if order.captures().iter().any(|one| one.number >= *capture) {
                return twice("capture", *capture);
            }
            None
        }
        Event::Captured { capture, .. } => {
            let mut known = order.captures().iter();
            if known.any(|one| one.number == *capture && one.operation.is_some()) {
                return twice("capture", *capture);
            }
            None
        }
        Event::RefundRequested { refund } => {
            if order.refunds().iter().any(|one| one.number >= refund.number) {
                return twice("refund", refund.number);
            }
            None
        }
        Event::Refunded { refund, .. } => {
            let mut known = order.refunds().iter();
            if !known.any(|one| one.number == *refund && one.operation.is_none()) {
                return twice("refund", *refund);
            }
            None
        }
        Event::Fulfilled { fulfillment } => {
            if order.fulfillments().iter().any(|one| one.number >= fulfillment.number) {
                return twice("fulfillment", fulfillment.number);
            }
            None
        }
        Event::TrackingCorrected { fulfillment, .. } => {
            if !order.fulfillments().iter().any(|one| one.number == *fulfillment) {
                let what = format!("the tracking of fulfillment {fulfillment}, which it does not");
                return Some((Invariant::I1, format!("{what} have, was corrected")));
            }
            None
        }
        Event::Confirmed { .. } if order.number().is_some() => {
            Some((Invariant::I2, "it was confirmed twice".to_owned()))
        }
        Event::Confirmed { .. } if !order.paid() => {
            Some((Invariant::I3, "it was confirmed without a payment".to_owned()))
        }
        _ => None,
    }
}

/// A fault in the amounts or units of an order after an event, if there is one.
fn impossible(order: &Order, event: &Event) -> Option<String> {
    let (captured, refunded) = (order.captured(), order.refunded());
    match event {
        Event::Captured { .. } | Event::Refunded { .. } if refunded > captured => {
            Some(format!("{refunded} were refunded of {captured} captured"))
        }
        Event::Captured { .. } if captured > order.total() => {
            Some(format!("{captured} were captured of {}", order.total()))
        }
        Event::RefundRequested { .. } if order.refunds_requested() > captured => Some(format!(
            "{} are to be refunded, but {captured} captured",
            order.refunds_requested()
        )),
        Event::RefundRequested { refund } if !refund.lines.iter().all(RefundLine::is_as_asked) => {
            Some("a refund takes other units back than were asked for".to_owned())
        }
        Event::RefundRequested { .. } | Event::Fulfilled { .. } => {
            let mut lines = order.placed().into_iter().flat_map(|placed| &placed.lines);
            let over = |id| order.unshipped(id) < 0 || order.away(id) < 0;
            let over = lines.find(|line| over(line.id))?;
            Some(format!("more units of line {} were shipped or returned than it has", over.id))
        }
        _ => None,
    }
}

/// Checks the content of a placed order; returns its faults.
fn content_faults(placed: &Placed, entity: &EntityId) -> Vec<(Invariant, String)> {
    let mut faults = Vec::new();
    if placed.order.to_string() != entity.as_str() {
        faults.push((Invariant::I1, format!("its content names the order {}", placed.order)));
    }
    if placed.lines.is_empty() {
        faults.push((Invariant::I1, "it has no lines".to_owned()));
    }
    let included = placed.totals.tax_included;
    for line in placed.lines.iter().filter(|line| !line_adds_up(line, included)) {
        let QuotedLine { id, quantity, unit_price, total, tax, .. } = line;
        let why = format!(
            "line {id} does not add up: {quantity} x {unit_price} is recorded as {total}, with \
             {tax} tax"
        );
        faults.push((Invariant::I1, why));
    }
    match Totals::of(&placed.lines, Some(&placed.delivery), included) {
        Ok(totals) if totals == placed.totals => {}
        Ok(totals) => faults.push((
            Invariant::I1,
            format!("its lines add up to {}, its total is {}", totals.total, placed.totals.total),
        )),
        Err(error) => faults.push((Invariant::I1, format!("its total {error}"))),
    }
    faults
}

/// Whether the amounts of a line follow from its unit price, units and tax rate, by either rounding
/// rule.
fn line_adds_up(line: &QuotedLine, included: bool) -> bool {
    [Rounding::HalfEven, Rounding::HalfUp].into_iter().any(|rounding| {
        let tax = if included {
            line.tax_rate.included_in(line.total, rounding)
        } else {
            line.tax_rate.added_to(line.total, rounding)
        };
        line.quantity > 0
            && line.unit_price.times(line.quantity, rounding) == Ok(line.total)
            && tax == Ok(line.tax)
    })
}

/// A digest for comparing values of one store. It is not cryptographic.
pub(super) fn digest(value: &(impl Hash + ?Sized)) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, value).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

/// A digest of a row, or of a column.
pub(super) fn row_digest(row: &impl fmt::Debug) -> u128 {
    struct Digest(DefaultHasher, DefaultHasher);
    impl fmt::Write for Digest {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            self.1.write(text.as_bytes());
            Ok(())
        }
    }
    let mut digest = Digest(DefaultHasher::new(), DefaultHasher::new());
    digest.1.write_u8(1);
    // Writing to a digest does not fail.
    let _infallible = write!(digest, "{row:?}");
    u128::from(digest.0.finish()) << 64 | u128::from(digest.1.finish())
}

/// Whether an attempt's outcome is known and it does not pay the order.
pub(super) const fn closed(attempt: &Attempt) -> bool {
    matches!(attempt.state, AttemptState::Declined { .. } | AttemptState::Reversed)
}
