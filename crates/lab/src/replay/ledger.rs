//! The outcome of every row: booked, refused, or partly each, in units and pence.
//!
//! Deliberately not here: the reasons of refusals (`plan`, `book`) and printing (`report`).

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::plan::SkipReason;
use crate::online_retail::RetailRow;

/// Units and pence; negative for returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Worth {
    /// Units.
    pub units: i64,
    /// Pence.
    pub pence: i64,
}

impl Worth {
    /// This many units and pence.
    #[must_use]
    pub const fn new(units: i64, pence: i64) -> Self {
        Self { units, pence }
    }

    /// Adds to it.
    pub fn add(&mut self, other: Self) {
        self.units += other.units;
        self.pence += other.pence;
    }
}

/// The outcome of every row.
#[derive(Debug)]
pub struct RowLedger {
    file: Vec<Worth>,
    booked: Vec<Option<Worth>>,
    refused: Vec<(usize, SkipReason, Worth)>,
}

/// What was refused for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RefusedSum {
    /// Rows of which nothing was booked.
    pub rows: usize,
    /// Rows of which a part was booked.
    pub rows_in_part: usize,
    /// The part of them that was not booked.
    #[serde(flatten)]
    pub worth: Worth,
}

/// The comparison of booked and refused rows with the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Rows of the file.
    pub rows: usize,
    /// Rows that were booked completely.
    pub rows_booked: usize,
    /// Rows that were booked in part.
    pub rows_booked_partly: usize,
    /// Rows of which nothing was booked.
    pub rows_refused: usize,
    /// The value of the file.
    pub file: Worth,
    /// The booked value.
    pub booked: Worth,
    /// The refused value.
    pub refused: Worth,
    /// Whether each row's parts, and all rows together, add up to the file.
    pub holds: bool,
}

impl RowLedger {
    /// A ledger of these rows, without outcomes.
    #[must_use]
    pub fn new(rows: &[RetailRow]) -> Self {
        let file = rows.iter().map(|row| Worth::new(row.quantity, row.pence())).collect();
        Self { file, booked: vec![None; rows.len()], refused: Vec::new() }
    }

    /// Records booked units of a row.
    pub fn book(&mut self, row: usize, worth: Worth) {
        self.booked[row].get_or_insert_default().add(worth);
    }

    /// Records refused units of a row.
    pub fn refuse(&mut self, row: usize, reason: SkipReason, worth: Worth) {
        self.refused.push((row, reason, worth));
    }

    /// Refuses a row completely.
    pub fn refuse_all(&mut self, index: usize, row: &RetailRow, reason: SkipReason) {
        self.refuse(index, reason, Worth::new(row.quantity, row.pence()));
    }

    /// The outcome of a row so far.
    #[must_use]
    pub fn booked(&self, row: usize) -> Option<Worth> {
        self.booked[row]
    }

    /// The refusals by reason, highest value first.
    #[must_use]
    pub fn by_reason(&self) -> Vec<(SkipReason, RefusedSum)> {
        let mut sums: BTreeMap<SkipReason, RefusedSum> = BTreeMap::new();
        let mut counted = HashSet::new();
        for (row, reason, worth) in &self.refused {
            let sum = sums.entry(*reason).or_default();
            sum.worth.add(*worth);
            if counted.insert((*row, *reason)) {
                match self.booked[*row] {
                    None => sum.rows += 1,
                    Some(_) => sum.rows_in_part += 1,
                }
            }
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(reason, sum)| (std::cmp::Reverse(sum.worth.pence.abs()), *reason));
        sums
    }

    /// Whether booked and refused parts add up to the file, row by row and in total.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let mut parts = vec![Worth::default(); self.file.len()];
        let mut in_part: HashSet<usize> = HashSet::new();
        let (mut file, mut booked, mut refused) =
            (Worth::default(), Worth::default(), Worth::default());
        for (row, _, worth) in &self.refused {
            parts[*row].add(*worth);
            refused.add(*worth);
            in_part.insert(*row);
        }
        let (mut whole, mut partly) = (0, 0);
        for (row, worth) in self.booked.iter().enumerate() {
            file.add(self.file[row]);
            let Some(worth) = worth else { continue };
            parts[row].add(*worth);
            booked.add(*worth);
            if in_part.remove(&row) { partly += 1 } else { whole += 1 }
        }
        let rows_refused = in_part.len();
        let mut sum = booked;
        sum.add(refused);
        let rows = self.file.len();
        let holds = parts == self.file && sum == file && whole + partly + rows_refused == rows;
        Identity {
            rows,
            rows_booked: whole,
            rows_booked_partly: partly,
            rows_refused,
            file,
            booked,
            refused,
            holds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::RowReason;
    use super::super::plan::tests::row;
    use super::*;

    const WHY: SkipReason = SkipReason::Row(RowReason::OutOfStock);

    #[test]
    fn a_row_booked_in_part_counts_once() {
        let rows =
            [row("1", "a", 5, "100", ""), row("1", "b", 1, "7", ""), row("1", "c", 1, "9", "")];
        let mut ledger = RowLedger::new(&rows);
        ledger.book(0, Worth::new(3, 300));
        ledger.refuse(0, WHY, Worth::new(2, 200));
        ledger.book(1, Worth::new(1, 7));
        assert!(!ledger.identity().holds);
        ledger.refuse_all(2, &rows[2], WHY);
        let identity = ledger.identity();
        assert!(identity.holds);
        assert_eq!(
            (identity.rows_booked, identity.rows_booked_partly, identity.rows_refused),
            (1, 1, 1)
        );
        let (_, sum) = ledger.by_reason()[0];
        assert_eq!((sum.rows, sum.rows_in_part, sum.worth.pence), (1, 1, 209));
    }

    #[test]
    fn ledger_detects_faults_that_cancel_out() {
        let rows = [row("1", "a", 1, "100", ""), row("1", "b", 1, "100", "")];
        let mut ledger = RowLedger::new(&rows);
        ledger.book(0, Worth::new(1, 101));
        ledger.book(1, Worth::new(1, 99));
        assert!(!ledger.identity().holds);
    }
}
