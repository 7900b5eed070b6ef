//! The arguments of `kontor load`, with a struct per scenario.

use std::fmt;
use std::time::Duration;

use super::pace::Arrivals;
use super::setup::PLENTY;
use crate::args::TargetArgs;
use crate::args::duration;

/// The default duration of a run.
const TIME: Duration = Duration::from_secs(30);
/// The warm-up of a run by time.
const WARMUP: Duration = Duration::from_secs(3);
/// Workers of a closed loop.
const WORKERS: u16 = 16;

/// Run a load test against a server, and check its answers
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
With --concurrency N, each of N clients starts its next flow when the last one has ended (a closed
loop; it measures throughput). With --rate N, flows start by the clock, however slow the answers
are, and latency is measured from the time at which a flow was due (an open loop; it measures
latency at that rate).

Products, stock and everything else that is needed are created before the clock starts. At the end,
the server must have exactly the orders that it reported in this run.

Exit code: 0 all checks passed, 1 a check failed or no request succeeded, 3 arrivals were shed.

Examples:
  kontor load checkout --key sk_... --for 30s --concurrency 32
  kontor load checkout --key sk_... --rate 200 --json
  kontor load flash-sale --key sk_... --units 500 --buyers 2000
  kontor load echo --url http://127.0.0.1:9000/echo --concurrency 32")]
pub struct Args {
    /// The scenario.
    #[command(subcommand)]
    pub scenario: Scenario,
}

/// The scenarios.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Scenario {
    /// Fill a cart of two lines and buy it
    Checkout(Shopping),
    /// Let many buyers check out the same SKU, with few units, at the same moment
    FlashSale(FlashSale),
    /// Read pages of products (3 of 10), products (5 of 10) and carts (2 of 10)
    Browse(Shopping),
    /// Mostly read, abandon some carts, buy a little
    Mixed(Mixed),
    /// Find the peak rate, offer a multiple of it, then half of it, and measure what is confirmed
    Overload(OverloadArgs),
    /// Post about 300 bytes of JSON to any URL and read the answer
    Echo(Echo),
}

impl Scenario {
    /// The scenario's name on the command line.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Checkout(_) => "checkout",
            Self::FlashSale(sale) => sale.name(),
            Self::Browse(_) => "browse",
            Self::Mixed(_) => "mixed",
            Self::Overload(_) => "overload",
            Self::Echo(_) => "echo",
        }
    }

    /// The options of the output.
    #[must_use]
    pub const fn output(&self) -> &Output {
        match self {
            Self::Checkout(all) | Self::Browse(all) => &all.output,
            Self::FlashSale(all) => &all.output,
            Self::Mixed(all) => &all.all.output,
            Self::Overload(all) => &all.output,
            Self::Echo(all) => &all.output,
        }
    }
}

/// The arguments of a scenario with products.
#[derive(Clone, Debug, clap::Args)]
pub struct Shopping {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// The products.
    #[command(flatten)]
    pub shelf: Shelf,
    /// When flows start.
    #[command(flatten)]
    pub pace: PaceArgs,
    /// The output.
    #[command(flatten)]
    pub output: Output,
}

/// The flash sale.
#[derive(Clone, Debug, clap::Args)]
pub struct FlashSale {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Units of the SKU
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(i64).range(0..=PLENTY))]
    pub units: i64,
    /// Number of buyers; each has its own connection and wants one unit
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub buyers: u32,
    /// The output.
    #[command(flatten)]
    pub output: Output,
}

impl FlashSale {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        "flash-sale"
    }
}

/// A mix of flows.
#[derive(Clone, Debug, clap::Args)]
pub struct Mixed {
    /// The arguments that all flows of the mix share.
    #[command(flatten)]
    pub all: Shopping,
    /// The weight of reads
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub browse: u32,
    /// The weight of abandoned carts
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub leave: u32,
    /// The weight of checkouts
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub checkouts: u32,
}

/// The overload test: more flows than the server can handle.
#[derive(Clone, Debug, clap::Args)]
pub struct OverloadArgs {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// The products.
    #[command(flatten)]
    pub shelf: Shelf,
    /// How long to search for the peak
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = duration)]
    pub peak_for: Duration,
    /// Clients of the closed loop that searches for the peak
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub concurrency: u16,
    /// Multiple of the peak to offer
    #[arg(long, default_value_t = 10.0, value_name = "N", value_parser = rate)]
    pub times: f64,
    /// How long to offer it
    #[arg(long, default_value = "20s", value_name = "DURATION", value_parser = duration)]
    pub flood_for: Duration,
    /// How long to offer half of the peak afterwards
    #[arg(long, default_value = "15s", value_name = "DURATION", value_parser = duration)]
    pub after_for: Duration,
    /// Maximum number of flows in progress; arrivals beyond it are shed
    #[arg(long, default_value_t = 2_000, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub max_in_flight: u16,
    /// The weight of reads
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub browse: u32,
    /// The weight of abandoned carts
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub leave: u32,
    /// The weight of checkouts
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub checkouts: u32,
    /// The output.
    #[command(flatten)]
    pub output: Output,
}

impl OverloadArgs {
    /// The arguments of the closed loop that finds the peak rate.
    #[must_use]
    pub fn at_peak(&self) -> PaceArgs {
        PaceArgs { concurrency: Some(self.concurrency), ..self.pace(self.peak_for) }
    }

    /// The arguments of an open loop with this rate and duration.
    #[must_use]
    pub fn at_rate(&self, rate: f64, time: Duration) -> PaceArgs {
        PaceArgs { rate: Some(rate), ..self.pace(time) }
    }

    fn pace(&self, time: Duration) -> PaceArgs {
        PaceArgs {
            time: Some(time),
            count: None,
            concurrency: None,
            rate: None,
            arrivals: Arrivals::Poisson,
            max_in_flight: self.max_in_flight,
            warmup: Some(Duration::ZERO),
            seed: 1,
        }
    }
}

/// The echo scenario, for comparison with a bare server.
#[derive(Clone, Debug, clap::Args)]
pub struct Echo {
    /// The URL to post to; without a path, /echo is tried, too
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// Time limit of one request
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = duration)]
    pub timeout: Duration,
    /// When flows start.
    #[command(flatten)]
    pub pace: PaceArgs,
    /// The output.
    #[command(flatten)]
    pub output: Output,
}

/// The server, and how buyers check out there.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// The server and the key; the key is for set-up and check only
    #[command(flatten)]
    pub target: TargetArgs,
    /// Time limit of one request
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = duration)]
    pub timeout: Duration,
    /// The payment token of the buyers, for example tok_declined
    #[arg(long, default_value = "tok_ok", value_parser = token)]
    pub token: String,
    /// How many seconds a checkout waits for its outcome (Prefer: wait=N)
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=30))]
    pub wait: u8,
    /// Do not compare the server's orders with its answers
    #[arg(long)]
    pub no_check: bool,
    /// How long the check waits for the server's list of orders to catch up
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = duration)]
    pub patience: Duration,
}

/// The products of a run.
#[derive(Clone, Debug, clap::Args)]
pub struct Shelf {
    /// Number of SKUs for the carts; missing ones are created
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub skus: u32,
    /// Units on hand of each SKU
    #[arg(long, default_value_t = PLENTY, value_parser = clap::value_parser!(i64).range(0..=PLENTY))]
    pub stock: i64,
    /// Fill a cart with three requests (cart, lines, address and delivery) instead of one
    #[arg(long)]
    pub stepwise: bool,
}

/// When flows start.
#[derive(Clone, Debug, clap::Args)]
pub struct PaceArgs {
    /// Measured time; 30s if there is no --count either
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub time: Option<Duration>,
    /// Number of flows to start, including the warm-up
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Clients that start a flow when their last one has ended (closed loop); 16 without --rate
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub concurrency: Option<u16>,
    /// Flows to start per second, however slow the answers are (open loop)
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate: Option<f64>,
    /// Distribution of the arrivals in the open loop
    #[arg(long, value_enum, default_value_t, requires = "rate")]
    pub arrivals: Arrivals,
    /// Maximum number of flows in progress in the open loop; arrivals beyond it are shed
    #[arg(long, default_value_t = 1_000, value_name = "N", requires = "rate", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub max_in_flight: u16,
    /// Time before the measurement, not counted; 3s, or 0s with --count
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub warmup: Option<Duration>,
    /// Seed of the random choices
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl PaceArgs {
    /// The duration of the measurement; `None` for a run that is limited only by count.
    #[must_use]
    pub fn time(&self) -> Option<Duration> {
        self.time.or_else(|| self.count.is_none().then_some(TIME))
    }

    /// The duration of the warm-up.
    #[must_use]
    pub fn warmup(&self) -> Duration {
        let usual = if self.count.is_some() { Duration::ZERO } else { WARMUP };
        self.warmup.unwrap_or(usual)
    }

    /// The clients of the closed loop.
    #[must_use]
    pub fn workers(&self) -> u16 {
        self.concurrency.unwrap_or(WORKERS)
    }
}

impl fmt::Display for PaceArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rate {
            None => write!(f, "closed loop of {}", self.workers())?,
            Some(rate) => {
                let spread = match self.arrivals {
                    Arrivals::Poisson => "Poisson arrivals",
                    Arrivals::Even => "even arrivals",
                };
                let most = self.max_in_flight;
                write!(f, "open loop at {rate}/s, {spread}, at most {most} in flight")?;
            }
        }
        write!(f, ", warm-up {} s", self.warmup().as_secs_f64())
    }
}

/// The output.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Output {
    /// Print the report as one JSON document
    #[arg(long)]
    pub json: bool,
    /// Print no progress on standard error
    #[arg(long)]
    pub quiet: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "must be a number of flows a second".to_owned())?;
    if (0.001..=1_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("must be from 0.001 to 1000000 flows a second".to_owned())
    }
}

fn token(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=512).contains(&text.len()) && text.bytes().all(good) {
        Ok(text.to_owned())
    } else {
        Err("must have letters, digits, _ and - only".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn read(words: &str) -> Result<Args, clap::Error> {
        Cli::try_parse_from(words.split(' ')).map(|cli| cli.args)
    }

    #[test]
    fn a_wrong_scenario_is_answered_with_the_right_ones() {
        let error = read("load chekout --key k").unwrap_err().to_string();
        assert!(error.contains("'checkout'"), "{error}");
        let error = read("load").unwrap_err().to_string();
        for name in ["checkout", "flash-sale", "browse", "mixed", "overload", "echo"] {
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn rate_and_concurrency_exclude_each_other_and_are_bounded() {
        assert!(read("load browse --key k --rate 9 --concurrency 3").is_err());
        for bad in ["--rate 0", "--rate x", "--concurrency 0", "--skus 1", "--token a\"b"] {
            assert!(read(&format!("load checkout --key k {bad}")).is_err(), "{bad}");
        }
        assert!(read("load echo --url http://h/x --rate 0.5 --arrivals even").is_ok());
        assert!(read("load echo --url http://h/x --arrivals even").is_err(), "no rate");
    }

    #[test]
    fn a_run_is_by_time_or_by_count() {
        let pace = |words: &str| match read(&format!("load checkout --key k {words}")) {
            Ok(Args { scenario: Scenario::Checkout(all) }) => (all.pace.time(), all.pace.warmup()),
            other => panic!("{other:?}"),
        };
        assert_eq!(pace("--rate 5"), (Some(TIME), WARMUP));
        assert_eq!(pace("--count 5"), (None, Duration::ZERO));
        let both = (Some(Duration::from_secs(1)), Duration::from_secs(2));
        assert_eq!(pace("--count 5 --for 1s --warmup 2s"), both);
    }
}
