//! Deliberate bugs (seeded faults): tests switch one on to check that the simulator finds it. A
//! release build contains none of them: there, [`active`] is never true.
//!
//! The code of a fault is where the bug would occur, in any module. So every module may use this
//! one, and this one uses no other. The search for faults is in `simulate`.

/// A seeded fault, named after what the code then does wrong.
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
    /// A command is answered before its events are durable.
    ReplyBeforeDurable,
    /// An effect begins before its events are durable.
    EffectBeforeDurable,
    /// A commit whose outcome is unknown is treated as successful.
    UnknownCommitBelieved,
    /// An entity whose events could not be written continues as if they were durable.
    StateKeptAfterRefusal,
    /// Idempotency keys are forgotten.
    KeysForgotten,
    /// A snapshot in another version of the state's format is used.
    ForeignSnapshotBelieved,
    /// The row of an entity's timer is deleted when the entity is passivated.
    TimerLostAtPassivation,
    /// The first timer of an entity is never set.
    TimerNeverSet,
    /// Stock is reserved without checking the sellable quantity.
    ReservedUnseen,
    /// Stock that was released for an order can be reserved again by a late command.
    ReleasedWithoutTombstone,
    /// A reservation with a later generation is treated as a repetition of an earlier one.
    GenerationIgnored,
    /// An expired hold still counts as reserved.
    LapsedHoldCounted,
    /// An expired hold is still turned into an allocation.
    LapsedHoldAllocated,
    /// A repeated command returns the goods of one refund to stock again.
    GoodsBackTwice,
    /// The last SKU of an order is not released.
    ReleaseForgetsSku,
    /// A cart becomes an order without being marked as spent.
    CartNotSealed,
    /// A cart is spent even if it has changed since it was priced.
    CartSealedBlindly,
    /// An order stays open beside the new cart in its place.
    OrderKeptBesideNewCart,
    /// After a declined payment, the units stay held from other buyers.
    HoldKeptAfterDecline,
    /// Another payment attempt is made while the outcome of one is unknown.
    SecondAttemptWhileUnknown,
    /// A provider's missing answer is treated as a decline.
    TimeoutTakenForDecline,
    /// An attempt that the provider does not know is given up without blocking its reference.
    LateCallNotBlocked,
    /// An attempt is reversed at the provider before its order has decided to give it up.
    ReversedUndecided,
    /// Each repetition of a call to the provider gets a new idempotency key.
    NewKeyAtEachCall,
    /// An authorization of another amount than requested is accepted.
    AmountNotCompared,
    /// An authorization in another currency than requested is accepted.
    ForeignMoneyBelieved,
    /// Money that was moved elsewhere is recorded again with each report on it.
    ElsewhereTwice,
    /// A refund may be larger than the captured amount.
    RefundNotCapped,
    /// A refund of shipped units takes units back that were not shipped.
    RefundFromIgnored,
    /// An order whose units were all refunded before shipment is still listed as to be picked.
    RefundedStaysToPick,
    /// Under the policy `at_dispatch`, a shipment is not captured if there was an earlier capture.
    ShipmentNotCaptured,
    /// Under the policy `by_hand`, refunded units that were never captured stay due.
    WaivedStaysDue,
    /// A payment is requested for an order whose total is 0.
    FreeOrderPaid,
    /// The authorization of a cancelled order is not voided.
    VoidForgotten,
    /// A webhook that cannot be applied to an order yet is acknowledged but not stored.
    WebhookNotKept,
    /// Orders reserve units at locations that are not for sale.
    ClosedLocationSold,
    /// The deletion of a location is recorded as an update.
    DeletedAsUpdated,
    /// The page of changes after a full one begins after the change that did not fit.
    PageSkipsChange,
    /// The text by which an order is found is not written again once the order has a number.
    SearchTextStays,
    /// A projection does not notice gaps between events.
    CursorSkips,
    /// Writes of a stale owner of a shard are not refused.
    FenceNotChecked,
    /// A node serves its shards even after their leases have expired.
    LeaseIgnored,
    /// A relay assumes that the stream never loses events that it has acknowledged.
    RelayTrustsStream,
    /// The keys of an erased person are not destroyed.
    KeyNotDestroyed,
    /// An erasure destroys the keys of orders that must keep their data for now.
    NeededKeyDestroyed,
    /// Who asks for it is erased although an order is under a legal hold.
    LegalHoldIgnored,
    /// A verification does not compare the digests of events.
    ChainUnchecked,
    /// What comes in answer to a call is believed, whoever sent it.
    UnauthenticatedAnswerObeyed,
    /// A call that is received again is carried out again.
    ReplayAccepted,
    /// An event of the stream is believed, whoever sent it, and whatever the shard of its entity.
    ForeignEventBelieved,
    /// After an older backup was restored, those who were erased since are not erased again.
    ErasedPersonRestored,
}

#[cfg(debug_assertions)]
thread_local! {
    static SEEDED: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Whether the fault is switched on in this thread.
#[cfg(debug_assertions)]
#[must_use]
pub fn active(fault: SeededFault) -> bool {
    active_by_name(fault.into())
}

/// Whether the fault is switched on: never in a release build.
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn active(_: SeededFault) -> bool {
    false
}

/// Switches a fault on in this thread, and any other off; `None` switches all off.
#[cfg(debug_assertions)]
pub fn set_active(fault: Option<SeededFault>) {
    set_active_by_name(fault.map(Into::into));
}

/// Does nothing: a release build has no faults.
#[cfg(not(debug_assertions))]
pub const fn set_active(_: Option<SeededFault>) {}

/// Whether a fault with this name, which another crate may define, is switched on in this thread.
#[cfg(debug_assertions)]
#[must_use]
pub fn active_by_name(fault: &str) -> bool {
    SEEDED.get() == Some(fault)
}

/// Whether a fault with this name is switched on: never in a release build.
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn active_by_name(_: &str) -> bool {
    false
}

/// Switches on the fault with this name, which another crate may define, in this thread, and any
/// other off; `None` switches all off.
#[cfg(debug_assertions)]
pub fn set_active_by_name(fault: Option<&'static str>) {
    SEEDED.set(fault);
}

/// Does nothing: a release build has no faults.
#[cfg(not(debug_assertions))]
pub const fn set_active_by_name(_: Option<&'static str>) {}

/// Whether this build contains seeded faults.
#[must_use]
pub const fn possible() -> bool {
    cfg!(debug_assertions)
}
