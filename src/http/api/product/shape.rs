//! What requests and answers say of products.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::cart::double_option;
use crate::domain::id::Sku;
use crate::domain::money::{Currency, TaxRate, UnitPrice};
use crate::domain::product::Product;
use crate::http::api::shape::{Price, PriceInput};
use crate::http::docs::schemas;
use crate::http::edge::validate::{self, text};
use crate::store::product::Row;

/// The most currencies that a product has prices in.
const PRICES_MAX: usize = 50;

/// A product.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductInput {
    /// Its stock keeping unit; may be left out where the path has it.
    #[serde(default)]
    #[garde(inner(custom(validate::sku)))]
    #[schema(value_type = Option<schemas::Sku>)]
    pub sku: Option<String>,
    /// What a buyer reads first.
    #[garde(custom(text(1, 200)))]
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    #[serde(default)]
    #[garde(inner(custom(text(0, 10_000))))]
    #[schema(max_length = 10_000)]
    pub description: Option<String>,
    /// What it is listed under.
    #[serde(default)]
    #[garde(inner(custom(text(1, 100))))]
    #[schema(min_length = 1, max_length = 100)]
    pub category: Option<String>,
    /// The price of one, one a currency.
    #[garde(custom(one_a_currency), dive)]
    #[schema(max_items = 50)]
    pub prices: Vec<PriceInput>,
    /// A fraction as a text; 0 if it is not said.
    #[serde(default)]
    #[garde(inner(custom(validate::tax_rate)))]
    #[schema(value_type = Option<schemas::TaxRate>)]
    pub tax_rate: Option<String>,
    /// Whether it can be put into a cart; it can if it is not said.
    #[serde(default)]
    #[garde(skip)]
    pub active: Option<bool>,
}

/// What changes about a product.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductPatch {
    #[serde(default)]
    #[garde(inner(custom(text(1, 200))))]
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// `null` clears it.
    #[serde(default, deserialize_with = "double_option::deserialize")]
    #[garde(inner(inner(custom(text(0, 10_000)))))]
    #[schema(max_length = 10_000, value_type = Option<String>)]
    description: Option<Option<String>>,
    /// `null` clears it.
    #[serde(default, deserialize_with = "double_option::deserialize")]
    #[garde(inner(inner(custom(text(1, 100)))))]
    #[schema(min_length = 1, max_length = 100, value_type = Option<String>)]
    category: Option<Option<String>>,
    /// All prices; those that are not named are gone.
    #[serde(default)]
    #[garde(custom(maybe_one_a_currency), dive)]
    #[schema(max_items = 50)]
    prices: Option<Vec<PriceInput>>,
    #[serde(default)]
    #[garde(inner(custom(validate::tax_rate)))]
    #[schema(value_type = Option<schemas::TaxRate>)]
    tax_rate: Option<String>,
    #[serde(default)]
    #[garde(skip)]
    active: Option<bool>,
}

fn one_a_currency(prices: &[PriceInput], (): &()) -> garde::Result {
    if prices.len() > PRICES_MAX {
        return Err(garde::Error::new(format!("must have at most {PRICES_MAX} prices")));
    }
    let mut codes: Vec<&str> = prices.iter().map(|price| price.currency.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    if codes.len() == prices.len() {
        Ok(())
    } else {
        Err(garde::Error::new("must have one price a currency"))
    }
}

fn maybe_one_a_currency(prices: &Option<Vec<PriceInput>>, (): &()) -> garde::Result {
    prices.as_ref().map_or(Ok(()), |prices| one_a_currency(prices, &()))
}

/// A product.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Product)]
pub struct ProductShape {
    sku: String,
    name: String,
    description: String,
    category: Option<String>,
    prices: Vec<Price>,
    #[schema(example = "0.2")]
    tax_rate: String,
    active: bool,
    version: i64,
}

impl From<&Row> for ProductShape {
    fn from(row: &Row) -> Self {
        let product = &row.value;
        Self {
            sku: product.sku.to_string(),
            name: product.name.clone(),
            description: product.description.clone(),
            category: product.category.clone(),
            prices: product.prices.iter().map(|(code, price)| Price::new(*price, *code)).collect(),
            tax_rate: product.tax_rate.to_string(),
            active: product.active,
            version: row.version,
        }
    }
}

impl ProductShape {
    /// Where it is, as a path. Of what a SKU may have, all that a path may not is escaped.
    #[must_use]
    pub fn place(&self) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let escaped = self.sku.bytes().map(|byte| {
            if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
        });
        format!("/v1/admin/products/{}", escaped.collect::<String>())
    }
}

impl ProductInput {
    /// The product, once the SKU is known.
    #[must_use]
    pub fn product(self, sku: Sku) -> Product {
        Product {
            sku,
            name: self.name,
            description: self.description.unwrap_or_default(),
            category: self.category,
            prices: prices(&self.prices),
            tax_rate: rate(self.tax_rate.as_deref()),
            active: self.active.unwrap_or(true),
        }
    }
}

fn prices(list: &[PriceInput]) -> BTreeMap<Currency, UnitPrice> {
    list.iter().filter_map(PriceInput::read).collect()
}

fn rate(text: Option<&str>) -> TaxRate {
    text.and_then(TaxRate::parse).unwrap_or_default()
}

/// A product with what a change says of it.
#[must_use]
pub fn patched(mut product: Product, patch: ProductPatch) -> Product {
    product.name = patch.name.unwrap_or(product.name);
    if let Some(description) = patch.description {
        product.description = description.unwrap_or_default();
    }
    if let Some(category) = patch.category {
        product.category = category;
    }
    if let Some(list) = patch.prices {
        product.prices = prices(&list);
    }
    if let Some(text) = patch.tax_rate {
        product.tax_rate = rate(Some(&text));
    }
    product.active = patch.active.unwrap_or(product.active);
    product
}
