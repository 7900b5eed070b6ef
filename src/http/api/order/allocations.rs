//! From which locations the units of orders are taken.

use std::collections::HashMap;

use futures_util::stream::{self, StreamExt as _};
use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::engine::host::View;
use crate::domain::id::{OrderId, Sku};
use crate::domain::order::{self, Order, Phase};
use crate::domain::stock::{self, Stock};
use crate::http::edge::call::RequestParts;
use crate::http::edge::checked;
use crate::http::edge::error::Error;

/// The most SKUs whose stock is read at once for one answer.
const READS_AT_ONCE: usize = 64;

/// Units of an order that are left to ship, at the location from which they are taken.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OrderAllocation {
    #[schema(value_type = checked::Sku)]
    sku: String,
    #[schema(example = "main")]
    location: String,
    quantity: i64,
}

/// The allocations of each order, read from the stock of their SKUs: by location within a SKU.
///
/// # Errors
/// The errors of the stock's host.
pub async fn allocations_of(
    call: &RequestParts,
    orders: impl Iterator<Item = (OrderId, &Order)>,
) -> Result<HashMap<OrderId, Vec<OrderAllocation>>, Error> {
    let confirmed = orders.filter(|(_, order)| order.phase() == Phase::Confirmed);
    let skus: Vec<(OrderId, Sku)> = confirmed
        .flat_map(|(id, order)| order.units().into_keys().map(move |sku| (id, sku)))
        .collect();
    let reads = skus.into_iter().map(async |(id, sku)| {
        let read = move |view: View<'_, Stock>| {
            view.state.claim(id).map(|claim| claim.allocated.clone()).unwrap_or_default()
        };
        let (entity, order) = (stock::entity_id(&sku), order::entity_id(id));
        let parts = call.node().stock.read_about(&entity, &order, read).await?;
        Ok::<_, Error>((id, sku, parts))
    });
    let mut all: HashMap<OrderId, Vec<OrderAllocation>> = HashMap::new();
    let answers: Vec<_> = stream::iter(reads).buffered(READS_AT_ONCE).collect().await;
    for answer in answers {
        let (id, sku, parts) = answer?;
        all.entry(id).or_default().extend(parts.into_iter().map(|part| OrderAllocation {
            sku: sku.to_string(),
            location: part.location.to_string(),
            quantity: part.quantity,
        }));
    }
    Ok(all)
}
