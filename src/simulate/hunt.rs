//! Whether the simulator can find faults: each one is put into the code, and seeds are run until
//! one breaks a rule.

use serde::Serialize;

use super::plan::SimulationPlan;
use super::run::run;
use crate::seeded_fault::{self, SeededFault};

/// The result of a hunt for one fault.
#[derive(Clone, Debug, Serialize)]
pub struct HuntOutcome {
    /// The fault.
    #[serde(rename = "flaw")]
    pub fault: SeededFault,
    /// How many seeds it took; `None` if none of them found it.
    pub seeds: Option<u64>,
    /// The rule that it broke.
    pub rule: Option<String>,
    /// The plan that found it.
    #[serde(skip)]
    pub plan: Option<SimulationPlan>,
}

/// Whether only several nodes can show a fault. The others are looked for on one, which takes less
/// time.
const fn needs_several(fault: SeededFault) -> bool {
    matches!(
        fault,
        SeededFault::FenceNotChecked | SeededFault::ZombieReplies | SeededFault::RelayBelieves
    )
}

/// Runs seeds from `from` on, at most `max` of them, on code with a fault: those of several nodes
/// if the fault needs them, else each of them on one.
#[must_use]
pub fn hunt(fault: SeededFault, from: u64, max: u64) -> HuntOutcome {
    seeded_fault::set_active(Some(fault));
    let several = needs_several(fault);
    let found = (from..from.saturating_add(max)).find_map(|seed| {
        let plan =
            if several { SimulationPlan::draw(seed) } else { SimulationPlan::draw_alone(seed) };
        let fits = (plan.nodes > 1) == several;
        let violation = fits.then(|| run(&plan, false))?.violation?;
        Some((seed - from + 1, violation.rule, plan))
    });
    seeded_fault::set_active(None);
    let (mut seeds, mut rule, mut plan) = (None, None, None);
    if let Some(found) = found {
        (seeds, rule, plan) = (Some(found.0), Some(found.1), Some(found.2));
    }
    HuntOutcome { fault, seeds, rule, plan }
}
