//! Positions of the journal at a time, for clients that start from a time and not from a token.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use std::sync::Arc;

use crate::domain::time::{Span, Timestamp};
use crate::store::journal::{Journal, ReadError};

/// The times of the events of a shard are in order except for a moment: nodes have clocks of their
/// own, and an event is decided before it is written. So a client gets the changes since this long
/// before the time that it names.
const MARGIN: Span = Span::from_secs(60);
/// Shards that are searched at once.
const SHARDS_AT_ONCE: usize = 8;

/// How far ahead of this server's clock a time may be: clocks differ.
const AHEAD_MAX: Span = Span::from_secs(300);

/// Checks that a client can start from a time: it is past, apart from the difference of clocks.
///
/// # Errors
/// The rule that it breaks.
pub(super) fn check_time(at: Timestamp, now: Timestamp) -> Result<(), String> {
    if at <= now + AHEAD_MAX {
        return Ok(());
    }
    Err(format!("must not be in the future: the server's time is {now}"))
}

/// The positions of a client that has received everything up to a time, or a minute less. Each shard
/// is searched by halves, which reads about 20 events.
///
/// # Errors
/// [`ReadError`] of the journal.
pub(super) async fn seen_at(journal: &dyn Journal, at: Timestamp) -> Result<Arc<[i64]>, ReadError> {
    let since = Timestamp::from_millis(at.millis().saturating_sub(MARGIN.millis()));
    let searches = (0..journal.shards()).map(|shard| position_at(journal, shard, since));
    let found: Vec<i64> = stream::iter(searches).buffered(SHARDS_AT_ONCE).try_collect().await?;
    Ok(found.into())
}

/// The position of the last event of a shard before a time, 0 if there is none.
async fn position_at(
    journal: &dyn Journal,
    shard: u16,
    since: Timestamp,
) -> Result<i64, ReadError> {
    let (mut from, mut upto) = (0, journal.last_pos(shard).await?);
    while from < upto {
        let middle = from + (upto - from + 1) / 2;
        let found = journal.read_shard(shard, middle - 1, 1).await?;
        if found.first().is_some_and(|record| record.at < since) {
            from = middle;
        } else {
            upto = middle - 1;
        }
    }
    Ok(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::entity::EntityId;
    use crate::store::journal::memory::MemoryJournal;
    use crate::store::journal::{Append, NewEvent};

    #[tokio::test]
    async fn a_time_is_found_among_events() {
        let journal = MemoryJournal::new(1);
        let fences = journal.claim(&[0], "test", Span::from_secs(60)).await.unwrap();
        for minute in 1..=20 {
            let append = Append {
                entity: EntityId::new("ord_1"),
                after_seq: minute - 1,
                events: vec![NewEvent { kind: "happened", version: 1, data: "{}".into() }],
                at: Timestamp::from_millis(minute * 60_000),
                cause: "{}".into(),
                timer: None,
                rows: Vec::new(),
            };
            journal.append(&fences, &[append]).await.unwrap();
        }
        for (minute, expected) in [(0, 0), (1, 0), (2, 0), (3, 1), (10, 8), (21, 19), (99, 20)] {
            let at = Timestamp::from_millis(minute * 60_000);
            let seen = seen_at(&journal, at).await.unwrap();
            assert_eq!(*seen, [expected], "{minute}");
        }
    }
}
