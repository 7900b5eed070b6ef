//! Where goods and bills go.

use serde::{Deserialize, Serialize};

/// A postal address. Its shape is checked where it comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Who receives it.
    pub name: String,
    /// A company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    /// Street and number.
    pub line1: String,
    /// Whatever else the street needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line2: Option<String>,
    /// The town.
    pub city: String,
    /// A state, county or province.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The postal code; empty if there is none.
    pub postal_code: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// A telephone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}
