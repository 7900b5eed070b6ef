//! Random commands of several orders, late, twice and out of order, against a second book that
//! is kept in another way.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What one order has, as the second book knows it.
#[derive(Clone, Debug, Default)]
struct Entry {
    held: i64,
    until: i64,
    generation: u32,
    allocated: i64,
    committed: bool,
    released: bool,
    done: Vec<String>,
}

/// The second book: one number of units in the house, and an entry for each order.
#[derive(Clone, Debug, Default)]
struct Book {
    on_hand: i64,
    shipped: i64,
    entries: BTreeMap<OrderId, Entry>,
}

impl Book {
    fn sellable(&self, now: i64) -> i64 {
        let taken = |one: &Entry| one.allocated + if one.until > now { one.held } else { 0 };
        self.on_hand - self.entries.values().map(taken).sum::<i64>()
    }

    /// Whether the command is carried out, or was before.
    fn take(&mut self, now: i64, command: &Command) -> bool {
        let sellable = self.sellable(now);
        let (Command::Reserve(Reserve { order, .. })
        | Command::Commit { order }
        | Command::Release { order }
        | Command::Ship { order, .. }
        | Command::TakeBack { order, .. }) = command
        else {
            if let Command::Receive { quantity, .. } = command {
                self.on_hand += quantity;
            }
            return true;
        };
        let entry = self.entries.entry(*order).or_default();
        let live = entry.held > 0 && entry.until > now;
        match command {
            Command::Reserve(Reserve { generation, quantity, hold_until, .. }) => {
                if entry.released {
                    return false;
                }
                if entry.committed || (live && entry.generation >= *generation) {
                    return true;
                }
                let own = if live { entry.held } else { 0 };
                if sellable + own < *quantity {
                    return false;
                }
                let same = live && own == *quantity;
                let least = if same { entry.until } else { 0 };
                entry.until = hold_until.millis().max(least);
                (entry.held, entry.generation) = (*quantity, *generation);
            }
            Command::Commit { .. } => {
                if entry.released || !(entry.committed || live) {
                    return false;
                }
                if !entry.committed {
                    (entry.allocated, entry.held, entry.committed) = (entry.held, 0, true);
                }
            }
            Command::Release { .. } => {
                (entry.held, entry.allocated, entry.released) = (0, 0, true);
            }
            _ => return self.move_goods(*order, command),
        }
        true
    }

    /// Goods that leave and come back.
    fn move_goods(&mut self, order: OrderId, command: &Command) -> bool {
        let entry = self.entries.entry(order).or_default();
        match command {
            Command::Ship { id, quantity, .. } => {
                let id = format!("ship {id}");
                if entry.done.contains(&id) {
                    return true;
                }
                if entry.allocated < *quantity {
                    return false;
                }
                entry.done.push(id);
                entry.allocated -= quantity;
                self.on_hand -= quantity;
                self.shipped += quantity;
            }
            Command::TakeBack { id, unshipped, shipped, restock, .. } => {
                let id = format!("back {id}");
                if entry.done.contains(&id) {
                    return true;
                }
                if entry.allocated < *unshipped {
                    return false;
                }
                entry.done.push(id);
                entry.allocated -= unshipped;
                if *restock {
                    let back = (*shipped).min(self.shipped);
                    self.on_hand += back;
                    self.shipped -= back;
                } else {
                    self.on_hand -= unshipped;
                }
            }
            _ => {}
        }
        true
    }
}

fn commands() -> impl Strategy<Value = Command> {
    let number = || 1_u32..5;
    let id = || prop::sample::select(vec!["1", "2", "3"]);
    let at = || prop::sample::select(vec!["main", "shop", "attic"]);
    prop_oneof![
        6 => (number(), 1_u32..4, 1_i64..5, 0_i64..60)
            .prop_map(|(n, generation, quantity, until)| reserve(n, generation, quantity, until)),
        4 => number().prop_map(commit),
        1 => number().prop_map(release),
        3 => (number(), id(), 1_i64..4).prop_map(|(n, id, quantity)| ship(n, id, quantity)),
        2 => (number(), id(), 0_i64..3, 0_i64..3, any::<bool>()).prop_map(
            |(n, id, unshipped, shipped, restock)| take_back(n, id, unshipped, shipped, restock)
        ),
        2 => (at(), 1_i64..4).prop_map(|(at, quantity)| receive(at, quantity)),
        1 => (at(), at(), 1_i64..4).prop_map(|(from, to, quantity)| transfer(from, to, quantity)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_books_agree(
        steps in prop::collection::vec((0_i64..3, commands(), any::<bool>()), 1..80),
    ) {
        let (mut stock, mut book, mut now) = (Stock::default(), Book::default(), 0);
        for (pause, command, timer) in &steps {
            now += pause;
            if *timer {
                let events = stock.on_timer(at(now));
                apply(&mut stock, now, &events);
            }
            let done = take(&mut stock, now, command);
            if !matches!(command, Command::Transfer { .. }) {
                prop_assert_eq!(done.is_ok(), book.take(now, command), "{:?}", command);
            }
            let total = stock.total();
            prop_assert_eq!(stock.sellable(at(now)), book.sellable(now), "{:?}", command);
            prop_assert!(book.sellable(now) >= 0, "oversold");
            prop_assert_eq!((total.on_hand, total.sold), (book.on_hand, book.shipped));
            let copy = serde_json::to_string(&stock).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Stock>(&copy).unwrap(), &stock);
        }
    }

    #[test]
    fn a_saga_that_is_sent_twice_in_any_order_sells_once(
        mut sent in Just((0..10).collect::<Vec<usize>>()).prop_shuffle(),
        lapse in any::<bool>(),
    ) {
        let mut stock = Stock::default();
        let until = if lapse { 5 } else { 900 };
        take(&mut stock, 0, &set("main", 2)).unwrap();
        let saga = [
            reserve(1, 1, 2, until),
            commit(1),
            ship(1, "1", 2),
            take_back(1, "1", 0, 2, true),
            reserve(2, 1, 2, until),
        ];
        sent.extend([0, 1, 2, 3, 4]);
        for (now, index) in (0..).zip(sent) {
            let _ = take(&mut stock, now, &saga[index % 5]);
            let total = stock.total();
            prop_assert!(total.on_hand + total.sold == 2 && total.sold <= 2);
        }
    }
}
