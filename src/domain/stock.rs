//! The stock of one SKU: levels by location, holds that lapse, allocations, what was shipped.
//!
//! Its entity is the only writer of these numbers, so two buyers can never have the last unit.
//! What a SKU is called or costs is the product's business.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use super::entity;
use super::id::{OrderId, Sku};
use super::time::{Span, Timestamp};

/// The most units that one command or level may name.
pub const QUANTITY_MAX: i64 = 1_000_000_000;

/// How long a settled order is remembered, so that a late or repeated command of its saga finds
/// what was done. Longer than any order may stay open.
const MEMORY: Span = Span::from_secs(24 * 3600);

/// The most holds that lapse in one go.
const LAPSES_MAX: usize = 500;

/// The journal's id for a SKU's stock.
#[must_use]
pub fn entity_id(sku: &Sku) -> entity::EntityId {
    entity::EntityId::new(&format!("{}_{sku}", <Stock as entity::Noun>::PREFIX))
}

/// Where goods lie: 1 to 32 of `a-z0-9-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Location(Arc<str>);

impl Location {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 32 of a-z, 0-9 and '-'")]
pub struct InvalidLocation;

impl FromStr for Location {
    type Err = InvalidLocation;

    fn from_str(text: &str) -> Result<Self, InvalidLocation> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(letter) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidLocation)
        }
    }
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The units of one SKU at one location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Units in the house, reserved and allocated ones included.
    pub on_hand: i64,
    /// Units under a hold that lapses.
    pub reserved: i64,
    /// Units that belong to a paid order.
    pub allocated: i64,
    /// Units that are on their way.
    pub incoming: i64,
    /// Units that were shipped and did not come back.
    pub sold: i64,
    /// All units that ever came in, less those written off: `on_hand + sold` at any time.
    pub received: i64,
}

impl Level {
    /// Units that can be promised to a buyer.
    #[must_use]
    pub const fn sellable(&self) -> i64 {
        self.on_hand - self.reserved - self.allocated
    }

    /// Whether the numbers can be true: none negative, and nothing from nowhere.
    #[must_use]
    pub const fn sound(&self) -> bool {
        self.sellable() >= 0
            && self.reserved >= 0
            && self.allocated >= 0
            && self.sold >= 0
            && self.incoming >= 0
            && self.on_hand + self.sold == self.received
    }
}

/// So many units at a location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Where.
    #[serde(rename = "loc")]
    pub location: Location,
    /// How many.
    #[serde(rename = "qty")]
    pub quantity: i64,
}

/// Units kept for an order until a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The units.
    pub parts: Vec<Part>,
    /// Which try of the order this is.
    pub generation: u32,
    /// From when on it no longer counts.
    pub hold_until: Timestamp,
}

/// What one order has to do with this SKU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// A hold that lapses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Units that belong to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocated: Vec<Part>,
    /// Shipments and refunds that were carried out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    done: Vec<String>,
    /// Given up: a late reservation is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    released: bool,
}

impl Claim {
    fn settled(&self) -> bool {
        self.hold.is_none() && self.allocated.is_empty()
    }
}

/// The stock of one SKU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stock {
    levels: BTreeMap<Location, Level>,
    claims: BTreeMap<OrderId, Claim>,
    lapses: BTreeSet<(Timestamp, OrderId)>,
    settled: VecDeque<(Timestamp, OrderId)>,
}

impl Stock {
    /// The levels, by location.
    #[must_use]
    pub const fn levels(&self) -> &BTreeMap<Location, Level> {
        &self.levels
    }

    /// The holds that count, by order.
    pub fn holds(&self) -> impl Iterator<Item = (OrderId, &Hold)> {
        self.claims.iter().filter_map(|(order, claim)| Some((*order, claim.hold.as_ref()?)))
    }

    /// The allocations, by order.
    pub fn allocations(&self) -> impl Iterator<Item = (OrderId, &[Part])> {
        let all = self.claims.iter().map(|(order, claim)| (*order, &claim.allocated[..]));
        all.filter(|(_, parts)| !parts.is_empty())
    }

    /// What one order has here.
    #[must_use]
    pub fn claim(&self, order: OrderId) -> Option<&Claim> {
        self.claims.get(&order)
    }

    /// Units that can be promised at `now`: a hold past its time is not counted.
    #[must_use]
    pub fn sellable(&self, now: Timestamp) -> i64 {
        let lapsed: i64 = self
            .lapses
            .iter()
            .take_while(|(until, _)| *until <= now)
            .filter_map(|(_, order)| self.claims.get(order)?.hold.as_ref())
            .flat_map(|hold| &hold.parts)
            .map(|part| part.quantity)
            .sum();
        self.levels.values().map(Level::sellable).sum::<i64>() + lapsed
    }

    /// All levels in one.
    #[must_use]
    pub fn total(&self) -> Level {
        self.levels.values().fold(Level::default(), |sum, level| Level {
            on_hand: sum.on_hand + level.on_hand,
            reserved: sum.reserved + level.reserved,
            allocated: sum.allocated + level.allocated,
            incoming: sum.incoming + level.incoming,
            sold: sum.sold + level.sold,
            received: sum.received + level.received,
        })
    }

    /// The first thing about it that cannot be true, if there is one.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        for (location, level) in &self.levels {
            if !level.sound() {
                return Some(format!("the level at {location} does not add up: {level:?}"));
            }
            let sum = |parts: &mut dyn Iterator<Item = &Part>| -> i64 {
                parts.filter(|part| part.location == *location).map(|part| part.quantity).sum()
            };
            let held = sum(&mut self.holds().flat_map(|(_, hold)| &hold.parts));
            let allocated = sum(&mut self.claims.values().flat_map(|claim| &claim.allocated));
            if held != level.reserved || allocated != level.allocated {
                return Some(format!(
                    "at {location} {} are reserved but {held} are held, {} are allocated but \
                     orders have {allocated}",
                    level.reserved, level.allocated
                ));
            }
        }
        None
    }

    fn level(&self, location: &Location) -> Level {
        self.levels.get(location).copied().unwrap_or_default()
    }

    fn done(&self, order: OrderId, id: &str) -> bool {
        self.claims.get(&order).is_some_and(|claim| claim.done.iter().any(|done| done == id))
    }

    /// The holds that are past their time.
    fn lapsed(&self, now: Timestamp) -> Vec<Event> {
        self.lapses
            .iter()
            .take_while(|(until, _)| *until <= now)
            .take(LAPSES_MAX)
            .map(|(_, order)| Event::Lapsed { order: *order })
            .collect()
    }

    /// Where `quantity` units come from: the first location that has them all, or else what
    /// each has, in order of priority and then of name.
    fn choose(&self, quantity: i64, priority: &[Location]) -> Vec<Part> {
        let named = priority.iter().filter(|location| self.levels.contains_key(*location));
        let others = self.levels.keys().filter(|location| !priority.contains(location));
        let order: Vec<&Location> = named.chain(others).collect();
        if let Some(one) = order.iter().find(|at| self.level(at).sellable() >= quantity) {
            return vec![Part { location: (*one).clone(), quantity }];
        }
        let mut left = quantity;
        let mut parts = Vec::new();
        for location in order {
            let taken = self.level(location).sellable().min(left);
            if taken > 0 {
                parts.push(Part { location: location.clone(), quantity: taken });
                left -= taken;
            }
        }
        parts
    }

    fn reserve(&self, reserve: &Reserve, now: Timestamp) -> Result<Vec<Event>, Rejection> {
        let Reserve { order, generation, quantity, hold_until, priority } = reserve;
        positive(*quantity)?;
        if let Some(claim) = self.claims.get(order) {
            if claim.released {
                return Err(Rejection::Released);
            }
            if !claim.allocated.is_empty() {
                return Ok(Vec::new());
            }
            if let Some(hold) = claim.hold.as_ref().filter(|hold| hold.hold_until > now) {
                let held: i64 = hold.parts.iter().map(|part| part.quantity).sum();
                if hold.generation >= *generation {
                    return Ok(Vec::new());
                }
                if held == *quantity {
                    let hold_until = *hold_until;
                    let generation = *generation;
                    return Ok(vec![Event::Extended { order: *order, generation, hold_until }]);
                }
            }
        }
        let mut events = self.lapsed(now);
        let mut after = std::borrow::Cow::Borrowed(self);
        let old = self.claims.get(order).and_then(|claim| claim.hold.as_ref());
        if !events.is_empty() || old.is_some() {
            let state = after.to_mut();
            for event in &events {
                entity::Noun::evolve(state, event, now);
            }
            if state.claims.get(order).is_some_and(|claim| claim.hold.is_some()) {
                let lapse = Event::Lapsed { order: *order };
                entity::Noun::evolve(state, &lapse, now);
                events.push(lapse);
            }
        }
        let available = after.total().sellable();
        if available < *quantity {
            return Err(Rejection::OutOfStock { requested: *quantity, available });
        }
        events.push(Event::Reserved {
            order: *order,
            generation: *generation,
            parts: after.choose(*quantity, priority),
            hold_until: *hold_until,
        });
        Ok(events)
    }

    fn commit(&self, order: OrderId, now: Timestamp) -> Result<Vec<Event>, Rejection> {
        let claim = self.claims.get(&order);
        match claim {
            Some(claim) if !claim.allocated.is_empty() => Ok(Vec::new()),
            Some(Claim { hold: Some(hold), .. }) if hold.hold_until > now => {
                Ok(vec![Event::Committed { order }])
            }
            _ => Err(Rejection::HoldLapsed),
        }
    }

    fn adjust(
        &self,
        location: &Location,
        delta: i64,
        reason: &str,
    ) -> Result<Vec<Event>, Rejection> {
        let level = self.level(location);
        if delta.abs() > QUANTITY_MAX || level.on_hand + delta > QUANTITY_MAX {
            return Err(Rejection::TooMany);
        }
        if level.sellable() + delta < 0 {
            let committed = level.reserved + level.allocated;
            return Err(Rejection::Committed { committed, on_hand: level.on_hand });
        }
        if delta == 0 && self.levels.contains_key(location) {
            return Ok(Vec::new());
        }
        let (location, reason) = (location.clone(), reason.to_owned());
        Ok(vec![Event::Adjusted { location, delta, reason }])
    }

    /// Takes `quantity` from what an order has, place by place.
    fn take(&self, order: OrderId, quantity: i64) -> Result<Vec<Part>, Rejection> {
        let mut left = quantity;
        let mut parts = Vec::new();
        for part in self.claims.get(&order).map_or(&[][..], |claim| &claim.allocated) {
            let taken = part.quantity.min(left);
            if taken > 0 {
                parts.push(Part { location: part.location.clone(), quantity: taken });
                left -= taken;
            }
        }
        if left > 0 { Err(Rejection::NotAllocated { missing: left }) } else { Ok(parts) }
    }

    fn change_levels(&mut self, parts: &[Part], change: impl Fn(&mut Level, i64)) {
        for part in parts {
            change(self.levels.entry(part.location.clone()).or_default(), part.quantity);
        }
    }

    fn drop_hold(&mut self, order: OrderId) -> Vec<Part> {
        let Some(hold) = self.claims.get_mut(&order).and_then(|claim| claim.hold.take()) else {
            return Vec::new();
        };
        self.lapses.remove(&(hold.hold_until, order));
        self.change_levels(&hold.parts, |level, quantity| level.reserved -= quantity);
        hold.parts
    }

    fn drop_allocated(&mut self, order: OrderId, parts: &[Part], id: Option<&str>) {
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
        claim.done.extend(id.map(str::to_owned));
        self.change_levels(parts, |level, quantity| level.allocated -= quantity);
    }

    /// Notes that an order may be settled, and forgets those that have been for long.
    fn remember(&mut self, order: OrderId, at: Timestamp) {
        if self.claims.get(&order).is_some_and(Claim::settled) {
            self.settled.push_back((at, order));
        }
        while let Some((since, order)) = self.settled.front().copied() {
            if since + MEMORY > at {
                break;
            }
            self.settled.pop_front();
            if self.claims.get(&order).is_some_and(Claim::settled) {
                self.claims.remove(&order);
            }
        }
    }
}

fn positive(quantity: i64) -> Result<(), Rejection> {
    if (1..=QUANTITY_MAX).contains(&quantity) { Ok(()) } else { Err(Rejection::TooMany) }
}

/// Keeps units for an order.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// The order, or the cart with the same key.
    pub order: OrderId,
    /// Which try of the order this is; the same one again changes nothing.
    pub generation: u32,
    /// Units, summed over the order's lines.
    pub quantity: i64,
    /// Until when they are kept.
    pub hold_until: Timestamp,
    /// Locations in the order in which they are asked.
    pub priority: Arc<[Location]>,
}

/// What can be asked of a SKU's stock.
#[derive(Clone, Debug, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Command {
    /// Keeps units for an order.
    Reserve(Reserve),
    /// Turns an order's hold into an allocation.
    Commit {
        /// The order.
        order: OrderId,
    },
    /// Gives back all that an order has, and refuses it from now on.
    Release {
        /// The order.
        order: OrderId,
    },
    /// Sends allocated units out of the house.
    Ship {
        /// The order.
        order: OrderId,
        /// The fulfillment; the same one again changes nothing.
        id: String,
        /// Units.
        quantity: i64,
    },
    /// Takes units back for a refund.
    TakeBack {
        /// The order.
        order: OrderId,
        /// The refund; the same one again changes nothing.
        id: String,
        /// Units that were not shipped yet.
        unshipped: i64,
        /// Units that were shipped.
        shipped: i64,
        /// Whether they go back on sale.
        restock: bool,
    },
    /// Goods have come in.
    Receive {
        /// Where.
        location: Location,
        /// Units.
        quantity: i64,
        /// Whether they were announced as incoming.
        from_incoming: bool,
    },
    /// Goods are announced, or with a negative quantity no longer are.
    Expect {
        /// Where.
        location: Location,
        /// Units.
        quantity: i64,
    },
    /// Somebody counted, broke or found something.
    Adjust {
        /// Where.
        location: Location,
        /// Units, negative for losses.
        delta: i64,
        /// Why.
        reason: String,
    },
    /// The units on hand are set.
    Set {
        /// Where.
        location: Location,
        /// Units in the house.
        on_hand: i64,
        /// What they must be now, if the caller says so.
        change_from: Option<i64>,
    },
    /// Units move between locations.
    Transfer {
        /// From where.
        from: Location,
        /// To where.
        to: Location,
        /// Units.
        quantity: i64,
    },
}

/// What has happened to a SKU's stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "the commands say what each field means")]
pub enum Event {
    /// Units are kept for an order until a moment.
    Reserved {
        order: OrderId,
        #[serde(rename = "gen")]
        generation: u32,
        parts: Vec<Part>,
        #[serde(rename = "until")]
        hold_until: Timestamp,
    },
    /// A later try of the order keeps the same units, until a later moment.
    Extended {
        order: OrderId,
        #[serde(rename = "gen")]
        generation: u32,
        #[serde(rename = "until")]
        hold_until: Timestamp,
    },
    /// A hold has passed its time.
    Lapsed { order: OrderId },
    /// A hold has become an allocation.
    Committed { order: OrderId },
    /// All that the order had is given back; it gets nothing any more.
    Released { order: OrderId },
    /// Allocated units have left the house.
    Shipped { order: OrderId, id: String, parts: Vec<Part> },
    /// Units of a refund are on sale again.
    Restocked { order: OrderId, id: String, unshipped: Vec<Part>, returned: Vec<Part> },
    /// Unshipped units of a refund are gone for good.
    WrittenOff { order: OrderId, id: String, parts: Vec<Part> },
    /// Goods have come in.
    Received { location: Location, quantity: i64, from_incoming: bool },
    /// Goods are announced.
    Expected { location: Location, quantity: i64 },
    /// A count was put right.
    Adjusted { location: Location, delta: i64, reason: String },
    /// Units have moved.
    Transferred { from: Location, to: Location, quantity: i64 },
}

impl entity::Event for Event {
    fn kind(&self) -> &'static str {
        self.into()
    }
}

/// Why a SKU's stock refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is not enough to promise.
    #[error("{requested} were asked for and {available} are available")]
    OutOfStock {
        /// Units asked for.
        requested: i64,
        /// Units that could be had.
        available: i64,
    },
    /// The hold is past its time.
    #[error("the hold has lapsed")]
    HoldLapsed,
    /// The order was given up before.
    #[error("the order was released before")]
    Released,
    /// The order has fewer units than are to be shipped or taken back.
    #[error("{missing} units are not allocated to the order")]
    NotAllocated {
        /// Units that it lacks.
        missing: i64,
    },
    /// The level would fall below what is promised.
    #[error("{committed} of {on_hand} units are reserved or allocated")]
    Committed {
        /// Units that are promised.
        committed: i64,
        /// Units in the house.
        on_hand: i64,
    },
    /// `change_from` does not hold.
    #[error("{on_hand} units are on hand")]
    Changed {
        /// Units in the house.
        on_hand: i64,
    },
    /// A quantity out of bounds.
    #[error("a quantity must be from 1 to 1000000000")]
    TooMany,
}

impl entity::Noun for Stock {
    const PREFIX: &'static str = "sku";
    const STATE_VERSION: u32 = 1;
    const LAZY_TIMER: bool = true;

    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;
    type Effect = std::convert::Infallible;

    fn command_name(command: &Command) -> &'static str {
        command.into()
    }

    fn decide(&self, command: &Command, now: Timestamp) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Reserve(reserve) => self.reserve(reserve, now),
            Command::Commit { order } => self.commit(*order, now),
            Command::Release { order } => {
                let released = self.claims.get(order).is_some_and(|claim| claim.released);
                Ok(if released { Vec::new() } else { vec![Event::Released { order: *order }] })
            }
            Command::Ship { order, id, .. } | Command::TakeBack { order, id, .. }
                if self.done(*order, id) =>
            {
                Ok(Vec::new())
            }
            Command::Ship { order, id, quantity } => {
                let parts = self.take(*order, *quantity)?;
                Ok(vec![Event::Shipped { order: *order, id: id.clone(), parts }])
            }
            Command::TakeBack { order, id, unshipped, shipped, restock } => {
                let (order, id) = (*order, id.clone());
                let unshipped = self.take(order, *unshipped)?;
                if !restock {
                    return Ok(vec![Event::WrittenOff { order, id, parts: unshipped }]);
                }
                let returned = self.return_to(*shipped);
                Ok(vec![Event::Restocked { order, id, unshipped, returned }])
            }
            Command::Receive { location, quantity, from_incoming } => {
                positive(*quantity)?;
                let level = self.level(location);
                if level.on_hand + quantity > QUANTITY_MAX {
                    return Err(Rejection::TooMany);
                }
                let (location, quantity) = (location.clone(), *quantity);
                Ok(vec![Event::Received { location, quantity, from_incoming: *from_incoming }])
            }
            Command::Expect { location, quantity } => {
                let incoming = self.level(location).incoming.saturating_add(*quantity);
                if !(0..=QUANTITY_MAX).contains(&incoming) {
                    return Err(Rejection::TooMany);
                }
                Ok(vec![Event::Expected { location: location.clone(), quantity: *quantity }])
            }
            Command::Adjust { location, delta, reason } => self.adjust(location, *delta, reason),
            Command::Set { location, on_hand, change_from } => {
                let now_on_hand = self.level(location).on_hand;
                if change_from.is_some_and(|expected| expected != now_on_hand) {
                    return Err(Rejection::Changed { on_hand: now_on_hand });
                }
                if !(0..=QUANTITY_MAX).contains(on_hand) {
                    return Err(Rejection::TooMany);
                }
                self.adjust(location, on_hand - now_on_hand, "set")
            }
            Command::Transfer { from, to, quantity } => {
                positive(*quantity)?;
                let level = self.level(from);
                if level.sellable() < *quantity {
                    let committed = level.reserved + level.allocated;
                    return Err(Rejection::Committed { committed, on_hand: level.on_hand });
                }
                if from == to {
                    return Ok(Vec::new());
                }
                let (from, to) = (from.clone(), to.clone());
                Ok(vec![Event::Transferred { from, to, quantity: *quantity }])
            }
        }
    }

    fn evolve(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::Reserved { order, generation, parts, hold_until } => {
                let claim = self.claims.entry(*order).or_default();
                let (generation, hold_until) = (*generation, *hold_until);
                claim.hold = Some(Hold { parts: parts.clone(), generation, hold_until });
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
                }
            }
            Event::Lapsed { order } => {
                self.drop_hold(*order);
                self.remember(*order, at);
            }
            Event::Committed { order } => {
                let parts = self.drop_hold(*order);
                self.change_levels(&parts, |level, quantity| level.allocated += quantity);
                self.claims.entry(*order).or_default().allocated = parts;
            }
            Event::Released { order } => {
                self.drop_hold(*order);
                let claim = self.claims.entry(*order).or_default();
                claim.released = true;
                let parts = std::mem::take(&mut claim.allocated);
                self.change_levels(&parts, |level, quantity| level.allocated -= quantity);
                self.remember(*order, at);
            }
            Event::Shipped { order, id, parts } => {
                self.drop_allocated(*order, parts, Some(id));
                self.change_levels(parts, |level, quantity| {
                    level.on_hand -= quantity;
                    level.sold += quantity;
                });
                self.remember(*order, at);
            }
            Event::Restocked { order, id, unshipped, returned } => {
                self.drop_allocated(*order, unshipped, Some(id));
                self.change_levels(returned, |level, quantity| {
                    level.on_hand += quantity;
                    level.sold -= quantity;
                });
                self.remember(*order, at);
            }
            Event::WrittenOff { order, id, parts } => {
                self.drop_allocated(*order, parts, Some(id));
                self.change_levels(parts, |level, quantity| {
                    level.on_hand -= quantity;
                    level.received -= quantity;
                });
                self.remember(*order, at);
            }
            Event::Received { location, quantity, from_incoming } => {
                let level = self.levels.entry(location.clone()).or_default();
                level.on_hand += quantity;
                level.received += quantity;
                if *from_incoming {
                    level.incoming = (level.incoming - quantity).max(0);
                }
            }
            Event::Expected { location, quantity } => {
                self.levels.entry(location.clone()).or_default().incoming += quantity;
            }
            Event::Adjusted { location, delta, .. } => {
                let level = self.levels.entry(location.clone()).or_default();
                level.on_hand += delta;
                level.received += delta;
            }
            Event::Transferred { from, to, quantity } => {
                for (location, delta) in [(from, -quantity), (to, *quantity)] {
                    let level = self.levels.entry(location.clone()).or_default();
                    level.on_hand += delta;
                    level.received += delta;
                }
            }
        }
    }

    fn timer(&self) -> Option<Timestamp> {
        self.lapses.first().map(|(until, _)| *until)
    }

    fn on_timer(&self, now: Timestamp) -> Vec<Event> {
        self.lapsed(now)
    }

    fn weight(&self) -> usize {
        self.claims.len() + self.levels.len()
    }
}

impl Stock {
    /// Where goods that come back are put: where most were sold from.
    fn return_to(&self, quantity: i64) -> Vec<Part> {
        let mut left = quantity;
        let mut by_sold: Vec<_> = self.levels.iter().collect();
        by_sold.sort_by_key(|(_, level)| std::cmp::Reverse(level.sold));
        let mut parts = Vec::new();
        for (location, level) in by_sold {
            let taken = level.sold.min(left);
            if taken > 0 {
                parts.push(Part { location: location.clone(), quantity: taken });
                left -= taken;
            }
        }
        parts
    }
}
