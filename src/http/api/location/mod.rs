//! Locations: where stock is, and whether it is sold from there.

use crate::http::edge::access::Access;
use crate::http::edge::principal::Scope;
use crate::http::edge::route::RouteList;
use crate::routes;

pub mod known;
pub mod locations;

const READ: Access = Access::Key(Scope::StockRead);
const WRITE: Access = Access::Key(Scope::StockWrite);

routes! {
    /// The list of routes, which `ROUTES` completes.
    const TABLE =
    GET    "/v1/admin/locations"            READ  Operate locations::list_locations;
    GET    "/v1/admin/locations/{location}" READ  Operate locations::get_location;
    PUT    "/v1/admin/locations/{location}" WRITE Operate locations::put_location;
    PATCH  "/v1/admin/locations/{location}" WRITE Operate locations::update_location;
    DELETE "/v1/admin/locations/{location}" WRITE Operate locations::delete_location;
}

/// The routes of locations.
pub const ROUTES: RouteList = RouteList { versioned: &["StockLocation"], ..TABLE };
