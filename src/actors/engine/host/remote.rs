//! Commands to and from other nodes: what is asked and answered as JSON. How the bytes travel, and
//! who owns which shard, is behind [`RemoteEntities`].
//!
//! A command that changes something and has no idempotency key of its caller's, nor a noun that
//! knows it again, gets one for its way: it can then be sent again under the same name, to whoever
//! owns the shard by then, when its answer is lost.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::message::{Until, View};
use super::{Asked, Error, Host};
use crate::actors::engine::clock::Clock;
use crate::domain::entity::{Cause, EntityId, Idempotency, Noun};

/// What a caller wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Want {
    /// That it was carried out.
    Nothing,
    /// The noun's summary number.
    #[serde(rename = "Figure")]
    SummaryNumber,
    /// All of it.
    State,
}

/// Why another node gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteFailure {
    /// There is none to ask at this moment: nothing was done.
    #[error("the shard has no owner at the moment")]
    Nobody,
    /// It has too much to do: nothing was done.
    #[error("the other node is overloaded")]
    Busy,
    /// It cannot be sent: nothing was done.
    #[error("{0}")]
    Unsendable(String),
    /// It was asked and did not answer: it may have been done.
    #[error("the other node did not answer")]
    Unknown,
}

/// The way to the entities of other nodes.
#[async_trait]
pub trait RemoteEntities: Send + Sync + 'static {
    /// Asks the owner of a shard something about a noun, and waits at most `patience`.
    async fn call(
        &self,
        shard: u16,
        noun: &'static str,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<Bytes, RemoteFailure>;

    /// Waits until a shard may have another owner, at most `patience`.
    async fn changed(&self, patience: Duration);
}

/// What is asked of an entity on another node.
#[derive(Serialize)]
#[serde(bound = "")]
struct Sent<'a, N: Noun> {
    entity: &'a EntityId,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a (N::Command, Cause)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_seq: Option<i64>,
    fresh: bool,
    want: Want,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<Until>,
    patience_ms: u64,
}

/// The same as it arrives.
#[derive(Deserialize)]
#[serde(bound = "")]
struct Received<N: Noun> {
    entity: String,
    command: Option<(N::Command, Cause)>,
    if_seq: Option<i64>,
    fresh: bool,
    want: Want,
    wait: Option<Until>,
    patience_ms: u64,
}

/// What an entity on another node answers.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
struct EntityAnswer<N: Noun> {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<N>,
    #[serde(rename = "figure", skip_serializing_if = "Option::is_none")]
    summary_number: Option<i64>,
    seq: i64,
    replayed: bool,
    stale: bool,
}

type Answer<N> = Result<EntityAnswer<N>, Error<<N as Noun>::Rejection>>;

/// How long a single try to reach an owner may take.
const TRY: Duration = Duration::from_secs(3);
/// How long another node waits for somebody at a time: it does not hear that they are gone.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// Whose commands lead to nothing when they come twice.
const REPEATABLE: [&str; 3] = ["saga", "timer", "provider"];

impl<N: Noun> Asked<N> {
    /// Gives a command a name that it is known by when it comes twice, if it has none.
    pub(super) fn name(&mut self, clock: &Clock) {
        if let Some((_, cause)) = &mut self.command
            && cause.idempotency.is_none()
            && !REPEATABLE.iter().any(|by| cause.by.starts_with(by))
        {
            let key = format!("call:{}", clock.new_key());
            cause.idempotency = Some(Idempotency { key, digest: 0 });
        }
    }
}

impl<N: Noun> Host<N> {
    /// Asks an entity on another node.
    pub(super) async fn ask_remote<T>(
        &self,
        remote: &dyn RemoteEntities,
        entity: &EntityId,
        asked: &Asked<N>,
        patience: Duration,
        read: impl FnOnce(View<'_, N>) -> T,
    ) -> Result<T, Error<N::Rejection>> {
        let sent = Sent::<N> {
            entity,
            command: asked.command.as_ref(),
            if_seq: asked.if_seq,
            fresh: asked.fresh,
            want: asked.want,
            wait: asked.wait,
            patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        };
        let body = serde_json::to_vec(&sent).map_err(|_| Error::TryAgain)?;
        let shard = entity.shard(self.shared.journal.shards());
        // An owner that does not answer may be one no longer: it is soon asked again who that is.
        let patience = if asked.wait.is_some() { patience + TRY } else { patience.min(TRY) };
        let answer = match remote.call(shard, N::PREFIX, body, patience).await {
            Ok(answer) => answer,
            Err(RemoteFailure::Busy) => return Err(Error::Busy),
            Err(RemoteFailure::Unsendable(why)) => return Err(Error::Storage(why)),
            Err(RemoteFailure::Nobody) => return Err(Error::Moved),
            Err(RemoteFailure::Unknown) => return Err(Error::TryAgain),
        };
        match serde_json::from_slice::<Answer<N>>(&answer) {
            Ok(Ok(answer)) => {
                let EntityAnswer { state, summary_number, seq, replayed, stale } = answer;
                let state = state.unwrap_or_default();
                Ok(read(View { state: &state, seq, replayed, stale, summary_number }))
            }
            Ok(Err(error)) => Err(error),
            Err(error) => {
                tracing::error!(%error, "cannot decode the answer of another node");
                Err(Error::TryAgain)
            }
        }
    }

    /// Does what another node asks of an entity that lives here, and answers as it reads it. Where
    /// that is to wait, `may_wait` says whether one more can.
    pub async fn serve(&self, body: &[u8], may_wait: impl FnOnce() -> bool) -> Vec<u8> {
        let answer: Answer<N> = match serde_json::from_slice::<Received<N>>(body) {
            Ok(received) => self.answer(received, may_wait).await,
            Err(error) => {
                tracing::error!(%error, noun = N::PREFIX, "cannot decode the command of another \
                                                           node");
                Err(Error::TryAgain)
            }
        };
        serde_json::to_vec(&answer).unwrap_or_default()
    }

    async fn answer(&self, received: Received<N>, may_wait: impl FnOnce() -> bool) -> Answer<N> {
        let Received { entity, command, if_seq, fresh, want, wait, patience_ms } = received;
        let (entity, clock) = (EntityId::new(&entity), self.shared.clock.clone());
        if !self.has(&entity) {
            return Err(Error::Moved);
        }
        if wait.is_some() && !may_wait() {
            return Err(Error::Busy);
        }
        let excerpt = N::excerpt(command.as_ref().map(|(command, _)| command));
        let read = move |view: View<'_, N>| EntityAnswer {
            state: (want == Want::State).then(|| excerpt(view.state, clock.now())),
            summary_number: (want != Want::Nothing).then(|| view.state.summary_number(clock.now())),
            seq: view.seq,
            replayed: view.replayed,
            stale: view.stale,
        };
        match wait {
            Some(until) => {
                let patience = Duration::from_millis(patience_ms);
                self.wait_here(&entity, patience, until, read).await
            }
            None => {
                let asked = Asked { command, if_seq, fresh, want, wait };
                self.send_here(&entity, asked, read).await
            }
        }
    }
}
