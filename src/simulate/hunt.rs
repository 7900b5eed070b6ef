//! Whether the simulator can find faults: each one is put into the code, and seeds are run until
//! one breaks a rule.

use serde::Serialize;

use super::plan::Plan;
use super::run::run;
use crate::domain::flaw::{self, Flaw};

/// What became of a hunt.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// The fault.
    pub flaw: Flaw,
    /// How many seeds it took; `None` if none of them found it.
    pub seeds: Option<u64>,
    /// The rule that it broke.
    pub rule: Option<String>,
}

/// Runs seeds from `from` on, at most `max` of them, on code with a fault.
#[must_use]
pub fn hunt(flaw: Flaw, from: u64, max: u64) -> Found {
    flaw::put(Some(flaw));
    let found = (from..from.saturating_add(max))
        .find_map(|seed| Some((seed - from + 1, run(&Plan::draw(seed), false).violation?.rule)));
    flaw::put(None);
    let (seeds, rule) = found.unzip();
    Found { flaw, seeds, rule }
}
