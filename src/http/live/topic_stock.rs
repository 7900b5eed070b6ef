//! The topic of stock: the levels of each SKU at its locations.

use async_trait::async_trait;
use serde_json::Value;

use super::message::{ChangeShape, LiveRow, StockChangeShape, Topic};
use super::refusal::{Wrong, by_sku};
use super::topic::{ListTopic, Merged};
use crate::actors::engine::changes::Change;
use crate::actors::engine::projections::Projection as _;
use crate::actors::stock_rows::StockRows;
use crate::domain::id::Sku;
use crate::http::api::stock::levels::level_row;
use crate::http::edge::error::Error;
use crate::http::edge::principal::Scope;
use crate::store::{Store, stock};

/// The approximate size of a change without its rows, in bytes.
const CHANGE_BYTES: usize = 100;
/// The approximate size of a row, in bytes.
const ROW_BYTES: usize = 250;

/// The topic of stock.
pub(super) struct StockTopic;

#[async_trait]
impl ListTopic for StockTopic {
    type List = StockRows;
    /// One SKU, or all.
    type Filter = Option<Sku>;
    type Row = LiveRow;
    type Change<'a> = ChangeShape<'a>;

    fn name(&self) -> &'static str {
        Topic::Stock.into()
    }

    fn scope(&self) -> Scope {
        Scope::StockRead
    }

    fn filter(&self, input: Value) -> Result<Option<Sku>, Wrong> {
        by_sku(&input)
    }

    fn matches_after(&self, filter: &Option<Sku>, change: &Change<StockRows>) -> bool {
        filter.as_ref().is_none_or(|sku| *sku == change.shown.sku)
    }

    fn bytes(&self, change: &Change<StockRows>, _: bool) -> usize {
        CHANGE_BYTES + ROW_BYTES * change.shown.rows.len()
    }

    fn change<'a>(&self, merged: &Merged<'a, StockRows>) -> Option<ChangeShape<'a>> {
        let (first, last) = (merged.first, merged.last);
        Some(ChangeShape::Stock(StockChangeShape {
            sku: last.shown.sku.as_str(),
            after: first.after,
            version: last.version,
            rows: last.shown.rows.iter().cloned().map(level_row).collect(),
        }))
    }

    async fn snapshot(
        &self,
        store: &Store,
        sku: &Option<Sku>,
        limit: u32,
    ) -> Result<(Vec<LiveRow>, Vec<(u16, i64)>), Error> {
        let filter =
            stock::Filter { sku: sku.iter().cloned().collect(), limit, ..stock::Filter::default() };
        let (rows, cursors) = store.stock_levels_at(&filter, StockRows::NAME).await?;
        Ok((rows.into_iter().map(|row| LiveRow::Stock(level_row(row))).collect(), cursors))
    }
}
