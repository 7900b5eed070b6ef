//! Tests the simulator: a hunt enables a seeded fault (a deliberate bug in the code), and runs
//! seeds until one violates a rule.

use serde::Serialize;

use super::plan::SimulationPlan;
use super::run::run;
use crate::seeded_fault::{self, SeededFault};

/// The result of a hunt.
#[derive(Clone, Debug, Serialize)]
pub struct HuntOutcome {
    /// The fault.
    #[serde(rename = "flaw")]
    pub fault: SeededFault,
    /// The number of seeds until the fault was found; `None` if it was not.
    pub seeds: Option<u64>,
    /// The violated rule.
    pub rule: Option<String>,
    /// The plan that found the fault.
    #[serde(skip)]
    pub plan: Option<SimulationPlan>,
}

/// Whether a fault needs several nodes. The others are hunted on one node, which takes less time.
const fn needs_several(fault: SeededFault) -> bool {
    matches!(
        fault,
        SeededFault::FenceNotChecked
            | SeededFault::LeaseIgnored
            | SeededFault::PageSkipsChange
            | SeededFault::RelayTrustsStream
            | SeededFault::UnauthenticatedAnswerObeyed
            | SeededFault::ReplayAccepted
            | SeededFault::ForeignEventBelieved
    )
}

/// Runs seeds from `from` on, at most `max`, with a fault enabled: on several nodes if the fault
/// needs them, else on one. Seeds whose plan has too few nodes for the fault are skipped, but
/// counted.
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
