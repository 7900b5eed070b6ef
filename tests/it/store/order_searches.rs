//! Searches of very many orders on both databases, with and without an index.

use kontor::domain::search_text::Search;
use kontor::store::projection::ProjectionBatch;
use kontor::store::{Store, order};
use sqlx::Connection as _;

use super::{commit, connect, fresh, one_of_each, order_row, to, with_texts};
use crate::servers::database;

#[tokio::test]
async fn a_search_finds_the_newest_of_very_many() {
    for (store, _dir) in one_of_each().await {
        search(&store).await;
    }
}

/// The role of the server may create tables, and no extension.
#[tokio::test]
async fn orders_are_found_without_pg_trgm() {
    let url = database();
    let role = format!("clerk_of_{}", url.rsplit('/').next().unwrap());
    let mut owner = sqlx::PgConnection::connect(&url).await.unwrap();
    let grant = format!("CREATE ROLE \"{role}\" LOGIN; GRANT ALL ON SCHEMA public TO \"{role}\"");
    sqlx::raw_sql(sqlx::AssertSqlSafe(grant)).execute(&mut owner).await.unwrap();
    let store = connect(&url.replacen("postgres@", &format!("{role}@"), 1).as_str().into()).await;
    assert!(store.searches_lack_index().await.unwrap());
    search(&store).await;
    let (with, _dir) = fresh().await;
    assert!(!with.searches_lack_index().await.unwrap());
    assert!(!connect(&database().as_str().into()).await.searches_lack_index().await.unwrap());
}

async fn search(store: &Store) {
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
        let search = Search::of(words);
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
