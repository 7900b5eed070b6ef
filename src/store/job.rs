//! Rows of background jobs and schedules. The rows are authoritative: notices between nodes only
//! make a node read them sooner. The rules of a job are in `domain::background_job`.

use super::both::{Builder, change, fetch_all};
use super::found::FoundRow;
use super::row::{self, ColumnKind, Stored, TableRow as _, Value};
use super::{Error, LIST_MAX, Store};
use crate::domain::background_job::{Job, JobState, Schedule};
use crate::domain::time::Timestamp;

/// The field of a part of a file, in its associated data.
const PART: &str = "part";

crate::table_row! {
    Job in "job", key(id) {
        id, kind, payload, state, attempts, attempts_max, key, asked_by, created_at, due_at,
        started_at, ended_at, node, progress, last_error
    }
}

impl Stored for JobState {
    const KIND: ColumnKind = ColumnKind::Text;

    fn to_value(&self) -> Value<'_> {
        Value::text(self.as_str())
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let text = String::from_value(value)?;
        text.parse().map_err(|_| format!("{text:?} is not a state of a job"))
    }
}

/// A part of a file that a job writes.
#[derive(Clone, Copy, Debug)]
pub struct JobPart<'a> {
    /// The id of the job.
    pub job: &'a str,
    /// The number of the attempt that writes it: only the attempt that ends the job counts.
    pub attempt: i64,
    /// The number of the part, from 0.
    pub number: i64,
    /// The text.
    pub content: &'a str,
}

/// The filter of a list of jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only jobs of these kinds; empty for all.
    pub kind: Vec<String>,
    /// Only jobs in these states; empty for all.
    pub state: Vec<JobState>,
    /// Only jobs older than the job with this id.
    pub before: Option<String>,
    /// At most this many jobs.
    pub limit: u32,
}

impl Store {
    /// Adds a job; `false` if there is a job with the same idempotency key or id.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn add_job(&self, job: &Job) -> Result<bool, Error> {
        let text = "INSERT INTO job (id, kind, payload, state, attempts, attempts_max, key, \
                    asked_by, created_at, due_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
                    ON CONFLICT DO NOTHING";
        let written = change!(
            self,
            sqlx::query(text)
                .bind(job.id.as_str())
                .bind(job.kind.as_str())
                .bind(job.payload.as_str())
                .bind(job.state.as_str())
                .bind(job.attempts)
                .bind(job.attempts_max)
                .bind(job.key.as_deref())
                .bind(job.asked_by.as_str())
                .bind(job.created_at.millis())
                .bind(job.due_at.millis())
        )?;
        Ok(written == 1)
    }

    /// The job with this id.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn job(&self, id: &str) -> Result<Option<Job>, Error> {
        let found = row::find(self.readers(), Job::table(), &[Value::text(id)]).await?;
        found.as_ref().map(Job::decode).transpose()
    }

    /// The job with this idempotency key.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn job_of_key(&self, key: &str) -> Result<Option<Job>, Error> {
        let readers = self.readers();
        let mut query = Builder::new(readers.dialect(), &Job::table().select());
        query.push(" WHERE key = ").push_bind(key.to_owned());
        query.fetch_all(readers).await?.first().map(Job::decode).transpose()
    }

    /// Updates a job; `false` if it does not have the state, attempts, node and start time of `was`
    /// any more.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn put_job(&self, was: &Job, job: &Job) -> Result<bool, Error> {
        let text = "UPDATE job SET state = $4, attempts = $5, due_at = $6, started_at = $7, \
                    ended_at = $8, node = $9, progress = $10, last_error = $11 \
                    WHERE id = $1 AND state = $2 AND attempts = $3 \
                    AND node IS NOT DISTINCT FROM $12 AND started_at IS NOT DISTINCT FROM $13";
        let written = change!(
            self,
            sqlx::query(text)
                .bind(job.id.as_str())
                .bind(was.state.as_str())
                .bind(was.attempts)
                .bind(job.state.as_str())
                .bind(job.attempts)
                .bind(job.due_at.millis())
                .bind(job.started_at.map(Timestamp::millis))
                .bind(job.ended_at.map(Timestamp::millis))
                .bind(job.node.as_deref())
                .bind(job.progress.as_deref())
                .bind(job.last_error.as_deref())
                .bind(was.node.as_deref())
                .bind(was.started_at.map(Timestamp::millis))
        )?;
        Ok(written == 1)
    }

    /// Removes a job; `false` if there is none, or it is running.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn remove_job(&self, id: &str) -> Result<bool, Error> {
        let text = "DELETE FROM job WHERE id = $1 AND state <> 'running'";
        let removed = change!(self, sqlx::query(text).bind(id))? == 1;
        if removed {
            self.remove_parts_without_job().await?;
        }
        Ok(removed)
    }

    /// Adds a part to the file that an attempt of a job writes. It is stored sealed.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn add_job_part(&self, part: &JobPart<'_>) -> Result<(), Error> {
        let text = "INSERT INTO job_part (job, attempt, part, content) VALUES ($1, $2, $3, $4) \
                    ON CONFLICT (job, attempt, part) DO UPDATE SET content = excluded.content";
        let key = self.lookups().await?.data_key(part.job);
        let content = key.seal_bytes(PART, part.content.as_bytes()).unwrap_or_default();
        change!(
            self,
            sqlx::query(text)
                .bind(part.job)
                .bind(part.attempt)
                .bind(part.number)
                .bind(content.as_str())
        )?;
        Ok(())
    }

    /// A part of the file of an attempt of a job; parts have the numbers from 0.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn job_part(
        &self,
        job: &str,
        attempt: i64,
        number: i64,
    ) -> Result<Option<String>, Error> {
        let text = "SELECT content FROM job_part WHERE job = $1 AND attempt = $2 AND part = $3";
        let found =
            fetch_all!(self.readers(), sqlx::query(text).bind(job).bind(attempt).bind(number))?;
        let Some(found) = found.first() else { return Ok(None) };
        let sealed: String = found.try_get(0)?;
        let content = self.lookups().await?.data_key(job).open_bytes(PART, &sealed);
        let content = content.and_then(|content| String::from_utf8(content).ok());
        let damaged = || Error::Row { table: "job_part", reason: "it cannot be opened".to_owned() };
        content.map(Some).ok_or_else(damaged)
    }

    /// Removes the ended jobs of a kind, with their files.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn remove_ended_jobs(&self, kind: &str) -> Result<u64, Error> {
        let text = "DELETE FROM job WHERE kind = $1 AND ended_at IS NOT NULL";
        let removed = change!(self, sqlx::query(text).bind(kind))?;
        self.remove_parts_without_job().await?;
        Ok(removed)
    }

    /// Removes what other attempts of a job have written.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn remove_other_parts(&self, job: &str, attempt: i64) -> Result<(), Error> {
        let text = "DELETE FROM job_part WHERE job = $1 AND attempt <> $2";
        change!(self, sqlx::query(text).bind(job).bind(attempt))?;
        Ok(())
    }

    async fn remove_parts_without_job(&self) -> Result<(), Error> {
        let text = "DELETE FROM job_part WHERE job NOT IN (SELECT id FROM job)";
        change!(self, sqlx::query(text))?;
        Ok(())
    }

    /// Waiting and running jobs that are due by a time, in order of due time, at most `limit`.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn due_jobs(&self, until: Timestamp, limit: u32) -> Result<Vec<Job>, Error> {
        let readers = self.readers();
        let mut query = Builder::new(readers.dialect(), &Job::table().select());
        query.push(" WHERE state IN ('waiting', 'running') AND due_at <= ");
        query.push_bind(until.millis()).push(" ORDER BY due_at LIMIT +");
        query.push_bind(i64::from(limit.min(LIST_MAX)));
        query.fetch_all(readers).await?.iter().map(Job::decode).collect()
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn jobs(&self, filter: &Filter) -> Result<Vec<Job>, Error> {
        let readers = self.lists();
        let mut query = Builder::new(readers.dialect(), &Job::table().select());
        query.push(" WHERE TRUE");
        let states: Vec<String> =
            filter.state.iter().map(|state| state.as_str().to_owned()).collect();
        query.push_in("", "kind", &filter.kind);
        query.push_in("", "state", &states);
        if let Some(before) = &filter.before {
            query.push(" AND id < ").push_bind(before.clone());
        }
        query.push(" ORDER BY id DESC LIMIT +");
        query.push_bind(i64::from(filter.limit.min(LIST_MAX)));
        query.fetch_all(readers).await?.iter().map(Job::decode).collect()
    }

    /// The number of jobs of a kind.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn count_jobs(&self, kind: &str) -> Result<i64, Error> {
        let text = "SELECT count(*) FROM job WHERE kind = $1";
        let found = fetch_all!(self.readers(), sqlx::query(text).bind(kind))?;
        Ok(found.first().map_or(Ok(0), |found| found.try_get(0))?)
    }

    /// Removes jobs that were done before a time; returns the number of removed jobs.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn remove_done_jobs(&self, before: Timestamp) -> Result<u64, Error> {
        let text = "DELETE FROM job WHERE state = 'done' AND ended_at < $1";
        let removed = change!(self, sqlx::query(text).bind(before.millis()))?;
        self.remove_parts_without_job().await?;
        Ok(removed)
    }

    /// All schedules, in order of their names.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn schedules(&self) -> Result<Vec<Schedule>, Error> {
        let text = "SELECT name, kind, payload, cron, enabled, next_at, last_at FROM schedule \
                    ORDER BY name LIMIT +$1";
        let limit = i64::from(LIST_MAX);
        let found = fetch_all!(self.readers(), sqlx::query(text).bind(limit))?;
        Ok(found.iter().map(schedule).collect::<Result<_, _>>()?)
    }

    /// Writes a schedule.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn put_schedule(&self, schedule: &Schedule) -> Result<(), Error> {
        let text = "INSERT INTO schedule (name, kind, payload, cron, enabled, next_at, last_at) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO UPDATE SET \
                    kind = excluded.kind, payload = excluded.payload, cron = excluded.cron, \
                    enabled = excluded.enabled, next_at = excluded.next_at";
        change!(
            self,
            sqlx::query(text)
                .bind(schedule.name.as_str())
                .bind(schedule.kind.as_str())
                .bind(schedule.payload.as_str())
                .bind(schedule.cron.as_str())
                .bind(i64::from(schedule.enabled))
                .bind(schedule.next_at.millis())
                .bind(schedule.last_at.map(Timestamp::millis))
        )?;
        Ok(())
    }

    /// Removes a schedule; `false` if there is none.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn remove_schedule(&self, name: &str) -> Result<bool, Error> {
        let text = "DELETE FROM schedule WHERE name = $1";
        Ok(change!(self, sqlx::query(text).bind(name))? == 1)
    }

    /// Moves a schedule from the time of `was` to its next time; `false` if another node has moved
    /// it already.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn move_schedule(&self, was: &Schedule, next_at: Timestamp) -> Result<bool, Error> {
        let text = "UPDATE schedule SET last_at = next_at, next_at = $3 \
                    WHERE name = $1 AND next_at = $2";
        let written = change!(
            self,
            sqlx::query(text)
                .bind(was.name.as_str())
                .bind(was.next_at.millis())
                .bind(next_at.millis())
        )?;
        Ok(written == 1)
    }
}

fn schedule(found: &FoundRow) -> Result<Schedule, sqlx::Error> {
    let last_at: Option<i64> = found.try_get(6)?;
    let enabled: i64 = found.try_get(4)?;
    Ok(Schedule {
        name: found.try_get(0)?,
        kind: found.try_get(1)?,
        payload: found.try_get(2)?,
        cron: found.try_get(3)?,
        enabled: enabled != 0,
        next_at: Timestamp::from_millis(found.try_get(5)?),
        last_at: last_at.map(Timestamp::from_millis),
    })
}
