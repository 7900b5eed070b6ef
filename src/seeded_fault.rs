//! Faults that are put into the code on purpose, to see whether the simulator finds them. A
//! release build has none of them: there [`active`] is never true.
//!
//! Each stands where it would happen, in whichever room that is: so this room uses none, and all
//! may use it. What a hunt for one is, is in `simulate`.

/// A fault, named after what the code does wrong.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    serde::Serialize,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum SeededFault {
    /// An answer goes out before its events are durable.
    ReplyBeforeDurable,
    /// An effect begins before its events are durable.
    EffectBeforeDurable,
    /// A commit of unknown outcome is taken for one that was written.
    UnknownCommitBelieved,
    /// Who could not write its events goes on as if it had.
    StateKeptAfterRefusal,
    /// Idempotency keys are forgotten.
    KeysForgotten,
    /// A snapshot of another version of the state is believed.
    ForeignSnapshotBelieved,
    /// A timer's row goes when its entity leaves memory.
    TimerLostAtPassivation,
    /// The first timer of an entity is never set.
    TimerNeverSet,
    /// Stock is reserved without a look at what is left.
    ReservedUnseen,
    /// A released order can reserve again.
    ReleasedWithoutTombstone,
    /// A later try at the stock is taken for the one before.
    GenerationIgnored,
    /// A hold past its time still counts.
    LapsedHoldCounted,
    /// A hold past its time is still allocated.
    LapsedHoldAllocated,
    /// Goods of one refund come back as often as they are sent.
    GoodsBackTwice,
    /// The last SKU of an order is not released.
    ReleaseForgetsSku,
    /// A cart becomes an order without being spent.
    CartNotSealed,
    /// A cart is spent whatever has happened to it since it was priced.
    CartSealedBlindly,
    /// Another attempt is made while one is unknown.
    SecondAttemptWhileUnknown,
    /// No answer of the provider is taken for a no.
    TimeoutTakenForDecline,
    /// An attempt that the provider has not heard of is given up without being blocked.
    LateCallNotBlocked,
    /// An attempt is taken back before its order has decided so.
    ReversedUndecided,
    /// A call that is repeated gets a key of its own.
    NewKeyAtEachCall,
    /// Another amount than was asked for is as good.
    AmountNotCompared,
    /// A refund has no limit.
    RefundNotCapped,
    /// An order all of whose units were refunded before they were shipped is still to be picked.
    RefundedStaysToPick,
    /// A shipment after an earlier capture is not captured.
    ShipmentNotCaptured,
    /// A payment is requested for an order that costs nothing.
    FreeOrderPaid,
    /// Money that was set aside for a cancelled order stays there.
    VoidForgotten,
    /// A webhook that cannot be taken is answered and not kept.
    WebhookNotKept,
    /// A projection takes what comes, gaps or not.
    CursorSkips,
    /// Who writes to a shard that another node has is not refused.
    FenceNotChecked,
    /// A node serves its shards for longer than it may.
    ZombieReplies,
    /// What the stream has taken is believed to stay there.
    RelayBelieves,
}

#[cfg(debug_assertions)]
thread_local! {
    static SEEDED: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Whether the code of this thread has the fault.
#[cfg(debug_assertions)]
#[must_use]
pub fn active(fault: SeededFault) -> bool {
    active_by_name(fault.into())
}

/// Whether the code of this thread has the fault: never.
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn active(_: SeededFault) -> bool {
    false
}

/// Gives the code of this thread a fault, or takes it away again.
#[cfg(debug_assertions)]
pub fn set_active(fault: Option<SeededFault>) {
    set_active_by_name(fault.map(Into::into));
}

/// Does nothing: a release build has no faults.
#[cfg(not(debug_assertions))]
pub const fn set_active(_: Option<SeededFault>) {}

/// Whether the code of this thread has a fault that is not of this crate.
#[cfg(debug_assertions)]
#[must_use]
pub fn active_by_name(fault: &str) -> bool {
    SEEDED.get() == Some(fault)
}

/// Whether the code of this thread has a fault that is not of this crate: never.
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn active_by_name(_: &str) -> bool {
    false
}

/// Gives the code of this thread a fault that is not of this crate, or takes it away again.
#[cfg(debug_assertions)]
pub fn set_active_by_name(fault: Option<&'static str>) {
    SEEDED.set(fault);
}

/// Does nothing: a release build has no faults.
#[cfg(not(debug_assertions))]
pub const fn set_active_by_name(_: Option<&'static str>) {}

/// Whether this build can have faults.
#[must_use]
pub const fn possible() -> bool {
    cfg!(debug_assertions)
}
