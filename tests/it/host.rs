//! The entity host on a noun of its own: what is owed waits for the journal, whatever goes wrong
//! there, and nothing is lost on the way in or out of memory.

use std::sync::Arc;

use futures_util::future::join_all;
use kontor::actors::engine::clock::Clock;
use kontor::actors::engine::host::{Error, Host, NoFlow, Options, Released, ShardLease, View};
use kontor::domain::entity::{self, Cause, EntityId, Idempotency, Noun};
use kontor::domain::time::{Span, Timestamp};
use kontor::store::journal::lane::{self, Committed};
use kontor::store::journal::lanes::Lanes;
use kontor::store::journal::memory::{AppendFault, AppendGate, MemoryJournal};
use kontor::store::journal::{Append, AppendError, Journal, NewEvent, StateSnapshot};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use serde::{Deserialize, Serialize};

/// A sum, with a limit and a timer at the round ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub sum: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    Add(i64),
    Panic,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Event {
    Added { by: i64 },
}

impl entity::Event for Event {
    fn kind(&self) -> &'static str {
        "added"
    }

    fn version(&self) -> u16 {
        2
    }

    fn newest(_kind: &str) -> u16 {
        2
    }

    /// The first version was a bare number.
    fn upcast(_kind: &str, version: u16, data: serde_json::Value) -> serde_json::Value {
        match version {
            1 => serde_json::json!({"added": {"by": data}}),
            _ => data,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("too much")]
pub struct TooMuch;

impl Noun for Tally {
    const PREFIX: &'static str = "tally";
    const NAME: &'static str = "running_total";
    const STATE_VERSION: u32 = 3;
    type Command = Command;
    type Event = Event;
    type Rejection = TooMuch;
    type Effect = std::convert::Infallible;

    fn command_name(_: &Command) -> &'static str {
        "add"
    }

    fn decide(&self, command: &Command, _: Timestamp) -> Result<Vec<Event>, TooMuch> {
        match command {
            Command::Add(by) if self.sum + by > 1_000_000 => Err(TooMuch),
            Command::Add(by) => Ok(vec![Event::Added { by: *by }]),
            Command::Panic => panic!("asked to"),
        }
    }

    fn evolve(&mut self, event: &Event, _: Timestamp) {
        let Event::Added { by } = event;
        self.sum += by;
    }

    fn timer(&self) -> Option<Timestamp> {
        (self.sum > 0 && self.sum % 100 == 0).then(|| Timestamp::from_millis(self.sum))
    }

    fn is_finished(&self) -> bool {
        self.sum == 999
    }
}

struct Root;

impl Actor for Root {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        _: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

struct Bench {
    journal: Arc<MemoryJournal>,
    lanes: Lanes,
    host: Host<Tally>,
}

impl Bench {
    async fn new() -> Self {
        Self::on(Arc::new(MemoryJournal::new(1)), Options::default()).await
    }

    async fn on(journal: Arc<MemoryJournal>, options: Options) -> Self {
        let dynamic: Arc<dyn Journal> = journal.clone();
        let fences = journal.claim(&[0], "test", Span::from_secs(0)).await.unwrap();
        let limits = lane::Options::default();
        let committed: Committed = Arc::new(|_| {});
        let lanes = Lanes::start(&dynamic, 1, &limits, &committed);
        lanes.of(0).own(fences[0]);
        let (root, _) = Actor::spawn(None, Root, ()).await.unwrap();
        let clock = Clock::by_hand(Timestamp::from_millis(1_000));
        let host = Host::new(dynamic, lanes.clone(), clock, options, root.get_cell());
        host.open(0, ShardLease::for_good()).await.unwrap();
        host.set_flow(Arc::new(NoFlow));
        Self { journal, lanes, host }
    }

    async fn add(
        &self,
        id: &str,
        by: i64,
        key: Option<&str>,
    ) -> Result<(i64, bool), Error<TooMuch>> {
        let idempotency = key.map(|key| Idempotency { key: key.into(), digest: by.unsigned_abs() });
        let cause = Cause { by: "test".into(), idempotency, ..Cause::default() };
        let read = |view: View<'_, Tally>| (view.state.sum, view.replayed);
        self.host.ask(&EntityId::new(id), Command::Add(by), cause, read).await
    }

    async fn sum(&self, id: &str) -> i64 {
        self.host.read(&EntityId::new(id), |view| view.state.sum).await.unwrap()
    }

    async fn events(&self, id: &str) -> usize {
        self.journal.read_entity(&EntityId::new(id), 0, 10_000).await.unwrap().len()
    }
}

/// Waits until the journal holds back what something waits for.
async fn until_held<T: std::fmt::Debug>(gate: &mut AppendGate, waits: impl Future<Output = T>) {
    tokio::select! {
        biased;
        answer = waits => panic!("{answer:?} before it was written"),
        () = gate.reached() => {}
    }
}

#[tokio::test]
async fn nothing_is_answered_before_it_is_durable() {
    let bench = Bench::new().await;
    let mut gate = bench.journal.block_append();
    let mut add = std::pin::pin!(bench.add("tally_a", 1, None));
    until_held(&mut gate, add.as_mut()).await;
    let mut look = std::pin::pin!(bench.sum("tally_a"));
    for _ in 0..100 {
        tokio::select! {
            biased;
            answer = &mut add => panic!("{answer:?} before it was written"),
            answer = &mut look => panic!("{answer} was told before it was written"),
            () = tokio::task::yield_now() => {}
        }
    }
    gate.open();
    assert_eq!(add.await, Ok((1, false)));
    assert_eq!(look.await, 1);
}

#[tokio::test]
async fn appends_of_one_entity_share_commits() {
    let bench = Bench::new().await;
    let mut gate = bench.journal.block_append();
    let adds = join_all((0..1_000).map(|_| bench.add("tally_a", 1, None)));
    let opened = async {
        gate.reached().await;
        for _ in 0..5_000 {
            tokio::task::yield_now().await;
        }
        gate.open();
    };
    let (answers, ()) = tokio::join!(adds, opened);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(bench.sum("tally_a").await, 1_000);
    assert!(bench.lanes.of(0).counters().commits < 20, "{:?}", bench.lanes.of(0).counters());
}

#[tokio::test]
async fn unknown_outcome_is_reported_and_a_retry_is_safe() {
    for fault in [AppendFault::UnknownWritten, AppendFault::UnknownUnwritten] {
        let bench = Bench::new().await;
        bench.add("tally_a", 1, Some("first")).await.unwrap();
        bench.journal.inject(fault);
        assert_eq!(bench.add("tally_a", 2, Some("second")).await, Err(Error::TryAgain));
        let (sum, _) = bench.add("tally_a", 2, Some("second")).await.unwrap();
        assert_eq!((sum, bench.events("tally_a").await), (3, 2));
    }
}

#[tokio::test]
async fn failed_append_is_discarded() {
    let bench = Bench::new().await;
    bench.add("tally_a", 1, None).await.unwrap();
    let full = AppendError::Failed("the disk is full".into());
    bench.journal.inject(AppendFault::Refuse(full));
    let answers = join_all((0..10).map(|_| bench.add("tally_a", 10, None))).await;
    let refused = answers.iter().filter(|answer| answer.is_err()).count();
    assert!(refused > 0, "{answers:?}");
    let sum = bench.sum("tally_a").await;
    assert_eq!(sum, 1 + 10 * (10 - i64::try_from(refused).unwrap()));
    bench.add("tally_a", 1, None).await.unwrap();
    assert_eq!(bench.sum("tally_a").await, sum + 1);
}

#[tokio::test]
async fn a_key_is_carried_out_once_and_only_for_its_request() {
    let bench = Bench::new().await;
    assert_eq!(bench.add("tally_a", 5, Some("key")).await, Ok((5, false)));
    assert_eq!(bench.add("tally_a", 5, Some("key")).await, Ok((5, true)));
    assert_eq!(bench.add("tally_a", 6, Some("key")).await, Err(Error::KeyReused));
    let bench = Bench::on(bench.journal, Options::default()).await;
    assert_eq!(bench.add("tally_a", 5, Some("key")).await, Ok((5, true)));
    assert_eq!(bench.add("tally_a", 2_000_000, None).await, Err(Error::Rejected(TooMuch)));
}

#[tokio::test]
async fn the_same_key_of_another_caller_is_another_key() {
    let bench = Bench::new().await;
    assert_eq!(bench.add("tally_a", 5, Some("1")).await, Ok((5, false)));
    let idempotency = Some(Idempotency { key: "1".into(), digest: 5 });
    let cause = Cause { by: "another".into(), idempotency, ..Cause::default() };
    let read = |view: View<'_, Tally>| (view.state.sum, view.replayed);
    let answer = bench.host.ask(&EntityId::new("tally_a"), Command::Add(5), cause, read).await;
    assert_eq!(answer, Ok((10, false)));
}

#[tokio::test]
async fn create_of_an_existing_entity_changes_nothing() {
    let bench = Bench::new().await;
    bench.add("tally_a", 5, None).await.unwrap();
    let bench = Bench::on(bench.journal, Options::default()).await;
    let id = EntityId::new("tally_a");
    let made = bench.host.create(&id, Command::Add(1), Cause::default(), |_| ()).await;
    assert_eq!(made, Err(Error::TryAgain));
    assert_eq!(bench.sum("tally_a").await, 5);
    bench.add("tally_a", 1, None).await.unwrap();
    assert_eq!(bench.sum("tally_a").await, 6);
}

#[tokio::test]
async fn passivation_loses_no_command() {
    let options = Options { idle_secs: 0, ..Options::default() };
    let bench = Bench::on(Arc::new(MemoryJournal::new(1)), options).await;
    tokio::time::pause();
    let mut left = 0;
    for _ in 0..50 {
        let adds = join_all((0..20).map(|_| bench.add("tally_a", 1, None)));
        let tick = tokio::time::advance(std::time::Duration::from_millis(997));
        let (answers, ()) = tokio::join!(adds, tick);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        left += usize::from(bench.host.gauge().awake == 0);
    }
    assert_eq!(bench.sum("tally_a").await, 1_000);
    assert!(left > 0, "it never left memory");
}

/// Writes what no tally says as the first event of an entity.
async fn spoil(journal: &MemoryJournal, id: &str) {
    let append = Append {
        entity: EntityId::new(id),
        after_seq: 0,
        events: vec![NewEvent { kind: "added", version: 2, data: "{\"gone\":1}".into() }],
        at: Timestamp::from_millis(0),
        cause: "{}".into(),
        timer: None,
        rows: Vec::new(),
    };
    let fences = journal.claim(&[0], "other", Span::from_secs(0)).await.unwrap();
    journal.append(&fences, &[append]).await.unwrap();
}

#[tokio::test]
async fn absent_entities_are_passivated_soon() {
    let bench = Bench::new().await;
    tokio::time::pause();
    bench.add("tally_there", 1, None).await.unwrap();
    let asked = join_all((0..100).map(|id| {
        let id = format!("tally_{id}");
        let bench = &bench;
        async move { bench.sum(&id).await }
    }));
    assert!(asked.await.into_iter().all(|sum| sum == 0));
    for _ in 0..3 {
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        for _ in 0..2_000 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(bench.host.gauge().awake, 1);
    assert_eq!(bench.sum("tally_there").await, 1);
}

#[tokio::test]
async fn finished_entities_that_are_only_read_are_passivated_soon() {
    let bench = Bench::new().await;
    tokio::time::pause();
    let sleep = async || {
        for _ in 0..3 {
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            for _ in 0..2_000 {
                tokio::task::yield_now().await;
            }
        }
        bench.host.gauge().awake
    };
    bench.add("tally_unfinished", 998, None).await.unwrap();
    bench.add("tally_finished", 999, None).await.unwrap();
    assert_eq!(sleep().await, 1);
    assert_eq!(bench.sum("tally_finished").await, 999);
    assert_eq!(bench.host.gauge().awake, 2);
    assert_eq!(sleep().await, 1);
}

#[tokio::test]
async fn unreadable_entity_is_quarantined_alone() {
    let journal = Arc::new(MemoryJournal::new(1));
    spoil(&journal, "tally_bad").await;
    let bench = Bench::on(journal, Options::default()).await;
    for _ in 0..3 {
        let answer = bench.add("tally_bad", 1, None).await;
        assert!(matches!(answer, Err(Error::Quarantined(_))), "{answer:?}");
    }
    assert_eq!(bench.add("tally_good", 1, None).await, Ok((1, false)));
    let listed = bench.host.quarantined(10);
    assert_eq!((listed.len(), listed[0].entity.as_str()), (1, "tally_bad"));
    assert!(listed[0].reason.contains("event 1 (added)"), "{listed:?}");
    let released = bench.host.release(&EntityId::new("tally_bad")).await;
    assert!(matches!(released, Released::Again(_)), "{released:?}");
    assert_eq!(bench.host.release(&EntityId::new("tally_good")).await, Released::NotThere);
}

#[tokio::test]
async fn a_finished_entity_leaves_memory_soon_and_comes_back_when_it_is_asked() {
    let bench = Bench::new().await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    assert_eq!(bench.add("tally_busy", 1, None).await, Ok((1, false)));
    assert_eq!(bench.add("tally_done", 999, None).await, Ok((999, false)));
    tokio::time::advance(std::time::Duration::from_millis(350)).await;
    assert_eq!(bench.add("tally_next", 999, None).await, Ok((999, false)));
    let awake = || bench.host.gauge().awake;
    for _ in 0..100_000 {
        if awake() < 3 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(awake(), 2, "the busy one and the next stay");
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "before any tick");
    assert_eq!(bench.add("tally_done", 1, None).await, Ok((1_000, false)));
}

#[tokio::test]
async fn an_unreadable_entity_counts_once_however_often_it_wakes() {
    let journal = Arc::new(MemoryJournal::new(1));
    spoil(&journal, "tally_bad").await;
    let bench = Bench::on(journal, Options { idle_secs: 0, ..Options::default() }).await;
    tokio::time::pause();
    for _ in 0..3 {
        let answer = bench.add("tally_bad", 1, None).await;
        assert!(matches!(answer, Err(Error::Quarantined(_))), "{answer:?}");
        while bench.host.gauge().awake > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    }
    assert_eq!(bench.host.gauge().quarantined, 1);
}

#[tokio::test]
async fn old_events_are_upcast_and_other_snapshots_ignored() {
    let bench = Bench::new().await;
    let events = (0..600).map(|_| NewEvent { kind: "added", version: 1, data: "2".into() });
    let id = EntityId::new("tally_a");
    let fences = bench.journal.claim(&[0], "other", Span::from_secs(0)).await.unwrap();
    let append = Append {
        entity: id.clone(),
        after_seq: 0,
        events: events.collect(),
        at: Timestamp::from_millis(0),
        cause: "{}".into(),
        timer: None,
        rows: Vec::new(),
    };
    bench.journal.append(&fences, &[append]).await.unwrap();
    let kept = |state_version, sum| StateSnapshot {
        entity: id.clone(),
        seq: 600,
        state_version,
        data: serde_json::json!({"state": {"sum": sum}, "keys": {}, "armed": null}).to_string(),
    };
    bench.journal.put_snapshot(kept(2, 7)).await.unwrap();
    let other = Bench::on(bench.journal.clone(), Options::default()).await;
    assert_eq!(other.sum("tally_a").await, 1_200);
    let journal = Arc::new(MemoryJournal::new(1));
    let bench = Bench::on(journal.clone(), Options { snapshot_every: 10, ..Options::default() });
    let bench = bench.await;
    for _ in 0..600 {
        bench.add("tally_b", 1, None).await.unwrap();
    }
    let kept = journal.snapshot(&EntityId::new("tally_b")).await.unwrap();
    assert!(kept.is_some_and(|kept| kept.state_version == 3));
    let again = Bench::on(journal, Options::default()).await;
    assert_eq!(again.sum("tally_b").await, 600);
}

#[tokio::test]
async fn panics_restart_the_entity_until_quarantine() {
    let bench = Bench::new().await;
    let id = EntityId::new("tally_a");
    bench.add("tally_a", 1, None).await.unwrap();
    for _ in 0..3 {
        let answer = bench.host.ask(&id, Command::Panic, Cause::default(), |_| ()).await;
        assert_eq!(answer, Err(Error::TryAgain));
        assert_eq!(bench.sum("tally_a").await, 1);
    }
    let _ = bench.host.ask(&id, Command::Panic, Cause::default(), |_| ()).await;
    let looked = bench.host.read(&id, |view| view.seq).await;
    assert!(matches!(looked, Err(Error::Quarantined(_))), "{looked:?}");
    assert_eq!(bench.add("tally_b", 1, None).await, Ok((1, false)));
    assert_eq!(bench.host.gauge().quarantined, 1);
    assert_eq!(bench.host.release(&id).await, Released::Well);
    assert_eq!((bench.sum("tally_a").await, bench.host.gauge().quarantined), (1, 0));
}

#[tokio::test]
async fn unreadable_journal_quarantines_no_entity() {
    let bench = Bench::new().await;
    bench.add("tally_a", 1, None).await.unwrap();
    let bench = Bench::on(bench.journal, Options::default()).await;
    tokio::time::pause();
    bench.journal.fail_reads(20);
    let (id, mut failed) = (EntityId::new("tally_a"), 0);
    loop {
        match bench.host.read(&id, |view| view.state.sum).await {
            Err(Error::TryAgain) if failed <= 20 => failed += 1,
            answer => break assert_eq!(answer, Ok(1)),
        }
    }
    assert!(failed > 0, "no reading failed");
    assert_eq!(bench.add("tally_a", 1, None).await, Ok((2, false)));
}

#[tokio::test]
async fn commands_in_progress_are_limited() {
    let options = Options { commands_max: 10, ..Options::default() };
    let bench = Bench::on(Arc::new(MemoryJournal::new(1)), options).await;
    let answers = join_all((0..11).map(|_| bench.add("tally_a", 1, None))).await;
    assert_eq!(answers.iter().filter(|answer| **answer == Err(Error::Busy)).count(), 1);
    let options = Options { entity_commands_max: 10, ..Options::default() };
    let bench = Bench::on(Arc::new(MemoryJournal::new(1)), options).await;
    let answers = join_all((0..11).map(|_| bench.add("tally_a", 1, None))).await;
    assert!(answers.contains(&Err(Error::Busy)), "{answers:?}");
    assert_eq!(bench.add("tally_a", 1, None).await.map(|_| ()), Ok(()));
}

#[tokio::test]
async fn cancelled_close_of_a_shard_can_be_abandoned() {
    let bench = Bench::new().await;
    let mut gate = bench.journal.block_append();
    let mut add = std::pin::pin!(bench.add("tally_a", 1, None));
    until_held(&mut gate, add.as_mut()).await;
    {
        let mut closing = std::pin::pin!(bench.host.close(0));
        assert!(futures_util::poll!(closing.as_mut()).is_pending(), "one cannot leave yet");
    }
    bench.host.abandon(0);
    let gone = async {
        while bench.host.gauge().awake > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), gone).await.expect("it stays");
    assert_eq!(add.await, Err(Error::TryAgain), "nobody is there to answer");
    gate.open();
}

#[tokio::test]
async fn timer_without_effect_fires_again_after_minutes() {
    let bench = Bench::new().await;
    let far = Timestamp::from_millis(i64::MAX);
    bench.add("tally_a", 100, None).await.unwrap();
    bench.host.wake(&EntityId::new("tally_a"), true);
    let due = loop {
        let due = bench.journal.due_timers(0, far, None, 10).await.unwrap();
        if due[0].due_at > Timestamp::from_millis(100) {
            break due;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(due[0].due_at, Timestamp::from_millis(1_000 + 300_000));
    // Read again, it does not take the row for an earlier one: a new wish is written.
    let bench = Bench::on(bench.journal, Options::default()).await;
    bench.add("tally_a", 1_900, None).await.unwrap();
    let due = bench.journal.due_timers(0, far, None, 10).await.unwrap();
    assert_eq!(due[0].due_at, Timestamp::from_millis(2_000));
}

#[tokio::test]
async fn timer_is_written_with_its_event() {
    let bench = Bench::new().await;
    let far = Timestamp::from_millis(i64::MAX);
    bench.add("tally_a", 100, None).await.unwrap();
    let due = bench.journal.due_timers(0, far, None, 10).await.unwrap();
    assert_eq!((due.len(), due[0].due_at), (1, Timestamp::from_millis(100)));
    bench.add("tally_a", 1, None).await.unwrap();
    assert_eq!(bench.journal.due_timers(0, far, None, 10).await.unwrap(), []);
}
