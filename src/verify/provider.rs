//! How a store is known at the sandbox payment provider. Its server and its checks must say the
//! same name.

use crate::providers::sandbox;
use crate::store::{self, Store};

/// How this store speaks to the sandbox at `url`: its account and webhook secret are drawn from
/// the store's own secrets.
///
/// # Errors
/// The store's, when its secrets cannot be read.
pub async fn sandbox_options(store: &Store, url: &str) -> Result<sandbox::Options, store::Error> {
    let account = hex::encode(store.secret("sandbox_account").await?);
    let account = format!("store_{}", account.get(..16).unwrap_or_default()).into();
    let webhook_secret = hex::encode(store.secret("sandbox_webhook").await?).into();
    Ok(sandbox::Options { url: url.to_owned(), account, webhook_secret, ..Default::default() })
}
