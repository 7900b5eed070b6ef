//! Stories of refunds that say which units of a line come back.

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
