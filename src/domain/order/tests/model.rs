//! Property test of one order with real stock and a simulated provider that never lies. Calls
//! succeed, fail, are carried out without an answer, late or twice; messages arrive late, twice and
//! out of order; commands of operators and false commands come at any time. After each step, a
//! second ledger (`ledger`) must agree with the order. At the end, all calls succeed: an order that
//! got no false command must finish, and its amounts must agree with the provider and the stock.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::ledger::Ledger;
use super::world::{How, World};
use super::*;

/// A kind of effect: the first part of its step name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reserve,
    Authorize,
    Commit,
    Capture,
    Void,
    Reverse,
    Refund,
    Restock,
    Ship,
    Release,
}

impl Kind {
    fn is(self, effect: &Effect) -> bool {
        let step = effect.step();
        step.split(':').next() == Some(&*format!("{self:?}").to_lowercase())
    }
}

/// A step of the test.
#[derive(Clone, Debug)]
enum Act {
    /// The first required effect is performed.
    Work(How),
    /// The effect of this kind is performed, or an earlier one is repeated.
    Call(Kind, How),
    /// A message arrives, perhaps again; the number is its index among all messages ever sent.
    Mail(usize),
    /// The provider decides pending attempts.
    Decide,
    /// The provider voids the authorization by itself.
    VoidElsewhere,
    /// At most this amount is captured in the provider's dashboard.
    CaptureElsewhere(i64),
    /// At most this amount is refunded in the provider's dashboard.
    RefundElsewhere(i64),
    /// Minutes pass, and the timer fires.
    Wait(i64),
    Pay,
    Abandon,
    Cancel,
    Retry,
    Skip,
    Alert,
    Capture(Option<i64>),
    Fulfill(Vec<(u32, i64)>),
    Refund {
        line: u32,
        units: i64,
        free: i64,
        restock: bool,
        from: Option<RefundFrom>,
    },
    /// A false command; the number is its index in `anywhere::commands`.
    Lie(usize),
}

/// The conditions of the order: its capture policy, and the units on hand of both SKUs.
#[derive(Clone, Debug)]
struct Scene {
    capture: CapturePolicy,
    on_hand: [i64; 2],
}

impl ReferenceStateMachine for Scene {
    type State = Self;
    type Transition = Act;

    fn init_state() -> BoxedStrategy<Self> {
        let capture = prop_oneof![
            2 => Just(CapturePolicy::AtOnce),
            1 => Just(CapturePolicy::AtDispatch),
            1 => Just(CapturePolicy::ByHand),
        ];
        let on_hand = prop_oneof![8 => Just([9, 9]), 1 => Just([4, 2]), 1 => Just([3, 2])];
        (capture, on_hand).prop_map(|(capture, on_hand)| Self { capture, on_hand }).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Act> {
        use Kind::{
            Authorize, Capture, Commit, Refund, Release, Reserve, Restock, Reverse, Ship, Void,
        };
        let kinds = vec![
            Reserve, Authorize, Commit, Capture, Void, Reverse, Refund, Restock, Ship, Release,
        ];
        let how = || {
            prop_oneof![
                12 => Just(How::Answered),
                3 => Just(How::Unanswered),
                2 => Just(How::GivenUp),
                1 => Just(How::Unheard),
                2 => Just(How::Declined),
                1 => Just(How::Pending),
                1 => Just(How::Less),
            ]
        };
        let line = || (1_u32..4, 1_i64..4);
        let from = prop_oneof![
            2 => Just(None),
            1 => Just(Some(RefundFrom::Unfulfilled)),
            1 => Just(Some(RefundFrom::Fulfilled)),
        ];
        prop_oneof![
            60 => how().prop_map(Act::Work),
            15 => (prop::sample::select(kinds), how()).prop_map(|(kind, how)| Act::Call(kind, how)),
            15 => (0_usize..20).prop_map(Act::Mail),
            3 => Just(Act::Decide),
            2 => Just(Act::VoidElsewhere),
            1 => (1_i64..TOTAL + 1).prop_map(Act::CaptureElsewhere),
            2 => (1_i64..TOTAL + 1).prop_map(Act::RefundElsewhere),
            5 => prop_oneof![3 => 1_i64..20, 1 => Just(61)].prop_map(Act::Wait),
            4 => Just(Act::Pay),
            2 => Just(Act::Abandon),
            3 => Just(Act::Cancel),
            4 => Just(Act::Retry),
            3 => Just(Act::Skip),
            1 => Just(Act::Alert),
            3 => prop::option::of(-1_i64..TOTAL + 2).prop_map(Act::Capture),
            8 => prop::collection::vec(line(), 0..3).prop_map(Act::Fulfill),
            8 => (line(), 0_i64..600, any::<bool>(), from).prop_map(
                |((line, units), free, restock, from)| Act::Refund { line, units, free, restock, from },
            ),
            1 => (0_usize..100).prop_map(Act::Lie),
        ]
        .boxed()
    }

    fn apply(scene: Self, _: &Act) -> Self {
        scene
    }
}

/// The order, its environment, and all effects and messages so far.
struct Subject {
    order: Order,
    ledger: Ledger,
    world: World,
    /// All effects that were ever required, and all messages that were ever sent.
    wanted: Vec<Effect>,
    mail: Vec<Command>,
    journal: Vec<(String, Timestamp)>,
    story: Vec<String>,
    gave_up: bool,
    voided: bool,
    captured_elsewhere: bool,
    lied: bool,
}

impl Subject {
    fn new(scene: &Scene) -> Self {
        let mut subject = Self {
            order: Order::default(),
            ledger: Ledger::default(),
            world: World::new(scene.on_hand),
            wanted: Vec::new(),
            mail: Vec::new(),
            journal: Vec::new(),
            story: Vec::new(),
            gave_up: false,
            voided: false,
            captured_elsewhere: false,
            lied: false,
        };
        let placed = Arc::new(placed(scene.capture));
        subject.ask(&Command::Place { placed, method: Some(method()) });
        subject
    }

    /// Sends a command to the order, and returns whether it gave events.
    fn ask(&mut self, command: &Command) -> bool {
        match self.order.decide(command, self.world.at()) {
            Ok(events) => self.tell(&events),
            Err(_) => false,
        }
    }

    fn tell(&mut self, events: &[super::Event]) -> bool {
        let at = self.world.at();
        for event in events {
            self.ledger.fold(event);
            if matches!(event, super::Event::Confirmed { .. }) && !self.lied {
                self.has_its_stock();
            }
            self.journal.push((serde_json::to_string(event).unwrap(), at));
            self.order.evolve(event, at);
        }
        sound(&self.order);
        self.ledger.check(&self.order);
        for effect in self.order.effects() {
            let before = self.wanted.iter().find(|one| one.step() == effect.step());
            let may_change = matches!(effect, Effect::Void { .. });
            assert!(before.is_none_or(|one| may_change || *one == effect), "{effect:?} changed");
            if before.is_none() {
                self.wanted.push(effect);
            }
        }
        !events.is_empty()
    }

    fn has_its_stock(&self) {
        for (sku, units) in self.order.units() {
            let order = self.order.placed().unwrap().order;
            let claim = self.world.stocks[&sku].claim(order).expect("it has stock");
            let has: i64 = claim.allocated.iter().map(|part| part.quantity).sum();
            assert_eq!(has, units, "confirmed without its {sku}");
        }
    }

    fn call(&mut self, effect: &Effect, how: How) {
        let (step, why) = (effect.step(), "no answer".to_owned());
        if how == How::GivenUp {
            self.ask(&Command::GiveUp { step, why });
            return;
        }
        if let (How::Unheard, Effect::Authorize { attempt, .. }) = (how, effect) {
            let report = ProviderReport::Unheard;
            self.ask(&Command::Report { attempt: *attempt, report });
            // The call arrives after all, and its result is sent as a message.
            self.mail.push(self.world.perform(effect, How::Answered));
            return;
        }
        let result = self.world.perform(effect, how);
        if let (Effect::Ship { .. } | Effect::Restock { .. }, Command::GiveUp { .. }) =
            (effect, &result)
        {
            // Stock that was released after a movement had been skipped cannot be moved any more.
            assert!(self.lied || self.gave_up, "the stock refuses {effect:?}");
        }
        self.mail.push(result.clone());
        match (how, effect) {
            (How::Unanswered, Effect::Authorize { attempt, .. }) => {
                let report = ProviderReport::Unknown { why };
                self.ask(&Command::Report { attempt: *attempt, report });
            }
            (How::Unanswered, _) => {}
            _ => {
                self.ask(&result);
            }
        }
    }

    fn take(&mut self, step: &Act) {
        let reason = || "asked".to_owned();
        let command = match step {
            Act::Work(how) => {
                if let Some(effect) = self.order.effects().into_iter().next() {
                    self.call(&effect, *how);
                }
                return;
            }
            Act::Call(kind, how) => {
                let now = self.order.effects().into_iter().find(|one| kind.is(one));
                let ever = || self.wanted.iter().rfind(|one| kind.is(one)).cloned();
                if let Some(effect) = now.or_else(ever) {
                    self.call(&effect, *how);
                }
                return;
            }
            Act::Mail(number) => {
                if let Some(number) = number.checked_rem(self.mail.len()) {
                    let command = self.mail[number].clone();
                    self.ask(&command);
                }
                return;
            }
            Act::Decide => return self.mail.extend(self.world.decide()),
            Act::VoidElsewhere => {
                let told = self.world.void_elsewhere();
                self.voided |= told.is_some();
                return self.mail.extend(told);
            }
            Act::CaptureElsewhere(most) => {
                let paid = self.order.paid_attempt().map(|attempt| attempt.number);
                let told = paid.and_then(|paid| self.world.capture_elsewhere(paid, *most));
                self.captured_elsewhere |= told.is_some();
                return self.mail.extend(told);
            }
            Act::RefundElsewhere(most) => {
                let paid = self.order.paid_attempt().map(|attempt| attempt.number);
                let told = paid.and_then(|paid| self.world.refund_elsewhere(paid, *most));
                return self.mail.extend(told);
            }
            Act::Wait(minutes) => return self.wait(minutes * 60_000),
            Act::Skip => return self.skip(),
            Act::Lie(number) => return self.lie(*number),
            Act::Pay => Command::Pay { method: Some(method()) },
            Act::Abandon => Command::Abandon,
            Act::Cancel => Command::Cancel { reason: reason() },
            Act::Retry => Command::Retry { reason: reason() },
            Act::Alert => Command::RaiseAlert { alert: "odd".into() },
            Act::Capture(amount) => Command::Capture { amount: *amount },
            Act::Fulfill(lines) => {
                Command::Fulfill(FulfillmentRequest { lines: lines.clone(), tracking: None })
            }
            Act::Refund { line, units, free, restock, from } => Command::Refund(RefundRequest {
                lines: vec![RefundLineRequest {
                    line: *line,
                    quantity: *units,
                    amount: None,
                    from: *from,
                }],
                free: *free,
                restock: *restock,
                reason: reason(),
                ..RefundRequest::default()
            }),
        };
        self.ask(&command);
    }

    fn wait(&mut self, millis: i64) {
        self.world.now += millis;
        let events = self.order.on_timer(self.world.at());
        self.tell(&events);
    }

    fn skip(&mut self) {
        let step = self.order.stuck().keys().next().cloned();
        self.gave_up |= self.ask(&Command::Skip { step, reason: "looked".into() });
    }

    fn lie(&mut self, number: usize) {
        let lies = super::anywhere::commands();
        if let Step::Do(command) = &lies[number % lies.len()] {
            let before = std::mem::replace(&mut self.lied, true);
            self.lied = self.ask(command) || before;
        }
    }

    /// From now on, every call succeeds, and an operator handles stuck steps and alerts, until the
    /// order is confirmed or cancelled and has no effects left.
    fn settle(&mut self) {
        let mut retries = 0;
        // A report of a refund that comes before that of its capture is rejected, and told again.
        for number in (0..self.mail.len()).chain(0..self.mail.len()) {
            self.take(&Act::Mail(number));
        }
        for _ in 0..200 {
            for command in self.world.decide() {
                self.ask(&command);
            }
            if !self.order.effects().is_empty() {
                self.take(&Act::Work(How::Answered));
                continue;
            }
            let reason = "calm".to_owned();
            if self.order.alert().is_some() || !self.order.stuck().is_empty() {
                retries += 1;
                if retries < 4 && self.ask(&Command::Retry { reason: reason.clone() }) {
                    continue;
                }
                let before = self.journal.len();
                self.skip();
                if self.journal.len() > before {
                    continue;
                }
                assert!(self.ask(&Command::Cancel { reason }), "no way out");
                continue;
            }
            if matches!(self.order.phase(), Phase::Confirmed | Phase::Cancelled) {
                return;
            }
            let due = self.order.timer().expect("somebody must wake it");
            let before = self.journal.len();
            self.wait((due.millis() - self.world.now).max(0));
            assert!(self.journal.len() > before, "a timer in vain");
        }
        panic!("it never comes to rest");
    }

    fn check_books(&self) {
        let order = &self.order;
        let payments = || self.world.payments.values();
        let paid: i64 = payments().map(|one| one.captured()).sum();
        let back: i64 = payments().map(|one| one.refunded()).sum();
        assert_eq!((order.captured(), order.refunded()), (paid, back), "the provider's ledger");
        if self.gave_up {
            return;
        }
        let cancelled = order.phase() == Phase::Cancelled;
        let at_once = order.placed().unwrap().capture == CapturePolicy::AtOnce;
        if cancelled || (at_once && !self.voided && !self.captured_elsewhere) {
            assert_eq!(paid - back, order.due(), "what is due");
        }
        let nothing_ships = order.fulfillment_status() == FulfillmentStatus::NotRequired;
        if nothing_ships && !cancelled && !self.voided {
            assert_eq!(paid - back, order.due(), "what is due though nothing ships");
        }
        if order.captures_at_dispatch() && !cancelled && !self.voided {
            assert!(paid >= shipped_value(order), "what was shipped is captured");
            if order.unshipped_units() == 0 {
                assert_eq!(paid - back, order.due(), "what is due at dispatch");
                let held: i64 = payments().map(|one| one.held()).sum();
                assert_eq!(held, 0, "the rest is still held");
            }
        }
        if cancelled {
            assert_eq!(payments().map(|one| one.held()).sum::<i64>(), 0, "money is still held");
        }
        for (sku, _) in order.units() {
            let level = self.world.stocks[&sku].total();
            let lines = order.placed().unwrap().lines.iter().filter(|line| line.sku == sku);
            let open: i64 = lines.map(|line| order.unshipped(line.id)).sum();
            let kept = if cancelled { 0 } else { open };
            assert_eq!((level.reserved, level.allocated), (0, kept), "the stock of {sku}");
        }
    }

    fn replays(&self) {
        let mut again = Order::default();
        for (text, at) in &self.journal {
            again.evolve(&serde_json::from_str(text).unwrap(), *at);
        }
        assert_eq!(again, self.order, "its events lead elsewhere");
    }

    /// Runs `deed`, and panics with the whole history if it fails.
    fn tells(&mut self, what: String, deed: impl FnOnce(&mut Self)) {
        let failed = catch_unwind(AssertUnwindSafe(|| deed(self))).err();
        self.story.push(format!("{what:40} {}", show(&self.order)));
        if let Some(panic) = failed {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            match text {
                Some(text) => panic!("{text}\nThe story:\n{}", self.story.join("\n")),
                None => resume_unwind(panic),
            }
        }
    }
}

/// The price of the shipped units, and of the delivery, which belongs to the first shipment.
fn shipped_value(order: &Order) -> i64 {
    let placed = order.placed().unwrap();
    let lines = placed.lines.iter();
    // Rounded down, because the amount is used as a lower bound.
    let units =
        lines.map(|line| line.total * order.fulfilled(line.id) / line.quantity).sum::<i64>();
    units + if order.fulfillments().is_empty() { 0 } else { placed.delivery.price }
}

impl StateMachineTest for Subject {
    type SystemUnderTest = Self;
    type Reference = Scene;

    fn init_test(scene: &Scene) -> Self {
        Self::new(scene)
    }

    fn apply(mut subject: Self, _: &Scene, step: Act) -> Self {
        subject.tells(format!("{step:?}"), |subject| subject.take(&step));
        subject
    }

    fn teardown(mut subject: Self, _: Scene) {
        if !subject.lied {
            subject.tells("calm".to_owned(), |subject| {
                subject.settle();
                subject.check_books();
            });
        }
        subject.replays();
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1_500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_order_finishes_and_all_ledgers_agree(sequential 1..60 => Subject);
}
