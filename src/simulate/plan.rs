//! What a seed means: the shop, the buyers, the operators, and everything that goes wrong. A plan
//! is data, so that a failing one can be made smaller and run again.

/// When the last buyer or operator begins, in milliseconds of simulated time.
pub const BUSY_MS: i64 = 120_000;

/// Everything that a simulation is going to do.
#[derive(Clone, Debug)]
pub struct SimulationPlan {
    /// The number that it was drawn from, and that all chance while it runs follows from.
    pub seed: u64,
    /// The shop.
    pub shop: Shop,
    /// The network between clients and nodes.
    pub net: Net,
    /// How many nodes there are.
    pub nodes: usize,
    /// What goes from one node to another, and to the stream.
    pub bus: Bus,
    /// Who buys.
    pub buyers: Vec<PlannedBuyer>,
    /// What operators do, and when, in milliseconds.
    pub deeds: Vec<(i64, Deed)>,
    /// The faults that it injects.
    pub faults: Vec<PlannedFault>,
}

/// How the shop is set up.
#[derive(Clone, Debug)]
pub struct Shop {
    /// Shards of its journal.
    pub shards: u16,
    /// Units of each SKU, at each of its locations.
    pub units: Vec<Vec<i64>>,
    /// How many single units of the first SKU come in at the start, so that its history is long.
    pub history: i64,
    /// 0 at once, 1 at dispatch, 2 by hand.
    pub capture: u8,
    /// Seconds until an idle entity leaves memory.
    pub idle_secs: u64,
    /// Milliseconds between two looks for due timers.
    pub timer_poll_ms: u64,
    /// Events after which a snapshot is kept.
    pub snapshot_every: i64,
    /// Whether all mailboxes and queues are so small that they fill up.
    pub small: bool,
}

/// How bad the network is, each in per cent of all requests.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    /// Requests that never arrive.
    pub lost: u32,
    /// Answers that never arrive.
    pub unanswered: u32,
    /// Requests that arrive twice.
    pub doubled: u32,
    /// Webhooks that come late, by up to a minute.
    pub late: u32,
    /// Webhooks that never come.
    pub withheld: u32,
}

/// How bad the bus is, each in per cent of all calls and of all that is relayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bus {
    /// What never arrives.
    pub lost: u32,
    /// What is not answered.
    pub unanswered: u32,
    /// What arrives twice.
    pub doubled: u32,
    /// What comes late.
    pub late: u32,
}

/// A buyer, as planned.
#[derive(Clone, Debug)]
pub struct PlannedBuyer {
    /// When, in milliseconds.
    pub at: i64,
    /// SKU and quantity.
    pub lines: Vec<(usize, i64)>,
    /// What is paid with, attempt by attempt.
    pub tokens: Vec<&'static str>,
    /// Changes of the cart before the checkout, and beside it.
    pub edits: u32,
    /// How long it waits for an answer before it asks again, in milliseconds.
    pub patience: i64,
    /// Whether it tries the next card when the first takes long.
    pub hasty: bool,
}

/// What an operator does. Orders are counted in the order in which their carts were made.
#[derive(Clone, Debug)]
pub enum Deed {
    Receive { sku: usize, quantity: i64 },
    Adjust { sku: usize, delta: i64 },
    Set { sku: usize, on_hand: i64 },
    Transfer { sku: usize, quantity: i64 },
    Reprice { sku: usize, price: i64 },
    Cancel { order: usize },
    RefundAll { order: usize, restock: bool },
    RefundUnit { order: usize, restock: bool },
    RefundFree { order: usize, amount: i64 },
    Fulfill { order: usize },
    FulfillUnit { order: usize },
    Capture { order: usize, amount: Option<i64> },
    Retry { order: usize },
    Skip { order: usize },
    RemakeRows,
}

/// A fault that a plan injects.
#[derive(Clone, Debug)]
pub enum PlannedFault {
    /// The process dies at this moment, so many steps of its tasks later.
    Crash { at: i64, steps: u32 },
    /// The process is stopped in good order.
    Stop { at: i64 },
    /// Something happens to an append.
    Append { point: Point, what: Mishap },
    /// Something happens to a call to the provider.
    Call { point: Point, what: Mishap },
    /// The next readings of the journal fail.
    ReadsFail { at: i64, count: u32 },
    /// The next uses of a table fail.
    TablesFail { at: i64, count: u32 },
    /// The machine's clock jumps.
    Clock { at: i64, by: i64 },
    /// Snapshots are of another version of the program from then on.
    StaleSnapshots { at: i64 },
    /// One of several nodes meets with something; nothing, if there is no such node.
    Node { at: i64, node: usize, what: Blow },
    /// The stream of several nodes meets with something.
    Stream { at: i64, what: Loss },
}

/// What a node among others meets with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// It dies, so many steps later, and comes back after a while.
    Killed { steps: u32 },
    /// It gives its shards away, stops, and comes back after a while.
    Leaves,
    /// It does not reach the store for so many milliseconds.
    NoStore { ms: u64 },
    /// Its calls and notices do not reach the others, nor theirs it, for so many milliseconds.
    NoBus { ms: u64 },
    /// Its answers to the others are lost for so many milliseconds.
    Mute { ms: u64 },
}

/// What a stream meets with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is deleted.
    Deleted,
    /// It forgets so many of its last messages.
    Tail { count: usize },
    /// It cannot be reached for so many milliseconds.
    Away { ms: u64 },
}

/// Which append, or which call.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// The kind of an event in it, or the name of the call; none for any.
    pub kind: Option<&'static str>,
    /// The first of them, counted from 1 and from the start of the run.
    pub nth: u64,
    /// How many from there on.
    pub count: u64,
}

impl Point {
    /// Whether this is the one, of which `before` came before and `now` come now.
    #[must_use]
    pub const fn meets(&self, before: u64, now: u64) -> bool {
        before < self.nth + self.count - 1 && before + now >= self.nth
    }
}

/// What happens to an append or a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// The process dies before it.
    CrashBefore,
    /// The process dies after it, before anybody knows.
    CrashAfter,
    /// It is refused, and surely not done.
    Refused,
    /// It is done and not answered.
    Unanswered,
    /// It is lost, and nobody knows.
    Lost,
    /// It takes so many milliseconds.
    Slow(u64),
    /// It is given up by its sender, and arrives so many milliseconds later.
    Late(u64),
    /// It is on its way while its sender does not reach the store for so many milliseconds.
    CutOff(u64),
}

impl PlannedBuyer {
    /// Whether it comes at all.
    #[must_use]
    pub const fn comes(&self) -> bool {
        self.at >= 0
    }

    /// Lets it stay at home; the others keep their numbers.
    pub const fn stay_at_home(&mut self) {
        self.at = -1;
    }
}
