//! What the API's document says of single values: the pattern of a SKU, all currencies, and so on.
//! The checks themselves are in `edge::validate` and in the domain; a test holds the two together.

use strum::VariantArray;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{ComponentsBuilder, OpenApi, Ref, RefOr};

use crate::domain::id::Sku as DomainSku;
use crate::domain::money::parse_currency;
use crate::http::edge::query::LIMIT_MAX;
use crate::http::edge::validate;

/// Declares schemas of single values: a name and how it is made of its doc comment. `all` has them
/// by name.
macro_rules! schemas {
    ($($(#[doc = $doc:literal])+ $name:ident $schema:expr;)+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Debug)]
            pub struct $name;

            impl utoipa::PartialSchema for $name {
                fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                    let about = concat!($($doc),+).trim();
                    $schema(about).into()
                }
            }

            impl utoipa::ToSchema for $name {}
        )+

        /// All of them, by name.
        #[must_use]
        pub fn all() -> Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>)> {
            use utoipa::{PartialSchema as _, ToSchema as _};
            vec![$(($name::name().into_owned(), $name::schema())),+]
        }
    };
}

pub(in crate::http) use schemas;

schemas! {
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
    Limit |about| number(about, 1, i64::from(LIMIT_MAX));
    /// A point in time, RFC 3339.
    Moment |about| ObjectBuilder::new().schema_type(Type::String).description(Some(about))
        .format(Some(date_time()));
}

/// A document with these schemas, too.
#[must_use]
pub fn beside(mut document: OpenApi, schemas: Vec<(String, RefOr<Schema>)>) -> OpenApi {
    let components = document.components.get_or_insert_with(|| ComponentsBuilder::new().build());
    components.schemas.extend(schemas);
    document
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

/// A text.
#[must_use]
pub fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A text of a pattern, with at most so many characters.
#[must_use]
pub fn text(about: &str, pattern: &str, max: usize) -> ObjectBuilder {
    string().description(Some(about)).pattern(Some(pattern)).max_length(Some(max))
}

/// A whole number between two.
#[must_use]
pub fn number(about: &str, min: i64, max: i64) -> ObjectBuilder {
    let number = ObjectBuilder::new().schema_type(Type::Integer).description(Some(about));
    number.minimum(Some(min)).maximum(Some(max))
}

/// The names of all variants.
#[must_use]
pub fn names<S: VariantArray + Copy + Into<&'static str>>() -> Vec<&'static str> {
    S::VARIANTS.iter().map(|one| (*one).into()).collect()
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

/// Nothing.
#[must_use]
pub fn null() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Null)
}

/// An object without other properties.
#[must_use]
pub fn closed() -> ObjectBuilder {
    let none = utoipa::openapi::schema::AdditionalProperties::FreeForm(false);
    ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(none))
}

/// A reference to a schema.
#[must_use]
pub fn refer<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;
    use utoipa::PartialSchema as _;

    use super::*;
    use crate::domain::stock::Location as Place;

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
        assert_eq!(takes(&Location::schema(), text), text.parse::<Place>().is_ok(), "{text:?}");
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
