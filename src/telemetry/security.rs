//! Security events: who came in, who was refused, and what was done to keys, sessions and whole stores.
//! Each is one line of the log, at level `info` and with the target `security`, and has no secret.

/// The target of these lines, for `log.filter`.
pub const TARGET: &str = "security";

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
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
        let event: &str = self.into();
        tracing::info!(target: TARGET, event, who, from, about, "security event");
    }
}
