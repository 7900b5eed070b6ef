//! The pages `/docs/errors`, with all error codes, and `/docs/errors/{code}`: the meaning of a code,
//! and its remedy.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use strum::VariantArray as _;
use utoipa::ToSchema;

use super::page::{answer, escape};
use crate::http::edge::error::Error;
use crate::http::edge::problem::{Code, ErrorCode};

/// An error code, with its meaning and remedy.
#[derive(Serialize, ToSchema)]
pub struct CodePage {
    code: &'static str,
    status: u16,
    title: &'static str,
    remedy: &'static str,
}

/// Lists the error codes, with their meanings and remedies.
#[utoipa::path(get, path = "/docs/errors", tag = "docs",
    responses((status = 200, description = "A page", content_type = "text/html")))]
pub async fn list_error_codes() -> HttpResponse {
    let mut main = "<h1>Error codes</h1>\n<p>The rules that all answers follow are in \
                    <a href=\"/docs/guide/api\">the HTTP API</a>.</p>\n<table>\n<thead><tr>\
                    <th>Code</th><th>Status</th><th>Meaning</th><th>Remedy</th></tr></thead>\n\
                    <tbody>\n"
        .to_owned();
    for code in Code::VARIANTS {
        main += &format!(
            "<tr><td><a href=\"/docs/errors/{name}\"><code>{name}</code></a></td><td>{status}</td>\
             <td>{title}</td><td>{remedy}</td></tr>\n",
            name = code.as_str(),
            status = code.status().as_u16(),
            title = escape(code.title()),
            remedy = escape(code.remedy()),
        );
    }
    main += "</tbody>\n</table>\n";
    answer("Error codes", "/docs/errors", &main, "")
}

/// Explains an error code: what it means and what to do about it.
///
/// # Errors
/// [`Code::NotFound`] for a code that does not exist.
#[utoipa::path(get, path = "/docs/errors/{code}", tag = "docs",
    params(("code" = inline(ErrorCode), Path)),
    responses((status = 200, description = "A page, or JSON if requested with `Accept`", content(
        (CodePage = "application/json"), (String = "text/html")))))]
pub async fn explain_error(
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let code: Code = path.parse().map_err(|_| Error::not_found("error code"))?;
    let wants = |kind: &str| {
        let accept = request.headers().get(header::ACCEPT);
        accept.and_then(|accept| accept.to_str().ok()).is_some_and(|text| text.contains(kind))
    };
    if wants("json") && !wants("text/html") {
        return Ok(HttpResponse::Ok().json(CodePage {
            code: code.as_str(),
            status: code.status().as_u16(),
            title: code.title(),
            remedy: code.remedy(),
        }));
    }
    Ok(page(code))
}

fn page(code: Code) -> HttpResponse {
    let main = format!(
        "<h1><code>{code}</code></h1>\n<p><strong>{status}</strong> {title}.</p>\n<p>{remedy}</p>\n\
         <p><a href=\"/docs/errors\">All codes</a>; the rules that all answers follow are in \
         <a href=\"/docs/guide/api\">the HTTP API</a>.</p>\n",
        code = code.as_str(),
        status = code.status(),
        title = escape(code.title()),
        remedy = escape(code.remedy()),
    );
    answer(code.as_str(), "", &main, "")
}
