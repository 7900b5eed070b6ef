//! Reduces a plan that violates a rule: leaves out everything without which the run still violates
//! the same rule, so that the run's log becomes short enough to read.

use super::plan::{Bus, Net, SimulationPlan};
use super::run::{RunOutcome, run};

/// The most runs to reduce one plan.
const RUNS_MAX: u32 = 400;

/// A reduced plan.
#[derive(Clone, Debug)]
pub struct Shrunken {
    /// The plan.
    pub plan: SimulationPlan,
    /// Its run, with the log.
    pub outcome: RunOutcome,
    /// The number of runs.
    pub runs: u32,
}

/// Reduces a plan that violates a rule; `None` if it violates none.
#[must_use]
pub fn shrink(plan: &SimulationPlan) -> Option<Shrunken> {
    let rule = run(plan, false).violation?.rule;
    let (mut plan, mut runs) = (plan.clone(), 1);
    let mut smaller = true;
    while std::mem::take(&mut smaller) {
        for step in 0..steps(&plan) {
            let Some(less) = without(&plan, step) else { continue };
            if runs >= RUNS_MAX {
                break;
            }
            runs += 1;
            if run(&less, false).violation.is_some_and(|found| found.rule == rule) {
                (plan, smaller) = (less, true);
                break;
            }
        }
    }
    Some(Shrunken { outcome: run(&plan, true), plan, runs })
}

/// The number of ways to reduce a plan.
fn steps(plan: &SimulationPlan) -> usize {
    plan.faults.len() + plan.actions.len() + 4 * plan.buyers.len() + 16
}

/// A plan after the reduction with the number `step`; `None` if the plan has nothing to leave out
/// there.
fn without(plan: &SimulationPlan, step: usize) -> Option<SimulationPlan> {
    let mut less = plan.clone();
    let Some(step) = step.checked_sub(plan.faults.len()) else {
        less.faults.remove(step);
        return Some(less);
    };
    let Some(step) = step.checked_sub(plan.actions.len()) else {
        less.actions.remove(step);
        return Some(less);
    };
    let buyers = plan.buyers.len();
    let Some(step) = step.checked_sub(4 * buyers) else {
        let buyer = &mut less.buyers[step % buyers];
        let there = buyer.takes_part();
        match step / buyers {
            0 => buyer.remove(),
            1 if buyer.edits > 0 => buyer.edits = 0,
            2 if buyer.lines.len() > 1 => drop(buyer.lines.pop()),
            3 if buyer.tokens.len() > 1 => drop(buyer.tokens.pop()),
            _ => return None,
        }
        return there.then_some(less);
    };
    let (net, bus, shop) = (&mut less.net, &mut less.bus, &mut less.shop);
    let had = |value: &mut u32| std::mem::take(value) > 0;
    let changed = match step {
        0 => {
            let bad = net.lost + net.unanswered + net.doubled + net.late + net.withheld > 0;
            *net = Net { lost: 0, unanswered: 0, doubled: 0, late: 0, withheld: 0 };
            bad
        }
        1 => had(&mut net.lost),
        2 => had(&mut net.unanswered),
        3 => had(&mut net.doubled),
        4 => had(&mut net.late),
        5 => had(&mut net.withheld),
        6 => std::mem::take(&mut shop.small),
        7 => std::mem::take(&mut shop.history) > 0,
        8 => std::mem::replace(&mut shop.idle_secs, 20) != 20,
        9 => std::mem::replace(&mut shop.timer_poll_ms, 1_000) != 1_000,
        10 => std::mem::take(bus) != Bus::default(),
        11 => had(&mut bus.lost),
        12 => had(&mut bus.unanswered),
        13 => had(&mut bus.doubled),
        14 => had(&mut bus.late),
        _ if less.nodes > 1 => {
            less.nodes -= 1;
            true
        }
        _ => false,
    };
    changed.then_some(less)
}
