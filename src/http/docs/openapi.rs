//! The OpenAPI document: the documentation at the handlers, completed from the list of routes with
//! security, headers, the errors that every operation may answer, and examples. `swagger` shows it
//! at `/docs`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::ToSchema as _;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ArrayItems, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, ContactBuilder, Content, ContentBuilder, InfoBuilder, License, OpenApi, Ref,
    RefOr, Required, Response, ResponseBuilder, Server,
};

use super::finish::finish;
use super::problems::OwnMembers;
use super::{examples, links, problems, schemas};
use crate::http::edge::access::Access;
use crate::http::edge::error::Error;
use crate::http::edge::input::IN_PLACE;
use crate::http::edge::load_shedding::Class;
use crate::http::edge::problem_body::{MEDIA_TYPE, Problem};
use crate::http::edge::route::{OperationLink, Route, Routes};
use crate::http::edge::session::COOKIE;
use crate::http::edge::static_text::StaticText;

/// The name of the security scheme of an API key.
const KEY: &str = "api_key";
/// The name of the security scheme of a session's cookie.
const SESSION: &str = "session";

/// What the document is about.
const ABOUT: &str = "Carts, stock, orders and payments of a shop. What a buyer does needs no key; for \
                     the rest, make one with `kontor key create --scope admin`. `/docs/` shows this \
                     document as pages, and `/docs/guide/api` describes the API in prose. \
                     `/postman.json` is a Postman collection of the examples. The websocket \
                     `/v1/admin/live` is described by `/asyncapi.json`.";

/// The tags of operations, in the order in which a reader needs them.
const TAGS: [(&str, &str); 11] = [
    ("products", "What is sold"),
    ("carts", "What a buyer wants to order"),
    ("checkout", "From a cart to an order"),
    ("orders", "What was ordered, paid and shipped"),
    ("stock", "How many units there are, and where"),
    ("live", "Changes while they happen"),
    ("session", "Sign-in of people"),
    ("webhooks", "Notices of payment providers"),
    ("ops", "Operation: settings, jobs, dead letters, the cluster"),
    ("health", "Health and metrics of a server"),
    ("docs", "The descriptions of the API"),
];

/// Operations that are no part of the API: pages for people, calls between nodes, and the websocket,
/// which OpenAPI cannot describe.
pub const LEFT_OUT: [&str; 11] = [
    "answer_node",
    "show_start",
    "show_admin",
    "show_admin_file",
    "redirect_to_docs",
    "show_docs",
    "show_guide",
    "show_guide_page",
    "list_error_codes",
    "explain_error",
    "open_live",
];

/// Lists without a version that have an `ETag`, because caches may keep them.
const CACHED: [&str; 2] = ["browse_products", "list_delivery_options"];
/// Writes that take `If-Match`, besides those that answer with a resource that has a version.
const MATCHED: [&str; 2] = ["put_setting", "delete_location"];
/// The pattern of an `ETag`.
const TAG: &str = r#"^"[!#-~]*"$"#;

/// The OpenAPI document.
#[must_use]
pub fn document(routes: &Routes) -> OpenApi {
    let mut document = OpenApi::default();
    for list in routes.lists() {
        document.merge((list.document)());
    }
    document.info = InfoBuilder::new()
        .title("kontor")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .contact(Some(ContactBuilder::new().name(Some("The operator of this server")).build()))
        .license(Some(License::new(env!("CARGO_PKG_LICENSE"))))
        .build();
    if let Some(license) = &mut document.info.license {
        license.identifier = Some(env!("CARGO_PKG_LICENSE").to_owned());
    }
    // Paths begin at the server that the document came from.
    document.servers = Some(vec![Server::new("/")]);
    let tag = |(name, about): &(&str, &str)| {
        TagBuilder::new().name(*name).description(Some(*about)).build()
    };
    document.tags = Some(TAGS.iter().map(tag).collect());
    let bearer = |about: &str| {
        let http = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about));
        SecurityScheme::Http(http.build())
    };
    let mut components =
        document.components.take().unwrap_or_else(|| ComponentsBuilder::new().build());
    problems::add_schemas(&mut components);
    components.schemas.extend(schemas::all());
    let in_place = |name: &String, _: &mut RefOr<Schema>| name.starts_with(IN_PLACE);
    let in_place = components.schemas.extract_if(.., in_place).collect();
    components.schemas.values_mut().for_each(|schema| complete_schema(schema, &in_place));
    components
        .add_security_scheme(KEY, bearer("An API key, sk_…, with the scope of the operation"));
    let cookie = ApiKeyValue::with_description(
        COOKIE,
        "The cookie of POST /v1/session; methods other than GET and HEAD also need the Origin of \
         this host",
    );
    components.add_security_scheme(SESSION, SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    document.components = Some(components);
    let links: Vec<OperationLink> =
        routes.lists().iter().flat_map(|list| list.links).copied().collect();
    let versioned: Vec<String> = routes
        .lists()
        .iter()
        .flat_map(|list| list.versioned)
        .map(|name| format!("#/components/schemas/{name}"))
        .collect();
    let own_members = OwnMembers::of(routes);
    for route in routes.all() {
        if LEFT_OUT.contains(&route.operation) {
            document.paths.paths.remove(&plain(route.path));
            continue;
        }
        let item = document.paths.paths.get_mut(&plain(route.path));
        if let Some(operation) = item.and_then(|item| operation(item, route)) {
            complete(operation, route, &versioned);
            own_members.refine(operation, route);
            links::add(operation, route.operation, &links);
        }
    }
    document
}

/// A path in the syntax of OpenAPI: actix's pattern `:.*` in a parameter is removed.
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

/// Completes an operation with what follows from its route: security, headers and errors.
fn complete(operation: &mut Operation, route: &Route, versioned: &[String]) {
    operation.security = Some(security(route.access));
    let about = operation.description.take().unwrap_or_default();
    operation.description = Some(format!("{about}\n\n{}", callers(route.access)).trim().to_owned());
    let parameters = operation.parameters.get_or_insert_with(Vec::new);
    let signed = matches!(route.access, Access::Signed(_));
    let keyed = !signed && route.operation != "create_session";
    if route.method == Method::POST && keyed {
        parameters.push(idempotency_key(route.operation).into());
    }
    let all = &mut operation.responses.responses;
    if MATCHED.contains(&route.operation)
        || route.method != Method::GET
            && all.get("200").is_some_and(|answer| has_version(answer, versioned))
    {
        parameters.push(if_match().into());
    }
    let named = |parameter: &Parameter| parameter.name == "Kontor-After";
    let follows_writes = parameters.iter().any(|one| matches!(one, RefOr::T(one) if named(one)));
    let pays = ["check_out", "pay_my_order"].contains(&route.operation);
    let of_carts =
        route.operation == "replace_my_cart" || route.path.starts_with("/v1/store/carts") && !pays;
    let cached = CACHED.contains(&route.operation);
    let ok = all.get("200");
    // Prices and expired holds change these between versions: they are always sent.
    let conditional = route.method == Method::GET
        && (cached || ok.is_some_and(|answer| has_version(answer, versioned)))
        && !["/carts", "/stock"].iter().any(|part| route.path.contains(part));
    if conditional {
        parameters.push(if_none_match().into());
    }
    let limited = route.path.starts_with("/v1/") && route.class != Class::Health;
    for (status, response) in all.iter_mut() {
        let has_version = has_version(response, versioned);
        if let RefOr::T(response) = response {
            if has_version || cached && status == "200" {
                let about = "The version, for use in `If-Match`; of what anybody may see, a digest";
                response.headers.insert("ETag".to_owned(), header(about, TAG).into());
            }
            if has_version {
                if route.method != Method::GET && !of_carts {
                    let position = header(POSITION, "^[A-Za-z0-9_-]+$");
                    response.headers.insert("Kontor-Position".to_owned(), position.into());
                }
                if status == "201" {
                    let place = header("The path of the created resource", "^/v1/");
                    response.headers.insert("Location".to_owned(), place.into());
                }
            }
            if status == "202" {
                let place = header("The path where the outcome can be read", "^/v1/");
                response.headers.insert("Location".to_owned(), place.into());
                if has_version {
                    response.headers.insert("Retry-After".to_owned(), retry_after().into());
                }
            }
            if follows_writes {
                response.headers.insert("Kontor-Stale".to_owned(), header(STALE, "^1$").into());
            }
            if limited {
                add_rate_limit(response);
            }
            response.headers.insert("X-Request-Id".to_owned(), request_id().into());
        }
    }
    if conditional {
        let known = ResponseBuilder::new().description("The client has this answer already");
        let known = known.header("ETag", header("The `ETag` of the answer", TAG));
        all.insert("304".to_owned(), known.header("X-Request-Id", request_id()).build().into());
    }
    let body = operation.request_body.is_some();
    for (status, about) in problems(route, body) {
        let there = &mut operation.responses.responses;
        there.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(status, about)));
    }
}

/// The security schemes of a route, of which one is enough. None are needed if the list is empty.
fn security(access: Access) -> Vec<SecurityRequirement> {
    let none: [&str; 0] = [];
    match access {
        Access::Key(_) | Access::AnyKey => {
            [KEY, SESSION].map(|name| SecurityRequirement::new(name, none)).to_vec()
        }
        Access::Proof(proof) => proof
            .schemes
            .iter()
            .map(|scheme| match *scheme {
                "" => SecurityRequirement::default(),
                name => SecurityRequirement::new(name, none),
            })
            .collect(),
        Access::Public | Access::Signed(_) => Vec::new(),
    }
}

/// Who may call a route, in a sentence.
fn callers(access: Access) -> String {
    match access {
        Access::Key(scope) => format!("Requires a key with the scope `{}`.", scope.as_str()),
        Access::AnyKey => "Requires an API key or a session.".to_owned(),
        Access::Proof(proof) => format!("Requires: {}.", proof.name),
        Access::Signed(sender) => format!("Requires the signature of {sender}."),
        Access::Public => "Requires no key.".to_owned(),
    }
}

fn idempotency_key(operation: &str) -> Parameter {
    let (needed, more) = match operation {
        "check_out" | "pay_my_order" => (true, ""),
        "create_cart" => (false, "; without an API key it must have at least 16 random characters"),
        _ => (false, ""),
    };
    let about = format!("Makes a retry safe for 24 hours{more}");
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[!-~]{1,255}$"));
    parameter("Idempotency-Key", needed, &about, text.max_length(Some(255)))
}

fn if_match() -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let text = text.pattern(Some(r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#));
    parameter("If-Match", false, "ETags, one of which must be the current one; * for any", text)
}

fn if_none_match() -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let about = "ETags that the client has: if one is the current one, the answer is 304";
    parameter("If-None-Match", false, about, text)
}

/// Whether an answer is one resource with a version.
fn has_version(response: &RefOr<Response>, versioned: &[String]) -> bool {
    let RefOr::T(response) = response else { return false };
    let schema = |content: &RefOr<Content>| match content {
        RefOr::T(content) => content.schema.clone(),
        RefOr::Ref(_) => None,
    };
    response.content.values().any(|content| match schema(content) {
        Some(RefOr::Ref(to)) => versioned.contains(&to.ref_location),
        _ => false,
    })
}

/// The description of the status 409.
pub const CONFLICTS: &str = "`cart_spent`, `idempotency_in_flight`, `wrong_state` and others";

/// The errors that a route may answer whatever its handler does: each status, with its error codes.
fn problems(route: &Route, body: bool) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![("500", "`internal`")];
    let named = route.path.contains('{');
    if named || matches!(route.access, Access::Signed(_)) {
        all.push(("404", "`not_found`"));
    }
    if !route.path.starts_with("/v1/") {
        if matches!(route.access, Access::Proof(_)) {
            all.push(("401", "`unauthorized`"));
            all.push(("403", "`forbidden`: the key lacks the scope"));
        }
        all.push(("4XX", "The request is not valid HTTP, or too large"));
        return all;
    }
    let writes = route.method != Method::GET;
    all.push(("400", "`malformed_json`, `bad_request`, `unknown_filter`, `invalid_cursor`"));
    all.push(("422", "`invalid_request`, with all invalid fields in `errors`, and others"));
    if route.access != Access::Public || route.path == "/v1/session" {
        all.push(("401", "`unauthorized`"));
    }
    let session = route.path == "/v1/session" && writes;
    let keyed = match route.access {
        Access::Key(_) | Access::AnyKey => true,
        Access::Proof(proof) => proof.schemes.contains(&KEY),
        Access::Public | Access::Signed(_) => false,
    };
    if keyed || session {
        all.push(("403", "`forbidden`: the key lacks the scope; `forbidden_origin`"));
    }
    if body {
        all.push(("408", "`request_timeout`"));
        all.push(("413", "`payload_too_large`"));
        all.push(("415", "`unsupported_media_type`"));
    }
    if writes {
        all.push(("409", CONFLICTS));
    }
    if writes {
        all.push(("412", "`version_mismatch`"));
    }
    if named || writes {
        all.push(("423", "`quarantined`"));
    }
    if let Access::Proof(proof) = route.access {
        all.extend(proof.problems);
    }
    all.push(("429", "`too_many_requests`, `rate_limited`, with `Retry-After`"));
    all.push(("503", "`try_again`, with `Retry-After`"));
    all
}

fn header(about: &str, pattern: &str) -> Header {
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    HeaderBuilder::new().schema(Some(text)).description(Some(about)).build()
}

const POSITION: &str = "Names this write: a list that gets it in `Kontor-After` includes the write";
const STALE: &str = "The rows do not show all writes of `Kontor-After` yet";

/// Adds the headers of a rate limit, which an answer has if the server limits requests.
fn add_rate_limit(response: &mut Response) {
    let limit =
        header("What is left of the rate limit (IETF draft)", "^\"[a-z]+\";r=[0-9]+;t=[0-9]+$");
    response.headers.insert("RateLimit".to_owned(), limit.into());
    let policy = header("The rate limit (IETF draft)", "^\"[a-z]+\";q=[0-9]+;w=[0-9]+$");
    response.headers.insert("RateLimit-Policy".to_owned(), policy.into());
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
        "401" => Some(("WWW-Authenticate", header("The authentication scheme to use", "^Bearer "))),
        "429" | "503" => Some(("Retry-After", retry_after())),
        _ => None,
    };
    if let Some((name, header)) = more {
        response = response.header(name, header);
    }
    response.build()
}

fn retry_after() -> Header {
    header("The number of seconds to wait before a retry", "^[0-9]+$")
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

/// The schemas that are copied to each place that refers to them ([`IN_PLACE`]), by name.
type InPlace = BTreeMap<String, RefOr<Schema>>;

/// Completes a schema by three rules: a reference to one of `in_place` is replaced by that schema,
/// a field whose name ends in `_at` is a time, and an object's example is distributed to its
/// fields.
fn complete_schema(schema: &mut RefOr<Schema>, in_place: &InPlace) {
    if let Some(referred) = referred(schema, in_place) {
        *schema = referred;
    }
    let RefOr::T(schema) = schema else { return };
    let each = |items: &mut [RefOr<Schema>]| {
        items.iter_mut().for_each(|item| complete_schema(item, in_place));
    };
    match schema {
        Schema::Object(object) => {
            // utoipa adds no example to a field of a custom type.
            let mut examples = object.example.take_if(|one| one.is_object()).unwrap_or_default();
            for (name, property) in &mut object.properties {
                complete_schema(property, in_place);
                let RefOr::T(Schema::Object(field)) = property else { continue };
                if name.ends_with("_at") {
                    field.format = Some(schemas::date_time());
                }
                if let Some(example) = examples.get_mut(name) {
                    field.example = Some(example.take());
                }
            }
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                complete_schema(items, in_place);
            }
        }
        Schema::OneOf(of) => each(&mut of.items),
        Schema::AllOf(of) => each(&mut of.items),
        Schema::AnyOf(of) => each(&mut of.items),
        _ => {}
    }
}

/// The schema of `in_place` that replaces a reference, or a nullable reference; `None` if nothing
/// is to be replaced.
fn referred(schema: &RefOr<Schema>, in_place: &InPlace) -> Option<RefOr<Schema>> {
    let (to, nullable) = match schema {
        RefOr::Ref(to) => (to, false),
        RefOr::T(Schema::OneOf(of)) => match of.items.as_slice() {
            [RefOr::Ref(to), _] => (to, true),
            _ => return None,
        },
        RefOr::T(_) => return None,
    };
    let name = to.ref_location.strip_prefix("#/components/schemas/")?;
    let mut found = in_place.get(name)?.clone();
    let (about, kind) = match &mut found {
        RefOr::T(Schema::Object(object)) => (&mut object.description, &mut object.schema_type),
        RefOr::T(Schema::Array(array)) => (&mut array.description, &mut array.schema_type),
        _ => return None,
    };
    *about = Some(to.description.clone()).filter(|about| !about.is_empty());
    if nullable && let SchemaType::Type(one) = kind {
        *kind = SchemaType::Array(vec![one.clone(), Type::Null]);
    }
    Some(found)
}

/// The OpenAPI document of a server, generated at the first request.
pub struct Document {
    routes: Routes,
    text: OnceLock<String>,
    served: OnceLock<StaticText>,
}

impl Document {
    /// The document of these routes.
    #[must_use]
    pub const fn new(routes: Routes) -> Self {
        Self { routes, text: OnceLock::new(), served: OnceLock::new() }
    }

    /// The document as text.
    ///
    /// # Errors
    /// The document cannot be serialized.
    pub fn text(&self) -> Result<&str, serde_json::Error> {
        if let Some(text) = self.text.get() {
            return Ok(text);
        }
        let mut made = serde_json::to_value(document(&self.routes))?;
        finish(&mut made);
        examples::add(&mut made)?;
        let made = made.to_string();
        Ok(self.text.get_or_init(|| made))
    }

    /// The routes of the server.
    #[must_use]
    pub const fn routes(&self) -> &Routes {
        &self.routes
    }
}

/// Returns the OpenAPI document.
#[utoipa::path(get, path = "/openapi.json", tag = "docs",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
pub async fn show_openapi(
    document: web::Data<Document>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let text = document.text().map_err(Error::internal)?;
    let served = document.served.get_or_init(|| StaticText::json(text));
    Ok(served.respond(&request, |_| {}))
}
