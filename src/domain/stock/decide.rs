//! What a command leads to. Pure: the same stock, command and moment give the same events.

use super::{
    Claim, Command, Event, LAPSES_MAX, Location, Part, QUANTITY_MAX, Rejection, Reserve, Stock,
};
use crate::domain::entity;
use crate::domain::id::OrderId;
use crate::domain::time::Timestamp;

type Decision = Result<Vec<Event>, Rejection>;

impl Stock {
    pub(super) fn decide_command(&self, command: &Command, now: Timestamp) -> Decision {
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

    fn done(&self, order: OrderId, id: &str) -> bool {
        self.claims.get(&order).is_some_and(|claim| claim.done.iter().any(|done| done == id))
    }

    /// The holds that are past their time.
    pub(super) fn lapsed(&self, now: Timestamp) -> Vec<Event> {
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

    fn reserve(&self, reserve: &Reserve, now: Timestamp) -> Decision {
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

    fn commit(&self, order: OrderId, now: Timestamp) -> Decision {
        let claim = self.claims.get(&order);
        match claim {
            Some(claim) if !claim.allocated.is_empty() => Ok(Vec::new()),
            Some(Claim { hold: Some(hold), .. }) if hold.hold_until > now => {
                Ok(vec![Event::Committed { order }])
            }
            _ => Err(Rejection::HoldLapsed),
        }
    }

    fn adjust(&self, location: &Location, delta: i64, reason: &str) -> Decision {
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

fn positive(quantity: i64) -> Result<(), Rejection> {
    if (1..=QUANTITY_MAX).contains(&quantity) { Ok(()) } else { Err(Rejection::TooMany) }
}
