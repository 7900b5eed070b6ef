//! `kontor key`: creates, lists and revokes API keys directly in the store, whether or not a server
//! is using it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use kontor::actors::engine::clock::Clock;
use kontor::http::{ADMIN, Scope};
use kontor::store::personal::{master, own_master::OwnMasterKey};
use kontor::store::signed_head::PublicKey;
use kontor::store::{self, OpenError, Store};
use kontor::telemetry::security::SecurityEvent;
use kontor_lab::{stderr, stdout};
use serde_json::json;
use strum::VariantArray as _;

use super::store_location::{StoreArgs, StorePlace};
use super::{Error, audit};

/// How long to wait for a folder in which another process is creating a store.
const MADE_WITHIN: Duration = Duration::from_secs(5);
/// The pause between two attempts to open such a folder.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The values of `--scope`: the scopes that routes require, and `admin`, which includes all of
/// them.
pub fn scopes() -> PossibleValuesParser {
    let each = Scope::VARIANTS.iter().map(|scope| scope.as_str());
    PossibleValuesParser::new(std::iter::once(ADMIN).chain(each))
}

/// Create, list and revoke API keys; replace the keys of a store
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
A key is shown once; only a digest of it is stored. A running server accepts a new key at once. It
refuses a revoked key within a second, and closes its live connections within 5 seconds.

Examples:
  kontor key create --scope admin
  kontor key create --scope orders:read --scope stock:read --name warehouse --json
  kontor key list
  kontor key create --scope admin --store postgres://kontor@db/kontor
  kontor key revoke 5f0c…
  kontor key rotate --master")]
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
        /// The store.
        #[command(flatten)]
        store: StoreArgs,
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
        /// The store.
        #[command(flatten)]
        store: StoreArgs,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Replace the keys that a store keeps for itself, while servers run
    ///
    /// With --master: seal all personal data keys with a new master key. In a data folder this makes the
    /// key and replaces the file master.key; for a store in PostgreSQL, or with store.master_key, first put
    /// the new key before the old one in store.master_key of every node.
    ///
    /// With --cluster: add a new key with which nodes authenticate each other. The old one is accepted
    /// for 5 more minutes.
    Rotate {
        /// The store.
        #[command(flatten)]
        store: StoreArgs,
        /// The master key of personal data
        #[arg(long, required_unless_present = "cluster")]
        master: bool,
        /// The key of the cluster
        #[arg(long)]
        cluster: bool,
    },
    /// Revoke a key
    Revoke {
        /// The key's id, from the list
        id: String,
        /// The store.
        #[command(flatten)]
        store: StoreArgs,
    },
}

/// Creates, lists or revokes API keys of a store.
///
/// # Errors
/// [`Error`]: the store cannot be opened, a name or scope is not valid, or there is no active key
/// with the id.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    match args.command {
        KeyCommand::Create { store, scopes, name, json } => {
            let store = open(&store.place()?).await?;
            let (row, secret) = store.create_key(&name, &scopes, Clock::system().now()).await?;
            store.close().await;
            let about = format!("{} {} ({})", row.id, row.name, row.scopes.join(" "));
            audit::log(SecurityEvent::KeyCreated, &about);
            if json {
                let scopes = row.scopes;
                stdout::json(&json!({"id": row.id, "key": secret.reveal(), "scopes": scopes}))?;
            } else {
                stdout::line(secret.reveal());
                stderr::line("the key is shown only once: store it safely");
            }
        }
        KeyCommand::List { store, json } => {
            let store = store.place()?.open().await?;
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
        KeyCommand::Rotate { store, master, cluster } => {
            let place = store.place()?;
            if master {
                rotate_master(&place).await?;
            }
            if cluster {
                let store = place.open().await?;
                store.add_cluster_key(Clock::system().now(), false).await?;
                store.close().await;
                audit::log(SecurityEvent::StoreKeysRotated, "cluster");
                stderr::line("the cluster has a new key; nodes use it in 10 seconds");
            }
        }
        KeyCommand::Revoke { id, store } => {
            let store = open(&store.place()?).await?;
            let revoked = store.revoke_key(&id, Clock::system().now()).await?;
            store.close().await;
            if !revoked {
                return Err(Error::Usage(format!("there is no active key {id}")));
            }
            audit::log(SecurityEvent::KeyRevoked, &id);
            stderr::line("revoked");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Seals all keys of personal data with a new master key. A folder keeps the one before until the next
/// rotation.
async fn rotate_master(place: &StorePlace) -> Result<(), Error> {
    // With the setting, the new key is put there.
    let own = match place {
        StorePlace::Folder(dir) if place.master_key()?.is_empty() => Some(dir),
        _ => None,
    };
    if let Some(dir) = own {
        // A server that runs reads the file again every 10 minutes, and when it cannot open a key.
        master::add(dir).map_err(store::Error::from)?;
    }
    let store = place.open().await?;
    if store.own_master_key().await? == OwnMasterKey::Only {
        store.close().await;
        let (meaning, remedy) = (OwnMasterKey::Only.meaning(), OwnMasterKey::REMEDY);
        return Err(Error::Usage(format!("{meaning}: {remedy}")));
    }
    let count = store.rewrap_keys(|_| {}).await?;
    let removed = store.remove_own_master_key().await?;
    let public = PublicKey::of(&store.people().master()?).into_iter().next();
    store.close().await;
    if let Some(dir) = own {
        master::keep_two(dir).map_err(store::Error::from)?;
    }
    audit::log(SecurityEvent::StoreKeysRotated, "master");
    stderr::line(format_args!("{count} keys are sealed with the new master key"));
    if removed {
        stderr::line("nothing needs the database's own master key any more: it was removed");
    }
    if let Some(public) = public {
        stderr::line(format_args!("its signed heads have the public key {public}"));
    }
    Ok(())
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

/// Opens a store that a server may be using. If there is no store in the folder, this creates one
/// and unlocks the folder at once, so that a server can start on it. If another process is creating
/// the store, this waits for it.
pub(super) async fn open(place: &StorePlace) -> Result<Store, Error> {
    let StorePlace::Folder(dir) = place else {
        return place.open_and_migrate().await;
    };
    let options = place.options()?;
    let until = Instant::now() + MADE_WITHIN;
    loop {
        let error = match Store::open_beside_up_to_date(dir, options.master_key.clone()).await {
            Err(OpenError::Missing(_)) => {
                match Store::open(dir, &options).await {
                    Ok(made) => {
                        made.close().await;
                        continue;
                    }
                    Err(error @ OpenError::InUse { .. }) => error,
                    // Another process created the folder between the two checks.
                    Err(error @ OpenError::NotADirectory(_)) if dir.is_dir() => error,
                    Err(other) => return Err(other.into()),
                }
            }
            Err(error @ OpenError::Older { .. }) => error,
            other => return Ok(other?),
        };
        if Instant::now() >= until {
            return Err(error.into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
