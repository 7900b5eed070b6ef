//! Handlers of the webhooks of payment providers. A webhook is verified and matched with an order
//! in `actors::flows`; a status of 2xx means that it was carried out or stored.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::actors::flows::webhook::WebhookRefusal;
use crate::http::edge::call::RequestParts;
use crate::http::edge::error::Error;
use crate::http::edge::json_body::Raw;
use crate::http::edge::problem::Code;
use crate::providers::payment::WebhookRequest;

/// Receives a webhook of a payment provider.
#[utoipa::path(post, path = "/v1/webhooks/{provider}", tag = "webhooks",
    params(("provider" = String, Path, description = "The provider's name")),
    request_body(content = String, description = "The webhook as the provider sends it", content_type = "application/json"),
    responses((status = 204, description = "The webhook is stored")))]
pub async fn take_webhook(
    call: RequestParts,
    path: web::Path<String>,
    request: HttpRequest,
    body: Raw,
) -> Result<HttpResponse, Error> {
    take(&call, &path, &request, &body).await
}

/// Receives a webhook of a payment provider, for one of several accounts.
#[utoipa::path(post, path = "/v1/webhooks/{provider}/{account}", tag = "webhooks",
    params(("provider" = String, Path, description = "The provider's name"),
        ("account" = String, Path, description = "The name of the account in kontor's configuration")),
    request_body(content = String, description = "The webhook as the provider sends it", content_type = "application/json"),
    responses((status = 204, description = "The webhook is stored")))]
pub async fn take_account_webhook(
    call: RequestParts,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    body: Raw,
) -> Result<HttpResponse, Error> {
    let (provider, account) = path.into_inner();
    take(&call, &format!("{provider}/{account}"), &request, &body).await
}

async fn take(
    call: &RequestParts,
    provider: &str,
    request: &HttpRequest,
    body: &Raw,
) -> Result<HttpResponse, Error> {
    call.node().flows.webhooks.accept(provider, &whole(request, &body.0)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// All parts of the request: the provider's adapter decides which of them prove the sender.
fn whole<'a>(request: &'a HttpRequest, body: &'a [u8]) -> WebhookRequest<'a> {
    let headers = request.headers().iter();
    WebhookRequest {
        method: request.method().as_str(),
        path: request.path(),
        query: request.query_string(),
        headers: headers.map(|(name, value)| (name.as_str(), value.as_bytes())).collect(),
        body,
    }
}

impl From<WebhookRefusal> for Error {
    fn from(refusal: WebhookRefusal) -> Self {
        match refusal {
            WebhookRefusal::UnknownProvider => Self::not_found("payment provider"),
            WebhookRefusal::Unauthorized(why) => Self::new(Code::Unauthorized, why),
            WebhookRefusal::Malformed(why) => Self::new(Code::BadRequest, why),
            WebhookRefusal::TryAgain => Self::new(Code::TryAgain, "the webhook was not stored"),
        }
    }
}
