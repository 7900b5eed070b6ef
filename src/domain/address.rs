//! Postal addresses, for shipping and billing.

use serde::{Deserialize, Serialize};

/// A postal address. Its fields are validated in `http`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The recipient's name.
    pub name: String,
    /// The company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    /// The street and number.
    pub line1: String,
    /// The second line of the street address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line2: Option<String>,
    /// The city.
    pub city: String,
    /// The state, county or province.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The postal code; empty if there is none.
    pub postal_code: String,
    /// The country, as an ISO 3166-1 alpha-2 code.
    pub country: String,
    /// The telephone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}
