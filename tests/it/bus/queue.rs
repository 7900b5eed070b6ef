//! One suite for the job queue: on the channel in process and on JetStream; then what becomes of
//! jobs when JetStream is away, killed or emptied.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use kontor::bus::queue::{
    Error, JetStreamJobNotices, JobChannel, JobFailure, JobLedger, JobNotice, JobRun, JobWork,
    LocalJobNotices, Queue, QueuePace, QueueStart,
};
use kontor::bus::{NatsProblems, Options};
use kontor::domain::background_job::{Job, JobState, Schedule};
use kontor::domain::time::{Span, Timestamp};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::nats::{self, up};
use super::{now, until};

/// Longer than a busy machine lets a job wait that is under way.
const LEASE: Span = Span::from_secs(6);

/// A ledger in memory.
#[derive(Default)]
struct Memory {
    jobs: Mutex<BTreeMap<String, Job>>,
    schedules: Mutex<BTreeMap<String, Schedule>>,
    /// Time is turned by hand, and goes on by itself.
    turned: Mutex<Span>,
}

#[async_trait]
impl JobLedger for Memory {
    async fn now(&self) -> Result<Timestamp, String> {
        Ok(now()() + *self.turned.lock().unwrap())
    }

    async fn add_job(&self, job: &Job) -> Result<bool, String> {
        let mut jobs = self.jobs.lock().unwrap();
        let taken = job.key.is_some() && jobs.values().any(|other| other.key == job.key);
        if !taken {
            jobs.insert(job.id.clone(), job.clone());
        }
        Ok(!taken)
    }

    async fn job(&self, id: &str) -> Result<Option<Job>, String> {
        Ok(self.jobs.lock().unwrap().get(id).cloned())
    }

    async fn put_job(&self, was: &Job, job: &Job) -> Result<bool, String> {
        let mut jobs = self.jobs.lock().unwrap();
        let Some(now) = jobs.get_mut(&job.id) else {
            return Ok(false);
        };
        let of = |job: &Job| (job.state, job.attempts, job.node.clone(), job.started_at);
        let same = of(now) == of(was);
        if same {
            *now = job.clone();
        }
        Ok(same)
    }

    async fn due_jobs(&self, until: Timestamp, limit: u32) -> Result<Vec<Job>, String> {
        let jobs = self.jobs.lock().unwrap();
        let mut due: Vec<Job> = jobs.values().filter(|job| job.can_begin(until)).cloned().collect();
        due.sort_by_key(|job| job.due_at);
        due.truncate(limit as usize);
        Ok(due)
    }

    async fn remove_done_jobs(&self, before: Timestamp) -> Result<u64, String> {
        let mut jobs = self.jobs.lock().unwrap();
        let all = jobs.len();
        jobs.retain(|_, job| {
            job.state != JobState::Done || job.ended_at.is_none_or(|at| at >= before)
        });
        Ok((all - jobs.len()) as u64)
    }

    async fn schedules(&self) -> Result<Vec<Schedule>, String> {
        Ok(self.schedules.lock().unwrap().values().cloned().collect())
    }

    async fn put_schedule(&self, schedule: &Schedule) -> Result<(), String> {
        self.schedules.lock().unwrap().insert(schedule.name.clone(), schedule.clone());
        Ok(())
    }

    async fn move_schedule(&self, was: &Schedule, next_at: Timestamp) -> Result<bool, String> {
        let mut schedules = self.schedules.lock().unwrap();
        let Some(now) = schedules.get_mut(&was.name) else {
            return Ok(false);
        };
        let same = now.next_at == was.next_at;
        if same {
            (now.last_at, now.next_at) = (Some(was.next_at), next_at);
        }
        Ok(same)
    }
}

/// What was done, and how often.
struct Desk {
    done: AtomicUsize,
    tries: AtomicUsize,
    gate: Semaphore,
}

fn kinds(desk: &Arc<Desk>) -> BTreeMap<&'static str, JobWork> {
    let work =
        |what: fn(Arc<Desk>, JobRun) -> futures_util::future::BoxFuture<'static, _>| -> JobWork {
            let desk = Arc::clone(desk);
            Arc::new(move |run| what(Arc::clone(&desk), run))
        };
    BTreeMap::from([
        (
            "good",
            work(|desk, run| {
                async move {
                    desk.done.fetch_add(1, Ordering::SeqCst);
                    Ok(json!({"of": run.payload()}))
                }
                .boxed()
            }),
        ),
        (
            "second_time",
            work(|desk, _| {
                async move {
                    if desk.tries.fetch_add(1, Ordering::SeqCst) == 0 {
                        return Err(JobFailure::Again("not yet".into()));
                    }
                    Ok(json!({}))
                }
                .boxed()
            }),
        ),
        ("never", work(|_, _| async { Err(JobFailure::Never("no".into())) }.boxed())),
        ("panics", work(|_, _| async { panic!("as it should") }.boxed())),
        (
            "waits",
            work(|desk, run| {
                async move {
                    desk.tries.fetch_add(1, Ordering::SeqCst);
                    run.progress(json!({"half": true}));
                    desk.gate.acquire().await.unwrap().forget();
                    desk.done.fetch_add(1, Ordering::SeqCst);
                    Ok(json!({}))
                }
                .boxed()
            }),
        ),
    ])
}

struct Site {
    ledger: Arc<Memory>,
    desk: Arc<Desk>,
    stop: CancellationToken,
}

impl Site {
    fn new() -> Self {
        let desk = Desk { done: 0.into(), tries: 0.into(), gate: Semaphore::new(0) };
        Self { ledger: Arc::default(), desk: Arc::new(desk), stop: CancellationToken::new() }
    }

    fn node(&self, name: &str, channel: Arc<dyn JobChannel>, stop: &CancellationToken) -> Queue {
        let pace =
            QueuePace { lease: LEASE, poll: Duration::from_millis(20), ..QueuePace::default() };
        let (kinds, node) = (kinds(&self.desk), name.to_owned());
        let ledger = self.ledger.clone();
        Queue::start(QueueStart { ledger, channel, kinds, node, pace }, stop.clone()).0
    }

    fn turn(&self, span: Span) {
        let mut by = self.ledger.turned.lock().unwrap();
        *by = Span::from_millis(by.millis() + span.millis());
    }

    async fn until(&self, id: &str, state: JobState) -> Job {
        until(&format!("{id} is {}", state.as_str()), async || {
            self.ledger.job(id).await.unwrap().is_some_and(|job| job.state == state)
        })
        .await;
        self.ledger.job(id).await.unwrap().unwrap()
    }

    fn done(&self) -> usize {
        self.desk.done.load(Ordering::SeqCst)
    }
}

async fn add(queue: &Queue, kind: &str) -> String {
    queue.add(kind, &json!({"n": 1}), "test", None).await.unwrap().unwrap().id
}

/// What holds on every channel, with two nodes.
async fn suite(channels: [Arc<dyn JobChannel>; 2]) {
    let site = Site::new();
    let [a, b] = channels;
    let a = site.node("a", a, &site.stop);
    let _b = site.node("b", b, &site.stop);
    // Each is done once, by whichever node.
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(add(&a, "good").await);
    }
    for id in &ids {
        let job = site.until(id, JobState::Done).await;
        assert_eq!((job.attempts, job.progress.as_deref()), (1, Some(r#"{"of":{"n":1}}"#)));
    }
    assert_eq!(site.done(), 50);
    let unknown = a.add("nothing", &json!({}), "test", None).await;
    assert_eq!(unknown, Err(Error::UnknownKind));
    // Of one key there is one.
    let key = Some("k".to_owned());
    assert!(a.add("good", &json!({}), "test", key.clone()).await.unwrap().is_some());
    assert!(a.add("good", &json!({}), "test", key).await.unwrap().is_none());
    // It is tried again after a pause.
    let id = add(&a, "second_time").await;
    until("it has failed once", async || {
        site.ledger.job(&id).await.unwrap().unwrap().last_error.is_some()
    })
    .await;
    site.turn(Span::from_secs(1));
    assert_eq!(site.until(&id, JobState::Done).await.attempts, 2);
    // It is given up, at once or at last, and an operator may try it again.
    let id = add(&a, "never").await;
    assert_eq!(site.until(&id, JobState::Dead).await.last_error.as_deref(), Some("no"));
    assert!(a.retry(&id).await.unwrap().unwrap().1);
    site.until(&id, JobState::Dead).await;
    assert_eq!(a.retry("job_x").await.unwrap(), None);
    let id = add(&a, "panics").await;
    for attempt in 1..=5 {
        until("it has panicked", async || {
            let job = site.ledger.job(&id).await.unwrap().unwrap();
            job.attempts == attempt && job.state != JobState::Running
        })
        .await;
        site.turn(Span::from_secs(300));
    }
    assert_eq!(site.until(&id, JobState::Dead).await.attempts, 5);
    // One that takes longer than the lease is seen to go on, and is not begun twice.
    let before = site.done();
    site.desk.tries.store(0, Ordering::SeqCst);
    let id = add(&a, "waits").await;
    let first = site.until(&id, JobState::Running).await;
    until("it goes on", async || {
        let job = site.ledger.job(&id).await.unwrap().unwrap();
        job.due_at > first.due_at + Span::from_secs(2)
            && job.progress.as_deref() == Some(r#"{"half":true}"#)
    })
    .await;
    assert!(!a.retry(&id).await.unwrap().unwrap().1);
    site.desk.gate.add_permits(1);
    site.until(&id, JobState::Done).await;
    assert_eq!((site.done(), site.desk.tries.load(Ordering::SeqCst)), (before + 1, 1));
    schedules(&site, &a).await;
    site.stop.cancel();
}

/// A schedule adds one job each time, however many nodes there are.
async fn schedules(site: &Site, queue: &Queue) {
    let wrong = queue.schedule("s", "good", &json!({}), "often", true).await;
    assert!(matches!(wrong, Err(Error::Cron(_))), "{wrong:?}");
    let set = queue.schedule("s", "good", &json!({}), "0 3 * * *", true).await.unwrap();
    let off = queue.schedule("off", "good", &json!({}), "0 3 * * *", false).await.unwrap();
    assert_eq!(set.next_at, off.next_at);
    let jobs = || {
        let jobs = site.ledger.jobs.lock().unwrap();
        jobs.values().filter(|job| job.asked_by == "schedule:s").cloned().collect::<Vec<_>>()
    };
    for day in 1..=2 {
        site.turn(Span::from_secs(24 * 3_600));
        until("the job of the day is done", async || {
            let jobs = jobs();
            jobs.len() == day && jobs.iter().all(|job| job.state == JobState::Done)
        })
        .await;
    }
    let all = queue.schedules().await.unwrap();
    assert_eq!((all[0].name.as_str(), all[0].last_at), ("off", None));
    assert_eq!(all[1].last_at.unwrap(), set.next_at + Span::from_secs(24 * 3_600));
    assert!(jobs().iter().all(|job| job.key.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_in_one_process() {
    let channel = LocalJobNotices::default();
    suite([Arc::new(channel.clone()), Arc::new(channel)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_on_nats() {
    let server = nats::Server::start();
    let problems = NatsProblems::default();
    let channel = async |node: &str| -> Arc<dyn JobChannel> {
        let nats = server.connect(node).await;
        let channel = JetStreamJobNotices::new(nats, &Options::default(), problems.clone());
        let channel: Arc<dyn JobChannel> = Arc::new(channel);
        channel
    };
    suite([channel("a").await, channel("b").await]).await;
    assert_eq!(problems.all(), [], "the server has not done what it was asked");
}

/// A channel that says nothing, and takes nothing either.
struct Mute(Semaphore);

#[async_trait]
impl JobChannel for Mute {
    async fn tell(&self, _: &Job) -> bool {
        self.0.add_permits(1);
        std::future::pending().await
    }

    async fn notices(&self) -> Result<BoxStream<'static, JobNotice>, String> {
        Ok(stream::pending().boxed())
    }

    fn is_up(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_stops_while_notices_fail() {
    let (site, channel) = (Site::new(), Arc::new(Mute(Semaphore::new(0))));
    let pace = QueuePace { lease: LEASE, poll: Duration::from_millis(20), ..QueuePace::default() };
    let (kinds, node) = (kinds(&site.desk), "a".to_owned());
    // Nobody has told of it.
    let job = Job::new("job_1".into(), "good", "{}".into(), "test".into(), now()());
    site.ledger.add_job(&job).await.unwrap();
    let start =
        QueueStart { ledger: site.ledger.clone(), channel: channel.clone(), kinds, node, pace };
    let (_queue, working) = Queue::start(start, site.stop.clone());
    drop(channel.0.acquire().await.unwrap());
    site.stop.cancel();
    let stopped = tokio::time::timeout(Duration::from_secs(30), working).await;
    stopped.expect("it never stops").unwrap();
}

/// A channel that stands and takes nothing.
struct Deaf;

#[async_trait]
impl JobChannel for Deaf {
    async fn tell(&self, _: &Job) -> bool {
        false
    }

    async fn notices(&self) -> Result<BoxStream<'static, JobNotice>, String> {
        Ok(stream::pending().boxed())
    }

    fn is_up(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_job_notices_do_not_delay_jobs() {
    let site = Site::new();
    let a = site.node("a", Arc::new(Deaf), &site.stop);
    let id = add(&a, "good").await;
    site.until(&id, JobState::Done).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_leaves_its_job_to_another() {
    let site = Site::new();
    let channel = LocalJobNotices::default();
    let a = site.node("a", Arc::new(channel.clone()), &site.stop);
    let id = add(&a, "waits").await;
    site.until(&id, JobState::Running).await;
    // It dies without a word: what it had begun is as it left it.
    let mut left = site.ledger.job(&id).await.unwrap().unwrap();
    left.node = Some("dead".into());
    left.attempts += 1;
    site.ledger.jobs.lock().unwrap().insert(id.clone(), left);
    site.turn(LEASE);
    until("another one has begun", async || {
        let job = site.ledger.job(&id).await.unwrap().unwrap();
        job.attempts == 3 && job.node.as_deref() == Some("a")
    })
    .await;
    site.desk.gate.add_permits(2);
    site.until(&id, JobState::Done).await;
    site.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_during_and_after_a_nats_outage() {
    let site = Site::new();
    let mut server = nats::Server::start();
    let nats = server.connect("a").await;
    let channel =
        JetStreamJobNotices::new(nats.clone(), &Options::default(), NatsProblems::default());
    let a = site.node("a", Arc::new(channel), &site.stop);
    let id = add(&a, "good").await;
    site.until(&id, JobState::Done).await;
    server.kill();
    up(&nats, false).await;
    let id = add(&a, "good").await;
    site.until(&id, JobState::Done).await;
    server.wipe();
    server.resume();
    up(&nats, true).await;
    for _ in 0..20 {
        let id = add(&a, "good").await;
        site.until(&id, JobState::Done).await;
    }
    assert_eq!(site.done(), 22);
    site.stop.cancel();
}
