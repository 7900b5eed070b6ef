//! The ledger of the job queue, which records jobs and schedules, in the store. The kinds of jobs
//! are in `app/jobs.rs`.

use async_trait::async_trait;

use super::clock::Clock;
use crate::bus::queue::JobLedger;
use crate::domain::background_job::{Job, Schedule};
use crate::domain::time::Timestamp;
use crate::store::{self, Store};

/// The ledger in the store. The clock is the store's if several nodes may use the store; a single
/// node uses its own.
pub struct StoredJobs(pub Store, pub Clock);

fn describe_error(error: store::Error) -> String {
    error.to_string()
}

#[async_trait]
impl JobLedger for StoredJobs {
    async fn now(&self) -> Result<Timestamp, String> {
        match self.0.time().await.map_err(describe_error)? {
            Some(now) => Ok(now),
            None => Ok(self.1.now()),
        }
    }

    async fn add_job(&self, job: &Job) -> Result<bool, String> {
        self.0.add_job(job).await.map_err(describe_error)
    }

    async fn job(&self, id: &str) -> Result<Option<Job>, String> {
        self.0.job(id).await.map_err(describe_error)
    }

    async fn put_job(&self, was: &Job, job: &Job) -> Result<bool, String> {
        self.0.put_job(was, job).await.map_err(describe_error)
    }

    async fn due_jobs(&self, until: Timestamp, limit: u32) -> Result<Vec<Job>, String> {
        self.0.due_jobs(until, limit).await.map_err(describe_error)
    }

    async fn remove_done_jobs(&self, before: Timestamp) -> Result<u64, String> {
        self.0.remove_done_jobs(before).await.map_err(describe_error)
    }

    async fn schedules(&self) -> Result<Vec<Schedule>, String> {
        self.0.schedules().await.map_err(describe_error)
    }

    async fn put_schedule(&self, schedule: &Schedule) -> Result<(), String> {
        self.0.put_schedule(schedule).await.map_err(describe_error)
    }

    async fn move_schedule(&self, was: &Schedule, next_at: Timestamp) -> Result<bool, String> {
        self.0.move_schedule(was, next_at).await.map_err(describe_error)
    }
}
