//! What a checkout costs as history grows: the same checkouts on stores of 1,000 to 1,000,000
//! finished orders, in this process, with the sandbox provider beside them.
//!
//! The stores take turns. Each turn opens its store anew and measures twice: on SKUs that nobody
//! has touched since the start, whose history is read first, and on the same SKUs again.

use std::path::Path;
use std::time::Instant;

use kontor::actors::node::Node;

use crate::figure::{Spread, number};
use crate::{Outcome, Setting, generate, machine, shop};

/// What some checkouts cost, each.
#[derive(Clone, Debug, Default, serde::Serialize)]
struct Cost {
    wall_ms: Vec<f64>,
    cpu_ms: f64,
    commits: f64,
    events: f64,
    written_bytes: f64,
}

/// The costs of a store, a turn each.
#[derive(Default, serde::Serialize)]
struct Costs {
    orders: u64,
    first: Vec<Cost>,
    warm: Vec<Cost>,
}

/// Fills the stores and measures them.
pub async fn run(setting: &Setting, sizes: &[u64], checkouts: usize, shipped: bool) -> Outcome {
    let mut all = Vec::new();
    for orders in sizes {
        let dir = setting.dir().join(format!("history-{orders}"));
        if !dir.join("kontor.db").exists() {
            let filled = generate::fill(&dir, *orders, shipped).await?;
            eprintln!("{} orders, {} events in {:.1} s", orders, filled.events, filled.secs);
        }
        all.push(Costs { orders: *orders, ..Costs::default() });
    }
    for _ in 0..setting.runs {
        for costs in &mut all {
            let dir = setting.dir().join(format!("history-{}", costs.orders));
            let (first, warm) = turn(&dir, checkouts).await?;
            costs.first.push(first);
            costs.warm.push(warm);
        }
    }
    show(setting, &all, checkouts)
}

async fn turn(dir: &Path, checkouts: usize) -> Outcome<(Cost, Cost)> {
    let psp = tempfile::tempdir()?;
    let options = kontor_sandbox_psp::Options {
        data: psp.path().to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
    };
    let psp = kontor_sandbox_psp::start(options).await?;
    let node = shop::node(dir, Some(&psp.url())).await?;
    // The first pages of every sort, and all that is made once: on SKUs of their own.
    let warmed = generate::SKUS - 20;
    for at in 0..10 {
        checkout(&node, warmed + 2 * at).await?;
    }
    let first = measure(&node, checkouts).await?;
    let warm = measure(&node, checkouts).await?;
    node.stop().await;
    psp.stop().await;
    Ok((first, warm))
}

async fn measure(node: &Node, checkouts: usize) -> Outcome<Cost> {
    let lane = node.lanes.iter().next().ok_or("no lane")?;
    let mut wall_ms = Vec::with_capacity(checkouts);
    let (before, cpu, written) = (lane.counters(), machine::cpu_ms()?, machine::written_bytes()?);
    for at in 0..checkouts {
        let begin = Instant::now();
        checkout(node, 2 * u64::try_from(at)?).await?;
        wall_ms.push(begin.elapsed().as_secs_f64() * 1_000.0);
    }
    // Rows belong to the cost.
    let after = lane.counters();
    node.caught_up(
        (0, node.store.journal().last_pos(0).await?),
        std::time::Duration::from_secs(60),
    )
    .await;
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    let each = |total: f64| total / checkouts as f64;
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    let (commits, events) =
        ((after.commits - before.commits) as f64, (after.records - before.records) as f64);
    Ok(Cost {
        wall_ms,
        cpu_ms: each(machine::cpu_ms()? - cpu),
        commits: each(commits),
        events: each(events),
        written_bytes: each(machine::written_bytes()? - written),
    })
}

/// A cart of two SKUs becomes an order whose money is taken.
async fn checkout(node: &Node, first: u64) -> Outcome {
    let skus =
        [generate::sku(first % generate::SKUS)?, generate::sku((first + 1) % generate::SKUS)?];
    let cart = shop::cart(node, first, &skus).await?;
    shop::buy(node, cart).await
}

fn show(setting: &Setting, all: &[Costs], checkouts: usize) -> Outcome {
    if setting.json {
        println!("{}", serde_json::to_string(all)?);
        return Ok(());
    }
    println!(
        "history: {checkouts} checkouts one after another, {} runs; goal <= 1.2\n",
        setting.runs
    );
    println!(
        "| orders before | SKUs | wall ms | CPU ms | commits | events | KiB written | wall by the first | CPU by the first |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (which, of) in [
        ("first touched", (|costs: &Costs| costs.first.clone()) as fn(&Costs) -> Vec<Cost>),
        ("warm", |costs| costs.warm.clone()),
    ] {
        let base = all.first().map(&of).unwrap_or_default();
        for costs in all {
            let turns = of(costs);
            let walls: Vec<f64> = turns.iter().flat_map(|cost| cost.wall_ms.clone()).collect();
            let each =
                |read: fn(&Cost) -> f64| Spread::of(&turns.iter().map(read).collect::<Vec<_>>());
            let by = |read: fn(&Cost) -> f64| {
                let ratios = turns.iter().zip(&base).map(|(cost, base)| read(cost) / read(base));
                Spread::of(&ratios.collect::<Vec<_>>()).text()
            };
            println!(
                "| {} | {which} | {} | {} | {} | {} | {} | {} | {} |",
                number_of(costs.orders),
                Spread::of(&walls).text(),
                each(|cost| cost.cpu_ms).text(),
                each(|cost| cost.commits).text(),
                each(|cost| cost.events).text(),
                number(each(|cost| cost.written_bytes / 1024.0).median),
                by(|cost| Spread::of(&cost.wall_ms).median),
                by(|cost| cost.cpu_ms),
            );
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a count of orders")]
fn number_of(count: u64) -> String {
    number(count as f64)
}
