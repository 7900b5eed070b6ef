//! A changed history is found, in both databases: by the digests of the events, whatever else of them
//! was made to fit.

use kontor::domain::entity::{EntityId, Record};
use kontor::store::Store;
use kontor::store::journal::{Digest, Head};
use kontor::verify::{Invariant, verify};

use crate::journal::{Fixture, append};

/// Ten events of three entities, whose journal anyone may change.
async fn fixtures() -> Vec<Fixture> {
    let mut all = Vec::new();
    for (fixture, guards) in [
        (Fixture::sqlite().await, "DROP TRIGGER event_has_no_gap"),
        (Fixture::postgres().await, "ALTER TABLE event DISABLE TRIGGER USER"),
    ] {
        for (entity, after, count) in
            [("cart_a", 0, 3), ("cart_b", 0, 2), ("cart_a", 3, 1), ("cart_c", 0, 4)]
        {
            fixture.append(&[append(entity, after, count)]).await.unwrap();
        }
        fixture.sql(guards).await;
        if guards.starts_with("DROP") {
            fixture.sql("DROP TRIGGER event_is_never_deleted").await;
            fixture.sql("DROP TRIGGER event_is_never_changed").await;
        }
        all.push(fixture);
    }
    all
}

/// What `verify` says of the history.
async fn said(store: &Store) -> String {
    let report = verify(store, None, |_| {}).await.unwrap();
    let said = report.violations.iter().filter(|found| found.invariant == Invariant::I8);
    said.map(|found| found.message.clone()).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn every_change_of_the_history_is_named() {
    // Positions 5 and 6 are of different entities, and 11 is free.
    let swap = |from: i64, to: i64| format!("UPDATE event SET pos = {to} WHERE pos = {from}");
    let of_5 = "at position 5 (";
    let ways: [(&str, Vec<String>, &str); 10] = [
        ("nothing", vec![], ""),
        ("data", vec!["UPDATE event SET data = '7' WHERE pos = 5".into()], of_5),
        ("a time", vec!["UPDATE event SET at = at + 1 WHERE pos = 5".into()], of_5),
        ("a sum too", vec!["UPDATE event SET cause = '{}', sum = NULL WHERE pos = 5".into()], of_5),
        ("a digest", vec!["UPDATE event SET digest = (SELECT head FROM shard) WHERE pos = 5".into()], of_5),
        ("swapped", vec![swap(5, 99), swap(6, 5), swap(99, 6)], of_5),
        ("removed", vec!["DELETE FROM event WHERE pos = 5".into()], "positions 5 to 5 are missing"),
        (
            "removed, with the gap closed",
            vec![
                "DELETE FROM event WHERE pos = 5".into(),
                "UPDATE event SET pos = pos + 99 WHERE pos > 5".into(),
                "UPDATE event SET pos = pos - 100 WHERE pos > 5".into(),
                "UPDATE shard SET last_pos = 9".into(),
            ],
            of_5,
        ),
        (
            "inserted",
            vec![
                "INSERT INTO event (shard, pos, entity, seq, kind, version, at, cause, data, digest) \
                 SELECT shard, 11, 'cart_d', 1, kind, version, at, cause, data, digest FROM event \
                 WHERE pos = 10"
                    .into(),
                "UPDATE shard SET last_pos = 11".into(),
            ],
            "at position 11 (",
        ),
        (
            "the end is cut",
            vec![
                "DELETE FROM event WHERE pos > 8".into(),
                "UPDATE shard SET last_pos = 8".into(),
            ],
            "ends at position 8",
        ),
    ];
    for (name, statements, words) in &ways {
        for fixture in fixtures().await {
            for statement in statements {
                fixture.sql(statement).await;
            }
            let said = said(fixture.store()).await;
            assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{name}: {said}");
        }
    }
}

#[tokio::test]
async fn an_event_without_a_digest_is_refused() {
    for fixture in fixtures().await {
        let before = fixture.all().await;
        for value in ["NULL", "''"] {
            let text = format!("UPDATE event SET digest = {value} WHERE pos = 5");
            assert!(fixture.try_sql(&text).await.is_err(), "{value}");
        }
        assert_eq!(fixture.all().await, before);
    }
}

#[tokio::test]
async fn digests_continue_across_batches_refusals_and_stale_ends() {
    for fixture in fixtures().await {
        fixture.append(&[append("cart_a", 1, 1)]).await.unwrap_err();
        fixture.append(&[append("cart_c", 4, 2), append("cart_a", 4, 1)]).await.unwrap();
        // Another process has appended: this one does not know the end of the chain.
        let end = computed(&fixture.all().await);
        assert_eq!(fixture.store().shards().await.unwrap()[0].head, Some(end.digest));
        let mut next = fixture.all().await[0].clone();
        (next.pos, next.entity, next.seq) = (end.pos + 1, EntityId::new("cart_z"), 1);
        let digest = end.digest.next(&next);
        let hex = match fixture.is_shared() {
            true => format!("'\\x{digest}'"),
            false => format!("x'{digest}'"),
        };
        let text = format!(
            "INSERT INTO event (shard, pos, entity, seq, kind, version, at, cause, data, digest) \
             SELECT shard, {}, 'cart_z', 1, kind, version, at, cause, data, {hex} FROM event \
             WHERE pos = 1",
            next.pos
        );
        fixture.sql(&text).await;
        fixture.sql(&format!("UPDATE shard SET last_pos = {}, head = {hex}", next.pos)).await;
        fixture.append(&[append("cart_z", 1, 1)]).await.unwrap();
        assert_eq!(said(fixture.store()).await, "");
        assert_eq!(fixture.all().await.len(), 15);
    }
}

/// The end of the chain of these events.
fn computed(events: &[Record]) -> Head {
    let mut head = Head { pos: 0, digest: Digest::FIRST };
    for event in events {
        head.add(event);
    }
    head
}
