//! The sold units that were not refunded yet, by customer, and the matching of cancellations to
//! them.
//!
//! `plan` and `run` decide when to match; `run` makes the refunds.
//!
//! A cancellation rarely names the invoice that it cancels. It is matched to earlier
//! purchases of the same stock code by the same customer: first to those at the same price, newest
//! first, because customers usually return the last delivery; then to those at other prices, newest
//! first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kontor_client::UnitPrice;

use crate::online_retail::value;

/// Units of one line of an order that were sold and not refunded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lot {
    /// The unit price.
    pub price: UnitPrice,
    /// Units left.
    pub units: i64,
    /// The part of their value that was not refunded, in pence.
    pub pence: i64,
}

/// A line of an order: the step of the plan and the line's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinePosition {
    /// The step.
    pub step: usize,
    /// The index of the line.
    pub line: usize,
}

/// The part of a cancellation that is matched to one line of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    /// The line of the order.
    pub place: LinePosition,
    /// Units.
    pub units: i64,
    /// Pence to refund.
    pub pence: i64,
}

/// The match of one row of a cancellation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// The refunded parts.
    pub portions: Vec<Portion>,
    /// Returned units whose value was refunded already.
    pub worthless_units: i64,
    /// The part of the row's value, in pence, that is not refunded, because the matched sales had
    /// less than that left to refund.
    pub exceeding_pence: i64,
    /// Units for which no sale was found.
    pub unmatched_units: i64,
    /// The value of these units, in pence.
    pub unmatched_pence: i64,
}

/// All lots by customer and code.
#[derive(Debug, Default)]
pub struct LotBook {
    lots: HashMap<(Arc<str>, Arc<str>), BTreeMap<LinePosition, Lot>>,
}

impl LotBook {
    /// Adds a sale. Sales may be added in any order.
    pub fn record_sale(
        &mut self,
        customer: &Arc<str>,
        code: &Arc<str>,
        place: LinePosition,
        lot: Lot,
    ) {
        let key = (Arc::clone(customer), Arc::clone(code));
        self.lots.entry(key).or_default().insert(place, lot);
    }

    /// Matches `units` at `price` to sales in steps before `step`, and removes them from the book.
    pub fn match_units(
        &mut self,
        customer: &Arc<str>,
        code: &Arc<str>,
        step: usize,
        price: UnitPrice,
        units: i64,
    ) -> Match {
        let mut found = Match::default();
        let mut shares = Shares { price, units, done: 0 };
        if let Some(lots) = self.lots.get_mut(&(Arc::clone(customer), Arc::clone(code))) {
            let before = ..LinePosition { step, line: 0 };
            for same_price in [true, false] {
                for (place, lot) in lots.range_mut(before).rev() {
                    if lot.units > 0 && (lot.price == price) == same_price {
                        take_from(lot, *place, &mut shares, &mut found);
                    }
                }
            }
        }
        found.unmatched_units = shares.left();
        found.unmatched_pence = shares.next(found.unmatched_units);
        found
    }
}

fn take_from(lot: &mut Lot, place: LinePosition, shares: &mut Shares, found: &mut Match) {
    let units = shares.left().min(lot.units);
    if units == 0 {
        return;
    }
    let share = shares.next(units);
    let pence = share.min(lot.pence);
    lot.units -= units;
    lot.pence -= pence;
    found.exceeding_pence += share - pence;
    if pence > 0 {
        found.portions.push(Portion { place, units, pence });
    } else {
        found.worthless_units += units;
    }
}

/// A value that is divided among units: each share is rounded, and all shares add up to the value,
/// whatever their sizes.
#[derive(Debug)]
pub struct Shares {
    price: UnitPrice,
    units: i64,
    done: i64,
}

impl Shares {
    /// Divides the value of `units` at `price`.
    #[must_use]
    pub const fn new(price: UnitPrice, units: i64) -> Self {
        Self { price, units, done: 0 }
    }

    /// Units without a share yet.
    #[must_use]
    pub const fn left(&self) -> i64 {
        self.units - self.done
    }

    /// The share of the next units, in pence.
    pub fn next(&mut self, units: i64) -> i64 {
        let before = value(self.price, self.done);
        self.done += units;
        value(self.price, self.done) - before
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn price(text: &str) -> UnitPrice {
        text.parse().unwrap()
    }

    fn place(step: usize) -> LinePosition {
        LinePosition { step, line: 0 }
    }

    fn book(lots: &[(usize, &str, i64, i64)]) -> (LotBook, Arc<str>, Arc<str>) {
        let (who, code): (Arc<str>, Arc<str>) = ("7".into(), "a".into());
        let mut book = LotBook::default();
        for &(step, at, units, pence) in lots {
            book.record_sale(&who, &code, place(step), Lot { price: price(at), units, pence });
        }
        (book, who, code)
    }

    #[test]
    fn the_same_price_goes_first_and_of_that_the_newest() {
        let (mut book, who, code) =
            book(&[(4, "90", 2, 180), (1, "100", 2, 200), (3, "100", 2, 200), (9, "100", 5, 500)]);
        let found = book.match_units(&who, &code, 9, price("100"), 7);
        let taken: Vec<_> =
            found.portions.iter().map(|p| (p.place.step, p.units, p.pence)).collect();
        assert_eq!(taken, [(3, 2, 200), (1, 2, 200), (4, 2, 180)]);
        assert_eq!(
            (found.exceeding_pence, found.unmatched_units, found.unmatched_pence),
            (20, 1, 100)
        );
        let again = book.match_units(&who, &code, 9, price("100"), 1);
        assert_eq!((again.portions.len(), again.unmatched_units), (0, 1));
    }

    #[test]
    fn refunds_never_exceed_what_was_paid() {
        let (mut book, who, code) = book(&[(1, "100", 2, 200)]);
        assert_eq!(book.match_units(&who, &code, 2, price("200"), 1).portions[0].pence, 200);
        let found = book.match_units(&who, &code, 3, price("50"), 1);
        assert_eq!(
            (found.portions.len(), found.worthless_units, found.exceeding_pence),
            (0, 1, 50)
        );
    }

    #[test]
    fn refunds_match_only_sales_of_the_same_buyer() {
        let (mut book, _, code) = book(&[(1, "100", 2, 200)]);
        assert_eq!(book.match_units(&"8".into(), &code, 2, price("100"), 1).unmatched_units, 1);
    }

    proptest! {
        #[test]
        fn shares_make_up_the_value(raw in 1_i64..50_000_000, cuts in prop::collection::vec(1_i64..500, 1..20)) {
            let price = UnitPrice::from_raw(raw);
            let units = cuts.iter().sum();
            let mut shares = Shares::new(price, units);
            let sum: i64 = cuts.iter().map(|cut| shares.next(*cut)).sum();
            prop_assert_eq!((sum, shares.left()), (value(price, units), 0));
        }

        #[test]
        fn a_match_makes_up_the_row_and_never_gives_back_more_than_was_paid(
            lots in prop::collection::vec((1_i64..400_000, 1_i64..50), 0..8),
            takes in prop::collection::vec((1_i64..400_000, 1_i64..60), 1..8),
        ) {
            let (who, code): (Arc<str>, Arc<str>) = ("7".into(), "a".into());
            let mut book = LotBook::default();
            let mut left = HashMap::new();
            for (step, &(raw, units)) in lots.iter().enumerate() {
                let price = UnitPrice::from_raw(raw);
                let lot = Lot { price, units, pence: value(price, units) };
                left.insert(place(step), (lot.units, lot.pence));
                book.record_sale(&who, &code, place(step), lot);
            }
            for &(raw, units) in &takes {
                let price = UnitPrice::from_raw(raw);
                let found = book.match_units(&who, &code, lots.len(), price, units);
                let mut sum = (found.worthless_units + found.unmatched_units, found.exceeding_pence + found.unmatched_pence);
                for portion in &found.portions {
                    let lot = left.get_mut(&portion.place).unwrap();
                    lot.0 -= portion.units;
                    lot.1 -= portion.pence;
                    prop_assert!(lot.0 >= 0 && lot.1 >= 0 && portion.pence > 0);
                    sum.0 += portion.units;
                    sum.1 += portion.pence;
                }
                prop_assert_eq!(sum, (units, value(price, units)));
            }
        }
    }
}
