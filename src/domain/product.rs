//! Products: plain rows with a version, with only the data that are needed to sell them. A full
//! catalogue is out of scope.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::entity::EntityId;
use super::id::Sku;
use super::money::{Currency, TaxRate, UnitPrice};
use super::time::Timestamp;
use super::versioned::{self, Versioned};

/// A product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// Its stock keeping unit, the product's identity.
    pub sku: Sku,
    /// Its display name, 1 to 200 characters.
    pub name: String,
    /// Its description, at most 10,000 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its category, at most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// The unit price by currency; at most 50 currencies.
    pub prices: BTreeMap<Currency, UnitPrice>,
    /// The tax rate.
    #[serde(default)]
    pub tax_rate: TaxRate,
    /// Whether it can be added to a cart.
    pub active: bool,
    /// When it is expected to be in stock again, if it is out of stock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restock_at: Option<Timestamp>,
}

impl Versioned for Product {
    const PREFIX: &'static str = "prod";
    const NAME: &'static str = "product";
    const PLURAL: &'static str = "products";
    const PUT: &'static str = "put_product";

    type Key = Sku;

    fn key(&self) -> &Sku {
        &self.sku
    }
}

/// An event of a product.
pub type Event = versioned::Event<Product>;

/// The journal's id for a product.
#[must_use]
pub fn entity_id(sku: &Sku) -> EntityId {
    Product::entity_id(sku)
}
