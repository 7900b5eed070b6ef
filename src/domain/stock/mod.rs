//! The stock of one SKU: levels by location, holds that expire, allocations, and shipments.
//!
//! The entity of a SKU is the only writer of these numbers, so the last unit is never sold twice.
//! The name and price of a SKU belong to its product.

mod command;
mod decide;
mod evolve;
mod level;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use command::{Command, Event, Rejection, Reserve};
pub use level::{InvalidLocation, Level, Location, LocationUnits};
use serde::{Deserialize, Serialize};

use super::entity::{self, Asker, Issuer};
use super::id::{OrderId, Sku};
use super::time::{Span, Timestamp};
use crate::seeded_fault::{self, SeededFault};

/// The most units in one command or level.
pub const QUANTITY_MAX: i64 = 1_000_000_000;
/// The stored reason of a count without one.
pub const COUNTED: &str = "set";

/// The maximum number of holds, and of allocations, in an answer about a SKU.
pub const CLAIMS_SHOWN_MAX: usize = 1_000;

/// How long the claim of an order without hold and allocation is kept in the state, so that late
/// and repeated commands of the order's saga are recognized.
const CLAIM_TTL: Span = Span::from_secs(24 * 3600);

/// How long such a claim is kept if goods of the order were returned: the same goods must not be
/// returned a second time, even if the command is repeated after a long outage. Such orders are
/// few.
const RETURNED_CLAIM_TTL: Span = Span::from_secs(90 * 24 * 3600);

/// The maximum number of expired holds that a command or timer drops; a command that needs the
/// units of more holds drops more.
const LAPSES_MAX: usize = 500;

/// The journal's id for a SKU's stock.
#[must_use]
pub fn entity_id(sku: &Sku) -> entity::EntityId {
    entity::EntityId::new(&format!("{}_{sku}", <Stock as entity::Noun>::PREFIX))
}

/// Units reserved for an order until a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The units.
    pub parts: Vec<LocationUnits>,
    /// The number of the order's attempt to reserve.
    pub generation: u32,
    /// When it expires.
    pub hold_until: Timestamp,
    /// Whether it stays only until another order needs its units, because its order waits for
    /// another payment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub yields: bool,
}

/// The claims of one order on this SKU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Its hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Its allocated units.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocated: Vec<LocationUnits>,
    /// Whether its hold was turned into an allocation: a later reservation or commit is a
    /// repetition and has no effect.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    committed: bool,
    /// The numbers of the order's fulfillments that were shipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shipped: Vec<String>,
    /// The numbers of the order's refunds whose goods were taken back or written off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    returned: Vec<String>,
    /// Whether its stock was released: a later reservation is rejected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    released: bool,
    /// When the claim is removed, if it still has neither hold nor allocation then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forget_at: Option<Timestamp>,
}

impl Hold {
    fn quantity(&self) -> i64 {
        self.parts.iter().map(|part| part.quantity).sum()
    }
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
    /// The orders whose holds yield.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    yielding: BTreeSet<OrderId>,
    settled: BTreeSet<(Timestamp, OrderId)>,
}

impl Stock {
    /// The levels, by location.
    #[must_use]
    pub const fn levels(&self) -> &BTreeMap<Location, Level> {
        &self.levels
    }

    /// The levels as they are shown: units of a hold that yields are not reserved.
    #[must_use]
    pub fn shown_levels(&self) -> BTreeMap<Location, Level> {
        let mut levels = self.levels.clone();
        let holds = self.yielding.iter().filter_map(|order| self.claims.get(order)?.hold.as_ref());
        for part in holds.flat_map(|hold| &hold.parts) {
            levels.entry(part.location.clone()).or_default().reserved -= part.quantity;
        }
        levels
    }

    /// The holds, by order; an expired hold is included until its `Lapsed` event.
    pub fn holds(&self) -> impl Iterator<Item = (OrderId, &Hold)> {
        self.claims.iter().filter_map(|(order, claim)| Some((*order, claim.hold.as_ref()?)))
    }

    /// The allocations, by order.
    pub fn allocations(&self) -> impl Iterator<Item = (OrderId, &[LocationUnits])> {
        let all = self.claims.iter().map(|(order, claim)| (*order, &claim.allocated[..]));
        all.filter(|(_, parts)| !parts.is_empty())
    }

    /// The claims of one order.
    #[must_use]
    pub fn claim(&self, order: OrderId) -> Option<&Claim> {
        self.claims.get(&order)
    }

    /// Units that are available to sell at `now`, at all locations: a hold that has expired, or
    /// yields, is not counted.
    #[must_use]
    pub fn sellable(&self, now: Timestamp) -> i64 {
        self.sellable_outside(&[], now)
    }

    /// Units that are available to sell at `now`, except at the closed locations: a hold that has
    /// expired, or yields, is not counted.
    #[must_use]
    pub fn sellable_outside(&self, closed: &[Location], now: Timestamp) -> i64 {
        let units = |hold: &Hold| -> i64 {
            let open = hold.parts.iter().filter(|part| !closed.contains(&part.location));
            open.map(|part| part.quantity).sum()
        };
        let hold = |order| self.claims.get(order)?.hold.as_ref();
        let lapsed = self.lapses.iter().take_while(|(until, _)| *until <= now);
        let lapsed: i64 = lapsed.filter_map(|(_, order)| hold(order)).map(units).sum();
        let yielding = self.yielding.iter().filter_map(hold);
        let yielding: i64 = yielding.filter(|hold| hold.hold_until > now).map(units).sum();
        let counted = if seeded_fault::active(SeededFault::LapsedHoldCounted) { 0 } else { lapsed };
        self.free_units(closed) + counted + yielding
    }

    /// Units held at `now` for orders that are being paid, except at the closed locations.
    #[must_use]
    pub fn held_outside(&self, closed: &[Location], now: Timestamp) -> i64 {
        let open = self.levels.iter().filter(|(location, _)| !closed.contains(location));
        let reserved: i64 = open.map(|(_, level)| level.reserved).sum();
        reserved + self.free_units(closed) - self.sellable_outside(closed, now)
    }

    /// Units that are neither reserved nor allocated, except at the closed locations.
    fn free_units(&self, closed: &[Location]) -> i64 {
        let open = self.levels.iter().filter(|(location, _)| !closed.contains(location));
        open.map(|(_, level)| level.sellable()).sum()
    }

    /// A copy with all levels, and at most [`CLAIMS_SHOWN_MAX`] holds that have not expired, as
    /// many that have, as many that yield, and as many allocations.
    fn shown(&self, now: Timestamp) -> Self {
        let live = self.holds().filter(|(_, hold)| hold.hold_until > now).map(|(order, _)| order);
        let allocated = self.allocations().map(|(order, _)| order);
        let lapsed = self.lapses.iter().take_while(|(until, _)| *until <= now);
        let lapses: BTreeSet<_> = lapsed.take(CLAIMS_SHOWN_MAX).copied().collect();
        let orders = live.take(CLAIMS_SHOWN_MAX).chain(allocated.take(CLAIMS_SHOWN_MAX));
        let yielding: BTreeSet<_> = self.yielding.iter().take(CLAIMS_SHOWN_MAX).copied().collect();
        let orders = orders.chain(lapses.iter().map(|(_, order)| *order)).chain(yielding.clone());
        let claim = |order| Some((order, self.claims.get(&order)?.clone()));
        let claims = orders.filter_map(claim).collect();
        Self { levels: self.levels.clone(), claims, lapses, yielding, ..Self::default() }
    }

    /// The sums over all locations.
    #[must_use]
    pub fn total(&self) -> Level {
        self.levels.values().sum()
    }

    /// The first inconsistency, if there is one.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        for (location, level) in &self.levels {
            if !level.sound() {
                return Some(format!("the level at {location} does not add up: {level:?}"));
            }
            let sum = |parts: &mut dyn Iterator<Item = &LocationUnits>| -> i64 {
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
}

impl entity::Noun for Stock {
    const PREFIX: &'static str = "sku";
    const NAME: &'static str = "stock";
    const STATE_VERSION: u32 = 1;
    const LAZY_TIMER: bool = true;

    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;
    type Effect = std::convert::Infallible;

    fn summary_number(&self, now: Timestamp) -> i64 {
        self.sellable(now)
    }

    fn may_issue(issuer: Issuer, command: &Command) -> bool {
        let of_staff = matches!(
            command,
            Command::Receive { .. }
                | Command::Expect { .. }
                | Command::Adjust { .. }
                | Command::Set { .. }
                | Command::Transfer { .. }
        );
        issuer == Issuer::Shop || issuer == Issuer::Staff && of_staff
    }

    fn command_name(command: &Command) -> &'static str {
        command.into()
    }

    fn decide(&self, command: &Command, now: Timestamp) -> Result<Vec<Event>, Rejection> {
        self.decide_command(command, now)
    }

    fn evolve(&mut self, event: &Event, at: Timestamp) {
        self.evolve_event(event, at);
    }

    fn timer(&self) -> Option<Timestamp> {
        self.lapses.first().map(|(until, _)| *until)
    }

    fn on_timer(&self, now: Timestamp) -> Vec<Event> {
        self.lapsed(now)
    }

    fn excerpt(asker: Asker<'_, Command>) -> entity::Excerpt<Self> {
        match asker {
            Asker::About(order) => Arc::new(move |stock, _now| {
                let order = order.as_str().parse().ok();
                let claim = |order| Some((order, stock.claims.get(&order)?.clone()));
                Self { claims: order.and_then(claim).into_iter().collect(), ..Self::default() }
            }),
            Asker::Anyone | Asker::Command(_) => Arc::new(Self::shown),
        }
    }

    fn weight(&self) -> usize {
        self.claims.len() + self.levels.len()
    }
}
