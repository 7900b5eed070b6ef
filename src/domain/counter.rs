//! Counters, which issue numbers without gaps: each number is issued once, to one order.
//!
//! An order that draws again, because a crash interrupted it, gets the same number. Once an order
//! is known to have stored its number, the next draw removes the number from the counter's state.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::entity::{self, Asker, Issuer};
use super::id::OrderId;
use super::time::Timestamp;

/// The journal's id for the counter of order numbers.
#[must_use]
pub fn order_numbers() -> entity::EntityId {
    entity::EntityId::new("ctr_order_number")
}

/// A counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    last: i64,
    open: BTreeMap<OrderId, i64>,
}

impl Counter {
    /// The last number drawn, 0 if none was.
    #[must_use]
    pub const fn last(&self) -> i64 {
        self.last
    }

    /// The drawn numbers whose orders are not known to have stored them.
    #[must_use]
    pub const fn open(&self) -> &BTreeMap<OrderId, i64> {
        &self.open
    }
}

/// Draws the next number for an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Draw {
    /// The order that gets it.
    pub order: OrderId,
    /// Other orders that are known to have stored their numbers.
    pub arrived: Vec<OrderId>,
}

/// An event of a counter.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Event {
    /// An order got a number.
    Drawn {
        /// The order.
        order: OrderId,
        /// Its number, one more than the last.
        number: i64,
        /// Orders that have stored their numbers, which the counter therefore removes.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        arrived: Vec<OrderId>,
    },
}

impl entity::Event for Event {
    fn kind(&self) -> &'static str {
        self.into()
    }
}

/// Why a counter rejects a command: it never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {}

impl entity::Noun for Counter {
    const PREFIX: &'static str = "ctr";
    const NAME: &'static str = "counter";
    const STATE_VERSION: u32 = 1;

    type Command = Draw;
    type Event = Event;
    type Rejection = Rejection;
    type Effect = Infallible;

    fn may_issue(issuer: Issuer, _draw: &Draw) -> bool {
        issuer == Issuer::Shop
    }

    fn command_name(_command: &Draw) -> &'static str {
        "draw"
    }

    fn decide(&self, draw: &Draw, _now: Timestamp) -> Result<Vec<Event>, Rejection> {
        if self.open.contains_key(&draw.order) {
            return Ok(Vec::new());
        }
        let arrived =
            draw.arrived.iter().filter(|order| self.open.contains_key(order)).copied().collect();
        Ok(vec![Event::Drawn { order: draw.order, number: self.last + 1, arrived }])
    }

    fn evolve(&mut self, event: &Event, _at: Timestamp) {
        let Event::Drawn { order, number, arrived } = event;
        self.last = *number;
        for order in arrived {
            self.open.remove(order);
        }
        self.open.insert(*order, *number);
    }

    fn excerpt(asker: Asker<'_, Draw>) -> entity::Excerpt<Self> {
        let order = match asker {
            Asker::Command(draw) => Some(draw.order),
            Asker::Anyone | Asker::About(_) => None,
        };
        Arc::new(move |counter: &Self, _now| {
            let number = |order| Some((order, *counter.open.get(&order)?));
            Self { last: counter.last, open: order.and_then(number).into_iter().collect() }
        })
    }

    fn weight(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
    use uuid::Uuid;

    use super::*;
    use crate::domain::entity::Noun;
    use crate::domain::id::Key;

    #[test]
    fn each_order_gets_one_number_and_no_number_is_left_out() {
        let order = |n: u128| OrderId(Key::new(Uuid::from_u128(n)));
        let mut counter = Counter::default();
        for (wanted, arrived, number) in
            [(1, vec![], 1), (2, vec![], 2), (1, vec![2], 1), (3, vec![1, 9], 3), (2, vec![], 2)]
        {
            let arrived = arrived.into_iter().map(order).collect();
            let draw = Draw { order: order(wanted), arrived };
            let Ok(events) = counter.decide(&draw, Timestamp::default());
            for event in &events {
                counter.evolve(event, Timestamp::default());
            }
            assert_eq!(counter.open().get(&order(wanted)), Some(&number));
        }
        assert_eq!((counter.last(), counter.weight()), (3, 2));
        let told = Counter::excerpt(Asker::Command(&Draw { order: order(3), arrived: vec![] }))(
            &counter,
            Timestamp::default(),
        );
        assert_eq!((told.last(), told.open()), (3, &[(order(3), 3)].into()));
        let text = serde_json::to_string(&counter).unwrap();
        assert_eq!(serde_json::from_str::<Counter>(&text).unwrap(), counter);
    }

    /// The order that draws, and the orders that have stored their numbers.
    type Step = (usize, Vec<usize>);

    /// All draws in order (the index gives the number), and the orders that have stored theirs.
    #[derive(Clone, Debug, Default)]
    struct Draws {
        all: Vec<usize>,
        arrived: BTreeSet<usize>,
    }

    impl ReferenceStateMachine for Draws {
        type State = Self;
        type Transition = Step;

        fn init_state() -> BoxedStrategy<Self> {
            Just(Self::default()).boxed()
        }

        fn transitions(_: &Self) -> BoxedStrategy<Step> {
            (0_usize..6, prop::collection::vec(0_usize..8, 0..3)).boxed()
        }

        fn apply(mut draws: Self, (who, arrived): &Step) -> Self {
            if !draws.all.contains(who) || draws.arrived.contains(who) {
                draws.arrived.extend(arrived.iter().filter(|one| draws.all.contains(one)));
                draws.arrived.remove(who);
                draws.all.push(*who);
            }
            draws
        }
    }

    struct Subject;

    impl StateMachineTest for Subject {
        type SystemUnderTest = Counter;
        type Reference = Draws;

        fn init_test(_: &Draws) -> Counter {
            Counter::default()
        }

        fn apply(mut counter: Counter, draws: &Draws, (who, arrived): Step) -> Counter {
            let order = |n: usize| OrderId(Key::new(Uuid::from_u128(n as u128)));
            let draw =
                Draw { order: order(who), arrived: arrived.into_iter().map(order).collect() };
            let Ok(events) = counter.decide(&draw, Timestamp::default());
            for event in events {
                let text = serde_json::to_string(&event).unwrap();
                counter.evolve(&serde_json::from_str(&text).unwrap(), Timestamp::default());
            }
            let last = draws.all.iter().rposition(|one| *one == who).expect("it drew");
            assert_eq!(counter.open().get(&order(who)), Some(&(last as i64 + 1)));
            counter
        }

        fn check_invariants(counter: &Counter, draws: &Draws) {
            assert_eq!(counter.last(), draws.all.len() as i64, "a number is left out");
            let open: BTreeSet<_> =
                draws.all.iter().filter(|one| !draws.arrived.contains(one)).collect();
            assert_eq!(counter.weight(), open.len(), "who is remembered");
        }
    }

    prop_state_machine! {
        #![proptest_config(ProptestConfig {
            cases: ProptestConfig::default().cases.max(300),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn counter_agrees_with_the_list_model(sequential 1..30 => Subject);
    }
}
