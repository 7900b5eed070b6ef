//! The checks of single values in requests, each with what the value must be. garde runs them.

use serde_json::Number;

use crate::domain::id::Sku;
use crate::domain::money::{self, TaxRate, UnitPrice};

/// A check of a text's length in characters, and of its characters.
pub fn text(min: usize, max: usize) -> impl Fn(&str, &()) -> garde::Result {
    move |value, ()| {
        let count = value.chars().count();
        if !(min..=max).contains(&count) {
            let rule = if min == 0 {
                format!("must have at most {max} characters")
            } else {
                format!("must have {min} to {max} characters")
            };
            return Err(garde::Error::new(rule));
        }
        if min > 0 && value.trim().is_empty() {
            return Err(garde::Error::new("must not be blank"));
        }
        let odd = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
        if value.chars().any(odd) {
            return Err(garde::Error::new("must not have control characters"));
        }
        Ok(())
    }
}

/// A check of a number of units.
pub fn units(max: i64) -> impl Fn(&i64, &()) -> garde::Result {
    move |value, ()| {
        if (1..=max).contains(value) {
            Ok(())
        } else {
            Err(garde::Error::new(format!("must be from 1 to {max}")))
        }
    }
}

/// Checks an ISO 4217 code.
///
/// # Errors
/// What it must be.
pub fn currency(value: &str, (): &()) -> garde::Result {
    money::parse_currency(value).map(|_| ()).map_err(garde::Error::new)
}

/// Checks the price of a unit.
///
/// # Errors
/// What it must be.
pub fn unit_price(value: &Number, (): &()) -> garde::Result {
    let price: UnitPrice = value.to_string().parse().map_err(garde::Error::new)?;
    if price.raw() < 0 {
        return Err(garde::Error::new("must not be negative"));
    }
    Ok(())
}

/// Checks a SKU.
///
/// # Errors
/// What it must be.
pub fn sku(value: &str, (): &()) -> garde::Result {
    value.parse::<Sku>().map(|_| ()).map_err(garde::Error::new)
}

/// Checks a tax rate.
///
/// # Errors
/// What it must be.
pub fn tax_rate(value: &str, (): &()) -> garde::Result {
    let rule =
        "must be a fraction from 0 to 1 as a text, with at most 6 decimals, for example \"0.2\"";
    let (whole, decimals) = value.split_once('.').unwrap_or((value, "0"));
    // Zeros at the end say nothing: databases write them.
    let said = decimals.trim_end_matches('0').len();
    let plain = ["0", "1"].contains(&whole) && said <= 6 && (1..=18).contains(&decimals.len());
    let rate = TaxRate::parse(value).filter(|_| plain);
    rate.map(|_| ()).ok_or_else(|| garde::Error::new(rule))
}

/// Checks the id of a line.
///
/// # Errors
/// What it must be.
pub fn line_id(value: &str, (): &()) -> garde::Result {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    if digits && (1..=9).contains(&value.len()) {
        Ok(())
    } else {
        Err(garde::Error::new("must be the id of a line, for example \"1\""))
    }
}

/// Checks an email address, 254 bytes at most.
///
/// # Errors
/// What it must be.
pub fn email(value: &str, (): &()) -> garde::Result {
    let options = email_address::Options::default()
        .with_required_tld()
        .without_display_text()
        .without_domain_literal();
    let good = value.len() <= 254
        && email_address::EmailAddress::parse_with_options(value, options).is_ok();
    if good { Ok(()) } else { Err(garde::Error::new("must be an email address")) }
}

/// Checks a country's code.
///
/// # Errors
/// What it must be.
pub fn country(value: &str, (): &()) -> garde::Result {
    let upper = value.len() == 2 && value.bytes().all(|byte| byte.is_ascii_uppercase());
    if upper && celes::Country::from_alpha2(value).is_ok() {
        Ok(())
    } else {
        Err(garde::Error::new("must be an ISO 3166-1 alpha-2 code, for example GB"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_values_are_checked() {
        for good in ["a@example.com", "ann.o+x@mail.example.co.uk"] {
            assert!(email(good, &()).is_ok(), "{good}");
        }
        for bad in ["", "a", "a@b", "Ann <a@example.com>", "a@[127.0.0.1]", "a b@example.com"] {
            assert!(email(bad, &()).is_err(), "{bad}");
        }
        for (value, good) in
            [("GB", true), ("gb", false), ("XX", false), ("GBR", false), ("", false)]
        {
            assert_eq!(country(value, &()).is_ok(), good, "{value}");
        }
        assert!(text(1, 3)("äöü", &()).is_ok());
        for bad in ["", "  ", "abcd", "a\0"] {
            assert!(text(1, 3)(bad, &()).is_err(), "{bad:?}");
        }
    }
}
