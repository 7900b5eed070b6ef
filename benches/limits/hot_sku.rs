//! Durable reservations a second of one SKU, through the actor host: 512 tasks, each for another
//! order every time, each waiting for its hold to be on disk.

use std::sync::Arc;
use std::time::Instant;

use kontor::actors::node::Node;
use kontor::domain::entity::Cause;
use kontor::domain::id::{OrderId, Sku};
use kontor::domain::stock;
use kontor::domain::time::Span;
use tokio::task::JoinSet;

use crate::figure::{Figure, Spread, number};
use crate::{Error, Outcome, Setting, raw, shop};

const TASKS: usize = 512;
/// Updates of the limit: each is a commit of its own.
const UPDATES: usize = 3_000;

/// Measures both sides.
pub async fn run(setting: &Setting, reservations: usize) -> Outcome {
    let node = shop::node(&setting.dir().join("hot-sku"), None).await?;
    let (mut kontor, mut limit, mut per_commit) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..setting.runs {
        let before = node.lanes.iter().next().map(|lane| lane.counters()).unwrap_or_default();
        kontor.push(reserve(&node, &node, &format!("HOT-{run}"), reservations).await?);
        let after = node.lanes.iter().next().map(|lane| lane.counters()).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "counts")]
        per_commit.push(
            (after.records - before.records) as f64 / (after.commits - before.commits) as f64,
        );
        let file = setting.dir().join(format!("hot-sku-{run}.db"));
        limit.push(raw::sell(&file, UPDATES).await?);
    }
    node.stop().await;
    let figure = Figure {
        name: format!("hot-sku: {TASKS} tasks reserve one SKU"),
        unit: "durable reservations a second",
        kontor,
        limit,
        limit_is: "UPDATE stock SET qty = qty - 1 WHERE sku = ? AND qty > 0, a commit each".into(),
        goal: ">= 5",
        notes: vec![
            format!("{} events a commit", Spread::of(&per_commit).text()),
            format!("{} reservations a run", number(f64::from(u32::try_from(reservations)?))),
        ],
    };
    figure.show(setting)
}

/// Reservations a second through a node, of a SKU that one has.
pub async fn reserve(
    node: &Arc<Node>,
    has: &Node,
    name: &str,
    reservations: usize,
) -> Outcome<f64> {
    let sku: Sku = name.parse()?;
    let entity = stock::entity_id(&sku);
    let location: stock::Location = "main".parse()?;
    let receive = stock::Command::Receive {
        location: location.clone(),
        quantity: 1_000_000_000,
        from_incoming: false,
        reason: None,
    };
    node.stock.carry_out(&entity, receive, Cause::default()).await?;
    let hold_until = node.clock.now() + Span::from_secs(3_600);
    let priority: Arc<[stock::Location]> = [location].into();
    let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
    let begin = Instant::now();
    for _ in 0..TASKS {
        let (node, entity, priority) = (Arc::clone(node), entity.clone(), Arc::clone(&priority));
        tasks.spawn(async move {
            for _ in 0..reservations / TASKS {
                let reserve = stock::Command::Reserve(stock::Reserve {
                    order: OrderId(node.clock.new_key()),
                    generation: 1,
                    quantity: 1,
                    hold_until,
                    priority: Arc::clone(&priority),
                    closed: [].into(),
                });
                let cause = Cause { by: "saga".into(), ..Cause::default() };
                node.stock.carry_out(&entity, reserve, cause).await?;
            }
            Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    let took = begin.elapsed().as_secs_f64();
    let held = has.stock.read(&entity, |view| view.state.total().reserved).await?;
    if held != i64::try_from(reservations / TASKS * TASKS)? {
        return Err(format!("{held} units are held").into());
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of units")]
    let rate = held as f64 / took;
    Ok(rate)
}
