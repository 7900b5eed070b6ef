//! A delivery zone: the countries that are reached for one fee. One person edits it at a time, so it
//! is a plain row. Which zone an order falls into is not decided here.

use std::collections::BTreeSet;

use kontor::domain::versioned::Versioned;
use serde::{Deserialize, Serialize};

/// The countries that are reached for one fee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryZone {
    /// Names it: 1 to 32 lower-case letters, digits and `-`.
    pub code: String,
    /// What a buyer reads, 1 to 100 characters.
    pub name: String,
    /// Where it delivers to.
    pub countries: Countries,
    /// What delivery costs, in minor units of the shop's currency.
    pub fee: i64,
    /// Whether a cart can choose it.
    pub active: bool,
}

/// ISO 3166-1 alpha-2 codes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Countries(pub BTreeSet<String>);

impl Versioned for DeliveryZone {
    const PREFIX: &'static str = "zone";
    const PLURAL: &'static str = "delivery_zones";
    const PUT: &'static str = "put_delivery_zone";

    type Key = String;

    fn key(&self) -> &String {
        &self.code
    }
}
