//! Which locations the shop has: its rows and settings, those that old stock names, and deleted
//! ones to which units have come back. Any other is refused wherever a request names it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::actors::engine::projections::Projection as _;
use crate::actors::node::Node;
use crate::actors::stock_rows::StockRows;
use crate::domain::stock::Location;
use crate::http::edge::call::RequestParts;
use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::problem::Code;
use crate::http::edge::query::Query;
use crate::store::Store;

/// The rule of a location in a request.
pub const UNKNOWN: &str = "must be a location of the shop; GET /v1/admin/locations lists them";

/// How long the rows of stock may take to show what was committed.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two looks at the rows.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether the shop has a location.
///
/// # Errors
/// The store's.
pub async fn is_known((node, store): (&Node, &Store), location: &Location) -> Result<bool, Error> {
    let locations = &node.locations;
    if locations.find(location).is_some() {
        return Ok(true);
    }
    // Another node may just have created it.
    locations.refresh().await?;
    if locations.find(location).is_some() {
        return Ok(true);
    }
    // Returned goods come back to where they were sold from, even if it was deleted since.
    let deleted = locations.deleted(location).is_some();
    Ok(store.has_stock_at(location, deleted).await?)
}

/// The location that a field names; `None`, with a fault, if the shop has none of that id.
///
/// # Errors
/// The store's.
pub async fn read(
    shop: (&Node, &Store),
    field: &str,
    text: &str,
    faults: &mut RequestFaults,
) -> Result<Option<Location>, Error> {
    match text.parse::<Location>() {
        Err(rule) => faults.invalid(field, rule.to_string()),
        Ok(location) if is_known(shop, &location).await? => return Ok(Some(location)),
        Ok(_) => faults.invalid(field, UNKNOWN),
    }
    Ok(None)
}

/// The location that a field names, once the request has no other faults.
///
/// # Errors
/// All faults of the request; the store's errors.
pub async fn checked(
    call: &RequestParts,
    field: &str,
    text: &str,
    mut faults: RequestFaults,
) -> Result<Location, Error> {
    let location = read((call.node(), call.store()), field, text, &mut faults).await?;
    faults.check()?;
    location.ok_or_else(|| Error::field(field, UNKNOWN))
}

/// The locations that the filter `location` of a list names.
///
/// # Errors
/// The store's. One that the shop does not have is a fault of the query.
pub async fn of_filter(call: &RequestParts, query: &mut Query) -> Result<Vec<String>, Error> {
    let named: Vec<String> = query.values("location", "must be a location");
    for location in &named {
        read((call.node(), call.store()), "location", location, &mut query.faults).await?;
    }
    Ok(named)
}

/// Waits until the rows of stock show everything that was committed before.
///
/// # Errors
/// 503 if they do not in time; the store's errors.
pub async fn rows_are_current(call: &RequestParts) -> Result<(), Error> {
    let (store, until) = (&call.node().store, Instant::now() + PATIENCE);
    let journal = store.journal();
    let mut behind = Vec::new();
    for shard in 0..journal.shards() {
        behind.push((shard, journal.last_pos(shard).await?));
    }
    loop {
        let cursors = store.cursors(StockRows::NAME).await?;
        let reached =
            |shard: u16| cursors.iter().find(|(of, _)| *of == shard).map_or(0, |(_, at)| *at);
        behind.retain(|(shard, pos)| reached(*shard) < *pos);
        if behind.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(Error::new(
                Code::TryAgain,
                "the rows of stock are behind; nothing was done",
            ));
        }
        sleep(PAUSE).await;
    }
}
