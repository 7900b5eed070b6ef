//! `kontor new-history`: tells the clients of a store that it was put back to an earlier state by
//! other means than `kontor restore`, such as a snapshot of a volume.

use std::process::ExitCode;

use kontor::store::Store;
use kontor::telemetry::security::SecurityEvent;
use kontor_lab::stdout;

use super::store_location::{StoreArgs, StorePlace};
use super::{Error, audit};

/// Make old tokens of changes invalid, after a store was put back by other means than restore
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Clients that keep a copy of the shop continue with a token. After the store was put back to an
earlier state, other events get the positions in these tokens, and the clients would miss them. This
command ends the history that the tokens belong to: the clients are then told to copy everything
again. kontor restore and pg_restore do not need it. Use it after point-in-time recovery, after a
failover that has lost commits, or after you put back a snapshot of a volume. No server may be
running on the store.

Examples:
  kontor new-history --data /var/lib/kontor
  kontor new-history --store postgres://kontor@db/kontor")]
pub struct Args {
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Ends the store's history.
///
/// # Errors
/// [`Error`]: a server is running on the store, or the store cannot be written.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let place = args.store.place()?;
    let store = match &place {
        StorePlace::Folder(dir) => Store::open_existing(dir, &place.options()?).await?,
        StorePlace::Database(_) => place.open().await?,
    };
    let nodes = store.nodes().await?;
    if let Some(row) = nodes.iter().find(|row| row.lives) {
        let name = &row.node.id;
        return Err(Error::Usage(format!(
            "node {name} is running, or ended some seconds ago: stop all nodes first"
        )));
    }
    store.end_history().await?;
    store.close().await;
    audit::log(SecurityEvent::HistoryRenewed, "");
    stdout::line(
        "Clients with a token of the store's changes will be told to copy everything again.",
    );
    Ok(ExitCode::SUCCESS)
}
