//! The same on PostgreSQL, in a server of the run's own that syncs every commit: durable events a
//! second through some lanes, and reservations a second of one SKU.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use kontor::domain::entity::EntityId;
use kontor::domain::time::{Span, Timestamp};
use kontor::store::journal::lane::Committed;
use kontor::store::journal::lanes::Lanes;
use kontor::store::journal::{Append, NewEvent, Record};
use kontor::store::{Options, Store};
use kontor_lab::cluster::servers::{PostgresOptions, PostgresServer};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::append::{WRITERS, row};
use crate::figure::{Figure, Spread, number};
use crate::{Outcome, Setting, hot_sku, raw, shop};

/// Connections of the limit of inserting.
const INSERTERS: u16 = 4;
/// Rows of one commit of the limit.
const RAW_BATCH: usize = 100;
/// Connections of the limit of selling.
const SELLERS: usize = 32;
/// Updates of the limit: each is a commit of its own.
const UPDATES: usize = 6_000;

/// A server that syncs every commit.
pub fn server(dir: &Path) -> Outcome<PostgresServer> {
    std::fs::create_dir_all(dir)?;
    let settings = ["shared_buffers=512MB", "max_wal_size=8GB", "checkpoint_timeout=30min"];
    let settings = settings.map(str::to_owned).to_vec();
    let options = PostgresOptions { fsync: true, settings, ..PostgresOptions::default() };
    Ok(PostgresServer::start_with(&dir.join("postgres"), options)?)
}

/// Measures appending.
pub async fn append(setting: &Setting, events: usize, lifetime: usize, lanes: u16) -> Outcome {
    let lifetime = lifetime.max(1);
    let events = (events / (WRITERS * lifetime)).max(1) * (WRITERS * lifetime);
    let row = row(events, lifetime);
    let server = server(setting.dir())?;
    let (mut kontor, mut limit, mut indexed, mut per_commit) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 0..setting.runs {
        let url = server.create_database(&format!("append{run}"))?;
        let (rate, events_a_commit) = through_lanes(&url, &row, lanes).await?;
        kontor.push(rate);
        per_commit.push(events_a_commit);
        for (with_indexes, rates) in [(false, &mut limit), (true, &mut indexed)] {
            let url = server.create_database(&format!("raw{run}{with_indexes}"))?;
            rates.push(insert(&url, &row, events, with_indexes).await?);
        }
    }
    let figure = Figure {
        name: format!("postgres-append: {WRITERS} writers, {lanes} lanes, 64 shards"),
        unit: "durable events a second",
        kontor,
        limit,
        limit_is: format!(
            "the same rows in a table without an index, {RAW_BATCH} a commit, {INSERTERS} connections"
        ),
        goal: ">= 0.5",
        notes: vec![
            format!("{} the limit with the journal's two indexes", Spread::of(&indexed).text()),
            format!("{} events a commit", Spread::of(&per_commit).text()),
            format!("{} events a run", number(f64::from(u32::try_from(events)?))),
        ],
    };
    figure.show(setting)
}

async fn through_lanes(url: &str, row: &raw::Row, lanes: u16) -> Outcome<(f64, f64)> {
    let lifetime = i64::try_from(row.lifetime)?;
    let options = Options::default();
    let store = Store::connect(&url.into(), &options).await?;
    let journal = store.journal();
    let shards: Vec<u16> = (0..journal.shards()).collect();
    let committed: Committed = Arc::new(|_: &[Record]| {});
    let lanes = Lanes::start(&journal, lanes, &options.lane, &committed);
    for fence in journal.claim(&shards, "bench", Span::from_secs(3_600)).await? {
        lanes.of(fence.shard).own(fence);
    }
    let refused = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    let begin = Instant::now();
    for writer in 0..WRITERS {
        let (lanes, refused) = (lanes.clone(), Arc::clone(&refused));
        let (cause, data) = (Arc::clone(&row.cause), Arc::clone(&row.data));
        let mine = row.entities.iter().skip(writer).step_by(WRITERS);
        let mine: Vec<EntityId> = mine.map(|id| EntityId::new(id)).collect();
        writers.spawn(async move {
            for entity in &mine {
                for seq in 0..lifetime {
                    let data = Arc::clone(&data);
                    let append = Append {
                        entity: entity.clone(),
                        after_seq: seq,
                        events: vec![NewEvent { kind: "payment_auth", version: 1, data }],
                        at: Timestamp::from_millis(1_700_000_000_000),
                        cause: Arc::clone(&cause),
                        timer: None,
                        rows: Vec::new(),
                    };
                    let (sender, receiver) = oneshot::channel();
                    let done = Box::new(move |outcome| drop(sender.send(outcome)));
                    let queued = lanes.of_entity(entity).enqueue(append, done).is_ok();
                    if !queued || !matches!(receiver.await, Ok(Ok(()))) {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }
    writers.join_all().await;
    let took = begin.elapsed().as_secs_f64();
    let (records, commits) = lanes
        .iter()
        .map(|lane| lane.counters())
        .fold((0, 0), |sum, lane| (sum.0 + lane.records, sum.1 + lane.commits));
    drop(lanes);
    store.close().await;
    if refused.load(Ordering::Relaxed) > 0 {
        return Err("an append was refused".into());
    }
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    let figures = (records as f64 / took, records as f64 / commits as f64);
    Ok(figures)
}

/// Rows a second of plain inserts of many rows.
async fn insert(url: &str, row: &raw::Row, rows: usize, with_indexes: bool) -> Outcome<f64> {
    let mut connection = PgConnection::connect(url).await?;
    let table = "CREATE TABLE event (pos BIGINT NOT NULL, seq BIGINT NOT NULL, at BIGINT NOT NULL, \
        shard INTEGER NOT NULL, version INTEGER NOT NULL, entity TEXT NOT NULL COLLATE \"C\", \
        kind TEXT NOT NULL, cause TEXT NOT NULL, data TEXT NOT NULL, sum BIGINT)";
    connection.execute(table).await?;
    if with_indexes {
        let keys = "ALTER TABLE event ADD PRIMARY KEY (shard, pos), ADD UNIQUE (entity, seq)";
        connection.execute(keys).await?;
    }
    let mut writers: JoinSet<Outcome> = JoinSet::new();
    let each = rows / usize::from(INSERTERS);
    let begin = Instant::now();
    for writer in 0..INSERTERS {
        let mut connection = PgConnection::connect(url).await?;
        let (kind, cause, data) = (row.kind.clone(), row.cause.clone(), row.data.clone());
        let mine = row.entities.iter().skip(writer.into()).step_by(INSERTERS.into());
        let mine: Vec<Arc<str>> = mine.cloned().collect();
        let lifetime = row.lifetime;
        writers.spawn(async move {
            for from in (0..each).step_by(RAW_BATCH) {
                let batch = from..each.min(from + RAW_BATCH);
                let (mut pos, mut seq, mut entity) = (Vec::new(), Vec::new(), Vec::new());
                for nth in batch {
                    pos.push(i64::try_from(nth)? + 1);
                    seq.push(i64::try_from(nth % lifetime)? + 1);
                    entity.push(mine[nth / lifetime % mine.len()].to_string());
                }
                let count = pos.len();
                let text = "INSERT INTO event (pos, seq, at, shard, version, entity, kind, cause, \
                            data, sum) SELECT * FROM unnest($1::BIGINT[], $2::BIGINT[], \
                            $3::BIGINT[], $4::INTEGER[], $5::INTEGER[], $6::TEXT[], $7::TEXT[], \
                            $8::TEXT[], $9::TEXT[], $10::BIGINT[])";
                sqlx::query(text)
                    .bind(pos)
                    .bind(seq)
                    .bind(vec![1_700_000_000_000_i64; count])
                    .bind(vec![i32::from(writer); count])
                    .bind(vec![1_i32; count])
                    .bind(entity)
                    .bind(vec![&*kind; count])
                    .bind(vec![&*cause; count])
                    .bind(vec![&*data; count])
                    .bind(vec![7_i64; count])
                    .execute(&mut connection)
                    .await?;
            }
            Ok(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    let rate = (each * usize::from(INSERTERS)) as f64 / begin.elapsed().as_secs_f64();
    Ok(rate)
}

/// Measures reserving.
pub async fn hot_sku(setting: &Setting, reservations: usize) -> Outcome {
    let server = server(setting.dir())?;
    let (mut kontor, mut limit) = (Vec::new(), Vec::new());
    for run in 0..setting.runs {
        let url = server.create_database(&format!("hot{run}"))?;
        let store = Store::connect(&url.as_str().into(), &Options::default()).await?;
        let node = shop::node_on(store, None).await?;
        kontor.push(hot_sku::reserve(&node, &node, &format!("HOT-{run}"), reservations).await?);
        node.stop().await;
        limit.push(sell(&server.create_database(&format!("sell{run}"))?).await?);
    }
    let figure = Figure {
        name: "postgres-hot-sku: 512 tasks reserve one SKU".to_owned(),
        unit: "durable reservations a second",
        kontor,
        limit,
        limit_is: format!(
            "UPDATE stock SET qty = qty - 1 WHERE sku = $1 AND qty > 0, {SELLERS} connections"
        ),
        goal: ">= 5",
        notes: vec![format!(
            "{} reservations a run",
            number(f64::from(u32::try_from(reservations)?))
        )],
    };
    figure.show(setting)
}

/// Sold units a second, by as many connections as sell.
async fn sell(url: &str) -> Outcome<f64> {
    let mut connection = PgConnection::connect(url).await?;
    connection.execute("CREATE TABLE stock (sku TEXT PRIMARY KEY, qty BIGINT NOT NULL)").await?;
    connection.execute("INSERT INTO stock VALUES ('HOT', 1000000000)").await?;
    let mut sellers: JoinSet<Outcome> = JoinSet::new();
    let mut connections = Vec::new();
    for _ in 0..SELLERS {
        connections.push(PgConnection::connect(url).await?);
    }
    let begin = Instant::now();
    for mut connection in connections {
        sellers.spawn(async move {
            for _ in 0..UPDATES / SELLERS {
                let text = "UPDATE stock SET qty = qty - 1 WHERE sku = $1 AND qty > 0";
                sqlx::query(text).bind("HOT").execute(&mut connection).await?;
            }
            Ok(())
        });
    }
    while let Some(seller) = sellers.join_next().await {
        seller??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of units")]
    let rate = (UPDATES / SELLERS * SELLERS) as f64 / begin.elapsed().as_secs_f64();
    Ok(rate)
}
