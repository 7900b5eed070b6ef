//! The topics of plain rows: products and locations.

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::message::{
    ChangeShape, HappenedShape, LiveRow, LocationChangeShape, ProductChangeShape, Topic,
};
use super::refusal::{Wrong, by_sku};
use super::topic::{ListTopic, Merged};
use crate::actors::engine::changes::Change;
use crate::actors::engine::projections::RowList;
use crate::domain::id::Sku;
use crate::domain::location::StockLocation;
use crate::domain::product::Product;
use crate::http::api::location::locations::StockLocationShape;
use crate::http::api::product::shape::ProductShape;
use crate::http::edge::error::Error;
use crate::http::edge::principal::Scope;
use crate::store::Store;
use crate::store::versioned::list_at_end;

/// The approximate size of a change without its row and its events, in bytes.
const CHANGE_BYTES: usize = 100;
/// The approximate size of an event, in bytes.
const EVENT_BYTES: usize = 100;

/// The topic of products.
pub(super) struct ProductsTopic;

/// The topic of locations.
pub(super) struct LocationsTopic;

#[async_trait]
impl ListTopic for ProductsTopic {
    type List = RowList<Product>;
    /// SKUs; none for all.
    type Filter = Vec<Sku>;
    type Row = LiveRow;
    type Change<'a> = ChangeShape<'a>;

    fn name(&self) -> &'static str {
        Topic::Products.into()
    }

    fn scope(&self) -> Scope {
        Scope::ProductsRead
    }

    fn filter(&self, input: Value) -> Result<Vec<Sku>, Wrong> {
        by_sku(&input)
    }

    fn matches_after(&self, filter: &Vec<Sku>, change: &Change<RowList<Product>>) -> bool {
        filter.is_empty() || filter.contains(&change.shown.row.value.sku)
    }

    fn bytes(&self, change: &Change<RowList<Product>>, _: bool) -> usize {
        CHANGE_BYTES + EVENT_BYTES * change.events.len() + change.shown.bytes
    }

    fn change<'a>(
        &self,
        _: &Vec<Sku>,
        merged: &Merged<'a, RowList<Product>>,
    ) -> Option<ChangeShape<'a>> {
        let (first, last) = (merged.first, merged.last);
        Some(ChangeShape::Product(ProductChangeShape {
            sku: last.shown.row.value.sku.as_str(),
            after: first.after,
            version: last.version,
            events: HappenedShape::all(&merged.events),
            row: ProductShape::from(&last.shown.row),
        }))
    }

    async fn snapshot(
        &self,
        store: &Store,
        skus: &Vec<Sku>,
        limit: u32,
    ) -> Result<(Vec<LiveRow>, Vec<(u16, i64)>), Error> {
        let (rows, ends) = list_at_end::<Product>(store, ("TRUE", skus), limit).await?;
        Ok((rows.iter().map(|row| LiveRow::Product(row.into())).collect(), ends))
    }
}

#[async_trait]
impl ListTopic for LocationsTopic {
    type List = RowList<StockLocation>;
    /// There is none.
    type Filter = ();
    type Row = LiveRow;
    type Change<'a> = ChangeShape<'a>;

    fn name(&self) -> &'static str {
        Topic::Locations.into()
    }

    fn scope(&self) -> Scope {
        Scope::StockRead
    }

    fn filter(&self, input: Value) -> Result<(), Wrong> {
        if input == Value::Object(Map::new()) { Ok(()) } else { Err(Wrong::unknown_filter()) }
    }

    fn matches_after(&self, (): &(), _: &Change<RowList<StockLocation>>) -> bool {
        true
    }

    fn bytes(&self, change: &Change<RowList<StockLocation>>, _: bool) -> usize {
        CHANGE_BYTES + EVENT_BYTES * change.events.len() + change.shown.bytes
    }

    fn change<'a>(
        &self,
        (): &(),
        merged: &Merged<'a, RowList<StockLocation>>,
    ) -> Option<ChangeShape<'a>> {
        let (first, last) = (merged.first, merged.last);
        let row = &last.shown.row;
        Some(ChangeShape::Location(LocationChangeShape {
            location: row.value.id.as_str(),
            after: first.after,
            version: last.version,
            events: HappenedShape::all(&merged.events),
            row: (!row.value.deleted).then(|| StockLocationShape::from(row)),
        }))
    }

    async fn snapshot(
        &self,
        store: &Store,
        (): &(),
        limit: u32,
    ) -> Result<(Vec<LiveRow>, Vec<(u16, i64)>), Error> {
        let (rows, ends) = list_at_end::<StockLocation>(store, ("NOT deleted", &[]), limit).await?;
        Ok((rows.iter().map(|row| LiveRow::Location(row.into())).collect(), ends))
    }
}
