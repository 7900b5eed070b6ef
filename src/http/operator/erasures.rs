//! Handlers that erase a person's data, for whoever may do so. The flow is in `actors::flows::erasure`.

use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actors::flows::erasure::{Erased, ErasureError, KeptBecause, KeptOrder};
use crate::domain::background_job::JobKind;
use crate::domain::entity::Cause;
use crate::http::docs::schemas;
use crate::http::edge::call::RequestParts;
use crate::http::edge::checked;
use crate::http::edge::error::Error;
use crate::http::edge::json_body::Json;
use crate::http::edge::security_log;
use crate::telemetry::security::SecurityEvent;

/// The person to be erased.
#[derive(Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ErasureInput {
    /// The email address of their carts and orders, in upper or lower case.
    #[garde(dive)]
    email: checked::Email,
}

/// An order that keeps its personal data for now. They are erased as soon as they can be.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeptOrderShape {
    #[schema(value_type = schemas::OrderId)]
    order: String,
    /// `incomplete`: it is not paid and shipped, or cancelled; `retention`: the law asks for it, as
    /// `shop.retention_days` says; `legal_hold`: somebody has put it under a legal hold.
    #[schema(value_type = String, example = "retention")]
    because: KeptBecause,
    /// When its data can be erased; `null` if that is not known.
    until: Option<String>,
}

/// What an erasure has done.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErasureShape {
    /// The orders whose personal data nobody can read any more.
    #[schema(value_type = Vec<schemas::OrderId>)]
    orders: Vec<String>,
    /// The number of carts of which the same holds.
    carts: usize,
    /// The orders that keep theirs for now.
    kept: Vec<KeptOrderShape>,
}

impl From<Erased> for ErasureShape {
    fn from(done: Erased) -> Self {
        let kept = |KeptOrder { order, because, until }: KeptOrder| KeptOrderShape {
            order: order.to_string(),
            because,
            until: until.map(|until| until.to_string()),
        };
        Self {
            orders: done.orders.iter().map(ToString::to_string).collect(),
            carts: done.carts,
            kept: done.kept.into_iter().map(kept).collect(),
        }
    }
}

impl From<ErasureError> for Error {
    fn from(error: ErasureError) -> Self {
        match error {
            ErasureError::Store(error) => error.into(),
            ErasureError::Order(error) => error.into(),
            ErasureError::Cart(error) => error.into(),
        }
    }
}

/// Erases a person's data: destroys the keys with which names, addresses and the like of their carts
/// and orders are sealed, wherever they were copied to, and the files of exports. It cannot be undone.
/// Money, goods and times stay.
#[utoipa::path(post, path = "/v1/admin/erasures", tag = "ops", request_body = ErasureInput,
    responses((status = 200, description = "What was erased, and what is kept for now", body = ErasureShape)))]
pub async fn erase_person(
    call: RequestParts,
    request: HttpRequest,
    body: Json<ErasureInput>,
) -> Result<HttpResponse, Error> {
    let cause = Cause { idempotency: None, ..call.cause(body.digest) };
    let email: String = body.value.email.into();
    let done = Box::pin(call.node().flows.erasure.erase(&email, &cause)).await?;
    // The files of exports hold what was read before.
    call.store().remove_ended_jobs(JobKind::ExportOrders.as_str()).await?;
    if !call.store().empty_log_of_destroyed().await? {
        tracing::info!("destroyed keys stay in the write-ahead log until a long read has ended");
    }
    let (orders, kept) = (done.orders.len(), done.kept.len());
    let about = format!("{orders} orders erased, {kept} kept for now");
    security_log::log(SecurityEvent::PersonErased, &request, call.principal(), &about);
    Ok(HttpResponse::Ok().json(ErasureShape::from(done)))
}
