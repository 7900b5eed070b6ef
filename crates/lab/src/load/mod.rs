//! `kontor load`: puts load on a server through its public API, measures it, and checks its
//! answers.
//!
//! In order of use: `args` defines the arguments, `setup` prepares, `pace` starts flows, `buyer`
//! performs them over `wire`, `measure` counts, `check` compares the server's orders with its
//! answers, `report` prints.
//!
//! All of it runs on one thread: it shares the cores with the measured server, it mostly waits, and
//! counting needs no locks. Deliberately not here: TLS, and more than one machine.

pub mod answer;
pub mod args;
pub mod buyer;
pub mod check;
pub mod cost;
pub mod echo;
pub mod flash;
pub mod id;
pub mod measure;
pub mod overload;
pub mod pace;
pub mod progress;
pub mod report;
pub mod setup;
pub mod wire;

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use hyper::header::HeaderValue;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::Instant;

pub use self::args::Args;
use self::args::{FlashSale, PaceArgs, Scenario, ServerArgs, Shelf};
use self::buyer::{CheckoutOptions, LoadBuyer, LoadRun, Mix};
use self::check::ReportedOutcome;
use self::cost::Cost;
use self::flash::Sale;
use self::measure::Recorder;
use self::overload::{Phases, ServerWatch};
use self::pace::{ArrivalSchedule, Ending, FlowLimits};
use self::progress::ProgressOutput;
use self::report::LoadReport;
use self::setup::Goods;
use self::wire::RequestTarget;
use crate::stderr;
use kontor_client::Client;

/// The exit code when arrivals were shed, so the requested rate was not offered.
const SHED: u8 = 3;

/// Why a load test cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server failed.
    #[error(transparent)]
    Client(#[from] kontor_client::Error),
    /// The URL is invalid.
    #[error(transparent)]
    Place(#[from] wire::BadPlace),
    /// The server at the URL does not echo.
    #[error("{url} does not echo: {answer}; name its path, as in http://127.0.0.1:9000/echo")]
    NoEcho {
        /// The URL.
        url: String,
        /// What the server answered instead.
        answer: String,
    },
    /// The server has no delivery option in GBP.
    #[error("the server has no delivery option in GBP")]
    NoDelivery,
    /// The server refuses a product.
    #[error("the server refuses product {sku}: {field} {message}")]
    Product {
        /// The SKU.
        sku: String,
        /// The invalid field.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// The buyers of a flash sale cannot be prepared.
    #[error("cannot prepare the sale: {0}")]
    Prepare(String),
    /// Ctrl-C was pressed during the preparation.
    #[error("stopped before the clock started; nothing was measured")]
    Stopped,
    /// The report cannot be printed.
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
}

/// Runs the command. When `told_to_stop` resolves for the first time it ends early, with its report
/// and check; the second time at once.
///
/// # Errors
/// [`Error`] when it could not run; a failed check is exit code 1, shed arrivals are 3.
pub async fn run<F: Future<Output = ()> + Send>(
    args: Args,
    told_to_stop: impl Fn() -> F + Send + 'static,
) -> Result<ExitCode, Error> {
    let (told, stop) = watch::channel(false);
    let signals = tokio::spawn(async move {
        told_to_stop().await;
        stderr::line(
            "stopping: flows in progress finish, then the check follows; Ctrl-C again stops at once",
        );
        told.send_replace(true);
        told_to_stop().await;
        std::process::exit(130);
    });
    let json = args.scenario.output().json;
    let report = measure(args, stop).await;
    signals.abort();
    let report = report?;
    if json {
        crate::stdout::json(&report)?;
    } else {
        crate::stdout::line(format_args!("\n{report}"));
    }
    Ok(match (report.ok, report.shed) {
        (false, _) => ExitCode::FAILURE,
        (true, 0) => ExitCode::SUCCESS,
        (true, _) => ExitCode::from(SHED),
    })
}

/// Runs the scenario of the arguments, to its end or until `stop` is true.
///
/// # Errors
/// [`Error`] when it could not run.
pub async fn measure(args: Args, stop: watch::Receiver<bool>) -> Result<LoadReport, Error> {
    let progress = ProgressOutput { quiet: args.scenario.output().quiet };
    let work = async {
        let name = args.scenario.name();
        match &args.scenario {
            Scenario::Checkout(buy) => {
                let mix = Mix::CHECKOUT;
                shop(name, &buy.server, &buy.shelf, &buy.pace, mix, stop, progress).await
            }
            Scenario::Browse(read) => {
                let mix = Mix { weights: [1, 0, 0], echo: false };
                shop(name, &read.server, &read.shelf, &read.pace, mix, stop, progress).await
            }
            Scenario::Mixed(mixed) => {
                let weights = [mixed.browse, mixed.leave, mixed.checkouts];
                let (all, mix) = (&mixed.all, Mix { weights, echo: false });
                shop(name, &all.server, &all.shelf, &all.pace, mix, stop, progress).await
            }
            Scenario::Overload(over) => overload(over, stop, progress).await,
            Scenario::FlashSale(sale) => flash_sale(sale, &stop, progress).await,
            Scenario::Echo(echo) => {
                let place = unless_stopped(&stop, echo::find(echo)).await?;
                let mix = Mix { weights: [0; 3], echo: true };
                let run = new_run(place, Goods::default(), CheckoutOptions::default(), mix);
                Ok(drive(name, &run, &echo.pace, stop, progress, 1).await)
            }
        }
    };
    LocalSet::new().run_until(Box::pin(work)).await
}

fn checkout_options(server: &ServerArgs, stepwise: bool) -> CheckoutOptions {
    let prefer = format!("wait={}", server.wait);
    let prefer = HeaderValue::try_from(prefer).unwrap_or(HeaderValue::from_static("wait=5"));
    CheckoutOptions { token: server.token.clone(), prefer, stepwise }
}

fn new_run(
    place: RequestTarget,
    goods: Goods,
    checkout_options: CheckoutOptions,
    mix: Mix,
) -> Rc<LoadRun> {
    Rc::new(LoadRun {
        name: format!("load-{:08x}", rand::random::<u32>()),
        place: Rc::new(place),
        goods,
        checkout_options,
        mix,
        recorder: RefCell::new(Recorder::new(Instant::now(), None)),
        answers: RefCell::new(Vec::new()),
        carts: Cell::new(0),
    })
}

/// The result of `work`, unless Ctrl-C is pressed before.
async fn unless_stopped<T>(
    stop: &watch::Receiver<bool>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut stop = stop.clone();
    tokio::select! {
        done = work => done,
        _ = stop.wait_for(|stop| *stop) => Err(Error::Stopped),
    }
}

/// A scenario with products.
async fn shop(
    name: &'static str,
    server: &ServerArgs,
    shelf: &Shelf,
    pace: &PaceArgs,
    mix: Mix,
    stop: watch::Receiver<bool>,
    progress: ProgressOutput,
) -> Result<LoadReport, Error> {
    let place = RequestTarget::parse(&server.target.url, server.timeout)?;
    let client = server.target.client()?;
    let set_up = async {
        let mut goods = setup::stock_up(&client, shelf.skus, shelf.stock, progress).await?;
        if mix.weights[0] > 0 {
            setup::reading_matter(&client, &mut goods, "load-carts", progress).await?;
        }
        Ok(goods)
    };
    let goods = unless_stopped(&stop, set_up).await?;
    let run = new_run(place, goods, checkout_options(server, shelf.stepwise), mix);
    let requests = if shelf.stepwise { 4 } else { 2 };
    let mut report = drive(name, &run, pace, stop, progress, requests).await;
    verify(&client, server, &run, &mut report, progress).await?;
    Ok(report)
}

/// The peak rate, a multiple of it, and half of it.
async fn overload(
    args: &args::OverloadArgs,
    stop: watch::Receiver<bool>,
    progress: ProgressOutput,
) -> Result<LoadReport, Error> {
    let args::OverloadArgs { server, shelf, browse, leave, checkouts, .. } = args;
    let place = RequestTarget::parse(&server.target.url, server.timeout)?;
    let client = server.target.client()?;
    let set_up = async {
        let mut goods = setup::stock_up(&client, shelf.skus, shelf.stock, progress).await?;
        setup::reading_matter(&client, &mut goods, "load-carts", progress).await?;
        Ok(goods)
    };
    let goods = unless_stopped(&stop, set_up).await?;
    let mix = Mix { weights: [*browse, *leave, *checkouts], echo: false };
    let run = new_run(place, goods, checkout_options(server, shelf.stepwise), mix);
    let watch = ServerWatch::new();
    let key = server.target.key.reveal().to_owned();
    let looking = tokio::task::spawn_local(watch.clone().keep_looking(run.clone(), key));
    let phase =
        async |pace: PaceArgs| drive("overload", &run, &pace, stop.clone(), progress, 2).await;
    progress.say("looking for the peak");
    let peak = phase(args.at_peak()).await;
    let memory_at_peak = watch.phase();
    let flows = |report: &LoadReport| {
        let begun = report.steps.iter().find(|step| step.step == "start_delay");
        begun.map_or(0.0, |step| f64::from(u32::try_from(step.count).unwrap_or(u32::MAX)))
    };
    let per_second = (flows(&peak) / peak.seconds.max(1e-9)).max(1.0);
    let rates = (per_second * args.times, per_second / 2.0);
    progress.say(&format!("the flood: {:.0} flows/s", rates.0));
    let began = Instant::now();
    let flood = phase(args.at_rate(rates.0, args.flood_for)).await;
    let tail = began.elapsed().saturating_sub(args.flood_for);
    let memory = (memory_at_peak, watch.phase());
    progress.say(&format!("after the flood: {:.0} flows/s", rates.1));
    let after = phase(args.at_rate(rates.1, args.after_for)).await;
    looking.abort();
    let all: f64 = mix.weights.iter().copied().map(f64::from).sum();
    let mut report = flood.clone();
    let checkouts = f64::from(*checkouts) / all;
    let went = watch.overload(Phases { peak, flood, after, rates, checkouts, memory, tail });
    report.ok &= went.ok();
    report.overload = Some(Box::new(went));
    verify(&client, server, &run, &mut report, progress).await?;
    Ok(report)
}

/// Runs flows to the end; the report lacks only the check.
async fn drive(
    name: &'static str,
    run: &Rc<LoadRun>,
    pace: &PaceArgs,
    stop: watch::Receiver<bool>,
    progress: ProgressOutput,
    requests_per_checkout: u8,
) -> LoadReport {
    let begin = Instant::now();
    let from = begin + pace.warmup();
    let until = pace.time().map(|time| from + time);
    *run.recorder.borrow_mut() = Recorder::new(from, until);
    let ticker = tokio::task::spawn_local(tick(run.clone(), begin, progress));
    let before = Cost::now();
    let limits = FlowLimits { until, count: pace.count, stop };
    let ending = begin_flows(run, pace, begin, &limits).await;
    let (cost, time) = (Cost::now().since(before), begin.elapsed());
    ticker.abort();
    let recorder = run.recorder.borrow();
    let mut report = LoadReport::new(name, &recorder, ending);
    report.cost(cost, recorder.sent, time);
    report.pace = pace.to_string();
    report.run.clone_from(&run.name);
    report.requests_per_checkout = requests_per_checkout;
    report.ok = report.good > 0 || ending == Ending::Stopped;
    report
}

async fn begin_flows(
    run: &Rc<LoadRun>,
    pace: &PaceArgs,
    begin: Instant,
    limits: &FlowLimits,
) -> Ending {
    let mut number = pace.seed;
    let mut buyer = || {
        number = number.wrapping_add(1);
        LoadBuyer::new(run.clone(), SmallRng::seed_from_u64(number))
    };
    let Some(rate) = pace.rate else {
        let workers = (0..pace.workers()).map(|_| buyer()).collect();
        return pace::closed(workers, limits, LoadBuyer::flow).await;
    };
    let schedule = ArrivalSchedule {
        from: begin,
        rate,
        arrivals: pace.arrivals,
        in_flight_max: pace.max_in_flight.into(),
        seed: pace.seed,
    };
    let shed = |due| run.recorder.borrow_mut().shed(due);
    pace::open(schedule, limits, buyer, LoadBuyer::flow, shed).await
}

/// Prints a progress line each second.
async fn tick(run: Rc<LoadRun>, begin: Instant, progress: ProgressOutput) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    loop {
        second.tick().await;
        let mut recorder = run.recorder.borrow_mut();
        let (count, failed, p50, p99) = recorder.drain();
        let warming = if recorder.warm(Instant::now()) { "" } else { "  (warming up)" };
        progress.say(&format!(
            "{:>4} s  {count:>7} requests/s  p50 {p50:>8.2} ms  p99 {p99:>8.2} ms  {failed} \
             failed  {} shed{warming}",
            begin.elapsed().as_secs(),
            recorder.shed,
        ));
    }
}

/// The flash sale: all buyers ready, then all at once.
async fn flash_sale(
    args: &FlashSale,
    stop: &watch::Receiver<bool>,
    progress: ProgressOutput,
) -> Result<LoadReport, Error> {
    let FlashSale { server, units, buyers, .. } = args;
    let place = RequestTarget::parse(&server.target.url, server.timeout)?;
    let client = server.target.client()?;
    let delivery = unless_stopped(stop, setup::delivery(&client)).await?;
    let goods = Goods { delivery, ..Goods::default() };
    let run = new_run(place, goods, checkout_options(server, false), Mix::CHECKOUT);
    let sku = format!("FLASH-{}", run.name);
    let set_up = async {
        setup::single(&client, &sku, *units).await?;
        flash::prepare(&run, &sku, *buyers, progress).await
    };
    let ready = unless_stopped(stop, set_up).await?;
    progress.say(&format!("all {buyers} buyers have a cart and a connection; now all check out"));
    let (due, before) = (Instant::now(), Cost::now());
    *run.recorder.borrow_mut() = Recorder::new(due, None);
    let took = flash::sell(ready, due).await;
    let cost = Cost::now().since(before);
    let mut report = {
        let recorder = run.recorder.borrow();
        let mut report = LoadReport::new(args.name(), &recorder, Ending::Count);
        report.cost(cost, recorder.sent, took);
        report
    };
    report.run.clone_from(&run.name);
    report.pace = format!("{buyers} buyers at once, carts and connections made before");
    report.requests_per_checkout = 2;
    verify(&client, server, &run, &mut report, progress).await?;
    let stock = flash::stock(&client, &sku, server.patience).await?;
    let confirmed = run
        .answers
        .borrow()
        .iter()
        .filter(|answer| answer.outcome == ReportedOutcome::Confirmed)
        .count();
    let confirmed = u64::try_from(confirmed).unwrap_or(u64::MAX);
    let refused = report.refusals.get("out_of_stock").copied().unwrap_or(0);
    let sale = Sale {
        units: *units,
        buyers: u64::from(*buyers),
        confirmed,
        refused,
        otherwise: u64::from(*buyers).saturating_sub(confirmed + refused),
        orders_confirmed: report.check.as_ref().map(|found| found.confirmed),
        last_answer_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        sold: stock.sold + stock.allocated,
        sellable: stock.sellable,
    };
    report.ok &= sale.exact();
    report.sale = Some(sale);
    Ok(report)
}

/// Compares the server's orders with its answers, unless the check is turned off.
async fn verify(
    client: &Client,
    server: &ServerArgs,
    run: &LoadRun,
    report: &mut LoadReport,
    progress: ProgressOutput,
) -> Result<(), Error> {
    if server.no_check {
        return Ok(());
    }
    let mut answers = run.answers.take();
    let found = check::check(client, &run.name, &mut answers, server.patience, progress).await;
    *run.answers.borrow_mut() = answers;
    let found = found?;
    report.ok &= found.ok();
    report.check = Some(found);
    Ok(())
}
