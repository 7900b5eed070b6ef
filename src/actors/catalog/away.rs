//! Products whose shard another node has: their writes go there, as commands to entities do.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Catalog, Change, Error, Expect};
use crate::actors::engine::host::{Away, Failure};
use crate::domain::entity::Cause;
use crate::domain::product::{self, Product};
use crate::store::product::Row;

/// What products are called between nodes.
pub(in crate::actors) const NOUN: &str = "prod";
/// How long a write is tried.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a single try may take.
const TRY: Duration = Duration::from_secs(3);
/// How long to wait for news of where a shard is.
const PAUSE: Duration = Duration::from_millis(50);

/// A write as it travels.
#[derive(Serialize, Deserialize)]
struct Put {
    product: Product,
    expect: Expect,
    cause: Cause,
}

/// What came of it.
#[derive(Serialize, Deserialize)]
enum Told {
    Done { product: Product, version: i64, change: Change },
    Exists,
    NotFound,
    VersionMismatch { version: i64 },
    TryAgain,
    Storage(String),
    Moved,
}

impl Told {
    fn of(outcome: Result<(Row, Change), Error>) -> Self {
        match outcome {
            Ok((Row { product, version }, change)) => Self::Done { product, version, change },
            Err(Error::Exists) => Self::Exists,
            Err(Error::NotFound) => Self::NotFound,
            Err(Error::VersionMismatch { version }) => Self::VersionMismatch { version },
            Err(Error::TryAgain) => Self::TryAgain,
            Err(Error::Storage(why)) => Self::Storage(why),
            Err(Error::Store(error)) => Self::Storage(error.to_string()),
        }
    }
}

impl Catalog {
    /// Says how products of other nodes are written. Until then there are none.
    pub(in crate::actors) fn set_away(&self, away: Arc<dyn Away>) {
        *self.away.write().unwrap_or_else(PoisonError::into_inner) = Some(away);
    }

    /// Writes a product here or on the node that has its shard.
    pub(super) async fn put_where_it_is(
        &self,
        away: &dyn Away,
        product: Product,
        expect: Expect,
        cause: Cause,
    ) -> Result<(Row, Change), Error> {
        let entity = product::entity_id(&product.sku);
        let put = Put { product, expect, cause };
        let body = serde_json::to_vec(&put).map_err(|error| Error::Storage(error.to_string()))?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.lanes.own(&entity) {
                let Put { product, expect, cause } = put;
                return self.put_here(product, expect, cause).await;
            }
            let (shard, asked) = (entity.shard(self.lanes.shards()), Instant::now());
            let answer = match away.call(shard, NOUN, body.clone(), TRY).await {
                Ok(answer) => serde_json::from_slice(&answer).unwrap_or(Told::TryAgain),
                Err(Failure::Unsendable(why)) => return Err(Error::Storage(why)),
                Err(Failure::Nobody | Failure::Busy) => Told::Moved,
                Err(Failure::Unknown) => return Err(Error::TryAgain),
            };
            match answer {
                Told::Done { product, version, change } => {
                    let row = Row { product, version };
                    self.keep(Arc::new(row.clone()), asked);
                    return Ok((row, change));
                }
                Told::Exists => return Err(Error::Exists),
                Told::NotFound => return Err(Error::NotFound),
                Told::VersionMismatch { version } => {
                    return Err(Error::VersionMismatch { version });
                }
                Told::TryAgain => return Err(Error::TryAgain),
                Told::Storage(why) => return Err(Error::Storage(why)),
                Told::Moved => away.changed(PAUSE).await,
            }
        }
        Err(Error::TryAgain)
    }

    /// Writes what another node asks for.
    pub(in crate::actors) async fn serve(&self, body: &[u8]) -> Vec<u8> {
        let told = match serde_json::from_slice::<Put>(body) {
            Ok(Put { product, .. }) if !self.lanes.own(&product::entity_id(&product.sku)) => {
                Told::Moved
            }
            Ok(Put { product, expect, cause }) => {
                Told::of(self.put_here(product, expect, cause).await)
            }
            Err(error) => {
                tracing::error!(%error, "another node's product cannot be read");
                Told::TryAgain
            }
        };
        serde_json::to_vec(&told).unwrap_or_default()
    }
}
