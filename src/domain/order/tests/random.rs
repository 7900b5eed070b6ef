//! One order with real stock and a simulated provider, driven at random: effects that succeed,
//! fail, are carried out and not answered, late or twice; webhooks late, twice and out of order;
//! operators at any time. When calm returns it must come to an end, and the books agree.

use proptest::prelude::*;

use super::*;
use crate::domain::stock::{self, Stock};

/// A payment as its provider knows it.
#[derive(Clone, Debug, Default)]
struct Payment {
    set_aside: i64,
    declined: bool,
    closed: bool,
    captures: BTreeMap<u32, i64>,
    refunds: BTreeMap<u32, i64>,
}

impl Payment {
    fn captured(&self) -> i64 {
        self.captures.values().sum()
    }

    fn refunded(&self) -> i64 {
        self.refunds.values().sum()
    }
}

#[derive(Debug)]
struct World {
    order: Order,
    stocks: BTreeMap<Sku, Stock>,
    payments: BTreeMap<u32, Payment>,
    in_flight: Vec<Effect>,
    mail: Vec<Command>,
    now: i64,
    skipped: bool,
    voided: bool,
    dice: Vec<u8>,
}

impl World {
    fn new(dice: Vec<u8>, capture: CapturePolicy, on_hand: [i64; 2]) -> Self {
        let mut stocks = BTreeMap::new();
        for (sku, on_hand) in ["A", "B"].into_iter().zip(on_hand) {
            let mut stock = Stock::default();
            let location = "main".parse().unwrap();
            let set = stock::Command::Set { location, on_hand, change_from: None };
            for event in stock.decide(&set, now()).unwrap() {
                stock.evolve(&event, now());
            }
            stocks.insert(sku.parse().unwrap(), stock);
        }
        let mut world = Self {
            order: Order::default(),
            stocks,
            payments: BTreeMap::new(),
            in_flight: Vec::new(),
            mail: Vec::new(),
            now: START,
            skipped: false,
            voided: false,
            dice,
        };
        world.ask(&Command::Place { placed: Arc::new(placed(capture)), method: method() });
        world
    }

    /// The next throw, below `sides`; 0, where all goes well, once calm has returned.
    fn throw(&mut self, sides: u8) -> u8 {
        self.dice.pop().map_or(0, |byte| byte % sides)
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn ask(&mut self, command: &Command) -> bool {
        let Ok(events) = self.order.decide(command, self.at()) else {
            return false;
        };
        self.tell(&events)
    }

    fn tell(&mut self, events: &[Event]) -> bool {
        for event in events {
            self.order.evolve(event, self.at());
        }
        sound(&self.order);
        !events.is_empty()
    }

    fn stock(&mut self, sku: &Sku, command: &stock::Command) -> Result<(), stock::Rejection> {
        let at = self.at();
        let stock = self.stocks.get_mut(sku).unwrap();
        for event in stock.decide(command, at)? {
            stock.evolve(&event, at);
            assert_eq!(stock.fault(), None);
        }
        Ok(())
    }

    /// Carries an effect out; what there is to tell of it.
    fn perform(&mut self, effect: &Effect) -> Command {
        match effect {
            Effect::Reserve { order, generation, units, hold } => {
                self.reserve(*order, *generation, units, *hold)
            }
            Effect::Commit { order, generation, units } => {
                let commit = stock::Command::Commit { order: *order };
                let mut all = true;
                for sku in units.keys() {
                    all &= self.stock(sku, &commit).is_ok();
                }
                if all {
                    Command::Confirm { number: 1 }
                } else {
                    Command::HoldLapsed { generation: *generation }
                }
            }
            Effect::Release { order, units } => {
                for sku in units.keys() {
                    self.stock(sku, &stock::Command::Release { order: *order }).unwrap();
                }
                Command::Released
            }
            Effect::Ship { order, fulfillment, units } => {
                for (sku, quantity) in units {
                    let (order, id) = (*order, fulfillment.to_string());
                    let ship = stock::Command::Ship { order, id, quantity: *quantity };
                    self.stock(sku, &ship).unwrap();
                }
                Command::Shipped { fulfillment: *fulfillment }
            }
            Effect::Restock { order, refund, units, restock } => {
                for (sku, (unshipped, shipped)) in units {
                    let back = stock::Command::TakeBack {
                        order: *order,
                        id: refund.to_string(),
                        unshipped: *unshipped,
                        shipped: *shipped,
                        restock: *restock,
                    };
                    self.stock(sku, &back).unwrap();
                }
                Command::RefundRestocked { refund: *refund }
            }
            _ => self.ask_provider(effect),
        }
    }

    fn reserve(
        &mut self,
        order: OrderId,
        generation: u32,
        units: &BTreeMap<Sku, i64>,
        hold: Span,
    ) -> Command {
        let hold_until = self.at() + hold;
        let mut shortages = Vec::new();
        for (sku, quantity) in units {
            let (quantity, priority) = (*quantity, [].into());
            let reserve = stock::Reserve { order, generation, quantity, hold_until, priority };
            match self.stock(sku, &stock::Command::Reserve(reserve)) {
                Err(stock::Rejection::OutOfStock { requested, available }) => {
                    shortages.push(Shortage { sku: sku.clone(), requested, available });
                }
                Err(stock::Rejection::Released) | Ok(()) => {}
                Err(error) => panic!("{error}"),
            }
        }
        if shortages.is_empty() {
            Command::Reserved { generation }
        } else {
            Command::OutOfStock { generation, shortages }
        }
    }

    /// The provider: the same key again is the same deed, and no more goes out than came in.
    fn ask_provider(&mut self, effect: &Effect) -> Command {
        let (outcome, step) = (self.throw(8), effect.step());
        let no = Command::GiveUp { step, why: "refused".into() };
        match effect {
            Effect::Authorize { attempt, amount, .. } => {
                let set_aside = amount.amount - i64::from(outcome == 7);
                let declined = (4..7).contains(&outcome);
                let fresh = Payment { set_aside, declined, ..Payment::default() };
                self.payments.entry(*attempt).or_insert(fresh);
                self.report(*attempt)
            }
            Effect::Reverse { attempt, .. } => {
                let made_impossible = Payment { closed: true, ..Payment::default() };
                self.payments.entry(*attempt).or_insert(made_impossible).closed = true;
                self.report(*attempt)
            }
            Effect::Void { attempt, .. } => {
                self.payments.get_mut(attempt).unwrap().closed = true;
                self.report(*attempt)
            }
            Effect::Capture { capture, payment, amount, .. } => {
                let paid = self.paid(payment);
                let room = paid.set_aside - paid.captured();
                let fits = !paid.closed && amount.amount <= room;
                if !fits && !paid.captures.contains_key(capture) {
                    return no;
                }
                let amount = *paid.captures.entry(*capture).or_insert(amount.amount);
                Command::Captured { capture: *capture, amount, operation: "c".into() }
            }
            Effect::Refund { refund, payment, amount, .. } => {
                let paid = self.paid(payment);
                let fits = amount.amount <= paid.captured() - paid.refunded();
                if !fits && !paid.refunds.contains_key(refund) {
                    return no;
                }
                paid.refunds.entry(*refund).or_insert(amount.amount);
                Command::Refunded { refund: *refund, operation: "r".into() }
            }
            _ => no,
        }
    }

    fn paid(&mut self, payment: &str) -> &mut Payment {
        let attempt = payment.trim_start_matches("pay_").parse().unwrap();
        self.payments.get_mut(&attempt).unwrap()
    }

    fn report(&self, attempt: u32) -> Command {
        let payment = &self.payments[&attempt];
        let report = match payment {
            Payment { declined: true, .. } => Report::Declined { code: "no".into() },
            Payment { closed: true, set_aside: 0, .. } => Report::Reversed,
            Payment { closed: true, .. } => Report::Voided,
            _ => {
                Report::Authorized { payment: format!("pay_{attempt}"), amount: payment.set_aside }
            }
        };
        Command::Report { attempt, report }
    }

    /// One effect is carried out, and told of at once, later, twice, or not at all.
    fn work(&mut self) {
        for effect in self.order.effects() {
            if !self.in_flight.contains(&effect) {
                self.in_flight.push(effect);
            }
        }
        if self.in_flight.is_empty() {
            return;
        }
        let index = usize::from(self.throw(16)) % self.in_flight.len();
        let effect = self.in_flight.swap_remove(index);
        let how = self.throw(10);
        if how == 9 {
            let step = effect.step();
            self.ask(&Command::GiveUp { step, why: "no answer".into() });
            return;
        }
        let result = self.perform(&effect);
        if how >= 6 {
            self.mail.push(result.clone());
        }
        match (how, &effect) {
            (8, Effect::Authorize { attempt, .. }) => {
                let report = Report::Unknown { why: "timeout".into() };
                self.ask(&Command::Report { attempt: *attempt, report });
            }
            (7 | 8, _) => {}
            _ => {
                self.ask(&result);
            }
        }
    }

    fn deliver(&mut self) {
        if self.mail.is_empty() {
            return;
        }
        let index = usize::from(self.throw(16)) % self.mail.len();
        let command = self.mail[index].clone();
        if self.throw(4) < 3 {
            self.mail.swap_remove(index);
        }
        self.ask(&command);
    }

    /// Somebody does something.
    fn disturb(&mut self) {
        let number = i64::from(self.throw(3));
        let reason = || "asked".to_owned();
        let command = match self.throw(14) {
            0 => Command::Cancel { reason: reason() },
            1 => Command::Retry { reason: reason() },
            2 => Command::Pay { method: method() },
            3 => Command::Capture { amount: (number > 0).then_some(number * 700) },
            4 | 5 => Command::Fulfill(FulfillmentRequest {
                lines: if number == 0 { vec![] } else { vec![(1, number)] },
                tracking: None,
            }),
            6 | 7 => Command::Refund(RefundRequest {
                lines: vec![RefundLineRequest { line: 1, quantity: number + 1, amount: None }],
                free: number,
                restock: number == 1,
                reason: reason(),
                ..RefundRequest::default()
            }),
            8 => Command::RaiseAlert { alert: "odd".into() },
            9 => {
                let step = self.order.stuck().keys().next().cloned();
                self.skipped |= self.ask(&Command::Skip { step, reason: reason() });
                return;
            }
            10 => return self.void_elsewhere(),
            _ => {
                self.now += [1_000, 1_000_000, HOUR][usize::try_from(number).unwrap()];
                let events = self.order.on_timer(self.at());
                self.tell(&events);
                return;
            }
        };
        self.ask(&command);
    }

    /// The provider lets money go that nobody has taken.
    fn void_elsewhere(&mut self) {
        let open = |one: &Payment| one.set_aside > 0 && !one.closed && one.captures.is_empty();
        let open = |(_, one): &(&u32, &mut Payment)| open(one);
        if let Some((attempt, payment)) = self.payments.iter_mut().find(open) {
            payment.closed = true;
            self.voided = true;
            let attempt = *attempt;
            let report = self.report(attempt);
            self.mail.push(report);
        }
    }

    /// Calm: everything works, and an operator sees to what is stuck.
    fn settle(&mut self) {
        self.dice.clear();
        let mut retries = 0;
        for _ in 0..500 {
            if !self.in_flight.is_empty() || !self.order.effects().is_empty() {
                self.work();
                continue;
            }
            if !self.mail.is_empty() {
                self.deliver();
                continue;
            }
            let reason = "calm".to_owned();
            if self.order.alert().is_some() || !self.order.stuck().is_empty() {
                retries += 1;
                if retries < 4 && self.ask(&Command::Retry { reason: reason.clone() }) {
                    continue;
                }
                let step = self.order.stuck().keys().next().cloned();
                if self.ask(&Command::Skip { step, reason: reason.clone() }) {
                    self.skipped = true;
                    continue;
                }
                assert!(self.ask(&Command::Cancel { reason }), "no way out: {self:#?}");
                continue;
            }
            if matches!(self.order.phase(), Phase::Confirmed | Phase::Cancelled) {
                return;
            }
            let due = self.order.timer().expect("somebody must wake it");
            self.now = self.now.max(due.millis());
            let events = self.order.on_timer(self.at());
            assert!(self.tell(&events), "a timer in vain: {self:#?}");
        }
        panic!("no end: {self:#?}");
    }

    fn check_books(&self) {
        let paid: i64 = self.payments.values().map(Payment::captured).sum();
        let back: i64 = self.payments.values().map(Payment::refunded).sum();
        let order = &self.order;
        assert_eq!((order.captured(), order.refunded()), (paid, back), "{self:#?}");
        if self.skipped {
            return;
        }
        let cancelled = order.phase() == Phase::Cancelled;
        let at_once = order.placed().unwrap().capture == CapturePolicy::AtOnce;
        if cancelled || (at_once && !self.voided) {
            assert_eq!(order.captured() - order.refunded(), order.due(), "{self:#?}");
        }
        if cancelled {
            let left =
                |one: &Payment| !one.declined && !one.closed && one.set_aside > one.captured();
            assert!(!self.payments.values().any(left), "still set aside: {self:#?}");
        }
        for (sku, units) in order.units() {
            let level = self.stocks[&sku].total();
            let lines = &order.placed().unwrap().lines;
            let lines = lines.iter().filter(|line| line.sku == sku);
            let open: i64 = lines.clone().map(|line| order.unshipped(line.id)).sum();
            let kept = if cancelled { 0 } else { open };
            assert_eq!((level.reserved, level.allocated), (0, kept), "{units} of {sku}: {self:#?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_order_comes_to_an_end_and_the_books_agree(
        dice in prop::collection::vec(any::<u8>(), 0..250),
        capture in prop::sample::select(vec![
            CapturePolicy::AtOnce,
            CapturePolicy::AtOnce,
            CapturePolicy::AtDispatch,
            CapturePolicy::ByHand,
        ]),
        on_hand in prop::sample::select(vec![[4, 2], [9, 9], [9, 9], [9, 9], [9, 9], [3, 2]]),
    ) {
        let mut world = World::new(dice, capture, on_hand);
        while !world.dice.is_empty() {
            match world.throw(8) {
                0..5 => world.work(),
                5 | 6 => world.deliver(),
                _ => world.disturb(),
            }
        }
        world.settle();
        world.check_books();
    }
}
