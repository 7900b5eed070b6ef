//! Durable events a second through the lane: 1,024 writers, each waiting for its event to be on
//! disk before it appends the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use kontor::domain::entity::EntityId;
use kontor::domain::time::Timestamp;
use kontor::store::Store;
use kontor::store::journal::lane::{Counters, Lane};
use kontor::store::journal::{Append, NewEvent};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::figure::{Figure, Spread, number};
use crate::{Outcome, Setting, raw};

const WRITERS: usize = 1_024;
/// Entities that each writer appends to in turn.
const ENTITIES: usize = 16;
/// Rows of one commit of the limit.
const RAW_BATCH: usize = 100;
/// Bytes of an event's data; with entity, kind and cause a row has 300.
const DATA_BYTES: usize = 203;

fn row() -> raw::Row {
    let data = format!("{{\"text\":\"{}\"}}", "x".repeat(DATA_BYTES - 11));
    raw::Row {
        entity: "ord_01h455vb4pex5vsknk084sn02q".into(),
        kind: "payment_auth".into(),
        cause: r#"{"by":"saga","cmd":"report","req":"0123456789abcdefghi"}"#.into(),
        data: data.into(),
    }
}

/// Measures both sides.
pub async fn run(setting: &Setting, events: usize) -> Outcome {
    let events = events / (WRITERS * ENTITIES) * (WRITERS * ENTITIES);
    let row = row();
    let bytes = row.entity.len() + row.kind.len() + row.cause.len() + row.data.len();
    let (mut kontor, mut limit, mut per_commit) = (Vec::new(), Vec::new(), Vec::new());
    let mut commits = 0;
    for run in 0..setting.runs {
        let folder = setting.dir().join(format!("append-{run}"));
        let (rate, counters) = through_the_lane(&folder.join("kontor"), &row, events).await?;
        commits = counters.commits;
        #[expect(clippy::cast_precision_loss, reason = "counts")]
        per_commit.push(counters.records as f64 / counters.commits as f64);
        kontor.push(rate);
        limit.push(raw::append(&folder.join("raw.db"), &row, events, RAW_BATCH).await?);
        std::fs::remove_dir_all(&folder)?;
    }
    let figure = Figure {
        name: format!("append: {WRITERS} writers, events of {bytes} bytes"),
        unit: "durable events a second",
        kontor,
        limit,
        limit_is: format!("a table without an index, {RAW_BATCH} rows a commit, one writer"),
        goal: ">= 0.5",
        notes: vec![
            format!("{} events a commit, {commits} commits", Spread::of(&per_commit).text()),
            format!("{} events a run", number(f64::from(u32::try_from(events)?))),
        ],
    };
    figure.show(setting)
}

async fn through_the_lane(
    dir: &std::path::Path,
    row: &raw::Row,
    events: usize,
) -> Outcome<(f64, Counters)> {
    std::fs::create_dir_all(dir)?;
    let options = kontor::store::Options::default();
    let store = Store::open(dir, &options).await?;
    let journal = store.journal();
    let epoch = journal.claim(0, "bench", Timestamp::default()).await?;
    let lane = Lane::start(journal, 0, epoch, options.lane, Arc::new(|_| {}));
    let refused = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    let begin = Instant::now();
    for writer in 0..WRITERS {
        let (lane, refused) = (lane.clone(), Arc::clone(&refused));
        let (cause, data) = (Arc::clone(&row.cause), Arc::clone(&row.data));
        writers.spawn(async move {
            let id = |entity| EntityId::new(&format!("ord_{:026}", writer * ENTITIES + entity));
            let entities: Vec<_> = (0..ENTITIES).map(id).collect();
            for seq in 0..i64::try_from(events / WRITERS / ENTITIES).unwrap_or(0) {
                for entity in &entities {
                    let event =
                        NewEvent { kind: "payment_auth", version: 1, data: Arc::clone(&data) };
                    let append = Append {
                        entity: entity.clone(),
                        after_seq: seq,
                        events: vec![event],
                        at: Timestamp::from_millis(1_700_000_000_000),
                        cause: Arc::clone(&cause),
                        timer: None,
                        row: None,
                    };
                    let (sender, receiver) = oneshot::channel();
                    let done = Box::new(move |outcome| drop(sender.send(outcome)));
                    let queued = lane.enqueue(append, done).is_ok();
                    if !queued || !matches!(receiver.await, Ok(Ok(()))) {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }
    writers.join_all().await;
    let took = begin.elapsed().as_secs_f64();
    let counters = lane.counters();
    drop(lane);
    store.close().await;
    if refused.load(Ordering::Relaxed) > 0 {
        return Err("an append was refused".into());
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of events")]
    let rate = counters.records as f64 / took;
    Ok((rate, counters))
}
