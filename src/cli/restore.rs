//! `kontor restore`: copies a backup into an empty data folder. The backup is checked before the
//! copy and verified after it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kontor::actors::engine::clock::Clock;
use kontor::store::Store;
use kontor::store::erase_again::{ListedErasure, add_list};
use kontor::store::maintenance::{restore, sealed_secret};
use kontor::store::personal::{MasterKeys, master};
use kontor::telemetry::chain;
use kontor::telemetry::security::SecurityEvent;
use kontor_lab::{stderr, stdout};
use serde_json::json;

use super::{audit, store_location};

/// Restore a backup into an empty data folder, and verify it
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
The folder must be empty or not exist: an existing store is never overwritten. The backup is checked
before it is copied, and the restored store is verified afterwards.

A file with other tables, indexes, triggers or views than those of kontor is refused. All sessions,
sign-in links and live tickets of the backup end. API keys that were revoked after the backup would
be valid again: name their ids in a file that you keep outside of the store, one per line, with
--revoked. The keys that are valid are listed. Who was erased after the backup is in it again: give
the list of kontor erasures with --erased.

A backup does not contain the master key, without which nobody can read the names and addresses in it:
it is taken from --master-key.

Orders placed after the backup are not in it: compare with the payment provider before you start a
server (kontor verify --sandbox-psp URL).

Exit code: 0 restored, and all invariants hold; 1 not restored, or an invariant is violated.

Example:
  kontor restore --from /backups/today.db --data /var/lib/kontor-restored")]
pub struct Args {
    /// The backup file
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// The data folder; it must be empty or not exist
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The file with the master key of the store (`master.key` of its data folder); by default
    /// `master.key` beside the backup
    #[arg(long, value_name = "FILE")]
    pub master_key: Option<PathBuf>,
    /// A file with the ids of API keys to revoke, one per line
    #[arg(long, value_name = "FILE")]
    pub revoked: Option<PathBuf>,
    /// A list of who was erased, from `kontor erasures`: they are erased again
    #[arg(long, value_name = "FILE")]
    pub erased: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// The master key to bring, if there is one. It must be the one of the backup.
async fn master_key(args: &Args) -> Result<Option<String>, String> {
    let beside = || args.from.with_file_name(master::MASTER_KEY_FILE);
    let file = args.master_key.clone().unwrap_or_else(beside);
    let unread = |why: &dyn std::fmt::Display| {
        format!("--master-key cannot be read: {}: {why}", file.display())
    };
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == ErrorKind::NotFound && args.master_key.is_none() => None,
        Err(error) => return Err(unread(&error)),
    };
    let brought = text.as_deref().map(MasterKeys::parse).transpose();
    let brought = brought.map_err(|rule| unread(&rule))?;
    let known = match brought {
        None => store_location::master_key().map_err(|error| chain(&error))?.read().ok(),
        brought => brought,
    };
    // A shop without orders has nothing to open.
    let Some(sealed) = sealed_secret(&args.from).await else { return Ok(text) };
    match known.map(|known| known.unwrap(&sealed.wrapped, &sealed.entity)) {
        Some(Ok(_)) => Ok(text),
        Some(Err(name)) => Err(format!(
            "the personal data of the backup are sealed with the master key {name:?}, which is not in \
             {}: name the file master.key of its store, of the time of the backup, with --master-key; \
             nothing was restored",
            file.display()
        )),
        None => Err(format!(
            "the personal data of the backup are sealed, and there is no {}: name the file master.key \
             of its store, of the time of the backup, with --master-key; nothing was restored",
            file.display()
        )),
    }
}

/// Restores a backup and verifies the restored store.
pub async fn run(args: Args) -> ExitCode {
    let revoked = match args.revoked.as_deref().map(ids).transpose() {
        Ok(revoked) => revoked.unwrap_or_default(),
        Err(error) => {
            stderr::line(format_args!("error: --revoked cannot be read: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let erased = match args.erased.as_deref().map(super::erasures::read).transpose() {
        Ok(list) => list.unwrap_or_default(),
        Err(error) => {
            stderr::line(format_args!("error: --erased cannot be read: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let master = match master_key(&args).await {
        Ok(master) => master,
        Err(why) => {
            stderr::line(format_args!("error: {why}"));
            return ExitCode::FAILURE;
        }
    };
    let restored = match restore(&args.from, &args.data, &revoked, Clock::system().now()).await {
        Ok(restored) => restored,
        Err(error) => {
            stderr::line(format_args!("error: the restore failed: {}", chain(&error)));
            return ExitCode::FAILURE;
        }
    };
    let about = format!("{} into {}", args.from.display(), args.data.display());
    audit::log(SecurityEvent::StoreRestored, &about);
    if restored.ended > 0 {
        let about = format!("{} sessions, links and tickets of the backup", restored.ended);
        audit::log(SecurityEvent::SessionsEnded, &about);
    }
    restored.revoked.iter().for_each(|id| audit::log(SecurityEvent::KeyRevoked, id));
    let brought = master.map_or(Ok(()), |text| master::write(&args.data, &text));
    if let Err(error) = brought {
        stderr::line(format_args!(
            "error: the backup was restored, but not its master key: {error}"
        ));
        return ExitCode::FAILURE;
    }
    let held = erased.iter().map(|one| one.held.len()).sum::<usize>();
    let erased = match erase_again(&args.data, &erased).await {
        Ok(count) => count,
        Err(error) => {
            stderr::line(format_args!("error: the erasures cannot be added: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let report = match super::verify::check(&args.data, None, args.json).await {
        Ok(report) => report,
        Err(why) => {
            stderr::line(format_args!(
                "error: the backup was restored but cannot be verified: {why}"
            ));
            return ExitCode::FAILURE;
        }
    };
    let ok = report.ok;
    let shown = if args.json {
        stdout::json(&json!({
            "data": args.data,
            "ended": restored.ended,
            "revoked": restored.revoked,
            "unknown": restored.unknown,
            "erased": erased,
            "held": held,
            "keys": restored.keys.iter().map(|(id, name)| json!({ "id": id, "name": name }))
                .collect::<Vec<_>>(),
            "verify": report,
        }))
    } else {
        stdout::line(format_args!(
            "{} was restored into {}.\n{} sessions, sign-in links and tickets ended, {} API keys \
             were revoked, {erased} erasures will be made again when a server starts, which puts \
             {held} orders under a legal hold again before that.\n{}{}\n{report}",
            args.from.display(),
            args.data.display(),
            restored.ended,
            restored.revoked.len(),
            unknown(&restored.unknown),
            valid(&restored.keys)
        ));
        Ok(())
    };
    if ok && shown.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Adds erasures that are not in the backup.
async fn erase_again(data: &Path, list: &[ListedErasure]) -> Result<u64, String> {
    if list.is_empty() {
        return Ok(0);
    }
    let store = Store::open_beside(data).await.map_err(|error| chain(&error))?;
    let added = add_list(&store, list).await.map_err(|error| chain(&error));
    store.close().await;
    added
}

/// The ids in a file, one per line.
fn ids(file: &Path) -> Result<Vec<String>, String> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, id)| !id.is_empty());
    let id = |(nth, id): (usize, &str)| {
        let is_id = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let wrong =
            || format!("{name}, line {}: must be the id of a key, 16 hexadecimal digits", nth + 1);
        is_id.then(|| id.to_ascii_lowercase()).ok_or_else(wrong)
    };
    lines.map(id).collect()
}

/// The ids that no API key has, in words: a line, if there are any.
fn unknown(ids: &[String]) -> String {
    match ids {
        [] => String::new(),
        ids => format!("Not in this backup, so not revoked: {}.\n", ids.join(", ")),
    }
}

/// The API keys that are valid, in words.
fn valid(keys: &[(String, String)]) -> String {
    if keys.is_empty() {
        return "No API key is valid.".to_owned();
    }
    let keys: Vec<String> =
        keys.iter().map(|(id, name)| format!("{id} ({})", name.escape_debug())).collect();
    format!(
        "Valid API keys: {}. Revoke with kontor key revoke what should not be.",
        keys.join(", ")
    )
}
