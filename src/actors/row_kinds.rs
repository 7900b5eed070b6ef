//! The list of the kinds of plain rows with a version: one line per kind. Data that callers often
//! change concurrently belongs in a noun instead.

use super::engine::row_host::RowKinds;
use crate::domain::location::StockLocation;
use crate::domain::product::Product;

/// All kinds.
#[must_use]
pub fn all() -> RowKinds {
    RowKinds::default().with::<Product>().with::<StockLocation>()
}
