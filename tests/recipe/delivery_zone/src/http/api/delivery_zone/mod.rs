//! Delivery zones: how they are listed and edited.

use kontor::http::edge::access::Access;
use kontor::http::edge::principal::Scope;
use kontor::http::edge::route::RouteList;
use kontor::routes;

pub mod delivery_zones;

const READ: Access = Access::Key(Scope::ProductsRead);
const WRITE: Access = Access::Key(Scope::ProductsWrite);

routes! {
    /// The routes alone.
    const TABLE =
    GET "/v1/admin/delivery-zones"        READ  Operate delivery_zones::list_delivery_zones;
    GET "/v1/admin/delivery-zones/{code}" READ  Operate delivery_zones::get_delivery_zone;
    PUT "/v1/admin/delivery-zones/{code}" WRITE Operate delivery_zones::put_delivery_zone;
}

/// The routes of delivery zones. What has a version is answered with an `ETag`, and changed with
/// `If-Match`: the API's document says so of these schemas.
pub const ROUTES: RouteList = RouteList { versioned: &["DeliveryZoneShape"], ..TABLE };
