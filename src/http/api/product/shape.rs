//! The request and answer types of products.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::cart::double_option;
use crate::domain::id::Sku;
use crate::domain::money::{self, Currency, UnitPrice};
use crate::domain::product::Product;
use crate::http::api::amount::PriceInput;
use crate::http::api::product::availability::Availability;
use crate::http::api::shape::Price;
use crate::http::edge::checked;
use crate::http::edge::input::{List, ListItem, Prose, Text, not_null};
use crate::http::edge::problem::FieldError;
use crate::store::product::Row;

/// The maximum number of currencies in which a product has prices.
const PRICES_MAX: usize = 50;

/// Prices, one per currency.
pub type Prices = List<PriceInput, 0, PRICES_MAX>;

impl ListItem for PriceInput {
    const PLURAL: &'static str = "prices";
}

/// A product.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductInput {
    /// The SKU; may be omitted if the path has it.
    #[serde(default)]
    #[garde(dive)]
    pub sku: Option<checked::Sku>,
    /// The name that buyers see.
    #[garde(dive)]
    pub name: Text<1, 200>,
    #[serde(default)]
    #[garde(dive)]
    pub description: Option<Prose<0, 10_000>>,
    /// The category, by which lists can be filtered.
    #[serde(default)]
    #[garde(dive)]
    pub category: Option<Text<1, 100>>,
    /// Unit prices, one per currency.
    #[garde(custom(one_a_currency), dive)]
    pub prices: Prices,
    /// A fraction as a string; 0 by default.
    #[serde(default)]
    #[garde(dive)]
    pub tax_rate: Option<checked::TaxRate>,
    /// Whether the product can be sold; true by default.
    #[serde(default)]
    #[garde(skip)]
    pub active: Option<bool>,
    /// When the product is expected again if it is out of stock.
    #[serde(default)]
    #[garde(dive)]
    pub restock_at: Option<checked::Time>,
}

/// The product fields of an import row; fields that are absent are not changed.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportedProduct {
    /// The SKU.
    #[garde(dive)]
    pub sku: checked::Sku,
    /// The name that buyers see; required for a new product.
    #[serde(default)]
    #[garde(dive)]
    name: Option<Text<1, 200>>,
    /// `null` clears this field.
    #[serde(default, deserialize_with = "double_option::deserialize")]
    #[garde(dive)]
    description: Option<Option<Prose<0, 10_000>>>,
    /// `null` clears this field.
    #[serde(default, deserialize_with = "double_option::deserialize")]
    #[garde(dive)]
    category: Option<Option<Text<1, 100>>>,
    /// Unit prices, one per currency; prices in other currencies are not changed.
    #[serde(default)]
    #[garde(custom(one_a_currency), dive)]
    prices: Prices,
    /// A fraction as a string; for a new product, 0 by default.
    #[serde(default)]
    #[garde(dive)]
    tax_rate: Option<checked::TaxRate>,
    /// Whether the product can be sold; for a new product, true by default.
    #[serde(default)]
    #[garde(skip)]
    active: Option<bool>,
    /// When the product is expected again if it is out of stock; `null` clears this field.
    #[serde(default, deserialize_with = "double_option::deserialize")]
    #[garde(dive)]
    restock_at: Option<Option<checked::Time>>,
}

/// Changes to a product.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductPatch {
    #[serde(default, deserialize_with = "not_null")]
    #[garde(dive)]
    #[schema(nullable = false)]
    name: Option<Text<1, 200>>,
    /// `null` clears this field.
    #[serde(default, deserialize_with = "double_option::deserialize")]
    #[garde(dive)]
    description: Option<Option<Prose<0, 10_000>>>,
    /// `null` clears this field.
    #[serde(default, deserialize_with = "double_option::deserialize")]
    #[garde(dive)]
    category: Option<Option<Text<1, 100>>>,
    /// All prices; prices that are not listed are removed.
    #[serde(default, deserialize_with = "not_null")]
    #[garde(custom(maybe_one_a_currency), dive)]
    #[schema(nullable = false)]
    prices: Option<Prices>,
    #[serde(default, deserialize_with = "not_null")]
    #[garde(dive)]
    #[schema(nullable = false)]
    tax_rate: Option<checked::TaxRate>,
    #[serde(default, deserialize_with = "not_null")]
    #[garde(skip)]
    #[schema(nullable = false)]
    active: Option<bool>,
    /// When the product is expected again if it is out of stock; `null` clears this field.
    #[serde(default, deserialize_with = "double_option::deserialize")]
    #[garde(dive)]
    restock_at: Option<Option<checked::Time>>,
}

fn one_a_currency(prices: &Prices, (): &()) -> garde::Result {
    let mut codes: Vec<&str> = prices.iter().map(|price| &*price.currency).collect();
    codes.sort_unstable();
    codes.dedup();
    // If there are too many prices, only their number is reported.
    if codes.len() == prices.len() || !prices.fits() {
        Ok(())
    } else {
        Err(garde::Error::new("must have only one price per currency"))
    }
}

fn maybe_one_a_currency(prices: &Option<Prices>, (): &()) -> garde::Result {
    prices.as_ref().map_or(Ok(()), |prices| one_a_currency(prices, &()))
}

/// A product.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Product)]
pub struct ProductShape {
    #[schema(value_type = checked::Sku)]
    sku: String,
    name: String,
    description: String,
    category: Option<String>,
    prices: Vec<Price>,
    #[schema(value_type = checked::TaxRate)]
    tax_rate: String,
    active: bool,
    /// When the product is expected again if it is out of stock.
    #[schema(required)]
    restock_at: Option<String>,
    version: i64,
    updated_at: String,
}

/// A product as buyers see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoreProduct {
    #[serde(flatten)]
    product: ProductShape,
    /// What the shop shows of the stock; `null` if it shows nothing.
    #[schema(required)]
    availability: Option<Availability>,
}

impl StoreProduct {
    /// A product with what buyers see of its stock.
    #[must_use]
    pub fn new(row: &Row, availability: Option<Availability>) -> Self {
        Self { product: row.into(), availability }
    }
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
            restock_at: product.restock_at.map(|at| at.to_string()),
            version: row.version,
            updated_at: row.updated_at.to_string(),
        }
    }
}

impl ProductShape {
    /// The path of the product. Characters that a SKU may have, but a path segment may not, are
    /// percent-encoded.
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
    /// The product with this SKU, which is that of the body or the path.
    #[must_use]
    pub fn product(self, sku: Sku) -> Product {
        Product {
            sku,
            name: self.name.into(),
            description: self.description.map(String::from).unwrap_or_default(),
            category: self.category.map(Into::into),
            prices: prices(&self.prices),
            tax_rate: self.tax_rate.and_then(|rate| rate.read().ok()).unwrap_or_default(),
            active: self.active.unwrap_or(true),
            restock_at: self.restock_at.and_then(|at| at.read().ok()),
        }
    }
}

fn prices(list: &[PriceInput]) -> BTreeMap<Currency, UnitPrice> {
    list.iter().filter_map(PriceInput::read).collect()
}

/// A product after a change.
#[must_use]
pub fn patched(mut product: Product, patch: ProductPatch) -> Product {
    product.name = patch.name.map_or(product.name, Into::into);
    if let Some(description) = patch.description {
        product.description = description.map(String::from).unwrap_or_default();
    }
    if let Some(category) = patch.category {
        product.category = category.map(Into::into);
    }
    if let Some(list) = patch.prices {
        product.prices = prices(&list);
    }
    if let Some(rate) = patch.tax_rate {
        product.tax_rate = rate.read().unwrap_or_default();
    }
    product.active = patch.active.unwrap_or(product.active);
    if let Some(at) = patch.restock_at {
        product.restock_at = at.and_then(|at| at.read().ok());
    }
    product
}

/// The rule of a row that would create a product without a name.
pub const NAME_NEEDED: &str = "is required for a new product";

impl ImportedProduct {
    /// Whether it has no name.
    #[must_use]
    pub const fn lacks_name(&self) -> bool {
        self.name.is_none()
    }

    /// The product after the import of a row. `there` is the current product, or `None`; `price` is
    /// the row's additional price.
    ///
    /// # Errors
    /// A new product without a name, or a product with too many prices.
    pub fn merged(
        self,
        sku: Sku,
        there: Option<Product>,
        price: Option<(Currency, UnitPrice)>,
    ) -> Result<Product, FieldError> {
        let fault = |field: &str, message: String| FieldError { field: field.to_owned(), message };
        let new = || {
            let name = self.name.clone()?.into();
            let (description, category) = (String::new(), None);
            let (prices, tax_rate) = (BTreeMap::new(), money::TaxRate::default());
            let (active, restock_at) = (true, None);
            Some(Product { sku, name, description, category, prices, tax_rate, active, restock_at })
        };
        let lacks_name = || fault("product.name", NAME_NEEDED.to_owned());
        let base = there.or_else(new).ok_or_else(lacks_name)?;
        let patch = ProductPatch {
            name: self.name,
            description: self.description,
            category: self.category,
            prices: None,
            tax_rate: self.tax_rate,
            active: self.active,
            restock_at: self.restock_at,
        };
        let mut product = patched(base, patch);
        product.prices.extend(prices(&self.prices));
        product.prices.extend(price);
        if product.prices.len() > PRICES_MAX {
            let message = format!("a product has at most {PRICES_MAX} prices");
            return Err(fault("product.prices", message));
        }
        Ok(product)
    }
}
