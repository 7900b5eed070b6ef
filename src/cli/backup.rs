//! `kontor backup`: copies the whole store, as it is at one moment, into one file. A server may be
//! using the store meanwhile.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use kontor::actors::engine::clock::Clock;
use kontor::doctor::BACKUP_TAKEN_AT;
use kontor::store::{self, Store};
use kontor::telemetry::chain;
use kontor::telemetry::security::SecurityEvent;
use kontor_lab::{stderr, stdout};
use serde_json::json;

use super::audit;
use super::store_location::{PG_DUMP, StoreArgs, StorePlace};

/// How often the progress bar reads the size of the growing file.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Copy the whole store into one file, also while a server is running
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
The file contains everything: journal, rows, keys and secrets. Protect it like the data folder. It
appears only when it is complete; an existing file is never overwritten. A store in PostgreSQL is
backed up with pg_dump.

Examples:
  kontor backup --to /backups/kontor-2026-01-31.db
  kontor backup --data /var/lib/kontor --to /backups/today.db --json

To restore it into an empty folder:
  kontor restore --from /backups/today.db --data /var/lib/kontor-restored")]
pub struct Args {
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Takes a backup.
pub async fn run(args: Args) -> ExitCode {
    let done = back_up(&args).await;
    if done.is_ok() {
        audit::log(SecurityEvent::BackupMade, &args.to.to_string_lossy());
    }
    let shown = match done {
        Ok((bytes, events)) if args.json => {
            stdout::json(&json!({ "file": args.to, "bytes": bytes, "events": events }))
        }
        Ok((bytes, events)) => {
            stdout::line(format_args!(
                "{} contains {events} events in {bytes} bytes",
                args.to.display()
            ));
            Ok(())
        }
        Err(why) => {
            stderr::line(format_args!("error: the backup failed: {why}"));
            return ExitCode::FAILURE;
        }
    };
    if shown.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn back_up(args: &Args) -> Result<(u64, i64), String> {
    let place = args.store.place().map_err(|error| chain(&error))?;
    if matches!(place, StorePlace::Database(_)) {
        return Err(PG_DUMP.to_owned());
    }
    let store = place.open().await.map_err(|error| chain(&error))?;
    warn_of_schema(&store).await.map_err(|error| chain(&error))?;
    let outcome = copy(&store, args).await;
    store.close().await;
    outcome
}

/// Warns of what a restore of the backup would refuse.
async fn warn_of_schema(store: &Store) -> Result<(), store::Error> {
    let faults = store.schema_faults().await?;
    if !faults.is_empty() {
        stderr::line(format_args!(
            "warning: kontor restore will refuse this backup: {faults}. Before a restore, copy it, {}, \
             and restore the copy; kontor doctor says how to mend the store itself",
            faults.remedy("COPY")
        ));
    }
    Ok(())
}

async fn copy(store: &Store, args: &Args) -> Result<(u64, i64), String> {
    let sizes = store.sizes().await.map_err(|error| chain(&error))?;
    // Under another name until the backup is complete, so that an interrupted one is not mistaken
    // for a complete one.
    let part = unfinished_path(&args.to)?;
    let bar = if args.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    bar.set_length(sizes.database_bytes.saturating_sub(sizes.free_bytes));
    let copied = {
        let copying = store.backup(&part);
        tokio::pin!(copying);
        loop {
            tokio::select! {
                copied = &mut copying => break copied,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    bar.set_position(std::fs::metadata(&part).map_or(0, |file| file.len()));
                }
            }
        }
    };
    bar.finish_and_clear();
    let bytes = copied.map_err(|error| chain(&error))?;
    publish(&part, &args.to)
        .map_err(|error| format!("cannot write {}: {error}", args.to.display()))?;
    let now = Clock::system().now().millis().to_string();
    if let Err(error) = store.put_setting(BACKUP_TAKEN_AT, &now).await {
        stderr::line(format_args!(
            "warning: could not record this backup for kontor doctor: {error}"
        ));
    }
    Ok((bytes, sizes.events))
}

/// Gives a finished backup its name. An existing file is not overwritten, at least if the file
/// system supports hard links.
fn publish(part: &Path, to: &Path) -> std::io::Result<()> {
    match std::fs::hard_link(part, to) {
        Ok(()) => std::fs::remove_file(part),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => std::fs::rename(part, to),
    }
}

/// Returns the name of an unfinished backup, and deletes the rest of an earlier interrupted backup.
fn unfinished_path(to: &Path) -> Result<PathBuf, String> {
    if to.exists() {
        return Err(format!("{} exists; choose another name", to.display()));
    }
    let mut name =
        to.file_name().ok_or("the path of the backup must end in a file name")?.to_owned();
    name.push(".part");
    let part = to.with_file_name(name);
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove the unfinished backup {}: {error}", part.display()))
        }
        _ => Ok(part),
    }
}
