//! OpenAPI schemas of single values in paths and queries: ids, page cursors, times. The schemas of
//! values in bodies are in `edge::input` and `edge::checked`, next to their validation; a test
//! checks that patterns and validation agree.

use strum::{VariantArray, VariantNames};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{ComponentsBuilder, OpenApi, Ref, RefOr};

use crate::http::edge::checked::pattern;
use crate::http::edge::input::string;
use crate::http::edge::query::LIMIT_MAX;

/// Declares schemas: each has a doc comment, a name, and a function or closure that makes the
/// schema from the doc comment's text. Also declares `all`, which returns the schemas with their
/// names.
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

        /// All schemas declared here, with their names.
        #[must_use]
        pub fn all() -> Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>)> {
            use utoipa::{PartialSchema as _, ToSchema as _};
            vec![$(($name::name().into_owned(), $name::schema())),+]
        }
    };
}

pub(in crate::http) use schemas;

schemas! {
    /// The id of a cart.
    CartId |about| pattern(about, r"^cart_[0-7][0-9a-hjkmnp-tv-z]{25}$", 31);
    /// The id of an order.
    OrderId |about| pattern(about, r"^ord_[0-7][0-9a-hjkmnp-tv-z]{25}$", 30);
    /// `next_cursor` of the previous page, unchanged.
    Cursor |about| pattern(about, r"^[A-Za-z0-9_-]*$", 512);
    /// The maximum number of rows.
    Limit |about| number(about, 1, i64::from(LIMIT_MAX));
    /// The principal that caused something: an API key, a session, the buyer, the saga of an order,
    /// a timer, a payment provider, the sweep of payments, or a schedule of jobs.
    PrincipalName |about| pattern(about, r"^(buyer|saga|timer|sweep|(key|session|provider|schedule):.+)$", 300)
        .examples(["key:5f0c"]);
    /// A time, RFC 3339.
    Moment |about| ObjectBuilder::new().schema_type(Type::String).description(Some(about))
        .format(Some(date_time()));
}

/// A document with these schemas added.
#[must_use]
pub fn beside(mut document: OpenApi, schemas: Vec<(String, RefOr<Schema>)>) -> OpenApi {
    let components = document.components.get_or_insert_with(|| ComponentsBuilder::new().build());
    components.schemas.extend(schemas);
    document
}

/// The format of a time.
#[must_use]
pub fn date_time() -> utoipa::openapi::SchemaFormat {
    utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::DateTime)
}

/// A whole number in a range.
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

/// The schema of a text that is one of the names of `S`.
#[must_use]
pub fn one_of<S: VariantArray + Copy + Into<&'static str>>(about: &str) -> ObjectBuilder {
    string().description(Some(about)).enum_values(Some(names::<S>()))
}

/// The schema of a text that is the name of a variant of `S`, whose variants have fields.
#[must_use]
pub fn one_kind_of<S: VariantNames>(about: &str) -> ObjectBuilder {
    string().description(Some(about)).enum_values(Some(S::VARIANTS.iter().copied()))
}

/// The schema of `null`.
#[must_use]
pub fn null() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Null)
}

/// The schema of an object that allows no properties other than those added to it.
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
    use garde::Validate as _;
    use proptest::prelude::*;
    use regex::Regex;
    use utoipa::PartialSchema as _;

    use super::*;
    use crate::domain::stock::Location;
    use crate::domain::{id, money};
    use crate::http::edge::checked::{LineNumber, TextKind};
    use crate::http::edge::input::Text;

    /// Whether the schema of a text accepts it.
    fn takes(schema: impl Into<RefOr<Schema>>, text: &str) -> bool {
        let RefOr::T(Schema::Object(object)) = schema.into() else { panic!("not a text") };
        let count = text.chars().count();
        let long = object.min_length.is_none_or(|min| count >= min);
        let short = object.max_length.is_none_or(|max| count <= max);
        let pattern = object.pattern.as_ref().map(|pattern| Regex::new(pattern).unwrap());
        let known = object.enum_values.as_ref();
        long && short
            && pattern.is_none_or(|pattern| pattern.is_match(text))
            && known.is_none_or(|known| known.iter().any(|value| value == text))
    }

    fn agree_on<T: TextKind>(text: &str) {
        assert_eq!(takes(T::schema(), text), T::read(text).is_ok(), "{}: {text:?}", T::NAME);
    }

    fn agree_on_text<const MIN: usize, const MAX: usize>(text: &str) {
        let good = Text::<MIN, MAX>::from(text.to_owned()).validate().is_ok();
        assert_eq!(takes(Text::<MIN, MAX>::schema(), text), good, "{MIN} to {MAX}: {text:?}");
    }

    fn agree(text: &str) {
        agree_on::<id::Sku>(text);
        agree_on::<Location>(text);
        agree_on::<money::TaxRate>(text);
        agree_on::<money::Currency>(text);
        agree_on::<celes::Country>(text);
        agree_on::<LineNumber>(text);
        agree_on_text::<0, 64>(text);
        agree_on_text::<1, 64>(text);
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
            ".",
            "..",
            "...",
            ".a",
            "..a",
            ". .",
            ".. a",
            "a.",
            "-",
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
            prop_assert!(takes(CartId::schema(), &cart), "{cart}");
            prop_assert!(takes(OrderId::schema(), &order), "{order}");
        }
    }
}
