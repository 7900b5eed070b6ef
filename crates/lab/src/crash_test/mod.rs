//! `kontor crash-test`: `kill -9` at random times under load, repeatedly. No acknowledged order may
//! be lost or changed, none charged twice, nothing oversold.
//!
//! `server` is the killed process, `buyers` the load with its records; this file has the sequence
//! and the report. `cluster` does the same with a cluster and the faults of `faults`; `witness`
//! records which node wrote each event. Crashes at chosen points are in `tests/it/crashes.rs`.

mod buyers;
mod cluster;
mod faults;
mod server;
mod witness;

use std::fmt;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kontor_client::Client;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;

use self::buyers::Buyers;
pub use self::faults::ClusterFault;
use self::server::ServeProcess;
use crate::args::duration;
use crate::program::{Kontor, StoreLocation};
use crate::stderr;
use crate::{Error, blocking, stdout};

/// The earliest and the latest time of a kill, in milliseconds after the buyers have started.
const MOMENT_MS: std::ops::Range<u64> = 20..520;
/// How often the whole store is verified during a run, in addition to the end.
const VERIFIED: u32 = 10;

/// Kill the server repeatedly under load, and check that nothing is lost
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Starts this program as a server in its own process, with a sandbox payment provider, lets 24 buyers
shop, and kills the server (kill -9) at a random moment. After each start, unanswered requests are
repeated with their idempotency keys, and the orders of the last two rounds and 500 of the earlier
ones must be as reported; at the end, all orders must be. kontor verify, with the provider's ledger,
must pass about ten times during the test and at the end.

With --cluster there are three servers behind HAProxy, with PostgreSQL, NATS and Redis, and each
round causes one fault after the other: kills, freezes, cut connections, restarts, deleted data. The
buyers never stop. A freeze lasts longer than the leases of the frozen server, and no event may be
written by a server that does not own its shard.

Exit code: 0 all checks passed, 1 a check failed.

Examples:
  kontor crash-test --kills 500
  kontor crash-test --cluster --rounds 20
  kontor crash-test --cluster --fault kill,freeze --rounds 100
  kontor crash-test --kills 20 --seed 7 --data crashed --json")]
pub struct Args {
    /// Number of kills
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub kills: u32,
    /// Test three servers behind a load balancer, with all kinds of faults
    #[arg(long, conflicts_with = "kills")]
    pub cluster: bool,
    /// With --cluster: only these faults, in this order
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', requires = "cluster")]
    pub fault: Vec<ClusterFault>,
    /// With --cluster: how often to cause each fault
    #[arg(long, default_value_t = 3, value_name = "N", requires = "cluster", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rounds: u32,
    /// With --cluster: duration of the nodes' leases
    #[arg(long, default_value = "5s", value_name = "DURATION", requires = "cluster", value_parser = duration)]
    pub lease: Duration,
    /// Seed of the random choices; random by default
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// An empty folder, which is kept at the end; a temporary one by default
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub struct CrashReport {
    /// Whether there were no violations.
    pub ok: bool,
    /// The seed of the times.
    pub seed: u64,
    /// The number of kills.
    pub kills: u32,
    /// Checkouts sent, each with its own idempotency key.
    pub checkouts: u64,
    /// Of these, those with a final answer: confirmed, declined or refused.
    pub acknowledged: u64,
    /// Orders that were read again and compared with their buyers' answers.
    pub compared: u64,
    /// Orders that were confirmed and paid at the end.
    pub confirmed: usize,
    /// The number of complete `kontor verify` runs.
    pub verified: u32,
    /// The duration, in seconds.
    pub seconds: f64,
    /// The number of violations.
    pub violations_total: u64,
    /// The first of them.
    pub violations: Vec<String>,
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills in {:.0} s (seed {}): {} checkouts, {} of them acknowledged, {} confirmed and \
             paid; {} comparisons of orders, {} runs of verify: {} violations",
            self.kills,
            self.seconds,
            self.seed,
            self.checkouts,
            self.acknowledged,
            self.confirmed,
            self.compared,
            self.verified,
            self.violations_total,
        )?;
        self.violations.iter().try_for_each(|one| write!(f, "\n  {one}"))
    }
}

/// Runs the test with a program. When `told_to_stop` resolves, it ends after the current round,
/// with its report.
///
/// # Errors
/// [`Error`] when it could not run; a violation is exit code 1.
pub async fn run(
    args: Args,
    program: Kontor,
    told_to_stop: impl Future<Output = ()> + Send + 'static,
) -> Result<ExitCode, Error> {
    let stop = flag(told_to_stop);
    let dir = match &args.data {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("kontor-crash-test-{}", std::process::id())),
    };
    std::fs::create_dir_all(&dir)?;
    if std::fs::read_dir(&dir)?.next().is_some() {
        return Err(Error::Failed(format!(
            "{} is not empty: choose another folder",
            dir.display()
        )));
    }
    let ok = if args.cluster {
        let report = Box::pin(cluster::run(&args, &dir, program, &stop)).await?;
        show(&args, &report)?;
        report.ok
    } else {
        let report = crash(&args, &dir, program, &stop).await?;
        show(&args, &report)?;
        report.ok
    };
    if !ok {
        stderr::line(format_args!("the data was kept in {}", dir.display()));
    } else if args.data.is_none() {
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(args: &Args, report: &(impl Serialize + fmt::Display)) -> std::io::Result<()> {
    if args.json {
        return stdout::json(report);
    }
    stdout::line(report);
    Ok(())
}

/// A flag that is set when a future resolves.
fn flag(done: impl Future<Output = ()> + Send + 'static) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    tokio::spawn(async move {
        done.await;
        told.store(true, Ordering::Relaxed);
    });
    stop
}

/// A run: its folder, its provider, and the results so far.
struct CrashRun {
    program: Kontor,
    data: PathBuf,
    psp: String,
    key: String,
    buyers: Buyers,
    verified: u32,
}

async fn crash(
    args: &Args,
    dir: &Path,
    program: Kontor,
    stop: &AtomicBool,
) -> Result<CrashReport, Error> {
    let (started, seed) = (Instant::now(), args.seed.unwrap_or_else(rand::random));
    let mut moments = SmallRng::seed_from_u64(seed);
    let listen = ([127, 0, 0, 1], 0).into();
    let ledger = kontor_sandbox_psp::Options { data: dir.join("psp"), listen };
    let psp = kontor_sandbox_psp::start(ledger).await?;
    let data = dir.join("shop");
    let key = program.create_key(StoreLocation::Folder(&data), "crash-test")?;
    let buyers = Buyers::default();
    let mut run = CrashRun { program, data, psp: psp.url(), key, buyers, verified: 0 };
    let mut kills = 0;
    while kills < args.kills && !stop.load(Ordering::Relaxed) {
        let moment = Duration::from_millis(moments.random_range(MOMENT_MS));
        run.round(kills, moment).await?;
        kills += 1;
        if kills.is_multiple_of(args.kills.div_ceil(VERIFIED)) {
            run.verify();
        }
        run.progress(kills, args.kills);
    }
    let server = run.start()?;
    let (anybody, admin) = run.clients(&server)?;
    let confirmed = run.buyers.settle(&anybody, &admin).await;
    server.kill()?;
    run.verify();
    psp.stop().await;
    let (checkouts, acknowledged, compared) = run.buyers.counts();
    let (violations_total, violations) = run.buyers.violations();
    Ok(CrashReport {
        ok: violations_total == 0,
        seed,
        kills,
        checkouts,
        acknowledged,
        compared,
        confirmed,
        verified: run.verified,
        seconds: started.elapsed().as_secs_f64(),
        violations_total,
        violations,
    })
}

impl CrashRun {
    /// Starts a server, checks the orders, and kills it while buyers shop.
    async fn round(&self, number: u32, moment: Duration) -> Result<(), Error> {
        let server = self.start()?;
        let (anybody, admin) = self.clients(&server)?;
        let round = usize::try_from(number).unwrap_or(usize::MAX);
        self.buyers.check(&anybody, &admin, round).await;
        self.buyers.fill(&admin).await?;
        let killing = async {
            tokio::time::sleep(moment).await;
            server.kill()
        };
        let ((), killed) = tokio::join!(self.buyers.shop(&anybody, round), killing);
        Ok(killed?)
    }

    fn start(&self) -> Result<ServeProcess, Error> {
        Ok(blocking(|| ServeProcess::start(&self.program, &self.data, &self.psp))?)
    }

    /// A buyer's client and an operator's, without retries.
    fn clients(&self, server: &ServeProcess) -> Result<(Client, Client), Error> {
        let anybody = Client::new(&server.url, None)?.with_retries(0);
        let admin = Client::new(&server.url, Some(self.key.clone()))?.with_retries(0);
        Ok((anybody, admin))
    }

    fn verify(&mut self) {
        self.verified += 1;
        if let Err(why) = self.program.verify(StoreLocation::Folder(&self.data), &self.psp) {
            self.buyers.violation(why);
        }
    }

    /// Shows progress: on a terminal in one line, elsewhere in about ten lines per run.
    fn progress(&self, kills: u32, of: u32) {
        let terminal = std::io::stderr().is_terminal();
        if !terminal && !kills.is_multiple_of(of.div_ceil(VERIFIED)) {
            return;
        }
        let (checkouts, acknowledged, compared) = self.buyers.counts();
        let (violations, _) = self.buyers.violations();
        let line = format!(
            "{kills} of {of} kills: {checkouts} checkouts, {acknowledged} acknowledged, {compared} \
             comparisons of orders, {violations} violations"
        );
        if terminal {
            stderr::write(&format!("\r{line}\x1b[K{}", if kills == of { "\n" } else { "" }));
        } else {
            stderr::line(line);
        }
    }
}
