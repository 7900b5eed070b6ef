//! Reading and changing locations.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actors::engine::row_host::{self, Expect, WriteOutcome};
use crate::actors::locations::{LOCATIONS_MAX, undescribed};
use crate::domain::cart::double_option;
use crate::domain::entity::Cause;
use crate::domain::location::StockLocation;
use crate::domain::stock::{InvalidLocation, Location};
use crate::domain::versioned::Versioned as _;
use crate::http::api::location::known::{self, is_known};
use crate::http::api::shape::{Address, LocationInput, Page};
use crate::http::docs::schemas;
use crate::http::edge::call::{RequestParts, created, id, versioned};
use crate::http::edge::error::{Error, version_mismatch};
use crate::http::edge::if_match::IfMatch;
use crate::http::edge::input::{Text, not_null};
use crate::http::edge::json_body::{Draft, Json};
use crate::http::edge::problem::Code;
use crate::http::edge::query::{Query, cursor, cut};
use crate::http::edge::read_your_writes;
use crate::store::versioned::Row;

/// The most attempts of a change, if other writers keep being faster.
const TRIES_MAX: usize = 32;

/// A location to create or replace.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StockLocationInput {
    /// The name that operators see.
    #[garde(dive)]
    name: Text<1, 100>,
    /// The postal address.
    #[serde(default)]
    #[garde(dive)]
    address: Option<Address>,
    /// Whether units at the location are sold; true by default. If not, they are kept, and no
    /// order reserves them.
    #[serde(default)]
    #[garde(skip)]
    for_sale: Option<bool>,
}

/// Changes of a location.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StockLocationPatch {
    /// The name that operators see.
    #[serde(default, deserialize_with = "not_null")]
    #[garde(dive)]
    #[schema(nullable = false)]
    name: Option<Text<1, 100>>,
    /// The postal address; `null` clears it.
    #[serde(default, deserialize_with = "double_option::deserialize")]
    #[garde(dive)]
    address: Option<Option<Address>>,
    /// Whether units at the location are sold.
    #[serde(default, deserialize_with = "not_null")]
    #[garde(skip)]
    #[schema(nullable = false)]
    for_sale: Option<bool>,
}

/// A location that has stock.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StockLocation)]
pub struct StockLocationShape {
    #[schema(value_type = LocationInput)]
    id: String,
    name: String,
    #[schema(required)]
    address: Option<Address>,
    /// Whether units at the location are sold.
    for_sale: bool,
    /// 0 for a location of the settings or of old stock that was never changed.
    version: i64,
}

impl From<&Row<StockLocation>> for StockLocationShape {
    fn from(row: &Row<StockLocation>) -> Self {
        let location = &row.value;
        Self {
            id: location.id.to_string(),
            name: location.name.clone(),
            address: location.address.as_ref().map(Into::into),
            for_sale: location.for_sale,
            version: row.version,
        }
    }
}

/// A location in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct StockLocationListItem {
    #[serde(flatten)]
    location: StockLocationShape,
    /// Whether there are units, or units on their way to it: then it cannot be deleted.
    has_units: bool,
}

/// Lists locations.
#[utoipa::path(get, path = "/v1/admin/locations", tag = "stock",
    params(("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of locations, by id", body = Page<StockLocationListItem>)))]
pub async fn list_locations(
    call: RequestParts,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let mut query = Query::of(&request, &["limit", "after"])?;
    let (limit, after) = (query.limit(), query.after::<Location>("locations"));
    query.check()?;
    let mut rows = all(&call).await?;
    rows.retain(|row| after.as_ref().is_none_or(|after| row.value.id > *after));
    let more = cut(&mut rows, limit);
    let last = rows.last().map(|row| cursor("locations", row.value.id.as_str()));
    let mut data = Vec::new();
    for row in &rows {
        let has_units = call.store().has_stock_at(&row.value.id, true).await?;
        data.push(StockLocationListItem { location: row.into(), has_units });
    }
    let page = Page::<StockLocationListItem> { data, next_cursor: last.filter(|_| more) };
    Ok(HttpResponse::Ok().json(page))
}

async fn all(call: &RequestParts) -> Result<Vec<Row<StockLocation>>, Error> {
    let locations = &call.node().locations;
    locations.refresh().await?;
    let mut all = locations.all(&call.store().locations_of_stock().await?);
    for row in locations.all_deleted() {
        if call.store().has_stock_at(&row.value.id, true).await? {
            all.push(row);
        }
    }
    all.sort_by(|a, b| a.value.id.cmp(&b.value.id));
    Ok(all)
}

/// Returns a location.
#[utoipa::path(get, path = "/v1/admin/locations/{location}", tag = "stock",
    params(("location" = inline(LocationInput), Path)),
    responses((status = 200, description = "The location", body = StockLocationShape)))]
pub async fn get_location(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let row = find(&call, &id(&path, "location")?).await?;
    let row = row.ok_or_else(|| Error::not_found("location"))?;
    Ok(versioned(StatusCode::OK, row.version, &StockLocationShape::from(&row)))
}

/// Creates or replaces a location.
#[utoipa::path(put, path = "/v1/admin/locations/{location}", tag = "stock",
    request_body = StockLocationInput, params(("location" = inline(LocationInput), Path)),
    responses((status = 200, description = "The location", body = StockLocationShape),
        (status = 201, description = "The location was created", body = StockLocationShape)))]
pub async fn put_location(
    call: RequestParts,
    path: web::Path<String>,
    body: Draft<StockLocationInput>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let Draft { value: input, faults, .. } = body;
    let id: Result<Location, InvalidLocation> = path.parse();
    let id = faults.check_with("location", id)?;
    if find(&call, &id).await?.is_none() && all(&call).await?.len() >= LOCATIONS_MAX {
        let detail = format!("a shop has at most {LOCATIONS_MAX} locations");
        return Err(Error::new(Code::WrongState, detail));
    }
    let (row, outcome) = change(&call, &id, cause, |_| {
        Ok(StockLocation {
            id: id.clone(),
            name: input.name.clone().into(),
            address: input.address.clone().map(Into::into),
            for_sale: input.for_sale.unwrap_or(true),
            deleted: false,
        })
    })
    .await?;
    let shape = StockLocationShape::from(&row);
    let response = match outcome {
        WriteOutcome::Created => created(row.version, &format!("/v1/admin/locations/{id}"), &shape),
        _ => versioned(StatusCode::OK, row.version, &shape),
    };
    Ok(wrote(response, &row))
}

/// Changes a location.
#[utoipa::path(patch, path = "/v1/admin/locations/{location}", tag = "stock",
    request_body = StockLocationPatch, params(("location" = inline(LocationInput), Path)),
    responses((status = 200, description = "The location", body = StockLocationShape)))]
pub async fn update_location(
    call: RequestParts,
    path: web::Path<String>,
    body: Json<StockLocationPatch>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let id = id(&path, "location")?;
    let (row, _) = change(&call, &id, cause, |there| {
        let mut location = there.ok_or_else(|| Error::not_found("location"))?;
        let patch = body.value.clone();
        location.name = patch.name.map_or(location.name, Into::into);
        if let Some(address) = patch.address {
            location.address = address.map(Into::into);
        }
        location.for_sale = patch.for_sale.unwrap_or(location.for_sale);
        Ok(location)
    })
    .await?;
    let shape = StockLocationShape::from(&row);
    Ok(wrote(versioned(StatusCode::OK, row.version, &shape), &row))
}

/// Deletes a location that has no stock.
#[utoipa::path(delete, path = "/v1/admin/locations/{location}", tag = "stock",
    params(("location" = inline(LocationInput), Path)),
    responses((status = 204, description = "The location is deleted")))]
pub async fn delete_location(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let id: Location = id(&path, "location")?;
    known::rows_are_current(&call).await?;
    if call.store().has_stock_at(&id, true).await? {
        let detail = "there are units at the location, or units on their way to it: move or write \
                      them off first";
        return Err(Error::new(Code::WrongState, detail));
    }
    let (row, _) = change(&call, &id, call.cause(0), |there| {
        let location = there.ok_or_else(|| Error::not_found("location"))?;
        Ok(StockLocation { deleted: true, ..location })
    })
    .await?;
    Ok(wrote(HttpResponse::NoContent().finish(), &row))
}

/// A location of the shop; `None` if there is none of this id.
async fn find(call: &RequestParts, id: &Location) -> Result<Option<Row<StockLocation>>, Error> {
    if !is_known((call.node(), call.store()), id).await? {
        return Ok(None);
    }
    let locations = &call.node().locations;
    let known = locations.find(id).or_else(|| locations.deleted(id));
    Ok(Some(known.unwrap_or_else(|| undescribed(id))))
}

/// Replaces a location by the one that `next` returns for the current one (`None` if there is no
/// such location). If another writer changes the location in between, `next` is called again.
async fn change(
    call: &RequestParts,
    id: &Location,
    cause: Cause,
    next: impl Fn(Option<StockLocation>) -> Result<StockLocation, Error>,
) -> Result<(Row<StockLocation>, WriteOutcome), Error> {
    let locations = &call.node().locations;
    for _ in 0..TRIES_MAX {
        let shown = find(call, id).await?;
        let there = locations.rows.get(id).await?;
        let version = shown.as_ref().map_or(0, |row| row.version);
        let new = shown.is_none();
        if !call.if_match.allows(version) || (new && call.if_match == IfMatch::AnyVersion) {
            return Err(version_mismatch(version));
        }
        let location = next(shown.map(|row| row.value))?;
        // A location that was deleted has a row.
        let expect = there.map_or(Expect::Absent, |row| Expect::Version(row.version));
        match locations.put(location, expect, cause.clone()).await {
            // Another writer was faster.
            Err(row_host::Error::VersionMismatch { .. } | row_host::Error::Exists) => {}
            Err(error) => return Err(error.into()),
            Ok((row, _)) if new => return Ok((row, WriteOutcome::Created)),
            Ok((row, _)) => return Ok((row, WriteOutcome::Updated)),
        }
    }
    Err(row_host::Error::TryAgain.into())
}

fn wrote(response: HttpResponse, row: &Row<StockLocation>) -> HttpResponse {
    read_your_writes::wrote(response, StockLocation::entity_id(&row.value.id), row.version)
}
