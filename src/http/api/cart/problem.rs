//! The members of the problems of carts.

use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use crate::http::api::cart::requirement::RequirementShape;
use crate::http::api::shape::Money;
use crate::http::docs::schemas;
use crate::http::edge::problem::{Code, Members};
use crate::http::edge::problem_body::problem_schema;

/// The members of `cart_spent`.
#[derive(Debug, Serialize, ToSchema)]
pub struct CartSpent {
    /// The order that the cart has become.
    #[schema(value_type = schemas::OrderId)]
    pub order: String,
}

/// The members of `cart_incomplete`.
#[derive(Debug, Serialize, ToSchema)]
pub struct CartIncomplete {
    /// What the cart still lacks.
    pub requirements: Vec<RequirementShape>,
}

/// The members of `cart_changed`.
#[derive(Debug, Serialize, ToSchema)]
pub struct CartChanged {
    /// The total of the cart.
    pub total: Money,
}

impl Members for CartSpent {
    const CODE: Code = Code::CartSpent;
}

impl Members for CartIncomplete {
    const CODE: Code = Code::CartIncomplete;
}

impl Members for CartChanged {
    const CODE: Code = Code::CartChanged;
}

/// The schemas of these problems.
#[must_use]
pub fn all() -> Vec<(String, RefOr<Schema>)> {
    [
        problem_schema::<CartSpent>(),
        problem_schema::<CartIncomplete>(),
        problem_schema::<CartChanged>(),
    ]
    .concat()
}
