//! A store's account at the sandbox payment provider. `kontor serve` and `kontor verify` must use
//! the same account.

use crate::providers::sandbox;
use crate::store::{self, Store};

/// The options of this store's client of the sandbox at `url`: its account and webhook secret are
/// derived from the store's own secrets.
///
/// # Errors
/// [`store::Error`], if the secrets cannot be read.
pub async fn sandbox_options(store: &Store, url: &str) -> Result<sandbox::Options, store::Error> {
    let account = hex::encode(store.secret("sandbox_account").await?);
    let account = format!("store_{}", account.get(..16).unwrap_or_default()).into();
    let webhook_secret = hex::encode(store.secret("sandbox_webhook").await?).into();
    Ok(sandbox::Options { url: url.to_owned(), account, webhook_secret, ..Default::default() })
}
