//! The work of `kontor simulate`: runs the simulator once for each seed, on several threads, and
//! prints the story of the first run that breaks a rule.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use kontor::seeded_fault::{self, SeededFault};
use kontor::simulate::{RunCounts, SimulationPlan, hunt, run as simulate, shrink};
use kontor_lab::{stderr, stdout};
use serde::Serialize;
use strum::VariantArray as _;

use super::Args;

/// One of this many seeds is run twice; both runs must be identical.
const TWICE_EVERY: u64 = 10;

/// The summary of all runs.
#[derive(Debug, Serialize)]
struct Summary {
    ok: bool,
    seeds: u64,
    run_twice: u64,
    seconds: f64,
    seeds_per_second: f64,
    simulated_hours: f64,
    counts: RunCounts,
    failed: Option<Failed>,
}

/// A seed that breaks a rule.
#[derive(Debug, Serialize)]
struct Failed {
    seed: u64,
    rule: String,
    what: String,
    story: Vec<String>,
}

/// The state that the threads share.
struct Work<'a> {
    args: &'a Args,
    next: AtomicU64,
    stop: AtomicBool,
    bar: ProgressBar,
    summed: Mutex<(u64, u64, i64, RunCounts)>,
    failed: Mutex<Option<(u64, String)>>,
}

/// Runs the command.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: &Args) -> std::io::Result<std::process::ExitCode> {
    if args.flaws {
        return find_faults(args);
    }
    let (first, seeds) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
    let bar = if args.json { ProgressBar::hidden() } else { ProgressBar::new(seeds) };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds {per_sec} {eta}")
    {
        bar.set_style(style);
    }
    let work = Work {
        args,
        next: AtomicU64::new(first),
        stop: AtomicBool::new(false),
        bar,
        summed: Mutex::default(),
        failed: Mutex::default(),
    };
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work.go(first + seeds));
        }
    });
    work.bar.finish_and_clear();
    let summary = work.summary(began.elapsed());
    if args.json {
        stdout::json(&summary)?;
    } else {
        print(&summary, args);
    }
    let code = if summary.ok { 0 } else { 1 };
    Ok(std::process::ExitCode::from(code))
}

/// For each deliberate bug, runs seeds until one breaks a rule.
fn find_faults(args: &Args) -> std::io::Result<std::process::ExitCode> {
    if !seeded_fault::possible() {
        stderr::line(
            "error: a release build has no deliberate bugs: run it with cargo run --features simulate",
        );
        return Ok(std::process::ExitCode::FAILURE);
    }
    let next = AtomicUsize::new(0);
    let all = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(fault) =
                    SeededFault::VARIANTS.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let found = hunt(*fault, args.from, args.seeds);
                    if !args.json {
                        let name: &str = fault.into();
                        let seeds = found.seeds.map_or("not found".into(), |it| it.to_string());
                        stdout::line(format_args!(
                            "{name:<28} {seeds:>9}  {}",
                            found.rule.as_deref().unwrap_or("")
                        ));
                    }
                    if let Ok(mut all) = all.lock() {
                        all.push(found);
                    }
                }
            });
        }
    });
    let all = all.into_inner().unwrap_or_default();
    if args.json {
        stdout::json(&all)?;
    }
    let missed = all.iter().filter(|found| found.seeds.is_none()).count();
    Ok(std::process::ExitCode::from(u8::from(missed > 0)))
}

impl Work<'_> {
    fn go(&self, end: u64) {
        while !self.stop.load(Ordering::Relaxed) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            let plan = SimulationPlan::draw(seed);
            let outcome = simulate(&plan, false);
            let twice = seed.is_multiple_of(TWICE_EVERY);
            let mut wrong = outcome.violation.map(|found| found.rule);
            if twice && wrong.is_none() && simulate(&plan, false).trace != outcome.trace {
                wrong = Some("the same seed gives the same run".to_owned());
            }
            if let Ok(mut summed) = self.summed.lock() {
                summed.0 += 1;
                summed.1 += u64::from(twice);
                summed.2 += outcome.simulated_ms;
                summed.3.add(&outcome.counts);
            }
            if let Some(rule) = wrong {
                self.stop.store(true, Ordering::Relaxed);
                if let Ok(mut failed) = self.failed.lock() {
                    failed.get_or_insert((seed, rule));
                }
            }
            self.bar.inc(1);
        }
    }

    fn summary(self, took: Duration) -> Summary {
        let (seeds, run_twice, simulated_ms, counts) = self.summed.into_inner().unwrap_or_default();
        let failed = self.failed.into_inner().unwrap_or_default();
        if failed.is_some() && !self.args.json {
            stderr::line("A rule was broken; shrinking the run.");
        }
        let failed = failed.map(|(seed, rule)| {
            let (what, story) =
                shrink(&SimulationPlan::draw(seed)).map_or_else(Default::default, |small| {
                    let what = small.outcome.violation.map(|found| found.what);
                    (what.unwrap_or_default(), small.outcome.story)
                });
            Failed { seed, rule, what, story }
        });
        let seconds = took.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let (done, hours) = (seeds as f64, simulated_ms as f64 / 3_600_000.0);
        Summary {
            ok: failed.is_none(),
            seeds,
            run_twice,
            seconds,
            seeds_per_second: done / seconds.max(0.001),
            simulated_hours: hours,
            counts,
            failed,
        }
    }
}

fn print(summary: &Summary, args: &Args) {
    let RunCounts {
        lives,
        clusters,
        claims,
        events,
        appends,
        calls,
        orders,
        confirmed,
        stuck,
        checks,
    } = summary.counts;
    if args.story
        && summary.ok
        && let Some(seed) = args.seed
    {
        for line in simulate(&SimulationPlan::draw(seed), true).story {
            stdout::line(line);
        }
    }
    if let Some(failed) = &summary.failed {
        for line in &failed.story {
            stdout::line(line);
        }
        stdout::line(format_args!(
            "\nSeed {} breaks a rule: {}: {}",
            failed.seed, failed.rule, failed.what
        ));
        stdout::line(format_args!("To repeat it: cargo simulate --seed {}", failed.seed));
        return;
    }
    stdout::line(format_args!(
        "All rules hold: {} seeds in {:.1} s ({:.0} a second), {:.0} simulated hours; {} seeds \
         were run twice with identical results.",
        summary.seeds,
        summary.seconds,
        summary.seeds_per_second,
        summary.simulated_hours,
        summary.run_twice
    ));
    stdout::line(format_args!(
        "{lives} runs of a node; {clusters} seeds with several nodes, with {claims} claims of \
         shards; {events} events in {appends} commits; {calls} calls to the provider; {orders} \
         orders, of which {confirmed} were confirmed and {stuck} are stuck with a reason; {checks} \
         runs of verify."
    ));
}
