//! Shards that go from node to node, and nodes that come, leave and die.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use kontor::actors::engine::host;
use kontor::actors::node::Node;
use kontor::domain::order::OrderStatus;
use kontor::domain::stock;
use kontor::domain::time::Span;
use kontor::store::Tables;
use kontor::store::node::NodeRow;
use tokio_util::sync::CancellationToken;

use super::{SHARDS, Shared, buy, saga, sold};
use crate::shop;

#[tokio::test(flavor = "multi_thread")]
async fn leaving_node_loses_no_request() {
    let shared = Shared::open().await;
    let nodes = shared.nodes(&["a", "b", "c"]).await;
    shared.shared_among(&["a", "b", "c"]).await;
    let a = nodes[0].node();
    nodes[0]
        .on(async move {
            shop::sell(&a, "LAMP", 1_250, 10_000).await;
            shop::sell(&a, "SHADE", 250, 10_000).await;
        })
        .await;
    let stop = CancellationToken::new();
    let buyers = (0..6).map(|at| {
        let (node, stop) = (nodes[at % 2].node(), stop.clone());
        nodes[at % 2].on(async move {
            let mut all = Vec::new();
            while !stop.is_cancelled() || all.len() < 4 {
                all.push(buy(node.clone()).await);
            }
            all
        })
    });
    let leaving = async {
        let c = nodes[2].node();
        nodes[2].on(async move { c.leave().await }).await;
        shared.shared_among(&["a", "b"]).await;
        stop.cancel();
    };
    let (bought, ()) = futures_util::join!(join_all(buyers), leaving);
    let bought: Vec<_> = bought.into_iter().flatten().collect();
    assert!(bought.iter().all(|(_, status, _)| *status == OrderStatus::Confirmed), "{bought:?}");
    let numbers: BTreeSet<i64> = bought.iter().filter_map(|(_, _, number)| *number).collect();
    assert_eq!(numbers.len(), bought.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_node_claims_no_shards() {
    let shared = Shared { lease_ms: 1_200, ..Shared::open().await };
    let nodes = shared.nodes(&["a", "b"]).await;
    shared.shared_among(&["a", "b"]).await;
    let row = async |name: &str| {
        let all = shared.store.nodes().await.unwrap();
        all.into_iter().find(|row| row.node.id == name)
    };
    let a = nodes[0].node();
    nodes[0].on(async move { a.leave().await }).await;
    let left = row("a").await.expect("it still answers what comes for it");
    // It says so for longer than its lease, and nobody hands it anything.
    let long = left.lease_until + Span::from_millis(1_200);
    let look = async {
        while row("a").await.is_none_or(|row| row.lease_until < long) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), look).await.expect("it says that it lives");
    assert!(row("a").await.is_some_and(|row| row.draining), "others would give it shards");
    let owners = shared.store.shards().await.unwrap().into_iter().map(|row| row.owner);
    assert!(owners.into_iter().all(|owner| owner == "b"));
    let a = nodes[0].node();
    nodes[0].on(async move { a.stop().await }).await;
    assert_eq!(row("a").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_process_with_a_nodes_name_claims_no_shards() {
    let shared = Shared::open().await;
    let nodes = shared.nodes(&["a"]).await;
    shared.shared_among(&["a"]).await;
    let epochs =
        || (0..SHARDS).map(|shard| shared.journal.epoch_and_head(shard).0).collect::<Vec<_>>();
    let before = epochs();
    let mut other = shared.node_at("a", "http://elsewhere");
    other.ready().await;
    let there = other.node();
    // The first one goes on prolonging its leases while the other one looks, again and again.
    let long = shared.journal.lease_of(0).1 + Span::from_secs(3);
    let prolonged = async {
        while there.cluster.as_ref().unwrap().view().holdings.is_empty()
            || (shared.journal.lease_of(0).1 < long && epochs() == before)
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), prolonged).await.expect("it has its shards");
    let first = nodes[0].node();
    let runs = |node: &Node| (0..SHARDS).filter(|shard| node.runs(*shard)).count();
    assert_eq!((runs(&first), runs(&there)), (usize::from(SHARDS), 0));
    assert_eq!(epochs(), before, "nothing is claimed over a lease");
    nodes[0]
        .on(async move {
            first.leave().await;
            first.stop().await;
        })
        .await;
    let taken = async {
        while runs(&there) < usize::from(SHARDS) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken).await.expect("it takes what is free");
    let row = shared.store.nodes().await.unwrap().remove(0);
    assert_eq!(row.node.url, "http://elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_of_a_dead_node_get_new_owners() {
    let shared = Shared::open().await;
    let mut nodes = shared.nodes(&["a", "b", "c"]).await;
    shared.shared_among(&["a", "b", "c"]).await;
    let a = nodes[0].node();
    nodes[0]
        .on(async move {
            shop::sell(&a, "LAMP", 1_250, 10_000).await;
            shop::sell(&a, "SHADE", 250, 10_000).await;
        })
        .await;
    // Orders that are being paid for, wherever they live, when the node dies.
    let carts = join_all((0..24).map(|at| {
        let one = &nodes[at % 2];
        let node = one.node();
        one.on(async move {
            let cart = shop::cart(&node, &[("LAMP", 1), ("SHADE", 2)]).await;
            shop::place(&node, cart, "tok_slow").await.unwrap();
            cart
        })
    }))
    .await;
    let epochs: Vec<i64> =
        (0..SHARDS).map(|shard| shared.journal.epoch_and_head(shard).0).collect();
    nodes[2].kill(&shared);
    shared.shared_among(&["a", "b"]).await;
    let ended = join_all(carts.iter().map(|cart| {
        let (node, cart) = (nodes[0].node(), *cart);
        nodes[0].on(
            async move { shop::until(&node, cart, |order| order.captured() > 0).await.status() },
        )
    }))
    .await;
    assert!(ended.iter().all(|status| *status == OrderStatus::Confirmed), "{ended:?}");
    assert_eq!(nodes[1].on(sold(nodes[1].node(), "LAMP")).await, 24);
    let moved = (0..SHARDS)
        .filter(|shard| shared.journal.epoch_and_head(*shard).0 > epochs[usize::from(*shard)]);
    assert!(moved.count() >= usize::from(SHARDS / 4), "what it had was claimed anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_takes_longer_than_a_lease_to_hand_over_is_handed_over() {
    let shared = Shared { lease_ms: 1_000, ..Shared::open().await };
    let nodes = shared.nodes(&["a", "b"]).await;
    shared.shared_among(&["a", "b"]).await;
    let (a, b) = (nodes[0].node(), nodes[1].node());
    let sku = (0..)
        .map(|n| format!("SKU-{n}"))
        .find(|sku| a.runs(stock::entity_id(&sku.parse().unwrap()).shard(SHARDS)));
    let entity = stock::entity_id(&sku.unwrap().parse().unwrap());
    let shard = usize::from(entity.shard(SHARDS));
    let mut gate = shared.journal.block_append();
    let (to, set) = (entity.clone(), || stock::Command::Set {
        location: "main".parse().unwrap(),
        on_hand: 7,
        change_from: None,
        reason: None,
    });
    let command = set();
    let written = nodes[0].on(async move { a.stock.carry_out(&to, command, saga()).await });
    let handed_over = async {
        gate.reached().await;
        let lease = async || shared.store.shards().await.unwrap()[shard].lease_until;
        let before = lease().await;
        shared.store.set_draining("a", true).await.unwrap();
        // It goes on having the shard for longer than a look at the store may take.
        let long = before + Span::from_secs(2);
        while lease().await < long && shared.store.shards().await.unwrap()[shard].owner == "a" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        gate.open();
        shared.shared_among(&["b"]).await;
    };
    let (written, ()) = futures_util::join!(written, handed_over);
    let read = move |view: host::View<'_, stock::Stock>| view.state.total().on_hand;
    let there = nodes[1].on(async move { b.stock.read(&entity, read).await.unwrap() }).await;
    assert!(written.is_err() || there == 7, "what was acknowledged is there: {written:?}, {there}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_hand_over_does_not_end_a_new_claim() {
    let shared = Shared::open().await;
    let nodes = shared.nodes(&["a"]).await;
    shared.shared_among(&["a"]).await;
    let sku = (0..).map(|n| format!("SKU-{n}"));
    let mut entities = sku.map(|sku| stock::entity_id(&sku.parse().unwrap()));
    let entity = entities.find(|entity| entity.shard(SHARDS) == 0).unwrap();
    let set = |on_hand| stock::Command::Set {
        location: "main".parse().unwrap(),
        on_hand,
        change_from: None,
        reason: None,
    };
    let mut gate = shared.journal.block_append();
    let (a, to, first) = (nodes[0].node(), entity.clone(), set(0));
    let held = nodes[0].on(async move { a.stock.carry_out(&to, first, saga()).await });
    let claimed_again = async {
        gate.reached().await;
        // Two shards of two lanes are wanted elsewhere: one can be given away at once.
        let b = NodeRow {
            id: "b".into(),
            url: "http://b".into(),
            machine: "another".into(),
            version: "1".into(),
            started_at: shared.journal.now(),
        };
        shared.store.heartbeat(&b, Span::from_secs(3_600)).await.unwrap();
        for shard in [0, 1] {
            assert!(shared.store.pin_shard(shard, Some("b")).await.unwrap());
        }
        shared.until(|owners| owners[1].is_empty()).await;
        let epoch = shared.journal.epoch_and_head(0).0;
        assert!(shared.store.remove_node(&b).await.unwrap());
        for shard in [0, 1] {
            assert!(shared.store.pin_shard(shard, None).await.unwrap());
        }
        shared.journal.expire(0);
        shared
            .until(|_| shared.journal.epoch_and_head(0).0 > epoch && nodes[0].node().runs(0))
            .await;
        gate.open();
    };
    let (_lost, ()) = futures_util::join!(held, claimed_again);
    for on_hand in 1..=20 {
        let (a, to, next) = (nodes[0].node(), entity.clone(), set(on_hand));
        let written = nodes[0].on(async move { a.stock.carry_out(&to, next, saga()).await });
        assert_eq!(written.await, Ok(()), "{on_hand}");
    }
}
