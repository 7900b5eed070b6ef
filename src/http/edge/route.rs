//! A route, the list of routes of one noun or one part of `http`, and all lists of a server.
//!
//! Lists are declared next to their handlers and joined in `http::routes`; `router` dispatches
//! requests.

use std::collections::BTreeSet;

use actix_web::http::Method;
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::{OpenApi, RefOr};

use super::access::Access;
use super::load_shedding::Class;
use super::problem::Code;

/// A route.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, in actix's syntax.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// The class for load shedding: it determines how early requests are refused under overload.
    pub class: Class,
    /// The handler's name, which is the OpenAPI operation id.
    pub operation: &'static str,
    /// Whether the handler reads parameters of the query, and refuses those that it does not know.
    pub reads_query: fn() -> bool,
    /// The handler.
    pub handler: fn() -> actix_web::Route,
}

impl Route {
    /// Whether it is for nodes and their administrators only, so that it may have an address of its own.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.path == "/metrics" || self.path.starts_with("/v1/node/")
    }
}

/// Links in the OpenAPI document: operations whose parameters an operation's answer contains.
#[derive(Clone, Copy, Debug)]
pub struct OperationLink {
    /// The operation that was answered.
    pub from: &'static str,
    /// The operations that can be called next.
    pub to: &'static [&'static str],
    /// Parameters of these operations, each with a runtime expression for its place in the answer.
    pub with: &'static [(&'static str, &'static str)],
}

/// The routes of a noun or a part of `http`, and their documentation.
#[derive(Clone, Copy)]
pub struct RouteList {
    /// The routes. If two match a request, the first one is used.
    pub routes: &'static [Route],
    /// The documentation of the handlers, with their schemas.
    pub document: fn() -> OpenApi,
    /// The links between operations.
    pub links: &'static [OperationLink],
    /// Operations, each with the error codes with members of their own that it answers for reasons
    /// of its own.
    pub problems: &'static [(&'static str, &'static [Code])],
    /// The names of the schemas that are a resource with a version: an answer with one has an
    /// `ETag`.
    pub versioned: &'static [&'static str],
}

/// The operations of a document that have parameters in the query.
#[must_use]
pub fn reading_query(document: OpenApi) -> BTreeSet<String> {
    let items = document.paths.paths.into_values();
    let operations =
        items.flat_map(|item| [item.get, item.put, item.post, item.delete, item.patch]);
    let reads = operations.flatten().filter(|operation| {
        let mut parameters = operation.parameters.iter().flatten();
        parameters.any(|parameter| {
            matches!(parameter, RefOr::T(one) if one.parameter_in == ParameterIn::Query)
        })
    });
    reads.filter_map(|operation| operation.operation_id).collect()
}

/// All routes of a server.
#[derive(Clone, Default)]
pub struct Routes(Vec<RouteList>);

impl Routes {
    /// Adds the routes of a list.
    #[must_use]
    pub fn with(mut self, list: RouteList) -> Self {
        self.0.push(list);
        self
    }

    /// The lists, in the order in which they were added.
    #[must_use]
    pub fn lists(&self) -> &[RouteList] {
        &self.0
    }

    /// The routes of all lists.
    pub fn all(&self) -> impl Iterator<Item = &'static Route> {
        self.0.iter().flat_map(|list| list.routes)
    }
}

/// Declares a list of routes, one per row: method, path, access, class and handler.
///
/// ```ignore
/// routes! {
///     /// The routes of gift cards.
///     pub const ROUTES =
///     GET  "/v1/admin/gift-cards/{id}" READ  Operate gift_cards::get_gift_card;
///     POST "/v1/admin/gift-cards"      WRITE Operate gift_cards::issue_gift_card;
/// }
/// ```
///
/// `READ` and `WRITE` are constants of [`Access`]. Every handler has its `#[utoipa::path]`.
#[macro_export]
macro_rules! routes {
    (
        $(#[$about:meta])*
        $visible:vis const $name:ident =
        $($method:ident $path:literal $access:ident $class:ident $module:ident::$handler:ident;)*
    ) => {
        $(#[$about])*
        $visible const $name: $crate::http::edge::route::RouteList = {
            #[derive(utoipa::OpenApi)]
            #[openapi(paths($($module::$handler),*))]
            struct Documented;

            static READING_QUERY: std::sync::LazyLock<std::collections::BTreeSet<String>> =
                std::sync::LazyLock::new(|| {
                    let document = <Documented as utoipa::OpenApi>::openapi();
                    $crate::http::edge::route::reading_query(document)
                });

            $crate::http::edge::route::RouteList {
                routes: &[$($crate::http::edge::route::Route {
                    method: actix_web::http::Method::$method,
                    path: $path,
                    access: $access,
                    class: $crate::http::edge::load_shedding::Class::$class,
                    operation: stringify!($handler),
                    reads_query: || READING_QUERY.contains(stringify!($handler)),
                    handler: || actix_web::web::route().to($module::$handler),
                }),*],
                document: <Documented as utoipa::OpenApi>::openapi,
                links: &[],
                problems: &[],
                versioned: &[],
            }
        };
    };
}
