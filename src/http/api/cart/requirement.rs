//! What a cart still lacks before checkout, as the API shows it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::pricing::Requirement;
use crate::http::docs::schemas::{one_kind_of, schemas};

schemas! {
    /// What a cart still lacks, for programs.
    RequirementCode one_kind_of::<Requirement>;
}

/// A requirement that the cart must meet before checkout.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequirementShape {
    #[schema(value_type = RequirementCode)]
    code: &'static str,
    message: String,
}

impl From<&Requirement> for RequirementShape {
    fn from(one: &Requirement) -> Self {
        Self { code: one.code(), message: one.to_string() }
    }
}
