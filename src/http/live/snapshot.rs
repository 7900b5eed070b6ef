//! What subscriptions are shown that the ring cannot show: how everything stands, and what
//! happened longer ago. Both are made once for all that ask for the same.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::filter::{self, Asked};
use super::message::{LiveRow, Topic};
use crate::actors::changes::{self, Bounds, Changed};
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
/// How many times the longest stretch a hub holds at once, over all that are shown.
const HELD_MAX: usize = 4;

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
pub async fn take(shared: &Shared, asked: &Asked) -> Result<Option<Taken>, Error> {
    let (node, store) = (&shared.node, &shared.store);
    let (head, at) = (node.changes.head(), Instant::now());
    let (rows, more, pos) = match asked.0 {
        Topic::Orders | Topic::Sagas => {
            let (mut rows, pos) = store.orders_at(&filter::orders(asked), (NAME, 0)).await?;
            let more = cut(&mut rows, asked.2);
            let shape = |row| OrderSummary::new(row).map(LiveRow::Order);
            (rows.into_iter().map(shape).collect::<Result<_, _>>()?, more, pos)
        }
        Topic::Stock => {
            let found = store.stock_levels_at(&filter::stock(asked), (NAME, 0)).await?;
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

/// The stretches of the journal that are read or shown to somebody still: they are bounded by
/// the events in them, since who is shown one may take long to read it.
#[derive(Default)]
pub struct Stretches(Vec<Stretch>);

struct Stretch {
    from: i64,
    events: i64,
    /// Nothing while it is read.
    held: Option<Weak<[Arc<Changed>]>>,
}

impl Stretches {
    /// Makes room for the stretch from one position to another; whether there is some.
    pub fn begin(&mut self, from: i64, until: i64, events_max: usize) -> bool {
        let held = |one: &Stretch| one.held.as_ref().is_none_or(|held| held.strong_count() > 0);
        self.0.retain(held);
        let events = until.saturating_sub(from).max(1);
        let max = i64::try_from(events_max.saturating_mul(HELD_MAX)).unwrap_or(i64::MAX);
        let all = self.0.iter().fold(events, |all, one| all.saturating_add(one.events));
        let room = all <= max.max(1);
        if room {
            self.0.push(Stretch { from, events, held: None });
        }
        room
    }

    /// Takes note of a stretch that was read, or could not be.
    pub fn end(&mut self, from: i64, past: Option<&Past>) {
        let held = past.and_then(|past| past.changed.as_ref()).map(Arc::downgrade);
        let at = self.0.iter().position(|one| one.from == from && one.held.is_none());
        match (at, held) {
            (Some(at), None) => drop(self.0.swap_remove(at)),
            (Some(at), held) => {
                if let Some(stretch) = self.0.get_mut(at) {
                    stretch.held = held;
                }
            }
            (None, _) => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_bounded_until_nobody_is_shown_them() {
        let mut stretches = Stretches::default();
        let mut pasts = Vec::new();
        for from in 0..4 {
            assert!(stretches.begin(from, from + 100, 100), "{from}");
            let past = Past { changed: Some(Vec::new().into()), at: Instant::now() };
            stretches.end(from, Some(&past));
            pasts.push(past);
        }
        assert!(!stretches.begin(9, 10, 100));
        let shown = pasts[0].changed.clone();
        pasts.clear();
        assert!(stretches.begin(5, 305, 100));
        assert!(!stretches.begin(6, 7, 100), "one is shown, one is read");
        stretches.end(5, None);
        drop(shown);
        assert!(stretches.begin(6, 406, 100));
    }
}
