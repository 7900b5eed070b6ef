//! The people of a demo: simulated buyers and shopkeepers, and a status line.
//!
//! Deliberately not here: setting up the shop, and verifying it afterwards.

use std::collections::VecDeque;
use std::fmt;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kontor_client::Client;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::stderr;
use crate::{Error, import, shopkeepers, shoppers, stdout};

/// Period of the status line.
const TICK: Duration = Duration::from_millis(500);
/// The status line shows the latency of checkouts in the last period of this length.
const LATENCY_WINDOW: Duration = Duration::from_secs(10);

/// Counters of the demo's people.
#[derive(Clone, Default)]
struct Counters {
    buyers: Arc<shoppers::BuyerCounters>,
    shopkeepers: Arc<shopkeepers::ShopkeeperCounters>,
}

impl Counters {
    fn read(&self) -> (shoppers::BuyerCounts, shopkeepers::ShopkeeperCounts) {
        (self.buyers.read(), self.shopkeepers.read())
    }
}

/// Buyers or shopkeepers: how to stop them, and their result.
type Side = (watch::Sender<bool>, JoinHandle<Result<(), kontor_client::Error>>);

/// The buyers and shopkeepers of a demo.
pub struct People {
    counters: Counters,
    buyers: Side,
    shopkeepers: Side,
    started: Instant,
    live: Option<JoinHandle<()>>,
}

impl People {
    /// Starts the simulated people at a shop's URL: shopkeepers with the API key, and buyers who
    /// create `carts_per_sec` carts per second in all. Prints a status line unless `quiet`.
    ///
    /// # Errors
    /// [`Error::Client`]: the URL or the key is invalid.
    pub fn begin(url: &str, key: &str, carts_per_sec: f64, quiet: bool) -> Result<Self, Error> {
        let counters = Counters::default();
        let (stop, stopped) = watch::channel(false);
        let options = shoppers::Options { carts_per_sec, ..Default::default() };
        let anybody = Client::new(url, None)?;
        let buyers = shoppers::run(anybody, options, counters.buyers.clone(), stopped);
        let buyers = (stop, tokio::spawn(buyers));
        let (stop, stopped) = watch::channel(false);
        let options = shopkeepers::Options::default();
        let admin = Client::new(url, Some(key.to_owned()))?;
        let staff = shopkeepers::run(admin, options, counters.shopkeepers.clone(), stopped);
        let shopkeepers = (stop, tokio::spawn(staff));
        let started = Instant::now();
        let live = (!quiet).then(|| tokio::spawn(figures(counters.clone(), started)));
        Ok(Self { counters, buyers, shopkeepers, started, live })
    }

    /// Stops the shopkeepers, then the buyers.
    ///
    /// # Errors
    /// [`Error`]: some of them failed.
    pub async fn end(self) -> Result<Day, Error> {
        if let Some(live) = self.live {
            live.abort();
            stdout::notice("\n");
        }
        for (stop, work) in [self.shopkeepers, self.buyers] {
            stop.send_replace(true);
            work.await.map_err(|error| Error::Failed(error.to_string()))??;
        }
        let (buyers, shopkeepers) = self.counters.read();
        Ok(Day { seconds: self.started.elapsed().as_secs_f64(), buyers, shopkeepers })
    }
}

/// The totals of a demo.
#[derive(Clone, Debug, Serialize)]
pub struct Day {
    /// Its duration in seconds.
    pub seconds: f64,
    /// Totals of the buyers.
    pub buyers: shoppers::BuyerCounts,
    /// Totals of the shopkeepers.
    pub shopkeepers: shopkeepers::ShopkeeperCounts,
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, buyers, shopkeepers: staff } = self;
        write!(
            f,
            "  {} carts, {} orders, {:.2} GBP in {seconds:.0} s; {} declined, {} sold out\n  \
             {} shipped, {} refunded, {} cancelled; {} stock deliveries received",
            buyers.carts,
            buyers.confirmed,
            buyers.revenue as f64 / 100.0,
            buyers.declined,
            buyers.out_of_stock,
            staff.shipped,
            staff.refunded,
            staff.canceled,
            staff.received,
        )
    }
}

/// Imports the demo's products.
///
/// # Errors
/// [`Error`], as for an import.
pub async fn stock_up(url: &str, key: &str, quiet: bool) -> Result<(), Error> {
    if !quiet {
        stderr::line("importing the demo products");
    }
    let client = Client::new(url, Some(key.to_owned()))?;
    import::import_csv(&client, import::DEMO_CATALOG).await?;
    Ok(())
}

/// Prints the status line: on a terminal in place, elsewhere as a new line every 5 s.
async fn figures(counters: Counters, started: Instant) {
    let terminal = std::io::stdout().is_terminal();
    let period = if terminal { TICK } else { TICK * 10 };
    let mut before = shoppers::BuyerCounts::default();
    let mut window = VecDeque::from([shoppers::Latencies::default()]);
    loop {
        tokio::time::sleep(period).await;
        let (now, staff) = counters.read();
        let latencies = counters.buyers.latencies();
        let oldest = window.front().copied().unwrap_or_default();
        window.push_back(latencies);
        if period * u32::try_from(window.len()).unwrap_or(u32::MAX) > LATENCY_WINDOW {
            window.pop_front();
        }
        let rate = now.confirmed.saturating_sub(before.confirmed) as f64 / period.as_secs_f64();
        let line = format!(
            "  {:>4}s  {:>6} sold  {rate:>5.1}/s  {:>10.2} GBP  {:>6} shipped  {:>4} refunded  \
             {:>4} declined  {:>4} sold out  p99 {} ms",
            started.elapsed().as_secs(),
            now.confirmed,
            now.revenue as f64 / 100.0,
            staff.shipped,
            staff.refunded,
            now.declined,
            now.out_of_stock,
            latencies.since(oldest).percentile(99),
        );
        let line = if terminal { format!("\r{line}\x1b[K") } else { format!("{line}\n") };
        stdout::notice(&line);
        before = now;
    }
}
