//! The API's document: made of what the handlers say of themselves, completed from the table of
//! routes with security, headers and the problems that every operation may answer. It is shown
//! in a browser without any network.

use std::sync::{Arc, OnceLock};

use actix_web::http::{Method, header};
use actix_web::{HttpResponse, web};
use serde_json::{Map, Value};
use utoipa::PartialSchema as _;
use utoipa::ToSchema as _;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ArrayItems, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    ComponentsBuilder, Content, ContentBuilder, InfoBuilder, OpenApi, Ref, RefOr, Required,
    Response, ResponseBuilder,
};
use utoipa_swagger_ui::Config;

use crate::http::api::product::import::ImportRow;
use crate::http::docs::links;
use crate::http::docs::schemas;
use crate::http::edge::access::Access;
use crate::http::edge::error::Error;
use crate::http::edge::problem::{FieldError, MEDIA_TYPE, Problem};
use crate::http::routes::{Route, TABLE, documented};

/// The scheme of an API key.
const KEY: &str = "api_key";
/// The scheme of a session's cookie.
const SESSION: &str = "session";
/// The scheme of an order's token.
const TOKEN: &str = "order_token";
/// The scheme of an order's token where a header cannot be sent.
const TOKEN_QUERY: &str = "order_token_query";

/// The API's document.
#[must_use]
pub fn document() -> OpenApi {
    let mut document = documented();
    document.info = InfoBuilder::new()
        .title("kontor")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Carts, stock, orders and payments. docs/api.md walks through it."))
        .build();
    let bearer = |about: &str| {
        let http = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about));
        SecurityScheme::Http(http.build())
    };
    let mut components =
        document.components.take().unwrap_or_else(|| ComponentsBuilder::new().build());
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    components.schemas.insert(FieldError::name().into_owned(), FieldError::schema());
    components.schemas.insert(ImportRow::name().into_owned(), ImportRow::schema());
    let mut referenced = Vec::new();
    ImportRow::schemas(&mut referenced);
    components.schemas.extend(referenced);
    components.schemas.extend(schemas::all());
    components.schemas.values_mut().for_each(complete_schema);
    components
        .add_security_scheme(KEY, bearer("An API key, sk_…, with the scope of the operation"));
    let cookie = ApiKeyValue::with_description(
        crate::http::edge::session::COOKIE,
        "The cookie of POST /v1/session; an unsafe method needs the Origin of this host, too",
    );
    components.add_security_scheme(SESSION, SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    components
        .add_security_scheme(TOKEN, bearer("The token of one order, as checkout answered it"));
    let query = ApiKeyValue::with_description("token", "The token of one order, in the query");
    components.add_security_scheme(TOKEN_QUERY, SecurityScheme::ApiKey(ApiKey::Query(query)));
    document.components = Some(components);
    for route in TABLE {
        let item = document.paths.paths.get_mut(&plain(route.path));
        if let Some(operation) = item.and_then(|item| operation(item, route)) {
            complete(operation, route);
        }
    }
    document
}

/// A path as the document writes it: without what actix is told about its segments.
#[must_use]
pub fn plain(path: &str) -> String {
    path.replace(":.*}", "}")
}

fn operation<'a>(item: &'a mut PathItem, route: &Route) -> Option<&'a mut Operation> {
    let operation = match route.method.as_str() {
        "GET" => &mut item.get,
        "POST" => &mut item.post,
        "PUT" => &mut item.put,
        "PATCH" => &mut item.patch,
        "DELETE" => &mut item.delete,
        _ => return None,
    };
    operation.as_mut()
}

/// Adds what follows from the route alone.
fn complete(operation: &mut Operation, route: &Route) {
    let none: [&str; 0] = [];
    operation.security = match route.access {
        Access::Key(scope) => {
            let about = operation.description.take().unwrap_or_default();
            let text = format!("{about}\n\nTakes a key with the scope `{}`.", scope.as_str());
            operation.description = Some(text.trim_start().to_owned());
            let session = SecurityRequirement::new(SESSION, none);
            Some(vec![SecurityRequirement::new(KEY, none), session])
        }
        Access::AnyKey => {
            Some(vec![SecurityRequirement::new(KEY, none), SecurityRequirement::new(SESSION, none)])
        }
        Access::Live => {
            Some(vec![SecurityRequirement::default(), SecurityRequirement::new(KEY, none)])
        }
        Access::Order => {
            let query = SecurityRequirement::new(TOKEN_QUERY, none);
            Some(vec![SecurityRequirement::new(TOKEN, none), query])
        }
        Access::Cart => {
            Some(vec![SecurityRequirement::default(), SecurityRequirement::new(KEY, none)])
        }
        Access::Public | Access::Webhook | Access::Node => None,
    };
    let parameters = operation.parameters.get_or_insert_with(Vec::new);
    let signed = matches!(route.access, Access::Webhook | Access::Node);
    let keyed = !signed && route.operation != "create_session";
    if route.method == Method::POST && keyed {
        parameters.push(idempotency_key(route.operation).into());
    }
    let all = &mut operation.responses.responses;
    if route.method != Method::GET && all.get("200").is_some_and(has_version) {
        parameters.push(if_match().into());
    }
    for (status, response) in all.iter_mut() {
        let versioned = has_version(response);
        if let RefOr::T(response) = response {
            if versioned {
                let tag = header("The version, as `If-Match` takes it", r#"^"[0-9]+"$"#);
                response.headers.insert("ETag".to_owned(), tag.into());
                if ["201", "202"].contains(&status.as_str()) {
                    let place = header("Where it is", "^/v1/");
                    response.headers.insert("Location".to_owned(), place.into());
                }
            }
            response.headers.insert("X-Request-Id".to_owned(), request_id().into());
        }
    }
    let body = operation.request_body.is_some();
    for (status, about) in problems(route, body) {
        let there = &mut operation.responses.responses;
        there.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(status, about)));
    }
    links::add(operation, route.operation);
}

fn idempotency_key(operation: &str) -> Parameter {
    let (needed, more) = match operation {
        "check_out" => (true, ""),
        "create_cart" => (false, "; a caller without an API key draws 16 characters or more"),
        _ => (false, ""),
    };
    let about = format!("Makes a retry safe for 24 hours{more}");
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[!-~]{1,255}$"));
    parameter("Idempotency-Key", needed, &about, text.max_length(Some(255)))
}

fn if_match() -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let text = text.pattern(Some(r#"^(\*|"[0-9]{1,18}")$"#));
    parameter("If-Match", false, "The ETag that the thing must have", text)
}

/// Whether an answer is one thing with a version.
fn has_version(response: &RefOr<Response>) -> bool {
    const NAMES: [&str; 5] = ["Cart", "Order", "AdminOrder", "Product", "StockItem"];
    let RefOr::T(response) = response else { return false };
    let schema = |content: &RefOr<Content>| match content {
        RefOr::T(content) => content.schema.clone(),
        RefOr::Ref(_) => None,
    };
    response.content.values().any(|content| match schema(content) {
        Some(RefOr::Ref(to)) => {
            NAMES.iter().any(|name| to.ref_location == format!("#/components/schemas/{name}"))
        }
        _ => false,
    })
}

/// The problems that a route may answer, whatever its handler is.
fn problems(route: &Route, body: bool) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![("500", "`internal`")];
    let named = route.path.contains('{');
    if named {
        all.push(("404", "`not_found`"));
    }
    if !route.path.starts_with("/v1/") {
        return all;
    }
    let writes = route.method != Method::GET;
    all.push(("400", "`malformed_json`, `bad_request`, `unknown_filter`, `invalid_cursor`"));
    all.push(("422", "`invalid_request`, with all faulty fields in `errors`, and the like"));
    if route.access != Access::Public || route.path == "/v1/session" {
        all.push(("401", "`unauthorized`"));
    }
    let session = route.path == "/v1/session" && writes;
    let keyed = matches!(route.access, Access::Key(_) | Access::Cart | Access::AnyKey);
    if keyed || session || route.access == Access::Live {
        all.push(("403", "`forbidden`: the key lacks the scope; `forbidden_origin`"));
    }
    if body {
        all.push(("408", "`request_timeout`"));
        all.push(("413", "`payload_too_large`"));
        all.push(("415", "`unsupported_media_type`"));
    }
    if writes || (named && route.access == Access::Cart) {
        all.push(("409", "`cart_spent`, `idempotency_in_flight`, `wrong_state`, and the like"));
    }
    if writes {
        all.push(("412", "`version_mismatch`"));
    }
    if named || writes {
        all.push(("423", "`quarantined`"));
    }
    if route.access == Access::Cart {
        all.push(("410", "`cart_expired`"));
    }
    all.push(("429", "`too_many_requests`, `rate_limited`, with `Retry-After`"));
    all.push(("503", "`try_again`, with `Retry-After`"));
    all
}

fn header(about: &str, pattern: &str) -> Header {
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    HeaderBuilder::new().schema(Some(text)).description(Some(about)).build()
}

fn request_id() -> Header {
    header("The id of the request", "^[A-Za-z0-9._-]{1,64}$")
}

fn problem(status: &str, about: &str) -> Response {
    let schema = Ref::from_schema_name(Problem::name());
    let mut response = ResponseBuilder::new()
        .description(about)
        .header("X-Request-Id", request_id())
        .content(MEDIA_TYPE, ContentBuilder::new().schema(Some(schema)).build());
    let more = match status {
        "401" => Some(("WWW-Authenticate", "How to say who calls", "^Bearer ")),
        "429" | "503" => Some(("Retry-After", "After how many seconds to try again", "^[0-9]+$")),
        _ => None,
    };
    if let Some((name, about, pattern)) = more {
        response = response.header(name, header(about, pattern));
    }
    response.build()
}

fn parameter(name: &str, needed: bool, about: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(if needed { Required::True } else { Required::False })
        .description(Some(about))
        .schema(Some(schema))
        .build()
}

/// Completes schemas by what a rule says of all of them: what letters a text may have that has a
/// greatest length, and that what is named `_at` is a point in time.
fn complete_schema(schema: &mut RefOr<Schema>) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::Object(object) => {
            let free = object.pattern.is_none() && object.enum_values.is_none();
            if object.max_length.is_some() && free && object.format.is_none() {
                let pattern = schemas::letters(object.min_length.unwrap_or(0));
                object.pattern = Some(pattern.to_owned());
            }
            for (name, property) in &mut object.properties {
                if let RefOr::T(Schema::Object(moment)) = property
                    && name.ends_with("_at")
                {
                    moment.format = Some(schemas::date_time());
                }
                complete_schema(property);
            }
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                complete_schema(items);
            }
        }
        Schema::OneOf(of) => of.items.iter_mut().for_each(complete_schema),
        Schema::AllOf(of) => of.items.iter_mut().for_each(complete_schema),
        Schema::AnyOf(of) => of.items.iter_mut().for_each(complete_schema),
        _ => {}
    }
}

/// The document as text, made once. An empty parameter of a query counts as not there, which
/// utoipa has no word for.
///
/// # Errors
/// When it cannot be written.
pub fn text() -> Result<&'static str, serde_json::Error> {
    static TEXT: OnceLock<String> = OnceLock::new();
    if let Some(text) = TEXT.get() {
        return Ok(text);
    }
    let mut made = serde_json::to_value(document())?;
    for parameter in made["paths"].as_object_mut().into_iter().flat_map(parameters_of) {
        if parameter["in"] == "query" {
            parameter["allowEmptyValue"] = true.into();
        }
    }
    let made = made.to_string();
    Ok(TEXT.get_or_init(|| made))
}

/// The parameters of all operations, by path.
fn parameters_of(paths: &mut Map<String, Value>) -> impl Iterator<Item = &mut Value> {
    let operations = paths.values_mut().filter_map(Value::as_object_mut);
    let operations = operations.flat_map(|methods| methods.values_mut());
    let lists = operations.filter_map(|operation| operation.get_mut("parameters"));
    lists.filter_map(Value::as_array_mut).flatten()
}

/// Shows the API's document.
#[utoipa::path(get, path = "/openapi.json", tag = "docs",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
pub async fn show_openapi() -> Result<HttpResponse, Error> {
    let text = text().map_err(Error::internal)?;
    Ok(HttpResponse::Ok().content_type("application/json").body(text))
}

/// Leads to the pages on the API.
#[utoipa::path(get, path = "/docs", tag = "docs",
    responses((status = 308, description = "To /docs/")))]
pub async fn redirect_to_docs() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

/// Shows the pages on the API.
#[utoipa::path(get, path = "/docs/{file}", tag = "docs",
    params(("file" = String, Path, description = "A file of the pages")),
    responses((status = 200, description = "A page, or what it is made of", content_type = "*/*")))]
pub async fn show_docs(path: web::Path<String>) -> Result<HttpResponse, Error> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn described() -> Vec<(String, String, String)> {
        let mut all = Vec::new();
        for (path, item) in &document().paths.paths {
            let methods = [
                ("GET", &item.get),
                ("POST", &item.post),
                ("PUT", &item.put),
                ("PATCH", &item.patch),
                ("DELETE", &item.delete),
            ];
            for (method, operation) in methods {
                if let Some(operation) = operation {
                    let id = operation.operation_id.clone().unwrap_or_default();
                    all.push((path.clone(), method.to_owned(), id));
                }
            }
        }
        all
    }

    #[test]
    fn the_document_has_what_the_table_has_and_nothing_else() {
        let document: BTreeSet<_> = described().into_iter().collect();
        let table: BTreeSet<_> = TABLE
            .iter()
            .map(|route| (plain(route.path), route.method.to_string(), route.operation.to_owned()))
            .collect();
        assert_eq!(document, table);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let text = text().unwrap();
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let schemas = value["components"]["schemas"].as_object().unwrap();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }

    #[test]
    fn the_paths_and_operations_are_these() {
        let lines: Vec<String> = described()
            .iter()
            .map(|(path, method, operation)| format!("{method:6} {path} {operation}"))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
