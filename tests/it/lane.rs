//! The lane: order, pipelining, limits, and who is told what when a write goes wrong.

use std::sync::{Arc, Mutex};

use kontor::domain::entity::EntityId;
use kontor::domain::time::Span;
use kontor::store::journal::lane::{Lane, LaneCounters, Options};
use kontor::store::journal::memory::{AppendFault, MemoryJournal};
use kontor::store::journal::{Append, AppendError, Fence, Journal, Record};

use crate::journal::{Fixture, append, claim, product_row};

/// A lease that is over when it begins.
const OVER: Span = Span::from_secs(0);

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
    fn start(journal: Arc<dyn Journal>, fence: Fence, options: Options) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let committed = Arc::new(move |records: &[Record]| {
            let positions = records.iter().map(|record| record.pos).collect();
            log.lock().unwrap().push(Seen::Committed(positions));
        });
        let lane = Lane::start(journal, options, committed);
        lane.own(fence);
        Self { lane, seen }
    }

    fn enqueue(&self, name: u32, entity: &str, after_seq: i64) {
        self.enqueue_append(name, append(entity, after_seq, 1));
    }

    fn enqueue_append(&self, name: u32, append: Append) {
        let log = Arc::clone(&self.seen);
        let done = Box::new(move |outcome| log.lock().unwrap().push(Seen::Told(name, outcome)));
        self.lane.enqueue(append, done).unwrap();
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

async fn memory() -> (MemoryJournal, Arc<dyn Journal>, Fence) {
    let memory = MemoryJournal::new(1);
    let journal: Arc<dyn Journal> = Arc::new(memory.clone());
    let fence = claim(journal.as_ref(), "test").await;
    (memory, journal, fence)
}

async fn a_pipeline_becomes_few_commits(fixture: Fixture) {
    let watched = Watched::start(Arc::clone(&fixture.journal), fixture.fence, Options::default());
    for n in 0..1_000_u32 {
        watched.enqueue(n, "sku_hot", i64::from(n));
    }
    watched.lane.flush().await;
    assert_eq!(watched.told(), (0..1_000).map(|n| (n, true)).collect::<Vec<_>>());
    let LaneCounters { commits, appends, records, refused } = watched.lane.counters();
    assert_eq!((appends, records, refused), (1_000, 1_000, 0));
    assert!(commits <= 10, "{commits} commits");
    assert_eq!(watched.lane.depth(), 0);
    assert_eq!(fixture.all().await.len(), 1_000);
}

async fn records_are_shown_before_anybody_is_told(fixture: Fixture) {
    let watched = Watched::start(Arc::clone(&fixture.journal), fixture.fence, Options::default());
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
    fixture.journal.append(&[fixture.fence], &[append("cart_bad", 0, 1)]).await.unwrap();
    let watched = Watched::start(Arc::clone(&fixture.journal), fixture.fence, Options::default());
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
    let watched = Watched::start(Arc::clone(&fixture.journal), fixture.fence, Options::default());
    watched.enqueue(1, "cart_1", 0);
    watched.lane.flush().await;
    claim(fixture.journal.as_ref(), "another").await;
    watched.enqueue(2, "cart_1", 1);
    watched.enqueue(3, "cart_2", 0);
    watched.lane.lost().wait_for(|lost| lost.contains(&0)).await.unwrap();
    watched.enqueue(4, "cart_3", 0);
    watched.lane.flush().await;
    assert_eq!(watched.told(), [(1, true), (2, false), (3, false), (4, false)]);
    let seen = watched.seen.lock().unwrap();
    assert_eq!(seen.last(), Some(&Seen::Told(4, Err(AppendError::StaleEpoch { shard: 0 }))));
}

/// A row that breaks a constraint of its table is refused, and nobody else's write with it.
async fn a_row_that_is_refused_spoils_nobody_elses_write(fixture: Fixture) {
    fixture.sql("CREATE UNIQUE INDEX product_by_name ON product (name)").await;
    let product = |sku: &str, name: &str| {
        let mut row = product_row(sku, 1);
        name.clone_into(&mut row.value.name);
        Append { rows: vec![row.change()], ..append(&format!("prod_{sku}"), 0, 1) }
    };
    let watched = Watched::start(Arc::clone(&fixture.journal), fixture.fence, Options::default());
    watched.enqueue_append(0, product("A0", "Lamp"));
    watched.lane.flush().await;
    for n in 1..=40_u32 {
        match n % 16 {
            5 => watched.enqueue_append(n, product(&format!("A{n}"), "Lamp")),
            6 => watched.enqueue_append(n, product(&format!("A{n}"), &format!("Lamp {n}"))),
            _ => watched.enqueue(n, &format!("cart_{n}"), 0),
        }
    }
    watched.lane.flush().await;
    let expected: Vec<(u32, bool)> = (0..=40).map(|n| (n, n % 16 != 5)).collect();
    assert_eq!(watched.told(), expected);
    for seen in watched.seen.lock().unwrap().iter() {
        if let Seen::Told(_, Err(why)) = seen {
            assert!(matches!(why, AppendError::Refused(_)), "{why:?}");
        }
    }
    assert_eq!(fixture.all().await.len(), 41 - 3);
    // It is refused again, alone, and what is in order is written behind it.
    watched.lane.forgive(&EntityId::new("prod_A5"));
    watched.enqueue_append(41, product("A5", "Lamp"));
    watched.lane.flush().await;
    watched.lane.forgive(&EntityId::new("prod_A5"));
    watched.enqueue_append(42, product("A5", "Lamp 5"));
    watched.lane.flush().await;
    assert_eq!(watched.told()[41..], [(41, false), (42, true)]);
}

#[tokio::test]
async fn refused_row_fails_only_its_append_in_sqlite() {
    a_row_that_is_refused_spoils_nobody_elses_write(Fixture::sqlite().await).await;
}

#[tokio::test]
async fn refused_row_fails_only_its_append_in_postgres() {
    a_row_that_is_refused_spoils_nobody_elses_write(Fixture::postgres().await).await;
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
async fn full_lane_returns_the_append() {
    let (memory, journal, fence) = memory().await;
    let options = Options { queue_appends: 2, ..Options::default() };
    let watched = Watched::start(journal, fence, options);
    let mut gate = memory.block_append();
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
    let (memory, journal, fence) = memory().await;
    let watched =
        Watched::start(journal, fence, Options { queue_bytes: 300, ..Options::default() });
    let mut gate = memory.block_append();
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
async fn later_appends_of_a_failed_one_fail() {
    for fault in [
        AppendFault::Refuse(AppendError::Failed("disk full".to_owned())),
        AppendFault::Refuse(AppendError::Conflict),
        AppendFault::UnknownUnwritten,
    ] {
        let (memory, journal, fence) = memory().await;
        let watched = Watched::start(Arc::clone(&journal), fence, Options::default());
        let name = format!("{fault:?}");
        let mut gate = memory.block_append();
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
async fn unknown_outcome_applies_to_the_whole_batch() {
    let (memory, journal, fence) = memory().await;
    let watched = Watched::start(Arc::clone(&journal), fence, Options::default());
    let mut gate = memory.block_append();
    memory.inject(AppendFault::UnknownWritten);
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
async fn panicking_callback_does_not_stop_the_lane() {
    let (_memory, journal, fence) = memory().await;
    let watched = Watched::start(journal, fence, Options::default());
    watched.lane.enqueue(append("cart_1", 0, 1), Box::new(|_| panic!("on purpose"))).unwrap();
    watched.enqueue(2, "cart_2", 0);
    watched.lane.flush().await;
    assert_eq!(watched.told(), [(2, true)]);
}

#[tokio::test]
async fn a_batch_has_limits() {
    let (memory, journal, fence) = memory().await;
    let options = Options { batch_appends: 10, ..Options::default() };
    let watched = Watched::start(journal, fence, options);
    let mut gate = memory.block_append();
    watched.enqueue(0, "cart_0", 0);
    gate.reached().await;
    for n in 1..=25 {
        watched.enqueue(n, &format!("cart_{n}"), 0);
    }
    gate.open();
    watched.lane.flush().await;
    assert_eq!(watched.lane.counters().commits, 4);
}

/// An entity of a shard, of two.
fn entity_on(shard: u16, number: u32) -> String {
    let mut names = (0..).map(|n| format!("cart_{number}x{n}"));
    let on = |name: &String| EntityId::new(name).shard(2) == shard;
    names.find(on).unwrap()
}

/// A lane over the two shards of a journal in memory, whose leases are over.
async fn over_two_shards() -> (MemoryJournal, Arc<dyn Journal>, Vec<Fence>, Watched) {
    let memory = MemoryJournal::new(2);
    let journal: Arc<dyn Journal> = Arc::new(memory.clone());
    let fences = journal.claim(&[0, 1], "test", OVER).await.unwrap();
    let watched = Watched::start(Arc::clone(&journal), fences[0], Options::default());
    watched.lane.own(fences[1]);
    (memory, journal, fences, watched)
}

#[tokio::test]
async fn a_lane_writes_for_several_shards_and_loses_them_one_by_one() {
    let (memory, journal, fences, watched) = over_two_shards().await;
    let mut gate = memory.block_append();
    watched.enqueue(0, &entity_on(0, 0), 0);
    gate.reached().await;
    for number in 1..=6 {
        watched.enqueue(number, &entity_on(u16::try_from(number % 2).unwrap(), number), 0);
    }
    gate.open();
    watched.lane.flush().await;
    assert_eq!(watched.told(), (0..=6).map(|n| (n, true)).collect::<Vec<_>>());
    assert_eq!(watched.lane.counters().commits, 2);
    assert_eq!((memory.epoch_and_head(0).1.pos, memory.epoch_and_head(1).1.pos), (4, 3));

    journal.claim(&[1], "another", OVER).await.unwrap();
    let mut gate = memory.block_append();
    watched.enqueue(7, &entity_on(0, 7), 0);
    gate.reached().await;
    for number in 8..=11 {
        watched.enqueue(number, &entity_on(u16::try_from(number % 2).unwrap(), number), 0);
    }
    gate.open();
    watched.lane.flush().await;
    let expected = [(7, true), (8, true), (9, false), (10, true), (11, false)];
    assert_eq!(watched.told()[7..], expected);
    assert_eq!(watched.lane.lost().borrow().iter().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(watched.lane.owned(), fences[..1]);
}

#[tokio::test]
async fn appends_of_a_former_claim_are_refused() {
    let (memory, journal, fence) = memory().await;
    let watched = Watched::start(Arc::clone(&journal), fence, Options::default());
    let mut gate = memory.block_append();
    watched.enqueue(0, "cart_0", 0);
    gate.reached().await;
    watched.enqueue(1, "cart_1", 0);
    watched.lane.disown(0);
    watched.enqueue(2, "cart_2", 0);
    watched.lane.own(claim(journal.as_ref(), "test").await);
    watched.enqueue(3, "cart_3", 0);
    gate.open();
    watched.lane.flush().await;
    // The first was on its way under the epoch that is over.
    assert_eq!(watched.told(), [(0, false), (1, false), (2, false), (3, true)]);
    assert_eq!(memory.epoch_and_head(0).1.pos, 1);
}

#[tokio::test]
async fn disowned_shard_fails_no_append_of_another() {
    let (memory, journal, _, watched) = over_two_shards().await;
    let mut first = memory.block_append();
    let mut gate = memory.block_append();
    watched.enqueue(0, &entity_on(0, 0), 0);
    first.reached().await;
    watched.enqueue(1, &entity_on(1, 1), 0);
    watched.enqueue(2, &entity_on(0, 2), 0);
    first.open();
    // Both are on their way in one transaction when one of the shards goes.
    gate.reached().await;
    watched.lane.disown(1);
    journal.claim(&[1], "another", OVER).await.unwrap();
    gate.open();
    watched.lane.flush().await;
    assert_eq!(watched.told(), [(0, true), (1, false), (2, true)]);
    watched.enqueue(3, &entity_on(0, 2), 1);
    watched.lane.flush().await;
    assert_eq!(watched.told().last(), Some(&(3, true)));
}
