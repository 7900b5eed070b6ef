//! The number of units by which a request changes stock.

use serde::Deserialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::stock::QUANTITY_MAX;

/// A number of units to add, or to remove if negative; not 0.
#[derive(Clone, Copy, Debug, Deserialize, garde::Validate)]
#[serde(transparent)]
#[garde(transparent)]
pub struct UnitsChange(#[garde(custom(check_change))] i64);

fn check_change(value: &i64, (): &()) -> garde::Result {
    if *value != 0 && value.unsigned_abs() <= QUANTITY_MAX.unsigned_abs() {
        Ok(())
    } else {
        Err(garde::Error::new(format!("must be from -{QUANTITY_MAX} to {QUANTITY_MAX}, not 0")))
    }
}

impl UnitsChange {
    /// The units.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl PartialSchema for UnitsChange {
    fn schema() -> RefOr<Schema> {
        let range = |min: i64, max: i64| {
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(min)).maximum(Some(max))
        };
        AnyOfBuilder::new()
            .description(Some("Units to add, or to remove if negative; not 0."))
            .item(range(1, QUANTITY_MAX))
            .item(range(-QUANTITY_MAX, -1))
            .into()
    }
}

impl ToSchema for UnitsChange {}
