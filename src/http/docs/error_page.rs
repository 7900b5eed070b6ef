//! The pages `/docs/errors/{code}`: the meaning of an error code, and its remedy.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

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
    Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page(code)))
}

fn page(code: Code) -> String {
    let text = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{code}</title>\
         <h1>{code}</h1><p><strong>{status}</strong> {title}.</p><p>{remedy}</p>\
         <p><a href=\"/docs/\">The API</a></p></html>\n",
        code = code.as_str(),
        status = code.status(),
        title = text(code.title()),
        remedy = text(code.remedy()),
    )
}
