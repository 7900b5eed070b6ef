//! Several nodes on one store, in one process, each on a runtime of its own: that they share the
//! shards and find each other's entities; and in `moving`, that they take over from one that leaves
//! or dies. Real processes and servers are in `cluster`.

mod moving;
mod prices;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kontor::actors::catalog;
use kontor::actors::engine::clock::Clock;
use kontor::actors::engine::cluster;
use kontor::actors::engine::host::{self, View};
use kontor::actors::engine::projections::Projection as _;
use kontor::actors::engine::row_host::{self, Expect, WriteOutcome};
use kontor::actors::engine::runtime as settings;
use kontor::actors::flows::payment::{self, Payments};
use kontor::actors::node::{Node, NodeStart, ShopSettings};
use kontor::actors::nouns::{self, NounEntry};
use kontor::actors::row_kinds;
use kontor::actors::stock_rows::StockRows;
use kontor::bus::local::Board;
use kontor::bus::stream::LocalStream;
use kontor::bus::{Calls, NatsProblems, Notices};
use kontor::cache::{Cache, CacheLookup};
use kontor::domain::cluster_key::ClusterKey;
use kontor::domain::entity::{Cause, EntityId, Idempotency};
use kontor::domain::id::{CartId, OrderId, Sku};
use kontor::domain::money::UnitPrice;
use kontor::domain::order::{self, Order, OrderStatus};
use kontor::domain::pricing::Rules;
use kontor::domain::product::{self, Product};
use kontor::domain::stock::{self, Stock};
use kontor::domain::versioned::Versioned as _;
use kontor::providers::sandbox::{Options, Sandbox};
use kontor::store::journal::lane;
use kontor::store::journal::memory::{AppendFault, MemoryJournal as Journal};
use kontor::store::list_page::page;
use kontor::store::list_row::Batch;
use kontor::store::memory::MemoryStore;
use kontor::store::projection::ProjectionBatch;
use kontor::store::{self, Tables, versioned};
use kontor_sandbox_psp::Running;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::host::{Command as TallyCommand, Tally};
use crate::journal::{Zone, zone};
use crate::shop;

const SHARDS: u16 = 16;

/// A store, a provider, and the board where nodes find each other.
struct Shared {
    store: MemoryStore,
    journal: Journal,
    board: Board,
    stream: LocalStream,
    lease_ms: u64,
    cache_ttl_ms: u64,
    psp: Running,
    _dir: TempDir,
}

impl Shared {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let psp = kontor_sandbox_psp::start(kontor_sandbox_psp::Options {
            data: dir.path().join("psp"),
            listen: "127.0.0.1:0".parse().unwrap(),
        })
        .await
        .unwrap();
        let clock = Clock::system();
        let journal = Journal::with_time(SHARDS, Arc::new(move || clock.now()));
        let store = MemoryStore::new(journal.clone());
        Self {
            store,
            journal,
            board: Board::default(),
            stream: LocalStream::default(),
            lease_ms: 6_000,
            cache_ttl_ms: 2_000,
            psp,
            _dir: dir,
        }
    }

    /// Starts a node on a runtime of its own.
    fn node(&self, name: &str) -> One {
        self.node_at(name, &format!("http://{name}"))
    }

    fn node_at(&self, name: &str, url: &str) -> One {
        let url = url.to_owned();
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let clock = Clock::system();
        let now = {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        };
        let options = kontor::bus::Options::default();
        let sandbox = Sandbox::new(Options {
            url: self.psp.url(),
            account: "shop".into(),
            webhook_secret: "whsec".into(),
            ..Options::default()
        });
        let (store, board, id) = (self.store.clone(), self.board.clone(), name.to_owned());
        let (stream, lease_ms) = (self.stream.clone(), self.lease_ms);
        let product_cache_ttl_ms = self.cache_ttl_ms;
        let started = runtime.spawn(async move {
            let node = Node::start(NodeStart {
                challenge_hook: None,
                nouns: nouns::all().with(NounEntry::<Tally>::without_flow()),
                store: Arc::new(store),
                clock,
                rules: Rules::default(),
                rows: row_kinds::all().with::<Zone>(),
                projections: kontor::actors::read_models::all(),
                settings: ShopSettings {
                    timer_poll_ms: 20,
                    projection_pause_ms: 5,
                    product_cache_ttl_ms,
                    ..ShopSettings::default()
                },
                host: host::Options::default(),
                lane: lane::Options::default(),
                lanes: 4,
                payments: Payments::new(
                    vec![Arc::new(sandbox.unwrap())],
                    payment::Options::default(),
                ),
                cache: Cache::in_process(),
                runtime: settings::Runtime::new(&settings::Defaults::default()),
                cluster: Some(cluster::ClusterStart {
                    options: cluster::Options {
                        lease_ms,
                        renew_ms: lease_ms / 6,
                        settle_ms: 100,
                        ..cluster::Options::default()
                    },
                    node: id.clone(),
                    calls: Calls::local(&board, &options, ClusterKey::alone(), &id, now.clone()),
                    notices: Notices::local(
                        &board,
                        ClusterKey::alone(),
                        &id,
                        now,
                        CancellationToken::new(),
                    ),
                    stream: Some(Arc::new(stream)),
                    bus: options,
                    nats: None,
                    nats_problems: NatsProblems::default(),
                }),
            })
            .await
            .unwrap();
            node.join(&url).await;
            node
        });
        One { name: name.to_owned(), starting: Some(started), node: None, runtime: Some(runtime) }
    }

    /// Waits until a message of a shard is in the stream.
    async fn until_relayed(&self, shard: u16, subject: &str) {
        let relayed = async {
            while !self.stream.subjects(shard).iter().any(|there| there == subject) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(30), relayed).await;
        assert!(seen.is_ok(), "{subject}: {:?}", self.stream.subjects(shard));
    }

    async fn nodes(&self, names: &[&str]) -> Vec<One> {
        let mut all: Vec<One> = names.iter().map(|name| self.node(name)).collect();
        for one in &mut all {
            one.ready().await;
        }
        all
    }

    /// Waits until each of these nodes has some shards, and all of them together have all.
    async fn shared_among(&self, names: &[&str]) {
        self.until(|owners| {
            let there: BTreeSet<&str> = owners.iter().map(String::as_str).collect();
            there == names.iter().copied().collect()
        })
        .await;
    }

    async fn until(&self, fits: impl Fn(&[String]) -> bool) {
        let look = async {
            loop {
                let rows = self.store.shards().await.unwrap();
                let owners: Vec<String> = rows.into_iter().map(|row| row.owner).collect();
                if fits(&owners) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), look).await.expect("the shards never settle");
    }
}

/// A node and its runtime.
struct One {
    name: String,
    starting: Option<tokio::task::JoinHandle<Arc<Node>>>,
    node: Option<Arc<Node>>,
    runtime: Option<Runtime>,
}

impl One {
    async fn ready(&mut self) {
        if let Some(starting) = self.starting.take() {
            self.node = Some(starting.await.unwrap());
        }
    }

    fn node(&self) -> Arc<Node> {
        self.node.clone().unwrap()
    }

    /// Runs something on the node's own runtime.
    async fn on<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.as_ref().unwrap().spawn(work).await.unwrap()
    }

    /// Ends as a process does that is killed: nothing is said, nothing is finished.
    fn kill(&mut self, shared: &Shared) {
        shared.board.remove(&self.name);
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for One {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Buys a lamp through a node, and waits until the order is confirmed, which a busy machine may not
/// do before the checkout is answered; the order's status and number.
async fn buy(node: Arc<Node>) -> (CartId, OrderStatus, Option<i64>) {
    let cart = shop::cart(&node, &[("LAMP", 1), ("SHADE", 2)]).await;
    shop::checkout(&node, cart, "tok_ok").await.unwrap();
    let is_confirmed = |order: &Order| order.status() == OrderStatus::Confirmed;
    let order = shop::until(&node, cart, is_confirmed).await;
    (cart, order.status(), order.number())
}

async fn sold(node: Arc<Node>, sku: &'static str) -> i64 {
    let entity = stock::entity_id(&sku.parse().unwrap());
    node.stock.read(&entity, |view| view.state.total().allocated).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_serves_any_buyer() {
    let shared = Shared::open().await;
    let nodes = shared.nodes(&["a", "b", "c"]).await;
    shared.shared_among(&["a", "b", "c"]).await;
    let (a, b) = (nodes[0].node(), nodes[1].node());
    nodes[0]
        .on(async move {
            shop::sell(&a, "LAMP", 1_250, 1_000).await;
            shop::sell(&a, "SHADE", 250, 1_000).await;
        })
        .await;
    let buying = (0..60).map(|at| {
        let one = &nodes[at % 3];
        one.on(buy(one.node()))
    });
    let bought = join_all(buying).await;
    assert!(bought.iter().all(|(_, status, _)| *status == OrderStatus::Confirmed), "{bought:?}");
    let numbers: BTreeSet<i64> = bought.iter().filter_map(|(_, _, number)| *number).collect();
    assert_eq!(numbers, (1..=60).collect());
    for one in &nodes {
        assert_eq!(one.on(sold(one.node(), "LAMP")).await, 60, "seen from {}", one.name);
        let node = one.node();
        let sellable = one.on(async move {
            let now = node.clock.now();
            let lamp = stock::entity_id(&"LAMP".parse().unwrap());
            node.stock.read(&lamp, move |view| view.summary_number(now)).await.unwrap()
        });
        assert_eq!(sellable.await, 940, "seen from {}", one.name);
        let (node, order) = (one.node(), OrderId(bought[0].0.0));
        let allocated = one.on(async move {
            let lamp = stock::entity_id(&"LAMP".parse().unwrap());
            let read = move |view: View<'_, Stock>| {
                let claim = view.state.claim(order).cloned().unwrap_or_default();
                claim.allocated.iter().map(|part| part.quantity).sum::<i64>()
            };
            node.stock.read_about(&lamp, &order::entity_id(order), read).await.unwrap()
        });
        assert_eq!(allocated.await, 1, "seen from {}", one.name);
    }
    // The other node's order answers here as it does there.
    let cart = bought[0].0;
    let order =
        nodes[1].on(async move { shop::until(&b, cart, |order| order.captured() > 0).await });
    assert_eq!(order.await.captured(), 1_750);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_feed_of_any_node_has_all_changes() {
    let shared = Shared::open().await;
    let nodes = shared.nodes(&["a", "b", "c"]).await;
    shared.shared_among(&["a", "b", "c"]).await;
    let reports = async || {
        let a = nodes[0].node();
        nodes[0].on(async move { a.reports().await }).await
    };
    // Who was asked before it had opened what it claimed tells of fewer.
    let all = async {
        loop {
            let told = reports().await;
            let shards = told.values().flatten().flat_map(|one| one.shards.keys()).count();
            if told.len() == 3 && shards == usize::from(SHARDS) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.expect("they do not tell of all");
    shared.board.cut("b", true);
    let told = reports().await;
    assert!(told["b"].is_none() && told["a"].is_some() && told["c"].is_some(), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_has_the_rows_of_all_made_again() {
    let shared = Shared::open().await;
    let nodes = shared.nodes(&["a", "b", "c"]).await;
    shared.shared_among(&["a", "b", "c"]).await;
    let skus: Vec<String> = (0..24).map(|number| format!("LAMP-{number}")).collect();
    let (a, all) = (nodes[0].node(), skus.clone());
    nodes[0]
        .on(async move {
            for sku in &all {
                shop::sell(&a, sku, 1_250, 7).await;
            }
        })
        .await;
    let rows = async || {
        let mut rows: Vec<store::stock::Row> = page(&shared.store, None, 1_000).await.unwrap();
        rows.retain(|row| skus.iter().any(|sku| *sku == row.sku.as_str()));
        rows
    };
    let right = async || {
        let look = async {
            loop {
                let rows = rows().await;
                if rows.len() == skus.len() && rows.iter().all(|row| row.on_hand == 7) {
                    return rows;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), look).await.expect("rows stay wrong")
    };
    let mut wrong = right().await;
    wrong.iter_mut().for_each(|row| row.on_hand = 0);
    let wrong = Batch::of(wrong);
    let batch = ProjectionBatch {
        projection: StockRows::NAME,
        rows: Some(&wrong),
        ..ProjectionBatch::default()
    };
    assert!(shared.store.commit_projections(&[batch]).await.unwrap());
    assert!(rows().await.iter().all(|row| row.on_hand == 0));
    nodes[0].node().replay_rows().await.unwrap();
    right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_product_event_does_not_change_the_cached_price() {
    let shared = Shared::open().await;
    let nodes = shared.nodes(&["a"]).await;
    shared.shared_among(&["a"]).await;
    let a = nodes[0].node();
    let first = nodes[0].on(async move {
        for price in [1_250, 990] {
            shop::sell(&a, "LAMP", price, 10).await;
        }
        let entity = product::entity_id(&"LAMP".parse().unwrap());
        a.store.journal().read_entity(&entity, 0, 1).await.unwrap()
    });
    let first = first.await;
    // A node that has not heard of the product hears of it first by what is the last in a stream.
    shared.stream.reach(false);
    let mut late = shared.node("late");
    late.ready().await;
    let node = late.node();
    let row = late.on(async move {
        let CacheLookup::Miss(place) = node.cache.get(catalog::SPACE, "page").await else {
            panic!("it is there")
        };
        node.cache.put(place, vec![1], Duration::from_secs(3_600)).await;
        node.feed.publish(&first);
        // What was answered of products is dropped once it was heard.
        while matches!(node.cache.get(catalog::SPACE, "page").await, CacheLookup::Hit(_)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        node.catalog.get(&"LAMP".parse().unwrap()).await.unwrap().unwrap()
    });
    let row = row.await;
    let price = UnitPrice::from_minor(990).unwrap();
    assert_eq!((row.version, row.value.prices.values().next()), (2, Some(&price)));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_owner_of_a_product_writes_over_the_current_row() {
    let shared = Shared { cache_ttl_ms: 600_000, ..Shared::open().await };
    let nodes = shared.nodes(&["a", "b"]).await;
    shared.shared_among(&["a", "b"]).await;
    shared.stream.reach(false);
    let owners = shared.store.shards().await.unwrap();
    let sku = (0..).map(|number| format!("LAMP-{number}")).find(|sku| {
        let shard = product::entity_id(&sku.parse().unwrap()).shard(SHARDS);
        owners[usize::from(shard)].owner == "a"
    });
    let sku = sku.unwrap();
    let price = async |one: &One, price: i64| {
        let (node, sku) = (one.node(), sku.clone());
        one.on(async move {
            shop::sell(&node, &sku, price, 10).await;
            versioned::find::<Product>(node.store.as_ref(), &sku.parse().unwrap())
                .await
                .unwrap()
                .unwrap()
                .version
        })
        .await
    };
    assert_eq!(price(&nodes[0], 1_000).await, 1);
    let (b, seen) = (nodes[1].node(), sku.parse().unwrap());
    let row = nodes[1].on(async move { b.catalog.get(&seen).await.unwrap().unwrap() }).await;
    assert_eq!(row.version, 1);
    assert_eq!(price(&nodes[0], 1_200).await, 2);
    let a = nodes[0].node();
    nodes[0].on(async move { a.leave().await }).await;
    shared.shared_among(&["b"]).await;
    // The price that it has in memory is not the one that there is.
    assert_eq!(price(&nodes[1], 1_000).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_any_kind_are_written_by_the_shard_owner() {
    let shared = Shared::open().await;
    let nodes = shared.nodes(&["a", "b"]).await;
    shared.shared_among(&["a", "b"]).await;
    let owners = shared.store.shards().await.unwrap();
    for (owner, other) in [(0, 1), (1, 0)] {
        let is_its = |code: &String| {
            owners[usize::from(Zone::entity_id(code).shard(SHARDS))].owner == nodes[owner].name
        };
        let code = (0..).map(|number| format!("zone-{number}")).find(is_its).unwrap();
        let (node, on) = (nodes[other].node(), code.clone());
        let written = async move {
            let zones = node.rows.of::<Zone>().unwrap();
            let put = async |fee, expect, key: &str| {
                let idempotency = Some(Idempotency { key: key.into(), digest: 1 });
                let cause = Cause { by: "key:test".into(), idempotency, ..Cause::default() };
                zones.put(zone(&on, fee, 1).value, expect, cause).await
            };
            let made = put(3, Expect::Absent, "k1").await.unwrap();
            let without_time = |(row, outcome): &(versioned::Row<Zone>, WriteOutcome)| {
                (row.value.clone(), row.version, *outcome)
            };
            let wanted = |fee, version, outcome| (zone(&on, fee, version).value, version, outcome);
            assert_eq!(without_time(&made), wanted(3, 1, WriteOutcome::Created));
            assert_eq!(put(3, Expect::Absent, "k1").await.unwrap(), made, "the same request again");
            let another = put(4, Expect::Absent, "k2").await;
            assert!(matches!(another, Err(row_host::Error::Exists)), "{another:?}");
            let stale = put(4, Expect::Version(7), "k3").await;
            let mismatch = matches!(stale, Err(row_host::Error::VersionMismatch { version: 1 }));
            assert!(mismatch, "{stale:?}");
            let changed = put(9, Expect::Version(1), "k4").await.unwrap();
            assert_eq!(without_time(&changed), wanted(9, 2, WriteOutcome::Updated));
            assert_eq!(put(9, Expect::Any, "k5").await.unwrap().1, WriteOutcome::Unchanged);
        };
        nodes[other].on(written).await;
        let (node, wanted) = (nodes[owner].node(), zone(&code, 9, 2));
        let shard = Zone::entity_id(&code).shard(SHARDS);
        let seen = nodes[owner]
            .on(async move { node.rows.of::<Zone>().unwrap().get(&code).await.unwrap().unwrap() });
        let seen = seen.await;
        assert_eq!((&seen.value, seen.version), (&wanted.value, wanted.version));
        shared.until_relayed(shard, &format!("kontor.events.{shard}.delivery_zone.updated")).await;
    }
}

/// The owner of an entity believes no other node about who may do what.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_who_may_not_issue_it_is_refused_by_the_owner() {
    let shared = Shared::open().await;
    let nodes = shared.nodes(&["a", "b"]).await;
    shared.shared_among(&["a", "b"]).await;
    let owners = shared.store.shards().await.unwrap();
    let elsewhere =
        |entity: &EntityId| owners[usize::from(entity.shard(SHARDS))].owner == nodes[1].name;
    let sku = (0..).map(|number| format!("SKU-{number}").parse::<Sku>().unwrap());
    let entity = sku.map(|sku| stock::entity_id(&sku)).find(elsewhere).unwrap();
    let receive = stock::Command::Receive {
        location: "main".parse().unwrap(),
        quantity: 5,
        from_incoming: false,
        reason: Some("a delivery".to_owned()),
    };
    let release = stock::Command::Release { order: OrderId(Clock::system().new_key()) };
    for (by, command, may) in [
        ("buyer", &receive, false),
        ("nobody", &receive, false),
        ("key:", &receive, false),
        ("key:1", &release, false),
        ("key:1", &receive, true),
        ("saga", &release, true),
    ] {
        let (node, entity, command) = (nodes[0].node(), entity.clone(), command.clone());
        let cause = Cause { by: by.into(), ..Cause::default() };
        let asked = async move { node.stock.carry_out(&entity, command, cause).await };
        let answer = nodes[0].on(asked).await;
        let refused =
            matches!(&answer, Err(host::Error::Storage(why)) if why.contains("principal"));
        assert_eq!((answer.is_ok(), refused), (may, !may), "{by}: {answer:?}");
    }
}

/// A noun that kontor does not know is run as its own are, on whichever node has its shard.
#[tokio::test(flavor = "multi_thread")]
async fn a_noun_of_any_kind_lives_where_its_shard_is() {
    let shared = Shared::open().await;
    let nodes = shared.nodes(&["a", "b"]).await;
    shared.shared_among(&["a", "b"]).await;
    for number in 0..20 {
        let id = EntityId::new(&format!("tally_{number}"));
        for (one, sum) in nodes.iter().zip([5, 10]) {
            let (node, id) = (one.node(), id.clone());
            let added = one.on(async move {
                let add = TallyCommand::Add(5);
                node.host::<Tally>().ask(&id, add, saga(), |view| view.state.sum).await
            });
            assert_eq!(added.await, Ok(sum), "{number} on {}", one.name);
        }
    }
    let shard = EntityId::new("tally_0").shard(SHARDS);
    shared.until_relayed(shard, &format!("kontor.events.{shard}.running_total.added")).await;
    let awake = |one: &One| one.node().hosts().named("tally").unwrap().gauge().awake;
    assert_eq!(nodes.iter().map(awake).sum::<usize>(), 20);
    assert!(nodes.iter().all(|one| awake(one) > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_events_with_unknown_outcome_are_relayed() {
    let shared = Shared::open().await;
    let nodes = shared.nodes(&["a"]).await;
    shared.shared_among(&["a"]).await;
    let (entity, a) = (stock::entity_id(&"LAMP".parse().unwrap()), nodes[0].node());
    let shard = entity.shard(SHARDS);
    shared.journal.inject(AppendFault::UnknownWritten);
    let location = "main".parse().unwrap();
    let set = stock::Command::Set { location, on_hand: 7, change_from: None, reason: None };
    let written = nodes[0].on(async move { a.stock.carry_out(&entity, set, saga()).await });
    assert_eq!(written.await, Err(host::Error::TryAgain));
    let relayed = async {
        while shared.stream.positions(shard) != BTreeSet::from([1]) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), relayed).await.expect("it is relayed");
}

fn saga() -> Cause {
    Cause { by: "saga".into(), ..Cause::default() }
}
