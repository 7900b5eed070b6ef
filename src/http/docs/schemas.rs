//! What the API's document says of single values: the pattern of a SKU, all currencies, and so on.
//! The checks themselves are in `edge::validate` and in the domain; a test holds the two together.

use strum::VariantArray;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::cart::LINES_MAX;
use crate::domain::id::Sku as DomainSku;
use crate::domain::money::parse_currency;
use crate::domain::order;
use crate::domain::stock::QUANTITY_MAX;
use crate::http::api::cart::shape::NewLine;
use crate::http::api::product::products::ProductInput;
use crate::http::api::shape::PriceInput;
use crate::http::edge::problem::Code;
use crate::http::edge::validate;

macro_rules! values {
    ($($(#[doc = $doc:literal])+ $name:ident $schema:expr;)+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Debug)]
            pub struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let about = concat!($($doc),+).trim();
                    $schema(about).into()
                }
            }

            impl ToSchema for $name {}
        )+

        /// All of them, by name.
        #[must_use]
        pub fn all() -> Vec<(String, RefOr<Schema>)> {
            vec![$(($name::name().into_owned(), $name::schema())),+]
        }
    };
}

values! {
    /// A stock keeping unit: visible ASCII characters other than `/`, with single spaces inside.
    Sku |about| text(about, r"^[!-.0-~]+( [!-.0-~]+)*$", DomainSku::MAX_BYTES).examples(["85123A"]);
    /// The id of a cart.
    CartId |about| text(about, r"^cart_[0-7][0-9a-hjkmnp-tv-z]{25}$", 31);
    /// The id of an order.
    OrderId |about| text(about, r"^ord_[0-7][0-9a-hjkmnp-tv-z]{25}$", 30);
    /// The id of a line of a cart or an order.
    LineId |about| text(about, r"^[1-9][0-9]{0,8}$", 9).examples(["1"]);
    /// Where goods lie.
    Location |about| text(about, r"^[a-z0-9-]{1,32}$", 32).examples(["main"]);
    /// A fraction as a text, with at most 6 decimals.
    TaxRate |about| text(about, r"^(0(\.[0-9]{1,6}0{0,12})?|1(\.0{1,18})?)$", 20).examples(["0.2"]);
    /// ISO 4217.
    Currency |about| one_of(about, 3, |code| parse_currency(code).is_ok()).examples(["GBP"]);
    /// ISO 3166-1 alpha-2.
    Country |about| one_of(about, 2, |code| validate::country(code, &()).is_ok()).examples(["GB"]);
    /// An email address.
    Email email;
    /// `next_cursor` of the page before, unchanged.
    Cursor |about| text(about, r"^[A-Za-z0-9_-]*$", 512);
    /// The number of rows.
    Limit |about| number(about, 1, i64::from(crate::http::edge::query::LIMIT_MAX));
    /// Units that come or, if negative, go.
    UnitsChange units_change;
    /// A point in time, RFC 3339.
    Moment |about| ObjectBuilder::new().schema_type(Type::String).description(Some(about))
        .format(Some(date_time()));
    /// An event of a stream: its name, the version of the order, and the order as JSON.
    OrderEvent |about| ObjectBuilder::new().schema_type(Type::Object).description(Some(about))
        .property("event", string().enum_values(Some(["order"])))
        .property("id", string().pattern(Some("^[0-9]+$")))
        .property("data", string());
    /// What went wrong, as a program tells it. Stable; /docs/errors/{code} explains each.
    ErrorCode |about| string().description(Some(about))
        .enum_values(Some(Code::VARIANTS.iter().map(|code| code.as_str())));
    /// One status, or several with commas between.
    Statuses statuses;
    /// How the money of an order stands.
    PaymentStatus |about| string().description(Some(about)).enum_values(Some(names::<order::PaymentStatus>()));
    /// How the goods of an order stand.
    FulfillmentStatus |about| string().description(Some(about)).enum_values(Some(names::<order::FulfillmentStatus>()));
    /// How an order stands.
    Status |about| string().description(Some(about)).enum_values(Some(names::<order::Status>()));
    /// One line to add, or many.
    NewLines new_lines;
    /// A product that names its SKU.
    NewProduct new_product;
    /// What signs in: the token of a one-time link, or an API key.
    SignIn sign_in;
}

/// The format of a point in time.
#[must_use]
pub fn date_time() -> utoipa::openapi::SchemaFormat {
    utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::DateTime)
}

/// What [`validate::text`] asks of the characters of a text with at least so many.
#[must_use]
pub fn letters(min: usize) -> &'static str {
    match min {
        0 => r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$",
        _ => {
            r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*[^\s\x00-\x20\x7f-\x9f][^\x00-\x08\x0b-\x1f\x7f-\x9f]*$"
        }
    }
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn text(about: &str, pattern: &str, max: usize) -> ObjectBuilder {
    string().description(Some(about)).pattern(Some(pattern)).max_length(Some(max))
}

fn number(about: &str, min: i64, max: i64) -> ObjectBuilder {
    let number = ObjectBuilder::new().schema_type(Type::Integer).description(Some(about));
    number.minimum(Some(min)).maximum(Some(max))
}

fn names<S: VariantArray + Copy + Into<&'static str>>() -> Vec<&'static str> {
    S::VARIANTS.iter().map(|one| (*one).into()).collect()
}

fn statuses(about: &str) -> ObjectBuilder {
    let any = names::<order::Status>().join("|");
    string().description(Some(about)).pattern(Some(format!("^ *({any}) *(, *({any}) *)*$")))
}

/// Those codes of so many capital letters that are good.
fn one_of(about: &str, letters: usize, good: impl Fn(&str) -> bool) -> ObjectBuilder {
    let mut codes = vec![String::new()];
    for _ in 0..letters {
        let longer = |code: String| ('A'..='Z').map(move |letter| format!("{code}{letter}"));
        codes = codes.into_iter().flat_map(longer).collect();
    }
    codes.retain(|code| good(code));
    string().description(Some(about)).enum_values(Some(codes))
}

fn email(about: &str) -> ObjectBuilder {
    let format = utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::Email);
    string().description(Some(about)).format(Some(format)).max_length(Some(254))
}

fn units_change(about: &str) -> AnyOfBuilder {
    let range = |min, max| number("", min, max).description(None::<String>);
    AnyOfBuilder::new()
        .description(Some(about))
        .item(range(1, QUANTITY_MAX))
        .item(range(-QUANTITY_MAX, -1))
}

fn null() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Null)
}

/// An object without other properties.
fn closed() -> ObjectBuilder {
    let none = utoipa::openapi::schema::AdditionalProperties::FreeForm(false);
    ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(none))
}

fn refer<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

fn new_lines(about: &str) -> OneOfBuilder {
    let price = OneOfBuilder::new().item(refer::<PriceInput>()).item(null());
    let quantity = number("How many units.", 1, crate::domain::cart::QUANTITY_MAX);
    let one = closed()
        .property("sku", refer::<Sku>())
        .property("quantity", quantity)
        .property("unit_price", price)
        .property("lines", null())
        .required("sku")
        .required("quantity");
    let lines = refer::<NewLine>().to_array_builder();
    let many = closed()
        .property("lines", lines.min_items(Some(1)).max_items(Some(LINES_MAX)))
        .property("sku", null())
        .property("quantity", null())
        .property("unit_price", null())
        .required("lines");
    OneOfBuilder::new().description(Some(about)).item(one).item(many)
}

fn new_product(about: &str) -> utoipa::openapi::AllOfBuilder {
    let named = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("sku", refer::<Sku>())
        .required("sku");
    let all = utoipa::openapi::AllOfBuilder::new().description(Some(about));
    all.item(refer::<ProductInput>()).item(named)
}

fn sign_in(about: &str) -> OneOfBuilder {
    let secret = || string().min_length(Some(1)).max_length(Some(200)).pattern(Some(letters(1)));
    let one = |name: &str, other: &str| {
        closed().property(name, secret()).property(other, null()).required(name)
    };
    OneOfBuilder::new().description(Some(about)).item(one("link", "key")).item(one("key", "link"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    /// Whether the schema of a text takes it.
    fn takes(schema: &RefOr<Schema>, text: &str) -> bool {
        let RefOr::T(Schema::Object(object)) = schema else { panic!("not a text") };
        let fits = object.max_length.is_none_or(|max| text.chars().count() <= max);
        let pattern = object.pattern.as_ref().map(|pattern| Regex::new(pattern).unwrap());
        let known = object.enum_values.as_ref();
        fits && pattern.is_none_or(|pattern| pattern.is_match(text))
            && known.is_none_or(|known| known.iter().any(|value| value == text))
    }

    fn agree(text: &str) {
        let good = |checked: garde::Result| checked.is_ok();
        assert_eq!(takes(&Sku::schema(), text), good(validate::sku(text, &())), "{text:?}");
        assert_eq!(
            takes(&Location::schema(), text),
            good(validate::location(text, &())),
            "{text:?}"
        );
        assert_eq!(
            takes(&TaxRate::schema(), text),
            good(validate::tax_rate(text, &())),
            "{text:?}"
        );
        assert_eq!(
            takes(&Currency::schema(), text),
            good(validate::currency(text, &())),
            "{text:?}"
        );
        assert_eq!(takes(&Country::schema(), text), good(validate::country(text, &())), "{text:?}");
        assert_eq!(takes(&LineId::schema(), text), good(validate::line_id(text, &())), "{text:?}");
        let is = |pattern: &str| Regex::new(pattern).unwrap().is_match(text);
        let long = text.chars().count();
        assert_eq!(is(letters(0)), good(validate::text(0, long)(text, &())), "{text:?}");
        if long > 0 {
            assert_eq!(is(letters(1)), good(validate::text(1, long)(text, &())), "{text:?}");
        }
    }

    #[test]
    fn the_document_and_the_checks_agree() {
        let known = [
            "",
            " ",
            "GBP",
            "gbp",
            "XXX",
            "GB",
            "XX",
            "0",
            "1",
            "0.2",
            "1.0",
            "1.1",
            "00.2",
            ".2",
            "0.",
            "-0",
            "0.1234567",
            "1.000001",
            "a b",
            "a  b",
            " a",
            "a/b",
            "~",
            "\n",
            "a\n",
            "\t",
            "\u{85}",
            "\u{a0}",
            "\u{feff}a",
            "+1",
            "01",
            "999999999",
            "4294967295",
            "main",
            "Main",
        ];
        known.iter().for_each(|text| agree(text));
        for long in [31, 32, 33, 63, 64, 65] {
            agree(&"a".repeat(long));
        }
    }

    proptest! {
        #[test]
        fn the_document_and_the_checks_agree_on_any_text(
            text in prop_oneof![r"\PC{0,8}", r"[ -~]{0,70}", r"[01][.]?[0-9]{0,8}", r"[A-Z]{2,3}"]
        ) {
            agree(&text);
        }

        #[test]
        fn ids_are_as_the_document_says(bits: u128) {
            let key = crate::domain::id::Key::new(uuid::Uuid::from_u128(bits));
            let cart = crate::domain::id::CartId(key).to_string();
            let order = crate::domain::id::OrderId(key).to_string();
            prop_assert!(takes(&CartId::schema(), &cart), "{cart}");
            prop_assert!(takes(&OrderId::schema(), &order), "{order}");
        }
    }
}
