//! Amounts of money and unit prices in requests: whole minor units, or for a finer price a decimal
//! string. A number with a decimal point is refused with the number that was probably meant, so
//! that 9.99 pounds are never taken for 10 pence.
//!
//! What answers show of money is in `shape`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::money::{self, AMOUNT_MAX, Currency, PRICE_SCALE, UnitPrice};
use crate::http::edge::checked::{self, Checked, TextKind, pattern};
use crate::http::edge::input::{IN_PLACE, Whole};

/// The largest unit price, in minor units.
const PRICE_MAX: i64 = AMOUNT_MAX / PRICE_SCALE;

/// Whole minor units, from 0 to `MAX`. Deserialization accepts any value; [`whole`] checks it.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct MinorUnits<const MAX: i64>(Value);

impl<const MAX: i64> MinorUnits<MAX> {
    /// The number; 0 if it was not validated.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.as_i64().unwrap_or_default()
    }

    /// What is wrong with it; `finer` says in which words a finer price is given.
    fn check(&self, currency: &checked::Currency, finer: fn(&str) -> String) -> garde::Result {
        if self.0.as_i64().is_some_and(|amount| (0..=MAX).contains(&amount)) {
            return Ok(());
        }
        let rule = match &self.0 {
            Value::Number(number) if number.is_f64() => {
                let text = number.to_string();
                match currency.read().ok().and_then(|currency| meant(&text, currency)) {
                    Some(minor) => format!(
                        "must be a whole number of minor units: {text} {} is {minor}{}",
                        &**currency,
                        finer(&text)
                    ),
                    None => {
                        format!("must be a whole number of minor units, not {text}{}", finer(&text))
                    }
                }
            }
            Value::Number(_) => format!("must be from 0 to {MAX}"),
            Value::String(_) => "must be a whole number of minor units, not a string".to_owned(),
            _ => "must be a whole number of minor units".to_owned(),
        };
        Err(garde::Error::new(rule))
    }
}

/// The minor units of a number that was probably meant as major units.
fn meant(text: &str, currency: Currency) -> Option<i64> {
    let raw = money::parse_major(text, currency).ok()?.raw();
    (raw >= 0 && raw % PRICE_SCALE == 0).then_some(raw / PRICE_SCALE)
}

impl<const MAX: i64> PartialSchema for MinorUnits<MAX> {
    fn schema() -> RefOr<Schema> {
        match Whole::<0, MAX>::schema() {
            RefOr::T(Schema::Object(number)) => {
                let about = "A whole number of minor units: 999 is 9.99 GBP.";
                ObjectBuilder::from(number).description(Some(about)).into()
            }
            other => other,
        }
    }
}

impl<const MAX: i64> ToSchema for MinorUnits<MAX> {
    fn name() -> Cow<'static, str> {
        format!("{IN_PLACE}minor_units_{MAX}").into()
    }
}

fn whole<const MAX: i64>(
    currency: &checked::Currency,
) -> impl FnOnce(&MinorUnits<MAX>, &()) -> garde::Result + '_ {
    move |amount, ()| amount.check(currency, |_| String::new())
}

/// An amount of money in a request.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"amount": 1250}))]
pub struct MoneyInput {
    /// Minor units.
    #[garde(custom(whole(&self.currency)))]
    pub amount: MinorUnits<{ AMOUNT_MAX }>,
    /// ISO 4217.
    #[garde(dive)]
    pub currency: checked::Currency,
}

impl MoneyInput {
    /// The amount, if it is in this currency.
    #[must_use]
    pub fn in_currency(&self, currency: Currency) -> Option<i64> {
        (*self.currency == *currency.code()).then_some(self.amount.get())
    }
}

/// A unit price in a request: whole minor units in `amount`, or a finer price in `amount_decimal`.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"amount": 255, "currency": "GBP"}))]
pub struct PriceInput {
    /// Minor units. May be absent or `null` if `amount_decimal` has the price.
    #[serde(default)]
    #[garde(custom(one_price(&self.amount_decimal, &self.currency)))]
    pub amount: Option<MinorUnits<{ PRICE_MAX }>>,
    /// Minor units with at most 4 decimals, as a string. If `amount` is there too, both must be the
    /// same price.
    #[serde(default)]
    #[garde(dive, custom(same_price(&self.amount)))]
    pub amount_decimal: Option<AmountDecimal>,
    /// ISO 4217.
    #[garde(dive)]
    pub currency: checked::Currency,
}

impl PriceInput {
    /// The price and its currency; `None` only for a value that was not validated.
    #[must_use]
    pub fn read(&self) -> Option<(Currency, UnitPrice)> {
        let price = match (&self.amount_decimal, &self.amount) {
            (Some(decimal), _) => decimal.read().ok()?.0,
            (None, Some(amount)) => UnitPrice::from_minor(amount.get()).ok()?,
            (None, None) => return None,
        };
        Some((self.currency.read().ok()?, price))
    }
}

fn one_price<'a>(
    decimal: &'a Option<AmountDecimal>,
    currency: &'a checked::Currency,
) -> impl FnOnce(&Option<MinorUnits<PRICE_MAX>>, &()) -> garde::Result + 'a {
    move |amount, ()| match (amount, decimal) {
        (Some(amount), _) => amount.check(currency, |text| {
            format!("; a price of {text} minor units is \"amount_decimal\": \"{text}\"")
        }),
        (None, Some(_)) => Ok(()),
        (None, None) => Err(garde::Error::new("is required, unless amount_decimal is given")),
    }
}

fn same_price(
    amount: &Option<MinorUnits<PRICE_MAX>>,
) -> impl FnOnce(&Option<AmountDecimal>, &()) -> garde::Result + '_ {
    move |decimal, ()| {
        let whole = amount.as_ref().and_then(|amount| amount.0.as_i64());
        let decimal = decimal.as_ref().and_then(|decimal| decimal.read().ok());
        match (whole, decimal) {
            (Some(whole), Some(Decimal(price))) if UnitPrice::from_minor(whole) != Ok(price) => {
                Err(garde::Error::new("must be the same price as amount, or absent"))
            }
            _ => Ok(()),
        }
    }
}

/// A unit price as a decimal string of minor units.
pub type AmountDecimal = Checked<Decimal>;

/// A unit price that a request gave as a decimal string.
#[derive(Clone, Copy, Debug)]
pub struct Decimal(UnitPrice);

impl TextKind for Decimal {
    const NAME: &'static str = "AmountDecimal";

    fn read(text: &str) -> Result<Self, garde::Error> {
        let rule = "must be a decimal string of minor units with at most 4 decimals, for example \
                    \"0.1\"";
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str, max| {
            (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(whole, 12) || !digits(decimals, 4) {
            return Err(garde::Error::new(rule));
        }
        text.parse().map(Self).map_err(garde::Error::new)
    }

    fn schema() -> ObjectBuilder {
        let about = "A unit price in minor units, as a string with at most 4 decimals: \"0.1\" \
                     GBP is a tenth of a penny. At most 900719925474.";
        let decimals = r"^([0-9]{1,11}|[1-8][0-9]{11})(\.[0-9]{1,4})?$";
        pattern(about, decimals, 17).examples(["0.1"])
    }
}

#[cfg(test)]
mod tests {
    use garde::Validate as _;

    use super::*;
    use crate::http::api::shape::Price;

    fn price(body: &str) -> PriceInput {
        serde_json::from_str(body).unwrap()
    }

    fn faults(body: &str) -> Vec<String> {
        let report = price(body).validate().expect_err(body);
        report.iter().map(|(path, error)| format!("{path} {error}")).collect()
    }

    #[test]
    fn prices_are_read_and_written_exactly() {
        for (said, raw, amount, decimal) in [
            (r#""amount": 1250"#, 12_500_000, "1250", "1250"),
            (r#""amount_decimal": "1250.5""#, 12_505_000, "null", "1250.5"),
            (r#""amount_decimal": "0.1""#, 1_000, "null", "0.1"),
            (r#""amount": null, "amount_decimal": "0.0001""#, 1, "null", "0.0001"),
            (r#""amount": 7, "amount_decimal": "7.00""#, 70_000, "7", "7"),
        ] {
            let input = price(&format!(r#"{{{said}, "currency": "GBP"}}"#));
            assert!(input.validate().is_ok(), "{said}");
            let (currency, price) = input.read().unwrap();
            assert_eq!(price.raw(), raw, "{said}");
            let written = serde_json::to_string(&Price::new(price, currency)).unwrap();
            let expected =
                format!(r#"{{"amount":{amount},"amount_decimal":"{decimal}","currency":"GBP"}}"#);
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn a_fraction_is_refused_with_what_was_probably_meant() {
        let of = |amount: &str, currency: &str| {
            faults(&format!(r#"{{"amount": {amount}, "currency": "{currency}"}}"#))
        };
        let rule = "amount must be a whole number of minor units";
        let finer = |text: &str| {
            format!("; a price of {text} minor units is \"amount_decimal\": \"{text}\"")
        };
        for (amount, currency, meant) in
            [("9.99", "GBP", "999"), ("10.0", "GBP", "1000"), ("9.99", "KWD", "9990")]
        {
            let told = format!("{rule}: {amount} {currency} is {meant}{}", finer(amount));
            assert_eq!(of(amount, currency), [told]);
        }
        assert_eq!(of("9.5", "JPY"), [format!("{rule}, not 9.5{}", finer("9.5"))]);
        assert_eq!(of("\"9\"", "GBP"), [format!("{rule}, not a string")]);
        assert_eq!(of("{}", "GBP"), [rule]);
        let range = "amount must be from 0 to 900719925474";
        for beyond in ["-1", "900719925475", "9223372036854775808"] {
            assert_eq!(of(beyond, "GBP"), [range], "{beyond}");
        }
        let money = r#"{"amount": 9.99, "currency": "GBP"}"#;
        let report = serde_json::from_str::<MoneyInput>(money).unwrap().validate().unwrap_err();
        assert_eq!(
            report.to_string().trim(),
            format!("{rule}: 9.99 GBP is 999").replace("amount must", "amount: must")
        );
    }

    #[test]
    fn a_price_is_given_once() {
        for bad in ["1.23456", "-1", "1.", ".5", "1e3", "", "900719925475", "1,5"] {
            let body = format!(r#"{{"amount_decimal": "{bad}", "currency": "GBP"}}"#);
            assert_eq!(faults(&body).len(), 1, "{bad}");
        }
        let none = faults(r#"{"currency": "GBP"}"#);
        assert_eq!(none, ["amount is required, unless amount_decimal is given"]);
        let two = faults(r#"{"amount": 2, "amount_decimal": "2.5", "currency": "GBP"}"#);
        assert_eq!(two, ["amount_decimal must be the same price as amount, or absent"]);
    }
}
