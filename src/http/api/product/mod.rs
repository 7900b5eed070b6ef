//! Products, one at a time or as an import.

use utoipa::openapi::OpenApi;
use utoipa::{PartialSchema as _, ToSchema as _};

use crate::http::docs::schemas::beside;
use crate::http::edge::access::Access;
use crate::http::edge::principal::Scope;
use crate::http::edge::route::{OperationLink, RouteList};
use crate::routes;

pub mod availability;
pub mod import;
pub mod products;
mod rejection;
pub mod schema;
pub mod shape;

const PUBLIC: Access = Access::Public;
const READ: Access = Access::Key(Scope::ProductsRead);
const WRITE: Access = Access::Key(Scope::ProductsWrite);

routes! {
    /// The list of routes, which `ROUTES` completes.
    const TABLE =
    GET   "/v1/store/products"       PUBLIC Browse  products::browse_products;
    GET   "/v1/store/products/{sku}" PUBLIC Browse  products::show_product;
    GET   "/v1/admin/products"       READ   Operate products::list_products;
    POST  "/v1/admin/products"       WRITE  Operate products::create_product;
    GET   "/v1/admin/products/{sku}" READ   Operate products::get_product;
    PUT   "/v1/admin/products/{sku}" WRITE  Operate products::put_product;
    PATCH "/v1/admin/products/{sku}" WRITE  Operate products::update_product;
    POST  "/v1/admin/imports"        WRITE  Operate import::import_products;
}

/// The routes of products.
pub const ROUTES: RouteList =
    RouteList { document, links: LINKS, versioned: &["Product", "StoreProduct"], ..TABLE };

/// The OpenAPI document of products. The schema of import rows is added by hand, because the
/// request type contains them as plain JSON values.
fn document() -> OpenApi {
    let row = (import::ImportRow::name().into_owned(), import::ImportRow::schema());
    let mut schemas = schema::all();
    schemas.push(row);
    import::ImportRow::schemas(&mut schemas);
    beside((TABLE.document)(), schemas)
}

const NEXT: &[(&str, &str)] = &[("after", "$response.body#/next_cursor")];
const SKU: &[(&str, &str)] = &[("sku", "$response.body#/sku")];
const SKUS: &[(&str, &str)] = &[("sku", "$response.body#/data/0/sku")];

const LINKS: &[OperationLink] = &[
    OperationLink { from: "browse_products", to: &["browse_products"], with: NEXT },
    OperationLink { from: "browse_products", to: &["show_product"], with: SKUS },
    OperationLink { from: "list_products", to: &["list_products"], with: NEXT },
    OperationLink { from: "list_products", to: &["get_product"], with: SKUS },
    OperationLink {
        from: "create_product",
        to: &["get_product", "update_product", "get_stock"],
        with: SKU,
    },
];
