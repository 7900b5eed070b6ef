//! The route for calls from other nodes over HTTP, which are used without NATS or while NATS is
//! down. `bus` checks the call's signature, before the body is read, and passes the call to the node.

use actix_web::http::header::HeaderName;
use actix_web::{HttpRequest, HttpResponse, web};

use crate::bus::Calls;
use crate::bus::calls::{CALL_BYTES_MAX, CallFailure, CallRefusal, MAC};
use crate::http::edge::error::Error;
use crate::http::edge::json_body;
use crate::http::edge::problem::Code;

/// Receives a call from another node.
#[utoipa::path(post, path = "/v1/node/calls", tag = "health",
    request_body(content = String, description = "The call of the other node", content_type = "application/octet-stream"),
    responses((status = 200, description = "The answer of this node", body = String, content_type = "application/octet-stream"),
        (status = 504, description = "The caller's deadline has passed")))]
pub async fn answer_node(
    calls: web::Data<Option<Calls>>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Error> {
    let Some(calls) = calls.as_ref().as_ref() else {
        return Err(Error::not_found("cluster"));
    };
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let call = calls.admit_http(header).map_err(refused)?;
    let body = json_body::read_at_most(&request, payload, CALL_BYTES_MAX).await?;
    let call = calls.admit_body(call, body).map_err(refused)?;
    let id = call.id.clone();
    match calls.answer("http", call).await {
        Ok(answer) => {
            let signature = (MAC, calls.sign_answer(&id, &answer));
            let mut response = HttpResponse::Ok();
            response.content_type("application/octet-stream").insert_header(signature);
            Ok(response.body(answer))
        }
        Err(CallFailure::Refused(refusal)) => {
            let mut error = refused(refusal);
            for (name, value) in calls.refusal_headers(&id, refusal) {
                if let Ok(name) = HeaderName::try_from(name) {
                    error = error.header(name, value);
                }
            }
            Err(error)
        }
        Err(CallFailure::Expired) => Ok(HttpResponse::GatewayTimeout().finish()),
    }
}

/// The answer to a refused call. Only from one that is signed the calling node knows that nothing was
/// done.
fn refused(refusal: CallRefusal) -> Error {
    let code = match refusal {
        CallRefusal::Unsigned | CallRefusal::Late | CallRefusal::Repeated => Code::Unauthorized,
        CallRefusal::Busy => Code::Overloaded,
        CallRefusal::TooLarge => Code::PayloadTooLarge,
        CallRefusal::Closed => Code::NotFound,
    };
    Error::new(code, refusal.to_string())
}
