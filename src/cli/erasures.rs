//! `kontor erasures`: lists who was erased, to be kept outside of the store, and erases them again in a
//! store that was put back to an earlier state.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kontor::actors::flows::erasure::list_erasures;
use kontor::domain::id::Key;
use kontor::store::erase_again::{ListedErasure, add_list};
use kontor::telemetry::security::SecurityEvent;
use kontor_lab::stdout;

use super::Error;
use super::store_location::StoreArgs;

/// List who was erased, or erase them again after a restore
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
The list has one JSON object per line, with keyed hashes of email addresses: nobody can read the
addresses. Keep it outside of the store, and newer than your backups. After an older backup was put
back, the keys of those who were erased since are in the store again: add the list. kontor restore
does it with --erased. A server erases them within 10 minutes, and at its start. Of an erasure that is
open, the list names the orders under a legal hold: a server puts them under one again before it erases.

Examples:
  kontor erasures --data /var/lib/kontor > erased.jsonl
  kontor erasures --store postgres://kontor@db/kontor --add erased.jsonl")]
pub struct Args {
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Erase those in this list again
    #[arg(long, value_name = "FILE")]
    pub add: Option<PathBuf>,
}

/// Lists erasures, or adds them.
///
/// # Errors
/// [`Error`]: the store cannot be opened, or the list cannot be read.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let list = args.add.as_deref().map(read).transpose().map_err(Error::Usage)?;
    let store = args.store.place()?.open().await?;
    if let Some(list) = list {
        let added = add_list(&store, &list).await?;
        super::audit::log(SecurityEvent::ErasuresAdded, &format!("{added} erasures"));
        stdout::line(format_args!("{added} of {} erasures were not in the store.", list.len()));
    } else {
        for erasure in list_erasures(&store).await? {
            stdout::line(serde_json::to_string(&erasure).unwrap_or_default());
        }
    }
    store.close().await;
    Ok(ExitCode::SUCCESS)
}

/// The erasures in a file.
pub(super) fn read(file: &Path) -> Result<Vec<ListedErasure>, String> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let erasure = |(nth, line): (usize, &str)| {
        let wrong = |error: String| format!("{name}, line {}: it is no erasure: {error}", nth + 1);
        let one: ListedErasure =
            serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let hashed = one.subject.len() == 32 && one.subject.bytes().all(|b| b.is_ascii_hexdigit());
        let rule =
            "subject must be the keyed hash of an email address, as kontor erasures prints it";
        if let Some(id) = one.held.iter().find(|id| !is_order(id)) {
            return Err(wrong(format!("{id:?} is not the id of an order")));
        }
        hashed.then_some(one).ok_or_else(|| wrong(rule.to_owned()))
    };
    lines.map(erasure).collect()
}

fn is_order(id: &str) -> bool {
    id.strip_prefix("ord_").is_some_and(|key| key.parse::<Key>().is_ok())
}
