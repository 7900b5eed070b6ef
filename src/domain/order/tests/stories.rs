//! Tests with sequences of steps that succeed, fail, or are repeated.

use super::*;

const IN_FULL: &str = "confirmed confirmed/captured/unfulfilled 2249-0 due 2249 []";
const GONE: &str = "cancelled cancelled/none/unfulfilled 0-0 due 0 []";

#[test]
fn the_happy_path() {
    let rest = "0-0 due 2249";
    let steps = then(paid(), &[fulfill(&[]), shipped(1)]);
    let ends = [
        format!("reserving pending/none/unfulfilled {rest} [reserve:1]"),
        format!("paying pending/requested/unfulfilled {rest} [authorize:1]"),
        format!("committing pending/authorized/unfulfilled {rest} [commit:1]"),
        format!("confirmed confirmed/authorized/unfulfilled {rest} [capture:1]"),
        IN_FULL.to_owned(),
        "confirmed completed/captured/fulfilled 2249-0 due 2249 [ship:1]".to_owned(),
        "confirmed completed/captured/fulfilled 2249-0 due 2249 []".to_owned(),
    ];
    for (taken, end) in (1..).zip(ends) {
        check(steps[..taken].to_vec(), &end);
    }
}

#[test]
fn sku_on_two_lines_is_reserved_once() {
    let order = tell(&[place()]);
    let Some(Effect::Reserve { units, .. }) = order.effects().pop() else { panic!() };
    let units: Vec<(String, i64)> =
        units.into_iter().map(|(sku, units)| (sku.to_string(), units)).collect();
    assert_eq!(units, [("A".to_owned(), 4), ("B".to_owned(), 2)]);
}

#[test]
fn a_free_order_needs_no_payment() {
    check(
        vec![place_free(), reserved(1), confirm()],
        "confirmed confirmed/none/unfulfilled 0-0 due 0 []",
    );
    check(
        vec![place_free(), reserved(1), confirm(), refund(&[(1, 1)], 0, 0), restocked(1), cancel()],
        "cancelling cancelled/none/unfulfilled 0-0 due 0 [release]",
    );
}

#[test]
fn reports_of_another_account_or_currency_are_refused() {
    let told = |provider: &str, currency, attempt| -> Step {
        let report = ProviderReport::Authorized { payment: "pay_1".to_owned(), amount: TOTAL };
        let command = Box::new(Command::Report { attempt, report });
        let provider = provider.to_owned();
        Command::FromProvider { provider, currency, attempt, command }.into()
    };
    let paying = vec![place(), reserved(1)];
    let elsewhere = "no payment of the order was made there";
    for (last, why) in [
        (told("sandbox/eu", Currency::GBP, 1), elsewhere),
        (told("sandbox", Currency::JPY, 1), "the payment is in JPY, and its order in GBP"),
        (told("sandbox", Currency::GBP, 2), elsewhere),
    ] {
        refused(paying.clone(), last, why);
    }
    let ours = told("sandbox", Currency::GBP, 1);
    assert_eq!(tell(&then(paying.clone(), &[ours])), tell(&then(paying, &[authorized(1)])));
}

#[test]
fn account_of_a_declined_attempt_cannot_capture_another() {
    let method = PaymentMethod { provider: "sandbox/eu".into(), token: sealed::any("ok") };
    let again = Command::Pay { method: Some(method) }.into();
    let paid = [place(), reserved(1), declined(1), again, reserved(2), authorized(2), confirm()];
    let told = |provider: &str, attempt, step: Step| -> Step {
        let Step::Do(command) = step else { panic!("{step:?}") };
        let (provider, currency) = (provider.to_owned(), Currency::GBP);
        Command::FromProvider { provider, currency, attempt, command: Box::new(command) }.into()
    };
    let why = "no payment of the order was made there";
    refused(paid.to_vec(), told("sandbox", 1, captured(1, TOTAL)), why);
    let taken = then(paid.to_vec(), &[told("sandbox/eu", 2, captured(1, TOTAL))]);
    let back = then(taken, &[refund(&[(2, 1)], 0, 0)]);
    refused(back.clone(), told("sandbox", 1, refunded(1)), why);
    check(
        then(back, &[told("sandbox/eu", 2, refunded(1)), restocked(1)]),
        "confirmed confirmed/partially_refunded/unfulfilled 2249-250 due 1999 []",
    );
}

#[test]
fn an_order_that_costs_something_needs_a_payment() {
    let place = |capture| Command::Place { placed: Arc::new(placed(capture)), method: None }.into();
    refused(vec![], place(CapturePolicy::AtOnce), "a payment is required");
    let again = Command::Pay { method: None };
    let declined = vec![super::place(), reserved(1), declined(1)];
    refused(declined, again.into(), "a payment is required");
    let Step::Do(Command::Place { placed, .. }) = place_free() else { panic!() };
    let with_card = Command::Place { placed, method: Some(method()) };
    check(
        vec![with_card.into(), reserved(1)],
        "committing pending/none/unfulfilled 0-0 due 0 [commit:1]",
    );
}

#[test]
fn out_of_stock_and_declines() {
    check(
        vec![place(), out_of_stock(1)],
        "cancelling cancelled/none/unfulfilled 0-0 due 0 [release]",
    );
    check(vec![place(), out_of_stock(1), released()], GONE);
    let declined_once = vec![place(), reserved(1), declined(1)];
    check(
        declined_once.clone(),
        "awaiting_payment awaiting_payment/declined/unfulfilled 0-0 due 2249 [yield:1]",
    );
    let yielded = Step::from(Command::HoldYielded { generation: 1 });
    let open = then(declined_once.clone(), std::slice::from_ref(&yielded));
    check(open.clone(), "awaiting_payment awaiting_payment/declined/unfulfilled 0-0 due 2249 []");
    check(
        then(open, &[pay(), yielded, reserved(2), declined(2)]),
        "awaiting_payment awaiting_payment/declined/unfulfilled 0-0 due 2249 [yield:2]",
    );
    let again = then(declined_once.clone(), &[pay(), reserved(2), authorized(2)]);
    check(again.clone(), "committing pending/authorized/unfulfilled 0-0 due 2249 [commit:2]");
    check(then(again, &[confirm(), captured(1, TOTAL)]), IN_FULL);
    check(
        then(declined_once.clone(), &[reserved(1), authorized(1), out_of_stock(1), confirm()]),
        "awaiting_payment awaiting_payment/declined/unfulfilled 0-0 due 2249 [yield:1]",
    );
    refused(vec![place()], pay(), "a payment of the order is in progress");
    refused(happy(), pay(), "the order is paid already");
}

#[test]
fn attempts_have_a_limit() {
    let mut steps = vec![place()];
    for attempt in 1..=50 {
        steps.extend([reserved(attempt), declined(attempt)]);
        if attempt < 50 {
            steps.push(pay());
        }
    }
    refused(steps, pay(), "the order has too many payment attempts");
}

#[test]
fn attempt_with_unknown_outcome_is_not_failed() {
    let lost = vec![place(), reserved(1), unknown(1)];
    check(lost.clone(), "paying awaiting_payment/unknown/unfulfilled 0-0 due 2249 [authorize:1]");
    check(
        then(lost.clone(), &[authorized(1)]),
        "committing pending/authorized/unfulfilled 0-0 due 2249 [commit:1]",
    );
    check(
        then(lost.clone(), &[pending(1), unknown(1)]),
        "paying awaiting_payment/requested/unfulfilled 0-0 due 2249 [authorize:1]",
    );
    check(
        then(lost.clone(), &[reversed(1), authorized(1)]),
        "awaiting_payment awaiting_payment/voided/unfulfilled 0-0 due 2249 [yield:1]",
    );
    refused(lost, pay(), "a payment of the order is in progress");
}

#[test]
fn authorization_of_an_abandoned_attempt_is_reversed() {
    let open = vec![place(), reserved(1), unknown(1), unheard(1)];
    let rest = "0-0 due 2249";
    check(
        open.clone(),
        &format!(
            "awaiting_payment awaiting_payment/unknown/unfulfilled {rest} [reverse:1 yield:1]"
        ),
    );
    refused(open.clone(), pay(), "a payment of the order is in progress");
    let late = then(open.clone(), &[authorized(1)]);
    check(
        late.clone(),
        &format!(
            "awaiting_payment awaiting_payment/unknown/unfulfilled {rest} [reverse:1 yield:1]"
        ),
    );
    refused(late.clone(), pay(), "a payment of the order is in progress");
    let over = format!("awaiting_payment awaiting_payment/voided/unfulfilled {rest} [yield:1]");
    check(then(late, &[reversed(1)]), &over);
    let again = then(open.clone(), &[reversed(1), pay(), reserved(2), authorized(2), confirm()]);
    check(then(again, &[captured(1, 2_249)]), IN_FULL);
    check(then(open, &[reversed(1)]), &over);
    check(then(paid(), &[unheard(1)]), IN_FULL);
}

#[test]
fn authorization_of_another_amount_raises_an_alert_and_is_voided() {
    let odd = vec![place(), reserved(1), authorized_for(1, 2_000)];
    check(odd.clone(), "committing stuck/authorized/unfulfilled 0-0 due 2249 []");
    check(
        then(odd.clone(), &[confirm()]),
        "committing stuck/authorized/unfulfilled 0-0 due 2249 []",
    );
    refused(odd.clone(), retry(), "the amounts differ: cancel the order");
    let going = then(odd, &[cancel()]);
    check(going.clone(), "cancelling cancelled/authorized/unfulfilled 0-0 due 0 [void:1]");
    check(
        then(going, &[voided(1), released()]),
        "cancelled cancelled/voided/unfulfilled 0-0 due 0 []",
    );
    check(
        then(happy(), &[captured(1, 2_000)]),
        "confirmed stuck/partially_captured/unfulfilled 2000-0 due 2249 []",
    );
}

#[test]
fn authorization_voided_elsewhere_confirms_no_order() {
    for before in [vec![], vec![hold_lapsed(1)]] {
        let mut steps = vec![place(), reserved(1), authorized(1)];
        steps.extend(before.clone());
        steps.extend([voided(1), reserved(2), confirm()]);
        let order = tell(&steps);
        assert_eq!((order.alert(), order.number()), (Some("voided_elsewhere"), None));
        let phase = if before.is_empty() { Phase::Committing } else { Phase::Reserving };
        assert_eq!(order.phase(), phase);
        refused(steps.clone(), retry(), "the authorization was voided: cancel the order");
        let end = "cancelled cancelled/voided/unfulfilled 0-0 due 0 []";
        check(then(steps, &[cancel(), released()]), end);
    }
    let twice = vec![place(), reserved(1), authorized(1), alert(), voided(1)];
    refused(twice, retry(), "the authorization was voided: cancel the order");
    let late = then(happy(), &[voided(1), retry()]);
    check(late, "confirmed confirmed/voided/unfulfilled 0-0 due 2249 []");
}

#[test]
fn cancelled_before_and_after_the_money() {
    let lines: [(Vec<Step>, &str); 6] = [
        (vec![place()], "[release]"),
        (vec![place(), reserved(1)], "[reverse:1]"),
        (vec![place(), reserved(1), unknown(1)], "[reverse:1]"),
        (vec![place(), reserved(1), declined(1)], "[release]"),
        (happy(), "[capture:1]"),
        (paid(), "[refund:1]"),
    ];
    for (before, wants) in lines {
        let end = show(&tell(&then(before, &[cancel()])));
        assert!(end.ends_with(wants), "{end}");
    }
    let back = "cancelled cancelled/refunded/unfulfilled 2249-2249 due 0 []";
    check(then(paid(), &[cancel(), refunded(1), released()]), back);
    check(then(happy(), &[cancel(), captured(1, TOTAL), refunded(1), released()]), back);
    let void = "cancelled cancelled/voided/unfulfilled 0-0 due 0 []";
    let by_hand = |steps: &[Step]| {
        let place = place_with(CapturePolicy::ByHand);
        then(vec![place, reserved(1), authorized(1), confirm()], steps)
    };
    check(by_hand(&[cancel(), voided(1), released()]), void);
    check(
        by_hand(&[capture(Some(49)), captured(1, 49), cancel()]),
        "cancelling cancelled/partially_captured/unfulfilled 49-0 due 0 [refund:1 void:1]",
    );
    check(
        by_hand(&[
            capture(Some(49)),
            captured(1, 49),
            cancel(),
            voided(1),
            refunded(1),
            released(),
        ]),
        "cancelled cancelled/refunded/unfulfilled 49-49 due 0 []",
    );
    let paying = vec![place(), reserved(1), cancel()];
    check(
        then(paying.clone(), &[authorized(1)]),
        "cancelling cancelled/authorized/unfulfilled 0-0 due 0 [void:1]",
    );
    check(
        then(paying, &[declined(1), released()]),
        "cancelled cancelled/declined/unfulfilled 0-0 due 0 []",
    );
    let committing = vec![place(), reserved(1), authorized(1)];
    let why = "the order is being confirmed: try again in a second";
    refused(committing, cancel(), why);
    let why = "goods were shipped: refund what is returned instead";
    refused(then(paid(), &[fulfill(&[(2, 1)])]), cancel(), why);
}

#[test]
fn capture_after_cancellation_is_refunded() {
    let reversal = [cancel(), give_up("reverse:1"), skip(), released()];
    let gone = then(vec![place(), reserved(1)], &reversal);
    check(
        then(gone.clone(), &[authorized(1)]),
        "cancelled cancelled/authorized/unfulfilled 0-0 due 0 [void:1]",
    );
    check(
        then(gone, &[authorized(1), voided(1)]),
        "cancelled cancelled/voided/unfulfilled 0-0 due 0 []",
    );
    let skipped = then(happy(), &[cancel(), give_up("capture:1"), skip(), voided(1), released()]);
    check(
        then(skipped, &[captured(1, TOTAL)]),
        "cancelled cancelled/captured/unfulfilled 2249-0 due 0 [refund:1]",
    );
    let under_way = then(happy(), &[cancel(), voided(1), captured(1, TOTAL), released()]);
    check(under_way, "cancelling cancelled/captured/unfulfilled 2249-0 due 0 [refund:1]");
}

#[test]
fn the_deadline() {
    let waiting = vec![place(), reserved(1), declined(1)];
    check(
        then(waiting.clone(), &[Step::Timer(HOUR - 1)]),
        "awaiting_payment awaiting_payment/declined/unfulfilled 0-0 due 2249 [yield:1]",
    );
    check(
        then(waiting, &[Step::Timer(HOUR)]),
        "cancelling cancelled/declined/unfulfilled 0-0 due 0 [release]",
    );
    check(
        vec![place(), reserved(1), Step::Timer(HOUR)],
        "cancelling cancelled/requested/unfulfilled 0-0 due 0 [reverse:1]",
    );
    let again = vec![place(), reserved(1), authorized(1), hold_lapsed(1), Step::Timer(HOUR)];
    check(again.clone(), "reserving pending/authorized/unfulfilled 0-0 due 2249 [reserve:2]");
    let order = tell(&again);
    assert!(order.timer() > Some(order.updated_at()), "a timer that is always due");
    check(then(happy(), &[Step::Timer(HOUR)]), &show(&tell(&happy())));
}

#[test]
fn hold_that_expired_after_the_payment_is_renewed_or_cancelled() {
    let lapsed = vec![place(), reserved(1), authorized(1), hold_lapsed(1)];
    check(
        then(lapsed.clone(), &[reserved(1), hold_lapsed(1), reserved(2)]),
        "committing pending/authorized/unfulfilled 0-0 due 2249 [commit:2]",
    );
    check(then(lapsed.clone(), &[reserved(2), confirm(), captured(1, TOTAL)]), IN_FULL);
    let none_left = then(lapsed, &[out_of_stock(2)]);
    check(none_left.clone(), "cancelling cancelled/authorized/unfulfilled 0-0 due 0 [void:1]");
    check(
        then(none_left, &[voided(1), released()]),
        "cancelled cancelled/voided/unfulfilled 0-0 due 0 []",
    );
}

#[test]
fn refunds_by_line_add_up_to_the_penny() {
    let mut steps = paid();
    let mut amounts = Vec::new();
    for number in 1..=3 {
        steps.extend([refund(&[(1, 1)], 0, 0), refunded(number), restocked(number)]);
        amounts.push(tell(&steps).refunds().last().map_or(0, |one| one.amount));
    }
    assert_eq!(amounts, [333, 334, 333]);
    refused(steps.clone(), refund(&[(1, 1)], 0, 0), "line 1: at most 0 units are left for this");
    refused(steps.clone(), refund(&[], 500, 0), "at most 499 minor units can be refunded");
    steps.extend([refund(&[(2, 2), (3, 1)], 499, 0), refunded(4), restocked(4)]);
    check(steps.clone(), "confirmed refunded/refunded/not_required 2249-2249 due 0 []");
    refused(steps.clone(), refund(&[], 0, 1), "at most 0 minor units can be refunded");
    check(
        then(steps, &[cancel(), released()]),
        "cancelled cancelled/refunded/not_required 2249-2249 due 0 []",
    );
}

fn back_in_full() -> String {
    "cancelled cancelled/refunded/unfulfilled 2249-2249 due 0 []".into()
}

#[test]
fn order_without_unshipped_units_is_not_to_be_picked() {
    let all = refund(&[(1, 3), (2, 2), (3, 1)], 0, 0);
    let none_left = "confirmed refunded/captured/not_required 2249-0 due 499 [refund:1 restock:1]";
    check(then(paid(), std::slice::from_ref(&all)), none_left);
    let gone = then(paid(), &[all, refunded(1), restocked(1)]);
    check(gone.clone(), "confirmed refunded/partially_refunded/not_required 2249-1750 due 499 []");
    refused(gone, fulfill(&[]), "nothing is left to fulfill");
    let but_one = then(paid(), &[refund(&[(1, 3), (2, 1), (3, 1)], 0, 0), refunded(1)]);
    check(
        but_one.clone(),
        "confirmed confirmed/partially_refunded/unfulfilled 2249-1500 due 749 [restock:1]",
    );
    check(
        then(but_one, &[restocked(1), refund(&[(2, 1)], 0, 0), give_up("refund:2"), skip()]),
        "confirmed refunded/partially_refunded/not_required 2249-1500 due 749 [restock:2]",
    );
    check(
        vec![place_free(), reserved(1), confirm(), refund(&[(1, 3), (2, 2), (3, 1)], 0, 0)],
        "confirmed refunded/none/not_required 0-0 due 0 [restock:1]",
    );
}

#[test]
fn refunds_are_capped_whatever_is_asked() {
    let too_large = "at most 2249 minor units can be refunded";
    for (delivery, free) in [(0, 2_250), (-1, 2_250), (-1, 0), (0, -1), (i64::MIN, i64::MIN)] {
        refused(paid(), refund(&[], delivery, free), too_large);
    }
    let rest = "at most 1750 minor units can be refunded";
    refused(paid(), refund(&[], 499, i64::MAX), rest);
    refused(paid(), refund(&[], 0, 0), "must have units, unless delivery or amount is above 0");
    refused(paid(), refund(&[(9, 1)], 0, 0), "the order has no line 9");
    refused(paid(), refund(&[(1, 1), (1, 1)], 0, 0), "each line may be named only once");
    refused(paid(), refund(&[(1, i64::MAX)], 0, 0), "line 1: at most 3 units are left for this");
    refused(happy(), refund(&[(1, 1)], 0, 0), "at most 0 minor units can be refunded");
    check(
        then(paid(), &[refund(&[], 0, 2_249), refunded(1)]),
        "confirmed confirmed/refunded/unfulfilled 2249-2249 due 0 []",
    );
    let priced = |amount| {
        let line = RefundLineRequest { line: 1, quantity: 1, amount: Some(amount), from: None };
        let lines = vec![line];
        Step::from(Command::Refund(RefundRequest { lines, ..RefundRequest::default() }))
    };
    let dear = "at most 1000 minor units can be refunded";
    refused(paid(), priced(1_001), dear);
    refused(paid(), priced(-1), too_large);
    let cheap = tell(&then(paid(), &[priced(0), refund(&[(1, 1)], 0, 0)]));
    assert_eq!(cheap.refunds()[1].amount, 334, "a unit is not dearer for the last being cheap");
}

#[test]
fn refunds_round_as_the_order_was_rounded() {
    let share = |rounding| {
        let mut odd = placed(CapturePolicy::AtOnce);
        odd.rounding = rounding;
        odd.lines[1].total = 501;
        odd.totals = Totals::of(&odd.lines, Some(&odd.delivery), true).unwrap();
        let total = odd.totals.total;
        let place = Command::Place { placed: Arc::new(odd), method: Some(method()) }.into();
        let paid = [reserved(1), authorized_for(1, total), confirm(), captured(1, total)];
        let half = refund(&[(2, 1)], 0, 0);
        tell(&then(then(vec![place], &paid), &[half])).refunds()[0].amount
    };
    assert_eq!((share(Rounding::HalfEven), share(Rounding::HalfUp)), (250, 251));
}

#[test]
fn units_of_a_skipped_refund_can_be_refunded_again() {
    let lost = [refund(&[(2, 2)], 0, 0), restocked(1), give_up("refund:1"), skip()];
    let lost = then(paid(), &lost);
    let order = tell(&lost);
    assert_eq!((order.refunded_units(2), order.refunded_amount(2)), (0, 0));
    assert_eq!(order.unshipped(2), 0, "the goods are back whatever the money does");
    let again = then(lost, &[refund(&[(2, 2)], 0, 0)]);
    let order = tell(&again);
    let line = &order.refunds()[1].lines[0];
    assert_eq!((line.amount, line.unshipped, line.shipped, line.moved), (500, 0, 0, 2));
    check(
        then(again.clone(), &[refunded(2)]),
        "confirmed confirmed/partially_refunded/unfulfilled 2249-500 due 1749 []",
    );
    refused(again.clone(), refund(&[(2, 1)], 0, 0), "line 2: at most 0 units are left for this");
    let both = tell(&then(again, &[refunded(2), refunded(1)]));
    assert_eq!((both.refunded(), both.refunded_units(2)), (1_000, 2));
}

#[test]
fn attempt_state_only_moves_forward() {
    let order = tell(&[place(), reserved(1), unknown(1), pending(1), unknown(1)]);
    assert_eq!(order.attempts()[0].state, AttemptState::Pending);
}

#[test]
fn buyer_action_is_shown_until_the_attempt_is_decided() {
    let action = RequiredAction {
        action: BuyerAction::Redirect { url: "https://bank.example/1".into() },
        expires_at: Timestamp::from_millis(1),
    };
    let asked = ProviderReport::Pending { payment: "pay_1".into(), action: Some(action.clone()) };
    let waits = vec![place(), reserved(1), report(1, asked)];
    let attempt = tell(&waits).attempts()[0].clone();
    assert_eq!((attempt.state, attempt.action), (AttemptState::Pending, Some(action)));
    let again = tell(&then(waits.clone(), &[pending(1)]));
    assert!(again.attempts()[0].action.is_some(), "a later answer takes nothing away");
    let decided = tell(&then(waits, &[authorized(1)]));
    assert_eq!(decided.attempts()[0].action, None);
}

#[test]
fn capture_policy_decides_when_money_is_captured() {
    let with = |policy, steps: &[Step]| {
        then(vec![place_with(policy), reserved(1), authorized(1), confirm()], steps)
    };
    check(
        with(CapturePolicy::AtDispatch, &[]),
        "confirmed confirmed/authorized/unfulfilled 0-0 due 2249 []",
    );
    check(
        with(CapturePolicy::AtDispatch, &[fulfill(&[(1, 1)]), shipped(1)]),
        "confirmed partially_fulfilled/authorized/partial 0-0 due 2249 [capture:1]",
    );
    check(
        with(CapturePolicy::ByHand, &[fulfill(&[]), shipped(1)]),
        "confirmed fulfilled/authorized/fulfilled 0-0 due 2249 []",
    );
    let by_hand = |steps: &[Step]| with(CapturePolicy::ByHand, steps);
    let some = by_hand(&[capture(Some(1_000)), captured(1, 1_000)]);
    check(
        then(some.clone(), &[capture(None)]),
        "confirmed confirmed/partially_captured/unfulfilled 1000-0 due 2249 [capture:2]",
    );
    check(then(some.clone(), &[capture(None), captured(2, 1_249)]), IN_FULL);
    refused(some, capture(Some(1_250)), "at most 1249 minor units can be captured");
    refused(by_hand(&[]), capture(Some(-1)), "at most 2249 minor units can be captured");
    refused(paid(), capture(None), "at most 0 minor units can be captured");
    refused(happy(), capture(Some(1)), "a capture is in progress");
    let stuck = then(happy(), &[give_up("capture:1")]);
    refused(stuck.clone(), capture(Some(1)), "a capture is in progress");
    check(
        then(stuck, &[skip(), capture(Some(49))]),
        "confirmed confirmed/authorized/unfulfilled 0-0 due 2249 [capture:2]",
    );
}

fn at_dispatch(steps: &[Step]) -> Vec<Step> {
    let place = place_with(CapturePolicy::AtDispatch);
    then(vec![place, reserved(1), authorized(1), confirm()], steps)
}

/// The amounts of an order's captures, done or not.
fn captures(steps: &[Step]) -> Vec<i64> {
    tell(&at_dispatch(steps)).captures().iter().map(|one| one.amount).collect()
}

#[test]
fn at_dispatch_each_shipment_is_captured() {
    // The first capture includes the delivery, 499. Line 1 costs 1000 for 3 units: the shares of
    // its units are 333, 334 and 333.
    let one = [fulfill(&[(1, 1)]), shipped(1), captured(1, 333 + 499)];
    assert_eq!(captures(&one[..1]), [832]);
    let two = then(one.to_vec(), &[fulfill(&[(1, 1)]), shipped(2), captured(2, 334)]);
    check(
        at_dispatch(&two),
        "confirmed partially_fulfilled/partially_captured/partial 1166-0 due 2249 []",
    );
    let all = then(two, &[fulfill(&[]), shipped(3), captured(3, 1_083)]);
    check(at_dispatch(&all), "confirmed completed/captured/fulfilled 2249-0 due 2249 []");
    assert_eq!(captures(&all), [832, 334, 1_083]);
    // A capture that is not done yet counts as captured.
    assert_eq!(
        captures(&[fulfill(&[(1, 1)]), fulfill(&[(1, 1)]), fulfill(&[])]),
        [832, 334, 1_083]
    );
    assert_eq!(captures(&[fulfill(&[])]), [TOTAL]);
}

#[test]
fn at_dispatch_captures_by_hand_count() {
    let by_hand = [capture(Some(1_000)), captured(1, 1_000)];
    let all = then(by_hand.to_vec(), &[fulfill(&[])]);
    assert_eq!(captures(&all), [1_000, 1_249]);
    check(
        at_dispatch(&then(all, &[shipped(1), captured(2, 1_249)])),
        "confirmed completed/captured/fulfilled 2249-0 due 2249 []",
    );
    let some = then(by_hand.to_vec(), &[fulfill(&[(2, 1)])]);
    assert_eq!(captures(&some), [1_000], "250 and 499 for the delivery are less");
    assert_eq!(captures(&then(some, &[fulfill(&[])])), [1_000, 1_249]);
    assert_eq!(captures(&[capture(None), fulfill(&[])]), [TOTAL], "it is under way");
    // A later shipment also captures the amount of a skipped capture.
    let lost = [capture(Some(1_000)), give_up("capture:1"), skip(), fulfill(&[])];
    assert_eq!(captures(&lost), [1_000, TOTAL]);
    // A refund of units that were never shipped first reduces what is still to be captured.
    let back = [refund(&[(1, 3)], 0, 0), restocked(1), fulfill(&[])];
    let back = then(by_hand.to_vec(), &back);
    assert_eq!(captures(&back), [1_000, 249]);
    check(
        at_dispatch(&then(back, &[shipped(1), captured(2, 249), voided(1)])),
        "confirmed completed/captured/fulfilled 1249-0 due 1249 []",
    );
    let most = [capture(Some(2_000)), captured(1, 2_000), refund(&[(1, 3)], 0, 0)];
    let most = then(most.to_vec(), &[refunded(1), restocked(1), fulfill(&[]), shipped(1)]);
    check(
        at_dispatch(&then(most, &[voided(1)])),
        "confirmed completed/partially_refunded/fulfilled 2000-751 due 1249 []",
    );
    // The same refund after the rest was shipped: nothing was captured for its units.
    let late = then(by_hand.to_vec(), &[fulfill(&[(2, 2), (3, 1)]), shipped(1)]);
    assert_eq!(captures(&late), [1_000, 249]);
    let late = then(late, &[captured(2, 249)]);
    let none = then(late.clone(), &[refund(&[(1, 3)], 0, 0), restocked(1)]);
    assert_eq!(captures(&none), [1_000, 249]);
    check(
        at_dispatch(&then(none, &[voided(1)])),
        "confirmed completed/captured/fulfilled 1249-0 due 1249 []",
    );
    // If the refund has an amount, this amount is captured first.
    let lines = vec![RefundLineRequest { line: 1, quantity: 3, amount: Some(1_000), from: None }];
    let back = RefundRequest { lines, ..RefundRequest::default() };
    let late = then(late, &[Command::Refund(back).into()]);
    assert_eq!(captures(&late), [1_000, 249, 1_000], "it is of money that was not captured");
    check(
        at_dispatch(&then(late, &[refunded(1), restocked(1), captured(3, 1_000)])),
        "confirmed completed/partially_refunded/fulfilled 2249-1000 due 1249 []",
    );
}

#[test]
fn at_dispatch_a_refund_of_shipped_and_unshipped_units_captures_nothing_that_never_ships() {
    let some = |amount: i64| {
        let lines =
            vec![RefundLineRequest { line: 1, quantity: 3, amount: Some(amount), from: None }];
        Step::from(Command::Refund(RefundRequest { lines, ..RefundRequest::default() }))
    };
    let one = [fulfill(&[(1, 1)]), shipped(1), captured(1, 832)];
    // The refund is the amount that was captured of the line.
    let back = then(one.to_vec(), &[some(333), refunded(1), restocked(1)]);
    assert_eq!(captures(&back), [832]);
    let rest = then(back, &[fulfill(&[]), shipped(2), captured(2, 750)]);
    assert_eq!(captures(&rest), [832, 750]);
    check(
        at_dispatch(&rest),
        "confirmed completed/partially_refunded/fulfilled 1582-333 due 1249 [void:1]",
    );
    // The same, but the first refund was skipped, and a second one is made.
    let lost = [some(333), restocked(1), give_up("refund:1"), skip()];
    let again = then(then(one.to_vec(), &lost), &[some(333), refunded(2)]);
    assert_eq!(captures(&again), [832]);
    // A refund of more than was captured of the line: the rest is for its unshipped units, and must
    // be captured first.
    let more = [fulfill(&[(2, 2), (3, 1)]), shipped(2), captured(2, 750), some(1_000)];
    let more = then(one.to_vec(), &more);
    assert_eq!(captures(&more), [832, 750, 667]);
    check(
        at_dispatch(&then(more, &[refunded(1), restocked(1), captured(3, 667)])),
        "confirmed completed/partially_refunded/fulfilled 2249-1000 due 1249 []",
    );
}

#[test]
fn at_dispatch_a_refund_does_not_repeat_a_skipped_capture() {
    let one = [fulfill(&[(1, 1)]), shipped(1), captured(1, 832)];
    let lost = [fulfill(&[(1, 1)]), shipped(2), give_up("capture:2"), skip()];
    let lost = then(one.to_vec(), &lost);
    let sorry = then(lost.clone(), &[refund(&[], 0, 100), refunded(1)]);
    assert_eq!(captures(&sorry), [832, 334]);
    assert_eq!(captures(&then(lost, &[fulfill(&[])])), [832, 334, 334 + 1_083]);
}

#[test]
fn at_dispatch_what_never_ships_is_released() {
    let some = [refund(&[(1, 1)], 0, 0), restocked(1), fulfill(&[]), shipped(1)];
    assert_eq!(captures(&some), [TOTAL - 333]);
    check(
        at_dispatch(&then(some.to_vec(), &[captured(1, TOTAL - 333)])),
        "confirmed completed/captured/fulfilled 1916-0 due 1916 [void:1]",
    );
    check(
        at_dispatch(&then(some.to_vec(), &[captured(1, TOTAL - 333), voided(1)])),
        "confirmed completed/captured/fulfilled 1916-0 due 1916 []",
    );
    let none = [refund(&[(1, 3), (2, 2), (3, 1)], 0, 0), restocked(1)];
    check(at_dispatch(&none), "confirmed refunded/authorized/not_required 0-0 due 0 [void:1]");
    check(
        at_dispatch(&then(none.to_vec(), &[voided(1)])),
        "confirmed refunded/voided/not_required 0-0 due 0 []",
    );
    let elsewhere = [fulfill(&[(1, 1)]), shipped(1), captured(1, 832), voided(1)];
    assert_eq!(tell(&at_dispatch(&elsewhere)).alert(), Some("voided_elsewhere"));
}

#[test]
fn a_fulfillment_of_an_older_version_captures_all() {
    let mut order = tell(&at_dispatch(&[fulfill(&[(1, 1)])]));
    let mut old = Order::default();
    for step in at_dispatch(&[]) {
        take(&mut old, &step).unwrap();
    }
    let mut fulfillment = order.fulfillments.remove(0);
    fulfillment.captures_share = false;
    old.evolve(&Event::Fulfilled { fulfillment: Box::new(fulfillment) }, now());
    let Some(Effect::Capture { amount, .. }) = old.effects().into_iter().next() else { panic!() };
    assert_eq!(amount.amount, TOTAL);
    for step in [fulfill(&[]), captured(1, TOTAL), shipped(1), shipped(2)] {
        take(&mut old, &step).unwrap();
    }
    assert_eq!(show(&old), "confirmed completed/captured/fulfilled 2249-0 due 2249 []");
}

#[test]
fn order_ships_in_several_fulfillments() {
    let some = then(paid(), &[fulfill(&[(1, 2)]), shipped(1), refund(&[(1, 2)], 0, 0)]);
    let order = tell(&some);
    let Some(Effect::Restock { units, .. }) = order.effects().pop() else { panic!() };
    assert_eq!(units.into_values().collect::<Vec<_>>(), [(1, 1)], "unshipped first");
    refused(some.clone(), fulfill(&[(1, 1)]), "line 1: at most 0 units are left for this");
    refused(some.clone(), fulfill(&[(2, i64::MAX)]), "line 2: at most 2 units are left for this");
    check(
        then(paid(), &[fulfill(&[(2, 1)]), refund(&[(2, 2)], 0, 0), refunded(1)]),
        "confirmed partially_fulfilled/partially_refunded/partial 2249-500 due 1749 [ship:1]",
    );
    let rest = then(some, &[refunded(1), restocked(1), fulfill(&[]), shipped(2)]);
    check(rest.clone(), "confirmed completed/partially_refunded/fulfilled 2249-667 due 1582 []");
    refused(rest, fulfill(&[]), "nothing is left to fulfill");
    let why = "an order with an alert cannot be fulfilled: clear the alert first";
    refused(then(paid(), &[alert()]), fulfill(&[]), why);
}

#[test]
fn stuck_steps_are_retried_skipped_or_overtaken() {
    let stuck = then(paid(), &[cancel(), give_up("refund:1")]);
    check(stuck.clone(), "cancelling stuck/captured/unfulfilled 2249-0 due 0 []");
    check(
        then(stuck.clone(), &[retry()]),
        "cancelling cancelled/captured/unfulfilled 2249-0 due 0 [refund:1]",
    );
    check(
        then(stuck.clone(), &[refunded(1)]),
        "cancelling cancelled/refunded/unfulfilled 2249-2249 due 0 [release]",
    );
    check(
        then(stuck, &[skip()]),
        "cancelling cancelled/captured/unfulfilled 2249-0 due 0 [release]",
    );
    let last = vec![place(), cancel(), give_up("release"), skip()];
    check(last, GONE);
    let paying = vec![place(), reserved(1), give_up("authorize:1")];
    check(paying.clone(), "paying stuck/requested/unfulfilled 0-0 due 2249 []");
    let needed = "this step cannot be skipped: retry or cancel";
    refused(paying.clone(), skip(), needed);
    check(
        then(paying, &[authorized(1)]),
        "committing pending/authorized/unfulfilled 0-0 due 2249 [commit:1]",
    );
    let committing = vec![place(), reserved(1), authorized(1), give_up("commit:1")];
    check(
        then(committing, &[cancel(), voided(1), released()]),
        "cancelled cancelled/voided/unfulfilled 0-0 due 0 []",
    );
    check(then(paid(), &[give_up("refund:1")]), IN_FULL);
    refused(paid(), retry(), "nothing is stuck");
    refused(paid(), skip(), "nothing is stuck");
    let back = [refund(&[], 0, 49), give_up("refund:1"), skip()];
    check(then(paid(), &back), IN_FULL);
    check(then(then(paid(), &back), &[cancel(), refunded(2), released()]), &back_in_full());
}

#[test]
fn an_operator_chooses_among_stuck_steps() {
    let both = [refund(&[(1, 1)], 0, 0), give_up("refund:1"), give_up("restock:1")];
    let both = then(paid(), &both);
    let which = "must be one of the stuck steps: refund:1, restock:1";
    refused(both.clone(), skip(), which);
    refused(both.clone(), skip_step("capture:1"), which);
    let order = tell(&then(both.clone(), &[skip_step("restock:1")]));
    assert_eq!(order.stuck().keys().collect::<Vec<_>>(), ["refund:1"]);
    check(then(both, &[skip_step("restock:1"), skip()]), IN_FULL);
    refused(paid(), skip_step("refund:1"), "nothing is stuck");
}

#[test]
fn skipped_refund_that_succeeds_counts_once() {
    let lost = then(paid(), &[refund(&[], 0, 49), give_up("refund:1"), skip()]);
    check(
        then(lost.clone(), &[cancel(), refunded(1)]),
        "cancelling cancelled/partially_refunded/unfulfilled 2249-49 due 0 [refund:3]",
    );
    check(then(lost.clone(), &[cancel(), refunded(1), refunded(3), released()]), &back_in_full());
    check(
        then(lost.clone(), &[refund(&[], 0, 2_249), refunded(1)]),
        "confirmed confirmed/partially_refunded/unfulfilled 2249-49 due 2200 []",
    );
    check(
        then(lost, &[refund(&[], 0, 100), refunded(1), refunded(2)]),
        "confirmed confirmed/partially_refunded/unfulfilled 2249-149 due 2100 []",
    );
}

#[test]
fn tracking_of_a_fulfillment_can_be_corrected() {
    let mut order = tell(&then(paid(), &[fulfill(&[(1, 1)]), fulfill(&[(1, 1)])]));
    let before = order.clone();
    assert_eq!(take(&mut order, &correct_tracking(2, Some("RR2GB"))), Ok(1));
    let of = |order: &Order| -> Vec<Option<Tracking>> {
        order.fulfillments().iter().map(|one| one.tracking.clone()).collect()
    };
    assert_eq!(of(&order), [None, Some(tracking("RR2GB"))]);
    assert_eq!((order.effects(), order.captured()), (before.effects(), before.captured()));
    assert_eq!(take(&mut order, &correct_tracking(2, Some("RR2GB"))), Ok(0), "known already");
    let patch = |carrier: Option<&str>, url: Option<&str>| {
        let [carrier, url] = [carrier, url].map(|text| text.map(str::to_owned));
        let patch = TrackingPatch { carrier, number: None, url };
        Step::from(Command::CorrectTracking { fulfillment: 2, tracking: Some(patch) })
    };
    assert_eq!(take(&mut order, &patch(None, None)), Ok(0), "what is absent stays");
    let page = "https://post.example/RR2GB";
    assert_eq!(take(&mut order, &patch(Some(""), Some(page))), Ok(1));
    let known =
        Tracking { carrier: String::new(), url: Some(page.to_owned()), ..tracking("RR2GB") };
    assert_eq!(of(&order), [None, Some(known)]);
    assert_eq!(take(&mut order, &correct_tracking(2, None)), Ok(1));
    assert_eq!(of(&order), of(&before));
    assert_eq!(take(&mut order, &correct_tracking(3, None)), Err(Rejection::UnknownFulfillment));
}
