//! The plain rows with a version that there are: one line a kind. What two callers race for is a noun
//! instead.

use super::engine::row_host::RowKinds;
use crate::domain::product::Product;

/// All kinds.
#[must_use]
pub fn all() -> RowKinds {
    RowKinds::default().with::<Product>()
}
