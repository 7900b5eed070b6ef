//! The list of all projections, and of the rows whose changes are published.

use super::engine::projections::Projections;
use super::order_rows::OrderRows;
use super::stock_rows::StockRows;
use crate::domain::location::StockLocation;
use crate::domain::product::Product;

/// All projections, in the order in which a batch writes their rows.
#[must_use]
pub fn all() -> Projections {
    Projections::default()
        .with_live(OrderRows)
        .with_live(StockRows)
        .with_rows::<Product>()
        .with_rows::<StockLocation>()
}
