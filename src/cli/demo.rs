//! `kontor demo`: a shop with buyers, shopkeepers, a provider and nothing to set up, on data that
//! is thrown away. The same on a cluster is in `cluster/demo.rs`.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::serve::told_to_stop;
use super::shopkeepers;
use super::shoppers;
use super::sign_in::{self, Link};
use super::{Error, cluster, import, print_json};
use crate::actors::engine::clock::Clock;
use crate::app::App;
use crate::config::Config;
use crate::http::server::StartError;
use crate::store::Store;
use crate::store::session::SET_UP_LASTS;
use crate::telemetry;
use crate::verify::{self, Report};
use kontor_client::Client;
use kontor_sandbox_psp::Running;

/// Where the demo listens if that is free.
const PORT: u16 = 8080;
/// How often the line of figures is written anew.
const TICK: Duration = Duration::from_millis(500);

/// Run a demo shop with simulated buyers, on throw-away data
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Starts a shop of some 200 products, the sandbox payment provider, buyers with all kinds of luck,
and people who restock, ship and refund. Ctrl-C stops it; then every order is verified against the provider's ledger.

Examples:
  kontor demo
  kontor demo --for 30s --json
  kontor demo --cluster           three nodes behind HAProxy, on PostgreSQL, NATS and Redis, which
                                  are installed with apt-get if they are not there")]
pub struct Args {
    /// Stop after so long: 30s, 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration)]
    pub time: Option<Duration>,
    /// How many carts the buyers begin in a second
    #[arg(long, default_value_t = 20.0, value_name = "N")]
    pub rate: f64,
    /// Three nodes behind a load balancer, on PostgreSQL, NATS and Redis, all on this machine
    #[arg(long)]
    pub cluster: bool,
    /// Print the summary as JSON, and nothing else
    #[arg(long)]
    pub json: bool,
}

struct Shop {
    psp: Running,
    app: App,
    config: Config,
    key: String,
}

/// Runs the demo.
///
/// # Errors
/// [`Error`]: something does not start.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let quiet = telemetry::Options { filter: "error".into(), ..telemetry::Options::default() };
    telemetry::start(&quiet).map_err(Error::Usage)?;
    let dir = std::env::temp_dir().join(format!("kontor-demo-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let outcome = match args.cluster {
        true => Box::pin(cluster::demo::run(&args, &dir)).await,
        false => demo(&args, &dir).await,
    };
    std::fs::remove_dir_all(&dir)?;
    outcome
}

async fn demo(args: &Args, dir: &Path) -> Result<ExitCode, Error> {
    let shop = open(dir).await?;
    stock_up(&shop.app.url(), &shop.key, args.json).await?;
    let mut watch = None;
    if !args.json {
        let (store, url) = (shop.app.store.clone(), shop.app.url());
        let link = sign_in::make(&store, &url, "demo", SET_UP_LASTS).await?;
        screen(&shop, &link)?;
        watch = Some(tokio::spawn(links(store, url, link)));
    }
    let people = People::begin(&shop.app.url(), &shop.key, args)?;
    people.work(args.time).await;
    if let Some(watch) = watch {
        watch.abort();
    }
    let day = people.end().await?;
    finish(shop, &day, args.json).await
}

/// What the people of the demo have done.
#[derive(Clone, Default)]
pub(super) struct Counters {
    buyers: Arc<shoppers::Counters>,
    shopkeepers: Arc<shopkeepers::Counters>,
}

impl Counters {
    fn read(&self) -> (shoppers::Counts, shopkeepers::Counts) {
        (self.buyers.read(), self.shopkeepers.read())
    }
}

/// One side of the counter: how to stop it, and what it then says.
type Side = (watch::Sender<bool>, JoinHandle<Result<(), kontor_client::Error>>);

/// The buyers and shopkeepers of a demo, at work.
pub(super) struct People {
    counters: Counters,
    buyers: Side,
    shopkeepers: Side,
    started: Instant,
    live: Option<JoinHandle<()>>,
}

/// What the people of a demo have done in all.
pub(super) struct Day {
    buyers: shoppers::Counts,
    shopkeepers: shopkeepers::Counts,
    time: Duration,
}

impl People {
    /// Lets people in, and shows what they do unless the answer is JSON.
    pub(super) fn begin(url: &str, key: &str, args: &Args) -> Result<Self, Error> {
        let counters = Counters::default();
        let (stop, stopped) = watch::channel(false);
        let options = shoppers::Options { carts_per_sec: args.rate, ..Default::default() };
        let anybody = Client::new(url, None)?;
        let buyers = shoppers::run(anybody, options, counters.buyers.clone(), stopped);
        let buyers = (stop, tokio::spawn(buyers));
        let (stop, stopped) = watch::channel(false);
        let options = shopkeepers::Options::default();
        let admin = Client::new(url, Some(key.to_owned()))?;
        let staff = shopkeepers::run(admin, options, counters.shopkeepers.clone(), stopped);
        let shopkeepers = (stop, tokio::spawn(staff));
        let started = Instant::now();
        let live = (!args.json).then(|| tokio::spawn(figures(counters.clone(), started)));
        Ok(Self { counters, buyers, shopkeepers, started, live })
    }

    /// Waits until it is time to close.
    pub(super) async fn work(&self, time: Option<Duration>) {
        match time {
            Some(time) => tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = told_to_stop() => {}
            },
            None => told_to_stop().await,
        }
    }

    /// Sends the shopkeepers home, then the buyers.
    pub(super) async fn end(self) -> Result<Day, Error> {
        if let Some(live) = self.live {
            live.abort();
            println!();
        }
        for (stop, work) in [self.shopkeepers, self.buyers] {
            stop.send_replace(true);
            work.await.map_err(|error| Error::Usage(error.to_string()))??;
        }
        let (buyers, shopkeepers) = self.counters.read();
        Ok(Day { buyers, shopkeepers, time: self.started.elapsed() })
    }
}

async fn open(dir: &Path) -> Result<Shop, Error> {
    let psp = kontor_sandbox_psp::start(kontor_sandbox_psp::Options {
        data: dir.join("psp"),
        listen: ([127, 0, 0, 1], 0).into(),
    })
    .await?;
    let mut config = Config::default();
    config.data.dir = dir.join("shop");
    config.sandbox.url = psp.url();
    config.http.listen = ([127, 0, 0, 1], PORT).into();
    let app = match App::start(&config).await {
        Err(crate::app::Error::Server(StartError::Listen { .. })) => {
            config.http.listen = ([127, 0, 0, 1], 0).into();
            App::start(&config).await?
        }
        other => other?,
    };
    let scopes = ["admin".to_owned()];
    let (_, key) = app.store.create_key("demo", &scopes, Clock::system().now()).await?;
    let key = key.reveal().to_owned();
    Ok(Shop { psp, app, config, key })
}

/// Puts the demo's products on sale.
pub(super) async fn stock_up(url: &str, key: &str, quiet: bool) -> Result<(), Error> {
    if !quiet {
        eprintln!("filling the shelves");
    }
    let client = Client::new(url, Some(key.to_owned()))?;
    import::import_csv(&client, import::DEMO_CATALOG).await?;
    Ok(())
}

/// Shows a new link whenever the last one was used, so that the next visitor can come in.
pub(super) async fn links(store: Store, url: String, mut link: Link) {
    loop {
        tokio::time::sleep(TICK).await;
        let now = Clock::system().now();
        // A store that is busy is asked again.
        if store.link_works(&link.token, now).await.unwrap_or(true) {
            continue;
        }
        if let Ok(next) = sign_in::make(&store, &url, "demo", SET_UP_LASTS).await {
            let end = if std::io::stdout().is_terminal() { "\r\x1b[K" } else { "" };
            let mut out = std::io::stdout().lock();
            // Whoever reads standard output may be gone by now.
            let _ = writeln!(out, "{end}  admin     {}  (the last link was used)", next.address);
            let _ = out.flush();
            link = next;
        }
    }
}

fn screen(shop: &Shop, link: &Link) -> std::io::Result<()> {
    let url = shop.app.url();
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n  kontor demo: a shop that sells, on data that is thrown away\n")?;
    writeln!(out, "  admin     {}", link.address)?;
    writeln!(out, "  shop      {url}/v1/store/products")?;
    writeln!(out, "  API docs  {url}/docs")?;
    writeln!(out, "  orders    {url}/v1/admin/orders")?;
    writeln!(out, "  metrics   {url}/metrics")?;
    writeln!(out, "  payments  {}/v1/payments", shop.psp.url())?;
    writeln!(out, "  API key   {}\n", shop.key)?;
    writeln!(out, "  Ctrl-C stops it and verifies every order.\n")?;
    out.flush()
}

/// A line of living figures: over itself on a terminal, now and then elsewhere.
async fn figures(counters: Counters, started: Instant) {
    let terminal = std::io::stdout().is_terminal();
    let mut before = shoppers::Counts::default();
    loop {
        let period = if terminal { TICK } else { TICK * 10 };
        tokio::time::sleep(period).await;
        let (now, staff) = counters.read();
        let rate = now.confirmed.saturating_sub(before.confirmed) as f64 / period.as_secs_f64();
        let line = format!(
            "  {:>4}s  {:>6} sold  {rate:>5.1}/s  {:>10.2} GBP  {:>6} shipped  {:>4} refunded  \
             {:>4} declined  {:>4} too late  p99 {} ms",
            started.elapsed().as_secs(),
            now.confirmed,
            now.revenue as f64 / 100.0,
            staff.shipped,
            staff.refunded,
            now.declined,
            now.out_of_stock,
            now.checkout_p99_ms,
        );
        let mut out = std::io::stdout().lock();
        let _ = if terminal { write!(out, "\r{line}\x1b[K") } else { writeln!(out, "{line}") };
        let _ = out.flush();
        drop(out);
        before = now;
    }
}

async fn finish(shop: Shop, day: &Day, as_json: bool) -> Result<ExitCode, Error> {
    let Shop { psp, app, config, .. } = shop;
    app.stop().await;
    let store = Store::open_beside(&config.data.dir).await?;
    let report = proof(&store, &psp).await?;
    store.close().await;
    psp.stop().await;
    show(day, &report, as_json)
}

/// Verifies a store that no server runs on, against the provider's ledger too.
pub(super) async fn proof(store: &Store, psp: &Running) -> Result<Report, Error> {
    let options = verify::provider::sandbox_options(store, &psp.url()).await?;
    let provider = crate::providers::sandbox::Sandbox::new(options)
        .map_err(|error| Error::Usage(error.to_string()))?;
    Ok(verify::verify(store, Some(&provider), |_| {}).await?)
}

/// The summary of a demo.
pub(super) fn show(day: &Day, report: &Report, as_json: bool) -> Result<ExitCode, Error> {
    let Day { buyers, shopkeepers: staff, time } = day;
    if as_json {
        print_json(&json!({
            "seconds": time.as_secs_f64(),
            "buyers": buyers,
            "shopkeepers": staff,
            "verify": report,
        }))?;
    } else {
        println!(
            "\n  {} carts, {} orders, {:.2} GBP in {:.0} s; {} declined, {} came too late\n  \
             {} shipped, {} refunded, {} cancelled; {} deliveries received",
            buyers.carts,
            buyers.confirmed,
            buyers.revenue as f64 / 100.0,
            time.as_secs_f64(),
            buyers.declined,
            buyers.out_of_stock,
            staff.shipped,
            staff.refunded,
            staff.canceled,
            staff.received,
        );
        println!("{report}");
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
