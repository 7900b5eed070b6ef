//! What orders are found by, and which of it a search has found. The text that is searched belongs
//! to the rows of `order_rows`.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::domain::address::Address;
use crate::domain::entity::EntityId;
use crate::domain::order::{Order, Placed, attempt_reference};
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

/// What a placed order is found by for good, as hashes and codes: its id, its lines, and its buyer
/// until they are erased. Nothing is there without keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacedHashes {
    /// The hash of the email address; empty if it was erased.
    pub email: String,
    /// The hash of the buyer's own reference.
    pub reference: Option<String>,
    /// The codes of the words.
    words: String,
}

impl PlacedHashes {
    /// Those of an order.
    #[must_use]
    pub fn of(id: &EntityId, order: &Order, keys: Option<&Keys>) -> Self {
        let (Some(placed), Some(keys)) = (order.placed(), keys) else { return Self::default() };
        let (person, lookups) = (opened(order, placed, keys), keys.lookups());
        let mut values = vec![of_first_attempt(id)];
        values.extend(of_buyer(&person));
        values.extend(of_lines(placed));
        Self {
            email: person.email.map(|email| lookups.email(&email)).unwrap_or_default(),
            reference: person.reference.map(|reference| lookups.reference(&reference)),
            words: lookups.codes(&text_of(&values)),
        }
    }
}

/// The row of what an order is found by: the codes of its words. What was erased is not among them.
#[must_use]
pub fn search_row(
    id: &EntityId,
    order: &Order,
    seq: i64,
    (keys, hashes): (Option<&Keys>, &PlacedHashes),
) -> SearchRow {
    let mut values: Vec<SearchedValue> = of_number(order).into_iter().collect();
    values
        .extend(of_progress(id, order).into_iter().filter(|value| *value != of_first_attempt(id)));
    let codes = |keys: &Keys| keys.lookups().codes(&text_of(&values)) + &hashes.words;
    SearchRow { id: id.to_string(), text: keys.map(codes).unwrap_or_default(), version: seq }
}

/// A hash of all that changes the row of a placed order.
#[must_use]
pub fn searched_hash(order: &Order) -> u64 {
    let mut hash = DefaultHasher::new();
    (order.number(), order.is_erased()).hash(&mut hash);
    for attempt in order.attempts() {
        // The reference of the first one is there from the beginning.
        if attempt.number > 1 || attempt.payment.is_some() {
            (attempt.number, &attempt.payment).hash(&mut hash);
        }
    }
    for fulfillment in order.fulfillments() {
        fulfillment.tracking.as_ref().map(|tracking| &tracking.number).hash(&mut hash);
    }
    hash.finish()
}

fn text_of(values: &[SearchedValue]) -> String {
    search_text(values.iter().flat_map(SearchedValue::texts))
}

fn opened(order: &Order, placed: &Placed, keys: &Keys) -> BuyerData {
    if order.is_erased() { BuyerData::default() } else { BuyerData::open(placed, keys) }
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

/// All values that an order is found by, each once.
fn searched_values(id: &EntityId, order: &Order, keys: Option<&Keys>) -> Vec<SearchedValue> {
    let mut values: Vec<SearchedValue> = of_number(order).into_iter().chain([of_id(id)]).collect();
    let Some(placed) = order.placed() else { return values };
    values.extend(of_buyer(&keys.map(|keys| opened(order, placed, keys)).unwrap_or_default()));
    values.extend(of_progress(id, order));
    values.extend(of_lines(placed));
    let mut seen = HashSet::new();
    values.retain(|value| seen.insert((value.field, value.text.clone())));
    values
}

/// Values that are not empty.
#[derive(Default)]
struct Values(Vec<SearchedValue>);

impl Values {
    fn add(&mut self, field: SearchField, text: &str, alias: Option<String>) {
        if !text.is_empty() {
            self.0.push(SearchedValue { field, text: text.to_owned(), alias });
        }
    }
}

fn of_number(order: &Order) -> Option<SearchedValue> {
    let text = order.number()?.to_string();
    let alias = Some(format!("#{text}"));
    Some(SearchedValue { field: SearchField::Number, text, alias })
}

/// The reference of the first attempt to pay, which has the id as a part of it.
fn of_first_attempt(id: &EntityId) -> SearchedValue {
    let text = attempt_reference(id, 1);
    SearchedValue { field: SearchField::Payment, text, alias: None }
}

fn of_id(id: &EntityId) -> SearchedValue {
    SearchedValue { field: SearchField::Id, text: id.to_string(), alias: None }
}

fn of_buyer(person: &BuyerData) -> Vec<SearchedValue> {
    let mut values = Values::default();
    values.add(SearchField::Reference, person.reference.as_deref().unwrap_or_default(), None);
    for address in [&person.shipping_address, &person.billing_address].into_iter().flatten() {
        values.add(SearchField::Name, &address.name, joined_names(&address.name));
        for (field, text) in [
            (SearchField::Company, address.company.as_deref()),
            (SearchField::Street, Some(address.line1.as_str())),
            (SearchField::Street, address.line2.as_deref()),
            (SearchField::City, Some(address.city.as_str())),
        ] {
            let text = text.unwrap_or_default();
            values.add(field, text, joined_names(text));
        }
        let alias = Some(postal_code_alias(address));
        values.add(SearchField::PostalCode, &address.postal_code, alias);
        let phone = address.phone.as_deref().unwrap_or_default();
        values.add(SearchField::Phone, phone, Some(phone_digits(phone)));
    }
    values.add(SearchField::Email, person.email.as_deref().unwrap_or_default(), None);
    values.0
}

/// Payments and parcels.
fn of_progress(id: &EntityId, order: &Order) -> Vec<SearchedValue> {
    let mut values = Values::default();
    for fulfillment in order.fulfillments() {
        let tracking = fulfillment.tracking.as_ref();
        let number = tracking.map_or("", |tracking| &tracking.number);
        values.add(SearchField::TrackingNumber, number, None);
    }
    for attempt in order.attempts() {
        values.add(SearchField::Payment, attempt.payment.as_deref().unwrap_or_default(), None);
        values.add(SearchField::Payment, &attempt_reference(id, attempt.number), None);
    }
    values.0
}

fn of_lines(placed: &Placed) -> Vec<SearchedValue> {
    let mut values = Values::default();
    for line in &placed.lines {
        values.add(SearchField::Sku, line.sku.as_str(), None);
        values.add(SearchField::Product, &line.name, None);
    }
    values.0
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
