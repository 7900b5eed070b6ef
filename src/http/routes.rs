//! THE table of all routes: method, path, who may call, what it is for, handler. The app is configured from it
//! and from nothing else, and so is the API's document.

use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::dev::ServiceRequest;
use actix_web::guard;
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, ServiceConfig};
use utoipa::OpenApi;

use crate::http::api::cart::carts;
use crate::http::api::cart::checkout;
use crate::http::api::order::change;
use crate::http::api::order::read;
use crate::http::api::product::import;
use crate::http::api::product::products;
use crate::http::api::stock;
use crate::http::api::webhook;
use crate::http::docs::openapi;
use crate::http::edge::access::{Access, Scope, enforce};
use crate::http::edge::error::Error;
use crate::http::edge::load_shedding::Class;
use crate::http::edge::problem;
use crate::http::edge::session;
use crate::http::live::{asyncapi, socket, sse, ticket};
use crate::http::operator::admin_page;
use crate::http::operator::cluster;
use crate::http::operator::dead_letters;
use crate::http::operator::entities;
use crate::http::operator::health;
use crate::http::operator::jobs;
use crate::http::operator::metrics;
use crate::http::operator::node_calls;
use crate::http::operator::settings;

/// A route.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, as actix reads it.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// What it is for, which says how early it is refused when there is too much to do.
    pub class: Class,
    /// The handler's name, which is the operation's id.
    pub operation: &'static str,
    /// The handler.
    pub handler: fn() -> actix_web::Route,
}

const PUBLIC: Access = Access::Public;
const CART: Access = Access::Cart;
const ORDER: Access = Access::Order;
const WEBHOOK: Access = Access::Webhook;
const NODE: Access = Access::Node;
const READ_ORDERS: Access = Access::Key(Scope::OrdersRead);
const WRITE_ORDERS: Access = Access::Key(Scope::OrdersWrite);
const READ_PRODUCTS: Access = Access::Key(Scope::ProductsRead);
const WRITE_PRODUCTS: Access = Access::Key(Scope::ProductsWrite);
const READ_STOCK: Access = Access::Key(Scope::StockRead);
const WRITE_STOCK: Access = Access::Key(Scope::StockWrite);
const WRITE_SETTINGS: Access = Access::Key(Scope::SettingsWrite);
const OPS: Access = Access::Key(Scope::Ops);
const ANY_KEY: Access = Access::AnyKey;
const LIVE: Access = Access::Live;

macro_rules! routes {
    ($($method:ident $path:literal $access:ident $class:ident $module:ident::$handler:ident;)*) => {
        /// All routes.
        pub const TABLE: &[Route] = &[$(Route {
            method: Method::$method,
            path: $path,
            access: $access,
            class: Class::$class,
            operation: stringify!($handler),
            handler: || web::route().to($module::$handler),
        }),*];

        #[derive(OpenApi)]
        #[openapi(paths($($module::$handler),*))]
        struct Documented;
    };
}

routes! {
    POST   "/v1/store/carts"                                CART           Cart     carts::create_cart;
    GET    "/v1/store/carts/{id}"                           CART           Cart     carts::get_cart;
    PATCH  "/v1/store/carts/{id}"                           CART           Cart     carts::update_cart;
    POST   "/v1/store/carts/{id}/lines"                     CART           Cart     carts::add_lines;
    PATCH  "/v1/store/carts/{id}/lines/{line}"              CART           Cart     carts::set_quantity;
    DELETE "/v1/store/carts/{id}/lines/{line}"              CART           Cart     carts::remove_line;
    POST   "/v1/store/carts/{id}/checkout"                  CART           Checkout checkout::check_out;
    GET    "/v1/store/delivery-options"                     PUBLIC         Cart     carts::list_delivery_options;
    GET    "/v1/store/orders/{id}"                          ORDER          Checkout read::get_my_order;
    GET    "/v1/store/orders/{id}/live"                     ORDER          Checkout sse::watch_my_order;
    GET    "/v1/store/products"                             PUBLIC         Browse   products::browse_products;
    GET    "/v1/store/products/{sku}"                       PUBLIC         Browse   products::show_product;

    GET    "/v1/admin/products"                             READ_PRODUCTS  Operate  products::list_products;
    POST   "/v1/admin/products"                             WRITE_PRODUCTS Operate  products::create_product;
    GET    "/v1/admin/products/{sku}"                       READ_PRODUCTS  Operate  products::get_product;
    PUT    "/v1/admin/products/{sku}"                       WRITE_PRODUCTS Operate  products::put_product;
    PATCH  "/v1/admin/products/{sku}"                       WRITE_PRODUCTS Operate  products::update_product;
    POST   "/v1/admin/imports"                              WRITE_PRODUCTS Operate  import::import_products;

    GET    "/v1/admin/stock"                                READ_STOCK     Operate  stock::list_stock;
    GET    "/v1/admin/stock/{sku}"                          READ_STOCK     Operate  stock::get_stock;
    POST   "/v1/admin/stock/{sku}/transfers"                WRITE_STOCK    Operate  stock::transfer_stock;
    PUT    "/v1/admin/stock/{sku}/{location}"               WRITE_STOCK    Operate  stock::set_stock;
    POST   "/v1/admin/stock/{sku}/{location}/receipts"      WRITE_STOCK    Operate  stock::receive_stock;
    POST   "/v1/admin/stock/{sku}/{location}/adjustments"   WRITE_STOCK    Operate  stock::adjust_stock;
    POST   "/v1/admin/stock/{sku}/{location}/incoming"      WRITE_STOCK    Operate  stock::expect_stock;

    GET    "/v1/admin/orders"                               READ_ORDERS    Operate  read::list_orders;
    GET    "/v1/admin/orders/{id}"                          READ_ORDERS    Operate  read::get_order;
    GET    "/v1/admin/orders/{id}/events"                   READ_ORDERS    Operate  read::list_order_events;
    POST   "/v1/admin/orders/{id}/cancel"                   WRITE_ORDERS   Operate  change::cancel_order;
    POST   "/v1/admin/orders/{id}/refunds"                  WRITE_ORDERS   Operate  change::refund_order;
    POST   "/v1/admin/orders/{id}/captures"                 WRITE_ORDERS   Operate  change::capture_order;
    POST   "/v1/admin/orders/{id}/fulfillments"             WRITE_ORDERS   Operate  change::fulfill_order;
    POST   "/v1/admin/orders/{id}/retry"                    WRITE_ORDERS   Operate  change::retry_order;
    POST   "/v1/admin/orders/{id}/skip"                     WRITE_ORDERS   Operate  change::skip_order_step;

    GET    "/v1/admin/sagas"                                OPS            Operate  entities::list_sagas;
    GET    "/v1/admin/dead-letters"                         OPS            Operate  dead_letters::list_dead_letters;
    POST   "/v1/admin/dead-letters/replay"                  OPS            Operate  dead_letters::replay_dead_letters;
    GET    "/v1/admin/dead-letters/{id}"                    OPS            Operate  dead_letters::get_dead_letter;
    POST   "/v1/admin/dead-letters/{id}/replay"             OPS            Operate  dead_letters::replay_dead_letter;
    DELETE "/v1/admin/dead-letters/{id}"                    OPS            Operate  dead_letters::discard_dead_letter;
    GET    "/v1/admin/webhooks"                             OPS            Operate  entities::list_parked_webhooks;
    DELETE "/v1/admin/webhooks/{id}"                        OPS            Operate  entities::discard_parked_webhook;
    POST   "/v1/admin/webhooks/{id}/retry"                  OPS            Operate  entities::retry_parked_webhook;
    POST   "/v1/admin/quarantine/{entity}/retry"            OPS            Operate  entities::retry_quarantined;
    GET    "/v1/admin/cluster"                              OPS            Operate  cluster::show_cluster;
    POST   "/v1/admin/cluster/nodes/{id}/drain"             OPS            Operate  cluster::drain_node;
    POST   "/v1/admin/cluster/nodes/{id}/undrain"           OPS            Operate  cluster::undrain_node;
    POST   "/v1/admin/cluster/shards/{id}/move"             OPS            Operate  cluster::move_shard;
    DELETE "/v1/admin/cluster/shards/{id}/pin"              OPS            Operate  cluster::unpin_shard;
    GET    "/v1/admin/jobs"                                 OPS            Operate  jobs::list_jobs;
    POST   "/v1/admin/jobs"                                 OPS            Operate  jobs::add_job;
    GET    "/v1/admin/jobs/{id}"                            OPS            Operate  jobs::get_job;
    DELETE "/v1/admin/jobs/{id}"                            OPS            Operate  jobs::discard_job;
    POST   "/v1/admin/jobs/{id}/retry"                      OPS            Operate  jobs::retry_job;
    GET    "/v1/admin/schedules"                            OPS            Operate  jobs::list_schedules;
    PUT    "/v1/admin/schedules"                            OPS            Operate  jobs::put_schedule;

    GET    "/v1/admin/settings"                             OPS            Operate  settings::list_settings;
    GET    "/v1/admin/settings/{name}"                      OPS            Operate  settings::get_setting;
    PUT    "/v1/admin/settings/{name}"                      WRITE_SETTINGS Operate  settings::put_setting;
    GET    "/v1/admin/settings/{name}/history"              OPS            Operate  settings::list_setting_changes;

    GET    "/v1/admin/live"                                 LIVE           Operate  socket::open_live;
    POST   "/v1/admin/live/tickets"                         ANY_KEY        Operate  ticket::create_live_ticket;
    POST   "/v1/session"                                    PUBLIC         Operate  session::create_session;
    GET    "/v1/session"                                    PUBLIC         Operate  session::get_session;
    DELETE "/v1/session"                                    PUBLIC         Operate  session::delete_session;

    POST   "/v1/webhooks/{provider}"                        WEBHOOK        Operate  webhook::take_webhook;
    POST   "/v1/node/calls"                                 NODE           Checkout node_calls::answer_node;

    GET    "/"                                              PUBLIC         Browse   admin_page::show_start;
    GET    "/admin"                                         PUBLIC         Operate  admin_page::show_admin;
    GET    "/admin/{file:.*}"                               PUBLIC         Operate  admin_page::show_admin_file;
    GET    "/livez"                                         PUBLIC         Health   health::check_live;
    GET    "/readyz"                                        PUBLIC         Health   health::check_ready;
    GET    "/metrics"                                       PUBLIC         Health   metrics::show_metrics;
    GET    "/openapi.json"                                  PUBLIC         Browse   openapi::show_openapi;
    GET    "/asyncapi.json"                                 PUBLIC         Browse   asyncapi::show_asyncapi;
    GET    "/docs/errors/{code}"                            PUBLIC         Browse   problem::explain_error;
    GET    "/docs"                                          PUBLIC         Browse   openapi::redirect_to_docs;
    GET    "/docs/{file:.*}"                                PUBLIC         Browse   openapi::show_docs;
}

/// The document of all routes, as their handlers describe them.
#[must_use]
pub fn documented() -> utoipa::openapi::OpenApi {
    Documented::openapi()
}

/// Adds all routes to an app.
pub fn configure(config: &mut ServiceConfig) {
    let mut done: Vec<&str> = Vec::new();
    for first in TABLE {
        if done.contains(&first.path) {
            continue;
        }
        done.push(first.path);
        let here = || TABLE.iter().filter(|route| route.path == first.path);
        let mut resource = web::resource(first.path);
        for route in here() {
            resource = resource.route(serve(route));
        }
        let mut allow: Vec<&str> = here().map(|route| route.method.as_str()).collect();
        if allow.contains(&"GET") {
            allow.push("HEAD");
        }
        let allow = allow.join(", ");
        resource = resource.default_service(web::to(move || {
            let error = Error::method_not_allowed(&allow);
            async { Err::<HttpResponse, Error>(error) }
        }));
        config.service(resource);
    }
}

fn serve(route: &'static Route) -> actix_web::Route {
    let method = route.method.clone();
    (route.handler)()
        .guard(guard::fn_guard(move |context| {
            let asked = &context.head().method;
            *asked == method || (*asked == Method::HEAD && method == Method::GET)
        }))
        .wrap(from_fn(move |request: ServiceRequest, next: Next<BoxBody>| {
            enforce(route, request, next)
        }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_has_each_route_and_operation_once_and_guards_the_admin_surface() {
        let (mut routes, mut operations) = (BTreeSet::new(), BTreeSet::new());
        for route in TABLE {
            assert!(routes.insert((route.path, route.method.as_str())), "{}", route.path);
            assert!(operations.insert(route.operation), "{}", route.operation);
            let buyers = route.path.starts_with("/v1/store/");
            assert!(!(buyers && route.class == Class::Operate), "{}", route.path);
            let admin = route.path.starts_with("/v1/admin/");
            let guarded = matches!(route.access, Access::Key(_) | Access::AnyKey | Access::Live);
            assert_eq!(admin, guarded, "{}", route.path);
            if let Access::Key(scope) = route.access {
                let reads = route.method == Method::GET;
                assert!(
                    scope == Scope::Ops
                        || scope.as_str().ends_with(if reads { "read" } else { "write" })
                );
            }
        }
    }
}
