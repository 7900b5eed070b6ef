//! The crash test of a cluster: rounds of faults under load, what holds is looked at after each and
//! proven at the end.

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

/// Buyers at a time.
const BUYERS: usize = 8;
/// More goods come in once so many buyers came too late.
const TOO_LATE: u64 = 10;

/// How a fault went.
#[derive(Clone, Debug, Serialize)]
pub struct Struck {
    /// Which.
    pub fault: ClusterFault,
    /// How often.
    pub times: u32,
    /// Orders that were confirmed meanwhile.
    pub confirmed: u64,
    /// Requests of buyers that failed; all of them were sent again.
    pub failed: u64,
    /// The longest time between two orders that were confirmed, in milliseconds.
    pub pause_ms: u64,
    /// How long others took to own what a node had, in milliseconds.
    pub takeover_ms: Option<u64>,
    /// How long the round took, in seconds.
    pub seconds: f64,
}

/// The result of a crash test of a cluster.
#[derive(Debug, Serialize)]
pub struct ClusterCrashReport {
    /// No violation.
    pub ok: bool,
    /// What nodes and moments were drawn from.
    pub seed: u64,
    /// What was done.
    pub faults: Vec<Struck>,
    /// Checkouts that were sent, each under its own key.
    pub checkouts: u64,
    /// Of these, answered for good: confirmed, declined or refused.
    pub acknowledged: u64,
    /// Orders that were read again and compared with what their buyers were told.
    pub compared: u64,
    /// Orders that were confirmed and paid in the end.
    pub confirmed: usize,
    /// Events whose writer PostgreSQL has noted.
    pub witnessed: u64,
    /// Seconds.
    pub seconds: f64,
    /// What must never be.
    pub violations_total: u64,
    /// The first of them.
    pub violations: Vec<String>,
}

impl fmt::Display for ClusterCrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in ClusterFault::ALL {
            let struck = self.faults.iter().filter(|one| one.fault == fault);
            if let Some(worst) = worst(struck) {
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

impl fmt::Display for Struck {
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

/// Several of one fault as one: sums, and the longest times.
fn worst<'a>(mut struck: impl Iterator<Item = &'a Struck>) -> Option<Struck> {
    let mut sum = struck.next()?.clone();
    for one in struck {
        sum.times += one.times;
        sum.confirmed += one.confirmed;
        sum.failed += one.failed;
        sum.pause_ms = sum.pause_ms.max(one.pause_ms);
        sum.takeover_ms = sum.takeover_ms.max(one.takeover_ms);
        sum.seconds += one.seconds;
    }
    Some(sum)
}

/// A run: the cluster, its buyers, and what is known so far.
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
    let mut struck = Vec::new();
    for (number, fault) in (0..args.rounds).flat_map(|_| faults).enumerate() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let one = trial.round(number, *fault).await?;
        stderr::line(&one);
        struck.push(one);
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
        faults: struck,
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
        let options = cluster::Options { program: program.clone(), lines: true, settings };
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

    /// Does one fault to the cluster while buyers shop, and looks whether all is there.
    async fn round(&mut self, number: usize, fault: ClusterFault) -> Result<Struck, Error> {
        let (started, buyers) = (Instant::now(), Arc::clone(&self.buyers));
        let (confirmed_before, failed_before) = buyers.shopping();
        let (anybody, admin) = (self.anybody.clone(), self.admin.clone());
        buyers.fill(&admin).await?;
        let stop = AtomicBool::new(false);
        let striking = async {
            let took = self.strike(fault).await;
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
        if fault.is_gentle() && failed > 0 {
            buyers.violation(format!("{}: {failed} requests failed", fault.name()));
        }
        buyers.check(&self.patient, &admin, number + 1).await;
        for intruder in witness::intruders(&self.cluster)? {
            buyers.violation(format!("{}: {intruder}", fault.name()));
        }
        Ok(Struck {
            fault,
            times: 1,
            confirmed: confirmed - confirmed_before,
            failed,
            pause_ms: millis(pause),
            takeover_ms: took.map(millis),
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Stops the nodes and looks at everything that they have left.
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

/// Has goods come in when there are none left.
async fn restock(buyers: &Buyers, admin: &Client, stop: &AtomicBool) {
    let mut next = buyers.refused() + TOO_LATE;
    while !stop.load(Ordering::Relaxed) {
        // A delivery that is refused comes again.
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
