//! What a seed means: the shop, the buyers, the operators, and everything that goes wrong. A plan
//! is data, so that a failing one can be made smaller and run again.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// When the last buyer or operator begins, in milliseconds of simulated time.
pub const BUSY_MS: i64 = 120_000;

/// All that is going to happen.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The number that it was drawn from, and that all chance while it runs follows from.
    pub seed: u64,
    /// The shop.
    pub shop: Shop,
    /// The network between clients and node.
    pub net: Net,
    /// Who buys.
    pub buyers: Vec<Buyer>,
    /// What operators do, and when, in milliseconds.
    pub deeds: Vec<(i64, Deed)>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// How the shop is set up.
#[derive(Clone, Debug)]
pub struct Shop {
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

/// Somebody who buys.
#[derive(Clone, Debug)]
pub struct Buyer {
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
    Capture { order: usize, amount: Option<i64> },
    Retry { order: usize },
    Skip { order: usize },
    RemakeRows,
}

/// What goes wrong. Appends and calls to the provider are counted from the start of the run.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The process dies at this moment, so many steps of its tasks later.
    Crash {
        at: i64,
        steps: u32,
    },
    CrashBeforeAppend {
        nth: u64,
    },
    CrashAfterAppend {
        nth: u64,
    },
    CrashBeforeCall {
        nth: u64,
    },
    CrashAfterCall {
        nth: u64,
    },
    /// The process is stopped in good order.
    Stop {
        at: i64,
    },
    AppendRefused {
        nth: u64,
    },
    AppendUnknown {
        nth: u64,
        written: bool,
    },
    AppendSlow {
        nth: u64,
        ms: u64,
    },
    ReadsFail {
        at: i64,
        count: u32,
    },
    TablesFail {
        at: i64,
        count: u32,
    },
    CallLost {
        nth: u64,
    },
    CallUnanswered {
        nth: u64,
    },
    CallsRefused {
        from: u64,
        count: u64,
    },
    CallSlow {
        nth: u64,
        ms: u64,
    },
    /// A request for money reaches the provider long after its sender gave it up.
    CallLate {
        nth: u64,
        ms: u64,
    },
    /// The machine's clock jumps.
    Clock {
        at: i64,
        by: i64,
    },
    /// Snapshots are of another version of the program from then on.
    StaleSnapshots {
        at: i64,
    },
}

const TOKENS: [&str; 8] = [
    "tok_ok",
    "tok_ok",
    "tok_ok",
    "tok_ok",
    "tok_declined",
    "tok_pending",
    "tok_pending_declined",
    "tok_mismatch",
];

impl Buyer {
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

impl Plan {
    /// The plan of a seed: the same seed gives the same plan.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let rng = &mut StdRng::seed_from_u64(seed);
        let calm = rng.random_ratio(1, 5);
        let shop = shop(rng);
        let skus = shop.units.len();
        let net = net(rng, calm);
        let buyers: Vec<Buyer> = (0..rng.random_range(2..=9)).map(|_| buyer(rng, skus)).collect();
        let count = rng.random_range(0..=8);
        let mut deeds: Vec<(i64, Deed)> = (0..count)
            .map(|_| (rng.random_range(0..BUSY_MS + 60_000), deed(rng, skus, buyers.len())))
            .collect();
        deeds.sort_by_key(|(at, _)| *at);
        let count = if calm { 1 } else { rng.random_range(1..=8) };
        let faults = (0..count).map(|_| fault(rng)).collect();
        Self { seed, shop, net, buyers, deeds, faults }
    }
}

fn shop(rng: &mut StdRng) -> Shop {
    let skus = rng.random_range(1..=3);
    let mut units = || {
        let places = if rng.random_ratio(1, 3) { 2 } else { 1 };
        (0..places).map(|_| rng.random_range(0..=8)).collect()
    };
    let units = (0..skus).map(|_| units()).collect();
    Shop {
        units,
        history: if rng.random_ratio(1, 4) { rng.random_range(50..=70) } else { 0 },
        capture: [0, 0, 0, 1, 2][rng.random_range(0..5)],
        idle_secs: rng.random_range(1..=20),
        timer_poll_ms: [200, 1_000, 1_000, 20_000][rng.random_range(0..4)],
        snapshot_every: [3, 10, 500][rng.random_range(0..3)],
        small: rng.random_ratio(1, 4),
    }
}

fn net(rng: &mut StdRng, calm: bool) -> Net {
    let bad = |rng: &mut StdRng, most: u32| if calm { 0 } else { rng.random_range(0..=most) };
    Net {
        lost: bad(rng, 15),
        unanswered: bad(rng, 15),
        doubled: bad(rng, 25),
        late: bad(rng, 50),
        withheld: bad(rng, 20),
    }
}

fn buyer(rng: &mut StdRng, skus: usize) -> Buyer {
    let lines = (0..rng.random_range(1..=3))
        .map(|_| (rng.random_range(0..skus), rng.random_range(1..=2)))
        .collect();
    let attempts = rng.random_range(1..=3);
    Buyer {
        // Many at nearly the same moment: that is where the races are.
        at: 2_000 + rng.random_range(0..5) * 20_000 + rng.random_range(0..200),
        lines,
        tokens: (0..attempts).map(|_| TOKENS[rng.random_range(0..TOKENS.len())]).collect(),
        edits: if rng.random_ratio(1, 3) { rng.random_range(1..=2) } else { 0 },
        patience: [50, 500, 5_000, 30_000][rng.random_range(0..4)],
        hasty: rng.random_ratio(1, 3),
    }
}

fn deed(rng: &mut StdRng, skus: usize, orders: usize) -> Deed {
    let (sku, order) = (rng.random_range(0..skus), rng.random_range(0..orders));
    match rng.random_range(0..18) {
        0 | 1 => Deed::Receive { sku, quantity: rng.random_range(1..=3) },
        2 => Deed::Adjust { sku, delta: rng.random_range(-2..=2) },
        3 => Deed::Set { sku, on_hand: rng.random_range(0..=4) },
        4 => Deed::Transfer { sku, quantity: rng.random_range(1..=2) },
        5 => Deed::Reprice { sku, price: rng.random_range(1..=50) * 100 },
        6 | 7 => Deed::Cancel { order },
        8 => Deed::RefundAll { order, restock: rng.random_ratio(1, 2) },
        9 | 10 => Deed::RefundUnit { order, restock: rng.random_ratio(1, 2) },
        11 => Deed::RefundFree { order, amount: rng.random_range(1..=3_000) },
        12 | 13 => Deed::Fulfill { order },
        14 => Deed::Capture { order, amount: rng.random_ratio(1, 2).then_some(100) },
        15 => Deed::Retry { order },
        16 => Deed::Skip { order },
        _ => Deed::RemakeRows,
    }
}

fn fault(rng: &mut StdRng) -> Fault {
    let at = rng.random_range(0..BUSY_MS + 60_000);
    let (append, call) = (rng.random_range(5..150), rng.random_range(1..40));
    match rng.random_range(0..19) {
        // When buyers come is when a crash hurts.
        0 | 1 => {
            let at = 2_000 + rng.random_range(0..6) * 20_000 + rng.random_range(0..2_000);
            Fault::Crash { at, steps: rng.random_range(0..200) }
        }
        2 => Fault::CrashBeforeAppend { nth: append },
        3 => Fault::CrashAfterAppend { nth: append },
        4 => Fault::CrashBeforeCall { nth: call },
        5 => Fault::CrashAfterCall { nth: call },
        6 => Fault::Stop { at },
        7 => Fault::AppendRefused { nth: append },
        8 => Fault::AppendUnknown { nth: append, written: true },
        9 => Fault::AppendUnknown { nth: append, written: false },
        10 => Fault::AppendSlow { nth: append, ms: rng.random_range(100..20_000) },
        11 => Fault::ReadsFail { at, count: rng.random_range(1..=6) },
        12 => Fault::TablesFail { at, count: rng.random_range(1..=6) },
        13 => Fault::CallLost { nth: call },
        14 => Fault::CallUnanswered { nth: call },
        15 => Fault::CallsRefused { from: call, count: rng.random_range(1..=12) },
        16 => Fault::CallSlow { nth: call, ms: rng.random_range(1_000..180_000) },
        17 => Fault::CallLate { nth: call, ms: rng.random_range(2_000..60_000) },
        _ if rng.random_ratio(1, 2) => Fault::StaleSnapshots { at },
        _ => Fault::Clock { at, by: rng.random_range(-3_600_000..=3_600_000) },
    }
}
