//! `decide` of a stock: the events of each command. Pure: the same stock, command and time give the
//! same events.

use std::borrow::Cow;

use super::{
    COUNTED, Claim, Command, Event, LAPSES_MAX, Location, LocationUnits, QUANTITY_MAX, Rejection,
    Reserve, Stock,
};
use crate::domain::id::OrderId;
use crate::domain::time::Timestamp;
use crate::seeded_fault::{self, SeededFault};

type Decision = Result<Vec<Event>, Rejection>;

impl Stock {
    pub(super) fn decide_command(&self, command: &Command, now: Timestamp) -> Decision {
        match command {
            Command::Reserve(reserve) => self.reserve(reserve, now),
            Command::Commit { order } => self.commit(*order, now),
            Command::Yield { order, generation } => {
                let hold = self.claims.get(order).and_then(|claim| claim.hold.as_ref());
                let current =
                    hold.is_some_and(|hold| hold.generation == *generation && !hold.yields);
                let yielded = Event::Yielded { order: *order, generation: *generation };
                Ok(if current { vec![yielded] } else { Vec::new() })
            }
            Command::Release { order } => {
                let released = self.claims.get(order).is_some_and(|claim| claim.released);
                Ok(if released { Vec::new() } else { vec![Event::Released { order: *order }] })
            }
            Command::Ship { order, id, .. }
                if self.claims.get(order).is_some_and(|claim| claim.shipped.contains(id)) =>
            {
                Ok(Vec::new())
            }
            Command::TakeBack { order, id, .. }
                if self.claims.get(order).is_some_and(|claim| claim.returned.contains(id))
                    && !seeded_fault::active(SeededFault::GoodsBackTwice) =>
            {
                Ok(Vec::new())
            }
            Command::Ship { order, id, quantity } => {
                positive(*quantity)?;
                let parts = self.parts_of_allocation(*order, *quantity)?;
                Ok(vec![Event::Shipped { order: *order, id: id.clone(), parts }])
            }
            Command::TakeBack { order, id, unshipped, shipped, restock } => {
                let (order, id) = (*order, id.clone());
                within(0, *unshipped)?;
                within(0, *shipped)?;
                let unshipped = self.parts_of_allocation(order, *unshipped)?;
                if !restock {
                    return Ok(vec![Event::WrittenOff { order, id, parts: unshipped }]);
                }
                let returned = self.return_to(*shipped);
                Ok(vec![Event::Restocked { order, id, unshipped, returned }])
            }
            Command::Receive { location, quantity, from_incoming, reason } => {
                positive(*quantity)?;
                let level = self.level(location);
                if *from_incoming && level.incoming == 0 {
                    return Err(Rejection::NothingIncoming);
                }
                in_range(1, QUANTITY_MAX - level.on_hand, *quantity)?;
                let (location, quantity, reason) = (location.clone(), *quantity, reason.clone());
                let from_incoming = *from_incoming;
                Ok(vec![Event::Received { location, quantity, from_incoming, reason }])
            }
            Command::Expect { location, quantity, reason } => {
                let incoming = self.level(location).incoming;
                in_range(-incoming, QUANTITY_MAX - incoming, *quantity)?;
                let (location, reason) = (location.clone(), reason.clone());
                Ok(vec![Event::Expected { location, quantity: *quantity, reason }])
            }
            Command::Adjust { location, delta, reason } => {
                self.adjust(location, *delta, (reason, false), now)
            }
            Command::Set { location, on_hand, change_from, reason } => {
                let now_on_hand = self.level(location).on_hand;
                if change_from.is_some_and(|expected| expected != now_on_hand) {
                    return Err(Rejection::Changed { on_hand: now_on_hand });
                }
                within(0, *on_hand)?;
                let reason = reason.as_deref().unwrap_or(COUNTED);
                self.adjust(location, on_hand - now_on_hand, (reason, true), now)
            }
            Command::Transfer { from, to, quantity, reason } => {
                positive(*quantity)?;
                let mut events = self.freed(from, *quantity, now)?;
                if from == to {
                    return Ok(Vec::new());
                }
                in_range(1, QUANTITY_MAX - self.level(to).on_hand, *quantity)?;
                let (from, to, reason) = (from.clone(), to.clone(), reason.clone());
                events.push(Event::Transferred { from, to, quantity: *quantity, reason });
                Ok(events)
            }
        }
    }

    /// The events that drop expired holds, at most [`LAPSES_MAX`], or more until there is `enough`
    /// stock for the command; then, while there is not, holds that yield and have units where the
    /// command `needs` them, the oldest first; and the stock after these events.
    fn after_lapses(
        &self,
        now: Timestamp,
        enough: impl Fn(&Self) -> bool,
        needs: impl Fn(&Location) -> bool,
    ) -> (Vec<Event>, Cow<'_, Self>) {
        let mut after = Cow::Borrowed(self);
        let mut events = Vec::new();
        for (_, order) in self.lapses.iter().take_while(|(until, _)| *until <= now) {
            if events.len() >= LAPSES_MAX && enough(&after) {
                break;
            }
            let lapse = Event::Lapsed { order: *order };
            after.to_mut().evolve_event(&lapse, now);
            events.push(lapse);
        }
        let helps = |order: &&OrderId| {
            let hold = self.claims.get(*order).and_then(|claim| claim.hold.as_ref());
            hold.is_some_and(|hold| hold.parts.iter().any(|part| needs(&part.location)))
        };
        for order in self.yielding.iter().filter(helps) {
            if enough(&after) {
                break;
            }
            // It may have expired as well.
            if after.yielding.contains(order) {
                let lapse = Event::Lapsed { order: *order };
                after.to_mut().evolve_event(&lapse, now);
                events.push(lapse);
            }
        }
        (events, after)
    }

    /// The events that drop expired holds until `quantity` units can leave a location; none if they
    /// already can.
    fn freed(&self, location: &Location, quantity: i64, now: Timestamp) -> Decision {
        let enough = |stock: &Self| stock.level(location).sellable() >= quantity;
        if enough(self) {
            return Ok(Vec::new());
        }
        let (events, after) = self.after_lapses(now, enough, |at| at == location);
        if enough(&after) {
            return Ok(events);
        }
        let level = after.level(location);
        let committed = level.reserved + level.allocated;
        Err(Rejection::Committed { committed, on_hand: level.on_hand })
    }

    /// The events that drop expired holds, at most [`LAPSES_MAX`].
    pub(super) fn lapsed(&self, now: Timestamp) -> Vec<Event> {
        self.lapses
            .iter()
            .take_while(|(until, _)| *until <= now)
            .take(LAPSES_MAX)
            .map(|(_, order)| Event::Lapsed { order: *order })
            .collect()
    }

    /// The locations from which `quantity` units are taken: the first location that has all of
    /// them, or else what each has, in order of priority and then of name.
    fn choose(
        &self,
        quantity: i64,
        priority: &[Location],
        closed: &[Location],
    ) -> Vec<LocationUnits> {
        let named = priority.iter().filter(|location| self.levels.contains_key(*location));
        let others = self.levels.keys().filter(|location| !priority.contains(location));
        let open = |location: &&Location| !closed.contains(location);
        let order: Vec<&Location> = named.chain(others).filter(open).collect();
        if let Some(one) = order.iter().find(|at| self.level(at).sellable() >= quantity) {
            return vec![LocationUnits { location: (*one).clone(), quantity }];
        }
        let mut left = quantity;
        let mut parts = Vec::new();
        for location in order {
            let taken = self.level(location).sellable().min(left);
            if taken > 0 {
                parts.push(LocationUnits { location: location.clone(), quantity: taken });
                left -= taken;
            }
        }
        parts
    }

    fn reserve(&self, reserve: &Reserve, now: Timestamp) -> Decision {
        let Reserve { order, generation, quantity, hold_until, priority, closed } = reserve;
        if *quantity < 1 {
            return Err(Rejection::TooMany);
        }
        if let Some(claim) = self.claims.get(order) {
            if claim.released {
                return Err(Rejection::Released);
            }
            let same = claim.hold.is_some() && seeded_fault::active(SeededFault::GenerationIgnored);
            if claim.committed || same {
                return Ok(Vec::new());
            }
            if let Some(hold) = claim.hold.as_ref().filter(|hold| hold.hold_until > now) {
                if hold.generation >= *generation {
                    return Ok(Vec::new());
                }
                if hold.quantity() == *quantity {
                    let hold_until = hold.hold_until.max(*hold_until);
                    let generation = *generation;
                    return Ok(vec![Event::Extended { order: *order, generation, hold_until }]);
                }
            }
        }
        let mut events = Vec::new();
        let mut before = Cow::Borrowed(self);
        if self.claims.get(order).is_some_and(|claim| claim.hold.is_some()) {
            let lapse = Event::Lapsed { order: *order };
            before.to_mut().evolve_event(&lapse, now);
            events.push(lapse);
        }
        let enough = |stock: &Self| stock.free_units(closed) >= *quantity;
        let (lapses, after) = before.after_lapses(now, enough, |at| !closed.contains(at));
        events.extend(lapses);
        if !enough(&after) && !seeded_fault::active(SeededFault::ReservedUnseen) {
            let available = after.free_units(closed);
            let held = after.held_outside(closed, now);
            return Err(Rejection::OutOfStock { requested: *quantity, available, held });
        }
        events.push(Event::Reserved {
            order: *order,
            generation: *generation,
            parts: after.choose(*quantity, priority, closed),
            hold_until: *hold_until,
        });
        Ok(events)
    }

    fn commit(&self, order: OrderId, now: Timestamp) -> Decision {
        match self.claims.get(&order) {
            Some(claim) if claim.released => Err(Rejection::HoldLapsed),
            Some(claim) if claim.committed => Ok(Vec::new()),
            Some(Claim { hold: Some(hold), .. })
                if hold.hold_until > now
                    || seeded_fault::active(SeededFault::LapsedHoldAllocated) =>
            {
                Ok(vec![Event::Committed { order }])
            }
            _ => Err(Rejection::HoldLapsed),
        }
    }

    fn adjust(
        &self,
        location: &Location,
        delta: i64,
        (reason, counted): (&str, bool),
        now: Timestamp,
    ) -> Decision {
        let level = self.level(location);
        within(-QUANTITY_MAX, delta)?;
        in_range(-QUANTITY_MAX, QUANTITY_MAX - level.on_hand, delta)?;
        if delta == 0 && self.levels.contains_key(location) {
            return Ok(Vec::new());
        }
        let mut events = self.freed(location, -delta, now)?;
        let (location, reason) = (location.clone(), reason.to_owned());
        events.push(Event::Adjusted { location, delta, reason, counted });
        Ok(events)
    }

    /// Chooses `quantity` of the units that are allocated to an order, location by location.
    fn parts_of_allocation(
        &self,
        order: OrderId,
        quantity: i64,
    ) -> Result<Vec<LocationUnits>, Rejection> {
        let mut left = quantity;
        let mut parts = Vec::new();
        for part in self.claims.get(&order).map_or(&[][..], |claim| &claim.allocated) {
            let taken = part.quantity.min(left);
            if taken > 0 {
                parts.push(LocationUnits { location: part.location.clone(), quantity: taken });
                left -= taken;
            }
        }
        if left > 0 { Err(Rejection::NotAllocated { missing: left }) } else { Ok(parts) }
    }

    /// The locations for returned goods: first the location from which most units were sold.
    fn return_to(&self, quantity: i64) -> Vec<LocationUnits> {
        let mut left = quantity;
        let mut by_sold: Vec<_> = self.levels.iter().collect();
        by_sold.sort_by_key(|(_, level)| std::cmp::Reverse(level.sold));
        let mut parts = Vec::new();
        for (location, level) in by_sold {
            let taken = level.sold.min(left);
            if taken > 0 {
                parts.push(LocationUnits { location: location.clone(), quantity: taken });
                left -= taken;
            }
        }
        parts
    }
}

fn positive(quantity: i64) -> Result<(), Rejection> {
    within(1, quantity)
}

/// Checks a quantity against the levels to which it may lead.
fn in_range(least: i64, most: i64, quantity: i64) -> Result<(), Rejection> {
    if (least..=most).contains(&quantity) {
        Ok(())
    } else {
        Err(Rejection::OutOfRange { least, most })
    }
}

fn within(least: i64, quantity: i64) -> Result<(), Rejection> {
    if (least..=QUANTITY_MAX).contains(&quantity) { Ok(()) } else { Err(Rejection::TooMany) }
}
