//! The projection of stock: one row per SKU and location, for lists and the live feed. The
//! projector decides when rows are written and published.

use std::sync::{Arc, OnceLock};

use super::engine::projections::{Happened, Keyed, LiveList, Projection};
use crate::domain::entity::{EntityId, Noun as _, Record};
use crate::domain::id::Sku;
use crate::domain::stock::{Level, Location, Stock};
use crate::domain::time::Timestamp;
use crate::store::list_row::Batch;
use crate::store::row::{Table, TableRow as _};
use crate::store::stock::Row;

/// The projection of stock.
#[derive(Clone, Copy, Debug)]
pub struct StockRows;

impl Projection for StockRows {
    const NAME: &'static str = "stock";
    const PREFIXES: &'static [&'static str] = &[Stock::PREFIX];
    type State = Stock;

    fn listed(entity: &EntityId) -> Option<(&'static Table, &str)> {
        Some((Row::table(), entity.key()))
    }

    fn rows(&self, entity: &EntityId, folded: &Keyed<'_, Stock>, batch: &mut Batch) {
        for row in stock_rows(entity, &folded.state, folded.seq, folded.at) {
            batch.put(row);
        }
    }
}

/// A SKU's rows.
#[derive(Clone, Debug)]
pub struct SkuLevels {
    /// The SKU.
    pub sku: Sku,
    /// One row per location.
    pub rows: Vec<Row>,
    /// What is shown with the rows and is not of the stock.
    pub beside: OnceLock<BesideLevels>,
}

/// What lists of stock show beside the units, as it was when a change was published.
#[derive(Clone, Debug, Default)]
pub struct BesideLevels {
    /// The name of the SKU's product.
    pub name: Option<String>,
    /// The locations that were deleted: without units, they are not listed.
    pub deleted: Arc<[Location]>,
}

impl SkuLevels {
    /// The rows that lists have, and the name of their product.
    #[must_use]
    pub fn listed(&self) -> (Vec<Row>, Option<String>) {
        let beside = self.beside.get().cloned().unwrap_or_default();
        let gone = |row: &Row| beside.deleted.iter().any(|id| id.as_str() == row.location);
        let listed = |row: &&Row| row.on_hand != 0 || row.incoming != 0 || !gone(row);
        (self.rows.iter().filter(listed).cloned().collect(), beside.name)
    }
}

impl LiveList for StockRows {
    type Shown = SkuLevels;
    type Facets = ();
    type Happened = Happened;

    fn shown(&self, entity: &EntityId, folded: &Keyed<'_, Stock>) -> Option<SkuLevels> {
        let sku = entity.key().parse().ok()?;
        let rows = stock_rows(entity, &folded.state, folded.seq, folded.at);
        Some(SkuLevels { sku, rows, beside: OnceLock::new() })
    }

    fn facets(&self, _: &Stock) {}

    fn happened(&self, record: &Record) -> Happened {
        Happened::of(record)
    }
}

/// The stock rows of a SKU, one per location.
#[must_use]
pub fn stock_rows(id: &EntityId, stock: &Stock, seq: i64, at: Timestamp) -> Vec<Row> {
    let Ok(sku) = id.key().parse::<Sku>() else {
        return Vec::new();
    };
    let row = |(location, level): (Location, Level)| Row {
        sku: sku.clone(),
        location: location.to_string(),
        on_hand: level.on_hand,
        reserved: level.reserved,
        allocated: level.allocated,
        incoming: level.incoming,
        sold: level.sold,
        updated_at: at,
        version: seq,
    };
    stock.shown_levels().into_iter().map(row).collect()
}
