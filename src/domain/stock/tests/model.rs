//! Property test: random commands of several orders and operators, late, twice and out of order,
//! are compared with a model that is computed differently: maps of units, without events.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;

type Place = &'static str;
/// Units by location, in the order in which they are taken.
type Units = Vec<(Place, i64)>;

/// A step of the test; times are in seconds.
#[derive(Clone, Debug)]
enum Step {
    Wait(i64),
    Timer,
    Receive { at: Place, units: i64, announced: bool },
    Expect { at: Place, units: i64 },
    Set { at: Place, units: i64, from: Option<i64> },
    Adjust { at: Place, units: i64 },
    Transfer { from: Place, to: Place, units: i64 },
    Reserve { order: u32, generation: u32, units: i64, secs: i64 },
    Yield { order: u32, generation: u32 },
    Commit { order: u32 },
    Release { order: u32 },
    Ship { order: u32, id: u32, units: i64 },
    TakeBack { order: u32, id: u32, unshipped: i64, shipped: i64, restock: bool },
}

impl Step {
    fn command(&self, now: i64) -> Option<Command> {
        Some(match *self {
            Self::Wait(_) | Self::Timer => return None,
            Self::Receive { at, units, announced } => receive(at, units, announced),
            Self::Expect { at, units } => expect(at, units),
            Self::Set { at, units, from } => Command::Set {
                location: place(at),
                on_hand: units,
                change_from: from,
                reason: None,
            },
            Self::Adjust { at, units } => adjust(at, units),
            Self::Transfer { from, to, units } => transfer(from, to, units),
            Self::Reserve { order, generation, units, secs } => {
                reserve(order, generation, units, now + secs * SEC)
            }
            Self::Yield { order, generation } => yields(order, generation),
            Self::Commit { order } => commit(order),
            Self::Release { order } => release(order),
            Self::Ship { order, id, units } => ship(order, &id.to_string(), units),
            Self::TakeBack { order, id, unshipped, shipped, restock } => {
                take_back(order, &id.to_string(), unshipped, shipped, restock)
            }
        })
    }
}

#[derive(Clone, Debug)]
struct Held {
    generation: u32,
    until: i64,
    units: Units,
    yields: bool,
}

/// The claims of one order.
#[derive(Clone, Debug, Default)]
struct Entry {
    held: Option<Held>,
    allocated: Units,
    committed: bool,
    released: bool,
    shipped: BTreeSet<u32>,
    returned: BTreeSet<u32>,
}

/// The model of a stock.
#[derive(Clone, Debug)]
struct Book {
    now: i64,
    on_hand: BTreeMap<Place, i64>,
    incoming: BTreeMap<Place, i64>,
    sold: BTreeMap<Place, i64>,
    /// All units ever received or found, less those lost or written off.
    came: BTreeMap<Place, i64>,
    orders: BTreeMap<u32, Entry>,
    /// The required outcome of the last step.
    outcome: Result<(), Rejection>,
}

fn sum(units: &Units) -> i64 {
    units.iter().map(|(_, units)| units).sum()
}

fn get(map: &BTreeMap<Place, i64>, at: Place) -> i64 {
    map.get(at).copied().unwrap_or(0)
}

fn add(map: &mut BTreeMap<Place, i64>, at: Place, units: i64) {
    *map.entry(at).or_insert(0) += units;
}

fn within(least: i64, units: i64) -> Result<(), Rejection> {
    if (least..=QUANTITY_MAX).contains(&units) { Ok(()) } else { Err(Rejection::TooMany) }
}

fn in_range(least: i64, most: i64, units: i64) -> Result<(), Rejection> {
    let fits = (least..=most).contains(&units);
    if fits { Ok(()) } else { Err(Rejection::OutOfRange { least, most }) }
}

/// Takes units from the first locations; the error is the number of missing units.
fn take_from(units: &mut Units, mut wanted: i64) -> Result<Units, i64> {
    let missing = wanted - sum(units);
    if missing > 0 {
        return Err(missing);
    }
    let mut taken = Vec::new();
    for (at, there) in units.iter_mut() {
        let part = wanted.min(*there);
        *there -= part;
        wanted -= part;
        taken.push((*at, part));
    }
    units.retain(|(_, there)| *there > 0);
    Ok(taken)
}

impl Book {
    /// The units at a location that are allocated or held.
    fn promised(&self, at: Place) -> i64 {
        let here = |units: &Units| -> i64 {
            units.iter().filter(|(place, _)| *place == at).map(|(_, units)| units).sum()
        };
        let of = |entry: &Entry| {
            here(&entry.allocated) + entry.held.as_ref().map_or(0, |held| here(&held.units))
        };
        self.orders.values().map(of).sum()
    }

    fn free(&self, at: Place) -> i64 {
        get(&self.on_hand, at) - self.promised(at)
    }

    fn all_free(&self) -> i64 {
        self.on_hand.keys().map(|at| self.free(at)).sum()
    }

    /// The units that are held, of orders whose holds yield or do not.
    fn held(&self, yields: bool) -> i64 {
        let holds = self.orders.values().filter_map(|entry| entry.held.as_ref());
        holds.filter(|held| held.yields == yields).map(|held| sum(&held.units)).sum()
    }

    fn sellable(&self) -> i64 {
        self.all_free() + self.held(true)
    }

    /// The book after holds that yield have gone, the oldest first, until there is enough: only those
    /// with units `at` this place, if one is given.
    fn with_room(&self, at: Option<Place>, enough: impl Fn(&Self) -> bool) -> Self {
        let mut after = self.clone();
        let here =
            |held: &Held| held.units.iter().any(|(place, _)| at.is_none_or(|at| at == *place));
        for number in self.orders.keys() {
            if !enough(&after) {
                let held = &mut after.orders.get_mut(number).unwrap().held;
                held.take_if(|held| held.yields && here(held));
            }
        }
        after
    }

    /// Chooses the locations of a reservation: the first one that has all units, or else what each
    /// has. `main` comes first, the others follow by name.
    fn choose(&self, units: i64) -> Units {
        let others = self.on_hand.keys().filter(|at| **at != "main");
        let places: Vec<Place> = ["main"].into_iter().chain(others.copied()).collect();
        if let Some(at) = places.iter().find(|at| self.free(at) >= units) {
            return vec![(*at, units)];
        }
        let mut free = places.into_iter().map(|at| (at, self.free(at))).collect();
        let mut taken = take_from(&mut free, units).expect("there is enough");
        taken.retain(|(_, units)| *units > 0);
        taken
    }

    /// Makes room for this number of units to leave a location.
    fn leave(&mut self, at: Place, units: i64) -> Result<(), Rejection> {
        let after = self.with_room(Some(at), |book| book.free(at) >= units);
        if after.free(at) >= units {
            *self = after;
            return Ok(());
        }
        let (committed, on_hand) = (after.promised(at), get(&self.on_hand, at));
        Err(Rejection::Committed { committed, on_hand })
    }

    fn wait(&mut self, millis: i64) {
        self.now += millis;
        for entry in self.orders.values_mut() {
            entry.held.take_if(|held| held.until <= self.now);
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), Rejection> {
        match *step {
            Step::Wait(secs) => self.wait(secs * SEC),
            Step::Timer => {}
            Step::Receive { at, units, announced } => {
                within(1, units)?;
                if announced && get(&self.incoming, at) == 0 {
                    return Err(Rejection::NothingIncoming);
                }
                in_range(1, QUANTITY_MAX - get(&self.on_hand, at), units)?;
                add(&mut self.on_hand, at, units);
                add(&mut self.came, at, units);
                if announced {
                    let left = get(&self.incoming, at) - units;
                    self.incoming.insert(at, left.max(0));
                }
            }
            Step::Expect { at, units } => {
                let there = get(&self.incoming, at);
                in_range(-there, QUANTITY_MAX - there, units)?;
                add(&mut self.incoming, at, units);
            }
            Step::Set { at, units, from } => {
                let on_hand = get(&self.on_hand, at);
                if from.is_some_and(|from| from != on_hand) {
                    return Err(Rejection::Changed { on_hand });
                }
                within(0, units)?;
                self.adjust(at, units - on_hand)?;
            }
            Step::Adjust { at, units } => self.adjust(at, units)?,
            Step::Transfer { from, to, units } => {
                within(1, units)?;
                let before = self.clone();
                self.leave(from, units)?;
                if from == to {
                    *self = before;
                } else {
                    if let Err(error) = in_range(1, QUANTITY_MAX - get(&self.on_hand, to), units) {
                        *self = before;
                        return Err(error);
                    }
                    for (at, units) in [(from, -units), (to, units)] {
                        add(&mut self.on_hand, at, units);
                        add(&mut self.came, at, units);
                    }
                }
            }
            _ => self.take_of_order(step)?,
        }
        Ok(())
    }

    fn adjust(&mut self, at: Place, units: i64) -> Result<(), Rejection> {
        within(-QUANTITY_MAX, units)?;
        in_range(-QUANTITY_MAX, QUANTITY_MAX - get(&self.on_hand, at), units)?;
        self.leave(at, -units)?;
        add(&mut self.on_hand, at, units);
        add(&mut self.came, at, units);
        Ok(())
    }

    fn take_of_order(&mut self, step: &Step) -> Result<(), Rejection> {
        match *step {
            Step::Reserve { order, generation, units, secs } => {
                self.reserve(order, generation, units, self.now + secs * SEC)
            }
            Step::Yield { order, generation } => {
                let held = &mut self.orders.entry(order).or_default().held;
                if let Some(held) = held
                    && held.generation == generation
                {
                    held.yields = true;
                }
                Ok(())
            }
            Step::Commit { order } => {
                let entry = self.orders.entry(order).or_default();
                match entry.held.take() {
                    _ if entry.released => Err(Rejection::HoldLapsed),
                    None if entry.committed => Ok(()),
                    None => Err(Rejection::HoldLapsed),
                    Some(held) => {
                        (entry.allocated, entry.committed) = (held.units, true);
                        Ok(())
                    }
                }
            }
            Step::Release { order } => {
                let entry = self.orders.entry(order).or_default();
                (entry.held, entry.allocated, entry.released) = (None, Vec::new(), true);
                Ok(())
            }
            Step::Ship { order, id, units } => {
                let entry = self.orders.entry(order).or_default();
                if entry.shipped.contains(&id) {
                    return Ok(());
                }
                within(1, units)?;
                let gone = take_from(&mut entry.allocated, units)
                    .map_err(|missing| Rejection::NotAllocated { missing })?;
                entry.shipped.insert(id);
                for (at, units) in gone {
                    add(&mut self.on_hand, at, -units);
                    add(&mut self.sold, at, units);
                }
                Ok(())
            }
            Step::TakeBack { order, id, unshipped, shipped, restock } => {
                self.take_back(order, id, (unshipped, shipped), restock)
            }
            _ => Ok(()),
        }
    }

    fn reserve(
        &mut self,
        order: u32,
        generation: u32,
        units: i64,
        until: i64,
    ) -> Result<(), Rejection> {
        if units < 1 {
            return Err(Rejection::TooMany);
        }
        let entry = self.orders.entry(order).or_default();
        if entry.released {
            return Err(Rejection::Released);
        }
        if entry.committed {
            return Ok(());
        }
        if let Some(held) = &mut entry.held {
            if generation <= held.generation {
                return Ok(());
            }
            if sum(&held.units) == units {
                (held.generation, held.until) = (generation, held.until.max(until));
                held.yields = false;
                return Ok(());
            }
        }
        let before = self.clone();
        self.orders.entry(order).or_default().held = None;
        *self = self.with_room(None, |book| book.all_free() >= units);
        let (available, held) = (self.all_free(), self.held(false));
        if available < units {
            *self = before;
            return Err(Rejection::OutOfStock { requested: units, available, held });
        }
        let held = Held { generation, until, units: self.choose(units), yields: false };
        self.orders.entry(order).or_default().held = Some(held);
        self.wait(0);
        Ok(())
    }

    fn take_back(
        &mut self,
        order: u32,
        id: u32,
        (unshipped, shipped): (i64, i64),
        restock: bool,
    ) -> Result<(), Rejection> {
        let entry = self.orders.entry(order).or_default();
        if entry.returned.contains(&id) {
            return Ok(());
        }
        within(0, unshipped)?;
        within(0, shipped)?;
        let freed = take_from(&mut entry.allocated, unshipped)
            .map_err(|missing| Rejection::NotAllocated { missing })?;
        entry.returned.insert(id);
        if !restock {
            for (at, units) in freed {
                add(&mut self.on_hand, at, -units);
                add(&mut self.came, at, -units);
            }
            return Ok(());
        }
        // Goods are returned first to the location from which most units were sold.
        let mut sold: Units = self.sold.iter().map(|(at, units)| (*at, *units)).collect();
        sold.sort_by_key(|(_, units)| -units);
        let back = shipped.min(sum(&sold));
        for (at, units) in take_from(&mut sold, back).expect("so much was sold") {
            add(&mut self.on_hand, at, units);
            add(&mut self.sold, at, -units);
        }
        Ok(())
    }
}

impl ReferenceStateMachine for Book {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self {
            now: 0,
            on_hand: BTreeMap::new(),
            incoming: BTreeMap::new(),
            sold: BTreeMap::new(),
            came: BTreeMap::new(),
            orders: BTreeMap::new(),
            outcome: Ok(()),
        })
        .boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let order = || 1_u32..5;
        let id = || 1_u32..4;
        let at = || prop::sample::select(vec!["main", "attic", "shop"]);
        let edge = vec![0, -1, QUANTITY_MAX, QUANTITY_MAX + 1, i64::MIN, i64::MAX];
        let units = move || prop_oneof![30 => 1_i64..6, 1 => prop::sample::select(edge.clone())];
        let few = || 0_i64..3;
        prop_oneof![
            4 => (1_i64..1_200).prop_map(Step::Wait),
            2 => Just(Step::Timer),
            4 => (at(), units(), any::<bool>())
                .prop_map(|(at, units, announced)| Step::Receive { at, units, announced }),
            1 => (at(), -3_i64..6).prop_map(|(at, units)| Step::Expect { at, units }),
            2 => (at(), units(), prop::option::weighted(0.2, 0_i64..6))
                .prop_map(|(at, units, from)| Step::Set { at, units, from }),
            2 => (at(), -4_i64..5).prop_map(|(at, units)| Step::Adjust { at, units }),
            1 => (at(), units()).prop_map(|(at, units)| Step::Adjust { at, units }),
            2 => (at(), at(), units()).prop_map(|(from, to, units)| Step::Transfer { from, to, units }),
            10 => (order(), 1_u32..4, units(), 0_i64..1_500).prop_map(
                |(order, generation, units, secs)| Step::Reserve { order, generation, units, secs }
            ),
            4 => (order(), 1_u32..4)
                .prop_map(|(order, generation)| Step::Yield { order, generation }),
            6 => order().prop_map(|order| Step::Commit { order }),
            2 => order().prop_map(|order| Step::Release { order }),
            4 => (order(), id(), units())
                .prop_map(|(order, id, units)| Step::Ship { order, id, units }),
            3 => (order(), id(), few(), few(), any::<bool>()).prop_map(
                |(order, id, unshipped, shipped, restock)| {
                    Step::TakeBack { order, id, unshipped, shipped, restock }
                }
            ),
        ]
        .boxed()
    }

    fn apply(mut book: Self, step: &Step) -> Self {
        book.outcome = book.take(step);
        book
    }
}

/// The stock, and all events since its beginning.
struct Subject {
    stock: Stock,
    journal: Vec<(String, i64)>,
}

impl Subject {
    fn tell(&mut self, events: Vec<Event>, now: i64) {
        apply(&mut self.stock, now, &events);
        let text = |event: &Event| (serde_json::to_string(event).unwrap(), now);
        self.journal.extend(events.iter().map(text));
    }
}

impl StateMachineTest for Subject {
    type SystemUnderTest = Self;
    type Reference = Book;

    fn init_test(_: &Book) -> Self {
        Self { stock: Stock::default(), journal: Vec::new() }
    }

    fn apply(mut subject: Self, book: &Book, step: Step) -> Self {
        let outcome = match step.command(book.now) {
            Some(command) => subject.stock.decide(&command, at(book.now)),
            None if matches!(step, Step::Timer) => Ok(subject.stock.on_timer(at(book.now))),
            None => Ok(Vec::new()),
        };
        assert_eq!(outcome.as_ref().map(drop), book.outcome.as_ref().map(drop), "{step:?}");
        subject.tell(outcome.unwrap_or_default(), book.now);
        if matches!(step, Step::Timer) {
            let lapsed = |(_, hold): (OrderId, &Hold)| hold.hold_until <= at(book.now);
            assert!(!subject.stock.holds().any(lapsed), "a hold outlives its timer");
        }
        subject
    }

    fn check_invariants(subject: &Self, book: &Book) {
        let stock = &subject.stock;
        assert_eq!(stock.sellable(at(book.now)), book.sellable(), "sellable");
        assert!(book.sellable() >= 0, "oversold");
        for name in ["main", "attic", "shop"] {
            let level = stock.level(&place(name));
            let Level { on_hand, incoming, sold, received, reserved, allocated } = level;
            let ours = [&book.on_hand, &book.incoming, &book.sold, &book.came];
            assert_eq!(
                [on_hand, incoming, sold, received],
                ours.map(|map| get(map, name)),
                "{name}"
            );
            assert_eq!(level.sellable() + reserved + allocated + sold, get(&book.came, name));
            assert!(level.sound(), "{name}: {level:?}");
            assert!(reserved + allocated >= book.promised(name), "{name}: {level:?}");
        }
        let live = stock.holds().filter(|(_, hold)| hold.hold_until > at(book.now));
        let live: BTreeMap<_, _> = live.map(|(order, hold)| (order, hold.quantity())).collect();
        let held = |(number, entry): (&u32, &Entry)| {
            Some((order(*number), sum(&entry.held.as_ref()?.units)))
        };
        assert_eq!(live, book.orders.iter().filter_map(held).collect(), "holds");
        assert_eq!(stock.timer(), stock.holds().map(|(_, hold)| hold.hold_until).min());
        let copy = serde_json::to_string(stock).unwrap();
        assert_eq!(serde_json::from_str::<Stock>(&copy).unwrap(), *stock, "a snapshot is a copy");
    }

    fn teardown(subject: Self, _: Book) {
        let mut again = Stock::default();
        for (text, now) in &subject.journal {
            again.evolve(&serde_json::from_str(text).unwrap(), at(*now));
        }
        assert_eq!(again, subject.stock, "its events lead elsewhere");
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn stock_agrees_with_the_model(sequential 1..60 => Subject);
}
