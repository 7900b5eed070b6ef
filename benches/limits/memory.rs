//! What an entity in memory takes: carts that were made and orders that were looked at, by what
//! the process has of the machine's memory before and after.

use std::sync::Arc;

use kontor::actors::node::Node;
use kontor::domain::entity::EntityId;
use sqlx::Row as _;
use tokio::task::JoinSet;

use crate::figure::number;
use crate::machine::{Numbers, resident_bytes};
use crate::{Error, Outcome, Setting, generate, raw, shop};

const TASKS: u64 = 64;

/// What some entities take.
#[derive(serde::Serialize)]
struct Taken {
    what: &'static str,
    entities: u64,
    before_bytes: f64,
    after_bytes: f64,
    each_bytes: f64,
    /// By the second half alone, when caches are full.
    each_of_second_half_bytes: f64,
}

/// Measures carts, then orders.
pub async fn run(setting: &Setting, entities: u64) -> Outcome {
    let dir = setting.dir().join(format!("history-{entities}"));
    if !dir.join("kontor.db").exists() {
        generate::fill(&dir, entities, true).await?;
    }
    let orders = orders_of(&dir).await?;
    let node = shop::node(&dir, None).await?;
    let carts = taken("carts", entities, |from, to| wake_carts(&node, from, to)).await?;
    let orders = taken("orders", u64::try_from(orders.len())?, |from, to| {
        wake_orders(&node, orders.clone(), from, to)
    })
    .await?;
    let awake = (node.carts.gauge().awake, node.orders.gauge().awake);
    node.stop().await;
    if setting.json {
        println!("{}", serde_json::to_string(&[carts, orders])?);
        return Ok(());
    }
    println!(
        "memory: {} carts and {} orders awake; goal: 100,000 carts under 1 GB\n",
        awake.0, awake.1
    );
    println!("| awake | RSS before MiB | RSS after MiB | bytes each | bytes each, second half |");
    println!("| --- | --- | --- | --- | --- |");
    for one in [carts, orders] {
        println!(
            "| {} {} | {} | {} | {} | {} |",
            number(f64::from(u32::try_from(one.entities)?)),
            one.what,
            number(one.before_bytes / 1_048_576.0),
            number(one.after_bytes / 1_048_576.0),
            number(one.each_bytes),
            number(one.each_of_second_half_bytes),
        );
    }
    Ok(())
}

async fn taken<W>(what: &'static str, entities: u64, wake: impl Fn(u64, u64) -> W) -> Outcome<Taken>
where
    W: Future<Output = Outcome>,
{
    let before_bytes = resident_bytes()?;
    wake(0, entities / 2).await?;
    let half = resident_bytes()?;
    wake(entities / 2, entities).await?;
    let after_bytes = resident_bytes()?;
    #[expect(clippy::cast_precision_loss, reason = "a count of entities")]
    let count = entities as f64;
    let each_bytes = (after_bytes - before_bytes) / count;
    let each_of_second_half_bytes = (after_bytes - half) / (count - count / 2.0);
    Ok(Taken { what, entities, before_bytes, after_bytes, each_bytes, each_of_second_half_bytes })
}

/// Makes carts of two lines with an address.
async fn wake_carts(node: &Arc<Node>, from: u64, to: u64) -> Outcome {
    let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
    for task in 0..TASKS {
        let node = Arc::clone(node);
        tasks.spawn(async move {
            let mut numbers = Numbers(from + task);
            for buyer in (from + task..to).step_by(usize::try_from(TASKS)?) {
                let first = numbers.next() % generate::SKUS;
                let second = (first + 1) % generate::SKUS;
                let skus = [generate::sku(first)?, generate::sku(second)?];
                shop::cart(&node, buyer, &skus).await?;
            }
            Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(())
}

/// Looks at orders, so that each is read and stays.
async fn wake_orders(node: &Arc<Node>, orders: Arc<[EntityId]>, from: u64, to: u64) -> Outcome {
    let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
    for task in 0..TASKS {
        let (node, orders) = (Arc::clone(node), Arc::clone(&orders));
        tasks.spawn(async move {
            for at in (from + task..to).step_by(usize::try_from(TASKS)?) {
                let id = &orders[usize::try_from(at)?];
                if node.orders.read(id, |view| view.seq).await? == 0 {
                    return Err(format!("there is no {id}").into());
                }
            }
            Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(())
}

async fn orders_of(dir: &std::path::Path) -> Outcome<Arc<[EntityId]>> {
    let mut connection = raw::open(&dir.join("kontor.db")).await?;
    let rows = sqlx::query("SELECT id FROM order_row").fetch_all(&mut connection).await?;
    let mut ids = Vec::with_capacity(rows.len());
    for row in rows {
        ids.push(EntityId::new(row.try_get(0)?));
    }
    Ok(ids.into())
}
