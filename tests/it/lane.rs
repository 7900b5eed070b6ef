//! The lane: order, pipelining, limits, and who is told what when a write goes wrong.

use std::sync::{Arc, Mutex};

use kontor::store::journal::lane::{Counters, Lane, Options};
use kontor::store::journal::memory::{Fault, Memory};
use kontor::store::journal::{AppendError, Epoch, Journal, Record};

use crate::journal::{Fixture, append, at};

/// What happened, in order.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Committed(Vec<i64>),
    Told(u32, Result<(), AppendError>),
}

/// A lane that writes down what it says.
struct Watched {
    lane: Lane,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Watched {
    fn start(journal: Arc<dyn Journal>, epoch: Epoch, options: Options) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let committed = Arc::new(move |records: &[Record]| {
            let positions = records.iter().map(|record| record.pos).collect();
            log.lock().unwrap().push(Seen::Committed(positions));
        });
        Self { lane: Lane::start(journal, 0, epoch, options, committed), seen }
    }

    fn enqueue(&self, name: u32, entity: &str, after_seq: i64) {
        let log = Arc::clone(&self.seen);
        let done = Box::new(move |outcome| log.lock().unwrap().push(Seen::Told(name, outcome)));
        self.lane.enqueue(append(entity, after_seq, 1), done).unwrap();
    }

    /// The names that were told, with whether it went well, in order.
    fn told(&self) -> Vec<(u32, bool)> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter_map(|seen| match seen {
                Seen::Told(name, outcome) => Some((*name, outcome.is_ok())),
                Seen::Committed(_) => None,
            })
            .collect()
    }
}

async fn memory() -> (Memory, Arc<dyn Journal>, Epoch) {
    let memory = Memory::new(1);
    let journal: Arc<dyn Journal> = Arc::new(memory.clone());
    let epoch = journal.claim(0, "test", at(0)).await.unwrap();
    (memory, journal, epoch)
}

async fn a_pipeline_becomes_few_commits(fixture: Fixture) {
    let watched = Watched::start(Arc::clone(&fixture.journal), fixture.epoch, Options::default());
    for n in 0..1_000_u32 {
        watched.enqueue(n, "sku_hot", i64::from(n));
    }
    watched.lane.flush().await;
    assert_eq!(watched.told(), (0..1_000).map(|n| (n, true)).collect::<Vec<_>>());
    let Counters { commits, appends, records, refused } = watched.lane.counters();
    assert_eq!((appends, records, refused), (1_000, 1_000, 0));
    assert!(commits <= 10, "{commits} commits");
    assert_eq!(watched.lane.depth(), 0);
    assert_eq!(fixture.all().await.len(), 1_000);
}

async fn records_are_shown_before_anybody_is_told(fixture: Fixture) {
    let watched = Watched::start(Arc::clone(&fixture.journal), fixture.epoch, Options::default());
    watched.enqueue(1, "cart_1", 0);
    watched.lane.flush().await;
    watched.enqueue(2, "cart_1", 1);
    watched.lane.flush().await;
    let expected = [
        Seen::Committed(vec![1]),
        Seen::Told(1, Ok(())),
        Seen::Committed(vec![2]),
        Seen::Told(2, Ok(())),
    ];
    assert_eq!(*watched.seen.lock().unwrap(), expected);
}

async fn the_innocent_of_a_spoilt_batch_are_written(fixture: Fixture) {
    fixture.journal.append(0, fixture.epoch, &[append("cart_bad", 0, 1)]).await.unwrap();
    let watched = Watched::start(Arc::clone(&fixture.journal), fixture.epoch, Options::default());
    let mut expected = Vec::new();
    for n in 0..40_u32 {
        if n % 16 == 5 {
            // The second of these fits what stands in the journal by its number alone.
            watched.enqueue(n, "cart_bad", i64::from(n / 16));
            expected.push((n, false));
        } else {
            watched.enqueue(n, &format!("cart_{n}"), 0);
            expected.push((n, true));
        }
    }
    watched.lane.flush().await;
    assert_eq!(watched.told(), expected);
    assert_eq!(fixture.all().await.len(), 1 + 37);
    assert_eq!(watched.lane.counters().refused, 3);
    let all = fixture.all().await;
    assert!(all.iter().zip(1..).all(|(record, pos)| record.pos == pos));
}

async fn a_lane_whose_shard_is_taken_is_dead(fixture: Fixture) {
    let watched = Watched::start(Arc::clone(&fixture.journal), fixture.epoch, Options::default());
    watched.enqueue(1, "cart_1", 0);
    watched.lane.flush().await;
    fixture.journal.claim(0, "another", at(0)).await.unwrap();
    watched.enqueue(2, "cart_1", 1);
    watched.enqueue(3, "cart_2", 0);
    watched.lane.lost().await;
    watched.enqueue(4, "cart_3", 0);
    watched.lane.flush().await;
    assert_eq!(watched.told(), [(1, true), (2, false), (3, false), (4, false)]);
    let seen = watched.seen.lock().unwrap();
    assert_eq!(seen.last(), Some(&Seen::Told(4, Err(AppendError::StaleEpoch { shard: 0 }))));
}

macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod memory_journal {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::journal::Fixture::memory().await).await;
            })+
        }
        mod sqlite_journal {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::journal::Fixture::sqlite().await).await;
            })+
        }
    };
}

on_both!(
    a_pipeline_becomes_few_commits,
    records_are_shown_before_anybody_is_told,
    the_innocent_of_a_spoilt_batch_are_written,
    a_lane_whose_shard_is_taken_is_dead,
);

#[tokio::test]
async fn a_full_lane_gives_the_append_back() {
    let (memory, journal, epoch) = memory().await;
    let options = Options { queue_appends: 2, ..Options::default() };
    let watched = Watched::start(journal, epoch, options);
    let mut gate = memory.hold();
    watched.enqueue(1, "cart_1", 0);
    gate.reached().await;
    watched.enqueue(2, "cart_2", 0);
    let full = watched.lane.enqueue(append("cart_3", 0, 1), Box::new(|_| ())).unwrap_err();
    assert_eq!(full.append.entity.as_str(), "cart_3");
    assert_eq!(watched.lane.depth(), 2);
    gate.open();
    watched.lane.flush().await;
    watched.enqueue(3, "cart_3", 0);
    watched.lane.flush().await;
    assert_eq!(watched.told(), [(1, true), (2, true), (3, true)]);
}

#[tokio::test]
async fn a_lane_is_full_by_bytes_as_well() {
    let (memory, journal, epoch) = memory().await;
    let watched =
        Watched::start(journal, epoch, Options { queue_bytes: 300, ..Options::default() });
    let mut gate = memory.hold();
    // Larger than the whole queue, and yet taken: nothing else waits.
    watched.lane.enqueue(append("cart_1", 0, 100), Box::new(|_| ())).unwrap();
    gate.reached().await;
    assert!(watched.lane.enqueue(append("cart_2", 0, 1), Box::new(|_| ())).is_err());
    gate.open();
    watched.lane.flush().await;
    watched.enqueue(2, "cart_2", 0);
    watched.lane.flush().await;
    assert_eq!(watched.lane.counters().records, 101);
}

#[tokio::test]
async fn what_builds_on_a_failed_write_fails_as_well() {
    for fault in [
        Fault::Refuse(AppendError::Failed("disk full".to_owned())),
        Fault::Refuse(AppendError::Conflict),
        Fault::UnknownUnwritten,
    ] {
        let (memory, journal, epoch) = memory().await;
        let watched = Watched::start(Arc::clone(&journal), epoch, Options::default());
        let name = format!("{fault:?}");
        let mut gate = memory.hold();
        memory.inject(fault);
        watched.enqueue(0, "cart_0", 0);
        gate.reached().await;
        watched.enqueue(1, "cart_1", 0);
        let flush = watched.lane.flush();
        tokio::pin!(flush);
        // Asked for before the rest is queued, so that it ends the batch.
        assert!(futures_util::poll!(flush.as_mut()).is_pending());
        watched.enqueue(2, "cart_1", 1);
        watched.enqueue(3, "cart_2", 0);
        gate.open();
        flush.await;
        watched.lane.flush().await;
        assert_eq!(watched.told(), [(0, true), (1, false), (2, false), (3, true)], "{name}");
        assert_eq!(journal.last_pos(0).await.unwrap(), 2, "{name}");
    }
}

#[tokio::test]
async fn an_unknown_outcome_goes_to_all_of_its_batch() {
    let (memory, journal, epoch) = memory().await;
    let watched = Watched::start(Arc::clone(&journal), epoch, Options::default());
    let mut gate = memory.hold();
    memory.inject(Fault::UnknownWritten);
    watched.enqueue(0, "cart_0", 0);
    gate.reached().await;
    watched.enqueue(1, "cart_1", 0);
    watched.enqueue(2, "cart_2", 0);
    gate.open();
    watched.lane.flush().await;
    assert_eq!(watched.told(), [(0, true), (1, false), (2, false)]);
    assert_eq!(journal.last_pos(0).await.unwrap(), 3);
    let shown = watched.seen.lock().unwrap();
    let commits = shown.iter().filter(|seen| matches!(seen, Seen::Committed(_))).count();
    assert_eq!(commits, 1, "what may not have been written is not shown");
}

#[tokio::test]
async fn a_callback_that_panics_harms_nobody_else() {
    let (_memory, journal, epoch) = memory().await;
    let watched = Watched::start(journal, epoch, Options::default());
    watched.lane.enqueue(append("cart_1", 0, 1), Box::new(|_| panic!("on purpose"))).unwrap();
    watched.enqueue(2, "cart_2", 0);
    watched.lane.flush().await;
    assert_eq!(watched.told(), [(2, true)]);
}

#[tokio::test]
async fn a_batch_has_limits() {
    let (memory, journal, epoch) = memory().await;
    let options = Options { batch_appends: 10, ..Options::default() };
    let watched = Watched::start(journal, epoch, options);
    let mut gate = memory.hold();
    watched.enqueue(0, "cart_0", 0);
    gate.reached().await;
    for n in 1..=25 {
        watched.enqueue(n, &format!("cart_{n}"), 0);
    }
    gate.open();
    watched.lane.flush().await;
    assert_eq!(watched.lane.counters().commits, 4);
}
