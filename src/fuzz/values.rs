//! The target for single values: a parsed id is displayed exactly as its input, and any other
//! parsed value as a text that parses to the same value.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use crate::domain::id::{CartId, Key, OrderId, Sku};
use crate::domain::money::{Currency, TaxRate, UnitPrice, parse_currency, parse_major};
use crate::domain::stock::Location;
use crate::domain::time::Timestamp;

/// Checks that an id is displayed as its input, so that two texts never name the same thing.
fn one_form<T: FromStr + Display>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string(), text, "two texts name one thing");
    }
}

/// Checks that a parsed value, displayed and parsed again, is the same.
fn survives<T: Display + PartialEq + Debug>(read: Option<T>, again: impl Fn(&str) -> Option<T>) {
    if let Some(read) = read {
        let text = read.to_string();
        assert_eq!(again(&text).as_ref(), Some(&read), "{text:?} does not read as what wrote it");
    }
}

pub(super) fn ids(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    one_form::<Key>(text);
    one_form::<CartId>(text);
    one_form::<OrderId>(text);
    one_form::<Sku>(text);
    one_form::<Location>(text);
    if let Ok(currency) = parse_currency(text) {
        assert_eq!(currency.code(), text);
        assert!(currency.exponent().is_some());
    }
    let price = |text: &str| text.parse::<UnitPrice>().ok();
    survives(price(text), price);
    survives(TaxRate::parse(text), TaxRate::parse);
    survives(Timestamp::parse(text), Timestamp::parse);
    for currency in [Currency::GBP, Currency::JPY, Currency::KWD] {
        // A price in major units is displayed, and parsed again, in minor units.
        survives(parse_major(text, currency).ok(), price);
    }
}
