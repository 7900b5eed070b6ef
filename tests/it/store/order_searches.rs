//! Searches of very many orders on both databases.

use kontor::store::projection::ProjectionBatch;
use kontor::store::{Store, order};

use super::{commit, one_of_each, order_row, search, to, with_texts};

#[tokio::test]
async fn a_search_finds_the_newest_of_very_many() {
    for (store, _dir) in one_of_each().await {
        searches(&store).await;
    }
}

async fn searches(store: &Store) {
    let rows: Vec<order::Row> = (1..=2_500).map(|n| order_row(n, "pending")).collect();
    let orders = with_texts(&rows);
    let batch = ProjectionBatch { rows: Some(&orders), ..ProjectionBatch::default() };
    assert!(commit(store, "orders", &[to(0, 10)], batch).await);
    // Two that are among the newest, and two that only the index finds, before and after it is filled.
    let newest =
        [("buyer1", [2_499, 2_497, 2_495, 2_493]), ("BUYER", [2_500, 2_499, 2_498, 2_497])];
    let old = [("ord_001", [19, 18, 17, 16]), ("_0020 buyer", [20, 0, 0, 0])];
    for (words, ids) in newest.into_iter().chain(old).chain(newest).chain(old) {
        let mut found = Vec::new();
        let search = search(words);
        let mut filter = order::Filter { search, limit: 2, ..Default::default() };
        for _ in 0..2 {
            let page = store.orders(&filter).await.unwrap();
            filter.after = page.last().map(|row| (row.placed_at, row.id.clone())).or(filter.after);
            found.extend(page.iter().map(|row| row.total / 100));
        }
        let ids: Vec<i64> = ids.into_iter().filter(|id| *id > 0).collect();
        assert_eq!(found, ids, "{words}");
        store.index_order_texts(400).await.unwrap();
    }
}
