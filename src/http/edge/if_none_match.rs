//! Validators of answers: an `ETag` made of an answer's content, and 304 for a client that has this
//! answer already (`If-None-Match`, RFC 9110, section 13.1.2). The version of a resource as its
//! `ETag` is in `call`; conditions of writes are in `if_match`.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// The number of bytes of a digest in an `ETag`.
const TAG_BYTES: usize = 16;

/// Marks an answer that can change without its version, such as that of a cart, whose prices are
/// those of its products: it is sent again although its `ETag` is known.
#[derive(Clone, Copy, Debug)]
pub struct ChangesBetweenVersions;

/// An `ETag` made of content, without its quotes.
#[must_use]
pub fn tag_of(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    URL_SAFE_NO_PAD.encode(digest.get(..TAG_BYTES).unwrap_or_default())
}

/// A JSON answer that anybody may see: its `ETag` is made of its content, and caches may keep it for
/// this time before they ask again.
#[must_use]
pub fn public(body: Vec<u8>, lasts: Duration) -> HttpResponse {
    let tag = tag_of(&body);
    let keep = match lasts.as_secs() {
        0 => "no-cache".to_owned(),
        secs => format!("public, max-age={secs}"),
    };
    HttpResponse::Ok()
        .insert_header((header::ETAG, format!("\"{tag}\"")))
        .insert_header((header::CACHE_CONTROL, keep))
        .content_type(header::ContentType::json())
        .body(body)
}

/// Replaces an answer to a read by 304 if the client has it already.
#[must_use]
pub fn answer(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let request = response.request();
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    let changes = response.response().extensions().contains::<ChangesBetweenVersions>();
    let known =
        response.headers().get(header::ETAG).is_some_and(|tag| knows(request.headers(), tag));
    if !read || changes || !known || response.status() != StatusCode::OK {
        return response;
    }
    response.map_body(|head, _| {
        head.status = StatusCode::NOT_MODIFIED;
        head.headers_mut().remove(header::CONTENT_TYPE);
        BoxBody::new(())
    })
}

/// Whether a client's `If-None-Match` names this `ETag`. The comparison is weak: `W/` is ignored.
fn knows(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let tag = strong(tag.to_str().unwrap_or_default());
    let values = headers.get_all(header::IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    let mut all = values.flat_map(|value| value.split(',')).map(str::trim);
    all.any(|one| one == "*" || (!tag.is_empty() && strong(one) == tag))
}

fn strong(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn status(method: Method, header: &str, response: HttpResponse) -> u16 {
        let request =
            TestRequest::default().method(method).insert_header(("If-None-Match", header));
        let response = ServiceResponse::new(request.to_http_request(), response);
        answer(response).status().as_u16()
    }

    #[test]
    fn an_answer_that_the_client_has_is_not_sent_again() {
        let seven = || HttpResponse::Ok().insert_header((header::ETAG, "\"7\"")).finish();
        for (header, expected) in [
            ("\"7\"", 304),
            ("W/\"7\"", 304),
            ("\"6\", \"7\"", 304),
            ("*", 304),
            ("\"6\"", 200),
            ("7", 200),
            ("", 200),
        ] {
            assert_eq!(status(Method::GET, header, seven()), expected, "{header}");
            assert_eq!(status(Method::HEAD, header, seven()), expected, "{header}");
            assert_eq!(status(Method::PUT, header, seven()), 200, "{header}");
        }
        assert_eq!(status(Method::GET, "*", HttpResponse::Ok().finish()), 200);
        let mut changing = seven();
        changing.extensions_mut().insert(ChangesBetweenVersions);
        assert_eq!(status(Method::GET, "\"7\"", changing), 200);
    }

    #[test]
    fn a_validator_follows_the_content() {
        let tag = |body: &[u8]| {
            let response = public(body.to_vec(), Duration::from_secs(5));
            assert_eq!(response.headers().get(header::CACHE_CONTROL).unwrap(), "public, max-age=5");
            response.headers().get(header::ETAG).unwrap().clone()
        };
        assert_eq!(tag(b"{}"), tag(b"{}"));
        assert_ne!(tag(b"{}"), tag(b"{ }"));
        let asked_again = public(Vec::new(), Duration::ZERO);
        assert_eq!(asked_again.headers().get(header::CACHE_CONTROL).unwrap(), "no-cache");
    }
}
