//! Importing products and stock, row by row: a faulty row never keeps the others out, and
//! sending the same rows again changes nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use actix_web::HttpResponse;
use futures_util::stream::{self, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::actors::catalog::{Change, Expect};
use crate::actors::engine::host::View;
use crate::domain::entity::Cause;
use crate::domain::id::Sku;
use crate::domain::money::parse_major;
use crate::domain::product::Product;
use crate::domain::stock::{self, Location, QUANTITY_MAX, Stock};
use crate::http::api::product::schema;
use crate::http::api::product::shape::ProductInput;
use crate::http::api::shape::LocationInput;
use crate::http::edge::call::Call;
use crate::http::edge::checked;
use crate::http::edge::error::Error;
use crate::http::edge::input::{List, ListItem, Text, Whole};
use crate::http::edge::json_body::{Json, check};
use crate::http::edge::problem::{Code, FieldError};

/// The most rows of one import.
const ROWS_MAX: usize = 500;
/// How many SKUs are written at once.
const SKUS_AT_ONCE: usize = 64;

/// Rows to import.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportInput {
    /// Check only.
    #[serde(default)]
    #[garde(skip)]
    dry_run: bool,
    #[garde(dive)]
    rows: Rows,
}

/// The rows of an import.
pub type Rows = List<UnreadRow, 1, ROWS_MAX>;

/// What is to be an [`ImportRow`]. It is read by itself, so that a faulty one keeps no other out.
#[derive(Clone, Debug, Deserialize, garde::Validate)]
#[serde(transparent)]
pub struct UnreadRow(#[garde(skip)] Value);

impl ListItem for UnreadRow {
    const PLURAL: &'static str = "rows";
}

impl PartialSchema for UnreadRow {
    fn schema() -> RefOr<Schema> {
        ImportRow::schema()
    }
}

impl ToSchema for UnreadRow {
    fn name() -> Cow<'static, str> {
        ImportRow::name()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        ImportRow::schemas(schemas);
    }
}

/// A row: a product and, if it says so, how much of it there is.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRow {
    #[garde(dive)]
    #[schema(value_type = schema::NewProduct)]
    product: ProductInput,
    /// One more price, in major units of `currency`.
    #[serde(default)]
    #[garde(dive)]
    #[schema(example = "2.55")]
    price: Option<Text<1, 40>>,
    /// The currency of `price`; the shop's if it is not said.
    #[serde(default)]
    #[garde(dive)]
    currency: Option<checked::Currency>,
    /// Where `on_hand` lies; the store's first location if it is not said.
    #[serde(default)]
    #[garde(dive)]
    location: Option<LocationInput>,
    #[serde(default)]
    #[garde(dive)]
    on_hand: Option<Whole<0, { QUANTITY_MAX }>>,
}

/// What an import did.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ImportReport {
    created: u64,
    updated: u64,
    unchanged: u64,
    /// Stock levels that were changed.
    stock_set: u64,
    /// Rows that were left out.
    errors: Vec<RowError>,
}

/// A fault of a row.
#[derive(Debug, Serialize, ToSchema)]
pub struct RowError {
    /// Its place in the request, from 0.
    row: usize,
    #[schema(example = "product.name")]
    field: String,
    message: String,
}

/// Imports products and stock.
#[utoipa::path(post, path = "/v1/admin/imports", tag = "products", request_body = ImportInput,
    responses((status = 200, description = "What was done", body = ImportReport)))]
pub async fn import_products(call: Call, body: Json<ImportInput>) -> Result<HttpResponse, Error> {
    if !call.node().runtime.current().imports {
        return Err(Error::new(Code::ImportsClosed, "product imports are switched off"));
    }
    let has_stock = body.value.rows.iter().any(|row| row.0.get("on_hand").is_some());
    if has_stock {
        call.principal().must(crate::http::edge::principal::Scope::StockWrite)?;
    }
    let cause = Cause { idempotency: None, ..call.cause(body.digest) };
    let mut report = ImportReport::default();
    let mut by_sku: BTreeMap<Sku, Vec<(usize, Row)>> = BTreeMap::new();
    for (row, unread) in body.value.rows.iter().enumerate() {
        match read(&call, &unread.0) {
            Ok(one) => by_sku.entry(one.product.sku.clone()).or_default().push((row, one)),
            Err(faults) => report.errors.extend(faults.into_iter().map(|fault| RowError {
                row,
                field: fault.field,
                message: fault.message,
            })),
        }
    }
    let dry = body.value.dry_run;
    let (call, cause) = (&call, &cause);
    let done = stream::iter(by_sku.into_values())
        .map(|rows| async move {
            let mut outcomes = Vec::with_capacity(rows.len());
            for (number, row) in rows {
                outcomes.push((number, take(call, row, dry, cause.clone()).await));
            }
            outcomes
        })
        .buffer_unordered(SKUS_AT_ONCE);
    let outcomes: Vec<_> = done.collect().await;
    for (row, outcome) in outcomes.into_iter().flatten() {
        report.count(row, outcome)?;
    }
    report.errors.sort_by_key(|error| error.row);
    Ok(HttpResponse::Ok().json(report))
}

/// A row that was read.
struct Row {
    product: Product,
    location: Location,
    on_hand: Option<i64>,
}

fn read(call: &Call, value: &Value) -> Result<Row, Vec<FieldError>> {
    let fault = |field: &str, message: &str| {
        vec![FieldError { field: field.to_owned(), message: message.to_owned() }]
    };
    let row: ImportRow = check(value)?;
    let sku = row.product.sku.as_ref().ok_or_else(|| fault("product.sku", "is required"))?;
    let sku = sku.read().map_err(|rule| fault("product.sku", rule.message()))?;
    let location = match &row.location {
        Some(named) => named.read().ok(),
        None => call.node().settings.locations.first().cloned().or_else(|| "main".parse().ok()),
    };
    let location = location.ok_or_else(|| fault("location", "is not a location"))?;
    let mut product = row.product.product(sku);
    if let Some(text) = &row.price {
        let named = row.currency.map(|code| code.read()).transpose();
        let named = named.map_err(|rule| fault("currency", rule.message()))?;
        let currency = named.unwrap_or(call.node().settings.currency);
        let price =
            parse_major(text, currency).map_err(|rule| fault("price", &rule.to_string()))?;
        if price.raw() < 0 {
            return Err(fault("price", "must not be negative"));
        }
        product.prices.insert(currency, price);
    }
    Ok(Row { product, location, on_hand: row.on_hand.map(Whole::get) })
}

/// What became of a row: the product's change, and whether stock was set.
type Outcome = Result<(Change, bool), Error>;

async fn take(call: &Call, row: Row, dry: bool, cause: Cause) -> Outcome {
    let Row { product, location, on_hand } = row;
    let sku = product.sku.clone();
    let change = if dry {
        match call.node().catalog.get(&sku).await? {
            None => Change::Created,
            Some(there) if there.value == product => Change::Unchanged,
            Some(_) => Change::Updated,
        }
    } else {
        call.node().catalog.put(product, Expect::Any, cause.clone()).await?.1
    };
    let Some(on_hand) = on_hand else {
        return Ok((change, false));
    };
    let (entity, at) = (stock::entity_id(&sku), location.clone());
    let read = move |view: View<'_, Stock>| view.state.levels().get(&at).map(|level| level.on_hand);
    let there = call.node().stock.look(&entity, read).await?;
    if there == Some(on_hand) || dry {
        return Ok((change, there != Some(on_hand)));
    }
    let command = stock::Command::Set { location, on_hand, change_from: None };
    call.node().stock.carry_out(&entity, command, cause).await?;
    Ok((change, true))
}

impl ImportReport {
    /// Counts a row. A fault of the row is reported; one of the store ends the import.
    fn count(&mut self, row: usize, outcome: Outcome) -> Result<(), Error> {
        match outcome {
            Ok((change, stock_set)) => {
                match change {
                    Change::Created => self.created += 1,
                    Change::Updated => self.updated += 1,
                    Change::Unchanged => self.unchanged += 1,
                }
                self.stock_set += u64::from(stock_set);
                Ok(())
            }
            Err(error)
                if error.code().status().is_client_error()
                    && error.code().retry_after_secs().is_none() =>
            {
                let field = match error.code() {
                    crate::http::edge::problem::Code::StockCommitted => "on_hand",
                    _ => "product",
                };
                let message = error.detail().to_owned();
                self.errors.push(RowError { row, field: field.to_owned(), message });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
