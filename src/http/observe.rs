//! The outermost middleware, which every request passes through: request id, log line, metrics, the
//! headers of the answer and the problem body of an error.
//!
//! The dispatch of a request to its handler is in `edge::router`.

use std::sync::Arc;
use std::time::Instant;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, web};

use super::edge::call::RequestId;
use super::edge::error::Error;
use super::edge::request_metrics::RequestMetrics;
use super::edge::router::RoutedOperation;
use super::edge::{connection, cross_origin, problem_body, security_log};
use super::live::Live;

/// The middleware around all routes.
pub async fn observe(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let began = Instant::now();
    let id = request_id(request.headers());
    let metrics = request.app_data::<web::Data<RequestMetrics>>().cloned();
    request.extensions_mut().insert(RequestId(id.clone()));
    let _works = connection::works(request.request());
    let _under_way = metrics.as_ref().map(|metrics| metrics.begin());
    let response = next.call(request).await;
    let took = began.elapsed();
    let mut response = match response {
        Ok(response) => explained(response, &id),
        Err(error) => {
            if let Some(metrics) = &metrics {
                metrics.end("none", error.as_response_error().status_code(), took);
            }
            return Err(error);
        }
    };
    let operation =
        response.request().extensions().get::<RoutedOperation>().map_or("none", |op| op.0);
    let status = response.status();
    if let Some(metrics) = &metrics {
        metrics.end(operation, status, took);
    }
    if let Some(live) = response.request().app_data::<web::Data<Live>>() {
        live.request(operation, status, took);
    }
    tracing::debug!(
        request_id = &*id,
        method = %response.request().method(),
        operation,
        status = status.as_u16(),
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "answered"
    );
    let path = response.request().path();
    let (api, page) = (path.starts_with("/v1/"), path.starts_with("/docs"));
    add_headers(response.headers_mut(), &id, api, page);
    let again = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    if again && !response.headers().contains_key(header::RETRY_AFTER) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(response)
}

/// The middleware around [`cross_origin::cors`], which refuses preflight requests without the others:
/// its refusals become problems.
///
/// [`cross_origin::cors`]: super::edge::cross_origin::cors
pub async fn explain_preflight(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let response = next.call(request).await?;
    let refused = response.response().error().and_then(cross_origin::refused);
    let Some(refused) = refused else { return Ok(response) };
    let (request, _) = response.into_parts();
    let id = request_id(request.headers());
    let mut response = problem_body::respond(&refused, &id);
    add_headers(response.headers_mut(), &id, true, false);
    Ok(ServiceResponse::new(request, response))
}

/// Writes the problem body of an answer that is an error.
fn explained(response: ServiceResponse<BoxBody>, id: &str) -> ServiceResponse<BoxBody> {
    let rendered = match response.response().error() {
        Some(error) => match error.as_error::<Error>() {
            Some(ours) => {
                ours.log(id);
                security_log::log_refusal(response.request(), ours);
                problem_body::respond(ours, id)
            }
            None => {
                let status = error.as_response_error().status_code();
                if status.is_server_error() {
                    tracing::error!(request_id = id, %error, "a request failed");
                }
                problem_body::respond(&Error::of_status(status), id)
            }
        },
        None => return response,
    };
    let (request, _) = response.into_parts();
    ServiceResponse::new(request, rendered)
}

/// The id in the request's `X-Request-Id` header if it is valid, or else a new one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let own = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    let good = |text: &&str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (1..=64).contains(&text.len()) && text.bytes().all(letter)
    };
    match own.filter(good) {
        Some(text) => text.into(),
        None => format!("req_{:032x}", rand::random::<u128>()).into(),
    }
}

fn add_headers(headers: &mut HeaderMap, id: &str, api: bool, page: bool) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    if api && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if page && !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        let policy = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; \
                      frame-ancestors 'none'; base-uri 'none'";
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    }
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_kept_only_if_it_is_harmless() {
        let id = |text: &str| {
            let mut headers = HeaderMap::new();
            let name = HeaderName::from_static("x-request-id");
            headers.insert(name, HeaderValue::from_str(text).unwrap());
            request_id(&headers)
        };
        assert_eq!(&*id("abc-1.2_3"), "abc-1.2_3");
        for bad in ["", "a b", "a\"b", &"x".repeat(65)] {
            assert!(id(bad).starts_with("req_"), "{bad}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
