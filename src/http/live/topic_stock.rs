//! The topic of stock: the levels of each SKU at its locations.

use async_trait::async_trait;
use serde_json::Value;

use super::message::{ChangeShape, HappenedShape, LiveRow, StockChangeShape, Topic};
use super::refusal::{Wrong, read_filter};
use super::topic::{ListTopic, Merged};
use crate::actors::engine::changes::{Change, Changed};
use crate::actors::engine::projections::Projection as _;
use crate::actors::node::Node;
use crate::actors::stock_rows::{BesideLevels, SkuLevels, StockRows};
use crate::domain::id::Sku;
use crate::domain::stock::Location;
use crate::http::api::location::known;
use crate::http::api::stock::levels::StockListItem;
use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::principal::Scope;
use crate::http::edge::query::VALUES_MAX;
use crate::store::{self, Store, stock};

/// The approximate size of a change without its rows and its events, in bytes.
const CHANGE_BYTES: usize = 100;
/// The approximate size of a row, in bytes.
const ROW_BYTES: usize = 300;
/// The approximate size of an event, in bytes.
const EVENT_BYTES: usize = 100;

/// The filters.
const FILTERS: [&str; 2] = ["sku", "location"];

/// The topic of stock.
pub(super) struct StockTopic;

/// Reads what is shown beside the levels of a batch of changes, unless it was read before.
///
/// # Errors
/// The store's.
pub(super) async fn read_beside(node: &Node, changed: &Changed) -> Result<(), store::Error> {
    for change in changed.of::<StockRows>() {
        let SkuLevels { sku, beside, .. } = &change.shown;
        if beside.get().is_none() {
            let product = node.catalog.get(sku).await?;
            let name = product.map(|product| product.value.name.clone());
            let deleted = node.locations.deleted_ids();
            // An error means that another reader was faster.
            let _known = beside.set(BesideLevels { name, deleted });
        }
    }
    Ok(())
}

/// The levels that a subscription is about: of these SKUs, at these locations; none for all.
pub(super) struct StockFilter {
    sku: Vec<Sku>,
    location: Vec<Location>,
}

impl StockFilter {
    fn is_at(&self, row: &stock::Row) -> bool {
        self.location.is_empty() || self.location.iter().any(|one| one.as_str() == row.location)
    }
}

#[async_trait]
impl ListTopic for StockTopic {
    type List = StockRows;
    type Filter = StockFilter;
    type Row = LiveRow;
    type Change<'a> = ChangeShape<'a>;

    fn name(&self) -> &'static str {
        Topic::Stock.into()
    }

    fn scope(&self) -> Scope {
        Scope::StockRead
    }

    fn filter(&self, input: Value) -> Result<StockFilter, Wrong> {
        let (filter, mut faults) = read_filter(&input, &FILTERS)?;
        let sku = filter.sku.read("filter.sku", "must be a SKU", &mut faults);
        let rule = "must be the id of a location";
        let location = filter.location.read("filter.location", rule, &mut faults);
        faults.check()?;
        Ok(StockFilter { sku, location })
    }

    async fn look_up(
        &self,
        shop: (&Node, &Store),
        input: &Value,
        faults: &mut RequestFaults,
    ) -> Result<(), Error> {
        // Other faults are found when the filter is parsed.
        let Ok((filter, _)) = read_filter(input, &FILTERS) else { return Ok(()) };
        for (place, location) in filter.location.texts("filter.location").take(VALUES_MAX) {
            known::read(shop, &place, location, faults).await?;
        }
        Ok(())
    }

    fn matches_after(&self, filter: &StockFilter, change: &Change<StockRows>) -> bool {
        let SkuLevels { sku, rows, .. } = &change.shown;
        (filter.sku.is_empty() || filter.sku.contains(sku))
            && (filter.location.is_empty() || rows.iter().any(|row| filter.is_at(row)))
    }

    fn bytes(&self, change: &Change<StockRows>, known: bool) -> usize {
        let rows = if known { 0 } else { CHANGE_BYTES + ROW_BYTES * change.shown.rows.len() };
        rows + EVENT_BYTES * change.events.len()
    }

    fn change<'a>(
        &self,
        filter: &StockFilter,
        merged: &Merged<'a, StockRows>,
    ) -> Option<ChangeShape<'a>> {
        let (first, last) = (merged.first, merged.last);
        let (rows, name) = last.shown.listed();
        let rows = rows.into_iter().filter(|row| filter.is_at(row));
        Some(ChangeShape::Stock(StockChangeShape {
            sku: last.shown.sku.as_str(),
            after: first.after,
            version: last.version,
            events: HappenedShape::all(&merged.events),
            rows: rows.map(|row| StockListItem::new(row, name.clone())).collect(),
        }))
    }

    async fn snapshot(
        &self,
        store: &Store,
        filter: &StockFilter,
        limit: u32,
    ) -> Result<(Vec<LiveRow>, Vec<(u16, i64)>), Error> {
        let filter = stock::Filter {
            sku: filter.sku.clone(),
            location: filter.location.iter().map(ToString::to_string).collect(),
            limit,
            ..stock::Filter::default()
        };
        let (rows, cursors) = store.stock_levels_at(&filter, StockRows::NAME).await?;
        let names = store.product_names(rows.iter().map(|row| &row.sku)).await?;
        let row = |row: stock::Row| {
            let name = names.get(&row.sku).cloned();
            LiveRow::Stock(StockListItem::new(row, name))
        };
        Ok((rows.into_iter().map(row).collect(), cursors))
    }
}
