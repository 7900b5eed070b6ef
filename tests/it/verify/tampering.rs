//! One journal, copied and broken in one way each time.

use std::path::Path;

use kontor::store::Store;
use kontor::verify::{VerifyReport, verify};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::shop::{Shop, copy};
use super::violated;
use crate::checksums;

const DROP_GUARDS: &str = "DROP TRIGGER event_is_never_deleted; \
                           DROP TRIGGER event_is_never_changed;";

/// A copy of the last event of a kind, appended as the next one of its entity.
const AGAIN: &str = "INSERT INTO event SELECT (SELECT max(pos) + 1 FROM event), e.shard, e.entity, \
    (SELECT max(seq) + 1 FROM event o WHERE o.entity = e.entity), e.kind, e.version, e.at, e.cause, \
    e.data, NULL, e.digest FROM event e WHERE e.kind = 'KIND' ORDER BY pos DESC LIMIT 1; \
    UPDATE shard SET last_pos = last_pos + 1; ";

async fn break_it(dir: &Path, sql: &str) -> VerifyReport {
    let options = SqliteConnectOptions::new().filename(dir.join("kontor.db"));
    let mut connection = options.connect().await.unwrap();
    // Whoever tampers can compute a checksum too: it stands against a disk that errs.
    let sql = format!("{DROP_GUARDS} {sql}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    checksums::write(&mut connection).await;
    connection.close().await.unwrap();
    let store = Store::open_beside(dir).await.unwrap();
    let report = verify(&store, None, |_| {}).await.unwrap();
    store.close().await;
    report
}

fn again(kind: &str) -> String {
    AGAIN.replace("KIND", kind)
}

/// What is done to the store, the invariant that must be among those found, and words of it.
fn ways() -> Vec<(&'static str, String, &'static str, &'static str)> {
    let data = |kind: &str, from: &str, to: &str| {
        format!(
            "UPDATE event SET data = replace(data, '{from}', '{to}') WHERE pos = (SELECT min(pos) \
             FROM event WHERE kind = '{kind}' AND entity LIKE 'ord%')"
        )
    };
    let stock = |kind: &str, from: &str, to: &str| {
        format!(
            "UPDATE event SET data = replace(data, '{from}', '{to}') WHERE pos = (SELECT min(pos) \
             FROM event WHERE kind = '{kind}' AND entity LIKE 'sku%')"
        )
    };
    vec![
        ("nothing", "SELECT 1".into(), "", ""),
        ("a total of all", data("placed", "true,\"total\":250", "true,\"total\":249"), "I1", "its lines add up to 250"),
        ("a line", data("placed", "\"qty\":1", "\"qty\":2"), "I1", "line 1 does not add up"),
        ("an order's name", "UPDATE event SET entity = replace(entity, 'ord_', 'orx_') WHERE entity = \
            (SELECT entity FROM event WHERE kind = 'placed' LIMIT 1)".into(), "I5", "no noun has this prefix"),
        ("a key", "UPDATE event SET cause = (SELECT cause FROM event WHERE kind = 'placed' LIMIT 1) \
            WHERE kind = 'placed'".into(), "I2", "idempotency key"),
        ("a correction", "UPDATE event SET kind = 'tracking_corrected', data = \
            '{\"tracking_corrected\":{\"fulfillment\":7}}' WHERE pos = (SELECT min(pos) FROM event WHERE \
            kind = 'captured')".into(), "I1", "the tracking of fulfillment 7"),
        ("a capture twice", again("captured"), "I2", "twice"),
        ("a number", data("confirmed", "\"number\":1", "\"number\":7"), "I2", "1 was issued for it"),
        ("a drawn number", "UPDATE event SET data = replace(data, '\"number\":2', '\"number\":3') WHERE \
            kind = 'drawn' AND seq = 2".into(), "I2", "3 was issued, but the next number is 2"),
        ("a captured amount", data("captured", "\"amount\":250", "\"amount\":240"), "I3", "of 250 are due"),
        ("an amount asked for", data("payment_requested", "\"amount\":250", "\"amount\":260"), "I3", "260 was requested"),
        ("an oversold SKU", stock("received", "\"quantity\":100", "\"quantity\":0"), "I4", "-1 sellable"),
        ("an allocation", stock("reserved", "\"qty\":1", "\"qty\":2"), "I4", "2 of 1 units"),
        ("a stock event twice", again("committed"), "I4", ""),
        ("an event dropped", "DELETE FROM event WHERE pos = 20".into(), "I5", "position 21 follows position 19"),
        ("the last event dropped", "DELETE FROM event WHERE pos = (SELECT max(pos) FROM event)".into(), "I5", "its last event is at"),
        ("an event of no sense", data("captured", "\"amount\":250", "\"amount\":\"much\""), "I5", "cannot be read"),
        ("the epoch", "UPDATE shard SET epoch = 0".into(), "I5", "its epoch is 0"),
        ("a timer", "DELETE FROM timer WHERE entity LIKE 'ord%'".into(), "I5", "has no timer"),
        ("a late timer", "UPDATE timer SET due_at = due_at + 100000000 WHERE entity LIKE 'ord%'".into(), "I5", "its timer is due"),
        ("an order's row", "UPDATE order_row SET captured = captured + 1 WHERE number = 1".into(), "I6", "captured: 251"),
        ("which attempt paid", "UPDATE order_row SET paid_attempt = 2 WHERE number = 1".into(), "I6", "paid_attempt"),
        ("a row less", "DELETE FROM order_row WHERE number = 1".into(), "I6", "it has no row"),
        ("a row more", "INSERT INTO order_row SELECT 'ord_01h455vb4pex5vsknk084sn02q', number, status, \
            payment_status, fulfillment_status, email, country, currency, total, captured, refunded, \
            line_count, item_count, reference, saga_step, stuck_reason, alert, placed_at, updated_at, \
            version, email_hash, buyer_name, reference_hash, paid_attempt, paid_with FROM order_row LIMIT 1".into(), "I6", "has no event"),
        ("a text", "UPDATE order_search SET text = replace(text, 'a', 'b')".into(), "I6", "its row says"),
        ("a text that lags", "UPDATE order_search SET (text, version) = (SELECT '', 0)".into(), "I6", ""),
        ("a text less", "DELETE FROM order_search WHERE version = (SELECT max(version) FROM order_search)".into(), "I6", "no text to be found by"),
        ("a row that lags", "UPDATE order_row SET version = version - 1 WHERE number = 1".into(), "I6", ""),
        ("a stock row", "UPDATE stock_row SET on_hand = on_hand + 1 WHERE sku = 'cup'".into(), "I6", "on_hand"),
        ("stock rows less", "DELETE FROM stock_row WHERE sku = 'cup'".into(), "I6", "it has no rows"),
        ("a price", "UPDATE product SET name = 'Other' WHERE sku = 'cup'".into(), "I6", "Other"),
        ("a cursor", "UPDATE projection SET pos = pos + 1000".into(), "I6", "beyond the last event"),
        ("a spent cart's line", "UPDATE event SET data = replace(data, '\"qty\":1', '\"qty\":9') WHERE pos = \
            (SELECT min(pos) FROM event WHERE entity LIKE 'cart%')".into(), "I1", "differ from those of its cart"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_tampering_is_found() {
    let shop = Shop::open().await;
    shop.some_of_everything().await;
    let shop = shop.stop().await;
    let mut wrong = Vec::new();
    for (at, (name, sql, invariant, words)) in ways().into_iter().enumerate() {
        let dir = shop.dir.path().join(format!("copy{at}"));
        copy(&shop.data(), &dir);
        let report = break_it(&dir, &sql).await;
        let found = violated(&report);
        let said = report
            .violations
            .iter()
            .any(|one| one.invariant.to_string() == invariant && one.message.contains(words));
        let right = if invariant.is_empty() { report.ok } else { said && !report.ok };
        if !right {
            wrong.push(format!("{name}: {invariant} {words:?}, found {found:?}\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
