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

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
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
}

/// Kinds of events at whose appends something happens.
const KINDS: [&str; 30] = [
    "created",
    "lines_set",
    "spent",
    "placed",
    "reserved",
    "extended",
    "payment_requested",
    "payment_pending",
    "payment_unknown",
    "payment_authorized",
    "payment_declined",
    "payment_retried",
    "committed",
    "drawn",
    "confirmed",
    "captured",
    "capture_requested",
    "cancel_requested",
    "released",
    "cancelled",
    "payment_voided",
    "payment_reversed",
    "refund_requested",
    "refunded",
    "restocked",
    "written_off",
    "refund_restocked",
    "fulfilled",
    "shipped",
    "lapsed",
];
/// Calls to which something happens.
const CALLS: [&str; 6] = ["authorize", "capture", "void", "refund", "reverse", "find"];

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
        let rush = rng.random_ratio(1, 3);
        let buyers: Vec<Buyer> =
            (0..rng.random_range(2..=9)).map(|_| buyer(rng, skus, rush)).collect();
        let count = rng.random_range(0..=8);
        let mut deeds: Vec<(i64, Deed)> =
            (0..count).map(|_| (when(rng), deed(rng, skus, buyers.len()))).collect();
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
        timer_poll_ms: [200, 1_000, 20_000, 45_000][rng.random_range(0..4)],
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

fn buyer(rng: &mut StdRng, skus: usize, rush: bool) -> Buyer {
    let lines = (0..rng.random_range(1..=3))
        .map(|_| (rng.random_range(0..skus), rng.random_range(1..=2)))
        .collect();
    let attempts = rng.random_range(1..=3);
    Buyer {
        // Many at nearly the same moment: that is where the races are.
        at: if rush { 2_000 } else { 2_000 + rng.random_range(0..5) * 20_000 }
            + rng.random_range(0..if rush { 30 } else { 200 }),
        lines,
        tokens: (0..attempts).map(|_| TOKENS[rng.random_range(0..TOKENS.len())]).collect(),
        edits: if rng.random_ratio(1, 3) { rng.random_range(1..=2) } else { 0 },
        patience: [50, 500, 5_000, 30_000][rng.random_range(0..4)],
        hasty: rng.random_ratio(1, 3),
    }
}

/// When an operator does something: at any time, or just when buyers have come.
fn when(rng: &mut StdRng) -> i64 {
    if rng.random_ratio(1, 2) {
        rng.random_range(0..BUSY_MS + 60_000)
    } else {
        2_000 + rng.random_range(0..5) * 20_000 + rng.random_range(0..1_500)
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
    match rng.random_range(0..16) {
        // When buyers come is when a crash hurts.
        0 | 1 => {
            let at = 2_000 + rng.random_range(0..6) * 20_000 + rng.random_range(0..2_000);
            Fault::Crash { at, steps: rng.random_range(0..200) }
        }
        2 => Fault::Stop { at },
        3..=7 => {
            let what = match rng.random_range(0..6) {
                0 => Mishap::CrashBefore,
                1 => Mishap::CrashAfter,
                2 => Mishap::Refused,
                3 => Mishap::Unanswered,
                4 => Mishap::Lost,
                _ => Mishap::Slow(rng.random_range(100..20_000)),
            };
            Fault::Append { point: point(rng, &KINDS, 150), what }
        }
        8..=12 => {
            let what = match rng.random_range(0..8) {
                0 => Mishap::CrashBefore,
                1 => Mishap::CrashAfter,
                2 => Mishap::Refused,
                3 => Mishap::Unanswered,
                4 => Mishap::Lost,
                5 => Mishap::Slow(rng.random_range(1_000..180_000)),
                _ => Mishap::Late(rng.random_range(1_000..60_000)),
            };
            Fault::Call { point: point(rng, &CALLS, 40), what }
        }
        13 => Fault::ReadsFail { at, count: rng.random_range(1..=6) },
        14 => Fault::TablesFail { at, count: rng.random_range(1..=6) },
        _ if rng.random_ratio(1, 2) => Fault::StaleSnapshots { at },
        _ => Fault::Clock { at, by: rng.random_range(-3_600_000..=3_600_000) },
    }
}

fn point(rng: &mut StdRng, kinds: &[&'static str], any_max: u64) -> Point {
    let count = [1, 1, 1, 2, 3, 8][rng.random_range(0..6)];
    if rng.random_ratio(1, 4) {
        return Point { kind: None, nth: rng.random_range(1..any_max), count };
    }
    let kind = kinds[rng.random_range(0..kinds.len())];
    Point { kind: Some(kind), nth: rng.random_range(1..=4), count }
}
