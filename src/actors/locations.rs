//! The locations of the shop, in memory: which there are, and from which no stock is sold. They
//! are rows; a location of the settings that has no row is one that nobody has described.
//!
//! A row has precedence over the settings. The order in which stock is taken from locations is
//! only in the settings.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::engine::row_host::{Error, Expect, RowHost, WriteOutcome};
use crate::domain::entity::Cause;
use crate::domain::location::StockLocation;
use crate::domain::stock::Location;
use crate::domain::time::Timestamp;
use crate::store::versioned::{Row, list_behind};
use crate::store::{self, Tables};

/// The maximum number of locations.
pub const LOCATIONS_MAX: usize = 1_000;

/// The locations of the shop.
pub struct Locations {
    /// The rows.
    pub rows: Arc<RowHost<StockLocation>>,
    store: Arc<dyn Tables>,
    /// The locations of the settings, in the order in which stock is taken from them.
    order: Arc<[Location]>,
    known: RwLock<Arc<Known>>,
    /// How often the rows are read again, if other nodes write them.
    period: Option<Duration>,
}

/// All rows, as they were read last.
#[derive(Default)]
struct Known {
    rows: BTreeMap<Location, Row<StockLocation>>,
    closed: Arc<[Location]>,
    deleted: Arc<[Location]>,
}

impl Locations {
    /// The locations of these settings and rows. No row is known until [`Locations::refresh`].
    #[must_use]
    pub fn new(
        rows: Arc<RowHost<StockLocation>>,
        store: Arc<dyn Tables>,
        order: Arc<[Location]>,
        period: Option<Duration>,
    ) -> Self {
        Self { rows, store, order, known: RwLock::default(), period }
    }

    fn known(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads all rows.
    ///
    /// # Errors
    /// The store's.
    pub async fn refresh(&self) -> Result<(), store::Error> {
        let limit = u32::try_from(LOCATIONS_MAX).unwrap_or(u32::MAX);
        let mut rows = BTreeMap::new();
        loop {
            let after = rows.last_key_value().map(|(id, _)| id);
            let page = list_behind::<StockLocation>(self.store.as_ref(), after, limit).await?;
            let last = page.len() < LOCATIONS_MAX;
            rows.extend(page.into_iter().map(|row| (row.value.id.clone(), row)));
            if last {
                break;
            }
        }
        let shut = |row: &&Row<StockLocation>| row.value.deleted || !row.value.for_sale;
        let ids = |of: &dyn Fn(&&Row<StockLocation>) -> bool| {
            rows.values().filter(of).map(|row| row.value.id.clone()).collect()
        };
        let (closed, deleted) = (ids(&shut), ids(&|row| row.value.deleted));
        let known = Arc::new(Known { rows, closed, deleted });
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// Reads all rows again, time after time, if other nodes write them.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let Some(period) = self.period else { return };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(period.max(Duration::from_millis(100))) => {}
            }
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "cannot read the locations; the previous ones stay in effect");
            }
        }
    }

    /// The locations from which stock is taken first, in order.
    #[must_use]
    pub fn order(&self) -> Arc<[Location]> {
        self.order.clone()
    }

    /// The locations from which nothing is sold.
    #[must_use]
    pub fn closed(&self) -> Arc<[Location]> {
        self.known().closed.clone()
    }

    /// The locations that were deleted.
    #[must_use]
    pub fn deleted_ids(&self) -> Arc<[Location]> {
        self.known().deleted.clone()
    }

    /// The location of an import that names none: the first of the settings that was not deleted.
    #[must_use]
    pub fn first(&self) -> Option<Location> {
        self.order.iter().find(|id| self.find(id).is_some()).cloned()
    }

    /// A location; `None` if it was deleted, or neither a row nor the settings have it.
    #[must_use]
    pub fn find(&self, id: &Location) -> Option<Row<StockLocation>> {
        match self.known().rows.get(id) {
            Some(row) if row.value.deleted => None,
            Some(row) => Some(row.clone()),
            None if self.order.contains(id) => Some(undescribed(id)),
            None => None,
        }
    }

    /// A location that was deleted, as it is shown if units have come back to it: not for sale.
    #[must_use]
    pub fn deleted(&self, id: &Location) -> Option<Row<StockLocation>> {
        self.known().rows.get(id).filter(|row| row.value.deleted).cloned().map(closed_again)
    }

    /// All locations that were deleted, by id, as [`Locations::deleted`] shows them.
    #[must_use]
    pub fn all_deleted(&self) -> Vec<Row<StockLocation>> {
        let known = self.known();
        let deleted = known.rows.values().filter(|row| row.value.deleted);
        deleted.cloned().map(closed_again).collect()
    }

    /// All locations, by id: the rows, and the locations of the settings and those of `stock` that
    /// have no row.
    #[must_use]
    pub fn all(&self, stock: &[Location]) -> Vec<Row<StockLocation>> {
        let mut all = self.known().rows.clone();
        for id in self.order.iter().chain(stock) {
            all.entry(id.clone()).or_insert_with(|| undescribed(id));
        }
        all.into_values().filter(|row| !row.value.deleted).collect()
    }

    /// Writes a row.
    ///
    /// # Errors
    /// As [`RowHost::put`].
    pub async fn put(
        &self,
        location: StockLocation,
        expect: Expect,
        cause: Cause,
    ) -> Result<(Row<StockLocation>, WriteOutcome), Error> {
        let written = self.rows.put(location, expect, cause).await?;
        self.refresh().await?;
        Ok(written)
    }
}

fn closed_again(row: Row<StockLocation>) -> Row<StockLocation> {
    Row { value: StockLocation { deleted: false, for_sale: false, ..row.value }, ..row }
}

/// A location without a row: its version is 0.
#[must_use]
pub fn undescribed(id: &Location) -> Row<StockLocation> {
    Row {
        value: StockLocation::undescribed(id.clone()),
        version: 0,
        updated_at: Timestamp::default(),
    }
}
