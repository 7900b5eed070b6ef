//! Locations and the stock at them (I4): no order reserves units at a location that is not for sale.
//!
//! A location is closed by an event of its own, on another shard than the stock, and nodes notice it
//! after `shop.product_cache_ttl_ms`. So the two are compared by the times of their events, with a
//! day between them: what sells from a closed location by mistake does so for longer. Units may be
//! at a closed or deleted location: they stay there, or come back from an order.

use std::collections::BTreeMap;

use super::report::{Invariant, Violations};
use crate::actors::engine::host::decode;
use crate::domain::entity::{EntityId, Record};
use crate::domain::location::StockLocation;
use crate::domain::stock::{Event, Location};
use crate::domain::time::{Span, Timestamp};
use crate::domain::versioned;

/// How long after a location was closed a reservation may still be decided.
const LATE_MAX: Span = Span::from_secs(24 * 3600);

/// Which locations are closed, and the last reservation at each location.
#[derive(Default)]
pub(super) struct ForSale {
    closed: BTreeMap<Location, Timestamp>,
    reserved: BTreeMap<Location, (Timestamp, EntityId, i64)>,
}

impl ForSale {
    /// Folds an event of a location. One that cannot be read is reported by the book of locations.
    pub(super) fn fold_location(&mut self, record: &Record) {
        let Ok(event) = decode::<versioned::Event<StockLocation>>(record) else { return };
        let location = event.into_value();
        if location.for_sale && !location.deleted {
            self.closed.remove(&location.id);
        } else {
            self.closed.entry(location.id).or_insert(record.at);
        }
    }

    /// Notes the locations of a reservation.
    pub(super) fn note_reserved(&mut self, record: &Record, event: &Event) {
        let Event::Reserved { parts, .. } = event else { return };
        for part in parts {
            let last = self.reserved.get(&part.location);
            if last.is_none_or(|(at, ..)| *at <= record.at) {
                let now = (record.at, record.entity.clone(), record.pos);
                self.reserved.insert(part.location.clone(), now);
            }
        }
    }

    /// Checks the locations that are closed now.
    pub(super) fn check(&self, findings: &mut Violations) {
        for (location, closed_at) in &self.closed {
            let Some((at, entity, pos)) = self.reserved.get(location) else { continue };
            if *at > *closed_at + LATE_MAX {
                let why = format!(
                    "units at {location} were reserved at {at}, but it has been closed since \
                     {closed_at}"
                );
                findings.add(Invariant::I4, entity, &[*pos], why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::versioned::Versioned as _;

    fn record(entity: &str, (pos, hours): (i64, i64), data: &str) -> Record {
        Record {
            shard: 0,
            pos,
            entity: EntityId::new(entity),
            seq: pos,
            kind: "updated".into(),
            version: 1,
            at: Timestamp::from_millis(hours * 3_600_000),
            cause: "{}".into(),
            data: data.into(),
            intact: true,
        }
    }

    fn changed(books: &mut ForSale, hours: i64, (for_sale, deleted): (bool, bool)) {
        let Ok(id) = "annex".parse() else { panic!("it is a location") };
        let location = StockLocation { for_sale, deleted, ..StockLocation::undescribed(id) };
        let entity = StockLocation::entity_id(&location.id);
        let event = serde_json::to_string(&versioned::Event::Updated(location)).unwrap();
        books.fold_location(&record(entity.as_str(), (1, hours), &event));
    }

    /// The violations if units are reserved after so many hours.
    fn found(books: &mut ForSale, hours: i64) -> usize {
        let data = r#"{"reserved": {"order": "ord_01k8x4m5n6p7q8r9s0t1v2w3x4", "gen": 1,
            "parts": [{"loc": "annex", "qty": 1}], "until": 1}}"#;
        let record = record("sku_LAMP", (2, hours), data);
        let event = serde_json::from_str(data).unwrap();
        books.note_reserved(&record, &event);
        let mut findings = Violations::default();
        books.check(&mut findings);
        findings.kept.len()
    }

    #[test]
    fn a_location_that_is_closed_for_long_sells_nothing() {
        let mut books = ForSale::default();
        assert_eq!(found(&mut books, 100), 0, "nobody closed it");
        changed(&mut books, 100, (false, false));
        assert_eq!(found(&mut books, 101), 0, "a node may not know it yet");
        changed(&mut books, 110, (false, true));
        assert_eq!(found(&mut books, 125), 1, "it was closed first, and then deleted");
        changed(&mut books, 126, (true, false));
        assert_eq!(found(&mut books, 200), 0, "it is open again");
    }
}
