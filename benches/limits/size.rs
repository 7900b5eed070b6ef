//! The bytes of a store by what they are for: each kind of event, each table and index.

use sqlx::Row as _;

use crate::figure::number;
use crate::{Outcome, Setting, generate, raw};

/// Fills a store unless the folder has one, and weighs it.
pub async fn run(setting: &Setting, orders: u64, shipped: bool) -> Outcome {
    let dir = setting.dir().join(format!("history-{orders}"));
    if !dir.join("kontor.db").exists() {
        generate::fill(&dir, orders, shipped).await?;
    }
    let mut connection = raw::open(&dir.join("kontor.db")).await?;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
    #[expect(clippy::cast_precision_loss, reason = "a count of orders")]
    let count = orders as f64;
    println!("size: {orders} orders of two lines\n");
    println!("| event | an order | data | cause | entity | kind | row |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let kinds = sqlx::query(
        "SELECT substr(entity, 1, instr(entity, '_') - 1), kind, count(*) * 1.0, \
         avg(length(data)), avg(length(cause)), avg(length(entity)), avg(length(kind)) \
         FROM event GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2",
    )
    .fetch_all(&mut connection)
    .await?;
    let (mut events, mut bytes) = (0.0, 0.0);
    for row in &kinds {
        let noun: &str = row.try_get(0)?;
        let kind: &str = row.try_get(1)?;
        let each = |column: usize| row.try_get::<f64, _>(column);
        let (of, data, cause) = (each(2)? / count, each(3)?, each(4)?);
        let (entity, word) = (each(5)?, each(6)?);
        let sum = data + cause + entity + word;
        if noun != "prod" {
            events += of;
            bytes += of * sum;
        }
        println!(
            "| {noun} {kind} | {of:.3} | {} | {} | {} | {} | {} |",
            number(data),
            number(cause),
            number(entity),
            number(word),
            number(sum)
        );
    }
    println!("| together | {events:.2} | | | | | {} an order |\n", number(bytes));
    println!("| table or index | MiB | bytes an order | of them free in pages |");
    println!("| --- | --- | --- | --- |");
    let tables = sqlx::query(
        "SELECT name, sum(pgsize) * 1.0, sum(unused) * 1.0 FROM dbstat GROUP BY name \
         ORDER BY 2 DESC",
    )
    .fetch_all(&mut connection)
    .await?;
    let mut total = 0.0;
    for row in &tables {
        let (size, unused): (f64, f64) = (row.try_get(1)?, row.try_get(2)?);
        total += size;
        if size / count >= 0.5 {
            println!(
                "| {} | {} | {} | {} |",
                row.try_get::<&str, _>(0)?,
                number(size / 1_048_576.0),
                number(size / count),
                number(unused / count)
            );
        }
    }
    println!("| together | {} | {} | |", number(total / 1_048_576.0), number(total / count));
    Ok(())
}
