//! The plan of a seed: the shop, the buyers, the operators, and all faults. A plan is data, so a
//! failing one can be reduced and run again.

use crate::providers::payment::OperationKind;

/// The busy time of a run, in simulated milliseconds from its start: all buyers arrive in it.
/// Operators act, and timed faults happen, up to a minute later.
pub const BUSY_MS: i64 = 120_000;

/// Everything that will happen in a run.
#[derive(Clone, Debug)]
pub struct SimulationPlan {
    /// The seed, which also determines all randomness of the run.
    pub seed: u64,
    /// The shop.
    pub shop: Shop,
    /// The network between clients and nodes.
    pub net: Net,
    /// The number of nodes.
    pub nodes: usize,
    /// The communication between nodes, and with the stream.
    pub bus: Bus,
    /// The buyers.
    pub buyers: Vec<PlannedBuyer>,
    /// The operators' actions and their times, in milliseconds.
    pub actions: Vec<(i64, OperatorAction)>,
    /// The faults.
    pub faults: Vec<PlannedFault>,
}

/// The setup of the shop.
#[derive(Clone, Debug)]
pub struct Shop {
    /// The shards of its journal.
    pub shards: u16,
    /// Units of each SKU, at each of its locations.
    pub units: Vec<Vec<i64>>,
    /// Units of the first SKU that are received one by one at the start, so that its history is
    /// long.
    pub history: i64,
    /// The capture policy: 0 at once, 1 at dispatch, 2 by hand.
    pub capture: u8,
    /// Seconds until an idle entity is passivated.
    pub idle_secs: u64,
    /// Milliseconds between two checks for due timers.
    pub timer_poll_ms: u64,
    /// Events after which a snapshot is written.
    pub snapshot_every: i64,
    /// Whether the limits of the hosts and lanes are so low that they are often reached.
    pub small: bool,
}

/// The failure rates of the network, in per cent of all requests, answers or webhooks.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    /// Requests that are lost.
    pub lost: u32,
    /// Answers that are lost.
    pub unanswered: u32,
    /// Requests that arrive twice.
    pub doubled: u32,
    /// Webhooks that are late, by up to a minute.
    pub late: u32,
    /// Webhooks that are lost.
    pub withheld: u32,
}

/// The failure rates of the bus, in per cent of all calls and relayed messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bus {
    /// Lost calls and messages.
    pub lost: u32,
    /// Calls and messages whose answers are lost.
    pub unanswered: u32,
    /// Duplicated calls and messages.
    pub doubled: u32,
    /// Late calls and messages.
    pub late: u32,
}

/// A buyer.
#[derive(Clone, Debug)]
pub struct PlannedBuyer {
    /// When the buyer starts, in milliseconds; negative if it does not take part.
    pub at: i64,
    /// The number of the SKU, and the quantity, of each cart line.
    pub lines: Vec<(usize, i64)>,
    /// The payment token of each attempt.
    pub tokens: Vec<&'static str>,
    /// Changes of the cart before the checkout, and concurrently with it.
    pub edits: u32,
    /// Its timeout before it retries, in milliseconds.
    pub patience: i64,
    /// Whether it tries the next card if the outcome of the first takes long.
    pub hasty: bool,
}

/// An operator's action. `order` is the number of the buyer whose order it is, and `sku` the number
/// of a SKU.
#[derive(Clone, Debug)]
pub enum OperatorAction {
    Receive {
        sku: usize,
        quantity: i64,
    },
    Adjust {
        sku: usize,
        delta: i64,
    },
    Set {
        sku: usize,
        on_hand: i64,
    },
    Transfer {
        sku: usize,
        quantity: i64,
    },
    Reprice {
        sku: usize,
        price: i64,
    },
    /// Closes a location for sale, or opens it again.
    Close {
        place: usize,
        for_sale: bool,
    },
    /// Moves the units of a location to the first one, and deletes it if it is empty then.
    Delete {
        place: usize,
    },
    Cancel {
        order: usize,
    },
    RefundAll {
        order: usize,
        restock: bool,
    },
    RefundUnit {
        order: usize,
        restock: bool,
        /// Whether it must be a unit that was shipped.
        shipped: bool,
    },
    RefundFree {
        order: usize,
        amount: i64,
    },
    Fulfill {
        order: usize,
    },
    FulfillUnit {
        order: usize,
    },
    Capture {
        order: usize,
        amount: Option<i64>,
    },
    Retry {
        order: usize,
    },
    Skip {
        order: usize,
    },
    /// Captures or refunds at most this amount in the provider's dashboard.
    MoveElsewhere {
        order: usize,
        kind: OperationKind,
        amount: i64,
    },
    RemakeRows,
    /// Puts an order under a legal hold.
    PlaceLegalHold {
        order: usize,
    },
    /// Erases the buyer of an order.
    Erase {
        order: usize,
    },
}

/// A fault.
#[derive(Clone, Debug)]
pub enum PlannedFault {
    /// The process dies at this time, after its tasks have been given `steps` more turns.
    Crash { at: i64, steps: u32 },
    /// The process is stopped in an orderly way.
    Stop { at: i64 },
    /// A fault of an append.
    Append { point: Point, what: CallFault },
    /// A fault of a call to the provider.
    Call { point: Point, what: CallFault },
    /// The next `count` reads of the journal fail.
    ReadsFail { at: i64, count: u32 },
    /// The next `count` accesses to tables other than the journal fail.
    TablesFail { at: i64, count: u32 },
    /// The machine's clock jumps by `by` milliseconds.
    Clock { at: i64, by: i64 },
    /// From this time on, all stored snapshots appear to be of another state version.
    StaleSnapshots { at: i64 },
    /// A fault of one of several nodes; no effect if there is no such node.
    Node { at: i64, node: usize, what: NodeFault },
    /// A fault of the stream.
    Stream { at: i64, what: StreamFault },
    /// What someone does who is on the network between nodes and has no key of the cluster.
    Intruder { at: i64, what: Intrusion },
    /// The cluster gets a new key, while nodes serve.
    KeyRotated { at: i64 },
    /// The store is backed up; at the end of the run, the backup is restored.
    BackedUp { at: i64 },
}

/// A fault of a node in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFault {
    /// It dies, after its tasks have been given `steps` more turns, and restarts after a while.
    Killed { steps: u32 },
    /// It hands over its shards, stops, and restarts after a while.
    Leaves,
    /// It cannot reach the store for some milliseconds.
    NoStore { ms: u64 },
    /// Calls and notices between it and the other nodes are lost for some milliseconds.
    NoBus { ms: u64 },
    /// Its answers to other nodes are lost for some milliseconds.
    Mute { ms: u64 },
}

/// What an intruder does on the network between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intrusion {
    /// Answers some calls, before the node that is called does, for some milliseconds.
    Answers { ms: u64 },
    /// Sends overheard calls again, to the same or another node, or altered.
    Replays { count: u32 },
    /// Writes events to the stream that no node has committed, altered ones and old ones.
    Events { count: u32 },
    /// Sends forged and overheard notices.
    Notices { count: u32 },
}

/// A fault of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFault {
    /// It is deleted.
    Deleted,
    /// It loses its last messages.
    Tail { count: usize },
    /// It is unreachable for some milliseconds.
    Away { ms: u64 },
}

/// Selects appends to the journal, or calls to the provider, by their number.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// The kind of an event in the append, or the name of the call; `None` for any.
    pub kind: Option<&'static str>,
    /// The number of the first selected one, counted from 1 since the start of the run.
    pub nth: u64,
    /// How many are selected, in a row.
    pub count: u64,
}

impl Point {
    /// Whether one of the next `now` items, after `before` earlier ones, is selected.
    #[must_use]
    pub const fn meets(&self, before: u64, now: u64) -> bool {
        before < self.nth + self.count - 1 && before + now >= self.nth
    }
}

/// The fault of an append or a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFault {
    /// The process dies before it.
    CrashBefore,
    /// The process dies after it, before the outcome is known.
    CrashAfter,
    /// It is refused without being carried out, and the sender knows this.
    Refused,
    /// It is carried out, but the sender gets no answer.
    Unanswered,
    /// It is lost, and the sender does not know whether it was carried out.
    Lost,
    /// It takes some milliseconds.
    Slow(u64),
    /// Its sender times out, and it arrives some milliseconds later.
    Late(u64),
    /// It is in flight while its sender cannot reach the store for some milliseconds.
    CutOff(u64),
}

impl PlannedBuyer {
    /// Whether the buyer takes part in the run.
    #[must_use]
    pub const fn takes_part(&self) -> bool {
        self.at >= 0
    }

    /// Removes the buyer from the run; the other buyers keep their numbers.
    pub const fn remove(&mut self) {
        self.at = -1;
    }
}
