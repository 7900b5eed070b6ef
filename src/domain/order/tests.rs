//! Tests of orders: whole sagas without IO. A test is a sequence of steps, and compares the final
//! state, shown as a text such as `confirmed completed/captured/fulfilled 2249-0 due 2249 []`.

mod anywhere;
mod buyer;
mod ledger;
mod model;
mod movements;
mod refunds;
mod stories;
mod world;

use super::*;
use crate::domain::entity::Noun;
use crate::domain::money::{Rounding, TaxRate, UnitPrice};
use crate::domain::pricing::Rules;
use crate::domain::sealed;

/// The time at which every order of these tests is placed, in milliseconds.
const START: i64 = 1_000_000;
const HOUR: i64 = 3_600_000;
/// The total of the order of these tests.
const TOTAL: i64 = 2_249;
/// Stands in [`Command::Refunded`] for the amount that was requested.
const AS_REQUESTED: i64 = i64::MIN;

/// A step of the test.
#[derive(Clone, Debug)]
enum Step {
    Do(Command),
    /// The timer fires, this many milliseconds after the order was placed.
    Timer(i64),
}

impl From<Command> for Step {
    fn from(command: Command) -> Self {
        Self::Do(command)
    }
}

fn now() -> Timestamp {
    Timestamp::from_millis(START)
}

fn address() -> SealedAddress {
    SealedAddress { country: "GB".into(), name: sealed::any("Ada"), address: sealed::any("York") }
}

/// An order with three lines, two of them of the same SKU: 3 units for 1000, 2 for 500 and 1 for
/// 250; the delivery costs 499.
fn placed(capture: CapturePolicy) -> Placed {
    let rules = Rules { rounding: Rounding::HalfEven, ..Rules::default() };
    let line = |id, sku: &str, quantity, price: &str| {
        let price: UnitPrice = price.parse().unwrap();
        let what = (sku.parse().unwrap(), sku.to_owned());
        QuotedLine::new(id, what, quantity, (price, TaxRate::default()), &rules).unwrap()
    };
    let lines = vec![line(1, "A", 3, "333.3333"), line(2, "B", 2, "250"), line(3, "A", 1, "250")];
    let delivery =
        Delivery { option: "express".into(), name: "Express".into(), price: 499, tax: 0 };
    let totals = Totals::of(&lines, Some(&delivery), true).unwrap();
    assert_eq!(totals.total, TOTAL);
    Placed {
        order: "ord_01k0000000e008000000000001".parse().unwrap(),
        currency: Currency::GBP,
        email: sealed::any("ada"),
        reference: None,
        lines,
        shipping_address: address(),
        billing_address: None,
        delivery,
        totals,
        rounding: Rounding::HalfEven,
        capture,
        deadline_at: now() + Span::from_millis(HOUR),
        hold: Span::from_secs(900),
    }
}

fn method() -> PaymentMethod {
    PaymentMethod { provider: "sandbox".into(), token: sealed::any("ok") }
}

fn place() -> Step {
    place_with(CapturePolicy::AtOnce)
}

fn place_with(capture: CapturePolicy) -> Step {
    Command::Place { placed: Arc::new(placed(capture)), method: Some(method()) }.into()
}

fn place_free() -> Step {
    let mut free = placed(CapturePolicy::AtOnce);
    for line in &mut free.lines {
        (line.unit_price, line.total) = (UnitPrice::default(), 0);
    }
    free.delivery.price = 0;
    free.totals = Totals::of(&free.lines, Some(&free.delivery), true).unwrap();
    Command::Place { placed: Arc::new(free), method: None }.into()
}

fn pay() -> Step {
    Command::Pay { method: Some(method()) }.into()
}

fn reserved(generation: u32) -> Step {
    Command::Reserved { generation }.into()
}

fn out_of_stock(generation: u32) -> Step {
    let shortages =
        vec![Shortage { sku: "A".parse().unwrap(), requested: 4, available: 1, held: 0 }];
    Command::OutOfStock { generation, shortages }.into()
}

fn report(attempt: u32, report: ProviderReport) -> Step {
    Command::Report { attempt, report }.into()
}

fn authorized_for(attempt: u32, amount: i64) -> Step {
    report(attempt, ProviderReport::Authorized { payment: format!("pay_{attempt}"), amount })
}

fn authorized(attempt: u32) -> Step {
    authorized_for(attempt, TOTAL)
}

fn declined(attempt: u32) -> Step {
    report(attempt, ProviderReport::Declined { code: "card_declined".into() })
}

fn unknown(attempt: u32) -> Step {
    report(attempt, ProviderReport::Unknown { why: "timeout".into() })
}

fn pending(attempt: u32) -> Step {
    report(attempt, ProviderReport::Pending { payment: format!("pay_{attempt}"), action: None })
}

fn unheard(attempt: u32) -> Step {
    report(attempt, ProviderReport::Unheard)
}

fn reversed(attempt: u32) -> Step {
    report(attempt, ProviderReport::Reversed)
}

fn voided(attempt: u32) -> Step {
    report(attempt, ProviderReport::Voided)
}

fn hold_lapsed(generation: u32) -> Step {
    Command::HoldLapsed { generation }.into()
}

fn confirm() -> Step {
    Command::Confirm { number: 7 }.into()
}

fn captured(capture: u32, amount: i64) -> Step {
    let operation = format!("op_capture_{capture}");
    Command::Captured { capture: Some(capture), amount, operation }.into()
}

/// The provider has refunded the amount that was requested.
fn refunded(refund: u32) -> Step {
    let operation = format!("op_refund_{refund}");
    Command::Refunded { refund: Some(refund), amount: AS_REQUESTED, operation }.into()
}

/// Money was captured in the provider's dashboard; the number tells such captures apart.
fn captured_elsewhere(number: u32, amount: i64) -> Step {
    let operation = format!("op_elsewhere_{number}");
    Command::Captured { capture: None, amount, operation }.into()
}

/// Money was refunded in the provider's dashboard; the number tells such refunds apart.
fn refunded_elsewhere(number: u32, amount: i64) -> Step {
    let operation = format!("op_elsewhere_{number}");
    Command::Refunded { refund: None, amount, operation }.into()
}

fn restocked(refund: u32) -> Step {
    Command::RefundRestocked { refund }.into()
}

fn shipped(fulfillment: u32) -> Step {
    Command::Shipped { fulfillment }.into()
}

fn released() -> Step {
    Command::Released.into()
}

fn give_up(step: &str) -> Step {
    Command::GiveUp { step: step.into(), why: "no answer".into() }.into()
}

fn cancel() -> Step {
    Command::Cancel { reason: "asked".into() }.into()
}

fn abandon() -> Step {
    Command::Abandon.into()
}

fn retry() -> Step {
    Command::Retry { reason: "looked".into() }.into()
}

fn skip() -> Step {
    Command::Skip { step: None, reason: "looked".into() }.into()
}

fn skip_step(step: &str) -> Step {
    Command::Skip { step: Some(step.into()), reason: "looked".into() }.into()
}

fn alert() -> Step {
    Command::RaiseAlert { alert: "odd".into() }.into()
}

fn capture(amount: Option<i64>) -> Step {
    Command::Capture { amount }.into()
}

fn fulfill(lines: &[(u32, i64)]) -> Step {
    Command::Fulfill(FulfillmentRequest { lines: lines.to_vec(), tracking: None }).into()
}

fn tracking(number: &str) -> Tracking {
    Tracking { carrier: "post".to_owned(), number: number.to_owned(), url: None }
}

fn correct_tracking(fulfillment: u32, number: Option<&str>) -> Step {
    let patch = |number: &str| TrackingPatch {
        carrier: Some("post".to_owned()),
        number: Some(number.to_owned()),
        url: None,
    };
    Command::CorrectTracking { fulfillment, tracking: number.map(patch) }.into()
}

fn refund(lines: &[(u32, i64)], delivery: i64, free: i64) -> Step {
    let lines = lines
        .iter()
        .map(|(line, quantity)| RefundLineRequest {
            line: *line,
            quantity: *quantity,
            amount: None,
            from: None,
        })
        .collect();
    let reason = "asked".to_owned();
    Command::Refund(RefundRequest { lines, delivery, free, restock: true, reason }).into()
}

fn happy() -> Vec<Step> {
    vec![place(), reserved(1), authorized(1), confirm()]
}

fn paid() -> Vec<Step> {
    [happy(), vec![captured(1, TOTAL)]].concat()
}

fn then(before: Vec<Step>, after: &[Step]) -> Vec<Step> {
    [before, after.to_vec()].concat()
}

/// The command, with the requested amount for [`AS_REQUESTED`].
fn with_amount(order: &Order, command: &Command) -> Command {
    let mut command = command.clone();
    let mut inner = &mut command;
    while let Command::FromProvider { command, .. } = inner {
        inner = command;
    }
    if let Command::Refunded { refund: Some(number), amount, .. } = inner
        && *amount == AS_REQUESTED
    {
        *amount = order.refund(*number).map_or(1, |one| one.amount);
    }
    command
}

/// Takes a step; returns the number of its events, or the rejection.
fn take(order: &mut Order, step: &Step) -> Result<usize, Rejection> {
    let (events, at) = match step {
        Step::Do(command) => (order.decide(&with_amount(order, command), now())?, now()),
        Step::Timer(millis) => {
            let at = now() + Span::from_millis(*millis);
            (order.on_timer(at), at)
        }
    };
    for event in &events {
        let text = serde_json::to_string(event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), *event);
        order.evolve(event, at);
    }
    sound(order);
    Ok(events.len())
}

/// Checks the invariants of an order.
fn sound(order: &Order) {
    assert!(order.captured() <= order.authorized(), "{order:#?}");
    assert!(order.refunded() <= order.captured(), "{order:#?}");
    assert!(order.refunds_requested() <= order.captured(), "{order:#?}");
    assert!(order.authorized() >= 0 && order.refunded() >= 0, "{order:#?}");
    for line in order.placed().iter().flat_map(|placed| &placed.lines) {
        assert!(order.unshipped(line.id) >= 0, "{order:#?}");
        assert!(order.refunded_units(line.id) <= line.quantity, "{order:#?}");
    }
    let effects = order.effects();
    let steps: BTreeSet<String> = effects.iter().map(Effect::step).collect();
    assert_eq!(steps.len(), effects.len(), "asked for twice: {effects:?}");
    if steps.contains("release") {
        assert_eq!(effects.len(), 1, "money first: {effects:?}");
    }
    for effect in &effects {
        if let Effect::Capture { amount, .. }
        | Effect::Void { amount, .. }
        | Effect::Refund { amount, .. } = effect
        {
            assert!(amount.amount > 0, "{effect:?}");
        }
    }
    if !effects.is_empty() {
        assert!(order.timer().is_some(), "{effects:?} and nobody wakes it");
    }
    if order.phase() == Phase::Confirmed {
        assert!(order.number().is_some());
    }
    let text = serde_json::to_string(order).unwrap();
    assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), *order, "a snapshot is a copy");
}

/// Whether a command reports the result of an effect, or can otherwise be repeated.
fn repeatable(step: &Step) -> bool {
    let Step::Do(command) = step else {
        return true;
    };
    !matches!(
        command,
        Command::Place { .. }
            | Command::Pay { .. }
            | Command::Refund(_)
            | Command::Capture { .. }
            | Command::Fulfill(_)
            | Command::Retry { .. }
            | Command::Skip { .. }
    )
}

/// Takes the steps, and each repeatable step twice: the second time it must have no effect.
fn tell(steps: &[Step]) -> Order {
    let mut order = Order::default();
    for step in steps {
        take(&mut order, step).unwrap_or_else(|error| panic!("{step:?}: {error}"));
        if repeatable(step) {
            assert_eq!(take(&mut order, step), Ok(0), "the second {step:?}");
        }
    }
    order
}

fn show(order: &Order) -> String {
    let name = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let steps: Vec<String> = order.effects().iter().map(Effect::step).collect();
    format!(
        "{} {}/{}/{} {}-{} due {} [{}]",
        name(serde_json::to_value(order.phase()).unwrap()),
        <&str>::from(order.status()),
        <&str>::from(order.payment_status()),
        <&str>::from(order.fulfillment_status()),
        order.captured(),
        order.refunded(),
        order.due(),
        steps.join(" ")
    )
}

/// Takes steps and compares the final state.
#[track_caller]
fn check(steps: Vec<Step>, end: &str) {
    assert_eq!(show(&tell(&steps)), end);
}

/// Takes the steps, and then `last`, which must be rejected with the message `why`.
#[track_caller]
fn refused(steps: Vec<Step>, last: Step, why: &str) {
    let mut order = tell(&steps);
    let before = order.clone();
    let refusal = take(&mut order, &last).map_err(|error| error.to_string());
    assert_eq!(refusal, Err(why.to_owned()));
    assert_eq!(order, before);
}
