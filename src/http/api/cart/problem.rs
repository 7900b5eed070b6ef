//! The members of the problems of carts.

use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use crate::http::api::cart::requirement::RequirementShape;
use crate::http::api::shape::Money;
use crate::http::docs::schemas;
use crate::http::edge::problem::{Code, Members};
use crate::http::edge::problem_body::problem_schema;
use crate::providers::challenge::Challenge;

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

/// The members of `challenge_required`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChallengeRequired {
    /// The challenge to solve.
    pub challenge: ChallengeShape,
}

/// A challenge, as the shop's challenge hook gives it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChallengeShape {
    /// Its type.
    #[serde(rename = "type")]
    #[schema(example = "captcha")]
    pub kind: String,
    /// The public key of the shop at the maker of the challenge.
    pub site_key: Option<String>,
    /// Where the buyer finds the challenge.
    pub url: Option<String>,
}

impl From<Challenge> for ChallengeShape {
    fn from(challenge: Challenge) -> Self {
        let Challenge { kind, site_key, url } = challenge;
        Self { kind, site_key, url }
    }
}

/// The members of `too_many_held`.
#[derive(Debug, Serialize, ToSchema)]
pub struct TooManyHeld {
    /// What the units are counted by: `cart`, `email`, `address` or `network`.
    #[schema(example = "email")]
    pub bound: &'static str,
    /// The most units.
    #[schema(minimum = 1)]
    pub most: u32,
    /// The units of the cart.
    #[schema(minimum = 1)]
    pub requested: u32,
}

impl Members for ChallengeRequired {
    const CODE: Code = Code::ChallengeRequired;
}

impl Members for TooManyHeld {
    const CODE: Code = Code::TooManyHeld;
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
        problem_schema::<ChallengeRequired>(),
        problem_schema::<TooManyHeld>(),
    ]
    .concat()
}
