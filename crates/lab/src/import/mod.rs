//! `kontor import`: sends a file of products to a server, in batches, resumable.
//!
//! Deliberately not here: parsing the formats (`rows`), storing the position (`position`), HTTP
//! (`kontor_client`).

pub mod csv_text;
pub mod position;
pub mod rows;
pub mod source;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use kontor_client::Client;
use kontor_client::api::{Import, ImportRow};
use serde::Serialize;

use self::position::{ImportTally, PositionFile, RefusedRow};
use self::rows::{FileFormat, FileRow};
use crate::args::TargetArgs;
use crate::stdout;

/// The products of the demo shop: data from the Online Retail data set (UCI, Daqing Chen, CC BY
/// 4.0), in the columns of an import.
pub const DEMO_CATALOG: &str = include_str!("../demo_catalog.csv");
/// The most rows of one request.
pub const BATCH_ROWS: usize = 500;
/// The most bytes of one request, below the server's 1 MiB.
const BATCH_BYTES: usize = 900 * 1024;

/// Import products and their stock from a file
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
CSV needs a header with the column sku. Optional columns are name (a new product needs one),
description, category, price (major units: 2.55), currency (the shop's if absent), tax_rate (0.2),
active (true or false), location, on_hand, change_from and on_hand_change. JSON Lines has the same
fields, with one object per line. Both may be gzipped.

What a file does not mention is not changed: an absent column and an empty cell change nothing, and
a price changes no price in another currency. Several rows may have the same SKU, for example to
give its prices in several currencies. In JSON Lines, null clears a description or a category.

A refused row does not stop the others. A file with a quote that is not closed is refused as a
whole: nothing of it is imported. If a run is interrupted, run it again: it continues where it
stopped.

on_hand sets the number of units in stock, also when the same file is imported again after sales.
With change_from, a row is refused if another number of units is in stock (unless it is on_hand
already). on_hand_change adds units, or removes them if it is negative, each time the file is
imported. If nothing else has changed in the meantime, importing a file again changes nothing,
except for rows with on_hand_change.

Exit code: 0 all rows were imported, 1 the import could not run, 2 some rows were refused.

Examples:
  kontor import products.csv --url http://127.0.0.1:8080 --key sk_...
  kontor import products.jsonl.gz --dry-run
  kontor import online-retail.csv.gz --format online-retail --json")]
pub struct Args {
    /// The file: CSV or JSON Lines, plain or gzip
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The server and the API key
    #[command(flatten)]
    pub target: TargetArgs,
    /// The format; by default it follows from the file name
    #[arg(long, value_enum)]
    pub format: Option<FileFormat>,
    /// Let the server check every row without changing anything
    #[arg(long)]
    pub dry_run: bool,
    /// The location of stock for rows without one
    #[arg(long, default_value = "main", value_name = "LOCATION")]
    pub location: String,
    /// Start from the first row instead of continuing where the last run stopped
    #[arg(long)]
    pub restart: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Why an import cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// The server failed.
    #[error(transparent)]
    Client(#[from] kontor_client::Error),
    /// The position cannot be stored.
    #[error("cannot keep the position of the import: {0}")]
    Position(std::io::Error),
    /// The result cannot be printed.
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
}

/// Runs the command.
///
/// # Errors
/// [`Error`] when it could not run to its end; refused rows are exit code 2.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let client = args.target.client()?;
    let (tally, resumed_at) = import(&client, &args).await?;
    let refused = tally.refused;
    print(
        &ImportOutcome { dry_run: args.dry_run, resumed_at, ok: refused == 0, tally },
        args.json,
    )?;
    Ok(ExitCode::from(if refused == 0 { 0 } else { 2 }))
}

/// The output of `--json`.
#[derive(Debug, Serialize)]
struct ImportOutcome {
    ok: bool,
    dry_run: bool,
    resumed_at: u64,
    #[serde(flatten)]
    tally: ImportTally,
}

async fn import(client: &Client, args: &Args) -> Result<(ImportTally, u64), Error> {
    let name = args.file.to_string_lossy();
    let format = args.format.unwrap_or_else(|| FileFormat::of_name(&name));
    let kind = format!("{format:?}");
    let digest = source::digest(&args.file, &[client.base(), &kind, &args.location])?;
    match format {
        FileFormat::Csv => csv_text::check(source::open(&args.file)?)?,
        FileFormat::Jsonl | FileFormat::OnlineRetail => source::check(source::open(&args.file)?)?,
    }
    let mut position = PositionFile::new(&args.file, &digest);
    let earlier = if args.restart || args.dry_run { None } else { position.load() };
    let mut tally = earlier.unwrap_or_default();
    let resumed_at = tally.rows;
    let file = source::open(&args.file)?;
    let bar = progress(file.metadata().map_or(0, |data| data.len()), args.json);
    let rows = rows::read(bar.wrap_read(file), format, &args.location)?;
    if !args.dry_run {
        // Stored before the first batch, so that an interruption during that batch is known, too.
        position.save(&tally).map_err(Error::Position)?;
    }
    let mut batch = RowBatch::default();
    for row in rows.skip(usize::try_from(resumed_at).unwrap_or(usize::MAX)) {
        batch.add(row?);
        if batch.full() {
            batch.send(client, position.run(), args.dry_run, &mut tally).await?;
            if !args.dry_run {
                position.save(&tally).map_err(Error::Position)?;
            }
            bar.set_message(format!("{} rows, {} refused", tally.rows, tally.refused));
        }
    }
    batch.send(client, position.run(), args.dry_run, &mut tally).await?;
    bar.finish_and_clear();
    if !args.dry_run {
        position.clear();
    }
    Ok((tally, resumed_at))
}

/// Imports a small CSV in memory, such as [`DEMO_CATALOG`], and returns the result.
///
/// # Errors
/// [`Error`], as for a file.
pub async fn import_csv(client: &Client, csv: &str) -> Result<ImportTally, Error> {
    let (run, mut tally) = (uuid::Uuid::new_v4().to_string(), ImportTally::default());
    let mut batch = RowBatch::default();
    for row in rows::read(csv.as_bytes(), FileFormat::Csv, "main")? {
        batch.add(row?);
        if batch.full() {
            batch.send(client, &run, false, &mut tally).await?;
        }
    }
    batch.send(client, &run, false, &mut tally).await?;
    Ok(tally)
}

fn progress(bytes: u64, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("importing {bar:30} {percent:>3} %  {msg}  {eta}");
    let bar = ProgressBar::new(bytes);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

/// Rows of a batch.
#[derive(Default)]
struct RowBatch {
    rows: Vec<ImportRow>,
    lines: Vec<u64>,
    refused: Vec<RefusedRow>,
    refused_rows: u64,
    bytes: usize,
}

impl RowBatch {
    fn add(&mut self, row: FileRow) {
        match row.body {
            Ok(body) => {
                // Names and descriptions may double in size when they are escaped.
                let texts = [&body.product.name, &body.product.description.clone().flatten()];
                let length: usize = texts.into_iter().flatten().map(String::len).sum();
                self.bytes += 400 + 2 * length;
                self.lines.push(row.line);
                self.rows.push(body);
            }
            Err(faults) => {
                self.refused_rows += 1;
                self.refused.extend(faults.into_iter().map(|fault| RefusedRow {
                    line: row.line,
                    field: fault.field,
                    message: fault.message,
                }));
            }
        }
    }

    fn full(&self) -> bool {
        let rows = self.rows.len() + usize::try_from(self.refused_rows).unwrap_or(usize::MAX);
        rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES - 2 * 256 * 1024
    }

    async fn send(
        &mut self,
        client: &Client,
        run: &str,
        dry_run: bool,
        tally: &mut ImportTally,
    ) -> Result<(), kontor_client::Error> {
        let Self { rows, lines, mut refused, mut refused_rows, .. } = std::mem::take(self);
        let total = u64::try_from(rows.len()).unwrap_or(u64::MAX) + refused_rows;
        if !rows.is_empty() {
            let body = Import { dry_run, rows: &rows };
            let key = format!("{run}-{}", tally.rows);
            let call = client.import_products(&body).idempotency_key(&key);
            let done = call.send().await?.body;
            let mut faulty: Vec<usize> = done.errors.iter().map(|error| error.row).collect();
            faulty.sort_unstable();
            faulty.dedup();
            refused_rows += u64::try_from(faulty.len()).unwrap_or(u64::MAX);
            refused.extend(done.errors.into_iter().map(|error| RefusedRow {
                line: lines.get(error.row).copied().unwrap_or(0),
                field: error.field,
                message: error.message,
            }));
            tally.created += done.created;
            tally.updated += done.updated;
            tally.unchanged += done.unchanged;
            tally.stock_set += done.stock_set;
        }
        refused.sort_by_key(|error| error.line);
        refused.into_iter().for_each(|error| tally.error(error));
        tally.refused += refused_rows;
        tally.rows += total;
        Ok(())
    }
}

fn print(outcome: &ImportOutcome, json: bool) -> std::io::Result<()> {
    if json {
        stdout::line(serde_json::to_string(outcome)?);
        return Ok(());
    }
    let tally = &outcome.tally;
    for error in &tally.errors {
        stdout::line(format_args!("line {}, {}: {}", error.line, error.field, error.message));
    }
    if tally.errors_left_out > 0 {
        stdout::line(format_args!("and {} more errors", tally.errors_left_out));
    }
    if outcome.resumed_at > 0 {
        stdout::line(format_args!("continued after {} rows of an earlier run", outcome.resumed_at));
    }
    let did = if outcome.dry_run { "checked" } else { "imported" };
    stdout::line(format_args!(
        "{did} {} rows: {} created, {} updated, {} unchanged, {} stock levels set, {} refused",
        tally.rows, tally.created, tally.updated, tally.unchanged, tally.stock_set, tally.refused
    ));
    Ok(())
}
