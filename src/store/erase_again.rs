//! Erasing persons again in a store that was put back to an earlier state, and putting orders under a legal
//! hold again that were under one.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::personal::erasure::Erasure;
use super::{Error, Tables};
use crate::domain::time::Timestamp;
use crate::seeded_fault::{self, SeededFault};

/// The name of the setting with the orders that a server puts under a legal hold.
const HOLDS: &str = "legal_holds_to_place";

/// An entry of the list of erasures that is kept outside of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedErasure {
    /// The keyed hash of the email address.
    pub subject: String,
    /// When.
    pub erased_at: Timestamp,
    /// Who asked for it, as a cause names them.
    pub by: String,
    /// The orders that kept their data because of a legal hold when the list was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
}

/// Adds the erasures of a list that a store does not have, because it was put back to an earlier state:
/// a server erases those persons again. Returns the number of these erasures.
///
/// # Errors
/// [`Error`] of the store.
pub async fn add_erasures(store: &dyn Tables, list: &[Erasure]) -> Result<u64, Error> {
    let mut added = 0;
    for erasure in list {
        if !seeded_fault::active(SeededFault::ErasedPersonRestored) {
            added += store.add_erasure(erasure).await?;
        }
    }
    Ok(added)
}

/// Adds a list that was kept outside of the store: a server first puts its orders under a legal hold
/// again, then erases as after [`add_erasures`], whose result it returns.
///
/// # Errors
/// [`Error`] of the store.
pub async fn add_list(store: &dyn Tables, list: &[ListedErasure]) -> Result<u64, Error> {
    let held: BTreeSet<String> = list.iter().flat_map(|one| one.held.clone()).collect();
    if !held.is_empty() {
        let mut all = holds_to_place(store).await?;
        all.extend(held);
        let text = serde_json::to_string(&all).unwrap_or_default();
        store.put_setting(HOLDS, &text).await?;
    }
    let erasure = |one: &ListedErasure| {
        let ListedErasure { subject, erased_at, by, .. } = one.clone();
        Erasure { subject, erased_at, by }
    };
    add_erasures(store, &list.iter().map(erasure).collect::<Vec<_>>()).await
}

/// The orders to be put under a legal hold.
///
/// # Errors
/// [`Error`] of the store.
pub async fn holds_to_place(store: &dyn Tables) -> Result<BTreeSet<String>, Error> {
    let text = store.setting(HOLDS).await?.unwrap_or_else(|| "[]".to_owned());
    serde_json::from_str(&text)
        .map_err(|error| Error::Row { table: "setting", reason: format!("{HOLDS}: {error}") })
}

/// Records that the orders are under a legal hold.
///
/// # Errors
/// [`Error`] of the store.
pub async fn holds_placed(store: &dyn Tables) -> Result<(), Error> {
    store.put_setting(HOLDS, "[]").await
}
