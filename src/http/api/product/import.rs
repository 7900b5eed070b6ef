//! The import of products and stock, row by row: a faulty row does not keep the others from being
//! imported. Repeating an import changes nothing, provided that rows with `on_hand_change` are sent
//! with the same idempotency key.

use std::borrow::Cow;
use std::collections::BTreeMap;

use actix_web::HttpResponse;
use futures_util::stream::{self, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::actors::catalog::WriteOutcome;
use crate::actors::engine::host::{self, View};
use crate::domain::entity::{Cause, Idempotency, Noun as _};
use crate::domain::id::Sku;
use crate::domain::money::{Currency, UnitPrice, parse_major};
use crate::domain::product::Product;
use crate::domain::stock::{self, Location, QUANTITY_MAX, Stock};
use crate::http::api::location::known;
use crate::http::api::product::products::change;
use crate::http::api::product::shape::{ImportedProduct, NAME_NEEDED};
use crate::http::api::shape::LocationInput;
use crate::http::api::stock::rejection::at_field;
use crate::http::api::stock::units_change::UnitsChange;
use crate::http::edge::call::RequestParts;
use crate::http::edge::checked;
use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::if_match::IfMatch;
use crate::http::edge::input::{List, ListItem, Text, Whole};
use crate::http::edge::json_body::{Json, check};
use crate::http::edge::problem::{Code, FieldError};

/// The maximum number of rows in one import.
const ROWS_MAX: usize = 500;
/// The number of SKUs that are written concurrently.
const SKUS_AT_ONCE: usize = 64;

/// Rows to import.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportInput {
    /// Only validate the rows, without importing them.
    #[serde(default)]
    #[garde(skip)]
    dry_run: bool,
    #[garde(dive)]
    rows: ImportRows,
}

/// The rows of an import.
pub type ImportRows = List<UnreadRow, 1, ROWS_MAX>;

/// A JSON value that should be an [`ImportRow`]. It is deserialized separately, so that a faulty
/// row does not refuse the whole request.
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

/// A row: a product and, optionally, its stock.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRow {
    #[garde(dive)]
    product: ImportedProduct,
    /// A further price of one unit of the product, in major units of `currency`, such as pounds.
    #[serde(default)]
    #[garde(dive)]
    #[schema(example = "2.55")]
    price: Option<Text<1, 40>>,
    /// The currency of `price`; by default the shop's currency.
    #[serde(default)]
    #[garde(dive)]
    currency: Option<checked::Currency>,
    /// The location of the stock; by default the shop's first location.
    #[serde(default)]
    #[garde(dive)]
    location: Option<LocationInput>,
    /// The number of units on hand: sets the stock.
    #[serde(default)]
    #[garde(dive)]
    on_hand: Option<Whole<0, { QUANTITY_MAX }>>,
    /// The number of units that must be on hand before the change; not checked if there are already
    /// `on_hand` units.
    #[serde(default)]
    #[garde(dive)]
    change_from: Option<Whole<0, { QUANTITY_MAX }>>,
    /// Units to add to the stock, or to remove if negative.
    #[serde(default)]
    #[garde(dive)]
    on_hand_change: Option<UnitsChange>,
}

/// The reason of stock changes by an import, for the journal.
const REASON: &str = "import";

/// The report of an import.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ImportReport {
    created: u64,
    updated: u64,
    unchanged: u64,
    /// Stock levels that were changed.
    stock_set: u64,
    /// The refused rows.
    errors: Vec<RowError>,
}

/// An error of a row.
#[derive(Debug, Serialize, ToSchema)]
pub struct RowError {
    /// The index of the row in the request, from 0.
    row: usize,
    #[schema(example = "product.name")]
    field: String,
    message: String,
}

/// Imports products and stock.
#[utoipa::path(post, path = "/v1/admin/imports", tag = "products", request_body = ImportInput,
    responses((status = 200, description = "The report of the import", body = ImportReport)))]
pub async fn import_products(
    call: RequestParts,
    body: Json<ImportInput>,
) -> Result<HttpResponse, Error> {
    if !call.node().runtime.current().imports {
        return Err(Error::new(Code::ImportsClosed, "product imports are switched off"));
    }
    let says = |row: &UnreadRow, field| row.0.get(field).is_some_and(|value| !value.is_null());
    let has_stock = |row| says(row, "on_hand") || says(row, "on_hand_change");
    let has_stock = body.value.rows.iter().any(has_stock);
    if has_stock {
        call.principal().must(crate::http::edge::principal::Scope::StockWrite)?;
    }
    let whole = call.cause(body.digest);
    let key = &whole.idempotency;
    let cause = Cause { idempotency: None, ..whole.clone() };
    let mut report = ImportReport::default();
    let mut by_sku: BTreeMap<Sku, Vec<(usize, ParsedRow)>> = BTreeMap::new();
    let mut named = BTreeMap::new();
    for (row, unread) in body.value.rows.iter().enumerate() {
        match read(&call, (row, &unread.0), &mut named).await? {
            Ok((sku, one)) => by_sku.entry(sku).or_default().push((row, one)),
            Err(faults) => report.errors.extend(faults.into_iter().map(|fault| RowError {
                row,
                field: fault.field,
                message: fault.message,
            })),
        }
    }
    let dry = body.value.dry_run;
    let (call, cause) = (&call, &cause);
    let done = stream::iter(by_sku)
        .map(|(sku, rows)| async move {
            let mut outcomes = Vec::with_capacity(rows.len());
            let mut dry_run = dry.then(DryRun::default);
            for (number, row) in rows {
                // The idempotency key of a row is that of the request with the row's number: a
                // retry has the same rows in the same order.
                let idempotency = key.clone().map(|Idempotency { key, digest }| Idempotency {
                    key: format!("{key}#{number}"),
                    digest,
                });
                let outcome = match &mut dry_run {
                    Some(dry_run) => dry_run.apply(call, &sku, &row).await,
                    None => apply(call, &sku, &row, cause, idempotency).await,
                };
                outcomes.push((number, outcome));
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

/// A row, parsed.
struct ParsedRow {
    product: ImportedProduct,
    price: Option<(Currency, UnitPrice)>,
    location: Option<Location>,
    stock: Option<Units>,
    /// An earlier row that has a name for the product.
    named_by: Option<usize>,
}

/// The change of stock in a row.
#[derive(Clone, Copy)]
enum Units {
    Set { on_hand: i64, change_from: Option<i64> },
    Add { delta: i64 },
}

impl Units {
    fn command(self, location: &Location) -> stock::Command {
        let location = location.clone();
        match self {
            Self::Set { on_hand, change_from } => {
                stock::Command::Set { location, on_hand, change_from, reason: None }
            }
            Self::Add { delta } => {
                stock::Command::Adjust { location, delta, reason: REASON.to_owned() }
            }
        }
    }

    /// What a row says of the stock; what is wrong with that is added to `faults`.
    fn of(row: &ImportRow, faults: &mut RequestFaults) -> Option<Self> {
        let change_from = row.change_from.map(Whole::get);
        let (on_hand, delta) = (row.on_hand.map(Whole::get), row.on_hand_change);
        if on_hand.is_some() && delta.is_some() {
            faults.invalid("on_hand_change", "must not be combined with on_hand");
        }
        if on_hand.is_none() && change_from.is_some() && !faults.has("on_hand") {
            faults.invalid("change_from", "must not be given without on_hand");
        }
        match (on_hand, delta.map(UnitsChange::get)) {
            (Some(on_hand), _) => Some(Self::Set { on_hand, change_from }),
            (None, delta) => delta.map(|delta| Self::Add { delta }),
        }
    }
}

impl ParsedRow {
    fn product(&self, sku: &Sku, there: Option<Product>) -> Result<Product, Error> {
        let merged = self.product.clone().merged(sku.clone(), there, self.price);
        merged.map_err(|fault| match self.named_by {
            Some(row) if fault.message == NAME_NEEDED => {
                let rule = format!("{NAME_NEEDED}: row {row}, which has one, is refused");
                Error::field(&fault.field, rule)
            }
            _ => Error::field(&fault.field, fault.message),
        })
    }
}

/// A row, parsed, or all that is wrong with it.
type ReadRow = Result<(Sku, ParsedRow), Vec<FieldError>>;

/// Parses a row. `named` has, of each SKU, the first row before it that has a name for the product.
async fn read(
    call: &RequestParts,
    (number, value): (usize, &Value),
    named: &mut BTreeMap<Sku, usize>,
) -> Result<ReadRow, Error> {
    let (row, faults) = check::<ImportRow>(value);
    let mut faults = RequestFaults::from(faults);
    let Some(row) = row else { return Ok(Err(faults.into_fields())) };
    let price = price(&row, call.node().settings.currency, &mut faults);
    let stock = Units::of(&row, &mut faults);
    let location = match &row.location {
        Some(named) => {
            known::read((call.node(), call.store()), "location", named, &mut faults).await?
        }
        None => call.node().locations.first(),
    };
    if location.is_none() && stock.is_some() {
        faults.invalid("location", "is required");
    }
    let Ok(sku) = row.product.sku.read() else {
        return Ok(Err(faults.into_fields()));
    };
    let named_by = named.get(&sku).copied();
    if !row.product.lacks_name() {
        named.entry(sku.clone()).or_insert(number);
    }
    if !faults.is_empty() {
        let nameless = row.product.lacks_name() && named_by.is_none();
        if nameless && call.node().catalog.get(&sku).await?.is_none() {
            faults.invalid("product.name", NAME_NEEDED);
        }
        return Ok(Err(faults.into_fields()));
    }
    Ok(Ok((sku, ParsedRow { product: row.product, price, location, stock, named_by })))
}

/// The price in a row's `price`, in `currency` or by default in the shop's currency. Its faults are
/// added to `faults`.
fn price(
    row: &ImportRow,
    shop: Currency,
    faults: &mut RequestFaults,
) -> Option<(Currency, UnitPrice)> {
    let text = row.price.as_ref()?;
    let currency = match &row.currency {
        Some(named) => named.read().ok()?,
        None => shop,
    };
    match parse_major(text, currency) {
        Ok(price) if price.raw() >= 0 => return Some((currency, price)),
        Ok(_) => faults.invalid("price", "must not be negative"),
        Err(rule) => faults.invalid("price", rule.to_string()),
    }
    None
}

/// The outcome of a row: how the product was written, and whether stock was changed.
type Outcome = Result<(WriteOutcome, bool), Error>;

async fn apply(
    call: &RequestParts,
    sku: &Sku,
    row: &ParsedRow,
    cause: &Cause,
    idempotency: Option<Idempotency>,
) -> Outcome {
    let there = call.node().catalog.get(sku).await?;
    // Refuses a faulty product before the stock is changed.
    row.product(sku, there.map(|row| row.value.clone()))?;
    let stock_set = change_stock(call, sku, row, cause, idempotency).await?;
    let next = |there| row.product(sku, there);
    let (_, outcome) = change(call, sku, &IfMatch::Anything, cause.clone(), next).await?;
    Ok((outcome, stock_set))
}

/// Changes the stock as a row says; `false` if there was nothing to change.
async fn change_stock(
    call: &RequestParts,
    sku: &Sku,
    row: &ParsedRow,
    cause: &Cause,
    idempotency: Option<Idempotency>,
) -> Result<bool, Error> {
    let (Some(units), Some(location)) = (row.stock, row.location.clone()) else {
        return Ok(false);
    };
    let (entity, host) = (stock::entity_id(sku), &call.node().stock);
    let command = units.command(&location);
    // Setting a number is idempotent, so only an added number needs the idempotency key.
    let idempotency = match units {
        Units::Set { on_hand, .. } => {
            let read = move |view: View<'_, Stock>| on_hand_at(view.state, &location);
            if host.read(&entity, read).await? == Some(on_hand) {
                return Ok(false);
            }
            None
        }
        Units::Add { .. } => idempotency,
    };
    let cause = Cause { idempotency, ..cause.clone() };
    let done = host.carry_out(&entity, command.clone(), cause).await;
    done.map(|()| true).map_err(|error| at_field(error, &command))
}

fn on_hand_at(stock: &Stock, location: &Location) -> Option<i64> {
    stock.levels().get(location).map(|level| level.on_hand)
}

/// The product and the stock of one SKU as the rows so far would have left them; `None` if no row
/// has read them yet.
#[derive(Default)]
struct DryRun {
    product: Option<Product>,
    stock: Option<Stock>,
}

impl DryRun {
    async fn apply(&mut self, call: &RequestParts, sku: &Sku, row: &ParsedRow) -> Outcome {
        let there = match self.product.take() {
            Some(product) => Some(product),
            None => call.node().catalog.get(sku).await?.map(|row| row.value.clone()),
        };
        self.product.clone_from(&there);
        let product = row.product(sku, there.clone())?;
        let stock_set = self.change_stock(call, sku, row).await?;
        let outcome = match there {
            None => WriteOutcome::Created,
            Some(there) if there == product => WriteOutcome::Unchanged,
            Some(_) => WriteOutcome::Updated,
        };
        self.product = Some(product);
        Ok((outcome, stock_set))
    }

    async fn change_stock(
        &mut self,
        call: &RequestParts,
        sku: &Sku,
        row: &ParsedRow,
    ) -> Result<bool, Error> {
        let (Some(units), Some(location)) = (row.stock, &row.location) else { return Ok(false) };
        let mut stock = match self.stock.take() {
            Some(stock) => stock,
            None => {
                let read = |view: View<'_, Stock>| view.state.clone();
                call.node().stock.read(&stock::entity_id(sku), read).await?
            }
        };
        let same = matches!(units, Units::Set { on_hand, .. }
            if on_hand_at(&stock, location) == Some(on_hand));
        let now = call.now();
        let command = units.command(location);
        let events = match same {
            true => Ok(Vec::new()),
            false => stock.decide(&command, now),
        };
        for event in events.iter().flatten() {
            stock.evolve(event, now);
        }
        self.stock = Some(stock);
        let rejected = |rejection| at_field(host::Error::Rejected(rejection), &command);
        events.map(|_| !same).map_err(rejected)
    }
}

impl ImportReport {
    /// Adds the outcome of a row to the report. A fault of the row is reported there; any other
    /// error ends the import.
    fn count(&mut self, row: usize, outcome: Outcome) -> Result<(), Error> {
        match outcome {
            Ok((change, stock_set)) => {
                match change {
                    WriteOutcome::Created => self.created += 1,
                    WriteOutcome::Updated => self.updated += 1,
                    WriteOutcome::Unchanged => self.unchanged += 1,
                }
                self.stock_set += u64::from(stock_set);
                Ok(())
            }
            Err(error)
                if error.code().status().is_client_error()
                    && error.code().retry_after_secs().is_none() =>
            {
                let error = match error.fields() {
                    [] => Error::field("product", error.detail().to_owned()),
                    _ => error,
                };
                self.errors.extend(error.fields().iter().map(|fault| RowError {
                    row,
                    // An adjustment has a `quantity`.
                    field: match fault.field.as_str() {
                        "quantity" => "on_hand_change".to_owned(),
                        field => field.to_owned(),
                    },
                    message: fault.message.clone(),
                }));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
