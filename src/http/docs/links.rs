//! The `links` of the OpenAPI document, from an answer to the operations that can follow, such as
//! from a cart to its checkout. They are declared next to the routes of each noun.

use utoipa::openapi::RefOr;
use utoipa::openapi::link;
use utoipa::openapi::path::Operation;

use crate::http::edge::route::OperationLink;

/// Adds the links of an operation to its successful answers.
pub fn add(operation: &mut Operation, name: &str, links: &[OperationLink]) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if !status.starts_with('2') {
            continue;
        }
        for one in links.iter().filter(|link| link.from == name) {
            for target in one.to {
                let mut link = link::Link::builder().operation_id(*target);
                for (parameter, expression) in one.with {
                    link = link.parameter(*parameter, *expression);
                }
                response.links.insert((*target).to_owned(), RefOr::T(link.build()));
            }
        }
    }
}
