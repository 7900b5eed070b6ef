//! The table of delivery zones.

use kontor::store::row::{ColumnKind, Stored, Value, from_json, to_json};

use crate::recipe::delivery_zone::domain::delivery_zone::{Countries, DeliveryZone};

kontor::versioned_row! {
    DeliveryZone in "delivery_zone", key(code) { code, name, countries, fee, active }
}

impl Stored for Countries {
    const KIND: ColumnKind = ColumnKind::Text;

    fn to_value(&self) -> Value<'_> {
        to_json(self)
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        from_json(&value)
    }
}
