//! What subscriptions are shown that the ring cannot show: how everything stands, and what
//! happened longer ago. Both are made once for all that ask for the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::filter::{self, Asked};
use super::message::{LiveRow, Topic};
use crate::actors::changes::{self, Bounds, Changed};
use crate::actors::node::Node;
use crate::actors::projections::NAME;
use crate::http::error::Error;
use crate::http::order_shape::OrderSummary;
use crate::http::query::cut;
use crate::http::server::Shared;
use crate::http::stock::level_row;

/// For how long a snapshot is shown to those who ask for the same.
const FRESH: Duration = Duration::from_millis(200);
/// For how long a stretch of the journal is kept for those who come back to the same place.
const KEPT: Duration = Duration::from_secs(2);
/// How many stretches of the journal a hub reads at once.
pub const READS_MAX: usize = 2;

/// How everything stood at a position.
pub struct Taken {
    /// Rows.
    pub rows: Vec<LiveRow>,
    /// Whether there are more.
    pub more: bool,
    /// The position.
    pub pos: i64,
    at: Instant,
}

impl Taken {
    /// Whether it may be shown still.
    #[must_use]
    pub fn fresh(&self) -> bool {
        self.at.elapsed() < FRESH
    }
}

/// Takes a snapshot; nothing while rows are made again, since they show earlier states then.
///
/// # Errors
/// The store's.
pub async fn take(node: &Node, asked: &Asked) -> Result<Option<Taken>, Error> {
    let (head, at) = (node.changes.head(), Instant::now());
    let (rows, more, pos) = match asked.0 {
        Topic::Orders | Topic::Sagas => {
            let (mut rows, pos) = node.store.orders_at(&filter::orders(asked), (NAME, 0)).await?;
            let more = cut(&mut rows, asked.2);
            let shape = |row| OrderSummary::new(row).map(LiveRow::Order);
            (rows.into_iter().map(shape).collect::<Result<_, _>>()?, more, pos)
        }
        Topic::Stock => {
            let found = node.store.stock_levels_at(&filter::stock(asked), (NAME, 0)).await?;
            let (mut rows, pos) = found;
            let more = cut(&mut rows, asked.2);
            (rows.into_iter().map(|row| LiveRow::Stock(level_row(row))).collect(), more, pos)
        }
        Topic::Cluster | Topic::Stats => (Vec::new(), false, head),
    };
    Ok((pos >= head).then_some(Taken { rows, more, pos, at }))
}

/// What happened longer ago.
pub struct Past {
    /// It, oldest first; nothing if that would be too much, or is not of this store.
    pub changed: Option<Arc<[Arc<Changed>]>>,
    at: Instant,
}

impl Past {
    /// Whether it is kept still.
    #[must_use]
    pub fn fresh(&self) -> bool {
        self.at.elapsed() < KEPT
    }
}

/// Reads what happened behind `from` up to `until`.
///
/// # Errors
/// The journal's.
pub async fn past(shared: &Shared, from: i64, until: i64) -> Result<Past, Error> {
    let journal = shared.node.store.journal();
    let options = &shared.options.live;
    let (events, entities) = (options.resume_events_max, options.resume_entities_max);
    let changed = if from > until {
        // Rows that are made again come there; what the journal does not have never will.
        (from <= journal.last_pos(0).await?).then(Vec::new)
    } else {
        changes::read(journal.as_ref(), (0, from, until), Bounds { events, entities }).await?
    };
    Ok(Past { changed: changed.map(Into::into), at: Instant::now() })
}
