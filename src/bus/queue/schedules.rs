//! Schedules: each adds a job periodically. The first node that finds a schedule due adds the job.

use serde_json::Value;

use super::{Error, Queue};
use crate::domain::background_job::{Schedule, next_after};

impl Queue {
    /// All schedules.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    pub async fn schedules(&self) -> Result<Vec<Schedule>, Error> {
        self.0.ledger.schedules().await.map_err(Error::Ledger)
    }

    /// Creates or changes a schedule. Its next time is in the future: times that were missed before
    /// are skipped.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn schedule(
        &self,
        name: &str,
        kind: &str,
        payload: &Value,
        cron: &str,
        enabled: bool,
    ) -> Result<Schedule, Error> {
        if !self.0.kinds.contains_key(kind) {
            return Err(Error::UnknownKind);
        }
        let now = self.0.ledger.now().await.map_err(Error::Ledger)?;
        let next_at = next_after(cron, now).map_err(Error::Cron)?;
        let before = self.schedules().await?;
        let last_at = before.iter().find(|one| one.name == name).and_then(|one| one.last_at);
        let (name, kind, cron) = (name.to_owned(), kind.to_owned(), cron.to_owned());
        let payload = payload.to_string();
        let schedule = Schedule { name, kind, payload, cron, enabled, next_at, last_at };
        self.0.ledger.put_schedule(&schedule).await.map_err(Error::Ledger)?;
        Ok(schedule)
    }

    /// Adds the jobs of all due schedules. The job is added first, and then the schedule is moved
    /// to its next time. If several nodes add the job, its idempotency key deduplicates it. If a
    /// node dies in between, another node moves the schedule.
    pub(super) async fn fire(&self) {
        let found = async { Ok((self.0.ledger.schedules().await?, self.0.ledger.now().await?)) };
        let (all, now) = match found.await {
            Ok(found) => found,
            Err(error) => {
                let error: String = error;
                return tracing::warn!(error, "cannot read the schedules");
            }
        };
        for schedule in all.into_iter().filter(|one| one.enabled && one.next_at <= now) {
            let name = &schedule.name;
            let key = format!("schedule:{name}:{}", schedule.next_at.millis());
            let payload = serde_json::from_str(&schedule.payload).unwrap_or_default();
            let by = format!("schedule:{name}");
            match self.add(&schedule.kind, &payload, &by, Some(key)).await {
                Ok(_) => {}
                // Nodes of another version may know this kind of job.
                Err(Error::UnknownKind) => continue,
                Err(error) => {
                    tracing::warn!(schedule = name, %error, "cannot add a job");
                    continue;
                }
            }
            let moved = match next_after(&schedule.cron, now) {
                Ok(next) => self.0.ledger.move_schedule(&schedule, next).await,
                Err(error) => Err(error),
            };
            if let Err(error) = moved {
                tracing::warn!(schedule = name, error, "cannot set the next time of a schedule");
            }
        }
    }
}
