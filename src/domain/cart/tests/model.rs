//! Property test: random commands on one cart, over simulated weeks, are compared with a model, a
//! plain list of lines and a count of changes.

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;
use crate::domain::sealed;

/// A SKU with its agreed price, and units of it.
type Item = (&'static str, Option<&'static str>, i64);
/// A line: its id, SKU, agreed price and units.
type Row = (u32, String, Option<&'static str>, i64);

/// A step of the test.
#[derive(Clone, Debug)]
enum Step {
    WaitDays(i64),
    Create(Vec<Item>),
    Add(Vec<Item>),
    /// Adds this many lines, each of another SKU.
    AddMany(usize),
    SetQuantity(u32, i64),
    Remove(u32),
    Email(Option<&'static str>),
    Reference(Option<&'static str>),
    SayNothing,
    Spend(u128),
}

fn many(count: usize) -> Vec<NewLine> {
    (0..count).map(|n| new(&format!("S{n}"), 1)).collect()
}

fn items(items: &[Item]) -> Vec<NewLine> {
    let line = |(sku, price, units): &Item| match price {
        Some(price) => agreed(sku, *units, price),
        None => new(sku, *units),
    };
    items.iter().map(line).collect()
}

impl Step {
    fn command(&self) -> Option<Command> {
        Some(match self {
            Self::WaitDays(_) => return None,
            Self::Create(lines) => create(items(lines)),
            Self::Add(lines) => super::add(items(lines)),
            Self::AddMany(count) => super::add(many(*count)),
            Self::SetQuantity(line, units) => amount(*line, *units),
            Self::Remove(line) => remove(*line),
            Self::Email(text) => email(*text),
            Self::Reference(text) => {
                let reference = Some(text.map(sealed::any));
                let details = Details { reference, ..Details::default() };
                Command::Update { details: Box::new(details), key: None }
            }
            Self::SayNothing => Command::Update { details: Box::default(), key: None },
            Self::Spend(order) => spend(*order),
        })
    }
}

/// The model of a cart.
#[derive(Clone, Debug, Default)]
struct List {
    day: i64,
    there: bool,
    touched: i64,
    rows: Vec<Row>,
    ids: u32,
    email: Option<&'static str>,
    reference: Option<&'static str>,
    spent: Option<u128>,
    changes: usize,
    /// Whether the last step had to change something, or why it had to be rejected.
    outcome: Option<Result<bool, Rejection>>,
}

fn owned(lines: &[Item]) -> impl Iterator<Item = (String, Option<&'static str>, i64)> {
    lines.iter().map(|(sku, price, units)| ((*sku).to_owned(), *price, *units))
}

impl List {
    fn open(&self) -> Result<(), Rejection> {
        match self.spent {
            _ if !self.there => Err(Rejection::NotFound),
            Some(number) => Err(Rejection::Spent { order: order(number) }),
            None if self.day >= self.touched + 30 => Err(Rejection::Expired),
            None => Ok(()),
        }
    }

    fn units(&mut self, line: u32) -> Result<&mut i64, Rejection> {
        let row = self.rows.iter_mut().find(|(id, ..)| *id == line);
        row.map(|(.., units)| units).ok_or(Rejection::UnknownLine { line })
    }

    /// Adds a line, or adds units to the existing line; the answer is how many units that line could
    /// take, if these are too many.
    fn put(
        &mut self,
        sku: String,
        price: Option<&'static str>,
        units: i64,
    ) -> Result<Option<i64>, Rejection> {
        if !(1..=QUANTITY_MAX).contains(&units) {
            return Err(Rejection::Quantity);
        }
        if let Some((.., there)) = self.rows.iter_mut().find(|row| row.1 == sku && row.2 == price) {
            let left = (QUANTITY_MAX - *there).max(0);
            *there += units;
            return Ok((units > left).then_some(left));
        }
        self.ids += 1;
        self.rows.push((self.ids, sku, price, units));
        Ok(None)
    }

    fn add(
        &mut self,
        lines: impl Iterator<Item = (String, Option<&'static str>, i64)>,
    ) -> Result<(), Rejection> {
        let mut full = Vec::new();
        for (index, (sku, price, units)) in lines.enumerate() {
            let left = self.put(sku, price, units)?;
            full.extend(left.map(|left| FullLine { index, left }));
        }
        if full.is_empty() { self.not_too_many() } else { Err(Rejection::TooManyUnits { full }) }
    }

    fn not_too_many(&self) -> Result<(), Rejection> {
        if self.rows.len() > LINES_MAX {
            Err(Rejection::TooManyLines { lines_max: LINES_MAX })
        } else {
            Ok(())
        }
    }

    /// The outcome of a step; on `Err` the list is discarded.
    fn take(&mut self, step: &Step) -> Result<bool, Rejection> {
        match step {
            Step::WaitDays(days) => {
                self.day += days;
                return Ok(false);
            }
            Step::Create(_) if self.there => return Err(Rejection::Exists),
            Step::Create(lines) => {
                self.there = true;
                self.add(owned(lines))?;
            }
            Step::Spend(order) if self.there && self.spent.is_none_or(|spent| spent == *order) => {
                return Ok(self.spent.replace(*order).is_none());
            }
            _ => return self.open().and_then(|()| self.change(step)),
        }
        Ok(true)
    }

    fn change(&mut self, step: &Step) -> Result<bool, Rejection> {
        match step {
            Step::Add(lines) if lines.is_empty() => return Ok(false),
            Step::Add(lines) => self.add(owned(lines))?,
            Step::AddMany(count) => {
                self.add((0..*count).map(|n| (format!("S{n}"), None, 1)))?;
            }
            Step::SetQuantity(line, units) => {
                let agreed = self.rows.iter().any(|row| row.0 == *line && row.2.is_some());
                let there = self.units(*line)?;
                if !(1..=QUANTITY_MAX).contains(units) {
                    return Err(Rejection::Quantity);
                }
                if agreed && there != units {
                    return Err(Rejection::AgreedQuantity { quantity: *there });
                }
                return Ok(std::mem::replace(there, *units) != *units);
            }
            Step::Remove(line) => {
                self.units(*line)?;
                self.rows.retain(|(id, ..)| id != line);
            }
            Step::Email(text) => self.email = *text,
            Step::Reference(text) => self.reference = *text,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl ReferenceStateMachine for List {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(list: &Self) -> BoxedStrategy<Step> {
        let sku = prop::sample::select(vec!["A", "B", "C", "D"]);
        let price = prop::option::weighted(0.2, prop::sample::select(vec!["5.5", "6"]));
        let edge = vec![0, -1, QUANTITY_MAX, QUANTITY_MAX + 1, i64::MIN, i64::MAX];
        let units = prop_oneof![20 => 1_i64..9, 1 => prop::sample::select(edge)].boxed();
        let lines = prop::collection::vec((sku, price, units.clone()), 0..4).boxed();
        let line = || 1_u32..9;
        let text = || prop::option::of(prop::sample::select(vec!["a@example.com", "x"]));
        let make = if list.there { 10 } else { 200 };
        prop_oneof![
            30 => (1_i64..20).prop_map(Step::WaitDays),
            make => lines.clone().prop_map(Step::Create),
            80 => lines.prop_map(Step::Add),
            // Rarely, because so many lines are slow to compare.
            1 => prop::sample::select(vec![LINES_MAX - 1, LINES_MAX, LINES_MAX + 1])
                .prop_map(Step::AddMany),
            40 => (line(), units).prop_map(|(line, units)| Step::SetQuantity(line, units)),
            30 => line().prop_map(Step::Remove),
            20 => text().prop_map(Step::Email),
            10 => text().prop_map(Step::Reference),
            10 => Just(Step::SayNothing),
            10 => (1_u128..3).prop_map(Step::Spend),
        ]
        .boxed()
    }

    fn apply(before: Self, step: &Step) -> Self {
        let mut list = before.clone();
        let outcome = list.take(step);
        match &outcome {
            Ok(true) => (list.touched, list.changes) = (list.day, list.changes + 1),
            Ok(false) => {}
            Err(_) => list = before,
        }
        list.outcome = Some(outcome);
        list
    }
}

/// The cart, and all events since its beginning.
#[derive(Default)]
struct Subject {
    cart: Cart,
    journal: Vec<(String, Timestamp)>,
}

impl StateMachineTest for Subject {
    type SystemUnderTest = Self;
    type Reference = List;

    fn init_test(_: &List) -> Self {
        Self::default()
    }

    fn apply(mut subject: Self, list: &List, step: Step) -> Self {
        let Some(command) = step.command() else { return subject };
        let now = Timestamp::from_millis(list.day * DAY);
        let outcome = subject.cart.decide(&command, now);
        let changes = outcome.clone().map(|events| !events.is_empty());
        assert_eq!(Some(changes), list.outcome, "{step:?}");
        for event in outcome.unwrap_or_default() {
            subject.cart.evolve(&event, now);
            subject.journal.push((serde_json::to_string(&event).unwrap(), now));
        }
        subject
    }

    fn check_invariants(Subject { cart, journal }: &Self, list: &List) {
        let shown = |line: &Line| (line.id, line.sku.to_string(), line.agreed_price, line.quantity);
        let price = |text: &str| text.parse().unwrap();
        let row = |row: &Row| (row.0, row.1.clone(), row.2.map(price), row.3);
        let (ours, theirs): (Vec<_>, Vec<_>) =
            (cart.lines().iter().map(shown).collect(), list.rows.iter().map(row).collect());
        assert_eq!(ours, theirs);
        let known = (list.email.map(sealed::any), list.reference.map(sealed::any));
        assert_eq!((cart.email().cloned(), cart.reference().cloned()), known);
        assert_eq!(cart.spent_on(), list.spent.map(order));
        assert_eq!(cart.currency().is_some(), list.there);
        assert_eq!(journal.len(), list.changes, "its version");
        let now = Timestamp::from_millis(list.day * DAY);
        assert_eq!(cart.open(now), list.open());
        assert_eq!(cart.expires_at(), Timestamp::from_millis((list.touched + 30) * DAY));
        let copy = serde_json::to_string(cart).unwrap();
        assert_eq!(serde_json::from_str::<Cart>(&copy).unwrap(), *cart, "a snapshot is a copy");
    }

    fn teardown(subject: Self, _: List) {
        let mut again = Cart::default();
        for (text, at) in &subject.journal {
            again.evolve(&serde_json::from_str(text).unwrap(), *at);
        }
        assert_eq!(again, subject.cart, "its events fold to another cart");
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(400),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn cart_agrees_with_the_list_model(sequential 1..40 => Subject);
}
