//! Stories of refunds that say which units of a line come back, and of units that were refunded
//! before they were captured.

use super::*;

#[test]
fn a_refund_can_say_which_units_come_back() {
    let back = |from: RefundFrom, quantity: i64| {
        let from = Some(from);
        let lines = vec![RefundLineRequest { line: 1, quantity, amount: None, from }];
        Step::from(Command::Refund(RefundRequest { lines, ..RefundRequest::default() }))
    };
    use RefundFrom::{Fulfilled, Unfulfilled};
    let too_many = |limit| Err(Rejection::TooManyUnits { line: 1, limit });
    let mut order = tell(&then(paid(), &[fulfill(&[(1, 1)])]));
    let all = order.line(1).map(|line| line.quantity).unwrap();
    assert_eq!((order.unshipped(1), order.away(1)), (all - 1, 1));
    assert_eq!(take(&mut order, &back(Fulfilled, 2)), too_many(1));
    assert_eq!(take(&mut order, &back(Unfulfilled, all)), too_many(all - 1));
    assert_eq!(take(&mut order, &back(Fulfilled, 1)), Ok(1));
    assert_eq!(
        (order.unshipped(1), order.away(1)),
        (all - 1, 0),
        "the rest is still to be shipped"
    );
    assert_eq!(take(&mut order, &back(Fulfilled, 1)), too_many(0));
    assert_eq!(take(&mut order, &back(Unfulfilled, 1)), Ok(1));
    assert_eq!((order.unshipped(1), order.away(1)), (all - 2, 0));
    let lines = |order: &Order| -> Vec<(i64, i64)> {
        let lines = order.refunds().iter().flat_map(|one| &one.lines);
        lines.map(|one| (one.unshipped, one.shipped)).collect()
    };
    assert_eq!(lines(&order), [(0, 1), (1, 0)]);
}

fn by_hand(steps: &[Step]) -> Vec<Step> {
    let place = place_with(CapturePolicy::ByHand);
    then(vec![place, reserved(1), authorized(1), confirm()], steps)
}

#[test]
fn units_refunded_before_their_capture_are_not_due_under_by_hand() {
    let back = [refund(&[(1, 3)], 0, 0), restocked(1)];
    check(by_hand(&back), "confirmed confirmed/authorized/unfulfilled 0-0 due 1249 []");
    let rest = then(back.to_vec(), &[capture(None), captured(1, 1_249)]);
    check(by_hand(&rest), "confirmed confirmed/captured/unfulfilled 1249-0 due 1249 []");
    let shipped = then(rest, &[fulfill(&[]), shipped(1)]);
    check(by_hand(&shipped), "confirmed completed/captured/fulfilled 1249-0 due 1249 [void:1]");
    // The same for units that were shipped and came back.
    let away = [fulfill(&[]), self::shipped(1), refund(&[(1, 3)], 0, 0), restocked(1)];
    check(by_hand(&away), "confirmed fulfilled/authorized/fulfilled 0-0 due 1249 []");
    // Once nothing is left to ship, the authorization is voided.
    let none = [refund(&[(1, 3), (2, 2), (3, 1)], 0, 0), restocked(1)];
    check(by_hand(&none), "confirmed refunded/authorized/not_required 0-0 due 0 [void:1]");
}

#[test]
fn a_refund_first_reduces_what_is_still_to_be_captured() {
    let some = |amount| by_hand(&[capture(Some(amount)), captured(1, amount)]);
    check(
        then(some(1_000), &[refund(&[(2, 2)], 0, 0), restocked(1)]),
        "confirmed confirmed/partially_captured/unfulfilled 1000-0 due 1749 []",
    );
    // 249 are still to be captured, so the rest of the line's 1000 is refunded.
    let more = then(some(2_000), &[refund(&[(1, 3)], 0, 0), restocked(1)]);
    check(more.clone(), "confirmed confirmed/captured/unfulfilled 2000-0 due 1249 [refund:1]");
    check(
        then(more.clone(), &[refunded(1)]),
        "confirmed confirmed/partially_refunded/unfulfilled 2000-751 due 1249 []",
    );
    refused(more.clone(), capture(None), "at most 0 minor units can be captured");
    refused(more, capture(Some(249)), "at most 0 minor units can be captured");
    // What is asked for is refunded.
    let lines = vec![RefundLineRequest { line: 1, quantity: 3, amount: Some(900), from: None }];
    let asked = Command::Refund(RefundRequest { lines, ..RefundRequest::default() });
    check(
        then(some(1_000), &[asked.into(), refunded(1), restocked(1)]),
        "confirmed confirmed/partially_refunded/unfulfilled 1000-900 due 1249 []",
    );
}

#[test]
fn a_line_refunds_no_more_than_was_charged_for_it() {
    // Its shares are 333, 334 and 333; the unit that was never shipped is waived.
    let place = place_with(CapturePolicy::AtDispatch);
    let steps = [refund(&[(1, 1)], 0, 0), restocked(1), fulfill(&[]), shipped(1)];
    let order = then(vec![place, reserved(1), authorized(1), confirm()], &steps);
    let order = then(order, &[captured(1, 1_916), voided(1)]);
    let lines = vec![RefundLineRequest { line: 1, quantity: 2, amount: Some(668), from: None }];
    let more = Command::Refund(RefundRequest { lines, ..RefundRequest::default() });
    refused(order.clone(), more.into(), "at most 667 minor units can be refunded");
    check(
        then(order, &[refund(&[(1, 2)], 0, 0), refunded(2), restocked(2)]),
        "confirmed completed/partially_refunded/fulfilled 1916-667 due 1249 []",
    );
}
