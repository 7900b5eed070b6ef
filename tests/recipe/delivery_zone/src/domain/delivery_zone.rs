//! A delivery zone: a set of countries with one delivery fee. One person edits it at a time, so it
//! is a plain row. Which zone an order belongs to is not decided here.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use kontor::domain::versioned::Versioned;

/// A set of countries with one delivery fee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryZone {
    /// Its key: 1 to 32 lower-case letters, digits and `-`.
    pub code: String,
    /// The name that buyers see, 1 to 100 characters.
    pub name: String,
    /// The countries.
    pub countries: Countries,
    /// The delivery fee, in minor units of the shop's currency.
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
    const NAME: &'static str = "delivery_zone";
    const PLURAL: &'static str = "delivery_zones";
    const PUT: &'static str = "put_delivery_zone";

    type Key = String;

    fn key(&self) -> &String {
        &self.code
    }
}
