//! What buyers see of stock: as much as the shop's settings allow, from the rows of stock. Whether
//! units can be had is decided by the stock itself, at checkout.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::settings::{ShopSettings, StockDisplay};
use crate::domain::id::Sku;
use crate::domain::product::Product;
use crate::domain::time::Timestamp;
use crate::http::edge::call::RequestParts;
use crate::http::edge::error::Error;

/// Whether there is enough stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(rename_all = "snake_case")]
pub enum StockStatus {
    /// There are enough units.
    InStock,
    /// There are enough units, and few are left.
    FewLeft,
    /// There are units, but fewer than the cart's line has. Only in carts.
    Short,
    /// There are no units.
    OutOfStock,
}

/// What buyers see of the stock of a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Availability {
    /// Whether there is enough stock.
    pub status: StockStatus,
    /// The number of units that can be bought now; `null` unless the shop shows numbers.
    #[schema(required)]
    pub quantity: Option<i64>,
    /// When a product that is out of stock is expected again; `null` if that is not known.
    #[schema(required)]
    pub restock_at: Option<String>,
}

/// Units that can be bought now, by SKU; `None` if the shop does not show stock.
pub type ShownStock = Option<BTreeMap<Sku, i64>>;

/// Reads the stock of these SKUs, if the shop shows it.
///
/// # Errors
/// The store's.
pub async fn read(call: &RequestParts, skus: &[Sku]) -> Result<ShownStock, Error> {
    if call.node().settings.availability == StockDisplay::Hidden || skus.is_empty() {
        return Ok(None);
    }
    let closed = call.node().locations.closed();
    let mut units = BTreeMap::new();
    for level in call.store().free_units(skus).await? {
        if !closed.iter().any(|location| *location.as_str() == *level.location) {
            *units.entry(level.sku).or_insert(0) += level.free;
        }
    }
    Ok(Some(units))
}

/// What buyers see of a product's stock when they ask for this many units.
#[must_use]
pub fn shown(
    settings: &ShopSettings,
    stock: &ShownStock,
    (product, wanted): (&Product, i64),
    now: Timestamp,
) -> Option<Availability> {
    let free = stock.as_ref()?.get(&product.sku).copied().unwrap_or(0).max(0);
    let status = match settings.availability {
        StockDisplay::Hidden => return None,
        _ if free == 0 => StockStatus::OutOfStock,
        _ if free < wanted => StockStatus::Short,
        StockDisplay::FewLeft | StockDisplay::Number if free <= settings.few_left_at => {
            StockStatus::FewLeft
        }
        _ => StockStatus::InStock,
    };
    let quantity = (settings.availability == StockDisplay::Number).then_some(free);
    let restock = product.restock_at.filter(|at| status == StockStatus::OutOfStock && *at > now);
    Some(Availability { status, quantity, restock_at: restock.map(|at| at.to_string()) })
}
