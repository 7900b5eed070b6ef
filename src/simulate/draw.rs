//! Draws a plan from a seed. Some plans have a theme, which makes combinations likely that are
//! needed to find rare faults: refunds after the sale and their failures, or cancellations during
//! the reservation of stock.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::providers::payment::OperationKind;

use super::plan::{
    BUSY_MS, Bus, CallFault, Intrusion, Net, NodeFault, OperatorAction, PlannedBuyer, PlannedFault,
    Point, Shop, SimulationPlan, StreamFault,
};

/// In one of this many plans, operators close, delete and reopen locations; in another one, they
/// capture and refund in the provider's dashboard.
const PLACES_EVERY: u64 = 4;

/// The theme of a plan.
#[derive(Clone, Copy)]
enum Theme {
    Anything,
    AfterSale,
    TakenBack,
}

impl Theme {
    /// Kinds of events at whose appends faults occur.
    const fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Anything => &KINDS,
            Self::AfterSale => {
                &["captured", "refunded", "restocked", "written_off", "refund_restocked", "shipped"]
            }
            Self::TakenBack => {
                &["reserved", "reserved", "reserved", "released", "cancel_requested"]
            }
        }
    }

    /// Calls at which faults occur.
    const fn calls(self) -> &'static [&'static str] {
        match self {
            Self::Anything => {
                &["authorize", "capture", "void", "refund", "reverse", "find", "list"]
            }
            Self::AfterSale => &["capture", "refund", "void"],
            Self::TakenBack => &["authorize", "void", "reverse", "find"],
        }
    }
}

/// Most kinds of events; in a plan without a theme, faults occur at their appends.
const KINDS: [&str; 38] = [
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
    "payment_given_up",
    "hold_lapsed",
    "hold_yielded",
    "yielded",
    "stuck",
    "retry_requested",
    "step_skipped",
    "received",
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

impl SimulationPlan {
    /// The plan of a seed: the same seed gives the same plan. Every third plan has several nodes.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let (alone, mut rng, calm) = Self::drawn(seed);
        if seed % 3 == 2 { alone.among_others(&mut rng, calm) } else { alone }
    }

    /// The plan of a seed, always with one node.
    #[must_use]
    pub fn draw_alone(seed: u64) -> Self {
        Self::drawn(seed).0
    }

    /// A plan for one node, the random generator, and whether there are few faults.
    fn drawn(seed: u64) -> (Self, StdRng, bool) {
        let mut drawn = StdRng::seed_from_u64(seed);
        let rng = &mut drawn;
        let calm = rng.random_ratio(1, 5);
        let shop = Shop { shards: [1, 4, 1][(seed % 3) as usize], ..shop(rng) };
        let skus = shop.units.len();
        let net = net(rng, calm);
        let rush = rng.random_ratio(1, 3);
        let theme = match rng.random_range(0..5) {
            0 => Theme::AfterSale,
            1 => Theme::TakenBack,
            _ => Theme::Anything,
        };
        let buyers: Vec<PlannedBuyer> =
            (0..rng.random_range(2..=9)).map(|_| buyer(rng, skus, rush)).collect();
        let count = rng.random_range(0..=if matches!(theme, Theme::Anything) { 8 } else { 16 });
        let mut actions: Vec<(i64, OperatorAction)> =
            (0..count).map(|_| operator_action(rng, skus, &buyers, theme)).collect();
        if seed.is_multiple_of(PLACES_EVERY) {
            actions.extend(place_actions(seed));
        }
        if seed % PLACES_EVERY == 2 {
            actions.extend(dashboard_actions(seed, &buyers));
        }
        if seed % PLACES_EVERY == 3 {
            actions.extend(erasures(seed, &buyers));
        }
        actions.sort_by_key(|(at, _)| *at);
        let count = if calm { 1 } else { rng.random_range(1..=8) };
        let faults = (0..count).map(|_| fault(rng, theme)).collect();
        let mut faults: Vec<PlannedFault> = faults;
        if seed % PLACES_EVERY == 3 {
            faults.push(backup(seed));
        }
        let (nodes, bus) = (1, Bus::default());
        let alone = Self { seed, shop, net, nodes, bus, buyers, actions, faults };
        (alone, drawn, calm)
    }

    /// Extends a plan to several nodes, with faults that only a cluster can have.
    fn among_others(mut self, rng: &mut StdRng, calm: bool) -> Self {
        self.nodes = rng.random_range(2..=3);
        self.shop.shards = rng.random_range(4..=8);
        // Polling every shard takes most of a run's time, and finds nothing more.
        self.shop.timer_poll_ms = self.shop.timer_poll_ms.max(1_000);
        self.bus = bus(rng, calm);
        // Faults that stop the whole machine are made rare, because they interrupt the work of the
        // cluster.
        let rare = |rng: &mut StdRng| rng.random_ratio(1, 4);
        self.faults.retain(|fault| {
            !matches!(fault, PlannedFault::Crash { .. } | PlannedFault::Stop { .. }) || rare(rng)
        });
        for fault in &mut self.faults {
            if let PlannedFault::Clock { by, .. } = fault {
                // A run waits until the latest due time, and waiting with several nodes takes much
                // computing time.
                *by /= 6;
            }
        }
        let count = if calm { 1 } else { rng.random_range(1..=6) };
        let faults = (0..count).map(|_| blow(rng, self.nodes, &self.buyers));
        let faults: Vec<PlannedFault> = faults.collect();
        self.faults.extend(faults);
        if rng.random_ratio(1, 3) {
            // The node is cut off for longer than a lease, so its appends arrive when its shards
            // have another owner.
            let what = CallFault::CutOff(rng.random_range(11_000..50_000));
            self.faults.push(PlannedFault::Append { point: point(rng, &KINDS, 150), what });
        }
        let mut drawn = StdRng::seed_from_u64(self.seed ^ 0x1e7e_d1ce);
        if drawn.random_ratio(2, 3) {
            self.intrude(&mut drawn);
        }
        if drawn.random_ratio(1, 3) {
            let at = drawn.random_range(0..BUSY_MS);
            self.faults.push(PlannedFault::KeyRotated { at });
        }
        self
    }

    /// Adds an intruder, from random numbers of its own, so that the rest of a plan does not depend on
    /// it. Prices change before overheard calls are sent again, so that old ones could come back.
    fn intrude(&mut self, rng: &mut StdRng) {
        for _ in 0..rng.random_range(1..=3) {
            let buyer = &self.buyers[rng.random_range(0..self.buyers.len())];
            let at = buyer.at + rng.random_range(0..3_000) - 1_500;
            let what = match rng.random_range(0..7) {
                0 | 1 => Intrusion::Answers { ms: rng.random_range(1_000..20_000) },
                2 | 3 => {
                    let sku = rng.random_range(0..self.shop.units.len());
                    for before in [12_000, 4_000] {
                        let price = rng.random_range(2..=40) * 100;
                        let at = (at - rng.random_range(0..before)).max(0);
                        self.actions.push((at, OperatorAction::Reprice { sku, price }));
                    }
                    Intrusion::Replays { count: rng.random_range(10..60) }
                }
                4 | 5 => Intrusion::Events { count: rng.random_range(5..40) },
                _ => Intrusion::Notices { count: rng.random_range(5..20) },
            };
            self.faults.push(PlannedFault::Intruder { at, what });
        }
        self.actions.sort_by_key(|(at, _)| *at);
    }
}

fn bus(rng: &mut StdRng, calm: bool) -> Bus {
    let bad = |rng: &mut StdRng, most: u32| if calm { 0 } else { rng.random_range(0..=most) };
    Bus { lost: bad(rng, 8), unanswered: bad(rng, 8), doubled: bad(rng, 20), late: bad(rng, 20) }
}

/// Draws a fault of a node, or of the stream; often just after a buyer has arrived.
fn blow(rng: &mut StdRng, nodes: usize, buyers: &[PlannedBuyer]) -> PlannedFault {
    let at = match buyers.get(rng.random_range(0..2 * buyers.len())) {
        Some(buyer) => buyer.at + rng.random_range(0..3_000),
        None => rng.random_range(0..BUSY_MS + 60_000),
    };
    let node = rng.random_range(0..nodes);
    let ms = rng.random_range(1_000..40_000);
    let what = match rng.random_range(0..12) {
        0 | 1 => NodeFault::Killed { steps: rng.random_range(0..200) },
        2 | 3 => NodeFault::Leaves,
        // The node is cut off for longer than a lease.
        4..=6 => NodeFault::NoStore { ms: 10_000 + ms },
        7 => NodeFault::NoBus { ms },
        8 => NodeFault::Mute { ms },
        9 => return PlannedFault::Stream { at, what: StreamFault::Deleted },
        10 => {
            return PlannedFault::Stream {
                at,
                what: StreamFault::Tail { count: rng.random_range(1..50) },
            };
        }
        _ => return PlannedFault::Stream { at, what: StreamFault::Away { ms } },
    };
    PlannedFault::Node { at, node, what }
}

fn shop(rng: &mut StdRng) -> Shop {
    let skus = rng.random_range(1..=3);
    let mut units = || {
        let places = if rng.random_ratio(1, 3) { 2 } else { 1 };
        (0..places).map(|_| rng.random_range(0..=8)).collect()
    };
    let units = (0..skus).map(|_| units()).collect();
    Shop {
        shards: 1,
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

fn buyer(rng: &mut StdRng, skus: usize, rush: bool) -> PlannedBuyer {
    let lines = (0..rng.random_range(1..=3))
        .map(|_| (rng.random_range(0..skus), rng.random_range(1..=3)))
        .collect();
    let attempts = rng.random_range(1..=3);
    PlannedBuyer {
        // With `rush`, all buyers arrive within 30 ms, which makes races likely.
        at: if rush { 2_000 } else { 2_000 + rng.random_range(0..5) * 20_000 }
            + rng.random_range(0..if rush { 30 } else { 200 }),
        lines,
        tokens: (0..attempts).map(|_| TOKENS[rng.random_range(0..TOKENS.len())]).collect(),
        edits: if rng.random_ratio(1, 3) { rng.random_range(1..=2) } else { 0 },
        patience: [50, 500, 5_000, 30_000][rng.random_range(0..4)],
        hasty: rng.random_ratio(1, 3),
    }
}

/// Draws what operators do with locations, from random numbers of their own, so that the rest of a
/// plan does not depend on it. A location is closed for longer than an order takes.
fn place_actions(seed: u64) -> Vec<(i64, OperatorAction)> {
    let mut drawn = StdRng::seed_from_u64(seed ^ 0x10ca_7105);
    let rng = &mut drawn;
    let mut actions = Vec::new();
    for _ in 0..rng.random_range(1..=2) {
        let (place, at) = (rng.random_range(0..2), rng.random_range(0..BUSY_MS / 2));
        let open_again = at + rng.random_range(5_000..BUSY_MS);
        actions.push((at, OperatorAction::Close { place, for_sale: false }));
        if place > 0 && rng.random_ratio(1, 2) {
            actions.push((rng.random_range(at..open_again), OperatorAction::Delete { place }));
        }
        actions.push((open_again, OperatorAction::Close { place, for_sale: true }));
    }
    actions
}

/// Draws what operators do in the provider's dashboard, from random numbers of their own, so that
/// the rest of a plan does not depend on it.
fn dashboard_actions(seed: u64, buyers: &[PlannedBuyer]) -> Vec<(i64, OperatorAction)> {
    let mut drawn = StdRng::seed_from_u64(seed ^ 0xda5b_0a2d);
    let rng = &mut drawn;
    let mut action = || {
        let order = rng.random_range(0..buyers.len());
        let kind =
            if rng.random_ratio(1, 4) { OperationKind::Capture } else { OperationKind::Refund };
        let amount = rng.random_range(1..=3_000);
        let at = buyers[order].at + rng.random_range(500..60_000);
        (at, OperatorAction::MoveElsewhere { order, kind, amount })
    };
    (0..3).map(|_| action()).collect()
}

/// Draws whom operators erase, and which of their orders are under a legal hold before, from random
/// numbers of their own, so that the rest of a plan does not depend on it.
fn erasures(seed: u64, buyers: &[PlannedBuyer]) -> Vec<(i64, OperatorAction)> {
    let mut drawn = StdRng::seed_from_u64(seed ^ 0xe4a5_ed0f);
    let rng = &mut drawn;
    let mut one = || {
        let order = rng.random_range(0..buyers.len());
        let at = buyers[order].at + rng.random_range(30_000..200_000);
        let held = rng.random_bool(0.3).then(|| {
            (at - rng.random_range(1_000..20_000), OperatorAction::PlaceLegalHold { order })
        });
        held.into_iter().chain([(at, OperatorAction::Erase { order })])
    };
    [one(), one()].into_iter().flatten().collect()
}

/// Draws when the store is backed up, from random numbers of its own, so that the rest of a plan does
/// not depend on it: before or after persons are erased.
fn backup(seed: u64) -> PlannedFault {
    let mut drawn = StdRng::seed_from_u64(seed ^ 0xbac4_0b5e);
    PlannedFault::BackedUp { at: drawn.random_range(2_000..BUSY_MS + 60_000) }
}

/// Draws an operator's action and its time: any time, or just after a buyer has arrived.
fn operator_action(
    rng: &mut StdRng,
    skus: usize,
    buyers: &[PlannedBuyer],
    theme: Theme,
) -> (i64, OperatorAction) {
    let (sku, order) = (rng.random_range(0..skus), rng.random_range(0..buyers.len()));
    let came = buyers[order].at;
    let at = match theme {
        Theme::Anything if rng.random_ratio(1, 2) => rng.random_range(0..BUSY_MS + 60_000),
        Theme::AfterSale => came + rng.random_range(2_000..40_000),
        _ => came + rng.random_range(0..2_500),
    };
    let kind = match theme {
        Theme::Anything => rng.random_range(0..18),
        Theme::AfterSale => rng.random_range(8..15),
        Theme::TakenBack => rng.random_range(6..8),
    };
    let action = match kind {
        0 | 1 => OperatorAction::Receive { sku, quantity: rng.random_range(1..=3) },
        2 => OperatorAction::Adjust { sku, delta: rng.random_range(-2..=2) },
        3 => OperatorAction::Set { sku, on_hand: rng.random_range(0..=4) },
        4 => OperatorAction::Transfer { sku, quantity: rng.random_range(1..=2) },
        // One price in five is 0, because an order with total 0 is placed without a payment.
        5 => OperatorAction::Reprice { sku, price: rng.random_range(-9_i64..=40).max(0) * 100 },
        6 | 7 => OperatorAction::Cancel { order },
        8 => OperatorAction::RefundAll { order, restock: rng.random_ratio(1, 2) },
        9 | 10 => {
            let restock = rng.random_ratio(1, 2);
            OperatorAction::RefundUnit { order, restock, shipped: kind == 10 }
        }
        11 => OperatorAction::RefundFree { order, amount: rng.random_range(1..=3_000) },
        12 => OperatorAction::FulfillUnit { order },
        13 => OperatorAction::Fulfill { order },
        14 => OperatorAction::Capture { order, amount: rng.random_ratio(1, 2).then_some(100) },
        15 => OperatorAction::Retry { order },
        16 => OperatorAction::Skip { order },
        _ => OperatorAction::RemakeRows,
    };
    (at, action)
}

fn fault(rng: &mut StdRng, theme: Theme) -> PlannedFault {
    let at = rng.random_range(0..BUSY_MS + 60_000);
    match rng.random_range(0..16) {
        // A crash has the most effect when buyers arrive.
        0 | 1 => {
            let at = 2_000 + rng.random_range(0..6) * 20_000 + rng.random_range(0..2_000);
            PlannedFault::Crash { at, steps: rng.random_range(0..200) }
        }
        2 => PlannedFault::Stop { at },
        3..=7 => {
            let what = match rng.random_range(0..6) {
                0 => CallFault::CrashBefore,
                1 => CallFault::CrashAfter,
                2 => CallFault::Refused,
                3 => CallFault::Unanswered,
                4 => CallFault::Lost,
                _ => CallFault::Slow(rng.random_range(100..20_000)),
            };
            PlannedFault::Append { point: point(rng, theme.kinds(), 150), what }
        }
        8..=12 => {
            let what = match rng.random_range(0..8) {
                0 => CallFault::CrashBefore,
                1 => CallFault::CrashAfter,
                2 => CallFault::Refused,
                3 => CallFault::Unanswered,
                4 => CallFault::Lost,
                5 => CallFault::Slow(rng.random_range(1_000..180_000)),
                _ => CallFault::Late(rng.random_range(1_000..60_000)),
            };
            PlannedFault::Call { point: point(rng, theme.calls(), 40), what }
        }
        13 => PlannedFault::ReadsFail { at, count: rng.random_range(1..=6) },
        14 => PlannedFault::TablesFail { at, count: rng.random_range(1..=6) },
        _ if rng.random_ratio(1, 2) => PlannedFault::StaleSnapshots { at },
        _ => PlannedFault::Clock { at, by: rng.random_range(-3_600_000..=3_600_000) },
    }
}

fn point(rng: &mut StdRng, kinds: &[&'static str], any_max: u64) -> Point {
    let count = [1, 1, 1, 2, 5, 9][rng.random_range(0..6)];
    if rng.random_ratio(1, 4) {
        return Point { kind: None, nth: rng.random_range(1..any_max), count };
    }
    let kind = kinds[rng.random_range(0..kinds.len())];
    Point { kind: Some(kind), nth: [1, 1, 1, 2, 3, 4][rng.random_range(0..6)], count }
}
