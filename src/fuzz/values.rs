//! Single values: a parsed value is displayed as its input, and parses to the same again.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use crate::domain::id::{CartId, Key, OrderId, Sku};
use crate::domain::money::{Currency, TaxRate, UnitPrice, parse_currency, parse_major};
use crate::domain::stock::Location;
use crate::domain::time::Timestamp;

/// A name has one form only: two texts never name the same thing.
fn one_form<T: FromStr + Display>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string(), text, "two texts name one thing");
    }
}

/// A parsed value parses from its own text.
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
        // In minor units it is the same number with its point moved.
        survives(parse_major(text, currency).ok(), price);
    }
}
