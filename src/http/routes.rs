//! All routes of a server, put together from the lists that stand beside the handlers. They are the
//! only source of the app's configuration and of the OpenAPI document.

use super::api::{cart, location, order, product, stock, webhook};
use super::edge::route::Routes;
use super::{docs, live, operator};

impl Routes {
    /// The routes that every server has.
    #[must_use]
    pub fn standard() -> Self {
        Self::default()
            .with(cart::ROUTES)
            .with(order::ROUTES)
            .with(product::ROUTES)
            .with(stock::ROUTES)
            .with(location::ROUTES)
            .with(webhook::ROUTES)
            .with(operator::ROUTES)
            .with(live::ROUTES)
            .with(docs::ROUTES)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use actix_web::http::Method;

    use super::*;
    use crate::http::docs::openapi::{Document, LEFT_OUT, document, plain};
    use crate::http::edge::access::Access;
    use crate::http::edge::load_shedding::Class;
    use crate::http::edge::principal::Scope;

    #[test]
    fn the_table_has_each_route_and_operation_once_and_guards_the_admin_surface() {
        let (mut routes, mut operations) = (BTreeSet::new(), BTreeSet::new());
        for route in Routes::standard().all() {
            assert!(routes.insert((route.path, route.method.as_str())), "{}", route.path);
            assert!(operations.insert(route.operation), "{}", route.operation);
            let buyers = route.path.starts_with("/v1/store/");
            assert!(!(buyers && route.class == Class::Operate), "{}", route.path);
            let admin = route.path.starts_with("/v1/admin/");
            let open = matches!(route.access, Access::Public | Access::Signed(_));
            assert!(!(admin && open), "{}", route.path);
            if let Access::Key(scope) = route.access {
                // An export writes a file of what its caller may read, and nothing else.
                let reads = route.method == Method::GET
                    || route.path.starts_with("/v1/admin/order-exports");
                let of_erasure = ["/v1/admin/erasures", "/v1/admin/orders/{id}/legal-hold"];
                let erases = scope == Scope::PeopleErase && of_erasure.contains(&route.path);
                let verb = if reads { "read" } else { "write" };
                assert!(erases || scope == Scope::Ops || scope.as_str().ends_with(verb));
            }
        }
    }
    fn described() -> Vec<(String, String, String)> {
        let mut all = Vec::new();
        for (path, item) in &document(&Routes::standard()).paths.paths {
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
    fn openapi_document_has_exactly_the_routes_of_the_api() {
        let document: BTreeSet<_> = described().into_iter().collect();
        let table: BTreeSet<_> = Routes::standard()
            .all()
            .filter(|route| !LEFT_OUT.contains(&route.operation))
            .map(|route| (plain(route.path), route.method.to_string(), route.operation.to_owned()))
            .collect();
        assert_eq!(document, table);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = Document::new(Routes::standard());
        let text = document.text().unwrap();
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let schemas = value["components"]["schemas"].as_object().unwrap();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }

    #[test]
    fn openapi_paths_and_operations_are_unchanged() {
        let lines: Vec<String> = described()
            .iter()
            .map(|(path, method, operation)| format!("{method:6} {path} {operation}"))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
