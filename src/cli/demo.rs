//! `kontor demo`: a shop with buyers, shopkeepers, a provider and nothing to set up, on data that
//! is thrown away.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::{self, Client};
use super::serve::told_to_stop;
use super::shopkeepers;
use super::shoppers;
use super::sign_in::{self, Link};
use super::{Error, import, print_json};
use crate::actors::clock::Clock;
use crate::app::App;
use crate::config::Config;
use crate::http::server::StartError;
use crate::sandbox_psp::{self, Running};
use crate::store::Store;
use crate::store::session::SET_UP_LASTS;
use crate::telemetry;
use crate::verify;

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
  kontor demo --for 30s --json")]
pub struct Args {
    /// Stop after so long: 30s, 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration)]
    pub time: Option<Duration>,
    /// How many carts the buyers begin in a second
    #[arg(long, default_value_t = 20.0, value_name = "N")]
    pub rate: f64,
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
    let outcome = demo(&args, &dir).await;
    std::fs::remove_dir_all(&dir)?;
    outcome
}

async fn demo(args: &Args, dir: &Path) -> Result<ExitCode, Error> {
    let shop = open(dir).await?;
    stock_up(&shop, args.json).await?;
    let mut watch = None;
    if !args.json {
        let (store, url) = (shop.app.store.clone(), shop.app.url());
        let link = sign_in::make(&store, &url, "demo", SET_UP_LASTS).await?;
        screen(&shop, &link)?;
        watch = Some(tokio::spawn(links(store, url, link)));
    }
    let people = People::begin(&shop, args.rate)?;
    let started = Instant::now();
    let live = (!args.json).then(|| tokio::spawn(figures(people.counters.clone(), started)));
    match args.time {
        Some(time) => tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = told_to_stop() => {}
        },
        None => told_to_stop().await,
    }
    if let Some(watch) = watch {
        watch.abort();
    }
    if let Some(live) = live {
        live.abort();
        println!();
    }
    let counts = people.end().await?;
    finish(shop, counts, started.elapsed(), args.json).await
}

/// What the people of the demo have done.
#[derive(Clone, Default)]
struct Counters {
    buyers: Arc<shoppers::Counters>,
    shopkeepers: Arc<shopkeepers::Counters>,
}

impl Counters {
    fn read(&self) -> (shoppers::Counts, shopkeepers::Counts) {
        (self.buyers.read(), self.shopkeepers.read())
    }
}

/// One side of the counter: how to stop it, and what it then says.
type Side = (watch::Sender<bool>, JoinHandle<Result<(), client::Error>>);

struct People {
    counters: Counters,
    buyers: Side,
    shopkeepers: Side,
}

impl People {
    fn begin(shop: &Shop, rate: f64) -> Result<Self, Error> {
        let (url, counters) = (shop.app.url(), Counters::default());
        let (stop, stopped) = watch::channel(false);
        let options = shoppers::Options { carts_per_sec: rate, ..shoppers::Options::default() };
        let anybody = Client::new(&url, None)?;
        let buyers = shoppers::run(anybody, options, counters.buyers.clone(), stopped);
        let buyers = (stop, tokio::spawn(buyers));
        let (stop, stopped) = watch::channel(false);
        let options = shopkeepers::Options::default();
        let admin = Client::new(&url, Some(shop.key.clone()))?;
        let staff = shopkeepers::run(admin, options, counters.shopkeepers.clone(), stopped);
        Ok(Self { counters, buyers, shopkeepers: (stop, tokio::spawn(staff)) })
    }

    /// Sends the shopkeepers home, then the buyers.
    async fn end(self) -> Result<(shoppers::Counts, shopkeepers::Counts), Error> {
        for (stop, work) in [self.shopkeepers, self.buyers] {
            stop.send_replace(true);
            work.await.map_err(|error| Error::Usage(error.to_string()))??;
        }
        Ok(self.counters.read())
    }
}

async fn open(dir: &Path) -> Result<Shop, Error> {
    let psp = sandbox_psp::start(sandbox_psp::Options {
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

async fn stock_up(shop: &Shop, quiet: bool) -> Result<(), Error> {
    if !quiet {
        eprintln!("filling the shelves");
    }
    let client = Client::new(&shop.app.url(), Some(shop.key.clone()))?;
    import::import_csv(&client, import::DEMO_CATALOG).await?;
    Ok(())
}

/// Shows a new link whenever the last one was used, so that the next visitor can come in.
async fn links(store: Store, url: String, mut link: Link) {
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

async fn finish(
    shop: Shop,
    (counts, staff): (shoppers::Counts, shopkeepers::Counts),
    time: Duration,
    as_json: bool,
) -> Result<ExitCode, Error> {
    let Shop { psp, app, config, .. } = shop;
    app.stop().await;
    let store = Store::open_beside(&config.data.dir).await?;
    let options = verify::provider::sandbox_options(&store, &psp.url()).await?;
    let provider = crate::providers::sandbox::Sandbox::new(options)
        .map_err(|error| Error::Usage(error.to_string()))?;
    let report = verify::verify(&store, Some(&provider), |_| {}).await?;
    store.close().await;
    psp.stop().await;
    let ok = report.ok;
    if as_json {
        print_json(&json!({
            "seconds": time.as_secs_f64(),
            "buyers": counts,
            "shopkeepers": staff,
            "verify": report,
        }))?;
    } else {
        println!(
            "\n  {} carts, {} orders, {:.2} GBP in {:.0} s; {} declined, {} came too late\n  \
             {} shipped, {} refunded, {} cancelled; {} deliveries received",
            counts.carts,
            counts.confirmed,
            counts.revenue as f64 / 100.0,
            time.as_secs_f64(),
            counts.declined,
            counts.out_of_stock,
            staff.shipped,
            staff.refunded,
            staff.canceled,
            staff.received,
        );
        println!("{report}");
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
