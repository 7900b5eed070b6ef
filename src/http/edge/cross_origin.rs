//! Pages of other origins that may call the API from a browser: CORS, as the Fetch standard has it.
//! Cookies are never accepted from another origin (`session`): such pages send a key or an order's
//! token.

use actix_cors::{Cors, CorsError};
use reqwest::Url;

use crate::domain::limits::holds;
use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;

/// The most origins that a setting may name.
const ORIGINS_MAX: usize = 100;
/// How long a browser may keep the answer to a preflight request, in seconds. None keeps it longer.
const PREFLIGHT_SECS: usize = 7_200;
/// The headers of answers that a page of another origin may read.
const EXPOSED: [&str; 8] = [
    "ETag",
    "Location",
    "Retry-After",
    "X-Request-Id",
    "Kontor-Position",
    "Kontor-Stale",
    "RateLimit",
    "RateLimit-Policy",
];

/// Checks origins as a setting names them: `https://shop.example`, or `*` for any.
///
/// # Errors
/// What is wrong with the first that is none.
pub fn check_origins(origins: &[String], (): &()) -> garde::Result {
    holds(origins.len() <= ORIGINS_MAX, || format!("must name at most {ORIGINS_MAX} origins"))?;
    let wrong = origins.iter().find(|origin| *origin != "*" && !is_origin(origin));
    holds(wrong.is_none(), || {
        let wrong = wrong.map_or("", String::as_str);
        format!("must be origins such as https://shop.example, or \"*\": {wrong:?} is none")
    })
}

fn is_origin(text: &str) -> bool {
    let url = Url::parse(text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
    url.is_some_and(|url| url.origin().ascii_serialization() == text)
}

/// The refusal of a preflight request, if an error is one.
#[must_use]
pub fn refused(error: &actix_web::Error) -> Option<Error> {
    Some(match error.as_error::<CorsError>()? {
        CorsError::OriginNotAllowed => {
            let detail = "pages of this origin may not call the server; http.cors_origins lists \
                          those that may";
            Error::new(Code::ForbiddenOrigin, detail)
                .at("Origin", "must be one of http.cors_origins")
        }
        other => Error::new(Code::BadRequest, format!("the preflight request: {other}")),
    })
}

/// Answers preflight requests from these origins, and lets their pages read answers.
pub fn cors(origins: &[String]) -> Cors {
    let cors = Cors::default()
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
        .allow_any_header()
        .expose_headers(EXPOSED)
        .max_age(PREFLIGHT_SECS)
        // A page of an origin that is not named cannot read the answer; a program that is no page may.
        .block_on_origin_mismatch(false);
    if origins.iter().any(|origin| origin == "*") {
        return cors.allow_any_origin().send_wildcard();
    }
    origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port_that_is_not_the_default() {
        for good in ["https://shop.example", "http://localhost:3000", "https://[::1]:8443", "*"] {
            assert!(check_origins(&[good.to_owned()], &()).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "shop.example",
            "https://shop.example/",
            "https://shop.example/a",
            "https://shop.example:443",
            "HTTPS://Shop.example",
            "null",
            "ftp://shop.example",
        ] {
            let error = check_origins(&[wrong.to_owned()], &()).unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
    }
}
