//! The list of all projections.

use super::engine::projections::Projections;
use super::order_rows::OrderRows;
use super::stock_rows::StockRows;

/// All projections, in the order in which a batch writes their rows.
#[must_use]
pub fn all() -> Projections {
    Projections::default().with_live(OrderRows).with_live(StockRows)
}
