//! Commands to and from other nodes: requests and answers as JSON. [`RemoteEntities`] hides the
//! transport and the shards' owners.
//!
//! A command without an idempotency key of its caller gets a generated one, unless its principal is
//! one whose commands may be repeated without harm. So when its answer is lost, it can be sent
//! again with the same key, to the shard's owner at that time.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::message::{Until, View};
use super::{Asked, Error, Host};
use crate::actors::engine::clock::Clock;
use crate::domain::entity::{Asker, Cause, EntityId, Idempotency, Noun};

/// What the caller wants in the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Want {
    /// Nothing, only that the command was carried out.
    Nothing,
    /// The one number that other entities need, such as the sellable units
    /// (`Noun::summary_number`).
    #[serde(rename = "Figure")]
    SummaryNumber,
    /// The state, or the excerpt of it that the noun sends to other nodes (`Noun::excerpt`).
    State,
    /// The part of the state that is about another entity.
    About(String),
}

/// Why another node gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteFailure {
    /// No node owns the shard at the moment: nothing was done.
    #[error("the shard has no owner at the moment")]
    Nobody,
    /// The other node is overloaded: nothing was done.
    #[error("the other node is overloaded")]
    Busy,
    /// The command cannot be sent: nothing was done.
    #[error("{0}")]
    Unsendable(String),
    /// The other node was asked and did not answer: it may have carried out the command.
    #[error("the other node did not answer")]
    Unknown,
}

/// Reaches the entities of other nodes.
#[async_trait]
pub trait RemoteEntities: Send + Sync + 'static {
    /// Sends a request about a noun to the owner of a shard, and waits for the answer, at most
    /// `patience`.
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

/// A request for an entity on another node, to be sent.
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

/// The same request, received.
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

/// The answer for an entity on another node.
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

/// Timeout of one attempt to reach an owner.
const TRY: Duration = Duration::from_secs(3);
/// The longest wait on behalf of another node per request: this node does not notice when the
/// caller on the other node has disconnected.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// The beginnings of the principals (`Cause::by`) whose commands may be repeated without harm.
const REPEATABLE: [&str; 3] = ["saga", "timer", "provider"];

impl<N: Noun> Asked<N> {
    /// Gives a command without an idempotency key a generated one, so that a repetition is
    /// recognized.
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
    /// Sends a command or a read to an entity on another node.
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
            want: asked.want.clone(),
            wait: asked.wait,
            patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        };
        let body = serde_json::to_vec(&sent).map_err(|_| Error::TryAgain)?;
        let shard = entity.shard(self.shared.journal.shards());
        // An owner that does not answer may have lost the shard: a short timeout lets the owner be
        // looked up again soon.
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

    /// Serves a request of another node for an entity of this node, and returns the answer as JSON.
    /// If the request is to wait for a state, `may_wait` says whether one more waiter is allowed.
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
        if let Some((command, cause)) = &command {
            let allowed = cause.issuer().is_some_and(|issuer| N::may_issue(issuer, command));
            if !allowed {
                let command = N::command_name(command);
                tracing::error!(
                    noun = N::PREFIX,
                    command,
                    by = cause.by,
                    "another node sends a \
                                 command that this principal may not issue: it is refused"
                );
                return Err(Error::Storage("the principal may not issue the command".into()));
            }
        }
        if wait.is_some() && !may_wait() {
            return Err(Error::Busy);
        }
        let wants_state = matches!(want, Want::State | Want::About(_));
        let wants_number = matches!(want, Want::State | Want::SummaryNumber);
        let excerpt = N::excerpt(match (&want, &command) {
            (Want::About(other), _) => Asker::About(EntityId::new(other)),
            (_, Some((command, _))) => Asker::Command(command),
            (_, None) => Asker::Anyone,
        });
        let read = move |view: View<'_, N>| EntityAnswer {
            state: wants_state.then(|| excerpt(view.state, clock.now())),
            summary_number: wants_number.then(|| view.state.summary_number(clock.now())),
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
