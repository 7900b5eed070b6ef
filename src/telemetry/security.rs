//! Security events: who came in, who was refused, and what was done to keys, sessions and whole stores.
//! Each is one line of the log, at level `info` and with the target `security`, and has no secret. What
//! strangers can cause without end is bounded there (`flood`), and counted whole in the metrics.

use std::sync::atomic::AtomicU64;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::flood::Flood;

/// The target of these lines, for `log.filter`.
pub const TARGET: &str = "security";

/// How often the log says how many events it lacks.
const PERIOD: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEvent {
    event: &'static str,
}

/// The events of this process since its start.
static COUNTS: LazyLock<Family<OfEvent, Counter<u64, AtomicU64>>> = LazyLock::new(Family::default);
/// The events of strangers in this period.
static FLOOD: LazyLock<Mutex<Flood<SecurityEvent>>> = LazyLock::new(Mutex::default);

/// Adds the number of events to a registry.
pub fn register(to: &mut Registry) {
    to.register("security_events", "Security events since the start, by event", COUNTS.clone());
}

/// Logs every minute how many events the log lacks, until stopped.
pub async fn summarize(stop: CancellationToken) {
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => log_summary(),
        }
    }
}

/// Logs how many events the log lacks since the last summary, of each kind and from where.
pub fn log_summary() {
    for more in FLOOD.lock().unwrap_or_else(PoisonError::into_inner).end() {
        let event: &str = more.kind.into();
        let from = more.from.as_deref().unwrap_or("other addresses");
        let about = format!("{} more, not logged one by one", more.count);
        let count = more.count;
        tracing::info!(target: TARGET, event, who = "several", from, about, count, "security events");
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum SecurityEvent {
    /// A session began.
    SignedIn,
    /// A link or key for signing in was wrong.
    SignInRefused,
    /// A sign-in was refused unseen, after too many wrong ones.
    LockedOut,
    /// A person ended their session.
    SignedOut,
    /// Sessions were ended by somebody else.
    SessionsEnded,
    /// A sign-in link was made.
    LinkCreated,
    /// An API key was made.
    KeyCreated,
    /// An API key was revoked.
    KeyRevoked,
    /// The keys that a store keeps for itself were replaced.
    StoreKeysRotated,
    /// A key, a token or a ticket was wrong.
    CredentialRefused,
    /// A caller lacks a scope.
    ScopeRefused,
    /// A page of another origin made a request with a session.
    OriginRefused,
    /// A webhook was not signed by its provider.
    WebhookForged,
    /// A call was not signed by a node of the cluster.
    NodeCallForged,
    /// An answer to a call was not signed by the node that was called.
    NodeAnswerForged,
    /// A notice to all nodes was not signed by a node of the cluster, or not now.
    NoticeForged,
    /// A client of the internal address had no certificate of the cluster's authority.
    NodeConnectionRefused,
    /// An order got a new token.
    OrderTokenIssued,
    /// The data of a person were erased.
    PersonErased,
    /// Erasures were added to a store, which was put back to an earlier state.
    ErasuresAdded,
    /// A store was copied into a backup.
    BackupMade,
    /// A backup became a store.
    StoreRestored,
    /// A store was moved.
    StoreMoved,
    /// A store got a new history, so that nothing continues with the one before.
    HistoryRenewed,
    /// A shard does not contain an event whose digest was signed.
    HistoryChanged,
    /// Products were imported from a file.
    ImportStarted,
}

impl SecurityEvent {
    /// Logs it. `who` names a key, a session or a user by its id, `from` is the address of the caller,
    /// and `about` says more. None of them may have a secret.
    pub fn log(self, who: &str, from: &str, about: &str) {
        let event: &'static str = self.into();
        COUNTS.get_or_create(&OfEvent { event }).inc();
        if self.is_of_strangers()
            && !FLOOD.lock().unwrap_or_else(PoisonError::into_inner).admits(self, from)
        {
            return;
        }
        tracing::info!(target: TARGET, event, who, from, about, "security event");
    }

    /// Whether somebody can cause it again and again who was let in nowhere.
    const fn is_of_strangers(self) -> bool {
        matches!(
            self,
            Self::SignInRefused
                | Self::LockedOut
                | Self::CredentialRefused
                | Self::ScopeRefused
                | Self::OriginRefused
                | Self::WebhookForged
                | Self::NodeCallForged
                | Self::NodeAnswerForged
                | Self::NoticeForged
                | Self::NodeConnectionRefused
        )
    }
}
