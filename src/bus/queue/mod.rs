//! The job queue: work that is done once, by any node, tried again after a failure, and given up
//! at last. The truth of a job is a row of the ledger; what goes over the line is only the word
//! that a job is there, which may be lost, come twice or come late.
//!
//! What jobs do is not known here: each kind comes with its work.

mod connection;
mod schedules;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Findings;
use crate::domain::background_job::{Job, JobState, Schedule};
use crate::domain::time::{Span, Timestamp};

pub use connection::{JetLine, QueueConnection, TwinLine, Word};
pub use worker::{JobFailure, JobRun};

/// Where the truth of jobs and schedules is kept. Each write is one step that others see whole;
/// an error means that nothing was written, or that it is not known.
#[async_trait]
pub trait JobLedger: Send + Sync + 'static {
    /// The time that all nodes go by, whatever their own clocks say.
    async fn now(&self) -> Result<Timestamp, String>;

    /// Adds a job; `false` if one with its key is there.
    async fn add_job(&self, job: &Job) -> Result<bool, String>;

    /// A job.
    async fn job(&self, id: &str) -> Result<Option<Job>, String>;

    /// Writes a job as it is now, if it is still in the state that `was` has, and begun by the same
    /// node at the same time; `false`, and nothing written, if it has gone on since.
    async fn put_job(&self, was: &Job, job: &Job) -> Result<bool, String>;

    /// Jobs that wait or run and are due by then, those due first before the others.
    async fn due_jobs(&self, until: Timestamp, limit: u32) -> Result<Vec<Job>, String>;

    /// Removes jobs that were done before then; how many.
    async fn remove_done_jobs(&self, before: Timestamp) -> Result<u64, String>;

    /// All schedules, in order of their names.
    async fn schedules(&self) -> Result<Vec<Schedule>, String>;

    /// Writes a schedule.
    async fn put_schedule(&self, schedule: &Schedule) -> Result<(), String>;

    /// Moves a schedule on that stands as `was`; `false` if another node has done it.
    async fn move_schedule(&self, was: &Schedule, next_at: Timestamp) -> Result<bool, String>;
}

/// What a kind of job does. It may be begun again although it was done, when its node died before
/// it could say so.
pub type JobWork =
    Arc<dyn Fn(JobRun) -> BoxFuture<'static, Result<serde_json::Value, JobFailure>> + Send + Sync>;

/// How often and how many jobs are worked on.
#[derive(Clone, Copy, Debug)]
pub struct QueuePace {
    /// How many jobs this node works on at once.
    pub at_once: usize,
    /// After how long without a word a node is taken for dead.
    pub lease: Span,
    /// How often is looked for what is due.
    pub poll: std::time::Duration,
    /// For how long jobs that are done are kept.
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

/// What a queue is made of.
pub struct QueueStart {
    /// The truth.
    pub ledger: Arc<dyn JobLedger>,
    /// How nodes tell each other that a job is there.
    pub line: Arc<dyn QueueConnection>,
    /// The kinds of jobs that this node knows.
    pub kinds: BTreeMap<&'static str, JobWork>,
    /// This node.
    pub node: String,
    /// How jobs are worked on.
    pub pace: QueuePace,
}

/// Why a job cannot be added or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody knows what to do.
    #[error("there is no such kind of job")]
    UnknownKind,
    /// Its pattern cannot be used.
    #[error("the cron pattern is invalid: {0}")]
    Cron(String),
    /// The ledger says no.
    #[error("the jobs cannot be read or written: {0}")]
    Ledger(String),
}

/// The job queue; clones are the same.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    ledger: Arc<dyn JobLedger>,
    line: Arc<dyn QueueConnection>,
    kinds: BTreeMap<&'static str, JobWork>,
    node: String,
    pace: QueuePace,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Queue {
    /// Works on jobs until told to stop; what this answers beside it is over when those under
    /// way have ended, or were left to other nodes.
    #[must_use]
    pub fn start(start: QueueStart, stop: CancellationToken) -> (Self, JoinHandle<()>) {
        let QueueStart { ledger, line, kinds, node, pace } = start;
        let places = Arc::new(Semaphore::new(pace.at_once.clamp(1, 1_024)));
        let this = Self(Arc::new(Inner { ledger, line, kinds, node, pace, places, stop }));
        let worker = this.clone();
        (this, tokio::spawn(async move { worker.work().await }))
    }

    /// The kinds of jobs.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.kinds.keys().copied()
    }

    /// Adds a job; `None` if one with this key is there already.
    ///
    /// # Errors
    /// [`Error`]; it may have been added if the ledger could not tell.
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
        self.0.line.tell(&job).await;
        Ok(Some(job))
    }

    /// Lets a job that waits or was given up try again at once; `None` if it is not there, and
    /// `false` if it runs or is done.
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
            self.0.line.tell(&job).await;
        }
        Ok(Some((if written { job } else { was }, written)))
    }
}
