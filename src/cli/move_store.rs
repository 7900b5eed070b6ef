//! `kontor move`: copies a store from a data folder to PostgreSQL and verifies the copy. `store`
//! copies the rows; the projector rebuilds the projected rows.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use kontor::actors::engine::clock::Clock;
use kontor::actors::engine::projections::{Owned, Projector};
use kontor::actors::read_models;
use kontor::store::personal::own_master::OwnMasterKey;
use kontor::store::relocate::MoveProgress;
use kontor::store::{DatabaseUrl, Options, Store};
use kontor::telemetry::chain;
use kontor::telemetry::security::SecurityEvent;
use kontor_lab::{stderr, stdout};
use serde_json::json;

use super::{Error, audit, store_location, verify};

/// Move a store from a data folder to PostgreSQL
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Stop the server first. Everything is copied: events, products, API keys, sessions, secrets,
settings, jobs and parked webhooks; projections are rebuilt from the events. The copy is
then checked as by `kontor verify`. The folder is not changed: keep it until you are sure.

Without store.master_key the database keeps its own master key: whoever reads it, or a dump of it, can
read all personal data. Set KONTOR__STORE__MASTER_KEY (openssl rand -hex 32) before, for the move and
for the servers; afterwards, kontor key rotate --master seals everything with it.

The database must be empty. An interrupted move leaves it empty, and can be started again.

Exit code: 0 moved, and all invariants hold; 1 not moved, or an invariant is violated.

Examples:
  createdb kontor
  kontor move --data /var/lib/kontor --to postgres://kontor@db/kontor
  kontor serve --store postgres://kontor@db/kontor")]
pub struct Args {
    /// The data folder; without this, the one of the configuration
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The empty PostgreSQL database to move to
    #[arg(long, value_name = "URL", env = "KONTOR__STORE__URL", hide_env_values = true)]
    pub to: DatabaseUrl,
    /// The number of shards there; it cannot be changed later
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub shards: u16,
    /// Compare with the ledger of the sandbox payment provider at this URL
    #[arg(long, value_name = "URL")]
    pub sandbox_psp: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Moves a store.
///
/// # Errors
/// [`Error`]: the folder or the database cannot be opened, or the database is not empty.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    // This takes the folder's lock, so no server is using the folder, and none can start meanwhile.
    let master_key = store_location::master_key()?;
    let options = Options { shards: args.shards, master_key, ..Options::default() };
    let dir = store_location::folder(args.data.as_deref())?;
    let from = Store::open_existing(&dir, &options).await?;
    let to = match Store::connect(&args.to, &options).await {
        Ok(to) => to,
        Err(error) => {
            from.close().await;
            return Err(error.into());
        }
    };
    let moved = transfer(&from, &to, args.json).await;
    from.close().await;
    let events = match moved {
        Ok(events) => events,
        Err(error) => {
            to.close().await;
            return Err(error);
        }
    };
    audit::log(SecurityEvent::StoreMoved, &format!("to {}", args.to));
    let own = to.own_master_key().await?;
    if own != OwnMasterKey::Unused {
        let (meaning, remedy) = (own.meaning(), OwnMasterKey::REMEDY);
        stderr::line(format_args!("warning: {meaning}. Before it serves real buyers, {remedy}"));
    }
    let report = verify::check_store(to, args.sandbox_psp.as_deref(), args.json).await;
    let report =
        report.map_err(|why| Error::Usage(format!("moved, but could not be verified: {why}")))?;
    let ok = report.ok;
    if args.json {
        stdout::json(&json!({ "to": args.to, "events": events, "verify": report }))?;
    } else {
        stdout::line(format_args!("Moved {events} events to {}.\n{report}", args.to));
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Copies everything and rebuilds the projected rows in the target; shows progress unless `quiet`.
async fn transfer(from: &Store, to: &Store, quiet: bool) -> Result<u64, Error> {
    let hidden = quiet || !std::io::stderr().is_terminal();
    let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(0) };
    if let Ok(style) = ProgressStyle::with_template("{msg:>16} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    let events = from
        .move_to(to, &read_models::all().tables(), |MoveProgress { table, done, total }| {
            bar.set_message(table.to_owned());
            bar.set_length(total.max(done));
            bar.set_position(done);
        })
        .await?;
    bar.set_message("lists");
    let shards = 0..to.journal().shards();
    let (store, owned) = (Arc::new(to.clone()), Owned::of(shards));
    let projector = Projector::new(store, &read_models::all(), Clock::system(), owned).await;
    let finished = projector?.finish().await;
    bar.finish_and_clear();
    finished.map_err(|error| {
        let why = chain(&error);
        Error::Usage(format!(
            "the data was moved, but the projections were not rebuilt: {why}; the server rebuilds \
             them when it starts"
        ))
    })?;
    Ok(events)
}
