//! Handlers that list, read and change products, for buyers and for the back office.

use std::str::FromStr;
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::actors::catalog::{self, Expect, WriteOutcome};
use crate::cache::CacheLookup;
use crate::domain::entity::Cause;
use crate::domain::id::{InvalidSku, Sku};
use crate::domain::money::{Currency, InvalidMoney, parse_currency};
use crate::domain::product::{Product, entity_id};
use crate::domain::search_text::words;
use crate::domain::time::Timestamp;
use crate::http::api::product::availability;
use crate::http::api::product::rejection::refused;
use crate::http::api::product::schema;
use crate::http::api::product::shape::{
    ProductInput, ProductPatch, ProductShape, StoreProduct, patched,
};
use crate::http::api::shape::Page;
use crate::http::docs::schemas;
use crate::http::edge::call::{RequestParts, created, id, versioned};
use crate::http::edge::checked;
use crate::http::edge::error::{Error, version_mismatch};
use crate::http::edge::if_match::IfMatch;
use crate::http::edge::if_none_match::public;
use crate::http::edge::json_body::{Draft, Json};
use crate::http::edge::query::{Query, cursor, cut, sorted_list};
use crate::http::edge::read_your_writes::{self, Seen};
use crate::store::product::{Filter, Row, Sort};

/// The maximum number of tries of a change if other writers change the product in between.
const TRIES_MAX: usize = 32;
/// The maximum length of the cache key of a page, in bytes.
const KEY_MAX: usize = 300;
/// The parameters, each with a single value, that every list of products accepts.
const KNOWN: [&str; 6] = ["q", "updated_from", "updated_to", "sort", "limit", "after"];

/// Lists the active products.
#[utoipa::path(get, path = "/v1/store/products", tag = "products",
    params(("sku" = inline(Option<Vec<checked::Sku>>), Query, explode = false, max_items = 100),
        ("category" = Option<Vec<String>>, Query, explode = false, max_items = 100), ("q" = Option<String>, Query, max_length = 254, description = "Words, each of which must be a part of the name or the SKU"),
        ("currency" = inline(Option<Vec<checked::Currency>>), Query, explode = false, max_items = 100, description = "Only products with a price in one of these currencies"),
        ("updated_from" = inline(Option<schemas::Moment>), Query, description = "Only products that last changed at this time or later"),
        ("updated_to" = inline(Option<schemas::Moment>), Query, description = "Only products that last changed before this time"),
        ("sort" = inline(Option<schema::ProductSort>), Query),
        ("Kontor-After" = Option<String>, Header, description = "`Kontor-Position` values of writes that the list must include"),
        ("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of products", body = Page<StoreProduct>)))]
pub async fn browse_products(
    call: RequestParts,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let (wanted, seen) = asked(&call, &request, Some(true), &KNOWN).await?;
    if seen.was_asked() {
        // A cache may be older than the writes that the list must include.
        return Ok(seen.mark(public(wanted.read_for_buyers(&call).await?, Duration::ZERO)));
    }
    Ok(public(wanted.browse(&call).await?, lasts(&call)))
}

/// Returns an active product.
#[utoipa::path(get, path = "/v1/store/products/{sku}", tag = "products",
    params(("sku" = inline(checked::Sku), Path)),
    responses((status = 200, description = "The product", body = StoreProduct)))]
pub async fn show_product(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let row = find(&call, &path).await?;
    if !row.value.active {
        return Err(Error::not_found("product"));
    }
    let stock = availability::read(&call, std::slice::from_ref(&row.value.sku)).await?;
    let shown = availability::shown(&call.node().settings, &stock, (&row.value, 1), call.now());
    let shape = StoreProduct::new(&row, shown);
    Ok(public(serde_json::to_vec(&shape).map_err(Error::internal)?, lasts(&call)))
}

/// How long caches may keep what anybody may see of products.
fn lasts(call: &RequestParts) -> Duration {
    call.node().runtime.current().products_cached
}

/// Lists all products.
#[utoipa::path(get, path = "/v1/admin/products", tag = "products",
    params(("sku" = inline(Option<Vec<checked::Sku>>), Query, explode = false, max_items = 100),
        ("category" = Option<Vec<String>>, Query, explode = false, max_items = 100), ("q" = Option<String>, Query, max_length = 254, description = "Words, each of which must be a part of the name or the SKU"),
        ("currency" = inline(Option<Vec<checked::Currency>>), Query, explode = false, max_items = 100, description = "Only products with a price in one of these currencies"),
        ("active" = Option<bool>, Query),
        ("updated_from" = inline(Option<schemas::Moment>), Query, description = "Only products that last changed at this time or later"),
        ("updated_to" = inline(Option<schemas::Moment>), Query, description = "Only products that last changed before this time"),
        ("sort" = inline(Option<schema::ProductSort>), Query),
        ("Kontor-After" = Option<String>, Header, description = "`Kontor-Position` values of writes that the list must include"),
        ("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of products", body = Page<ProductShape>)))]
pub async fn list_products(
    call: RequestParts,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let known = [&KNOWN[..], &["active"]].concat();
    let (wanted, seen) = asked(&call, &request, None, &known).await?;
    wanted.read(&call).await.map(|body| seen.mark(page(body)))
}

/// Returns a product, active or not.
#[utoipa::path(get, path = "/v1/admin/products/{sku}", tag = "products",
    params(("sku" = inline(checked::Sku), Path)),
    responses((status = 200, description = "The product", body = ProductShape)))]
pub async fn get_product(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let row = find(&call, &path).await?;
    Ok(versioned(StatusCode::OK, row.version, &ProductShape::from(&*row)))
}

/// Creates a product.
#[utoipa::path(post, path = "/v1/admin/products", tag = "products", request_body = schema::NewProduct,
    responses((status = 201, description = "The product", body = ProductShape)))]
pub async fn create_product(
    call: RequestParts,
    body: Draft<ProductInput>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let Draft { value: input, faults, .. } = body;
    let required = || garde::Error::new("is required");
    let sku = input.sku.as_ref().ok_or_else(required).and_then(checked::Sku::read);
    let sku = faults.check_with("sku", sku)?;
    let product = input.product(sku);
    let put = call.node().catalog.put(product, Expect::Absent, cause);
    let (row, _) = put.await.map_err(refused)?;
    let shape = ProductShape::from(&row);
    Ok(wrote(created(row.version, &shape.place(), &shape), &row))
}

/// Creates or replaces a product.
#[utoipa::path(put, path = "/v1/admin/products/{sku}", tag = "products", request_body = ProductInput,
    params(("sku" = inline(checked::Sku), Path)),
    responses((status = 200, description = "The product", body = ProductShape),
        (status = 201, description = "The product was created", body = ProductShape)))]
pub async fn put_product(
    call: RequestParts,
    path: web::Path<String>,
    body: Draft<ProductInput>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let Draft { value: input, mut faults, .. } = body;
    if input.sku.as_deref().is_some_and(|own| *own != **path) {
        faults.invalid("sku", "must be the SKU in the path, or be omitted");
    }
    let sku = faults.check_with("sku", path.parse::<Sku>())?;
    let (catalog, product) = (&call.node().catalog, input.product(sku));
    let (row, change) = call.if_match.put(catalog, product, cause).await?;
    let shape = ProductShape::from(&row);
    let response = if change == WriteOutcome::Created {
        created(row.version, &shape.place(), &shape)
    } else {
        versioned(StatusCode::OK, row.version, &shape)
    };
    Ok(wrote(response, &row))
}

/// Changes a product.
#[utoipa::path(patch, path = "/v1/admin/products/{sku}", tag = "products", request_body = ProductPatch,
    params(("sku" = inline(checked::Sku), Path)),
    responses((status = 200, description = "The product", body = ProductShape)))]
pub async fn update_product(
    call: RequestParts,
    path: web::Path<String>,
    body: Json<ProductPatch>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let sku: Sku = id(&path, "product")?;
    let (row, _) = change(&call, &sku, &call.if_match, cause, |there| {
        let there = there.ok_or_else(|| Error::not_found("product"))?;
        Ok(patched(there, body.value.clone()))
    })
    .await?;
    Ok(wrote(versioned(StatusCode::OK, row.version, &ProductShape::from(&row)), &row))
}

/// Replaces a product by the one that `next` returns for the current one (`None` if there is no
/// such product). If another writer changes the product in between, `next` is called again.
///
/// # Errors
/// 412 if `if_match` does not allow the product's version; the errors of `next` and of the store.
pub async fn change(
    call: &RequestParts,
    sku: &Sku,
    if_match: &IfMatch,
    cause: Cause,
    next: impl Fn(Option<Product>) -> Result<Product, Error>,
) -> Result<(Row, WriteOutcome), Error> {
    let catalog = &call.node().catalog;
    for _ in 0..TRIES_MAX {
        let there = catalog.get(sku).await?;
        let version = there.as_ref().map(|row| row.version);
        if let Some(version) = version
            && !if_match.allows(version)
        {
            return Err(version_mismatch(version));
        }
        let product = next(there.map(|row| row.value.clone()))?;
        let expect = version.map_or(Expect::Absent, Expect::Version);
        match catalog.put(product, expect, cause.clone()).await {
            // Another writer was faster.
            Err(catalog::Error::VersionMismatch { version }) if if_match.allows(version) => {}
            Err(catalog::Error::Exists) => {}
            other => return other.map_err(refused),
        }
    }
    Err(refused(catalog::Error::TryAgain))
}

fn wrote(response: HttpResponse, row: &Row) -> HttpResponse {
    read_your_writes::wrote(response, entity_id(&row.value.sku), row.version)
}

/// A product by the SKU in a path.
///
/// # Errors
/// 404 if there is no such product; the store's errors.
pub async fn find(call: &RequestParts, path: &str) -> Result<std::sync::Arc<Row>, Error> {
    let sku: Sku = id(path, "product")?;
    call.node().catalog.get(&sku).await?.ok_or_else(|| Error::not_found("product"))
}

/// Parses the query of a list of products, and waits until the rows include the writes that the
/// request names in `Kontor-After`.
async fn asked(
    call: &RequestParts,
    request: &HttpRequest,
    active: Option<bool>,
    known: &[&str],
) -> Result<(Wanted, Seen), Error> {
    let mut query = Query::of_list(request, known, &["sku", "category", "currency"])?;
    let wanted = Wanted::of(&mut query, active);
    let writes = query.faults.note(read_your_writes::named(request));
    query.check()?;
    Ok((wanted, read_your_writes::wait(call, writes).await?))
}

/// The query of a page of products.
struct Wanted {
    filter: Filter,
    currencies: Vec<Currency>,
    limit: u32,
}

/// The place of a product in lists: when it last changed, and its SKU. Lists that are not sorted by
/// that time have only the SKU in their cursors.
struct ListPosition(Timestamp, Sku);

impl FromStr for ListPosition {
    type Err = InvalidSku;

    fn from_str(text: &str) -> Result<Self, InvalidSku> {
        match text.split_once('/') {
            Some((at, sku)) => {
                let at = at.parse().map_err(|_| InvalidSku)?;
                Ok(Self(Timestamp::from_millis(at), sku.parse()?))
            }
            None => Ok(Self(Timestamp::default(), text.parse()?)),
        }
    }
}

impl ListPosition {
    fn text(row: &Row, sort: Sort) -> String {
        let sku = &row.value.sku;
        if sort.by_update() {
            format!("{}/{sku}", row.updated_at.millis())
        } else {
            sku.to_string()
        }
    }
}

/// A currency in a query.
struct CurrencyCode(Currency);

impl FromStr for CurrencyCode {
    type Err = InvalidMoney;

    fn from_str(text: &str) -> Result<Self, InvalidMoney> {
        parse_currency(text).map(Self)
    }
}

impl Wanted {
    /// What a query asks for; its faults stay with it.
    fn of(query: &mut Query, active: Option<bool>) -> Self {
        let rule = "must be ISO 4217 currency codes, for example GBP";
        let codes: Vec<CurrencyCode> = query.values("currency", rule);
        let currencies = codes.into_iter().map(|CurrencyCode(currency)| currency).collect();
        let (limit, sort) = (query.limit(), query.sort::<Sort>());
        let active = match active {
            Some(active) => Some(active),
            None => query.boolean("active"),
        };
        let after = query.after(&sorted_list("products", sort));
        let filter = Filter {
            sku: query.values("sku", "must be a SKU"),
            category: query.values("category", "must be a category"),
            active,
            words: words(query.search()),
            updated_from: query.moment("updated_from"),
            updated_to: query.moment("updated_to"),
            sort,
            after: after.map(|ListPosition(at, sku)| (at, sku)),
            limit: limit + 1,
        };
        Self { filter, currencies, limit }
    }

    /// Removes the rows that are not on the page, and returns the cursor of the next page.
    fn cut(&self, rows: &mut Vec<Row>) -> Option<String> {
        let (more, sort) = (cut(rows, self.limit), self.filter.sort);
        let last = rows.last().map(|row| ListPosition::text(row, sort));
        let last = last.map(|place| cursor(&sorted_list("products", sort), &place));
        let priced = |row: &Row| {
            let has = |code: &Currency| row.value.prices.contains_key(code);
            self.currencies.is_empty() || self.currencies.iter().any(has)
        };
        rows.retain(priced);
        last.filter(|_| more)
    }

    async fn read(&self, call: &RequestParts) -> Result<Vec<u8>, Error> {
        let mut rows = call.store().products(&self.filter).await?;
        let next_cursor = self.cut(&mut rows);
        let data = rows.iter().map(ProductShape::from).collect();
        serde_json::to_vec(&Page::<ProductShape> { data, next_cursor }).map_err(Error::internal)
    }

    async fn read_for_buyers(&self, call: &RequestParts) -> Result<Vec<u8>, Error> {
        self.for_buyers(call, call.store().products(&self.filter).await?).await
    }

    /// The page as buyers see it.
    async fn for_buyers(&self, call: &RequestParts, mut rows: Vec<Row>) -> Result<Vec<u8>, Error> {
        let next_cursor = self.cut(&mut rows);
        let skus: Vec<Sku> = rows.iter().map(|row| row.value.sku.clone()).collect();
        let (settings, now) = (&call.node().settings, call.now());
        let stock = availability::read(call, &skus).await?;
        let shown = |row: &Row| availability::shown(settings, &stock, (&row.value, 1), now);
        let data = rows.iter().map(|row| StoreProduct::new(row, shown(row))).collect();
        serde_json::to_vec(&Page::<StoreProduct> { data, next_cursor }).map_err(Error::internal)
    }

    /// The cache key of the page; `None` if it would be too long: then the page is not cached.
    fn key(&self) -> Option<String> {
        let Self { filter, currencies, limit } = self;
        let Filter { sku, category, words, updated_from, updated_to, sort, after, .. } = filter;
        let codes: Vec<&str> = currencies.iter().map(|currency| currency.code()).collect();
        let times = (updated_from, updated_to);
        let key = format!(
            "{sku:?} {category:?} {words:?} {times:?} {sort:?} {after:?} {codes:?} {limit}"
        );
        (key.len() <= KEY_MAX).then_some(key)
    }

    /// The page of active products, from the cache if possible.
    async fn browse(&self, call: &RequestParts) -> Result<Vec<u8>, Error> {
        let lasts = lasts(call);
        let key = self.key().filter(|_| !lasts.is_zero());
        let cache = &call.node().cache;
        let place = match key {
            Some(key) => match cache.get(catalog::SPACE, &key).await {
                CacheLookup::Hit(page) => return Ok(page),
                CacheLookup::Miss(place) => Some(place),
                CacheLookup::Away => None,
            },
            None => None,
        };
        let Some(place) = place else {
            return self.read_for_buyers(call).await;
        };
        let rows = call.store().products_for_cache(&self.filter).await?;
        let page = self.for_buyers(call, rows).await?;
        cache.put(place, page.clone(), lasts).await;
        Ok(page)
    }
}

fn page(body: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok().content_type(header::ContentType::json()).body(body)
}
