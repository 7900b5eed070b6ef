//! Lists of orders on both databases: each filter in each order, page by page.

use kontor::store::projection::ProjectionBatch;
use kontor::store::{Store, order};
use strum::VariantArray as _;

use super::{commit, lookups, one_of_each, order_row, search, to, with_texts};
use crate::journal::at;

/// Orders whose ids are in another order than the times at which they were placed, three of a time.
#[tokio::test]
async fn orders_are_listed_in_each_order_whatever_their_ids() {
    for (store, _dir) in one_of_each().await {
        lists(&store).await;
    }
}

async fn lists(store: &Store) {
    let mut rows: Vec<order::Row> = (0..60)
        .map(|n| {
            let status = ["pending", "confirmed", "stuck"][usize::try_from(n / 4 % 3).unwrap()];
            order::Row {
                placed_at: at(n * 37 % 60 / 3),
                updated_at: at(n * 41 % 60 / 3),
                number: Some(n / 30),
                reference: (n % 4 < 2).then(|| "PO".to_owned()),
                reference_hash: (n % 4 < 2).then(|| lookups().reference("PO")),
                saga_step: (n % 5 < 3).then(|| "capture".to_owned()),
                stuck_reason: (n % 5 < 2).then(|| "declined".to_owned()),
                ..order_row(n, status)
            }
        })
        .collect();
    let orders = with_texts(&rows);
    let batch = ProjectionBatch { rows: Some(&orders), ..ProjectionBatch::default() };
    assert!(commit(store, "orders", &[to(0, 10)], batch).await);

    type Takes = fn(&order::Row) -> bool;
    let all = order::Filter { limit: 4, ..Default::default() };
    let text = search;
    let email = |email: &str| lookups().email(email);
    let status = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    let two = || ["buyer1@example.com", "BUYER0@example.com"].map(email).to_vec();
    let cases: [(order::Filter, Takes); 16] = [
        (all.clone(), |_| true),
        (order::Filter { status: status(&["stuck"]), ..all.clone() }, |row| row.status == "stuck"),
        (order::Filter { status: status(&["stuck", "confirmed"]), ..all.clone() }, |row| {
            row.status != "pending"
        }),
        (order::Filter { payment_status: vec!["authorized".to_owned()], ..all.clone() }, |_| true),
        (
            order::Filter { fulfillment_status: vec!["unfulfilled".to_owned()], ..all.clone() },
            |_| true,
        ),
        (
            order::Filter {
                email_hash: vec![email("buyer1@example.com")],
                status: status(&["stuck", "pending"]),
                ..all.clone()
            },
            |row| row.email == "Buyer1@Example.com" && row.status != "confirmed",
        ),
        (order::Filter { number: vec![1], ..all.clone() }, |row| row.number == Some(1)),
        (order::Filter { reference_hash: vec![lookups().reference("PO")], ..all.clone() }, |row| {
            row.reference.is_some()
        }),
        (
            order::Filter { placed_from: Some(at(3)), placed_to: Some(at(15)), ..all.clone() },
            |row| (at(3)..at(15)).contains(&row.placed_at),
        ),
        (order::Filter { unfinished: true, ..all.clone() }, |row| row.saga_step.is_some()),
        (order::Filter { search: text("buyer"), placed_to: Some(at(9)), ..all.clone() }, |row| {
            row.placed_at < at(9)
        }),
        (order::Filter { search: text("PO"), ..all.clone() }, |row| row.reference.is_some()),
        (order::Filter { updated_from: Some(at(3)), ..all.clone() }, |row| row.updated_at >= at(3)),
        (
            order::Filter {
                updated_from: Some(at(3)),
                updated_to: Some(at(17)),
                status: status(&["stuck", "pending"]),
                ..all.clone()
            },
            |row| (at(3)..at(17)).contains(&row.updated_at) && row.status != "confirmed",
        ),
        (order::Filter { email_hash: two(), number: vec![0, 1], ..all.clone() }, |row| {
            row.number.is_some_and(|number| number < 2)
        }),
        (order::Filter { search: text("buyer"), updated_to: Some(at(12)), ..all.clone() }, |row| {
            row.updated_at < at(12)
        }),
    ];
    let sorts = order::Sort::VARIANTS.iter().copied();
    for ((filter, takes), sort) in
        cases.iter().flat_map(|case| sorts.clone().map(move |by| (case, by)))
    {
        let mut filter = order::Filter { sort, ..filter.clone() };
        rows.sort_by_key(|row| (sort.at(row), row.id.clone()));
        if <&str>::from(sort).starts_with('-') {
            rows.reverse();
        }
        let expected: Vec<&order::Row> = rows.iter().filter(|row| takes(row)).collect();
        assert!(expected.len() > 8, "{filter:?}");
        let mut found = Vec::new();
        for _ in 0..=expected.len() / 4 {
            let page = store.orders(&filter).await.unwrap();
            filter.after = page.last().map(|row| (sort.at(row), row.id.clone())).or(filter.after);
            found.extend(page);
        }
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
    }
}
