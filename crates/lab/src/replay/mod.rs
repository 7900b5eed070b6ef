//! `kontor replay`: replays the real invoices of the Online Retail file through the public API.
//!
//! In order of use: `plan` classifies the rows, `buy` and `run` perform the steps, `book` matches
//! cancellations to sales, `ledger` records the outcome of every row, `reconcile` compares with the
//! server, `report` prints. Deliberately not here: reading the file (`online_retail`).

pub mod book;
pub mod buy;
pub mod ledger;
pub mod plan;
pub mod reconcile;
pub mod report;
pub mod run;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use kontor_client::Client;
use kontor_client::api::{Import, ImportRow};

use self::ledger::RowLedger;
use self::report::ReplayReport;
use self::run::ReplayRun;
use super::import::{BATCH_ROWS, source};
use super::online_retail::{self, Implied};
use crate::args::TargetArgs;
use crate::stdout;

/// Replay the invoices of the Online Retail data set through the API
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Every invoice becomes a cart, an order and a payment; every cancellation becomes refunds of what the
customer has bought before. Rows that are not sales (postage, fees, write-offs, prices of 0) are
refused, each for a stated reason. At the end, booked and refused rows together must be the whole
file, in rows and in pence, and the server's stock and orders must match what was booked.

With --opening-stock 90% goods run out: buyers then take what is left.

An interrupted run can be run again: its requests have the same idempotency keys.

Exit code: 0 all checks passed, 1 a check failed, or the replay could not run.

Examples:
  kontor replay online-retail.csv.gz --url http://127.0.0.1:8080 --key sk_...
  kontor replay online-retail.csv.gz --opening-stock 90% --concurrency 32 --json
  kontor replay online-retail.csv.gz --limit-invoices 500")]
pub struct Args {
    /// The Online Retail file, plain or gzip
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The server and the API key
    #[command(flatten)]
    pub target: TargetArgs,
    /// Opening stock: exact is what the file sells, 90% is that share of it, rounded down
    #[arg(long, default_value = "exact", value_name = "exact|N%")]
    pub opening_stock: OpeningStock,
    /// Invoices in progress at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub concurrency: u16,
    /// Replay only the first N invoices
    #[arg(long, value_name = "N")]
    pub limit_invoices: Option<usize>,
    /// A name for the run, to replay the same file on the same server again
    #[arg(long, value_name = "NAME")]
    pub run: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// The opening stock, as a share of what the file sells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpeningStock {
    /// In per cent; 100 is exactly what the file sells.
    pub percent: u16,
}

impl OpeningStock {
    /// The share of this many units, rounded down.
    #[must_use]
    pub fn of(self, units: i64) -> i64 {
        units * i64::from(self.percent) / 100
    }
}

impl FromStr for OpeningStock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "exact" {
            return Ok(Self { percent: 100 });
        }
        let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
        match percent {
            Some(percent @ 0..=1_000) => Ok(Self { percent }),
            _ => Err("give exact or a percentage from 0% to 1000%, for example 90%".to_owned()),
        }
    }
}

/// Why a replay cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// The server failed.
    #[error("{0}; run it again to continue")]
    Client(#[from] kontor_client::Error),
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
    /// The name is not valid in an idempotency key.
    #[error("a run's name has 1 to 60 letters, digits, - or _")]
    Name,
    /// The report cannot be printed.
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
}

/// Runs the command.
///
/// # Errors
/// [`Error`] when it could not run to its end; a failed check is exit code 1.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let client = args.target.client()?;
    let name = name(&args)?;
    let mut rows = online_retail::read(source::open(&args.file)?)?;
    if let Some(limit) = args.limit_invoices {
        plan::keep_invoices(&mut rows, limit);
    }
    let mut ledger = RowLedger::new(&rows);
    let plan = plan::plan(&rows, &plan::invoices(&rows), &mut ledger);
    let bar = progress(plan.steps.len(), args.json);
    let opening =
        stock_up(&client, online_retail::catalog(&rows), args.opening_stock, &name).await?;
    let started = Instant::now();
    let state =
        ReplayRun::new(&client, &plan, &name, ledger, &bar).run(args.concurrency.into()).await?;
    let wall = started.elapsed();
    bar.finish_and_clear();
    let skus = reconcile::expected(&plan, &state, &opening);
    let server = reconcile::reconcile(&client, &state, &skus).await?;
    let report = ReplayReport::new(rows.len(), &plan, state, server, wall);
    if args.json {
        stdout::line(serde_json::to_string(&report).map_err(std::io::Error::from)?);
    } else {
        stdout::write(&report.text());
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The run's name: the given one, or one derived from the file and the arguments.
fn name(args: &Args) -> Result<String, Error> {
    let Some(name) = &args.run else {
        let percent = args.opening_stock.percent.to_string();
        let limit = format!("{:?}", args.limit_invoices);
        let mut digest = source::digest(&args.file, &[&percent, &limit])?;
        digest.truncate(12);
        return Ok(digest);
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let good = (1..=60).contains(&name.len()) && name.bytes().all(fits);
    if good { Ok(name.clone()) } else { Err(Error::Name) }
}

/// Imports the products and sets their opening stock; returns the stock by code. A repeated run
/// sets the stock again, because a server does not apply idempotency keys to `on_hand`.
async fn stock_up(
    client: &Client,
    catalog: Vec<Implied>,
    opening: OpeningStock,
    name: &str,
) -> Result<BTreeMap<String, i64>, Error> {
    let mut stock = BTreeMap::new();
    let rows: Vec<ImportRow> = catalog
        .into_iter()
        .map(|implied| {
            let on_hand = opening.of(implied.units);
            stock.insert(implied.product.sku.clone(), on_hand);
            let location = Some("main".to_owned());
            let (product, on_hand) = (implied.product, Some(on_hand));
            ImportRow { product, location, on_hand, ..ImportRow::default() }
        })
        .collect();
    for (number, rows) in rows.chunks(BATCH_ROWS).enumerate() {
        let key = format!("replay-{name}-import-{number}");
        let body = Import { dry_run: false, rows };
        let done = client.import_products(&body).idempotency_key(&key).send().await?.body;
        if let Some(error) = done.errors.into_iter().next() {
            let sku = rows.get(error.row).map_or("", |row| row.product.sku.as_str()).to_owned();
            return Err(Error::Product { sku, field: error.field, message: error.message });
        }
    }
    Ok(stock)
}

fn progress(steps: usize, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(steps).unwrap_or(u64::MAX));
    let style =
        ProgressStyle::with_template("replaying {bar:30} {pos}/{len} invoices  {per_sec}  {eta}");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_stock_is_read_and_rounded_down() {
        assert_eq!("exact".parse::<OpeningStock>().unwrap().of(7), 7);
        assert_eq!("90%".parse::<OpeningStock>().unwrap().of(19), 17);
        for bad in ["", "90", "%", "-1%", "1001%", "0.9"] {
            assert!(bad.parse::<OpeningStock>().is_err(), "{bad}");
        }
    }
}
