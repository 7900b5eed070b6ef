//! The fold of an entity's events, from the first one or from a snapshot, up to an event or to a
//! position of its shard. Projections, the live feed and `verify` use it; the host, which also
//! remembers idempotency keys, has a fold of its own.

use crate::actors::engine::host::{decode, kept};
use crate::domain::entity::{EntityId, Noun, Record};
use crate::domain::time::Timestamp;
use crate::store::journal::{Journal, ReadError, StateSnapshot};

/// Events that are read at once.
const PAGE: u32 = 500;

/// A state that is folded from the events of one entity: the state of a noun, or `()` for a
/// projection that needs only the events.
pub trait Fold: Default + Clone + Send + Sync + 'static {
    /// A decoded event.
    type Event: Send + Sync;
    /// Whether the state is empty, so that no history has to be read.
    const STATELESS: bool = false;
    /// Whether each event contains the whole state, so that no history has to be read.
    const WHOLE_EVENTS: bool = false;

    /// Decodes an event.
    ///
    /// # Errors
    /// When its data does not match its kind and version.
    fn read(record: &Record) -> Result<Self::Event, serde_json::Error>;

    /// Folds an event that was decided at this time.
    fn fold(&mut self, event: &Self::Event, at: Timestamp);

    /// The state in a snapshot; `None` if the snapshot belongs to another state version.
    fn of_snapshot(_snapshot: &StateSnapshot) -> Option<Self> {
        None
    }
}

impl<N: Noun> Fold for N {
    type Event = N::Event;

    fn read(record: &Record) -> Result<N::Event, serde_json::Error> {
        decode(record)
    }

    fn fold(&mut self, event: &N::Event, at: Timestamp) {
        self.evolve(event, at);
    }

    fn of_snapshot(snapshot: &StateSnapshot) -> Option<Self> {
        kept(snapshot)
    }
}

impl Fold for () {
    type Event = ();
    const STATELESS: bool = true;

    fn read(_: &Record) -> Result<(), serde_json::Error> {
        Ok(())
    }

    fn fold(&mut self, (): &(), _: Timestamp) {}
}

/// A state and the position of its last event.
#[derive(Clone, Debug, Default)]
pub struct Folded<S> {
    /// The state.
    pub state: S,
    /// The seq of its last event, 0 before the first.
    pub seq: i64,
    /// The position of that event in its shard; 0 if it is unknown, as after a snapshot.
    pub pos: i64,
    /// When that event was decided.
    pub at: Timestamp,
}

impl<S: Fold> Folded<S> {
    /// Decodes the next event.
    ///
    /// # Errors
    /// Why it cannot be folded: it is not the next one, or not decodable.
    pub fn read(&self, record: &Record) -> Result<S::Event, String> {
        if record.seq != self.seq + 1 {
            return Err(format!("event {} follows event {}", record.seq, self.seq));
        }
        S::read(record).map_err(|why| format!("event {} ({}): {why}", record.seq, record.kind))
    }

    /// Folds the event that [`Folded::read`] returned for this record.
    pub fn fold(&mut self, record: &Record, event: &S::Event) {
        self.state.fold(event, record.at);
        (self.seq, self.pos, self.at) = (record.seq, record.pos, record.at);
    }
}

/// The end of a fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upto {
    /// The event with this seq.
    Seq(i64),
    /// The last event that is not after this position of its shard.
    Pos(i64),
}

/// Folds an entity's events from the first one up to `upto`, without a snapshot. If an event cannot
/// be folded, the inner error names it.
///
/// # Errors
/// [`ReadError`] of the journal.
pub async fn replay<S: Fold>(
    journal: &dyn Journal,
    entity: &EntityId,
    upto: Upto,
) -> Result<Result<Folded<S>, String>, ReadError> {
    let mut folded = Folded::default();
    let read = read_on(journal, entity, &mut folded, upto).await?;
    Ok(read.map(|()| folded))
}

/// Folds an entity's events up to the event `seq`. If there are more than 500 and the entity has a
/// snapshot that is not later than `seq`, the fold starts there. If an event cannot be folded, the
/// inner error names it.
///
/// # Errors
/// [`ReadError`] of the journal.
pub async fn load<S: Fold>(
    journal: &dyn Journal,
    entity: &EntityId,
    seq: i64,
) -> Result<Result<Folded<S>, String>, ReadError> {
    let mut left = i64::MAX;
    let loaded = load_within(journal, entity, seq, &mut left).await?;
    Ok(loaded.unwrap_or_else(|| Err("it is too long".to_owned())))
}

/// Folds as [`load`] does, if that reads at most `left` events, and subtracts their number from
/// `left`; `None` if more would have to be read.
///
/// # Errors
/// [`ReadError`] of the journal.
pub async fn load_within<S: Fold>(
    journal: &dyn Journal,
    entity: &EntityId,
    seq: i64,
    left: &mut i64,
) -> Result<Option<Result<Folded<S>, String>>, ReadError> {
    let mut folded = Folded::default();
    if seq > i64::from(PAGE)
        && let Some(snapshot) = journal.snapshot(entity).await?
        && snapshot.seq <= seq
        && let Some(state) = S::of_snapshot(&snapshot)
    {
        (folded.state, folded.seq) = (state, snapshot.seq);
    }
    if seq - folded.seq > *left {
        return Ok(None);
    }
    *left -= seq - folded.seq;
    let read = read_on(journal, entity, &mut folded, Upto::Seq(seq)).await?;
    Ok(Some(read.map(|()| folded)))
}

/// Folds the events after `folded.seq`, up to `upto`.
async fn read_on<S: Fold>(
    journal: &dyn Journal,
    entity: &EntityId,
    folded: &mut Folded<S>,
    upto: Upto,
) -> Result<Result<(), String>, ReadError> {
    let after = folded.seq;
    let fold = |record: &Record| {
        let event = folded.read(record)?;
        folded.fold(record, &event);
        Ok(())
    };
    each(journal, entity, after, upto, fold).await
}

/// Passes an entity's events after the seq `after`, up to `upto`, to `take`, in order. An error of
/// `take` ends this and is returned as the inner error.
///
/// # Errors
/// [`ReadError`] of the journal.
pub async fn each(
    journal: &dyn Journal,
    entity: &EntityId,
    mut after: i64,
    upto: Upto,
    mut take: impl FnMut(&Record) -> Result<(), String> + Send,
) -> Result<Result<(), String>, ReadError> {
    loop {
        let limit = match upto {
            Upto::Seq(seq) => u32::try_from(seq - after).unwrap_or(PAGE).min(PAGE),
            Upto::Pos(_) => PAGE,
        };
        if limit == 0 {
            return Ok(Ok(()));
        }
        let page = journal.read_entity(entity, after, limit).await?;
        for record in &page {
            if matches!(upto, Upto::Pos(pos) if record.pos > pos) {
                return Ok(Ok(()));
            }
            if let Err(why) = take(record) {
                return Ok(Err(why));
            }
            after = record.seq;
        }
        if page.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            return Ok(Ok(()));
        }
    }
}
