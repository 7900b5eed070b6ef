//! Checks every event when it is committed, against books of its own: that stock adds up, that
//! payments are requested for what was ordered, and that no order is confirmed without its stock
//! and its payment. `verify`, in contrast, checks whole journals.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use super::world::World;
use crate::actors::engine::host::decode;
use crate::actors::flows::payment::parse_reference;
use crate::domain::entity::{EntityId, Noun as _, Record};
use crate::domain::id::{OrderId, Sku};
use crate::domain::location::StockLocation;
use crate::domain::order::{self, Order, Placed};
use crate::domain::product::Product;
use crate::domain::stock::{self, Location, LocationUnits, Stock};
use crate::domain::time::{Span, Timestamp};
use crate::domain::versioned::{self, Versioned as _};

/// How long it may take until no node reserves units at a location that was closed. Nodes read the
/// locations every 2 s, and again if that fails.
const CLOSED_WITHIN: Span = Span::from_secs(20);

/// How long an order may be priced before it is placed: its events may be on their way to the disk.
const PRICED_WITHIN: Span = Span::from_secs(90);

/// The simulator's own books of stock and orders, against which each event is checked.
#[derive(Default)]
pub struct BooksWatch {
    stock: BTreeMap<EntityId, StockBook>,
    orders: BTreeMap<EntityId, OrderBook>,
    seqs: BTreeMap<EntityId, i64>,
    /// The locations that are not for sale, and since when: in simulated time, and by the clock.
    closed: BTreeMap<Location, (i64, Timestamp)>,
    /// The last event with each idempotency key, and its time.
    keys: BTreeMap<(EntityId, String, String), (i64, Timestamp)>,
    /// The requests to write a row that were carried out.
    requests: BTreeSet<String>,
    /// The prices of each product, and when each was set, in simulated time.
    prices: BTreeMap<Sku, Vec<(i64, i64)>>,
    /// Events so far.
    pub events: u64,
    /// Orders that were confirmed.
    pub confirmed: u64,
}

/// The stock of one SKU.
#[derive(Default)]
struct StockBook {
    on_hand: BTreeMap<Location, i64>,
    holds: BTreeMap<OrderId, WatchedHold>,
    allocated: BTreeMap<OrderId, Vec<LocationUnits>>,
    released: BTreeSet<OrderId>,
    moved: BTreeSet<(OrderId, String)>,
}

/// Units held for an order.
#[derive(Debug)]
struct WatchedHold {
    parts: Vec<LocationUnits>,
    until: Timestamp,
    yields: bool,
}

/// The money and goods of one order.
#[derive(Default)]
struct OrderBook {
    units: BTreeMap<Sku, i64>,
    total: i64,
    /// The requested amount, by attempt.
    asked: BTreeMap<u32, i64>,
    /// Attempts whose outcome is unknown.
    open: BTreeSet<u32>,
    authorized: BTreeMap<u32, i64>,
    captured: i64,
    refunds: BTreeMap<u32, i64>,
    confirmed: bool,
    /// Attempts that the order has given up.
    given_up: BTreeSet<u32>,
    cancelling: bool,
}

impl BooksWatch {
    /// Checks events that were committed together, and enters them in the books.
    pub fn check_events(&mut self, world: &World, records: &[Record]) {
        for record in records {
            self.events += 1;
            let seq = self.seqs.entry(record.entity.clone()).or_insert(0);
            let last = std::mem::replace(seq, record.seq);
            if record.seq != last + 1 {
                let what = format!("{} #{}", record.entity, record.seq);
                world.violate("a history has no gaps", what);
            }
            let once = self.check_key_once(record).and_then(|()| self.check_request_once(record));
            let outcome = once.and_then(|()| match record.entity.prefix() {
                Stock::PREFIX => {
                    self.take_stock(record).and_then(|()| self.check_for_sale(record, world))
                }
                StockLocation::PREFIX => self.take_location(record, world),
                Product::PREFIX => self.take_product(record, world),
                Order::PREFIX => self.take_order(record, world),
                _ => Ok(()),
            });
            if let Err((rule, what)) = outcome {
                world.violate(rule, format!("{} #{}: {what}", record.entity, record.seq));
            }
        }
    }

    /// Checks a request for an authorization that has reached the provider: its event must be
    /// durable.
    pub fn asked(&self, world: &World, reference: &str, amount: i64) {
        let Some((order, _, attempt)) = parse_reference(reference) else { return };
        let asked = self.orders.get(&order).and_then(|order_book| order_book.asked.get(&attempt));
        if asked != Some(&amount) {
            let what = format!("{reference}: {amount}, on disk: {asked:?}");
            world.violate("a call to the provider follows a durable event", what);
        }
    }

    /// Checks a reversal that has reached the provider: the order must have given up the attempt
    /// before.
    pub fn reversed(&self, world: &World, reference: &str) {
        let Some((order, _, attempt)) = parse_reference(reference) else { return };
        let Some(order_book) = self.orders.get(&order) else { return };
        let waits =
            order_book.open.contains(&attempt) || order_book.authorized.contains_key(&attempt);
        if waits && !order_book.cancelling && !order_book.given_up.contains(&attempt) {
            world.violate("an attempt is given up before it is reversed", reference);
        }
    }

    /// Checks that an idempotency key is used once: all its events are in one append.
    fn check_key_once(&mut self, record: &Record) -> Finding {
        let cause = record.cause();
        let Some(idempotency) = cause.idempotency else { return Ok(()) };
        let used = (record.entity.clone(), cause.by, idempotency.key);
        let done = (record.seq, record.at);
        match self.keys.insert(used, done) {
            Some((seq, at)) if (seq + 1, at) != done => Err((
                "an idempotency key is used once",
                format!("at {seq} and again at {}", record.seq),
            )),
            _ => Ok(()),
        }
    }

    /// Checks that one request to write a row is carried out once.
    fn check_request_once(&mut self, record: &Record) -> Finding {
        let Some(request) = record.cause().request else { return Ok(()) };
        if self.requests.insert(request.clone()) {
            return Ok(());
        }
        Err(("a request is carried out once", request))
    }

    /// Takes over the prices that a product has from now on.
    fn take_product(&mut self, record: &Record, world: &World) -> Finding {
        let event = decode::<versioned::Event<Product>>(record);
        let product = event.map_err(|error| unreadable(&error))?.into_value();
        let price = product.prices.values().next().map_or(0, |price| price.raw());
        self.prices.entry(product.sku).or_default().push((price, world.elapsed()));
        Ok(())
    }

    /// Checks that an order's lines have prices that their products had, if not now, then lately.
    fn check_prices(&self, placed: &Placed, world: &World) -> Finding {
        for line in &placed.lines {
            let price = line.unit_price.raw();
            let set = self.prices.get(&line.sku).map_or(&[][..], Vec::as_slice);
            let until = |at: usize| set.get(at + 1).map_or(i64::MAX, |(_, replaced)| *replaced);
            let is_set = |(at, (one, _)): (usize, &(i64, i64))| {
                *one == price && world.elapsed() - until(at) < PRICED_WITHIN.millis()
            };
            if !set.iter().enumerate().any(is_set) {
                let what = format!("{} at {price}, which nobody has set: {set:?}", line.sku);
                return Err(("nothing is sold at a price that nobody has set", what));
            }
        }
        Ok(())
    }

    /// The sellable units of a SKU according to these books, and the version of the stock that the
    /// books have.
    pub fn sellable(&self, sku: &Sku, now: Timestamp) -> (i64, i64) {
        let id = stock::entity_id(sku);
        let sellable = self.stock.get(&id).map_or(0, |stock_book| {
            let held = stock_book.holds.values();
            let held = held.filter(|hold| hold.until > now && !hold.yields);
            stock_book.on_hand.values().sum::<i64>()
                - held.map(|hold| sum(&hold.parts)).sum::<i64>()
                - stock_book.allocated.values().map(|parts| sum(parts)).sum::<i64>()
        });
        (sellable, self.seqs.get(&id).copied().unwrap_or(0))
    }

    fn take_stock(&mut self, record: &Record) -> Finding {
        let event = decode::<stock::Event>(record).map_err(|error| unreadable(&error))?;
        let stock_book = self.stock.entry(record.entity.clone()).or_default();
        stock_book.take(&event, record.at)?;
        for (location, on_hand) in &stock_book.on_hand {
            let at = |parts: &Vec<LocationUnits>| {
                let here = parts.iter().filter(|part| part.location == *location);
                here.map(|part| part.quantity).sum::<i64>()
            };
            let held: i64 = stock_book.holds.values().map(|hold| at(&hold.parts)).sum();
            let allocated: i64 = stock_book.allocated.values().map(at).sum();
            if on_hand - held - allocated < 0 {
                let what = format!("{on_hand} on hand, {held} held, {allocated} allocated");
                return Err(("no unit is promised twice", what));
            }
        }
        Ok(())
    }

    fn take_location(&mut self, record: &Record, world: &World) -> Finding {
        let event = decode::<versioned::Event<StockLocation>>(record);
        let event = event.map_err(|error| unreadable(&error))?;
        let deletion = matches!(event, versioned::Event::Deleted(_));
        let location = event.into_value();
        if deletion != location.deleted {
            let what = format!("{} of {} is its deletion: {deletion}", record.kind, location.id);
            return Err(("a deletion is an event of its own", what));
        }
        if location.for_sale && !location.deleted {
            self.closed.remove(&location.id);
        } else {
            self.closed.entry(location.id).or_insert((world.elapsed(), record.at));
        }
        Ok(())
    }

    /// Checks that no order reserves units at a location that was closed before.
    fn check_for_sale(&self, record: &Record, world: &World) -> Finding {
        let event = decode::<stock::Event>(record).map_err(|error| unreadable(&error))?;
        let stock::Event::Reserved { parts, .. } = event else { return Ok(()) };
        let shut = parts.iter().find(|part| {
            self.closed.get(&part.location).is_some_and(|(elapsed, at)| {
                let long = world.elapsed() - elapsed > CLOSED_WITHIN.millis();
                long && record.at > *at + CLOSED_WITHIN && !world.turned_lately()
            })
        });
        match shut {
            Some(part) => Err(("nothing is sold at a closed location", part.location.to_string())),
            None => Ok(()),
        }
    }

    fn take_order(&mut self, record: &Record, world: &World) -> Finding {
        let event = decode::<order::Event>(record).map_err(|error| unreadable(&error))?;
        if let order::Event::Placed { placed, .. } = &event {
            self.check_prices(placed, world)?;
        }
        let order_book = self.orders.entry(record.entity.clone()).or_default();
        order_book.take(&event)?;
        if matches!(event, order::Event::PaymentRequested { .. }) && !world.turned_lately() {
            return self.held(record);
        }
        let Some(order_book) = self.orders.get_mut(&record.entity) else { return Ok(()) };
        if order_book.confirmed || !matches!(event, order::Event::Confirmed { .. }) {
            return Ok(());
        }
        order_book.confirmed = true;
        self.confirmed += 1;
        let order: OrderId = record.entity.as_str().parse().map_err(|error| unreadable(&error))?;
        for (sku, units) in &order_book.units {
            let stock_book = self.stock.get(&stock::entity_id(sku));
            let has = stock_book
                .and_then(|stock_book| stock_book.allocated.get(&order))
                .map_or(0, |it| sum(it));
            if has != *units {
                let what = format!("{units} of {sku} were sold, {has} are allocated");
                return Err(("nothing is confirmed without its stock", what));
            }
        }
        Ok(())
    }

    /// Checks that the stock of an order is on hold when its payment is requested.
    fn held(&self, record: &Record) -> Finding {
        let order: OrderId = record.entity.as_str().parse().map_err(|error| unreadable(&error))?;
        let skus = self.orders.get(&record.entity).map(|order_book| order_book.units.keys());
        for sku in skus.into_iter().flatten() {
            let stock_book = self.stock.get(&stock::entity_id(sku));
            let hold = stock_book.and_then(|stock_book| stock_book.holds.get(&order));
            if hold.is_none_or(|hold| hold.until <= record.at || hold.yields) {
                return Err(("payment is requested only while stock is on hold", sku.to_string()));
            }
        }
        Ok(())
    }
}

type Finding = Result<(), (&'static str, String)>;

fn unreadable(error: &impl Debug) -> (&'static str, String) {
    ("every event can be read", format!("{error:?}"))
}

fn sum(parts: &[LocationUnits]) -> i64 {
    parts.iter().map(|part| part.quantity).sum()
}

impl StockBook {
    fn take(&mut self, event: &stock::Event, at: Timestamp) -> Finding {
        use stock::Event;
        match event {
            Event::Reserved { order, parts, hold_until, .. } => {
                if self.released.contains(order) {
                    return Err(("what was released is not reserved again", order.to_string()));
                }
                if self.holds.contains_key(order) || self.allocated.contains_key(order) {
                    return Err(("an order is held for once", order.to_string()));
                }
                let (parts, until) = (parts.clone(), *hold_until);
                self.holds.insert(*order, WatchedHold { parts, until, yields: false });
            }
            Event::Extended { order, hold_until, .. } => {
                let hold = self.holds.get_mut(order);
                let hold = hold.ok_or_else(|| ("the hold exists", order.to_string()))?;
                (hold.until, hold.yields) = (*hold_until, false);
            }
            Event::Yielded { order, .. } => {
                let hold = self.holds.get_mut(order);
                hold.ok_or_else(|| ("the hold exists", order.to_string()))?.yields = true;
            }
            Event::Lapsed { order } => {
                if self.holds.remove(order).is_some_and(|hold| hold.until > at && !hold.yields) {
                    return Err(("a hold lapses early only if it yields", order.to_string()));
                }
            }
            Event::Committed { order } => match self.holds.remove(order) {
                Some(WatchedHold { parts, until, .. }) if until > at => {
                    self.allocated.insert(*order, parts);
                }
                other => {
                    let what = format!("{order} at {at}: {other:?}");
                    return Err(("only an unexpired hold is allocated", what));
                }
            },
            Event::Released { order } => {
                self.holds.remove(order);
                self.allocated.remove(order);
                self.released.insert(*order);
            }
            Event::Shipped { order, id, parts } => {
                self.check_move_once(*order, id)?;
                self.leave(*order, parts)?;
                self.add(parts, -1);
            }
            Event::Restocked { order, id, unshipped, returned } => {
                self.check_move_once(*order, id)?;
                self.leave(*order, unshipped)?;
                self.add(returned, 1);
            }
            Event::WrittenOff { order, id, parts } => {
                self.check_move_once(*order, id)?;
                self.leave(*order, parts)?;
                self.add(parts, -1);
            }
            Event::Received { location, quantity, .. } => {
                *self.on_hand.entry(location.clone()).or_insert(0) += quantity;
            }
            Event::Adjusted { location, delta, .. } => {
                *self.on_hand.entry(location.clone()).or_insert(0) += delta;
            }
            Event::Transferred { from, to, quantity, .. } => {
                *self.on_hand.entry(from.clone()).or_insert(0) -= quantity;
                *self.on_hand.entry(to.clone()).or_insert(0) += quantity;
            }
            Event::Expected { .. } => {}
        }
        Ok(())
    }

    fn check_move_once(&mut self, order: OrderId, id: &str) -> Finding {
        if self.moved.insert((order, id.to_owned())) {
            return Ok(());
        }
        Err(("goods are moved once", format!("{order} {id}")))
    }

    /// Removes units from an order's allocation.
    fn leave(&mut self, order: OrderId, parts: &[LocationUnits]) -> Finding {
        for part in parts {
            let mut left = part.quantity;
            let mine = self.allocated.entry(order).or_default();
            for one in mine.iter_mut().filter(|one| one.location == part.location) {
                let taken = one.quantity.min(left);
                one.quantity -= taken;
                left -= taken;
            }
            if left > 0 {
                return Err((
                    "only allocated goods leave",
                    format!(
                        "{order}: {left} units too \
                                                                   many"
                    ),
                ));
            }
        }
        Ok(())
    }

    fn add(&mut self, parts: &[LocationUnits], sign: i64) {
        for part in parts {
            *self.on_hand.entry(part.location.clone()).or_insert(0) += sign * part.quantity;
        }
    }
}

impl OrderBook {
    fn take(&mut self, event: &order::Event) -> Finding {
        use order::Event;
        match event {
            Event::Placed { placed, .. } => {
                self.total = placed.totals.total;
                for line in &placed.lines {
                    *self.units.entry(line.sku.clone()).or_insert(0) += line.quantity;
                }
            }
            Event::PaymentRequested { attempt, amount, .. } => {
                self.asked.insert(*attempt, *amount);
                if !self.open.is_empty() || self.live() > 0 {
                    let what = format!("attempt {attempt} besides {:?}", self.open);
                    return Err(("one attempt at a time", what));
                }
                self.open.insert(*attempt);
            }
            Event::PaymentAuthorized { attempt, amount, .. } => {
                self.open.remove(attempt);
                self.authorized.insert(*attempt, *amount);
            }
            Event::PaymentDeclined { attempt, .. } | Event::PaymentReversed { attempt } => {
                self.open.remove(attempt);
            }
            Event::PaymentGivenUp { attempt } => {
                self.given_up.insert(*attempt);
            }
            Event::CancelRequested { .. } => self.cancelling = true,
            Event::PaymentVoided { attempt } => {
                self.authorized.remove(attempt);
            }
            Event::Confirmed { .. } if self.live() != self.total => {
                let what = format!("{} of {} are authorized", self.live(), self.total);
                return Err(("nothing is confirmed unpaid", what));
            }
            Event::Captured { amount, .. } => self.captured += amount,
            Event::RefundRequested { refund } => {
                self.refunds.insert(refund.number, refund.amount);
                let asked: i64 = self.refunds.values().sum();
                if asked > self.captured {
                    let what = format!("{asked} of {} captured", self.captured);
                    return Err(("no more is refunded than was captured", what));
                }
            }
            Event::StepSkipped { step, .. } => {
                if let Some(Ok(refund)) = step.strip_prefix("refund:").map(str::parse) {
                    self.refunds.remove(&refund);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn live(&self) -> i64 {
        self.authorized.values().sum()
    }
}
