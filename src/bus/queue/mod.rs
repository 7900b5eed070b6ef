//! The job queue: background work that any one node does. A job is retried after failures, and
//! given up (dead) after too many. The job's row in the ledger, a table of the store, is
//! authoritative. Nodes send each other only notices that a job is due, which may be lost, late or
//! duplicated.
//!
//! The callers define the work of each kind of job.

mod job_channel;
mod schedules;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::NatsProblems;
use crate::domain::background_job::{Job, JobState, Schedule};
use crate::domain::time::{Span, Timestamp};

pub use job_channel::{JetStreamJobNotices, JobChannel, JobNotice, LocalJobNotices};
pub use worker::{JobFailure, JobRun};

/// The store of jobs and schedules. Each write is atomic; an error means that nothing was written,
/// or that the outcome is unknown.
#[async_trait]
pub trait JobLedger: Send + Sync + 'static {
    /// The time that all nodes use, whatever their own clocks say.
    async fn now(&self) -> Result<Timestamp, String>;

    /// Adds a job; `false` if there is a job with the same idempotency key or id.
    async fn add_job(&self, job: &Job) -> Result<bool, String>;

    /// The job with this id.
    async fn job(&self, id: &str) -> Result<Option<Job>, String>;

    /// Updates a job; `false`, with nothing written, if it does not have the state, attempts, node
    /// and start time of `was` any more.
    async fn put_job(&self, was: &Job, job: &Job) -> Result<bool, String>;

    /// Waiting and running jobs that are due by a time, in order of their due times.
    async fn due_jobs(&self, until: Timestamp, limit: u32) -> Result<Vec<Job>, String>;

    /// Removes jobs that were done before a time; returns the number of removed jobs.
    async fn remove_done_jobs(&self, before: Timestamp) -> Result<u64, String>;

    /// All schedules, in order of their names.
    async fn schedules(&self) -> Result<Vec<Schedule>, String>;

    /// Writes a schedule.
    async fn put_schedule(&self, schedule: &Schedule) -> Result<(), String>;

    /// Moves a schedule from the time of `was` to its next time; `false` if another node has moved
    /// it already.
    async fn move_schedule(&self, was: &Schedule, next_at: Timestamp) -> Result<bool, String>;
}

/// The work of a kind of job. It must be repeatable: if the node dies before it has recorded the
/// result, another node does the work again.
pub type JobWork =
    Arc<dyn Fn(JobRun) -> BoxFuture<'static, Result<serde_json::Value, JobFailure>> + Send + Sync>;

/// Limits and periods of the queue.
#[derive(Clone, Copy, Debug)]
pub struct QueuePace {
    /// The most jobs that this node works on at once.
    pub at_once: usize,
    /// The lease of a running job, which its node renews. If it ends, the node counts as dead, and
    /// the job is started again.
    pub lease: Span,
    /// How often the ledger is polled.
    pub poll: std::time::Duration,
    /// How long a job is stored after it is done.
    pub keep: Span,
}

impl Default for QueuePace {
    fn default() -> Self {
        Self {
            at_once: 4,
            lease: Span::from_secs(30),
            poll: std::time::Duration::from_secs(1),
            keep: Span::from_secs(7 * 24 * 3_600),
        }
    }
}

/// Arguments of a queue.
pub struct QueueStart {
    /// The ledger.
    pub ledger: Arc<dyn JobLedger>,
    /// The connection for job notices.
    pub channel: Arc<dyn JobChannel>,
    /// The kinds of jobs that this node knows, with their work.
    pub kinds: BTreeMap<&'static str, JobWork>,
    /// The id of this node.
    pub node: String,
    /// Limits and periods.
    pub pace: QueuePace,
}

/// Why a job cannot be added or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such kind of job.
    #[error("there is no such kind of job")]
    UnknownKind,
    /// The cron pattern of the schedule is invalid.
    #[error("the cron pattern is invalid: {0}")]
    Cron(String),
    /// The ledger failed.
    #[error("the jobs cannot be read or written: {0}")]
    Ledger(String),
}

/// The job queue of a node. Clones share the same state.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    ledger: Arc<dyn JobLedger>,
    channel: Arc<dyn JobChannel>,
    kinds: BTreeMap<&'static str, JobWork>,
    node: String,
    pace: QueuePace,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Queue {
    /// Starts to work on jobs, until stopped. Then the returned task ends when the jobs in progress
    /// have ended, at the latest after 5 s; unfinished ones are left to other nodes.
    #[must_use]
    pub fn start(start: QueueStart, stop: CancellationToken) -> (Self, JoinHandle<()>) {
        let QueueStart { ledger, channel, kinds, node, pace } = start;
        let places = Arc::new(Semaphore::new(pace.at_once.clamp(1, 1_024)));
        let this = Self(Arc::new(Inner { ledger, channel, kinds, node, pace, places, stop }));
        let worker = this.clone();
        (this, tokio::spawn(async move { worker.work().await }))
    }

    /// The kinds of jobs.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.kinds.keys().copied()
    }

    /// Adds a job; `None` if there is a job with this idempotency key.
    ///
    /// # Errors
    /// [`Error`]; after [`Error::Ledger`], the job may have been added.
    pub async fn add(
        &self,
        kind: &str,
        payload: &serde_json::Value,
        by: &str,
        key: Option<String>,
    ) -> Result<Option<Job>, Error> {
        if !self.0.kinds.contains_key(kind) {
            return Err(Error::UnknownKind);
        }
        let now = self.0.ledger.now().await.map_err(Error::Ledger)?;
        let id = format!("job_{:011x}{:09x}", now.millis(), rand::random::<u64>() >> 28);
        let mut job = Job::new(id, kind, payload.to_string(), by.to_owned(), now);
        job.key = key;
        if !self.0.ledger.add_job(&job).await.map_err(Error::Ledger)? {
            return Ok(None);
        }
        self.0.channel.tell(&job).await;
        Ok(Some(job))
    }

    /// Retries a waiting or dead job at once; `None` if there is no such job, and `false` if the
    /// job is running or done.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    pub async fn retry(&self, id: &str) -> Result<Option<(Job, bool)>, Error> {
        let Some(was) = self.0.ledger.job(id).await.map_err(Error::Ledger)? else {
            return Ok(None);
        };
        let mut job = was.clone();
        if !job.retry(self.0.ledger.now().await.map_err(Error::Ledger)?) {
            return Ok(Some((was, false)));
        }
        let written = self.0.ledger.put_job(&was, &job).await.map_err(Error::Ledger)?;
        if written {
            self.0.channel.tell(&job).await;
        }
        Ok(Some((if written { job } else { was }, written)))
    }
}
