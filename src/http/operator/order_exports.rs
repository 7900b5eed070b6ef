//! Exports of orders as CSV files, for spreadsheets: each is written by a job, and read by whoever may
//! read orders. `jobs` has the jobs themselves.

use std::borrow::Cow;
use std::collections::BTreeMap;

use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::actors::order_rows::OpenedOrderRow;
use crate::bus::queue::{JobFailure, JobRun};
use crate::domain::background_job::{Job, JobKind, JobState};
use crate::domain::money::{Currency, Money, parse_currency};
use crate::http::api::order::list;
use crate::http::api::order::schema as of_orders;
use crate::http::api::shape::Page;
use crate::http::docs::schemas;
use crate::http::edge::call::RequestParts;
use crate::http::edge::error::Error;
use crate::http::edge::json_body::NoBody;
use crate::http::edge::problem::Code;
use crate::http::edge::query::{Query, cursor, cut};
use crate::http::operator::job_payload::filter_of_orders;
use crate::http::operator::jobs::{self, Jobs};
use crate::http::operator::schema;
use crate::store::job::JobPart;
use crate::store::order::Filter;
use crate::store::{self, LIST_MAX, Store};

/// The most orders of an export.
const ORDERS_MAX: usize = 100_000;
/// The most exports that a shop has.
const EXPORTS_MAX: i64 = 100;
/// The size at which a part of a file is stored, in bytes.
const PART_BYTES: usize = 256 << 10;

/// The columns of the file.
const COLUMNS: [&str; 16] = [
    "number",
    "id",
    "status",
    "payment_status",
    "fulfillment_status",
    "email",
    "buyer_name",
    "country",
    "reference",
    "item_count",
    "currency",
    "total",
    "captured",
    "refunded",
    "placed_at",
    "updated_at",
];

/// An export of orders.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderExport {
    id: String,
    #[schema(value_type = schema::JobState)]
    state: &'static str,
    /// The filters and the order of the orders, as they were asked for, each with its values.
    filter: BTreeMap<String, Vec<String>>,
    /// The number of orders that were written so far, or in all.
    orders: Option<i64>,
    created_at: String,
    ended_at: Option<String>,
    /// Why the last attempt failed.
    last_error: Option<String>,
    /// The path of the file, once it is complete.
    #[schema(example = "/v1/admin/order-exports/job_0190a1b2c3d4e5f6a7b8/file")]
    file: Option<String>,
}

impl OrderExport {
    fn new(job: &Job) -> Self {
        let result = result(job);
        let file = || format!("/v1/admin/order-exports/{}/file", job.id);
        Self {
            id: job.id.clone(),
            state: job.state.as_str(),
            filter: filter_of_orders(&filter_text(&job.payload))
                .map(|query| query.parameters())
                .unwrap_or_default(),
            orders: result["orders"].as_i64(),
            created_at: job.created_at.to_string(),
            ended_at: job.ended_at.map(|at| at.to_string()),
            last_error: job.last_error.clone(),
            file: (job.state == JobState::Done).then(file),
        }
    }
}

fn result(job: &Job) -> Value {
    job.progress.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn filter_text(payload: &str) -> String {
    let payload: Value = serde_json::from_str(payload).unwrap_or_default();
    payload["filter"].as_str().unwrap_or_default().to_owned()
}

/// Starts to export orders as a CSV file: those that the list of orders has with the same query.
#[utoipa::path(post, path = "/v1/admin/order-exports", tag = "orders",
    params(("id" = inline(Option<Vec<schemas::OrderId>>), Query, explode = false, max_items = 100),
        ("status" = inline(Option<Vec<of_orders::Status>>), Query, explode = false, max_items = 100),
        ("payment_status" = inline(Option<Vec<of_orders::PaymentStatus>>), Query, explode = false, max_items = 100),
        ("fulfillment_status" = inline(Option<Vec<of_orders::FulfillmentStatus>>), Query, explode = false, max_items = 100),
        ("email" = Option<Vec<String>>, Query, explode = false, max_items = 100),
        ("number" = Option<Vec<i64>>, Query, explode = false, max_items = 100),
        ("q" = Option<String>, Query, max_length = 254, description = "Words, as in the list of orders"),
        ("reference" = Option<Vec<String>>, Query, explode = false, max_items = 100),
        ("placed_from" = inline(Option<schemas::Moment>), Query),
        ("placed_to" = inline(Option<schemas::Moment>), Query),
        ("updated_from" = inline(Option<schemas::Moment>), Query, description = "Only orders that last changed at this time or later"),
        ("updated_to" = inline(Option<schemas::Moment>), Query, description = "Only orders that last changed before this time"),
        ("sort" = inline(Option<of_orders::OrderSort>), Query)),
    responses((status = 202, description = "The export was started", body = OrderExport),
        (status = 409, description = "`wrong_state`: the shop has 100 exports already")))]
pub async fn create_order_export(
    call: RequestParts,
    jobs: web::Data<Jobs>,
    request: HttpRequest,
    _body: NoBody,
) -> Result<HttpResponse, Error> {
    let mut asked = filter_of_orders(request.query_string())?;
    list::asked(&mut asked);
    asked.check()?;
    if call.store().count_jobs(JobKind::ExportOrders.as_str()).await? >= EXPORTS_MAX {
        let detail = format!("a shop has at most {EXPORTS_MAX} exports: delete some first");
        return Err(Error::new(Code::WrongState, detail));
    }
    let payload = json!({"filter": request.query_string()});
    let job = jobs::add(&call, &jobs, JobKind::ExportOrders.as_str(), payload).await?;
    let place = format!("/v1/admin/order-exports/{}", job.id);
    let location = (header::LOCATION, place);
    Ok(HttpResponse::Accepted().insert_header(location).json(OrderExport::new(&job)))
}

/// Lists exports of orders.
#[utoipa::path(get, path = "/v1/admin/order-exports", tag = "orders",
    params(("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of exports, the newest first", body = Page<OrderExport>)))]
pub async fn list_order_exports(
    call: RequestParts,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let mut query = Query::of(&request, &["limit", "after"])?;
    let (limit, before) = (query.limit(), query.after("order-exports"));
    query.check()?;
    let kind = vec![JobKind::ExportOrders.as_str().to_owned()];
    let filter = store::job::Filter { kind, before, limit: limit + 1, ..Default::default() };
    let mut jobs = call.store().jobs(&filter).await?;
    let more = cut(&mut jobs, limit);
    let last = jobs.last().map(|job| cursor("order-exports", &job.id));
    let data = jobs.iter().map(OrderExport::new).collect();
    Ok(HttpResponse::Ok().json(Page::<OrderExport> { data, next_cursor: last.filter(|_| more) }))
}

/// Returns an export of orders.
#[utoipa::path(get, path = "/v1/admin/order-exports/{id}", tag = "orders", params(("id" = String, Path)),
    responses((status = 200, description = "The export", body = OrderExport)))]
pub async fn get_order_export(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(OrderExport::new(&find(&call, &path).await?)))
}

async fn find(call: &RequestParts, id: &str) -> Result<Job, Error> {
    let job = call.store().job(id).await?;
    let job = job.filter(|job| job.kind == JobKind::ExportOrders.as_str());
    job.ok_or_else(|| Error::not_found("export"))
}

/// Returns the file of an export: CSV (RFC 4180) in UTF-8, with the names of the columns first, and
/// amounts in major units of their currency.
#[utoipa::path(get, path = "/v1/admin/order-exports/{id}/file", tag = "orders", params(("id" = String, Path)),
    responses((status = 200, description = "The file", body = String, content_type = "text/csv"),
        (status = 409, description = "`wrong_state`: the file is not complete yet")))]
pub async fn download_order_export(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let job = find(&call, &path).await?;
    if job.state != JobState::Done {
        let detail = format!("the export is {}", job.state.as_str());
        return Err(Error::new(Code::WrongState, detail));
    }
    let parts = result(&job)["parts"].as_i64().unwrap_or(0);
    let created_at = job.created_at.to_string();
    let day = created_at.split('T').next().unwrap_or_default();
    let named = format!("attachment; filename=\"orders-{day}.csv\"");
    let store = call.store().clone();
    let of = (store, job, parts);
    let body = futures_util::stream::try_unfold((0, of), |(number, of)| async move {
        let (store, job, parts) = &of;
        if number >= *parts {
            return Ok::<_, store::Error>(None);
        }
        let missing =
            || store::Error::Row { table: "job_part", reason: "a part is missing".into() };
        let part = store.job_part(&job.id, job.attempts, number).await?.ok_or_else(missing)?;
        Ok(Some((Bytes::from(part), (number + 1, of))))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8; header=present")
        .insert_header((header::CONTENT_DISPOSITION, named))
        .streaming(body))
}

/// Deletes an export that is not being written, with its file.
#[utoipa::path(delete, path = "/v1/admin/order-exports/{id}", tag = "orders", params(("id" = String, Path)),
    responses((status = 204, description = "The export was deleted")))]
pub async fn delete_order_export(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let job = find(&call, &path).await?;
    if call.store().remove_job(&job.id).await? {
        return Ok(HttpResponse::NoContent().finish());
    }
    match call.store().job(&job.id).await? {
        Some(_) => Err(Error::new(Code::WrongState, "the export is being written")),
        None => Err(Error::not_found("export")),
    }
}

/// Writes the file of an export: the work of its job. A retry writes a new file.
///
/// # Errors
/// [`JobFailure`]: the store fails, or there are too many orders.
pub async fn export_orders(store: Store, run: JobRun) -> Result<Value, JobFailure> {
    let never = |error: &Error| JobFailure::Never(error.detail().to_owned());
    let text = filter_text(&run.job.payload);
    let mut query = filter_of_orders(&text).map_err(|error| never(&error))?;
    let asked = list::asked(&mut query);
    query.check().map_err(|error| never(&error))?;
    let lookups = store.lookups().await.map_err(again)?;
    let mut filter = Filter { limit: LIST_MAX, ..asked.filter(&lookups) };
    store.remove_other_parts(&run.job.id, run.job.attempts).await.map_err(again)?;
    let mut file = CsvFile { store: &store, job: &run.job, text: COLUMNS.join(","), parts: 0 };
    file.text.push_str("\r\n");
    let mut orders = 0;
    loop {
        let rows = store.orders(&filter).await.map_err(again)?;
        orders += rows.len();
        if orders > ORDERS_MAX {
            let why = format!(
                "there are more than {ORDERS_MAX} orders: export fewer at once, for example by \
                 placed_from and placed_to"
            );
            return Err(JobFailure::Never(why));
        }
        filter.after = rows.last().map(|row| (filter.sort.at(row), row.id.clone()));
        let last = rows.len() < LIST_MAX as usize;
        let keys = store.personal_keys(&OpenedOrderRow::key_ids(&rows)).await.map_err(again)?;
        for row in rows {
            push_line(&mut file.text, &OpenedOrderRow::open(row, Some(&keys)));
        }
        if last || file.text.len() >= PART_BYTES {
            file.store_part().await?;
        }
        if last {
            return Ok(json!({"orders": orders, "parts": file.parts}));
        }
        run.progress(json!({"orders": orders}));
    }
}

fn again(error: store::Error) -> JobFailure {
    JobFailure::Again(error.to_string())
}

/// A file while it is written.
struct CsvFile<'a> {
    store: &'a Store,
    job: &'a Job,
    /// What is not stored yet.
    text: String,
    parts: i64,
}

impl CsvFile<'_> {
    async fn store_part(&mut self) -> Result<(), JobFailure> {
        let part = JobPart {
            job: &self.job.id,
            attempt: self.job.attempts,
            number: self.parts,
            content: &self.text,
        };
        self.store.add_job_part(&part).await.map_err(again)?;
        self.text.clear();
        self.parts += 1;
        Ok(())
    }
}

/// Adds the line of an order.
fn push_line(file: &mut String, order: &OpenedOrderRow) {
    let OpenedOrderRow { row, email, buyer_name, reference } = order;
    let currency = parse_currency(&row.currency).ok();
    let amount = |amount: i64| currency.map_or(amount.to_string(), |of| major(amount, of));
    let cells = [
        row.number.map(|number| number.to_string()).unwrap_or_default(),
        row.id.clone(),
        row.status.clone(),
        row.payment_status.clone(),
        row.fulfillment_status.clone(),
        cell(email.as_deref().unwrap_or_default()),
        cell(buyer_name.as_deref().unwrap_or_default()),
        cell(row.country.as_deref().unwrap_or_default()),
        cell(reference.as_deref().unwrap_or_default()),
        row.item_count.to_string(),
        row.currency.clone(),
        amount(row.total),
        amount(row.captured),
        amount(row.refunded),
        row.placed_at.to_string(),
        row.updated_at.to_string(),
    ];
    file.push_str(&cells.join(","));
    file.push_str("\r\n");
}

/// An amount in major units, without the currency.
fn major(amount: i64, currency: Currency) -> String {
    let text = Money::new(amount, currency).to_string();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// A cell with a text: quoted if that is needed, and never read as a formula by a spreadsheet.
fn cell(text: &str) -> String {
    let safe = defused(text);
    if safe.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", safe.replace('"', "\"\""))
    } else {
        safe.into_owned()
    }
}

/// What a formula may begin with, also as it is typed in East Asian widths.
const FORMULAS: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// A text without what a spreadsheet takes for a formula, at its beginning or at that of a line: an
/// apostrophe is put before it.
fn defused(text: &str) -> Cow<'_, str> {
    let formula = |line: &str| {
        let blank = |c: char| c.is_whitespace() && !matches!(c, '\n' | '\r');
        line.starts_with('\t') || line.trim_start_matches(blank).starts_with(FORMULAS)
    };
    let breaks = |c: char| matches!(c, '\n' | '\r');
    if !text.starts_with(breaks) && !text.split(breaks).any(formula) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 1);
    for (at, line) in text.split_inclusive(breaks).enumerate() {
        if formula(line) || at == 0 && line.starts_with(breaks) {
            safe.push('\'');
        }
        safe.push_str(line);
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (text, shown) in [
            ("PO 7", "PO 7"),
            ("", ""),
            ("=1+1", "'=1+1"),
            ("+44", "'+44"),
            ("-5", "'-5"),
            ("@SUM(A1)", "'@SUM(A1)"),
            (" =1", "' =1"),
            ("＝1+1", "'＝1+1"),
            ("\tx", "'\tx"),
            ("\rx", "\"'\rx\""),
            ("\nx", "\"'\nx\""),
            ("a=b", "a=b"),
            ("one\n=2", "\"one\n'=2\""),
            ("\"a\", b", "\"\"\"a\"\", b\""),
        ] {
            assert_eq!(cell(text), shown, "{text:?}");
        }
    }

    #[test]
    fn amounts_are_in_major_units() {
        for (amount, currency, shown) in [
            (1250, Currency::GBP, "12.50"),
            (5, Currency::GBP, "0.05"),
            (-5, Currency::GBP, "-0.05"),
            (7, Currency::JPY, "7"),
            (0, Currency::KWD, "0.000"),
        ] {
            assert_eq!(major(amount, currency), shown);
        }
    }
}
