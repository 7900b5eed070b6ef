//! Parked webhooks: webhooks of payment providers that match no order yet. They are stored and
//! retried. Their signatures were verified before, and are not stored. Their bodies are stored sealed,
//! because a provider may put a buyer's name or address into them.

use super::both::{change, fetch_all, fetch_optional};
use super::found::FoundRow;
use super::personal::DataKey;
use super::{Error, LIST_MAX, Store};
use crate::domain::time::Timestamp;

/// What is sealed.
const BODY: &str = "body";

/// The retry time of a webhook that is not retried any more.
pub const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// A webhook to be parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The provider that sent it.
    pub provider: String,
    /// The provider's own id of the webhook.
    pub notice_id: String,
    /// When it was received.
    pub received_at: Timestamp,
    /// Its body.
    pub body: String,
    /// Why it could not be applied.
    pub reason: String,
    /// When to retry it next; [`NEVER`] if it is not retried any more.
    pub next_try_at: Timestamp,
}

/// The row of a parked webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: i64,
    /// The number of failed retries.
    pub attempts: i64,
    /// The webhook.
    pub webhook: Parked,
}

impl Store {
    /// Stores a webhook durably; `false` if a webhook of this provider with this id is stored
    /// already.
    ///
    /// # Errors
    /// [`Error`] of the store: the provider must send the webhook again.
    pub async fn park_webhook(&self, webhook: &Parked) -> Result<bool, Error> {
        let body = self.webhook_key().await?.seal_bytes(BODY, webhook.body.as_bytes());
        let body = body.unwrap_or_default();
        let text = "INSERT INTO parked_webhook \
                    (provider, notice_id, received_at, body, reason, attempts, next_try_at) \
                    VALUES ($1, $2, $3, $4, $5, 0, $6) \
                    ON CONFLICT (provider, notice_id) DO NOTHING";
        let written = change!(
            self,
            sqlx::query(text)
                .bind(webhook.provider.as_str())
                .bind(webhook.notice_id.as_str())
                .bind(webhook.received_at.millis())
                .bind(body.as_str())
                .bind(webhook.reason.as_str())
                .bind(webhook.next_try_at.millis())
        )?;
        Ok(written == 1)
    }

    /// Webhooks that are due by `until`, in order of due time, at most `limit`.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn due_webhooks(&self, until: Timestamp, limit: u32) -> Result<Vec<Row>, Error> {
        let text = "SELECT id, attempts, provider, notice_id, received_at, body, reason, \
                    next_try_at FROM parked_webhook WHERE next_try_at <= $1 \
                    ORDER BY next_try_at, id LIMIT +$2";
        let limit = i64::from(limit.min(LIST_MAX));
        let found = fetch_all!(self.readers(), sqlx::query(text).bind(until.millis()).bind(limit))?;
        self.opened(&found).await
    }

    /// The parked webhook with this id.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn webhook(&self, id: i64) -> Result<Option<Row>, Error> {
        let text = "SELECT id, attempts, provider, notice_id, received_at, body, reason, \
                    next_try_at FROM parked_webhook WHERE id = $1";
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(id))?;
        Ok(self.opened(found.as_slice()).await?.pop())
    }

    /// Parked webhooks in order of their ids after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn parked_webhooks(&self, after: i64, limit: u32) -> Result<Vec<Row>, Error> {
        let text = "SELECT id, attempts, provider, notice_id, received_at, body, reason, \
                    next_try_at FROM parked_webhook WHERE id > $1 ORDER BY id LIMIT +$2";
        let limit = i64::from(limit.min(LIST_MAX));
        let found = fetch_all!(self.readers(), sqlx::query(text).bind(after).bind(limit))?;
        self.opened(&found).await
    }

    /// The key of the bodies.
    async fn webhook_key(&self) -> Result<DataKey, Error> {
        Ok(self.lookups().await?.data_key("parked_webhook"))
    }

    async fn opened(&self, found: &[FoundRow]) -> Result<Vec<Row>, Error> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let key = self.webhook_key().await?;
        found.iter().map(|found| row(found, &key)).collect()
    }

    /// Records a failed retry and the time of the next one; `false` if the webhook does not exist
    /// any more.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn retry_webhook(
        &self,
        id: i64,
        reason: &str,
        next_try_at: Timestamp,
    ) -> Result<bool, Error> {
        let text = "UPDATE parked_webhook SET attempts = attempts + 1, reason = $2, \
                    next_try_at = $3 WHERE id = $1";
        Ok(change!(self, sqlx::query(text).bind(id).bind(reason).bind(next_try_at.millis()))? == 1)
    }

    /// Deletes a webhook that was applied or is to be discarded; `false` if it does not exist.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn remove_webhook(&self, id: i64) -> Result<bool, Error> {
        let text = "DELETE FROM parked_webhook WHERE id = $1";
        Ok(change!(self, sqlx::query(text).bind(id))? == 1)
    }
}

fn row(found: &FoundRow, key: &DataKey) -> Result<Row, Error> {
    let body = key.open_bytes(BODY, &found.try_get::<String>(5)?);
    let body = body.and_then(|body| String::from_utf8(body).ok()).ok_or_else(|| Error::Row {
        table: "parked_webhook",
        reason: "the body of a webhook cannot be opened".to_owned(),
    })?;
    Ok(Row {
        id: found.try_get(0)?,
        attempts: found.try_get(1)?,
        webhook: Parked {
            provider: found.try_get(2)?,
            notice_id: found.try_get(3)?,
            received_at: Timestamp::from_millis(found.try_get(4)?),
            body,
            reason: found.try_get(6)?,
            next_try_at: Timestamp::from_millis(found.try_get(7)?),
        },
    })
}
