//! What is said and shown of delivery zones, and the handlers of their routes.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use kontor::actors::engine::row_host::{RowHost, WriteOutcome};
use kontor::domain::money::AMOUNT_MAX;
use kontor::domain::versioned::Versioned as _;
use kontor::http::api::shape::Page;
use kontor::http::docs::schemas;
use kontor::http::edge::call::{RequestParts, created, versioned};
use kontor::http::edge::checked::Country;
use kontor::http::edge::error::Error;
use kontor::http::edge::input::{List, Text, Whole};
use kontor::http::edge::json_body::Json;
use kontor::http::edge::query::{Query, cursor, cut};
use kontor::http::edge::read_your_writes;
use kontor::store::versioned::{Row, list_behind};

use crate::recipe::delivery_zone::domain::delivery_zone::{Countries, DeliveryZone};

/// A request to create or replace a zone.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliveryZoneInput {
    /// The name that buyers see.
    #[garde(dive)]
    name: Text<1, 100>,
    /// ISO 3166-1 alpha-2 codes.
    #[garde(dive)]
    countries: CountryList,
    /// Minor units of the shop's currency.
    #[garde(dive)]
    fee: Whole<0, { AMOUNT_MAX }>,
    /// Whether a cart can choose it.
    #[garde(skip)]
    active: bool,
}

/// The countries of a zone.
pub type CountryList = List<Country, 0, 250>;

/// A delivery zone.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeliveryZoneShape {
    /// The code of the zone.
    code: String,
    name: String,
    countries: BTreeSet<String>,
    fee: i64,
    active: bool,
    version: i64,
}

impl From<&Row<DeliveryZone>> for DeliveryZoneShape {
    fn from(row: &Row<DeliveryZone>) -> Self {
        let DeliveryZone { code, name, countries, fee, active } = row.value.clone();
        Self { code, name, countries: countries.0, fee, active, version: row.version }
    }
}

/// Lists delivery zones.
#[utoipa::path(get, path = "/v1/admin/delivery-zones", tag = "delivery zones",
    params(("Kontor-After" = Option<String>, Header, description = "`Kontor-Position` values of writes that the list must include"),
        ("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of zones, by code", body = Page<DeliveryZoneShape>)))]
pub async fn list_delivery_zones(
    call: RequestParts,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let mut query = Query::of(&request, &["limit", "after"])?;
    let (limit, after) = (query.limit(), query.after::<String>("delivery_zones"));
    let writes = query.faults.note(read_your_writes::named(&request));
    query.check()?;
    let seen = read_your_writes::wait(&call, writes).await?;
    let mut rows = list_behind::<DeliveryZone>(call.store(), after.as_ref(), limit + 1).await?;
    let more = cut(&mut rows, limit);
    let last = rows.last().map(|row| cursor("delivery_zones", &row.value.code));
    let data = rows.iter().map(DeliveryZoneShape::from).collect();
    let page = Page::<DeliveryZoneShape> { data, next_cursor: last.filter(|_| more) };
    Ok(seen.mark(HttpResponse::Ok().json(page)))
}

/// Returns a delivery zone.
#[utoipa::path(get, path = "/v1/admin/delivery-zones/{code}", tag = "delivery zones",
    params(("code" = String, Path)),
    responses((status = 200, description = "The zone", body = DeliveryZoneShape)))]
pub async fn get_delivery_zone(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let row = zones(&call)?.get(&path).await?.ok_or_else(|| Error::not_found("delivery zone"))?;
    Ok(versioned(StatusCode::OK, row.version, &DeliveryZoneShape::from(&*row)))
}

/// Creates or replaces a delivery zone.
#[utoipa::path(put, path = "/v1/admin/delivery-zones/{code}", tag = "delivery zones",
    request_body = DeliveryZoneInput, params(("code" = String, Path)),
    responses((status = 200, description = "The zone", body = DeliveryZoneShape),
        (status = 201, description = "The zone was created", body = DeliveryZoneShape)))]
pub async fn put_delivery_zone(
    call: RequestParts,
    path: web::Path<String>,
    body: Json<DeliveryZoneInput>,
) -> Result<HttpResponse, Error> {
    let code = path.into_inner();
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if !(1..=32).contains(&code.len()) || !code.bytes().all(fits) {
        let rule = "must be 1 to 32 lower-case letters, digits and '-'";
        return Err(Error::field("code", rule));
    }
    let cause = call.cause(body.digest);
    let DeliveryZoneInput { name, countries, fee, active } = body.value;
    let countries = countries.into_vec().into_iter().map(String::from).collect();
    let (name, countries, fee) = (name.into(), Countries(countries), fee.get());
    let zone = DeliveryZone { code, name, countries, fee, active };
    let zones = zones(&call)?;
    let (row, change) = call.if_match.put(&zones, zone, cause).await?;
    let (shape, code) = (DeliveryZoneShape::from(&row), &row.value.code);
    let response = if change == WriteOutcome::Created {
        created(row.version, &format!("/v1/admin/delivery-zones/{code}"), &shape)
    } else {
        versioned(StatusCode::OK, row.version, &shape)
    };
    Ok(read_your_writes::wrote(response, DeliveryZone::entity_id(code), row.version))
}

/// The zones of a node that was started with them.
fn zones(call: &RequestParts) -> Result<Arc<RowHost<DeliveryZone>>, Error> {
    call.node().rows.of().ok_or_else(|| Error::not_found("delivery zone"))
}
