//! What a command costs whose entity is on another node: two nodes in this process on one
//! PostgreSQL and one NATS of the run's own, and reservations of one SKU through the node that has
//! it and through the one that has not, in turns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kontor::actors::engine::clock::Clock;
use kontor::actors::engine::cluster;
use kontor::actors::node::Node;
use kontor::bus::nats::Connection;
use kontor::bus::{self, Calls, NatsProblems, Notices};
use kontor::domain::cluster_key::ClusterKey;
use kontor::domain::stock;
use kontor::store::{Options, Store};
use kontor_lab::cluster::servers::Nats;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::figure::{Figure, Spread, number};
use crate::{Outcome, Setting, hot_sku, postgres, shop};

/// How long the nodes may take to share the shards.
const PATIENCE: Duration = Duration::from_secs(60);
/// Figures that are asked for one after the other, of each node.
const LOOKS: u32 = 2_000;
/// Bare requests of NATS of each run, and tasks that make them.
const PINGS: usize = 50_000;
const PINGERS: usize = 512;
/// About the bytes of a command, and of its answer.
const PING_BYTES: usize = 400;
fn key() -> ClusterKey {
    ClusterKey::new([7; 32])
}

/// Measures both sides.
pub async fn run(setting: &Setting, reservations: usize) -> Outcome {
    let server = postgres::server(setting.dir())?;
    let nats = Nats::start(&setting.dir().join("nats"))?;
    let url = server.create_database("remote")?;
    let has = node("has", &url, &nats.url()).await?;
    let asks = node("asks", &url, &nats.url()).await?;
    let (mut remote, mut local, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let (mut far, mut near) = (Vec::new(), Vec::new());
    for run in 0..setting.runs {
        for (through, side, rates) in [(&has, "HERE", &mut local), (&asks, "THERE", &mut remote)] {
            let sku = owned(&has, &format!("HOT-{side}-{run}")).await?;
            rates.push(hot_sku::reserve(through, &has, &sku, reservations).await?);
        }
        bare.push(ping(&nats.url()).await?);
        let sku = owned(&has, &format!("LOOK-{run}")).await?;
        far.push(look(&asks, &sku).await?);
        near.push(look(&has, &sku).await?);
    }
    asks.stop().await;
    has.stop().await;
    let figure = Figure {
        name: "remote: 512 tasks reserve one SKU of another node".to_owned(),
        unit: "durable reservations a second",
        kontor: remote,
        limit: local,
        limit_is: "the same on the node that has the SKU".to_owned(),
        goal: "a figure",
        notes: vec![
            format!(
                "{} requests of {PING_BYTES} bytes a second by bare NATS, there and back",
                Spread::of(&bare).text()
            ),
            format!(
                "one figure after the other: {} us from the other node, {} us on its own",
                Spread::of(&far).text(),
                Spread::of(&near).text()
            ),
            format!("{} reservations a run", number(f64::from(u32::try_from(reservations)?))),
        ],
    };
    figure.show(setting)
}

/// A node among others.
async fn node(name: &str, store: &str, nats: &str) -> Outcome<Arc<Node>> {
    let store = Store::connect(&store.into(), &Options::default()).await?;
    let bus = bus::Options { url: nats.to_owned(), ..bus::Options::default() };
    let clock = Clock::system();
    let now: bus::Now = Arc::new(move || clock.now());
    let nats = Connection::open(&bus, name).await?;
    let start = cluster::ClusterStart {
        options: cluster::Options { settle_ms: 100, ..cluster::Options::default() },
        node: name.to_owned(),
        calls: Calls::new(nats.clone(), None, &bus, key(), name, Arc::clone(&now))?,
        notices: Notices::new(nats.clone(), key(), name, now, CancellationToken::new()),
        stream: None,
        bus,
        nats,
        nats_problems: NatsProblems::default(),
    };
    let node = shop::node_among(store, None, Some(start)).await?;
    node.join("http://127.0.0.1:9").await;
    Ok(node)
}

/// A SKU whose name begins so and that a node has, once both nodes have some.
async fn owned(node: &Node, name: &str) -> Outcome<String> {
    let shards = node.lanes.shards();
    let begin = Instant::now();
    while node.lanes.owned().len() != usize::from(shards) / 2 {
        if begin.elapsed() > PATIENCE {
            return Err("the nodes do not share the shards".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let names = (0..10_000).map(|n| format!("{name}-{n}"));
    let has = |name: &String| name.parse().is_ok_and(|sku| node.lanes.own(&stock::entity_id(&sku)));
    names.into_iter().find(has).ok_or_else(|| "the node has no SKU".into())
}

/// Microseconds that one figure takes, in the mean.
async fn look(node: &Node, sku: &str) -> Outcome<f64> {
    let entity = stock::entity_id(&sku.parse()?);
    node.stock.summary_number(&entity).await?;
    let begin = Instant::now();
    for _ in 0..LOOKS {
        node.stock.summary_number(&entity).await?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(LOOKS))
}

/// Requests a second that NATS carries there and back.
async fn ping(url: &str) -> Outcome<f64> {
    let echo = async_nats::connect(url).await?;
    let mut heard = echo.subscribe("bench.echo").await?;
    echo.flush().await?;
    let echoing = tokio::spawn(async move {
        while let Some(message) = heard.next().await {
            if let Some(reply) = message.reply {
                // Whoever asked counts what comes.
                let _gone = echo.publish(reply, message.payload).await;
            }
        }
    });
    let client = async_nats::connect(url).await?;
    let mut tasks: JoinSet<Outcome> = JoinSet::new();
    let begin = Instant::now();
    for _ in 0..PINGERS {
        let client = client.clone();
        tasks.spawn(async move {
            for _ in 0..PINGS / PINGERS {
                client.request("bench.echo", vec![b'x'; PING_BYTES].into()).await?;
            }
            Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    let took = begin.elapsed().as_secs_f64();
    echoing.abort();
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    let rate = (PINGS / PINGERS * PINGERS) as f64 / took;
    Ok(rate)
}
