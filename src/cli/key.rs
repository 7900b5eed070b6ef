//! `kontor key`: API keys, straight in the store, whether or not a server runs on it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use kontor::actors::engine::clock::Clock;
use kontor::http::Scope;
use kontor::store::{self, DatabaseUrl, OpenError, Store};
use kontor_lab::{stderr, stdout};
use serde_json::json;
use strum::VariantArray as _;

use super::{Error, store_location};

/// How long a folder that somebody else is making is waited for.
const MADE_WITHIN: Duration = Duration::from_secs(5);
/// The pause between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The scopes that routes ask for, and `admin`, which has them all.
pub fn scopes() -> PossibleValuesParser {
    let each = Scope::VARIANTS.iter().map(|scope| scope.as_str());
    PossibleValuesParser::new(std::iter::once("admin").chain(each))
}

/// Create, list and revoke API keys
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
A key is shown once; only a digest of it is stored. A running server accepts a new key at once. It
refuses a revoked key within a second, and closes its live connections within 5 seconds.

Examples:
  kontor key create --scope admin
  kontor key create --scope orders:read --scope stock:read --name warehouse --json
  kontor key list
  kontor key create --scope admin --store postgres://kontor@db/kontor
  kontor key revoke 5f0c…")]
pub struct Args {
    /// The action.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// The actions on keys.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// Create a key and show it once
    Create {
        /// The data folder
        #[arg(long, value_name = "DIR", default_value = "data")]
        data: PathBuf,
        /// The PostgreSQL database of the store, instead of a data folder
        #[arg(long, value_name = "URL", env = "KONTOR__STORE__URL", hide_env_values = true)]
        store: Option<DatabaseUrl>,
        /// A scope of the key; may be repeated
        #[arg(long = "scope", required = true, value_parser = scopes())]
        scopes: Vec<String>,
        /// A name, to recognize it in the list
        #[arg(long, default_value = "unnamed")]
        name: String,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// List keys, without their secrets
    List {
        /// The data folder
        #[arg(long, value_name = "DIR", default_value = "data")]
        data: PathBuf,
        /// The PostgreSQL database of the store, instead of a data folder
        #[arg(long, value_name = "URL", env = "KONTOR__STORE__URL", hide_env_values = true)]
        store: Option<DatabaseUrl>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key
    Revoke {
        /// The key's id, from the list
        id: String,
        /// The data folder
        #[arg(long, value_name = "DIR", default_value = "data")]
        data: PathBuf,
        /// The PostgreSQL database of the store, instead of a data folder
        #[arg(long, value_name = "URL", env = "KONTOR__STORE__URL", hide_env_values = true)]
        store: Option<DatabaseUrl>,
    },
}

/// Works on the keys of a data folder.
///
/// # Errors
/// [`Error`]: the folder cannot be opened, or a name or scope is not valid.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    match args.command {
        KeyCommand::Create { data, store, scopes, name, json } => {
            let store = open(&data, store.as_ref()).await?;
            let (row, secret) = store.create_key(&name, &scopes, Clock::system().now()).await?;
            store.close().await;
            if json {
                let scopes = row.scopes;
                stdout::json(&json!({"id": row.id, "key": secret.reveal(), "scopes": scopes}))?;
            } else {
                stdout::line(secret.reveal());
                stderr::line("the key is shown only once: store it safely");
            }
        }
        KeyCommand::List { data, store, json } => {
            let store = store_location::open(&data, store.as_ref()).await?;
            let keys = store.keys().await?;
            store.close().await;
            if json {
                let keys: Vec<_> = keys.iter().map(show).collect();
                stdout::json(&json!({ "keys": keys }))?;
            } else {
                for key in keys {
                    let state = if key.revoked_at.is_some() { "revoked" } else { "active" };
                    stdout::line(format_args!(
                        "{}  {state}  {}  {}",
                        key.id,
                        key.name,
                        key.scopes.join(" ")
                    ));
                }
            }
        }
        KeyCommand::Revoke { id, data, store } => {
            let store = open(&data, store.as_ref()).await?;
            let revoked = store.revoke_key(&id, Clock::system().now()).await?;
            store.close().await;
            if !revoked {
                return Err(Error::Usage(format!("there is no active key {id}")));
            }
            stderr::line("revoked");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(key: &store::key::Row) -> serde_json::Value {
    json!({
        "id": key.id,
        "name": key.name,
        "scopes": key.scopes,
        "created_at": key.created_at.to_string(),
        "revoked_at": key.revoked_at.map(|at| at.to_string()),
    })
}

/// Opens a store beside a server that may run on it. If there is none it is made first, and the
/// folder let go before anything else happens, so that a server can start on it at once; one
/// that is being made by somebody else this moment is waited for.
pub(super) async fn open(dir: &Path, store: Option<&DatabaseUrl>) -> Result<Store, OpenError> {
    if store_location::database(store).is_some() {
        return store_location::open_and_migrate(dir, store).await;
    }
    let until = Instant::now() + MADE_WITHIN;
    loop {
        let error = match Store::open_beside_up_to_date(dir).await {
            Err(OpenError::Missing(_)) => {
                match Store::open(dir, &store::Options::default()).await {
                    Ok(made) => {
                        made.close().await;
                        continue;
                    }
                    Err(error @ OpenError::InUse { .. }) => error,
                    // It was made between two looks.
                    Err(error @ OpenError::NotADirectory(_)) if dir.is_dir() => error,
                    Err(other) => return Err(other),
                }
            }
            Err(error @ OpenError::Older { .. }) => error,
            other => return other,
        };
        if Instant::now() >= until {
            return Err(error);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
