//! Durable events a second through the lane: 1,024 writers, each waiting for its event to be on
//! disk before it appends the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use kontor::actors::engine::clock::Clock;
use kontor::domain::entity::EntityId;
use kontor::domain::id::OrderId;
use kontor::domain::order;
use kontor::domain::time::{Span, Timestamp};
use kontor::store::Store;
use kontor::store::journal::lane::{Lane, LaneCounters};
use kontor::store::journal::{Append, NewEvent};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::figure::{Figure, Spread, number};
use crate::raw::Fence;
use crate::{Outcome, Setting, raw};

pub const WRITERS: usize = 1_024;
/// Rows of one commit of the limit.
const RAW_BATCH: usize = 100;
/// Rows of one commit of the lane, as many at the most.
const LANE_BATCH: usize = 512;
/// Bytes of an event's data; with entity, kind and cause a row has 300.
const DATA_BYTES: usize = 203;

/// Rows in which as many entities live at a time as there are writers, each for `lifetime` events.
pub fn row(events: usize, lifetime: usize) -> raw::Row {
    let clock = Clock::system();
    let id = |_| order::entity_id(OrderId(clock.new_key())).as_str().into();
    let data = format!("{{\"text\":\"{}\"}}", "x".repeat(DATA_BYTES - 11));
    raw::Row {
        entities: (0..events / lifetime).map(id).collect(),
        alive: WRITERS,
        lifetime,
        kind: "payment_auth".into(),
        cause: r#"{"by":"saga","cmd":"report","req":"0123456789abcdefghi"}"#.into(),
        data: data.into(),
    }
}

/// Measures both sides.
pub async fn run(setting: &Setting, events: usize, lifetime: usize) -> Outcome {
    let lifetime = lifetime.max(1);
    let events = (events / (WRITERS * lifetime)).max(1) * (WRITERS * lifetime);
    let row = row(events, lifetime);
    let entity = row.entities.first().map_or(0, |entity| entity.len());
    let bytes = entity + row.kind.len() + row.cause.len() + row.data.len();
    let (mut kontor, mut limit, mut per_commit) = (Vec::new(), Vec::new(), Vec::new());
    let (mut doubles, mut large) = (Vec::new(), Vec::new());
    let mut commits = 0;
    for run in 0..setting.runs {
        let folder = setting.dir().join(format!("append-{run}"));
        let (rate, counters) = through_the_lane(&folder.join("kontor"), &row).await?;
        commits = counters.commits;
        #[expect(clippy::cast_precision_loss, reason = "counts")]
        per_commit.push(counters.records as f64 / counters.commits as f64);
        kontor.push(rate);
        for (fence, batch, rates) in [
            (Fence::None, RAW_BATCH, &mut limit),
            (Fence::Doubles, RAW_BATCH, &mut doubles),
            (Fence::Doubles, LANE_BATCH, &mut large),
        ] {
            let file = folder.join(format!("raw-{}-{batch}.db", fence as u8));
            rates.push(raw::append(&file, &row, events, (batch, fence)).await?);
        }
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
            format!("{} the limit with a unique index", Spread::of(&doubles).text()),
            format!("{} the same, {LANE_BATCH} rows a commit", Spread::of(&large).text()),
            format!("{} events a commit, {commits} commits", Spread::of(&per_commit).text()),
            format!("{lifetime} events of each entity, {WRITERS} entities at a time"),
            format!("{} events a run", number(f64::from(u32::try_from(events)?))),
        ],
    };
    figure.show(setting)
}

async fn through_the_lane(dir: &std::path::Path, row: &raw::Row) -> Outcome<(f64, LaneCounters)> {
    let lifetime = i64::try_from(row.lifetime)?;
    std::fs::create_dir_all(dir)?;
    let options = kontor::store::Options::default();
    let store = Store::open(dir, &options).await?;
    let journal = store.journal();
    let fences = journal.claim(&[0], "bench", Span::from_secs(3_600)).await?;
    let lane = Lane::start(journal, options.lane, Arc::new(|_| {}));
    fences.into_iter().for_each(|fence| lane.own(fence));
    let refused = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    let begin = Instant::now();
    for writer in 0..WRITERS {
        let (lane, refused) = (lane.clone(), Arc::clone(&refused));
        let (cause, data) = (Arc::clone(&row.cause), Arc::clone(&row.data));
        let mine = row.entities.iter().skip(writer).step_by(WRITERS);
        let mine: Vec<EntityId> = mine.map(|id| EntityId::new(id)).collect();
        writers.spawn(async move {
            for entity in &mine {
                for seq in 0..lifetime {
                    let event =
                        NewEvent { kind: "payment_auth", version: 1, data: Arc::clone(&data) };
                    let append = Append {
                        entity: entity.clone(),
                        after_seq: seq,
                        events: vec![event],
                        at: Timestamp::from_millis(1_700_000_000_000),
                        cause: Arc::clone(&cause),
                        timer: None,
                        rows: Vec::new(),
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
