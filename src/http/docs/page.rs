//! The frame of the pages of the documentation: head, style, and the way to the other pages.

use actix_web::HttpResponse;
use actix_web::http::header;

/// The Content-Security-Policy: a page has a style and images of this host, and no script.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'none'; \
                      frame-ancestors 'none'; base-uri 'none'";

/// A page with this title; `place` is its own link in the bar, `aside` stands beside the text.
#[must_use]
pub fn answer(title: &str, place: &str, main: &str, aside: &str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(html(title, place, main, aside))
}

fn html(title: &str, place: &str, main: &str, aside: &str) -> String {
    let link = |to: &str, name: &str| {
        let current = if to == place { " aria-current=\"page\"" } else { "" };
        format!("<a href=\"{to}\"{current}>{name}</a>\n")
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} – kontor</title>\n\
         <link rel=\"icon\" href=\"/docs/favicon-32x32.png\">\n\
         <link rel=\"stylesheet\" href=\"/docs/pages.css\">\n</head>\n<body>\n\
         <header class=\"bar\">\n<a class=\"home\" href=\"/docs/\">The API</a>\n\
         <nav aria-label=\"Documentation\">\n{guide}{api}</nav>\n</header>\n\
         <div class=\"page\">\n<main>\n{main}</main>\n{aside}</div>\n</body>\n</html>\n",
        title = escape(title),
        guide = link("/docs/guide", "Guide"),
        api = link("/docs/guide/api", "The HTTP API"),
    )
}

/// A text with the characters escaped that have a meaning in HTML.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
