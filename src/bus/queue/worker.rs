//! Workers: they receive notices, start jobs, renew leases and store results. They also poll the
//! ledger for due jobs.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::job_channel::JobNotice;
use super::{JobState, Queue};
use crate::domain::background_job::Job;

/// The most jobs that one poll reads.
const LOOK: u32 = 100;
/// The pause before notices are received again after an error.
const AGAIN: Duration = Duration::from_secs(1);
/// How often old done jobs are removed.
const CLEAN: Duration = Duration::from_secs(600);
/// How long the queue waits for jobs in progress when it is stopped.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// An error message is truncated to this many characters when it is stored.
const ERROR_CHARS_MAX: usize = 500;

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobFailure {
    /// A retry may succeed.
    Again(String),
    /// A retry cannot succeed.
    Never(String),
}

/// A job in progress.
#[derive(Clone)]
pub struct JobRun {
    /// The job, as of its start.
    pub job: Job,
    progress: tokio::sync::watch::Sender<Option<Value>>,
}

impl JobRun {
    /// The job's arguments.
    #[must_use]
    pub fn payload(&self) -> Value {
        serde_json::from_str(&self.job.payload).unwrap_or_default()
    }

    /// Reports progress. It is stored at the next renewal of the lease, where operators can see it.
    pub fn progress(&self, how_far: Value) {
        self.progress.send_replace(Some(how_far));
    }
}

impl Queue {
    /// Works until stopped.
    pub(super) async fn work(&self) {
        let tasks = TaskTracker::new();
        let stop = self.0.stop.clone();
        let mut look = tokio::time::interval(self.0.pace.poll);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut notices, mut reconnect_at) = (None, Instant::now());
        let mut clean_at = Instant::now();
        loop {
            if notices.is_none() && self.0.channel.is_up() && Instant::now() >= reconnect_at {
                reconnect_at = Instant::now() + AGAIN;
                match self.0.channel.notices().await {
                    Ok(stream) => notices = Some(stream),
                    Err(error) => tracing::warn!(
                        error,
                        "cannot receive notices of jobs; jobs are \
                                                         polled"
                    ),
                }
            }
            // No notice is received while there is no free worker.
            let notice = async {
                match notices.as_mut() {
                    Some(notices) => {
                        let place = self.0.places.clone().acquire_owned().await.ok();
                        (notices.next().await, place)
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                (notice, place) = notice => match notice {
                    Some(notice) => {
                        let this = self.clone();
                        tasks.spawn(async move {
                            let id = notice.job.clone();
                            this.take(&id, Some(notice)).await;
                            drop(place);
                        });
                    }
                    None => notices = None,
                },
                _ = look.tick() => {
                    let connected = notices.is_some();
                    let mut stands = connected;
                    let look = async {
                        self.fire().await;
                        stands = self.look(&tasks, connected).await;
                        if Instant::now() >= clean_at {
                            clean_at = Instant::now() + CLEAN;
                            self.clean().await;
                        }
                    };
                    // If the queue is stopped meanwhile, other nodes find the remaining jobs.
                    let _stopped = stop.run_until_cancelled(look).await;
                    if !stands {
                        notices = None;
                    }
                }
            }
        }
        tasks.close();
        // A job that does not end in time is started again by another node when its lease ends.
        let _late = tokio::time::timeout(LAST_WORDS, tasks.wait()).await;
    }

    /// Polls the ledger for due jobs. If notices work (`connected`), sends their notices, otherwise
    /// starts the jobs on this node. Returns whether notices still work.
    async fn look(&self, tasks: &TaskTracker, connected: bool) -> bool {
        let ledger = &self.0.ledger;
        let due = match async { ledger.due_jobs(ledger.now().await?, LOOK).await }.await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(error, "cannot look for jobs");
                return connected;
            }
        };
        for job in due {
            if connected {
                // If a notice is not accepted, sending the others would only cost time. The next
                // poll starts the jobs directly.
                if !self.0.channel.tell(&job).await {
                    return false;
                }
            } else {
                let Ok(place) = self.0.places.clone().try_acquire_owned() else {
                    break;
                };
                let this = self.clone();
                tasks.spawn(async move {
                    this.take(&job.id, None).await;
                    drop(place);
                });
            }
        }
        connected
    }

    async fn clean(&self) {
        let ledger = &self.0.ledger;
        let removed =
            async { ledger.remove_done_jobs(ledger.now().await? - self.0.pace.keep).await };
        if let Err(error) = removed.await {
            tracing::warn!(error, "cannot remove finished jobs");
        }
    }

    /// Starts a job and stores its outcome, unless another node has started it.
    async fn take(&self, id: &str, notice: Option<JobNotice>) {
        match self.begin(id).await {
            Ok(Some(job)) => self.run(job, notice.as_ref()).await,
            Ok(None) => {}
            // The job is not lost: its notice will be delivered again, or a poll will find it.
            Err(error) => return tracing::warn!(job = id, error, "cannot start a job"),
        }
        if let Some(notice) = notice {
            notice.acknowledge().await;
        }
    }

    async fn begin(&self, id: &str) -> Result<Option<Job>, String> {
        let ledger = &self.0.ledger;
        let Some(was) = ledger.job(id).await? else {
            return Ok(None);
        };
        let now = ledger.now().await?;
        if !was.can_begin(now) || !self.0.kinds.contains_key(&*was.kind) {
            return Ok(None);
        }
        let mut job = was.clone();
        let begun = job.begin(&self.0.node, now, self.0.pace.lease);
        if !begun {
            tracing::error!(job = id, kind = job.kind, "a job was given up");
        }
        let written = ledger.put_job(&was, &job).await?;
        Ok((begun && written).then_some(job))
    }

    async fn run(&self, mut job: Job, notice: Option<&JobNotice>) {
        let Some(work) = self.0.kinds.get(&*job.kind) else {
            return;
        };
        let (told, mut progress) = tokio::sync::watch::channel(None);
        let run = JobRun { job: job.clone(), progress: told };
        // A panic of the work fails only the job.
        let mut work = AssertUnwindSafe(work(run)).catch_unwind();
        let pace = u64::try_from(self.0.pace.lease.millis() / 3).unwrap_or(1).max(1);
        let mut beat = tokio::time::interval(Duration::from_millis(pace));
        beat.tick().await;
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                _ = beat.tick() => {
                    if let Some(notice) = notice {
                        notice.report_progress().await;
                    }
                    let mut longer = job.clone();
                    let how_far: Option<Value> = progress.borrow_and_update().clone();
                    longer.progress = how_far.map(|value| value.to_string()).or(longer.progress);
                    let ledger = &self.0.ledger;
                    let prolonged = async {
                        longer.due_at = ledger.now().await? + self.0.pace.lease;
                        ledger.put_job(&job, &longer).await
                    };
                    match prolonged.await {
                        Ok(true) => job = longer,
                        Ok(false) => {
                            tracing::warn!(job = job.id, "another node has taken over a job");
                            return;
                        }
                        Err(error) => tracing::warn!(job = job.id, error, "cannot record that a \
                                                                           job is alive"),
                    }
                }
            }
        };
        let done = done.unwrap_or_else(|_| Err(JobFailure::Again("it panicked".into())));
        self.end(&job, done).await;
    }

    /// Stores the outcome of a job; if that fails, the job is started again when its lease ends.
    async fn end(&self, was: &Job, done: Result<Value, JobFailure>) {
        let mut job = was.clone();
        let now = match self.0.ledger.now().await {
            Ok(now) => now,
            Err(error) => {
                return tracing::warn!(job = job.id, error, "cannot store the result of a job");
            }
        };
        let short = |error: String| error.chars().take(ERROR_CHARS_MAX).collect::<String>();
        match done {
            Ok(result) => job.finish(result.to_string(), now),
            Err(JobFailure::Again(error)) => job.fail(&short(error), now),
            Err(JobFailure::Never(error)) => job.give_up(&short(error), now),
        }
        let (id, kind) = (&job.id, &job.kind);
        match self.0.ledger.put_job(was, &job).await {
            Ok(true) if job.state == JobState::Dead => {
                let error = job.last_error.as_deref().unwrap_or_default();
                tracing::error!(job = id, kind, error, "a job was given up");
            }
            Ok(true) => tracing::debug!(job = id, kind, state = job.state.as_str(), "a job ended"),
            Ok(false) => tracing::warn!(job = id, kind, "another node has taken over a job"),
            Err(error) => tracing::warn!(job = id, kind, error, "cannot store the result of a job"),
        }
    }
}
