//! Which payments of a provider's list agree with the rows of their orders, so that the sweep need
//! not wake these orders.
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
    /// The ids of those payments of an account that are settled and agree with the rows of their
    /// orders, and of those that are no payments of orders. `before` has the ends of the shards
    /// before the payments were listed.
    pub(super) async fn settled<'a>(
        &self,
        account: &str,
        before: &[shard::Row],
        payments: &'a [Payment],
    ) -> Result<HashSet<&'a str>, store::Error> {
        let (mut ours, mut settled) = (Vec::new(), HashSet::new());
        for payment in payments {
            if let Some((order, 'p', number)) = parse_reference(&payment.reference) {
                ours.push((order, number, payment));
            } else {
                settled.insert(&*payment.id);
            }
        }
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
        settled.extend(ours.iter().filter_map(is_settled));
        Ok(settled)
    }

    /// The shards whose events up to `before` are in the rows; waits a moment for those that are not.
    async fn reached(&self, before: &[shard::Row]) -> Result<HashSet<u16>, store::Error> {
        let (pause, mut times) = LOOK_AGAIN;
        loop {
            let cursors: BTreeMap<u16, i64> =
                self.store.cursors(PROJECTION).await?.into_iter().collect();
            let there =
                |row: &&shard::Row| cursors.get(&row.id).copied().unwrap_or(0) >= row.last_pos;
            let reached: HashSet<u16> = before.iter().filter(there).map(|row| row.id).collect();
            if reached.len() == before.len() || times == 0 {
                return Ok(reached);
            }
            times -= 1;
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whether an order has no unfinished step, and agrees with the payment of one of its attempts.
fn is_settled(row: &Row, payment: &Payment, (account, number): (&str, u32)) -> bool {
    let waits = row.saga_step.is_some() || matches!(&*row.status, "pending" | "stuck");
    // The row does not say whether the rest of a captured payment was voided.
    let voided_rest = payment.captured > 0 && payment.voided;
    if waits || voided_rest || row.currency != payment.amount.currency.code() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::{Currency, Money};
    use crate::providers::payment::AuthorizationStatus;

    fn row() -> Row {
        Row {
            status: "confirmed".into(),
            payment_status: "captured".into(),
            currency: "GBP".into(),
            captured: 250,
            refunded: 50,
            paid_attempt: Some(2),
            paid_with: Some("sandbox".into()),
            ..Row::default()
        }
    }

    fn payment() -> Payment {
        Payment {
            id: "pay_1".into(),
            reference: String::new(),
            status: AuthorizationStatus::Authorized,
            amount: Money { amount: 250, currency: Currency::GBP },
            captured: 250,
            refunded: 50,
            voided: false,
            decline_code: None,
            operations: Vec::new(),
        }
    }

    #[test]
    fn a_payment_that_its_order_s_row_does_not_confirm_is_not_settled() {
        let paying = ("sandbox", 2);
        let is = |row: &Row, payment: &Payment| is_settled(row, payment, paying);
        assert!(is(&row(), &payment()));
        for (what, row) in [
            ("an unfinished step", Row { saga_step: Some("capture".into()), ..row() }),
            ("pending", Row { status: "pending".into(), ..row() }),
            ("stuck", Row { status: "stuck".into(), ..row() }),
            ("another currency", Row { currency: "JPY".into(), ..row() }),
            ("captured less", Row { captured: 200, ..row() }),
            ("refunded more", Row { refunded: 60, ..row() }),
            ("another attempt", Row { paid_attempt: Some(1), ..row() }),
            ("another account", Row { paid_with: Some("sandbox/eu".into()), ..row() }),
            ("never paid", Row { paid_attempt: None, ..row() }),
        ] {
            assert!(!is(&row, &payment()), "{what}");
        }
        assert!(!is(&row(), &Payment { voided: true, ..payment() }), "the rest was voided");
    }

    #[test]
    fn an_authorization_is_settled_while_its_order_counts_on_it() {
        let authorized = Payment { captured: 0, refunded: 0, ..payment() };
        let voided = Payment { voided: true, ..authorized.clone() };
        let waiting =
            Row { payment_status: "authorized".into(), captured: 0, refunded: 0, ..row() };
        let cancelled = Row { payment_status: "voided".into(), ..waiting.clone() };
        let is =
            |row: &Row, payment: &Payment, number| is_settled(row, payment, ("sandbox", number));
        assert!(is(&waiting, &authorized, 2) && !is(&waiting, &voided, 2));
        assert!(is(&cancelled, &voided, 2) && !is(&cancelled, &authorized, 2));
        assert!(!is(&waiting, &authorized, 1), "an attempt that was given up has money");
        assert!(is(&waiting, &voided, 1), "an attempt that was given up has none");
    }
}
