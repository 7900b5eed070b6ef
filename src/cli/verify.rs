//! `kontor verify`: checks all invariants of a store. The checks are in `kontor::verify`; this file
//! has the arguments and the output.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use kontor::providers::payment::Provider;
use kontor::providers::sandbox::Sandbox;
use kontor::store::Store;
use kontor::store::signed_head::{PublicKey, SignedHead};
use kontor::telemetry::chain;
use kontor::verify::heads::SignedHeads;
use kontor::verify::provider::sandbox_options;
use kontor::verify::{Books, VerifyProgress, VerifyReport, verify_with};
use kontor_lab::{stderr, stdout};
use serde::Serialize;

use super::store_location::{StoreArgs, StorePlace};

/// The exit code if the store or the provider could not be read, so that the check is incomplete.
const COULD_NOT_CHECK: u8 = 2;

/// Replay the journal and check that nothing is oversold, unpaid or lost
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Replays every event and checks:
  I1  every acknowledged order exists, and its lines add up
  I2  nothing was done twice: one order per idempotency key, one capture per number, and order
      numbers without gaps
  I3  captured minus refunded equals the amount due, also at the provider with --sandbox-psp
  I4  stock adds up after every event, and orders have the stock that they were promised
  I5  the journal has no gaps, and every entity with unfinished work has a timer
  I6  every projected row equals the fold of its events
  I7  who was erased cannot be read: the keys of their data are destroyed
  I8  the digests of the events are a chain: none was altered, removed, inserted or swapped

Nothing is written. A server may be running: unfinished orders are counted as in_flight and checked
for the invariants that hold at any time.

Exit code: 0 all invariants hold, 1 one is violated, 2 the check could not be completed, or --heads
has no head that could be compared.

Examples:
  kontor verify
  kontor verify --data /var/lib/kontor --sandbox-psp http://127.0.0.1:8081
  kontor verify --json | jq .violations")]
pub struct Args {
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Compare with the ledger of the sandbox payment provider at this URL
    #[arg(long, value_name = "URL")]
    pub sandbox_psp: Option<String>,
    /// Compare with the signed heads in this file, one JSON object per line; may be repeated
    #[arg(long, value_name = "FILE")]
    pub heads: Vec<PathBuf>,
    /// Trust signed heads with this public key, besides those of the store's master key; may be
    /// repeated
    #[arg(long, value_name = "KEY")]
    pub public_key: Vec<PublicKey>,
    /// A history that you have ended by a restore: its heads of lost events are not compared; may be
    /// repeated
    #[arg(long, value_name = "ID")]
    pub ended_history: Vec<String>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// The report about a store.
#[derive(Serialize)]
struct CheckedStore {
    /// The folder or the URL, without a password.
    store: String,
    #[serde(flatten)]
    report: VerifyReport,
}

/// Checks a store and prints the report.
pub async fn run(args: Args) -> ExitCode {
    match check_place(&args).await {
        Ok(checked) => {
            let shown = if args.json {
                stdout::json(&checked)
            } else {
                stdout::line(format_args!("Store: {}\n{}", checked.store, checked.report));
                Ok(())
            };
            match shown {
                Ok(()) if !checked.report.ok => ExitCode::FAILURE,
                Ok(()) if checked.report.compared_no_head() => {
                    could_not("no head of --heads could be compared with the store")
                }
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => could_not(&error.to_string()),
            }
        }
        Err(why) => could_not(&why),
    }
}

fn could_not(why: &str) -> ExitCode {
    stderr::line(format_args!("error: the check could not be completed: {why}"));
    ExitCode::from(COULD_NOT_CHECK)
}

async fn check_place(args: &Args) -> Result<CheckedStore, String> {
    let place = args.store.place().map_err(|error| chain(&error))?;
    let (mut kept, mut damaged) = (Vec::new(), Vec::new());
    for file in &args.heads {
        read_heads(file, &mut kept, &mut damaged)?;
    }
    let store = place.open().await.map_err(|error| chain(&error))?;
    let heads = SignedHeads {
        kept: (!args.heads.is_empty()).then_some(kept),
        damaged,
        keys: args.public_key.clone(),
        ended: args.ended_history.clone(),
    };
    let report = check_with(heads, store, args.sandbox_psp.as_deref(), args.json).await?;
    Ok(CheckedStore { store: place.to_string(), report })
}

/// Reads the signed heads in a file, and says which lines have none.
fn read_heads(
    file: &Path,
    heads: &mut Vec<SignedHead>,
    damaged: &mut Vec<String>,
) -> Result<(), String> {
    let name = file.display();
    let bytes = std::fs::read(file).map_err(|error| format!("{name}: {error}"))?;
    for (nth, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        let read = match line.first() {
            None => continue,
            // A URL gets several heads as one array.
            Some(b'[') => serde_json::from_slice(line),
            Some(_) => serde_json::from_slice(line).map(|head| vec![head]),
        };
        match read {
            Ok(mut read) => heads.append(&mut read),
            Err(error) => {
                damaged.push(format!("{name}, line {}: it is no signed head: {error}", nth + 1));
            }
        }
    }
    Ok(())
}

/// Checks the store in a data folder; shows a progress bar on a terminal, unless `quiet`.
pub(super) async fn check(
    dir: &Path,
    psp: Option<&str>,
    quiet: bool,
) -> Result<VerifyReport, String> {
    let place = StorePlace::Folder(dir.to_owned());
    let store = place.open().await.map_err(|error| chain(&error))?;
    check_store(store, psp, quiet).await
}

/// Checks a store and closes it; shows a progress bar on a terminal, unless `quiet`.
pub(super) async fn check_store(
    store: Store,
    psp: Option<&str>,
    quiet: bool,
) -> Result<VerifyReport, String> {
    check_with(SignedHeads::default(), store, psp, quiet).await
}

async fn check_with(
    heads: SignedHeads,
    store: Store,
    psp: Option<&str>,
    quiet: bool,
) -> Result<VerifyReport, String> {
    let provider = match psp {
        Some(url) => {
            let options = sandbox_options(&store, url).await.map_err(|error| chain(&error))?;
            Some(Sandbox::new(options).map_err(|error| chain(&error))?)
        }
        None => None,
    };
    let provider = provider.as_ref().map(|provider| provider as &dyn Provider);
    let hidden = quiet || !std::io::stderr().is_terminal();
    let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(0) };
    if let Ok(style) = ProgressStyle::with_template("{msg:>9} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    let books = Books::standard().with_heads(heads);
    let report = verify_with(books, &store, provider, |VerifyProgress { stage, done, total }| {
        bar.set_message(stage);
        bar.set_length(total.max(done));
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    store.close().await;
    report.map_err(|error| chain(&error))
}
