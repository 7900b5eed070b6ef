//! Orders: reading them, as a buyer or in the back office, and changing them in the back office.

use utoipa::openapi::OpenApi;

use crate::http::api::token;
use crate::http::docs::schemas::beside;
use crate::http::edge::access::Access;
use crate::http::edge::principal::Scope;
use crate::http::edge::route::{OperationLink, RouteList};
use crate::routes;

pub mod allocations;
pub mod change;
pub mod event;
pub mod list;
pub mod new_token;
pub mod part;
pub mod problem;
pub mod read;
pub mod rejection;
pub mod replacement;
pub mod schema;
pub mod shape;
pub mod waiting;

/// Access with the order's token, for the buyer.
pub const BUYER: Access = Access::Proof(&token::ORDER);
const READ: Access = Access::Key(Scope::OrdersRead);
const WRITE: Access = Access::Key(Scope::OrdersWrite);
const ERASE: Access = Access::Key(Scope::PeopleErase);

routes! {
    /// The list of routes, which `ROUTES` completes.
    const TABLE =
    GET    "/v1/store/orders/{id}"              BUYER Checkout read::get_my_order;
    GET    "/v1/admin/orders"                   READ  Operate  list::list_orders;
    GET    "/v1/admin/orders/{id}"              READ  Operate  read::get_order;
    GET    "/v1/admin/orders/{id}/events"       READ  Operate  read::list_order_events;
    POST   "/v1/admin/orders/{id}/cancel"       WRITE Operate  change::cancel_order;
    POST   "/v1/admin/orders/{id}/refunds"      WRITE Operate  change::refund_order;
    POST   "/v1/admin/orders/{id}/captures"     WRITE Operate  change::capture_order;
    POST   "/v1/admin/orders/{id}/fulfillments" WRITE Operate  change::fulfill_order;
    PATCH  "/v1/admin/orders/{id}/fulfillments/{fulfillment}" WRITE Operate change::update_fulfillment;
    POST   "/v1/admin/orders/{id}/tokens"       WRITE Operate  new_token::issue_order_token;
    POST   "/v1/admin/orders/{id}/retry"        WRITE Operate  change::retry_order;
    POST   "/v1/admin/orders/{id}/skip"         WRITE Operate  change::skip_order_step;
    PUT    "/v1/admin/orders/{id}/legal-hold"   ERASE Operate  change::place_legal_hold;
    DELETE "/v1/admin/orders/{id}/legal-hold"   ERASE Operate  change::release_legal_hold;
}

/// The routes of orders.
pub const ROUTES: RouteList =
    RouteList { document, links: LINKS, versioned: &["Order", "AdminOrder"], ..TABLE };

/// The OpenAPI document of orders, with the security schemes of buyers' tokens.
fn document() -> OpenApi {
    let mut document = beside((TABLE.document)(), [schema::all(), problem::all()].concat());
    token::add_schemes(&mut document);
    document
}

/// The operations that take the id of an order.
pub const TO_ORDER: &[&str] = &[
    "get_order",
    "list_order_events",
    "cancel_order",
    "refund_order",
    "capture_order",
    "fulfill_order",
    "update_fulfillment",
    "issue_order_token",
    "retry_order",
    "skip_order_step",
    "place_legal_hold",
    "release_legal_hold",
];
const FIRST: &[(&str, &str)] = &[("id", "$response.body#/data/0/id")];
const NEXT: &[(&str, &str)] = &[("after", "$response.body#/next_cursor")];
const NEXT_EVENTS: &[(&str, &str)] =
    &[("id", "$request.path.id"), ("after", "$response.body#/next_cursor")];

const LINKS: &[OperationLink] = &[
    OperationLink { from: "list_orders", to: TO_ORDER, with: FIRST },
    OperationLink { from: "list_orders", to: &["list_orders"], with: NEXT },
    OperationLink { from: "list_order_events", to: &["list_order_events"], with: NEXT_EVENTS },
];
