//! Which payments of a provider's list agree with their orders according to the orders' rows, so
//! that the sweep need not wake these orders.
//!
//! A row counts only if its projection has processed every event that the shard had before the list
//! was read, and its order is not parked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::payment::parse_reference;
use super::reconciliation::{Reconciliation, is_live};
use crate::domain::entity::EntityId;
use crate::providers::payment::Payment;
use crate::store::order::{PROJECTION, Row};
use crate::store::row::{TableRow as _, Value};
use crate::store::{self, shard};

/// How often, and how many times, the sweep looks whether the rows have caught up.
const LOOK_AGAIN: (Duration, u32) = (Duration::from_millis(50), 20);

impl Reconciliation {
    /// The ids of those payments of an account that are settled, and agree with the rows of their
    /// orders. `before` has the ends of the shards before the payments were listed.
    pub(super) async fn settled<'a>(
        &self,
        account: &str,
        before: &[shard::Row],
        payments: &'a [Payment],
    ) -> Result<HashSet<&'a str>, store::Error> {
        let ours: Vec<(EntityId, u32, &Payment)> = payments
            .iter()
            .filter_map(|payment| match parse_reference(&payment.reference)? {
                (order, 'p', number) => Some((order, number, payment)),
                _ => None,
            })
            .collect();
        let ids: Vec<EntityId> = ours.iter().map(|(order, ..)| order.clone()).collect();
        let reached = self.reached(before).await?;
        let parked = self.store.parked(PROJECTION, &ids).await?;
        let parked: HashSet<EntityId> = parked.into_iter().collect();
        let keys: Vec<Value<'_>> = ids.iter().map(|id| Value::text(id.as_str())).collect();
        let mut rows: HashMap<String, Row> = HashMap::new();
        for found in self.store.find_rows(Row::table(), &keys).await? {
            let row = Row::decode(&found)?;
            rows.insert(row.id.clone(), row);
        }
        let shards = u16::try_from(before.len()).unwrap_or(u16::MAX);
        let is_settled = |(order, number, payment): &(EntityId, u32, &'a Payment)| {
            let known = reached.contains(&order.shard(shards)) && !parked.contains(order);
            let row = rows.get(order.as_str()).filter(|_| known)?;
            is_settled(row, payment, (account, *number)).then_some(&*payment.id)
        };
        Ok(ours.iter().filter_map(is_settled).collect())
    }

    /// The shards whose events up to `before` are in the rows; waits a moment for those that are not.
    async fn reached(&self, before: &[shard::Row]) -> Result<HashSet<u16>, store::Error> {
        let (pause, times) = LOOK_AGAIN;
        for nth in 0.. {
            let cursors: BTreeMap<u16, i64> =
                self.store.cursors(PROJECTION).await?.into_iter().collect();
            let there =
                |row: &&shard::Row| cursors.get(&row.id).copied().unwrap_or(0) >= row.last_pos;
            let reached: HashSet<u16> = before.iter().filter(there).map(|row| row.id).collect();
            if reached.len() == before.len() || nth == times {
                return Ok(reached);
            }
            tokio::time::sleep(pause).await;
        }
        Ok(HashSet::new())
    }
}

/// Whether an order has no unfinished step, and agrees with the payment of one of its attempts.
fn is_settled(row: &Row, payment: &Payment, (account, number): (&str, u32)) -> bool {
    let waits = row.saga_step.is_some() || matches!(&*row.status, "pending" | "stuck");
    if waits || row.currency != payment.amount.currency.code() {
        return false;
    }
    let pays =
        row.paid_attempt == Some(i64::from(number)) && row.paid_with.as_deref() == Some(account);
    let (captured, refunded) = if pays { (row.captured, row.refunded) } else { (0, 0) };
    let live = pays && row.payment_status == "authorized";
    captured == payment.captured
        && refunded == payment.refunded
        && (captured > 0 || live == is_live(payment))
}
