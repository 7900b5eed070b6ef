//! The projection of stock: one row per SKU and location, for lists and the live feed. The
//! projector decides when rows are written and published.

use super::engine::fold::Folded;
use super::engine::projections::{LiveList, Projection};
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

    fn rows(&self, entity: &EntityId, folded: &Folded<Stock>, batch: &mut Batch) {
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
}

impl LiveList for StockRows {
    type Shown = SkuLevels;
    type Facets = ();
    type Happened = ();

    fn shown(&self, entity: &EntityId, folded: &Folded<Stock>) -> Option<SkuLevels> {
        let sku = entity.key().parse().ok()?;
        let rows = stock_rows(entity, &folded.state, folded.seq, folded.at);
        Some(SkuLevels { sku, rows })
    }

    fn facets(&self, _: &Stock) {}

    fn happened(&self, _: &Record) {}
}

/// The stock rows of a SKU, one per location.
#[must_use]
pub fn stock_rows(id: &EntityId, stock: &Stock, seq: i64, at: Timestamp) -> Vec<Row> {
    let Ok(sku) = id.key().parse::<Sku>() else {
        return Vec::new();
    };
    let row = |(location, level): (&Location, &_)| {
        let level: &Level = level;
        Row {
            sku: sku.clone(),
            location: location.to_string(),
            on_hand: level.on_hand,
            reserved: level.reserved,
            allocated: level.allocated,
            incoming: level.incoming,
            sold: level.sold,
            updated_at: at,
            version: seq,
        }
    };
    stock.levels().iter().map(row).collect()
}
