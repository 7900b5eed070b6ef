//! Erasing persons again in a store that was put back to an earlier state.

use super::personal::erasure::Erasure;
use super::{Error, Tables};
use crate::seeded_fault::{self, SeededFault};

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
