//! The sandbox's routes, and the parsing of requests. `service.rs` carries the requests out.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::web::{self, Bytes, Data, Path};
use actix_web::{FromRequest, HttpRequest, HttpResponse, error};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::book::Answered;
use super::fact::{BookedKind, Endpoint};
use super::faults::Faults;
use super::problem::Problem;
use super::service::{AuthorizeBody, Operate, SandboxService, check_reference};

const BODY_BYTES_MAX: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const ACCOUNT_BYTES_MAX: usize = 64;
const KEY_BYTES_MAX: usize = 255;
const PAGE_MAX: usize = 200;
const PAGE_DEFAULT: usize = 50;

type Answer = Result<HttpResponse, Problem>;

/// Registers all routes.
pub fn routes(service: Arc<SandboxService>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        config
            .app_data(Data::from(service))
            .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
            .service(
                resource("/v1/payments")
                    .route(web::post().to(authorize))
                    .route(web::get().to(list_payments)),
            )
            .service(resource("/v1/payments/{id}").route(web::get().to(get_payment)))
            .service(resource("/v1/payments/{id}/captures").route(web::post().to(capture)))
            .service(resource("/v1/payments/{id}/void").route(web::post().to(void)))
            .service(resource("/v1/payments/{id}/refunds").route(web::post().to(refund)))
            .service(resource("/v1/cancellations").route(web::post().to(cancel)))
            .service(resource("/v1/webhook_endpoint").route(web::put().to(set_endpoint)))
            .service(
                resource("/v1/faults")
                    .route(web::put().to(set_faults))
                    .route(web::get().to(get_faults)),
            )
            .default_service(web::to(not_found));
    }
}

fn resource(path: &str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(method_not_allowed))
}

async fn not_found() -> Answer {
    Err(Problem::not_found())
}

async fn method_not_allowed() -> Answer {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    Err(Problem::new(status, "method_not_allowed", "the method is not allowed here"))
}

async fn authorize(service: Data<SandboxService>, call: AccountRequest) -> Answer {
    let asked: AuthorizeBody = call.read()?;
    let answered = service.into_inner().authorize(&call.account, call.key()?, &asked).await?;
    Ok(shown(&answered))
}

async fn capture(service: Data<SandboxService>, id: Path<String>, call: AccountRequest) -> Answer {
    operate(service, &id, BookedKind::Capture, call).await
}

async fn void(service: Data<SandboxService>, id: Path<String>, call: AccountRequest) -> Answer {
    operate(service, &id, BookedKind::Void, call).await
}

async fn refund(service: Data<SandboxService>, id: Path<String>, call: AccountRequest) -> Answer {
    operate(service, &id, BookedKind::Refund, call).await
}

async fn operate(
    service: Data<SandboxService>,
    id: &str,
    kind: BookedKind,
    call: AccountRequest,
) -> Answer {
    let asked: Operate = call.read()?;
    let service = service.into_inner();
    let answered = service.operate(&call.account, call.key()?, id, kind, &asked).await?;
    Ok(shown(&answered))
}

fn shown(answered: &Answered) -> HttpResponse {
    HttpResponse::build(answered.status).json(&answered.payment)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    pub(super) reference: String,
}

async fn cancel(service: Data<SandboxService>, call: AccountRequest) -> Answer {
    let asked: Cancel = call.read()?;
    let cancelled = service.into_inner().cancel(&call.account, &asked.reference).await?;
    Ok(HttpResponse::Ok().json(cancelled))
}

async fn get_payment(
    service: Data<SandboxService>,
    id: Path<String>,
    call: AccountRequest,
) -> Answer {
    let found = service.read_book(|book| Ok(book.by_id(&call.account, &id).map(|one| one.view())));
    Ok(HttpResponse::Ok().json(found.await?.ok_or_else(Problem::not_found)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PaymentListQuery {
    pub(super) reference: Option<String>,
    after: Option<String>,
    pub(super) limit: Option<usize>,
}

async fn list_payments(
    service: Data<SandboxService>,
    request: HttpRequest,
    call: AccountRequest,
) -> Answer {
    let list = web::Query::<PaymentListQuery>::from_query(request.query_string())
        .map_err(|error| Problem::invalid("invalid_query", error.to_string()))?
        .into_inner();
    let limit = list.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::invalid("invalid_limit", "a page has 1 to 200 payments"));
    }
    let (data, more) = match &list.reference {
        Some(reference) => {
            check_reference(reference)?;
            let found = service.read_book(|book| {
                Ok(book.by_reference(&call.account, reference).map(|one| one.view()))
            });
            (found.await?.into_iter().collect(), false)
        }
        None => {
            service.read_book(|book| book.page(&call.account, list.after.as_deref(), limit)).await?
        }
    };
    let next = data.last().filter(|_| more).map(|last| last.id.clone());
    Ok(HttpResponse::Ok().json(json!({ "data": data, "next_cursor": next })))
}

async fn set_endpoint(service: Data<SandboxService>, call: AccountRequest) -> Answer {
    let endpoint: Endpoint = call.read()?;
    let url = endpoint.url.clone();
    service.subscribe(&call.account, endpoint).await?;
    Ok(HttpResponse::Ok().json(json!({ "url": url })))
}

async fn set_faults(service: Data<SandboxService>, call: AccountRequest) -> Answer {
    let faults: Faults = call.read()?;
    service.desired.set(&call.account, faults)?;
    Ok(HttpResponse::Ok().json(faults))
}

async fn get_faults(service: Data<SandboxService>, call: AccountRequest) -> Answer {
    Ok(HttpResponse::Ok().json(service.desired.get(&call.account)))
}

/// A request with its account, idempotency key and body.
struct AccountRequest {
    account: String,
    key: Option<String>,
    body: Bytes,
}

impl AccountRequest {
    fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        // The parser's message may quote the input, for example a card number.
        serde_json::from_slice(&self.body).map_err(|error| {
            let detail =
                format!("the body does not match this request, at column {}", error.column());
            Problem::invalid("invalid_body", detail)
        })
    }

    fn key(&self) -> Result<&str, Problem> {
        self.key.as_deref().ok_or_else(|| {
            let detail = "Idempotency-Key must be 1 to 255 visible ASCII characters";
            Problem::invalid("idempotency_key_required", detail)
        })
    }
}

impl FromRequest for AccountRequest {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let account = account(request.headers());
        let key = request.headers().get("Idempotency-Key").and_then(|key| key.to_str().ok());
        let key = key
            .filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()))
            .filter(|key| key.bytes().all(|byte| byte.is_ascii_graphic()))
            .map(str::to_owned);
        let body = Bytes::from_request(request, payload);
        Box::pin(async move {
            let account = account?;
            let body = tokio::time::timeout(BODY_TIMEOUT, body).await.map_err(|_| {
                let status = StatusCode::REQUEST_TIMEOUT;
                Problem::new(status, "body_timeout", "the body took more than 10 seconds")
            })?;
            let body = body.map_err(|error| body_problem(&error))?;
            Ok(Self { account, key, body })
        })
    }
}

fn body_problem(error: &actix_web::Error) -> Problem {
    if let Some(error::PayloadError::Overflow) = error.as_error() {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return Problem::new(status, "body_too_large", "a body has at most 65536 bytes");
    }
    Problem::invalid("invalid_body", "the body cannot be read")
}

pub(super) fn account(headers: &HeaderMap) -> Result<String, Problem> {
    let account = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .filter(|account| (1..=ACCOUNT_BYTES_MAX).contains(&account.len()))
        .filter(|account| {
            account.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        });
    account.map(str::to_owned).ok_or_else(|| {
        let detail = "Authorization must be Bearer and an account of 1 to 64 letters, digits, _, -";
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    })
}
