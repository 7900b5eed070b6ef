//! Webhooks of payment providers. What they say is checked and matched a floor below; an answer
//! of 2xx means that it is kept.

use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};

use crate::actors::flows::webhook::WebhookRefusal;
use crate::http::edge::call::Call;
use crate::http::edge::error::Error;
use crate::http::edge::json_body::Raw;
use crate::http::edge::problem::Code;

/// Takes a provider's webhook.
#[utoipa::path(post, path = "/v1/webhooks/{provider}", tag = "webhooks",
    params(("provider" = String, Path, description = "The provider's name")),
    request_body(content = String, description = "What the provider sends, byte for byte", content_type = "application/json"),
    responses((status = 204, description = "It is kept")))]
pub async fn take_webhook(
    call: Call,
    path: web::Path<String>,
    request: HttpRequest,
    body: Raw,
) -> Result<HttpResponse, Error> {
    let signature = signature(request.headers(), &path);
    call.node().flows.webhooks.take(&path, signature, &body.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The header in which a provider signs: `Sandbox-Signature`, `Stripe-Signature` and the like.
fn signature<'a>(headers: &'a HeaderMap, provider: &str) -> &'a str {
    let value = headers.get(format!("{provider}-signature"));
    value.and_then(|value| value.to_str().ok()).unwrap_or("")
}

impl From<WebhookRefusal> for Error {
    fn from(refusal: WebhookRefusal) -> Self {
        match refusal {
            WebhookRefusal::UnknownProvider => Self::not_found("payment provider"),
            WebhookRefusal::Unauthorized(why) => Self::new(Code::Unauthorized, why),
            WebhookRefusal::Malformed(why) => Self::new(Code::BadRequest, why),
            WebhookRefusal::TryAgain => Self::new(Code::TryAgain, "the webhook was not kept"),
        }
    }
}
