//! Writes of rows whose shard another node owns: they are sent to that node, as commands to
//! entities are.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Error, Expect, RowHost, WriteOutcome};
use crate::actors::engine::host::{RemoteEntities, RemoteFailure};
use crate::domain::entity::Cause;
use crate::domain::time::Timestamp;
use crate::store::versioned::{Row, VersionedRow};

/// Time limit of a write, over all attempts.
const PATIENCE: Duration = Duration::from_secs(10);
/// Timeout of one attempt.
const TRY: Duration = Duration::from_secs(3);
/// The longest wait for a new owner of a shard.
const PAUSE: Duration = Duration::from_millis(50);

/// A write as it is sent. The field of the value is called `product` for every kind of row, because
/// products were the first kind, and nodes of consecutive releases work together.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
struct Put<T: VersionedRow> {
    #[serde(rename = "product")]
    value: T,
    expect: Expect,
    cause: Cause,
}

/// The answer.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
enum Outcome<T: VersionedRow> {
    Done {
        #[serde(rename = "product")]
        value: T,
        version: i64,
        /// Absent in the answer of a node of an earlier version.
        #[serde(default)]
        updated_at: Timestamp,
        change: WriteOutcome,
    },
    Exists,
    NotFound,
    VersionMismatch {
        version: i64,
    },
    TryAgain,
    Refused(String),
    Storage(String),
    Moved,
}

impl<T: VersionedRow> Outcome<T> {
    fn of(outcome: Result<(Row<T>, WriteOutcome), Error>) -> Self {
        match outcome {
            Ok((Row { value, version, updated_at }, change)) => {
                Self::Done { value, version, updated_at, change }
            }
            Err(Error::Exists) => Self::Exists,
            Err(Error::NotFound) => Self::NotFound,
            Err(Error::VersionMismatch { version }) => Self::VersionMismatch { version },
            Err(Error::TryAgain) => Self::TryAgain,
            Err(Error::Refused(why)) => Self::Refused(why),
            Err(Error::Storage(why)) => Self::Storage(why),
            Err(Error::Store(error)) => Self::Storage(error.to_string()),
        }
    }
}

impl<T: VersionedRow> RowHost<T> {
    /// Writes a row here, or on the node that owns its shard.
    pub(super) async fn put_where_it_is(
        &self,
        remote: &dyn RemoteEntities,
        value: T,
        expect: Expect,
        cause: Cause,
    ) -> Result<(Row<T>, WriteOutcome), Error> {
        let entity = T::entity_id(value.key());
        let put = Put { value, expect, cause };
        let body = serde_json::to_vec(&put).map_err(|error| Error::Storage(error.to_string()))?;
        let deadline = Instant::now() + PATIENCE;
        // An attempt without an answer may have written the row: what the next one finds is then no
        // proof of another writer. The same values are not written twice.
        let mut maybe_written = false;
        while Instant::now() < deadline {
            if self.base.lanes.own(&entity) {
                let Put { value, expect, cause } = put;
                return self.put_here(value, expect, cause).await;
            }
            let (shard, asked) = (entity.shard(self.base.lanes.shards()), Instant::now());
            let answer = match remote.call(shard, T::PREFIX, body.clone(), TRY).await {
                Ok(answer) => serde_json::from_slice(&answer).unwrap_or(Outcome::TryAgain),
                Err(RemoteFailure::Unsendable(why)) => return Err(Error::Storage(why)),
                Err(RemoteFailure::Nobody | RemoteFailure::Busy) => Outcome::Moved,
                Err(RemoteFailure::Unknown) => {
                    maybe_written = true;
                    Outcome::Moved
                }
            };
            match answer {
                Outcome::Done { value, version, updated_at, change } => {
                    let row = Row { value, version, updated_at };
                    self.keep(Arc::new(row.clone()), asked);
                    return Ok((row, change));
                }
                Outcome::Exists | Outcome::VersionMismatch { .. } if maybe_written => {
                    return Err(Error::TryAgain);
                }
                Outcome::Exists => return Err(Error::Exists),
                Outcome::NotFound => return Err(Error::NotFound),
                Outcome::VersionMismatch { version } => {
                    return Err(Error::VersionMismatch { version });
                }
                Outcome::TryAgain => return Err(Error::TryAgain),
                Outcome::Refused(why) => return Err(Error::Refused(why)),
                Outcome::Storage(why) => return Err(Error::Storage(why)),
                Outcome::Moved => remote.changed(PAUSE).await,
            }
        }
        Err(Error::TryAgain)
    }

    /// Performs a write for another node.
    pub(super) async fn answer(&self, body: &[u8]) -> Vec<u8> {
        let outcome = match serde_json::from_slice::<Put<T>>(body) {
            Ok(Put { value, .. }) if !self.base.lanes.own(&T::entity_id(value.key())) => {
                Outcome::Moved
            }
            Ok(Put { value, expect, cause }) => {
                Outcome::of(self.put_here(value, expect, cause).await)
            }
            Err(error) => {
                tracing::error!(%error, "cannot decode a row of another node");
                Outcome::TryAgain
            }
        };
        serde_json::to_vec(&outcome).unwrap_or_default()
    }
}
