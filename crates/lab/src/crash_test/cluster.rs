//! The crash test of a cluster: rounds of faults under load, with checks after each and `verify` at
//! the end.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kontor_client::Client;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde::Serialize;

use super::buyers::Buyers;
use super::faults::{ClusterFault, LOOK};
use super::{Args, witness};
use crate::cluster::{self, Cluster};
use crate::program::{Kontor, StoreLocation};
use crate::stderr;
use crate::{Error, blocking};

/// Concurrent buyers.
const BUYERS: usize = 8;
/// Stock is added after this many refusals for lack of stock.
const TOO_LATE: u64 = 10;

/// The result of a fault.
#[derive(Clone, Debug, Serialize)]
pub struct FaultResult {
    /// The fault.
    pub fault: ClusterFault,
    /// The number of rounds.
    pub times: u32,
    /// Orders that were confirmed meanwhile.
    pub confirmed: u64,
    /// Failed requests of buyers; all of them were repeated.
    pub failed: u64,
    /// The longest time between two orders that were confirmed, in milliseconds.
    pub pause_ms: u64,
    /// How long other nodes took to own a node's shards, in milliseconds.
    pub takeover_ms: Option<u64>,
    /// The duration of the round, in seconds.
    pub seconds: f64,
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub struct ClusterCrashReport {
    /// Whether there were no violations.
    pub ok: bool,
    /// The seed that selects nodes and times.
    pub seed: u64,
    /// The faults.
    pub faults: Vec<FaultResult>,
    /// Checkouts sent, each with its own idempotency key.
    pub checkouts: u64,
    /// Of these, those with a final answer: confirmed, declined or refused.
    pub acknowledged: u64,
    /// Orders that were read again and compared with their buyers' answers.
    pub compared: u64,
    /// Orders that were confirmed and paid at the end.
    pub confirmed: usize,
    /// Events whose writer PostgreSQL has recorded.
    pub witnessed: u64,
    /// The duration, in seconds.
    pub seconds: f64,
    /// The number of violations.
    pub violations_total: u64,
    /// The first of them.
    pub violations: Vec<String>,
}

impl fmt::Display for ClusterCrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in ClusterFault::ALL {
            let results = self.faults.iter().filter(|one| one.fault == fault);
            if let Some(worst) = worst(results) {
                writeln!(f, "{worst}")?;
            }
        }
        write!(
            f,
            "{} faults in {:.0} s (seed {}): {} checkouts, {} of them acknowledged, {} confirmed and \
             paid; orders compared {} times, {} events each written by the owner of its shard, or \
             named here: {} violations",
            self.faults.len(),
            self.seconds,
            self.seed,
            self.checkouts,
            self.acknowledged,
            self.confirmed,
            self.compared,
            self.witnessed,
            self.violations_total,
        )?;
        self.violations.iter().try_for_each(|one| write!(f, "\n  {one}"))
    }
}

impl fmt::Display for FaultResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { times, confirmed, failed, pause_ms, seconds, .. } = self;
        write!(
            f,
            "{times:>4} {:<15}{seconds:>7.1} s  {confirmed:>6} confirmed",
            self.fault.name()
        )?;
        write!(f, "  {failed:>5} requests failed  at most {pause_ms:>6} ms without an order")?;
        match self.takeover_ms {
            Some(took) => write!(f, ", {took} ms until the takeover was complete"),
            None => Ok(()),
        }
    }
}

/// Combines several rounds of one fault: sums of the counts, and the longest times.
fn worst<'a>(mut results: impl Iterator<Item = &'a FaultResult>) -> Option<FaultResult> {
    let mut sum = results.next()?.clone();
    for one in results {
        sum.times += one.times;
        sum.confirmed += one.confirmed;
        sum.failed += one.failed;
        sum.pause_ms = sum.pause_ms.max(one.pause_ms);
        sum.takeover_ms = sum.takeover_ms.max(one.takeover_ms);
        sum.seconds += one.seconds;
    }
    Some(sum)
}

/// A run: the cluster, its buyers, and the results so far.
pub(super) struct Trial {
    program: Kontor,
    pub(super) cluster: Cluster,
    pub(super) buyers: Arc<Buyers>,
    pub(super) moments: SmallRng,
    anybody: Client,
    patient: Client,
    admin: Client,
}

/// Runs the test.
///
/// # Errors
/// [`Error`] when it could not run to its end.
pub async fn run(
    args: &Args,
    dir: &Path,
    program: Kontor,
    stop: &AtomicBool,
) -> Result<ClusterCrashReport, Error> {
    let (started, seed) = (Instant::now(), args.seed.unwrap_or_else(rand::random));
    blocking(cluster::packages::install)?;
    let mut trial = Trial::start(dir, seed, args.lease, program).await?;
    let faults = if args.fault.is_empty() { &ClusterFault::ALL[..] } else { &args.fault };
    let mut results = Vec::new();
    for (number, fault) in (0..args.rounds).flat_map(|_| faults).enumerate() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let one = trial.round(number, *fault).await?;
        stderr::line(&one);
        results.push(one);
    }
    let confirmed = trial.buyers.settle(&trial.patient, &trial.admin).await;
    trial.prove().await?;
    let witnessed = witness::events(&trial.cluster)?;
    let (checkouts, acknowledged, compared) = trial.buyers.counts();
    let (violations_total, violations) = trial.buyers.violations();
    trial.cluster.psp.stop().await;
    Ok(ClusterCrashReport {
        ok: violations_total == 0,
        seed,
        faults: results,
        checkouts,
        acknowledged,
        compared,
        confirmed,
        witnessed,
        seconds: started.elapsed().as_secs_f64(),
        violations_total,
        violations,
    })
}

impl Trial {
    async fn start(dir: &Path, seed: u64, lease: Duration, program: Kontor) -> Result<Self, Error> {
        let settings = [
            ("KONTOR__SHOP__TIMER_POLL_MS", 100),
            ("KONTOR__SHOP__PAYMENT_DEADLINE_SECS", 20),
            ("KONTOR__SANDBOX__BREAKER__WAIT_MS", 100),
            ("KONTOR__CLUSTER__LEASE_MS", millis(lease)),
            ("KONTOR__CLUSTER__RENEW_MS", (millis(lease) / 5).max(1)),
            ("KONTOR__CLUSTER__SETTLE_MS", 1_000),
            ("KONTOR__CLUSTER__LEAVE_MS", 1_500),
        ];
        let settings = settings.map(|(name, value)| (name, value.to_string())).to_vec();
        let options = cluster::Options { program: program.clone(), proxies: true, settings };
        let cluster = Cluster::start(dir, &options).await?;
        witness::begin(&cluster)?;
        let url = cluster.url();
        let anybody = Client::new(&url, None)?;
        let admin = Client::new(&url, Some(cluster.key.clone()))?;
        let moments = SmallRng::seed_from_u64(seed);
        let patient = anybody.clone();
        let anybody = anybody.with_retries(0);
        let buyers = Arc::default();
        let trial = Self { program, cluster, buyers, moments, anybody, patient, admin };
        trial.spread().await?;
        Ok(trial)
    }

    /// Causes one fault in the cluster while buyers shop, and checks the result.
    async fn round(&mut self, number: usize, fault: ClusterFault) -> Result<FaultResult, Error> {
        let (started, buyers) = (Instant::now(), Arc::clone(&self.buyers));
        let (confirmed_before, failed_before) = buyers.shopping();
        let (anybody, admin) = (self.anybody.clone(), self.admin.clone());
        buyers.fill(&admin).await?;
        let stop = AtomicBool::new(false);
        let striking = async {
            let took = self.inject(fault).await;
            stop.store(true, Ordering::Relaxed);
            took
        };
        let ((), took, (), pause) = tokio::join!(
            buyers.shop_on(&anybody, number, BUYERS, &stop),
            striking,
            restock(&buyers, &admin, &stop),
            longest_pause(&buyers, &stop),
        );
        let took = took
            .map_err(|error| Error::Failed(format!("{error}\nin the round of {}", fault.name())))?;
        let (confirmed, failed) = buyers.shopping();
        let failed = failed - failed_before;
        if fault.allows_no_failed_request() && failed > 0 {
            buyers.violation(format!("{}: {failed} requests failed", fault.name()));
        }
        buyers.check(&self.patient, &admin, number + 1).await;
        for intruder in witness::intruders(&self.cluster)? {
            buyers.violation(format!("{}: {intruder}", fault.name()));
        }
        Ok(FaultResult {
            fault,
            times: 1,
            confirmed: confirmed - confirmed_before,
            failed,
            pause_ms: millis(pause),
            takeover_ms: took.map(millis),
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Stops the nodes and verifies the store.
    async fn prove(&mut self) -> Result<(), Error> {
        self.cluster.close()?;
        let store = self.cluster.store_url();
        let store = StoreLocation::Database(&store);
        if let Err(why) = self.program.verify(store, &self.cluster.psp.url()) {
            self.buyers.violation(why);
        }
        for intruder in witness::intruders(&self.cluster)? {
            self.buyers.violation(intruder);
        }
        Ok(())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Adds stock when there is none left.
async fn restock(buyers: &Buyers, admin: &Client, stop: &AtomicBool) {
    let mut next = buyers.refused() + TOO_LATE;
    while !stop.load(Ordering::Relaxed) {
        // A refused delivery is repeated.
        if buyers.refused() >= next && buyers.fill(admin).await.is_ok() {
            next = buyers.refused() + TOO_LATE;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The longest time in which no order was confirmed.
async fn longest_pause(buyers: &Buyers, stop: &AtomicBool) -> Duration {
    let (mut longest, mut since, mut before) = (Duration::ZERO, Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        let (now, _) = buyers.shopping();
        if now != before {
            (before, since) = (now, Instant::now());
        }
        longest = longest.max(since.elapsed());
        tokio::time::sleep(LOOK).await;
    }
    longest
}
