//! `kontor demo`: runs a shop with simulated buyers and shopkeepers and a payment provider, on
//! temporary data and without any set-up. `cluster` runs the same demo on a cluster; the simulated
//! people are in `kontor_lab`.

mod cluster;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use kontor::actors::engine::clock::Clock;
use kontor::app::App;
use kontor::config::Config;
use kontor::http::server::StartError;
use kontor::store::Store;
use kontor::store::session::SET_UP_LASTS;
use kontor::telemetry;
use kontor::verify::{self, VerifyReport};
use kontor_lab::args::duration;
use kontor_lab::people::{Day, People, stock_up};
use kontor_lab::stdout;
use kontor_sandbox_psp::Running;
use serde_json::json;

use super::Error;
use super::serve::told_to_stop;
use super::sign_in::{self, SignInLink};

/// The port that the demo listens on if it is free; otherwise any free port.
const PORT: u16 = 8080;
/// How often the demo checks whether its sign-in link was used.
const TICK: Duration = Duration::from_millis(500);

/// Run a demo shop with simulated buyers, on temporary data
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Starts a shop of about 200 products, the sandbox payment provider, simulated buyers, and staff who
restock, ship and refund. Some payments fail. Ctrl-C stops the demo, which then verifies every order
against the provider's ledger.

Examples:
  kontor demo
  kontor demo --for 30s --json
  kontor demo --cluster           three nodes behind HAProxy, with PostgreSQL, NATS and Redis, which
                                  are installed with apt-get if they are missing")]
pub struct Args {
    /// Stop after this time: 30s, 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub time: Option<Duration>,
    /// New carts per second
    #[arg(long, default_value_t = 20.0, value_name = "N")]
    pub rate: f64,
    /// Run three nodes behind a load balancer, with PostgreSQL, NATS and Redis, on this machine
    #[arg(long)]
    pub cluster: bool,
    /// Print only the summary, as JSON
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
        true => Box::pin(cluster::run(&args, &dir)).await,
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
        let link = sign_in::make(&store, &url, "you", SET_UP_LASTS).await?;
        stdout::notice(screen(&shop, &link)?);
        watch = Some(tokio::spawn(links(store, url, link)));
    }
    let day = run_people(&shop.app.url(), &shop.key, args).await?;
    if let Some(watch) = watch {
        watch.abort();
    }
    finish(shop, &day, args.json).await
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
        Err(kontor::app::Error::Server(StartError::Listen { .. })) => {
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

/// Shows a new sign-in link whenever the last one was used, so that another browser can sign in.
async fn links(store: Store, url: String, mut link: SignInLink) {
    loop {
        tokio::time::sleep(TICK).await;
        let now = Clock::system().now();
        // If the store cannot be read, the link is checked again later.
        if store.link_works(&link.token, now).await.unwrap_or(true) {
            continue;
        }
        if let Ok(next) = sign_in::make(&store, &url, "you", SET_UP_LASTS).await {
            let address = &next.address;
            show_line(&format!("admin     {address}  (the last link was used)"));
            link = next;
        }
    }
}

/// Prints a line above the status line.
fn show_line(line: &str) {
    let end = if std::io::stdout().is_terminal() { "\r\x1b[K" } else { "" };
    stdout::notice(format!("{end}  {line}\n"));
}

fn screen(shop: &Shop, link: &SignInLink) -> std::io::Result<Vec<u8>> {
    let url = shop.app.url();
    let mut out = Vec::new();
    writeln!(out, "\n  kontor demo: a shop with simulated buyers, on temporary data\n")?;
    writeln!(out, "  admin     {}", link.address)?;
    writeln!(out, "  shop      {url}/v1/store/products")?;
    writeln!(out, "  API docs  {url}/docs")?;
    writeln!(out, "  orders    {url}/v1/admin/orders")?;
    writeln!(out, "  metrics   {url}/metrics")?;
    writeln!(out, "  payments  {}/v1/payments", shop.psp.url())?;
    writeln!(out, "  API key   {}\n", shop.key)?;
    writeln!(out, "  Ctrl-C stops it and verifies every order.\n")?;
    Ok(out)
}

async fn finish(shop: Shop, day: &Day, as_json: bool) -> Result<ExitCode, Error> {
    let Shop { psp, app, config, .. } = shop;
    app.stop().await;
    let store = Store::open_beside(&config.data.dir).await?;
    let report = verify_store(&store, &psp).await?;
    store.close().await;
    psp.stop().await;
    show(day, &report, as_json)
}

/// Verifies a store that no server is using, also against the provider's ledger.
async fn verify_store(store: &Store, psp: &Running) -> Result<VerifyReport, Error> {
    let options = verify::provider::sandbox_options(store, &psp.url()).await?;
    let provider = kontor::providers::sandbox::Sandbox::new(options)
        .map_err(|error| Error::Usage(error.to_string()))?;
    Ok(verify::verify(store, Some(&provider), |_| {}).await?)
}

/// Runs the simulated people until the time is over or Ctrl-C is pressed; returns their totals.
async fn run_people(url: &str, key: &str, args: &Args) -> Result<Day, Error> {
    let people = People::begin(url, key, args.rate, args.json)?;
    match args.time {
        Some(time) => tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = told_to_stop() => {}
        },
        None => told_to_stop().await,
    }
    Ok(people.end().await?)
}

/// Prints the summary of a demo. The exit code tells whether all invariants hold.
fn show(day: &Day, report: &VerifyReport, as_json: bool) -> Result<ExitCode, Error> {
    if as_json {
        let Day { seconds, buyers, shopkeepers } = day;
        let summary = json!({
            "seconds": seconds,
            "buyers": buyers,
            "shopkeepers": shopkeepers,
            "verify": report,
        });
        stdout::notice(format!("{summary:#}\n"));
    } else {
        stdout::notice(format!("\n{day}\n{report}\n"));
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
