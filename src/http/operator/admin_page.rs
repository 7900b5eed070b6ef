//! The admin page: files from `web/admin`, which are embedded in the binary; and the start page
//! `/`, which leads there.
//!
//! The files contain nothing secret, so they are public; the page gets its data from the API, with
//! a session.

use std::collections::HashMap;
use std::sync::OnceLock;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::edge::error::Error;
use crate::http::edge::static_text::StaticText;

/// All files: the path under `/admin/`, and the bytes. `build.rs` generates the list.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/admin_page.rs"));

/// The Content-Security-Policy: the page may load and call only this host. `'self'` in
/// `connect-src` covers WebSockets of this host, too.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data:; font-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// All files by path.
fn files() -> &'static HashMap<&'static str, StaticText> {
    static ALL: OnceLock<HashMap<&'static str, StaticText>> = OnceLock::new();
    ALL.get_or_init(|| {
        FILES.iter().map(|&(name, bytes)| (name, StaticText::new(kind(name), bytes))).collect()
    })
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "webmanifest" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Serves the admin page.
#[utoipa::path(get, path = "/admin", tag = "docs",
    responses((status = 200, description = "The page", content_type = "text/html")))]
pub async fn show_admin(request: HttpRequest) -> Result<HttpResponse, Error> {
    answer("index.html", &request)
}

/// Serves a file of the admin page. A path that is not a file serves the page itself, which does
/// its own routing.
///
/// # Errors
/// 404 for a file that is not there.
#[utoipa::path(get, path = "/admin/{file}", tag = "docs",
    params(("file" = String, Path, description = "A file of the admin page")),
    responses((status = 200, description = "The file"),
        (status = 304, description = "Not modified since the version in `If-None-Match`")))]
pub async fn show_admin_file(
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let last = path.rsplit('/').next().unwrap_or_default();
    let name = if last.contains('.') { path.as_str() } else { "index.html" };
    answer(name, &request)
}

fn answer(name: &str, request: &HttpRequest) -> Result<HttpResponse, Error> {
    let file = files().get(name).ok_or_else(|| Error::not_found("file"))?;
    Ok(file.respond(request, |response| {
        response
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
            .insert_header((header::REFERRER_POLICY, "no-referrer"));
    }))
}

/// The main URLs of this server.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Start)]
pub struct AdminStart {
    #[schema(example = "kontor")]
    name: &'static str,
    version: &'static str,
    /// The OpenAPI document.
    openapi: &'static str,
    /// The API documentation.
    docs: &'static str,
    /// The admin page.
    admin: &'static str,
    /// The list of active products.
    products: &'static str,
    health: &'static str,
}

/// Redirects browsers to the admin page; returns the main URLs to programs.
#[utoipa::path(get, path = "/", tag = "docs",
    responses((status = 200, description = "The main URLs", body = AdminStart),
        (status = 303, description = "To /admin, for a browser")))]
pub async fn show_start(request: HttpRequest) -> HttpResponse {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/html")) {
        return HttpResponse::SeeOther()
            .insert_header((header::LOCATION, "/admin"))
            .insert_header((header::VARY, "Accept"))
            .finish();
    }
    HttpResponse::Ok().insert_header((header::VARY, "Accept")).json(AdminStart {
        name: "kontor",
        version: env!("CARGO_PKG_VERSION"),
        openapi: "/openapi.json",
        docs: "/docs",
        admin: "/admin",
        products: "/v1/store/products",
        health: "/readyz",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_there_and_its_tests_are_not() {
        assert!(files().contains_key("index.html"));
        for (name, _) in FILES {
            assert!(!name.contains(".test.") && !name.contains("tests/"), "{name}");
            assert_ne!(kind(name), "application/octet-stream", "{name}");
        }
    }

    #[test]
    fn the_page_runs_nothing_that_its_policy_refuses() {
        for (name, bytes) in FILES.iter().filter(|(name, _)| name.ends_with(".html")) {
            let text = std::str::from_utf8(bytes).unwrap();
            for refused in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
                assert!(!text.contains(refused), "{name} has {refused}");
            }
            for script in text.split("<script").skip(1) {
                assert!(script.split('>').next().unwrap().contains("src="), "{name}");
            }
        }
    }
}
