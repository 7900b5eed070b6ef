//! The security events of requests: their caller, and the address that they came from.

use actix_web::http::header;
use actix_web::{HttpMessage as _, HttpRequest};

use super::client_address::{TrustedProxies, shown};
use super::data::data;
use super::error::Error;
use super::principal::Principal;
use super::problem::Code;
use super::router::RoutedOperation;
use super::session;
use crate::telemetry::security::SecurityEvent;

/// Logs an event that the caller of a request has caused.
pub fn log(event: SecurityEvent, request: &HttpRequest, caller: &Principal, about: &str) {
    let who = match caller {
        Principal::Anyone => "anyone".to_owned(),
        known => known.by(),
    };
    event.log(&who, &address(request), about);
}

/// The address of a request's client, for the log.
#[must_use]
pub fn address(request: &HttpRequest) -> String {
    let from = data::<TrustedProxies>(request).map(|proxies| proxies.client(request));
    from.map_or_else(|_| "unknown".to_owned(), shown)
}

/// Logs the refusal of a request if it is a security event.
pub fn log_refusal(request: &HttpRequest, refused: &Error) {
    let operation = operation(request);
    let headers = request.headers();
    let proven = headers.contains_key(header::AUTHORIZATION) || session::cookie(headers).is_some();
    let Some(event) = event_of(operation, refused.code(), proven) else { return };
    let caller = request.extensions().get::<Principal>().cloned().unwrap_or_default();
    let of = request.match_info().get("provider").map_or(String::new(), |name| format!(" {name}"));
    log(event, request, &caller, &format!("{operation}{of}: {}", refused.detail()));
}

/// Logs that a token was wrong, where the answer does not say so.
pub fn log_wrong_token(request: &HttpRequest, about: &str) {
    let about = format!("{}: {about}", operation(request));
    log(SecurityEvent::CredentialRefused, request, &Principal::Anyone, &about);
}

fn operation(request: &HttpRequest) -> &'static str {
    request.extensions().get::<RoutedOperation>().map_or("none", |op| op.0)
}

/// The event of a refusal; `proven`: the request had an `Authorization`, or the cookie of a session.
fn event_of(operation: &str, code: Code, proven: bool) -> Option<SecurityEvent> {
    Some(match (operation, code) {
        (_, Code::TooManyTries) => SecurityEvent::LockedOut,
        (_, Code::Forbidden) => SecurityEvent::ScopeRefused,
        (_, Code::ForbiddenOrigin) => SecurityEvent::OriginRefused,
        ("create_session", Code::Unauthorized) => SecurityEvent::SignInRefused,
        ("take_webhook" | "take_account_webhook", Code::Unauthorized) => {
            SecurityEvent::WebhookForged
        }
        ("answer_node", Code::Unauthorized) => SecurityEvent::NodeCallForged,
        ("open_live", Code::Unauthorized) => SecurityEvent::CredentialRefused,
        (_, Code::Unauthorized) if proven => SecurityEvent::CredentialRefused,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Routes;

    #[test]
    fn a_refusal_without_a_credential_is_no_event() {
        assert_eq!(event_of("list_orders", Code::Unauthorized, false), None);
        assert_eq!(event_of("list_orders", Code::NotFound, true), None);
        assert_eq!(event_of("list_orders", Code::RateLimited, true), None);
    }

    #[test]
    fn every_operation_that_is_named_exists() {
        let forged = |operation| event_of(operation, Code::Unauthorized, false);
        let named = Routes::standard().all().filter(|one| forged(one.operation).is_some()).count();
        assert_eq!(named, 5);
    }
}
