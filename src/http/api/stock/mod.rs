//! Stock levels: reading them, and changing them as an operator.

use crate::http::docs::schemas::beside;
use crate::http::edge::access::Access;
use crate::http::edge::principal::Scope;
use crate::http::edge::route::{OperationLink, RouteList};
use crate::routes;

pub mod history;
pub mod levels;
pub mod rejection;
pub mod schema;
pub mod units_change;

const READ: Access = Access::Key(Scope::StockRead);
const WRITE: Access = Access::Key(Scope::StockWrite);

routes! {
    /// The list of routes, which `ROUTES` completes.
    const TABLE =
    GET  "/v1/admin/stock"                              READ  Operate levels::list_stock;
    GET  "/v1/admin/stock/{sku}"                        READ  Operate levels::get_stock;
    GET  "/v1/admin/stock/{sku}/events"                 READ  Operate history::list_stock_events;
    POST "/v1/admin/stock/{sku}/transfers"              WRITE Operate levels::transfer_stock;
    PUT  "/v1/admin/stock/{sku}/{location}"             WRITE Operate levels::set_stock;
    POST "/v1/admin/stock/{sku}/{location}/receipts"    WRITE Operate levels::receive_stock;
    POST "/v1/admin/stock/{sku}/{location}/adjustments" WRITE Operate levels::adjust_stock;
    POST "/v1/admin/stock/{sku}/{location}/incoming"    WRITE Operate levels::expect_stock;
}

/// The routes of stock.
pub const ROUTES: RouteList = RouteList {
    links: &[
        OperationLink {
            from: "list_stock",
            to: &["list_stock"],
            with: &[("after", "$response.body#/next_cursor")],
        },
        OperationLink {
            from: "list_stock_events",
            to: &["list_stock_events"],
            with: &[("sku", "$request.path.sku"), ("after", "$response.body#/next_cursor")],
        },
        OperationLink {
            from: "list_stock",
            to: &["get_stock"],
            with: &[("sku", "$response.body#/data/0/sku")],
        },
    ],
    document: || beside((TABLE.document)(), schema::all()),
    versioned: &["StockItem"],
    ..TABLE
};
