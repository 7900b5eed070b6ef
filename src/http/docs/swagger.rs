//! The page `/docs/`: the OpenAPI document in Swagger UI, which is embedded in the binary. Its frame
//! and the script that starts it are in `web/docs`.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use utoipa_swagger_ui::Config;

use crate::http::edge::error::Error;

/// Our own files, which replace those of Swagger UI: the name, the type and the text of each.
const FILES: [(&str, &str, &str); 4] = [
    ("", HTML, include_str!("../../../web/docs/index.html")),
    ("index.html", HTML, include_str!("../../../web/docs/index.html")),
    ("start.js", "text/javascript; charset=utf-8", include_str!("../../../web/docs/start.js")),
    ("pages.css", "text/css; charset=utf-8", include_str!("../../../web/docs/pages.css")),
];
const HTML: &str = "text/html; charset=utf-8";

/// Redirects to the API documentation.
#[utoipa::path(get, path = "/docs", tag = "docs",
    responses((status = 308, description = "To /docs/")))]
pub async fn redirect_to_docs() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

/// Serves the API documentation.
///
/// # Errors
/// 404 for a file that is not there.
#[utoipa::path(get, path = "/docs/{file}", tag = "docs",
    params(("file" = String, Path, description = "A file of the documentation")),
    responses((status = 200, description = "The file", content_type = "*/*")))]
pub async fn show_docs(path: web::Path<String>) -> Result<HttpResponse, Error> {
    if let Some((_, kind, text)) = FILES.iter().find(|(name, ..)| *name == path.as_str()) {
        let mut response = HttpResponse::Ok();
        response.insert_header((header::CACHE_CONTROL, "no-cache"));
        return Ok(response.content_type(*kind).body(*text));
    }
    let file = utoipa_swagger_ui::serve(&path, Arc::new(Config::from("/openapi.json")));
    let file = file.map_err(|error| {
        Error::internal(std::io::Error::other(format!("a page of the API: {error}")))
    })?;
    let file = file.ok_or_else(|| Error::not_found("page"))?;
    let mut response = HttpResponse::Ok();
    if file.gzpipped {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
    }
    Ok(response.content_type(file.content_type).body(file.bytes.into_owned()))
}
