//! Tests of the simulator: 300 seeds violate no rule, every third of them with several nodes; a
//! seed gives the same run each time; a plan that violates a rule is reduced; and every seeded
//! fault is found.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use strum::VariantArray as _;

use super::{SimulationPlan, hunt, run, shrink};
use crate::seeded_fault::{self, SeededFault};

/// The number of seeds.
const SEEDS: u64 = 300;
/// One of this many seeds is run twice.
const TWICE_EVERY: u64 = 10;
/// The most seeds per fault; `simulate --flaws` shows how many each takes.
const HUNT_MAX: u64 = 1_000;

/// The first seed for faults that few seeds find, to save time: each is found from seed 1 on, too,
/// as `simulate --flaws` shows.
const RARE: [(SeededFault, u64); 14] = [
    (SeededFault::CartSealedBlindly, 14),
    (SeededFault::CursorSkips, 21),
    (SeededFault::ElsewhereTwice, 90),
    (SeededFault::FenceNotChecked, 72),
    (SeededFault::ForeignSnapshotBelieved, 11),
    (SeededFault::GoodsBackTwice, 93),
    (SeededFault::LateCallNotBlocked, 175),
    (SeededFault::NewKeyAtEachCall, 93),
    (SeededFault::ReleasedWithoutTombstone, 294),
    (SeededFault::ReversedUndecided, 58),
    (SeededFault::StateKeptAfterRefusal, 23),
    (SeededFault::UnknownCommitBelieved, 44),
    (SeededFault::WebhookNotKept, 122),
    (SeededFault::LeaseIgnored, 75),
];

/// Runs a function on one thread per core.
fn on_all_cores(work: impl Fn() + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
}

#[test]
fn no_seed_violates_a_rule() {
    let next = AtomicU64::new(1);
    on_all_cores(|| {
        while let seed @ ..=SEEDS = next.fetch_add(1, Ordering::Relaxed) {
            let plan = SimulationPlan::draw(seed);
            let outcome = run(&plan, false);
            if let Some(found) = outcome.violation {
                let small = shrink(&plan).unwrap();
                panic!("seed {seed}: {found:?}\n{}", small.outcome.story.join("\n"));
            }
            if seed.is_multiple_of(TWICE_EVERY) {
                assert_eq!(run(&plan, false).trace, outcome.trace, "seed {seed}");
            }
        }
    });
}

#[test]
fn every_seeded_fault_is_found() {
    let next = AtomicUsize::new(0);
    on_all_cores(|| {
        while let Some(fault) = SeededFault::VARIANTS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let rare = RARE.iter().find(|(rare, _)| rare == fault);
            let found = hunt(*fault, rare.map_or(1, |(_, from)| *from), HUNT_MAX);
            assert!(found.seeds.is_some(), "{fault:?} was not found in {HUNT_MAX} seeds");
        }
    });
}

#[test]
fn failing_plan_is_reduced() {
    let plan = hunt_on(SeededFault::RefundNotCapped);
    let small = shrink(&plan).unwrap();
    assert_eq!(small.outcome.violation.unwrap().rule, run(&plan, false).violation.unwrap().rule);
    let count =
        |plan: &SimulationPlan| plan.buyers.iter().filter(|buyer| buyer.takes_part()).count();
    let size = |plan: &SimulationPlan| plan.faults.len() + plan.actions.len() + count(plan);
    assert!(size(&small.plan) < size(&plan));
    assert!(small.outcome.story.last().unwrap().contains("WRONG"));
    seeded_fault::set_active(None);
    assert_eq!(run(&plan, false).violation, None);
}

/// The first plan that finds a fault; the fault stays enabled on this thread.
fn hunt_on(fault: SeededFault) -> SimulationPlan {
    let found = hunt(fault, 1, HUNT_MAX).plan.unwrap();
    seeded_fault::set_active(Some(fault));
    found
}
