//! Products: the shop window, and editing them.

use std::collections::BTreeMap;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actors::catalog::{self, Change, Expect};
use crate::cache::Found;
use crate::domain::cart::double_option;
use crate::domain::id::{InvalidSku, Sku};
use crate::domain::money::{Currency, TaxRate, UnitPrice, parse_currency};
use crate::domain::product::{Product, entity_id};
use crate::http::api::product::schema;
use crate::http::api::shape::{Page, Price, PriceInput};
use crate::http::docs::schemas;
use crate::http::edge::call::{Call, created, id, versioned};
use crate::http::edge::error::{Error, version_mismatch};
use crate::http::edge::json_body::Json;
use crate::http::edge::query::{Query, cursor, cut};
use crate::http::edge::read_your_writes::{self, Seen};
use crate::http::edge::validate::{self, text};
use crate::store::product::{Filter, Row};

/// How often a change is made again when another one was faster.
const PATCH_TRIES_MAX: usize = 32;
/// The longest key under which a page is kept.
const KEY_MAX: usize = 300;
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
    fn place(&self) -> String {
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

/// Lists what is on sale.
#[utoipa::path(get, path = "/v1/store/products", tag = "products",
    params(("category" = Option<String>, Query), ("q" = Option<String>, Query),
        ("currency" = inline(Option<schemas::Currency>), Query, description = "Only products with a price in it"),
        ("Kontor-After" = Option<String>, Header, description = "Positions of writes that the list is to show"),
        ("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of products, by SKU", body = Page<ProductShape>)))]
pub async fn browse_products(call: Call, request: HttpRequest) -> Result<HttpResponse, Error> {
    let known = ["category", "q", "currency", "limit", "after"];
    let (wanted, seen) = asked(&call, &request, Some(true), &known).await?;
    let body = if seen.was_asked() { wanted.read(&call).await } else { wanted.browse(&call).await };
    body.map(|body| seen.mark(page(body)))
}

/// Shows a product that is on sale.
#[utoipa::path(get, path = "/v1/store/products/{sku}", tag = "products",
    params(("sku" = inline(schemas::Sku), Path)),
    responses((status = 200, description = "The product", body = ProductShape)))]
pub async fn show_product(call: Call, path: web::Path<String>) -> Result<HttpResponse, Error> {
    let row = find(&call, &path).await?;
    if !row.value.active {
        return Err(Error::not_found("product"));
    }
    Ok(versioned(StatusCode::OK, row.version, &ProductShape::from(&*row)))
}

/// Lists all products.
#[utoipa::path(get, path = "/v1/admin/products", tag = "products",
    params(("category" = Option<String>, Query), ("q" = Option<String>, Query),
        ("currency" = inline(Option<schemas::Currency>), Query), ("active" = Option<bool>, Query),
        ("Kontor-After" = Option<String>, Header, description = "Positions of writes that the list is to show"),
        ("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of products, by SKU", body = Page<ProductShape>)))]
pub async fn list_products(call: Call, request: HttpRequest) -> Result<HttpResponse, Error> {
    let known = ["category", "q", "currency", "active", "limit", "after"];
    let (wanted, seen) = asked(&call, &request, None, &known).await?;
    wanted.read(&call).await.map(|body| seen.mark(page(body)))
}

/// Shows a product.
#[utoipa::path(get, path = "/v1/admin/products/{sku}", tag = "products",
    params(("sku" = inline(schemas::Sku), Path)),
    responses((status = 200, description = "The product", body = ProductShape)))]
pub async fn get_product(call: Call, path: web::Path<String>) -> Result<HttpResponse, Error> {
    let row = find(&call, &path).await?;
    Ok(versioned(StatusCode::OK, row.version, &ProductShape::from(&*row)))
}

/// What a SKU must be.
fn no_sku(rule: InvalidSku) -> Error {
    Error::field("sku", rule.to_string())
}

/// Makes a product.
#[utoipa::path(post, path = "/v1/admin/products", tag = "products", request_body = schema::NewProduct,
    responses((status = 201, description = "The product", body = ProductShape)))]
pub async fn create_product(call: Call, body: Json<ProductInput>) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let sku = body.value.sku.as_deref().ok_or_else(|| Error::field("sku", "is required"))?;
    let sku: Sku = sku.parse().map_err(no_sku)?;
    let product = body.value.product(sku);
    let (row, _) = call.node().catalog.put(product, Expect::Absent, cause).await?;
    let shape = ProductShape::from(&row);
    Ok(wrote(created(row.version, &shape.place(), &shape), &row))
}

/// Makes a product, or replaces it.
#[utoipa::path(put, path = "/v1/admin/products/{sku}", tag = "products", request_body = ProductInput,
    params(("sku" = inline(schemas::Sku), Path)),
    responses((status = 200, description = "The product", body = ProductShape),
        (status = 201, description = "The product, which is new", body = ProductShape)))]
pub async fn put_product(
    call: Call,
    path: web::Path<String>,
    body: Json<ProductInput>,
) -> Result<HttpResponse, Error> {
    let sku: Sku = path.parse().map_err(no_sku)?;
    if body.value.sku.as_deref().is_some_and(|own| own != sku.as_str()) {
        return Err(Error::field("sku", "must be the one in the path, or be left out"));
    }
    let cause = call.cause(body.digest);
    let expect = call.if_match.map_or(Expect::Any, Expect::Version);
    let put = call.node().catalog.put(body.value.product(sku), expect, cause);
    let (row, change) = put.await?;
    let shape = ProductShape::from(&row);
    let response = if change == Change::Created {
        created(row.version, &shape.place(), &shape)
    } else {
        versioned(StatusCode::OK, row.version, &shape)
    };
    Ok(wrote(response, &row))
}

/// Changes a product.
#[utoipa::path(patch, path = "/v1/admin/products/{sku}", tag = "products", request_body = ProductPatch,
    params(("sku" = inline(schemas::Sku), Path)),
    responses((status = 200, description = "The product", body = ProductShape)))]
pub async fn update_product(
    call: Call,
    path: web::Path<String>,
    body: Json<ProductPatch>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let mut tries = 0;
    loop {
        let row = find(&call, &path).await?;
        if let Some(version) = call.if_match
            && version != row.version
        {
            return Err(version_mismatch(row.version));
        }
        let product = patched(row.value.clone(), body.value.clone());
        let put = call.node().catalog.put(product, Expect::Version(row.version), cause.clone());
        match put.await {
            // Another writer was faster, and nobody asked for a version.
            Err(catalog::Error::VersionMismatch { .. }) if call.if_match.is_none() => {}
            other => {
                let row = other?.0;
                let response = versioned(StatusCode::OK, row.version, &ProductShape::from(&row));
                return Ok(wrote(response, &row));
            }
        }
        tries += 1;
        if tries == PATCH_TRIES_MAX {
            return Err(catalog::Error::TryAgain.into());
        }
    }
}

fn wrote(response: HttpResponse, row: &Row) -> HttpResponse {
    read_your_writes::wrote(response, entity_id(&row.value.sku), row.version)
}

fn patched(mut product: Product, patch: ProductPatch) -> Product {
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

/// A product by the SKU in a path.
///
/// # Errors
/// 404, or the store's.
pub async fn find(call: &Call, path: &str) -> Result<std::sync::Arc<Row>, Error> {
    let sku: Sku = id(path, "product")?;
    call.node().catalog.get(&sku).await?.ok_or_else(|| Error::not_found("product"))
}

/// Which page of products is asked for, once it shows what it is to show.
async fn asked(
    call: &Call,
    request: &HttpRequest,
    active: Option<bool>,
    known: &[&str],
) -> Result<(Wanted, Seen), Error> {
    let wanted = Wanted::of(request, active, known)?;
    Ok((wanted, read_your_writes::wait(call, request).await?))
}

/// Which page of products is asked for.
struct Wanted {
    filter: Filter,
    currency: Option<Currency>,
    limit: u32,
}

impl Wanted {
    fn of(request: &HttpRequest, active: Option<bool>, known: &[&str]) -> Result<Self, Error> {
        let query = Query::of(request, known)?;
        let currency = query.text("currency").map(parse_currency).transpose();
        let currency = currency.map_err(|error| Error::field("currency", error.to_string()))?;
        let limit = query.limit()?;
        let active = match active {
            Some(active) => Some(active),
            None => query.read("active", "must be true or false")?,
        };
        let filter = Filter {
            category: query.text("category").map(str::to_owned),
            active,
            q: query.text("q").map(str::to_owned),
            after: query.after("products")?,
            limit: limit + 1,
        };
        Ok(Self { filter, currency, limit })
    }

    fn page(&self, mut rows: Vec<Row>) -> Result<Vec<u8>, Error> {
        let more = cut(&mut rows, self.limit);
        let last = rows.last().map(|row| cursor("products", row.value.sku.as_str()));
        rows.retain(|row| self.currency.is_none_or(|code| row.value.prices.contains_key(&code)));
        let data = rows.iter().map(ProductShape::from).collect();
        let page = Page::<ProductShape> { data, next_cursor: last.filter(|_| more) };
        serde_json::to_vec(&page).map_err(Error::internal)
    }

    async fn read(&self, call: &Call) -> Result<Vec<u8>, Error> {
        self.page(call.store().products(&self.filter).await?)
    }

    /// Under which key the page is kept; none for what is too long to keep.
    fn key(&self) -> Option<String> {
        let Filter { category, q, after, .. } = &self.filter;
        let currency = self.currency.map(|currency| currency.code());
        let key = format!("{category:?} {q:?} {after:?} {currency:?} {}", self.limit);
        (key.len() <= KEY_MAX).then_some(key)
    }

    /// The page of a shop window, from the cache if it is there.
    async fn browse(&self, call: &Call) -> Result<Vec<u8>, Error> {
        let lasts = call.node().runtime.current().products_cached;
        let key = self.key().filter(|_| !lasts.is_zero());
        let cache = &call.node().cache;
        let place = match key {
            Some(key) => match cache.get(catalog::SPACE, &key).await {
                Found::Hit(page) => return Ok(page),
                Found::Miss(place) => Some(place),
                Found::Away => None,
            },
            None => None,
        };
        let Some(place) = place else {
            return self.read(call).await;
        };
        let page = self.page(call.store().products_to_keep(&self.filter).await?)?;
        cache.put(place, page.clone(), lasts).await;
        Ok(page)
    }
}

fn page(body: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok().content_type(header::ContentType::json()).body(body)
}
