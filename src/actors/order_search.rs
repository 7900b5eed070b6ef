//! What orders are found by, and which of it a search has found. The text that is searched belongs
//! to the rows of `order_rows`.

use std::collections::{BTreeMap, HashSet};

use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::domain::address::Address;
use crate::domain::entity::EntityId;
use crate::domain::order::{Order, attempt_reference};
use crate::domain::search_text::{Search, joined_names, phone_digits, search_text};
use crate::store::order_search::SearchRow;
use crate::store::personal::Keys;

use super::buyer_data::BuyerData;

/// The most values of a field that are named as the match of a search.
const MATCHES_PER_FIELD: usize = 5;

/// What an order is found by.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum SearchField {
    /// The order number.
    Number,
    /// The id.
    Id,
    /// The buyer's own reference.
    Reference,
    /// The name in an address: the recipient's, or the buyer's.
    Name,
    /// The company in an address.
    Company,
    /// The street of an address, with its second line.
    Street,
    /// The city of an address.
    City,
    /// The postal code of an address.
    PostalCode,
    /// The buyer's email address.
    Email,
    /// The telephone number in an address.
    Phone,
    /// The tracking number of a parcel.
    TrackingNumber,
    /// The provider's id of a payment, or our reference for it at the provider.
    Payment,
    /// The SKU of a line.
    Sku,
    /// The name of a line's product.
    Product,
}

/// A value that an order is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchedValue {
    /// What it is.
    pub field: SearchField,
    /// The value.
    pub text: String,
    /// Other ways to write it.
    alias: Option<String>,
}

impl SearchedValue {
    fn texts(&self) -> impl Iterator<Item = &str> {
        [Some(self.text.as_str()), self.alias.as_deref()].into_iter().flatten()
    }
}

/// The row of what an order is found by: the codes of its words. What was erased is not among them.
#[must_use]
pub fn search_row(id: &EntityId, order: &Order, seq: i64, keys: Option<&Keys>) -> SearchRow {
    let values = searched_values(id, order, keys);
    let text = search_text(values.iter().flat_map(SearchedValue::texts));
    let text = keys.map(|keys| keys.lookups().codes(&text)).unwrap_or_default();
    SearchRow { id: id.to_string(), text, version: seq }
}

/// The values of an order in which a search finds one of its words, some of each field.
#[must_use]
pub fn matches(
    search: &Search,
    id: &EntityId,
    order: &Order,
    keys: Option<&Keys>,
) -> Vec<SearchedValue> {
    let mut values = searched_values(id, order, keys);
    let mut found: BTreeMap<SearchField, usize> = BTreeMap::new();
    values.retain(|value| {
        let count = found.entry(value.field).or_default();
        let matches = *count < MATCHES_PER_FIELD && search.finds_one(&search_text(value.texts()));
        *count += usize::from(matches);
        matches
    });
    values
}

/// All values that an order is found by, each once. Lines are last: they may be too many for the
/// text.
fn searched_values(id: &EntityId, order: &Order, keys: Option<&Keys>) -> Vec<SearchedValue> {
    let (mut values, mut seen) = (Vec::new(), HashSet::new());
    let mut add = |field, text: &str, alias: Option<String>| {
        if !text.is_empty() && seen.insert((field, text.to_owned())) {
            values.push(SearchedValue { field, text: text.to_owned(), alias });
        }
    };
    if let Some(number) = order.number() {
        add(SearchField::Number, &number.to_string(), Some(format!("#{number}")));
    }
    add(SearchField::Id, id.as_str(), None);
    let Some(placed) = order.placed() else { return values };
    let person = keys.map(|keys| BuyerData::open(placed, keys)).unwrap_or_default();
    add(SearchField::Reference, person.reference.as_deref().unwrap_or_default(), None);
    for address in [&person.shipping_address, &person.billing_address].into_iter().flatten() {
        add(SearchField::Name, &address.name, joined_names(&address.name));
        for (field, text) in [
            (SearchField::Company, address.company.as_deref()),
            (SearchField::Street, Some(address.line1.as_str())),
            (SearchField::Street, address.line2.as_deref()),
            (SearchField::City, Some(address.city.as_str())),
        ] {
            let text = text.unwrap_or_default();
            add(field, text, joined_names(text));
        }
        add(SearchField::PostalCode, &address.postal_code, Some(postal_code_alias(address)));
        let phone = address.phone.as_deref().unwrap_or_default();
        add(SearchField::Phone, phone, Some(phone_digits(phone)));
    }
    add(SearchField::Email, person.email.as_deref().unwrap_or_default(), None);
    for fulfillment in order.fulfillments() {
        let tracking = fulfillment.tracking.as_ref();
        add(SearchField::TrackingNumber, tracking.map_or("", |tracking| &tracking.number), None);
    }
    for attempt in order.attempts() {
        add(SearchField::Payment, attempt.payment.as_deref().unwrap_or_default(), None);
        add(SearchField::Payment, &attempt_reference(id, attempt.number), None);
    }
    for line in &placed.lines {
        add(SearchField::Sku, line.sku.as_str(), None);
        add(SearchField::Product, &line.name, None);
    }
    values
}

/// The postal code of an address in one piece, and in the two pieces that people write in its country.
fn postal_code_alias(address: &Address) -> String {
    let code: String = address.postal_code.chars().filter(|c| c.is_alphanumeric()).collect();
    let last = match address.country.as_str() {
        "CZ" | "GR" | "NL" | "SE" | "SK" => 2,
        "CA" | "GB" | "GG" | "IM" | "JE" => 3,
        "IE" => 4,
        _ => return code,
    };
    let cut = code.char_indices().rev().nth(last - 1).map_or(0, |(at, _)| at);
    format!("{code} {} {}", &code[..cut], &code[cut..])
}
