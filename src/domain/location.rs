//! A location that has stock: a warehouse, a shop, a shelf for returned goods. One person edits it
//! at a time, so it is a plain row. How much stock it has belongs to the stock of each SKU.

use serde::{Deserialize, Serialize};

use super::address::Address;
use super::stock::Location;
use super::versioned::Versioned;

/// A location that has stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLocation {
    /// Its id, which stock is stored under.
    pub id: Location,
    /// The name that operators see, 1 to 100 characters.
    pub name: String,
    /// Its postal address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// Whether its units are sold. If not, they are kept, and no order reserves them.
    pub for_sale: bool,
    /// Whether it was deleted. The row stays, so that neither the settings nor old stock bring the
    /// location back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

impl StockLocation {
    /// A location that nobody has described: it has its id as its name, and is for sale.
    #[must_use]
    pub fn undescribed(id: Location) -> Self {
        Self { name: id.to_string(), id, address: None, for_sale: true, deleted: false }
    }
}

impl Versioned for StockLocation {
    const PREFIX: &'static str = "loc";
    const NAME: &'static str = "location";
    const PLURAL: &'static str = "locations";
    const PUT: &'static str = "put_location";

    type Key = Location;

    fn key(&self) -> &Location {
        &self.id
    }

    fn is_deleted(&self) -> bool {
        self.deleted
    }
}
