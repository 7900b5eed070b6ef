//! The page `/docs/`: the OpenAPI document in Swagger UI, which is embedded in the binary. Its frame
//! and the script that starts it are in `web/docs`.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use utoipa_swagger_ui::{Config, SwaggerFile};

use crate::http::edge::error::Error;
use crate::http::edge::static_text::StaticText;

/// Our own files, which replace those of Swagger UI: the name, the type and the text of each.
const OURS: [(&str, &str, &str); 5] = [
    ("", HTML, include_str!("../../../web/docs/index.html")),
    ("index.html", HTML, include_str!("../../../web/docs/index.html")),
    ("start.js", SCRIPT, include_str!("../../../web/docs/start.js")),
    ("resolve.js", SCRIPT, include_str!("../../../web/docs/resolve.js")),
    ("pages.css", "text/css; charset=utf-8", include_str!("../../../web/docs/pages.css")),
];
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
/// The files of Swagger UI that the page loads.
const THEIRS: [(&str, &str); 2] =
    [("swagger-ui-bundle.js", SCRIPT), ("swagger-ui.css", "text/css; charset=utf-8")];

/// All files that the page loads, by name.
fn files() -> &'static HashMap<&'static str, StaticText> {
    static ALL: OnceLock<HashMap<&'static str, StaticText>> = OnceLock::new();
    ALL.get_or_init(|| {
        let ours = OURS.map(|(name, kind, text)| (name, StaticText::new(kind, text)));
        let theirs = THEIRS.into_iter().filter_map(|(name, kind)| {
            let file = embedded(name).ok()??;
            (!file.gzpipped).then(|| (name, StaticText::new(kind, file.bytes.into_owned())))
        });
        ours.into_iter().chain(theirs).collect()
    })
}

/// A file of Swagger UI.
fn embedded(name: &str) -> Result<Option<SwaggerFile<'static>>, Error> {
    utoipa_swagger_ui::serve(name, Arc::new(Config::from("/openapi.json"))).map_err(|error| {
        Error::internal(std::io::Error::other(format!("a page of the API: {error}")))
    })
}

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
pub async fn show_docs(
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    if let Some(file) = files().get(path.as_str()) {
        return Ok(file.respond(&request, |_| {}));
    }
    let file = embedded(&path)?.ok_or_else(|| Error::not_found("page"))?;
    let mut response = HttpResponse::Ok();
    if file.gzpipped {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
    }
    Ok(response.content_type(file.content_type).body(file.bytes.into_owned()))
}
